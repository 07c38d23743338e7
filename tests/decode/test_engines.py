from __future__ import annotations

import math

import numpy as np
import pytest

from uyir.decode.engines import NAMES, SearchOptions, available, choose, create, why_chosen, why_not
from uyir.errors import EngineError, GraphError

WIDE = SearchOptions(beam=1000.0, max_active=100_000)


def engine_or_skip(name, graph, options=WIDE):
    reason = why_not(name)
    if reason is not None:
        pytest.skip(f"engine {name}: {reason}")
    if name in ("cuda", "reference"):
        graph = graph.real() if hasattr(graph, "real") else graph
    return create(name, graph, options)


@pytest.fixture(params=NAMES)
def name(request):
    if why_not(request.param) is not None:
        pytest.skip(f"engine {request.param}: {why_not(request.param)}")
    return request.param


@pytest.mark.parametrize(
    "bad",
    [
        {"beam": 0.0},
        {"beam": math.inf},
        {"beam": math.nan},
        {"max_active": 1},
        {"max_active": 3.5},
        {"nbest": 0},
        {"nbest": True},
        {"acoustic_scale": -1.0},
        {"lattice_beam": 0.0},
        {"threads": 0},
    ],
)
def test_options_out_of_range_are_refused_by_name(bad):
    with pytest.raises(EngineError, match=next(iter(bad))):
        SearchOptions(**bad)


def test_the_fastest_engine_that_can_run_is_chosen_and_the_reason_said(monkeypatch):
    from uyir.decode import engines

    assert set(available()) == set(NAMES)
    can = {"kaldi", "k2", "cuda", "reference"}
    monkeypatch.setattr(engines, "why_not", lambda name: None if name in can else "not here")
    assert (choose("cpu"), choose("cuda:0")) == ("kaldi", "cuda")
    can.remove("cuda")
    assert choose("cuda:0") == "k2"
    assert "cuda cannot run here (not here)" in why_chosen("cuda")
    can.clear()
    with pytest.raises(EngineError, match="no search engine can run"):
        choose("cpu")


def test_unknown_engine_is_refused(toys):
    with pytest.raises(EngineError, match="no engine 'viterbi'"):
        create("viterbi", toys.ctc_graph(0))


def test_best_score_equals_plain_viterbi(name, toys):
    checked = 0
    for seed in range(20):
        graph = toys.ctc_graph(seed)
        engine = engine_or_skip(name, graph)
        arrays = [toys.log_probs(100 * seed + i, 5 + 4 * i, graph.num_tokens) for i in range(5)]
        for array, found in zip(arrays, engine.decode(*toys.batch(arrays))):
            best = found[0]
            assert best.final and best.error is None
            assert best.score == pytest.approx(graph.viterbi(array), rel=1e-4)
            assert best.score == pytest.approx(best.am_score + best.lm_score, rel=1e-6)
            checked += 1
    assert checked == 100


def test_kaldi_and_k2_agree_on_100_utterances(toys):
    pytest.importorskip("k2")
    for seed in range(10):
        graph = toys.ctc_graph(seed, words=10, tokens=8)
        arrays = [toys.log_probs(7000 + 10 * seed + i, 10 + 5 * i, 8) for i in range(10)]
        batch = toys.batch(arrays)
        kaldi = engine_or_skip("kaldi", graph).decode(*batch)
        k2 = engine_or_skip("k2", graph).decode(*batch)
        for a, b in zip(kaldi, k2):
            assert a[0].score == pytest.approx(b[0].score, rel=1e-3)
            assert a[0].am_score == pytest.approx(b[0].am_score, rel=1e-3)
            assert (a[0].subwords, a[0].times, a[0].ends) == (
                b[0].subwords,
                b[0].times,
                b[0].ends,
            )


