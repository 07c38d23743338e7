"""Features: what a model hears, on one utterance (CPU) or on a batch (any device).

`Fbank` is Kaldi's log mel filterbank. Both its paths give what kaldi-native-fbank gives (tests:
within 1e-3): the batch path is plain torch, or kaldifeat where that is installed. Samples come in ±1
and are scaled to Kaldi's 16-bit range first. Models with a Whisper encoder have Whisper's log-mel
(`uyir.asr.whisper.LogMel`) instead, those of the wav2vec 2.0 family the samples themselves (`Waveform`); `make_frontend` gives the one that a model was trained on.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Optional, Protocol, Union

import numpy as np
import torch

from uyir.asr.audio import SAMPLE_RATE, Samples
from uyir.errors import ModelError

_EPSILON = float(np.finfo(np.float32).eps)

FRONTENDS = ("kaldi-fbank", "whisper-logmel", "waveform")


@dataclass(frozen=True)
class FrontendConfig:
    """What turns samples into features; part of every model's configuration.

    All but `kind`, `sample_rate` and the shape of the features are settings of ``kaldi-fbank``, but for
    `normalise`, which is one of ``waveform``. A waveform has a frame a sample, and one bin.
    """

    kind: str = "kaldi-fbank"
    sample_rate: int = SAMPLE_RATE
    bins: int = 80
    frame_length: int = 400  # samples: 25 ms
    frame_shift: int = 160  # samples: 10 ms
    low_frequency: float = 20.0  # Hz
    high_frequency: float = 7600.0  # Hz
    preemphasis: float = 0.97
    scale: float = 32768.0  # samples in ±1 times this: Kaldi's 16-bit range
    normalise: bool = True  # a waveform: to mean 0 and variance 1 an utterance

    def __post_init__(self) -> None:
        if self.kind not in FRONTENDS:
            raise ModelError(f"unknown frontend {self.kind!r}, want {' or '.join(FRONTENDS)}")
        if self.sample_rate != SAMPLE_RATE:
            raise ModelError(f"frontend at {self.sample_rate} Hz, want {SAMPLE_RATE}")

        if (self.kind == "waveform") != (self.bins == 1):
            raise ModelError(
                f"{self.kind} frontend with {self.bins} bins: a waveform has 1, others more"
            )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def frames(self, samples: int) -> int:
        """Number of frames of an utterance: one a shift, centred (`snip_edges` is off)."""
        if self.kind == "waveform":
            return max(samples, self.frame_length)
        if self.kind == "whisper-logmel":
            return max(samples, self.frame_length) // self.frame_shift
        return (max(samples, self.frame_length) + self.frame_shift // 2) // self.frame_shift


class Frontend(Protocol):
    """What models and commands need of a frontend."""

    config: FrontendConfig

    def centres(self) -> torch.Tensor:
        """The middle of each band in Hz, rising, ``(F,)``."""

    def cpu(self, samples: Union[Samples, torch.Tensor]) -> torch.Tensor:
        """Samples ``(S,)`` in ±1 -> features ``(T, F)``."""

    def batch(
        self,
        samples: Union[torch.Tensor, Sequence[torch.Tensor]],
        lengths: Optional[torch.Tensor] = None,
        device: Optional[Union[str, torch.device]] = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A batch of samples -> features ``(N, T, F)`` and lengths ``(N,)`` in frames."""


def make_frontend(config: FrontendConfig) -> Frontend:
    """The frontend that a configuration names."""
    if config.kind == "whisper-logmel":
        from uyir.asr.whisper import LogMel

        return LogMel(config)
    if config.kind == "waveform":
        return Waveform(config)
    return Fbank(config)


