"""A time-delay network: dilated convolutions over frames, the heir of the classical hybrid DNN.

It sees a fixed stretch of the recording around each frame, needs no attention, and costs the same a
frame however long the recording is.
"""

from __future__ import annotations

import torch
from torch import nn


class TdnnLayer(nn.Module):
    """A convolution over ``kernel`` frames, `dilation` apart, with a residual: ``(N, T, D)`` -> same."""

    def __init__(self, dim: int, ffn_dim: int, kernel: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.narrow = nn.Linear(dim, ffn_dim)
        self.conv = nn.Conv1d(
            ffn_dim, dim, kernel, padding=dilation * (kernel // 2), dilation=dilation
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        """`inside` ``(N, T)`` is true in an utterance; what is outside counts as silence."""
        y = torch.relu(self.narrow(self.norm(x))) * inside[..., None]
        y = self.conv(y.transpose(1, 2).contiguous()).transpose(1, 2)
        return x + self.dropout(torch.relu(y))  # type: ignore[no-any-return]


class Tdnn(nn.Module):
    """`TdnnLayer`s whose frames lie ever further apart: 1, 1, then 3 frames."""

    def __init__(self, dim: int, ffn_dim: int, layers: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TdnnLayer(dim, ffn_dim, kernel, 1 if number < 2 else 3, dropout)
            for number in range(layers)
        )
        self.norm = nn.LayerNorm(dim)
