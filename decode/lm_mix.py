"""Interpolating language models: one back-off model that is a weighted mean of several.

The mixture has every n-gram that any of the models has, with probability Σ λ_i p_i(w | h), and
back-off weights that make every history sum to 1. Weights are tuned on held-out text by expectation
maximisation, which climbs to the one maximum that the likelihood has.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from uyir.decode.lm_model import NgramModel, Order
from uyir.decode.lm_text import BOS, EOS, UNK
from uyir.errors import DataError

Ints = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]

_ROUNDS, _ENOUGH = 200, 1e-6
_BLOCK, _TINY = 1 << 20, 1e-12


def tune_weights(
    models: Sequence[NgramModel], sentences: Iterable[Sequence[str]]
) -> tuple[float, ...]:
    """The weights, which sum to 1, that make held-out sentences most probable.

    Places where no model gives a probability (unknown pieces) are left out. Raises `DataError` for an
    empty text.
    """
    held = [sentence for sentence in sentences if sentence]
    if not held:
        raise DataError("an empty held-out text: there is nothing to tune weights on")
    columns = []
    for model in models:
        text = model.encode(held)
        p = np.exp(model.score(text))
        p[(text < 0) | (text == model.symbols.index(UNK) if UNK in model.symbols else False)] = 0.0
        columns.append(p[text != model.symbols.index(BOS)])
    p = np.stack(columns)  # (models, places)
    p = p[:, p.sum(axis=0) > 0]
    weights = np.full(len(models), 1.0 / len(models))
    for _ in range(_ROUNDS):
        share = weights[:, None] * p
        new = (share / share.sum(axis=0)).mean(axis=1)
        done = np.abs(new - weights).max() < _ENOUGH
        weights = new
        if done:
            break
    return tuple(float(w) for w in weights / weights.sum())


def mix(models: Sequence[NgramModel], weights: Sequence[float]) -> NgramModel:
    """The mixture of some models as one model.

    A symbol that a model does not know has probability 0 in it. Raises `DataError` if the weights are no
    distribution over the models.
    """
    if len(weights) != len(models) or not models:
        raise DataError(f"{len(models)} models and {len(weights)} weights")
    if min(weights) < 0 or abs(sum(weights) - 1) > 1e-6:
        raise DataError(f"weights {', '.join(map(str, weights))} are not shares of 1")
    symbols = list(dict.fromkeys([BOS, EOS, UNK, *(s for m in models for s in m.symbols)]))
    if not any(UNK in model.symbols for model in models):
        symbols.remove(UNK)
    size = len(symbols)
    number = {symbol: i for i, symbol in enumerate(symbols)}
    to_mixture = [np.array([number[s] for s in m.symbols], dtype=np.int64) for m in models]
    grams = np.arange(size, dtype=np.int64)[:, None]
    logp = _mean(models, to_mixture, grams, weights)
    orders = [Order(np.full(size, -1, dtype=np.int64), grams[:, 0], logp, np.zeros(size))]
    # By model: the numbers in the mixture of its n-grams of the order at hand.
    numbers = to_mixture
    for n in range(1, max(model.order for model in models)):
        keys = [
            numbers[i][model.orders[n].history] * size + to_mixture[i][model.orders[n].word]
            for i, model in enumerate(models)
            if model.order > n
        ]
        union = np.unique(np.concatenate(keys))
        history, word = union // size, union % size
        grams = np.concatenate([grams[history], word[:, None]], axis=1)
        logp = _mean(models, to_mixture, grams, weights)
        shorter = last_scores(NgramModel(tuple(symbols), tuple(orders)), grams[:, 1:])
        last = orders[-1]
        logb = back_offs(history, logp, shorter, len(last))
        orders[-1] = Order(last.history, last.word, last.logp, logb)
        orders.append(Order(history, word, logp, np.zeros(len(union))))
        spread = iter(keys)
        numbers = [
            np.searchsorted(union, next(spread)) if model.order > n else np.empty(0, dtype=np.int64)
            for model in models
        ]
    return NgramModel(tuple(symbols), tuple(orders))


def _mean(
    models: Sequence[NgramModel],
    to_mixture: Sequence[Ints],
    grams: Ints,
    weights: Sequence[float],
) -> Doubles:
    """The mixture's log probability of the last of each row of words (K, n), given those before it."""
    total = np.zeros(len(grams))
    for model, table, weight in zip(models, to_mixture, weights):
        own = np.full(int(grams.max(initial=0)) + 1, -1, dtype=np.int64)
        known = table < len(own)
        own[table[known]] = np.flatnonzero(known)
        if weight:
            total += weight * np.exp(last_scores(model, own[grams]))
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(total))


def last_scores(model: NgramModel, grams: Ints) -> Doubles:
    """(K,) log probabilities of the last of each row of words (K, n), -1 for unknown ones."""
    length = grams.shape[1] + 1
    out = []
    # A word that nobody knows divides the rows, so that none sees the one before it.
    for begin in range(0, len(grams), _BLOCK):
        block = grams[begin : begin + _BLOCK]
        text = np.full((len(block), length), -1, dtype=np.int32)
        text[:, 1:] = block
        score = model.score(text.reshape(-1)).reshape(-1, length)[:, -1]
        bos = block[:, -1] == model.symbols.index(BOS)
        out.append(np.where(bos, -np.inf, score))
    return np.concatenate([np.empty(0), *out])


def back_offs(history: Ints, logp: Doubles, shorter: Doubles, histories: int) -> Doubles:
    """Back-off weights that make each history's probabilities sum to 1."""
    left = 1.0 - np.bincount(history, weights=np.exp(logp), minlength=histories)
    under = 1.0 - np.bincount(history, weights=np.exp(shorter), minlength=histories)
    logb = np.log(np.maximum(left, _TINY) / np.maximum(under, _TINY))
    logb[np.bincount(history, minlength=histories) == 0] = 0.0
    return np.asarray(logb)
