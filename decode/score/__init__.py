"""Error rates that are fair to languages that stack morphemes, and that one can look at.

A pair of files goes through `read` (formats → utterances by id), `measure` (normalised words aligned,
errors counted) and `report` (all tables), and comes out by `terminal`, `errs`, `page` (HTML) or JSON.
"""

from __future__ import annotations

from uyir.decode.score.align import align_counts, graphemes
from uyir.decode.score.counts import Counts, Interval, Score
from uyir.decode.score.measure import normalise_words, score_pairs
from uyir.decode.score.read import FORMATS, Texts, Utterance, read_texts
from uyir.decode.score.report import (
    Options,
    Report,
    read_vocabulary,
    score_files,
    score_texts,
    to_dict,
)

__all__ = [
    "FORMATS",
    "Counts",
    "Interval",
    "Options",
    "Report",
    "Score",
    "Texts",
    "Utterance",
    "align_counts",
    "graphemes",
    "normalise_words",
    "read_texts",
    "read_vocabulary",
    "score_files",
    "score_pairs",
    "score_texts",
    "to_dict",
]
