"""The Tamil lists against forms and segmentations made by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from uyir.grammar.join import join
from uyir.grammar.lists import read_table
from uyir.grammar.morphotactics import load_grammar
from uyir.grammar.script import decompose
from uyir.grammar.segment import Segmenter, load_segmenter

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return load_segmenter("ta")


def boundaries(pieces: list[str]) -> set[int]:
    """Where pieces meet, in letters from the beginning of the word."""
    found, position = set(), 0
    for piece in pieces[:-1]:
        position += len(decompose(piece, "ta"))
        found.add(position)
    return found


def test_one_walk_through_a_long_word(segmenter: Segmenter) -> None:
    result = segmenter.segment("படித்துக்கொண்டிருந்தவர்களுக்குத்தான்")
    assert result.closed
    assert result.category == "verbs"
    assert result.marked == (
        "படி+",
        "+த்த்+",
        "+உ+",
        "+க்கொண்ட்+",
        "+இரு+",
        "+ந்த்+",
        "+அவர்+",
        "+கள்+",
        "+உக்கு+",
        "+த்தான்",
    )


def test_paradigms(segmenter: Segmenter) -> None:
    """Every class: the forms of its model, and forms with another class's stem or tense."""
    wrong = [
        f"{row['word']} ({row['what']})"
        for row in read_table(GOLDEN / "ta_paradigms.tsv", ("word", "accepted", "what"))
        if segmenter.accepts(row["word"]) != (row["accepted"] == "yes")
    ]
    assert not wrong


def test_golden_segments(segmenter: Segmenter) -> None:
    right = ours = gold = words = categories = 0
    for row in read_table(GOLDEN / "ta_segments.tsv", ("word", "pieces", "category")):
        pieces = row["pieces"].split()
        assert join(pieces, "ta") == row["word"]
        result = segmenter.segment(row["word"])
        wanted = boundaries(pieces)
        found = boundaries([subword.form for subword in result.subwords])
        right += len(wanted & found)
        ours += len(found)
        gold += len(wanted)
        words += 1
        categories += result.category == row["category"]
    assert words >= 300
    assert 2 * right / (ours + gold) >= 0.95
    assert categories / words >= 0.95


@pytest.mark.parametrize("stop", ["க்", "ச்", "த்", "ப்"])
def test_a_linking_stop_is_a_piece_of_its_own(segmenter: Segmenter, stop: str) -> None:
    pieces = segmenter.segment("மரத்தை" + stop).subwords
    assert [piece.form for piece in pieces] == ["மரத்த்", "ஐ", stop]
    assert pieces[-1].gloss == "LINK"
    assert not segmenter.accepts("மரங்கள்" + stop + stop)


def test_colloquial_endings_can_be_switched_off(segmenter: Segmenter) -> None:
    standard = Segmenter(load_grammar("ta", frozenset({"style=colloquial"})))
    for word in ("படிக்கணும்", "வந்தாங்க", "படிச்சான்"):
        assert segmenter.accepts(word), word
        assert not standard.accepts(word), word
    assert standard.accepts("படிக்கவேண்டும்")


def test_unknown_roots_take_known_endings(segmenter: Segmenter) -> None:
    result = segmenter.segment("குவண்டைசேஷன்களுக்கும்")
    assert not result.closed
    assert [piece.form for piece in result.subwords][-3:] == ["கள்", "உக்க்", "உம்"]
    assert join(result.marked, "ta") == "குவண்டைசேஷன்களுக்கும்"


def test_closed_grammar_refuses_what_is_no_word(segmenter: Segmenter) -> None:
    for nonsense in ("கஙசஞ", "களுக்குகள்", "த்தான்படி", "இல்மரத்த்", "கிறான்செய்"):
        assert not segmenter.accepts(nonsense), nonsense


