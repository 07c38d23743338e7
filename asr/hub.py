"""Encoders from the Hugging Face hub, or from a folder in its format, under our CTC head.

Whisper's are read into our own module (`uyir.asr.whisper`), and the model needs `transformers` no longer
once it is trained. The wav2vec 2.0 family (`FAMILIES`) keeps the modules of `transformers`, which read the
waveform itself: `HubEncoder` runs them so that an utterance is not changed by what it is batched with.
What is needed to build the encoder again stands in our model's configuration; nothing of a model folder
is unpickled, and no code of a hub's is run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional

import torch
from torch import nn

from uyir.asr.audio import SAMPLE_RATE
from uyir.errors import ModelError

#: Model types of `transformers` that are built like wav2vec 2.0. Not its Conformer and data2vec, whose
#: convolutions hear the padding of a batch.
FAMILIES = (
    "wav2vec2",
    "hubert",
    "wavlm",
    "unispeech",
    "unispeech-sat",
)
_STRIDE = 320  # samples a frame: 20 ms
INSTALL = "pip install 'uyir[hub]'"


@dataclass(frozen=True)
class Pretrained:
    """An encoder that was read: fields of a `ModelConfig` that it needs, and its weights by the names
    that they have in ``CtcModel.whisper`` or ``CtcModel.hub``."""

    model: dict[str, Any]
    frontend: dict[str, Any]
    state: dict[str, torch.Tensor]


def read_hub(name: str) -> Pretrained:
    """Read an encoder by its name on the hub, or from a folder in its format.

    Raises `ModelError` where `transformers` is missing, nothing readable is there, or the model is of
    neither family.
    """
    transformers = _transformers(name)
    config = _read(name, "configuration", transformers.AutoConfig.from_pretrained, name)
    if config.model_type != "whisper" and config.model_type not in FAMILIES:
        raise ModelError(
            f"{name}: a model of type {config.model_type!r}, want whisper or {', '.join(FAMILIES)}"
        )
    whole = _read(name, "model", transformers.AutoModel.from_pretrained, name).float()
    if config.model_type == "whisper":
        return _whisper(name, config, whole.encoder.state_dict())
    encoder = HubEncoder(_kept(config))
    names = set(encoder.state_dict())
    _fold_weight_norm(whole)
    state = {key: value for key, value in whole.state_dict().items() if key in names}
    normalise = True
    try:
        features = transformers.AutoFeatureExtractor.from_pretrained(name)
    except Exception:  # older checkpoints have none: the family's habit then
        features = None
    if features is not None:
        rate = int(getattr(features, "sampling_rate", SAMPLE_RATE))
        if rate != SAMPLE_RATE:
            raise ModelError(f"{name}: hears {rate} Hz, want {SAMPLE_RATE}")
        normalise = bool(getattr(features, "do_normalize", True))
    model = {
        "encoder": "hub",
        "dim": config.hidden_size,
        "heads": config.num_attention_heads,
        "layers": config.num_hidden_layers,
        "hub": _kept(config),
    }
    return Pretrained(model, {"kind": "waveform", "bins": 1, "normalise": normalise}, state)


def _transformers(name: str) -> Any:
    try:
        import transformers
    except ImportError:
        raise ModelError(f"{name}: wants transformers, which is not installed: {INSTALL}") from None
    # Its notes on weights that are not used (a decoder's, say) would be read as faults.
    transformers.logging.set_verbosity_error()
    return transformers


def _read(name: str, what: str, read: Any, *arguments: Any) -> Any:
    try:
        return read(*arguments)
    except Exception as error:  # of many kinds: no network, no such model, a damaged file
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{name}: no {what} that transformers can read: {reason}") from None


def _kept(config: Any) -> dict[str, Any]:
    """What of a configuration of `transformers` builds the encoder again."""
    values: dict[str, Any] = config.to_diff_dict()
    values["model_type"] = config.model_type
    # Which text, which machine and which release it was saved with; a head of other tasks.
    for key in (
        "_name_or_path",
        "architectures",
        "dtype",
        "torch_dtype",
        "transformers_version",
        "vocab_size",
        "label2id",
        "id2label",
        "num_labels",
        "tie_word_embeddings",
    ):
        values.pop(key, None)
    return values


def _whisper(name: str, config: Any, theirs: Mapping[str, torch.Tensor]) -> Pretrained:
    """Whisper's encoder under our names (`uyir.asr.whisper.WhisperEncoder`)."""
    from uyir.asr.whisper import MAX_POSITIONS, sinusoids

    if config.activation_function != "gelu":
        raise ModelError(f"{name}: activation {config.activation_function!r}, want gelu")
    positions = theirs["embed_positions.weight"].float()[:MAX_POSITIONS]
    if not torch.allclose(positions, sinusoids(len(positions), config.d_model), atol=1e-3):
        raise ModelError(f"{name}: its positions are not Whisper's")
    names = {
        "self_attn_layer_norm": "attention_norm",
        "self_attn.q_proj": "attention.query",
        "self_attn.k_proj": "attention.key",
        "self_attn.v_proj": "attention.value",
        "self_attn.out_proj": "attention.out",
        "final_layer_norm": "ffn_norm",
        "fc1": "ffn_in",
        "fc2": "ffn_out",
    }
    state: dict[str, torch.Tensor] = {}
    for key, value in theirs.items():
        module, _, parameter = key.rpartition(".")
        if module == "embed_positions":
            continue
        if module.startswith("layers."):
            layers, number, part = module.split(".", 2)
            module = f"{layers}.{number}.{names[part]}"
        elif module == "layer_norm":
            module = "norm"
        state[f"{module}.{parameter}"] = value.float()
    model = {
        "encoder": "whisper",
        "dim": config.d_model,
        "heads": config.encoder_attention_heads,
        "layers": config.encoder_layers,
    }
    return Pretrained(model, {"kind": "whisper-logmel", "bins": config.num_mel_bins}, state)


