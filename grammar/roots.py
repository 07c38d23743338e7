"""The roots of a grammar by their surface letters.

Nine tenths of the arcs of a grammar leave its first state. Most roots of a paradigm class lead to the
same states at the same costs, so an arc is kept as (letters, number of such a list of targets, entries).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple


class Arc(NamedTuple):
    """A surface piece between two states; `entry` is the list line it comes from (an index)."""

    letters: str
    target: int
    weight: float
    entry: int


#: (state, cost) of each arc of a root.
Targets = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Roots:
    """The arcs that leave the first state, grouped by their letters.

    `letters` has each root once; by its number there `kind` says which of `targets` it leads to, and
    the entries of its arcs are ``entries[first[number]:]``, in the order of its targets.
    """

    letters: Sequence[str]
    kind: Sequence[int]
    first: Sequence[int]
    entries: Sequence[int]
    targets: Sequence[Targets]

    @cached_property
    def index(self) -> dict[str, int]:
        """Surface letters to the root's number."""
        return dict(zip(self.letters, range(len(self.letters))))

    @classmethod
    def of(cls, arcs: Iterable[Arc]) -> Roots:
        """Group arcs by letters; arcs of the same letters keep their order."""
        by_letters: dict[str, list[Arc]] = {}
        for arc in arcs:
            by_letters.setdefault(arc.letters, []).append(arc)
        kinds: dict[Targets, int] = {}
        kind: list[int] = []
        first: list[int] = []
        entries: list[int] = []
        for group in by_letters.values():
            targets = tuple((arc.target, arc.weight) for arc in group)
            kind.append(kinds.setdefault(targets, len(kinds)))
            first.append(len(entries))
            entries += [arc.entry for arc in group]
        return cls(list(by_letters), kind, first, entries, list(kinds))

    def arc(self, letters: str, target: int) -> Arc:
        """The arc of these letters to a state."""
        number = self.index[letters]
        for place, (state, weight) in enumerate(self.targets[self.kind[number]]):
            if state == target:
                return Arc(letters, target, weight, int(self.entries[self.first[number] + place]))
        raise KeyError((letters, target))

    def arc_at(self, place: int) -> Arc:
        """The arc whose entry is ``entries[place]``."""
        number = bisect_right(self.first, place) - 1
        state, weight = self.targets[self.kind[number]][place - self.first[number]]
        return Arc(self.letters[number], state, weight, int(self.entries[place]))

    def arcs(self) -> Iterator[Arc]:
        """Every arc, by letters in the order of `letters`."""
        for number, letters in enumerate(self.letters):
            start = self.first[number]
            for place, (state, weight) in enumerate(self.targets[self.kind[number]]):
                yield Arc(letters, state, weight, int(self.entries[start + place]))
