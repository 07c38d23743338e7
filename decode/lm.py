"""Subword n-gram language models: one door to their parts.

`uyir.decode.lm_text` reads text, `lm_count` counts, `lm_train` estimates and prunes, `lm_mix` interpolates, `lm_prune` prunes
what is there,
`lm_model` is the model: its scores, its ARPA files, its perplexity.
"""

from uyir.decode.lm_mix import mix, tune_weights
from uyir.decode.lm_model import (
    LN10,
    NgramModel,
    Order,
    Perplexity,
    perplexity,
    read_arpa,
)
from uyir.decode.lm_prune import prune
from uyir.decode.lm_text import BOS, EOS, UNK, Vocabulary, is_vocabulary, read_sentences
from uyir.decode.lm_train import train

__all__ = [
    "BOS",
    "EOS",
    "LN10",
    "UNK",
    "NgramModel",
    "Order",
    "Perplexity",
    "Vocabulary",
    "is_vocabulary",
    "mix",
    "perplexity",
    "prune",
    "read_arpa",
    "read_sentences",
    "train",
    "tune_weights",
]
