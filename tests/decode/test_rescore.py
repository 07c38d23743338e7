"""Rescoring against the definition: every path of a lattice, every sentence scored by the n-gram model itself."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from uyir.decode.engines import NAMES, SearchOptions, create, why_not
from uyir.decode.graph_parts import word_table
from uyir.decode.hypothesis import Hypothesis
from uyir.decode.lm import Vocabulary, train
from uyir.decode.lm_store import read_packed, write_packed
from uyir.decode.rescore import Rescorer, read_rescorer, rescoring_file
from uyir.errors import ModelError

PIECES = ["ab", "ab+", "+cd", "+cd+", "ef", "gh", "ij", "kl", "mn"]


def sentences(seed, count=60):
    chance = random.Random(seed)
    return [[chance.choice(PIECES) for _ in range(chance.randint(1, 7))] for _ in range(count)]


def model_of(words, seed=0, order=4, **options):
    known = Vocabulary.of_table(words)
    return train(known.encode(sentences(seed)), known, order, **options)


@pytest.fixture
def table(tmp_path):
    words = word_table(PIECES, ["<splice:x>"])
    path = tmp_path / "words.txt"
    words.write(path)
    return words, path


def log_probability(model, words, numbers):
    """A sentence's log probability by the model's own arrays, unknown words given up after backing off."""
    text = model.encode([[words.symbol(n) for n in numbers]])
    return float(model.score(text).sum())


@pytest.mark.parametrize("options", [{}, {"max_ngrams": 60}, {"min_counts": [1, 2]}])
@pytest.mark.parametrize("order", [1, 2, 4])
def test_packed_model_gives_the_models_probabilities(table, tmp_path, order, options):
    words, path = table
    model = model_of(words, order=order, **options)
    write_packed(tmp_path / "lm", model, path)
    packed = read_packed(tmp_path / "lm", words=path).model
    assert packed.order == order
    chance = random.Random(1)
    ids = [words.id(piece) for piece in PIECES]
    for _ in range(200):
        sentence = [chance.choice(ids) for _ in range(chance.randint(1, 9))]
        want = log_probability(model, words, sentence)
        assert packed.score(sentence) == pytest.approx(want, abs=2e-3 * (len(sentence) + 1))


def test_a_word_beyond_the_table_costs_the_way_to_the_empty_history(table, tmp_path):
    words, path = table
    model = model_of(words, order=3)
    write_packed(tmp_path / "lm", model, path)
    packed = read_packed(tmp_path / "lm").model
    known = [words.id("ab"), words.id("ef")]
    history, total = packed.start, 0.0
    for word in known:
        more, history = packed.step(history, word)
        total += more
    cost, after = packed.step(history, len(words) + 3)
    # What backing off costs a word that was never seen there: its score less that of the word alone.
    rows = {symbol: i for i, symbol in enumerate(model.symbols)}
    back = 0.0
    place = rows["ef"]
    pair = int(model.find(1, np.array([rows["ab"]]), np.array([place]))[0])
    if pair >= 0:
        back += float(model.orders[1].logb[pair])
    back += float(model.orders[0].logb[place])
    assert cost == pytest.approx(back, abs=5e-3)
    assert after == 0
    assert packed.step(after, words.id("gh"))[0] == pytest.approx(
        float(model.orders[0].logp[rows["gh"]]), abs=2e-3
    )


def test_symbols_that_the_model_does_not_know_are_its_unk(table, tmp_path):
    words, path = table
    few = word_table(["ab", "ef", "gh"])
    model = model_of(few, order=2)
    write_packed(tmp_path / "lm", model, path)
    packed = read_packed(tmp_path / "lm").model
    unk = float(model.orders[0].logp[model.symbols.index("<unk>")])
    assert packed.step(0, words.id("kl"))[0] == pytest.approx(unk, abs=2e-3)


def toy_rescorer(labels, scale=1.0):
    """Models over the labels 1 … of toy lattices: ids of a table of that many words."""
    import tempfile
    from pathlib import Path

    names = [chr(ord("a") + i) for i in range(labels)]
    words = word_table(names)
    chance = random.Random(3)
    rows = [[chance.choice(names) for _ in range(chance.randint(1, 6))] for _ in range(80)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "words.txt"
        words.write(path)
        known = Vocabulary.of_table(words)
        large = train(known.encode(rows), known, 3)
        small = train(known.encode(rows[:30]), known, 2, max_ngrams=len(known) + 10)
        write_packed(Path(folder) / "lm", large, path, first=small)
        file = read_packed(Path(folder) / "lm")
        # Copies, so that the folder can go.
        return Rescorer(copied(file.model), copied(file.first), scale)


def copied(model):
    from uyir.decode.lm_store import PackedLm

    def copies(arrays):
        return tuple(np.array(array) for array in arrays)

    return PackedLm(
        model.num_words,
        copies(model.logp),
        copies(model.word),
        copies(model.first),
        copies(model.logb),
    )


@pytest.mark.parametrize("seed", range(12))
def test_rescored_nbest_and_posteriors_are_those_of_all_paths(toys, seed):
    lattice = toys.lattice(seed)  # labels 1, 2, 3 and 9: of nine words
    rescorer = toy_rescorer(9, scale=0.8)
    best, every = {}, []
    for path, score in toys.lattice_paths(lattice):
        labels = tuple(label for arc in path for label in arc.labels)
        score += rescorer.score(list(labels))
        best[labels] = max(best.get(labels, -math.inf), score)
        every.append((labels, score))
    found = rescorer.rescore(lattice)
    want = sorted(best.values(), reverse=True)[:5]
    assert [path.score for path in found.nbest(5)] == pytest.approx(want)
    for path in found.nbest(5):
        labels = tuple(label for _, label in path.events)
        assert path.score == pytest.approx(best[labels])
    if not every:
        return
    total = np.logaddexp.reduce([score for _, score in every])
    labelled = {label for labels, _ in every for label in labels}
    for label in labelled:
        expected = sum(math.exp(s - total) * labels.count(label) for labels, s in every)
        got = sum(p for arc, p in zip(found.arcs, found.posteriors()) if label in arc.labels)
        assert got == pytest.approx(expected, abs=1e-6)


def test_few_histories_still_give_a_path(toys):
    lattice = toys.lattice(2, frames=6)
    rescorer = toy_rescorer(9)
    narrow = rescorer.rescore(lattice, most=1)
    full = rescorer.rescore(lattice)
    assert narrow.nbest(1)[0].score <= full.nbest(1)[0].score + 1e-9
    assert len(narrow.arcs) < len(full.arcs)


@pytest.mark.parametrize("name", NAMES)
def test_every_engine_reads_its_hypotheses_off_the_rescored_lattice(toys, name):
    if why_not(name) is not None:
        pytest.skip(f"engine {name}: {why_not(name)}")
    rescorer = toy_rescorer(6)
    graph = toys.ctc_graph(4).real()
    log_probs, lengths = toys.batch([toys.log_probs(8, 14, 6), toys.log_probs(9, 11, 6)])
    wide = SearchOptions(beam=40.0, lattice_beam=40.0, nbest=200)
    plain = create(name, graph, wide).decode(log_probs, lengths)
    for nbest in (1, 3):
        options = SearchOptions(beam=40.0, lattice_beam=40.0, nbest=nbest)
        engine = create(name, graph, options, rescorer=rescorer)
        for row, everything in zip(engine.decode(log_probs, lengths), plain):
            want = sorted(
                (h.score + rescorer.score(list(h.subwords)) for h in everything), reverse=True
            )
            assert [h.score for h in row] == pytest.approx(want[:nbest], abs=2e-3)
            assert all(0.0 <= c <= 1.0 for h in row for c in h.confidences)
            assert row[0].score == pytest.approx(row[0].am_score + row[0].lm_score, abs=1e-3)


def test_the_winner_can_change(toys):
    """A reading that the graph holds second wins where the larger model says so."""
    rescorer = toy_rescorer(6, scale=2.0)
    changed = 0
    for seed in range(10):
        lattice = toys.lattice(seed, labels=5)
        before, after = lattice.nbest(1), rescorer.rescore(lattice).nbest(1)
        if before and [e[1] for e in before[0].events] != [e[1] for e in after[0].events]:
            changed += 1
    assert changed


def test_judging_one_hypothesis():
    rescorer = toy_rescorer(6)
    one = Hypothesis((1, 2), (0, 3), -5.0, -3.0, -2.0, 1.0, True)
    more = rescorer.score([1, 2])
    judged = rescorer.judge(one)
    assert judged.score == pytest.approx(-5.0 + more)
    assert judged.lm_score == pytest.approx(-2.0 + more)


# --------------------------------------------------------------------------------------------------
# Files


@pytest.fixture
def packed(table, tmp_path):
    words, path = table
    out = tmp_path / "LM.safetensors"
    meta = {"first_sha256": "a" * 64}
    write_packed(out, model_of(words), path, first=model_of(words, order=2), meta=meta)
    return out, path


def test_a_file_is_mapped_not_read(packed):
    out, _ = packed
    file = read_packed(out)
    array = file.model.logp[1]
    while isinstance(array.base, np.ndarray):
        array = array.base
    assert isinstance(array, np.memmap)
    assert file.first is not None and file.first.order == 2


def test_a_file_of_another_table_or_graph_is_refused(packed, tmp_path):
    out, words = packed
    other = tmp_path / "other.txt"
    word_table(["ab", "ef"]).write(other)
    with pytest.raises(ModelError, match=r"another word table: sha256 .{12}…, but .* has"):
        read_rescorer(out, other, "a" * 64)
    with pytest.raises(
        ModelError, match=r"for graphs built with another language model: sha256 a{12}…"
    ):
        read_rescorer(out, words, "b" * 64)
    assert read_rescorer(out, words, "a" * 64).small is not None
    assert read_rescorer(out, words, None).small is None


@pytest.mark.parametrize("where", ["begin", "middle", "end"])
def test_a_cut_file_is_refused(packed, where):
    out, _ = packed
    data = out.read_bytes()
    out.write_bytes(data[: {"begin": 5, "middle": len(data) // 2, "end": len(data) - 1}[where]])
    with pytest.raises(ModelError, match=f"{out.name}: damaged"):
        read_packed(out)


def test_a_changed_byte_is_noticed(packed):
    out, _ = packed
    data = bytearray(out.read_bytes())
    data[-3] ^= 0xFF
    out.write_bytes(data)
    with pytest.raises(ModelError, match="does not match its checksum"):
        read_packed(out)


def test_other_files_are_refused(packed, tmp_path):
    import safetensors.numpy

    other = tmp_path / "other.safetensors"
    safetensors.numpy.save_file({"x": np.zeros(3, dtype=np.float32)}, str(other))
    with pytest.raises(ModelError, match="not a packed language model"):
        read_packed(other)
    other.write_bytes(b"")
    with pytest.raises(ModelError, match="damaged, or not a packed"):
        read_packed(other)
    with pytest.raises(ModelError, match="no such language model"):
        read_packed(tmp_path / "none")


def test_a_newer_version_is_refused(packed, monkeypatch):
    out, _ = packed
    monkeypatch.setattr("uyir.decode.lm_store.FORMAT_VERSION", 2)
    with pytest.raises(ModelError, match="format 1 of packed models; this version of uyir reads 2"):
        read_packed(out)


def test_which_file_is_taken(tmp_path):
    folder = tmp_path / "model" / "ta"
    folder.mkdir(parents=True)
    assert rescoring_file(None, folder) is None
    (folder / "LM.safetensors").touch()
    assert rescoring_file(None, folder) == folder / "LM.safetensors"
    assert rescoring_file("", folder) is None
    assert rescoring_file(tmp_path / "x", folder) == tmp_path / "x"
    assert rescoring_file(tmp_path / "model", folder) == folder / "LM.safetensors"
    assert rescoring_file(tmp_path / "model", folder.with_name("kn")) is None


def test_a_scale_out_of_range_is_refused():
    with pytest.raises(ModelError, match="scale of rescoring of 0"):
        Rescorer(toy_rescorer(3).large, None, 0.0)
