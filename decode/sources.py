"""Where samples come from: a file, a part of one, a command's output, or an array."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
import numpy.typing as npt

from uyir.asr.audio import (
    SAMPLE_RATE,
    Samples,
    check_is_file,
    duration_of,
    stream_audio,
    stream_pipe,
)
from uyir.decode.inputs import Input, content_hash
from uyir.errors import AudioError

Audio = Union[str, Path, npt.NDArray[Any]]

#: A file above which a command's output is not read (bytes).
_MOST_OUTPUT = 1 << 34
_BLOCK = 30 * SAMPLE_RATE


@dataclass(frozen=True)
class Source:
    """One recording: its name for people, and how to get at its samples. ``planned``: about how long it is
    (s), where that has been looked up."""

    name: str
    entry: Optional[Input] = None
    array: Any = None
    language: Optional[str] = None
    planned: Optional[float] = None

    @property
    def start(self) -> float:
        """Where in its file it begins (s)."""
        return 0.0 if self.entry is None else self.entry.start

    @property
    def id(self) -> Optional[str]:
        return None if self.entry is None else self.entry.id

    def duration(self) -> float:
        """About how long it is (s), for planning; 0 where that cannot be known without reading it."""
        if self.planned is not None:
            return self.planned
        if self.entry is None:
            size = np.shape(self.array)
            return float(size[0]) / SAMPLE_RATE if size else 0.0
        if self.entry.duration is not None:
            return self.entry.duration
        if self.entry.command is not None:
            return 0.0
        return max(0.0, duration_of(self.entry.path) - self.entry.start)

    def hash(self) -> str:
        """What it is made from: the SHA-256 of the file's bytes (or the command), and which part of it.

        Raises `AudioError` where the file cannot be read.
        """
        entry = self.entry
        if entry is None:
            return "-"
        if entry.command is not None:
            digest = hashlib.sha256(entry.command.encode()).hexdigest()
        else:
            check_is_file(entry.path)
            try:
                digest = content_hash(entry.path)
            except OSError as error:
                raise AudioError(f"{entry.path}: {error.strerror or error}") from None
        part = (entry.start, entry.duration, entry.channel)
        return digest if part == (0.0, None, None) else f"{digest} {part}"

    def blocks(self) -> Iterator[Samples]:
        """Its samples, mono at 16 kHz, in blocks. Raises `AudioError` where they cannot be had."""
        if self.entry is None:
            samples = checked(self.array, self.name)
            yield from (samples[i : i + _BLOCK] for i in range(0, len(samples), _BLOCK))
            return
        entry = self.entry
        if entry.command is not None:
            yield from _commanded(entry)
            return
        yield from stream_audio(
            entry.path, start=entry.start, duration=entry.duration, channel=entry.channel
        )


def sources_of(audio: Iterable[Union[Audio, Input]]) -> Iterator[Source]:
    """A source for each path, array or input."""
    for number, one in enumerate(audio):
        if isinstance(one, Input):
            yield Source(one.name, one, language=one.language)
        elif isinstance(one, (str, Path)):
            yield Source(str(one), Input(Path(one), Path(Path(one).name)))
        else:
            yield Source(f"array {number}", array=one)


def checked(array: Any, name: str) -> Samples:
    """An array as samples (S,) in ±1; raises `AudioError` where it is none."""
    samples = np.asarray(array)
    if samples.ndim != 1:
        raise AudioError(f"{name}: samples have shape {samples.shape}, want (S,): one channel")
    if samples.dtype.kind in "iu":
        raise AudioError(f"{name}: samples are {samples.dtype}, want floats in ±1")
    if not len(samples):
        raise AudioError(f"{name}: no samples in it")
    samples = samples.astype(np.float32)
    if not np.isfinite(samples).all():
        first = int(np.flatnonzero(~np.isfinite(samples))[0])
        raise AudioError(f"{name}: sample {first} is not a finite number")
    return samples


def _commanded(entry: Input) -> Iterator[Samples]:
    """Samples of what a shell command writes. Only called for entries that were let through."""
    name = str(entry.id)
    with tempfile.TemporaryFile() as heard, tempfile.TemporaryFile() as said:
        done = subprocess.run(  # the manifest's own command, run with --allow-commands alone
            ["/bin/sh", "-c", str(entry.command)],
            stdin=subprocess.DEVNULL,
            stdout=heard,
            stderr=said,
            check=False,
        )
        if done.returncode != 0:
            said.seek(max(0, said.seek(0, os.SEEK_END) - 500))
            reason = said.read().decode("utf-8", "replace").strip().splitlines()[-1:]
            raise AudioError(
                f"{name}: the command failed with exit code {done.returncode}"
                + "".join(f" ({line})" for line in reason)
            )
        if heard.seek(0, os.SEEK_END) > _MOST_OUTPUT:
            raise AudioError(f"{name}: the command wrote more than 16 GiB")
        heard.seek(0)
        yield from stream_pipe(
            name, heard, start=entry.start, duration=entry.duration, channel=entry.channel
        )
