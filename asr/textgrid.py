"""Praat's text grid, as `uyir align` and `uyir transcribe` write it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def textgrid_text(tiers: Mapping[str, Sequence[tuple[float, float, str]]], end: float) -> str:
    """A text grid of interval tiers: name -> (begin, end, text), in seconds, which fill 0 to ``end``."""
    lines = [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        "xmin = 0",
        f"xmax = {end:.4f}",
        "tiers? <exists>",
        f"size = {len(tiers)}",
        "item []:",
    ]
    for number, (name, intervals) in enumerate(tiers.items(), start=1):
        lines += [
            f"    item [{number}]:",
            '        class = "IntervalTier"',
            f'        name = "{name}"',
            "        xmin = 0",
            f"        xmax = {end:.4f}",
            f"        intervals: size = {len(intervals)}",
        ]
        for place, (begin, after, text) in enumerate(intervals, start=1):
            quoted = text.replace('"', '""')
            lines += [
                f"        intervals [{place}]:",
                f"            xmin = {begin:.4f}",
                f"            xmax = {after:.4f}",
                f'            text = "{quoted}"',
            ]
    return "\n".join(lines) + "\n"
