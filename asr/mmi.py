"""Lattice-free MMI (Povey et al. 2016; Hadian et al. 2018, from scratch): the loss ``log sum over what could
have been said - log sum over what was said``.

What could have been said is any phone sequence, weighted by a phone n-gram of the training transcripts
(`PhoneLm`), one a language; both sums run over the CTC topology, in which equal neighbours have a blank
between them. The graphs are arrays of arcs; k2, which sums them, is imported by `Mmi` alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from uyir.errors import ModelError

#: Taken from every count and given to what was not seen.
DISCOUNT = 0.7
#: Paths so much worse than the best, in natural logarithms, are left out of the sums.
BEAM = 12.0
END = 0  # where the blank would stand in a table of tokens


class PhoneLm:
    """An n-gram over tokens 1 to `tokens` - 1 and the end of an utterance, which every sequence has a
    probability in: absolute discounting, interpolated down to counts plus one.

    A state is a history: the beginning, a token, or one of the `pairs` commonest pairs of tokens. There are no
    back-off arcs: ``log_prob[state, token]`` (column `END`: the end) and ``next[state, token]`` are whole.
    """

    def __init__(self, texts: Iterable[Sequence[int]], tokens: int, pairs: int = 0) -> None:
        self.tokens = tokens
        ones: Counter[int] = Counter()
        twos: dict[int, Counter[int]] = {token: Counter() for token in range(tokens)}
        threes: dict[tuple[int, int], Counter[int]] = {}
        for text in texts:
            before, last = -1, 0  # 0 is the beginning
            for token in (*text, END):
                ones[token] += 1
                twos[last][token] += 1
                if before > 0:
                    threes.setdefault((before, last), Counter())[token] += 1
                before, last = last, token
        common = sorted(threes, key=lambda pair: (-sum(threes[pair].values()), pair))[:pairs]
        self.histories: list[tuple[int, ...]] = [(token,) for token in range(tokens)]
        self.histories += common
        number = {history: row for row, history in enumerate(self.histories)}
        base = np.array([ones[token] + 1.0 for token in range(tokens)])
        base /= base.sum()
        prob = np.stack([_interpolated(twos[token], base) for token in range(tokens)])
        above = [_interpolated(threes[pair], prob[pair[1]]) for pair in common]
        self.log_prob: npt.NDArray[np.float64] = np.log(np.stack([*prob, *above]))
        self.next: npt.NDArray[np.int64] = np.array(
            [
                [number.get((history[-1], token), token) for token in range(tokens)]
                for history in self.histories
            ]
        )

    def score(self, text: Sequence[int]) -> float:
        """Log probability of a whole text."""
        return float(sum(self.scores(text)))

    def scores(self, text: Sequence[int]) -> list[float]:
        """Log probabilities of a text's tokens and of its end."""
        state, found = 0, []
        for token in (*text, END):
            found.append(float(self.log_prob[state, token]))
            state = int(self.next[state, token])
        return found


def _interpolated(counts: Counter[int], lower: npt.NDArray[np.float64]) -> Any:
    total = sum(counts.values())
    if not total:
        return lower
    found = lower * (DISCOUNT * len(counts) / total)
    for token, count in counts.items():
        found[token] += (count - DISCOUNT) / total
    return found


@dataclass(frozen=True)
class Arcs:
    """A graph: arcs ``(A,)`` in order of their source; state 0 begins, the last one ends, by arcs of
    label -1. Scores are natural logarithms."""

    source: npt.NDArray[np.int32]
    target: npt.NDArray[np.int32]
    label: npt.NDArray[np.int32]
    score: npt.NDArray[np.float32]

    @classmethod
    def of(cls, *columns: Any) -> Arcs:
        source, target, label, score = (
            np.concatenate([np.ravel(part) for part in column]) for column in columns
        )
        order = np.argsort(source, kind="stable")
        return cls(
            source[order].astype(np.int32),
            target[order].astype(np.int32),
            label[order].astype(np.int32),
            score[order].astype(np.float32),
        )