class HubEncoder(nn.Module):
    """A wav2vec 2.0 encoder: waveforms ``(N, S, 1)`` -> hidden states ``(N, T, D)``, 20 ms a frame.

    `prefix` vectors, if given, stand in front of the frames and are not among the outputs. The
    submodules are those of `transformers`, under their names.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        values = dict(config)
        kind = values.pop("model_type", None)
        if kind not in FAMILIES:
            raise ModelError(f"hub encoder of type {kind!r}, want {', '.join(FAMILIES)}")
        transformers = _transformers(f"an encoder of type {kind}")
        # Layers that are dropped at random would differ among the processes of a run.
        values.update(layerdrop=0.0, apply_spec_augment=False, add_adapter=False)
        try:
            settings = transformers.AutoConfig.for_model(kind, **values)
            whole = transformers.AutoModel.from_config(settings)
        except Exception as error:
            raise ModelError(f"hub encoder of type {kind}: {error}") from None
        stride = math.prod(settings.conv_stride)
        if stride != _STRIDE:
            raise ModelError(f"hub encoder with {stride} samples a frame, want {_STRIDE}")
        _fold_weight_norm(whole)
        #: Whether the encoder's norm stands after its blocks, not before them.
        self.norm_last = bool(getattr(settings, "do_stable_layer_norm", False))
        self.feature_extractor = whole.feature_extractor
        self.feature_projection = whole.feature_projection
        self.encoder = whole.encoder
        positions = getattr(self.encoder, "pos_conv_embed", None)
        if isinstance(getattr(positions, "conv", None), nn.Conv1d):
            self.encoder.pos_conv_embed = _Positions(positions)
        embedding = getattr(whole, "masked_spec_embed", None)
        if embedding is None:
            embedding = nn.Parameter(torch.zeros(settings.hidden_size))
        self.masked_spec_embed = embedding
        self._kernels = list(zip(settings.conv_kernel, settings.conv_stride))

    def lengths(self, samples: torch.Tensor) -> torch.Tensor:
        """Frames out for samples in."""
        for kernel, stride in self._kernels:
            samples = torch.div(samples - kernel, stride, rounding_mode="floor") + 1
        return samples.clamp(min=1)

    def forward(
        self,
        waves: torch.Tensor,
        samples: torch.Tensor,
        prefix: Optional[torch.Tensor] = None,
        masked: Optional[torch.Tensor] = None,
        inter_layer: int = 0,
    ) -> tuple[torch.Tensor, Optional[torch.Tensor]]:
        """``(N, S, 1)``, ``(N,)`` samples -> hidden states, and those after block `inter_layer`, if any.

        Frames at which `masked` ``(N, T)`` is true are hidden from the encoder (T may be more than there
        are).
        """
        x = self._features(waves[..., 0], samples)
        found = self.feature_projection(x)
        x = found[0] if isinstance(found, tuple) else found
        lengths = self.lengths(samples)
        inside = torch.arange(x.shape[1], device=x.device) < lengths[:, None]
        if masked is not None:
            hidden = masked[:, : x.shape[1]]
            x = torch.where(hidden[..., None], self.masked_spec_embed.to(x.dtype), x)
        lead = 0
        if prefix is not None:
            lead = prefix.shape[1]
            x = torch.cat([prefix.to(x.dtype), x], dim=1)
            inside = torch.arange(x.shape[1], device=x.device) < (lengths + lead)[:, None]
        kept: list[torch.Tensor] = []
        hook = None
        if inter_layer:
            hook = self.encoder.layers[inter_layer - 1].register_forward_hook(
                lambda module, given, out: kept.append(out[0] if isinstance(out, tuple) else out)
            )
        try:
            x = self.encoder(x, attention_mask=inside)[0]
        finally:
            if hook is not None:
                hook.remove()
        inter = kept[0][:, lead:] if kept else None
        if inter is not None and self.norm_last:
            inter = self.encoder.layer_norm(inter)
        return x[:, lead:], inter

    def _features(self, waves: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
        """The convolutions ``(N, S) -> (N, T, C)``, normalising over an utterance's own frames."""
        least = 1
        for kernel, stride in reversed(self._kernels):
            least = (least - 1) * stride + kernel
        if waves.shape[1] < least:
            waves = nn.functional.pad(waves, (0, least - waves.shape[1]))
        x = waves[:, None]
        lengths = samples.clamp(min=least)
        layers = list(self.feature_extractor.conv_layers)
        for number, (layer, (kernel, stride)) in enumerate(zip(layers, self._kernels), start=1):
            x = layer.conv(x)
            lengths = torch.div(lengths - kernel, stride, rounding_mode="floor") + 1
            norm = getattr(layer, "layer_norm", None)
            if isinstance(norm, nn.GroupNorm):
                x = _normalised(x, lengths, norm)
            elif norm is not None:
                x = norm(x.transpose(1, 2)).transpose(1, 2)
            # Transposed before the last activation: torch 1.13's gradient of gelu takes a transposed one
            # for garbage.
            if number == len(layers):
                x = x.transpose(1, 2).contiguous()
            x = layer.activation(x)
        return x


