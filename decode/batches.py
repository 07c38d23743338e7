"""How recordings are grouped and their parts batched, so that little is computed on padding.

Both go by what there is to do alone, never by time or by which process is free: the same list gives the
same batches, in a run that was interrupted and resumed too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

#: Of a batch at most this share is padding.
PADDING = 0.05
#: Recordings are read in groups of about so much audio (s), from which batches are formed.
GROUP_S = 600.0
#: Where a GPU takes them some ten thousand times as fast as they were spoken.
GPU_GROUP_S = 4800.0


def groups_of(durations: Sequence[float], group_s: Optional[float] = None) -> list[list[int]]:
    """Indices of recordings in groups of at least ``group_s`` (by default `GROUP_S`) but the last, by
    durations (s)."""
    least = GROUP_S if group_s is None else group_s
    out: list[list[int]] = []
    held = least
    for i, duration in enumerate(durations):
        if held >= least:
            out.append([])
            held = 0.0
        out[-1].append(i)
        held += duration
    return out


def batches_of(lengths: Sequence[int], most: int, most_padded: int) -> list[list[int]]:
    """Indices in batches, the longest first, of at most `most` items and `PADDING`.

    ``most_padded``: no batch of several is longer than this with its padding (in the unit of lengths).
    """
    out: list[list[int]] = []
    batch: list[int] = []
    held = 0
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if batch:
            padded = (len(batch) + 1) * lengths[batch[0]]
            if (
                len(batch) == most
                or padded > most_padded
                or padded - held - lengths[i] > PADDING * padded
            ):
                out.append(batch)
                batch, held = [], 0
        batch.append(i)
        held += lengths[i]
    if batch:
        out.append(batch)
    return out
