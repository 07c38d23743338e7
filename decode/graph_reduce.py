"""Making a transducer smaller without changing what it says: epsilons contracted, equal states merged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

import numpy as np
import numpy.typing as npt

from uyir.decode.arcs import Arcs, cheapest, ranges
from uyir.decode.graph_parts import COST_UNIT

Ints = npt.NDArray[np.int64]

#: Contracting and merging stop when a round takes out less than this share of what is there.
_WORTHWHILE = 0.001


def contract(arcs: Arcs, rounds: int = 20) -> Arcs:
    """Take out input epsilons wherever no arcs are added, or hardly any; keeps costs and words.

    Two moves, repeated: a state whose only arc is an epsilon is passed over, and an epsilon into a
    state that nothing else enters, or that has at most two arcs, is replaced by that state's arcs. A
    word is moved only onto an arc that has none.
    """
    for _ in range(rounds):
        before = int((arcs.ilabel == 0).sum())
        arcs = _pull_back(_skip_forward(arcs))
        if before - int((arcs.ilabel == 0).sum()) <= _WORTHWHILE * before:
            break
    return _dedupe(arcs).connected()


def _skip_forward(arcs: Arcs) -> Arcs:
    degree = np.diff(arcs.offsets)
    only = (degree == 1) & ~np.isfinite(arcs.final)
    only[arcs.start] = False
    states = np.flatnonzero(only)
    states = states[arcs.ilabel[arcs.offsets[states]] == 0]
    # A word on the epsilon needs all arcs into its state to be free of words.
    busy = np.zeros(arcs.num_states, dtype=bool)
    busy[arcs.target[arcs.olabel != 0]] = True
    word = arcs.olabel[arcs.offsets[states]]
    states = states[(word == 0) | ~busy[states]]
    target = arcs.target[arcs.offsets[states]]
    # One at a time along a chain: skip a state only if what it leads to is not skipped itself.
    skipped = np.zeros(arcs.num_states, dtype=bool)
    skipped[states] = True
    states = states[~skipped[target]]
    if not len(states):
        return arcs
    place = np.full(arcs.num_states, -1, dtype=np.int64)
    place[states] = arcs.offsets[states]
    via = place[arcs.target]
    hit = via >= 0
    new_target, new_word, cost = arcs.target.copy(), arcs.olabel.copy(), arcs.weight.copy()
    new_target[hit] = arcs.target[via[hit]]
    new_word[hit] += arcs.olabel[via[hit]]
    cost[hit] += arcs.weight[via[hit]]
    return _without_orphans(
        Arcs(arcs.source, new_target, arcs.ilabel, new_word, cost, arcs.start, arcs.final)
    )


def _pull_back(arcs: Arcs) -> Arcs:
    degree = np.diff(arcs.offsets)
    entering = np.bincount(arcs.target, minlength=arcs.num_states)
    entering[arcs.start] += 1
    eps = np.flatnonzero(arcs.ilabel == 0)
    to = arcs.target[eps]
    fits = ((entering[to] == 1) | (degree[to] <= 2)) & ~np.isfinite(arcs.final[to])
    speaks = np.zeros(arcs.num_states, dtype=bool)
    speaks[arcs.source[arcs.olabel != 0]] = True
    fits &= (arcs.olabel[eps] == 0) | ~speaks[to]
    # Not through a state that itself loses an epsilon in this round.
    chosen = eps[fits]
    losing = np.zeros(arcs.num_states, dtype=bool)
    losing[arcs.source[chosen]] = True
    chosen = chosen[~losing[arcs.target[chosen]]]
    if not len(chosen):
        return arcs
    keep = np.ones(arcs.num_arcs, dtype=bool)
    keep[chosen] = False
    to = arcs.target[chosen]
    copies, owner = ranges(arcs.offsets[to], arcs.offsets[to + 1])
    origin = chosen[owner]
    return _without_orphans(
        Arcs.build(
            np.concatenate([arcs.source[keep], arcs.source[origin]]),
            np.concatenate([arcs.target[keep], arcs.target[copies]]),
            np.concatenate([arcs.ilabel[keep], arcs.ilabel[copies]]),
            np.concatenate([arcs.olabel[keep], arcs.olabel[copies] + arcs.olabel[origin]]),
            np.concatenate([arcs.weight[keep], arcs.weight[copies] + arcs.weight[origin]]),
            arcs.start,
            arcs.final,
        )
    )


def _without_orphans(arcs: Arcs) -> Arcs:
    """Without the arcs of states that nothing enters any more; the states stay."""
    while True:
        entered = np.zeros(arcs.num_states, dtype=bool)
        entered[arcs.target] = True
        entered[arcs.start] = True
        keep = entered[arcs.source]
        if keep.all():
            return arcs
        arcs = arcs.where(keep)


def _dedupe(arcs: Arcs) -> Arcs:
    """Of arcs that differ in cost only, the cheapest."""
    fresh = cheapest(
        arcs.num_states, arcs.source, arcs.target, arcs.olabel, arcs.ilabel, arcs.weight
    )
    if len(fresh) == arcs.num_arcs:
        return arcs
    keep = np.zeros(arcs.num_arcs, dtype=bool)
    keep[fresh] = True
    return arcs.where(keep)


def merge_equal_states(arcs: Arcs, rounds: int = 100) -> Arcs:
    """Merge states whose arcs out are the same, and states whose arcs in are the same; exact.

    States with equal futures are one state; so are states with equal pasts, since every path in
    may go on either way (bisimulation, forward and backward). Costs in may differ by a constant,
    which moves to the arcs out. The second kind undoes what T guessed too early: several arcs of one
    token out of a state become one.
    """
    for _ in range(rounds):
        before = arcs.num_states
        arcs = _merge_futures(arcs)
        arcs = _merge_pasts(arcs)
        if before - arcs.num_states <= _WORTHWHILE * before:
            break
    return arcs


def _steps(cost: npt.NDArray[Any]) -> Ints:
    return np.rint(cost / COST_UNIT).astype(np.int64)


def _merge_futures(arcs: Arcs) -> Arcs:
    ends = np.where(np.isfinite(arcs.final), arcs.final, -1.0)
    columns = [arcs.target, arcs.ilabel, arcs.olabel, _steps(arcs.weight)]
    chosen = _representatives(arcs.source, columns, _steps(ends), arcs.num_states)
    if chosen is None:
        return arcs
    keep = chosen[arcs.source] == arcs.source
    return _renumbered(
        chosen,
        arcs.source[keep],
        arcs.target[keep],
        arcs.ilabel[keep],
        arcs.olabel[keep],
        arcs.weight[keep],
        arcs.start,
        arcs.final,
    )


def _merge_pasts(arcs: Arcs) -> Arcs:
    least = np.full(arcs.num_states, np.inf, dtype=np.float32)
    np.minimum.at(least, arcs.target, arcs.weight)
    least[arcs.start] = 0.0
    is_start = np.zeros(arcs.num_states, dtype=np.int64)
    is_start[arcs.start] = 1
    columns = [arcs.source, arcs.ilabel, arcs.olabel, _steps(arcs.weight - least[arcs.target])]
    chosen = _representatives(arcs.target, columns, is_start, arcs.num_states)
    if chosen is None:
        return arcs
    base = np.full(arcs.num_states, np.inf, dtype=np.float32)
    np.minimum.at(base, chosen, least)
    # What entering a state cost above the cheapest of its group is paid on leaving it.
    late = least - base[chosen]
    final = np.full(arcs.num_states, np.inf, dtype=np.float32)
    np.minimum.at(final, chosen, arcs.final + late)
    return _renumbered(
        chosen,
        arcs.source,
        arcs.target,
        arcs.ilabel,
        arcs.olabel,
        arcs.weight + late[arcs.source] - late[arcs.target],
        arcs.start,
        final,
    )


def _renumbered(
    chosen: Ints,
    source: Ints,
    target: Ints,
    ilabel: Ints,
    olabel: Ints,
    weight: npt.NDArray[Any],
    start: int,
    final: npt.NDArray[Any],
) -> Arcs:
    """Arcs between chosen states, which get numbers without gaps; equal arcs once."""
    stays = np.zeros(len(chosen), dtype=bool)
    stays[chosen] = True
    number = (np.cumsum(stays) - 1)[chosen]
    return _dedupe(
        Arcs.build(
            number[source],
            number[target],
            ilabel,
            olabel,
            weight,
            int(number[start]),
            final[stays],
        )
    )


def _representatives(of: Ints, columns: Sequence[Ints], extra: Ints, states: int) -> Optional[Ints]:
    """For each state the first one with the same set of arcs; None if all differ.

    ``of`` (A,): the state whose arc it is; ``columns``: what the arc is; ``extra`` (S,): what else has
    to be equal. Sets are compared by two 64-bit hashes.
    """
    rng = np.random.default_rng(5)
    hashes = []
    for _ in range(2):
        odd = rng.integers(1, 1 << 62, size=len(columns) + 1, dtype=np.uint64) * np.uint64(2)
        odd += np.uint64(1)
        mixed = np.zeros(len(of), dtype=np.uint64)
        for column, factor in zip(columns, odd):
            mixed = _scramble(mixed + column.astype(np.uint64) * factor)
        total = _scramble(extra.astype(np.uint64) * odd[-1])
        np.add.at(total, of, mixed)  # a sum, so that the order of arcs does not count
        hashes.append(total)
    ranked = np.lexsort((hashes[1], hashes[0]))
    differs = np.ones(states, dtype=bool)
    differs[1:] = np.any([np.diff(h[ranked]) != 0 for h in hashes], axis=0)
    if differs.all():
        return None
    chosen = np.empty(states, dtype=np.int64)
    chosen[ranked] = ranked[differs][np.cumsum(differs) - 1]
    return chosen


def _scramble(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(31))) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    return x ^ (x >> np.uint64(32))
