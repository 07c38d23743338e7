"""Model folders: what is written is read again, and damage is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from uyir.asr.checkpoint import dequantise, load_model, quantise, save_model
from uyir.asr.model import CtcModel, ModelConfig
from uyir.errors import ModelError

TOKENS = ["<blk>", "<spn>", "a", "aa", "k"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(tmp_path / "m", tiny(), TOKENS, "float32")
    return tmp_path / "m"


def tiny() -> CtcModel:
    torch.manual_seed(5)
    config = ModelConfig(
        tokens=5, dim=16, heads=2, ffn_dim=24, layers=2, kernel=5, subsampling_channels=2
    )
    model = CtcModel(config)
    model.set_normalisation(torch.linspace(-3, 3, 80), torch.linspace(1, 4, 80))
    return model.eval()


def test_float32_round_trip_is_exact(folder: Path) -> None:
    loaded = load_model(folder)
    assert loaded.tokens == tuple(TOKENS)
    assert not loaded.model.training
    for name, value in tiny().state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], value), name


def test_int8_is_small_and_close(folder: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "q", tiny(), TOKENS, "int8")
    state, stored = tiny().state_dict(), quantise(tiny().state_dict(), "int8")
    for name, value in dequantise(stored).items():
        if value.dim() >= 2:
            step = state[name].flatten(1).abs().amax(dim=1) / 127
            assert ((value - state[name]).flatten(1).abs() <= step[:, None] * 0.5001).all(), name
        else:
            assert torch.equal(value, state[name]), name
    small = (tmp_path / "q" / "model.safetensors").stat().st_size
    assert small < 0.6 * (folder / "model.safetensors").stat().st_size
    features, lengths = torch.randn(1, 80, 80), torch.tensor([80])
    exact, _ = load_model(folder).model.log_probs(features, lengths, "ta")
    close, _ = load_model(tmp_path / "q").model.log_probs(features, lengths, "ta")
    assert (exact - close).abs().max() < 0.1


def test_float16_is_half_the_size(folder: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "h", tiny(), TOKENS, "float16")
    half = (tmp_path / "h" / "model.safetensors").stat().st_size
    assert half < 0.7 * (folder / "model.safetensors").stat().st_size
    load_model(tmp_path / "h")


def damage(folder: Path, kind: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    weights = folder / "model.safetensors"
    if kind.startswith("no "):
        (folder / kind[3:]).unlink()
    elif kind == "weights cut short":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif kind == "weights are text":
        weights.write_text("hello")
    elif kind == "weights of another shape":
        config["model"]["dim"] = 32
        (folder / "config.json").write_text(json.dumps(config))
    elif kind == "another version":
        config["format"] = 99
        (folder / "config.json").write_text(json.dumps(config))
    elif kind == "another frontend":
        config["model"]["frontend"]["kind"] = "whisper"
        (folder / "config.json").write_text(json.dumps(config))
    elif kind == "unknown field":
        config["model"]["colour"] = "red"
        (folder / "config.json").write_text(json.dumps(config))
    elif kind == "config is no object":
        (folder / "config.json").write_text("[1]")
    elif kind == "config is no JSON":
        (folder / "config.json").write_text("{")
    elif kind == "too few tokens":
        (folder / "tokens.txt").write_text("<blk> 0\na 1\n")
    elif kind == "token ids with a gap":
        (folder / "tokens.txt").write_text("<blk> 0\na 2\n")
    elif kind == "tokens not UTF-8":
        (folder / "tokens.txt").write_bytes(b"\xff\xfe 0\n")
    elif kind == "weights not finite":
        model = tiny()
        with torch.no_grad():
            model.head.bias[1] = float("nan")
        save_model(folder, model, TOKENS, "float32")


@pytest.mark.parametrize(
    ("kind", "file"),
    [
        ("no model.safetensors", "model.safetensors: missing"),
        ("no config.json", "config.json: missing"),
        ("no tokens.txt", "tokens.txt: missing"),
        ("weights cut short", "model.safetensors: damaged"),
        ("weights are text", "model.safetensors: damaged"),
        ("weights of another shape", "model.safetensors: does not fit"),
        ("weights not finite", "model.safetensors: head.bias"),
        ("another version", "config.json: format 99"),
        ("another frontend", "config.json: unknown frontend 'whisper'"),
        ("unknown field", "config.json: model configuration"),
        ("config is no object", "config.json: no object"),
        ("config is no JSON", "config.json: not JSON"),
        ("too few tokens", "tokens.txt: 2 tokens, but config.json says 5"),
        ("token ids with a gap", "tokens.txt:2:"),
        ("tokens not UTF-8", "tokens.txt: not UTF-8"),
    ],
)
def test_damage_is_named(folder: Path, kind: str, file: str) -> None:
    damage(folder, kind)
    with pytest.raises(ModelError) as error:
        load_model(folder)
    assert f"{folder}/{file}" in str(error.value)


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such model folder"):
        load_model(tmp_path / "none")


def test_saving_checks_its_arguments(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="4 token names for 5 outputs"):
        save_model(tmp_path, tiny(), TOKENS[:4])
    with pytest.raises(ModelError, match="unknown weight format 'int4'"):
        save_model(tmp_path, tiny(), TOKENS, "int4")


def test_large_weights_are_stored_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import uyir.asr.checkpoint as checkpoint

    monkeypatch.setattr(checkpoint, "PART_BYTES", 2000)
    config = ModelConfig(tokens=3, dim=16, heads=2, ffn_dim=16, layers=1, kernel=3)
    model = CtcModel(config)
    save_model(tmp_path, model, ["<blk>", "a", "b"], "float32")
    parts = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert len(parts) > 1 and parts[0].startswith("model-00001-of-")
    loaded = load_model(tmp_path).model.state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(loaded[name], value), name
    (tmp_path / parts[1]).unlink()
    with pytest.raises(ModelError, match=parts[1]):
        load_model(tmp_path)
