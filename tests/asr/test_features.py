"""Both feature paths give what kaldi-native-fbank gives."""

from __future__ import annotations

import sys
import types
from typing import Any

import numpy as np
import pytest
import torch

from uyir.asr import features as module
from uyir.asr.features import Fbank, FrontendConfig
from uyir.errors import ModelError


def speech_like(seconds: float, seed: int) -> np.ndarray:
    """Pulses through three moving resonances, with pauses and a noise floor."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(16000 * seconds)) / 16000
    phase = 2 * np.pi * np.cumsum(120 + 30 * np.sin(2 * np.pi * 1.3 * time)) / 16000
    wave = np.zeros_like(time)
    for harmonic in range(1, 60):
        centre = 700 + 400 * np.sin(2 * np.pi * 0.9 * time)
        gain = np.exp(-(((120 * harmonic - centre) / 400) ** 2)) + 0.1 / harmonic
        wave += gain * np.sin(harmonic * phase)
    wave *= (np.sin(2 * np.pi * 2.1 * time) > -0.5) * 0.1
    return (wave + 1e-4 * rng.normal(size=len(time))).astype(np.float32)


def utterances() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {
        "noise": (0.1 * rng.normal(size=16000)).astype(np.float32),
        "quiet noise": (1e-4 * rng.normal(size=20011)).astype(np.float32),
        "speech": speech_like(2.0, 2),
        "silence": np.zeros(5000, dtype=np.float32),
        "a tenth of a second": speech_like(0.1, 3),
        "shorter than a window": speech_like(0.01, 4),
        "one sample": np.ones(1, dtype=np.float32),
        "odd length": speech_like(0.5, 5)[:7777],
    }


def kaldi(samples: np.ndarray) -> torch.Tensor:
    """kaldi-native-fbank used directly, as its documentation does."""
    import kaldi_native_fbank as knf

    options = knf.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.snip_edges = False
    options.mel_opts.num_bins = 80
    options.mel_opts.high_freq = 7600
    online = knf.OnlineFbank(options)
    padded = np.pad(samples, (0, max(0, 400 - len(samples))))
    online.accept_waveform(16000, (padded * 32768).tolist())
    online.input_finished()
    return torch.tensor(np.stack([online.get_frame(i) for i in range(online.num_frames_ready)]))


def test_cpu_path_is_kaldi_native_fbank() -> None:
    for name, wave in utterances().items():
        assert torch.equal(Fbank().cpu(wave), kaldi(wave)), name


def test_long_recording_by_blocks() -> None:
    """A recording longer than a block has the same frames as in one piece."""
    wave = np.tile(speech_like(10.0, 6), 11)[: 16000 * 105 + 77]
    assert torch.equal(Fbank().cpu(wave), kaldi(wave))


def test_batch_of_different_lengths_equals_kaldi() -> None:
    waves = utterances()
    features, lengths = Fbank().batch([torch.from_numpy(wave) for wave in waves.values()])
    for (name, wave), found, length in zip(waves.items(), features, lengths.tolist()):
        wanted = kaldi(wave)
        assert length == len(wanted) == FrontendConfig().frames(len(wave)), name
        assert (found[:length] - wanted).abs().max() < 1e-3, name
        assert not found[length:].any(), name


def test_batch_does_not_depend_on_what_lies_past_the_end() -> None:
    wave = torch.from_numpy(speech_like(0.3, 7))
    dirty = torch.cat([wave, torch.ones(5000)])[None]
    alone, _ = Fbank().batch([wave])
    found, lengths = Fbank().batch(dirty, torch.tensor([len(wave)]))
    assert torch.equal(alone[0], found[0, : int(lengths[0])])


def test_integers_are_16_bit_samples() -> None:
    wave = (speech_like(0.3, 8) * 32767).astype(np.int16)
    as_int, _ = Fbank().batch(torch.from_numpy(wave)[None])
    as_float, _ = Fbank().batch(torch.from_numpy(wave.astype(np.float32) / 32768)[None])
    assert torch.equal(as_int, as_float)


def test_kaldifeat_is_used_where_it_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through its documented interface: options, then a list of waves in Kaldi's scale."""
    seen: dict[str, Any] = {}

    class FakeFbank:
        def __init__(self, options: Any) -> None:
            seen["options"] = options

        def __call__(self, waves: list[torch.Tensor]) -> list[torch.Tensor]:
            seen["waves"] = waves
            return [kaldi((wave / 32768).numpy()) for wave in waves]

    fake = types.ModuleType("kaldifeat")
    fake.FbankOptions = lambda: types.SimpleNamespace(  # type: ignore[attr-defined]
        frame_opts=types.SimpleNamespace(), mel_opts=types.SimpleNamespace()
    )
    fake.Fbank = FakeFbank  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kaldifeat", fake)
    waves = [torch.from_numpy(speech_like(0.4, 9)), torch.from_numpy(speech_like(0.2, 10))]
    wanted, wanted_lengths = Fbank().batch(waves)
    monkeypatch.setattr(module, "_have_kaldifeat", lambda: True)
    found, lengths = Fbank().batch(waves)
    assert seen["options"].frame_opts.dither == 0
    assert seen["options"].frame_opts.snip_edges is False
    assert seen["options"].mel_opts.num_bins == 80
    assert [len(wave) for wave in seen["waves"]] == [6400, 3200]
    assert torch.equal(lengths, wanted_lengths)
    assert (found - wanted).abs().max() < 1e-3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_gpu_equals_kaldi() -> None:
    for name, wave in utterances().items():
        found, _ = Fbank().batch([torch.from_numpy(wave)], device="cuda")
        assert (found[0].cpu() - kaldi(wave)).abs().max() < 1e-3, name


def test_other_frontends_are_refused() -> None:
    with pytest.raises(ModelError, match="whisper"):
        FrontendConfig(kind="whisper")
    with pytest.raises(ModelError, match="8000"):
        FrontendConfig(sample_rate=8000)
