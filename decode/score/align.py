"""Alignment of units at least cost, and what a letter is.

With ``unit`` costs an insertion, a deletion and a substitution cost 1 each (Levenshtein); alignments
are those of rapidfuzz, which jiwer counts with too, so substitutions, deletions and insertions are
jiwer's one by one. With ``sclite`` costs they are 3, 3 and 4, as in NIST's sclite, and of equally cheap
alignments one with the fewest errors is taken: three substitutions cost as much as two deletions and
two insertions. sclite nearly always takes the same. Letters always have unit costs.

A letter is counted two ways: as a code point, which is what others publish, and as a grapheme cluster
(கை is one), which is what a reader sees. Single spaces between words are letters in both, as in jiwer.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Optional

from rapidfuzz.distance import Levenshtein

from uyir.decode.score.counts import Counts

COSTS = ("unit", "sclite")
#: A step of an alignment: index into the reference, index into the hypothesis; None: nothing there.
Step = tuple[Optional[int], Optional[int]]
_SLOT = {"replace": 1, "delete": 2, "insert": 3}


def align_errors(ref: Sequence[int], hyp: Sequence[int], costs: str = "unit") -> list[Step]:
    """The errors of a best alignment of two sequences of numbered units, from left to right.

    Hits are left out. A substitution is (i, j), a deletion (i, None), an insertion (None, j).
    """
    if ref == hyp:
        return []
    if costs == "unit":
        return [
            (
                edit.src_pos if edit.tag != "insert" else None,
                edit.dest_pos if edit.tag != "delete" else None,
            )
            for edit in Levenshtein.editops(ref, hyp)
        ]
    steps = _kaldialign(ref, hyp)
    # One error more weighs less than any difference of cost.
    weights = (3 * _COST + 1, 3 * _COST + 1, 4 * _COST + 1)
    substitutions = sum(i is not None and j is not None for i, j in steps)
    found = (3 * len(steps) + substitutions) * _COST + len(steps)
    if Levenshtein.distance(ref, hyp, weights=weights) < found:
        return _fewest(ref, hyp, weights)
    return steps


#: What a unit of cost weighs beside an error.
_COST = 1 << 20


def _kaldialign(ref: Sequence[int], hyp: Sequence[int]) -> list[Step]:
    import kaldialign

    # Numbers, not words, so that the symbol for "nothing" cannot be one of the text's.
    out: list[Step] = []
    i = j = 0
    for a, b in kaldialign.align(list(ref), list(hyp), -1, sclite_mode=True):
        if a == b:
            i, j = i + 1, j + 1
        elif b == -1:
            out.append((i, None))
            i += 1
        elif a == -1:
            out.append((None, j))
            j += 1
        else:
            out.append((i, j))
            i, j = i + 1, j + 1
    return out


def _fewest(ref: Sequence[int], hyp: Sequence[int], weights: tuple[int, int, int]) -> list[Step]:
    """A best alignment by weights of insertion, deletion, substitution: the textbook's table."""
    insert, delete, substitute = weights
    table = [[j * insert for j in range(len(hyp) + 1)]]
    for a in ref:
        above = table[-1]
        line = [above[0] + delete]
        for j, b in enumerate(hyp):
            diagonal = above[j] + (substitute if a != b else 0)
            line.append(min(diagonal, above[j + 1] + delete, line[j] + insert))
        table.append(line)
    i, j = len(ref), len(hyp)
    out: list[Step] = []
    while i or j:
        here = table[i][j]
        same = i and j and ref[i - 1] == hyp[j - 1]
        if i and j and here == table[i - 1][j - 1] + (0 if same else substitute):
            i, j = i - 1, j - 1
            if not same:
                out.append((i, j))
        elif i and here == table[i - 1][j] + delete:
            i -= 1
            out.append((i, None))
        else:
            j -= 1
            out.append((None, j))
    return out[::-1]


def count_steps(units: int, steps: Sequence[Step]) -> Counts:
    """Count the errors of an alignment of a reference of so many units."""
    deletions = sum(hyp is None for _, hyp in steps)
    insertions = sum(ref is None for ref, _ in steps)
    return Counts(units, len(steps) - deletions - insertions, deletions, insertions)


def align_counts(ref: Sequence[str], hyp: Sequence[str], costs: str = "unit") -> Counts:
    """Count the errors between two sequences of units (words, or letters) at least cost."""
    numbers: dict[str, int] = {}
    numbered = [[numbers.setdefault(unit, len(numbers)) for unit in side] for side in (ref, hyp)]
    return count_steps(len(ref), align_errors(numbered[0], numbered[1], costs))


def count_letters(ref: str, hyp: str) -> tuple[int, int, int, int]:
    """Units, substitutions, deletions, insertions of the characters of two strings."""
    counts = [len(ref), 0, 0, 0]
    if ref != hyp:
        for edit in Levenshtein.editops(ref, hyp):
            counts[_SLOT[edit.tag]] += 1
    return counts[0], counts[1], counts[2], counts[3]


def graphemes(text: str) -> list[str]:
    """A text's grapheme clusters: a character with the marks that follow it.

    >>> graphemes("கை க்ஷ")
    ['கை', ' ', 'க்', 'ஷ']
    """
    return _cluster().findall(text)


@lru_cache(maxsize=1)
def _cluster() -> re.Pattern[str]:
    """A character and the marks and joiners after it; at the beginning of a word they stand alone."""
    ranges: list[list[int]] = []
    # Marks stand in the first two planes, and variation selectors in the fifteenth.
    for code in (*range(0x20000), *range(0xE0100, 0xE01F0)):
        if unicodedata.category(chr(code))[0] == "M" or code in (0x200C, 0x200D):
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    marks = "".join(f"{chr(low)}-{chr(high)}" for low, high in ranges)
    return re.compile(f" |[^ ][{marks}]*")


class GraphemeCode:
    """Writes words with one character for each grapheme cluster, so that they align as strings."""

    def __init__(self) -> None:
        self._codes: dict[str, str] = {" ": " "}
        self._words: dict[str, str] = {}

    def code(self, word: str) -> str:
        """The code of a word; equal clusters have equal characters, in all words of this object."""
        found = self._words.get(word)
        if found is None:
            codes = self._codes
            clusters = _cluster().findall(word)
            try:
                found = "".join([codes[cluster] for cluster in clusters])
            except KeyError:
                found = "".join([codes.setdefault(x, chr(0x100 + len(codes))) for x in clusters])
            self._words[word] = found
        return found
