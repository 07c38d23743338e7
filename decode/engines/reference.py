"""The search of the `cuda` engine, said plainly in numpy: what its kernels must agree with.

The search. At frame 0 the start state and what its epsilons reach are active with their scores. On
each frame every active state's emitting arcs are followed, and the best path into each state is
kept. States more than ``beam`` below the best are dropped; from the rest chains of epsilons are followed
(none raises a score: see `packed`), and what they lead to is dropped at the same bound. If more than
``max_active`` states are left, [best - beam, best] is cut into `BINS` bins and the lowest ones are dropped,
whole, until at most ``max_active`` states are left (the best bin always stays). Scores are float32,
relative to the best state of their frame, so that an hour of audio loses no precision. Where two paths
into a state score the same, the one whose last arc has the lower number (see `packed`) wins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Optional, Union

import numpy as np
import numpy.typing as npt

from uyir.decode.arcs import ranges
from uyir.decode.engines import SearchOptions
from uyir.decode.engines.common import as_batch, usable
from uyir.decode.engines.packed import PackedGraph, pack
from uyir.decode.hypothesis import FloatArray, Hypothesis, failed, from_path
from uyir.decode.lattice import NO_TOKEN, Arc, Lattice

if TYPE_CHECKING:
    from uyir.decode.rescore import Rescorer

Array = npt.NDArray[Any]
#: Bins between the beam's edge and the best score when more than max_active states are within it.
BINS = 512
_NO_ARC = -1


@dataclass(frozen=True, eq=False)
class Front:
    """The active states after a frame, by number: scores relative to the best, arcs they came by."""

    state: Array
    score: Array
    arc: Array
    norm: float


@dataclass
class Search:
    """A search under way, frame by frame; `advance` may be called with chunks of any length.

    ``arcs_visited`` counts the arcs that were looked at, epsilons included.
    """

    graph: PackedGraph
    beam: float
    max_active: int
    acoustic_scale: float = 1.0
    fronts: list[Front] = field(default_factory=list)
    arcs_visited: int = 0

    def __post_init__(self) -> None:
        start = np.array([self.graph.start], dtype=np.int64)
        self.fronts.append(
            self._close(start, np.zeros(1, np.float32), np.array([_NO_ARC], dtype=np.int64))
        )

    @property
    def alive(self) -> bool:
        return len(self.fronts[-1].state) > 0

    def advance(self, log_probs: FloatArray) -> None:
        """Search on through frames (T, C); a search that has died stays where it is."""
        scale = np.float32(self.acoustic_scale)
        for row in np.asarray(log_probs, dtype=np.float32):
            if not self.alive:
                return
            self.fronts.append(self._step(row * scale))

    def _step(self, row: Array) -> Front:
        graph, front = self.graph, self.fronts[-1]
        arc, owner = ranges(graph.row[front.state], graph.row[front.state + 1])
        self.arcs_visited += len(arc)
        score = (front.score[owner] + graph.pushed[arc]) + row[graph.token[arc]]
        return self._close(*_best(graph.target[arc], score, arc))

    def _close(self, state: Array, score: Array, arc: Array) -> Front:
        graph = self.graph
        if not len(state):
            return Front(state, score, arc, -np.inf)
        best = score.max()
        floor = best - np.float32(self.beam)
        keep = score >= floor
        state, score, arc = state[keep], score[keep], arc[keep]
        at = np.flatnonzero(state >= graph.first_eps)
        if len(at):
            chains = graph.closure
            place = state[at] - graph.first_eps
            chain, owner = ranges(chains.row[place], chains.row[place + 1])
            self.arcs_visited += len(chain)
            new = score[at[owner]] + chains.weight[chain]
            good = new >= floor
            state, score, arc = _best(
                np.concatenate([state, chains.target[chain[good]]]),
                np.concatenate([score, new[good]]),
                np.concatenate([arc, chains.arc[chain[good]]]),
            )
        keep = score >= cutoff(score, self.beam, self.max_active)
        return Front(state[keep], score[keep] - best, arc[keep], float(best))

    def best_end(self) -> tuple[Optional[int], bool]:
        """The state where the best path ends, and whether that is a final one; None if it died."""
        front = self.fronts[-1]
        if not self.alive:
            return None, False
        ends = front.score + self.graph.pushed_final[front.state]
        if np.isfinite(ends).any():
            return int(front.state[int(np.argmax(ends))]), True
        return int(front.state[int(np.argmax(front.score))]), False

    def arcs_to(self, state: int) -> list[int]:
        """The numbers of the arcs of the best path into a state of the last front."""
        path: list[int] = []
        frame = len(self.fronts) - 1
        while True:
            front = self.fronts[frame]
            arc = int(front.arc[int(np.searchsorted(front.state, state))])
            if arc == _NO_ARC:
                return path[::-1]
            path.append(arc)
            state = int(self.graph.source[arc])
            frame -= arc < self.graph.num_emitting

    def lattice(self, log_probs: FloatArray, lattice_beam: float) -> Optional[Lattice]:
        """What lies at most ``lattice_beam`` below the best complete path; None if there is none.

        ``log_probs`` (T, C) are those of all frames searched, unscaled.
        """
        graph = self.graph
        fronts = self.fronts
        ends = fronts[-1].score + graph.pushed_final[fronts[-1].state]
        if not self.alive or not np.isfinite(ends).any():
            return None
        best = ends.max()
        beta = graph.pushed_final[fronts[-1].state] - best
        rows = np.asarray(log_probs, np.float32) * np.float32(self.acoustic_scale)
        arcs: list[Arc] = []
        finals: dict[int, float] = {}
        first = np.cumsum([0, *(len(front.state) for front in fronts)])
        for frame in range(len(fronts) - 1, -1, -1):
            front = fronts[frame]
            if frame < len(fronts) - 1:
                after, beta_after = fronts[frame + 1], beta
                beta = np.full(len(front.state), -np.inf, dtype=np.float32)
                loud, owner = ranges(graph.row[front.state], graph.row[front.state + 1])
                place = _find(after.state, graph.target[loud])
                there = place >= 0
                loud, owner, place = loud[there], owner[there], place[there]
                rest = graph.pushed[loud] + rows[frame][graph.token[loud]]
                rest = rest - np.float32(after.norm) + beta_after[place]
                good = front.score[owner] + rest >= -lattice_beam
                np.maximum.at(beta, owner[good], rest[good])
                self._add(arcs, loud, first[frame] + owner, first[frame + 1] + place, good)
            else:
                good = front.score + beta >= -lattice_beam
                beta = np.where(good, beta, -np.inf)
                for end in np.flatnonzero(good).tolist():
                    finals[int(first[frame]) + end] = float(graph.final[front.state[end]])
            at = np.flatnonzero(front.state >= graph.first_eps)
            row = front.state[at] - graph.first_eps
            eps, owner = ranges(graph.eps_row[row], graph.eps_row[row + 1])
            eps, owner = eps + graph.num_emitting, at[owner]
            place = _find(front.state, graph.target[eps])
            there = place >= 0
            eps, owner, place = eps[there], owner[there], place[there]
            while True:
                rest = graph.pushed[eps] + beta[place]
                good = front.score[owner] + rest >= -lattice_beam
                raised = beta.copy()
                np.maximum.at(raised, owner[good], rest[good])
                if (raised == beta).all():
                    break
                beta = raised
            self._add(arcs, eps, first[frame] + owner, first[frame] + place, good)
        start = int(np.searchsorted(fronts[0].state, graph.start))
        return Lattice(arcs, start, finals, log_probs, self.acoustic_scale)

    def _add(self, arcs: list[Arc], number: Array, src: Array, dst: Array, good: Array) -> None:
        graph = self.graph
        for arc, s, d in zip(number[good].tolist(), src[good].tolist(), dst[good].tolist()):
            token = int(graph.token[arc])
            labels = graph.expand(int(graph.olabel[arc]))
            lm = float(graph.weight[arc])
            arcs.append(Arc(s, d, NO_TOKEN if token < 0 else token, labels, lm))


def cutoff(score: Array, beam: float, max_active: int) -> Any:
    """The score below which the states of a frame are dropped; see the module's text."""
    best = score.max()
    edge = best - np.float32(beam)
    within = score[score >= edge]
    if len(within) <= max_active:
        return edge
    width = np.float32(BINS) / np.float32(beam)
    bins = np.minimum(((best - within) * width).astype(np.int64), BINS - 1)
    cumulative = np.cumsum(np.bincount(bins, minlength=BINS))
    kept = max(1, int(np.searchsorted(cumulative, max_active, side="right")))
    return within[bins < kept].min()


