"""Properties that every language's grammar must have."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from uyir import LANGUAGES
from uyir.grammar.corrupt import Corrupter, sample_corruptions
from uyir.grammar.golden import score_golden
from uyir.grammar.join import join
from uyir.grammar.lists import read_table
from uyir.grammar.morphotactics import Grammar, load_grammar
from uyir.grammar.script import compose, is_wellformed
from uyir.grammar.segment import load_segmenter

GOLDEN = Path(__file__).parent / "golden"


def random_word(grammar: Grammar, rng: random.Random) -> str:
    """A random walk from the first state to the end, in letters; short ones are tried until one ends."""
    while True:
        state, letters = Grammar.START, ""
        for _ in range(12):
            arcs = grammar.arcs[state]
            arc = rng.choice(arcs)
            state, letters = arc.target, letters + arc.letters
            if state == Grammar.END:
                return letters


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_line_of_the_lists_is_on_a_path(language: str) -> None:
    grammar = load_grammar(language)
    assert [(e.form, e.path.name, e.line) for e in grammar.unused] == []
    assert {arc.entry for arcs in grammar.arcs for arc in arcs} == set(range(len(grammar.entries)))


@pytest.mark.parametrize("language", LANGUAGES)
def test_trim_without_epsilons_and_each_arc_once(language: str) -> None:
    grammar = load_grammar(language)
    onward = [{arc.target for arc in arcs} for arcs in grammar.arcs]
    unknown = {row.state for row in grammar.open_rows}
    reached = {Grammar.START, *(i for i, s in enumerate(grammar.states) if s.name in unknown)}
    stack = list(reached)
    while stack:
        for target in onward[stack.pop()] - reached:
            reached.add(target)
            stack.append(target)
    assert reached == set(range(len(grammar.states)))
    alive = {Grammar.END}
    while True:
        more = {s for s, targets in enumerate(onward) if targets & alive} - alive
        if not more:
            break
        alive |= more
    assert alive == set(range(len(grammar.states)))
    assert not grammar.arcs[Grammar.END]
    for arcs in grammar.arcs:
        assert all(arc.letters for arc in arcs)  # no epsilons, hence no cycle of them
        assert len({(arc.letters, arc.target) for arc in arcs}) == len(arcs)


@pytest.mark.parametrize("language", LANGUAGES)
def test_random_words_come_back(language: str) -> None:
    grammar, segmenter = load_grammar(language), load_segmenter(language)
    rng = random.Random(17)
    made = 0
    while made < 500:
        word = compose(random_word(grammar, rng), language)
        if not is_wellformed(word, language):
            continue  # a vowel after a bare consonant that a hiatus would have to part
        made += 1
        result = segmenter.segment(word)
        assert result.closed, word
        assert join(result.marked, language) == word
        assert segmenter.segment(word) == result


@pytest.mark.parametrize("language", LANGUAGES)
def test_golden_words(language: str) -> None:
    score = score_golden(load_segmenter(language), GOLDEN / f"{language}_segments.tsv")
    assert score.words >= 300
    assert score.f1 >= 0.95
    assert score.category >= 0.95


@pytest.mark.parametrize("language", LANGUAGES)
def test_at_most_one_corrupted_word_in_ten_passes(language: str) -> None:
    segmenter = load_segmenter(language)
    lines = read_table(GOLDEN / f"{language}_segments.tsv", ("word", "pieces", "category"))
    words = [row["word"] for row in lines if segmenter.accepts(row["word"])]
    sample = sample_corruptions(Corrupter(segmenter), words, set(words), 2000)
    passed = sum(segmenter.accepts(corruption.corrupted) for corruption in sample)
    assert len(sample) > 200
    assert passed / len(sample) <= 0.10
