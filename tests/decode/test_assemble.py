"""One language's half of a model from text, with units of several kinds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from uyir.decode.assemble import Assembly, assemble, cut_words, unit_counts, unit_table
from uyir.decode.graph import Graph
from uyir.decode.lm import read_arpa
from uyir.grammar.unit_training import train_units, word_counts
from uyir.grammar.units import UNKNOWN
from uyir.lexicon.symbols import Symbols, tokens_table

LINES = [
    ["மரம்", "வீடு", "கண்"],
    ["மரங்கள்", "வீடுகள்", "கண்கள்"],
    ["மரம்", "மரங்கள்", "வீடு"],
    ["கண்", "கண்கள்"],
]


@pytest.mark.parametrize("kind", ["word", "bpe"])
def test_half_of_a_model(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("pynini")
    pytest.importorskip("sentencepiece")
    tokens = tmp_path / "tokens.txt"
    tokens_table().write(tokens)
    units = train_units(kind, "ta", word_counts(LINES), 5)
    said: list[str] = []
    out = tmp_path / "ta"
    how = Assembly(order=2, min_counts=(), graph={"variants": False}, vocabulary=True)
    table, model = assemble(units, LINES, tokens, out, tmp_path / "work", how, said.append)
    graph = Graph.load(out / "HLG.safetensors", tokens=tokens, words=out / "words.txt")
    assert graph.num_words == len(table)
    assert list(Symbols.read(out / "words.txt")) == list(table)
    assert len(read_arpa(tmp_path / "work" / "ta.arpa")) == len(model)
    meta = json.loads((out / "meta.json").read_text(encoding="utf-8"))
    assert meta["sg"] is False and meta["lm_ngrams"] == [len(order) for order in model.orders]
    cut = cut_words(units, {word for line in LINES for word in line})
    assert all(piece in table for pieces in cut.values() for piece in pieces if piece != UNKNOWN)
    assert UNKNOWN not in table and any(f"{kind} units" in line for line in said)
    assert (kind == "word") == any(UNKNOWN in pieces for pieces in cut.values())


def test_counts_and_table() -> None:
    units = train_units("word", "ta", word_counts(LINES), 5)
    words = word_counts(LINES)
    counts = unit_counts(cut_words(units, words), words)
    assert sum(counts.values()) == sum(map(len, LINES)) and counts["மரம்"] == 2
    table = unit_table(units, counts, (), Assembly())
    assert [s for s in table if s[0] not in "<#"] == sorted(units.pieces())
