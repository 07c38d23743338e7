"""Adapting in one command: fewer errors than before, or the model as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from uyir.asr import adapt as module
from uyir.asr.adapt import adapt, mix, report
from uyir.asr.augment import AugmentConfig
from uyir.asr.checkpoint import load_model, save_model
from uyir.asr.model import CtcModel, ModelConfig
from uyir.asr.prepare import phones_of
from uyir.errors import DataError
from uyir.lexicon.symbols import tokens_table

SHAPE: dict[str, Any] = {
    "dim": 32,
    "heads": 2,
    "ffn_dim": 64,
    "layers": 2,
    "kernel": 7,
    "subsampling_channels": 8,
    "dropout": 0.0,
}
WORDS = ("ಮಳೆ", "ಮನೆ")


def quiet(line: str) -> None:
    pass


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def start(tmp_path: Path) -> Path:
    tokens = list(tokens_table())
    torch.manual_seed(1)
    model = CtcModel(ModelConfig.from_dict({**SHAPE, "tokens": len(tokens)}))
    # As the features of noise and tones are, or it would have to learn that first.
    model.set_normalisation(torch.full((80,), 10.0), torch.full((80,), 4.0))
    save_model(tmp_path / "start", model, tokens, "float32", graphs=None)
    return tmp_path / "start"


def record(folder: Path, count: int, seed: int = 0) -> Path:
    """Recordings in which each phone is a tone of its own."""
    rng = np.random.default_rng(seed)
    ids = {token: number for number, token in enumerate(tokens_table())}
    folder.mkdir()
    for number in range(count):
        text = " ".join(rng.choice(WORDS, size=rng.integers(2, 5)))
        parts = []
        for phone in phones_of(text, "kn")[1]:
            time = np.arange(1920) / 16000
            parts += [0.3 * np.sin(2 * np.pi * (200 + 60 * ids[phone]) * time), np.zeros(640)]
        wave = np.concatenate(parts) + 0.002 * rng.normal(size=sum(map(len, parts)))
        soundfile.write(str(folder / f"r{number:02d}.wav"), wave, 16000)
        (folder / f"r{number:02d}.txt").write_text(text, encoding="utf-8")
    return folder


def test_it_learns_and_keeps_its_graphs(
    tmp_path: Path, start: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = record(tmp_path / "mine", 20)
    (folder / "extra.txt").write_text("ಮಳೆ", encoding="utf-8")
    monkeypatch.setattr(module, "_BATCH_SECONDS", 8.0)
    monkeypatch.setattr(module, "LIGHT", AugmentConfig(speed=(1, 1), reverberation=0, colour=0))
    done = adapt(
        folder,
        start,
        tmp_path / "new",
        language="kn",
        graphs="base",
        learning_rate=5e-3,
        passes=70,
        say=quiet,
    )
    assert done.utterances + done.held_out == 20
    assert done.held_out >= 2
    assert done.before is not None and done.after is not None
    assert done.after < 0.75 * done.before
    assert done.share > 0
    config = json.loads((tmp_path / "new/config.json").read_text())
    assert config["graphs"] == "base"
    assert load_model(tmp_path / "new").tokens == tuple(tokens_table())
    assert "1 transcript without audio" in done.left_out
    assert "extra" in (tmp_path / "new/left_out.tsv").read_text()
    card = report(done, ["kn"])
    assert f"{done.after:.4f} after" in card


def test_nothing_learnt_leaves_the_model_as_it_was(tmp_path: Path, start: Path) -> None:
    folder = record(tmp_path / "mine", 8)
    # Steps so large that whatever was known is lost.
    done = adapt(
        folder, start, tmp_path / "new", language="kn", learning_rate=50.0, passes=4, say=quiet
    )
    if done.share == 0.0:
        first, last = load_model(start).model.state_dict(), load_model(tmp_path / "new").model
        for name, value in last.state_dict().items():
            assert torch.allclose(value, first[name], atol=0.02)
    assert done.after is not None and done.before is not None
    assert done.after <= done.before


def test_what_cannot_be_adapted_to_is_said(tmp_path: Path, start: Path) -> None:
    folder = record(tmp_path / "mine", 2)
    with pytest.raises(DataError, match="there is something in it already"):
        adapt(folder, start, folder, language="kn", say=quiet)
    with pytest.raises(DataError, match="no recording that can be used: 2 of another language"):
        adapt(folder, start, tmp_path / "x", language="ta", say=quiet)
    with pytest.raises(DataError, match="no such corpus"):
        adapt(tmp_path / "none", start, tmp_path / "x", say=quiet)
    said: list[str] = []
    done = adapt(folder, start, tmp_path / "x", language="kn", passes=1, say=said.append)
    assert (done.utterances, done.held_out, done.after) == (2, 0, None)
    assert "too few recordings to hold any out: nothing was compared" in said


def test_mixing(start: Path) -> None:
    one = load_model(start).model
    torch.manual_seed(9)
    two = CtcModel(one.config)
    mixed = mix(one, two, 0.25).state_dict()
    for name, value in one.state_dict().items():
        assert torch.allclose(mixed[name], 0.75 * value + 0.25 * two.state_dict()[name], atol=1e-6)
