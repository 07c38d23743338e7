"""What speaks for a word, or for a language: numbers of one reading that calibrated maps are fitted on.

All are of what a search gives for one stretch: a hypothesis and log_probs (T, C). `word_evidence` is what
`uyir.decode.calibration.Calibration` takes; `Heard` sums what languages are told apart by.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from uyir.decode.hypothesis import FloatArray, Hypothesis

#: Nothing is surer than this, nor less sure than one minus this.
SUREST = 0.995
#: A frame whose best token is less likely than this (natural logarithm) says no more than that.
_FLOOR = -10.0


def log_odds(probability: float) -> float:
    """ln p / (1 - p), p kept within what can be known."""
    p = min(max(probability, 1.0 - SUREST), SUREST)
    return math.log(p / (1.0 - p))


class Alignment:
    """A hypothesis beside its log_probs (T, C): how each frame's token compares with the best one there."""

    def __init__(self, best: Hypothesis, log_probs: FloatArray) -> None:
        frames = len(log_probs)
        tokens = np.zeros(frames, dtype=np.int64)
        for run in best.runs:
            tokens[run.begin : run.end] = run.token
        top = log_probs.max(axis=1) if frames else np.zeros(0)
        along = log_probs[np.arange(frames), tokens]
        lost = np.maximum(along - top, _FLOOR)
        self._lost = np.concatenate([[0.0], np.cumsum(lost, dtype=np.float64)])
        self._begins = [run.begin for run in best.runs]
        self._peaks = [float(log_probs[r.begin : r.end, r.token].max()) for r in best.runs]
        self.frames = frames
        self.top = float(top.sum())
        self.lost = float(self._lost[-1])

    def margin(self, begin: int, end: int) -> float:
        """How far the aligned tokens lie below the best ones, mean over frames [begin, end); at most 0."""
        begin, end = max(0, begin), min(end, self.frames)
        return (self._lost[end] - self._lost[begin]) / (end - begin) if begin < end else 0.0

    def heard(self, cuts: Sequence[int]) -> float:
        """How surely the sounds of a word were heard, in [0, 1]: of its pieces the worst one's mean.

        A piece's is the geometric mean, over its tokens, of the network's highest probability of the token
        within its run. ``cuts``: the frames where pieces begin, and the end of the last.
        """
        worst = 0.0
        for begin, end in zip(cuts, cuts[1:]):
            first = bisect_left(self._begins, begin)
            after = bisect_left(self._begins, max(end, begin + 1), first)
            if first < after:
                worst = min(worst, sum(self._peaks[first:after]) / (after - first))
        return math.exp(worst)

    def phones(self, begin: int, end: int) -> int:
        """Tokens that begin in frames [begin, end)."""
        return bisect_left(self._begins, max(end, begin + 1)) - bisect_left(self._begins, begin)


#: What `word_evidence` gives, in order.
WORD_EVIDENCE = (
    "posterior",
    "posteriors",
    "heard",
    "margin",
    "margin_all",
    "phones",
    "letters",
    "words",
    "lm",
    "rate",
)


def word_evidence(
    best: Hypothesis,
    alignment: Alignment,
    group: Sequence[int],
    cuts: Sequence[int],
    letters: float,
    words: int,
) -> dict[str, float]:
    """What speaks for a word. ``group``: its subwords' positions, ``cuts``: their first frames and the end
    of the last; ``letters``: the share of them that are single letters (a root spelled out); ``words``: how
    many words the stretch has.

    ``posterior`` is that of its least sure subword and ``posteriors`` the mean, ``heard`` see
    `Alignment.heard`, all as log odds; ``margin`` how far its tokens lie below a free loop's, and
    ``margin_all`` the whole stretch's (log, a frame); ``phones`` ln of their number, ``rate`` ln of frames a
    phone; ``words`` ln of their number; ``lm`` the graph's score of the stretch, a phone.
    """
    sure = [log_odds(best.confidences[p]) for p in group]
    begin, end = cuts[0], max(cuts[-1], cuts[0] + 1)
    phones = max(1, alignment.phones(begin, end))
    return {
        "posterior": min(sure),
        "posteriors": sum(sure) / len(sure),
        "heard": log_odds(alignment.heard(cuts)),
        "margin": alignment.margin(begin, end),
        "margin_all": alignment.lost / max(1, alignment.frames),
        "phones": math.log(phones),
        "letters": letters,
        "words": math.log(max(1, words)),
        "lm": best.lm_score / max(1, len(best.runs)) if math.isfinite(best.lm_score) else 0.0,
        "rate": math.log((end - begin) / phones),
    }


@dataclass(frozen=True)
class Spoken:
    """Sums over what was searched in one language: what languages are told apart by."""

    frames: int = 0
    score: float = 0.0
    am: float = 0.0
    top: float = 0.0
    lm: float = 0.0
    phones: int = 0
    posterior: float = 0.0

    def __add__(self, other: Spoken) -> Spoken:
        return Spoken(
            self.frames + other.frames,
            self.score + other.score,
            self.am + other.am,
            self.top + other.top,
            self.lm + other.lm,
            self.phones + other.phones,
            self.posterior + other.posterior,
        )

    def per_frame(self) -> dict[str, float]:
        """By frame (of 40 ms): the best path's score and its network part, the best tokens' alone, phones, the
        graph's part (``lm_frame``); by phone: the graph's part and the mean confidence. ``short`` is 1 a frame: what
        a beginning and an end cost weighs the more, the shorter the speech."""
        frames, phones = max(1, self.frames), max(1, self.phones)
        return {
            "score": self.score / frames,
            "am": self.am / frames,
            "top": self.top / frames,
            "lm": self.lm / phones,
            "phones": self.phones / frames,
            "posterior": self.posterior / phones,
            "lm_frame": self.lm / frames,
            "short": 1.0 / frames,
        }


def spoken_evidence(best: Hypothesis, log_probs: FloatArray) -> Spoken:
    """The evidence of one stretch."""
    if best.error is not None or not math.isfinite(best.score):
        return Spoken(frames=len(log_probs), score=-30.0 * len(log_probs))
    top = float(log_probs.max(axis=1).sum()) if len(log_probs) else 0.0
    phones = len(best.runs)
    sure = sum(map(log_odds, best.confidences)) / max(1, len(best.confidences))
    return Spoken(
        len(log_probs), best.score, best.am_score, top, best.lm_score, phones, sure * phones
    )


#: What `Spoken.per_frame` gives.
LANGUAGE_EVIDENCE = tuple(Spoken().per_frame())
