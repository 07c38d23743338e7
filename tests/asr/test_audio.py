"""Reading recordings: what must work, and what must fail with a message that names the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from uyir.asr.audio import read_audio
from uyir.errors import AudioError


def tone(seconds: float, rate: int, channels: int = 1, hertz: float = 440.0) -> np.ndarray:
    wave = 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
    return np.repeat(wave[:, None], channels, axis=1).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "rate", "channels", "subtype"),
    [
        ("a.wav", 48000, 2, "PCM_16"),
        ("a.wav", 8000, 1, "ULAW"),
        ("a.wav", 44100, 1, "PCM_24"),
        ("a.wav", 16000, 6, "FLOAT"),
        ("a.wav", 96000, 1, "DOUBLE"),
        ("a.wav", 11025, 1, "PCM_U8"),
        ("a.flac", 22050, 2, "PCM_16"),
        ("a.ogg", 32000, 1, "VORBIS"),
        ("a.mp3", 44100, 2, "MPEG_LAYER_III"),
    ],
)
def test_formats(tmp_path: Path, name: str, rate: int, channels: int, subtype: str) -> None:
    path = tmp_path / name
    soundfile.write(str(path), tone(1.5, rate, channels), rate, subtype=subtype)
    samples, found = read_audio(path)
    assert found == 16000
    assert samples.dtype == np.float32
    assert samples.ndim == 1
    assert abs(len(samples) - 24000) <= (1600 if name.endswith("mp3") else 2)
    middle = samples[4000:20000]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert abs(int(spectrum.argmax()) - 440) <= 1
    assert 0.3 < np.sqrt(np.mean(middle**2)) < 0.4


def test_channels_are_averaged(tmp_path: Path) -> None:
    stereo = np.stack([np.full(1600, 0.5), np.full(1600, -0.25)], axis=1)
    soundfile.write(str(tmp_path / "s.wav"), stereo, 16000, subtype="FLOAT")
    assert np.allclose(read_audio(tmp_path / "s.wav")[0], 0.125)


def test_blocks_join_seamlessly(tmp_path: Path) -> None:
    """Nine blocks resampled in a stream equal one resampling of the whole."""
    soxr = pytest.importorskip("soxr")
    wave = np.random.default_rng(0).normal(size=1_100_000).astype(np.float32) * 0.1
    soundfile.write(str(tmp_path / "l.wav"), wave, 48000, subtype="FLOAT")
    samples, _ = read_audio(tmp_path / "l.wav")
    whole = soxr.resample(wave, 48000, 16000, quality="HQ")
    assert len(samples) == len(whole)
    assert np.abs(samples - whole).max() < 1e-5


def test_16k_samples_are_exact(tmp_path: Path) -> None:
    values = np.arange(-300, 300, dtype=np.int16)
    soundfile.write(str(tmp_path / "e.wav"), values, 16000)
    assert np.array_equal(read_audio(tmp_path / "e.wav")[0] * 32768, values)


def wav_header(data_bytes: int, rate: int = 16000, channels: int = 1, riff: int = 0) -> bytes:
    def number(value: int, size: int) -> bytes:
        return value.to_bytes(size, "little")

    form = number(1, 2) + number(channels, 2) + number(rate, 4)
    form += number(min(rate * channels * 2, 2**32 - 1), 4) + number(channels * 2, 2) + number(16, 2)
    body = b"WAVEfmt " + number(16, 4) + form + b"data" + number(data_bytes, 4)
    return b"RIFF" + number(riff or min(36 + data_bytes, 2**32 - 1), 4) + body


def broken(folder: Path, kind: str) -> Path:
    path = folder / f"{kind}.wav"
    if kind == "folder":
        path.mkdir()
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("this is no recording\n" * 20)
    elif kind == "truncated":
        path = folder / "truncated.flac"
        noise = np.random.default_rng(0).normal(size=160000) * 0.1
        soundfile.write(str(path), noise, 16000)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif kind == "truncated_wav":
        soundfile.write(str(path), np.zeros(16000), 16000)
        path.write_bytes(path.read_bytes()[:-5000])
    elif kind == "no_samples":
        soundfile.write(str(path), np.zeros(0), 16000)
    elif kind in ("nan", "inf"):
        wave = np.zeros(3000, dtype=np.float32)
        wave[1234] = float(kind)
        soundfile.write(str(path), wave, 16000, subtype="FLOAT")
    elif kind == "four_gigabytes":
        path.write_bytes(wav_header(0xFFFFFFFF) + b"\0" * 100)
    elif kind == "rate":
        path.write_bytes(wav_header(100, rate=4_000_000_000) + b"\0" * 100)
    elif kind == "channels":
        path.write_bytes(wav_header(2000, channels=1000) + b"\0" * 2000)
    elif kind == "only_riff":
        path.write_bytes(b"RIFF")
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "no such file"),
        ("folder", "a folder"),
        ("empty", "empty"),
        ("text", "not a recording"),
        ("truncated", ""),
        ("truncated_wav", "cut short"),
        ("no_samples", "no samples"),
        ("nan", "sample 1234 is not a finite number"),
        ("inf", "sample 1234 is not a finite number"),
        ("four_gigabytes", "promises 4294967295 bytes"),
        ("rate", ""),
        ("channels", ""),
        ("only_riff", "not a recording"),
    ],
)
def test_bad_input_names_the_file(tmp_path: Path, kind: str, message: str) -> None:
    path = broken(tmp_path, kind)
    with pytest.raises(AudioError) as error:
        read_audio(path)
    assert str(path) in str(error.value)
    assert message in str(error.value)
