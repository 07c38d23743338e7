"""The acoustic model: an encoder and a linear CTC head over phones.

The encoder is convolutional subsampling and a Conformer or a time-delay network (`uyir.asr.tdnn`), or a
pretrained one, of Whisper (`uyir.asr.whisper`) or of the wav2vec 2.0 family (`uyir.asr.hub`), and a strided
convolution. One model hears all its languages; a learned embedding of the language stands in front of the input
frames and tells it which one. The Conformer's layers are torchaudio's (`torchaudio.models.Conformer`), run by our
own forward pass, for two reasons: padding is masked before every convolution, and normalisation
inside the convolution module is over the features of one frame. So the output of an utterance does
not depend on what it is batched with, in training neither, and state-dict names are torchaudio's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Optional, Union

import torch
from torch import nn

from uyir import LANGUAGES
from uyir.asr.features import FrontendConfig
from uyir.asr.whisper import WhisperEncoder, convolve
from uyir.errors import ModelError

#: Encoders, and the frontend that each hears.
ENCODERS = {
    "conformer": "kaldi-fbank",
    "tdnn": "kaldi-fbank",
    "whisper": "whisper-logmel",
    "hub": "waveform",
}
#: Encoders that were trained by others, on features that are not ours to normalise.
PRETRAINED = ("whisper", "hub")


@dataclass(frozen=True)
class ModelConfig:
    """Shape of a `CtcModel`. `frontend` says which features it was trained on.

    `ffn_dim`, `kernel`, `subsampling_channels` and `inter_layer` are the Conformer's and the TDNN's,
    `chunk` and `left_chunks` the Conformer's, `hub` the configuration that `uyir.asr.hub.HubEncoder` builds a
    ``hub`` encoder of.
    """

    tokens: int
    languages: tuple[str, ...] = LANGUAGES
    encoder: str = "conformer"
    dim: int = 256
    heads: int = 4
    ffn_dim: int = 512
    layers: int = 7
    kernel: int = 31
    subsampling_channels: int = 64
    dropout: float = 0.1
    #: Layer (counted from 1) after which the head is applied too; 0 for none.
    inter_layer: int = 0
    #: For streaming: output frames (of 40 ms) a chunk; attention sees its own chunk and `left_chunks`
    #: before it, convolutions only the past. 0: the whole recording.
    chunk: int = 0
    left_chunks: int = 4
    hub: Optional[dict[str, Any]] = None
    frontend: FrontendConfig = field(default_factory=FrontendConfig)

    def __post_init__(self) -> None:
        if self.tokens < 2:
            raise ModelError(f"{self.tokens} tokens, want at least the blank and one more")
        if not self.languages or len(set(self.languages)) != len(self.languages):
            raise ModelError(f"languages {self.languages}, want one or more different ones")
        if self.encoder not in ENCODERS:
            raise ModelError(f"unknown encoder {self.encoder!r}, want {' or '.join(ENCODERS)}")
        if self.chunk < 0 or self.left_chunks < 0:
            raise ModelError(f"chunk {self.chunk}, left_chunks {self.left_chunks}, want 0 or more")
        if self.chunk and self.encoder != "conformer":
            raise ModelError(f"a {self.encoder} encoder has no chunks; only the Conformer streams")
        if self.frontend.kind != ENCODERS[self.encoder]:
            raise ModelError(f"a {self.encoder} encoder cannot hear {self.frontend.kind} features")
        if (self.encoder == "hub") != (self.hub is not None):
            raise ModelError(f"a {self.encoder} encoder, and hub is {self.hub}: they go together")
        if self.dim % self.heads:
            raise ModelError(f"dim {self.dim} is not a multiple of heads {self.heads}")
        if self.kernel % 2 == 0:
            raise ModelError(f"kernel {self.kernel}, want an odd one")
        if not 0 <= self.inter_layer < self.layers:
            raise ModelError(f"inter_layer {self.inter_layer}, want 0 to {self.layers - 1}")

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "languages": list(self.languages)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelConfig:
        """Raises `ModelError` for unknown, missing or impossible values."""
        values = dict(values)
        try:
            values["frontend"] = FrontendConfig(**values.get("frontend", {}))
            if "languages" in values:
                values["languages"] = tuple(values["languages"])
            return cls(**values)
        except TypeError as error:
            raise ModelError(f"model configuration: {error}") from None


class FrameNorm(nn.LayerNorm):
    """Layer norm over the channels of ``(N, C, T)``, a frame at a time."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input.transpose(1, 2)).transpose(1, 2)


