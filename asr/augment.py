"""Augmentation of whole batches, on the device that trains: waveforms first, then features.

Speed; reverberation, colour and band limits in one pass through the frequency domain; noise and
babble; mu-law coding; level. Each random choice is made an utterance at a time, from one generator,
so that a seed gives the same batch again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from uyir.asr.audio import SAMPLE_RATE
from uyir.errors import DataError


@dataclass(frozen=True)
class AugmentConfig:
    """Probabilities an utterance, and ranges drawn from uniformly."""

    speed: tuple[float, float] = (0.9, 1.1)
    reverberation: float = 0.4
    rt60_seconds: tuple[float, float] = (0.1, 0.7)
    direct_to_reverberant_db: tuple[float, float] = (-2.0, 12.0)
    colour: float = 0.5
    colour_db: float = 8.0
    telephone: float = 0.1
    low_pass: float = 0.15
    noise: float = 0.5
    babble: float = 0.15
    snr_db: tuple[float, float] = (3.0, 30.0)
    mu_law: float = 0.1
    level_db: tuple[float, float] = (-42.0, -10.0)  # RMS below full scale
    tract: float = 0.0  # other lengths and shapes of the vocal tract: frequencies are warped
    tract_range: tuple[float, float] = (0.85, 1.18)
    tract_bend: float = 0.03  # deviation of the factor around 500, 1,500 and 3,000 Hz
    frequency_masks: int = 2
    frequency_width: int = 20  # bins
    time_masks: int = 6
    time_width: int = 25  # frames of 10 ms, and at most 0.06 of the utterance

    def __post_init__(self) -> None:
        for name in ("reverberation", "colour", "telephone", "low_pass", "mu_law", "tract"):
            if not 0 <= getattr(self, name) <= 1:
                raise DataError(f"augment: {name} {getattr(self, name)}, want a probability")
        if self.noise < 0 or self.babble < 0 or self.noise + self.babble > 1:
            raise DataError("augment: noise and babble are probabilities that add up to 1 at most")
        for name in (
            "speed",
            "rt60_seconds",
            "direct_to_reverberant_db",
            "snr_db",
            "level_db",
            "tract_range",
        ):
            low, high = getattr(self, name)
            if low > high:
                raise DataError(f"augment: {name} from {low} to {high}, want the lower one first")
        if self.tract_range[0] <= 0 or not 0 <= self.tract_bend <= 0.05:
            raise DataError("augment: tract_range wants factors above 0, tract_bend 0 to 0.05")
        if self.speed[0] <= 0:
            raise DataError(f"augment: speed {self.speed[0]}, want one above 0")

    @property
    def fastest(self) -> float:
        return self.speed[1]


class WaveAugment:
    """Calls on ``(N, S)`` float samples in ±1 and lengths ``(N,)`` give both, changed."""

    def __init__(self, config: AugmentConfig) -> None:
        self.config = config

    def __call__(
        self, waves: torch.Tensor, lengths: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        draw = _Draw(len(waves), waves.device, generator)
        config = self.config
        if config.speed != (1.0, 1.0):
            waves, lengths = change_speed(waves, lengths, draw.uniform(*config.speed))
        inside = torch.arange(waves.shape[1], device=waves.device) < lengths[:, None]
        waves = self._filter(waves, draw) * inside
        waves = self._add_noise(waves, inside, lengths, draw)
        coded = draw.chance(config.mu_law)[:, None]
        waves = torch.where(coded, mu_law(waves), waves)
        level = torch.pow(10.0, draw.uniform(*config.level_db) / 20)
        waves = waves * (level / _rms(waves, lengths))[:, None]
        return waves.clamp(-1.0, 1.0) * inside, lengths

    def _filter(self, waves: torch.Tensor, draw: _Draw) -> torch.Tensor:
        config = self.config
        if not (config.reverberation or config.colour or config.telephone or config.low_pass):
            return waves
        tail = round(config.rt60_seconds[1] * SAMPLE_RATE)
        size = _fft_size(waves.shape[1] + tail)
        hertz = torch.fft.rfftfreq(size, 1 / SAMPLE_RATE, device=waves.device)
        spectrum = torch.fft.rfft(waves, n=size)
        if config.reverberation:
            response = self._room(draw, tail)
            spectrum = spectrum * torch.fft.rfft(response, n=size)
        decibels = self._colour_db(draw, hertz)
        phone = draw.chance(config.telephone)[:, None]
        # 40 dB down outside 300 to 3,400 Hz, over some 100 Hz.
        band = torch.sigmoid((hertz - 300) / 30) * torch.sigmoid((3400 - hertz) / 60)
        decibels = decibels + phone * 40.0 * (band - 1)
        low = draw.chance(config.low_pass)[:, None]
        cutoff = draw.uniform(3000, 7000)[:, None]
        decibels = decibels + low * 50.0 * (torch.sigmoid((cutoff - hertz) / 80) - 1)
        spectrum = spectrum * torch.pow(10.0, decibels / 20)
        filtered: torch.Tensor = torch.fft.irfft(spectrum, n=size)
        return filtered[:, : waves.shape[1]]

    def _room(self, draw: _Draw, tail: int) -> torch.Tensor:
        """Impulse responses ``(N, R)``: the direct sound, then noise that decays by 60 dB in RT60."""
        config = self.config
        seconds = torch.arange(tail, device=draw.device) / SAMPLE_RATE
        rt60 = draw.uniform(*config.rt60_seconds)[:, None]
        delay = draw.uniform(0.002, 0.02)[:, None]
        late = draw.normal(tail) * torch.exp(-math.log(1000.0) * seconds / rt60) * (seconds > delay)
        ratio = draw.uniform(*config.direct_to_reverberant_db)
        energy = late.square().sum(dim=1).clamp(min=1e-9)
        late = late * (torch.pow(10.0, -ratio / 10) / energy).sqrt()[:, None]
        late = late * draw.chance(config.reverberation)[:, None]
        late[:, 0] = 1.0
        return late

    def _colour_db(self, draw: _Draw, hertz: torch.Tensor) -> torch.Tensor:
        """Random gains in dB at eight points equally far in log frequency, joined by lines."""
        points = 8
        octaves = torch.log2(hertz.clamp(min=60.0) / 60.0) / math.log2(8000 / 60) * (points - 1)
        weights = (
            1 - (octaves[None] - torch.arange(points, device=hertz.device)[:, None]).abs()
        ).clamp(min=0)
        gains = draw.normal(points).clamp(-2, 2) * (self.config.colour_db / 2)
        return (gains * draw.chance(self.config.colour)[:, None]) @ weights

    def _add_noise(
        self, waves: torch.Tensor, inside: torch.Tensor, lengths: torch.Tensor, draw: _Draw
    ) -> torch.Tensor:
        config = self.config
        if not (config.noise or config.babble):
            return waves
        which = draw.uniform(0.0, 1.0)
        noisy, babbled = which < config.noise, which >= 1 - config.babble
        noise = coloured_noise(draw, waves.shape[1]) * noisy[:, None]
        if config.babble and len(waves) > 1:
            babble = sum(
                torch.roll(waves[draw.permutation()], draw.integer(waves.shape[1]), dims=1)
                for _ in range(4)
            )
            noise = torch.where(babbled[:, None], babble, noise)
        noise = noise * inside
        snr = torch.pow(10.0, -draw.uniform(*config.snr_db) / 20)
        scale = _rms(waves, lengths) * snr / _rms(noise, lengths)
        return waves + noise * (scale * (noisy | babbled))[:, None]


class _Draw:
    """Random numbers ``(N, ...)`` from one generator, on its device."""

    def __init__(self, batch: int, device: torch.device, generator: torch.Generator) -> None:
        self.batch = batch
        self.device = device
        self.generator = generator

    def uniform(self, low: float, high: float) -> torch.Tensor:
        drawn = torch.rand(self.batch, device=self.device, generator=self.generator)
        return low + (high - low) * drawn

    def chance(self, probability: float) -> torch.Tensor:
        return self.uniform(0.0, 1.0) < probability

    def normal(self, count: int) -> torch.Tensor:
        return torch.randn(self.batch, count, device=self.device, generator=self.generator)

    def permutation(self) -> torch.Tensor:
        return torch.rand(self.batch, device=self.device, generator=self.generator).argsort()

    def integer(self, below: int) -> int:
        return int(torch.randint(below, (1,), device=self.device, generator=self.generator))


def change_speed(
    waves: torch.Tensor, lengths: torch.Tensor, speed: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Play ``(N, S)`` at `speed` ``(N,)``, pitch and tempo alike, by cubic interpolation."""
    new_lengths = (lengths / speed).floor().long().clamp(min=1)
    total = int(new_lengths.max())
    # In float32 the place of a sample half a minute in would be off by some hundredths.
    position = torch.arange(total, device=waves.device) * speed.double()[:, None]
    base = position.floor()
    part = (position - base).to(waves.dtype)
    index = base.long()
    last = waves.shape[1] - 1
    before, here, after, later = (
        torch.gather(waves, 1, (index + offset).clamp(0, last)) for offset in (-1, 0, 1, 2)
    )
    # Catmull-Rom through four neighbours; at whole positions it is the sample itself.
    slope = after - before
    bend = 2 * before - 5 * here + 4 * after - later
    twist = 3 * (here - after) + later - before
    result = here + 0.5 * part * (slope + part * (bend + part * twist))
    inside = torch.arange(total, device=waves.device) < new_lengths[:, None]
    return result * inside, new_lengths


