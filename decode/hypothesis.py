"""What a search returns, the same whichever engine made it.

Scores are natural logarithms, higher is better; frames count the rows of the network's output
(``log_probs``), not the features. An engine hands its best path to `from_path` as *(frame, label)*
events over a token per frame, so that times, score parts and confidence mean the same everywhere.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating]  # type: ignore[type-arg]
#: For each word-table id the token sequences it may be spoken as, where the graph tells.
Pronunciations = Mapping[int, Sequence[Sequence[int]]]

BLANK = 0


@dataclass(frozen=True)
class Hypothesis:
    """One subword sequence for one utterance, with where it was heard and how surely.

    ``score = acoustic_scale * am_score + lm_score``: ``am_score`` is the sum of the log_probs along
    the path, unscaled; ``lm_score`` what the graph's arcs and the final state add. ``confidence``
    and each of ``confidences`` (one a subword) lie in [0, 1].

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
    error: Optional[str] = None


def failed(reason: str) -> Hypothesis:
    """The empty, unfinished hypothesis of an utterance that cannot be searched."""
    return Hypothesis((), (), -math.inf, -math.inf, -math.inf, 0.0, False, error=reason)


@dataclass(frozen=True)
class Run:
    """Equal neighbouring tokens of an alignment: ``[begin, end)`` in frames; never blank."""

    token: int
    begin: int
    end: int


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


Span = tuple[int, int]  # [first, after): runs of one label


def _spans_by_lexicon(
    runs: Sequence[Run], labels: Sequence[int], lexicon: Pronunciations
) -> Optional[list[Span]]:
    """The runs that each label's pronunciation covers; None if these labels cannot spell the runs.

    Runs between labels that belong to no pronunciation (noise, pauses) are passed over. Where two
    equal tokens met at a seam and merged, the run is the left label's.
    """
    # Depth first over (labels placed, runs used), whole matches before merged and passed-over ones.
    stack: list[tuple[int, int, tuple[Span, ...]]] = [(0, 0, ())]
    seen: set[tuple[int, int]] = set()
    while stack:
        placed, used, spans = stack.pop()
        if placed == len(labels):
            return list(spans)
        if (placed, used) in seen:
            continue
        seen.add((placed, used))
        if used < len(runs):
            stack.append((placed, used + 1, spans))
        matches = {
            span
            for pronunciation in lexicon.get(labels[placed], ())
            for span in _matches(runs, used, pronunciation)
        }
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
    """Without a lexicon: a label owns the runs after the label before, up to where it came out.

    A graph puts a label on one arc, at the latest where the word can no longer be another one; the
    tail of a word that came out early is then counted to the next one.
    """
    begins = [run.begin for run in runs]
    spans = []
    used = 0
    for index, frame in enumerate(frames):
        last = bisect_right(begins, frame)
        if index == len(frames) - 1:
            last = len(runs)
        after = max(used, min(last, len(runs)))
        spans.append((used, after))
        used = after
    return spans


def from_path(
    alignment: Sequence[int],
    events: Sequence[tuple[int, int]],
    log_probs: FloatArray,
    *,
    lm_score: float,
    acoustic_scale: float,
    final: bool,
    lexicon: Optional[Pronunciations] = None,
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
    spans = _spans_by_lexicon(runs, labels, lexicon) if lexicon is not None else None
    if spans is None:
        spans = _spans_by_events(runs, [frame for frame, _ in events])
    times, ends = [], []
    for (first, after), (frame, _) in zip(spans, events):
        if first < after:
            times.append(runs[first].begin)
            ends.append(runs[after - 1].end)
        else:  # no run of its own: merged into the one before, or a label without tokens
            begin = ends[-1] if ends else min(frame, max(len(tokens) - 1, 0))
            times.append(begin)
            ends.append(begin)
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
    )


def _geometric_mean(values: Sequence[float]) -> float:
    if not values:
        return 1.0
    if min(values) <= 0.0:
        return 0.0
    return math.exp(sum(math.log(v) for v in values) / len(values))
