"""The machine that every language shares, on toy lists."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from uyir.errors import DataError, UyirError
from uyir.grammar.check import render_svg
from uyir.grammar.join import join
from uyir.grammar.morphotactics import (
    Grammar,
    compile_grammar,
    splice_states,
    subword_acceptor,
)
from uyir.grammar.segment import Segmenter
from uyir.lexicon.symbols import Symbols

WORDS = {
    "மரம்": ("மரம்",),
    "மரத்தை": ("மரத்த்+", "+ஐ"),
    "மரத்துக்கு": ("மரத்த்+", "+உக்கு"),
    "மரத்துக்கும்": ("மரத்த்+", "+உக்க்+", "+உம்"),
    "வீட்டில்": ("வீட்ட்+", "+இல்"),
    "வீட்டையும்": ("வீட்ட்+", "+ஐ+", "+யும்"),
    "வீடும்": ("வீட்+", "+உம்"),
    "தம்பிக்கு": ("தம்பி+", "+க்கு"),
    "தம்பியை": ("தம்பி+", "+யை"),
}


@pytest.mark.parametrize("word", WORDS)
def test_seam_rules_make_the_surface(toy: Grammar, word: str) -> None:
    result = Segmenter(toy).segment(word)
    assert result.closed
    assert result.marked == WORDS[word]
    assert join(result.marked, "ta") == word


@pytest.mark.parametrize("word", ["மரத்து", "மரமை", "வீடில்", "தம்பிஐ", "வீட்டுஉம்", "மரத்தைக்கு"])
def test_what_the_rules_exclude_is_not_closed(toy: Grammar, word: str) -> None:
    segmenter = Segmenter(toy)
    assert not segmenter.accepts(word)
    result = segmenter.segment(word)
    assert not result.closed
    assert join(result.marked, "ta") == word


def test_an_unknown_root_takes_known_endings(toy: Grammar) -> None:
    result = Segmenter(toy).segment("பாக்கியும்")
    assert not result.closed
    unknown = Segmenter(toy).segment("ரெட்டிக்கு")
    assert unknown.marked[-1] == "+க்கு"
    assert unknown.subwords[-1].gloss == "DAT"


@pytest.mark.parametrize("word", ["ரன்பீர்ரெட்டிக்கு", "ரன்பீர்கபூர்", "தம்பிக்கு"])
def test_an_unknown_root_is_one_morpheme(toy: Grammar, word: str) -> None:
    segmenter = Segmenter(toy)
    result = segmenter.segment(word)
    morphemes = segmenter.morphemes(result)
    assert sum(morpheme.unknown for morpheme in morphemes) == (not result.closed)
    assert len(morphemes) == 1 + (word != "ரன்பீர்கபூர்")
    assert join([morpheme.marked for morpheme in morphemes], "ta") == word
    assert morphemes[0].marked.endswith("+") == (len(morphemes) > 1)
    assert not any(piece.unknown for piece in result.subwords) or len(result.subwords) > 2


def test_every_segmentation_is_a_path_of_sg(toy: Grammar) -> None:
    pynini = pytest.importorskip("pynini")
    segmenter = Segmenter(toy)
    words = Symbols(["<eps>", *segmenter.pieces(), *splice_states(toy)])
    sg = subword_acceptor(toy, words)
    rng = random.Random(5)
    letters = "கசடதபமனியுாொ்அஇ"
    samples = [*WORDS, "ரெட்டிக்கு", "பிஎஸ்ஏ", "எஸ்ஐயும்"]
    while len(samples) < 300:
        word = "".join(rng.choice(letters) for _ in range(rng.randint(1, 7)))
        try:
            segmenter.segment(word)
        except Exception:
            continue
        samples.append(word)
    for word in samples:
        marked = segmenter.segment(word).marked
        assert join(marked, "ta") == word
        line = pynini.Fst()
        state = line.add_state()
        line.set_start(state)
        for piece in marked:
            label = words.id(piece)
            target = line.add_state()
            line.add_arc(state, pynini.Arc(label, label, 0, target))
            state = target
        line.set_final(state)
        assert pynini.compose(line, sg).num_states() > 0, (word, marked)


def test_sg_is_deterministic_without_epsilons_and_refuses_wrong_order(toy: Grammar) -> None:
    pynini = pytest.importorskip("pynini")
    words = Symbols(["<eps>", *Segmenter(toy).pieces(), *splice_states(toy)])
    sg = subword_acceptor(toy, words)
    properties = pynini.ACCEPTOR | pynini.I_DETERMINISTIC | pynini.NO_EPSILONS | pynini.COACCESSIBLE
    assert sg.properties(properties, True) == properties
    start = [arc.ilabel for arc in sg.arcs(sg.start())]
    assert all(not words.symbol(label).startswith("+") for label in start)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("nouns/prefix.tsv", "form\tclass\n", "columns"),
        (
            "nouns/prefix.tsv",
            "form\tclass\tnext\tgloss\tfeatures\tweight\tnote\nமலை\tn.am\n",
            "does not fit",
        ),
        (
            "nouns/prefix.tsv",
            "form\tclass\tnext\tgloss\tfeatures\tweight\tnote\nமலை\tn.none\n",
            "no class",
        ),
        (
            "nouns/suffix.tsv",
            "form\tclass\tnext\tgloss\tfeatures\tweight\tnote\nஐ\tn.obl n.vow\tnowhere\n",
            "nothing stands",
        ),
        (
            "nouns/suffix.tsv",
            "form\tclass\tnext\tgloss\tfeatures\tweight\tnote\nabc\tn.obl\t#\n",
            "not a letter",
        ),
    ],
)
def test_faults_name_file_and_line(
    toy_lists: Callable[[dict[str, str]], Path], name: str, text: str, said: str
) -> None:
    with pytest.raises(DataError, match=said) as caught:
        compile_grammar("ta", data=toy_lists({name: text}))
    assert Path(name).name in str(caught.value)


def test_drawings_are_svg_where_graphviz_is(monkeypatch: pytest.MonkeyPatch) -> None:
    drawing = 'digraph g { "n.cas" -> "#" [label="ஐ"]; }'
    if shutil.which("dot"):
        picture = render_svg(drawing)
        assert picture.startswith("<?xml") and "<svg" in picture and "ஐ" in picture
        with pytest.raises(UyirError, match="dot failed"):
            render_svg("digraph {")
    monkeypatch.setattr("uyir.grammar.check.shutil.which", lambda name: None)
    with pytest.raises(UyirError, match="Graphviz"):
        render_svg(drawing)