def coloured_noise(draw: _Draw, samples: int) -> torch.Tensor:
    """Noise ``(N, S)`` with power falling as 1 / f^a, a from 0 (white) over 1 (pink) to 2."""
    size = _fft_size(samples)
    bins = size // 2 + 1
    spectrum = torch.complex(draw.normal(bins), draw.normal(bins))
    exponent = draw.uniform(0.0, 2.0)[:, None]
    lowest = 50 * bins // (SAMPLE_RATE // 2) + 1
    hertz = torch.arange(bins, device=draw.device).clamp(min=lowest) / lowest
    spectrum = spectrum * torch.pow(hertz, -exponent / 2)
    noise: torch.Tensor = torch.fft.irfft(spectrum, n=size)
    return noise[:, :samples]


def mu_law(waves: torch.Tensor) -> torch.Tensor:
    """8-bit mu-law (G.711's curve, mu = 255) of each row at its own peak, coded and decoded."""
    peak = waves.abs().amax(dim=1, keepdim=True).clamp(min=1e-6)
    coded = torch.log1p(255 * (waves / peak).abs()) / math.log(256)
    coded = torch.round(coded * 127) / 127
    return torch.sign(waves) * torch.expm1(coded * math.log(256)) / 255 * peak


def spec_augment(
    features: torch.Tensor,
    lengths: torch.Tensor,
    fill: torch.Tensor,
    config: AugmentConfig,
    generator: torch.Generator,
) -> torch.Tensor:
    """SpecAugment (Park et al. 2019, without time warping) on ``(N, T, F)``.

    Masked cells take `fill` ``(F,)``. A time mask covers at most 0.06 of its utterance.
    """
    draw = _Draw(len(features), features.device, generator)
    bins = torch.arange(features.shape[2], device=features.device)
    masked = torch.zeros(features.shape, dtype=torch.bool, device=features.device)
    for _ in range(config.frequency_masks):
        width = draw.uniform(0, config.frequency_width)[:, None]
        start = draw.uniform(0, 1)[:, None] * (features.shape[2] - width)
        masked |= ((bins >= start) & (bins < start + width))[:, None, :]
    masked |= _time_mask(lengths, features.shape[1], config.time_width, config, draw)[..., None]
    return torch.where(masked, fill, features)


