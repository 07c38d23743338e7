"""Letter strings and the normaliser."""

from __future__ import annotations

import random
import re
import unicodedata

import pytest

from uyir.errors import DataError, ScriptError
from uyir.grammar.script import (
    compose,
    decompose,
    is_wellformed,
    load_script,
    normalise,
    script_of,
    words_of,
)

LANGUAGES = ("ta", "kn")


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_syllable_comes_back(language: str) -> None:
    script = load_script(language)
    syllables = [script.spelling(vowel) for vowel in script.vowels]
    for consonant in script.consonants:
        for sign in [*script.signs, script.virama]:
            syllables.append(consonant + sign)
    for first in syllables:
        for second in (*syllables[::7], *script.marks):
            word = unicodedata.normalize("NFC", first + second)
            assert compose(decompose(word, language), language) == word
            assert is_wellformed(word, language)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_normaliser_leaves_every_syllable_alone(language: str) -> None:
    script = load_script(language)
    for consonant in script.consonants:
        for sign in [*script.signs, script.virama]:
            word = unicodedata.normalize("NFC", consonant + sign)
            assert normalise(word, language) == word
            assert normalise(consonant + word, language) == consonant + word


@pytest.mark.parametrize(
    ("language", "text", "said"),
    [
        ("ta", "பின்னா்", "பின்னர்"),
        ("ta", "கெளரவம்", "கௌரவம்"),
        ("ta", "ஒளி எள்", "ஒளி எள்"),
        ("ta", "வணக்கம், நண்பர்களே!", "வணக்கம் நண்பர்களே"),
        ("ta", "௧௯௪௭ ABC", "1947 abc"),
        ("kn", "ಸ೦ಸ್ಕøತಿ", "ಸಂಸ್ಕೃತಿ"),
        ("kn", "೧೯೪೭ರಲ್ಲಿ", "1947ರಲ್ಲಿ"),
        ("kn", "ರೂ\u200dಟ್\u200cಕಿಟ್", "ರೂಟ್ಕಿಟ್"),
        ("kn", "3.5 ಕೋಟಿ.", "3.5 ಕೋಟಿ"),
        ("kn", "ಅಙ್ಕ ಪಞ್ಚ ಕಣ್ಟಕ ಅನ್ತ ಸಮ್ಬಂಧ", "ಅಂಕ ಪಂಚ ಕಂಟಕ ಅಂತ ಸಂಬಂಧ"),
        ("kn", "ಅನ್ನ ಕನ್ನಡ ಅಣ್ಣ ಅಮ್ಮ ನ್ದು", "ಅನ್ನ ಕನ್ನಡ ಅಣ್ಣ ಅಮ್ಮ ನ್ದು"),
        ("kn", "ಕಾರ್‌ಯ ಕಾರ್‍ಯ ರ‍್ಯ", "ಕಾರ್ಯ ಕಾರ್ಯ ರ್ಯ"),
        ("kn", "ಅ್ಯಂಡ್ ಆ್ಯಾಪ್ ವಾಟ್ಸ್ಅ್ಯಾಪ್", "ಆ್ಯಂಡ್ ಆ್ಯಪ್ ವಾಟ್ಸ್ಆ್ಯಪ್"),
        ("kn", "ಜಾ಼ ಫ಼಼ನ್", "ಜ಼ಾ ಫ಼ನ್"),
        ("kn", "ಅವಱ ಬಾೞೆ", "ಅವಱ ಬಾೞೆ"),
    ],
)
def test_normalise(language: str, text: str, said: str) -> None:
    assert normalise(text, language) == said
    assert normalise(said, language) == said


@pytest.mark.parametrize("word", ["ಆ್ಯಪ್", "ಅ್ಯಂಡ್", "ವಾಟ್ಸ್ಆ್ಯಪ್ನಲ್ಲಿ", "ರಿಆ್ಯಕ್ಷನ್", "ಆ್ಯಂಡ್ರ್ಯೂಸ್"])
def test_a_vowel_of_several_letters_is_one_letter(word: str) -> None:
    letters = decompose(word, "kn")
    assert "æ" in letters or "ǣ" in letters
    assert "್" not in letters
    assert compose(letters, "kn") == word
    assert is_wellformed(word, "kn")
    assert is_wellformed(normalise(word, "kn"), "kn")


@pytest.mark.parametrize("word", ["ಆ್", "ಆ್ಪ", "ಇ್ಯ", "ಕಾ್ಯ", "æಪ್"])
def test_a_virama_on_another_vowel_is_an_error(word: str) -> None:
    assert not is_wellformed(word, "kn")
    with pytest.raises(ScriptError):
        decompose(word, "kn")


def test_hiatus_is_kept() -> None:
    assert compose(decompose("பிஎஸ்ஏ", "ta"), "ta") == "பிஎஸ்ஏ"


@pytest.mark.parametrize("word", ["ா", "க்்", "abc", "ಕ", "க1"])
def test_what_is_no_tamil_word(word: str) -> None:
    assert not is_wellformed(word, "ta")
    with pytest.raises(ScriptError):
        decompose(word, "ta")


def test_unknown_language_names_those_there_are() -> None:
    with pytest.raises(DataError, match="kn, ta"):
        load_script("te")
    with pytest.raises(DataError):
        load_script("../ta")


def test_script_of() -> None:
    assert script_of("வணக்கம் hello") == "ta"
    assert script_of("ನಮಸ್ಕಾರ") == "kn"
    assert script_of("hello") is None
    assert words_of("வணக்கம் hello 12", "ta") == ["வணக்கம்"]


def test_text_of_letters_alone_is_normalised_as_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """The short way of plain text and the long way say the same, of any characters."""
    rng = random.Random(1)
    characters = [chr(code) for code in (*range(0x0B80, 0x0C00), *range(0x0C80, 0x0D00))]
    characters += list(" .,'-09aZ\u200c\t\n")
    texts = ["".join(rng.choices(characters, k=rng.randint(0, 9))) for _ in range(5000)]
    short = [normalise(text, language) for text in texts for language in ("ta", "kn")]
    monkeypatch.setattr("uyir.grammar.script._plain_text", lambda: re.compile("(?!)"))
    assert short == [normalise(text, language) for text in texts for language in ("ta", "kn")]
