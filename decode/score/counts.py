"""Counts of errors and the rates made of them.

Rates are fractions. An empty reference has as rate the *number of errors*, as if it had one unit
(jiwer's rule): 0.0 if nothing was recognised either. MER and WIL are those of Morris, Maier and Green,
"From WER and RIL to MER and WIL" (Interspeech 2004).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional


@dataclass(frozen=True)
class Counts:
    """Aligned units of one kind: ``units`` in the reference, and what went wrong."""

    units: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def hits(self) -> int:
        return self.units - self.substitutions - self.deletions

    @property
    def hyp_units(self) -> int:
        """Units of the hypothesis."""
        return self.hits + self.substitutions + self.insertions

    @property
    def rate(self) -> float:
        """Errors a reference unit; see the module's text for an empty reference."""
        return self.errors / max(1, self.units)

    @property
    def mer(self) -> float:
        """Match error rate: the share of errors among all aligned pairs; 0.0 if there are none."""
        return self.errors / max(1, self.hits + self.errors)

    @property
    def wil(self) -> float:
        """Word information lost, 1 - hits² / (reference words · hypothesis words)."""
        if not self.units and not self.hyp_units:
            return 0.0
        return 1.0 - self.hits**2 / max(1, self.units * self.hyp_units)

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.units + other.units,
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "units": self.units,
            "hits": self.hits,
            "substitutions": self.substitutions,
            "deletions": self.deletions,
            "insertions": self.insertions,
        }


@dataclass(frozen=True)
class Interval:
    """The middle 95 % of a rate over resamplings."""

    low: float
    high: float

    def to_dict(self) -> list[float]:
        return [round(self.low, 6), round(self.high, 6)]


@dataclass(frozen=True)
class Score:
    """Counts over utterances: words, code points, grapheme clusters, and utterances not all right.

    ``tolerant`` is words again, where differences of spacing and known sandhi variants are no errors
    (`tolerant`); None where it was not counted. The intervals are those of the bootstrap.
    """

    utterances: int
    wrong: int
    words: Counts
    letters: Counts
    graphemes: Counts
    tolerant: Optional[Counts] = None
    wer_interval: Optional[Interval] = None
    cer_interval: Optional[Interval] = None

    @property
    def wer(self) -> float:
        return self.words.rate

    @property
    def cer(self) -> float:
        """By code points."""
        return self.letters.rate

    @property
    def cer_graphemes(self) -> float:
        return self.graphemes.rate

    @property
    def ser(self) -> float:
        """Share of utterances with any word error."""
        return self.wrong / max(1, self.utterances)

    def to_dict(self) -> dict[str, Any]:
        """As JSON; ``decode/score/README.md`` says what the keys mean."""
        out: dict[str, Any] = {
            "wer": round(self.wer, 6),
            "cer": round(self.cer, 6),
            "cer_graphemes": round(self.cer_graphemes, 6),
            "ser": round(self.ser, 6),
            "mer": round(self.words.mer, 6),
            "wil": round(self.words.wil, 6),
            "utterances": self.utterances,
            "words": self.words.units,
            "hits": self.words.hits,
            "substitutions": self.words.substitutions,
            "deletions": self.words.deletions,
            "insertions": self.words.insertions,
            "characters": self.letters.to_dict(),
            "graphemes": self.graphemes.to_dict(),
        }
        if self.tolerant is not None:
            out["wer_tolerant"] = round(self.tolerant.rate, 6)
            out["tolerant"] = self.tolerant.to_dict()
        if self.wer_interval is not None:
            out["wer_interval"] = self.wer_interval.to_dict()
        if self.cer_interval is not None:
            out["cer_interval"] = self.cer_interval.to_dict()
        return out