def denominator(lm: PhoneLm) -> Arcs:
    """All phone sequences under the n-gram, as CTC says them.

    Of each history there are two states: after a blank (even ones; 0 is the beginning) and in its last token.
    """
    states, tokens = len(lm.histories), lm.tokens
    last = np.array([history[-1] for history in lm.histories])
    blank, inside = 2 * np.arange(states), 2 * np.arange(states) + 1
    spoken = np.arange(1, states)  # the beginning is in no token
    said = np.broadcast_to(np.arange(1, tokens), (states, tokens - 1))
    entered = inside[lm.next[:, 1:]]
    scores = lm.log_prob[:, 1:]
    from_inside = (said != last[:, None]) & (np.arange(states) > 0)[:, None]
    source = np.broadcast_to(blank[:, None], said.shape)
    zeros = np.zeros(states)
    ends = np.full(states, 2 * states)
    return Arcs.of(
        [
            blank,
            inside[spoken],
            inside[spoken],
            source,
            source[from_inside] + 1,
            blank,
            inside[spoken],
        ],
        [blank, inside[spoken], blank[spoken], entered, entered[from_inside], ends, ends[spoken]],
        [zeros, last[spoken], zeros[spoken], said, said[from_inside], zeros - 1, zeros[spoken] - 1],
        [
            zeros,
            zeros[spoken],
            zeros[spoken],
            scores,
            scores[from_inside],
            lm.log_prob[:, END],
            lm.log_prob[spoken, END],
        ],
    )


def numerator(text: Sequence[int], scores: Sequence[float]) -> Arcs:
    """One text as CTC says it; `scores` are those of its tokens and its end."""
    size = len(text)
    said = np.asarray(text, dtype=np.int64)
    score = np.asarray(scores, dtype=np.float64)
    blank, inside = 2 * np.arange(size + 1), 2 * np.arange(1, size + 1) - 1
    zeros = np.zeros(size + 1)
    differs = said[1:] != said[:-1]
    end = 2 * size + 1
    last = [inside[-1]] if size else []
    return Arcs.of(
        [blank, inside, inside, blank[:-1], inside[:-1][differs], [2 * size], last],
        [blank, inside, blank[1:], inside, inside[1:][differs], [end], [end] * len(last)],
        [zeros, said, zeros[1:], said, said[1:][differs], [-1], [-1] * len(last)],
        [
            zeros,
            zeros[1:],
            zeros[1:],
            score[:-1],
            score[1:-1][differs],
            score[-1:],
            score[-1:][: len(last)],
        ],
    )


class Mmi:
    """The loss over batches; one `PhoneLm` a language, in the order of the model's languages."""

    def __init__(self, lms: Sequence[PhoneLm], device: torch.device, beam: float = BEAM) -> None:
        """Raises `ModelError` where k2 is not installed."""
        try:
            import k2
        except ImportError:
            raise ModelError(
                "lattice-free MMI (mmi_weight) wants k2, which is not installed: with Python 3.9 "
                "pip install 'uyir[k2]', with newer ones k2's own wheels for your torch"
            ) from None
        self._k2 = k2
        self.lms = list(lms)
        self.beam = beam
        graphs = [k2.arc_sort(self._fsa(denominator(lm))) for lm in self.lms]
        self._denominators = k2.create_fsa_vec(graphs).to(device)

    def loss(
        self,
        log_probs: torch.Tensor,
        lengths: torch.Tensor,
        language: torch.Tensor,
        targets: torch.Tensor,
        target_lengths: torch.Tensor,
    ) -> torch.Tensor:
        """``(N, T, C)``, ``(N,)`` frames, ``(N,)`` language rows, ``(N, U)``, ``(N,)`` tokens -> the loss summed
        over the utterances. One that is too short for its text counts as 0."""
        k2 = self._k2
        device = log_probs.device
        # k2 wants the longest first.
        order = torch.argsort(lengths.cpu(), descending=True)
        rows, there = order.tolist(), order.to(device)
        segments = torch.tensor([[n, 0, int(lengths[row])] for n, row in enumerate(rows)])
        dense = k2.DenseFsaVec(log_probs.float()[there], segments.to(torch.int32))
        spoken = []
        for row in rows:
            text = targets[row, : int(target_lengths[row])].tolist()
            scores = self.lms[int(language[row])].scores(text)
            spoken.append(k2.arc_sort(self._fsa(numerator(text, scores))))
        numerators = k2.create_fsa_vec(spoken).to(device)
        which = language[order.to(language.device)].to(device, torch.int32)
        possible = k2.index_fsa(self._denominators, which)
        said, all_of_it = (self._total(graphs, dense) for graphs in (numerators, possible))
        heard = torch.isfinite(said) & torch.isfinite(all_of_it)
        return (all_of_it[heard] - said[heard]).sum().to(log_probs.dtype)

    def _total(self, graphs: Any, dense: Any) -> torch.Tensor:
        lattices = self._k2.intersect_dense(graphs, dense, output_beam=self.beam)
        found: torch.Tensor = lattices.get_tot_scores(log_semiring=True, use_double_scores=True)
        return found

    def _fsa(self, arcs: Arcs) -> Any:
        columns = (arcs.source, arcs.target, arcs.label, arcs.score.view(np.int32))
        return self._k2.Fsa(torch.from_numpy(np.stack(columns, axis=1)))
