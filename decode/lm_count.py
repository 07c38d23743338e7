"""Counting n-grams of a text that need not fit into memory.

N-grams are numbered hierarchically: one of order n is (number of its history at order n-1, word), so a
key is one 64-bit number at any order, and counting is sorting. A text is counted a stretch at a time:
each gives a sorted run of keys with counts, and runs are merged. With a folder to work in, the text, the
runs and everything with an element a token or a different n-gram lies in mapped files there; in memory
are a stretch, and the n-grams at or above the cut-offs.

What a model needs to know of n-grams below the cut-offs is summed up while they pass by (`Counts`).
Dropping one drops all longer ones that contain it, as cut-offs do not fall with the order; so all that
stood to its left is dropped with it, and as part of the lower order it counts as often as it was seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Optional

import numpy as np
import numpy.typing as npt

from uyir.errors import DataError

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

#: So many tokens are sorted at a time; some 1.5 GB.
STRETCH = 1 << 24
#: Discounts where a corpus is too small or too regular to estimate them from.
FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)
_MAX_SIZE = 1 << 62
_MERGE_BLOCK = 1 << 20


@dataclass(frozen=True, eq=False)
class Level:
    """Different n-grams of one order: (K,) arrays, sorted by (history, word).

    ``key`` is ``history * size + word``; ``lower`` numbers the n-gram without its first word in the order
    below; ``count`` is how often it was seen, ``opens`` whether it begins with ``<s>``.
    """

    key: Ints
    size: int
    lower: Ints
    count: Ints
    opens: Mask

    def __len__(self) -> int:
        return len(self.key)

    @cached_property
    def history(self) -> Ints:
        """The number of the history among the n-grams of the order below; 0 at order 1."""
        return np.asarray(self.key // self.size)

    @cached_property
    def word(self) -> Ints:
        return np.asarray(self.key % self.size)


@dataclass(frozen=True, eq=False)
class Counts:
    """The n-grams of a text at or above the cut-offs, in memory, and what is needed of the others.

    ``discounts``: D1, D2, D3+ of each order, from all n-grams. ``extra[n]``: how often each n-gram was
    seen at the end of a longer one that is not here. ``left_out[n]``: by history, how often n-grams were
    seen after it that are not here.
    """

    levels: list[Level]
    discounts: list[tuple[float, float, float]]
    extra: list[Ints]
    left_out: list[Ints]


class _Store:
    """Makes arrays: in memory, or mapped files in a folder."""

    def __init__(self, folder: Optional[Path]) -> None:
        self._folder = folder
        self._count = 0

    def new(self, length: int, dtype: Any = np.int64) -> Any:
        if self._folder is None or length == 0:
            return np.zeros(length, dtype=dtype)
        self._count += 1
        return np.memmap(self._folder / f"{self._count}.array", dtype, "w+", shape=(length,))


def _stretches(length: int, stretch: int) -> Iterator[slice]:
    for begin in range(0, length, stretch):
        yield slice(begin, min(length, begin + stretch))


def count_ngrams(
    text: npt.NDArray[np.int32],
    size: int,
    order: int,
    stretch: int = STRETCH,
    folder: Optional[Path] = None,
) -> list[Level]:
    """Count all n-grams up to an order in encoded text (T,) over a vocabulary of this size.

    ``stretch``: how many tokens are sorted at a time. ``folder``: where everything large is put; None for
    memory. Raises `DataError` for an empty corpus or an order below 1.
    """
    if order < 1:
        raise DataError(f"a model of order {order}; want 1 or more")
    if len(text) == 0:
        raise DataError("an empty corpus: there is nothing to estimate a model from")
    store = _Store(folder)
    everything = np.arange(size, dtype=np.int64)
    counts = np.zeros(size, dtype=np.int64)
    here = store.new(len(text))  # the number of the n-gram that ends at each place, -1 if none
    for part in _stretches(len(text), stretch):
        counts += np.bincount(text[part], minlength=size)
        here[part] = text[part]
    levels = [Level(everything, size, np.zeros(size, dtype=np.int64), counts, everything == 0)]
    for _ in range(2, order + 1):
        if len(levels[-1]) > _MAX_SIZE // size:
            raise DataError(f"too many n-grams for 64-bit keys: {len(levels[-1])} times {size}")
        after = store.new(len(text))
        runs = [
            _run(text, here, after, size, part, store) for part in _stretches(len(text), stretch)
        ]
        key, count, lower = runs[0] if len(runs) == 1 else _merged(runs, store)
        if len(runs) > 1:
            for part, run in zip(_stretches(len(text), stretch), runs):
                # Numbers within the run become numbers among all.
                place = np.append(np.searchsorted(key, run[0]), -1)
                after[part] = place[after[part]]
        opens = store.new(len(key), np.bool_)
        for part in _stretches(len(key), stretch):
            opens[part] = levels[-1].opens[key[part] // size]
        levels.append(Level(key, size, lower, count, opens))
        here = after
    return levels


_Run = tuple[Ints, Ints, Ints]  # sorted keys, counts, lower


def _run(
    text: npt.NDArray[np.int32], here: Ints, after: Ints, size: int, part: slice, store: _Store
) -> _Run:
    """The n-grams that end in a stretch; ``after`` gets their numbers within it."""
    words = np.asarray(text[part], dtype=np.int64)
    before = np.empty(len(words), dtype=np.int64)
    before[0] = here[part.start - 1] if part.start else -1
    before[1:] = here[part.start : part.stop - 1]
    places = np.flatnonzero((words != 0) & (before >= 0))
    keys = before[places] * size + words[places]
    sort = np.argsort(keys, kind="stable")
    ordered = keys[sort]
    fresh = np.ones(len(ordered), dtype=bool)
    fresh[1:] = ordered[1:] != ordered[:-1]
    first = np.flatnonzero(fresh)
    number = np.empty(len(keys), dtype=np.int64)
    number[sort] = np.cumsum(fresh) - 1
    local = np.full(len(words), -1, dtype=np.int64)
    local[places] = number
    after[part] = local
    lower = np.asarray(here[part])[places[sort[first]]]
    out = []
    for values in (ordered[first], np.diff(np.append(first, len(ordered))), lower):
        array = store.new(len(values))
        array[:] = values
        out.append(array)
    return out[0], out[1], out[2]


def _merged(runs: Sequence[_Run], store: _Store) -> _Run:
    """One run of several; counts of equal keys are added, and the first one's lower n-gram stays."""
    most = sum(len(run[0]) for run in runs)
    out = tuple(store.new(most) for _ in range(3))
    at = [0] * len(runs)
    filled = 0
    while any(a < len(run[0]) for a, run in zip(at, runs)):
        # All keys up to the least of the blocks' last ones are in the blocks.
        ends = [min(a + _MERGE_BLOCK, len(run[0])) for a, run in zip(at, runs)]
        open_ends = [run[0][e - 1] for e, run in zip(ends, runs) if e < len(run[0])]
        if open_ends:
            bound = min(open_ends)
            ends = [
                a + int(np.searchsorted(run[0][a:e], bound, side="right"))
                for a, e, run in zip(at, ends, runs)
            ]
        key, count, lower = (
            np.concatenate([run[i][a:e] for a, e, run in zip(at, ends, runs)]) for i in range(3)
        )
        sort = np.argsort(key, kind="stable")
        key = key[sort]
        fresh = np.ones(len(key), dtype=bool)
        fresh[1:] = key[1:] != key[:-1]
        first = np.flatnonzero(fresh)
        part = slice(filled, filled + len(first))
        out[0][part] = key[first]
        out[1][part] = np.add.reduceat(count[sort], first)
        out[2][part] = lower[sort][first]
        filled = part.stop
        at = ends
    return out[0][:filled], out[1][:filled], out[2][:filled]


