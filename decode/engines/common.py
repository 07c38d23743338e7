"""What every engine does with a batch before it searches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

import numpy as np

from uyir.decode.hypothesis import FloatArray
from uyir.errors import EngineError


def as_batch(log_probs: Any, lengths: Any, tokens: int) -> list[FloatArray]:
    """The utterances of log_probs (N, T, C) as float32 arrays, each (length, C).

    Raises `EngineError` where shapes do not fit each other or the graph's number of tokens C.
    """
    values = _as_array(log_probs)
    counts = check_batch(values.shape, lengths, tokens)
    return [
        np.ascontiguousarray(row[:count], dtype=np.float32) for row, count in zip(values, counts)
    ]


def check_batch(shape: Sequence[int], lengths: Any, tokens: int) -> list[int]:
    """The lengths of log_probs of a shape; raises `EngineError` as `as_batch` does."""
    if len(shape) != 3:
        raise EngineError(f"log_probs have shape {tuple(shape)}, want (N, T, C)")
    counts = _as_array(lengths)
    if counts.shape != (shape[0],):
        raise EngineError(
            f"lengths have shape {tuple(counts.shape)}, want ({shape[0]},) for log_probs of "
            f"shape {tuple(shape)}"
        )
    if shape[2] != tokens:
        raise EngineError(f"log_probs have {shape[2]} tokens, the graph has {tokens}")
    for count in counts:
        if not 0 <= count <= shape[1]:
            raise EngineError(f"a length of {count} does not lie in 0…{shape[1]} frames")
    return [int(count) for count in counts]


def usable(log_probs: FloatArray) -> Optional[str]:
    """Why an utterance (T, C) cannot be searched, or None if it can; -inf is a legal log_prob."""
    bad = np.isnan(log_probs) | np.isposinf(log_probs)
    if not bad.any():
        return None
    frame = int(np.flatnonzero(bad.any(axis=1))[0])
    kind = "NaN" if np.isnan(log_probs).any() else "+inf"
    return f"log_probs hold {kind}, first at frame {frame} of {len(log_probs)}"


def _as_array(values: Any) -> Any:
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        if str(values.dtype) in ("torch.bfloat16", "torch.float16"):
            values = values.float()
        return values.numpy()
    return np.asarray(values)
