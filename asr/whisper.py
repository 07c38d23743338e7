"""A pretrained ear: Whisper's encoder as a small torch module, with its log-mel frontend.

Only what recognition by CTC needs: the encoder's layers (Radford et al. 2022, section 2.2), run on an
utterance as long as it is, not padded to 30 s. Weights are read from CTranslate2's ``model.bin``
(`read_ctranslate2`); a fine-tuned encoder is part of a model folder like any other weights.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Optional, Union

import numpy as np
import torch
from torch import nn

from uyir.asr.audio import Samples
from uyir.asr.features import FrontendConfig, as_batch
from uyir.errors import ModelError

#: Positions that Whisper's encoder was trained on: 30 s of 20 ms frames.
MAX_POSITIONS = 1500
_CT2_TYPES = {0: "<f4", 1: "i1", 2: "<i2", 3: "<i4", 4: "<f2"}


class LogMel:
    """Whisper's log-mel spectrogram of single utterances or of a batch.

    A periodic Hann window of 25 ms every 10 ms, 80 slaney mel bands (large-v3: 128) to 8 kHz, log10 floored at the
    utterance's maximum less 8, scaled to about ±1. Checked once against transformers'
    WhisperFeatureExtractor: they differ by 5e-6 at most.
    """

    def __init__(self, config: Optional[FrontendConfig] = None) -> None:
        import torchaudio

        self.config = config or FrontendConfig(kind="whisper-logmel")
        window, bins, rate = self.config.frame_length, self.config.bins, self.config.sample_rate
        self._filters = torchaudio.functional.melscale_fbanks(
            window // 2 + 1, 0.0, rate / 2, bins, rate, norm="slaney", mel_scale="slaney"
        )
        self._window = torch.hann_window(window)

    def centres(self) -> torch.Tensor:
        """The middle of each band in Hz, ``(80,)``."""
        # Slaney's scale: linear to 1,000 Hz (15 mel), then a factor of 6.4 every 27 mel.
        top = 15 + 27 * math.log(self.config.sample_rate / 2000, 6.4)
        mels = torch.arange(1, self.config.bins + 1) * (top / (self.config.bins + 1))
        return torch.where(mels < 15, mels * 200 / 3, 1000 * 6.4 ** ((mels - 15) / 27))

    def cpu(self, samples: Union[Samples, torch.Tensor]) -> torch.Tensor:
        """Samples ``(S,)`` in ±1 -> features ``(T, F)``."""
        return self.batch([torch.as_tensor(samples, dtype=torch.float32)])[0][0]

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
        window, shift = self.config.frame_length, self.config.frame_shift
        waves, lengths = as_batch(samples, lengths, device, window)
        # Reflection at the beginning as in Whisper; silence after the end.
        padded = nn.functional.pad(waves[:, None], (window // 2, 0), mode="reflect")[:, 0]
        padded = nn.functional.pad(padded, (0, window // 2))
        spectrum = torch.stft(
            padded,
            window,
            shift,
            window=self._window.to(waves.device),
            center=False,
            return_complex=True,
        )
        power = spectrum[..., :-1].abs() ** 2
        mel = power.transpose(1, 2) @ self._filters.to(waves.device)
        log = mel.clamp(min=1e-10).log10()
        frames = torch.div(lengths.clamp(min=window), shift, rounding_mode="floor")
        inside = _inside(frames, log.shape[1])
        top = log.masked_fill(~inside[..., None], -10.0).amax(dim=(1, 2), keepdim=True)
        log = (torch.maximum(log, top - 8.0) + 4.0) / 4.0
        return log * inside[..., None], frames


class _Attention(nn.Module):
    """Self-attention with Whisper's projections: keys have no bias."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        """``(N, T, D)``, ``(N, T)`` true inside an utterance -> ``(N, T, D)``."""
        n, t, d = x.shape
        q, k, v = (
            layer(x).view(n, t, self.heads, d // self.heads).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        mask = inside[:, None, None, :]
        # torch 1.13 has no fused attention; the sums are the same.
        if hasattr(nn.functional, "scaled_dot_product_attention"):
            y = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        else:
            scores = q @ k.transpose(-1, -2) / math.sqrt(d // self.heads)
            y = torch.softmax(scores.masked_fill(~mask, float("-inf")), dim=-1) @ v
        return self.out(y.transpose(1, 2).reshape(n, t, d))  # type: ignore[no-any-return]


class _Layer(nn.Module):
    """One pre-norm transformer layer of Whisper's encoder."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = _Attention(dim, heads)
        self.ffn_norm = nn.LayerNorm(dim)
        self.ffn_in = nn.Linear(dim, 4 * dim)
        self.ffn_out = nn.Linear(4 * dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x), inside))
        y = nn.functional.gelu(self.ffn_in(self.ffn_norm(x)))
        return x + self.dropout(self.ffn_out(y))  # type: ignore[no-any-return]


class WhisperEncoder(nn.Module):
    """Log-mel features ``(N, T, F)`` -> hidden states ``(N, ceil(T / 2), D)``, 20 ms a frame.

    `prefix` vectors, if given, stand in front of the frames (no position is added to them) and are
    not among the outputs.
    """

    positions: torch.Tensor

    def __init__(
        self,
        dim: int = 512,
        heads: int = 8,
        layers: int = 6,
        dropout: float = 0.0,
        bins: int = 80,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(bins, dim, 3, padding=1)
        self.conv2 = nn.Conv1d(dim, dim, 3, stride=2, padding=1)
        self.layers = nn.ModuleList(_Layer(dim, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        self.register_buffer("positions", sinusoids(MAX_POSITIONS, dim), persistent=False)

    @staticmethod
    def lengths(frames: torch.Tensor) -> torch.Tensor:
        """Frames out for frames in."""
        return torch.div(frames + 1, 2, rounding_mode="floor")

    def forward(
        self, features: torch.Tensor, frames: torch.Tensor, prefix: Optional[torch.Tensor] = None
    ) -> torch.Tensor:
        """Raises `ModelError` for an utterance of more than 30 s."""
        return self.both(features, frames, prefix)[0]

    def both(
        self,
        features: torch.Tensor,
        frames: torch.Tensor,
        prefix: Optional[torch.Tensor] = None,
        inter_layer: int = 0,
    ) -> tuple[torch.Tensor, Optional[torch.Tensor]]:
        """What `forward` gives, and the same of the states after block `inter_layer`, if that is not 0."""
        if _by_products(features):
            x = nn.functional.gelu(convolve(self.conv1, features))
            x = x * _inside(frames, x.shape[1])[..., None]
            x = nn.functional.gelu(convolve(self.conv2, x))
        else:
            x = nn.functional.gelu(self.conv1(features.transpose(1, 2)))
            x = x * _inside(frames, x.shape[2])[:, None]
            # Transposed before gelu: torch 1.13's gradient of gelu takes a transposed one for garbage.
            x = nn.functional.gelu(self.conv2(x).transpose(1, 2))
        if x.shape[1] > MAX_POSITIONS:
            raise ModelError(
                f"an utterance of {x.shape[1] * 0.02:.1f} s; this encoder hears at most 30 s"
            )
        x = x + self.positions[: x.shape[1]]
        lengths = self.lengths(frames)
        lead = 0
        if prefix is not None:
            lead = prefix.shape[1]
            x = torch.cat([prefix.to(x.dtype), x], dim=1)
        inside = _inside(lengths + lead, x.shape[1])
        inter = None
        for number, layer in enumerate(self.layers, start=1):
            x = layer(x, inside)
            if number == inter_layer:
                inter = self.norm(x)[:, lead:]
        return self.norm(x)[:, lead:], inter


def _by_products(x: torch.Tensor) -> bool:
    """Whether `convolve` is worth it: on a GPU, where nothing is learned."""
    return x.is_cuda and not torch.is_grad_enabled()


def convolve(layer: nn.Conv1d, x: torch.Tensor) -> torch.Tensor:
    """A convolution along time with frames before channels: ``(N, T, C)`` -> ``(N, T', D)``.

    As a matrix product over windows where `_by_products`: cuDNN plans anew for each shape, which costs five
    times what the whole network does, and the batches of an archive all differ in shape.
    """
    if not _by_products(x):
        return layer(x.transpose(1, 2)).transpose(1, 2)  # type: ignore[no-any-return]
    return convolve_by_products(layer, x)


def convolve_by_products(layer: nn.Conv1d, x: torch.Tensor) -> torch.Tensor:
    if torch.is_autocast_enabled():
        x = x.to(torch.get_autocast_gpu_dtype())
    (kernel,), (stride,), padding = layer.kernel_size, layer.stride, int(layer.padding[0])
    windows = nn.functional.pad(x, (0, 0, padding, padding)).unfold(1, kernel, stride)
    return nn.functional.linear(windows.flatten(2), layer.weight.flatten(1), layer.bias)


def _inside(lengths: torch.Tensor, frames: int) -> torch.Tensor:
    return torch.arange(frames, device=lengths.device) < lengths[:, None]


def sinusoids(length: int, channels: int) -> torch.Tensor:
    """Whisper's fixed position embedding ``(length, channels)``."""
    rates = torch.exp(-math.log(10000.0) / (channels // 2 - 1) * torch.arange(channels // 2))
    angles = torch.arange(length)[:, None] * rates[None]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def read_ctranslate2(paths: Union[str, Path, Sequence[Union[str, Path]]]) -> dict[str, np.ndarray]:
    """The arrays of a CTranslate2 ``model.bin`` by name; several paths are parts of one file.

    Raises `ModelError` for a file that is cut or of another kind.
    """
    parts = [paths] if isinstance(paths, (str, Path)) else list(paths)
    data = b"".join(Path(part).read_bytes() for part in parts)
    stream = io.BytesIO(data)
    try:
        version, spec = _u32(stream), _string(stream)
        _u32(stream)  # revision of the specification
        if spec != "WhisperSpec":
            raise ModelError(f"{parts[0]}: a CTranslate2 model of kind {spec!r}, want WhisperSpec")
        if version < 4:
            raise ModelError(f"{parts[0]}: CTranslate2 format {version}, want 4 or newer")
        arrays = {}
        for _ in range(_u32(stream)):
            name = _string(stream)
            shape = [_u32(stream) for _ in range(_take(stream, 1)[0])]
            kind = _take(stream, 1)[0]
            raw = _take(stream, _u32(stream))
            arrays[name] = np.frombuffer(raw, dtype=_CT2_TYPES[kind]).reshape(shape)
    except (struct.error, KeyError, UnicodeDecodeError, ValueError) as error:
        raise ModelError(f"{parts[0]}: not a whole CTranslate2 model: {error}") from None
    return arrays


def _take(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise ValueError(f"the file ends {size - len(data)} bytes early")
    return data


def _u32(stream: BinaryIO) -> int:
    return int(struct.unpack("<I", _take(stream, 4))[0])


def _string(stream: BinaryIO) -> str:
    (size,) = struct.unpack("<H", _take(stream, 2))
    return _take(stream, size)[:-1].decode("utf-8")


def encoder_state(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """A `WhisperEncoder` state dict (float32) from CTranslate2's arrays.

    Raises `ModelError` if an array is missing.
    """
    state: dict[str, torch.Tensor] = {}

    def take(name: str) -> torch.Tensor:
        if f"encoder/{name}" not in arrays:
            raise ModelError(f"the checkpoint has no encoder/{name}")
        return torch.from_numpy(arrays[f"encoder/{name}"].astype(np.float32))

    def norm(ours: str, theirs: str) -> None:
        state[f"{ours}.weight"] = take(f"{theirs}/gamma")
        state[f"{ours}.bias"] = take(f"{theirs}/beta")

    def linear(ours: str, theirs: str) -> None:
        state[f"{ours}.weight"] = take(f"{theirs}/weight")
        state[f"{ours}.bias"] = take(f"{theirs}/bias")

    linear("conv1", "conv1")
    linear("conv2", "conv2")
    norm("norm", "layer_norm")
    number = 0
    while f"encoder/layer_{number}/ffn/linear_0/weight" in arrays:
        ours, theirs = f"layers.{number}", f"layer_{number}"
        norm(f"{ours}.attention_norm", f"{theirs}/self_attention/layer_norm")
        norm(f"{ours}.ffn_norm", f"{theirs}/ffn/layer_norm")
        linear(f"{ours}.attention.out", f"{theirs}/self_attention/linear_1")
        linear(f"{ours}.ffn_in", f"{theirs}/ffn/linear_0")
        linear(f"{ours}.ffn_out", f"{theirs}/ffn/linear_1")
        weight = take(f"{theirs}/self_attention/linear_0/weight").chunk(3)
        bias = take(f"{theirs}/self_attention/linear_0/bias").chunk(3)
        for projection, w, b in zip(("query", "key", "value"), weight, bias):
            state[f"{ours}.attention.{projection}.weight"] = w.clone()
            if projection != "key":
                state[f"{ours}.attention.{projection}.bias"] = b.clone()
        number += 1
    return state


def pretrained_state(paths: Sequence[Union[str, Path]]) -> dict[str, torch.Tensor]:
    """The weights of a pretrained encoder: CTranslate2's ``model.bin``, whole or in parts, or a folder
    or name of a hub's (`uyir.asr.hub`). Raises `ModelError`."""
    if len(paths) == 1 and not Path(paths[0]).is_file():
        from uyir.asr.hub import read_hub

        return read_hub(str(paths[0])).state
    return encoder_state(read_ctranslate2(paths))


def mix_encoder(model: nn.Module, pretrained: dict[str, torch.Tensor], tuned: float) -> None:
    """Move a fine-tuned model's encoder back towards the pretrained one, in place.

    Each weight becomes `tuned` of its fine-tuned and the rest of its pretrained value (Wortsman et
    al. 2022, weight-space ensembles): fine-tuning on synthetic speech forgets how people sound, and
    the mean of the two hears both. `pretrained` is what `pretrained_state` gives; the head stays.
    Raises `ModelError` for another encoder or a share that is none.
    """
    if not 0 <= tuned <= 1:
        raise ModelError(f"the tuned share is {tuned}, want 0 to 1")
    encoder = getattr(model, "whisper", None) or getattr(model, "hub", None)
    if encoder is None:
        raise ModelError("only a model with a pretrained encoder can be mixed with it again")
    state = encoder.state_dict()
    try:
        encoder.load_state_dict(
            {name: tuned * value + (1 - tuned) * pretrained[name] for name, value in state.items()}
        )
    except (KeyError, RuntimeError) as error:
        raise ModelError(f"the pretrained encoder is not of this shape: {error}") from None
