"""Where to cut long recordings: at pauses, by energy alone, so that a network sees some seconds at a time.

`uyir.decode.vad` goes through a recording in windows and asks here, or a network, where speech is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]

#: Frames of 10 ms at 16 kHz.
_FRAME = 160
_FRAMES_A_SECOND = 100
#: Nothing as faint as this is speech (RMS against full scale).
SILENCE_DBFS = -60.0
#: In a long recording speech stands at least this far above the quietest tenth of it.
ABOVE_FLOOR_DB = 6.0
#: Recordings up to this long (s) are left whole.
WHOLE_S = 20.0


#: Frames of 10 ms, ``[begin, end)``.
Pair = tuple[int, int]


@dataclass(frozen=True)
class Stretch:
    """A part of a recording in samples, ``[begin, end)``."""

    begin: int
    end: int


def levels(samples: Samples) -> npt.NDArray[np.float32]:
    """The level (dB against full scale, RMS) of each 10 ms of samples (S,); the last may be short."""
    whole = len(samples) // _FRAME
    out = np.empty(whole + (len(samples) % _FRAME > 0), dtype=np.float32)
    # By minutes, so that squares of an hour do not stand in memory at once.
    step = 60 * _FRAMES_A_SECOND
    for first in range(0, whole, step):
        last = min(first + step, whole)
        frames = samples[first * _FRAME : last * _FRAME].reshape(-1, _FRAME)
        out[first:last] = (frames * frames).mean(axis=1)
    if len(out) > whole:
        rest = samples[whole * _FRAME :]
        out[whole] = (rest * rest).mean()
    return np.asarray(10.0 * np.log10(np.maximum(out, 1e-12)), dtype=np.float32)


def is_silence(samples: Samples) -> bool:
    """Whether nothing in samples (S,), 16 kHz mono, is loud enough to be speech."""
    level = levels(samples)
    return not len(level) or float(level.max()) < SILENCE_DBFS


def loud_pairs(samples: Samples) -> list[Pair]:
    """Frame ranges (10 ms) that may hold speech, with a margin of 0.3 s; neighbours may touch.

    A frame is loud if it is above `SILENCE_DBFS` and `ABOVE_FLOOR_DB` above the quietest tenth; loud
    frames less than 0.7 s apart belong together.
    """
    level = levels(samples)
    if not len(level) or float(level.max()) < SILENCE_DBFS:
        return []
    threshold = max(SILENCE_DBFS, float(np.percentile(level, 10)) + ABOVE_FLOOR_DB)
    loud = np.flatnonzero(_smooth(level) > threshold)
    return _grown(_groups(loud, 70), 30, len(level)) if len(loud) else []


def cut_pairs(samples: Samples, pairs: list[Pair], longest_s: float = WHOLE_S) -> list[Stretch]:
    """Stretches of samples (S,) from frame ranges in order: joined where near, cut where long.

    Neighbours with at most a second between them become one as long as that stays within
    ``longest_s``; what is longer is cut at its quietest 50 ms.
    """
    if not pairs:
        return []
    smooth = _smooth(levels(samples))
    longest = int(longest_s * _FRAMES_A_SECOND)
    return [
        Stretch(first * _FRAME, min(last * _FRAME, len(samples)))
        for begin, end in _pack(pairs, longest)
        for first, last in _cut(smooth, begin, end, longest)
    ]


def _smooth(level: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
    return np.convolve(level, np.full(5, 0.2), mode="same")


def _groups(loud: npt.NDArray[Any], gap: int) -> list[Pair]:
    """Frame ranges of loud frames that are less than ``gap`` frames apart."""
    breaks = np.flatnonzero(np.diff(loud) > gap)
    begins = np.concatenate([loud[:1], loud[breaks + 1]])
    ends = np.concatenate([loud[breaks], loud[-1:]]) + 1
    # Clicks are no speech.
    return [(int(b), int(e)) for b, e in zip(begins, ends) if e - b >= 5]


def _grown(pairs: list[Pair], margin: int, frames: int) -> list[Pair]:
    return [(max(0, begin - margin), min(frames, end + margin)) for begin, end in pairs]


def _pack(pairs: list[Pair], longest: int) -> list[Pair]:
    """Neighbours with at most a second between them joined, as long as the whole stays short."""
    out: list[Pair] = []
    for begin, end in pairs:
        if out and begin - out[-1][1] <= _FRAMES_A_SECOND and end - out[-1][0] <= longest:
            out[-1] = (out[-1][0], end)
        else:
            out.append((begin, end))
    return out


def _cut(smooth: npt.NDArray[Any], begin: int, end: int, longest: int) -> list[Pair]:
    out = []
    while end - begin > longest:
        low = begin + longest // 2
        at = low + int(np.argmin(smooth[low : begin + longest]))
        out.append((begin, at))
        begin = at
    out.append((begin, end))
    return out
