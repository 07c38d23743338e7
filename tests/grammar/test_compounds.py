"""Compounds whose members have places, and what an unknown root is taken for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from uyir import LANGUAGES
from uyir.errors import DataError
from uyir.grammar.morphotactics import Grammar, compile_grammar
from uyir.grammar.segment import Segmenter, load_segmenter

#: அகம் may be followed by நகர், and neither by itself.
PLACES = {
    "states.tsv": "state\tincludes\tnote\nn.cmp\tn.cmp/2\nn.cmp/2\tn.cmp/3\nn.cmp/3\t\tnothing follows\n",
    "nouns/stems.tsv": "class\trule\tnext\tfeatures\tnote\nn.c\tsame\t# n.cmp\n",
    "nouns/prefix.tsv": "form\tclass\tnext\tgloss\tfeatures\tweight\tnote\nகல்\tn.c\n",
    "nouns/suffix.tsv": "form\tclass\tnext\tgloss\tfeatures\tweight\tnote\nகண்\tn.cmp\t=n.c/2\nநகர்\tn.cmp/2\t=n.c/3\n",
    "sandhi.tsv": "rule\tleft\tright\tleft_out\tright_out\tat\tnote\n",
    "open.tsv": "state\tpattern\tweight\tmin\tnote\n",
}

Write = Callable[[dict[str, str]], Path]


def test_a_level_leads_to_the_states_that_it_has_of_its_own(toy_lists: Write) -> None:
    segmenter = Segmenter(compile_grammar("ta", data=toy_lists(PLACES)))
    for word in ("கல்", "கல்கண்", "கல்நகர்", "கல்கண்நகர்"):
        assert segmenter.accepts(word), word
    for word in ("கல்கண்கண்", "கல்நகர்நகர்", "கல்நகர்கண்", "கல்கண்நகர்நகர்"):
        assert not segmenter.accepts(word), word


def test_a_level_that_no_state_has_is_an_error(toy_lists: Write) -> None:
    changed = PLACES["nouns/suffix.tsv"].replace("=n.c/3", "=n.c/last")
    with pytest.raises(DataError, match=r"suffix\.tsv:3: 'நகர்': no state ends in '/last'"):
        compile_grammar("ta", data=toy_lists({**PLACES, "nouns/suffix.tsv": changed}))


def test_a_state_that_lacks_a_level_is_an_error(toy_lists: Write) -> None:
    """Falling back to the state without a level would let every member follow again."""
    changed = {
        "nouns/stems.tsv": PLACES["nouns/stems.tsv"].replace("n.cmp\n", "n.cmp n.cmpv\n"),
        "nouns/infix.tsv": "form\tclass\tnext\tgloss\tfeatures\tweight\tnote\nஅடி\tn.cmpv n.cmpv/2\t=n.c/2\n",
    }
    with pytest.raises(DataError, match=r"'n\.cmpv' has levels, but no 'n\.cmpv/3'"):
        compile_grammar("ta", data=toy_lists({**PLACES, **changed}))


@pytest.mark.parametrize(
    ("word", "accepted"),
    [
        ("அறிவியலாளர்கள்", True),
        ("மறுமதிப்பீட்டில்", True),
        ("பந்துவீச்சாளர்", True),
        ("இப்பகுதிக்கு", True),
        ("இப்பகுதிபகுதிக்கு", False),
        ("மனநலநல", False),
        ("இவ்வாலயத்தாலயத்தை", False),
        ("பரப்பளவளவை", False),
        ("படைத்துறைத்துறை", False),
    ],
)
def test_no_head_of_a_tamil_compound_follows_itself(word: str, accepted: bool) -> None:
    assert load_segmenter("ta").accepts(word) == accepted


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_two_heads_make_a_circle(language: str) -> None:
    """Nowhere in the grammar can a medial noun be read twice in a row."""
    grammar: Grammar = load_segmenter(language).grammar
    heads = {
        number
        for number, entry in enumerate(grammar.entries)
        if entry.kind == "infix"
        and entry.category == "nouns"
        and entry.path.stem != "infix"
        and any(name.startswith("=n.") for name in entry.next)
    }
    twice = {
        grammar.entries[arc.entry].form
        for arcs in grammar.arcs
        for arc in arcs
        if arc.entry in heads
        for after in grammar.arcs[arc.target]
        if after.entry == arc.entry
    }
    assert twice == set()


@pytest.mark.parametrize(
    ("language", "word", "category"),
    [
        ("ta", "குவண்டைசேஷன்களுக்கும்", "nouns"),
        ("ta", "ஸ்வார்ட்ஸ்ஃபெல்", "nouns"),
        ("ta", "ஃபெகிட்டிக்கிறார்கள்", "verbs"),
        ("kn", "ಸ್ಟ್ರಾಸ್ಬೆಂಕ್", "nouns"),
    ],
)
def test_an_unknown_root_is_what_its_endings_make_it(
    language: str, word: str, category: str
) -> None:
    result = load_segmenter(language).segment(word)
    assert not result.closed
    assert result.category == category


@pytest.mark.parametrize(
    ("word", "pieces", "category"),
    [
        ("இருக்கலாம்", "இரு க்க் அலாம்", "verbs"),
        ("கொடுக்கும்", "கொடு க்க் உம்", "verbs"),
        ("செய்யப்பட்டுள்ளது", "செய்ய் அ ப்பட்ட் உள்ள் அது", "verbs"),
        ("வரவில்லை", "வர் அ வில்லை", "verbs"),
        ("வந்திருந்தான்", "வந்த் இரு ந்த் ஆன்", "verbs"),
        ("கப்பலின்", "கப்பல் இன்", "nouns"),
        ("மனிதனிடமிருந்து", "மனிதன் இடம் இருந்து", "nouns"),
        ("தேர்தலில்", "தேர்தல் இல்", "nouns"),
        ("அவரது", "அவர் அது", "pronouns"),
    ],
)
def test_no_fragment_of_a_word_stands_as_a_root(word: str, pieces: str, category: str) -> None:
    result = load_segmenter("ta").segment(word)
    assert " ".join(piece.form for piece in result.subwords) == pieces
    assert result.category == category
