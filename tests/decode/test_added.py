"""Words that a user adds, and hotwords: classes, places, and what a graph then recognises."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from uyir import demo
from uyir.cli import main
from uyir.decode import added, graph_files
from uyir.decode.engines import SearchOptions, create
from uyir.decode.graph import Graph
from uyir.errors import DataError, GraphError
from uyir.grammar.join import join
from uyir.lexicon.g2p import load_g2p
from uyir.lexicon.symbols import Symbols, tokens_table

pytest.importorskip("kaldi_decoder")

MODEL = Path(__file__).parents[2] / "uyir" / "models" / "base"
#: In no list and in no text: a root, an inflected form of it, and the class it should get.
NEW = ("ಝಿರೋಪ", "ಝಿರೋಪದಲ್ಲಿ")


@pytest.fixture(scope="module")
def classes() -> added.Classes:
    return added.Classes("kn")


@pytest.fixture(scope="module")
def graph() -> tuple[Graph, list[str], dict[str, int]]:
    words = MODEL / "kn" / "words.txt"
    graph = Graph.load(MODEL / "kn" / "HLG.safetensors", tokens=MODEL / "tokens.txt", words=words)
    tokens = {name: number for number, name in enumerate(tokens_table())}
    return graph, list(Symbols.read(words)), tokens


def heard(word: str, tokens: dict[str, int]) -> torch.Tensor:
    """log_probs (1, T, C) in which the phones of a word are heard well but not surely."""
    frames = [0]
    for phone in load_g2p("kn").pronounce(word, variants=False)[0].phones:
        frames += [tokens[phone], 0]
    scores = np.full((len(frames), len(tokens)), np.log(0.2 / (len(tokens) - 1)), dtype=np.float32)
    scores[np.arange(len(frames)), frames] = np.log(0.8)
    return torch.from_numpy(scores)[None]


def recognised(graph: Graph, words: list[str], log_probs: torch.Tensor) -> str:
    engine = create("kaldi", graph, SearchOptions(beam=30, max_active=20000))
    best = engine.decode(log_probs, torch.tensor([log_probs.shape[1]]))[0][0]
    return join([words[number] for number in best.subwords], "kn")


def test_an_added_root_is_recognised_in_an_inflected_form(
    classes: added.Classes, graph: tuple[Graph, list[str], dict[str, int]]
) -> None:
    plain, table, tokens = graph
    root, form = NEW
    log_probs = heard(form, tokens)
    word = classes.choose(root, "noun")
    words = list(table)
    with_root = added.splice_words(plain, words, tokens, [(word, classes.place(word))])
    assert recognised(with_root, words, log_probs) == form
    assert with_root.num_words == len(words) > len(table)
    assert plain.num_words == len(table)


def test_a_hotword_makes_its_arcs_cheaper_and_no_others(
    classes: added.Classes, graph: tuple[Graph, list[str], dict[str, int]]
) -> None:
    plain, table, tokens = graph
    word = classes.choose("ಬೆಂಗಳೂರು", "")
    places = [place for place in classes.place(word) if place.marked in table]
    assert places
    hot = added.boost(plain, list(table), tokens, [(word, places)], 3.0)
    ids = {table.index(place.marked) for place in places}
    chosen = np.isin(plain.lexical.olabel, list(ids))
    change = hot.lexical.weight - plain.lexical.weight
    assert chosen.any()
    assert np.allclose(change[chosen], -3.0) and not change[~chosen].any()


def test_classes_are_chosen_by_the_lists_by_endings_or_as_told(classes: added.Classes) -> None:
    known = next(root for root, names in classes.known.items() if len(names) == 1 and len(root) > 5)
    assert classes.choose(known, classes.known[known][0]).why == "as given"
    guessed = classes.choose("ಝಿರೋಪಮ್ಮ", "name")
    assert "that end in" in guessed.why
    assert guessed.class_name in {name for names in classes.known.values() for name in names}
    with pytest.raises(DataError, match="no category or class 'nuon'"):
        classes.choose("ಝಿರೋಪ", "nuon")


def test_pieces_sound_as_before_an_ending(classes: added.Classes) -> None:
    places = classes.place(classes.choose("ಝಿರೋಪ", "noun"))
    said = ("jh", "i", "r", "oo", "p")
    assert {place.tokens for place in places} == {said, (*said, "a")}  # the second loses its vowel


@pytest.mark.parametrize(
    "text, wrong",
    [
        (b"\xff\xfe", "UTF-8"),
        (b"", "no words"),
        ("ராமன்\n".encode(), ":1: "),
        ("ಮನೆ ಊಟ\n".encode(), "want one word"),
        ("ಮನೆ\tnoun\tx\n".encode(), "after a tab"),
        ("ಮನೆ\n\0\n".encode(), ":2: a NUL byte"),
        ("ಮನೆ\nராமன்\n".encode(), ":2: 'ராமன்' is no word of 'kn': .*is not a letter"),
        (b"Raman\n", ":1: 'Raman' is no word of 'kn'"),
    ],
)
def test_bad_files(tmp_path: Path, text: bytes, wrong: str) -> None:
    path = tmp_path / "words.txt"
    path.write_bytes(text)
    with pytest.raises(DataError, match=wrong):
        added.read_roots(path, "kn")
    with pytest.raises(DataError, match="no such file"):
        added.read_roots(tmp_path / "none.txt", "kn")


def test_words_of_another_script_are_refused_by_the_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UYIR_WORDS", str(tmp_path / "kept"))
    file = tmp_path / "names.txt"
    file.write_text("ಝಿರೋಪ\nராமன்\n", encoding="utf-8")
    recording = demo.RECORDINGS / "kn" / "kn01.flac"
    for command in (
        ["words", "add", str(file), "-l", "kn"],
        ["transcribe", str(recording), "--language", "kn", "--hotwords", str(file)],
    ):
        assert main(command) == 1
        assert f"{file}:2: 'ராமன்' is no word of 'kn': " in capsys.readouterr().err
    assert not (tmp_path / "kept").exists()


def test_add_list_remove(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UYIR_WORDS", str(tmp_path / "kept"))
    file = tmp_path / "names.txt"
    file.write_text("ಝಿರೋಪ\nಝಿರೋಪಮ್ಮ\tname\n", encoding="utf-8")
    assert main(["words", "add", str(file), "-l", "kn"]) == 0
    assert "ಝಿರೋಪಮ್ಮ" in capsys.readouterr().out
    kept = tmp_path / "kept" / "base" / "kn.tsv"
    assert [word.root for word in added.read_words(kept)] == ["ಝಿರೋಪ", "ಝಿರೋಪಮ್ಮ"]
    places = json.loads(kept.with_suffix(".places.json").read_text(encoding="utf-8"))
    assert len(places["places"]) == 2
    assert main(["words", "remove", "ಝಿರೋಪ", "-l", "kn"]) == 0
    assert main(["words", "list", "-l", "kn"]) == 0
    assert capsys.readouterr().out.startswith("ಝಿರೋಪಮ್ಮ\t")
    assert main(["words", "remove", "ಮನೆ", "-l", "kn"]) == 1
    assert main(["words", "remove", "--all", "-l", "kn"]) == 0
    assert added.read_words(kept) == []


def test_a_root_that_cannot_enter_the_graph_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UYIR_WORDS", str(tmp_path / "kept"))
    file = tmp_path / "names.txt"
    file.write_text("ಝಿರೋಪ\n", encoding="utf-8")
    hlg = MODEL / "kn" / "HLG.safetensors"
    keys = graph_files.splice_keys(hlg)
    assert keys == {splice.key for splice in Graph.load(hlg).splices}
    monkeypatch.setattr(graph_files, "splice_keys", lambda path: frozenset())
    assert main(["words", "add", str(file), "-l", "kn"]) == 1
    assert f"{file}:1: 'ಝಿರೋಪ': no root of class" in capsys.readouterr().err
    assert not (tmp_path / "kept" / "base" / "kn.tsv").exists()
    monkeypatch.setattr(graph_files, "splice_keys", lambda path: keys - {"#"})
    assert main(["words", "add", str(file), "-l", "kn"]) == 0
    assert "has no place for ಝಿರೋಪ" in capsys.readouterr().err
    monkeypatch.undo()
    with pytest.raises(GraphError, match="not a graph"):
        graph_files.splice_keys(file)


def test_added_words_survive_a_new_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list stays as it is; where its roots stand is worked out once for each build of the graph."""
    worked_out = []

    class Counted:
        def __init__(self, language: str) -> None:
            worked_out.append(language)

        def place(self, word: added.AddedWord) -> list[added.Place]:
            return [added.Place(word.root, f"state {len(worked_out)}", ("a",))]

    monkeypatch.setattr(added, "Classes", Counted)
    path = tmp_path / "kn.tsv"
    words = [added.AddedWord("ಝಿರೋಪ", "n.a", "as given")]
    added.write_words(path, words)
    before = {"words_sha256": "1", "lm_sha256": "2", "builder": 1}
    for meta, state in ((before, 1), (before, 1), ({**before, "lm_sha256": "3"}, 2)):
        kept = added.read_words(path)
        assert kept == words
        ((_, places),) = added.places_of(path, kept, "kn", added.graph_key(meta))
        assert [place.key for place in places] == [f"state {state}"]
    assert worked_out == ["kn", "kn"]