class Subsampling(nn.Module):
    """Two strided 3x3 convolutions: 10 ms frames ``(N, T, F)`` -> 40 ms frames ``(N, T', D)``.

    T' = ceil(ceil(T / 2) / 2), so one frame in is one frame out.
    """

    def __init__(self, bins: int, channels: int, dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, channels, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.out = nn.Linear(channels * self.lengths(bins), dim)

    @staticmethod
    def lengths(frames: Any) -> Any:
        """Frames out for frames in, an int or a tensor."""
        return ((frames + 1) // 2 + 1) // 2

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.conv1(x[:, None]))
        half = torch.div(lengths + 1, 2, rounding_mode="floor")
        x = x * _inside(half, x.shape[2])[:, None, :, None]
        x = torch.relu(self.conv2(x))
        return self.out(x.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class CtcModel(nn.Module):
    """Features ``(N, T, F)`` -> log probabilities ``(N, T', C)`` of the tokens, 0 being the blank.

    `mean` and `inv_std` ``(F,)`` are global constants of the training data, stored with the weights,
    so that an utterance is normalised before its end is known.
    """

    mean: torch.Tensor
    inv_std: torch.Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mean", torch.zeros(config.frontend.bins))
        self.register_buffer("inv_std", torch.ones(config.frontend.bins))
        self.language = nn.Embedding(len(config.languages), config.dim)
        self.dropout = nn.Dropout(config.dropout)
        if config.encoder == "whisper":
            self._make_whisper(config)
        elif config.encoder == "hub":
            self._make_hub(config)
        elif config.encoder == "tdnn":
            self._make_tdnn(config)
        else:
            self._make_conformer(config)
        self.head = nn.Linear(config.dim, config.tokens)

    def _make_whisper(self, config: ModelConfig) -> None:
        self.whisper = WhisperEncoder(
            config.dim, config.heads, config.layers, config.dropout, config.frontend.bins
        )
        self.down = nn.Conv1d(config.dim, config.dim, 3, stride=2, padding=1)

    def _make_hub(self, config: ModelConfig) -> None:
        from uyir.asr.hub import HubEncoder

        self.hub = HubEncoder(config.hub or {})
        self.down = nn.Conv1d(config.dim, config.dim, 3, stride=2, padding=1)
        # As small as what the encoder is used to: large ones would drown the first frames.
        nn.init.normal_(self.language.weight, std=0.02)

    def _make_tdnn(self, config: ModelConfig) -> None:
        from uyir.asr.tdnn import Tdnn

        self.subsampling = Subsampling(
            config.frontend.bins, config.subsampling_channels, config.dim
        )
        self.tdnn = Tdnn(config.dim, config.ffn_dim, config.layers, config.kernel, config.dropout)

    def _make_conformer(self, config: ModelConfig) -> None:
        import torchaudio

        self.subsampling = Subsampling(
            config.frontend.bins, config.subsampling_channels, config.dim
        )
        self.conformer = torchaudio.models.Conformer(
            config.dim,
            config.heads,
            config.ffn_dim,
            config.layers,
            config.kernel,
            dropout=config.dropout,
        )
        for layer in self.conformer.conformer_layers:
            layer.conv_module.sequential[3] = FrameNorm(config.dim)

    def set_normalisation(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        """Set the global mean and standard deviation ``(F,)`` of the features.

        A pretrained encoder keeps the features that it was trained on.
        """
        if self.config.encoder in PRETRAINED:
            return
        self.mean.copy_(mean)
        self.inv_std.copy_(1.0 / std.clamp(min=1e-3))

    def language_ids(self, language: Union[str, Sequence[str]], batch: int) -> torch.Tensor:
        """Row numbers ``(N,)`` of the language, or of one language an utterance."""
        names = [language] * batch if isinstance(language, str) else list(language)
        if len(names) != batch:
            raise ModelError(f"{len(names)} languages for a batch of {batch}")
        for name in names:
            if name not in self.config.languages:
                raise ModelError(
                    f"the model knows no language {name!r}, only {', '.join(self.config.languages)}"
                )
        return torch.tensor([self.config.languages.index(name) for name in names])

    def forward(
        self,
        features: torch.Tensor,
        lengths: torch.Tensor,
        language: torch.Tensor,
        masked: Optional[torch.Tensor] = None,
    ) -> tuple[torch.Tensor, torch.Tensor, Optional[torch.Tensor]]:
        """``(N, T, F)``, ``(N,)`` frames, ``(N,)`` language rows -> log_probs, lengths, inter.

        `inter` are the log probabilities after `inter_layer`, ``(N, T', C)``, or None. `masked` are the
        frames of 20 ms ``(N, T20)`` that a hub encoder shall not hear; others have their features masked.
        """
        lengths = lengths.to(features.device)
        x = (features - self.mean) * self.inv_std
        x = x * _inside(lengths, x.shape[1])[..., None]
        token = self.language(language.to(x.device))[:, None]
        if self.config.encoder == "whisper":
            x, inter = self.whisper.both(x, lengths, token, self.config.inter_layer)
            return self._halved(x, inter, self.whisper.lengths(lengths))
        if self.config.encoder == "hub":
            x, inter = self.hub(x, lengths, token, masked, self.config.inter_layer)
            return self._halved(x, inter, self.hub.lengths(lengths))
        if self.config.encoder == "tdnn":
            return self._run_tdnn(x, lengths, token)
        return self._run_conformer(x, lengths, token)

    def _run_tdnn(
        self, x: torch.Tensor, lengths: torch.Tensor, token: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, Optional[torch.Tensor]]:
        # A token in front would be out of reach of most frames: it is added to each.
        x = self.dropout(self.subsampling(x, lengths) + token)
        out_lengths = Subsampling.lengths(lengths)
        inside = _inside(out_lengths, x.shape[1])
        inter = None
        for number, layer in enumerate(self.tdnn.layers, start=1):
            x = layer(x, inside)
            if number == self.config.inter_layer:
                inter = self._log_probs(x)
        return self._log_probs(self.tdnn.norm(x)), out_lengths, inter

    def _halved(
        self, x: torch.Tensor, inter: Optional[torch.Tensor], lengths: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, Optional[torch.Tensor]]:
        """A pretrained encoder's states of 20 ms ``(N, T, D)`` -> log probabilities of 40 ms."""
        found: list[Optional[torch.Tensor]] = []
        for states in (x, inter):
            if states is None:
                found.append(None)
                continue
            states = states * _inside(lengths, states.shape[1])[..., None]
            # Transposed before gelu: torch 1.13's gradient of gelu takes a transposed one for garbage.
            states = nn.functional.gelu(convolve(self.down, states))
            found.append(self._log_probs(self.dropout(states)))
        last = found[0]
        assert last is not None
        return last, torch.div(lengths + 1, 2, rounding_mode="floor"), found[1]

    def _run_conformer(
        self, x: torch.Tensor, lengths: torch.Tensor, token: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, Optional[torch.Tensor]]:
        x = self.subsampling(x, lengths)
        out_lengths = Subsampling.lengths(lengths)
        x = self.dropout(torch.cat([token.to(x.dtype), x], dim=1))
        inside = _inside(out_lengths + 1, x.shape[1])
        x = x.transpose(0, 1)
        chunk = self.config.chunk
        hidden = chunk_mask(len(x), chunk, self.config.left_chunks, x.device) if chunk else None
        inter = None
        for number, layer in enumerate(self.conformer.conformer_layers, start=1):
            x = _conformer_layer(layer, x, inside, hidden)
            if number == self.config.inter_layer:
                inter = self._log_probs(x[1:].transpose(0, 1))
        return self._log_probs(x[1:].transpose(0, 1)), out_lengths, inter

    def _log_probs(self, x: torch.Tensor) -> torch.Tensor:
        """Hidden states ``(N, T', D)`` -> log probabilities ``(N, T', C)``."""
        return torch.log_softmax(self.head(x).float(), dim=-1)

    @torch.no_grad()
    def log_probs(
        self,
        features: torch.Tensor,
        lengths: torch.Tensor,
        language: Union[str, Sequence[str]],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Features ``(N, T, F)``, frames ``(N,)`` -> log_probs ``(N, T', C)``, lengths ``(N,)``.

        One output frame is 40 ms; frames past an utterance's length are not meaningful. Call in
        `eval` mode. Raises `ModelError` for a language that the model does not know.
        """
        ids = self.language_ids(language, len(features))
        log_probs, out_lengths, _ = self(features, lengths, ids)
        return log_probs, out_lengths


def _inside(lengths: torch.Tensor, frames: int) -> torch.Tensor:
    """``(N, T)``, true inside an utterance."""
    return torch.arange(frames, device=lengths.device) < lengths[:, None]


def chunk_mask(frames: int, chunk: int, left_chunks: int, device: torch.device) -> torch.Tensor:
    """What attention does not see, ``(T, T)``, true where row must not look at column.

    Frame 0 is the language token: every frame sees it, and it sees itself alone, or it would
    carry the end of a recording to its beginning.
    """
    number = torch.div(torch.arange(frames, device=device) - 1, chunk, rounding_mode="floor")
    seen = (number[None] <= number[:, None]) & (number[None] >= number[:, None] - left_chunks)
    seen[:, 0] = True
    seen[0, 1:] = False
    return ~seen


def _conformer_layer(
    layer: Any, x: torch.Tensor, inside: torch.Tensor, hidden: Optional[torch.Tensor] = None
) -> torch.Tensor:
    """One torchaudio `ConformerLayer` on ``(T, N, D)``, masking padding before its convolution.

    With `hidden` (`chunk_mask`), attention does not see that, and the convolution no later frame.
    """
    x = x + 0.5 * layer.ffn1(x)
    y = layer.self_attn_layer_norm(x)
    y, _ = layer.self_attn(y, y, y, key_padding_mask=~inside, attn_mask=hidden, need_weights=False)
    x = x + layer.self_attn_dropout(y)
    pointwise_in, glu, depthwise, norm, activation, pointwise_out, drop = (
        layer.conv_module.sequential
    )
    y = layer.conv_module.layer_norm(x).permute(1, 2, 0)
    y = glu(pointwise_in(y)) * inside[:, None]
    if hidden is None:
        y = depthwise(y)
    else:
        # Moved by half a kernel, the convolution ends at its frame.
        frames = y.shape[2]
        y = depthwise(nn.functional.pad(y, (depthwise.kernel_size[0] // 2, 0)))[..., :frames]
    y = drop(pointwise_out(activation(norm(y))))
    x = x + y.permute(2, 0, 1)
    x = x + 0.5 * layer.ffn2(x)
    return layer.final_layer_norm(x)  # type: ignore[no-any-return]


def greedy(log_probs: torch.Tensor, lengths: torch.Tensor) -> list[list[int]]:
    """Best token a frame, repeats merged, blanks dropped: ``(N, T, C)`` -> N token lists."""
    best = log_probs.argmax(dim=-1).cpu()
    results = []
    for row, length in zip(best, lengths.tolist()):
        merged = torch.unique_consecutive(row[:length]).tolist() if length else []
        results.append([token for token in merged if token != 0])
    return results
