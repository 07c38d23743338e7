"""Graphs: CTC topology against brute force, epsilon removal, splices, files, other toolkits."""

from __future__ import annotations

import itertools
import json
import lzma
import math
from pathlib import Path
from typing import Optional

import numpy as np
import pytest
import safetensors.numpy

from uyir.decode.arcs import Arcs
from uyir.decode.graph import Graph
from uyir.decode.graph_epsilons import chained, remove_epsilons
from uyir.decode.graph_files import _digest, file_sha256, openfst_bytes
from uyir.decode.graph_k2 import k2_arrays
from uyir.decode.graph_splices import Root, Splice
from uyir.decode.graph_topology import ctc_topology
from uyir.errors import GraphError

Result = tuple[float, tuple[int, ...]]


def best_path(graph: Graph, arcs: Arcs, labels: list[int]) -> dict[tuple[int, ...], float]:
    """Cheapest cost of every word sequence that reads exactly these ilabels; plain search."""
    offsets = arcs.offsets
    here: dict[tuple[int, tuple[int, ...]], float] = {(arcs.start, ()): 0.0}

    def step(
        front: dict[tuple[int, tuple[int, ...]], float], label: int
    ) -> dict[tuple[int, tuple[int, ...]], float]:
        out: dict[tuple[int, tuple[int, ...]], float] = {}
        for (state, words), cost in front.items():
            for arc in range(offsets[state], offsets[state + 1]):
                if arcs.ilabel[arc] == label:
                    key = (int(arcs.target[arc]), words + graph.expand(int(arcs.olabel[arc])))
                    out[key] = min(out.get(key, math.inf), cost + float(arcs.weight[arc]))
        return out

    def closed(
        front: dict[tuple[int, tuple[int, ...]], float],
    ) -> dict[tuple[int, tuple[int, ...]], float]:
        total, fresh = dict(front), front
        while fresh:
            fresh = {k: c for k, c in step(fresh, 0).items() if c < total.get(k, math.inf) - 1e-9}
            total.update(fresh)
        return total

    here = closed(here)
    for label in labels:
        here = closed(step(here, label))
    ends: dict[tuple[int, ...], float] = {}
    for (state, words), cost in here.items():
        total = cost + float(arcs.final[state])
        if total < ends.get(words, math.inf):
            ends[words] = total
    return ends


def collapse(alignment: tuple[int, ...]) -> list[int]:
    return [t for t, _ in itertools.groupby(alignment) if t != 0]


