"""The subwords that a grammar's paths are made of, each made when it first comes up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from uyir.grammar.join import MARK
from uyir.grammar.letters import Encoder
from uyir.grammar.morphotactics import UNKNOWN_CATEGORY, Grammar
from uyir.grammar.script import compose
from uyir.grammar.tables import tables_of


class Subword(NamedTuple):
    """One piece of a word: spelling without and with marks, category of its root, gloss.

    `unknown`: a piece that a root which no list has is spelt with. It says nothing of what the root is made of.
    """

    form: str
    marked: str
    category: str
    gloss: str
    unknown: bool = False


class Subwords(dict[int, Subword]):
    """Subwords by number.

    Arcs of pieces have the numbers that they have in the tables; then follow arcs of roots, in the order of
    their entries, then the pieces that unknown roots are cut into: four times their number, 2 more if they open
    a word, 1 more if they close one.
    """

    def __init__(self, grammar: Grammar, unknown: Sequence[str]) -> None:
        super().__init__()
        self._grammar = grammar
        self._unknown = unknown
        self._tables = tables_of(grammar)
        self._encoder = Encoder(grammar.language)
        #: The first number of roots, and of pieces of unknown roots.
        self.roots = len(self._tables.arc_source)
        self.unknown = self.roots + len(grammar.roots.entries)
        self._there = np.zeros(self.unknown + 4 * len(unknown), dtype=bool)

    def of(self, numbers: Any) -> tuple[Subword, ...]:
        """The subwords of these numbers, an array."""
        new = np.unique(numbers[~self._there[numbers]])
        if len(new):
            bounds = np.searchsorted(new, [self.roots, self.unknown])
            affixes, roots, unknown = np.split(new, bounds)
            self._add(affixes, *self._affixes(affixes.tolist()), opens=False)
            self._add(roots, *self._roots(roots - self.roots), opens=True)
            for number in unknown.tolist():
                self[number] = self.__missing__(number)
            self._there[new] = True
        return tuple(map(self.__getitem__, numbers.tolist()))

    def __missing__(self, number: int) -> Subword:
        if number < self.unknown:
            if number < self.roots:
                letters, (entry,), (closes,) = self._affixes([number])
            else:
                arc = self._grammar.roots.arc_at(number - self.roots)
                letters, entry, closes = [arc.letters], arc.entry, arc.target == Grammar.END
            labels = self._grammar.labels(entry)
            opens = number >= self.roots
        else:
            piece, marks = divmod(number - self.unknown, 4)
            letters, labels = [self._unknown[piece]], (UNKNOWN_CATEGORY, "")
            opens, closes = bool(marks & 2), bool(marks & 1)
        form = compose(letters[0], self._grammar.language)
        spelt = number >= self.unknown
        made = self[number] = Subword(form, _marked(form, opens, closes), *labels, spelt)
        return made

    def _add(
        self,
        numbers: Any,
        letters: Sequence[str],
        entries: Iterable[int],
        closes: Iterable[bool],
        opens: bool,
    ) -> None:
        labels = self._grammar.labels
        forms = self._encoder.spell(letters)
        for number, form, entry, ends in zip(numbers.tolist(), forms, entries, closes):
            self[number] = Subword(form, _marked(form, opens, ends), *labels(entry))

    def _affixes(self, numbers: Iterable[int]) -> tuple[list[str], list[int], list[bool]]:
        """Letters and entries of affixes, and whether they close a word."""
        sources, places = self._tables.arc_source, self._tables.arc_place
        arcs = [self._grammar.arcs[sources[n]][places[n]] for n in numbers]
        return (
            [arc.letters for arc in arcs],
            [arc.entry for arc in arcs],
            [arc.target == Grammar.END for arc in arcs],
        )

    def _roots(self, numbers: Any) -> tuple[list[str], list[int], list[bool]]:
        """The same of arcs of roots."""
        tables, roots = self._tables, self._grammar.roots
        root = np.searchsorted(tables.root_first, numbers, side="right") - 1
        place = numbers - tables.root_first[root]
        target = tables.kind_state[tables.kind_first[tables.root_kind[root]] + place]
        return (
            [roots.letters[number] for number in root.tolist()],
            np.asarray(roots.entries)[numbers].tolist(),
            (target == Grammar.END).tolist(),
        )


def _marked(form: str, opens: bool, closes: bool) -> str:
    return ("" if opens else MARK) + form + ("" if closes else MARK)
