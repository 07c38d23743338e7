"""Graphs packed for token passing: emitting arcs and epsilons apart, by source state, a few bytes each.

States are renumbered: those that epsilons leave come last, so that a comparison tells them. Arcs are
numbered 0…A-1 (emitting, by source; a source's blanks first, then the others, the likeliest first) and
A…A+X-1 (epsilons); where two paths into a state score the same, the one whose last arc has the lower
number wins.

Where an epsilon raises a score, a path could fall out of the beam and come back. So weights are pushed
first: a state has the best that its epsilons may add (its *potential*) beforehand. Paths' scores are the
same, but for the start state's potential; no epsilon raises a score any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable

import numpy as np
import numpy.typing as npt

from uyir.decode.arcs import ranges
from uyir.errors import GraphError

Array = npt.NDArray[Any]
_BLANK_LABEL = 1  # ilabel = token + 1


#: What the chains of epsilons may come to, all together.
_MOST_CHAINS = 1 << 27


@dataclass(frozen=True, eq=False)
class Closure:
    """Where chains of one epsilon or more lead: from state s ≥ ``first_eps`` to ``target[i]`` with the
    pushed score ``weight[i]``, by a last arc numbered ``arc[i]``, for i in ``row[s - E]:row[s - E + 1]``;
    the best chain to each target, the best ones first."""

    row: Array
    target: Array
    weight: Array
    arc: Array


@dataclass(frozen=True, eq=False)
class PackedGraph:
    """What `pack` makes of a graph with S states, A emitting arcs and X epsilons.

    ``row`` (S + 1,): emitting arcs of state s are ``row[s]:row[s + 1]``; ``eps_row`` (S - E + 1,): the
    epsilons of state s ≥ E = ``first_eps`` are ``eps_row[s - E]:eps_row[s - E + 1]``, counted from 0 (add A for
    the arc's number). By arc number: ``token`` (-1 for an epsilon), ``target``, ``source``, ``weight``
    (a score: higher is better), ``pushed`` (the weight that is searched with; see the module's text),
    ``olabel``. By state: ``final`` and ``pushed_final``, scores, -inf where not final; ``level``, the longest
    chain of epsilons out of it. ``closure``: see `Closure`. ``least_cost``: the smallest pushed
    cost (most negative) of an emitting arc, at most 0.
    """

    num_tokens: int
    start: int
    first_eps: int
    row: Array
    eps_row: Array
    token: Array
    source: Array
    target: Array
    weight: Array
    pushed: Array
    olabel: Array
    final: Array
    pushed_final: Array
    level: Array
    closure: Closure
    least_cost: float
    expand: Callable[[int], tuple[int, ...]]

    @property
    def num_states(self) -> int:
        return len(self.final)

    @property
    def num_emitting(self) -> int:
        return int(self.row[-1])

    @property
    def num_epsilons(self) -> int:
        return len(self.token) - self.num_emitting


def pack(graph: Any) -> PackedGraph:
    """Pack a `uyir.decode.graph.Graph`.

    Raises `GraphError` for a graph without arcs and for one whose input epsilons make a cycle.
    """
    arcs = graph.arcs
    states, count = arcs.num_states, arcs.num_arcs
    if count == 0:
        raise GraphError("the graph has no arcs: nothing can be found in it")
    if max(states, count) >= 2**31 - 1:
        raise GraphError(f"{states} states and {count} arcs are too many: at most 2^31 - 2 fit")
    if int(arcs.ilabel.max()) > graph.num_tokens:
        raise GraphError(
            f"the graph has token {int(arcs.ilabel.max()) - 1}; its table has {graph.num_tokens}"
        )
    silent = arcs.ilabel == 0
    level = epsilon_levels(states, arcs.source[silent], arcs.target[silent])
    leaving = np.zeros(states, dtype=bool)
    leaving[arcs.source[silent]] = True
    order = np.argsort(leaving, kind="stable")
    number = np.empty(states, dtype=np.int64)
    number[order] = np.arange(states)
    first_eps = int(states - leaving.sum())

    source, target, level = number[arcs.source], number[arcs.target], level[order]
    weight = (-arcs.weight).astype(np.float32)
    final = (-arcs.final[order]).astype(np.float32)
    potential = _potentials(level, source[silent], target[silent], weight[silent])
    pushed = weight
    if potential.any():
        pushed = weight + (potential[target] - potential[source])
        pushed[silent] = np.minimum(pushed[silent], 0)  # what rounding left
    blank_last = arcs.ilabel != _BLANK_LABEL
    loud = np.flatnonzero(~silent)
    loud = loud[np.lexsort((-pushed[loud], blank_last[loud], source[loud]))]
    quiet = np.flatnonzero(silent)
    quiet = quiet[np.argsort(source[quiet], kind="stable")]
    both = np.concatenate([loud, quiet])
    eps_row = np.searchsorted(source[quiet], np.arange(first_eps, states + 1))
    closure = _closure(
        level, first_eps, eps_row, source[quiet], target[quiet], pushed[quiet], len(loud)
    )
    return PackedGraph(
        num_tokens=int(graph.num_tokens),
        start=int(number[arcs.start]),
        first_eps=first_eps,
        row=np.searchsorted(source[loud], np.arange(states + 1)).astype(np.int64),
        eps_row=eps_row.astype(np.int64),
        token=(arcs.ilabel[both] - 1).astype(np.int32),
        source=source[both].astype(np.int32),
        target=target[both].astype(np.int32),
        weight=weight[both],
        pushed=pushed[both],
        olabel=arcs.olabel[both].astype(np.int32),
        final=final,
        pushed_final=final - potential,
        level=level.astype(np.uint8),
        closure=closure,
        least_cost=min(0.0, float(-pushed[loud].max(initial=0.0))),
        expand=graph.expand,
    )


def _potentials(level: Array, source: Array, target: Array, weight: Array) -> Array:
    """(S,) the best that the epsilons out of each state may add to a score, at least 0; float32."""
    potential = np.zeros(len(level), dtype=np.float32)
    if (weight > 0).any():
        for step in range(1, int(level.max()) + 1):
            here = level[source] == step
            np.maximum.at(potential, source[here], weight[here] + potential[target[here]])
    return potential


def _closure(
    level: Array,
    first_eps: int,
    eps_row: Array,
    source: Array,
    target: Array,
    weight: Array,
    num_emitting: int,
) -> Closure:
    """The chains of the epsilons given (by source; the first one is arc ``num_emitting``).

    Raises `GraphError` where there are too many to keep.
    """
    states = len(level)
    begin, size = np.zeros(states, dtype=np.int64), np.zeros(states, dtype=np.int64)
    held: list[tuple[Array, Array, Array, Array]] = []
    total = 0
    # A chain is an epsilon alone, or one before a chain of a state of a lower level.
    for step in range(1, int(level.max(initial=0)) + 1):
        first = np.flatnonzero(level[source] == step)
        chains = [(source[first], target[first], weight[first], first + num_emitting)]
        if held:
            so_far = [np.concatenate(column) for column in zip(*held)]
            held = [(so_far[0], so_far[1], so_far[2], so_far[3])]
            place, owner = ranges(begin[target[first]], begin[target[first]] + size[target[first]])
            by = first[owner]
            chains.append(
                (source[by], so_far[1][place], weight[by] + so_far[2][place], so_far[3][place])
            )
        at, to, score, arc = (np.concatenate(column) for column in zip(*chains))
        order = np.lexsort((arc, -score, to, at))
        at, to, score, arc = at[order], to[order], score[order], arc[order]
        best = np.ones(len(at), dtype=bool)
        best[1:] = (np.diff(at) != 0) | (np.diff(to) != 0)
        at, to, score, arc = at[best], to[best], score[best], arc[best]
        order = np.lexsort((arc, -score, at))
        held.append((at[order], to[order], score[order], arc[order]))
        here = np.unique(at)
        begin[here] = total + np.searchsorted(at, here)
        size[here] = np.searchsorted(at, here, side="right") - np.searchsorted(at, here)
        total += len(at)
        if total > _MOST_CHAINS:
            raise GraphError(f"the graph's input epsilons make more than {_MOST_CHAINS} chains")
    counts = size[first_eps:]
    row = np.concatenate([[0], np.cumsum(counts)])
    if not held:
        empty = np.empty(0, dtype=np.int32)
        return Closure(row, empty, empty.astype(np.float32), empty)
    columns = [np.concatenate(column) for column in zip(*held)]
    place, _ = ranges(begin[first_eps:], begin[first_eps:] + counts)
    return Closure(
        row,
        columns[1][place].astype(np.int32),
        columns[2][place].astype(np.float32),
        columns[3][place].astype(np.int32),
    )


def epsilon_levels(states: int, source: Array, target: Array) -> Array:
    """(S,) the longest chain of epsilons that leaves each state; raises `GraphError` for a cycle."""
    level = np.zeros(states, dtype=np.int64)
    for _ in range(255):
        higher = level.copy()
        np.maximum.at(higher, source, level[target] + 1)
        if (higher == level).all():
            return level
        level = higher
    raise GraphError("the graph's input epsilons make a cycle, or a chain of more than 254")
