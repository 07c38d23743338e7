"""The search of the `cuda` engine, said plainly in torch: what its kernels must agree with.

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
from functools import cached_property
from typing import TYPE_CHECKING, Any, Optional, Union

import numpy as np
import numpy.typing as npt
import torch

from uyir.decode.engines import SearchOptions
from uyir.decode.engines.common import as_batch, usable
from uyir.decode.engines.packed import PackedGraph, pack
from uyir.decode.hypothesis import FloatArray, Hypothesis, failed, from_path
from uyir.decode.lattice import NO_TOKEN, Arc, Lattice

if TYPE_CHECKING:
    from uyir.decode.rescore import Rescorer

Array = npt.NDArray[Any]
Tensor = torch.Tensor
#: Bins between the beam's edge and the best score when more than max_active states are within it.
BINS = 512
_NO_ARC = -1
_LOWEST = float("-inf")


@dataclass(frozen=True, eq=False)
class Tables:
    """A packed graph's arrays as tensors; row numbers and states are of 64 bits, as torch's indices are."""

    graph: PackedGraph

    @cached_property
    def row(self) -> Tensor:
        return _long(self.graph.row)

    @cached_property
    def eps_row(self) -> Tensor:
        return _long(self.graph.eps_row)

    @cached_property
    def chain_row(self) -> Tensor:
        return _long(self.graph.closure.row)

    @cached_property
    def chain_target(self) -> Tensor:
        return _long(self.graph.closure.target)

    @cached_property
    def chain_arc(self) -> Tensor:
        return _long(self.graph.closure.arc)

    @cached_property
    def chain_weight(self) -> Tensor:
        return torch.from_numpy(self.graph.closure.weight)

    @cached_property
    def target(self) -> Tensor:
        return _long(self.graph.target)

    @cached_property
    def token(self) -> Tensor:
        return _long(self.graph.token)

    @cached_property
    def pushed(self) -> Tensor:
        return torch.from_numpy(self.graph.pushed)

    @cached_property
    def pushed_final(self) -> Tensor:
        return torch.from_numpy(self.graph.pushed_final)


def _long(array: Array) -> Tensor:
    return torch.from_numpy(array.astype(np.int64))


@dataclass(frozen=True, eq=False)
class Front:
    """The active states after a frame, by number: scores relative to the best, arcs they came by."""

    state: Tensor
    score: Tensor
    arc: Tensor
    norm: float


@dataclass
class Search:
    """A search under way, frame by frame; `advance` may be called with chunks of any length.

    ``arcs_visited`` counts the arcs that were looked at, epsilons included. ``tables``: made of the graph, if they
    are not at hand.
    """

    graph: PackedGraph
    beam: float
    max_active: int
    acoustic_scale: float = 1.0
    tables: Optional[Tables] = None
    fronts: list[Front] = field(default_factory=list)
    arcs_visited: int = 0

    def __post_init__(self) -> None:
        self._t = self.tables if self.tables is not None else Tables(self.graph)
        start = torch.tensor([self.graph.start])
        self.fronts.append(self._close(start, torch.zeros(1), torch.tensor([_NO_ARC])))

    @property
    def alive(self) -> bool:
        return len(self.fronts[-1].state) > 0

    def advance(self, log_probs: FloatArray) -> None:
        """Search on through frames (T, C); a search that has died stays where it is."""
        rows = torch.from_numpy(np.array(log_probs, dtype=np.float32))
        for row in rows * _float(self.acoustic_scale):
            if not self.alive:
                return
            self.fronts.append(self._step(row))

    def _step(self, row: Tensor) -> Front:
        t, front = self._t, self.fronts[-1]
        arc, owner = _ranges(t.row[front.state], t.row[front.state + 1])
        self.arcs_visited += len(arc)
        score = (front.score[owner] + t.pushed[arc]) + row[t.token[arc]]
        return self._close(*_best(t.target[arc], score, arc))

    def _close(self, state: Tensor, score: Tensor, arc: Tensor) -> Front:
        t, graph = self._t, self.graph
        if not len(state):
            return Front(state, score, arc, -np.inf)
        best = score.max()
        floor = best - _float(self.beam)
        keep = score >= floor
        state, score, arc = state[keep], score[keep], arc[keep]
        at = torch.nonzero(state >= graph.first_eps)[:, 0]
        if len(at):
            place = state[at] - graph.first_eps
            chain, owner = _ranges(t.chain_row[place], t.chain_row[place + 1])
            self.arcs_visited += len(chain)
            new = score[at[owner]] + t.chain_weight[chain]
            good = new >= floor
            state, score, arc = _best(
                torch.cat([state, t.chain_target[chain[good]]]),
                torch.cat([score, new[good]]),
                torch.cat([arc, t.chain_arc[chain[good]]]),
            )
        keep = score >= cutoff(score, self.beam, self.max_active)
        return Front(state[keep], score[keep] - best, arc[keep], float(best))

    def best_end(self) -> tuple[Optional[int], bool]:
        """The state where the best path ends, and whether that is a final one; None if it died."""
        front = self.fronts[-1]
        if not self.alive:
            return None, False
        ends = front.score + self._t.pushed_final[front.state]
        final = bool(torch.isfinite(ends).any())
        ends = ends if final else front.score
        # Of equals the one with the lowest number; torch's argmax may take any.
        return int(front.state[torch.nonzero(ends == ends.max())[0, 0]]), final

    def arcs_to(self, state: int) -> list[int]:
        """The numbers of the arcs of the best path into a state of the last front."""
        path: list[int] = []
        frame = len(self.fronts) - 1
        while True:
            front = self.fronts[frame]
            arc = int(front.arc[int(torch.searchsorted(front.state, state))])
            if arc == _NO_ARC:
                return path[::-1]
            path.append(arc)
            state = int(self.graph.source[arc])
            frame -= arc < self.graph.num_emitting

    def lattice(self, log_probs: FloatArray, lattice_beam: float) -> Optional[Lattice]:
        """What lies at most ``lattice_beam`` below the best complete path; None if there is none.

        ``log_probs`` (T, C) are those of all frames searched, unscaled.
        """
        graph, t = self.graph, self._t
        fronts = self.fronts
        ends = fronts[-1].score + t.pushed_final[fronts[-1].state]
        if not self.alive or not bool(torch.isfinite(ends).any()):
            return None
        beta = t.pushed_final[fronts[-1].state] - ends.max()
        rows = torch.from_numpy(np.array(log_probs, np.float32)) * _float(self.acoustic_scale)
        arcs: list[Arc] = []
        finals: dict[int, float] = {}
        first = np.cumsum([0, *(len(front.state) for front in fronts)]).tolist()
        for frame in range(len(fronts) - 1, -1, -1):
            front = fronts[frame]
            if frame < len(fronts) - 1:
                after, beta_after = fronts[frame + 1], beta
                loud, owner = _ranges(t.row[front.state], t.row[front.state + 1])
                place = _find(after.state, t.target[loud])
                there = place >= 0
                loud, owner, place = loud[there], owner[there], place[there]
                rest = t.pushed[loud] + rows[frame][t.token[loud]]
                rest = rest - _float(after.norm) + beta_after[place]
                good = front.score[owner] + rest >= -lattice_beam
                beta = torch.full((len(front.state),), _LOWEST)
                beta = beta.scatter_reduce(0, owner[good], rest[good], "amax")
                self._add(arcs, loud, first[frame] + owner, first[frame + 1] + place, good)
            else:
                good = front.score + beta >= -lattice_beam
                beta = torch.where(good, beta, torch.full_like(beta, _LOWEST))
                for end in torch.nonzero(good)[:, 0].tolist():
                    finals[first[frame] + end] = float(graph.final[int(front.state[end])])
            at = torch.nonzero(front.state >= graph.first_eps)[:, 0]
            row = front.state[at] - graph.first_eps
            eps, owner = _ranges(t.eps_row[row], t.eps_row[row + 1])
            eps, owner = eps + graph.num_emitting, at[owner]
            place = _find(front.state, t.target[eps])
            there = place >= 0
            eps, owner, place = eps[there], owner[there], place[there]
            while True:
                rest = t.pushed[eps] + beta[place]
                good = front.score[owner] + rest >= -lattice_beam
                raised = beta.scatter_reduce(0, owner[good], rest[good], "amax")
                if bool((raised == beta).all()):
                    break
                beta = raised
            self._add(arcs, eps, first[frame] + owner, first[frame] + place, good)
        start = int(torch.searchsorted(fronts[0].state, graph.start))
        return Lattice(arcs, start, finals, log_probs, self.acoustic_scale)

    def _add(self, arcs: list[Arc], number: Tensor, src: Tensor, dst: Tensor, good: Tensor) -> None:
        graph = self.graph
        for arc, s, d in zip(number[good].tolist(), src[good].tolist(), dst[good].tolist()):
            token = int(graph.token[arc])
            labels = graph.expand(int(graph.olabel[arc]))
            lm = float(graph.weight[arc])
            arcs.append(Arc(s, d, NO_TOKEN if token < 0 else token, labels, lm))


def cutoff(score: Tensor, beam: float, max_active: int) -> Tensor:
    """The score below which the states of a frame are dropped; see the module's text."""
    best = score.max()
    edge = best - _float(beam)
    within = score[score >= edge]
    if len(within) <= max_active:
        return edge
    width = _float(BINS) / _float(beam)
    bins = ((best - within) * width).long().clamp(max=BINS - 1)
    cumulative = torch.bincount(bins, minlength=BINS).cumsum(0)
    kept = max(1, int((cumulative <= max_active).sum()))
    return within[bins < kept].min()


