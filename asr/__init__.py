"""Acoustics: features, data, model, training and checkpoints."""
