"""The `cuda` engine and its reference against plain dynamic programming, on graphs drawn at random.

Where there is no GPU the kernels run emulated on the CPU (`block_of_fibers.hpp`), if a C++ compiler is there.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from uyir.decode.engines import SearchOptions, why_not
from uyir.decode.engines.cuda import CudaEngine
from uyir.decode.engines.cuda_lattice import Backward
from uyir.decode.engines.cuda_lattice import Shape as LatticeShape
from uyir.decode.engines.cuda_session import Session, Shape, source
from uyir.decode.engines.packed import pack
from uyir.decode.engines.reference import ReferenceEngine
from uyir.decode.graph import Graph
from uyir.errors import GraphError

HERE = Path(__file__).parent
WIDE = SearchOptions(beam=1000.0, max_active=100_000)
CASES = int(os.environ.get("UYIR_RANDOM_CASES", "2000"))
#: Many random cases are drawn in parts, for as many processes (`-k part-3`).
PARTS = 1 if CASES <= 20_000 else 20


class Emulated:
    """The kernels compiled for the CPU; `launch` is that of `nvrtc.Module`."""

    made: ClassVar[dict] = {}

    def __init__(self, name, macros):
        key = (name, *macros.items())
        self.library = self.made.get(key)
        if self.library is None:
            self.library = self.made[key] = self.build(name, macros)

    @staticmethod
    def build(name, macros):
        compiler = shutil.which("g++")
        if compiler is None:
            pytest.skip("no g++ to emulate the kernels with")
        text = source(name).replace(
            "extern __shared__ u64 space[];", "u64 *space = emulated_space;"
        )
        text = text.replace('extern "C" __global__', "static __global__")
        arguments = {
            "search": "*(Graph *)a[0], *(Batch *)a[1], *(Record *)a[2], *(int **)a[3], *(u32 **)a[4], *(u64 **)a[5], *(u32 **)a[6]",
            "look": "*(Batch *)a[0], *(Record *)a[1], *(int **)a[2]",
            "trace": "*(Graph *)a[0], *(Batch *)a[1], *(Record *)a[2]",
            "rescan": "*(Graph *)a[0], *(Batch *)a[1], *(Record *)a[2], *(Lattice *)a[3], *(int **)a[4]",
            "share": "*(Graph *)a[0], *(Batch *)a[1], *(Record *)a[2], *(Lattice *)a[3]",
            "spell": "*(Graph *)a[0], *(Batch *)a[1], *(Record *)a[2], *(Lattice *)a[3]",
        }
        here = {
            name: args
            for name, args in arguments.items()
            if f" {name}(Graph" in text or f" {name}(Batch" in text
        }
        doors = "".join(
            f"static void do_{name}(void **a) {{ {name}({args}); }}\n"
            f'extern "C" void launch_{name}(unsigned grid, unsigned block, void **a) {{ run_grid(do_{name}, grid, block, a); }}\n'
            for name, args in here.items()
        )
        text = (HERE / "block_of_fibers.hpp").read_text() + text + doors
        flags = [f"-D{name}={value}" for name, value in macros.items()]
        flags += [
            "-O1",
            "-g",
            "-w",
            "-shared",
            "-fPIC",
            "-ffp-contract=off",
            "-fno-strict-aliasing",
        ]
        key = hashlib.sha256((text + str(flags)).encode()).hexdigest()[:16]
        path = Path(tempfile.gettempdir()) / f"uyir-emulated-{os.getuid()}-{key}.so"
        if not path.exists():
            code = path.with_suffix(f".{os.getpid()}.cpp")
            code.write_text(text)
            part = path.with_suffix(f".{os.getpid()}.part")
            subprocess.run([compiler, *flags, "-o", str(part), str(code)], check=True)
            code.unlink()
            part.rename(path)
        return ctypes.CDLL(str(path))

    def launch(self, name, grid, block, shared, arguments):
        assert shared <= 8 * (1 << 16)
        pointers = (ctypes.c_void_p * len(arguments))(
            *(ctypes.cast(ctypes.pointer(a), ctypes.c_void_p) for a in arguments)
        )
        getattr(self.library, f"launch_{name}")(grid, block, pointers)


def cuda_engine(graph, options=WIDE):
    """The `cuda` engine on the GPU, or else emulated."""
    if why_not("cuda") is None:
        return CudaEngine(graph, options)
    engine = CudaEngine(graph, options, device="cpu", launcher=Emulated)
    # Small tables first: what is emulated takes as long as its tables are large.
    large = engine.shapes(options)
    engine.shapes = lambda options: [Shape(64, 160, 120, 1), Shape(64, 1600, 1200, 1), *large]
    engine.first_shape = lambda options, shapes: 0
    return engine


ENGINES = {
    "reference": lambda graph, options=WIDE: ReferenceEngine(graph, options),
    "cuda": cuda_engine,
}
SEARCHES = {**ENGINES, "cuda-nbest": lambda graph: cuda_engine(graph, replace(WIDE, nbest=4))}


def random_graph(rng):
    """A small graph with epsilons (acyclic), words, dead ends, maybe no final state."""
    states, tokens = int(rng.integers(1, 9)), int(rng.integers(1, 5))
    loud, silent = int(rng.integers(0, 25)), int(rng.integers(0, 6)) if states > 1 else 0
    src, dst = rng.integers(0, states, loud), rng.integers(0, states, loud)
    ilabel = rng.integers(1, tokens + 1, loud)
    low = rng.integers(0, states - 1, silent) if silent else np.empty(0, int)
    high = np.array([int(rng.integers(s + 1, states)) for s in low], dtype=int)
    if rng.random() < 0.5:
        low, high = states - 1 - low, states - 1 - high
    if loud + silent == 0:
        src, dst, ilabel, loud = np.zeros(1, int), np.zeros(1, int), np.ones(1, int), 1
    weight = np.round(rng.normal(1.0, 1.5, loud + silent), int(rng.integers(0, 4)))
    final = np.where(rng.random(states) < 0.4, rng.normal(0, 1, states), np.inf)
    return Graph.from_arcs(
        np.concatenate([src, low]),
        np.concatenate([dst, high]),
        np.concatenate([ilabel, np.zeros(silent, int)]),
        rng.integers(0, 4, loud + silent),
        weight,
        int(rng.integers(0, states)),
        final,
        num_words=4,
        num_tokens=tokens,
    )


def random_log_probs(rng, tokens):
    frames = int(rng.choice([0, 1, 1, 2, 3, 5, 8, 13]))
    rows = np.round(rng.normal(-2.0, 2.0, (frames, tokens)), int(rng.integers(0, 4)))
    rows = rows.astype(np.float32)
    if rng.random() < 0.2:
        rows[rng.random(rows.shape) < 0.3] = -np.inf
    if frames and rng.random() < 0.1:
        bad = np.nan if rng.random() < 0.7 else np.inf
        rows[int(rng.integers(frames)), int(rng.integers(tokens))] = bad
    return rows


def best_scores(graph, utterances):
    """Each one's best complete path's score by plain dynamic programming over all states, in float64."""
    arcs = graph.arcs
    silent, loud = [], []
    for arc in zip(arcs.source, arcs.target, arcs.ilabel, -arcs.weight.astype(np.float64)):
        (loud if arc[2] else silent).append(arc)

    def close(now):
        while True:
            before = now.copy()
            for src, dst, _, weight in silent:
                now[:, dst] = np.maximum(now[:, dst], now[:, src] + weight)
            if (now == before).all():
                return now

    now = np.full((len(utterances), arcs.num_states), -np.inf)
    now[:, arcs.start] = 0.0
    now = close(now)
    for frame in range(max(len(rows) for rows in utterances)):
        going = np.array([len(rows) > frame for rows in utterances])
        row = np.stack([np.nan_to_num(u[frame], nan=0.0, posinf=0.0, neginf=-np.inf) if len(u) > frame else np.zeros(graph.num_tokens) for u in utterances]).astype(np.float64)  # fmt: skip
        then = np.full_like(now, -np.inf)
        for src, dst, label, weight in loud:
            then[:, dst] = np.maximum(then[:, dst], now[:, src] + weight + row[:, label - 1])
        now = np.where(going[:, None], close(then), now)
    return (now - arcs.final).max(axis=1).tolist()


def check_case(graph, utterances, found):
    """Score and validity of every result; a path must exist in the graph and add up."""
    for rows, hypotheses, want in zip(utterances, found, best_scores(graph, utterances)):
        best = hypotheses[0]
        if np.isnan(rows).any() or np.isposinf(rows).any():
            assert best.error is not None and not best.final and best.subwords == ()
            continue
        assert best.error is None
        assert best.final is (want > -np.inf), (best, want)
        if best.final:
            assert abs(best.score - want) < 1e-3
            assert len({h.subwords for h in hypotheses}) == len(hypotheses)
            assert sorted((h.score for h in hypotheses), reverse=True) == pytest.approx(
                [h.score for h in hypotheses], abs=1e-3
            )


def batch_of(utterances, tokens):
    longest = max(len(rows) for rows in utterances)
    batch = np.full((len(utterances), longest, tokens), np.nan, dtype=np.float32)
    for row, rows in zip(batch, utterances):
        row[: len(rows)] = rows
    return batch, np.array([len(rows) for rows in utterances])


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("part", range(PARTS), ids="part-{}".format)
def test_best_scores_on_random_graphs(name, part):
    # What runs on a CPU gets fewer, unless many are asked for: kernels emulated take their time.
    slow = 4 if name == "reference" else 10 if why_not("cuda") is not None else 1
    cases = CASES // (slow if PARTS == 1 else 1)
    rng = np.random.default_rng([len(name), part])
    each = 8 if PARTS == 1 else 20
    done = 0
    while done < cases // PARTS:
        graph = random_graph(rng)
        engine = SEARCHES[name](graph)
        utterances = [random_log_probs(rng, graph.num_tokens) for _ in range(each)]
        check_case(graph, utterances, engine.decode(*batch_of(utterances, graph.num_tokens)))
        done += len(utterances)


@pytest.mark.parametrize("beam,max_active", [(1000.0, 100_000), (4.0, 100_000), (4.0, 3), (2.0, 2)])
def test_cuda_says_what_the_reference_says(beam, max_active):
    """Also where beam and max_active cut: the same path, not only the same score."""
    options = SearchOptions(beam=beam, max_active=max_active)
    rng = np.random.default_rng(int(beam) + max_active)
    for _ in range(15):
        graph = random_graph(rng)
        batch = batch_of(
            [random_log_probs(rng, graph.num_tokens) for _ in range(6)], graph.num_tokens
        )
        ours = cuda_engine(graph, options).decode(*batch)
        theirs = ReferenceEngine(graph, options).decode(*batch)
        for a, b in zip(ours, theirs):
            assert a[0].final == b[0].final and a[0].error == b[0].error
            assert a[0].subwords == b[0].subwords
            assert a[0].times == b[0].times and a[0].runs == b[0].runs
            assert a[0].score == b[0].score


@pytest.mark.parametrize("epsilons", [False, True])
def test_nbest_and_confidences_are_those_of_the_lattice(toys, epsilons):
    options = SearchOptions(beam=30.0, max_active=10_000, nbest=6, lattice_beam=12.0)
    for seed in range(3):
        toy = toys.ctc_graph(seed, epsilons=epsilons)
        graph = toy.real()
        batch = toys.batch(
            [toys.log_probs(seed + i, 4 + 3 * i, graph.num_tokens) for i in range(3)]
        )
        ours = cuda_engine(graph, options).decode(*batch)
        theirs = ReferenceEngine(graph, options).decode(*batch)
        for a, b in zip(ours, theirs):
            assert [h.subwords for h in a] == [h.subwords for h in b]
            for x, y in zip(a, b):
                assert x.score == pytest.approx(y.score, abs=1e-3)
                assert x.confidences == pytest.approx(y.confidences, abs=2e-3)
            assert a[0].score == pytest.approx(
                toy.viterbi(batch[0][ours.index(a)][: batch[1][ours.index(a)]]), rel=1e-4
            )


def test_lattices_that_want_more_room_than_there_was_change_nothing(toys, monkeypatch):
    """Too few places for nodes, sequences and arcs; then a frame too large for the smaller tables."""
    options = SearchOptions(beam=30.0, max_active=10_000, nbest=4, lattice_beam=12.0)
    graph = toys.ctc_graph(2, epsilons=True).real()
    batch = toys.batch([toys.log_probs(20 + i, 5 + 2 * i, graph.num_tokens) for i in range(3)])
    want = ReferenceEngine(graph, options).decode(*batch)
    engine = cuda_engine(graph, options)
    small = LatticeShape(64, 24, 16, 40, 1)
    engine.lattice_shapes = (small, *engine.lattice_shapes)
    monkeypatch.setattr(engine, "expected_lattice", lambda options: np.zeros(3))
    monkeypatch.setattr("uyir.decode.engines.cuda_lattice.SPARE", 0)
    monkeypatch.setattr(Backward, "_chunk", lambda self: np.full(3, 4))
    found = engine.decode(*batch)
    for a, b in zip(found, want):
        assert [h.subwords for h in a] == [h.subwords for h in b]
        assert a[0].confidences == pytest.approx(b[0].confidences, abs=2e-3)


def test_room_for_lattices_grows_within_bounds(toys):
    """Nothing was done when room ran out (all blocks ran into its end): the guess is not without bound."""
    engine = cuda_engine(toys.ctc_graph(1).real(), SearchOptions(nbest=2))
    session = Session(engine, [50_000], engine.options)
    session.done = np.array([50_000])
    back = object.__new__(Backward)
    back.session, back.engine, back.nbest = session, engine, 2
    back._frames, back._room = 50_001, np.array([1000, 1000, 1000])
    wanted = back._wanted(np.array([-1]), np.array([900, 1500, 5000]))
    assert wanted.tolist() == [4000, 4000, 4000]
    assert back._wanted(np.array([3]), np.array([900, 900, 1500])).tolist() == [1080, 1080, 1500]


def test_rescoring_reads_lattices_of_the_cuda_engine(toys):
    class Twice:
        """A larger model that adds nothing; what it is given is told."""

        seen: ClassVar[list] = []

        def rescore(self, lattice):
            self.seen.append(lattice)
            return lattice

    graph = toys.ctc_graph(4, epsilons=True).real()
    options = SearchOptions(beam=30.0, max_active=10_000, nbest=3, lattice_beam=12.0)
    batch = toys.batch([toys.log_probs(40 + i, 6 + i, graph.num_tokens) for i in range(2)])
    want = ReferenceEngine(graph, options).decode(*batch)
    engine = cuda_engine(graph, options)
    engine._rescorer = Twice()
    for found in (engine.decode(*batch), [engine.hypotheses(r, 3) for r in engine.find(*batch)]):
        for a, b in zip(found, want):
            assert [h.subwords for h in a] == [h.subwords for h in b]
            assert [h.score for h in a] == pytest.approx([h.score for h in b], abs=1e-3)
    assert len(Twice.seen) == 4


def test_a_lattice_of_the_cuda_engine_is_that_of_the_reference(toys):
    options = SearchOptions(beam=30.0, max_active=10_000, nbest=4, lattice_beam=6.0)
    graph = toys.ctc_graph(3, epsilons=True).real()
    array = toys.log_probs(3, 9, graph.num_tokens)
    ours = cuda_engine(graph, options).lattice(array)
    from uyir.decode.engines.reference import Search

    search = Search(pack(graph), 30.0, 10_000)
    search.advance(array)
    theirs = search.lattice(array, 6.0)

    def arcs(lattice):
        frames = lattice._frames
        return sorted(
            (frames[a.src], a.token, a.labels, round(a.lm, 4))
            for a in lattice.arcs
            if a.src in frames
        )

    assert arcs(ours) == arcs(theirs)
    assert ours.nbest(4)[0].score == pytest.approx(theirs.nbest(4)[0].score, abs=1e-4)


class WordPenalty:
    """Stands in for a rescorer: each word costs one more, and a lattice stays a lattice."""

    def rescore(self, lattice):
        arcs = [replace(arc, lm=arc.lm - len(arc.labels)) for arc in lattice.arcs]
        return replace(lattice, arcs=arcs)


def test_rescoring_reads_the_lattices_of_a_batch(toys):
    options = SearchOptions(beam=30.0, max_active=10_000, nbest=4, lattice_beam=30.0)
    graph = toys.ctc_graph(3, epsilons=True).real()
    batch = toys.batch([toys.log_probs(3 + i, 4 + 3 * i, graph.num_tokens) for i in range(3)])
    engine = cuda_engine(graph, options)
    engine._rescorer = WordPenalty()
    plain = cuda_engine(graph, replace(options, nbest=60)).decode(*batch)
    reference = ReferenceEngine(graph, options, rescorer=WordPenalty())
    for found, want, everything in zip(engine.decode(*batch), reference.decode(*batch), plain):
        assert [h.subwords for h in found] == [h.subwords for h in want]
        assert [h.score for h in found] == pytest.approx([h.score for h in want], abs=1e-3)
        best = max(h.score - len(h.subwords) for h in everything)
        assert found[0].score == pytest.approx(best, abs=1e-3)


@pytest.mark.parametrize("name", ENGINES)
def test_negative_epsilon_costs_bring_a_path_back(name):
    # Frame 1: state 1 scores -1, state 2 scores -8 and rises to 3 by an epsilon of +9: 1, the best.
    graph = Graph.from_arcs(
        [0, 0, 2], [1, 2, 3], [1, 1, 0], [1, 2, 3], [1.0, 8.0, -9.0], 0,
        [np.inf, 0.0, np.inf, 0.0], num_tokens=1,
    )  # fmt: skip
    engine = ENGINES[name](graph, SearchOptions(beam=7.5, max_active=10))
    (found,) = engine.decode(np.zeros((1, 1, 1), np.float32), np.array([1]))
    assert found[0].subwords == (2, 3) and found[0].score == pytest.approx(1.0)


@pytest.mark.parametrize("name", ENGINES)
def test_graphs_that_cannot_be_searched_are_refused(name):
    empty = Graph.from_arcs([], [], [], [], [], 0, [0.0], num_tokens=3)
    with pytest.raises(GraphError, match="nothing can be found"):
        ENGINES[name](empty)
    cycle = Graph.from_arcs([0, 1], [1, 0], [0, 0], [0, 0], [0.0, 0.0], 0, [0.0, 0.0])
    with pytest.raises(GraphError, match="cycle"):
        ENGINES[name](cycle)


def test_an_hour_keeps_its_precision():
    """Relative scores: 90,000 frames at -9 each add up as those of one do."""
    graph = Graph.from_arcs([0, 0], [0, 0], [1, 2], [0, 1], [0.0, 0.5], 0, [0.25], num_tokens=2)
    frames = 90_000 if why_not("cuda") is None else 1_000
    rows = np.full((1, frames, 2), -9.0, dtype=np.float32)
    rows[0, ::100, 1] = -8.0
    (found,) = cuda_engine(graph, SearchOptions(beam=12.0, max_active=100)).decode(
        rows, np.array([frames])
    )
    assert len(found[0].subwords) == frames // 100
    assert found[0].score == pytest.approx(-9.0 * frames + 0.5 * (frames // 100) - 0.25, abs=1e-3)


def test_chunks_give_what_the_whole_gives(toys):
    graph = toys.ctc_graph(6, epsilons=True).real()
    utterances = [toys.log_probs(60 + i, 7 + 9 * i, graph.num_tokens) for i in range(3)]
    batch, lengths = toys.batch(utterances)
    engine = cuda_engine(graph, SearchOptions(beam=10.0, max_active=50))
    rows, counts = engine.prepare(batch, lengths)
    whole = engine.stream(3)
    whole.advance(rows, counts)
    parts = engine.stream(3)
    for begin in range(0, batch.shape[1], 4):
        sizes = np.clip(lengths - begin, 0, 4)
        parts.advance(rows[:, begin : begin + 4], sizes)
    for a, b in zip(whole.paths(), parts.paths()):
        assert a.final == b.final and a.arcs.tolist() == b.arcs.tolist()


def test_memory_grows_as_the_batch_does(toys):
    graph = toys.ctc_graph(5, words=12, epsilons=True).real()
    few = [toys.log_probs(80 + i, 12, graph.num_tokens) for i in range(4)]
    taken = []
    for times in (2, 4, 8):
        engine = cuda_engine(graph, SearchOptions(beam=12.0, max_active=200))
        for _ in range(2):  # the second search knows how much room is wanted
            engine.search(*toys.batch(few * times))
        taken.append(engine.bytes)
    first, second = np.diff(taken)
    assert first > 0
    assert second == pytest.approx(2 * first, rel=0.05)


def test_frames_of_far_more_states_than_there_is_room_for_change_nothing(toys, monkeypatch):
    """The cut-off that is safe is raised again and again, until what is left fits."""
    graph = toys.ctc_graph(9, words=60, tokens=14, epsilons=True).real()
    options = SearchOptions(beam=30.0, max_active=30)
    batch = toys.batch([toys.log_probs(95 + i, 8, 14, peaky=0.5 + i) for i in range(2)])
    want = ReferenceEngine(graph, options).decode(*batch)
    engine = cuda_engine(graph, options)
    large = engine.shapes(options)
    monkeypatch.setattr(engine, "shapes", lambda options: [Shape(64, 150, 100, 1), *large])
    monkeypatch.setattr(engine, "first_shape", lambda options, shapes: 0)
    found = engine.decode(*batch)
    assert engine.restarts > 0
    assert [h[0].score for h in found] == [h[0].score for h in want]
    assert [h[0].runs for h in found] == [h[0].runs for h in want]


@pytest.mark.parametrize(
    "sizes",
    [
        [(64, 40)],  # the next one is taken
        [(64, 40), (700, 410)],  # where 300 fit, a frame that does not is done again, cut higher up
        [(64, 40), (700, 410, False)],  # in the GPU's memory
    ],
)
def test_tables_and_records_too_small_at_first_change_nothing(toys, monkeypatch, sizes):
    graph = toys.ctc_graph(7, words=30, tokens=12, epsilons=True).real()
    options = SearchOptions(beam=40.0, max_active=300)
    batch = toys.batch([toys.log_probs(70 + i, 12, 12, peaky=3.0) for i in range(4)])
    want = ReferenceEngine(graph, options).decode(*batch)
    engine = cuda_engine(graph, options)
    large = engine.shapes(options)
    shapes = [Shape(128, slots, listed, 1, *shared) for slots, listed, *shared in sizes]
    monkeypatch.setattr(engine, "shapes", lambda options: [*shapes, *large])
    monkeypatch.setattr(engine, "first_shape", lambda options, shapes: 0)
    monkeypatch.setattr(engine, "expected_active", lambda options: 1.0)
    found = engine.decode(*batch)
    assert engine.restarts > 0
    assert [h[0].score for h in found] == [h[0].score for h in want]
    assert [h[0].subwords for h in found] == [h[0].subwords for h in want]
