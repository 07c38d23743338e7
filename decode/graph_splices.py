"""Splices: the places where new roots can enter a graph that is already built."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from uyir.decode.arcs import BLANK_TOKEN, Arcs
from uyir.errors import GraphError


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


def with_roots(
    old: Arcs, splices: Sequence[Splice], roots: Iterable[Root], num_words: int
) -> tuple[Arcs, int]:
    """Arcs of LG with roots wherever their key and context have a splice, and the new number of words.

    Raises `GraphError` for a key or context that has no splice, and for a root without tokens.
    """
    places: dict[tuple[str, int], list[Splice]] = {}
    for splice in splices:
        places.setdefault((splice.key, splice.context), []).append(splice)
    new: list[tuple[int, int, int, int, float]] = []
    states = old.num_states
    top = num_words
    for root in roots:
        where = places.get((root.key, root.context))
        if not where:
            known = ", ".join(sorted({s.key for s in splices})) or "none"
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
        return old, top
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
    return arcs, top


def depth_first(arcs: Arcs, splices: Sequence[Splice]) -> tuple[Arcs, tuple[Splice, ...]]:
    """`Arcs.depth_first`, and the splices with their states' new numbers."""
    # No map of the numbers is kept, so the places are carried along as marked arcs.
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
    return marked.where(~is_mark), tuple(moved)