def test_epsilons_in_the_graph_leave_the_answer_alone(toys):
    for seed in range(10):
        plain, other = toys.ctc_graph(seed), toys.ctc_graph(seed, epsilons=True)
        array = toys.log_probs(seed, 20, plain.num_tokens)
        a = engine_or_skip("kaldi", plain).decode(*toys.batch([array]))[0][0]
        b = engine_or_skip("kaldi", other).decode(*toys.batch([array]))[0][0]
        assert a.subwords == b.subwords
        assert a.score == pytest.approx(b.score, rel=1e-5)


def test_acoustic_scale_weighs_the_network_against_the_graph(name, toys):
    graph = toys.ctc_graph(3)
    array = toys.log_probs(3, 25, graph.num_tokens)
    options = SearchOptions(beam=1000.0, max_active=100_000, acoustic_scale=0.3)
    best = engine_or_skip(name, graph, options).decode(*toys.batch([array]))[0][0]
    assert best.score == pytest.approx(graph.viterbi(0.3 * array), rel=1e-4)
    assert best.score == pytest.approx(0.3 * best.am_score + best.lm_score, rel=1e-5)


def test_nbest_is_unique_sorted_and_begins_with_the_best(name, toys):
    graph = toys.ctc_graph(5)
    options = SearchOptions(beam=100.0, max_active=100_000, nbest=8, lattice_beam=100.0)
    for seed in range(5):
        array = toys.log_probs(seed, 12, graph.num_tokens)
        found = engine_or_skip(name, graph, options).decode(*toys.batch([array]))[0]
        scores = [h.score for h in found]
        assert len(found) == 8
        assert len({h.subwords for h in found}) == 8
        assert scores == sorted(scores, reverse=True)
        assert scores[0] == pytest.approx(graph.viterbi(array), rel=1e-4)
        for hypothesis in found:
            assert all(0.0 <= c <= 1.0 for c in hypothesis.confidences)
            assert len(hypothesis.confidences) == len(hypothesis.subwords)


def test_nbest_of_both_engines_is_the_same(toys):
    pytest.importorskip("k2")
    graph = toys.ctc_graph(8)
    options = SearchOptions(beam=100.0, max_active=100_000, nbest=6, lattice_beam=100.0)
    batch = toys.batch([toys.log_probs(seed, 10, graph.num_tokens) for seed in range(6)])
    for a, b in zip(
        engine_or_skip("kaldi", graph, options).decode(*batch),
        engine_or_skip("k2", graph, options).decode(*batch),
    ):
        assert [h.subwords for h in a] == [h.subwords for h in b]
        for x, y in zip(a, b):
            assert x.score == pytest.approx(y.score, rel=1e-3)
            assert x.confidences == pytest.approx(y.confidences, abs=1e-3)


def test_times_are_where_the_tokens_are(name, toys):
    graph = toys.Graph(4)
    # blank* 1 2 with label 7, blank*, 3 with label 8, blank*.
    graph.arcs = [
        (0, 0, 0, 0, 0.0),
        (0, 1, 1, 7, -0.1),
        (1, 1, 1, 0, 0.0),
        (1, 2, 2, 0, 0.0),
        (2, 2, 0, 0, 0.0),
        (2, 3, 3, 8, -0.2),
        (3, 3, 3, 0, 0.0),
        (3, 4, 0, 0, 0.0),
        (4, 4, 0, 0, 0.0),
    ]
    graph.finals = {4: -0.3}
    spoken = [0, 0, 1, 1, 2, 0, 0, 3, 3, 0]
    array = np.log(np.full((10, 4), 0.02, dtype=np.float32))
    array[np.arange(10), spoken] = math.log(0.94)
    best = engine_or_skip(name, graph).decode(*toys.batch([array]))[0][0]
    assert best.subwords == (7, 8)
    assert best.times == (2, 7)
    assert best.ends == (5, 9)
    assert [(r.token, r.begin, r.end) for r in best.runs] == [(1, 2, 4), (2, 4, 5), (3, 7, 9)]
    assert best.lm_score == pytest.approx(-0.6)
    assert best.am_score == pytest.approx(10 * math.log(0.94), rel=1e-4)
    assert best.confidences == pytest.approx((0.94, 0.94), rel=1e-4)