class _Positions(nn.Module):
    """The positional convolution of `transformers`, activated after it is transposed (see above)."""

    def __init__(self, theirs: Any) -> None:
        super().__init__()
        self.conv = theirs.conv
        self.activation = theirs.activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        frames = x.shape[1]
        y = self.conv(x.transpose(1, 2))[..., :frames]
        return self.activation(y.transpose(1, 2).contiguous())  # type: ignore[no-any-return]


def _normalised(x: torch.Tensor, lengths: torch.Tensor, norm: nn.GroupNorm) -> torch.Tensor:
    """A group norm of one channel a group over the frames ``(N, C, T)`` inside each utterance alone."""
    inside = (torch.arange(x.shape[2], device=x.device) < lengths[:, None])[:, None]
    values = x.float() * inside
    count = lengths[:, None, None].to(values.dtype)
    mean = values.sum(dim=2, keepdim=True) / count
    spread = ((values - mean).square() * inside).sum(dim=2, keepdim=True) / count
    values = (values - mean) * (spread + norm.eps).rsqrt()
    values = values * norm.weight[:, None] + norm.bias[:, None]
    return values.to(x.dtype)


def _fold_weight_norm(model: nn.Module) -> None:
    """Weights in place of magnitude and direction: torch versions name these differently."""
    from torch.nn.utils import parametrize

    for module in model.modules():
        if not isinstance(module, nn.Conv1d):
            continue
        if hasattr(module, "parametrizations"):
            parametrize.remove_parametrizations(module, "weight")
        elif hasattr(module, "weight_g"):
            nn.utils.remove_weight_norm(module)
