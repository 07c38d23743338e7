"""Rescoring: a larger language model on what a search kept.

A graph has room for some hundred thousand n-grams; a lattice holds few readings, which a model of millions can
judge. In every path of a lattice the scores of the graph's own language model are taken away and the larger
one's put in their place:

    score' = acoustic_scale · network + graph + scale · (large(words) - small(words))

What else is in a graph's scores (pronunciations, the grammar's weights, what hotwords and added roots gain)
stays. As a model's score depends on the words before, states of the lattice are split by history, those of both
models at once: the result is a lattice again, with n-best and posteriors of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional, Union

from uyir.decode.hypothesis import Hypothesis
from uyir.decode.lattice import Arc, Lattice
from uyir.decode.lm_store import LmFile, PackedLm, read_packed
from uyir.errors import ModelError

#: In a language's folder of a model: what it is rescored with if nothing else is asked for.
FILE_NAME = "LM.safetensors"
#: Of a state's histories so many are kept, those with the best way to them.
MOST_HISTORIES = 64


@dataclass(frozen=True, eq=False)
class Rescorer:
    """A larger model over a word table, the small one that graphs have scores of (None for none), and how
    much of the difference counts."""

    large: PackedLm
    small: Optional[PackedLm] = None
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.scale <= 2.0:
            raise ModelError(
                f"a scale of rescoring of {self.scale}, want more than 0 and at most 2"
            )

    def score(self, words: list[int]) -> float:
        """What rescoring adds to the score of a whole sentence of word-table ids."""
        small = 0.0 if self.small is None else self.small.score(words)
        return self.scale * (self.large.score(words) - small)

    def judge(self, hypothesis: Hypothesis) -> Hypothesis:
        """A finished hypothesis with the larger model's score."""
        more = self.score(list(hypothesis.subwords))
        return replace(
            hypothesis, score=hypothesis.score + more, lm_score=hypothesis.lm_score + more
        )

    def rescore(self, lattice: Lattice, most: int = MOST_HISTORIES) -> Lattice:
        """The lattice with the larger model's scores; empty if no path of it comes to an end.

        Exact but for ``most``, the histories kept of a state.
        """
        return _Split(lattice, self, most).lattice()


class _Split:
    """A lattice's states split by the histories that they are reached with."""

    def __init__(self, lattice: Lattice, rescorer: Rescorer, most: int) -> None:
        self._lattice = lattice
        self._rescorer = rescorer
        self._most = most
        self._pairs: list[tuple[int, int]] = []
        self._pair_numbers: dict[tuple[int, int], int] = {}
        self._steps: dict[tuple[int, tuple[int, ...]], tuple[float, int]] = {}
        for model in (rescorer.large, rescorer.small):
            if model is not None:
                model.forget()

    def _number(self, pair: tuple[int, int]) -> int:
        number = self._pair_numbers.get(pair)
        if number is None:
            number = self._pair_numbers[pair] = len(self._pairs)
            self._pairs.append(pair)
        return number

    def _step(self, history: int, labels: tuple[int, ...]) -> tuple[float, int]:
        """What labels after a history add to the score, and the history then."""
        key = (history, labels)
        found = self._steps.get(key)
        if found is None:
            large, small = self._pairs[history]
            total = 0.0
            for label in labels:
                more, large = self._rescorer.large.step(large, label)
                total += more
                if self._rescorer.small is not None:
                    less, small = self._rescorer.small.step(small, label)
                    total -= less
            found = (self._rescorer.scale * total, self._number((large, small)))
            self._steps[key] = found
        return found

    def _end(self, history: int) -> float:
        large, small = self._pairs[history]
        less = 0.0 if self._rescorer.small is None else self._rescorer.small.end(small)
        return self._rescorer.scale * (self._rescorer.large.end(large) - less)

    def lattice(self) -> Lattice:
        old, small = self._lattice, self._rescorer.small
        begin = self._number((self._rescorer.large.start, 0 if small is None else small.start))
        # By state of the lattice: history -> (number of the new state, best score of a way to it).
        reached: dict[int, dict[int, tuple[int, float]]] = {old.start: {begin: (0, 0.0)}}
        count = 1
        arcs: list[Arc] = []
        finals: dict[int, float] = {}
        for state in old.states:
            here = reached.pop(state, None)
            if here is None:
                continue
            if len(here) > self._most:
                best = sorted(here.items(), key=lambda item: (-item[1][1], item[0]))
                here = dict(best[: self._most])
            if state in old.finals:
                for history, (number, _) in here.items():
                    finals[number] = old.finals[state] + self._end(history)
            for arc, weight in old.leaving(state):
                there = reached.setdefault(arc.dst, {})
                for history, (number, score) in here.items():
                    more, after = self._step(history, arc.labels) if arc.labels else (0.0, history)
                    total = score + weight + more
                    known = there.get(after)
                    if known is None:
                        known = (count, total)
                        count += 1
                        there[after] = known
                    elif total > known[1]:
                        known = there[after] = (known[0], total)
                    arcs.append(Arc(number, known[0], arc.token, arc.labels, arc.lm + more))
        return Lattice(arcs, 0, finals, old.log_probs, old.acoustic_scale)


def rescoring_file(asked: Optional[Union[str, Path]], folder: Path) -> Optional[Path]:
    """The model that a language is rescored with, None for none. ``asked``: a file, or a folder with files such as
    ``ta/LM.safetensors``; None for what the language's folder of the model has, the empty string for none."""
    if asked == "":
        return None
    if asked is not None and not Path(asked).is_dir():
        return Path(asked)
    path = (folder if asked is None else Path(asked) / folder.name) / FILE_NAME
    return path if path.is_file() else None


def read_rescorer(
    path: Union[str, Path],
    words: Union[str, Path],
    lm_sha256: Optional[str],
    scale: float = 1.0,
) -> Rescorer:
    """A rescorer from a packed model for a graph: of this word table, built with the ARPA file of this hash (None
    for a graph without a model). Raises `ModelError`."""
    file: LmFile = read_packed(path, words=words, lm_sha256=lm_sha256)
    return Rescorer(file.model, file.first if lm_sha256 is not None else None, scale)