def test_nan_fails_that_utterance_alone(name, toys):
    graph = toys.ctc_graph(1)
    arrays = [toys.log_probs(i, 15, graph.num_tokens) for i in range(3)]
    clean = engine_or_skip(name, graph).decode(*toys.batch(arrays))
    arrays[1] = arrays[1].copy()
    arrays[1][4, 2] = np.nan
    found = engine_or_skip(name, graph).decode(*toys.batch(arrays))
    assert found[0] == clean[0] and found[2] == clean[2]
    (bad,) = found[1]
    assert not bad.final and bad.subwords == () and bad.score == -math.inf
    assert "NaN, first at frame 4" in bad.error


def test_zero_frames_and_one_frame(name, toys):
    graph = toys.ctc_graph(1)
    arrays = [toys.log_probs(0, 1, graph.num_tokens), np.zeros((0, graph.num_tokens), np.float32)]
    one, none = engine_or_skip(name, graph).decode(*toys.batch(arrays))
    assert one[0].score == pytest.approx(graph.viterbi(arrays[0]), rel=1e-4)
    assert none[0].subwords == () and none[0].final
    assert none[0].score == pytest.approx(graph.finals[0], rel=1e-5)


def test_minus_infinity_closes_a_way_but_breaks_nothing(name, toys):
    graph = toys.ctc_graph(2)
    array = toys.log_probs(2, 12, graph.num_tokens)
    array[3:6, 1:4] = -np.inf
    (found,) = engine_or_skip(name, graph).decode(*toys.batch([array]))
    assert found[0].score == pytest.approx(graph.viterbi(array), rel=1e-4)
    array[7, :] = -np.inf
    (found,) = engine_or_skip(name, graph).decode(*toys.batch([array]))
    assert not found[0].final and found[0].score == -math.inf


def test_unfinished_is_flagged_not_silent(name, toys):
    graph = toys.Graph(3)
    graph.arcs = [(0, 1, 1, 5, 0.0), (1, 2, 2, 6, 0.0)]
    graph.finals = {2: 0.0}
    array = toys.log_probs(0, 1, 3)
    (found,) = engine_or_skip(name, graph).decode(*toys.batch([array]))
    assert not found[0].final and found[0].error is None
    if name != "k2":  # the others keep the unfinished path
        assert found[0].subwords == (5,)


def test_a_narrow_beam_that_misses_the_end_is_retried_wider(toys):
    # Forty dead ends look best on frame 0; the way to the end costs 6 more.
    graph = toys.Graph(3)
    graph.arcs = [(0, i, 1, 5, 0.0) for i in range(3, 43)]
    graph.arcs += [(0, 1, 2, 6, -6.0), (1, 2, 1, 0, 0.0)]
    graph.finals = {2: 0.0}
    array = np.log(np.full((2, 3), 1 / 3, dtype=np.float32))
    for beam, final in ((3.0, False), (5.0, True)):  # the retry has 4.5 and 7.5
        engine = engine_or_skip("kaldi", graph, SearchOptions(beam=beam))
        (found,) = engine.decode(*toys.batch([array]))
        assert found[0].final is final
        assert found[0].subwords == ((6,) if final else ())


def test_shapes_that_do_not_fit_are_refused_with_both(name, toys):
    graph = toys.ctc_graph(0)
    engine = engine_or_skip(name, graph)
    with pytest.raises(EngineError, match=r"\(N, T, C\)"):
        engine.decode(np.zeros((3, 4), np.float32), np.array([3]))
    with pytest.raises(EngineError, match="9 tokens, the graph has 6"):
        engine.decode(np.zeros((1, 4, 9), np.float32), np.array([4]))
    with pytest.raises(EngineError, match=r"\(2,\)"):
        engine.decode(np.zeros((1, 4, 6), np.float32), np.array([4, 4]))
    with pytest.raises(EngineError, match="a length of 5"):
        engine.decode(np.zeros((1, 4, 6), np.float32), np.array([5]))


