"""Letter strings cut into pieces so that the pieces' costs are least."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from uyir.grammar.letters import Letters, Words, lengths_of, spread
from uyir.grammar.tables import trie


def cheapest_cut(
    letters: str, costs: Mapping[str, float], single: float = float("inf"), longest: int = 0
) -> list[str]:
    """A letter string cut into pieces of least total cost; of equal cuts that with the longest last piece.

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


class Cutter:
    """Cuts many letter strings at once, as `cheapest_cut` cuts each."""

    def __init__(self, letters: Letters, costs: Mapping[str, float]) -> None:
        self._width = letters.width
        #: The pieces by number.
        self.pieces = list(costs)
        begin = np.ones(len(self.pieces), dtype=np.int64)
        edges, ends = trie(letters, self.pieces, begin, 2)
        self._child = np.zeros((len(edges) + 2) * self._width, dtype=np.int32)
        self._child[edges] = np.arange(2, len(edges) + 2)
        self._piece = np.full(len(edges) + 2, -1)
        self._piece[ends] = np.arange(len(self.pieces))
        self._cost = np.array([*costs.values()])
        self._longest = int(lengths_of(self.pieces).max(initial=0))

    def cut(self, words: Words) -> tuple[Any, Any, Any]:
        """How many pieces each word is cut into, 0 if pieces cannot make it up; and the words' pieces one
        after the other: which word and which piece."""
        sizes = words.sizes
        # Places between letters, before the first and after the last one included, word after word.
        owner, place = spread(sizes + 1)
        origin = np.cumsum(sizes + 1) - sizes - 1
        begin, end, piece = self._pieces(words, owner, place)
        best = np.full(len(owner), np.inf)
        best[origin] = 0.0
        before = np.zeros(len(owner), dtype=np.int64)
        chosen = np.zeros(len(owner), dtype=np.int64)
        count = np.zeros(len(owner), dtype=np.int64)
        # By place in the word, then by word, then the longest piece first.
        order = np.argsort(
            (place[end] * (len(owner) + 1) + end) * (self._longest + 1)
            + begin
            - end
            + self._longest
        )
        begin, end, piece = begin[order], end[order], piece[order]
        bounds = np.searchsorted(place[end], np.arange(1, int(sizes.max(initial=0)) + 2))
        for first, last in zip(bounds[:-1].tolist(), bounds[1:].tolist()):
            if first == last:
                continue
            here = end[first:last]
            total = best[begin[first:last]] + self._cost[piece[first:last]]
            groups = np.flatnonzero(np.diff(here, prepend=-1))
            least = np.minimum.reduceat(total, groups)
            ties = np.flatnonzero(total == np.repeat(least, np.diff(groups, append=len(here))))
            ties = ties[np.flatnonzero(np.diff(here[ties], prepend=-1))]
            at = here[ties]
            best[at] = total[ties]
            before[at] = begin[first + ties]
            chosen[at] = piece[first + ties]
            count[at] = count[before[at]] + 1
        at = origin + sizes
        counts = np.where(np.isfinite(best[at]), count[at], 0)
        word = np.repeat(np.arange(len(sizes)), counts)
        pieces = np.zeros(len(word), dtype=np.int64)
        left = np.flatnonzero(counts)
        slot = np.cumsum(counts)[left] - 1
        at = at[left]
        while len(left):
            pieces[slot] = chosen[at]
            at = before[at]
            going = np.flatnonzero(at > origin[left])
            left, slot, at = left[going], slot[going] - 1, at[going]
        return counts, word, pieces

    def _pieces(self, words: Words, owner: Any, place: Any) -> tuple[Any, Any, Any]:
        """Every piece that stands somewhere in a word: the places where it begins and ends, and its number."""
        begin = np.arange(len(owner))
        letter = words.starts[owner] + place
        last = words.starts[owner] + words.sizes[owner]
        node = np.ones(len(owner), dtype=np.int64)
        found: list[tuple[Any, Any, Any]] = []
        for length in range(self._longest):
            going = np.flatnonzero(letter + length < last)
            begin, letter, last = begin[going], letter[going], last[going]
            node = self._child[node[going] * self._width + words.codes[letter + length]]
            going = np.flatnonzero(node)
            begin, letter, last, node = begin[going], letter[going], last[going], node[going]
            ends = np.flatnonzero(self._piece[node] >= 0)
            found.append((begin[ends], begin[ends] + length + 1, self._piece[node[ends]]))
        begins, ends, pieces = (np.concatenate(part) for part in zip(*found))
        return begins, ends, pieces
