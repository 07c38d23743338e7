"""Toy graphs made arc by arc, with nothing of ours but the door that engines come in by."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from uyir.asr.checkpoint import save_model
from uyir.asr.model import CtcModel, ModelConfig
from uyir.decode.graph import Graph
from uyir.decode.graph_files import file_sha256
from uyir.decode.lattice import NO_TOKEN, Arc, Lattice
from uyir.decode.tables import write_subwords, write_vocabulary
from uyir.grammar.join import bare
from uyir.grammar.join import join as joined
from uyir.grammar.script import NORMALISER_VERSION
from uyir.grammar.segment import Segmentation, Subword
from uyir.lexicon.g2p import load_g2p
from uyir.lexicon.symbols import Symbols, tokens_table


@dataclass
class ToyGraph:
    """Arcs (src, dst, token or -1 for epsilon, label or 0, log weight); finals: state -> log weight."""

    num_tokens: int
    arcs: list[tuple[int, int, int, int, float]] = field(default_factory=list)
    finals: dict[int, float] = field(default_factory=dict)
    start: int = 0

    @property
    def num_states(self) -> int:
        ends = [s for arc in self.arcs for s in arc[:2]]
        return max([*ends, *self.finals, self.start], default=-1) + 1

    def to_openfst(self) -> Any:
        import kaldifst

        fst = kaldifst.StdVectorFst()
        for _ in range(self.num_states):
            fst.add_state()
        fst.start = self.start
        for src, dst, token, label, weight in self.arcs:
            fst.add_arc(src, kaldifst.StdArc(token + 1, label, -weight, dst))
        for state, weight in self.finals.items():
            fst.set_final(state, -weight)
        return fst

    def to_k2(self) -> Any:
        import k2

        if any(arc[2] < 0 for arc in self.arcs):
            raise ValueError("this toy has epsilons")
        if self.start != 0:
            raise ValueError("k2 starts at state 0")
        end = self.num_states
        rows = [(s, d, t, lab, w) for s, d, t, lab, w in self.arcs]
        rows += [(s, end, -1, -1, w) for s, w in self.finals.items()]
        lines = [f"{s} {d} {t} {lab} {w!r}" for s, d, t, lab, w in sorted(rows)]
        fsa = k2.Fsa.from_str("\n".join([*lines, str(end)]), acceptor=False)
        return k2.arc_sort(fsa)

    def real(self) -> Graph:
        """The same as a graph of ours."""
        src, dst, token, label, weight = (np.array(column) for column in zip(*self.arcs))
        final = np.full(self.num_states, np.inf)
        for state, score in self.finals.items():
            final[state] = -score
        return Graph.from_arcs(
            src, dst, token + 1, label, -weight, self.start, final, num_tokens=self.num_tokens
        )

    def viterbi(self, log_probs: Any) -> float:
        """The best complete path's score by plain dynamic programming; -inf if there is none."""
        low = -np.inf
        loud = [(s, d, t, w) for s, d, t, _, w in self.arcs if t >= 0]
        src, dst, token, weight = (np.array(column) for column in zip(*loud))
        now = np.full(self.num_states, low)
        now[self.start] = 0.0
        now = self._epsilons(now)
        for row in np.asarray(log_probs, dtype=np.float64):
            then = np.full(self.num_states, low)
            np.maximum.at(then, dst, now[src] + weight + row[token])
            now = self._epsilons(then)
        return max((now[s] + w for s, w in self.finals.items()), default=low)

    def _epsilons(self, scores: Any) -> Any:
        silent = [arc for arc in self.arcs if arc[2] < 0]
        for _ in range(self.num_states if silent else 0):
            for src, dst, _, _, weight in silent:
                scores[dst] = max(scores[dst], scores[src] + weight)
        return scores


