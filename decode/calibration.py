"""Numbers that a model carries besides its weights: what a confidence means, how languages compare.

Both were fitted on development speech (`benchmarks/calibrate.py`) and stand in the model's
``config.json``; a model without them works, with confidences that are no probabilities::

    "confidence": {"offset": 0.1, "weights": {"posterior": 0.5, "heard": 0.4}},
    "identify": {"offsets": {"ta": 0.0, "kn": 0.08}, "weights": {"ta": {"score": 1.0}, "kn": {"score": 1.1}}}

The weights are those of `uyir.decode.evidence`; under ``identify`` they may stand once, for all languages.

>>> Calibration({"posterior": 1.0}, offset=0.0).confidence({"posterior": 1.386})
0.8
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from uyir.decode.evidence import LANGUAGE_EVIDENCE, SUREST, WORD_EVIDENCE, Spoken
from uyir.errors import ModelError

#: Stands for every language.
ALL = "*"


@dataclass(frozen=True)
class Calibration:
    """A logistic map from what speaks for a word (`uyir.decode.evidence.word_evidence`) to how often such a
    word is right."""

    weights: Mapping[str, float]
    offset: float

    def confidence(self, evidence: Mapping[str, float]) -> float:
        """The probability, rounded as confidences are written."""
        odds = self.offset + sum(w * evidence[name] for name, w in self.weights.items())
        return round(1.0 / (1.0 + math.exp(-max(-30.0, min(30.0, odds)))), 3)


@dataclass(frozen=True)
class Identification:
    """How languages are told apart: for each (or for all, under `ALL`) weights of
    `uyir.decode.evidence.Spoken.per_frame`, and what is added to each language's sum.

    A language has weights of its own because what the network says when it is told a language, and what a
    graph takes, differ from one to the other; only sums are comparable.
    """

    weights: Mapping[str, Mapping[str, float]] = field(
        default_factory=lambda: {ALL: {"score": 1.0}}
    )
    offsets: Mapping[str, float] = field(default_factory=dict)

    def best(self, heard: Mapping[str, Spoken]) -> str:
        """The likeliest of languages that were searched over the same audio."""
        weights = self.weights
        if ALL not in weights and not set(heard) <= set(weights):
            weights = (
                Identification().weights
            )  # fitted without one of them: nothing can be said of it

        def total(language: str) -> float:
            if not heard[language].frames:
                return -math.inf
            values = heard[language].per_frame()
            mine = weights.get(language, weights.get(ALL, {}))
            return self.offsets.get(language, 0.0) + sum(w * values[n] for n, w in mine.items())

        return max(heard, key=total)


def read_calibration(config: Mapping[str, Any], where: str) -> Optional[Calibration]:
    """The ``confidence`` of a model's configuration, None if it has none; `ModelError` for a bad one."""
    values = config.get("confidence")
    if values is None:
        return None
    try:
        # Models of before had two weights beside the offset.
        weights = values.get("weights", {k: v for k, v in values.items() if k != "offset"})
        return Calibration(_numbers(weights, WORD_EVIDENCE), _number(values["offset"]))
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise ModelError(
            f"{where}: confidence {values!r}, want an offset and weights of {', '.join(WORD_EVIDENCE)} "
            f"({error})"
        ) from None


def read_identification(config: Mapping[str, Any], where: str) -> Identification:
    """The ``identify`` of a model's configuration; `ModelError` for a bad one."""
    values = config.get("identify", {})
    try:
        if "weights" not in values:  # models of before: the score alone, and offsets
            return Identification(offsets={str(k): _number(v) for k, v in values.items()})
        weights = values["weights"]
        if not all(isinstance(value, dict) for value in weights.values()):
            weights = {ALL: weights}
        return Identification(
            {str(k): _numbers(mine, LANGUAGE_EVIDENCE) for k, mine in weights.items()},
            {str(k): _number(v) for k, v in values["offsets"].items()},
        )
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise ModelError(
            f"{where}: identify {values!r}, want weights of {', '.join(LANGUAGE_EVIDENCE)} and an offset a "
            f"language ({error})"
        ) from None


def _numbers(values: Mapping[str, Any], known: Sequence[str]) -> dict[str, float]:
    for name in values:
        if name not in known:
            raise ValueError(f"{name!r} is not known")
    return {str(name): _number(value) for name, value in values.items()}


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is no number to calculate with")
    return number


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
        p = min(max(confidence, 1.0 - SUREST), SUREST)
        lost -= math.log(p if correct else 1.0 - p)
    return 1.0 - lost / len(right) / most
