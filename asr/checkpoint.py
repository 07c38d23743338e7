"""Model folders: ``model.safetensors``, ``config.json``, ``tokens.txt``. Nothing is unpickled.

Weights of more than `PART_BYTES` are stored in parts, ``model-00001-of-00002.safetensors`` and so on.

Weights are stored as float32, float16, or int8 with one scale a row (output channel), which are
float32 again after loading. `config.json` carries a format version and the frontend.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Union

import torch

from uyir.asr.files import write_whole
from uyir.asr.model import CtcModel, ModelConfig
from uyir.errors import ModelError

FORMAT_VERSION = 1
WEIGHT_FORMATS = ("int8", "float16", "float32")

#: Files stay small enough for any host of a repository.
PART_BYTES = 15_000_000

_SCALE = "::scale"


#: What of ``config.json`` is about recognition, not about the network: fitted confidences, the languages'
#: offsets, acoustic scales.
CARRIED = ("confidence", "identify", "acoustic_scale")


@dataclass(frozen=True)
class LoadedModel:
    """A model in `eval` mode with its tokens, blank first."""

    model: CtcModel
    tokens: tuple[str, ...]
    folder: Path


def quantise(state: dict[str, torch.Tensor], weights: str) -> dict[str, torch.Tensor]:
    """A state dict as it is stored in one of `WEIGHT_FORMATS`; vectors stay float32 in int8."""
    if weights not in WEIGHT_FORMATS:
        raise ModelError(f"unknown weight format {weights!r}, want {', '.join(WEIGHT_FORMATS)}")
    stored: dict[str, torch.Tensor] = {}
    for name, value in state.items():
        value = value.detach().cpu().float().contiguous()
        if weights == "int8" and value.dim() >= 2:
            rows = value.flatten(1)
            scale = rows.abs().amax(dim=1).clamp(min=1e-12) / 127.0
            stored[name] = (rows / scale[:, None]).round().to(torch.int8).view(value.shape)
            stored[name + _SCALE] = scale
        elif weights == "float16":
            stored[name] = value.half()
        else:
            stored[name] = value
    return stored


def dequantise(stored: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Inverse of `quantise`, up to rounding: every tensor float32."""
    state = {}
    for name, value in stored.items():
        if name.endswith(_SCALE):
            continue
        if value.dtype == torch.int8:
            if name + _SCALE not in stored:
                raise ModelError(f"int8 tensor {name!r} has no scale")
            scale = stored[name + _SCALE]
            state[name] = value.float() * scale.view(-1, *[1] * (value.dim() - 1))
        else:
            state[name] = value.float()
    return state


def save_model(
    folder: Union[str, Path],
    model: CtcModel,
    tokens: Union[list[str], tuple[str, ...]],
    weights: str = "int8",
    graphs: Optional[str] = None,
    like: Optional[Union[str, Path]] = None,
) -> None:
    """Write a model folder; `tokens[i]` is the name of output i. The folder may exist.

    `graphs` names the model, beside this folder or bundled, whose graphs it shares. `like` is a model folder
    whose settings of recognition (`CARRIED`) this one takes over. Raises `DataError` where a file cannot be written.
    """
    from safetensors.torch import save

    if len(tokens) != model.config.tokens:
        raise ModelError(f"{len(tokens)} token names for {model.config.tokens} outputs")
    folder = Path(folder)
    parts = _parts(quantise(model.state_dict(), weights))
    written: set[str] = set()
    for number, part in enumerate(parts, start=1):
        name = f"model-{number:05d}-of-{len(parts):05d}" if len(parts) > 1 else "model"
        # Not save_file, which makes a file that nobody but its owner may read.
        write_whole(folder / f"{name}.safetensors", save(part))
        written.add(f"{name}.safetensors")
    for old in folder.glob("model*.safetensors"):
        if old.name not in written:
            old.unlink()
    config = {"format": FORMAT_VERSION, "weights": weights, "model": model.config.to_dict()}
    if graphs is not None:
        config["graphs"] = graphs
    if like is not None:
        old = json.loads(_read_text(Path(like) / "config.json"))
        config.update({key: old[key] for key in CARRIED if key in old})
    write_whole(folder / "config.json", json.dumps(config, indent=2) + "\n")
    lines = "".join(f"{token} {number}\n" for number, token in enumerate(tokens))
    write_whole(folder / "tokens.txt", lines)


