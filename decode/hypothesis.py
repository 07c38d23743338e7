"""What a search returns, the same whichever engine made it.

Scores are natural logarithms, higher is better; frames count the rows of the network's output
(``log_probs``), not the features. An engine hands its best path to `from_path` as *(frame, label)*
events over a token per frame, so that times, score parts and confidence mean the same everywhere.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[Any]
BLANK = 0
#: `<spn>`: a sound between words that belongs to none.
NOISE = 1


@dataclass(frozen=True)
class Run:
    """Equal neighbouring tokens of an alignment, ``[begin, end)`` in frames; never the blank."""

    token: int
    begin: int
    end: int


@dataclass(frozen=True)
class Hypothesis:
    """One subword sequence for one utterance, with where it was heard and how surely.

    ``score = acoustic_scale * am_score + lm_score``: ``am_score`` is the sum of the log_probs along
    the path, unscaled; ``lm_score`` what the graph's arcs and the final state add. ``confidence``
    and each of ``confidences`` (one a subword) lie in [0, 1].

    A subword's time is the frame of the token with which its label came out: one of its own, at the
    latest its last, since a graph holds a label back until the subword can no longer be another one.
    It ends where the last token before the next label ends. ``runs`` are all tokens heard, from
    which `transcribe` finds where words begin.

    ``final`` is false where no final state was reached even with the wider beam: the subwords then
    are the best unfinished path, possibly none. ``error`` says why an utterance could not be
    searched at all (NaN in its log_probs); such a hypothesis is empty with score -inf.
    """

    subwords: tuple[int, ...]
    times: tuple[int, ...]
    score: float
    am_score: float
    lm_score: float
    confidence: float
    final: bool
    ends: tuple[int, ...] = ()
    confidences: tuple[float, ...] = ()
    runs: tuple[Run, ...] = ()
    error: Optional[str] = None


def failed(reason: str) -> Hypothesis:
    """The empty, unfinished hypothesis of an utterance that cannot be searched."""
    return Hypothesis((), (), -math.inf, -math.inf, -math.inf, 0.0, False, error=reason)


def runs_of(alignment: Sequence[int]) -> list[Run]:
    """The tokens that an alignment (T,) spells, in order: repeats merged, blanks dropped."""
    runs: list[Run] = []
    begin = 0
    for frame in range(1, len(alignment) + 1):
        if frame == len(alignment) or alignment[frame] != alignment[begin]:
            if alignment[begin] != BLANK:
                runs.append(Run(int(alignment[begin]), begin, frame))
            begin = frame
    return runs


Span = tuple[int, int]  # [first, after): the runs of one label


def spans_by_pronunciation(
    runs: Sequence[Run], words: Sequence[Sequence[Sequence[int]]]
) -> Optional[list[Span]]:
    """The runs that each word covers, given its pronunciations; None if the words do not spell them.

    Runs between words that belong to neither (noise, pauses) are passed over. Where two equal tokens
    met at a seam and merged, the run is the left word's.
    """
    # Depth first over (words placed, runs used), whole matches before merged and passed-over ones.
    stack: list[tuple[int, int, tuple[Span, ...]]] = [(0, 0, ())]
    seen: set[tuple[int, int]] = set()
    while stack:
        placed, used, spans = stack.pop()
        if placed == len(words):
            if used == len(runs) or all(run.token == NOISE for run in runs[used:]):
                return list(spans)
            continue
        if (placed, used) in seen:
            continue
        seen.add((placed, used))
        if used < len(runs) and runs[used].token == NOISE:
            stack.append((placed, used + 1, spans))
        matches = {span for tokens in words[placed] for span in _matches(runs, used, tokens)}
        for span in sorted(matches, key=lambda span: span[1] - span[0]):
            stack.append((placed + 1, span[1], (*spans, span)))
    return None


def _matches(runs: Sequence[Run], used: int, pronunciation: Sequence[int]) -> list[Span]:
    def fits(tokens: Sequence[int]) -> bool:
        return [run.token for run in runs[used : used + len(tokens)]] == list(tokens)

    found = []
    if fits(pronunciation):
        found.append((used, used + len(pronunciation)))
    if used and pronunciation and runs[used - 1].token == pronunciation[0]:
        rest = pronunciation[1:]
        if fits(rest):
            found.append((used, used + len(rest)))
    return found


def _spans_by_events(runs: Sequence[Run], frames: Sequence[int]) -> list[Span]:
    begins = [run.begin for run in runs]
    firsts = [max(0, bisect_right(begins, frame) - 1) for frame in frames]
    afters = [*firsts[1:], len(runs)]
    return [(first, max(first, after)) for first, after in zip(firsts, afters)]


def from_path(
    alignment: Sequence[int],
    events: Sequence[tuple[int, int]],
    log_probs: FloatArray,
    *,
    lm_score: float,
    acoustic_scale: float,
    final: bool,
    confidences: Optional[Sequence[float]] = None,
) -> Hypothesis:
    """A hypothesis from a path through a graph.

    ``alignment`` (T,): the token of every frame; ``events``: *(frame, label)* for every label of the
    path, in order; ``log_probs`` (T, C): unscaled. Without ``confidences`` (posteriors from a lattice)
    a label's confidence is the geometric mean, over its tokens, of the network's highest
    probability of that token within its run: what the network alone thinks of the label's sounds.
    """
    tokens = np.asarray(alignment, dtype=np.int64)
    along = log_probs[np.arange(len(tokens)), tokens].astype(np.float64)
    am_score = float(along.sum())
    runs = runs_of(alignment)
    labels = tuple(label for _, label in events)
    spans = _spans_by_events(runs, [frame for frame, _ in events])
    times, ends = [], []
    for (first, after), (frame, _) in zip(spans, events):
        if first < after:
            times.append(runs[first].begin)
            ends.append(runs[after - 1].end)
        else:  # several labels came out with one token
            times.append(runs[first].begin if runs else frame)
            ends.append(runs[first].end if runs else frame)
    if confidences is None:
        peaks = [float(along[run.begin : run.end].max()) for run in runs]
        confidences = [
            math.exp(min(0.0, sum(peaks[first:after]) / (after - first))) if after > first else 1.0
            for first, after in spans
        ]
    sure = tuple(min(1.0, max(0.0, float(c))) for c in confidences)
    return Hypothesis(
        subwords=labels,
        times=tuple(times),
        score=acoustic_scale * am_score + lm_score,
        am_score=am_score,
        lm_score=lm_score,
        confidence=_geometric_mean(sure),
        final=final,
        ends=tuple(ends),
        confidences=sure,
        runs=tuple(runs),
    )


def _geometric_mean(values: Sequence[float]) -> float:
    if not values:
        return 1.0
    if min(values) <= 0.0:
        return 0.0
    return math.exp(sum(math.log(v) for v in values) / len(values))
