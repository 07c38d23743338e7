"""Encoders read from folders in the hub's format: equal to transformers' own, trained, exported, loaded.

The models are small ones of random weights, saved by the test; nothing is downloaded.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tones import write_tones

from uyir.asr.checkpoint import load_model
from uyir.asr.config import TrainConfig, read_config
from uyir.asr.export import export, read_checkpoint
from uyir.asr.features import FrontendConfig, Waveform, make_frontend
from uyir.asr.model import CtcModel, ModelConfig
from uyir.asr.train import Trainer
from uyir.asr.tuning import depth
from uyir.asr.whisper import LogMel, WhisperEncoder
from uyir.errors import DataError, ModelError

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
hub = pytest.importorskip("uyir.asr.hub")

SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "mask_time_length": 2,
    "vocab_size": 12,
}
#: Every family, and wav2vec 2.0 in its two shapes: norms before or after the blocks and in the convolutions.
KINDS: dict[str, dict[str, Any]] = {
    "wav2vec2": {},
    "wav2vec2-stable": {"do_stable_layer_norm": True, "feat_extract_norm": "layer"},
    "hubert": {},
    "wavlm": {"num_buckets": 16, "max_bucket_distance": 40},
    "unispeech-sat": {},
}


def save_wav2vec2(folder: Path, kind: str = "wav2vec2", normalise: bool = True) -> Path:
    torch.manual_seed(7)
    config = transformers.AutoConfig.for_model(
        kind.replace("-stable", ""), **{**SMALL, **KINDS[kind]}
    )
    model = transformers.AutoModel.from_config(config)
    with (
        torch.no_grad()
    ):  # norms of random weights, or those would be read wrong and none would see
        for name, parameter in model.named_parameters():
            if "norm" in name and "parametrizations" not in name:
                parameter.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=normalise).save_pretrained(folder)
    return folder


def save_whisper(folder: Path, bins: int = 80) -> Path:
    torch.manual_seed(8)
    config = transformers.WhisperConfig(
        d_model=32,
        encoder_layers=3,
        encoder_attention_heads=2,
        encoder_ffn_dim=128,
        decoder_layers=1,
        decoder_attention_heads=2,
        decoder_ffn_dim=32,
        num_mel_bins=bins,
        vocab_size=60,
        pad_token_id=1,
        bos_token_id=1,
        eos_token_id=1,
        decoder_start_token_id=1,
    )
    transformers.WhisperModel(config).save_pretrained(folder)
    return folder


def waves(*sizes: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [0.1 * torch.randn(size, generator=generator) for size in sizes]


def shaped(found: Any, **changes: Any) -> CtcModel:
    torch.manual_seed(5)
    values = {**found.model, "tokens": 7, "frontend": found.frontend, "dropout": 0.0, **changes}
    model = CtcModel(ModelConfig.from_dict(values)).eval()
    getattr(model, model.config.encoder).load_state_dict(found.state)
    return model


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("bins", [80, 128])
def test_whisper_of_the_hub_is_our_whisper(tmp_path: Path, bins: int) -> None:
    """30 s, which transformers' encoder wants, through both with the same weights."""
    found = hub.read_hub(str(save_whisper(tmp_path / "w", bins)))
    assert found.model == {"encoder": "whisper", "dim": 32, "heads": 2, "layers": 3}
    assert found.frontend == {"kind": "whisper-logmel", "bins": bins}
    ours = WhisperEncoder(32, 2, 3, bins=bins).eval()
    ours.load_state_dict(found.state)
    theirs = transformers.WhisperModel.from_pretrained(tmp_path / "w").encoder.eval()
    features, frames = LogMel(FrontendConfig(**found.frontend)).batch(waves(480000))
    with torch.no_grad():
        wanted = theirs(features.transpose(1, 2)).last_hidden_state
        assert torch.allclose(ours(features, frames), wanted, atol=2e-5)


