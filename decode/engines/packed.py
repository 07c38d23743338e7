"""Graphs packed for token passing: emitting arcs and epsilons apart, by source state, a few bytes each.

States are renumbered: those that epsilons leave come last, so that a comparison tells them. Arcs are
numbered 0…A-1 (emitting, by source; a source's blanks first) and A…A+X-1 (epsilons); where two
paths into a state score the same, the one whose last arc has the lower number wins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable

import numpy as np
import numpy.typing as npt

from uyir.errors import GraphError

Array = npt.NDArray[Any]
_BLANK_LABEL = 1  # ilabel = token + 1


@dataclass(frozen=True, eq=False)
class PackedGraph:
    """What `pack` makes of a graph with S states, A emitting arcs and X epsilons.

    ``row`` (S + 1,): emitting arcs of state s are ``row[s]:row[s + 1]``; ``eps_row`` (S - E + 1,): the
    epsilons of state s ≥ E = ``first_eps`` are ``eps_row[s - E]:eps_row[s - E + 1]``, counted from 0 (add A for
    the arc's number). By arc number: ``token`` (-1 for an epsilon), ``target``, ``source``, ``weight``
    (a score: higher is better), ``olabel``. ``final`` (S,) scores, -inf where not final. ``level``
    (S,): the longest chain of epsilons out of a state. ``most_blanks``: the most arcs with a blank
    that leave one state. ``least_cost``: the smallest cost (most negative) of an emitting arc, at most 0.
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
    olabel: Array
    final: Array
    level: Array
    most_blanks: int
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

    @property
    def has_rising_epsilons(self) -> bool:
        """Whether some epsilon raises a score, so that a path may come back into the beam."""
        return bool((self.weight[self.num_emitting :] > 0).any())


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

    source, target = number[arcs.source], number[arcs.target]
    blank_last = arcs.ilabel != _BLANK_LABEL
    loud = np.flatnonzero(~silent)
    loud = loud[np.lexsort((blank_last[loud], source[loud]))]
    quiet = np.flatnonzero(silent)
    quiet = quiet[np.argsort(source[quiet], kind="stable")]
    both = np.concatenate([loud, quiet])
    row = np.searchsorted(source[loud], np.arange(states + 1))
    eps_row = np.searchsorted(source[quiet], np.arange(first_eps, states + 1))
    blanks = np.bincount(source[arcs.ilabel == _BLANK_LABEL], minlength=1)
    return PackedGraph(
        num_tokens=int(graph.num_tokens),
        start=int(number[arcs.start]),
        first_eps=first_eps,
        row=row.astype(np.int64),
        eps_row=eps_row.astype(np.int64),
        token=(arcs.ilabel[both] - 1).astype(np.int32),
        source=source[both].astype(np.int32),
        target=target[both].astype(np.int32),
        weight=(-arcs.weight[both]).astype(np.float32),
        olabel=arcs.olabel[both].astype(np.int32),
        final=(-arcs.final[order]).astype(np.float32),
        level=level[order].astype(np.uint8),
        most_blanks=int(blanks.max(initial=0)),
        least_cost=min(0.0, float(arcs.weight[loud].min(initial=0.0))),
        expand=graph.expand,
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
