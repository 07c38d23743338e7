"""What a search returns, the same whichever engine made it.

Scores are natural logarithms, higher is better; frames count the rows of the network's output
(``log_probs``), not the features. An engine hands its best path to `from_path` as *(frame, label)*
events over a token per frame, so that times, score parts and confidence mean the same everywhere.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Optional

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[Any]
BLANK = 0
#: `<spn>`: a sound between words that belongs to none.
NOISE = 1


class Run(NamedTuple):
    """Equal neighbouring tokens of an alignment, ``[begin, end)`` in frames; never the blank."""

    token: int
    begin: int
    end: int


class Runs(Sequence[Run]):
    """The runs of one path, made when they are looked at: those of most hypotheses never are."""

    __slots__ = ("_columns", "_made")

    def __init__(self, tokens: Sequence[int], begins: Sequence[int], ends: Sequence[int]) -> None:
        self._columns = (tokens, begins, ends)
        self._made: Optional[tuple[Run, ...]] = None

    def _all(self) -> tuple[Run, ...]:
        if self._made is None:
            self._made = tuple(map(Run, *self._columns))
        return self._made

    def __len__(self) -> int:
        return len(self._columns[0])

    def __getitem__(self, place: Any) -> Any:
        return self._all()[place]

    def __iter__(self) -> Iterator[Run]:
        return iter(self._all())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, (Runs, tuple)):
            return self._all() == tuple(other)
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self._all())

    def __repr__(self) -> str:
        return repr(self._all())


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
    runs: Sequence[Run] = ()
    error: Optional[str] = None

    def without(self, token: int) -> Hypothesis:
        """The hypothesis as if a token, the end of a word, had no length: its runs are left out, and a
        subword ends with the last other token before the next one."""
        kept = [run for run in self.runs if run.token != token]
        if len(kept) == len(self.runs):
            return self
        begins = [run.begin for run in kept]
        ends = []
        for time, end in zip(self.times, self.ends):
            last = bisect_left(begins, end) - 1
            ends.append(kept[last].end if last >= 0 and time <= kept[last].begin else end)
        tokens, begun, ended = zip(*kept) if kept else ((), (), ())
        return replace(self, ends=tuple(ends), runs=Runs(tokens, begun, ended))


def failed(reason: str) -> Hypothesis:
    """The empty, unfinished hypothesis of an utterance that cannot be searched."""
    return Hypothesis((), (), -math.inf, -math.inf, -math.inf, 0.0, False, error=reason)


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


@dataclass(frozen=True, eq=False)
class AlignedPaths:
    """P paths through a graph, laid one behind the other.

    ``frames`` (P,): how many each has; ``tokens`` and ``along`` (sum of frames,): the token of every frame, and
    its log_prob, unscaled. ``events`` (P,): how many labels come out on each; ``event_frames`` and ``labels``:
    when, and which. By path ``lm_scores`` (P,) and ``final`` (P,). ``confidences``, one a label, are posteriors
    from a lattice. Without them a label's confidence is the geometric mean, over its tokens, of the
    network's highest probability of that token within its run: what the network alone thinks of the
    label's sounds.
    """

    frames: npt.NDArray[Any]
    tokens: npt.NDArray[Any]
    along: npt.NDArray[Any]
    events: npt.NDArray[Any]
    event_frames: npt.NDArray[Any]
    labels: npt.NDArray[Any]
    lm_scores: npt.NDArray[Any]
    final: npt.NDArray[Any]
    confidences: Optional[npt.NDArray[Any]] = None


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
    """A hypothesis from a path through a graph; see `AlignedPaths`.

    ``alignment`` (T,): the token of every frame; ``events``: *(frame, label)* for every label of the
    path, in order; ``log_probs`` (T, C): unscaled.
    """
    tokens = np.asarray(alignment, dtype=np.int64)
    came = np.array(events, dtype=np.int64).reshape(len(events), 2)
    paths = AlignedPaths(
        np.array([len(tokens)]),
        tokens,
        log_probs[np.arange(len(tokens)), tokens],
        np.array([len(came)]),
        came[:, 0],
        came[:, 1],
        np.array([lm_score]),
        np.array([final]),
        None if confidences is None else np.asarray(confidences, dtype=np.float64),
    )
    return from_paths(paths, acoustic_scale)[0]


def sums(owner: npt.NDArray[Any], values: npt.NDArray[Any], count: int) -> npt.NDArray[np.float64]:
    """(count,) the sum of the values of each owner."""
    total = np.bincount(owner, weights=values.astype(np.float64), minlength=count)
    return total.astype(np.float64)  # of nothing at all, bincount makes whole numbers


def from_paths(paths: AlignedPaths, acoustic_scale: float) -> list[Hypothesis]:
    """A hypothesis of each path, all at once."""
    count = len(paths.frames)
    along = paths.along.astype(np.float64)
    begin = np.cumsum(paths.frames) - paths.frames
    of_frame = np.repeat(np.arange(count), paths.frames)
    am_scores = sums(of_frame, along, count)
    # Runs of equal tokens, numbered through all paths; blanks are none.
    starts = np.ones(len(along), dtype=bool)
    starts[1:] = (np.diff(paths.tokens) != 0) | (np.diff(of_frame) != 0)
    first = np.flatnonzero(starts)
    last = np.append(first[1:], len(along))
    peak = np.maximum.reduceat(along, first) if len(first) else along
    loud = paths.tokens[first] != BLANK
    first, last, peak = first[loud], last[loud], peak[loud]
    of_run = of_frame[first]
    run_end = np.cumsum(np.bincount(of_run, minlength=count))
    run_begin = np.append(0, run_end[:-1])
    # A label's runs: from the one at its frame to the one before the next label's.
    of_event = np.repeat(np.arange(count), paths.events)
    inside = np.minimum(paths.event_frames, paths.frames[of_event] - 1) + begin[of_event]
    low = np.maximum(np.searchsorted(first, inside, side="right") - 1, run_begin[of_event])
    high = run_end[of_event]
    if len(low) > 1:
        more = of_event[1:] == of_event[:-1]
        high[:-1][more] = low[1:][more]
    high = np.maximum(low, high)
    silent = run_begin[of_event] == run_end[of_event]
    ends = np.append(first, 0), np.append(last, 0)
    none = silent | (low >= len(first))
    at = np.where(none, len(first), low)
    shift = begin[of_event]
    times = np.where(none, paths.event_frames, ends[0][at] - shift)
    until = np.where(none, at, np.maximum(low, high - 1))
    until = np.where(none, paths.event_frames, ends[1][until] - shift)
    sure = paths.confidences
    if sure is None:
        spans = np.stack([at, np.where(none, at, high)], axis=1).ravel()
        peaks = np.add.reduceat(np.append(peak, [0.0, 0.0]), spans)[::2] if len(spans) else peak[:0]
        size = high - low
        sure = np.where(size > 0, np.exp(np.minimum(0.0, peaks / np.maximum(size, 1))), 1.0)
    sure = np.clip(sure, 0.0, 1.0)
    with np.errstate(divide="ignore"):
        logs = sums(of_event, np.log(sure), count)
    overall = np.exp(logs / np.maximum(paths.events, 1)).tolist()
    scores = acoustic_scale * am_scores + paths.lm_scores

    tokens, began, ended = (
        column.tolist()
        for column in (paths.tokens[first], first - begin[of_run], last - begin[of_run])
    )
    columns = [column.tolist() for column in (paths.labels, times, until, sure)]
    event_end = np.cumsum(paths.events)
    rows = zip(
        (event_end - paths.events).tolist(),
        event_end.tolist(),
        run_begin.tolist(),
        run_end.tolist(),
        scores.tolist(),
        am_scores.tolist(),
        paths.lm_scores.tolist(),
        overall,
        paths.final.tolist(),
    )
    labels, heard, heard_until, surely = columns
    return [
        Hypothesis(
            subwords=tuple(labels[a:b]),
            times=tuple(heard[a:b]),
            score=score,
            am_score=am,
            lm_score=lm,
            confidence=confidence,
            final=bool(final),
            ends=tuple(heard_until[a:b]),
            confidences=tuple(surely[a:b]),
            runs=Runs(tokens[c:d], began[c:d], ended[c:d]),
        )
        for a, b, c, d, score, am, lm, confidence, final in rows
    ]
