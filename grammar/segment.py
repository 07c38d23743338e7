"""Segmentation: a word into marked subwords, by the grammar where it can, heuristically else.

The segmenter is a Viterbi search over (letter position, grammar state). It works in this order:

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

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Optional

from uyir.grammar.join import mark
from uyir.grammar.morphotactics import (
    SINGLE_LETTER_COST,
    UNKNOWN_LETTER_COST,
    Entry,
    Grammar,
    load_grammar,
    marked_form,
    unknown_pieces,
)
from uyir.grammar.script import HIATUS, compose, decompose, is_wellformed, load_script

from uyir.errors import ScriptError

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


# A step of the search: (cost, position before, state before, entry number or -1 for unknown root).
_Step = tuple[float, int, int, int]
_Node = dict[Any, Any]


class Segmenter:
    """Segments words of one language; make it once, it indexes the whole grammar."""

    def __init__(self, grammar: Grammar) -> None:
        self.grammar = grammar
        self.language = grammar.language
        self._tries: list[Optional[_Node]] = [None] * len(grammar.states)
        self._unknown = unknown_pieces(grammar)
        self._longest_unknown = max(map(len, self._unknown))
        self._nukta = load_script(self.language).nukta

    def segment(self, word: str) -> Segmentation:
        """Cut a word of this language's script; raises `ScriptError` for anything else."""
        if not is_wellformed(word, self.language):
            decompose(word, self.language)  # says which character is at fault
            raise ScriptError(f"{word!r} is not a well-formed word of {self.language!r}")
        letters = decompose(word, self.language)
        steps = self._search(letters, unknown=False)
        closed = Grammar.END in steps[-1]
        if not closed:
            steps = self._search(letters, unknown=True)
        pieces: list[tuple[str, Optional[Entry]]] = []
        for piece, entry in self._trace(letters, steps):
            if entry is None:
                pieces += [(part, None) for part in self.split_unknown(piece)]
            else:
                pieces.append((piece, entry))
        return self._result(word, pieces, closed, steps[-1][Grammar.END][0])

    def accepts(self, word: str) -> bool:
        """Whether the closed grammar (no unknown root) accepts a well-formed word."""
        letters = decompose(word, self.language)
        return Grammar.END in self._search(letters, unknown=False)[-1]

    def furthest(self, word: str) -> tuple[str, list[str]]:
        """How far the closed grammar gets: the longest accepted beginning and the states there."""
        letters = decompose(word, self.language)
        steps = self._search(letters, unknown=False)
        reached = max(i for i, states in enumerate(steps) if states)
        labels = sorted({self.grammar.states[state].name for state in steps[reached]})
        return compose(letters[:reached], self.language), labels

    def path(self, word: str) -> list[tuple[str, Optional[Entry], str]]:
        """The cheapest path of a word: (piece, list entry or None, state it leads to)."""
        letters = decompose(word, self.language)
        steps = self._search(letters, unknown=False)
        if Grammar.END not in steps[-1]:
            steps = self._search(letters, unknown=True)
        found, position, state = [], len(letters), Grammar.END
        while position:
            _, before, source, entry = steps[position][state]
            piece = compose(letters[before:position], self.language)
            label = self.grammar.state_label(state)
            found.append((piece, self.grammar.entries[entry] if entry >= 0 else None, label))
            position, state = before, source
        return found[::-1]

    def derivation(self, letters: str) -> Optional[list[str]]:
        """The pieces that make a root from another, shorter root and affixes; None if none do.

        A second root (a compound) is no affix: only paths with one root count.
        """
        steps = self._search(letters, unknown=False, longest_root=len(letters) - 1)
        if Grammar.END not in steps[-1]:
            return None
        path = self._trace(letters, steps)
        if any(entry is not None and entry.kind == "prefix" for _, entry in path[1:]):
            return None
        return [compose(piece, self.language) for piece, _ in path]

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
        best: list[tuple[float, int]] = [(0.0, 0)]
        unknown, longest = self._unknown, self._longest_unknown
        for end in range(1, len(letters) + 1):
            choice = (float("inf"), end - 1)
            for begin in range(max(0, end - longest), end):
                cost = unknown.get(letters[begin:end])
                if cost is not None and best[begin][0] + cost < choice[0]:
                    choice = (best[begin][0] + cost, begin)
            best.append(choice)
        parts, end = [], len(letters)
        while end:
            begin = best[end][1]
            parts.append(letters[begin:end])
            end = begin
        return parts[::-1]

    def _trie(self, state: int) -> _Node:
        """The pieces that leave a state, by letter; key "" holds (target, cost, entry)."""
        root = self._tries[state]
        if root is None:
            root = self._tries[state] = {}
            for arc in self.grammar.arcs[state]:
                node = root
                for letter in arc.letters:
                    node = node.setdefault(letter, {})
                node.setdefault("", []).append((arc.target, arc.weight, arc.entry))
        return root

    def _search(
        self, letters: str, unknown: bool, longest_root: Optional[int] = None
    ) -> list[dict[int, _Step]]:
        """Cheapest way to each (position, state); `unknown` starts from unknown roots as well."""
        length = len(letters)
        steps: list[dict[int, _Step]] = [{} for _ in range(length + 1)]
        if unknown:
            self._seed_unknown(letters, steps)
        steps[0][Grammar.START] = (0.0, 0, Grammar.START, -1)
        end_state = Grammar.END
        for position in range(length):
            for state, (cost, _, _, _) in steps[position].items():
                node = self._tries[state]
                if node is None:
                    node = self._trie(state)
                limit = length if position or longest_root is None else longest_root
                for end in range(position, limit):
                    node = node.get(letters[end])
                    if node is None:
                        break
                    arcs = node.get("")
                    if arcs is None:
                        continue
                    reached = steps[end + 1]
                    for target, weight, entry in arcs:
                        if (target == end_state) != (end + 1 == length):
                            continue
                        total = cost + weight
                        known = reached.get(target)
                        if known is None or total < known[0]:
                            reached[target] = (total, position, state, entry)
        return steps

    def _seed_unknown(self, letters: str, steps: list[dict[int, _Step]]) -> None:
        length = len(letters)
        whole = UNKNOWN_ROOT_COST + UNKNOWN_WORD_COST + UNKNOWN_LETTER_COST * length
        steps[length][Grammar.END] = (whole, 0, Grammar.START, -1)
        for end in range(1, length):
            if letters[end] in (HIATUS, self._nukta) or letters[end - 1] == HIATUS:
                continue
            base = UNKNOWN_ROOT_COST + UNKNOWN_LETTER_COST * end
            for target, weight in self.grammar.open_targets(letters[:end]):
                if target == Grammar.END:
                    continue
                known = steps[end].get(target)
                if known is None or base + weight < known[0]:
                    steps[end][target] = (base + weight, 0, Grammar.START, -1)
        for target, weight in self.grammar.open_targets(letters):
            if target == Grammar.END and whole - UNKNOWN_WORD_COST + weight < whole:
                cost = whole - UNKNOWN_WORD_COST + weight
                steps[length][Grammar.END] = (cost, 0, Grammar.START, -1)

    def _trace(
        self, letters: str, steps: list[dict[int, _Step]]
    ) -> list[tuple[str, Optional[Entry]]]:
        found: list[tuple[str, Optional[Entry]]] = []
        position, state = len(letters), Grammar.END
        while position:
            _, before, source, entry = steps[position][state]
            found.append(
                (letters[before:position], self.grammar.entries[entry] if entry >= 0 else None)
            )
            position, state = before, source
        return found[::-1]

    def _result(
        self, word: str, pieces: list[tuple[str, Optional[Entry]]], closed: bool, cost: float
    ) -> Segmentation:
        forms = [compose(letters, self.language) for letters, _ in pieces]
        entries = [entry for _, entry in pieces]
        root = entries[0].category if entries[0] is not None else "other"
        subwords = tuple(
            Subword(
                form,
                marked,
                root if entry is None else entry.category,
                "" if entry is None else entry.gloss,
            )
            for form, marked, entry in zip(forms, mark(forms), entries)
        )
        return Segmentation(word, subwords, closed, round(cost, 6))


@lru_cache(maxsize=4)
def load_segmenter(language: str) -> Segmenter:
    """The segmenter of a language that comes with uyir."""
    return Segmenter(load_grammar(language))


__all__ = ["SINGLE_LETTER_COST", "Segmentation", "Segmenter", "Subword", "load_segmenter"]
