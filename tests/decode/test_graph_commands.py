"""`uyir lm` and `uyir graph` from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from uyir.cli import main
from uyir.decode.graph import Graph
from uyir.decode.graph_parts import word_table
from uyir.decode.lm import read_arpa
from uyir.lexicon.symbols import Symbols, tokens_table

TEXT = """படி+ +த்த்+ +ஆன் மரம்
மரம் படி+ +த்த்+ +ஆள்
படி+ +த்த்+ +ஆன்
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "text").write_text(TEXT, encoding="utf-8")
    word_table({*TEXT.split(), "மர+", "+த்த்+", "+இல்"}).write(tmp_path / "words.txt")
    tokens_table().write(tmp_path / "tokens.txt")
    return tmp_path


def train(folder: Path, *options: str) -> int:
    words = str(folder / "words.txt")
    out = str(folder / "lm.arpa")
    text = str(folder / "text")
    return main(["lm", "train", "-l", "ta", "--words", words, "-o", out, text, *options])


def test_train_and_perplexity(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(folder, "--order", "2", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    model = read_arpa(folder / "lm.arpa")
    assert report["ngrams"] == [len(order) for order in model.orders]
    assert report["unknown"] == 0
    assert "மர+" in model.symbols  # of the table, though not in the text
    arguments = ["lm", "perplexity", "-l", "ta", str(folder / "lm.arpa"), str(folder / "text")]
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["words"] == 5 and found["oov_words"] == 0
    assert 1 < found["perplexity_by_letter"] < found["perplexity_by_word"]
    assert main(arguments) == 0
    assert f"words\t{found['words']}\n" in capsys.readouterr().out


def test_max_ngrams_and_counts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(folder, "--max_ngrams", "14", "--json") == 0
    assert sum(json.loads(capsys.readouterr().out)["ngrams"]) <= 14
    assert train(folder, "--min_counts", "3,1", "--json") == 0
    counts = json.loads(capsys.readouterr().out)["ngrams"]
    # படி+ +த்த்+ was seen three times, and no bigram more often; no trigram that often.
    assert counts[1:] == [1, 0]


def test_a_little_memory_gives_the_same_model(folder: Path) -> None:
    (folder / "text").write_text(TEXT * 300, encoding="utf-8")
    assert train(folder, "--order", "3") == 0
    whole = (folder / "lm.arpa").read_text(encoding="utf-8")
    # 1000 tokens at a time of 3600.
    assert train(folder, "--order", "3", "--memory", "0.01", "--scratch", str(folder)) == 0
    assert (folder / "lm.arpa").read_text(encoding="utf-8") == whole
    assert not list(folder.glob("uyir-*"))


def test_mixing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arpas = []
    for number, text in enumerate((TEXT, TEXT.splitlines()[1])):
        (folder / "text").write_text(text + "\n", encoding="utf-8")
        assert train(folder, "--order", "2") == 0
        arpas.append(folder / f"{number}.arpa")
        (folder / "lm.arpa").rename(arpas[-1])
    (folder / "text").write_text(TEXT, encoding="utf-8")
    arguments = ["lm", "mix", "-l", "ta", *map(str, arpas), "-o", str(folder / "mixed.arpa")]
    capsys.readouterr()
    assert main([*arguments, "--held-out", str(folder / "text"), "--json"]) == 0
    said = capsys.readouterr()
    weights = json.loads(said.out)["weights"]
    assert weights[str(arpas[0])] > weights[str(arpas[1])]
    assert said.err.count("perplexity by letter") == 3
    model, one, two = (read_arpa(path) for path in (folder / "mixed.arpa", *arpas))
    assert main([*arguments, "--weights", "0.25,0.75"]) == 0
    model = read_arpa(folder / "mixed.arpa")
    text = model.encode([["மரம்"]])
    parts = [10 ** (m.score(m.encode([["மரம்"]]))[1] / 2.302585093) for m in (model, one, two)]
    assert parts[0] == pytest.approx(0.25 * parts[1] + 0.75 * parts[2], rel=1e-4) and len(text) == 3
    assert main(arguments) == 2
    assert main([*arguments, "--weights", "a,b"]) == 2
    assert main([*arguments, "--weights", "1"]) == 1
    assert "2 models and 1 weights" in capsys.readouterr().err


def test_pruning(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(folder) == 0
    before = [len(order) for order in read_arpa(folder / "lm.arpa").orders]
    arguments = ["lm", "prune", "-l", "ta", str(folder / "lm.arpa"), str(folder / "text")]
    arguments += ["-o", str(folder / "small.arpa"), "--json"]
    capsys.readouterr()
    assert main([*arguments, "--max_ngrams", "14"]) == 0
    said = capsys.readouterr()
    after = [len(order) for order in read_arpa(folder / "small.arpa").orders]
    assert json.loads(said.out)["ngrams"] == after and sum(after) <= 14 < sum(before)
    assert str(before) in said.err
    assert main([*arguments, "--prune", "0.5"]) == 0
    assert [len(order) for order in read_arpa(folder / "small.arpa").orders][2] < before[2]
    assert main(arguments) == 2
    (folder / "text").write_text("", encoding="utf-8")
    capsys.readouterr()
    assert main([*arguments, "--max_ngrams", "14"]) == 1
    assert f"{folder / 'text'}: an empty text" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["grammar", "word", "bpe"])
def test_from_text_to_graph_by_commands(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the README shows for a model of one's own text, with units of several kinds."""
    pytest.importorskip("pynini")
    if kind == "bpe":
        pytest.importorskip("sentencepiece")
    text, units, marked, words, arpa, out = (
        str(tmp_path / n) for n in ("text", "units", "marked", "words", "arpa", "out")
    )
    Path(text).write_text("ಮನೆಗೆ ಹೋದನು\nಮನೆಯಲ್ಲಿ ಇದ್ದನು\nಮನೆಗೆ ಬಂದನು\nಮನೆ ದೊಡ್ಡದು\n", encoding="utf-8")
    size = [] if kind == "grammar" else ["--size", "60"]
    assert main(["units", "train", "-l", "kn", "-k", kind, "-o", units, text, *size]) == 0
    capsys.readouterr()
    assert main(["units", "segment", units, text]) == 0
    Path(marked).write_text(capsys.readouterr().out, encoding="utf-8")
    assert main(["lm", "words", "-l", "kn", "--units", units, "-o", words, marked]) == 0
    assert main(["lm", "words", "-l", "ta", "--units", units, "-o", words, marked]) == 2
    assert main(["lm", "train", "-l", "kn", "--words", words, "-o", arpa, marked]) == 0
    table = Symbols.read(words)
    known = {
        piece for line in Path(marked).read_text("utf-8").split("\n") for piece in line.split()
    }
    if kind == "grammar":
        # Roots that were seen once are spelled by letters; what was seen twice is there.
        assert "ಮನೆ+" in table and "ದೊಡ್ಡದು" not in table
        assert any(symbol.startswith("<splice:") for symbol in table)
        return
    tokens = str(tmp_path / "tokens")
    tokens_table().write(tokens)
    command = ["graph", "-l", "kn", "--lm", arpa, "--words", words, "--tokens", tokens, "-o", out]
    assert main([*command, "--no-variants", "--no-sg"]) == 0
    graph = Graph.load(Path(out) / "HLG.safetensors", tokens=tokens, words=words)
    assert known - {"<unk>"} <= {table.symbol(int(label)) for label in graph.lexical.olabel}


def test_bad_input(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "text").write_text("மரம்\nಮರ\n", encoding="utf-8")
    assert train(folder) == 1
    assert f"{folder / 'text'}:2: " in capsys.readouterr().err
    (folder / "text").write_text("", encoding="utf-8")
    assert train(folder) == 1
    assert f"{folder / 'text'}: an empty corpus" in capsys.readouterr().err
    for bad, message in (
        ("மரம்\nமர\0ம்\n".encode(), ":2: a NUL byte"),
        ("மரம்\n".encode() + b"\xae\xb1\n", ":2: not UTF-8: invalid start byte (byte 0xae)"),
        ("மரம்\n".encode()[:-2], ":1: cut short within a letter"),
        ("மரம்\n".encode("utf-16"), ":1: UTF-16, not UTF-8: save it as UTF-8"),
    ):
        (folder / "text").write_bytes(bad)
        assert train(folder) == 1
        assert f"{folder / 'text'}{message}" in capsys.readouterr().err
    (folder / "text").write_text("", encoding="utf-8")
    assert train(folder, "--min_counts", "2,x") == 2
    assert train(folder, "--min_counts", "0") == 2


def graph(folder: Path, *options: str) -> int:
    return main(
        [
            *("graph", "-l", "ta", "--words", str(folder / "words.txt")),
            *("--tokens", str(folder / "tokens.txt"), "-o", str(folder / "out"), *options),
        ]
    )


def test_graph(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pynini")
    assert train(folder) == 0
    capsys.readouterr()
    assert graph(folder, "--lm", str(folder / "lm.arpa"), "--no-sg", "--json") == 0
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert "estimate" in said.err and "H:" in said.err
    loaded = Graph.load(
        folder / "out" / "HLG.safetensors",
        tokens=folder / "tokens.txt",
        words=folder / "words.txt",
    )
    assert report["hlg_arcs"] == loaded.num_arcs
    assert report["bytes"] == (folder / "out" / "HLG.safetensors").stat().st_size
    meta = json.loads((folder / "out" / "meta.json").read_text(encoding="utf-8"))
    assert meta["language"] == "ta" and meta["sg"] is False and meta["report"] == report
    assert loaded.num_words == len(Symbols.read(folder / "words.txt"))


def test_bad_models_and_tables(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(folder) == 0
    arpa, whole = folder / "lm.arpa", (folder / "lm.arpa").read_text(encoding="utf-8")
    for content, message in (
        (whole[: whole.index("\\3-grams")].encode(), "want '\\3-grams:'"),
        (whole.replace("மரம்", "மர\0ம்", 1).encode(), "a NUL byte"),
        (whole.encode().replace(b"\xe0", b"\xff"), "not UTF-8"),
        (b"", "not an ARPA file"),
    ):
        arpa.write_bytes(content)
        capsys.readouterr()
        assert graph(folder, "--lm", str(arpa), "--no-sg") == 1
        said = capsys.readouterr().err
        assert message in said and str(arpa) in said
    arpa.write_text(whole, encoding="utf-8")
    assert graph(folder, "--lm", str(arpa), "--no-sg", "--lexicon", str(folder / "text")) == 1
    assert f"{folder / 'text'}:1: 1 columns" in capsys.readouterr().err
    table = (folder / "words.txt").read_text(encoding="utf-8")
    (folder / "words.txt").write_text(table.replace("மரம்", "ಮರ"), encoding="utf-8")
    assert graph(folder, "--no-lm", "--no-sg") == 1
    assert f"{folder / 'words.txt'}: not a word table of 'ta': " in capsys.readouterr().err


@pytest.mark.parametrize("name", ["perplexity", "mix", "pack", "graph"])
def test_every_command_refuses_a_cut_model(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cut between lines, in the middle of an n-gram, of a letter, and at the end; an empty text."""
    assert train(folder) == 0
    arpa, text, words, out = (folder / n for n in ("lm.arpa", "text", "words.txt", "out"))
    command = {
        "perplexity": ["lm", "perplexity", "-l", "ta", arpa, text],
        "mix": ["lm", "mix", "-l", "ta", arpa, arpa, "-o", out, "--weights", "0.5,0.5"],
        "pack": ["lm", "pack", arpa, "--words", words, "-o", out],
        "graph": [
            *("graph", "-l", "ta", "--lm", arpa, "--words", words, "--no-sg"),
            *("--tokens", folder / "tokens.txt", "-o", out),
        ],
    }[name]
    filled = [str(part) for part in command]
    whole = arpa.read_bytes()
    lines = whole.rindex(b"\n", 0, whole.index(b"\\2-grams") + 200) + 1
    letter = whole.index(b"\xe0", lines) + 1
    for cut in (lines, lines + 4, letter, len(whole) - 7):
        arpa.write_bytes(whole[:cut])
        capsys.readouterr()
        assert main(filled) == 1
        said = capsys.readouterr().err
        assert f"{arpa}:" in said and "Traceback" not in said
        assert any(word in said for word in ("before it ends", "cut short", "want ")), said
    assert not out.exists()
    arpa.write_bytes(whole)
    if name == "perplexity":
        text.write_text("\n", encoding="utf-8")
        assert main(filled) == 1
        assert f"{text}: an empty text" in capsys.readouterr().err


def test_graph_options_act(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pynini = pytest.importorskip("pynini")

    def one_word(
        grammar: object, words: Symbols, weighted: bool = False, licensed: bool = False
    ) -> object:
        """A grammar of one word, which costs 1 if costs are asked for."""
        fst = pynini.Fst()
        fst.add_states(4)
        fst.set_start(0).set_final(3)
        for state, piece in enumerate(("படி+", "+த்த்+", "+ஆன்")):
            label = words.id(piece)
            cost = float(weighted and state == 0)
            fst.add_arc(state, pynini.Arc(label, label, cost, state + 1))
        return fst

    monkeypatch.setattr("uyir.grammar.morphotactics.subword_acceptor", one_word)
    nothing = SimpleNamespace(entries=(), language="ta")
    monkeypatch.setattr("uyir.grammar.morphotactics.load_grammar", lambda language: nothing)
    assert train(folder) == 0
    lm = ("--lm", str(folder / "lm.arpa"))
    (folder / "mine.tsv").write_text("படி+\tzx a\nபடித்தான்\tlx aa\n", encoding="utf-8")
    arcs, cost, labels = {}, {}, {}
    for name, options in {
        "all": lm,
        "no sg": (*lm, "--no-sg"),
        "no lm": ("--no-lm",),
        "no variants": (*lm, "--no-variants"),
        "context-free": (*lm, "--seams", "context-free", "--lexicon", str(folder / "mine.tsv")),
        "lexicon": (*lm, "--lexicon", str(folder / "mine.tsv")),
        "scaled": ("--no-lm", "--sg-scale", "2"),
    }.items():
        capsys.readouterr()
        assert graph(folder, *options, "--json") == 0
        arcs[name] = json.loads(capsys.readouterr().out)["arcs"]
        labels[name] = set(Graph.load(folder / "out" / "HLG.safetensors").lexical.ilabel.tolist())
        cost[name] = float(Graph.load(folder / "out" / "HLG.safetensors").lexical.weight.max())
    assert arcs["no lm"] <= arcs["all"] < arcs["no sg"] and arcs["no variants"] < arcs["all"]
    zx, lx = (tokens_table().id(phone) + 1 for phone in ("zx", "lx"))
    assert not {zx, lx} & labels["all"]
    # The word's entry comes before its subword's, where rules see whole words: with exact seams.
    assert lx in labels["lexicon"] and zx not in labels["lexicon"]
    assert zx in labels["context-free"] and lx not in labels["context-free"]
    assert cost["scaled"] - cost["no lm"] == pytest.approx(2.0, abs=0.01)
    assert graph(folder) == 2
    assert graph(folder, *lm, "--no-lm") == 2
    assert graph(folder, *lm, "--no-sg", "--max_states", "2") == 1
    assert "limit of 2" in capsys.readouterr().err
    assert graph(folder, *lm, "--no-sg", "--max_memory", "0.001") == 1
    assert "GB" in capsys.readouterr().err


def test_graph_for_openfst(folder: Path) -> None:
    pynini = pytest.importorskip("pynini")
    assert train(folder) == 0
    assert graph(folder, "--lm", str(folder / "lm.arpa"), "--no-sg", "--openfst") == 0
    fst = pynini.Fst.read(str(folder / "out" / "HLG.fst"))
    built = Graph.load(folder / "out" / "HLG.safetensors")
    assert fst.num_states() == built.num_states and fst.verify()
    assert sum(fst.num_arcs(state) for state in fst.states()) == built.num_arcs


def test_a_build_stops_before_the_machine_is_full(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train(folder) == 0
    monkeypatch.setattr("uyir.decode.graph_watch.available_gb", lambda: 0.2)
    assert graph(folder, "--lm", str(folder / "lm.arpa"), "--no-sg") == 1
    assert "the machine has 0.2 GB left: prune" in capsys.readouterr().err
    assert not (folder / "out").exists()


def test_graph_for_k2(folder: Path) -> None:
    pytest.importorskip("pynini")
    k2 = pytest.importorskip("k2")
    torch = pytest.importorskip("torch")
    assert train(folder) == 0
    assert graph(folder, "--lm", str(folder / "lm.arpa"), "--no-sg", "--k2") == 0
    fsa = k2.Fsa.from_dict(torch.load(str(folder / "out" / "HLG.pt")))
    assert fsa.num_arcs == Graph.load(folder / "out" / "HLG.safetensors").to_k2().num_arcs


def test_packing_for_rescoring(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from uyir.decode.graph_files import file_sha256
    from uyir.decode.lm_store import read_packed

    assert train(folder, "--order", "3") == 0
    (folder / "lm.arpa").rename(folder / "large.arpa")
    assert train(folder, "--order", "2", "--max_ngrams", "14") == 0
    small, large = str(folder / "lm.arpa"), str(folder / "large.arpa")
    words, out = str(folder / "words.txt"), folder / "ta" / "LM.safetensors"
    capsys.readouterr()
    arguments = ["lm", "pack", large, "--words", words, "--graph-lm", small, "-o", str(out)]
    assert main([*arguments, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    model = read_arpa(large)
    assert report["ngrams"] == [len(order) for order in model.orders]
    assert report["bytes"] == out.stat().st_size
    file = read_packed(out, words=words, lm_sha256=file_sha256(small))
    sentence = ["படி+", "+த்த்+", "+ஆன்"]
    numbers = [Symbols.read(words).id(piece) for piece in sentence]
    for packed, arpa in ((file.model, model), (file.first, read_arpa(small))):
        assert packed is not None
        want = float(arpa.score(arpa.encode([sentence])).sum())
        assert packed.score(numbers) == pytest.approx(want, abs=0.01)
    (folder / "cut.arpa").write_bytes(Path(large).read_bytes()[:300])
    assert main(["lm", "pack", str(folder / "cut.arpa"), "--words", words, "-o", str(out)]) == 1
    assert "cut.arpa" in capsys.readouterr().err
