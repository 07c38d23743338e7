"""What `uyir transcribe` costs besides the GPU: a run whose network and search take no time, on any machine.

    python benchmarks/transcribe_overhead.py [--hours 2] [--copies 8] [--workers 16] [--formats txt] [--language ta]
        [--work FOLDER]

The archive of `gpu_transcribe.py` (its files linked ``--copies`` times) goes through the command's own pipeline as on
a GPU: readers, stacking, words, writers, journal. In place of network and search stands one utterance of 12 s,
recognised once beforehand. Said are files a second, and the processor time a file of this process
(which no more cores make faster) and of its children (which share out among cores).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np
import soundfile
import torch
from gpu_transcribe import make_archive

import uyir
from uyir.decode import transcribe
from uyir.decode.archive import Wishes, run_archive
from uyir.decode.hypothesis import Hypothesis
from uyir.decode.inputs import find_inputs
from uyir.decode.pauses import Samples
from uyir.decode.report import Report
from uyir.decode.transcribe import Recogniser, Stacked, load

RATE = 16000


@dataclass(frozen=True)
class Raw:
    """What a search on a GPU gives of an utterance, as far as its size goes: log_probs (T, C)."""

    language: str
    log_probs: Any


class Instant:
    """An engine that finds the same in everything."""

    name = "instant"

    def __init__(self, language: str, log_probs: Any, hypotheses: list[Hypothesis]) -> None:
        self.language = language
        self.log_probs = log_probs
        self.found = hypotheses

    def find(self, log_probs: Any, lengths: Any) -> list[Raw]:
        return [Raw(self.language, self.log_probs.copy()) for _ in range(len(lengths))]

    def hypotheses(self, raw: Raw, most: Optional[int]) -> list[Hypothesis]:
        return self.found

    def close(self) -> None:
        """Nothing is held."""


class Pretending(Recogniser):
    """As on a GPU, but that its network gives nothing and its search finds the same in everything."""

    pretending = False

    @property
    def _on_cpu(self) -> bool:
        return not self.pretending

    def bearable(self, waves: Any, language: str) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.pretending:
            return super().bearable(waves, language)
        return torch.zeros(len(waves), 1, 1), torch.zeros(len(waves), dtype=torch.long)


def pretend(recogniser: Recogniser, languages: tuple[str, ...], workers: int) -> None:
    """Make a recogniser pretend, after it has heard 12 s of the demo once."""
    files = sorted((Path(uyir.__file__).parent / "demo" / languages[0]).glob("*.flac"))
    wave = np.concatenate([soundfile.read(path, dtype="float32")[0] for path in files])[: 12 * RATE]
    recogniser.__class__ = Pretending
    for language in languages:
        spoken = recogniser.language(language)
        log_probs, lengths = recogniser.log_probs([wave], language)
        found = spoken.engine.decode(log_probs, lengths)[0]
        spoken.engine = Instant(language, log_probs[0].numpy().copy(), found)  # type: ignore[assignment]
    recogniser.pretending = True  # type: ignore[attr-defined]
    recogniser.devices, recogniser.workers = ("cuda",), workers
    stack = transcribe.stack

    def unpinned(waves: Sequence[Samples], *, pinned: bool) -> Stacked:
        return stack(waves, pinned=False)

    transcribe.stack = unpinned


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--copies", type=int, default=8)
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--formats", default="txt")
    parser.add_argument("--language", default="ta")
    parser.add_argument("--work", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = arguments.work or Path(tempfile.mkdtemp())
    archive = folder / "in"
    if not archive.is_dir():
        make_archive(archive / "0", arguments.hours, "ta")
        for copy in range(1, arguments.copies):
            shutil.copytree(archive / "0", archive / str(copy), copy_function=os.link)
    recogniser = load()
    auto = arguments.language == "auto"
    pretend(recogniser, recogniser.languages if auto else (arguments.language,), arguments.workers)
    out = folder / f"out-{time.monotonic_ns()}"
    before = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    begin = time.perf_counter()
    inputs, _ = find_inputs([str(archive)])
    report = Report(len(inputs), 0.0, folder / "log.jsonl")
    wishes = Wishes(language=arguments.language, formats=tuple(arguments.formats.split(",")))
    run_archive(recogniser, inputs, out, wishes, report, lambda pipeline: None)
    wall = time.perf_counter() - begin
    after = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    assert report.done == len(inputs), report.failures[:3]
    rows: dict[str, Any] = {"files": len(inputs), "hours": round(report.audio / 3600, 2)}
    rows["files_a_second"] = round(len(inputs) / wall, 1)
    for name, a, b in zip(("this_process", "children"), before, after):
        for kind in ("ru_utime", "ru_stime"):
            spent = getattr(b, kind) - getattr(a, kind)
            rows[f"{name}_{kind[3:]}_ms_a_file"] = round(1000 * spent / len(inputs), 3)
    print(json.dumps(rows))
    report.close()


if __name__ == "__main__":
    main()
