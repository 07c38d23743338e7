"""Segmentation: a word into marked subwords, by the grammar where it can, heuristically else.

The segmenter is a Viterbi search over (letter position, grammar state), see
``uyir.grammar.search``. It works in this order:

1. *Closed*: paths of the expanded grammar from a listed root to the end of the word. If there is
   one, the cheapest is the answer.
2. *Open*: an unknown root (any letters that end as ``open.tsv`` asks) followed by listed endings.
   Each unknown letter costs `UNKNOWN_LETTER_COST`, so a longer known ending is preferred.
3. *Unknown*: the whole word is an unknown root.

An unknown root is cut into the pieces of ``chunks.tsv`` so that their costs are least, and where
none fits into single letters. Ties go to the path found first, and paths are tried in list order,
so the same lists always give the same answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Optional

from uyir.errors import ScriptError
from uyir.grammar.join import MARK
from uyir.grammar.morphotactics import (
    UNKNOWN_LETTER_COST,
    Entry,
    Grammar,
    load_grammar,
    marked_form,
    unknown_pieces,
)
from uyir.grammar.roots import Arc
from uyir.grammar.script import compose, decompose, letters_of
from uyir.grammar.search import UNITS, Path, Search, Step, units

#: What an unknown root costs to begin with; only orders open analyses, closed ones come first.
UNKNOWN_ROOT_COST = 20.0
#: What a whole word without a known ending costs more.
UNKNOWN_WORD_COST = 4.0


@dataclass(frozen=True)
class Subword:
    """One piece of a word: spelling without and with marks, category of its root, gloss."""

    form: str
    marked: str
    category: str
    gloss: str


@dataclass(frozen=True)
class Segmentation:
    """A word's subwords; `closed` says whether the grammar without unknown roots accepts it."""

    word: str
    subwords: tuple[Subword, ...]
    closed: bool
    cost: float

    @property
    def marked(self) -> tuple[str, ...]:
        return tuple(subword.marked for subword in self.subwords)

    @property
    def category(self) -> str:
        """Category of the root, `other` for a root that no list has."""
        return self.subwords[0].category


def cheapest_cut(
    letters: str, costs: Mapping[str, float], single: float = float("inf"), longest: int = 0
) -> list[str]:
    """A letter string cut into pieces of least total cost.

    `single` is what a letter costs that has no cost of its own; infinite, it is cut off only where
    nothing else is possible. `longest`: the length of the longest piece, where the caller knows it.
    """
    longest = longest or max(map(len, costs), default=1)
    best: list[tuple[float, int]] = [(0.0, 0)]
    for end in range(1, len(letters) + 1):
        choice = (best[end - 1][0] + single, end - 1)
        for begin in range(max(0, end - longest), end):
            cost = costs.get(letters[begin:end])
            if cost is not None and best[begin][0] + cost < choice[0]:
                choice = (best[begin][0] + cost, begin)
        best.append(choice)
    parts, end = [], len(letters)
    while end:
        begin = best[end][1]
        parts.append(letters[begin:end])
        end = begin
    return parts[::-1]


