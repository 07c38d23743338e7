"""How sure a rate is, and whether two systems differ.

*Bootstrap*: speakers (or utterances, where none are known) are drawn again with replacement, and the
middle 95 % of the rate over the draws is its interval (Bisani and Ney, "Bootstrap estimates for
confidence intervals in ASR performance evaluation", ICASSP 2004).

*MAPSSWE*, matched pairs: utterances are cut where both systems have at least two words right, and the
errors of the two in each piece are compared by a z test (Gillick and Cox, "Some statistical issues in
the comparison of speech recognition algorithms", ICASSP 1989; sclite's ``sc_stats -t mapsswe``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np

from uyir.decode.score.align import Step
from uyir.decode.score.counts import Interval

_Array = np.ndarray[Any, np.dtype[np.int64]]
#: Words that both systems have right between two segments.
BUFFER = 2


def bootstrap(
    values: _Array, draws: int = 1000, seed: int = 0
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Sums of columns over units drawn again with replacement.

    values: (units, columns), the counts of each speaker or utterance; returns (draws, columns).
    Units with equal counts are drawn together, which makes no difference to the sums.
    """
    kinds, many = np.unique(values, axis=0, return_counts=True)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(values), many / len(values), size=draws)
    return drawn.astype(np.float64) @ kinds.astype(np.float64)


def interval(errors: _Array, units: _Array, draws: int = 1000, seed: int = 0) -> Optional[Interval]:
    """The 95 % interval of a rate; None if there are fewer than two units to draw from, or no draws."""
    if len(errors) < 2 or not draws:
        return None
    sums = bootstrap(np.stack([errors, units], axis=1), draws, seed)
    rates = sums[:, 0] / np.maximum(1, sums[:, 1])
    low, high = np.percentile(rates, [2.5, 97.5])
    return Interval(float(low), float(high))


def sum_by(groups: _Array, values: _Array) -> _Array:
    """Sums of rows of values by group number; groups (rows,), values (rows, columns)."""
    out = np.zeros((int(groups.max()) + 1 if len(groups) else 0, values.shape[1]), dtype=np.int64)
    np.add.at(out, groups, values)
    return out


@dataclass(frozen=True)
class Matched:
    """A matched-pairs test of two systems: segments compared, the mean of (errors of the first less
    errors of the second) a segment, z, and the two-sided probability of such a z by chance."""

    segments: int
    mean: float
    z: float
    p: float

    def to_dict(self) -> dict[str, Any]:
        return {
            "segments": self.segments,
            "mean": round(self.mean, 6),
            "z": round(self.z, 4),
            "p": round(self.p, 6),
        }


def errors_by_word(units: int, steps: Sequence[Step]) -> tuple[list[int], list[int]]:
    """Errors at each reference word (units,), and insertions before each and at the end (units + 1,)."""
    wrong, inserted = [0] * units, [0] * (units + 1)
    position = 0
    shift = 0  # insertions less deletions so far
    for i, j in steps:
        if i is not None:
            wrong[i] = 1
        else:
            position = (j or 0) - shift
            inserted[position] += 1
        shift += (i is None) - (j is None)
    return wrong, inserted


def segments(units: int, first: Sequence[Step], second: Sequence[Step]) -> list[tuple[int, int]]:
    """Errors of two systems in each segment of an utterance of so many reference words.

    A segment is a stretch with errors; stretches are apart where both systems have `BUFFER` words right
    in a row, with nothing inserted among them.
    """
    if not first and not second:
        return []
    wrong = [errors_by_word(units, steps) for steps in (first, second)]
    found: list[tuple[int, int]] = []
    current = [0, 0]
    right = 0
    for at in range(units + 1):
        inserted = [side[1][at] for side in wrong]
        if any(inserted):
            if right >= BUFFER and any(current):
                found.append((current[0], current[1]))
                current = [0, 0]
            right = 0
            current = [a + b for a, b in zip(current, inserted)]
        if at == units:
            break
        here = [side[0][at] for side in wrong]
        if any(here):
            if right >= BUFFER and any(current):
                found.append((current[0], current[1]))
                current = [0, 0]
            right = 0
            current = [a + b for a, b in zip(current, here)]
        else:
            right += 1
    if any(current):
        found.append((current[0], current[1]))
    return found


def mapsswe(pairs: Sequence[tuple[int, int]]) -> Matched:
    """Compare two systems by their errors in matched segments; p is 1 where nothing tells them apart."""
    count = len(pairs)
    differences = [a - b for a, b in pairs]
    mean = sum(differences) / max(1, count)
    spread = sum((d - mean) ** 2 for d in differences)
    if count < 2 or not any(differences):
        return Matched(count, mean, 0.0, 1.0)
    if spread == 0:
        return Matched(count, mean, math.copysign(math.inf, mean), 0.0)
    z = mean / math.sqrt(spread / (count - 1) / count)
    return Matched(count, mean, z, math.erfc(abs(z) / math.sqrt(2)))
