"""The normaliser that scores depend on: it leaves vowel signs and viramas alone, and does what it says."""

from __future__ import annotations

import itertools
import unicodedata

import pytest

from uyir import LANGUAGES
from uyir.grammar.script import is_wellformed, load_script, normalise


def syllables(language):
    """Every well-formed syllable: vowels, consonants with every sign, virama and mark, clusters of two."""
    script = load_script(language)
    signs = [sign for sign in script.vowels.values() if sign]
    nukta = ["", script.nukta] if script.nukta else [""]
    marks = ["", *sorted(script.marks)]
    onsets = [c + n for c in sorted(script.consonants) for n in nukta]
    rhymes = ["", script.virama, *signs]
    clusters = [a + script.virama + b for a, b in itertools.product(onsets, repeat=2)]
    for vowel, mark in itertools.product(sorted(script.vowels), marks):
        yield vowel + mark
    for onset, rhyme, mark in itertools.product(onsets + clusters, rhymes, marks):
        yield onset + rhyme + mark


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_vowel_sign_and_no_virama_of_a_syllable_changes(language):
    script = load_script(language)
    kept = {script.virama, *filter(None, script.vowels.values())}
    count = 0
    for syllable in syllables(language):
        text = unicodedata.normalize("NFC", syllable)
        if not is_wellformed(text, language):
            continue
        count += 1
        signs = [char for char in text if char in kept]
        assert [char for char in normalise(text, language) if char in kept] == signs, ascii(text)
    assert count > 10_000


@pytest.mark.parametrize("language", LANGUAGES)
def test_pairs_of_syllables_keep_their_signs(language):
    script = load_script(language)
    kept = {script.virama, *filter(None, script.vowels.values())}
    simple = [
        c + rhyme
        for c in sorted(script.consonants)[::3]
        for rhyme in ["", script.virama, *filter(None, script.vowels.values())]
    ]
    for a, b in itertools.product(simple, repeat=2):
        text = unicodedata.normalize("NFC", a + b)
        if is_wellformed(text, language):
            assert [c for c in normalise(text, language) if c in kept] == [
                c for c in text if c in kept
            ], ascii(text)


@pytest.mark.parametrize(
    ("rule", "language", "text", "normal"),
    [
        ("NFC", "ta", "க\u0bc6\u0bbe", "கொ"),
        ("NFC", "kn", "ಕ\u0cc6\u0cc2", "ಕೊ"),
        ("zero width", "ta", "க்\u200cஷ", "க்ஷ"),
        ("zero width", "kn", "ರ\u200d್ಯ", "ರ್ಯ"),
        ("soft hyphen", "ta", "பட\u00adம்", "படம்"),
        ("punctuation", "ta", "அவன், வந்தான்.", "அவன் வந்தான்"),
        ("symbols", "kn", "ಹೌದು! (ಸರಿ)", "ಹೌದು ಸರಿ"),
        ("stop between digits", "ta", "3.5 1,000", "3.5 1,000"),
        ("Latin lower case", "ta", "USB பட்டன்", "usb பட்டன்"),
        ("digits", "ta", "௧௨", "12"),
        ("digits", "kn", "೧೨", "12"),
        ("look-alike", "ta", "அவா்", "அவர்"),
        ("look-alike", "ta", "க்்", "க்"),
        ("look-alike", "ta", "ஒளவை", "ஔவை"),
        ("look-alike", "kn", "ಕ್್", "ಕ್"),
        ("look-alike", "kn", "ಸ೦ತ", "ಸಂತ"),
        ("spaces", "ta", "  அவன் \t வந்தான் ", "அவன் வந்தான்"),
    ],
)
def test_each_rule_does_what_it_says(rule, language, text, normal):
    assert normalise(text, language) == normal, rule
    assert normalise(normal, language) == normal
