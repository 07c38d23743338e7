"""From a training run's checkpoints to a model folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional, Union

import torch

from uyir.asr.checkpoint import save_model
from uyir.asr.model import CtcModel, ModelConfig
from uyir.asr.tuning import merge_adapters
from uyir.errors import ModelError

CHECKPOINT_VERSION = 1


def read_checkpoint(path: Union[str, Path]) -> dict[str, Any]:
    """Read a training checkpoint, tensors and plain values only; raises `ModelError`."""
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"{path}: no such checkpoint")
    try:
        state = torch.load(str(path), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise ModelError(f"{path}: damaged checkpoint: {error}") from None
    if not isinstance(state, dict) or state.get("version") != CHECKPOINT_VERSION:
        raise ModelError(f"{path}: not a checkpoint of version {CHECKPOINT_VERSION}")
    state["progress"] = json.loads(state["progress"])
    return state


def export(
    checkpoint: Union[str, Path, Sequence[Union[str, Path]]],
    folder: Union[str, Path],
    weights: str = "int8",
    pretrained: Sequence[Union[str, Path]] = (),
    tuned: float = 1.0,
    graphs: Optional[str] = None,
) -> None:
    """Write a checkpoint's averaged weights as a model folder; of several checkpoints of one run, their mean.

    With `pretrained`, the file, parts or hub model that the run's encoder came from, it is mixed with that:
    `tuned` is the fine-tuned share (`uyir.asr.whisper.mix_encoder`).
    """
    paths = [checkpoint] if isinstance(checkpoint, (str, Path)) else list(checkpoint)
    if not paths:
        raise ModelError("no checkpoint to export")
    state = read_checkpoint(paths[0])
    config = ModelConfig.from_dict(json.loads(state["model_config"]))
    merged = _averaged(state)
    for path in paths[1:]:
        other = read_checkpoint(path)
        same = ModelConfig.from_dict(json.loads(other["model_config"])) == config
        if not same or list(other["tokens"]) != list(state["tokens"]):
            raise ModelError(f"{path}: of another model than {paths[0]}: their mean hears nothing")
        for name, value in _averaged(other).items():
            merged[name] = merged[name] + value
    model = CtcModel(config)
    model.load_state_dict({name: value / len(paths) for name, value in merged.items()})
    if pretrained:
        from uyir.asr.whisper import mix_encoder, pretrained_state

        mix_encoder(model, pretrained_state(pretrained), tuned)
    save_model(folder, model, state["tokens"], weights, graphs)


def _averaged(state: dict[str, Any]) -> dict[str, torch.Tensor]:
    """A checkpoint's weights, with the running averages of those that learn, adapters merged."""
    return merge_adapters({**state["model"], **state["average"]})
