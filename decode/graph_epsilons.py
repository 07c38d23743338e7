"""Input epsilons taken out of a transducer; where words meet on one arc they become a string."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from uyir.decode.arcs import EPSILON, MAX_EPSILON_DEPTH, Arcs, Ints, cheapest, ranges
from uyir.errors import GraphError


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
    table = StringTable(strings, num_words)
    arcs = _forward_where_cheaper(_with_own_start(arcs), table)
    eps = arcs.where(arcs.ilabel == EPSILON)
    loud = arcs.where(arcs.ilabel != EPSILON)

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
    built = _of_cheapest(source, target, ilabel, olabel, weight, arcs.start, final)
    return built.connected(), table.strings


def _of_cheapest(
    source: Ints,
    target: Ints,
    ilabel: Ints,
    olabel: Ints,
    weight: npt.NDArray[Any],
    start: int,
    final: npt.NDArray[Any],
) -> Arcs:
    """Arcs, of those equal but for the weight the cheapest."""
    fresh = cheapest(len(final), source, target, olabel, ilabel, weight)
    return Arcs.build(
        source[fresh],
        target[fresh],
        ilabel[fresh],
        olabel[fresh],
        weight[fresh],
        start,
        final,
    )


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


def _forward_where_cheaper(arcs: Arcs, table: StringTable) -> Arcs:
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
        arcs = _of_cheapest(source, target, ilabel, olabel, weight, arcs.start, final)
    raise GraphError(f"more than {MAX_EPSILON_DEPTH} input epsilons follow one another")


class StringTable:
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


def chained(arcs: Arcs, strings: Sequence[tuple[int, ...]], num_words: int) -> Arcs:
    """Arcs with strings as chains: the first word on the arc, each further one on an epsilon."""
    many = np.flatnonzero(arcs.olabel >= num_words) if strings else np.empty(0, int)
    if not len(many):
        return arcs
    target, olabel = arcs.target.copy(), arcs.olabel.copy()
    extra: list[tuple[int, int, int]] = []
    states = arcs.num_states
    for arc in many.tolist():
        words = strings[int(arcs.olabel[arc]) - num_words]
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
