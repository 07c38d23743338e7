"""Audio: any recording that libsndfile reads becomes mono float32 at 16 kHz, or a clear error.

Reading goes by blocks through a streaming resampler, so an hour of 48 kHz stereo needs little more
memory than its 16 kHz mono result (230 MB).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Union

import numpy as np
import numpy.typing as npt

from uyir.errors import AudioError

SAMPLE_RATE = 16000

Samples = npt.NDArray[np.float32]

_BLOCK_FRAMES = 1 << 17
_RATES = (1000, 768000)
_MAX_CHANNELS = 64
# libsndfile reports this where the container does not say how long it is (a streamed FLAC, say).
_UNKNOWN_FRAMES = 1 << 40
# Containers that state their exact length; an MP3's is an estimate, an Ogg's is that of its last page.
_EXACT_FORMATS = frozenset({"WAV", "WAVEX", "FLAC", "AIFF", "RF64", "W64", "AU", "CAF", "NIST"})


def read_audio(path: Union[str, Path]) -> tuple[Samples, int]:
    """Read a recording as mono float32 samples ``(T,)`` in ±1, and their rate, always 16000.

    Channels are averaged; other rates are resampled (soxr, high quality). Raises `AudioError`
    naming the file where it is missing, a folder, empty, not audio, cut short (fewer samples than
    its header promises), without samples, or holds NaN or infinite samples.
    """
    import soundfile

    path = Path(path)
    _check_is_file(path)
    _check_riff_length(path)
    try:
        with soundfile.SoundFile(str(path)) as file:
            _check_header(path, file.samplerate, file.channels)
            return _read(path, file), SAMPLE_RATE
    except soundfile.SoundFileError as error:
        raise AudioError(f"{path}: not a recording that can be read ({_reason(error)})") from None
    except OSError as error:
        raise AudioError(f"{path}: {error.strerror or error}") from None


def _check_is_file(path: Path) -> None:
    try:
        if path.is_dir():
            raise AudioError(f"{path}: a folder, want a recording")
        if not path.exists():
            raise AudioError(f"{path}: no such file")
        if not path.is_file():
            raise AudioError(f"{path}: not a regular file")
        if path.stat().st_size == 0:
            raise AudioError(f"{path}: the file is empty")
    except OSError as error:
        raise AudioError(f"{path}: {error.strerror or error}") from None
    if not os.access(path, os.R_OK):
        raise AudioError(f"{path}: no permission to read it")


def _check_riff_length(path: Path) -> None:
    """libsndfile silently shortens a WAV whose data chunk claims more bytes than there are."""
    try:
        with path.open("rb") as file:
            if file.read(4) != b"RIFF":
                return
            size = path.stat().st_size
            file.seek(12)
            while True:
                head = file.read(8)
                if len(head) < 8:
                    return
                length = int.from_bytes(head[4:], "little")
                if head[:4] == b"data":
                    there = size - file.tell()
                    # One byte of slack: some writers count the pad byte of an odd-sized chunk.
                    if length > there + 1:
                        raise AudioError(
                            f"{path}: cut short or a broken header: it promises {length} bytes "
                            f"of samples and holds {there}"
                        )
                    return
                file.seek(length + length % 2, 1)
    except OSError as error:
        raise AudioError(f"{path}: {error.strerror or error}") from None


def _check_header(path: Path, rate: int, channels: int) -> None:
    if not _RATES[0] <= rate <= _RATES[1]:
        raise AudioError(
            f"{path}: absurd sample rate of {rate} Hz, want {_RATES[0]} to {_RATES[1]}"
        )
    if not 1 <= channels <= _MAX_CHANNELS:
        raise AudioError(
            f"{path}: absurd number of channels, {channels}, want 1 to {_MAX_CHANNELS}"
        )


def _reason(error: Exception) -> str:
    return str(getattr(error, "error_string", "") or error).strip().rstrip(".")


def _read(path: Path, file: Any) -> Samples:
    promised = int(file.frames)
    counts = [0]
    parts = list(_resampled(_mono_blocks(path, file, counts), int(file.samplerate)))
    if file.format in _EXACT_FORMATS and promised < _UNKNOWN_FRAMES and counts[0] != promised:
        raise AudioError(
            f"{path}: cut short: it promises {promised} samples a channel and holds {counts[0]}"
        )
    if counts[0] == 0:
        raise AudioError(f"{path}: no samples in it")
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _mono_blocks(path: Path, file: Any, counts: list[int]) -> Iterator[Samples]:
    while True:
        block = file.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)
        if not len(block):
            return
        if not np.isfinite(block).all():
            first = counts[0] + int(np.argwhere(~np.isfinite(block))[0][0])
            raise AudioError(f"{path}: sample {first} is not a finite number")
        counts[0] += len(block)
        mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)
        yield np.ascontiguousarray(mono, dtype=np.float32)


def _resampled(blocks: Iterator[Samples], rate: int) -> Iterator[Samples]:
    if rate == SAMPLE_RATE:
        yield from blocks
        return
    import soxr

    stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.zeros(0, dtype=np.float32), last=True)
