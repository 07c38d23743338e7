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

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Optional

from uyir.errors import ScriptError
from uyir.grammar.join import mark
from uyir.grammar.morphotactics import (
    UNKNOWN_LETTER_COST,
    Entry,
    Grammar,
    load_grammar,
    marked_form,
    unknown_pieces,
)
from uyir.grammar.script import compose, decompose, is_wellformed

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
# A piece begun and not ended: (trie node, cost at its beginning, position and state there).
_Live = tuple[_Node, float, int, int]


class _Search:
    """Viterbi over the prefixes of a word, left to right.

    Everything is kept by position, so the next word goes on from the letters it shares with the
    last one: a sorted list costs only its new letters.
    """

    def __init__(self, segmenter: Segmenter, unknown: bool) -> None:
        self._segmenter = segmenter
        self._unknown = unknown
        self._letters = ""
        #: For `Segmenter.derivation`: no path may be one root alone.
        self.forbid_whole_words = False
        #: By position: cheapest way to each state, cheapest way to end there, pieces under way.
        self.steps: list[dict[int, _Step]] = [{Grammar.START: (0.0, 0, Grammar.START, -1)}]
        self.ends: list[Optional[_Step]] = [None]
        self._live: list[list[_Live]] = [[(segmenter.trie(Grammar.START), 0.0, 0, Grammar.START)]]

    def run(self, letters: str) -> Optional[_Step]:
        """The last step of the cheapest path of a letter string, None if there is none."""
        shared = 0
        for ours, known in zip(letters, self._letters):
            if ours != known:
                break
            shared += 1
        del self.steps[shared + 1 :], self.ends[shared + 1 :], self._live[shared + 1 :]
        for position in range(shared, len(letters)):
            self._advance(letters, position + 1)
        self._letters = letters
        return self.ends[len(letters)]

    def _advance(self, letters: str, position: int) -> None:
        letter = letters[position - 1]
        reached: dict[int, _Step] = {}
        end: Optional[_Step] = None
        live: list[_Live] = []
        for node, cost, begin, state in self._live[-1]:
            below = node.get(letter)
            if below is None:
                continue
            live.append((below, cost, begin, state))
            for target, weight, entry in below.get("", ()):
                total = cost + weight
                if target == Grammar.END:
                    if self.forbid_whole_words and begin == 0:
                        continue
                    if end is None or total < end[0]:
                        end = (total, begin, state, entry)
                else:
                    known = reached.get(target)
                    if known is None or total < known[0]:
                        reached[target] = (total, begin, state, entry)
        if self._unknown:
            self._seed(letters[:position], reached)
        for state, step in reached.items():
            live.append((self._segmenter.trie(state), step[0], position, state))
        self.steps.append(reached)
        self.ends.append(end)
        self._live.append(live)

    def _seed(self, root: str, reached: dict[int, _Step]) -> None:
        """Let an unknown root end here."""
        base = UNKNOWN_ROOT_COST + UNKNOWN_LETTER_COST * len(root)
        for target, weight in self._segmenter.grammar.open_targets(root):
            known = reached.get(target)
            if target != Grammar.END and (known is None or base + weight < known[0]):
                reached[target] = (base + weight, 0, Grammar.START, -1)


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
        self._tries: list[Optional[_Node]] = [None] * len(grammar.states)
        self._unknown = unknown_pieces(grammar)
        self._closed = _Search(self, unknown=False)
        self._open = _Search(self, unknown=True)

    def segment(self, word: str) -> Segmentation:
        """Cut a word of this language's script; raises `ScriptError` for anything else."""
        if not is_wellformed(word, self.language):
            decompose(word, self.language)  # says which character is at fault
            raise ScriptError(f"{word!r} is not a well-formed word of {self.language!r}")
        letters = decompose(word, self.language)
        search, end = self._best(letters)
        pieces: list[tuple[str, Optional[Entry]]] = []
        for piece, entry, _ in self._trace(letters, search, end):
            if entry is None:
                pieces += [(part, None) for part in self.split_unknown(piece)]
            else:
                pieces.append((piece, entry))
        return self._result(word, pieces, search is self._closed, end[0])

    def segment_all(self, words: Sequence[str]) -> list[Segmentation]:
        """Segment many words; faster than one by one, since sorted words share their beginnings."""
        found: dict[str, Segmentation] = {}
        for word in sorted(set(words)):
            found[word] = self.segment(word)
        return [found[word] for word in words]

    def accepts(self, word: str) -> bool:
        """Whether the closed grammar (no unknown root) accepts a well-formed word."""
        return self._closed.run(decompose(word, self.language)) is not None

    def furthest(self, word: str) -> tuple[str, list[str]]:
        """How far the closed grammar gets: the longest accepted beginning and the states there."""
        letters = decompose(word, self.language)
        self._closed.run(letters)
        steps = self._closed.steps
        reached = max(i for i, states in enumerate(steps) if states)
        labels = sorted({self.grammar.states[state].name for state in steps[reached]})
        return compose(letters[:reached], self.language), labels

    def path(self, word: str) -> list[tuple[str, Optional[Entry], str]]:
        """The cheapest path of a word: (piece, list entry or None, state it leads to)."""
        letters = decompose(word, self.language)
        return [
            (compose(piece, self.language), entry, self.grammar.state_label(state))
            for piece, entry, state in self._trace(letters, *self._best(letters))
        ]

    def derivation(self, letters: str) -> Optional[list[str]]:
        """The pieces that make a root from another, shorter root and affixes; None if none do.

        A second root (a compound) is no affix: only paths with one root count.
        """
        closed = self._closed
        closed.run(letters)
        whole = closed.ends[-1]
        if whole is not None and whole[1] == 0:
            # The root itself is cheapest: look for the cheapest way that begins with a shorter one.
            search = _Search(self, unknown=False)
            search.forbid_whole_words = True
            whole = search.run(letters)
            closed = search
        if whole is None:
            return None
        path = self._trace(letters, closed, whole)
        if any(entry is not None and entry.kind == "prefix" for _, entry, _ in path[1:]):
            return None
        return [compose(piece, self.language) for piece, _, _ in path]

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
        return cheapest_cut(letters, self._unknown)

    def trie(self, state: int) -> _Node:
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

    def _best(self, letters: str) -> tuple[_Search, _Step]:
        """The search that has the answer for a letter string, and the last step of its path."""
        end = self._closed.run(letters)
        if end is not None:
            return self._closed, end
        end = self._open.run(letters)
        whole = UNKNOWN_ROOT_COST + UNKNOWN_LETTER_COST * len(letters)
        for target, weight in self.grammar.open_targets(letters):
            if target == Grammar.END and (end is None or whole + weight < end[0]):
                end = (whole + weight, 0, Grammar.START, -1)
        if end is None or whole + UNKNOWN_WORD_COST < end[0]:
            end = (whole + UNKNOWN_WORD_COST, 0, Grammar.START, -1)
        return self._open, end

    def _trace(
        self, letters: str, search: _Search, end: _Step
    ) -> list[tuple[str, Optional[Entry], int]]:
        """The pieces of a path, each with its list entry and the state it leads to."""
        found: list[tuple[str, Optional[Entry], int]] = []
        position, state, step = len(letters), Grammar.END, end
        while True:
            _, before, source, number = step
            entry = self.grammar.entries[number] if number >= 0 else None
            found.append((letters[before:position], entry, state))
            if before == 0:
                return found[::-1]
            position, state = before, source
            step = search.steps[position][state]

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
