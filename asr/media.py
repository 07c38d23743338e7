"""Recordings that libsndfile does not read (m4a, video …), through ffmpeg or torchcodec.

The program `ffmpeg` comes first: what a damaged file does to it does not reach us. It opens nothing
but the file itself, and only containers of sound and video: a playlist cannot make it read other files
or the network.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import numpy as np

from uyir.asr.audio import SAMPLE_RATE, Samples
from uyir.errors import AudioError

#: Endings that folders are searched for where one of the two programs is there.
MEDIA_SUFFIXES = frozenset(
    [
        ".m4a",
        ".m4b",
        ".mp4",
        ".m4v",
        ".mov",
        ".mkv",
        ".mka",
        ".webm",
        ".avi",
        ".wma",
        ".wmv",
        ".aac",
        ".ac3",
        ".amr",
        ".3gp",
        ".ts",
        ".mts",
        ".mpg",
        ".mpeg",
        ".flv",
        ".ape",
        ".wv",
    ]
)
_DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,asf,aac,ac3,eac3,amr,amrnb,amrwb,mpegts,mpeg,flv,ape,wv,"
    "ogg,wav,flac,mp3,aiff,caf,w64,dts,rm,voc,gsm,sln"
)
_BLOCK = 1 << 17
# Said by ffmpeg of a file that ends too early, without failing.
_CUT = ("ended prematurely", "partial file", "truncat", "moov atom not found")


def can_read_media() -> bool:
    """Whether there is a program for these formats."""
    return shutil.which("ffmpeg") is not None or _torchcodec() is not None


def stream_media(
    path: Path,
    *,
    start: float = 0.0,
    duration: Optional[float] = None,
    channel: Optional[int] = None,
) -> Optional[Iterator[Samples]]:
    """Blocks of the first sound track, mono at 16 kHz; None if there is no program to read it.

    Raises `AudioError` when the program cannot read the file, or finds it cut short.
    """
    program = shutil.which("ffmpeg")
    if program is not None:
        return _by_ffmpeg(program, path, start, duration, channel)
    decoders = _torchcodec()
    return None if decoders is None else _by_torchcodec(decoders, path, start, duration, channel)


def _by_ffmpeg(
    program: str, path: Path, start: float, duration: Optional[float], channel: Optional[int]
) -> Iterator[Samples]:
    command = [program, "-nostdin", "-hide_banner", "-v", "error"]
    command += ["-protocol_whitelist", "file", "-format_whitelist", _DEMUXERS]
    if start:
        command += ["-ss", f"{start:.6f}"]
    if duration is not None:
        command += ["-t", f"{duration:.6f}"]
    # "file:" keeps a name with a colon from being taken for a protocol.
    command += ["-i", f"file:{path}", "-map", "0:a:0", "-vn"]
    if channel is not None:
        command += ["-af", f"pan=mono|c0=c{channel}"]
    command += ["-ac", "1", "-ar", str(SAMPLE_RATE), "-f", "f32le", "-"]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said)
        if process.stdout is None:  # pragma: no cover
            raise AudioError(f"{path}: ffmpeg gives no output")
        done = False
        try:
            rest = b""
            while True:
                data = process.stdout.read(4 * _BLOCK)
                if not data:
                    break
                data = rest + data
                whole = len(data) // 4 * 4
                rest = data[whole:]
                block = np.frombuffer(data[:whole], dtype="<f4").astype(np.float32)
                if not np.isfinite(block).all():
                    raise AudioError(f"{path}: a sample is not a finite number")
                yield block
            done = True
        finally:
            if not done:
                process.kill()
            process.stdout.close()
            code = process.wait()
        said.seek(0)
        messages = said.read(4000).decode("utf-8", "replace").strip().splitlines()
    last = messages[-1].replace(f"file:{path}: ", "") if messages else f"exit code {code}"
    if any("matches no streams" in message for message in messages):
        raise AudioError(f"{path}: no sound track in it")
    if code != 0:
        raise AudioError(f"{path}: not a recording that can be read (ffmpeg: {last})")
    for message in messages:
        if any(word in message.lower() for word in _CUT):
            raise AudioError(f"{path}: cut short (ffmpeg: {message})")


def _torchcodec() -> object:
    try:
        from torchcodec import decoders
    except (ImportError, OSError, RuntimeError):  # its libraries may lack FFmpeg's
        return None
    found: object = decoders
    return found


def _by_torchcodec(
    decoders: object, path: Path, start: float, duration: Optional[float], channel: Optional[int]
) -> Iterator[Samples]:
    mono = None if channel is not None else 1
    try:
        decoder = decoders.AudioDecoder(  # type: ignore[attr-defined]
            str(path), sample_rate=SAMPLE_RATE, num_channels=mono
        )
        length = decoder.metadata.duration_seconds_from_header
        if length is None:  # some containers say it only for the whole file; read it at once
            data = decoder.get_all_samples().data[channel or 0].numpy()
            first = round(start * SAMPLE_RATE)
            after = None if duration is None else first + round(duration * SAMPLE_RATE)
            yield np.ascontiguousarray(data[first:after], dtype=np.float32)
            return
        end = float(length) if duration is None else min(float(length), start + duration)
        at, step = start, 60.0
        while at < end:
            block = decoder.get_samples_played_in_range(at, min(at + step, end)).data
            yield np.ascontiguousarray(block[channel or 0].numpy(), dtype=np.float32)
            at += step
    except (RuntimeError, ValueError, IndexError) as error:
        reason = str(error).partition("\n")[0]
        raise AudioError(
            f"{path}: not a recording that can be read (torchcodec: {reason})"
        ) from None
