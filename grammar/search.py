"""Viterbi search for the cheapest path of a letter string, made fast by remembering.

Words of one language end alike, so the search goes from right to left. Where it stands in a word, its
paths are a list of pieces that are being read backwards, with what each costs to the end of the word.
What the next letter to the left makes of such a list depends only on the list and on the differences
of its costs, so it is worked out once and kept: the search builds a deterministic automaton as it
goes (Mohri's weighted determinisation, on demand), and an ending that came before costs a look-up a
letter. Roots are no part of it. They are looked up by their letters, and met with the endings that
begin where they end:

    letters[:p] ──listed root, or unknown root──► states ◄──kept transitions── letters[p:]

Costs are whole numbers of 1e-6, so that a path costs the same in whatever order it is added up. Of
several paths of the same cost the one with the longest last piece is chosen, then the longest last
but one, and so on; then the one whose pieces stand first in the lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Optional

from uyir.grammar.morphotactics import Grammar
from uyir.grammar.roots import Arc

#: How many units of cost a natural log unit has.
UNITS = 1_000_000
#: When so many transitions are kept all are forgotten, so that memory stays bounded.
MOST_TRANSITIONS = 300_000


def units(cost: float) -> int:
    return round(cost * UNITS)


class _Node:
    """A node of the trie over the pieces that lead to one state, last letter first."""

    __slots__ = ("arcs", "children", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.children: dict[str, _Node] = {}
        #: Pieces that begin here: (state they leave, cost, place among its arcs, arc).
        self.arcs: list[tuple[int, int, int, Arc]] = []


# The cheapest ending from a state: its cost, its rank among those of the same cost, its first piece.
_Ending = tuple[int, int, Optional[Arc]]


class _Paths:
    """Pieces under way: (node, cost, rank), and what letters have made of them so far."""

    __slots__ = ("live", "next")

    def __init__(self, live: tuple[tuple[_Node, int, int], ...]) -> None:
        self.live = live
        self.next: dict[str, _Transition] = {}


class _Transition:
    """What a letter makes of some paths: the paths that go on, and the endings that begin here.

    `cost` is what must be added to the costs of both. `meets` keeps, by kind of root, the best state
    at which such a root meets these endings: (cost, state), None if it meets none.
    """

    __slots__ = ("cost", "endings", "meets", "paths")

    def __init__(self, paths: Optional[_Paths], cost: int, endings: dict[int, _Ending]) -> None:
        self.paths = paths
        self.cost = cost
        self.endings = endings
        self.meets: dict[int, Optional[tuple[int, int]]] = {}


class Step(NamedTuple):
    """A piece of a path; `arc` is None for an unknown root, `target` the state it leads to."""

    letters: str
    arc: Optional[Arc]
    target: int


class Path(NamedTuple):
    """The cheapest path of a letter string, and what it costs in `UNITS`."""

    cost: int
    steps: list[Step]


class Endings:
    """The endings of one letter string: where affixes can begin that lead to the end of the word."""

    __slots__ = ("costs", "transitions")

    def __init__(self) -> None:
        #: By distance from the end of the word, 1 for the last letter; as far as anything can be.
        self.transitions: list[_Transition] = []
        self.costs: list[int] = []


class Search:
    """Finds the cheapest path of letter strings through one grammar."""

    def __init__(self, grammar: Grammar) -> None:
        self._grammar = grammar
        self._roots = grammar.roots
        self._kinds = [
            tuple((target, units(weight)) for target, weight in targets)
            for targets in self._roots.targets
        ]
        self._alone = [
            min((cost for target, cost in kind if target == Grammar.END), default=None)
            for kind in self._kinds
        ]
        #: What unknown roots lead to, numbered on from the kinds of listed roots.
        self._seeds: dict[tuple[tuple[int, float], ...], int] = {}
        self._longest = max(map(len, self._roots.index), default=0)
        self._incoming: Optional[list[list[tuple[int, int, Arc]]]] = None
        self._tries: list[Optional[_Node]] = [None] * len(grammar.states)
        self._nodes = 0
        self._forget()
        for state in range(len(grammar.states)):
            self._trie(state)
        self._incoming = None

    def _forget(self) -> None:
        self._interned: dict[tuple[tuple[int, int, int], ...], _Paths] = {}
        self._last = _Paths(((self._trie(Grammar.END), 0, 0),))
        self._kept = 0

    def endings(self, letters: str, since: int = 1) -> Endings:
        """The endings of a letter string that begin after `since` letters or later."""
        found = Endings()
        transitions, costs = found.transitions, found.costs
        paths: Optional[_Paths] = self._last
        cost = 0
        for letter in letters[since:][::-1]:
            if paths is None:
                break
            transition = paths.next.get(letter) or self._work_out(paths, letter)
            cost += transition.cost
            transitions.append(transition)
            costs.append(cost)
            paths = transition.paths
        return found

    def closed(self, letters: str, affixed: bool = False) -> Optional[Path]:
        """The path from a listed root; None if there is none. `affixed`: a root alone is none."""
        index, kinds = self._roots.index, self._roots.kind
        shortest = next((i for i in range(1, len(letters) + 1) if letters[:i] in index), 0)
        if not shortest:
            return None
        endings = self.endings(letters, shortest)
        alone = index.get(letters)
        best = None if affixed or alone is None else self._alone[kinds[alone]]
        length, at = len(letters), 0
        state = Grammar.END
        transitions, costs = endings.transitions, endings.costs
        nearest = max(1, length - self._longest)
        for distance in range(len(transitions), nearest - 1, -1):
            transition = transitions[distance - 1]
            if not transition.endings:
                continue
            root = index.get(letters[:-distance])
            if root is None:
                continue
            kind = kinds[root]
            met = transition.meets.get(kind, _UNMET)
            if met is _UNMET:
                met = self._meet(transition, kind, self._kinds[kind])
            if met is None:
                continue
            cost = costs[distance - 1] + met[0]
            if (
                best is None
                or cost < best
                or (
                    cost == best
                    and at
                    and self._before(letters, endings, (distance, met[1]), (at, state))
                )
            ):
                best, at, state = cost, distance, met[1]
        if best is None:
            return None
        root_letters = letters[: length - at]
        first = Step(root_letters, self._roots.arc(root_letters, state), state)
        return Path(best, [first, *self._follow(endings, at, state)])

    def open(self, letters: str, root_cost: float, letter_cost: float) -> Optional[Path]:
        """The path from an unknown root of at least one letter to a listed ending, None if none.

        An unknown root costs `root_cost` and `letter_cost` for each letter, besides what
        `Grammar.open_targets` says. A word that is nothing but an unknown root is no such path.
        """
        base, each = units(root_cost), units(letter_cost)
        endings = self.endings(letters)
        best: Optional[int] = None
        length, at, state = len(letters), 0, Grammar.END
        for distance in range(len(endings.transitions), 0, -1):
            transition = endings.transitions[distance - 1]
            if not transition.endings:
                continue
            kind = self._seed(letters[:-distance])
            met = transition.meets.get(kind, _UNMET)
            if met is _UNMET:
                met = self._meet(transition, kind, self._kinds[kind])
            if met is None:
                continue
            cost = base + each * (length - distance) + endings.costs[distance - 1] + met[0]
            if (
                best is None
                or cost < best
                or (
                    cost == best and self._before(letters, endings, (distance, met[1]), (at, state))
                )
            ):
                best, at, state = cost, distance, met[1]
        if best is None:
            return None
        first = Step(letters[: length - at], None, state)
        return Path(best, [first, *self._follow(endings, at, state)])

    def states(self, letters: str) -> list[list[int]]:
        """The states that listed roots and affixes reach, by position from 0 to the last letter."""
        reached: list[dict[int, None]] = [{} for _ in range(len(letters) + 1)]
        reached[0][Grammar.START] = None
        for position, here in enumerate(reached):
            for state in here:
                for arc in self._grammar.arcs[state]:
                    if arc.target != Grammar.END and letters.startswith(arc.letters, position):
                        reached[position + len(arc.letters)][arc.target] = None
        return [list(here) for here in reached]

    def _seed(self, root: str) -> int:
        """The kind of an unknown root with these letters."""
        targets = self._grammar.open_targets(root)
        kind = self._seeds.get(targets)
        if kind is None:
            kind = self._seeds[targets] = len(self._kinds)
            self._kinds.append(tuple((target, units(weight)) for target, weight in targets))
        return kind

    def _meet(
        self, transition: _Transition, kind: int, targets: Sequence[tuple[int, int]]
    ) -> Optional[tuple[int, int]]:
        best: Optional[tuple[int, int, int]] = None
        for target, weight in targets:
            ending = transition.endings.get(target)
            if ending is not None:
                candidate = (weight + ending[0], ending[1], target)
                if best is None or candidate[:2] < best[:2]:
                    best = candidate
        found = transition.meets[kind] = None if best is None else (best[0], best[2])
        return found

    def _follow(self, endings: Endings, distance: int, state: int) -> list[Step]:
        """The pieces from a state, so many letters before the end, to the end."""
        found: list[Step] = []
        while distance:
            arc = endings.transitions[distance - 1].endings[state][2]
            assert arc is not None
            found.append(Step(arc.letters, arc, arc.target))
            distance -= len(arc.letters)
            state = arc.target
        return found

    def _before(
        self, letters: str, endings: Endings, ours: tuple[int, int], theirs: tuple[int, int]
    ) -> bool:
        """Whether the first of two endings has longer pieces, from the last one on."""
        lengths = [
            [len(step.letters) for step in reversed(self._follow(endings, *ending))]
            + [len(letters) - ending[0]]
            for ending in (ours, theirs)
        ]
        return lengths[0] > lengths[1]

    def _trie(self, state: int) -> _Node:
        """The pieces other than roots that lead to a state, last letter first."""
        root = self._tries[state]
        if root is None:
            if self._incoming is None:
                self._incoming = [[] for _ in self._grammar.states]
                for source, arcs in enumerate(self._grammar.arcs):
                    if source != Grammar.START:
                        for place, arc in enumerate(arcs):
                            self._incoming[arc.target].append((source, place, arc))
            root = self._tries[state] = self._node()
            for source, place, arc in self._incoming[state]:
                node = root
                for letter in reversed(arc.letters):
                    below = node.children.get(letter)
                    if below is None:
                        below = node.children[letter] = self._node()
                    node = below
                node.arcs.append((source, units(arc.weight), place, arc))
        return root

    def _node(self) -> _Node:
        self._nodes += 1
        return _Node(self._nodes)

    def _work_out(self, paths: _Paths, letter: str) -> _Transition:
        if self._kept >= MOST_TRANSITIONS:
            self._forget()
        live: list[tuple[_Node, int, int]] = []
        found: dict[int, tuple[int, int, int, Arc]] = {}
        for node, so_far, rank in paths.live:
            below = node.children.get(letter)
            if below is None:
                continue
            if below.children:
                live.append((below, so_far, 2 * rank))
            for source, weight, place, arc in below.arcs:
                total = so_far + weight
                known = found.get(source)
                if known is None or (total, rank, place) < known[:3]:
                    found[source] = (total, rank, place, arc)
        for source, (total, rank, _, _) in found.items():
            trie = self._trie(source)
            if trie.children:
                live.append((trie, total, 2 * rank + 1))
        least = min((entry[1] for entry in live), default=0)
        endings: dict[int, _Ending] = {
            source: (total - least, rank, arc) for source, (total, rank, _, arc) in found.items()
        }
        onward: Optional[_Paths] = None
        if live:
            ranks = {rank: place for place, rank in enumerate(sorted({r for _, _, r in live}))}
            ordered = sorted((node.number, total - least, ranks[rank], node) for node, total, rank in live)  # fmt: skip
            key = tuple((number, total, rank) for number, total, rank, _ in ordered)
            known_paths = self._interned.get(key)
            if known_paths is None:
                known_paths = self._interned[key] = _Paths(
                    tuple((node, total, rank) for _, total, rank, node in ordered)
                )
            onward = known_paths
        transition = paths.next[letter] = _Transition(onward, least, endings)
        self._kept += 1
        return transition


_UNMET: tuple[int, int] = (-1, -1)