def _best(state: Array, score: Array, arc: Array) -> tuple[Array, Array, Array]:
    """The best path into each state, sorted by state; -inf is none."""
    real = score > -np.inf
    state, score, arc = state[real], score[real], arc[real]
    order = np.lexsort((arc, -score, state))
    state, score, arc = state[order], score[order], arc[order]
    first = np.ones(len(state), dtype=bool)
    first[1:] = np.diff(state) != 0
    return state[first].astype(np.int64), score[first], arc[first]


def _find(states: Array, wanted: Array) -> Array:
    """Where each of ``wanted`` is in the sorted ``states``, -1 where it is not."""
    place = np.minimum(np.searchsorted(states, wanted), max(0, len(states) - 1))
    if not len(states):
        return np.full(len(wanted), -1)
    return np.where(states[place] == wanted, place, -1)


def read_path(
    graph: PackedGraph, path: Union[Sequence[int], Array]
) -> tuple[list[int], list[tuple[int, int]], float]:
    """Alignment, (frame, label) events and graph score of a path given by the numbers of its arcs."""
    arcs = np.asarray(path, dtype=np.int64)
    token, label = graph.token[arcs], graph.olabel[arcs]
    frame: Array = np.cumsum(token >= 0) - (token >= 0)
    spoken = np.flatnonzero(label)
    events = [
        (at, word)
        for at, number in zip(frame[spoken].tolist(), label[spoken].tolist())
        for word in graph.expand(number)
    ]
    return token[token >= 0].tolist(), events, float(graph.weight[arcs].sum(dtype=np.float64))


