"""Estimating n-gram models: interpolated modified Kneser-Ney, entropy pruning.

Theory. Of an n-gram's count c(hw) a discount D is taken, D1, D2 or D3+ by whether c is 1, 2 or more,
and what was taken of a history is given to the shorter history's distribution (Chen and Goodman
1998, modified Kneser-Ney, interpolated):

    p(w | h) = (c(hw) - D) / c(h) + g(h) p(w | h'),   Y = n1 / (n1 + 2 n2),   D_i = i - (i+1) Y n_{i+1} / n_i

Below the highest order c(hw) is the number of different words seen before hw, not how often hw was
seen, but for n-grams that begin with ``<s>``, before which nothing stands. At the bottom is the
uniform distribution over the vocabulary, so pieces never seen share what the unigrams were docked.

Pruning goes by relative entropy (Stolcke 1998), with two things that Kneser-Ney needs. How probable a
history is comes from its plain count, since the lower orders' probabilities are of another kind
(Chelba et al. 2010). And the lower orders are estimated again afterwards: an n-gram that was pruned
now has to be foretold by the shorter history, which therefore gets its count whole and not as 1
(revised Kneser pruning, Siivola et al. 2007).
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Union

import numpy as np
import numpy.typing as npt

from uyir.decode.lm_count import STRETCH, Counts, Level, Mask, count_ngrams, cut_off
from uyir.decode.lm_model import NgramModel, Order
from uyir.decode.lm_text import Vocabulary
from uyir.errors import DataError

Ints = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Estimate:
    """Natural probabilities of all n-grams (kept or not) and back-off factors of all histories."""

    probability: list[Doubles]
    backoff: list[Doubles]  # per order n: factor of the n-gram as a history; 1 if nothing follows


def _adjusted(counts: Counts, kept: Sequence[Mask]) -> list[Ints]:
    """Kneser-Ney counts; a lower order gets 1 for a kept longer n-gram, its count for a pruned one."""
    levels = counts.levels
    found = [levels[-1].count]
    for n in range(len(levels) - 1, 0, -1):
        below, above = levels[n - 1], levels[n]
        share = np.where(kept[n], 1, found[0])
        sums = np.bincount(above.lower, weights=share, minlength=len(below)).astype(np.int64)
        found.insert(0, np.where(below.opens, below.count, sums + counts.extra[n - 1]))
    return found


def _estimate(counts: Counts, kept: Sequence[Mask]) -> _Estimate:
    levels = counts.levels
    adjusted = _adjusted(counts, kept)
    probability: list[Doubles] = []
    backoff: list[Doubles] = []
    for n, level in enumerate(levels):
        count = adjusted[n].copy()
        if n == 0:
            count[0] = 0  # <s> is never foretold
        taken = np.array([0.0, *counts.discounts[n]])[np.minimum(count, 3)]
        history = level.history
        histories = 1 if n == 0 else len(levels[n - 1])
        missed = counts.left_out[n]
        total = np.bincount(history, weights=count, minlength=histories) + missed
        freed = np.where(kept[n], taken, count)
        with np.errstate(invalid="ignore", divide="ignore"):
            loose = np.bincount(history, weights=freed, minlength=histories) + missed
            factor = loose / total
            own = (count - freed) / total[history]
        factor[total == 0] = 1.0
        own[total[history] == 0] = 0.0
        if n == 0:
            uniform = np.full(len(level), 1.0 / (len(level) - 1))
            uniform[0] = 0.0
            probability.append(own + factor[0] * uniform)
        else:
            backoff.append(factor)
            probability.append(own + factor[history] * probability[-1][level.lower])
    backoff.append(np.ones(len(levels[-1])))
    return _Estimate(probability, backoff)


def _losses(levels: Sequence[Level], estimate: _Estimate) -> list[Doubles]:
    """What dropping each n-gram alone would cost; histories are as probable as they were seen."""
    total = float(levels[0].count[1:].sum())
    losses = [np.full(len(levels[0]), np.inf)]
    for n in range(1, len(levels)):
        level = levels[n]
        p, low = estimate.probability[n], estimate.probability[n - 1][level.lower]
        losses.append(loss_of_dropping(p, low, level.history, levels[n - 1].count / total))
    return losses


def loss_of_dropping(p: Doubles, low: Doubles, history: Ints, seen: Doubles) -> Doubles:
    """(K,) how much relative entropy dropping each n-gram of an order alone would cost (Stolcke 1998, equation 7).

    ``p``: its probability, ``low`` the one it would have by backing off, ``history`` its history's number in
    ``seen`` (H,), how probable each history is.
    """
    size = len(seen)
    left = np.maximum(1.0 - np.bincount(history, weights=p, minlength=size), 1e-12)
    under = np.maximum(1.0 - np.bincount(history, weights=low, minlength=size), 1e-12)
    mass, rest = left[history], under[history]
    before = np.log(mass / rest)
    after = np.log((mass + p) / (rest + low))
    loss = p * (np.log(low) + after - np.log(p)) + mass * (after - before)
    return np.asarray(np.maximum(-seen[history] * loss, 0.0))  # it is none but by rounding


def _keep(histories: Sequence[Ints], losses: Sequence[Doubles], threshold: float) -> list[Mask]:
    """What stays above a threshold: n-grams that lose more, and the histories of those that stay."""
    kept = [losses[-1] >= threshold]
    for n in range(len(histories) - 2, -1, -1):
        needed = losses[n] >= threshold
        needed[histories[n + 1][kept[0]]] = True
        kept.insert(0, needed)
    return kept


def kept_within(
    histories: Sequence[Ints],
    losses: Sequence[Doubles],
    threshold: float,
    max_ngrams: Optional[int],
) -> list[Mask]:
    """By order, what stays: at the threshold, or at the smallest above it that leaves at most so many.

    ``histories``: of each order's n-grams, the numbers of their histories.
    """
    kept = _keep(histories, losses, threshold)
    if max_ngrams is None or _number(kept) <= max_ngrams:
        return kept
    low, high = threshold, 1.0
    while high / max(low, 1e-30) > 1.001:
        middle = math.sqrt(max(low, 1e-15) * high)
        if _number(_keep(histories, losses, middle)) > max_ngrams:
            low = middle
        else:
            high = middle
    return _keep(histories, losses, high)


def train(
    text: npt.NDArray[np.int32],
    vocabulary: Vocabulary,
    order: int,
    *,
    min_counts: Sequence[int] = (),
    prune: float = 0.0,
    max_ngrams: Optional[int] = None,
    stretch: int = STRETCH,
    scratch: Optional[Union[str, Path]] = None,
) -> NgramModel:
    """Estimate a model from encoded text (T,), which may be a mapped file.

    ``min_counts[i]``: n-grams of order i + 2 seen less often are left out (the last number goes for
    the orders after it, too). ``prune``: n-grams whose loss would raise the perplexity by less than
    this fraction are dropped. ``max_ngrams``: the smallest threshold is sought (from ``prune`` up)
    that leaves at most so many n-grams, unigrams included. ``stretch``: so many tokens are sorted at a
    time. ``scratch``: a folder for what is larger than memory, see `uyir.decode.lm_count`; None does all
    in memory. Raises `DataError` for an empty corpus and for limits that cannot be kept.
    """
    size = len(vocabulary)
    if max_ngrams is not None and max_ngrams < size:
        raise DataError(f"at most {max_ngrams} n-grams: the vocabulary alone has {size} unigrams")
    lowest = [1] * order
    for n in range(1, order):
        lowest[n] = max(lowest[n - 1], min_counts[min(n, len(min_counts)) - 1] if min_counts else 1)
    if scratch is None:
        counts = cut_off(count_ngrams(text, size, order, stretch), lowest, stretch)
    else:
        with tempfile.TemporaryDirectory(dir=scratch, prefix="uyir-lm-") as folder:
            counted = count_ngrams(text, size, order, stretch, Path(folder))
            counts = cut_off(counted, lowest, stretch, Path(folder))
            del counted
    kept = [np.ones(len(level), dtype=bool) for level in counts.levels]
    if prune > 0 or max_ngrams is not None:
        kept = _pruned(counts, kept, math.log1p(prune), max_ngrams)
    return _select(counts.levels, _estimate(counts, kept), kept, vocabulary.symbols)


def _pruned(
    counts: Counts, kept: list[Mask], threshold: float, max_ngrams: Optional[int]
) -> list[Mask]:
    losses = _losses(counts.levels, _estimate(counts, kept))
    return kept_within([level.history for level in counts.levels], losses, threshold, max_ngrams)


def _number(kept: Sequence[Mask]) -> int:
    return sum(int(mask.sum()) for mask in kept)


def _select(
    levels: Sequence[Level], estimate: _Estimate, kept: Sequence[Mask], symbols: Sequence[str]
) -> NgramModel:
    orders = []
    number: Ints = np.zeros(0, dtype=np.int64)
    for n, (level, mask) in enumerate(zip(levels, kept)):
        with np.errstate(divide="ignore"):
            logp = np.log(estimate.probability[n][mask])
        logb = np.log(estimate.backoff[n][mask])
        history = np.full(len(logp), -1) if n == 0 else number[level.history[mask]]
        orders.append(Order(history.astype(np.int64), level.word[mask], logp, logb))
        number = np.cumsum(mask) - 1
    return NgramModel(tuple(symbols), tuple(orders))
