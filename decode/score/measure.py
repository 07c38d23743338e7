"""Counts of errors utterance by utterance: the loop that everything else reads.

Words are numbered once (`Meter.words`); an utterance is then lists of numbers and the errors of its
alignment (`Row`), and its counts are a row of an array, so that any table is a sum over rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Optional

import numpy as np
from rapidfuzz.distance import Levenshtein

from uyir.decode.score.align import (
    COSTS,
    GraphemeCode,
    Step,
    align_errors,
    count_letters,
    count_steps,
)
from uyir.decode.score.counts import Counts, Score
from uyir.errors import DataError
from uyir.grammar.script import normalise

#: Columns of an utterance's counts: units, substitutions, deletions, insertions of each of these.
KINDS = ("words", "letters", "graphemes", "tolerant")
WIDTH = 4 * len(KINDS)
TOLERANT = 4 * KINDS.index("tolerant")


class Row(NamedTuple):
    """An utterance's words as numbers, and the errors of its alignment from left to right."""

    ref: tuple[int, ...]
    hyp: tuple[int, ...]
    steps: tuple[Step, ...]


class Normaliser:
    """`grammar.script.normalise`, which never looks beyond a word, word by word and remembered."""

    def __init__(self, language: str) -> None:
        self._language = language
        self._known: dict[str, list[str]] = {}

    def words(self, text: str) -> list[str]:
        known = self._known
        out: list[str] = []
        for token in text.split():
            words = known.get(token)
            if words is None:
                words = known[token] = normalise(token, self._language).split()
            out += words
        return out


def normalise_words(text: str, language: str) -> str:
    """A text normalised word by word; equal to `grammar.script.normalise` of the whole."""
    return " ".join(Normaliser(language).words(text))


class Meter:
    """Counts the errors of pairs of utterances given as words."""

    def __init__(self, costs: str = "unit", graphemes: Optional[GraphemeCode] = None) -> None:
        if costs not in COSTS:
            raise DataError(f"costs are {' or '.join(COSTS)}, not {costs!r}")
        self.costs = costs
        #: The words, by number.
        self.words: list[str] = []
        self._numbers: dict[str, int] = {}
        self.graphemes = GraphemeCode() if graphemes is None else graphemes
        self._codes: list[str] = []

    def _number(self, words: Sequence[str]) -> list[int]:
        numbers = self._numbers
        try:
            return [numbers[word] for word in words]
        except KeyError:
            for word in words:
                if word not in numbers:
                    numbers[word] = len(self.words)
                    self.words.append(word)
                    self._codes.append(self.graphemes.code(word))
            return [numbers[word] for word in words]

    def count(self, ref: Sequence[str], hyp: Sequence[str]) -> tuple[Row, list[int]]:
        """Align a pair; its row, and counts of words, letters, graphemes (12 numbers)."""
        text = " ".join(ref)
        codes = self._codes
        refs = self._number(ref)
        graphemes = " ".join([codes[n] for n in refs])
        if ref == hyp:
            ids = tuple(refs)
            length = len(graphemes)
            return Row(ids, ids, ()), [len(ids), 0, 0, 0, len(text), 0, 0, 0, length, 0, 0, 0]
        hyps = self._number(hyp)
        steps = align_errors(refs, hyps, self.costs)
        if len(steps) > 1:
            steps = self._pair_alike(refs, hyps, steps)
        words = count_steps(len(refs), steps)
        counts = [words.units, words.substitutions, words.deletions, words.insertions]
        counts += count_letters(text, " ".join(hyp))
        counts += count_letters(graphemes, " ".join([codes[n] for n in hyps]))
        return Row(tuple(refs), tuple(hyps), tuple(steps)), counts

    def _pair_alike(self, ref: list[int], hyp: list[int], steps: list[Step]) -> list[Step]:
        """The same errors with the words that look alike beside each other.

        Between two hits any order of substitutions and deletions (or insertions) costs the same;
        taken is the order whose substituted words have the fewest different letters.
        """
        out: list[Step] = []
        for begin, end in runs(steps):
            run = steps[begin:end]
            deletions = sum(j is None for _, j in run)
            insertions = sum(i is None for i, _ in run)
            if (
                len(run) == deletions + insertions
                or not deletions + insertions
                or (deletions and insertions)
            ):
                out += run
            else:
                out += self._reorder(ref, hyp, run)
        return out

    def _reorder(self, ref: list[int], hyp: list[int], run: list[Step]) -> list[Step]:
        left = [i for i, _ in run if i is not None]
        right = [j for _, j in run if j is not None]
        swapped = len(left) < len(right)
        many, few = (right, left) if swapped else (left, right)
        names = (hyp, ref) if swapped else (ref, hyp)
        # best[k]: least cost with the first k of the few paired, after some of the many.
        infinite = float("inf")
        best: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
        best += [(infinite, ())] * len(few)
        for n, a in enumerate(many):
            word = self.words[names[0][a]]
            for k in range(min(n + 1, len(few)), 0, -1):
                cost, chosen = best[k - 1]
                if cost < infinite:
                    other = self.words[names[1][few[k - 1]]]
                    cost += Levenshtein.normalized_distance(word, other)
                    if cost < best[k][0]:
                        best[k] = (cost, (*chosen, n))
        partner = dict(zip(best[len(few)][1], few))
        steps: list[Step] = [(a, partner.get(n)) for n, a in enumerate(many)]
        return [(b, a) for a, b in steps] if swapped else steps


def runs(steps: Sequence[Step]) -> list[tuple[int, int]]:
    """The stretches of errors without a hit between them, as ranges of ``steps``."""
    found: list[tuple[int, int]] = []
    after, shift = -1, 0  # where the last error ended in the reference; insertions less deletions
    for at, (i, j) in enumerate(steps):
        position = i if i is not None else (j or 0) - shift
        if found and position == after:
            found[-1] = (found[-1][0], at + 1)
        else:
            found.append((at, at + 1))
        after = position + (i is not None)
        shift += (i is None) - (j is None)
    return found


def score_of(counts: Sequence[int], utterances: int, wrong: int) -> Score:
    """A score from sums of columns; without tolerant columns, or with them all -1, without that."""
    kinds = [Counts(*map(int, counts[at : at + 4])) for at in range(0, len(counts), 4)]
    tolerant = kinds[3] if len(kinds) > 3 and kinds[3].units >= 0 else None
    return Score(utterances, wrong, kinds[0], kinds[1], kinds[2], tolerant)


def score_pairs(
    pairs: Iterable[tuple[str, str]],
    language: str,
    *,
    normalised: bool = True,
    costs: str = "unit",
) -> Score:
    """Score (reference, hypothesis) texts; ``normalised`` applies `grammar.script.normalise` first."""
    meter, normaliser = Meter(costs), Normaliser(language)
    cut: Callable[[str], list[str]] = normaliser.words if normalised else str.split
    totals = [0] * 12
    utterances = wrong = 0
    for ref, hyp in pairs:
        _, counts = meter.count(cut(ref), cut(hyp))
        utterances += 1
        wrong += any(counts[1:4])
        totals = [total + count for total, count in zip(totals, counts)]
    return score_of(totals, utterances, wrong)


def as_array(counts: Sequence[Sequence[int]]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Counts of utterances as one array, (utterances, columns)."""
    return np.array(counts, dtype=np.int64).reshape(len(counts), -1)