def make_ctc_graph(seed: int, words: int = 6, tokens: int = 6, epsilons: bool = False) -> ToyGraph:
    """A random lexicon under a random bigram, as CTC wants it: equal neighbours need a blank.

    Words are 1…; with ``epsilons`` each word ends in an epsilon that carries the bigram's weight.
    """
    rng = np.random.default_rng(seed)
    lexicon: dict[int, list[tuple[int, ...]]] = {}
    while len(lexicon) < words:
        spelling = tuple(int(t) for t in rng.integers(1, tokens, size=rng.integers(1, 4)))
        if [spelling] not in lexicon.values():
            lexicon[len(lexicon) + 1] = [spelling]
    graph = ToyGraph(tokens)
    bigram = np.log(rng.dirichlet(np.ones(words + 1), size=words + 1))
    names: dict[tuple[Any, ...], int] = {}

    def state(*key: Any) -> int:
        return names.setdefault(key, len(names))

    def arc(src: int, dst: int, token: int, label: int, weight: float) -> None:
        graph.arcs.append((src, dst, token, label, float(np.float32(weight))))

    def leave(src: int, history: int, last: int) -> None:
        """From after word ``history``, whose last token was ``last`` (0: blank), into every word."""
        for word, (spelling,) in lexicon.items():
            if spelling[0] == last:
                continue
            weight = bigram[history, word]
            if epsilons:
                middle = state("eps", history, word, last)
                arc(src, middle, -1, 0, weight)
                arc(middle, state(word, 0, history), spelling[0], word, 0.0)
            else:
                arc(src, state(word, 0, history), spelling[0], word, weight)
        graph.finals[src] = float(np.float32(bigram[history, 0]))

    root = state("root")
    arc(root, root, 0, 0, 0.0)
    leave(root, 0, 0)
    for word, (spelling,) in lexicon.items():
        for history in range(words + 1):
            for position, token in enumerate(spelling):
                here = state(word, position, history)
                gap = state(word, position, history, "blank")
                arc(here, here, token, 0, 0.0)
                arc(here, gap, 0, 0, 0.0)
                arc(gap, gap, 0, 0, 0.0)
                if position + 1 < len(spelling):
                    there = state(word, position + 1, history)
                    if spelling[position + 1] != token:
                        arc(here, there, spelling[position + 1], 0, 0.0)
                    arc(gap, there, spelling[position + 1], 0, 0.0)
                else:
                    leave(here, word, token)
                    leave(gap, word, 0)
    return graph


def make_log_probs(seed: int, frames: int, tokens: int, peaky: float = 0.5) -> Any:
    """Random log_probs (frames, tokens), float32, each row a distribution."""
    rng = np.random.default_rng(seed)
    rows = rng.dirichlet(np.full(tokens, peaky), size=frames).astype(np.float32)
    return np.log(np.maximum(rows, np.float32(1e-12)))


def make_batch(arrays: Any) -> tuple[Any, Any]:
    """Arrays (T_i, C) as one padded (N, T, C) and lengths; the padding is NaN: nobody may read it."""
    lengths = np.array([len(a) for a in arrays], dtype=np.int64)
    batch = np.full((len(arrays), int(lengths.max()), arrays[0].shape[1]), np.nan, dtype=np.float32)
    for row, array in zip(batch, arrays):
        row[: len(array)] = array
    return batch, lengths


def random_lattice(
    seed: int, frames: int = 4, width: int = 3, tokens: int = 3, labels: int = 3
) -> Lattice:
    """Layers of states; epsilon arcs lead to the right within a layer."""
    rng = np.random.default_rng(seed)
    arcs = []
    for t in range(frames):
        for a, b in itertools.product(range(width), range(width)):
            if rng.random() < 0.7:
                label = (int(rng.integers(1, labels + 1)),) if rng.random() < 0.5 else ()
                token = int(rng.integers(tokens))
                arcs.append(Arc(t * width + a, (t + 1) * width + b, token, label, rng.normal()))
        for a in range(width - 1):
            if rng.random() < 0.3:
                arcs.append(Arc(t * width + a, t * width + a + 1, NO_TOKEN, (9,), rng.normal()))
    rng.shuffle(arcs)
    finals = {frames * width + a: float(rng.normal()) for a in range(width)}
    log_probs = np.log(rng.dirichlet(np.ones(tokens), size=frames))
    return Lattice(arcs, 0, finals, log_probs, 0.7)