def as_batch(
    samples: Union[torch.Tensor, Sequence[torch.Tensor]],
    lengths: Optional[torch.Tensor],
    device: Optional[Union[str, torch.device]],
    least: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples of a batch as float32 ``(N, S)`` in ±1, S >= `least`, zero past each end.

    `samples` is a list of ``(S_n,)`` tensors, or ``(N, S)`` with `lengths` ``(N,)``; integer samples
    are taken as 16-bit. Returns the samples and their lengths.
    """
    if not isinstance(samples, torch.Tensor):
        lengths = torch.tensor([len(s) for s in samples])
        samples = torch.nn.utils.rnn.pad_sequence(list(samples), batch_first=True)
    elif lengths is None:
        lengths = torch.full((len(samples),), samples.shape[1])
    if device is not None:
        samples = samples.to(device)
    waves = samples if samples.is_floating_point() else samples.float() / 32768.0
    lengths = lengths.to(waves.device)
    short = least - waves.shape[1]
    if short > 0:
        waves = torch.nn.functional.pad(waves, (0, short))
    inside = torch.arange(waves.shape[1], device=waves.device) < lengths[:, None]
    return waves.float() * inside, lengths


class Waveform:
    """The samples themselves, for encoders that begin with convolutions of their own.

    With `FrontendConfig.normalise` each utterance is brought to mean 0 and variance 1, as its
    `transformers` feature extractor does.
    """

    def __init__(self, config: FrontendConfig) -> None:
        self.config = config

    def centres(self) -> torch.Tensor:
        """Samples have no bands: one middle, at 0 Hz."""
        return torch.zeros(1)

    def cpu(self, samples: Union[Samples, torch.Tensor]) -> torch.Tensor:
        """Samples ``(S,)`` in ±1 -> features ``(S, 1)``."""
        return self.batch([torch.as_tensor(samples, dtype=torch.float32).reshape(-1)])[0][0]

    def batch(
        self,
        samples: Union[torch.Tensor, Sequence[torch.Tensor]],
        lengths: Optional[torch.Tensor] = None,
        device: Optional[Union[str, torch.device]] = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A batch of samples -> features ``(N, S, 1)`` and their lengths ``(N,)``, zero past each end."""
        waves, lengths = as_batch(samples, lengths, device, self.config.frame_length)
        lengths = lengths.clamp(min=self.config.frame_length)
        if self.config.normalise:
            inside = torch.arange(waves.shape[1], device=waves.device) < lengths[:, None]
            mean = waves.sum(dim=1, keepdim=True) / lengths[:, None]
            spread = ((waves - mean).square() * inside).sum(dim=1, keepdim=True) / lengths[:, None]
            waves = (waves - mean) * (spread + 1e-7).rsqrt() * inside
        return waves[..., None], lengths


class Fbank:
    """Log mel filterbank features, 25 ms povey windows every 10 ms, no dither.

    Utterances shorter than one window are padded to it with zeros, so that every recording has
    at least two frames.
    """

    def __init__(self, config: Optional[FrontendConfig] = None) -> None:
        self.config = config or FrontendConfig()

    def centres(self) -> torch.Tensor:
        """The middle of each band in Hz, rising, ``(F,)``."""
        mels = torch.from_numpy(_band_edges(self.config)[1:-1])
        return (700 * torch.expm1(mels / 1127.0)).float()

    def cpu(self, samples: Union[Samples, torch.Tensor]) -> torch.Tensor:
        """Samples ``(S,)`` in ±1 -> features ``(T, F)`` by kaldi-native-fbank."""
        import kaldi_native_fbank

        config = self.config
        wave = np.asarray(samples, dtype=np.float32).reshape(-1)
        if len(wave) < config.frame_length:
            wave = np.pad(wave, (0, config.frame_length - len(wave)))
        online = kaldi_native_fbank.OnlineFbank(self._kaldi_options(kaldi_native_fbank))
        features = np.empty((config.frames(len(wave)), config.bins), dtype=np.float32)
        done = 0
        # By blocks, dropping frames as they are fetched: an hour needs no list of 57 M floats.
        block = 100 * SAMPLE_RATE
        for start in range(0, len(wave), block):
            online.accept_waveform(
                config.sample_rate, (wave[start : start + block] * config.scale).tolist()
            )
            if start + block >= len(wave):
                online.input_finished()
            ready = online.num_frames_ready
            for frame in range(done, ready):
                features[frame] = online.get_frame(frame)
            online.pop(ready - done)
            done = ready
        return torch.from_numpy(features[:done])

    def batch(
        self,
        samples: Union[torch.Tensor, Sequence[torch.Tensor]],
        lengths: Optional[torch.Tensor] = None,
        device: Optional[Union[str, torch.device]] = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A batch of samples -> features ``(N, T, F)`` and their lengths ``(N,)`` in frames.

        `samples` is a list of ``(S_n,)`` tensors, or ``(N, S)`` with `lengths` ``(N,)`` in samples;
        integer samples are taken as 16-bit. Frames past an utterance's end are zero.
        """
        waves, lengths = as_batch(samples, lengths, device, self.config.frame_length)
        lengths = lengths.clamp(min=self.config.frame_length)
        if _have_kaldifeat():
            return self._kaldifeat(waves, lengths)
        return self._torch(waves, lengths)

    def _kaldi_options(self, module: Any) -> Any:
        """The options object of kaldi-native-fbank or kaldifeat: both name their fields alike."""
        config = self.config
        options = module.FbankOptions()
        options.frame_opts.samp_freq = config.sample_rate
        options.frame_opts.frame_length_ms = 1000 * config.frame_length / config.sample_rate
        options.frame_opts.frame_shift_ms = 1000 * config.frame_shift / config.sample_rate
        options.frame_opts.dither = 0.0
        options.frame_opts.preemph_coeff = config.preemphasis
        options.frame_opts.window_type = "povey"
        options.frame_opts.snip_edges = False
        options.mel_opts.num_bins = config.bins
        options.mel_opts.low_freq = config.low_frequency
        options.mel_opts.high_freq = config.high_frequency
        return options

    def _kaldifeat(
        self, waves: torch.Tensor, lengths: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        import kaldifeat  # type: ignore[import-not-found,unused-ignore]

        options = self._kaldi_options(kaldifeat)
        options.device = waves.device
        extract = kaldifeat.Fbank(options)
        features = extract([w[:n] * self.config.scale for w, n in zip(waves, lengths.tolist())])
        frames = torch.tensor([len(f) for f in features], device=waves.device)
        return torch.nn.utils.rnn.pad_sequence(features, batch_first=True), frames

    def _torch(
        self, waves: torch.Tensor, lengths: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        config = self.config
        device = waves.device
        frame, shift = config.frame_length, config.frame_shift
        counts = torch.div(lengths + shift // 2, shift, rounding_mode="floor")
        total = int(counts.max())
        # Frame t spans samples [t*shift + shift/2 - frame/2, +frame): both ends are reflected.
        left = frame // 2 - shift // 2
        position = torch.arange(-left, (total - 1) * shift - left + frame, device=device)
        folded = position[None] % (2 * lengths[:, None])
        folded = torch.minimum(folded, 2 * lengths[:, None] - 1 - folded)
        padded = torch.gather(waves * config.scale, 1, folded)
        # In double precision: GPUs sum in another order, and quiet bands would differ by more than 1e-3.
        frames = padded.unfold(1, frame, shift).double()
        frames = frames - frames.mean(dim=-1, keepdim=True)
        before = torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)
        frames = (frames - config.preemphasis * before) * _window(frame).double().to(device)
        size = _fft_size(frame)
        spectrum = torch.fft.rfft(frames, n=size)
        power = spectrum.real.square() + spectrum.imag.square()
        mel = power[..., : size // 2] @ _mel_filters(config).double().to(device)
        features = mel.clamp(min=_EPSILON).log().float()
        valid = torch.arange(total, device=device) < counts[:, None]
        return features * valid[..., None], counts


@lru_cache(maxsize=1)
def _have_kaldifeat() -> bool:
    return importlib.util.find_spec("kaldifeat") is not None


def _fft_size(frame: int) -> int:
    return 1 << (frame - 1).bit_length()


@lru_cache(maxsize=4)
def _window(frame: int) -> torch.Tensor:
    """Kaldi's povey window: a Hann window to the power 0.85, ``(frame,)``."""
    ramp = torch.arange(frame, dtype=torch.float64)
    return (0.5 - 0.5 * torch.cos(2 * math.pi * ramp / (frame - 1))).pow(0.85).float()


def _mel(hertz: Any) -> Any:
    return 1127.0 * np.log1p(np.asarray(hertz, dtype=np.float64) / 700.0)


def _band_edges(config: FrontendConfig) -> Any:
    """Where each band begins, has its middle and ends, in mel: ``(F + 2,)``, one step further each."""
    low, high = _mel(config.low_frequency), _mel(config.high_frequency)
    return low + np.arange(config.bins + 2) * (high - low) / (config.bins + 1)


@lru_cache(maxsize=4)
def _mel_filters(config: FrontendConfig) -> torch.Tensor:
    """Triangular filters equally wide in mel, ``(fft_size / 2, F)`` (Kaldi leaves out Nyquist)."""
    size = _fft_size(config.frame_length)
    edges = _band_edges(config)
    mels = _mel(np.arange(size // 2) * config.sample_rate / size)[:, None]
    up = (mels - edges[:-2]) / (edges[1:-1] - edges[:-2])
    down = (edges[2:] - mels) / (edges[2:] - edges[1:-1])
    return torch.from_numpy(np.maximum(0.0, np.minimum(up, down)).astype(np.float32))
