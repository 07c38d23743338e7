"""What a pretrained encoder keeps while it is fine-tuned.

Four ways, which go together: frozen blocks, rates that fall from block to block downwards, low-rank
adapters in place of the weights themselves (LoRA, Hu et al. 2021), and a pull to the weights that
the run started from (L2-SP, Li et al. 2018).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Optional

import torch
from torch import nn
from torch.nn.utils import parametrize

from uyir.asr.model import CtcModel
from uyir.errors import ModelError

_BLOCK = re.compile(
    r"(?:whisper\.layers|hub\.encoder\.layers|conformer\.conformer_layers|tdnn\.layers)\.(\d+)\."
)
_ENCODER = ("whisper.", "hub.", "conformer.", "tdnn.", "subsampling.")
_LAST_NORM = ("whisper.norm.", "tdnn.norm.")
_ADAPTED = re.compile(r"(.*)\.parametrizations\.(\w+)\.original")


def depth(name: str, layers: int, norm_last: bool = False) -> Optional[int]:
    """Block that a parameter belongs to, from 1; 0 for what lies below, None for what lies above.

    The norm after the last block counts as part of it; `norm_last` says whether a hub encoder's norm
    stands there, not before the first block.
    """
    if not name.startswith(_ENCODER):
        return None
    block = _BLOCK.match(name)
    if block:
        return int(block[1]) + 1
    if name.startswith("hub.encoder.layer_norm."):
        return layers if norm_last else 0
    return layers if name.startswith(_LAST_NORM) else 0


def _depth_in(model: CtcModel) -> Callable[[str], Optional[int]]:
    """`depth` of the parameters of a model."""
    hub = getattr(model, "hub", None)
    return functools.partial(
        depth, layers=model.config.layers, norm_last=hub is not None and hub.norm_last
    )


class LowRank(nn.Module):
    """``W -> W + scale * up @ down`` for a matrix ``(D, E)``, which is itself left as it is."""

    scale: torch.Tensor

    def __init__(self, weight: torch.Tensor, rank: int, alpha: float) -> None:
        super().__init__()
        rows, columns = weight.shape
        self.down = nn.Parameter(torch.empty(rank, columns))
        self.up = nn.Parameter(torch.zeros(rows, rank))
        nn.init.kaiming_uniform_(self.down, a=5**0.5)
        self.register_buffer("scale", torch.tensor(alpha / rank))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight + self.scale * (self.up @ self.down)


def add_adapters(model: CtcModel, rank: int, alpha: float, above: int = 0) -> None:
    """Put a `LowRank` on every matrix of the encoder's blocks above block `above`, in place.

    The rest of the encoder is frozen by `freeze` with all its blocks, not here.
    """
    block_of = _depth_in(model)
    for name, module in list(model.named_modules()):
        for part, weight in list(module.named_parameters(recurse=False)):
            block = block_of(f"{name}.{part}")
            if block is not None and block > above and weight.dim() == 2:
                adapter = LowRank(weight, rank, alpha).to(weight.device)
                parametrize.register_parametrization(module, part, adapter)


def is_adapter(name: str) -> bool:
    """Whether a parameter is an adapter's."""
    return ".parametrizations." in name and name.endswith((".down", ".up"))


def merge_adapters(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state dict without adapters, their products added to the weights that they are on."""
    merged: dict[str, torch.Tensor] = {}
    for name, value in state.items():
        found = _ADAPTED.fullmatch(name)
        if found:
            prefix = f"{found[1]}.parametrizations.{found[2]}.0."
            up, down, scale = (state[prefix + part] for part in ("up", "down", "scale"))
            merged[f"{found[1]}.{found[2]}"] = value + scale * (up @ down)
        elif ".parametrizations." not in name:
            merged[name] = value
    return merged


def freeze(model: CtcModel, frozen_layers: Optional[int], adapted: bool) -> None:
    """Let the first `frozen_layers` blocks and what lies below them, or, with adapters, the whole
    encoder but these, no longer learn. Raises `ModelError` for more blocks than there are."""
    layers = model.config.layers
    if frozen_layers is not None and frozen_layers > layers:
        raise ModelError(f"frozen_layers is {frozen_layers}, but the encoder has {layers} blocks")
    block_of = _depth_in(model)
    for name, parameter in model.named_parameters():
        block = block_of(name)
        if block is None or is_adapter(name):
            continue
        if adapted or (frozen_layers is not None and block <= frozen_layers):
            parameter.requires_grad_(False)


def frozen_modules(model: CtcModel) -> list[nn.Module]:
    """Modules none of whose weights learn; they keep quiet, without dropout, while others train."""
    return [
        module
        for module in model.modules()
        if (parameters := list(module.parameters()))
        and not any(parameter.requires_grad for parameter in parameters)
    ]


def parameter_groups(
    model: CtcModel,
    weight_decay: float,
    pretrained_rate: float,
    layer_decay: float,
    anchored: Collection[str] = (),
) -> list[dict[str, Any]]:
    """Groups for the optimiser, each with its `rate`, which the run's learning rate is times.

    Matrices decay and vectors do not; nor do those of the names `anchored`. A pretrained encoder's
    weights have the rate `pretrained_rate`, adapters and all else 1; each block's is `layer_decay`
    times that of the block above it.
    """
    layers, block_of = model.config.layers, _depth_in(model)
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        adapter = is_adapter(name)
        block = block_of(name)
        pretrained = name.startswith(("whisper.", "hub.")) and not adapter
        rate = pretrained_rate if pretrained else 1.0
        if block is not None:
            rate *= layer_decay ** (layers - block)
        decays = parameter.dim() >= 2 and name not in anchored
        groups.setdefault((decays, rate), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": weight_decay if decays else 0.0, "rate": rate}
        for (decays, rate), parameters in groups.items()
    ]


def anchored_names(model: CtcModel, whole: bool) -> list[str]:
    """Names of the weights that learn and that the run started from: the encoder's, or all of them
    if the `whole` model was there before."""
    block_of = _depth_in(model)
    return [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
        and not is_adapter(name)
        and (whole or block_of(name) is not None)
    ]


class Anchor:
    """Pulls weights to what they are now.

    After each step w becomes ``w - lr * strength * (w - start)``: the gradient step of the penalty
    ``strength / 2 * |w - start|^2``, apart from Adam's scaling, as AdamW does with its decay.
    """

    def __init__(self, model: CtcModel, names: Collection[str], strength: float) -> None:
        self.strength = strength
        self._start = {
            id(parameter): parameter.detach().clone()
            for name, parameter in model.named_parameters()
            if name in names
        }

    @torch.no_grad()
    def pull(self, optimiser: torch.optim.Optimizer) -> None:
        """Pull each weight at the learning rate of its group."""
        for group in optimiser.param_groups:
            for parameter in group["params"]:
                start = self._start.get(id(parameter))
                if start is not None:
                    part = min(1.0, group["lr"] * self.strength)
                    parameter.lerp_(start, part)
