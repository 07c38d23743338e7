"""Segmentation: a word into marked subwords, by the grammar where it can, heuristically else.

The segmenter is a Viterbi search over (letter position, grammar state), see
``uyir.grammar.search``. It works in this order:

1. *Closed*: paths of the expanded grammar from a listed root to the end of the word. If there is
   one, the cheapest is the answer.
2. *Open*: an unknown root (any letters that end as ``open.tsv`` asks) followed by listed endings.
   Each unknown letter costs `UNKNOWN_LETTER_COST`, so a longer known ending is preferred.
3. *Unknown*: the whole word is an unknown root.

An unknown root is cut into the pieces of ``chunks.tsv`` so that their costs are least, and where
none fits into single letters: these are what language models and graphs know. `Segmenter.morphemes`
has the root in one. Ties go to the path found first, and paths are tried in list order,
so the same lists always give the same answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, lru_cache, partial
from itertools import islice
from typing import NamedTuple, Optional

import numpy as np

from uyir.errors import ScriptError
from uyir.grammar.batch import BatchSearch
from uyir.grammar.cut import cheapest_cut
from uyir.grammar.join import MARK, closes, join
from uyir.grammar.morphotactics import (
    UNKNOWN_CATEGORY,
    Entry,
    Grammar,
    load_grammar,
    marked_form,
    unknown_pieces,
)
from uyir.grammar.pieces import Subword, Subwords
from uyir.grammar.script import compose, decompose, letters_of
from uyir.grammar.search import Search
from uyir.grammar.tables import UNITS

__all__ = ["Segmentation", "Segmenter", "Subword", "load_segmenter"]

#: So many words at least are searched in step; for fewer it is faster word by word.
FEW = 48
#: So many words at most are searched in step: memory stays bounded, and little is gained by more.
AT_ONCE = 20_000


class Segmentation(NamedTuple):
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
        """Category of the root; of one that no list has, what its endings make it, or a noun."""
        if self.closed:
            return self.subwords[0].category
        endings = (x.category for x in self.subwords if x.gloss and x.category != "other")
        return next(endings, self.subwords[0].category)


class Segmenter:
    """Segments words of one language; make it once, it indexes the whole grammar."""

    def __init__(self, grammar: Grammar) -> None:
        self.grammar = grammar
        self.language = grammar.language
        self._costs = unknown_pieces(grammar)
        self._longest = max(map(len, self._costs))
        self._numbers = {piece: number for number, piece in enumerate(self._costs)}
        self._subwords = Subwords(grammar, list(self._costs))

    @cached_property
    def _search(self) -> Search:
        return Search(self.grammar)

    @cached_property
    def _batch(self) -> BatchSearch:
        return BatchSearch(self.grammar)

    def segment(self, word: str) -> Segmentation:
        """Cut a word of this language's script; raises `ScriptError` for anything else."""
        letters = letters_of(word, self.language)
        if letters is None:
            decompose(word, self.language)  # says which character is at fault
            raise ScriptError(f"{word!r} is not a well-formed word of {self.language!r}")
        path = self._search.best(letters)
        subwords = self._subwords
        if path.root >= 0:
            numbers = (subwords.roots + path.root, *path.arcs)
            made = tuple([subwords[number] for number in numbers])
        else:
            unknown = self._unknown(letters[: path.size], not path.arcs)
            made = (*unknown, *[subwords[number] for number in path.arcs])
        return Segmentation(word, made, path.root >= 0, path.cost / UNITS)

    def morphemes(self, result: Segmentation) -> tuple[Subword, ...]:
        """The subwords of a segmentation, but a root that no list has in one, however it is spelt."""
        spelt = [subword for subword in result.subwords if subword.unknown]
        if len(spelt) < 2:
            return result.subwords
        form = join([subword.form for subword in spelt], self.language)
        marked = form if closes(spelt[-1].marked) else form + MARK
        return (spelt[0]._replace(form=form, marked=marked), *result.subwords[len(spelt) :])

    def segment_all(self, words: Iterable[str]) -> list[Segmentation]:
        """Segment many words, each distinct one once: much faster than one by one.

        Raises `ScriptError`, as `segment` does, for the first that is not a word of this language's script.
        """
        words = list(words)
        known = self.segment_known(words)
        return [known[word] or self.segment(word) for word in words]

    def segment_each(self, words: Iterable[str]) -> Iterator[Segmentation]:
        """`segment_all` for any number of words: they come `AT_ONCE` at a time, in their order."""
        waiting = iter(words)
        while some := list(islice(waiting, AT_ONCE)):
            yield from self.segment_all(some)

    def segment_known(self, words: Iterable[str]) -> dict[str, Optional[Segmentation]]:
        """Each distinct word with its segmentation, None for what is not a word of this language's script."""
        found: dict[str, Optional[Segmentation]] = dict.fromkeys(words)
        distinct = list(found)
        for begin in range(0, len(distinct), AT_ONCE):
            some = distinct[begin : begin + AT_ONCE]
            if len(some) >= FEW:
                found.update(zip(some, self._in_step(some)))
            else:
                found.update(zip(some, map(self._if_word, some)))
        return found

    def _if_word(self, word: str) -> Optional[Segmentation]:
        return None if letters_of(word, self.language) is None else self.segment(word)

    def _in_step(self, words: Sequence[str]) -> list[Optional[Segmentation]]:
        batch = self._batch.search(words)
        subwords = self._subwords.of(batch.pieces)
        ends = batch.ends.tolist()
        cut = map(subwords.__getitem__, map(slice, [0, *ends], ends))
        # The constructor itself would take as long as all the rest here.
        make = partial(tuple.__new__, Segmentation)
        found: list[Optional[Segmentation]] = list(
            map(make, zip(words, cut, batch.closed.tolist(), batch.costs.tolist()))
        )
        for number in np.flatnonzero(np.diff(batch.ends, prepend=0) == 0).tolist():
            found[number] = self._if_word(words[number])
        return found

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
        letters = decompose(word, self.language)
        entries = self.grammar.entries
        return [
            (
                compose(step.letters, self.language),
                None if step.arc is None else entries[step.arc.entry],
                self.grammar.state_label(step.target),
            )
            for step in self._search.steps(letters, self._search.best(letters))
        ]

    def derivation(self, letters: str) -> Optional[list[str]]:
        """The pieces that make a root from another, shorter root and affixes; None if none do.

        A second root (a compound) is no affix: only paths with one root count.
        """
        path = self._search.closed(letters, affixed=True)
        if path is None:
            return None
        entries = self.grammar.entries
        steps = self._search.steps(letters, path)
        if any(s.arc is not None and entries[s.arc.entry].kind == "prefix" for s in steps[1:]):
            return None
        return [compose(step.letters, self.language) for step in steps]

    def pieces(self) -> Iterator[str]:
        """Every marked subword that the segmenter can emit, each once."""
        seen: set[str] = set()
        for source, arcs in enumerate(self.grammar.arcs):
            for arc in arcs:
                opens, closes = source == Grammar.START, arc.target == Grammar.END
                seen.add(marked_form(arc.letters, self.language, opens, closes))
        for letters in self._costs:
            for opens in (True, False):
                for closes in (True, False):
                    seen.add(marked_form(letters, self.language, opens, closes))
        yield from sorted(seen)

    def split_unknown(self, letters: str) -> list[str]:
        """An unknown root's letter string cut into chunks and single letters, at least cost."""
        return cheapest_cut(letters, self._costs, longest=self._longest)

    def _unknown(self, letters: str, closes: bool) -> Iterator[Subword]:
        parts = self.split_unknown(letters)
        if any(part not in self._numbers for part in parts):
            # Well formed, but of no pieces that could stand by themselves (a doubled nukta): left whole.
            marked = marked_form(letters, self.language, True, closes)
            form = compose(letters, self.language)
            yield Subword(form, marked, UNKNOWN_CATEGORY, "", unknown=True)
            return
        last = len(parts) - 1
        for place, part in enumerate(parts):
            marks = 2 * (place == 0) + (closes and place == last)
            yield self._subwords[self._subwords.unknown + 4 * self._numbers[part] + marks]


@lru_cache(maxsize=4)
def load_segmenter(language: str) -> Segmenter:
    """The segmenter of a language that comes with uyir."""
    return Segmenter(load_grammar(language))
