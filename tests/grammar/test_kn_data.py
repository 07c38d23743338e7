"""The Kannada lists against forms and segmentations made by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from uyir.grammar.lists import read_table
from uyir.grammar.segment import Segmenter, load_segmenter

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return load_segmenter("kn")


def test_paradigms(segmenter: Segmenter) -> None:
    wrong = [
        f"{row['word']} ({row['what']})"
        for row in read_table(GOLDEN / "kn_paradigms.tsv", ("word", "accepted", "what"))
        if segmenter.accepts(row["word"]) != (row["accepted"] == "yes")
    ]
    assert not wrong


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
