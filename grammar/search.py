"""The search for the cheapest path of a letter string, made fast by remembering.

Words of one language end alike, so the search goes from right to left. Where it stands in a word, its
paths are a list of pieces that are being read backwards, with what each costs to the end of the word.
What the next letter to the left makes of such a list depends only on the list and on the differences
of its costs, so it is worked out once and kept: the search builds a deterministic automaton as it
goes (Mohri's weighted determinisation, on demand), and an ending that came before costs a look-up.
Roots are no part of it. They are looked up by their letters, and met with the endings that
begin where they end:

    letters[:p] ──listed root, or unknown root──► states ◄──kept transitions── letters[p:]

Of several paths of the same cost the one with the longest last piece is chosen, then the longest last
but one, and so on; then the one whose pieces stand first in the lists. ``uyir.grammar.batch`` finds the same
paths for many words at once.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

from uyir.grammar.morphotactics import (
    UNKNOWN_LETTER_COST,
    UNKNOWN_ROOT_COST,
    UNKNOWN_WORD_COST,
    Grammar,
)
from uyir.grammar.roots import Arc
from uyir.grammar.tables import tables_of, units

#: When so many transitions or endings are kept all are forgotten, so that memory stays bounded.
MOST_KEPT = 300_000

# The cheapest ending from a state: its cost, its rank among those of the same cost, its first piece.
_Ending = tuple[int, int, int]


class _Paths:
    """Pieces under way: (node, cost, rank), and what letters have made of them so far."""

    __slots__ = ("live", "next")

    def __init__(self, live: tuple[tuple[int, int, int], ...]) -> None:
        self.live = live
        self.next: dict[str, _Transition] = {}


class _Transition:
    """What a letter makes of some paths: the paths that go on, and the endings that begin here.

    `cost` is what must be added to the costs of both.
    """

    __slots__ = ("cost", "endings", "paths")

    def __init__(self, paths: Optional[_Paths], cost: int, endings: dict[int, _Ending]) -> None:
        self.paths = paths
        self.cost = cost
        self.endings = endings


class _Meeting:
    """A kind of root with the cheapest ending of some letters that goes on from it.

    `cost` to the end of the word, `place` of the root's arc among those of its kind, `state` where they meet;
    `arcs` of the ending once they have been asked for.
    """

    __slots__ = ("arcs", "cost", "place", "state")

    def __init__(self, cost: int, place: int, state: int) -> None:
        self.cost = cost
        self.place = place
        self.state = state
        self.arcs: Optional[tuple[int, ...]] = None


class _Rest:
    """The endings that some last letters of words make, and what roots have met of them, by kind.

    `cost` must be added to those of the endings.
    """

    __slots__ = ("cost", "endings", "met")

    def __init__(self, endings: dict[int, _Ending], cost: int) -> None:
        self.endings = endings
        self.cost = cost
        self.met: dict[int, Optional[_Meeting]] = {}


class Path(NamedTuple):
    """The cheapest path of a letter string, and what it costs in ``tables.UNITS``.

    `size`: how many letters the root has; `root`: the number of the arc of a listed root, -1 for an unknown
    one; `state`: where it leads; `arcs`: the pieces after it. `Search.steps` spells them out.
    """

    cost: int
    size: int
    root: int
    state: int
    arcs: tuple[int, ...]


class Step(NamedTuple):
    """A piece of a path; `arc` is None for an unknown root, `target` the state it leads to."""

    letters: str
    arc: Optional[Arc]
    target: int


class Search:
    """Finds the cheapest path of letter strings through one grammar."""

    def __init__(self, grammar: Grammar) -> None:
        self._grammar = grammar
        tables = tables_of(grammar)
        self._width = tables.letters.width
        self._codes = {letter: code for code, letter in enumerate(tables.letters.letters, start=1)}
        # Single numbers are read faster from memory than from arrays.
        self._child = memoryview(tables.child)
        self._inner = memoryview(tables.inner)
        self._begin = memoryview(tables.begin)
        self._arc_first = memoryview(tables.arc_first)
        self._arc_source = memoryview(tables.arc_source)
        self._arc_place = memoryview(tables.arc_place)
        self._arc_cost = memoryview(tables.arc_cost)
        self._arc_target = memoryview(tables.arc_target)
        self._arc_size = memoryview(tables.arc_size)
        self._index = grammar.roots.index
        self._kind = memoryview(tables.root_kind)
        self._root_first = memoryview(tables.root_first)
        #: What each kind of root leads to; unknown roots are numbered on from the listed ones.
        self._kinds = [
            tuple((target, units(weight)) for target, weight in targets)
            for targets in grammar.roots.targets
        ]
        self._alone = [
            min(
                (
                    (cost, place)
                    for place, (target, cost) in enumerate(kind)
                    if target == Grammar.END
                ),
                default=None,
            )
            for kind in self._kinds
        ]
        self._seeds: dict[tuple[tuple[int, float], ...], int] = {}
        self._forget()

    def _forget(self) -> None:
        self._interned: dict[tuple[tuple[int, int, int], ...], _Paths] = {}
        self._last = _Paths(((self._begin[Grammar.END], 0, 0),))
        self._kept = 0
        self._rests: dict[str, _Rest] = {}
        #: The letters last walked through, and what was found.
        self._walked: tuple[str, int, list[tuple[_Transition, int]]] = ("", 0, [])

    def best(self, letters: str) -> Path:
        """The cheapest path of a letter string, from a listed root if there is one.

        Else from an unknown root before a listed ending, or one that is the whole word.
        """
        path = self.closed(letters) or self.open(letters)
        if path is not None and path.root >= 0:
            return path
        alone = UNKNOWN_ROOT_COST + UNKNOWN_LETTER_COST * len(letters)
        cost = min(
            [units(alone + UNKNOWN_WORD_COST)]
            + [
                units(alone + weight)
                for target, weight in self._grammar.open_targets(letters)
                if target == Grammar.END
            ]
        )
        if path is None or cost < path.cost:
            return Path(cost, len(letters), -1, Grammar.END, ())
        return path

    def closed(self, letters: str, affixed: bool = False) -> Optional[Path]:
        """The path from a listed root; None if there is none. `affixed`: a root alone is none."""
        index, kinds, rests = self._index, self._kind, self._rests
        alone = None if affixed or letters not in index else self._alone[kinds[index[letters]]]
        least = None if alone is None else alone[0]
        best: Optional[_Meeting] = None
        best_size = len(letters)
        for size in range(1, len(letters)):
            number = index.get(letters[:size])
            if number is None:
                continue
            rest = rests.get(letters[size:])
            if rest is None:
                rest = self._learn(letters, size)
            if not rest.endings:
                continue
            kind = kinds[number]
            try:
                met = rest.met[kind]
            except KeyError:
                met = rest.met[kind] = self._meet(rest.endings, rest.cost, kind)
            if met is not None and (
                least is None
                or met.cost < least
                or (
                    met.cost == least
                    and best is not None
                    and self._before(letters, (met, size), (best, best_size))
                )
            ):
                least, best, best_size = met.cost, met, size
        if best is not None:
            arcs = self._follow(letters, best_size, best)
            first = self._root_first[index[letters[:best_size]]]
            return Path(best.cost, best_size, first + best.place, best.state, arcs)
        if alone is None:
            return None
        cost, place = alone
        return Path(cost, best_size, self._root_first[index[letters]] + place, Grammar.END, ())

    def open(self, letters: str) -> Optional[Path]:
        """The path from an unknown root of at least one letter to a listed ending, None if none.

        An unknown root costs `UNKNOWN_ROOT_COST` and `UNKNOWN_LETTER_COST` for each letter, besides what
        `Grammar.open_targets` says. A word that is nothing but an unknown root is no such path.
        """
        base, each = units(UNKNOWN_ROOT_COST), units(UNKNOWN_LETTER_COST)
        best: Optional[_Meeting] = None
        best_size = 0
        walked = self._walk(letters, 1)
        for size in range(len(letters) - len(walked), len(letters)):
            transition, cost = walked[len(letters) - size - 1]
            if not transition.endings:
                continue
            kind = self._seed(letters[:size])
            met = self._meet(transition.endings, base + each * size + cost, kind)
            if met is not None and (
                best is None
                or met.cost < best.cost
                or (met.cost == best.cost and self._before(letters, (met, size), (best, best_size)))
            ):
                best, best_size = met, size
        if best is None:
            return None
        arcs = self._follow(letters, best_size, best)
        return Path(best.cost, best_size, -1, best.state, arcs)

    def steps(self, letters: str, path: Path) -> list[Step]:
        """The pieces of a path of a letter string."""
        root = letters[: path.size]
        arc = None if path.root < 0 else self._grammar.roots.arc(root, path.state)
        found = [Step(root, arc, path.state)]
        for number in path.arcs:
            arc = self._grammar.arcs[self._arc_source[number]][self._arc_place[number]]
            found.append(Step(arc.letters, arc, arc.target))
        return found

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

    def _meet(self, endings: dict[int, _Ending], cost: int, kind: int) -> Optional[_Meeting]:
        best: Optional[tuple[int, int, int, int]] = None
        for place, (target, weight) in enumerate(self._kinds[kind]):
            ending = endings.get(target)
            if ending is not None:
                candidate = (weight + ending[0], ending[1], place, target)
                if best is None or candidate < best:
                    best = candidate
        return None if best is None else _Meeting(best[0] + cost, best[2], best[3])

    def _walk(self, letters: str, size: int) -> list[tuple[_Transition, int]]:
        """Transitions and what must be added to their costs: of the last letter, the last two, and so on,
        as long as pieces live and `size` letters are left, or fewer."""
        known, reached, found = self._walked
        if known == letters and reached <= size:
            return found
        found = []
        paths: Optional[_Paths] = self._last
        cost = 0
        for letter in letters[size:][::-1]:
            if paths is None:
                break
            transition = paths.next.get(letter) or self._work_out(paths, letter)
            cost += transition.cost
            found.append((transition, cost))
            paths = transition.paths
        self._walked = (letters, size, found)
        return found

    def _learn(self, letters: str, size: int) -> _Rest:
        """The endings after `size` letters; those after more are kept too where a root ends."""
        if len(self._rests) >= MOST_KEPT:
            self._forget()
        walked = self._walk(letters, size)
        rests, length = self._rests, len(letters)
        rest = _NOTHING
        for place in range(length - 1, size - 1, -1):
            if letters[:place] in self._index:
                distance = length - place
                rest = _NOTHING
                if distance <= len(walked):
                    transition, cost = walked[distance - 1]
                    rest = _Rest(transition.endings, cost)
                rests[letters[place:]] = rest
        return rest

    def _follow(self, letters: str, size: int, met: _Meeting) -> tuple[int, ...]:
        """The pieces of a meeting after so many letters."""
        if met.arcs is None:
            walked = self._walk(letters, size)
            found: list[int] = []
            state = met.state
            distance = len(letters) - size
            while distance:
                arc = walked[distance - 1][0].endings[state][2]
                found.append(arc)
                distance -= self._arc_size[arc]
                state = self._arc_target[arc]
            met.arcs = tuple(found)
        return met.arcs

    def _before(
        self, letters: str, ours: tuple[_Meeting, int], theirs: tuple[_Meeting, int]
    ) -> bool:
        """Whether the first of two meetings has longer pieces, from the last one on."""
        lengths = [
            [self._arc_size[arc] for arc in reversed(self._follow(letters, size, met))] + [size]
            for met, size in (ours, theirs)
        ]
        return lengths[0] > lengths[1]

    def _work_out(self, paths: _Paths, letter: str) -> _Transition:
        if self._kept >= MOST_KEPT:
            self._forget()
        code = self._codes[letter]
        live: list[tuple[int, int, int]] = []
        found: dict[int, tuple[int, int, int, int]] = {}
        for node, so_far, rank in paths.live:
            below = self._child[node * self._width + code]
            if not below:
                continue
            if self._inner[below]:
                live.append((below, so_far, 2 * rank))
            for arc in range(self._arc_first[below], self._arc_first[below + 1]):
                source = self._arc_source[arc]
                candidate = (so_far + self._arc_cost[arc], rank, self._arc_place[arc], arc)
                known = found.get(source)
                if known is None or candidate < known:
                    found[source] = candidate
        for source, (total, rank, _, _) in found.items():
            begin = self._begin[source]
            if self._inner[begin]:
                live.append((begin, total, 2 * rank + 1))
        least = min([total for _, total, _ in live], default=0)
        endings = {
            source: (total - least, rank, arc) for source, (total, rank, _, arc) in found.items()
        }
        onward: Optional[_Paths] = None
        if live:
            ranks = {rank: place for place, rank in enumerate(sorted({r for _, _, r in live}))}
            key = tuple(sorted([(node, total - least, ranks[rank]) for node, total, rank in live]))
            onward = self._interned.get(key)
            if onward is None:
                onward = self._interned[key] = _Paths(key)
        transition = paths.next[letter] = _Transition(onward, least, endings)
        self._kept += 1
        return transition


#: Where no piece lives.
_NOTHING = _Rest({}, 0)
