"""Graphs: what a search walks through, as plain arrays that need neither Pynini nor pickle.

A `Graph` is stored without its CTC topology: `Graph.lexical` is a transducer from tokens to words
(LG), and `Graph.arcs`, the HLG that engines see, is written out from it when it is first asked for
(`ctc_topology`; about four arcs for one, all of them regular). So files are small, roots can be
spliced in where no arc of the topology has to be mended, and equal tokens at a seam get their blank.

Labels follow OpenFst's side of the house: ``ilabel = token + 1`` and 0 is epsilon; ``olabel`` is a
word-table id and 0 is none; ``weight`` is a cost, lower is better. `Graph.to_k2` is the one place
where they are turned round: label = token, 0 is blank, scores are negated, final arcs have -1.

An arc carries at most one word. Only in a graph made by `Graph.epsilon_free` may an arc stand for a
chain of several: its olabel is then ``num_words + index`` into `Graph.strings`.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Optional, Union, cast

import numpy as np
import numpy.typing as npt

from uyir.errors import GraphError
from uyir.lexicon.symbols import table_bytes

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Array = npt.NDArray[Any]

FORMAT = "uyir-graph"
#: Raised whenever a reader of the older files would misread the newer ones. 1: arrays as they are;
#: 2: arrays packed by xz.
FORMAT_VERSION = 2
#: Smaller arrays are not worth packing (bytes).
_LEAST_PACKED = 1024

EPSILON = 0
BLANK_TOKEN = 0
#: Deepest chain of input epsilons (back-off orders, deleted letters) that is followed.
MAX_EPSILON_DEPTH = 64


# --------------------------------------------------------------------------------------------------
# Transducers as arrays


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
        front = np.unique(fresh[~seen[fresh]])
        seen[front] = True
    return seen


def ranges(begin: Array, end: Array) -> tuple[Ints, Ints]:
    """All numbers of the ranges ``[begin[i], end[i])`` in a row, and for each the i it is from."""
    length = (end - begin).astype(np.int64)
    owner = np.repeat(np.arange(len(length), dtype=np.int64), length)
    first = np.cumsum(length) - length
    return np.arange(len(owner), dtype=np.int64) - first[owner] + begin[owner], owner


# --------------------------------------------------------------------------------------------------
# CTC topology


def ctc_topology(lexical: Arcs) -> Arcs:
    """H ∘ LG: from token sequences to the frame-wise sequences that collapse to them.

    Construction. The topology has to remember the last token only, so a state of the result is a
    state r of LG together with how it was entered:

    - B(r), by the start or a blank: loops on blank;
    - P(r, p), by token p: loops on p, goes to B(r) on a blank;
    - N(r, p), by an epsilon arc while p is the last token, or none after a blank: no loops, since
      repeats and blanks were taken before the epsilon. p is forgotten (none) where no arc of r, nor
      of what its epsilons lead to, has p again, so that back-off states are not multiplied.

    Every arc of r leaves each of them with a token other than p: equal neighbours need the blank.
    Weights and words stay on the arcs of LG, which are the ones that enter a token.
    """
    tokens = int(lexical.ilabel.max(initial=0))  # greatest ilabel: contexts are 0 (none) .. tokens
    if (lexical.ilabel == BLANK_TOKEN + 1).any():
        raise GraphError("a graph without CTC topology has arcs with the blank token")
    width = tokens + 1
    spoken = lexical.ilabel != EPSILON
    states = lexical.num_states

    again = _first_labels(lexical, width)
    eps = _select(lexical, ~spoken)
    loud = _select(lexical, spoken)

    entered = np.unique(loud.target * width + loud.ilabel)
    blanks = np.unique(np.append(entered // width, lexical.start)) * width
    silent: Ints = np.empty(0, dtype=np.int64)
    front = np.concatenate([entered, blanks])
    for _ in range(MAX_EPSILON_DEPTH):
        arcs, owner = ranges(eps.offsets[front // width], eps.offsets[front // width + 1])
        target, last = eps.target[arcs], front[owner] % width
        keys = np.unique(target * width + np.where(_has(again, target, last), last, 0))
        front = np.setdiff1d(keys, silent, assume_unique=True)
        if not len(front):
            break
        silent = np.union1d(silent, front)
    else:
        raise GraphError(f"more than {MAX_EPSILON_DEPTH} input epsilons follow one another")

    # Nodes: (state, kind, last), in that order; kinds 0 B, 1 P, 2 N.
    size = 3 * width
    state_of = np.concatenate([blanks, entered, silent]) // width
    kind_of = np.repeat(
        np.array([0, 1, 2], dtype=np.int64), [len(blanks), len(entered), len(silent)]
    )
    last_of = np.concatenate([blanks, entered, silent]) % width
    code = state_of * size + kind_of * width + last_of
    order = np.argsort(code, kind="stable")
    code, state_of, kind_of, last_of = code[order], state_of[order], kind_of[order], last_of[order]

    def number(state: Array, kind: int, last: Union[Array, int]) -> Ints:
        return np.searchsorted(code, state * size + kind * width + last).astype(np.int64)

    nodes = np.arange(len(code), dtype=np.int64)
    looping = nodes[kind_of < 2]
    loop_label = np.where(kind_of[looping] == 0, BLANK_TOKEN + 1, last_of[looping])
    held = nodes[kind_of == 1]

    arcs, owner = ranges(loud.offsets[state_of], loud.offsets[state_of + 1])
    fits = loud.ilabel[arcs] != last_of[owner]
    arcs, owner = arcs[fits], owner[fits]
    loud_target = number(loud.target[arcs], 1, loud.ilabel[arcs])

    e_arcs, e_owner = ranges(eps.offsets[state_of], eps.offsets[state_of + 1])
    e_to, e_last = eps.target[e_arcs], last_of[e_owner]
    e_target = number(e_to, 2, np.where(_has(again, e_to, e_last), e_last, 0))

    zeros = np.zeros(len(looping) + len(held), dtype=np.int64)
    built = Arcs.build(
        np.concatenate([looping, held, owner, e_owner]),
        np.concatenate([looping, number(state_of[held], 0, 0), loud_target, e_target]),
        np.concatenate(
            [
                loop_label,
                np.full(len(held), BLANK_TOKEN + 1),
                loud.ilabel[arcs],
                np.zeros(len(e_arcs), dtype=np.int64),
            ]
        ),
        np.concatenate([zeros, loud.olabel[arcs], eps.olabel[e_arcs]]),
        np.concatenate([zeros.astype(np.float32), loud.weight[arcs], eps.weight[e_arcs]]),
        int(number(np.array([lexical.start]), 0, 0)[0]),
        lexical.final[state_of],
    )
    if states and built.num_states < 1:
        raise GraphError("the CTC topology of this graph is empty")
    return built


def _select(arcs: Arcs, which: npt.NDArray[np.bool_]) -> Arcs:
    return Arcs(
        arcs.source[which],
        arcs.target[which],
        arcs.ilabel[which],
        arcs.olabel[which],
        arcs.weight[which],
        arcs.start,
        arcs.final,
    )


def _first_labels(arcs: Arcs, width: int) -> npt.NDArray[np.uint64]:
    """(S, ceil(width / 64)) bit sets: the labels on arcs of a state and of what its epsilons reach."""
    words = (width + 63) // 64
    first = np.zeros((arcs.num_states, words), dtype=np.uint64)
    spoken = arcs.ilabel != EPSILON
    source, label = arcs.source[spoken], arcs.ilabel[spoken]
    bit = np.uint64(1) << (label % 64).astype(np.uint64)
    np.bitwise_or.at(first, (source, label // 64), bit)
    e_source, e_target = arcs.source[~spoken], arcs.target[~spoken]
    for _ in range(MAX_EPSILON_DEPTH):
        before = first[e_source].copy()
        np.bitwise_or.at(first, e_source, first[e_target])
        if (first[e_source] == before).all():
            return first
    raise GraphError(f"more than {MAX_EPSILON_DEPTH} input epsilons follow one another")


def _has(first: npt.NDArray[np.uint64], state: Ints, label: Ints) -> npt.NDArray[np.bool_]:
    bits = first[state, label // 64] >> (label % 64).astype(np.uint64)
    return cast("npt.NDArray[np.bool_]", (bits & np.uint64(1)).astype(bool))


# --------------------------------------------------------------------------------------------------
# Epsilon removal


def remove_epsilons(
    arcs: Arcs, strings: Sequence[tuple[int, ...]], num_words: int
) -> tuple[Arcs, tuple[tuple[int, ...], ...]]:
    """An equivalent transducer whose only input epsilons lead from the start into an end without arcs.

    An epsilon p → q is taken out forward (p gets the arcs of q) or backward (what leads to p leads
    to q, too), whichever makes fewer arcs. Backward it is for back-offs: a word's last arc then
    leads to its history and to all that this backs off to, and no history needs copies of the
    hundreds of arcs that leave a back-off state. Words on epsilons go along; where an arc then has
    several they become a string: olabel ``num_words + index`` into the returned strings. Of arcs
    equal but for the weight the cheapest stays. Raises `GraphError` where epsilons make a cycle.
    """
    table = _StringTable(strings, num_words)
    arcs = _forward_where_cheaper(_with_own_start(arcs), table)
    eps = _select(arcs, arcs.ilabel == EPSILON)
    loud = _select(arcs, arcs.ilabel != EPSILON)

    # The closure: (p, q, words, cost) for every epsilon path from p to q.
    p, q, words, cost = eps.source, eps.target, eps.olabel, eps.weight.astype(np.float64)
    found = [(p, q, words, cost)]
    for _ in range(MAX_EPSILON_DEPTH):
        nxt, owner = ranges(eps.offsets[q], eps.offsets[q + 1])
        if not len(nxt):
            break
        p, cost = p[owner], cost[owner] + eps.weight[nxt]
        words = table.join(words[owner], eps.olabel[nxt])
        q = eps.target[nxt]
        fresh = cheapest(arcs.num_states, p, q, words, np.zeros_like(p), cost)
        p, q, words, cost = p[fresh], q[fresh], words[fresh], cost[fresh]
        found.append((p, q, words, cost))
    else:
        raise GraphError(f"more than {MAX_EPSILON_DEPTH} input epsilons follow one another")
    p, q, words = (np.concatenate([part[i] for part in found]) for i in range(3))
    cost = np.concatenate([part[3] for part in found])
    fresh = cheapest(arcs.num_states, p, q, words, np.zeros_like(p), cost)
    p, q, words, cost = p[fresh], q[fresh], words[fresh], cost[fresh]

    # Forward from the start, which nothing enters; then backward: every arc into p has a twin into q.
    first = np.flatnonzero(p == arcs.start)
    over, opener = ranges(loud.offsets[q[first]], loud.offsets[q[first] + 1])
    opener = first[opener]
    source = np.concatenate([loud.source, p[opener]])
    target = np.concatenate([loud.target, loud.target[over]])
    ilabel = np.concatenate([loud.ilabel, loud.ilabel[over]])
    olabel = np.concatenate([loud.olabel, table.join(words[opener], loud.olabel[over])])
    weight = np.concatenate(
        [loud.weight.astype(np.float64), cost[opener] + loud.weight[over]], dtype=np.float64
    )
    order = np.argsort(target, kind="stable")
    into = np.searchsorted(target[order], np.arange(arcs.num_states + 1))
    before, owner = ranges(into[p], into[p + 1])
    before = order[before]
    source = np.concatenate([source, source[before]])
    target = np.concatenate([target, q[owner]])
    ilabel = np.concatenate([ilabel, ilabel[before]])
    olabel = np.concatenate([olabel, table.join(olabel[before], words[owner])])
    weight = np.concatenate([weight, weight[before] + cost[owner]])
    final = arcs.final.astype(np.float64)
    ends = first[np.isfinite(arcs.final[q[first]])]
    whole = cost[ends] + arcs.final[q[ends]]
    quiet = words[ends] == 0
    final[arcs.start] = min([final[arcs.start], *whole[quiet]])
    if not quiet.all():
        spoken = ends[~quiet]
        source = np.concatenate([source, p[spoken]])
        target = np.concatenate([target, np.full(len(spoken), len(final))])
        ilabel = np.concatenate([ilabel, np.zeros(len(spoken), dtype=np.int64)])
        olabel = np.concatenate([olabel, words[spoken]])
        weight = np.concatenate([weight, whole[~quiet]])
        final = np.append(final, 0.0)
    fresh = cheapest(len(final), source, target, olabel, ilabel, weight)
    built = Arcs.build(
        source[fresh],
        target[fresh],
        ilabel[fresh],
        olabel[fresh],
        weight[fresh],
        arcs.start,
        final,
    )
    return built.connected(), table.strings


def _with_own_start(arcs: Arcs) -> Arcs:
    """The same with a start state that no arc enters."""
    if not (arcs.target == arcs.start).any():
        return arcs
    leaving = slice(int(arcs.offsets[arcs.start]), int(arcs.offsets[arcs.start + 1]))
    count = leaving.stop - leaving.start
    return Arcs.build(
        np.concatenate([arcs.source, np.full(count, arcs.num_states)]),
        np.concatenate([arcs.target, arcs.target[leaving]]),
        np.concatenate([arcs.ilabel, arcs.ilabel[leaving]]),
        np.concatenate([arcs.olabel, arcs.olabel[leaving]]),
        np.concatenate([arcs.weight, arcs.weight[leaving]]),
        arcs.num_states,
        np.append(arcs.final, arcs.final[arcs.start]),
    )


def _forward_where_cheaper(arcs: Arcs, table: _StringTable) -> Arcs:
    """Without the epsilons p → q where q has at most as many arcs out as p has in."""
    for _ in range(MAX_EPSILON_DEPTH):
        out = np.diff(arcs.offsets)
        entering = np.bincount(arcs.target, minlength=arcs.num_states)
        entering[arcs.start] = np.iinfo(np.int64).max
        moving = (
            (arcs.ilabel == EPSILON)
            & (out[arcs.target] <= entering[arcs.source])
            & (~np.isfinite(arcs.final[arcs.target]) | (arcs.olabel == 0))
        )
        # Not into a state that itself changes in this round.
        changing = np.zeros(arcs.num_states, dtype=bool)
        changing[arcs.source[moving]] = True
        moving &= ~changing[arcs.target]
        which = np.flatnonzero(moving)
        if not len(which):
            return arcs
        at, to = arcs.source[which], arcs.target[which]
        copies, owner = ranges(arcs.offsets[to], arcs.offsets[to + 1])
        owner = which[owner]
        final = arcs.final.copy()
        np.minimum.at(final, at, arcs.weight[which] + final[to])
        keep = ~moving
        source = np.concatenate([arcs.source[keep], arcs.source[owner]])
        target = np.concatenate([arcs.target[keep], arcs.target[copies]])
        ilabel = np.concatenate([arcs.ilabel[keep], arcs.ilabel[copies]])
        olabel = np.concatenate(
            [arcs.olabel[keep], table.join(arcs.olabel[owner], arcs.olabel[copies])]
        )
        weight = np.concatenate([arcs.weight[keep], arcs.weight[owner] + arcs.weight[copies]])
        fresh = cheapest(arcs.num_states, source, target, olabel, ilabel, weight)
        arcs = Arcs.build(
            source[fresh],
            target[fresh],
            ilabel[fresh],
            olabel[fresh],
            weight[fresh],
            arcs.start,
            final,
        )
    raise GraphError(f"more than {MAX_EPSILON_DEPTH} input epsilons follow one another")


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


class _StringTable:
    """Olabels that stand for several words in a row."""

    def __init__(self, strings: Sequence[tuple[int, ...]], num_words: int) -> None:
        self._words = num_words
        self._strings = list(strings)
        self._index = {string: i for i, string in enumerate(self._strings)}

    @property
    def strings(self) -> tuple[tuple[int, ...], ...]:
        return tuple(self._strings)

    def expand(self, label: int) -> tuple[int, ...]:
        if label == 0:
            return ()
        return (label,) if label < self._words else self._strings[label - self._words]

    def join(self, left: Ints, right: Ints) -> Ints:
        """The label for left followed by right, elementwise."""
        out = np.where(left == 0, right, left)
        both = np.flatnonzero((left != 0) & (right != 0))
        if len(both):
            pairs, back = np.unique(
                np.stack([left[both], right[both]], axis=1), axis=0, return_inverse=True
            )
            labels = []
            for a, b in pairs.tolist():
                string = self.expand(a) + self.expand(b)
                if string not in self._index:
                    self._index[string] = len(self._strings)
                    self._strings.append(string)
                labels.append(self._words + self._index[string])
            out[both] = np.array(labels, dtype=np.int64)[back.reshape(-1)]
        return out


# --------------------------------------------------------------------------------------------------
# Graphs


@dataclass(frozen=True)
class Splice:
    """Where roots of one kind can enter a graph: between two states of its lexical part.

    ``key`` is the grammar's name of the state that the root leads to, ``context`` tells apart what
    the pronunciation of the pieces after it depends on (0 if nothing). ``weight`` is the cost of an
    unknown root there; neither weights nor labels were pushed across.
    """

    key: str
    context: int
    source: int
    target: int
    weight: float


@dataclass(frozen=True)
class Root:
    """A root to add: its tokens (ids, no blanks), its word-table id and its own cost."""

    key: str
    context: int
    tokens: tuple[int, ...]
    word: int
    weight: float = 0.0


@dataclass(frozen=True, eq=False)
class Graph:
    """A decoding graph; see the module's text for what is stored and what engines see.

    ``ctc``: whether ``lexical`` is without CTC topology (the usual case). ``num_words`` and
    ``num_tokens`` are the lengths of the two tables; the latter is the C of log_probs (N, T, C). ``meta`` is free JSON: where the graph is from, hashes of its tables, counts.
    """

    lexical: Arcs
    num_words: int
    num_tokens: int
    ctc: bool = True
    splices: tuple[Splice, ...] = ()
    strings: tuple[tuple[int, ...], ...] = ()
    meta: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_arcs(
        cls,
        src: npt.ArrayLike,
        dst: npt.ArrayLike,
        ilabel: npt.ArrayLike,
        olabel: npt.ArrayLike,
        weight: npt.ArrayLike,
        start: int,
        final: npt.ArrayLike,
        *,
        num_words: Optional[int] = None,
        num_tokens: Optional[int] = None,
        ctc: bool = False,
        meta: Optional[dict[str, Any]] = None,
    ) -> Graph:
        """A graph from arrays (A,) and final costs (S,), inf where a state is not final.

        With ``ctc`` the arcs are those of LG and the topology is added; without it they are an HLG
        as it stands (ilabel 1 is blank). Tables whose length is not given reach to the greatest label.
        """
        arcs = Arcs.build(src, dst, ilabel, olabel, weight, start, final)
        words = int(arcs.olabel.max(initial=0)) + 1 if num_words is None else num_words
        tokens = max(1, int(arcs.ilabel.max(initial=0))) if num_tokens is None else num_tokens
        return cls(arcs, words, tokens, ctc, meta=dict(meta or {}))

    # What engines see.

    @cached_property
    def arcs(self) -> Arcs:
        """The HLG: (A,) arcs with ilabel = token + 1 (0 epsilon, 1 blank)."""
        return ctc_topology(self.lexical) if self.ctc else self.lexical

    @property
    def src(self) -> Ints:
        return self.arcs.source

    @property
    def dst(self) -> Ints:
        return self.arcs.target

    @property
    def ilabel(self) -> Ints:
        return self.arcs.ilabel

    @property
    def olabel(self) -> Ints:
        return self.arcs.olabel

    @property
    def weight(self) -> Floats:
        return self.arcs.weight

    @property
    def start(self) -> int:
        return self.arcs.start

    @property
    def final(self) -> Floats:
        """(S,) costs of ending in a state; inf where it is not final."""
        return self.arcs.final

    @property
    def num_states(self) -> int:
        return self.arcs.num_states

    @property
    def num_arcs(self) -> int:
        return self.arcs.num_arcs

    def expand(self, olabel: int) -> tuple[int, ...]:
        """The word-table ids that an olabel stands for: none for 0, several for a string."""
        return _StringTable(self.strings, self.num_words).expand(olabel)

    # Other forms.

    def epsilon_free(self) -> Graph:
        """The same graph without input epsilons, but into the end state (see `remove_epsilons`)."""
        if not self.lexical.has_epsilons:
            return self
        arcs, strings = remove_epsilons(self.lexical, self.strings, self.num_words)
        return replace(self, lexical=arcs, strings=strings, splices=())

    def with_roots(self, roots: Iterable[Root]) -> Graph:
        """This graph with roots spliced in, each wherever its key and context have a splice.

        Raises `GraphError` for a graph without CTC topology of its own, for a key or context that has
        no splice, and for a root without tokens.
        """
        if not self.ctc:
            raise GraphError(
                "roots cannot be spliced into a graph whose CTC topology is written out"
            )
        places: dict[tuple[str, int], list[Splice]] = {}
        for splice in self.splices:
            places.setdefault((splice.key, splice.context), []).append(splice)
        new: list[tuple[int, int, int, int, float]] = []
        states = self.lexical.num_states
        top = self.num_words
        for root in roots:
            where = places.get((root.key, root.context))
            if not where:
                known = ", ".join(sorted({s.key for s in self.splices})) or "none"
                raise GraphError(
                    f"the graph has no splice {root.key!r} in context {root.context}; it has {known}"
                )
            if not root.tokens or min(root.tokens) <= BLANK_TOKEN or root.word <= 0:
                raise GraphError(f"a root needs tokens other than blank and a word: {root}")
            top = max(top, root.word + 1)
            for splice in where:
                at = splice.source
                for i, token in enumerate(root.tokens):
                    last = i == len(root.tokens) - 1
                    to = splice.target if last else states
                    states += not last
                    word = root.word if i == 0 else 0
                    cost = splice.weight + root.weight if i == 0 else 0.0
                    new.append((at, to, token + 1, word, cost))
                    at = to
        if not new:
            return self
        if top > self.num_words and self.strings:
            raise GraphError("new words cannot enter a graph that is already free of epsilons")
        old = self.lexical
        source, target, ilabel, olabel, weight = (list(column) for column in zip(*new))
        final = np.full(states, np.inf, dtype=np.float32)
        final[: old.num_states] = old.final
        arcs = Arcs.build(
            np.concatenate([old.source, source]),
            np.concatenate([old.target, target]),
            np.concatenate([old.ilabel, ilabel]),
            np.concatenate([old.olabel, olabel]),
            np.concatenate([old.weight, np.array(weight, dtype=np.float32)]),
            old.start,
            final,
        )
        return replace(self, lexical=arcs, num_words=top)

    def splice(
        self, key: str, phones: Sequence[int], word_id: int, weight: float = 0.0, context: int = 0
    ) -> Graph:
        """`with_roots` for one root; ``phones`` are token ids."""
        return self.with_roots([Root(key, context, tuple(phones), word_id, weight)])

    def to_openfst(self) -> Any:
        """A ``kaldifst.StdVectorFst`` of the HLG, for kaldi-decoder."""
        import kaldifst

        arcs = self._chained(self.arcs)
        with tempfile.NamedTemporaryFile(suffix=".fst", delete=False) as file:
            file.write(openfst_bytes(arcs))
        try:
            fst = kaldifst.StdVectorFst.read(file.name)
        finally:
            os.unlink(file.name)
        if fst is None:
            raise GraphError("kaldifst cannot read the graph that was written for it")
        return fst

    def _chained(self, arcs: Arcs) -> Arcs:
        """Arcs with strings as chains: the first word on the arc, each further one on an epsilon."""
        many = np.flatnonzero(arcs.olabel >= self.num_words) if self.strings else np.empty(0, int)
        if not len(many):
            return arcs
        target, olabel = arcs.target.copy(), arcs.olabel.copy()
        extra: list[tuple[int, int, int]] = []
        states = arcs.num_states
        for arc in many.tolist():
            words = self.strings[int(arcs.olabel[arc]) - self.num_words]
            end = int(arcs.target[arc])
            olabel[arc], target[arc] = words[0], states
            for word in words[1:-1]:
                extra.append((states, states + 1, word))
                states += 1
            extra.append((states, end, words[-1]))
            states += 1
        src, dst, words_ = (np.array(x, dtype=np.int64) for x in zip(*extra))
        final = np.full(states, np.inf, dtype=np.float32)
        final[: arcs.num_states] = arcs.final
        return Arcs.build(
            np.concatenate([arcs.source, src]),
            np.concatenate([target, dst]),
            np.concatenate([arcs.ilabel, np.zeros(len(src), dtype=np.int64)]),
            np.concatenate([olabel, words_]),
            np.concatenate([arcs.weight, np.zeros(len(src), dtype=np.float32)]),
            arcs.start,
            final,
        )

    def to_k2(self) -> Any:
        """A ``k2.Fsa`` of the HLG: label = token, 0 is blank; scores = -weight; final arcs -1.

        Epsilons are removed first where there are any. ``aux_labels`` is a tensor (A,), 0 none and -1
        on final arcs; if some arcs carry several words it is a `k2.RaggedTensor` [arc][word] instead
        (-1 last on final arcs). State 0 is the start.
        """
        import k2
        import torch

        graph = self.epsilon_free()
        source, target, label, olabel, score = graph._k2_arrays()
        table = np.stack(
            [source, target, label, score.view(np.int32)], axis=1, dtype=np.int32, casting="unsafe"
        )
        if not graph.strings:
            return k2.Fsa(torch.from_numpy(table), torch.from_numpy(olabel.astype(np.int32)))
        return k2.Fsa(torch.from_numpy(table), graph._ragged(label, olabel))

    def _ragged(self, label: Array, olabel: Array) -> Any:
        """The words of each arc as a `k2.RaggedTensor` [arc][word], -1 last on final arcs."""
        import k2
        import torch

        lengths = np.array([1, *map(len, self.strings)], dtype=np.int64)
        starts = np.cumsum(lengths) - lengths
        pool = np.array([0, *(word for string in self.strings for word in string)], dtype=np.int64)
        string = np.maximum(olabel - self.num_words + 1, 0)
        count = np.where(olabel > 0, lengths[string], 0)
        closing = (label == -1).astype(np.int64)
        places, owner = ranges(starts[string], starts[string] + count)
        plain = np.where(string[owner] > 0, pool[places], olabel[owner])
        splits = np.concatenate([[0], np.cumsum(count + closing)])
        values = np.full(int(splits[-1]), -1, dtype=np.int32)
        first, _ = ranges(splits[:-1], splits[:-1] + count)
        values[first] = plain
        shape = k2.ragged.create_ragged_shape2(
            torch.from_numpy(splits.astype(np.int32)), None, len(values)
        )
        return k2.RaggedTensor(shape, torch.from_numpy(values))

    def _k2_arrays(self) -> tuple[Array, Array, Array, Array, Floats]:
        """Source, target, label, olabel, score of an epsilon-free HLG with k2's final arcs."""
        arcs = self.arcs
        offsets = arcs.offsets
        into_end = arcs.ilabel == EPSILON
        if (offsets[arcs.target[into_end] + 1] > offsets[arcs.target[into_end]]).any():
            raise GraphError("the graph still has input epsilons, which k2 has no label for")
        # The start becomes state 0; the new last state is k2's final one.
        number = np.arange(arcs.num_states, dtype=np.int64)
        number[[0, arcs.start]] = number[[arcs.start, 0]]
        last = arcs.num_states
        ending = np.flatnonzero(np.isfinite(arcs.final))
        end_cost = np.where(into_end, arcs.final[arcs.target], 0.0).astype(np.float32)
        source = np.concatenate([number[arcs.source], number[ending]])
        target = np.concatenate(
            [np.where(into_end, last, number[arcs.target]), np.full(len(ending), last)]
        )
        label = np.concatenate([np.where(into_end, -1, arcs.ilabel - 1), np.full(len(ending), -1)])
        olabel = np.concatenate([arcs.olabel, np.full(len(ending), -1)])
        score = -np.concatenate([arcs.weight + end_cost, arcs.final[ending]])
        order = np.argsort(source, kind="stable")
        return (
            source[order],
            target[order],
            label[order],
            olabel[order],
            np.ascontiguousarray(score[order], dtype=np.float32),
        )

    # On disk.

    def save(self, path: Union[str, Path]) -> int:
        """Write the graph as safetensors; returns the number of bytes.

        The arcs are those of LG, numbered depth first, in bytes: 1 or 2 an ilabel; a bit each that
        says whether there is a word, a weight, a jump (a target other than the next state), and
        4 bytes for each that there is. Weights are rounded to a 16-bit fixed point whose step
        the header gives (at most 1/128 for costs up to 256). Arrays are packed by xz, to some 2/5.
        """
        import safetensors.numpy

        if self.strings:
            raise GraphError("a graph is saved with its epsilons: save it before `epsilon_free`")
        arcs, splices = self.lexical, self.splices
        if splices:
            # depth_first keeps no map, so the places are carried along as marked arcs.
            arcs, splices = _renumbered(arcs, splices)
        else:
            arcs = arcs.depth_first()
        tensors, step = _encode(arcs, splices)
        packed = {
            name: [values.dtype.str, list(values.shape)]
            for name, values in tensors.items()
            if values.nbytes >= _LEAST_PACKED
        }
        header = {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "ctc": self.ctc,
            "num_states": arcs.num_states,
            "num_arcs": arcs.num_arcs,
            "start": arcs.start,
            "num_words": self.num_words,
            "num_tokens": self.num_tokens,
            "weight_step": step,
            "splice_keys": sorted({s.key for s in splices}),
            "sha256": _digest(tensors),
            "packed": packed,
            "meta": self.meta,
        }
        path = Path(path)
        stored = {
            name: _packed(values) if name in packed else values for name, values in tensors.items()
        }
        safetensors.numpy.save_file(
            stored, str(path), metadata={FORMAT: json.dumps(header, ensure_ascii=False)}
        )
        return path.stat().st_size

    @classmethod
    def load(
        cls,
        path: Union[str, Path],
        *,
        tokens: Optional[Union[str, Path]] = None,
        words: Optional[Union[str, Path]] = None,
    ) -> Graph:
        """Read a graph; given the paths of ``tokens.txt`` and ``words.txt``, refuse one of others.

        Raises `GraphError` for a file that is missing, damaged, of another format or version, or
        built from another token or word table (naming both hashes).
        """
        import safetensors

        path = Path(path)
        if not path.is_file():
            raise GraphError(f"{path}: no such graph")
        try:
            with safetensors.safe_open(str(path), framework="np") as file:
                raw = (file.metadata() or {}).get(FORMAT)
                tensors = {} if raw is None else {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
        except (safetensors.SafetensorError, OSError) as error:
            raise GraphError(f"{path}: damaged, or not a graph ({error})") from None
        if raw is None:
            raise GraphError(f"{path}: a safetensors file, but not a graph")
        try:
            header = json.loads(raw)
            version = header["version"]
            if version not in range(1, FORMAT_VERSION + 1):
                raise GraphError(
                    f"{path}: graph format {version}; this version of uyir reads up to {FORMAT_VERSION}"
                )
            for name, (kind, shape) in header.get("packed", {}).items():
                tensors[name] = _unpacked(tensors[name], kind, shape)
            if _digest(tensors) != header["sha256"]:
                raise GraphError(f"{path}: damaged: its arrays do not match their checksum")
            arcs, splices = _decode(tensors, header)
            graph = cls(
                arcs,
                header["num_words"],
                header["num_tokens"],
                header["ctc"],
                splices,
                meta=dict(header["meta"]),
            )
        except (KeyError, ValueError, IndexError, TypeError, EOFError, lzma.LZMAError) as error:
            raise GraphError(f"{path}: damaged: {type(error).__name__}: {error}") from None
        graph.check_tables(tokens, words, name=str(path))
        return graph

    def check_tables(
        self,
        tokens: Optional[Union[str, Path]] = None,
        words: Optional[Union[str, Path]] = None,
        name: str = "the graph",
    ) -> None:
        """Raise `GraphError` unless the graph was built from these token and word tables."""
        for kind, table in (("tokens", tokens), ("words", words)):
            if table is None:
                continue
            have, want = file_sha256(table), self.meta.get(f"{kind}_sha256")
            if have != want:
                raise GraphError(
                    f"{name} was built from another table of {kind}: "
                    f"sha256 {str(want)[:12]}…, but {table} has {have[:12]}…"
                )


def file_sha256(path: Union[str, Path]) -> str:
    """The hash that graphs keep of their tables, packed or not; raises `GraphError` if there is no such file."""
    try:
        return hashlib.sha256(table_bytes(path)).hexdigest()
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise GraphError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def openfst_bytes(arcs: Arcs) -> bytes:
    """The transducer in OpenFst's binary format: ``vector`` of ``standard`` arcs, version 2."""
    kind, arc_type = b"vector", b"standard"
    head = np.array([0x7EB2FDD6], dtype="<u4").tobytes()
    for name in (kind, arc_type):
        head += np.array([len(name)], dtype="<u4").tobytes() + name
    head += np.array([2, 0], dtype="<i4").tobytes()  # version, flags: no symbol tables
    # Properties: only what every VectorFst has (expanded, mutable); the rest is worked out on need.
    head += np.array([3, arcs.start, arcs.num_states, arcs.num_arcs], dtype="<i8").tobytes()

    # A state is three words of four bytes (final cost; number of arcs, 8 bytes), an arc is four.
    count = np.diff(arcs.offsets)
    body = np.empty(3 * arcs.num_states + 4 * arcs.num_arcs, dtype="<i4")
    at = 3 * np.arange(arcs.num_states) + 4 * arcs.offsets[:-1]
    body[at] = arcs.final.astype("<f4").view("<i4")
    body[at + 1] = count.astype("<i4")
    body[at + 2] = 0
    place = 3 * (arcs.source + 1) + 4 * np.arange(arcs.num_arcs)
    body[place] = arcs.ilabel
    body[place + 1] = arcs.olabel
    body[place + 2] = arcs.weight.astype("<f4").view("<i4")
    body[place + 3] = arcs.target
    return head + body.tobytes()


# --------------------------------------------------------------------------------------------------
# Encoding

#: Weights are multiples of a power of two, the smallest that lets the greatest fit 16 bits.
_FINEST_STEP = 1.0 / 128


def weight_step(greatest: float) -> float:
    """The step of the fixed point that holds costs up to ``greatest`` in 16 bits, with sign."""
    step = _FINEST_STEP
    while greatest / step > 32767:
        step *= 2
    return step


def _renumbered(arcs: Arcs, splices: Sequence[Splice]) -> tuple[Arcs, tuple[Splice, ...]]:
    """Depth-first numbers, and the splices in them."""
    mark = int(arcs.ilabel.max(initial=0)) + 1
    count = len(splices)
    marked = Arcs.build(
        np.concatenate([arcs.source, [s.source for s in splices]]),
        np.concatenate([arcs.target, [s.target for s in splices]]),
        np.concatenate([arcs.ilabel, mark + np.arange(count)]),
        np.concatenate([arcs.olabel, np.zeros(count, dtype=np.int64)]),
        np.concatenate([arcs.weight, np.zeros(count, dtype=np.float32)]),
        arcs.start,
        arcs.final,
    ).depth_first()
    is_mark = marked.ilabel >= mark
    which = marked.ilabel[is_mark] - mark
    moved = list(splices)
    for index, source, target in zip(
        which.tolist(), marked.source[is_mark].tolist(), marked.target[is_mark].tolist()
    ):
        moved[index] = replace(splices[index], source=source, target=target)
    return _select(marked, ~is_mark), tuple(moved)


def _narrow(values: Array, *types: Any) -> Array:
    """Values in the first of these unsigned types that holds them all."""
    top = int(values.max(initial=0))
    for kind in types:
        if top <= np.iinfo(kind).max:
            return values.astype(kind)
    raise GraphError(f"{top} does not fit a graph file")


def _encode(arcs: Arcs, splices: Sequence[Splice]) -> tuple[dict[str, Array], float]:
    costs = [arcs.weight, arcs.final[np.isfinite(arcs.final)]]
    greatest = max((float(np.abs(c).max()) for c in costs if len(c)), default=0.0)
    step = weight_step(greatest)

    def fixed(cost: Floats) -> npt.NDArray[np.int16]:
        return cast("npt.NDArray[np.int16]", np.rint(cost / step).astype(np.int16))

    weight = fixed(arcs.weight)
    jump = arcs.target != arcs.source + 1
    far = arcs.target[jump]
    words = arcs.olabel[arcs.olabel != 0]
    ending = np.flatnonzero(np.isfinite(arcs.final))
    keys = sorted({s.key for s in splices})
    tensors = {
        "degree": _narrow(np.diff(arcs.offsets), np.uint8, np.uint16, np.uint32),
        "ilabel": _narrow(arcs.ilabel, np.uint8, np.uint16),
        "has_olabel": np.packbits(arcs.olabel != 0),
        "olabel": _narrow(words, np.uint32),
        "has_weight": np.packbits(weight != 0),
        "weight": weight[weight != 0],
        "has_jump": np.packbits(jump),
        "jump": _narrow(far, np.uint32),
        "final_state": ending.astype(np.uint32),
        "final_weight": fixed(arcs.final[ending]),
        "splice_key": np.array([keys.index(s.key) for s in splices], dtype=np.uint16),
        "splice_context": np.array([s.context for s in splices], dtype=np.uint16),
        "splice_source": np.array([s.source for s in splices], dtype=np.uint32),
        "splice_target": np.array([s.target for s in splices], dtype=np.uint32),
        "splice_weight": np.array([s.weight for s in splices], dtype=np.float32),
    }
    return {name: np.ascontiguousarray(x) for name, x in tensors.items()}, step


def _decode(tensors: dict[str, Array], header: dict[str, Any]) -> tuple[Arcs, tuple[Splice, ...]]:
    states, count, step = header["num_states"], header["num_arcs"], header["weight_step"]

    def bits(name: str) -> npt.NDArray[np.bool_]:
        return np.unpackbits(tensors[name], count=count).astype(bool)

    source = np.repeat(np.arange(states, dtype=np.int64), tensors["degree"].astype(np.int64))
    olabel = np.zeros(count, dtype=np.int64)
    olabel[bits("has_olabel")] = _whole(tensors, "olabel")
    weight = np.zeros(count, dtype=np.float32)
    weight[bits("has_weight")] = tensors["weight"] * np.float32(step)
    target = source + 1
    target[bits("has_jump")] = _whole(tensors, "jump")
    final = np.full(states, np.inf, dtype=np.float32)
    final[tensors["final_state"].astype(np.int64)] = tensors["final_weight"] * np.float32(step)
    arcs = Arcs.build(source, target, tensors["ilabel"], olabel, weight, header["start"], final)
    keys = header["splice_keys"]
    splices = tuple(
        Splice(keys[key], context, source_, target_, cost)
        for key, context, source_, target_, cost in zip(
            *(
                tensors[f"splice_{name}"].tolist()
                for name in ("key", "context", "source", "target", "weight")
            )
        )
    )
    if any(max(s.source, s.target) >= states for s in splices):
        raise GraphError("a graph's splices are not among its states")
    return arcs, splices


def _whole(tensors: dict[str, Array], name: str) -> Ints:
    """Numbers of up to 32 bits; format 1 has the high bits apart, if there are any."""
    if name in tensors:
        return tensors[name].astype(np.int64)
    low, high = tensors[f"{name}_low"].astype(np.int64), tensors[f"{name}_high"].astype(np.int64)
    return low | high << 16 if len(high) else low


def _packed(values: Array) -> npt.NDArray[np.uint8]:
    """An array's bytes packed by xz; whole numbers pack best as they are, four bytes side by side."""
    return np.frombuffer(lzma.compress(values.tobytes(), preset=6), dtype=np.uint8)


def _unpacked(values: Array, kind: str, shape: Sequence[int]) -> Array:
    """What `_packed` packed, no more of it than the shape says; raises `ValueError` for anything else."""
    found = np.dtype(kind)
    size = int(np.prod(shape)) * found.itemsize
    data = lzma.LZMADecompressor().decompress(values.tobytes(), max_length=size + 1)
    if len(data) != size:
        raise ValueError(f"{len(data)} bytes where {size} should be")
    return np.frombuffer(data, dtype=found).reshape(tuple(shape))


def _digest(tensors: dict[str, Array]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tensors[name].shape}".encode())
        digest.update(tensors[name].tobytes())
    return digest.hexdigest()