def all_paths(lattice: Lattice) -> Iterator[tuple[list[Arc], float]]:
    """Every path as (arcs, score), by walking."""
    leaving: dict[int, list[Arc]] = {}
    for arc in lattice.arcs:
        leaving.setdefault(arc.src, []).append(arc)

    def walk(
        state: int, frame: int, path: list[Arc], score: float
    ) -> Iterator[tuple[list[Arc], float]]:
        if state in lattice.finals:
            yield path, score + lattice.finals[state]
        for arc in leaving.get(state, ()):
            step = arc.lm
            if arc.token != NO_TOKEN:
                step += 0.7 * lattice.log_probs[frame, arc.token]
            yield from walk(arc.dst, frame + (arc.token != NO_TOKEN), [*path, arc], score + step)

    yield from walk(lattice.start, 0, [], 0.0)


class Toys:
    Graph = ToyGraph
    ctc_graph = staticmethod(make_ctc_graph)
    log_probs = staticmethod(make_log_probs)
    batch = staticmethod(make_batch)
    lattice = staticmethod(random_lattice)
    lattice_paths = staticmethod(all_paths)


@pytest.fixture(scope="session")
def toys() -> type[Toys]:
    return Toys


#: The toy's words by language: subwords, and at which phone of the word each begins.
WORDS = {
    "ta": [(("படி+", "+த்த்+", "+ஆன்"), (0, 4, 5)), (("வா",), (0,))],
    "kn": [(("ಮನೆ",), (0,)), (("ಬಾ",), (0,))],
}


def phones_of(word: str, language: str) -> tuple[str, ...]:
    return load_g2p(language).pronounce(word, variants=False)[0].phones


def make_model(folder: Path) -> Path:
    """A model folder with an untrained network and a loop of two words a language."""
    torch.manual_seed(0)
    tokens = tokens_table()
    config = ModelConfig(
        tokens=len(tokens),
        languages=("ta", "kn"),
        dim=16,
        heads=2,
        ffn_dim=16,
        layers=1,
        kernel=3,
        subsampling_channels=4,
        inter_layer=0,
    )
    save_model(folder, CtcModel(config), list(tokens))
    (folder / "README.md").write_text("A toy.\n")
    for language, entries in WORDS.items():
        table = Symbols(["<eps>"])
        arcs, finals = [], {0: 0.0}
        states = 1
        for pieces, begins in entries:
            phones = phones_of(joined(pieces, language), language)
            labels = dict(zip(begins, pieces))
            at = 0
            for i, phone in enumerate(phones):
                last = i == len(phones) - 1
                to = 0 if last else states
                states += not last
                label = table.add(labels[i]) if i in labels else 0
                arcs.append((at, to, tokens.id(phone) + 1, label, 0.5 if i == 0 else 0.0))
                at = to
        home = folder / language
        home.mkdir()
        table.write(home / "words.txt")
        src, dst, ilabel, olabel, weight = zip(*arcs)
        graph = Graph.from_arcs(
            src,
            dst,
            ilabel,
            olabel,
            weight,
            0,
            [finals.get(s, math.inf) for s in range(states)],
            num_words=len(table),
            num_tokens=len(tokens),
            ctc=True,
            meta={
                "tokens_sha256": file_sha256(folder / "tokens.txt"),
                "words_sha256": file_sha256(home / "words.txt"),
            },
        )
        graph.save(home / "HLG.safetensors")
        (home / "meta.json").write_text(json.dumps({"normaliser": NORMALISER_VERSION}))
    write_vocabulary(folder / "ta", ["வா"])
    for language, entries in WORDS.items():
        cut = [
            Segmentation(
                joined(pieces, language),
                tuple(Subword(bare(p), p, "verbs", f"gloss {i}") for i, p in enumerate(pieces)),
                True,
                0.0,
            )
            for pieces, _ in entries
        ]
        write_subwords(folder / language, [(c, 1) for c in cut], {p for e in entries for p in e[0]})
    return folder


@pytest.fixture(scope="session")
def toy_model() -> Callable[[Path], Path]:
    """Makes a model folder at a path."""
    return make_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of a module's own."""
    return make_model(tmp_path_factory.mktemp("model") / "toy")


@pytest.fixture(scope="session")
def noise() -> Callable[..., Any]:
    """Makes white noise of so many seconds at 16 kHz: ``noise(seconds, level=0.1, seed=0)``."""

    def make(seconds: float, level: float = 0.1, seed: int = 0) -> Any:
        wave = level * np.random.default_rng(seed).standard_normal(int(seconds * 16000))
        return wave.astype(np.float32)

    return make
