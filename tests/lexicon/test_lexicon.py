"""L: what it reads along subwords is what the rules say of the word, whatever the cut."""

from __future__ import annotations

import importlib.util
import random
import time
from pathlib import Path
from typing import Any

import pytest
from lexicon_samples import outputs, random_letters

from uyir.errors import DataError, ScriptError
from uyir.grammar.join import mark
from uyir.grammar.lists import read_table
from uyir.grammar.morphotactics import Grammar
from uyir.grammar.script import HIATUS, compose, decompose, load_script
from uyir.grammar.segment import load_segmenter
from uyir.lexicon.g2p import load_g2p
from uyir.lexicon.lexicon import build_letter_lexicon, build_phone_lexicon
from uyir.lexicon.symbols import WORD_END, Symbols, tokens_table
from uyir.lexicon.user import Entry, UserLexicon, pronounce_subwords

LANGUAGES = ("ta", "kn")

_path = Path(__file__).resolve().parents[2] / "benchmarks" / "seams.py"
_spec = importlib.util.spec_from_file_location("seams", _path)
assert _spec is not None and _spec.loader is not None
seams: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(seams)
Along = seams.Along


def cuts(letters: str, language: str, rng: random.Random) -> tuple[str, ...]:
    """A random segmentation of a word, not next to a hiatus nor before a nukta."""
    script = load_script(language)
    bad = {HIATUS, script.nukta, *script.marks}
    places = [i for i in range(1, len(letters)) if not {letters[i - 1], letters[i]} & bad]
    chosen = sorted(rng.sample(places, min(len(places), rng.randint(0, 3))))
    ends = [0, *chosen, len(letters)]
    return mark([compose(letters[a:b], language) for a, b in zip(ends, ends[1:])])


def wellformed(language: str, count: int, seed: int, longest: int = 8) -> list[str]:
    out = []
    for letters in random_letters(language, 20 * count, seed, longest):
        try:
            if decompose(compose(letters, language), language) == letters:
                out.append(letters)
        except ScriptError:
            continue
        if len(out) == count:
            break
    return out


