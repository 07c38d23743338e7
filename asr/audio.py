"""Audio: any recording that libsndfile reads becomes mono float32 at 16 kHz, or a clear error.

What libsndfile does not know (m4a, video) goes through ffmpeg or torchcodec, where one is present
(`uyir.asr.media`). Reading goes by blocks through a streaming resampler: `stream_audio` holds a few
seconds at a time, however long the recording is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal, Optional, Union

import numpy as np
import numpy.typing as npt

from uyir.errors import AudioError

SAMPLE_RATE = 16000

Samples = npt.NDArray[np.float32]

#: Endings of what libsndfile reads; folders are searched for these.
AUDIO_SUFFIXES = frozenset(
    [
        *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".aifc", ".au"),
        *(".caf", ".w64", ".rf64", ".sph"),
    ]
)

_BLOCK_FRAMES = 1 << 17
_RATES = (1000, 768000)
_MAX_CHANNELS = 64
# libsndfile reports this where the container does not say how long it is (a streamed FLAC, say).
_UNKNOWN_FRAMES = 1 << 40
# Containers that state their exact length; an MP3's is an estimate, an Ogg's is that of its last page.
_EXACT_FORMATS = frozenset({"WAV", "WAVEX", "FLAC", "AIFF", "RF64", "W64", "AU", "CAF", "NIST"})
# A part of a recording may end so much (s) after the recording does: tables round.
_SLACK_S = 0.5


def read_audio(path: Union[str, Path]) -> tuple[Samples, int]:
    """Read a recording as mono float32 samples ``(T,)`` in ±1, and their rate, always 16000.

    Channels are averaged; other rates are resampled (soxr, high quality). Raises `AudioError`
    naming the file where it is missing, a folder, empty, not audio, cut short (fewer samples than
    its header promises), without samples, or holds NaN or infinite samples.
    """
    parts = list(stream_audio(path))
    return parts[0] if len(parts) == 1 else np.concatenate(parts), SAMPLE_RATE


def stream_audio(
    path: Union[str, Path],
    *,
    start: float = 0.0,
    duration: Optional[float] = None,
    channel: Optional[int] = None,
) -> Iterator[Samples]:
    """Yield a recording, or the part of it from ``start`` for ``duration`` seconds, in blocks.

    Blocks are what `read_audio` gives, cut anywhere. ``channel``: this one alone (from 0), not the
    mean of all. Raises what `read_audio` raises, when the place is reached; and `AudioError` where
    the part is not inside the recording or there is no such channel.
    """
    import soundfile

    path = Path(path)
    check_is_file(path)
    _check_promised_length(path)
    part = _Part(start, duration, channel)
    try:
        with soundfile.SoundFile(str(path)) as file:
            yield from _stream(str(path), file, part)
        return
    except soundfile.SoundFileError as error:
        reason = _reason(error)
    except OSError as error:
        raise AudioError(f"{path}: {error.strerror or error}") from None
    if not _other_format(reason):
        raise AudioError(f"{path}: not a recording that can be read ({reason})")
    from uyir.asr.media import stream_media

    blocks = stream_media(path, start=start, duration=duration, channel=channel)
    if blocks is None:
        raise AudioError(
            f"{path}: not a recording that can be read ({reason}; "
            "ffmpeg, which reads more formats, is not installed)"
        )
    yield from _counted(str(path), blocks)


def stream_pipe(
    name: str,
    file: IO[bytes],
    *,
    start: float = 0.0,
    duration: Optional[float] = None,
    channel: Optional[int] = None,
) -> Iterator[Samples]:
    """As `stream_audio`, from an open file that a program wrote; ``name`` is for messages.

    Programs that write to a pipe cannot know the length when they write the header, so what it
    promises is not held against them.
    """
    import soundfile

    try:
        with soundfile.SoundFile(file) as opened:
            yield from _stream(name, opened, _Part(start, duration, channel), exact=False)
    except soundfile.SoundFileError as error:
        raise AudioError(f"{name}: not a recording that can be read ({_reason(error)})") from None


def duration_of(path: Union[str, Path]) -> float:
    """About how long a recording is (s), by its header or its size; 0 where nothing can be said.

    For planning: nothing is checked and nothing raised.
    """
    import soundfile

    # A pipe or a device would be waited for.
    if not os.path.isfile(path):
        return 0.0
    try:
        found = soundfile.info(str(path))
        if 0 < found.frames < _UNKNOWN_FRAMES and found.samplerate > 0:
            return float(found.frames / found.samplerate)
    except (soundfile.SoundFileError, OSError, ValueError):
        pass
    try:
        return os.path.getsize(path) / 16000.0  # about 128 kbit/s
    except OSError:
        return 0.0


class _Part:
    """Which part and channel of a recording is wanted."""

    def __init__(self, start: float, duration: Optional[float], channel: Optional[int]) -> None:
        self.start = start
        self.duration = duration
        self.channel = channel

    @property
    def whole(self) -> bool:
        return self.start == 0.0 and self.duration is None


def check_is_file(path: Path) -> None:
    """Raise `AudioError` saying why a path is no file that can be read."""
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


def _check_promised_length(path: Path) -> None:
    """libsndfile silently shortens a WAV, AIFF, W64 or CAF whose chunk of samples claims more bytes than
    there are."""
    try:
        with path.open("rb") as file:
            head = file.read(40)
            size = path.stat().st_size
            if head[:4] == b"RIFF":
                found = _chunk(file, size, 12, b"data", 4, 4, "little")
            elif head[:4] == b"FORM" and head[8:11] == b"AIF":
                found = _chunk(file, size, 12, b"SSND", 4, 4, "big")
            elif head[:4] == b"caff":
                found = _chunk(file, size, 8, b"data", 4, 8, "big")
            elif head[:4] == b"riff" and head[24:28] == b"wave":
                found = _chunk(file, size, 40, b"data", 16, 8, "little")
            else:
                return
    except OSError as error:
        raise AudioError(f"{path}: {error.strerror or error}") from None
    # One byte of slack: some writers count the pad byte of an odd-sized chunk.
    if found is not None and found[0] > found[1] + 1:
        raise AudioError(
            f"{path}: cut short or a broken header: it promises {found[0]} bytes of samples and "
            f"holds {found[1]}"
        )


def _chunk(
    file: IO[bytes],
    size: int,
    first: int,
    name: bytes,
    name_bytes: int,
    length_bytes: int,
    order: Literal["little", "big"],
) -> Optional[tuple[int, int]]:
    """Bytes that the chunk of that name says it has, and that there are; None where none says so.

    ``first``: where the first chunk begins. Names of 16 bytes are W64's, which begin with those of WAV; its
    lengths count the chunk's head, and chunks begin at multiples of 8.
    """
    at, wide = first, name_bytes == 16
    while True:
        file.seek(at)
        head = file.read(name_bytes + length_bytes)
        if len(head) < name_bytes + length_bytes:
            return None
        length = int.from_bytes(head[name_bytes:], order)
        if length == 2 ** (8 * length_bytes) - 1 and length_bytes == 8 and not wide:
            return None  # CAF: up to the end, however long
        body = at + len(head)
        if wide:
            length = max(0, length - len(head))
        if head[:4] == name:
            return length, size - body
        at = body + length
        at += -at % 8 if wide else (length % 2 if length_bytes == 4 else 0)


def _check_header(path: str, rate: int, channels: int) -> None:
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


def _other_format(reason: str) -> bool:
    """Whether libsndfile only does not know the format, so that others may."""
    lowered = reason.lower()
    return any(
        word in lowered
        for word in ("recognis", "recogniz", "unknown", "not implement", "unsupported")
    )


def _stream(name: str, file: Any, part: _Part, *, exact: bool = True) -> Iterator[Samples]:
    rate, channels = int(file.samplerate), int(file.channels)
    _check_header(name, rate, channels)
    if part.channel is not None and not 0 <= part.channel < channels:
        raise AudioError(f"{name}: no channel {part.channel}; it has {channels}, counted from 0")
    promised = int(file.frames)
    known = promised < _UNKNOWN_FRAMES and file.format in _EXACT_FORMATS
    first = round(part.start * rate)
    if first:
        if known and first >= promised:
            raise AudioError(
                f"{name}: the part begins at {part.start:.2f} s, the recording ends at "
                f"{promised / rate:.2f} s"
            )
        if file.seekable():
            file.seek(min(first, promised) if known else first)
        else:
            _skip(file, first)
    wanted = None if part.duration is None else round(part.duration * rate)
    counts = [0]
    yield from _resampled(_mono_blocks(name, file, counts, wanted, part.channel), rate)
    if part.whole and exact and known and counts[0] != promised:
        raise AudioError(
            f"{name}: cut short: it promises {promised} samples a channel and holds {counts[0]}"
        )
    if counts[0] == 0:
        raise AudioError(f"{name}: no samples in it")
    if wanted is not None and wanted - counts[0] > _SLACK_S * rate:
        raise AudioError(
            f"{name}: the part ends at {part.start + wanted / rate:.2f} s, the recording at "
            f"{part.start + counts[0] / rate:.2f} s"
        )


def _skip(file: Any, frames: int) -> None:
    while frames > 0:
        got = len(file.read(min(frames, _BLOCK_FRAMES), dtype="float32"))
        if not got:
            return
        frames -= got


def _mono_blocks(
    name: str, file: Any, counts: list[int], wanted: Optional[int], channel: Optional[int]
) -> Iterator[Samples]:
    while True:
        size = _BLOCK_FRAMES if wanted is None else min(_BLOCK_FRAMES, wanted - counts[0])
        if size <= 0:
            return
        block = file.read(size, dtype="float32", always_2d=True)
        if not len(block):
            return
        if not np.isfinite(block).all():
            first = counts[0] + int(np.argwhere(~np.isfinite(block))[0][0])
            raise AudioError(f"{name}: sample {first} is not a finite number")
        counts[0] += len(block)
        if channel is not None or block.shape[1] == 1:
            mono = block[:, channel or 0]
        else:
            mono = block.mean(axis=1, dtype=np.float32)
        yield np.ascontiguousarray(mono, dtype=np.float32)


def _counted(name: str, blocks: Iterator[Samples]) -> Iterator[Samples]:
    count = 0
    for block in blocks:
        count += len(block)
        yield block
    if not count:
        raise AudioError(f"{name}: no samples in it")


def _resampled(blocks: Iterator[Samples], rate: int) -> Iterator[Samples]:
    if rate == SAMPLE_RATE:
        yield from blocks
        return
    import soxr

    stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.zeros(0, dtype=np.float32), last=True)
