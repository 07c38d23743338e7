"""Language model, graphs, search engines, transcription and scoring."""