def test_an_empty_graph_is_refused(name, toys):
    class Empty(toys.Graph):
        start = -1

    graph = Empty(3)
    graph.start = -1 if name == "kaldi" else 0
    if name in ("cuda", "reference"):
        pytest.skip("refused in test_cuda_search")
    with pytest.raises(GraphError, match="nothing can be found"):
        create(name, graph, WIDE)


def test_processes_give_what_one_gives(toys):
    graph = toys.ctc_graph(4)
    arrays = [toys.log_probs(i, 10 + 3 * i, graph.num_tokens) for i in range(6)]
    alone = engine_or_skip("kaldi", graph).decode(*toys.batch(arrays))
    engine = engine_or_skip("kaldi", graph, SearchOptions(1000.0, 100_000, threads=2))
    try:
        assert engine.decode(*toys.batch(arrays)) == alone
        assert engine.decode(*toys.batch(arrays[:1])) == alone[:1]
    finally:
        engine.close()


def test_tensors_are_taken_as_well_as_arrays(name, toys):
    torch = pytest.importorskip("torch")
    graph = toys.ctc_graph(4)
    batch, lengths = toys.batch([toys.log_probs(0, 10, graph.num_tokens)])
    engine = engine_or_skip(name, graph)
    tensors = engine.decode(torch.from_numpy(batch), torch.from_numpy(lengths))
    assert tensors == engine.decode(batch, lengths)


def lexical_graph(ending_epsilon):
    """LG of tokens 1 2 with words 1 (2 3): word 2 stands on an epsilon between the tokens."""
    from uyir.decode.graph import Graph

    src, dst, ilabel, olabel = [0, 1, 2], [1, 2, 3], [2, 0, 3], [1, 2, 3]
    if ending_epsilon:
        src, dst, ilabel, olabel = [*src, 3], [*dst, 4], [*ilabel, 0], [*olabel, 4]
    final = [math.inf] * len(src) + [0.25]
    weight = [0.5] * len(src)
    return Graph.from_arcs(
        src, dst, ilabel, olabel, weight, 0, final, num_words=5, num_tokens=3, ctc=True
    )


@pytest.mark.parametrize("ending_epsilon", [False, True])
def test_words_on_epsilons_are_heard_by_every_engine(name, toys, ending_epsilon):
    graph = lexical_graph(ending_epsilon)
    array = np.log(np.full((6, 3), 0.05, dtype=np.float32))
    array[np.arange(6), [0, 1, 1, 0, 2, 0]] = math.log(0.9)
    (found,) = engine_or_skip(name, graph).decode(*toys.batch([array]))
    words = 4 if ending_epsilon else 3
    assert found[0].subwords == tuple(range(1, words + 1))
    assert found[0].final
    assert found[0].lm_score == pytest.approx(-0.5 * words - 0.25)
    assert found[0].times[0] == 1 and found[0].times[2] == 4


def bundled_graphs():
    from uyir.decode.transcribe import MODELS

    return sorted(MODELS.glob("*/*/HLG.safetensors"))


def walk(graph, rng, tokens):
    """The tokens along a random way through LG from its start."""
    arcs = graph.lexical
    state, out = arcs.start, []
    while len(out) < tokens:
        first, after = int(arcs.offsets[state]), int(arcs.offsets[state + 1])
        if first == after:
            break
        arc = int(rng.integers(first, after))
        if arcs.ilabel[arc]:
            out.append(int(arcs.ilabel[arc]) - 1)
        state = int(arcs.target[arc])
    return out


def spoken(graph, seed, tokens=8):
    """log_probs (T, C) of a random way through the graph, with noise on every frame."""
    rng = np.random.default_rng(seed)
    rows = []
    for token in walk(graph, rng, tokens):
        rows += [token] * int(rng.integers(1, 3)) + [0] * int(rng.integers(1, 4))
    scores = rng.normal(0.0, 1.0, size=(max(len(rows), 1), graph.num_tokens))
    for frame, token in enumerate(rows):
        scores[frame, token] += 10.0
    scores -= np.log(np.exp(scores).sum(axis=1, keepdims=True))
    return scores.astype(np.float32)


