"""Numbers that a model carries besides its weights: what a confidence means, how languages compare.

Both were fitted on development speech (`benchmarks/calibrate.py`) and stand in the model's
``config.json``; a model without them works, with confidences that are no probabilities::

    "confidence": {"posterior": 0.5, "heard": 0.4, "offset": 0.1},
    "identify": {"ta": 0.0, "kn": 0.08}

>>> Calibration(posterior=1.0, heard=0.0, offset=0.0).confidence(0.8, 0.3)
0.8
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from uyir.errors import ModelError

#: Nothing is surer than this, nor less sure than one minus this.
_SUREST = 0.995


@dataclass(frozen=True)
class Calibration:
    """A logistic map from two confidences of a word to how often such a word is right.

    ``posterior``: weight of the lowest posterior, in the lattice, of the word's subwords; ``heard``:
    of how surely its sounds were heard; both as log odds and never negative, so that the map is
    monotone.
    """

    posterior: float
    heard: float
    offset: float

    def confidence(self, posterior: float, heard: float) -> float:
        """The probability, rounded as confidences are written."""
        odds = self.posterior * log_odds(posterior) + self.heard * log_odds(heard) + self.offset
        return round(1.0 / (1.0 + math.exp(-odds)), 3)


def log_odds(probability: float) -> float:
    """ln p / (1 - p), p kept within what can be known."""
    p = min(max(probability, 1.0 - _SUREST), _SUREST)
    return math.log(p / (1.0 - p))


def read_calibration(config: Mapping[str, Any], where: str) -> Optional[Calibration]:
    """The ``confidence`` of a model's configuration, None if it has none; `ModelError` for a bad one."""
    values = config.get("confidence")
    if values is None:
        return None
    try:
        found = Calibration(**{name: float(value) for name, value in values.items()})
    except (TypeError, ValueError, AttributeError):
        found = Calibration(-1.0, -1.0, 0.0)
    if not (found.posterior >= 0 and found.heard >= 0 and math.isfinite(found.offset)):
        raise ModelError(
            f"{where}: confidence {values!r}, want posterior and heard (not negative) and offset"
        )
    return found


def read_offsets(config: Mapping[str, Any], where: str) -> dict[str, float]:
    """What to add to each language's score a frame before languages are compared (``identify``)."""
    values = config.get("identify", {})
    try:
        found = {str(language): float(value) for language, value in values.items()}
    except (TypeError, ValueError, AttributeError):
        raise ModelError(f"{where}: identify {values!r}, want a number a language") from None
    return found


def read_scales(config: Mapping[str, Any], where: str) -> dict[str, float]:
    """Acoustic scales of a model's own, a language (``acoustic_scale``); the graphs that it shares may be
    tuned to another one."""
    values = config.get("acoustic_scale", {})
    try:
        found = {str(language): float(value) for language, value in values.items()}
    except (TypeError, ValueError, AttributeError):
        found = {"": 0.0}
    if not all(0 < scale < 100 for scale in found.values()):
        raise ModelError(f"{where}: acoustic_scale {values!r}, want a number above 0 a language")
    return found


def normalised_cross_entropy(right: Sequence[bool], confidences: Sequence[float]) -> float:
    """NIST's measure of confidences: 1 perfect, 0 no better than the share of right words alone.

    ``right[i]``: whether word i was right. Raises `ValueError` where all are right, or none: the
    measure is not defined there.
    """
    share = sum(right) / len(right) if right else 0.0
    if not 0.0 < share < 1.0:
        raise ValueError("all words are right, or none: there is nothing to tell apart")
    most = -(share * math.log(share) + (1 - share) * math.log(1 - share))
    lost = 0.0
    for correct, confidence in zip(right, confidences):
        p = min(max(confidence, 1.0 - _SUREST), _SUREST)
        lost -= math.log(p if correct else 1.0 - p)
    return 1.0 - lost / len(right) / most
