"""Kannada numbers: forms by hand, and what other programs write otherwise."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Union

import pytest

from uyir.errors import ScriptError
from uyir.grammar.lists import read_table
from uyir.grammar.numbers import NumberGrammar

DIFFERENCES = Path(__file__).parent / "golden" / "kn_number_differences.tsv"
COLUMNS = ("engine", "n", "theirs", "forms", "right", "reason")


@pytest.fixture(scope="module")
def numbers() -> NumberGrammar:
    return NumberGrammar.load("kn")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "ಸೊನ್ನೆ"),
        (21, "ಇಪ್ಪತ್ತೊಂದು"),
        (23, "ಇಪ್ಪತ್ತಮೂರು"),
        (82, "ಎಂಬತ್ತೆರಡು"),
        (99, "ತೊಂಬತ್ತೊಂಬತ್ತು"),
        (110, "ನೂರ ಹತ್ತು"),
        (300, "ಮುನ್ನೂರು"),
        (1000, "ಒಂದು ಸಾವಿರ"),
        (1984, "ಒಂದು ಸಾವಿರದ ಒಂಬೈನೂರ ಎಂಬತ್ತನಾಲ್ಕು"),
        (100_000, "ಒಂದು ಲಕ್ಷ"),
        (2_500_007, "ಇಪ್ಪತ್ತೈದು ಲಕ್ಷದ ಏಳು"),
        (10**7 + 1, "ಒಂದು ಕೋಟಿ ಒಂದು"),
        (10**14, "ಒಂದು ಕೋಟಿ ಕೋಟಿ"),
        (Fraction(1, 2), "ಅರ್ಧ"),
        (Fraction(5, 2), "ಎರಡೂವರೆ"),
        (Fraction(5, 4), "ಒಂದೂಕಾಲು"),
    ],
)
def test_as_we_write_it(numbers: NumberGrammar, value: Union[int, Fraction], words: str) -> None:
    assert numbers.words(value) == words
    assert numbers.parse(words)[0] == value


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ("ಇಪ್ಪತ್ನಾಲ್ಕು", 24),
        ("ಇಪ್ಪತ್ತು ನಾಲ್ಕು", 24),
        ("ನೂರೊಂದು", 101),
        ("ನೂರಾ ಒಂದು", 101),
        ("ಮುನ್ನೂರರವತ್ತೆಂಟು", 368),
        ("ನಾಲ್ಕುನೂರು", 400),
        ("ಸಾವಿರದ ಒಂಬೈನೂರ ಎಂಬತ್ತನಾಲ್ಕು", 1984),
        ("ಎರಡು ಸಾವಿರ ಐದು ನೂರು", 2500),
        ("ಐದ್ಸಾವಿರ", 5000),
        ("ಒಂದೂವರೆ ಲಕ್ಷ", 150_000),
        ("ಎರಡೂ ಮುಕ್ಕಾಲು ಕೋಟಿ", 27_500_000),
        ("ಮೂರು ದಶಾಂಶ ಒಂದು ನಾಲ್ಕು", Fraction(157, 50)),
    ],
)
def test_variants(numbers: NumberGrammar, words: str, value: Union[int, Fraction]) -> None:
    assert numbers.parse(words)[:1] == [value]


@pytest.mark.parametrize("words", ["", "ಮರ", "ಐದು ಆರು", "ನೂರು ನೂರು", "ಹತ್ತು ಐದು", "ಇನ್ನೂ", "ಇಬ್ಬ"])
def test_what_is_no_number(numbers: NumberGrammar, words: str) -> None:
    assert numbers.parse(words) == []


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("೨೫", "ಇಪ್ಪತ್ತೈದು"),
        ("1,00,000", "ಒಂದು ಲಕ್ಷ"),
        ("3.140", "ಮೂರು ದಶಾಂಶ ಒಂದು ನಾಲ್ಕು ಸೊನ್ನೆ"),
        ("2½", "ಎರಡೂವರೆ"),
        ("25ನೇ", "ಇಪ್ಪತ್ತೈದನೇ"),
        ("25ನೆಯ", "ಇಪ್ಪತ್ತೈದನೆಯ"),
        ("1990ರಲ್ಲಿ", "ಒಂದು ಸಾವಿರದ ಒಂಬೈನೂರ ತೊಂಬತ್ತರಲ್ಲಿ"),
        ("25ಕ್ಕೆ", "ಇಪ್ಪತ್ತೈದಕ್ಕೆ"),
        ("1000ರಲ್ಲಿ", "ಒಂದು ಸಾವಿರದಲ್ಲಿ"),
        ("10000000ಕ್ಕೆ", "ಒಂದು ಕೋಟಿಗೆ"),
        ("100ರಿಂದಲೂ", "ನೂರರಿಂದಲೂ"),
        ("2-ಜನರು", "ಇಬ್ಬರು"),
        ("3-ಜನರಿಗೆ", "ಮೂವರಿಗೆ"),
    ],
)
def test_tokens_of_text(numbers: NumberGrammar, written: str, words: str) -> None:
    assert numbers.read(written) == words


def test_endings_stay_behind_the_digits(numbers: NumberGrammar) -> None:
    readings = {
        word: numbers.readings(word)[0].text
        for word in ("ಮೊದಲನೆಯ", "ಇಪ್ಪತ್ತೈದನೇ", "ಹತ್ತರಲ್ಲೂ", "ನಾಲ್ವರು", "ಕೋಟಿಯನ್ನು")
    }
    assert readings == {
        "ಮೊದಲನೆಯ": "1-ನೆಯ",
        "ಇಪ್ಪತ್ತೈದನೇ": "25-ನೇ",
        "ಹತ್ತರಲ್ಲೂ": "10-ರಲ್ಲೂ",
        "ನಾಲ್ವರು": "4-ಜನರು",
        "ಕೋಟಿಯನ್ನು": "10000000-ಅನ್ನು",
    }


@pytest.mark.parametrize("token", ["x25", "25ಮರ", "2.5.1", "-3", "25-"])
def test_what_is_no_written_number(numbers: NumberGrammar, token: str) -> None:
    if token == "25-":
        assert numbers.read(token) == "ಇಪ್ಪತ್ತೈದು"
        return
    with pytest.raises(ScriptError):
        numbers.read(token)


def test_differences_from_the_engines(numbers: NumberGrammar) -> None:
    """A form of theirs that is right parses to its number; one that is wrong does not."""
    rows = list(read_table(DIFFERENCES, COLUMNS))
    assert {row["right"] for row in rows} == {"both", "ours"}
    for row in rows:
        parsed = [r for r in numbers.readings(row["theirs"]) if not r.ending]
        value = parsed[0].value if parsed else None
        assert (value == int(row["n"])) == (row["right"] == "both"), row.values
        assert numbers.words(int(row["n"])) != row["theirs"]