class Segmenter:
    """Segments words of one language; make it once, it indexes the whole grammar."""

    def __init__(self, grammar: Grammar) -> None:
        self.grammar = grammar
        self.language = grammar.language
        self._search = Search(grammar)
        self._unknown = unknown_pieces(grammar)
        self._longest = max(map(len, self._unknown))
        #: Every subword is made once: by arc and whether it opens the word, or by unknown letters.
        self._known: dict[tuple[Arc, bool], Subword] = {}
        self._unlisted: dict[tuple[str, bool, bool], Subword] = {}

    def segment(self, word: str) -> Segmentation:
        """Cut a word of this language's script; raises `ScriptError` for anything else."""
        letters = letters_of(word, self.language)
        if letters is None:
            decompose(word, self.language)  # says which character is at fault
            raise ScriptError(f"{word!r} is not a well-formed word of {self.language!r}")
        path, closed = self._best(letters)
        subwords: list[Subword] = []
        for letters, arc, target in path.steps:
            if arc is None:
                subwords += self._split(letters, target == Grammar.END)
            else:
                key = (arc, not subwords)
                subword = self._known.get(key)
                if subword is None:
                    subword = self._known[key] = self._subword(*key)
                subwords.append(subword)
        return Segmentation(word, tuple(subwords), closed, path.cost / UNITS)

    def segment_all(self, words: Sequence[str]) -> list[Segmentation]:
        """Segment many words, each distinct one once."""
        found = {word: self.segment(word) for word in dict.fromkeys(words)}
        return [found[word] for word in words]

    def accepts(self, word: str) -> bool:
        """Whether the closed grammar (no unknown root) accepts a well-formed word."""
        return self._search.closed(decompose(word, self.language)) is not None

    def furthest(self, word: str) -> tuple[str, list[str]]:
        """How far the closed grammar gets: the longest accepted beginning and the states there."""
        letters = decompose(word, self.language)
        states = self._search.states(letters)
        reached = max(i for i, there in enumerate(states) if there)
        labels = sorted({self.grammar.states[state].name for state in states[reached]})
        return compose(letters[:reached], self.language), labels

    def path(self, word: str) -> list[tuple[str, Optional[Entry], str]]:
        """The cheapest path of a word: (piece, list entry or None, state it leads to)."""
        path, _ = self._best(decompose(word, self.language))
        entries = self.grammar.entries
        return [
            (
                compose(step.letters, self.language),
                None if step.arc is None else entries[step.arc.entry],
                self.grammar.state_label(step.target),
            )
            for step in path.steps
        ]

    def derivation(self, letters: str) -> Optional[list[str]]:
        """The pieces that make a root from another, shorter root and affixes; None if none do.

        A second root (a compound) is no affix: only paths with one root count.
        """
        path = self._search.closed(letters, affixed=True)
        if path is None:
            return None
        entries = self.grammar.entries
        if any(s.arc is not None and entries[s.arc.entry].kind == "prefix" for s in path.steps[1:]):
            return None
        return [compose(step.letters, self.language) for step in path.steps]

    def pieces(self) -> Iterator[str]:
        """Every marked subword that the segmenter can emit, each once."""
        seen: set[str] = set()
        for source, arcs in enumerate(self.grammar.arcs):
            for arc in arcs:
                opens, closes = source == Grammar.START, arc.target == Grammar.END
                seen.add(marked_form(arc.letters, self.language, opens, closes))
        for letters in self._unknown:
            for opens in (True, False):
                for closes in (True, False):
                    seen.add(marked_form(letters, self.language, opens, closes))
        yield from sorted(seen)

    def split_unknown(self, letters: str) -> list[str]:
        """An unknown root's letter string cut into chunks and single letters, at least cost."""
        return cheapest_cut(letters, self._unknown, longest=self._longest)

    def _best(self, letters: str) -> tuple[Path, bool]:
        """The cheapest path of a letter string, and whether it is one of the closed grammar."""
        path = self._search.closed(letters)
        if path is not None:
            return path, True
        path = self._search.open(letters, UNKNOWN_ROOT_COST, UNKNOWN_LETTER_COST)
        whole = UNKNOWN_ROOT_COST + UNKNOWN_LETTER_COST * len(letters)
        costs = [units(whole + UNKNOWN_WORD_COST)] + [
            units(whole + weight)
            for target, weight in self.grammar.open_targets(letters)
            if target == Grammar.END
        ]
        if path is None or min(costs) < path.cost:
            path = Path(min(costs), [Step(letters, None, Grammar.END)])
        return path, False

    def _split(self, letters: str, closes: bool) -> Iterator[Subword]:
        parts = self.split_unknown(letters)
        last = len(parts) - 1
        for place, part in enumerate(parts):
            key = (part, place == 0, closes and place == last)
            subword = self._unlisted.get(key)
            if subword is None:
                form, marked = (
                    compose(part, self.language),
                    marked_form(key[0], self.language, *key[1:]),
                )
                subword = self._unlisted[key] = Subword(form, marked, "other", "")
            yield subword

    def _subword(self, arc: Arc, opens: bool) -> Subword:
        entry = self.grammar.entries[arc.entry]
        form = compose(arc.letters, self.language)
        marked = ("" if opens else MARK) + form + ("" if arc.target == Grammar.END else MARK)
        return Subword(form, marked, entry.category, entry.gloss)


@lru_cache(maxsize=4)
def load_segmenter(language: str) -> Segmenter:
    """The segmenter of a language that comes with uyir."""
    return Segmenter(load_grammar(language))
