"""Tables by what is known of utterances: speaker, duration, any column of their metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Optional

import numpy as np

from uyir.decode.score.counts import Score
from uyir.decode.score.measure import score_of
from uyir.decode.score.significance import sum_by

#: Bounds of durations, in seconds.
DURATIONS = (2.0, 5.0, 10.0, 20.0, 30.0)
#: A column of numbers with more values than this is cut into five parts with equally many utterances.
MOST_VALUES = 20
#: The group of utterances that a column says nothing of.
UNKNOWN = "(unknown)"


class Group(NamedTuple):
    name: str
    score: Score


def group_by(
    column: str,
    metas: Sequence[Mapping[str, str]],
    counts: np.ndarray[Any, np.dtype[np.int64]],
) -> list[Group]:
    """Scores by the values of a column; counts: (utterances, columns).

    Durations are cut at `DURATIONS`, other columns of many numbers at their quintiles. Groups stand in
    order of their values, utterances that the column says nothing of last.
    """
    values = [meta.get(column, "") for meta in metas]
    labels, order = _labels(column, values)
    numbers = {name: n for n, name in enumerate(order)}
    which = np.array([numbers[label] for label in labels], dtype=np.int64)
    wrong = counts[:, 1:4].any(axis=1).astype(np.int64)
    sums = sum_by(which, np.column_stack([np.ones_like(wrong), wrong, counts]))
    return [
        Group(name, score_of(sums[n, 2:].tolist(), int(sums[n, 0]), int(sums[n, 1])))
        for name, n in numbers.items()
    ]


def _labels(column: str, values: Sequence[str]) -> tuple[list[str], list[str]]:
    """A label for each value, and the labels in order."""
    distinct = {value for value in values if value}
    numbers = {value: _number(value) for value in distinct}
    numeric = all(number is not None for number in numbers.values())
    if numeric and distinct and (column == "duration" or len(distinct) > MOST_VALUES):
        known = {value: number or 0.0 for value, number in numbers.items()}
        if column == "duration":
            bounds: list[float] = list(DURATIONS)
        else:
            all_values = [known[value] for value in values if value]
            bounds = sorted(set(np.percentile(all_values, [20, 40, 60, 80]).tolist()))
        names = _names(bounds, " s" if column == "duration" else "")
        at = {value: int(np.searchsorted(bounds, number)) for value, number in known.items()}
        labels = [names[at[value]] if value else UNKNOWN for value in values]
        order = [name for n, name in enumerate(names) if n in set(at.values())]
    else:
        labels = [value or UNKNOWN for value in values]
        order = sorted(
            distinct, key=(lambda v: (numbers[v] or 0.0, v)) if numeric else (lambda v: (0.0, v))
        )
    return labels, order + ([UNKNOWN] if "" in values else [])


def _number(value: str) -> Optional[float]:
    try:
        return float(value)
    except ValueError:
        return None


def _names(bounds: Sequence[float], unit: str) -> list[str]:
    if not bounds:
        return [f"all{unit}"]
    inner = [f"{low:g}–{high:g}{unit}" for low, high in zip(bounds, bounds[1:])]
    return [f"up to {bounds[0]:g}{unit}", *inner, f"over {bounds[-1]:g}{unit}"]
