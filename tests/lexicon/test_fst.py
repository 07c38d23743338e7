"""The rules as a transducer: the same as the regular expressions, across words, with extras."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from lexicon_samples import outputs, random_letters

from uyir.errors import DataError
from uyir.grammar.script import decompose
from uyir.lexicon import g2p as g2p_module
from uyir.lexicon.fst import letter_symbols, phone_letter, phone_transducer
from uyir.lexicon.g2p import OPAQUE, G2p, load_g2p, phone_characters, read_rules
from uyir.lexicon.symbols import WORD_END, Symbols, tokens_table
from uyir.lexicon.user import Entry, UserLexicon

LANGUAGES = ("ta", "kn")


def named(found: dict[tuple[int, ...], float], tokens: Symbols) -> dict[tuple[str, ...], float]:
    return {tuple(map(tokens.symbol, key)): round(w, 3) for key, w in found.items()}


def expected(language: str, letters: str, variants: bool) -> dict[tuple[str, ...], float]:
    made = load_g2p(language).pronounce_letters(letters, variants, limit=5000)
    return {p.phones: round(p.weight, 3) for p in made}


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("variants", [False, True])
def test_transducer_and_regular_expressions_are_equal(language: str, variants: bool) -> None:
    letters, tokens = letter_symbols(language), tokens_table()
    fst = load_g2p(language).fst(letters, tokens, variants=variants)
    for word in random_letters(language, 600, seed=21, longest=9):
        found = outputs([letters.id(letter) for letter in word], fst)
        assert named(found, tokens) == expected(language, word, variants), word


@pytest.mark.parametrize(("weight", "count"), [("", 1), ("0.5", 4)])
def test_a_rule_sees_on_its_left_what_it_made(tmp_path: Path, weight: str, count: int) -> None:
    home = Path(g2p_module.__file__).parent / "ta"
    for name in ("classes.tsv", "exceptions.tsv"):
        shutil.copy(home / name, tmp_path / name)
    rules = (home / "rules.tsv").read_text(encoding="utf-8")
    first = rules.index("aytham")
    spread = f"spread\tஅ\tஆ\tஆ\t\t{weight}\n"
    (tmp_path / "rules.tsv").write_text(rules[:first] + spread + rules[first:], encoding="utf-8")
    g2p = G2p("ta", read_rules("ta", tmp_path))
    letters, tokens = letter_symbols("ta"), tokens_table()
    fst = g2p.fst(letters, tokens)
    found = named(outputs([letters.id(letter) for letter in "ஆஅஅஅ"], fst), tokens)
    made = {p.phones: round(p.weight, 3) for p in g2p.pronounce_letters("ஆஅஅஅ")}
    assert found == made and len(made) == count
    assert ("aa", "aa", "aa", "aa") in made


@pytest.mark.parametrize("language", LANGUAGES)
def test_rules_see_no_further_than_the_word(language: str) -> None:
    letters, tokens = letter_symbols(language), tokens_table()
    fst = phone_transducer(language, letters, tokens, variants=False)
    words = list(random_letters(language, 150, seed=22, longest=5))
    for first, second in zip(words, words[1:]):
        labels = [letters.id(x) for word in (first, second) for x in (*word, WORD_END)]
        wanted = tuple(
            phone
            for word in (first, second)
            for phone in load_g2p(language).pronounce_letters(word, variants=False)[0].phones
        )
        assert named(outputs(labels, fst), tokens) == {wanted: 0.0}


def test_only_closed_words_are_accepted() -> None:
    letters, tokens = letter_symbols("ta"), tokens_table()
    fst = phone_transducer("ta", letters, tokens)
    end = letters.id(WORD_END)
    assert outputs([], fst) == {(): 0.0}
    assert outputs([end], fst) == {}
    assert outputs([letters.id("அ")], fst) == {}
    assert outputs([letters.id("அ"), end, end], fst) == {}


@pytest.mark.parametrize("language", LANGUAGES)
def test_size(language: str) -> None:
    fst = phone_transducer(language, letter_symbols(language), tokens_table())
    assert fst.num_states() < 500
    assert sum(fst.num_arcs(state) for state in fst.states()) < 25_000


@pytest.mark.parametrize("language", LANGUAGES)
def test_opaque_symbols_pass_and_are_vowels_to_the_rules(language: str) -> None:
    letters, tokens = letter_symbols(language), tokens_table()
    one, two = letters.add("<splice:one>"), letters.add("<splice:two>")
    out = {one: tokens.add("<splice:one>"), two: tokens.add("<splice:two>")}
    fst = phone_transducer(language, letters, tokens, variants=False, passthrough=out)
    g2p = load_g2p(language)
    chars = phone_characters()[0]
    for rest in random_letters(language, 80, seed=23, longest=4):
        for marker in (one, two):
            labels = [marker, *(letters.id(x) for x in rest), letters.id(WORD_END)]
            # A vowel phone that nothing merges with or rewrites sounds the same to every rule.
            plain = g2p.pronounce_letters(chars["o"] + rest, variants=False)[0].phones
            found = named(outputs(labels, fst), tokens)
            assert found == {(letters.symbol(marker), *plain[1:]): 0.0}, rest
    without = phone_transducer(language, letters, tokens, variants=False)
    assert outputs([one, letters.id(WORD_END)], without) == {}
    assert OPAQUE not in letters


def test_transparent_symbols_are_unseen() -> None:
    letters, tokens = letter_symbols("ta"), tokens_table()
    mark = letters.add("#1")
    fst = phone_transducer("ta", letters, tokens, variants=False, transparent={mark: 0})
    for word in ("பாம்பு", "அக்கா", "காற்று"):
        spelled = [letters.id(x) for x in decompose(word, "ta")]
        plain = outputs([*spelled, letters.id(WORD_END)], fst)
        for place in range(len(spelled) + 1):
            labels = [*spelled[:place], mark, *spelled[place:], letters.id(WORD_END)]
            assert outputs(labels, fst) == plain


def test_max_weight_leaves_out_dear_rules() -> None:
    letters, tokens = letter_symbols("ta"), tokens_table()
    labels = [*(letters.id(x) for x in decompose("மரம்", "ta")), letters.id(WORD_END)]
    some = phone_transducer("ta", letters, tokens, max_weight=1.0)
    more = phone_transducer("ta", letters, tokens, max_weight=3.0)
    assert len(outputs(labels, some)) == 1 and len(outputs(labels, more)) == 2


def test_missing_phone_in_the_token_table() -> None:
    with pytest.raises(DataError, match="among the table's 2"):
        phone_transducer("ta", letter_symbols("ta"), Symbols(["<blk>", "a"]))


def user(words: dict[str, Any]) -> UserLexicon:
    entries = {
        word: tuple(Entry(tuple(phones.split()), weight) for phones, weight in made)
        for word, made in words.items()
    }
    return UserLexicon("ta", entries, {})


def test_user_words_override_the_rules() -> None:
    letters, tokens = letter_symbols("ta"), tokens_table()
    mine = user({"வீடு": [("b ii dx u", 0.0), ("v ii dx", 0.5)]})
    fst = phone_transducer("ta", letters, tokens, user=mine)
    plain = phone_transducer("ta", letters, tokens)

    def read(word: str, graph: Any) -> dict[tuple[str, ...], float]:
        labels = [*(letters.id(x) for x in decompose(word, "ta")), letters.id(WORD_END)]
        return named(outputs(labels, graph), tokens)

    assert read("வீடு", fst) == {("b", "ii", "dx", "u"): 0.0, ("v", "ii", "dx"): 0.5}
    for other in ("வீடுகள்", "வீ", "அகம்"):
        assert read(other, fst) == read(other, plain)


def test_phone_letters_are_context_for_rules() -> None:
    letters, tokens = letter_symbols("ta"), tokens_table()
    for phone in "ban":
        letters.add(phone_letter(phone))
    fst = phone_transducer("ta", letters, tokens, variants=False)
    labels = [letters.id(x) for x in ("/b/", "/a/", "க", "ஆ", "/n/", "ன", "அ", WORD_END)]
    assert named(outputs(labels, fst), tokens) == {("b", "a", "g", "aa", "nn", "a"): 0.0}
