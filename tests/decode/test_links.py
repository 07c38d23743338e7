"""Linking stops in graphs: only before a word that begins so, spoken or not."""

from __future__ import annotations

from typing import Any

import pytest

from uyir.decode.graph import Graph
from uyir.decode.graph_build import build_graph
from uyir.decode.graph_parts import COST_UNIT, grammar_tables, opening_with, word_table
from uyir.errors import GraphError
from uyir.grammar.join import bare
from uyir.grammar.morphotactics import (
    Grammar,
    licences,
    load_grammar,
    silent_pieces,
    subword_acceptor,
)
from uyir.grammar.segment import load_segmenter
from uyir.lexicon.g2p import load_g2p
from uyir.lexicon.symbols import Symbols, tokens_table

pytest.importorskip("pynini")

TOKENS = tokens_table()
LINKED = ("மரத்த்+", "+ஐ+", "+க்")
PLAIN = ("மரத்த்+", "+ஐ")
PIECES = (*LINKED, *PLAIN, "+ப்", "கண்", "பல்", "அணி", "பேஸ்பு+", "+க்")


@pytest.fixture(scope="module")
def tamil() -> Grammar:
    return load_grammar("ta")


@pytest.fixture(scope="module")
def table() -> Symbols:
    return word_table(PIECES)


@pytest.fixture(scope="module")
def graph(tamil: Grammar, table: Symbols) -> Graph:
    built, _ = build_graph(
        "ta",
        table,
        TOKENS,
        grammar=subword_acceptor(tamil, table, licensed=True),
        licences=licences(tamil),
        silent=silent_pieces(tamil),
        variants=False,
    )
    return built


def readings(graph: Graph, table: Symbols, phones: list[str]) -> dict[tuple[str, ...], float]:
    """Every sentence of subwords that the graph has for these phones, with its least cost."""
    arcs, offsets = graph.lexical, graph.lexical.offsets

    def move(here: dict[Any, float], label: int) -> dict[Any, float]:
        out: dict[Any, float] = {}
        for (state, words), cost in here.items():
            for arc in range(offsets[state], offsets[state + 1]):
                if arcs.ilabel[arc] == label:
                    word = graph.expand(int(arcs.olabel[arc]))
                    key = (int(arcs.target[arc]), words + word)
                    out[key] = min(out.get(key, float("inf")), cost + float(arcs.weight[arc]))
        return out

    def closed(here: dict[Any, float]) -> dict[Any, float]:
        fresh = here
        while fresh:
            fresh = {key: cost for key, cost in move(fresh, 0).items() if key not in here}
            here = {**here, **fresh}
        return here

    front: dict[Any, float] = closed({(arcs.start, ()): 0.0})
    for phone in phones:
        front = closed(move(front, TOKENS.id(phone) + 1))
    ends: dict[tuple[str, ...], float] = {}
    for (state, words), cost in front.items():
        if float(arcs.final[state]) < float("inf"):
            key = tuple(table.symbol(word) for word in words)
            ends[key] = min(ends.get(key, float("inf")), cost)
    return ends


def spoken(*words: str) -> list[str]:
    return [phone for word in words for phone in load_g2p("ta").pronounce(word)[0].phones]


def test_a_linking_stop_stands_before_a_word_that_begins_so(graph: Graph, table: Symbols) -> None:
    assert (*LINKED, "கண்") in readings(graph, table, spoken("மரத்தைக்", "கண்"))
    assert (*LINKED, "பல்") not in readings(graph, table, spoken("மரத்தைக்", "பல்"))
    assert (*LINKED, "அணி") not in readings(graph, table, spoken("மரத்தைக்", "அணி"))


def test_no_sentence_ends_in_a_linking_stop(graph: Graph, table: Symbols) -> None:
    assert LINKED not in readings(graph, table, spoken("மரத்தைக்"))
    assert PLAIN in readings(graph, table, spoken("மரத்தை"))


def test_a_linking_stop_need_not_be_spoken(graph: Graph, table: Symbols) -> None:
    found = readings(graph, table, spoken("மரத்தை", "கண்"))
    assert found[(*PLAIN, "கண்")] == pytest.approx(0.0, abs=0.01)
    assert found[(*LINKED, "கண்")] == pytest.approx(0.7, abs=0.01)
    assert (*LINKED, "பல்") not in readings(graph, table, spoken("மரத்தை", "பல்"))


def test_a_weighted_grammar_accepts_the_same_at_its_costs(
    tamil: Grammar, table: Symbols, graph: Graph
) -> None:
    weighted, _ = build_graph(
        "ta",
        table,
        TOKENS,
        grammar=subword_acceptor(tamil, table, weighted=True, licensed=True),
        sg_scale=0.5,
        licences=licences(tamil),
        silent=silent_pieces(tamil),
        variants=False,
    )
    for words in (("மரத்தைக்", "கண்"), ("மரத்தைக்", "பல்"), ("மரத்தை",), ("மரத்தை", "கண்")):
        plain = readings(graph, table, spoken(*words))
        dearer = readings(weighted, table, spoken(*words))
        assert dearer.keys() == plain.keys()
        assert all(dearer[sentence] > cost for sentence, cost in plain.items())


def test_a_stop_that_belongs_to_an_unknown_root_asks_nothing(tamil: Grammar) -> None:
    """பேஸ்புக் is no பேஸ்பு with a link: what the segmenter emits stands in the graph before any word."""
    marked = load_segmenter("ta").segment("குஃபேஸ்புக்").marked
    words = word_table((*marked, "அணி", "கண்"))
    sg = grammar_tables(
        subword_acceptor(tamil, words, licensed=True),
        words,
        licensed=opening_with(words, "ta", licences(tamil)),
    )
    state = 0
    for piece in marked:
        state = sg.follow[state][words.id(piece)][0]
    assert words.id("அணி") in sg.follow[state]


def test_a_word_costs_the_same_after_a_link(tamil: Grammar, table: Symbols) -> None:
    sg = grammar_tables(
        subword_acceptor(tamil, table, licensed=True),
        table,
        licensed=opening_with(table, "ta", licences(tamil)),
    )
    dearer = sg.with_word_cost(1.0)
    word = table.id("கண்")
    paid = {
        dearer.follow[s][word][1] - sg.follow[s][word][1]
        for s in sg.between
        if word in sg.follow[s]
    }
    assert paid == {round(1.0 / COST_UNIT)}
    assert sum(word in sg.follow[state] for state in sg.between) == 2


def test_what_may_follow_is_told_by_the_first_letter(table: Symbols) -> None:
    (k, p) = opening_with(table, "ta", ("க", "ப"))
    assert {table.symbol(word) for word in k} == {"கண்"}
    assert {table.symbol(word) for word in p} == {"பல்", "பேஸ்பு+"}


def test_a_language_without_linking_stops_has_no_licences() -> None:
    assert licences(load_grammar("kn")) == ()
    assert silent_pieces(load_grammar("kn")) == {}


def test_licences_need_their_words(tamil: Grammar, table: Symbols) -> None:
    with pytest.raises(GraphError, match="which words have them"):
        grammar_tables(subword_acceptor(tamil, table, licensed=True), table)


def test_links_are_pieces_that_close(tamil: Grammar) -> None:
    assert {bare(piece) + "+" for piece in silent_pieces(tamil)} == {"க்+", "ச்+", "த்+", "ப்+"}
    assert licences(tamil) == ("க", "ச", "த", "ப")
