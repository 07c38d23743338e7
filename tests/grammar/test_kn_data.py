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


@pytest.mark.parametrize(
    ("pieces", "joined"),
    [
        ("ಬಂದು ಬಿಟ್ಟರು", "ಬಂದುಬಿಟ್ಟರು"),
        ("ತಿಳಿದು ಬಂದಿದೆ", "ತಿಳಿದುಬಂದಿದೆ"),
        ("ಕಂಡು ಬರುತ್ತದೆ", "ಕಂಡುಬರುತ್ತದೆ"),
        ("ಕೆಲಸ ಮಾಡುವ", "ಕೆಲಸಮಾಡುವ"),
        ("ಮನೆಯ ಮೇಲೆ", "ಮನೆಯಮೇಲೆ"),
        ("ಬಂದ ಮೇಲೆ", "ಬಂದಮೇಲೆ"),
        ("ಇಲ್ಲಿಯ ವರೆಗೆ", "ಇಲ್ಲಿಯವರೆಗೆ"),
        ("ಆಂಧ್ರ ಪ್ರದೇಶದ", "ಆಂಧ್ರಪ್ರದೇಶದ"),
    ],
)
def test_words_that_are_written_together_or_apart(
    segmenter: Segmenter, pieces: str, joined: str
) -> None:
    assert all(map(segmenter.accepts, [*pieces.split(), joined]))


def test_refused_words_are_accounted_for(segmenter: Segmenter) -> None:
    """The commonest refusals of the development text: what a list gains must leave the account."""
    rows = list(read_table(GOLDEN / "kn_failures.tsv", ("word", "count", "reason")))
    reasons = {"misprint", "fragment", "name", "foreign", "root", "compound", "form"}
    assert len(rows) == 500
    assert {row["reason"] for row in rows} == reasons
    assert [row["word"] for row in rows if segmenter.accepts(row["word"])] == []


def test_unimorph_rejections_are_accounted_for(segmenter: Segmenter) -> None:
    columns = ("form", "lemma", "features", "reason")
    for row in read_table(GOLDEN / "kn_unimorph_rejected.tsv", columns):
        assert not segmenter.accepts(row["form"]), row.values
        assert row["reason"].startswith(("ours: ", "theirs: "))


def test_survivors_are_read_by_hand() -> None:
    columns = ("corruption", "from", "corrupted", "pieces", "verdict")
    verdicts = [row["verdict"] for row in read_table(GOLDEN / "kn_survivors.tsv", columns)]
    assert len(verdicts) == 100
    assert set(verdicts) == {"word", "fault"}