def grown(language: str, count: int, seed: int) -> list[str]:
    """Words made by random walks through the expanded grammar."""
    segmenter = load_segmenter(language)
    grammar = segmenter.grammar
    rng = random.Random(seed)
    out: list[str] = []
    while len(out) < count:
        state, letters = Grammar.START, ""
        while state != Grammar.END and len(letters) < 40:
            arc = rng.choice(grammar.arcs[state])
            state, letters = arc.target, letters + arc.letters
        if state == Grammar.END:
            out.append(compose(letters, language))
    return out


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_segmentation_that_the_grammar_allows_sounds_like_the_word(language: str) -> None:
    report = seams.check(language, grown(language, 60, seed=34))
    assert report["pronunciations"] >= report["segmentations"] > 60
    assert report["differing"] == 0, report["examples"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_any_segmentation_sounds_like_the_word(language: str) -> None:
    rng = random.Random(31)
    samples = [
        (letters, cuts(letters, language, rng))
        for letters in wellformed(language, 100, seed=31)
        for _ in range(3)
    ]
    along = Along([s for _, subwords in samples for s in subwords], language)
    g2p = load_g2p(language)
    for letters, subwords in samples:
        made = g2p.pronounce(compose(letters, language), limit=5000)
        assert along(subwords) == {p.phones: round(p.weight, 3) for p in made}, subwords


@pytest.mark.parametrize("language", LANGUAGES)
def test_segmentations_of_the_grammar_sound_like_the_word(language: str) -> None:
    segmenter = load_segmenter(language)
    golden = Path(__file__).parent / "golden" / f"{language}.tsv"
    words = [row["word"] for row in read_table(golden, ("word", "phones", "rule"))]
    words += {
        "ta": ["படித்தான்", "வந்திருக்கிறார்கள்", "வீட்டிலிருந்து", "மரங்களுக்கு", "இருபத்தைந்து"],
        "kn": ["ಮಾಡುತ್ತಾನೆ", "ಮನೆಯಲ್ಲಿ", "ಹುಡುಗರಿಗೆ", "ಬರುತ್ತಿದ್ದರು", "ಇಪ್ಪತ್ತೈದು"],
    }[language]
    samples = [(word, segmenter.segment(word).marked) for word in words]
    assert any(len(subwords) > 1 for _, subwords in samples)
    along = Along([s for _, subwords in samples for s in subwords], language)
    for word, subwords in samples:
        made = load_g2p(language).pronounce(word, limit=5000)
        assert along(subwords) == {p.phones: round(p.weight, 3) for p in made}, subwords


def test_the_seam_that_the_context_free_lexicon_gets_wrong() -> None:
    table = ["படு+", "+கிட்டு", "கிட்டு"]
    along = Along(table, "ta", variants=False)
    assert along(["படு+", "+கிட்டு"]) == {("p", "a", "dx", "u", "g", "i", "ttx", "eu"): 0}
    assert along(["கிட்டு"]) == {("k", "i", "ttx", "eu"): 0}
    tokens = tokens_table()
    words = Symbols(["<eps>", *table])
    free = build_phone_lexicon(words, "ta", tokens, variants=False)
    found = outputs([words.id("படு+"), words.id("+கிட்டு")], free.fst.copy().invert())
    (phones,) = found
    spoken = [free.tokens.symbol(i) for i in phones if i not in free.disambig]
    assert spoken == ["p", "a", "dx", "eu", "k", "i", "ttx", "eu"]


def test_words_follow_words_and_orphans_do_not_occur() -> None:
    along = Along(["வீடு", "வீடு+", "+கள்", "+க்+", "கள்"], "ta", variants=False)
    house, houses = ("v", "ii", "dx", "eu"), ("v", "ii", "dx", "u", "g", "a", "lx")
    assert along(["வீடு", "கள்"]) == {(*house, *["k", "a", "lx"]): 0}
    assert along(["வீடு+", "+கள்", "வீடு"]) == {(*houses, *house): 0}
    for orphan in (["+கள்"], ["வீடு+"], ["வீடு+", "வீடு"], ["வீடு", "+கள்"], ["வீடு+", "+க்+"]):
        assert along(orphan) == {}, orphan


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", ["letters", "phones"])
def test_lexica_are_deterministic_and_have_no_silent_cycle(language: str, kind: str) -> None:
    rng = random.Random(32)
    table = [s for x in wellformed(language, 300, seed=32) for s in cuts(x, language, rng)]
    words = Symbols(["<eps>", *dict.fromkeys(table), "<splice:n.root>", "<unk>", "#0"])
    if kind == "letters":
        made: Any = build_letter_lexicon(words, language)
        symbols = made.letters
    else:
        made = build_phone_lexicon(words, language, tokens_table())
        symbols = made.tokens
    for state in made.fst.states():
        labels = [arc.ilabel for arc in made.fst.arcs(state)]
        assert 0 not in labels and len(labels) == len(set(labels))
    assert [symbols.symbol(i) for i in made.disambig][:2] == ["#0", "#1"]
    assert made.splices == {"<splice:n.root>": symbols.id("<splice:n.root>")}
    written = {arc.olabel for state in made.fst.states() for arc in made.fst.arcs(state)}
    assert written == {i for i, word in enumerate(words) if word not in ("<unk>",)}


def test_splice_opens_a_word() -> None:
    words = Symbols(["<eps>", "<splice:n>", "+கள்", "கள்"])
    lexicon = build_letter_lexicon(words, "ta")
    spell = lexicon.fst.copy().invert()
    inside = outputs([1, 2], spell)
    (labels,) = inside
    assert labels[0] == lexicon.splices["<splice:n>"]
    assert lexicon.letters.symbol([i for i in labels if i not in lexicon.disambig][-1]) == WORD_END
    assert outputs([1, 3], spell) == {} and outputs([1], spell) == {}


def test_homophones_are_kept_apart() -> None:
    words = Symbols(["<eps>", "மனம்", "மநம்", "மனம்+"])
    free = build_phone_lexicon(words, "ta", tokens_table(), variants=False)
    assert [free.tokens.symbol(i) for i in free.disambig] == ["#1", "#2", "#3"]


def test_bad_tables() -> None:
    with pytest.raises(ScriptError, match="subword 1, 'abc'"):
        build_letter_lexicon(Symbols(["<eps>", "abc"]), "ta")
    with pytest.raises(ScriptError, match="subword 1, '\\+'"):
        build_letter_lexicon(Symbols(["<eps>", "+"]), "ta")
    with pytest.raises(DataError, match="none of the 2 symbols"):
        build_letter_lexicon(Symbols(["<eps>", "#0"]), "ta")


def test_user_subwords_are_context_in_the_graph_too() -> None:
    mine = UserLexicon(
        "ta",
        {"கள்": (Entry(("g", "a"), 0.25),)},
        {"டிவி+": (Entry(("dx", "i", "v", "i"), 0.5), Entry(("b", "i", "l"), 0.0))},
    )
    along = Along(["டிவி+", "+கள்", "+லாம்", "கள்"], "ta", variants=False, user=mine)
    for subwords in (["டிவி+", "+கள்"], ["டிவி+", "+லாம்"], ["கள்"]):
        made = pronounce_subwords(subwords, "ta", mine, variants=False)
        assert along(subwords) == {p.phones: round(p.weight, 3) for p in made}
    assert along(["டிவி+", "+லாம்"])[("b", "i", "ll", "aa", "m")] == 0
    assert along(["டிவி+", "+கள்"])[("dx", "i", "v", "i", "g", "a", "lx")] == 0.5


@pytest.mark.parametrize("language", LANGUAGES)
def test_speed_of_compilation(language: str) -> None:
    rng = random.Random(33)
    letters = wellformed(language, 2000, seed=33, longest=12)
    words = Symbols(dict.fromkeys(["<eps>", *(s for x in letters for s in cuts(x, language, rng))]))
    begin = time.process_time()
    build_letter_lexicon(words, language)
    # 50,000 subwords in well under a minute, at this rate.
    assert time.process_time() - begin < 40 * len(words) / 50_000