def _float(number: float) -> Tensor:
    """A number as float32, so that arithmetic with it is."""
    return torch.tensor(number, dtype=torch.float32)


def _ranges(begin: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """All numbers of the ranges ``[begin[i], end[i])`` in a row, and for each the i it is from."""
    length = end - begin
    owner = torch.repeat_interleave(torch.arange(len(length)), length)
    first = length.cumsum(0) - length
    return torch.arange(len(owner)) - first[owner] + begin[owner], owner


def _best(state: Tensor, score: Tensor, arc: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The best path into each state, sorted by state; -inf is none."""
    real = score > _LOWEST
    state, score, arc = state[real], score[real], arc[real]
    states, place = torch.unique(state, return_inverse=True)
    best = torch.full((len(states),), _LOWEST).scatter_reduce(0, place, score, "amax")
    won = score == best[place]
    arcs = torch.full((len(states),), torch.iinfo(torch.int64).max)
    return states, best, arcs.scatter_reduce(0, place[won], arc[won], "amin")


def _find(states: Tensor, wanted: Tensor) -> Tensor:
    """Where each of ``wanted`` is in the sorted ``states``, -1 where it is not."""
    if not len(states):
        return torch.full((len(wanted),), -1)
    place = torch.searchsorted(states, wanted).clamp(max=len(states) - 1)
    return torch.where(states[place] == wanted, place, torch.full_like(place, -1))


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
        self._tables = Tables(self.packed)
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
        search = Search(self.packed, options.beam, options.max_active, scale, self._tables)
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
