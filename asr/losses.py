"""What training minimises, summed over the utterances of a batch, and what it is judged by."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from uyir.asr.data import Batch


def ctc_loss(log_probs: torch.Tensor, lengths: torch.Tensor, batch: Batch) -> torch.Tensor:
    """CTC loss: the negative log likelihoods of the batch's targets, summed."""
    return torch.nn.functional.ctc_loss(
        log_probs.transpose(0, 1),
        batch.targets,
        lengths,
        batch.target_lengths,
        reduction="sum",
        zero_infinity=True,
    )


def uniform_loss(log_probs: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Label smoothing for CTC (Kim et al. 2018): how far the frames' distributions, ``(N, T, C)``, are
    from uniform, as Kullback-Leibler divergence summed over frames."""
    inside = torch.arange(log_probs.shape[1], device=log_probs.device) < lengths[:, None]
    classes = log_probs.shape[2]
    divergence = -log_probs.mean(dim=2) - math.log(classes)
    return (divergence * inside).sum()


def edit_distance(wanted: Sequence[int], found: Sequence[int]) -> int:
    """Levenshtein distance of two token lists."""
    if not found or not wanted:
        return max(len(wanted), len(found))
    steps = np.arange(len(found) + 1)
    target = np.asarray(found)
    row = steps.copy()
    for number, token in enumerate(wanted, start=1):
        best = np.empty_like(row)
        best[0] = number
        best[1:] = np.minimum(row[1:] + 1, row[:-1] + (target != token))
        row = np.minimum.accumulate(best - steps) + steps
    return int(row[-1])
