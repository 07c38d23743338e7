"""Each augmentation does to a signal what its name says, and a seed repeats it."""

from __future__ import annotations

import math

import pytest
import torch

from uyir.asr.augment import (
    AugmentConfig,
    WaveAugment,
    change_speed,
    mu_law,
    spec_augment,
    warp_tract,
)
from uyir.asr.features import FrontendConfig, make_frontend
from uyir.errors import DataError

NOTHING = {
    "speed": (1.0, 1.0),
    "reverberation": 0.0,
    "colour": 0.0,
    "telephone": 0.0,
    "low_pass": 0.0,
    "noise": 0.0,
    "babble": 0.0,
    "mu_law": 0.0,
    "level_db": (-20.0, -20.0),
}


def apply(waves: torch.Tensor, seed: int = 1, **changes: object) -> torch.Tensor:
    config = AugmentConfig(**{**NOTHING, **changes})  # type: ignore[arg-type]
    lengths = torch.full((len(waves),), waves.shape[1])
    out, _ = WaveAugment(config)(waves, lengths, torch.Generator().manual_seed(seed))
    return out


def tone(hertz: float, samples: int = 32000) -> torch.Tensor:
    return 0.3 * torch.sin(2 * math.pi * hertz * torch.arange(samples) / 16000)


def peak_hertz(wave: torch.Tensor) -> float:
    spectrum = torch.fft.rfft(wave * torch.hann_window(len(wave))).abs()
    return float(spectrum.argmax()) * 16000 / len(wave)


def noise(rows: int = 4, samples: int = 32000) -> torch.Tensor:
    return 0.1 * torch.randn(rows, samples, generator=torch.Generator().manual_seed(0))


def rms(wave: torch.Tensor) -> torch.Tensor:
    return wave.square().mean(dim=-1).sqrt()


def test_without_anything_only_the_level_changes() -> None:
    waves = noise()
    assert torch.allclose(apply(waves), waves / rms(waves)[:, None] * 0.1, atol=1e-6)


def test_same_seed_same_batch() -> None:
    waves = noise()
    everything = dict(AugmentConfig().__dict__)
    assert torch.equal(apply(waves, 5, **everything), apply(waves, 5, **everything))
    assert not torch.equal(apply(waves, 5, **everything), apply(waves, 6, **everything)[:, :32000])


def test_everything_at_once_is_finite_and_in_range() -> None:
    config = AugmentConfig(
        reverberation=1.0,
        colour=1.0,
        telephone=0.5,
        low_pass=0.5,
        noise=0.5,
        babble=0.5,
        mu_law=0.5,
    )
    waves = noise(6)
    waves[2] = 0.0  # a silent utterance
    lengths = torch.tensor([32000, 100, 32000, 16000, 1, 31999])
    for seed in range(5):
        out, new = WaveAugment(config)(waves, lengths, torch.Generator().manual_seed(seed))
        assert torch.isfinite(out).all()
        assert out.abs().max() <= 1
        ratio = new.float() / lengths
        assert ((ratio[[0, 2, 3, 5]] > 0.90) & (ratio[[0, 2, 3, 5]] < 1.12)).all()
        for row, length in enumerate(new.tolist()):
            assert not out[row, length:].any()


@pytest.mark.parametrize("speed", [0.8, 0.9, 1.0, 1.1, 1.25])
def test_speed_moves_pitch_and_length(speed: float) -> None:
    wave = tone(1000)[None]
    out, lengths = change_speed(wave, torch.tensor([32000]), torch.tensor([speed]))
    assert lengths.tolist() == [int(32000 / speed)]
    assert abs(peak_hertz(out[0, : int(lengths)]) - 1000 * speed) < 1.5
    if speed == 1.0:
        assert torch.equal(out, wave)


def test_telephone_keeps_its_band_only() -> None:
    waves = torch.stack([tone(100), tone(1000), tone(6000)])
    mixed = waves.sum(dim=0, keepdim=True)
    spectrum = torch.fft.rfft(apply(mixed, telephone=1.0)[0]).abs()
    inside = spectrum[2000]
    assert spectrum[200] < 0.02 * inside
    assert spectrum[12000] < 0.02 * inside


def test_low_pass_cuts_the_top() -> None:
    mixed = (tone(500) + tone(7800))[None].repeat(3, 1)
    spectrum = torch.fft.rfft(apply(mixed, low_pass=1.0)).abs()
    assert (spectrum[:, 15600] < 0.02 * spectrum[:, 1000]).all()