@pytest.mark.skipif(not bundled_graphs(), reason="no model is bundled in uyir/models")
@pytest.mark.parametrize("path", bundled_graphs(), ids=lambda path: path.parent.name)
def test_kaldi_and_k2_agree_on_the_bundled_graphs(path, toys):
    pytest.importorskip("k2")
    from uyir.decode.graph import Graph

    graph = Graph.load(path)
    utterances = [spoken(graph, seed) for seed in range(50)]

    def scores(numbers, beam, max_active):
        options = SearchOptions(beam=beam, max_active=max_active)
        batch = toys.batch([utterances[number] for number in numbers])
        results = []
        for name in ("kaldi", "k2"):
            found = engine_or_skip(name, graph, options).decode(*batch)
            assert all(hypotheses[0].final for hypotheses in found)
            results.append([hypotheses[0].score for hypotheses in found])
        return list(zip(*results))

    differing = [
        number
        for number, (ours, theirs) in enumerate(scores(range(50), 16.0, 20_000))
        if ours != pytest.approx(theirs, rel=1e-3)
    ]
    # A random way through a graph may begin far off the best one: then the beam was too narrow.
    assert len(differing) <= 5
    if differing:
        for ours, theirs in scores(differing, 40.0, 200_000):
            assert ours == pytest.approx(theirs, rel=1e-3)


class Scarce:
    """Stands for k2's search on a device with little memory; counts what it is asked for."""

    def __init__(self, frames, beam):
        self.frames, self.beam, self.asked = frames, beam, []

    def __call__(self, utterances, options):
        self.asked.append((len(utterances), options.beam))
        if sum(map(len, utterances)) > self.frames or options.beam > self.beam:
            raise RuntimeError("CUDA out of memory. Tried to allocate 80 GiB")
        return [[len(utterance)] for utterance in utterances]


def scarce_k2(monkeypatch, frames=10**9, beam=1000.0):
    from uyir.decode.engines.k2 import K2Engine

    engine = object.__new__(K2Engine)
    engine._device = type("Device", (), {"type": "cpu"})()
    engine._fsa = type("Fsa", (), {"shape": (100_000, None)})()
    search = Scarce(frames, beam)
    monkeypatch.setattr(engine, "_search", search, raising=False)
    return engine, search


def test_k2_halves_a_batch_that_does_not_fit_then_narrows_the_beam(monkeypatch):
    utterances = [np.zeros((n, 2), np.float32) for n in (40, 30, 20, 10)]
    engine, search = scarce_k2(monkeypatch, frames=50)
    with pytest.warns(UserWarning, match="searched 2 at a time"):
        assert engine._fitting(utterances, SearchOptions()) == [[40], [30], [20], [10]]
    assert [count for count, _ in search.asked] == [4, 2, 1, 1, 2]
    engine, search = scarce_k2(monkeypatch, beam=9.0)
    with pytest.warns(UserWarning, match="beam 7.875"):
        engine._fitting(utterances[:1], SearchOptions(beam=14.0))
    engine, search = scarce_k2(monkeypatch, beam=0.1)
    with pytest.warns(UserWarning), pytest.raises(EngineError, match="one utterance of 40 frames"):
        engine._fitting(utterances[:1], SearchOptions(beam=14.0))


def test_k2_never_begins_a_batch_that_overflows_int32(monkeypatch):
    utterances = [np.zeros((300_000, 1), np.float32)] * 2
    engine, search = scarce_k2(monkeypatch)
    with pytest.warns(UserWarning, match="32 bits"):
        engine._fitting(utterances, SearchOptions(max_active=7000))
    assert [count for count, _ in search.asked] == [1, 1]