def corruptions(pieces: list[str]) -> list[list[str]]:
    """A word's pieces with one affix doubled, left out or changed with its neighbour."""
    found = []
    for i in range(1, len(pieces) - 1):
        found.append([*pieces[: i + 1], pieces[i], *pieces[i + 1 :]])
        found.append([*pieces[:i], pieces[i + 1], pieces[i], *pieces[i + 2 :]])
        found.append(pieces[:i] + pieces[i + 1 :])
    return found


def test_at_most_one_corrupted_word_in_ten_passes(segmenter: Segmenter) -> None:
    """Some of those that pass are words: நண்பர்களால் without -கள்- is நண்பரால்."""
    words = [
        row["word"]
        for row in read_table(GOLDEN / "ta_segments.tsv", ("word", "pieces", "category"))
    ]
    words += [
        row["word"]
        for row in read_table(GOLDEN / "ta_paradigms.tsv", ("word", "accepted", "what"))
        if row["accepted"] == "yes"
    ]
    made = passed = 0
    for word in words:
        pieces = [subword.form for subword in segmenter.segment(word).subwords]
        for corrupted in corruptions(pieces):
            form = join(corrupted, "ta")
            if form not in words:
                made += 1
                passed += segmenter.accepts(form)
    assert made > 500
    assert passed / made <= 0.10


def test_survivors_are_read_by_hand(segmenter: Segmenter) -> None:
    """The sample of corrupted words that pass is of this grammar, near enough, and all read."""
    columns = ("corruption", "from", "corrupted", "pieces", "verdict")
    rows = list(read_table(GOLDEN / "ta_survivors.tsv", columns))
    assert len(rows) == 100
    assert {row["verdict"] for row in rows} == {"word", "fault"}
    assert sum(segmenter.accepts(row["corrupted"]) for row in rows) >= 90


def test_commonest_failures_are_accounted_for() -> None:
    rows = list(read_table(GOLDEN / "ta_failures.tsv", ("word", "count", "reason")))
    reasons = {"misspelt", "no space", "piece", "verse", "compound", "name"}
    assert len(rows) == len({row["word"] for row in rows}) == 500
    assert {row["reason"] for row in rows} == reasons


def test_the_accounted_failures_are_still_refused(segmenter: Segmenter) -> None:
    rows = read_table(GOLDEN / "ta_failures.tsv", ("word", "count", "reason"))
    accepted = [row["word"] for row in rows if segmenter.accepts(row["word"])]
    assert accepted == []


@pytest.mark.parametrize(
    "word",
    [
        "நடவாமல்",  # negative with a glide
        "செய்யக்கடவன்",  # optative of older prose
        "செய்வாயாக",
        "வேண்டுமானால்",
        "யாரேனும்",
        "அவர்கள்மேல்",
        "உயிரோடிருந்தான்",
        "இப்படித்தான்",
        "ஈராக்கில்",
        "செய்யலாயினர்",
        "தெரியலியா",
        "வருது",
        "இருக்காங்க",
        "இருபதுபேர்",
        "செய்யுமுன்",
        "பிறர்க்கு",
        "இயலாது",
        "இக்கல்வெட்டு",
    ],
)
def test_forms_of_other_genres(segmenter: Segmenter, word: str) -> None:
    assert segmenter.accepts(word)


@pytest.mark.parametrize(
    "word", ["செய்யுமும்", "வந்தும்உம்", "மனிதன்கள்", "செயற்கையாகவோவோ", "உறுப்பினரினர்", "இக்மரம்"]
)
def test_forms_that_no_one_says(segmenter: Segmenter, word: str) -> None:
    assert not segmenter.accepts(word)


@pytest.mark.parametrize("form", ["தெரியலியா", "வருது", "இருக்காங்க", "வந்தாச்சு"])
def test_spoken_endings_can_be_switched_off(form: str) -> None:
    assert Segmenter(load_grammar("ta")).accepts(form)
    assert not Segmenter(load_grammar("ta", frozenset({"style=colloquial"}))).accepts(form)
