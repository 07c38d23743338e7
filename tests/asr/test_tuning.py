"""Frozen blocks, falling rates, adapters and the anchor do what they say and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tones import TOKENS, write_tones

from uyir.asr.checkpoint import load_model, save_model
from uyir.asr.config import TrainConfig, read_config
from uyir.asr.data import Mixture, Utterance
from uyir.asr.export import export, read_checkpoint
from uyir.asr.model import CtcModel, ModelConfig
from uyir.asr.train import Trainer
from uyir.asr.tuning import add_adapters, depth, merge_adapters, parameter_groups
from uyir.errors import DataError, ModelError

WHISPER = {"encoder": "whisper", "dim": 16, "heads": 2, "layers": 3, "dropout": 0.1}
CONFORMER = {
    "dim": 16,
    "heads": 2,
    "ffn_dim": 32,
    "layers": 3,
    "kernel": 7,
    "subsampling_channels": 8,
    "dropout": 0.1,
}
MODELS = {"whisper": WHISPER, "conformer": CONFORMER}
FRONTENDS = {"whisper": {"kind": "whisper-logmel"}, "conformer": {}}


def make_run(folder: Path, kind: str = "whisper", **changes: Any) -> TrainConfig:
    """A configuration of a few steps that starts from a model of random weights."""
    torch.set_num_threads(1)
    write_tones(folder / "data", 12)
    values = {**MODELS[kind], "tokens": len(TOKENS), "frontend": FRONTENDS[kind]}
    torch.manual_seed(5)
    save_model(folder / "first", CtcModel(ModelConfig.from_dict(values)), TOKENS, "float32")
    settings: dict[str, Any] = {
        "train": ["data/manifest.tsv"],
        "dev": [],
        "output": "exp",
        "tokens": "data/tokens.txt",
        "model": MODELS[kind],
        "frontend": FRONTENDS[kind],
        "initial": "first",
        "batch_seconds": 8,
        "pad_seconds": 0.05,
        "workers": 1,
        "steps": 3,
        "peak_lr": 0.01,
        "ema": 0,
        **changes,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    return read_config(folder / "config.yaml")


def moved(folder: Path, config: TrainConfig) -> set[str]:
    """Names of the weights that a run changed."""
    Trainer(config, "cpu", lambda line: None).run()
    export(folder / "exp/checkpoint.pt", folder / "last", "float32")
    first = load_model(folder / "first").model.state_dict()
    last = load_model(folder / "last").model.state_dict()
    assert first.keys() == last.keys()
    return {name for name, value in last.items() if not torch.equal(value, first[name])}


@pytest.mark.parametrize("kind", ["whisper", "conformer"])
@pytest.mark.parametrize("frozen", [0, 2, 3])
def test_frozen_blocks_stay_and_the_others_learn(tmp_path: Path, kind: str, frozen: int) -> None:
    config = make_run(tmp_path, kind, frozen_layers=frozen)
    changed = moved(tmp_path, config)
    names = load_model(tmp_path / "first").model.state_dict()
    for name in names:
        block = depth(name, 3)
        if block is not None and block <= frozen:
            assert name not in changed
    assert any(name.startswith("head.") for name in changed)
    blocks = {depth(name, 3) for name in changed} - {None}
    assert blocks == set(range(frozen + 1, 4))


@pytest.mark.parametrize("kind", ["whisper", "conformer"])
def test_adapters_change_matrices_of_blocks_alone_and_are_merged(tmp_path: Path, kind: str) -> None:
    config = make_run(tmp_path, kind, lora_rank=2, lora_alpha=8, frozen_layers=1)
    changed = moved(tmp_path, config)
    encoder = {name for name in changed if depth(name, 3) is not None}
    shapes = load_model(tmp_path / "first").model.state_dict()
    assert {depth(name, 3) for name in encoder} == {2, 3}
    parts = {name.split(".", 3)[3] for name in encoder}
    if kind == "whisper":
        matrices = ("query", "key", "value", "out")
        wanted = {f"attention.{p}.weight" for p in matrices} | {"ffn_in.weight", "ffn_out.weight"}
        assert parts == wanted
    else:
        assert "self_attn.in_proj_weight" in parts
        assert all(shapes[name].dim() == 2 for name in encoder)
    first, last = (load_model(tmp_path / f).model.state_dict() for f in ("first", "last"))
    for name in encoder:
        assert torch.linalg.matrix_rank(last[name] - first[name], tol=1e-5) <= 2


@pytest.mark.parametrize("kind", ["whisper", "conformer"])
def test_merged_adapters_compute_the_same(kind: str) -> None:
    torch.manual_seed(3)
    config = ModelConfig.from_dict({**MODELS[kind], "tokens": 5, "frontend": FRONTENDS[kind]})
    model = CtcModel(config).eval()
    add_adapters(model, 2, 4.0)
    for name, parameter in model.named_parameters():
        if name.endswith(".up"):
            torch.nn.init.normal_(parameter)
    plain = CtcModel(config).eval()
    plain.load_state_dict(merge_adapters(model.state_dict()))
    features, lengths = torch.randn(2, 40, 80), torch.tensor([40, 31])
    wanted, _ = model.log_probs(features, lengths, "ta")
    found, _ = plain.log_probs(features, lengths, "ta")
    assert torch.allclose(wanted, found, atol=1e-5)


def test_rates_fall_downwards() -> None:
    model = CtcModel(
        ModelConfig.from_dict({**WHISPER, "tokens": 5, "frontend": FRONTENDS["whisper"]})
    )
    groups = parameter_groups(model, 0.01, 0.2, 0.5)
    rates = {id(p): group["rate"] for group in groups for p in group["params"]}
    decays = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        block = depth(name, 3)
        wanted = 1.0 if block is None else 0.2 * 0.5 ** (3 - block)
        assert rates[id(parameter)] == pytest.approx(wanted), name
        assert decays[id(parameter)] == (0.01 if parameter.dim() >= 2 else 0.0)
    assert depth("whisper.conv1.weight", 3) == 0
    assert depth("whisper.norm.weight", 3) == 3
    assert depth("down.weight", 3) is None


def test_the_anchor_holds(tmp_path: Path) -> None:
    """The stronger the pull, the nearer the weights stay to where they started."""
    far = []
    for number, strength in enumerate((0.0, 20.0, 1000.0)):
        folder = tmp_path / str(number)
        config = make_run(folder, anchor=strength, steps=12, weight_decay=0)
        moved(folder, config)
        first, last = (load_model(folder / f).model.state_dict() for f in ("first", "last"))
        far.append(sum(float((last[n] - first[n]).square().sum()) for n in first) ** 0.5)
    assert far[0] > 1.3 * far[1] > 1.3 * 1.3 * far[2]


def test_a_tuned_run_resumes_and_another_is_refused(tmp_path: Path) -> None:
    changes = {"lora_rank": 2, "anchor": 1.0, "layer_decay": 0.8, "steps": 6}
    Trainer(make_run(tmp_path / "whole", **changes), "cpu", lambda line: None).run()
    config = make_run(tmp_path / "broken", **changes)
    for _ in range(20):
        trainer = Trainer(config, "cpu", lambda line: None)
        step = trainer._step

        def once(batch: Any, step: Any = step, trainer: Trainer = trainer) -> Any:
            trainer._stop = trainer.progress.step % 2 == 1
            return step(batch)

        trainer._step = once  # type: ignore[method-assign]
        if trainer.run().finished:
            break
    whole, broken = (
        read_checkpoint(tmp_path / name / "exp/checkpoint.pt") for name in ("whole", "broken")
    )
    for part in ("model", "average"):
        for name, value in whole[part].items():
            assert torch.equal(value, broken[part][name]), name
    other = make_run(tmp_path / "broken", lora_rank=0, frozen_layers=1)
    with pytest.raises(ModelError, match="froze or adapted other layers"):
        Trainer(other, "cpu", lambda line: None).run()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"initial": None, "lora_rank": 4}, "lora_rank wants weights to keep"),
        ({"initial": None, "frozen_layers": 0}, "frozen_layers wants weights to keep"),
        ({"layer_decay": 0}, "layer_decay is 0"),
        ({"anchor": -1}, "anchor is -1"),
        ({"train": [{"manifest": "a", "share": 1.2}]}, "a: share is 1.2"),
        ({"train": [{"manifest": "a", "share": 0.5, "repeat": 3}]}, "both repeat and share"),
        ({"train": [{"manifest": "a", "share": 0.5}]}, "add up to 0.5, want 1"),
        ({"train": ["b", {"manifest": "a", "share": 1.0}]}, "leave nothing"),
        ({"train": [{"manifest": "a", "repeat": 0}]}, "repeat is 0"),
    ],
)
def test_impossible_settings_are_named(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        make_run(tmp_path, **changes)


def test_more_frozen_blocks_than_there_are(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="frozen_layers is 4, but the encoder has 3 blocks"):
        Trainer(make_run(tmp_path, frozen_layers=4), "cpu", lambda line: None)


def rows(count: int, seconds: float) -> list[Utterance]:
    return [Utterance(str(i), Path("x"), 0, None, seconds, "ta", "", (1,)) for i in range(count)]


def test_a_share_of_the_audio() -> None:
    mixture = Mixture()
    mixture.add(rows(300, 4.0))  # 1,200 s
    mixture.add(rows(7, 10.0), share=0.25)  # 70 s, for 500 s
    mixture.add(rows(50, 20.0), share=0.15)  # 1,000 s, for 300 s
    epochs = [mixture.epoch(seed) for seed in (1, 2)]
    for epoch in epochs:
        real = [row for row in epoch if 300 <= row < 307]
        rare = [row for row in epoch if row >= 307]
        seconds = [4.0 * sum(row < 300 for row in epoch), 10.0 * len(real), 20.0 * len(rare)]
        assert seconds == [1200, 500, 300]
        assert {real.count(row) for row in range(300, 307)} == {7, 8}
        assert len(set(rare)) == len(rare)
    assert sorted(epochs[0]) != sorted(epochs[1])
    assert epochs[0] == mixture.epoch(1)


def test_shares_of_nothing_else() -> None:
    mixture = Mixture()
    mixture.add(rows(10, 3.0), share=0.5)
    mixture.add(rows(30, 1.0), share=0.5)
    epoch = mixture.epoch(0)
    assert sum(row < 10 for row in epoch) == 10
    assert sum(row >= 10 for row in epoch) == 30
