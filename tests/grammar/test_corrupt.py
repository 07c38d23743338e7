"""Corrupted words and golden scores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from uyir.errors import DataError
from uyir.grammar.corrupt import KINDS, Corrupter, sample_corruptions
from uyir.grammar.golden import boundaries, score_golden
from uyir.grammar.morphotactics import compile_grammar, read_lists
from uyir.grammar.script import is_wellformed
from uyir.grammar.segment import Segmenter

VERBS = {
    "verbs/stems.tsv": "class\trule\tnext\tfeatures\tnote\nv.w\tsame\tv.w\nv.s\tsame\tv.s\n"
    "n.c\tsame\t# n.nom n.obl\n",
    "verbs/prefix.tsv": "form\tclass\tnext\tgloss\tfeatures\tweight\tnote\nசெய்\tv.w\t\tdo\nபடி\tv.s\t\tread\n",
    "verbs/infix.tsv": "form\tclass\tnext\tgloss\tfeatures\tweight\tnote\n"
    "த்\tv.w\tv.pst\tPST\ttense=past\nத்த்\tv.s\tv.pst\tPST\ttense=past\n",
    "verbs/suffix.tsv": "form\tclass\tnext\tgloss\tfeatures\tweight\tnote\nஆன்\tv.pst\t# c.clitic\t3SG.M\n",
}


@pytest.fixture
def corrupter(toy_lists: Callable[[dict[str, str]], Path]) -> Corrupter:
    data = toy_lists(VERBS)
    return Corrupter(Segmenter(compile_grammar("ta", data=data)), read_lists("ta", data))


MADE = {
    "படித்தானும்": {
        ("reverse", "படித்துமான்"),
        ("double", "படித்த்த்தானும்"),
        ("double", "படித்தானானும்"),
        ("double", "படித்தானுமும்"),
        ("tense", "படிதானும்"),
    },
    "செய்தான்": {
        ("reverse", "செயான்த்"),
        ("double", "செய்த்தான்"),
        ("double", "செய்தானான்"),
        ("delete", "செயான்"),
        ("tense", "செய்த்தான்"),
    },
    "மரத்தை": {("delete", "மரமை"), ("stem", "மரமை")},
    "ரெட்டிக்கு": set(),  # an unknown root
}


@pytest.mark.parametrize("word", MADE)
def test_each_kind_changes_what_it_says(corrupter: Corrupter, word: str) -> None:
    made = [(c.kind, c.corrupted) for c in corrupter.corruptions(word)]
    assert len(made) == len(set(made))
    assert set(made) == MADE[word]
    assert all(is_wellformed(corrupted, "ta") for _, corrupted in made)


def test_a_sample_is_the_same_for_the_same_seed_and_has_no_attested_word(
    corrupter: Corrupter,
) -> None:
    words = ["படித்தானும்", "செய்தான்", "மரத்தை"]
    sample = sample_corruptions(corrupter, words, {"மரமை"}, 100, seed=3)
    assert sample == sample_corruptions(corrupter, words[::-1], {"மரமை"}, 100, seed=3)
    assert {c.kind for c in sample} == set(KINDS) - {"stem"}
    assert "மரமை" not in {c.corrupted for c in sample}
    assert len({c.corrupted for c in sample}) == len(sample)
    assert len(sample_corruptions(corrupter, words, (), 1)) < len(sample)


def test_golden_score(corrupter: Corrupter, tmp_path: Path) -> None:
    golden = tmp_path / "golden.tsv"
    golden.write_text(
        "word\tpieces\tcategory\nமரத்தை\tமரத்த் ஐ\tnouns\nவீட்டில்\tவீட்டில்\tnouns\n"
        "படித்தான்\tபடி த்தான்\tnouns\n",
        encoding="utf-8",
    )
    score = score_golden(corrupter.segmenter, golden)
    assert (score.words, score.precision, score.recall) == (3, 2 / 4, 2 / 2)
    assert score.f1 == pytest.approx(2 / 3)
    assert score.category == pytest.approx(2 / 3)
    assert [row[0] for row in score.wrong] == ["வீட்டில்", "படித்தான்"]
    golden.write_text("word\tpieces\tcategory\nமரத்தை\tமரம் ஐ\tnouns\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"golden.tsv:2: the pieces make"):
        score_golden(corrupter.segmenter, golden)


def test_boundaries_are_letters() -> None:
    assert boundaries(["படி", "த்த்", "ஆன்"], "ta") == {4, 6}