def time_mask(
    samples: torch.Tensor, config: AugmentConfig, generator: torch.Generator
) -> torch.Tensor:
    """SpecAugment's time masks for encoders that hear waveforms: which frames of 20 ms ``(N, T)`` of
    utterances of so many `samples` ``(N,)`` are hidden."""
    frames = torch.div(samples, SAMPLE_RATE // 50, rounding_mode="floor")
    draw = _Draw(len(samples), samples.device, generator)
    return _time_mask(frames, int(frames.max()) + 1, config.time_width / 2, config, draw)


def _time_mask(
    lengths: torch.Tensor, total: int, width_at_most: float, config: AugmentConfig, draw: _Draw
) -> torch.Tensor:
    """Which of `total` frames ``(N, T)`` the time masks cover."""
    frames = torch.arange(total, device=lengths.device)
    masked = torch.zeros(len(lengths), total, dtype=torch.bool, device=lengths.device)
    longest = torch.clamp(lengths * 0.06, max=float(width_at_most))
    for _ in range(config.time_masks):
        width = (draw.uniform(0, 1) * longest)[:, None]
        start = draw.uniform(0, 1)[:, None] * (lengths[:, None] - width)
        masked |= (frames >= start) & (frames < start + width)
    return masked


def warp_tract(
    features: torch.Tensor,
    centres: torch.Tensor,
    config: AugmentConfig,
    generator: torch.Generator,
) -> torch.Tensor:
    """Log-mel features ``(N, T, F)`` as of speakers with other vocal tracts (Jaitly & Hinton 2013).

    What lay at a frequency lies at that times a factor, drawn an utterance from `tract_range` and bent a
    little around the first formants. `centres` ``(F,)`` are the bands' middles in Hz, rising.
    """
    if not config.tract:
        return features
    draw = _Draw(len(features), features.device, generator)
    low, high = (math.log(factor) for factor in config.tract_range)
    factor = draw.uniform(low, high)[:, None]
    bends = (draw.normal(3).clamp(-2, 2) * config.tract_bend)[..., None]
    middles = torch.tensor([500.0, 1500.0, 3000.0], device=features.device).log2()
    octaves = centres.clamp(min=20.0).log2()
    reach = (1 - (octaves - middles[:, None]).abs()).clamp(min=0)
    factor = (factor + (bends * reach).sum(dim=1)) * draw.chance(config.tract)[:, None]
    source = (centres / factor.exp()).clamp(float(centres[0]), float(centres[-1])).contiguous()
    upper = torch.searchsorted(centres, source).clamp(1, len(centres) - 1)
    start, end = centres[upper - 1], centres[upper]
    part = ((source - start) / (end - start))[:, None]
    index = upper[:, None].expand(features.shape)
    return torch.lerp(
        torch.gather(features, 2, index - 1), torch.gather(features, 2, index), part.to(features)
    )


def _rms(waves: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Root mean square ``(N,)`` over each row's length, never 0."""
    return (waves.square().sum(dim=1) / lengths).sqrt().clamp(min=1e-7)


def _fft_size(least: int) -> int:
    """The smallest of 2^a, 3 2^a, 5 2^a that is at least this: sizes that FFTs like."""
    power = 1 << max(3, (least - 1).bit_length())
    return min(size for size in (power, power // 8 * 5, power // 4 * 3) if size >= least)
