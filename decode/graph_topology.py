"""The CTC topology H, put before a transducer from tokens to words."""

from __future__ import annotations

from typing import Union, cast

import numpy as np
import numpy.typing as npt

from uyir.decode.arcs import (
    BLANK_TOKEN,
    EPSILON,
    MAX_EPSILON_DEPTH,
    Arcs,
    Array,
    Ints,
    distinct,
    ranges,
)
from uyir.errors import GraphError


def ctc_topology(lexical: Arcs) -> Arcs:
    """H ∘ LG: from token sequences to the frame-wise sequences that collapse to them.

    Construction. The topology has to remember the last token only, so a state of the result is a
    state r of LG together with how it was entered:

    - B(r), by the start or a blank: loops on blank;
    - P(r, p), by token p: loops on p, goes to B(r) on a blank;
    - N(r, p), by an epsilon arc while p is the last token, or none after a blank: no loops, since
      repeats and blanks were taken before the epsilon. p is forgotten (none) where no arc of r, nor
      of what its epsilons lead to, has p again, so that back-off states are not multiplied.

    Every arc of r leaves each of them with a token other than p: equal neighbours need the blank.
    Weights and words stay on the arcs of LG, which are the ones that enter a token.
    """
    tokens = int(lexical.ilabel.max(initial=0))  # greatest ilabel: contexts are 0 (none) .. tokens
    if (lexical.ilabel == BLANK_TOKEN + 1).any():
        raise GraphError("a graph without CTC topology has arcs with the blank token")
    width = tokens + 1
    spoken = lexical.ilabel != EPSILON
    states = lexical.num_states

    again = _first_labels(lexical, width)
    eps = lexical.where(~spoken)
    loud = lexical.where(spoken)

    entered = distinct(loud.target * width + loud.ilabel)
    blanks = distinct(np.append(entered // width, lexical.start)) * width
    silent: Ints = np.empty(0, dtype=np.int64)
    front = np.concatenate([entered, blanks])
    for _ in range(MAX_EPSILON_DEPTH):
        arcs, owner = ranges(eps.offsets[front // width], eps.offsets[front // width + 1])
        target, last = eps.target[arcs], front[owner] % width
        front = distinct(target * width + np.where(_has(again, target, last), last, 0))
        if len(silent):
            place = np.minimum(np.searchsorted(silent, front), len(silent) - 1)
            front = front[silent[place] != front]
        if not len(front):
            break
        silent = np.sort(np.concatenate([silent, front]))
    else:
        raise GraphError(f"more than {MAX_EPSILON_DEPTH} input epsilons follow one another")

    # Nodes: (state, kind, last), in that order; kinds 0 B, 1 P, 2 N.
    size = 3 * width
    state_of = np.concatenate([blanks, entered, silent]) // width
    kind_of = np.repeat(
        np.array([0, 1, 2], dtype=np.int64), [len(blanks), len(entered), len(silent)]
    )
    last_of = np.concatenate([blanks, entered, silent]) % width
    code = state_of * size + kind_of * width + last_of
    order = np.argsort(code, kind="stable")
    code, state_of, kind_of, last_of = code[order], state_of[order], kind_of[order], last_of[order]

    def number(state: Array, kind: int, last: Union[Array, int]) -> Ints:
        return np.searchsorted(code, state * size + kind * width + last).astype(np.int64)

    nodes = np.arange(len(code), dtype=np.int64)
    looping = nodes[kind_of < 2]
    loop_label = np.where(kind_of[looping] == 0, BLANK_TOKEN + 1, last_of[looping])
    held = nodes[kind_of == 1]

    arcs, owner = ranges(loud.offsets[state_of], loud.offsets[state_of + 1])
    fits = loud.ilabel[arcs] != last_of[owner]
    arcs, owner = arcs[fits], owner[fits]
    loud_target = number(loud.target[arcs], 1, loud.ilabel[arcs])

    e_arcs, e_owner = ranges(eps.offsets[state_of], eps.offsets[state_of + 1])
    e_to, e_last = eps.target[e_arcs], last_of[e_owner]
    e_target = number(e_to, 2, np.where(_has(again, e_to, e_last), e_last, 0))

    zeros = np.zeros(len(looping) + len(held), dtype=np.int64)
    built = Arcs.build(
        np.concatenate([looping, held, owner, e_owner]),
        np.concatenate([looping, number(state_of[held], 0, 0), loud_target, e_target]),
        np.concatenate(
            [
                loop_label,
                np.full(len(held), BLANK_TOKEN + 1),
                loud.ilabel[arcs],
                np.zeros(len(e_arcs), dtype=np.int64),
            ]
        ),
        np.concatenate([zeros, loud.olabel[arcs], eps.olabel[e_arcs]]),
        np.concatenate([zeros.astype(np.float32), loud.weight[arcs], eps.weight[e_arcs]]),
        int(number(np.array([lexical.start]), 0, 0)[0]),
        lexical.final[state_of],
    )
    if states and built.num_states < 1:
        raise GraphError("the CTC topology of this graph is empty")
    return built


def _first_labels(arcs: Arcs, width: int) -> npt.NDArray[np.uint64]:
    """(S, ceil(width / 64)) bit sets: the labels on arcs of a state and of what its epsilons reach."""
    words = (width + 63) // 64
    first = np.zeros((arcs.num_states, words), dtype=np.uint64)
    spoken = arcs.ilabel != EPSILON
    source, label = arcs.source[spoken], arcs.ilabel[spoken]
    bit = np.uint64(1) << (label % 64).astype(np.uint64)
    np.bitwise_or.at(first, (source, label // 64), bit)
    e_source, e_target = arcs.source[~spoken], arcs.target[~spoken]
    for _ in range(MAX_EPSILON_DEPTH):
        before = first[e_source].copy()
        np.bitwise_or.at(first, e_source, first[e_target])
        if (first[e_source] == before).all():
            return first
    raise GraphError(f"more than {MAX_EPSILON_DEPTH} input epsilons follow one another")


def _has(first: npt.NDArray[np.uint64], state: Ints, label: Ints) -> npt.NDArray[np.bool_]:
    bits = first[state, label // 64] >> (label % 64).astype(np.uint64)
    return cast("npt.NDArray[np.bool_]", (bits & np.uint64(1)).astype(bool))
