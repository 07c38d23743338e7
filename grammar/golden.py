"""Scores of a segmenter against words that were cut by hand (TSV `word pieces category`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Union

from uyir.grammar.join import join
from uyir.grammar.lists import read_table
from uyir.grammar.script import decompose
from uyir.grammar.segment import Segmenter

GOLDEN_COLUMNS = ("word", "pieces", "category")


@dataclass(frozen=True)
class GoldenScore:
    """Boundaries micro-averaged over words, and roots of the right category.

    Boundaries are those between morphemes: the pieces that an unknown root is spelt with are one root.

    `wrong` has the words with another cut or category: word, by hand, ours, category by hand, ours.
    """

    words: int
    precision: float
    recall: float
    f1: float
    category: float
    wrong: list[tuple[str, str, str, str, str]] = field(default_factory=list)


def boundaries(pieces: Sequence[str], language: str) -> set[int]:
    """Where pieces meet, in letters from the beginning of the word."""
    found, position = set(), 0
    for piece in pieces[:-1]:
        position += len(decompose(piece, language))
        found.add(position)
    return found


def score_golden(segmenter: Segmenter, path: Union[str, Path]) -> GoldenScore:
    """Score a segmenter; raises `DataError` for a golden line whose pieces do not make its word."""
    language = segmenter.language
    right = ours = gold = words = categories = 0
    wrong = []
    for row in read_table(path, GOLDEN_COLUMNS):
        by_hand = row["pieces"].split()
        if join(by_hand, language) != row["word"]:
            raise row.error(f"the pieces make {join(by_hand, language)!r}, not {row['word']!r}")
        result = segmenter.segment(row["word"])
        cut = [subword.form for subword in segmenter.morphemes(result)]
        wanted, found = boundaries(by_hand, language), boundaries(cut, language)
        right += len(wanted & found)
        ours += len(found)
        gold += len(wanted)
        words += 1
        categories += result.category == row["category"]
        if wanted != found or result.category != row["category"]:
            wrong.append(
                (row["word"], " ".join(by_hand), " ".join(cut), row["category"], result.category)
            )
    return GoldenScore(
        words,
        right / ours if ours else 1.0,
        right / gold if gold else 1.0,
        2 * right / (ours + gold) if ours + gold else 1.0,
        categories / words if words else 1.0,
        wrong,
    )
