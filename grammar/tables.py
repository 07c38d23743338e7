"""A grammar as arrays of whole numbers, which searches walk through.

Pieces other than roots stand in tries by the state that they lead to, last letter first, as words are
read from right to left; roots stand in one trie, first letter first. Nodes of a trie are numbered level by
level, so that its edges, written as ``node * width + letter``, are in order. Letters are numbered from 1 on;
0 is no letter, and node 0 no node.

Costs are whole numbers of 1e-6, so that a path costs the same in whatever order it is added up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Optional

import numpy as np

from uyir.grammar.letters import Letters, lengths_of, spread
from uyir.grammar.morphotactics import Grammar

#: How many units of cost a natural log unit has.
UNITS = 1_000_000
#: A cost that no path has.
NO_PATH = 1 << 60


def units(cost: float) -> int:
    return round(cost * UNITS)


@dataclass(frozen=True)
class Tables:
    """The arrays of one grammar, of 32 bit numbers.

    begin: [state], the node where the pieces that lead to a state begin, 0 if there are none.
    edges: [edge], of the tries of pieces, in order; they lead to the nodes that begin no trie, in order.
    arc_first: [node + 1]; the arcs of the pieces that begin at a node are
    ``arc_first[node]:arc_first[node + 1]`` of arc_source, arc_place: [arc], the state that it leaves and its
    place among the arcs that do; arc_target, arc_size, arc_cost: where it leads, its letters, its cost.
    root_edges: [edge], of the trie of roots, in order; edge i leads to node ``i + 2``, the trie begins at 1.
    root_at: [node], the number of the root that ends at a node, -1 if none does.
    root_kind: [root], which kind of root it is; root_first: [root], the number of its first arc.
    kind_first: [kind + 1]; kind_state, kind_cost: [arc of a kind], where it leads and what it costs, in
    the order of the lists.
    """

    letters: Letters
    begin: Any
    edges: Any
    arc_first: Any
    arc_source: Any
    arc_place: Any
    arc_target: Any
    arc_size: Any
    arc_cost: Any
    root_edges: Any
    root_at: Any
    root_kind: Any
    root_first: Any
    kind_first: Any
    kind_state: Any
    kind_cost: Any

    @cached_property
    def child(self) -> Any:
        """[node * width + letter]: the node that a letter leads to in the tries of pieces, 0 if none."""
        nodes = len(self.arc_first) - 1
        child = np.zeros(nodes * self.letters.width, dtype=np.int32)
        child[self.edges] = np.arange(nodes - len(self.edges), nodes)
        return child

    @cached_property
    def inner(self) -> Any:
        """[node]: whether pieces go on from a node."""
        inner = np.zeros(len(self.arc_first) - 1, dtype=bool)
        inner[self.edges // self.letters.width] = True
        return inner

    def arrays(self) -> dict[str, Any]:
        """All of it by name, for a file."""
        return {name: getattr(self, name) for name in array_names()}

    @classmethod
    def from_arrays(cls, language: str, arrays: Mapping[str, Any]) -> Tables:
        """From what `arrays` gave."""
        return cls(Letters(language), **arrays)

    @classmethod
    def of(cls, grammar: Grammar) -> Tables:
        letters = Letters(grammar.language)
        states = [(s, arcs) for s, arcs in enumerate(grammar.arcs) if s != Grammar.START]
        arcs = [arc for _, leaving in states for arc in leaving]
        owner, place = spread(np.array([len(leaving) for _, leaving in states], dtype=np.int64))
        source = np.array([state for state, _ in states], dtype=np.int64)[owner]
        target = np.array([arc.target for arc in arcs], dtype=np.int64)
        cost = np.array([units(arc.weight) for arc in arcs], dtype=np.int64)
        begin = np.zeros(len(grammar.states), dtype=np.int64)
        entered = np.unique(target)
        begin[entered] = np.arange(1, len(entered) + 1)
        pieces = [arc.letters[::-1] for arc in arcs]
        edges, ends = trie(letters, pieces, begin[target], len(entered) + 1)
        order = np.lexsort((place, source, ends))
        counts = np.bincount(ends, minlength=len(entered) + 1 + len(edges))
        roots = grammar.roots
        strings = roots.letters
        root_edges, at = trie(letters, strings, np.ones(len(strings), dtype=np.int64), 2)
        root_at = np.full(len(root_edges) + 2, -1, dtype=np.int64)
        root_at[at] = np.arange(len(strings))
        flat = [pair for kind in roots.targets for pair in kind]
        arrays = {
            "begin": begin,
            "edges": edges,
            "arc_first": np.concatenate([[0], np.cumsum(counts)]),
            "arc_source": source[order],
            "arc_place": place[order],
            "arc_target": target[order],
            "arc_size": lengths_of(pieces)[order],
            "arc_cost": cost[order],
            "root_edges": root_edges,
            "root_at": root_at,
            "root_kind": np.asarray(roots.kind),
            "root_first": np.asarray(roots.first),
            "kind_first": np.cumsum([0, *map(len, roots.targets)]),
            "kind_state": np.array([state for state, _ in flat]),
            "kind_cost": np.array([units(weight) for _, weight in flat]),
        }
        return cls(letters, **{name: array.astype(np.int32) for name, array in arrays.items()})


def array_names() -> list[str]:
    """What `Tables` is made of, besides letters."""
    return [field.name for field in fields(Tables) if field.name != "letters"]


def tables_of(grammar: Grammar) -> Tables:
    """The arrays of a grammar, made when they are first asked for."""
    tables: Optional[Tables] = grammar.__dict__.get("_tables")
    if tables is None:
        tables = grammar.__dict__["_tables"] = Tables.of(grammar)
    return tables


def trie(letters: Letters, strings: Sequence[str], begin: Any, first: int) -> tuple[Any, Any]:
    """The edges of a trie of letter strings and the node where each ends.

    begin: [string], the node where it begins. `first`: the number of the first new node.
    """
    codes, sizes = letters.codes(strings).astype(np.int64), lengths_of(strings)
    starts = np.cumsum(sizes) - sizes
    node = begin.copy()
    edges: list[Any] = [np.zeros(0, dtype=np.int64)]
    for depth in range(int(sizes.max(initial=0))):
        going = np.flatnonzero(sizes > depth)
        new, inverse = np.unique(
            node[going] * letters.width + codes[starts[going] + depth], return_inverse=True
        )
        node[going] = first + inverse
        first += len(new)
        edges.append(new)
    return np.concatenate(edges), node
