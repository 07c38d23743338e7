"""Graphs in k2's form: label = token, 0 is blank; scores are negated costs; final arcs have -1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from uyir.decode.arcs import EPSILON, Arcs, Array, Floats, ranges
from uyir.errors import GraphError


def fsa(arcs: Arcs, strings: Sequence[tuple[int, ...]], num_words: int) -> Any:
    """A ``k2.Fsa`` of an epsilon-free HLG; olabels from ``num_words`` up stand for strings of words."""
    import k2
    import torch

    source, target, label, olabel, score = k2_arrays(arcs)
    table = np.stack(
        [source, target, label, score.view(np.int32)], axis=1, dtype=np.int32, casting="unsafe"
    )
    if not strings:
        return k2.Fsa(torch.from_numpy(table), torch.from_numpy(olabel.astype(np.int32)))
    words = _ragged_words(label, olabel, strings, num_words)
    return k2.Fsa(torch.from_numpy(table), words)


def _ragged_words(
    label: Array, olabel: Array, strings: Sequence[tuple[int, ...]], num_words: int
) -> Any:
    """The words of each arc as a `k2.RaggedTensor` [arc][word], -1 last on final arcs."""
    import k2
    import torch

    lengths = np.array([1, *map(len, strings)], dtype=np.int64)
    starts = np.cumsum(lengths) - lengths
    pool = np.array([0, *(word for string in strings for word in string)], dtype=np.int64)
    string = np.maximum(olabel - num_words + 1, 0)
    count = np.where(olabel > 0, lengths[string], 0)
    closing = (label == -1).astype(np.int64)
    places, owner = ranges(starts[string], starts[string] + count)
    plain = np.where(string[owner] > 0, pool[places], olabel[owner])
    splits = np.concatenate([[0], np.cumsum(count + closing)])
    values = np.full(int(splits[-1]), -1, dtype=np.int32)
    first, _ = ranges(splits[:-1], splits[:-1] + count)
    values[first] = plain
    shape = k2.ragged.create_ragged_shape2(
        torch.from_numpy(splits.astype(np.int32)), None, len(values)
    )
    return k2.RaggedTensor(shape, torch.from_numpy(values))


def k2_arrays(arcs: Arcs) -> tuple[Array, Array, Array, Array, Floats]:
    """Source, target, label, olabel, score of an epsilon-free HLG with k2's final arcs."""
    offsets = arcs.offsets
    into_end = arcs.ilabel == EPSILON
    if (offsets[arcs.target[into_end] + 1] > offsets[arcs.target[into_end]]).any():
        raise GraphError("the graph still has input epsilons, which k2 has no label for")
    # The start becomes state 0; the new last state is k2's final one.
    number = np.arange(arcs.num_states, dtype=np.int64)
    number[[0, arcs.start]] = number[[arcs.start, 0]]
    last = arcs.num_states
    ending = np.flatnonzero(np.isfinite(arcs.final))
    end_cost = np.where(into_end, arcs.final[arcs.target], 0.0).astype(np.float32)
    source = np.concatenate([number[arcs.source], number[ending]])
    target = np.concatenate(
        [np.where(into_end, last, number[arcs.target]), np.full(len(ending), last)]
    )
    label = np.concatenate([np.where(into_end, -1, arcs.ilabel - 1), np.full(len(ending), -1)])
    olabel = np.concatenate([arcs.olabel, np.full(len(ending), -1)])
    score = -np.concatenate([arcs.weight + end_cost, arcs.final[ending]])
    order = np.argsort(source, kind="stable")
    return (
        source[order],
        target[order],
        label[order],
        olabel[order],
        np.ascontiguousarray(score[order], dtype=np.float32),
    )
