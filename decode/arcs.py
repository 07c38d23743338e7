"""Weighted transducers as plain arrays, and what every step on them is made of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from uyir.errors import GraphError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Array = npt.NDArray[Any]

EPSILON = 0
BLANK_TOKEN = 0
#: Deepest chain of input epsilons (back-off orders, deleted letters) that is followed.
MAX_EPSILON_DEPTH = 64


@dataclass(frozen=True, eq=False)
class Arcs:
    """A weighted transducer as a structure of arrays, arcs sorted by source state.

    ``source, target, ilabel, olabel`` (A,) int64, ``weight`` (A,) float32 costs, ``final`` (S,)
    float32 costs with inf where a state is not final. S >= 1; ``start`` is a state.
    """

    source: Ints
    target: Ints
    ilabel: Ints
    olabel: Ints
    weight: Floats
    start: int
    final: Floats

    @classmethod
    def build(
        cls,
        source: npt.ArrayLike,
        target: npt.ArrayLike,
        ilabel: npt.ArrayLike,
        olabel: npt.ArrayLike,
        weight: npt.ArrayLike,
        start: int,
        final: npt.ArrayLike,
    ) -> Arcs:
        """Sort arcs by source and check them; raises `GraphError` for arcs that lead nowhere."""
        src, dst, ilab, olab = (
            np.ascontiguousarray(x, dtype=np.int64) for x in (source, target, ilabel, olabel)
        )
        cost = np.ascontiguousarray(weight, dtype=np.float32)
        ends = np.ascontiguousarray(final, dtype=np.float32)
        states = len(ends)
        if not len(src) == len(dst) == len(ilab) == len(olab) == len(cost):
            raise GraphError(
                f"arrays of a graph differ in length: {len(src)} sources, {len(dst)} targets, "
                f"{len(ilab)} ilabels, {len(olab)} olabels, {len(cost)} weights"
            )
        if not 0 <= start < states:
            raise GraphError(f"start state {start} is not among the graph's {states} states")
        if len(src):
            low, high = min(src.min(), dst.min()), max(src.max(), dst.max())
            if low < 0 or high >= states:
                raise GraphError(f"arcs join states {low} to {high}; the graph has {states}")
            if min(ilab.min(), olab.min()) < 0:
                raise GraphError("a graph's labels are negative")
            if not np.isfinite(cost).all():
                raise GraphError("a graph's weights are not finite")
            if (np.diff(src) < 0).any():
                order = np.argsort(src, kind="stable")
                src, dst, ilab, olab = src[order], dst[order], ilab[order], olab[order]
                cost = cost[order]
        if np.isnan(ends).any() or (ends == -np.inf).any():
            raise GraphError("a graph's final costs are not numbers")
        return cls(src, dst, ilab, olab, cost, int(start), ends)

    @property
    def num_states(self) -> int:
        return len(self.final)

    @property
    def num_arcs(self) -> int:
        return len(self.source)

    @cached_property
    def offsets(self) -> Ints:
        """(S + 1,): arcs of state s are ``offsets[s]:offsets[s + 1]``."""
        return np.searchsorted(self.source, np.arange(self.num_states + 1)).astype(np.int64)

    @cached_property
    def has_epsilons(self) -> bool:
        return bool((self.ilabel == EPSILON).any())

    def connected(self) -> Arcs:
        """Without the states that are not on a path from the start to a final state."""
        keep = self._reachable() & self._productive()
        if not keep[self.start]:
            raise GraphError("the graph is empty: no path leads from its start to a final state")
        if keep.all():
            return self
        number = np.cumsum(keep) - 1
        arcs = keep[self.source] & keep[self.target]
        return Arcs(
            number[self.source[arcs]],
            number[self.target[arcs]],
            self.ilabel[arcs],
            self.olabel[arcs],
            self.weight[arcs],
            int(number[self.start]),
            self.final[keep],
        )

    def where(self, which: npt.NDArray[np.bool_]) -> Arcs:
        """The same states with some of the arcs: those of a mask (A,)."""
        return Arcs(
            self.source[which],
            self.target[which],
            self.ilabel[which],
            self.olabel[which],
            self.weight[which],
            self.start,
            self.final,
        )

    def _reachable(self) -> npt.NDArray[np.bool_]:
        seed = np.zeros(self.num_states, dtype=bool)
        seed[self.start] = True
        return _flood(seed, self.offsets, self.target)

    def _productive(self) -> npt.NDArray[np.bool_]:
        order = np.argsort(self.target, kind="stable")
        into = np.searchsorted(self.target[order], np.arange(self.num_states + 1))
        return _flood(np.isfinite(self.final), into, self.source[order])

    def depth_first(self) -> Arcs:
        """Renumbered so that the start is 0 and a state's last arc mostly leads to the next number."""
        offsets, target = self.offsets.tolist(), self.target.tolist()
        number = [-1] * self.num_states
        count = 0
        stack = [self.start]
        while stack:
            state = stack.pop()
            if number[state] >= 0:
                continue
            number[state] = count
            count += 1
            stack.extend(target[offsets[state] : offsets[state + 1]])
        for state in range(self.num_states):
            if number[state] < 0:
                number[state] = count
                count += 1
        new = np.array(number, dtype=np.int64)
        final = np.empty_like(self.final)
        final[new] = self.final
        return Arcs.build(
            new[self.source],
            new[self.target],
            self.ilabel,
            self.olabel,
            self.weight,
            int(new[self.start]),
            final,
        )


def _flood(seed: npt.NDArray[np.bool_], offsets: Array, target: Ints) -> npt.NDArray[np.bool_]:
    """The states that can be reached from the seeds, which are included."""
    seen = seed.copy()
    front = np.flatnonzero(seed)
    while len(front):
        arcs, _ = ranges(offsets[front], offsets[front + 1])
        fresh = target[arcs]
        front = distinct(fresh[~seen[fresh]])
        seen[front] = True
    return seen


def distinct(values: Ints) -> Ints:
    """The different ones of some numbers, sorted; `np.unique` goes by hashes, ten times slower on millions."""
    ordered = np.sort(values)
    fresh = np.ones(len(ordered), dtype=bool)
    fresh[1:] = ordered[1:] != ordered[:-1]
    return ordered[fresh]


def ranges(begin: Array, end: Array) -> tuple[Ints, Ints]:
    """All numbers of the ranges ``[begin[i], end[i])`` in a row, and for each the i it is from."""
    length = (end - begin).astype(np.int64)
    owner = np.repeat(np.arange(len(length), dtype=np.int64), length)
    first = np.cumsum(length) - length
    return np.arange(len(owner), dtype=np.int64) - first[owner] + begin[owner], owner


def cheapest(
    states: int, source: Ints, target: Ints, olabel: Ints, ilabel: Ints, weight: Array
) -> Ints:
    """Places of the arcs that stay if of those equal but for the weight the cheapest does, sorted."""
    ends = source * states + target
    labels = ilabel * (int(olabel.max(initial=0)) + 1) + olabel
    order = np.lexsort((weight, labels, ends))
    fresh = np.ones(len(order), dtype=bool)
    fresh[1:] = (np.diff(ends[order]) != 0) | (np.diff(labels[order]) != 0)
    return order[fresh].astype(np.int64)