# --------------------------------------------------------------------------------------------------
# Cut-offs


def discounts(counts: Ints) -> tuple[float, float, float]:
    """D1, D2, D3+ from the counts of one order; `FALLBACK_DISCOUNTS` where they make no sense."""
    return _discounts(np.bincount(np.minimum(counts, 5), minlength=6))


def _discounts(counts_of_counts: Ints) -> tuple[float, float, float]:
    n1, n2, n3, n4 = (int(n) for n in counts_of_counts[1:5])
    if not n1 or not n2 or not n3:
        return FALLBACK_DISCOUNTS
    y = n1 / (n1 + 2 * n2)
    found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    if all(0 < d < i for i, d in enumerate(found, start=1)):
        return found
    return FALLBACK_DISCOUNTS


def cut_off(
    levels: Sequence[Level],
    lowest: Sequence[int],
    stretch: int = STRETCH,
    folder: Optional[Path] = None,
) -> Counts:
    """What of the counts a model is made of; ``lowest``: the least count by order, never falling."""
    store = _Store(folder)
    size = levels[0].size
    numbers: list[Ints] = []  # by order: each n-gram's number among those kept, -1 if it is not
    for n, (level, least) in enumerate(zip(levels, lowest)):
        number = store.new(len(level))
        total = 0
        for part in _stretches(len(level), stretch):
            kept = (level.count[part] >= least) | (n == 0)
            number[part] = np.where(kept, total + np.cumsum(kept) - 1, -1)
            total += int(kept.sum())
        numbers.append(number)
    sizes = [int(number.max(initial=-1)) + 1 for number in numbers]
    found_discounts = [_discounts(_histogram(levels[-1].count, stretch))]
    extra = [np.zeros(sizes[-1], dtype=np.int64)]
    left_out: list[Ints] = []
    compact: list[Level] = []
    for n in range(len(levels) - 1, 0, -1):
        level, number, below = levels[n], numbers[n], numbers[n - 1]
        lefts = store.new(len(levels[n - 1]))  # how many different words stand before each
        more = np.zeros(sizes[n - 1], dtype=np.int64)
        missed = np.zeros(sizes[n - 1], dtype=np.int64)
        none = np.empty(0, dtype=np.int64)
        kept_parts: list[tuple[Any, ...]] = [(none, none, none, none.astype(bool))]
        for part in _stretches(len(level), stretch):
            key, lower, count = (np.asarray(x[part]) for x in (level.key, level.lower, level.count))
            history = key // size
            shared, times = np.unique(lower, return_counts=True)
            lefts[shared] += times
            kept = number[part] >= 0
            for where, sums in ((below[lower[~kept]], more), (below[history[~kept]], missed)):
                known = where >= 0
                np.add.at(sums, where[known], count[~kept][known])
            kept_parts.append(
                (
                    below[history[kept]] * size + key[kept] % size,
                    below[lower[kept]],
                    count[kept],
                    np.asarray(level.opens[part])[kept],
                )
            )
        key, lower, count, opens = (np.concatenate(column) for column in zip(*kept_parts))
        compact.insert(0, Level(key, size, lower, count, opens))
        extra.insert(0, more)
        left_out.insert(0, missed)
        under = levels[n - 1]
        for part in _stretches(len(under), stretch):
            lefts[part] = np.where(under.opens[part], under.count[part], lefts[part])
        if n == 1:
            lefts[0] = 0  # <s> is never foretold
        found_discounts.insert(0, _discounts(_histogram(lefts, stretch)))
    compact.insert(0, levels[0])
    if len(levels) == 1:
        spoken = levels[0].count.copy()
        spoken[0] = 0
        found_discounts = [discounts(spoken)]
    return Counts(compact, found_discounts, extra, [np.zeros(1, dtype=np.int64), *left_out])


def _histogram(counts: Ints, stretch: int) -> Ints:
    """How many of the counts are 0, 1, 2, 3, 4 and more."""
    total = np.zeros(6, dtype=np.int64)
    for part in _stretches(len(counts), stretch):
        total += np.bincount(np.minimum(counts[part], 5), minlength=6)
    return total
