"""What is known of a recording once it is recognised: segments, words, subwords, with times.

All values are plain and hold nothing of the clock, except `Transcript.rtf`, which no writer writes.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Optional

from uyir import __version__
from uyir.grammar.script import NORMALISER_VERSION


@dataclass(frozen=True)
class SpokenSubword:
    """One piece of a recognised word; times in seconds from the recording's beginning."""

    form: str
    marked: str
    category: str
    gloss: str
    start: float
    end: float
    confidence: float


@dataclass(frozen=True)
class SpokenWord:
    """One recognised word. ``oov``: whether it is outside the vocabulary of the language model's
    training text; None where the model folder does not carry that vocabulary. ``written``: how it is
    written where that was asked for and differs (several words of a number share one written form:
    the first has it, the others have an empty one); None otherwise."""

    word: str
    start: float
    end: float
    confidence: float
    oov: Optional[bool]
    subwords: tuple[SpokenSubword, ...]
    written: Optional[str] = None

    @property
    def shown(self) -> str:
        """What a reader is shown: the written form where there is one."""
        return self.word if self.written is None else self.written


@dataclass(frozen=True)
class Alternative:
    """Another reading of a segment; ``score`` is natural logarithm, comparable within a segment."""

    text: str
    score: float


@dataclass(frozen=True)
class Segment:
    """What was recognised at a stretch. ``final``: whether the search came to a proper end;
    ``alternatives`` are the n-best texts, the first being this one (empty without n-best).
    ``text`` is as shown to readers: in written form where that was asked for."""

    start: float
    end: float
    text: str
    words: tuple[SpokenWord, ...]
    confidence: float
    final: bool
    alternatives: tuple[Alternative, ...] = ()

    @property
    def count(self) -> int:
        """How many words it has."""
        return len(self.words)

    def open(self) -> Segment:
        """Itself; see `Sealed`."""
        return self


@dataclass(frozen=True)
class Sealed:
    """A segment as bytes, for processes that only hand it on. Made and opened by processes of one run."""

    data: bytes
    count: int
    final: bool

    @staticmethod
    def of(segment: Segment) -> Sealed:
        return Sealed(pickle.dumps(segment, -1), len(segment.words), segment.final)

    def open(self) -> Segment:
        found: Segment = pickle.loads(self.data)
        return found


@dataclass(frozen=True)
class Transcript:
    """All that is known of one recording. ``no_speech``: not a word in it. ``rtf``: seconds of work
    for each second of audio, summed over processes. ``final``: whether every search came to a proper
    end. ``error``: why there is no transcript; then the rest is empty."""

    source: str
    language: str
    segments: tuple[Segment, ...]
    duration: float
    engine: str
    model: str
    normaliser: str = NORMALISER_VERSION
    version: str = __version__
    rtf: float = 0.0
    final: bool = True
    error: Optional[str] = None
    #: What formats call the recording; by default its name without folder and ending.
    id: Optional[str] = None

    @property
    def words(self) -> tuple[SpokenWord, ...]:
        return tuple(word for segment in self.segments for word in segment.words)

    @property
    def text(self) -> str:
        return " ".join(segment.text for segment in self.segments if segment.text)

    @property
    def no_speech(self) -> bool:
        return self.error is None and not self.words

    @property
    def confidence(self) -> float:
        return mean_confidence(word.confidence for word in self.words)


def mean_confidence(values: Iterable[float]) -> float:
    """Geometric mean, rounded as confidences are written; 0 for none."""
    several = list(values)
    if not several or min(several) <= 0.0:
        return 0.0
    return round(math.exp(sum(map(math.log, several)) / len(several)), 3)