def random_graph(seed: int, epsilons: bool, tokens: int = 3, states: int = 6) -> Graph:
    """A random LG; its epsilons lead to greater states, so that they make no cycle."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(16):
        rows.append(
            (
                rng.integers(states),
                rng.integers(states),
                rng.integers(1, tokens + 1) + 1,
                rng.integers(4),
            )
        )
    if epsilons:
        for _ in range(5):
            a, b = sorted(rng.choice(states, 2, replace=False))
            rows.append((a, b, 0, rng.integers(2) * rng.integers(4)))
    src, dst, ilabel, olabel = zip(*rows)
    weight = np.round(rng.uniform(0, 3, len(rows)) * 64) / 64
    final = np.where(rng.uniform(size=states) < 0.4, 0.5, np.inf)
    final[states - 1] = 0.25
    return Graph.from_arcs(
        src, dst, ilabel, olabel, weight, 0, final, ctc=True, num_words=4, num_tokens=4
    )


def assert_same(one: dict[tuple[int, ...], float], two: dict[tuple[int, ...], float]) -> None:
    assert one.keys() == two.keys()
    for words, cost in one.items():
        assert cost == pytest.approx(two[words], abs=1e-4)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("epsilons", [False, True])
def test_ctc_topology_accepts_exactly_the_alignments(seed: int, epsilons: bool) -> None:
    graph = random_graph(seed, epsilons)
    for frames in (0, 1, 3, 4):
        for alignment in itertools.product(range(4), repeat=frames):
            want = best_path(graph, graph.lexical, [t + 1 for t in collapse(alignment)])
            have = best_path(graph, graph.arcs, [t + 1 for t in alignment])
            assert_same(want, have)


@pytest.mark.parametrize("seed", range(12))
def test_epsilon_removal_keeps_costs_and_words(seed: int) -> None:
    graph = random_graph(seed, True)
    free = graph.epsilon_free()
    into_end = free.lexical.target[free.lexical.ilabel == 0]
    assert not np.isin(free.lexical.source, into_end).any()
    for length in range(5):
        for tokens in itertools.product(range(1, 4), repeat=length):
            labels = [t + 1 for t in tokens]
            assert_same(
                best_path(graph, graph.lexical, labels), best_path(free, free.lexical, labels)
            )


def test_words_on_neighbouring_epsilons_become_one_string() -> None:
    graph = Graph.from_arcs(
        [0, 1, 2], [1, 2, 3], [0, 0, 2], [3, 2, 1], [0.5, 0.25, 1], 0, [np.inf] * 3 + [0], ctc=True
    )
    free = graph.epsilon_free()
    assert free.num_arcs == 1 + 2 * 2  # one arc in, loops and blanks around it
    assert best_path(free, free.lexical, [2]) == {(3, 2, 1): 1.75}


def test_epsilon_cycle_is_refused() -> None:
    graph = Graph.from_arcs([0, 1, 0], [1, 0, 1], [0, 0, 2], [0, 0, 1], [1, 1, 1], 0, [0, 0])
    with pytest.raises(GraphError, match="epsilons follow one another"):
        graph.epsilon_free()


def test_topology_refuses_blanks_of_its_own() -> None:
    graph = Graph.from_arcs([0], [1], [1], [0], [0], 0, [np.inf, 0], ctc=True)
    with pytest.raises(GraphError, match="blank"):
        _ = graph.arcs


def test_a_chain_costs_five_arcs_a_token() -> None:
    length = 20
    arcs = Arcs.build(
        range(length),
        range(1, length + 1),
        [2 + i % 3 for i in range(length)],
        [1] * length,
        [0.0] * length,
        0,
        [np.inf] * length + [0],
    )
    # One arc in from the token's state before and one from its blank, a loop each, and the blank.
    assert ctc_topology(arcs).num_arcs == 5 * length


@pytest.mark.parametrize("epsilons", [False, True])
def test_file_round_trip(tmp_path: Path, epsilons: bool) -> None:
    for seed in range(6):
        graph = random_graph(seed, epsilons)
        graph = Graph(
            graph.lexical,
            graph.num_words,
            graph.num_tokens,
            splices=(Splice("n.obl", 2, 0, 3, 0.5), Splice("v", 0, 1, 5, 1.25)),
            meta={"language": "ta", "note": "உயிர்"},
        )
        path = tmp_path / "g.safetensors"
        assert graph.save(path) == path.stat().st_size
        read = Graph.load(path)
        assert read.meta == graph.meta and read.num_words == graph.num_words
        assert read.lexical.num_arcs == graph.lexical.num_arcs
        for length in range(4):
            for tokens in itertools.product(range(1, 4), repeat=length):
                labels = [t + 1 for t in tokens]
                assert_same(
                    best_path(graph, graph.lexical, labels), best_path(read, read.lexical, labels)
                )
        roots = [Root("n.obl", 2, (3, 3, 1), 4, 0.25), Root("v", 0, (2,), 5)]
        one, two = graph.with_roots(roots), read.with_roots(roots)
        for tokens in itertools.product(range(1, 4), repeat=4):
            labels = [t + 1 for t in tokens]
            assert_same(best_path(one, one.lexical, labels), best_path(two, two.lexical, labels))


def test_large_tables_and_costs_survive_the_file(tmp_path: Path) -> None:
    graph = Graph.from_arcs(
        [0, 0, 1, 70_000],
        [1, 70_000, 70_001, 70_001],
        [2, 300, 3, 0],
        [70_000, 1, 0, 200_000],
        [-3.5, 100.0, 0.0, 0.25],
        0,
        [np.inf] * 70_001 + [7.0],
        ctc=True,
    )
    graph.save(tmp_path / "g")
    read = Graph.load(tmp_path / "g")
    assert best_path(read, read.lexical, [2, 3]) == {(70_000,): pytest.approx(3.5, abs=0.01)}
    assert best_path(read, read.lexical, [300]) == {(1, 200_000): pytest.approx(107.25, abs=0.01)}


def test_large_arrays_are_packed_and_older_files_are_read(tmp_path: Path) -> None:
    states = 3000
    graph = Graph.from_arcs(
        np.arange(states - 1).repeat(2),
        np.stack([np.arange(1, states), np.full(states - 1, states - 1)], axis=1).ravel(),
        np.tile([2, 3], states - 1),
        np.tile([0, 70_000], states - 1),
        np.tile([0.25, 1.5], states - 1),
        0,
        [np.inf] * (states - 1) + [0.0],
        ctc=True,
    )
    size = graph.save(tmp_path / "new")
    with safetensors.safe_open(str(tmp_path / "new"), framework="np") as file:
        header = json.loads(file.metadata()["uyir-graph"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert size < 20_000 and header["version"] == 2 and "jump" in header["packed"]
    for name, (kind, shape) in header.pop("packed").items():
        raw = lzma.decompress(tensors[name].tobytes())
        tensors[name] = np.frombuffer(raw, dtype=kind).reshape(shape)
    # As version 1 had it: whole numbers in a low and a high part, nothing packed.
    for name in ("jump", "olabel"):
        values = tensors.pop(name)
        tensors[f"{name}_low"] = (values & 0xFFFF).astype(np.uint16)
        tensors[f"{name}_high"] = (values >> 16).astype(np.uint8)
    header.update(version=1, sha256=_digest(tensors))
    safetensors.numpy.save_file(
        tensors, str(tmp_path / "old"), metadata={"uyir-graph": json.dumps(header)}
    )
    numbered = graph.lexical.depth_first()
    for name in ("new", "old"):
        read = Graph.load(tmp_path / name).lexical
        for field in ("source", "target", "ilabel", "olabel", "weight"):
            assert (getattr(read, field) == getattr(numbered, field)).all(), field


def test_damaged_and_foreign_files(tmp_path: Path) -> None:
    graph = random_graph(1, True)
    path = tmp_path / "g.safetensors"
    graph.save(path)
    whole = path.read_bytes()
    with pytest.raises(GraphError, match="no such graph"):
        Graph.load(tmp_path / "absent")
    for cut in (0, 5, 200, len(whole) - 3):
        path.write_bytes(whole[:cut])
        with pytest.raises(GraphError, match="damaged"):
            Graph.load(path)
    path.write_bytes(whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:])
    with pytest.raises(GraphError, match="checksum"):
        Graph.load(path)
    safetensors.numpy.save_file({"x": np.zeros(3)}, str(path))
    with pytest.raises(GraphError, match="not a graph"):
        Graph.load(path)
    safetensors.numpy.save_file(
        {"x": np.zeros(3)}, str(path), metadata={"uyir-graph": json.dumps({"version": 99})}
    )
    with pytest.raises(GraphError, match="format 99"):
        Graph.load(path)


def test_graph_of_another_table_is_refused_naming_both(tmp_path: Path) -> None:
    mine, other = tmp_path / "tokens.txt", tmp_path / "other.txt"
    mine.write_text("<blk> 0\na 1\n")
    other.write_text("<blk> 0\nb 1\n")
    graph = Graph.from_arcs(
        [0], [1], [2], [1], [0], 0, [np.inf, 0], ctc=True, meta={"tokens_sha256": file_sha256(mine)}
    )
    graph.save(tmp_path / "g")
    Graph.load(tmp_path / "g", tokens=mine)
    with pytest.raises(GraphError) as caught:
        Graph.load(tmp_path / "g", tokens=other)
    message = str(caught.value)
    assert file_sha256(mine)[:12] in message and file_sha256(other)[:12] in message


def spliced_toy() -> Graph:
    """Words: 1 = "x+" (token 1) and 2 = "+y" (token 2); an unknown root may stand for 1."""
    return Graph(
        Arcs.build(
            [0, 1, 2],
            [1, 2, 0],
            [2, 3, 4],
            [1, 2, 0],
            [0.5, 0.25, 0],
            0,
            [0, np.inf, np.inf],
        ),
        num_words=3,
        num_tokens=4,
        splices=(Splice("noun", 0, 0, 1, 2.0),),
    )


def test_a_spliced_root_is_decodable_with_repeats_at_both_seams() -> None:
    graph = spliced_toy()
    # Tokens: the word before ends in 3, and the suffix begins with 2.
    added = graph.splice("noun", (3, 1, 2), 3, weight=0.5)
    alignments: list[tuple[list[int], Optional[Result]]] = [
        ([3, 1, 2, 2, 3], None),  # 2 2 without a blank is one 2: the suffix is missing
        ([3, 1, 2, 0, 2, 3], (2.75, (3, 2))),
        # After a whole first word its last token 3 meets the root's first 3: they need a blank too.
        ([1, 2, 3, 3, 1, 2, 0, 2, 3], None),
        ([1, 2, 3, 0, 3, 1, 2, 0, 2, 3], (3.5, (1, 2, 3, 2))),
    ]
    for alignment, want in alignments:
        have = best_path(added, added.arcs, [t + 1 for t in alignment])
        if want is None:
            assert not have
        else:
            assert have == {want[1]: pytest.approx(want[0])}
        assert not best_path(graph, graph.arcs, [t + 1 for t in alignment])
    # Without repeats at the seams no blank is asked for.
    plain = graph.splice("noun", (2, 1), 3)
    have = best_path(plain, plain.arcs, [t + 1 for t in [1, 2, 3, 2, 1, 2, 3]])
    assert have == {(1, 2, 3, 2): pytest.approx(3.0)}


def test_splice_errors() -> None:
    graph = spliced_toy()
    with pytest.raises(GraphError, match=r"'verb'.*it has noun"):
        graph.splice("verb", (1,), 3)
    with pytest.raises(GraphError, match="tokens"):
        graph.splice("noun", (), 3)
    with pytest.raises(GraphError, match="tokens"):
        graph.splice("noun", (0,), 3)


@pytest.mark.parametrize("epsilons", [False, True])
def test_to_openfst_holds_every_arc(epsilons: bool) -> None:
    kaldifst = pytest.importorskip("kaldifst")
    graph = random_graph(3, epsilons)
    fst = graph.to_openfst()
    assert fst.start == graph.start and fst.num_states == graph.num_states
    rows = []
    for state in range(graph.num_states):
        final = fst.final(state).value
        assert final == graph.final[state]
        for arc in kaldifst.ArcIterator(fst, state):
            rows.append((state, arc.nextstate, arc.ilabel, arc.olabel, arc.weight.value))
    want = zip(*(x.tolist() for x in (graph.src, graph.dst, graph.ilabel, graph.olabel)))
    assert [r[:4] for r in rows] == list(want)
    assert np.allclose([r[4] for r in rows], graph.weight)


def test_strings_become_chains_in_openfst() -> None:
    pytest.importorskip("kaldifst")
    graph = Graph.from_arcs(
        [0, 1, 2], [1, 2, 3], [0, 0, 2], [3, 2, 1], [0.5, 0.25, 1], 0, [np.inf] * 3 + [0], ctc=True
    )
    free = graph.epsilon_free()
    chains = chained(free.arcs, free.strings, free.num_words)
    assert best_path(free, chains, [2, 2, 1]) == {(3, 2, 1): 1.75}
    assert free.to_openfst().num_states == chains.num_states


def test_openfst_bytes_are_what_openfst_reads(tmp_path: Path) -> None:
    pynini = pytest.importorskip("pynini")
    graph = random_graph(5, True)
    path = tmp_path / "a.fst"
    path.write_bytes(openfst_bytes(graph.arcs))
    fst = pynini.Fst.read(str(path))
    assert fst.num_states() == graph.num_states
    assert sum(fst.num_arcs(s) for s in fst.states()) == graph.num_arcs
    assert fst.verify()


def viterbi(graph: Graph, arcs: Arcs, log_probs: np.ndarray) -> float:
    """Best total score (higher is better) over all paths, by brute force over alignments."""
    frames, tokens = log_probs.shape
    best = -math.inf
    for alignment in itertools.product(range(tokens), repeat=frames):
        ends = best_path(graph, graph.lexical, [t + 1 for t in collapse(alignment)])
        if ends:
            acoustic = sum(float(log_probs[i, t]) for i, t in enumerate(alignment))
            best = max(best, acoustic - min(ends.values()))
    return best


def test_k2_words_of_every_arc() -> None:
    k2 = pytest.importorskip("k2")
    for seed in range(8):
        graph = random_graph(seed, True).epsilon_free()
        fsa = graph.to_k2()
        source, target, label, olabel, score = k2_arrays(graph.arcs)
        arcs = fsa.arcs.values()
        assert arcs[:, 0].tolist() == source.tolist() and arcs[:, 1].tolist() == target.tolist()
        assert arcs[:, 2].tolist() == label.tolist()
        assert fsa.scores.tolist() == pytest.approx(score.tolist())
        if isinstance(fsa.aux_labels, k2.RaggedTensor):
            have = fsa.aux_labels.tolist()
        else:
            have = [[w] if w else [] for w in fsa.aux_labels.tolist()]
        want = [
            [*(graph.expand(w) if w > 0 else ()), *([-1] if at == -1 else [])]
            for w, at in zip(olabel.tolist(), label.tolist())
        ]
        assert have == want


@pytest.mark.parametrize("seed", range(6))
def test_k2_finds_the_brute_force_best_path(seed: int) -> None:
    k2 = pytest.importorskip("k2")
    torch = pytest.importorskip("torch")
    graph = random_graph(seed, True)
    rng = np.random.default_rng(seed)
    log_probs = torch.from_numpy(rng.normal(size=(1, 5, 4)).astype(np.float32)).log_softmax(-1)
    fsa = k2.arc_sort(graph.to_k2())
    dense = k2.DenseFsaVec(log_probs, torch.tensor([[0, 0, 5]], dtype=torch.int32))
    lattice = k2.intersect_dense(k2.create_fsa_vec([fsa]), dense, 1000.0)
    best = k2.shortest_path(lattice, use_double_scores=True)
    total = best.get_tot_scores(use_double_scores=True, log_semiring=False)[0].item()
    assert total == pytest.approx(viterbi(graph, graph.lexical, log_probs[0].numpy()), abs=1e-4)
    words = best.aux_labels
    flat = words.values if isinstance(words, k2.RaggedTensor) else words
    labels = best.labels.tolist()
    ends = best_path(graph, graph.arcs, [t + 1 for t in labels if t >= 0])
    assert tuple(w for w in flat.tolist() if w > 0) == min(ends, key=lambda w: ends[w])


def test_kaldi_decoder_finds_the_brute_force_best_path() -> None:
    decoder = pytest.importorskip("kaldi_decoder")
    kaldifst = pytest.importorskip("kaldifst")
    for seed in range(6):
        graph = random_graph(seed, True)
        rng = np.random.default_rng(seed)
        logits = rng.normal(size=(5, 4))
        log_probs = (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)
        options = decoder.FasterDecoderOptions(max_active=1000, beam=100.0)
        fst = graph.to_openfst()  # the decoder does not keep it alive
        search = decoder.FasterDecoder(fst, options)
        decodable = decoder.DecodableCtc(log_probs)
        search.decode(decodable)
        assert search.reached_final()
        ok, best = search.get_best_path()
        assert ok
        ok, _, _, weight = kaldifst.get_linear_symbol_sequence(best)
        total = -(weight.value1 + weight.value2)
        assert total == pytest.approx(viterbi(graph, graph.lexical, log_probs), abs=1e-4)


def test_bad_arrays() -> None:
    with pytest.raises(GraphError, match="states 0 to 7"):
        Graph.from_arcs([0], [7], [1], [0], [0], 0, [0, 0])
    with pytest.raises(GraphError, match="length"):
        Graph.from_arcs([0, 1], [1], [1], [0], [0], 0, [0, 0])
    with pytest.raises(GraphError, match="finite"):
        Graph.from_arcs([0], [1], [1], [0], [np.nan], 0, [0, 0])
    with pytest.raises(GraphError, match="empty"):
        Arcs.build([0], [1], [1], [0], [0], 0, [np.inf, np.inf]).connected()


def test_remove_epsilons_keeps_the_cheaper_of_equal_arcs() -> None:
    arcs = Arcs.build(
        [0, 0, 2, 0],
        [1, 2, 1, 1],
        [2, 0, 2, 2],
        [1, 0, 1, 1],
        [3, 0.5, 1, 2],
        0,
        [np.inf, 0, np.inf],
    )
    free, strings = remove_epsilons(arcs, (), 2)
    assert not strings and free.num_arcs == 1 and free.weight[0] == 1.5
