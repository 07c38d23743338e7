"""Pruning a model that is already there: an interpolated one, or one from another program.

By relative entropy (Stolcke 1998): what dropping an n-gram alone would cost, weighted by how probable its
history is. That is counted in a text, since the lower orders of a Kneser-Ney model are no probabilities of
histories (Chelba et al. 2010). What stays keeps its probability; back-off weights are made anew, so that every
history sums to 1. A model that is trained from one text is better pruned while it is trained
(`uyir.decode.lm_train`), where the lower orders are estimated again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Optional

import numpy as np
import numpy.typing as npt

from uyir.decode.lm_mix import back_offs, last_scores
from uyir.decode.lm_model import NgramModel, Order
from uyir.decode.lm_text import BOS
from uyir.decode.lm_train import kept_within, loss_of_dropping
from uyir.errors import DataError

Ints = npt.NDArray[np.int64]


def history_counts(model: NgramModel, sentences: Iterable[Sequence[str]]) -> list[Ints]:
    """By order: how often each n-gram of a model stands in some sentences.

    Raises `DataError` for an empty text.
    """
    text = model.encode(sentences)
    if not len(text):
        raise DataError("an empty text: there are no histories to count in it")
    found = []
    place: Ints = np.where(text >= 0, text, -1).astype(np.int64)
    starts = text == model.symbols.index(BOS)
    for n in range(model.order):
        if n:
            before = np.concatenate([[-1], place[:-1]])
            before[starts] = -1
            place = model.find(n, before, np.maximum(text, 0))
            place[(text < 0) | starts] = -1
        found.append(np.bincount(place[place >= 0], minlength=len(model.orders[n])))
    return found


def prune(
    model: NgramModel,
    sentences: Iterable[Sequence[str]],
    *,
    threshold: float = 0.0,
    max_ngrams: Optional[int] = None,
) -> NgramModel:
    """The model without the n-grams that foretell least.

    ``sentences``: the text that histories are counted in. ``threshold``: n-grams whose loss (natural
    logarithm, a token) is below it are dropped; ``max_ngrams``: the smallest threshold from there up is sought
    that leaves at most so many n-grams, unigrams included. Raises `DataError` for an empty text and for less
    room than the unigrams take.
    """
    if max_ngrams is not None and max_ngrams < len(model.symbols):
        raise DataError(
            f"at most {max_ngrams} n-grams: the vocabulary alone has {len(model.symbols)} unigrams"
        )
    counts = history_counts(model, sentences)
    total = float(counts[0].sum())
    losses = [np.full(len(model.orders[0]), np.inf)]
    for n in range(1, model.order):
        order = model.orders[n]
        losses.append(
            loss_of_dropping(
                np.exp(order.logp),
                np.exp(last_scores(model, model.ngrams(n)[:, 1:])),
                order.history,
                counts[n - 1] / total,
            )
        )
    histories = [order.history for order in model.orders]
    return _reduced(model, kept_within(histories, losses, threshold, max_ngrams))


def _reduced(model: NgramModel, kept: Sequence[npt.NDArray[np.bool_]]) -> NgramModel:
    """The model with some of its n-grams, and back-off weights that make it sum to 1 again."""
    first = model.orders[0]
    orders = [Order(first.history, first.word, first.logp, np.zeros(len(first)))]
    number = np.arange(len(first))
    for n in range(1, model.order):
        order, mask = model.orders[n], kept[n]
        history = number[order.history[mask]]
        grams = model.ngrams(n)[mask]
        shorter = last_scores(NgramModel(model.symbols, tuple(orders)), grams[:, 1:])
        last = orders[-1]
        logb = back_offs(history, order.logp[mask], shorter, len(last))
        orders[-1] = Order(last.history, last.word, last.logp, logb)
        orders.append(Order(history, order.word[mask], order.logp[mask], np.zeros(int(mask.sum()))))
        number = np.cumsum(mask) - 1
    return NgramModel(model.symbols, tuple(orders))
