"""Lattices: what a search kept besides its best path, and what can be read off them.

A lattice is acyclic; each arc carries a token (one frame) or none, and the labels that come out there.
Scores are natural logarithms, higher is better; graph and network parts stay apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from uyir.decode.hypothesis import FloatArray, Hypothesis, from_path
from uyir.errors import EngineError

#: The token of an arc that consumes no frame.
NO_TOKEN = -1


@dataclass(frozen=True)
class Arc:
    """One arc; ``lm`` is the graph's part of its score."""

    src: int
    dst: int
    token: int
    labels: tuple[int, ...]
    lm: float


@dataclass(frozen=True)
class LatticePath:
    """One way through a lattice; ``alignment`` (T,) tokens, ``events`` (frame, label) in order."""

    alignment: tuple[int, ...]
    events: tuple[tuple[int, int], ...]
    lm_score: float
    score: float


@dataclass(frozen=True)
class _Entry:
    score: float
    history: int
    before: _Entry | None
    arc: Arc | None


@dataclass(frozen=True)
class Lattice:
    """Arcs in any order, start and final states (state -> graph score) over log_probs (T, C).

    Raises `EngineError` if there is a cycle.
    """

    arcs: Sequence[Arc]
    start: int
    finals: Mapping[int, float]
    log_probs: FloatArray
    acoustic_scale: float = 1.0
    _leaving: dict[int, list[int]] = field(init=False, repr=False, compare=False)
    _order: list[int] = field(init=False, repr=False, compare=False)
    _frames: dict[int, int] = field(init=False, repr=False, compare=False)
    _weights: list[float] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        leaving: dict[int, list[int]] = {}
        waiting: dict[int, int] = {}
        for index, arc in enumerate(self.arcs):
            leaving.setdefault(arc.src, []).append(index)
            waiting[arc.dst] = waiting.get(arc.dst, 0) + 1
        states = {arc.src for arc in self.arcs} | {arc.dst for arc in self.arcs} | {self.start}
        order = sorted(state for state in states if not waiting.get(state))
        frames = {self.start: 0}
        for state in order:  # grows while it is read
            for index in leaving.get(state, ()):
                arc = self.arcs[index]
                if state in frames:
                    frames[arc.dst] = frames[state] + (arc.token != NO_TOKEN)
                waiting[arc.dst] -= 1
                if not waiting[arc.dst]:
                    order.append(arc.dst)
        if len(order) != len(states):
            raise EngineError(f"a lattice of {len(states)} states has a cycle")
        scores = (self.acoustic_scale * self.log_probs.astype(np.float64)).tolist()
        weights = [
            arc.lm + (scores[frames[arc.src]][arc.token] if arc.token != NO_TOKEN else 0.0)
            if arc.src in frames
            else -np.inf
            for arc in self.arcs
        ]
        object.__setattr__(self, "_weights", weights)
        object.__setattr__(self, "_leaving", leaving)
        object.__setattr__(self, "_order", order)
        object.__setattr__(self, "_frames", frames)

    @property
    def states(self) -> Sequence[int]:
        """All states, each after those that lead to it."""
        return self._order

    def leaving(self, state: int) -> Iterator[tuple[Arc, float]]:
        """The arcs of a state with their scores, the network's included; -inf where the start does not lead."""
        for index in self._leaving.get(state, ()):
            yield self.arcs[index], self._weights[index]

    def hypotheses(self, count: int, *, posteriors: bool = True) -> list[Hypothesis]:
        """`nbest` as hypotheses, without those that the network holds impossible. Confidences are
        ``posteriors``, or else what the network alone thinks of the sounds."""
        found = []
        for path in self.nbest(count):
            frames = np.arange(len(path.alignment))
            if not np.isfinite(self.log_probs[frames, list(path.alignment)]).all():
                continue
            found.append(
                from_path(
                    path.alignment,
                    path.events,
                    self.log_probs,
                    lm_score=path.lm_score,
                    acoustic_scale=self.acoustic_scale,
                    final=True,
                    confidences=self.confidences(path.events) if posteriors else None,
                )
            )
        return found

    def _arcs_in_order(self) -> Iterator[int]:
        for state in self._order:
            yield from self._leaving.get(state, ())

    def nbest(self, count: int) -> list[LatticePath]:
        """The best paths of the ``count`` best label sequences, best first; fewer if there are fewer.

        Exact: a state keeps its ``count`` best label sequences, and one that is among the best at
        the end is among the best wherever it passes.
        """
        histories: dict[tuple[int, tuple[int, ...]], int] = {}
        entries: dict[int, dict[int, _Entry]] = {self.start: {0: _Entry(0.0, 0, None, None)}}
        for state in self._order:
            here = entries.get(state)
            if here is None:
                continue
            if len(here) > count:
                kept = sorted(here.values(), key=lambda e: (-e.score, e.history))[:count]
                here = {entry.history: entry for entry in kept}
                entries[state] = here
            for index in self._leaving.get(state, ()):
                arc = self.arcs[index]
                weight = self._weights[index]
                there = entries.setdefault(arc.dst, {})
                for entry in here.values():
                    history = entry.history
                    for label in arc.labels:
                        key = (history, (label,))
                        history = histories.setdefault(key, len(histories) + 1)
                    score = entry.score + weight
                    rival = there.get(history)
                    if rival is None or score > rival.score:
                        there[history] = _Entry(score, history, entry, arc)
        best: dict[int, tuple[float, float, _Entry]] = {}
        for state, lm in self.finals.items():
            for entry in entries.get(state, {}).values():
                score = entry.score + lm
                if entry.history not in best or score > best[entry.history][0]:
                    best[entry.history] = (score, lm, entry)
        ranked = sorted(best.values(), key=lambda item: (-item[0], item[2].history))[:count]
        return [self._path(entry, lm, score) for score, lm, entry in ranked]

    def _path(self, last: _Entry, final_lm: float, score: float) -> LatticePath:
        arcs: list[Arc] = []
        entry: _Entry | None = last
        while entry is not None and entry.arc is not None:
            arcs.append(entry.arc)
            entry = entry.before
        alignment: list[int] = []
        events: list[tuple[int, int]] = []
        for arc in reversed(arcs):
            events.extend((len(alignment), label) for label in arc.labels)
            if arc.token != NO_TOKEN:
                alignment.append(arc.token)
        lm_score = final_lm + sum(arc.lm for arc in arcs)
        return LatticePath(tuple(alignment), tuple(events), lm_score, score)

    def posteriors(self) -> npt.NDArray[np.float64]:
        """The posterior of each arc, in [0, 1], in the order of ``arcs``."""
        return self._posteriors

    @cached_property
    def _posteriors(self) -> npt.NDArray[np.float64]:
        low = -np.inf
        forward: dict[int, float] = {self.start: 0.0}
        weights = self._weights
        order = list(self._arcs_in_order())
        for index in order:
            arc = self.arcs[index]
            if arc.src in forward:
                value = forward[arc.src] + weights[index]
                forward[arc.dst] = float(np.logaddexp(forward.get(arc.dst, low), value))
        backward: dict[int, float] = dict(self.finals)
        for index in reversed(order):
            arc = self.arcs[index]
            if arc.dst in backward:
                value = backward[arc.dst] + weights[index]
                backward[arc.src] = float(np.logaddexp(backward.get(arc.src, low), value))
        total = backward.get(self.start, low)
        out = np.zeros(len(self.arcs))
        if total == low:
            return out
        for index, arc in enumerate(self.arcs):
            if arc.src in forward and arc.dst in backward:
                out[index] = forward[arc.src] + weights[index] + backward[arc.dst] - total
            else:
                out[index] = low
        return np.exp(np.minimum(out, 0.0))

    def confidences(self, events: Sequence[tuple[int, int]]) -> list[float]:
        """For each (frame, label) of a path: the posterior of that label thereabouts.

        Summed over the arcs with that label that come out nearer to it than to the path's neighbouring
        labels; so that other alignments of the same word count for it and not against it.
        """
        posteriors = self.posteriors()
        by_label: dict[int, list[tuple[int, float]]] = {}
        for arc, posterior in zip(self.arcs, posteriors):
            if arc.labels and arc.src in self._frames:
                for label in arc.labels:
                    by_label.setdefault(label, []).append((self._frames[arc.src], float(posterior)))
        out = []
        for index, (frame, label) in enumerate(events):
            low = (events[index - 1][0] + frame) / 2 if index else -np.inf
            high = (events[index + 1][0] + frame) / 2 if index + 1 < len(events) else np.inf
            near = (p for f, p in by_label.get(label, ()) if low <= f <= high)
            out.append(min(1.0, sum(near)))
        return out