def test_the_log_mel_is_that_of_transformers() -> None:
    for bins in (80, 128):
        extract = transformers.WhisperFeatureExtractor(feature_size=bins)
        (wave,) = waves(480000)
        wanted = extract(wave.numpy(), sampling_rate=16000, return_tensors="pt").input_features[0].T
        found = LogMel(FrontendConfig(kind="whisper-logmel", bins=bins)).cpu(wave)
        # They reflect at the end, where we have silence.
        assert (found - wanted)[:-2].abs().max() < 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_the_family_hears_what_transformers_hears(tmp_path: Path, kind: str) -> None:
    folder = save_wav2vec2(tmp_path / "m", kind)
    found = hub.read_hub(str(folder))
    ours = hub.HubEncoder(found.model["hub"]).eval()
    ours.load_state_dict(found.state)
    theirs = transformers.AutoModel.from_pretrained(folder).eval()
    features, lengths = Waveform(FrontendConfig(**found.frontend)).batch(waves(16000))
    with torch.no_grad():
        wanted = theirs(features[..., 0]).last_hidden_state
        states, inter = ours(features, lengths, inter_layer=3)
    assert int(ours.lengths(lengths)) == wanted.shape[1] == states.shape[1]
    assert torch.allclose(states, wanted, atol=2e-5)
    assert inter is not None and torch.allclose(inter, wanted, atol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_output_does_not_depend_on_the_batch(tmp_path: Path, kind: str) -> None:
    found = hub.read_hub(str(save_wav2vec2(tmp_path / "m", kind)))
    model = shaped(found, inter_layer=2)
    spoken = waves(16000, 9001, 300)
    features, lengths = make_frontend(model.config.frontend).batch(spoken)
    with torch.no_grad():
        together, out, inter = model(features, lengths, torch.tensor([0, 1, 0]))
        for row, wave in enumerate(spoken):
            alone = make_frontend(model.config.frontend).cpu(wave)[None]
            size = torch.tensor([alone.shape[1]])
            assert alone.shape[1] == model.config.frontend.frames(len(wave))
            last, count, middle = model(alone, size, torch.tensor([row % 2]))
            assert int(count) == int(out[row]) == last.shape[1]
            assert torch.allclose(together[row, : int(count)], last[0], atol=1e-4)
            assert torch.allclose(inter[row, : int(count)], middle[0], atol=1e-4)
    assert out.tolist() == [25, 14, 1]
    assert not torch.allclose(together, inter, atol=1e-2)


def test_the_waveform_is_what_its_extractor_makes() -> None:
    for normalise in (True, False):
        extract = transformers.Wav2Vec2FeatureExtractor(do_normalize=normalise)
        spoken = [wave.numpy() + 0.05 for wave in waves(4000, 1700)]
        frontend = Waveform(FrontendConfig(kind="waveform", bins=1, normalise=normalise))
        features, lengths = frontend.batch([torch.from_numpy(wave) for wave in spoken])
        for row, wave in enumerate(spoken):
            wanted = np.asarray(extract(wave, sampling_rate=16000).input_values[0])
            assert int(lengths[row]) == len(wanted)
            assert np.abs(features[row, : len(wanted), 0].numpy() - wanted).max() < 1e-4
            assert not features[row, len(wanted) :].any()


def make_run(folder: Path, kind: str, **changes: Any) -> TrainConfig:
    write_tones(folder / "data", 24)
    (save_whisper if kind == "whisper" else save_wav2vec2)(folder / "ear")
    settings: dict[str, Any] = {
        "train": ["data/manifest.tsv"],
        "dev": ["data/manifest.tsv"],
        "output": "exp",
        "tokens": "data/tokens.txt",
        "hub": "ear",
        "model": {"dropout": 0.0},
        "augment": {"time_masks": 2},
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


def moved(folder: Path, config: TrainConfig) -> tuple[set[str], Any, Any]:
    """Names of the weights that a run changed, and the states before and after."""
    trainer = Trainer(config, "cpu", lambda line: None)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    from uyir.asr.tuning import merge_adapters

    before = merge_adapters(before)
    assert trainer.run().progress.skipped == 0
    export(folder / "exp/checkpoint.pt", folder / "last", "float32")
    after = load_model(folder / "last").model.state_dict()
    assert before.keys() == after.keys()
    return {n for n, v in after.items() if not torch.equal(v, before[n])}, before, after


@pytest.mark.parametrize("kind", ["whisper", "wav2vec2"])
def test_frozen_blocks_and_adapters(tmp_path: Path, kind: str) -> None:
    changed, _, _ = moved(tmp_path / "a", make_run(tmp_path / "a", kind, frozen_layers=2))
    assert {depth(name, 3) for name in changed} == {3, None}
    assert any(name.startswith("down.") for name in changed)
    changes = {"lora_rank": 2, "lora_alpha": 8, "frozen_layers": 1, "layer_decay": 0.8, "anchor": 1}
    changed, before, after = moved(tmp_path / "b", make_run(tmp_path / "b", kind, **changes))
    encoder = {name for name in changed if depth(name, 3) is not None}
    assert {depth(name, 3) for name in encoder} == {2, 3}
    for name in encoder:
        assert torch.linalg.matrix_rank(after[name] - before[name], tol=1e-5) <= 2


@pytest.mark.parametrize("kind", ["whisper", "wav2vec2"])
def test_an_exported_model_is_whole(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """int8 or not, the folder is all that is needed; for Whisper not even transformers."""
    config = make_run(tmp_path, kind, model={"dropout": 0.0, "inter_layer": 2})
    Trainer(config, "cpu", lambda line: None).run()
    for weights in ("float32", "int8"):
        export(tmp_path / "exp/checkpoint.pt", tmp_path / weights, weights)
        assert {p.suffix for p in (tmp_path / weights).iterdir()} == {
            ".safetensors",
            ".json",
            ".txt",
        }
    # The hub's folder is gone.
    (tmp_path / "ear").rename(tmp_path / "elsewhere")
    values = json.loads((tmp_path / "float32/config.json").read_text())["model"]
    assert values["frontend"]["kind"] == ("waveform" if kind == "wav2vec2" else "whisper-logmel")
    assert "_name_or_path" not in json.dumps(values)
    models = [load_model(tmp_path / weights).model for weights in ("float32", "int8")]
    features, lengths = make_frontend(models[0].config.frontend).batch(waves(8000))
    exact, rounded = (model.log_probs(features, lengths, "ta")[0] for model in models)
    assert (exact - rounded).abs().max() < 0.3
    monkeypatch.setitem(sys.modules, "transformers", None)
    if kind == "whisper":
        load_model(tmp_path / "int8")
    else:
        with pytest.raises(ModelError, match=r"wants transformers.*pip install 'uyir\[hub\]'"):
            load_model(tmp_path / "int8")


@pytest.mark.parametrize("kind", ["whisper", "wav2vec2"])
def test_it_learns(tmp_path: Path, kind: str) -> None:
    calm = {"speed": [1, 1], "reverberation": 0, "colour": 0, "noise": 0, "babble": 0}
    changes = {"steps": 30, "log_steps": 5, "augment": calm, "dev": []}
    assert Trainer(make_run(tmp_path, kind, **changes), "cpu", lambda line: None).run().finished
    log = (tmp_path / "exp/log.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in log]
    assert losses[-1] < 0.75 * losses[0]


def test_a_hub_run_resumes_exactly(tmp_path: Path) -> None:
    changes = {"steps": 6, "augment": {}, "model": {"dropout": 0.2}}
    Trainer(make_run(tmp_path / "whole", "wav2vec2", **changes), "cpu", lambda line: None).run()
    config = make_run(tmp_path / "broken", "wav2vec2", **changes)
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
    for name, value in whole["model"].items():
        assert torch.equal(value, broken["model"][name]), name


def test_mixing_with_what_it_was(tmp_path: Path) -> None:
    config = make_run(tmp_path, "wav2vec2", steps=2)
    Trainer(config, "cpu", lambda line: None).run()
    checkpoint, ear = tmp_path / "exp/checkpoint.pt", str(tmp_path / "ear")
    for name, tuned in (("none", 0.0), ("half", 0.5), ("all", 1.0)):
        export(checkpoint, tmp_path / name, "float32", (ear,), tuned)
    state = {n: load_model(tmp_path / n).model.state_dict() for n in ("none", "half", "all")}
    pretrained = hub.read_hub(ear).state
    for name, value in pretrained.items():
        assert torch.allclose(state["none"][f"hub.{name}"], value, atol=1e-6)
        mean = 0.5 * (value + state["all"][f"hub.{name}"])
        assert torch.allclose(state["half"][f"hub.{name}"], mean, atol=1e-5)
    assert torch.equal(state["none"]["head.weight"], state["all"]["head.weight"])


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="empty: no configuration that transformers can read"):
        hub.read_hub(str(tmp_path / "empty"))
    transformers.BertConfig(hidden_size=8, num_attention_heads=1).save_pretrained(tmp_path / "bert")
    with pytest.raises(ModelError, match="type 'bert', want whisper or wav2vec2"):
        hub.read_hub(str(tmp_path / "bert"))
    save_wav2vec2(tmp_path / "cut")
    for path in (tmp_path / "cut").glob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelError, match="cut: no model that transformers can read"):
        hub.read_hub(str(tmp_path / "cut"))
    with pytest.raises(ModelError, match="hub encoder of type 'bert'"):
        hub.HubEncoder({"model_type": "bert"})
    with pytest.raises(ModelError, match="160 samples a frame, want 320"):
        hub.HubEncoder({"model_type": "wav2vec2", **SMALL, "conv_stride": (5, 2, 2, 2, 2, 2, 1)})
    with pytest.raises(DataError, match="frontend is given"):
        make_run(tmp_path / "f", "wav2vec2", frontend={"bins": 40})
    with pytest.raises(DataError, match="both pretrained and hub"):
        make_run(tmp_path / "g", "wav2vec2", pretrained=["x"])
    config = make_run(tmp_path / "h", "wav2vec2", model={"dim": 64})
    with pytest.raises(ModelError, match="its dim is 32, model says 64"):
        Trainer(config, "cpu", lambda line: None)
