"""Word formation: script, lists, morphotactics, sandhi, segmentation and joining."""