def test_reverberation_rings_on_and_keeps_the_start() -> None:
    wave = torch.zeros(1, 32000)
    wave[0, 8000:8100] = 0.5
    out = apply(wave, reverberation=1.0, rt60_seconds=(0.5, 0.5))[0]
    assert out[:8000].abs().max() < 1e-4 * out.abs().max()  # nothing before its cause
    early, late = out[8400:10000].square().sum(), out[18000:19600].square().sum()
    assert early > 100 * late > 0  # decays by some 75 dB in between at RT60 0.5 s
    assert not apply(wave)[0, 8200:].any()


def test_noise_has_the_wanted_ratio() -> None:
    wave = tone(1000)[None].repeat(3, 1)
    clean, noisy = apply(wave), apply(wave, noise=1.0, snr_db=(10.0, 10.0))
    scale = (clean * noisy).sum(dim=1, keepdim=True) / clean.square().sum(dim=1, keepdim=True)
    left = noisy - scale * clean
    ratio = 20 * torch.log10(rms(scale * clean) / rms(left))
    assert (ratio - 10).abs().max() < 0.7


def test_babble_is_made_of_the_others() -> None:
    waves = torch.stack([tone(400), tone(1100), tone(2300), tone(3100)])
    out = apply(waves, babble=1.0, snr_db=(0.0, 0.0))
    spectrum = torch.fft.rfft(out).abs()[:, [800, 2200, 4600, 6200]]
    loud = spectrum > 0.03 * spectrum.max(dim=1, keepdim=True).values
    assert loud.diagonal().all()
    assert int(loud.sum()) >= 8


def test_mu_law_is_a_small_error_that_grows_with_level() -> None:
    wave = noise(1)
    coded = mu_law(wave)
    error = (coded - wave).abs()
    assert 0 < float(rms(coded - wave)) < 0.03 * float(rms(wave))
    assert len(torch.unique(coded)) <= 256
    loud = wave.abs() > 0.2
    assert error[loud].mean() > 3 * error[wave.abs() < 0.02].mean()


def test_spec_augment_masks_with_the_fill() -> None:
    features, lengths = torch.zeros(8, 400, 80), torch.full((8,), 400)
    config = AugmentConfig(frequency_masks=2, time_masks=4)
    out = spec_augment(features, lengths, torch.ones(80), config, torch.Generator().manual_seed(2))
    share = out.mean()
    assert 0.05 < share < 0.5
    whole_bins = (out == 1).all(dim=1)
    assert (whole_bins.sum(dim=1) <= 40).all()
    assert whole_bins.any()
    assert (out == 1).all(dim=2).any()
    none = AugmentConfig(frequency_masks=0, time_masks=0)
    same = spec_augment(features, lengths, torch.ones(80), none, torch.Generator())
    assert torch.equal(same, features)


@pytest.mark.parametrize(
    "values",
    [{"mu_law": 1.5}, {"noise": 0.7, "babble": 0.7}, {"snr_db": (9.0, 3.0)}, {"speed": (0.0, 1.0)}],
)
def test_impossible_settings(values: dict[str, object]) -> None:
    with pytest.raises(DataError, match="augment"):
        AugmentConfig(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["kaldi-fbank", "whisper-logmel"])
def test_warped_tract_moves_a_tone(kind: str) -> None:
    """A tone's features, warped by a factor, are about those of the tone at that times its frequency."""
    frontend = make_frontend(FrontendConfig(kind=kind))
    centres = frontend.centres()
    assert (centres.diff() > 0).all()

    def peak(hertz: float) -> int:
        wave = torch.sin(2 * math.pi * hertz * torch.arange(16000) / 16000)[None]
        return int(frontend.batch(wave)[0][0].mean(dim=0).argmax())

    wave = torch.sin(2 * math.pi * 1000 * torch.arange(16000) / 16000)[None]
    features, _ = frontend.batch(wave.expand(2, -1))
    config = AugmentConfig(tract=1.0, tract_range=(1.2, 1.2), tract_bend=0.0)
    warped = warp_tract(features, centres, config, torch.Generator().manual_seed(1))
    assert abs(int(warped[0].mean(dim=0).argmax()) - peak(1200)) <= 1
    assert abs(peak(1200) - peak(1000)) > 3
    same = warp_tract(features, centres, AugmentConfig(), torch.Generator())
    assert same is features


def test_warped_tracts_differ_and_repeat() -> None:
    centres = make_frontend(FrontendConfig()).centres()
    features = torch.rand(40, 5, 80)
    config = AugmentConfig(tract=0.5)
    one, two = (
        warp_tract(features, centres, config, torch.Generator().manual_seed(3)) for _ in range(2)
    )
    assert torch.equal(one, two)
    changed = (one - features).abs().amax(dim=(1, 2)) > 1e-4
    assert 10 <= int(changed.sum()) <= 30