class ReferenceEngine:
    """See `uyir.decode.engines.Engine`: the `cuda` engine's search on a CPU, for tests and comparison."""

    name = "reference"

    def __init__(
        self, graph: Any, options: SearchOptions, *, rescorer: Optional[Rescorer] = None
    ) -> None:
        self.options = options
        self._rescorer = rescorer
        self.packed = pack(graph)
        #: Of the last `decode`: arcs visited, active states summed over frames, frames.
        self.counts = (0, 0, 0)

    def decode(self, log_probs: Any, lengths: Any) -> list[list[Hypothesis]]:
        self.counts = (0, 0, 0)
        return [self._one(u) for u in as_batch(log_probs, lengths, self.packed.num_tokens)]

    def close(self) -> None:
        """Nothing is held but the graph."""

    def _one(self, utterance: FloatArray) -> list[Hypothesis]:
        reason = usable(utterance)
        if reason is not None:
            return [failed(reason)]
        found = self._search(utterance, self.options)
        if not found[0].final:
            wider = self._search(utterance, self.options.wider())
            found = wider if wider[0].score > -np.inf else found
        return found

    def _search(self, utterance: FloatArray, options: SearchOptions) -> list[Hypothesis]:
        scale = options.acoustic_scale
        search = Search(self.packed, options.beam, options.max_active, scale)
        search.advance(utterance)
        active = sum(len(front.state) for front in search.fronts[1:])
        self.counts = (
            self.counts[0] + search.arcs_visited,
            self.counts[1] + active,
            self.counts[2] + len(utterance),
        )
        end, final = search.best_end()
        if end is None:
            return [Hypothesis((), (), -np.inf, -np.inf, -np.inf, 0.0, False)]
        lattice = None
        if (options.nbest > 1 or self._rescorer is not None) and final:
            lattice = search.lattice(utterance, min(options.lattice_beam, options.beam))
        if lattice is None:
            alignment, events, lm = read_path(self.packed, search.arcs_to(end))
            if final:
                lm += float(self.packed.final[end])
            return [
                from_path(
                    alignment, events, utterance, lm_score=lm, acoustic_scale=scale, final=final
                )
            ]
        if self._rescorer is not None:
            lattice = self._rescorer.rescore(lattice)
        return lattice.hypotheses(options.nbest)
