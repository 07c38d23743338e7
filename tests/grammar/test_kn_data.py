"""The Kannada lists against forms and segmentations made by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from uyir.grammar.join import join
from uyir.grammar.lists import read_table
from uyir.grammar.script import decompose
from uyir.grammar.segment import Segmenter, load_segmenter

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return load_segmenter("kn")


def boundaries(pieces: list[str]) -> set[int]:
    """Where pieces meet, in letters from the beginning of the word."""
    found, position = set(), 0
    for piece in pieces[:-1]:
        position += len(decompose(piece, "kn"))
        found.add(position)
    return found


def test_paradigms(segmenter: Segmenter) -> None:
    wrong = [
        f"{row['word']} ({row['what']})"
        for row in read_table(GOLDEN / "kn_paradigms.tsv", ("word", "accepted", "what"))
        if segmenter.accepts(row["word"]) != (row["accepted"] == "yes")
    ]
    assert not wrong


def test_golden_segments(segmenter: Segmenter) -> None:
    right = ours = gold = words = categories = 0
    for row in read_table(GOLDEN / "kn_segments.tsv", ("word", "pieces", "category")):
        pieces = row["pieces"].split()
        assert join(pieces, "kn") == row["word"]
        result = segmenter.segment(row["word"])
        wanted = boundaries(pieces)
        found = boundaries([subword.form for subword in result.subwords])
        right += len(wanted & found)
        ours += len(found)
        gold += len(wanted)
        words += 1
        categories += result.category == row["category"]
    assert words >= 60
    assert 2 * right / (ours + gold) >= 0.95
    assert categories / words >= 0.95


def test_number_glosses_are_their_values(segmenter: Segmenter) -> None:
    spelt = {
        "ಏಳು": ["7"],
        "ಇಪ್ಪತ್ತೊಂದು": ["20", "1"],
        "ಮೂವತ್ತೈದು": ["30", "5"],
        "ತೊಂಬತ್ತನಾಲ್ಕು": ["90", "4"],
        "ಐನೂರ": ["500"],
        "ಮುನ್ನೂರರವತ್ತೆಂಟು": ["300", "60", "8"],
    }
    for word, values in spelt.items():
        result = segmenter.segment(word)
        assert [subword.gloss for subword in result.subwords] == values, word
        assert result.category == "numbers"


def test_closed_grammar_refuses_what_is_no_word(segmenter: Segmenter) -> None:
    for nonsense in ("ಕಖಗಘಙ", "ಗಳುಗಳು", "ಉತ್ತೇನೆ", "ದಲ್ಲಿಮರ", "ಇದ್ದಾರೆಮಾಡಿ"):
        assert not segmenter.accepts(nonsense), nonsense


def corruptions(pieces: list[str]) -> list[list[str]]:
    """A word's pieces with one affix doubled, left out or changed with its neighbour."""
    found = []
    for i in range(1, len(pieces)):
        found.append([*pieces[: i + 1], pieces[i], *pieces[i + 1 :]])
        if i + 1 < len(pieces):
            found.append([*pieces[:i], pieces[i + 1], pieces[i], *pieces[i + 2 :]])
            found.append(pieces[:i] + pieces[i + 1 :])
    return found


def test_at_most_one_corrupted_word_in_ten_passes(segmenter: Segmenter) -> None:
    """Many of those that pass are words: ಮಾಡಿಸಿದರು without -ಇಸ್- is ಮಾಡಿದರು."""
    words = [
        row["word"]
        for row in read_table(GOLDEN / "kn_segments.tsv", ("word", "pieces", "category"))
    ] + [
        row["word"]
        for row in read_table(GOLDEN / "kn_paradigms.tsv", ("word", "accepted", "what"))
        if row["accepted"] == "yes"
    ]
    made = passed = 0
    for word in words:
        pieces = [subword.form for subword in segmenter.segment(word).subwords]
        for corrupted in corruptions(pieces):
            form = join(corrupted, "kn")
            if form not in words:
                made += 1
                passed += segmenter.accepts(form)
    assert made > 500
    assert passed / made <= 0.10
