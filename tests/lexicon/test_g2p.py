"""Rules on words: golden pronunciations, properties on random words, bad input."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lexicon_samples import random_letters

from uyir.errors import DataError, ScriptError
from uyir.grammar.lists import read_table
from uyir.grammar.script import compose, decompose, is_wellformed, load_script
from uyir.lexicon import g2p as g2p_module
from uyir.lexicon.g2p import MAX_VARIANT_LETTERS, load_g2p, read_rules
from uyir.lexicon.symbols import geminates, load_phones

GOLDEN = [
    (language, row["word"], row["phones"], row["rule"])
    for language in ("ta", "kn")
    for row in read_table(
        Path(__file__).parent / "golden" / f"{language}.tsv", ("word", "phones", "rule")
    )
]


@pytest.mark.parametrize(("language", "word", "phones", "rule"), GOLDEN)
def test_golden(language: str, word: str, phones: str, rule: str) -> None:
    best = load_g2p(language).pronounce(word)[0]
    assert " ".join(best.phones) == phones
    assert rule in best.rules
    assert best.weight == 0


@pytest.mark.parametrize("language", ["ta", "kn"])
def test_every_word_has_one_canonical_pronunciation_in_its_phone_set(language: str) -> None:
    g2p, phones = load_g2p(language), load_phones()
    for letters in random_letters(language, 1500, seed=11):
        made = g2p.pronounce_letters(letters)
        (plain,) = g2p.pronounce_letters(letters, variants=False)
        assert made[0].phones == plain.phones and made[0].weight == 0
        assert all(language in phones[phone].languages for one in made for phone in one.phones)
        assert all(one.weight > 0 for one in made[1:])
        assert [one.weight for one in made] == sorted(one.weight for one in made)
        assert len({one.phones for one in made}) == len(made)
        for one in made:
            for first, second in zip(one.phones, one.phones[1:]):
                assert first != second or phones[first].is_vowel, (letters, one)
                assert geminates().get(first) != second, (letters, one)


@pytest.mark.parametrize("language", ["ta", "kn"])
def test_word_and_letters_agree(language: str) -> None:
    g2p = load_g2p(language)
    for letters in random_letters(language, 300, seed=12):
        word = ""
        try:
            word = compose(letters, language)
        except ScriptError:
            continue
        if is_wellformed(word, language) and decompose(word, language) == letters:
            assert g2p.pronounce(word) == g2p.pronounce_letters(letters)


def test_variants_are_weighted_and_limited() -> None:
    g2p = load_g2p("ta")
    made = {p.phones: p.weight for p in g2p.pronounce("மரம்")}
    assert made[("m", "a", "r", "a", "m")] == 0
    assert made[("m", "a", "r", "a~")] == 1.5
    assert [p.phones for p in g2p.pronounce("மரம்", max_weight=1.0)] == [("m", "a", "r", "a", "m")]
    assert len(g2p.pronounce("பகவதிபகவதிபகவதி", max_weight=3.0, limit=3)) == 3
    made_dear = load_g2p("kn").pronounce("ಹುಡುಗರು", max_weight=3.0)
    dear = {" ".join(p.phones): p.weight for p in made_dear}
    assert dear["h u dx g a r u"] == 2.3 and "h u dx u g r u" in dear
    # The vowels of two syllables in a row never drop together: no three consonants meet.
    assert "h u dx g r u" not in dear
    assert "spoken_final_ai" in g2p.pronounce("மழை")[1].rules


def test_context_ends_at_the_word_edge() -> None:
    g2p = load_g2p("ta")
    assert g2p.pronounce("கிட்டு")[0].phones[0] == "k"
    assert g2p.pronounce("படுகிட்டு")[0].phones[4] == "g"


@pytest.mark.parametrize(
    ("language", "word", "message"),
    [
        ("ta", "", "empty"),
        ("ta", "ಅಕ್ಕ", "not a letter of 'ta'"),
        ("kn", "அக்கா", "not a letter of 'kn'"),
        ("ta", "abc", "not a letter"),
        ("ta", "ாக", "vowel sign"),
        ("kn", "್ಕ", "virama"),
        ("kn", "಼", "nukta"),
    ],
)
def test_bad_words_have_named_errors(language: str, word: str, message: str) -> None:
    with pytest.raises(ScriptError, match=message):
        load_g2p(language).pronounce(word)


def test_lone_vowel_sign_is_read_as_its_vowel() -> None:
    assert load_g2p("ta").pronounce("ூ")[0].phones == ("uu",)
    assert load_g2p("kn").pronounce("ೌ")[0].phones == ("au",)


def test_unknown_language() -> None:
    with pytest.raises(DataError, match=r"'xx'.*kn, ta"):
        load_g2p("xx")


@pytest.mark.parametrize(("language", "syllable"), [("ta", "பா"), ("kn", "ಕಂ")])
def test_very_long_word_has_its_canonical_pronunciation(language: str, syllable: str) -> None:
    word = syllable * 5000
    begin = time.perf_counter()
    (made,) = load_g2p(language).pronounce(word)
    assert time.perf_counter() - begin < 5
    assert len(made.phones) >= 9_999
    assert len(decompose(word, language)) > MAX_VARIANT_LETTERS


@pytest.mark.parametrize("language", ["ta", "kn"])
def test_speed(language: str) -> None:
    words = list(dict.fromkeys(random_letters(language, 4000, seed=13, longest=14)))
    g2p = load_g2p(language)
    begin = time.process_time()
    for letters in words:
        g2p.pronounce_letters(letters, limit=15)  # a limit that nothing else has cached
    # 100,000 words in under 60 s, and random words have more variants than real ones.
    assert time.process_time() - begin < 60 * len(words) / 100_000 * 2


def test_every_letter_has_a_sound() -> None:
    for language in ("ta", "kn"):
        for letter in load_script(language).letters:
            load_g2p(language).pronounce_letters(letter)


def test_pronouncing_needs_no_pynini() -> None:
    code = (
        "import sys; from uyir.lexicon.g2p import load_g2p; load_g2p('ta').pronounce('அகம்');"
        "sys.exit(any(name in sys.modules for name in ('pynini', 'pywrapfst', 'torch')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("rules.tsv", "vowel\tஅ\tqq", "'qq' is neither"),
        ("rules.tsv", "vowel\tஅ\tkh", "'kh' is neither"),
        ("rules.tsv", "vowel\t{VOWEL}\ta", "only letters and phones"),
        ("rules.tsv", "vowel\tஅ\ta\t{NONE}", "'{NONE}' is neither"),
        ("rules.tsv", "Vowel\tஅ\ta", "bad rule name"),
        ("rules.tsv", "vowel\t\ta", "needs an input"),
        ("rules.tsv", "vowel\tஅ\ta\t\t\tcheap", "not a number"),
        ("rules.tsv", "vowel\tஅ\ta\t\t\t-1", "between 0 and 100"),
        ("classes.tsv", "VOWEL\tஅ", "repeated class"),
        ("classes.tsv", "EMPTY\t", "empty"),
        ("exceptions.tsv", "பஸ்\teverywhere\tb", "want stem or word"),
        ("exceptions.tsv", "ಬಸ್\tstem\tb", "not a letter"),
    ],
)
def test_bad_rule_files_name_the_line(tmp_path: Path, file: str, line: str, message: str) -> None:
    home = Path(g2p_module.__file__).parent / "ta"
    for name in ("rules.tsv", "classes.tsv", "exceptions.tsv"):
        shutil.copy(home / name, tmp_path / name)
    lines = (tmp_path / file).read_text(encoding="utf-8").rstrip("\n").split("\n")
    (tmp_path / file).write_text("\n".join([*lines, line]) + "\n", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_rules("ta", tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / file}:{len(lines) + 1}: ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("language", "name", "most"),
    [("ta", "ta_broad", 0.0375), ("ta", "ta_narrow", 0.0375), ("kn", "kn_broad", 0.0145)],
)
def test_phone_error_rate(language: str, name: str, most: float) -> None:
    data = Path(os.environ.get("UYIR_DATA", "")) / "g2p" / f"wikipron_{name}_dev.tsv"
    if not os.environ.get("UYIR_DATA") or not data.is_file():
        pytest.skip("set UYIR_DATA to a folder with g2p/wikipron_*_dev.tsv")
    from test_g2p_benchmark import benchmark

    rates = benchmark().rates(language, data, peers=False)
    assert rates["uyir"]["per"] <= most