def _parts(tensors: dict[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
    """Tensors in order, divided so that each part is at most `PART_BYTES`, if its first one is."""
    parts: list[dict[str, torch.Tensor]] = [{}]
    size = 0
    for name, value in tensors.items():
        bytes_ = value.numel() * value.element_size()
        if parts[-1] and size + bytes_ > PART_BYTES:
            parts.append({})
            size = 0
        parts[-1][name] = value
        size += bytes_
    return parts


def load_model(folder: Union[str, Path], device: Union[str, torch.device] = "cpu") -> LoadedModel:
    """Read a model folder. Raises `ModelError` naming the file that is missing, damaged, of
    another version, or that does not fit the others."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such model folder")
    config = _read_config(folder / "config.json")
    tokens = read_tokens(folder / "tokens.txt")
    if len(tokens) != config.tokens:
        raise ModelError(
            f"{folder / 'tokens.txt'}: {len(tokens)} tokens, but config.json says {config.tokens}"
        )
    model = CtcModel(config)
    paths = _weight_files(folder)
    path = paths[0]
    stored: dict[str, torch.Tensor] = {}
    for path in paths:
        stored.update(_read_tensors(path))
    try:
        model.load_state_dict(dequantise(stored))
    except (RuntimeError, ModelError) as error:
        raise ModelError(f"{path}: does not fit config.json: {error}") from None
    for name, value in model.state_dict().items():
        if not bool(torch.isfinite(value).all()):
            raise ModelError(f"{path}: {name} holds numbers that are not finite")
    return LoadedModel(model.to(device).eval(), tokens, folder)


def _weight_files(folder: Path) -> list[Path]:
    """The file of a model's weights, or its parts; `ModelError` if a part is missing."""
    parts = sorted(folder.glob("model-*-of-*.safetensors"))
    if not parts or (folder / "model.safetensors").exists():
        return [folder / "model.safetensors"]
    total = parts[-1].stem.rpartition("-")[2]
    if not total.isdigit():
        raise ModelError(f"{parts[-1]}: not a part of a model's weights")
    return [folder / f"model-{n:05d}-of-{total}.safetensors" for n in range(1, int(total) + 1)]


def read_tokens(path: Union[str, Path]) -> tuple[str, ...]:
    """Token names of a ``symbol id`` table whose ids count up from 0, the blank first."""
    path = Path(path)
    tokens: list[str] = []
    for number, line in enumerate(_read_text(path).splitlines(), start=1):
        cells = line.split()
        if len(cells) != 2 or cells[1] != str(len(tokens)):
            raise ModelError(f"{path}:{number}: {line!r}, want 'symbol {len(tokens)}'")
        if cells[0] in tokens:
            raise ModelError(f"{path}:{number}: {cells[0]!r} stands twice")
        tokens.append(cells[0])
    if not tokens:
        raise ModelError(f"{path}: no tokens in it")
    return tuple(tokens)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ModelError(f"{path}: missing from the model folder") from None
    except UnicodeDecodeError as error:
        raise ModelError(f"{path}: not UTF-8: {error}") from None
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from None


def _read_config(path: Path) -> ModelConfig:
    try:
        values: Any = json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise ModelError(f"{path}: not JSON: {error}") from None
    if not isinstance(values, dict) or not isinstance(values.get("model"), dict):
        raise ModelError(f"{path}: no object with a 'model' in it")
    if values.get("format") != FORMAT_VERSION:
        raise ModelError(
            f"{path}: format {values.get('format')!r}, this version reads {FORMAT_VERSION}"
        )
    try:
        return ModelConfig.from_dict(values["model"])
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise ModelError(f"{path}: missing from the model folder")
    try:
        tensors: dict[str, torch.Tensor] = load_file(str(path))
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path}: damaged: {error}") from None
    return tensors
