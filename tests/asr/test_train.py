"""The training loop learns, resumes exactly, and copes with what it meets."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from click.testing import CliRunner
from tones import TOKENS, write_tones

from uyir.asr.checkpoint import load_model
from uyir.asr.commands import main
from uyir.asr.config import read_config
from uyir.asr.data import Loader, read_manifest
from uyir.asr.export import export, read_checkpoint
from uyir.asr.losses import edit_distance, uniform_loss
from uyir.asr.train import HOPELESS, Trainer
from uyir.errors import DataError, ModelError

MODEL = {
    "dim": 32,
    "heads": 2,
    "ffn_dim": 64,
    "layers": 2,
    "kernel": 7,
    "subsampling_channels": 8,
    "dropout": 0.0,
}
CALM = {
    "speed": [1.0, 1.0],
    "reverberation": 0,
    "colour": 0,
    "telephone": 0,
    "low_pass": 0,
    "noise": 0,
    "babble": 0,
    "mu_law": 0,
    "level_db": [-30, -8],
    "frequency_masks": 0,
    "time_masks": 0,
}


def write_config(folder: Path, **changes: object) -> Path:
    values: dict[str, object] = {
        "train": ["data/manifest.tsv"],
        "dev": ["data/manifest.tsv"],
        "output": "exp",
        "tokens": "data/tokens.txt",
        "model": MODEL,
        "augment": CALM,
        "batch_seconds": 8,
        "pad_seconds": 0.05,
        "workers": 2,
        "steps": 150,
        "peak_lr": 0.005,
        "ema": 0.9,
        "log_steps": 10,
        "eval_steps": 1000,
        "normalisation_batches": 2,
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({**values, **changes}))
    return path


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def quiet(line: str) -> None:
    pass


def test_learns_tone_words(tmp_path: Path) -> None:
    """A few words of tones are learnt by heart, and the exported int8 model knows them."""
    write_tones(tmp_path / "data", 24)
    model = {**MODEL, "inter_layer": 1}
    config = read_config(write_config(tmp_path, model=model))
    outcome = Trainer(config, "cpu", quiet).run()
    assert outcome.finished
    assert outcome.progress.step == 150
    assert outcome.dev["ta"] < 0.05
    log = [json.loads(line) for line in (tmp_path / "exp/log.jsonl").read_text().splitlines()]
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert losses[-1] < 0.2 < losses[0]
    export(tmp_path / "exp" / "checkpoint.pt", tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    trainer = Trainer(config, "cpu", quiet)
    trainer.model.load_state_dict(loaded.model.state_dict())
    trainer.average = dict(trainer.model.named_parameters())
    assert trainer.evaluate()["ta"] < 0.05


@pytest.mark.parametrize("encoder", ["conformer", "whisper"])
def test_words_of_less_than_half_a_second(tmp_path: Path, encoder: str) -> None:
    """Short words with silence around them train, at every speed and with all augmentation."""
    write_tones(tmp_path / "data", 24, seconds=0.1, sizes=(3, 5))
    whisper = {"encoder": "whisper", "dim": 32, "heads": 2, "layers": 1, "dropout": 0.0}
    settings: dict[str, object] = {"augment": {}, "pad_seconds": 1.0, "steps": 8}
    if encoder == "whisper":
        settings.update(model=whisper, frontend={"kind": "whisper-logmel"})
    trainer = Trainer(read_config(write_config(tmp_path, **settings)), "cpu", quiet)
    short = [u.duration for u in trainer.mixture.utterances]
    assert len(short) > 20
    assert max(short) < 0.65 and min(short) < 0.42
    longest = 0.0
    for batch in trainer._epoch(0):
        longest = max(longest, len(batch) * (max(short[row] for row in batch) + 2.0))
    assert longest <= 8
    outcome = trainer.run()
    assert outcome.finished
    assert outcome.progress.skipped == 0


def test_stopped_and_resumed_is_the_same_run(tmp_path: Path) -> None:
    """Batches, augmentation and dropout after a resume are those of an unbroken run."""
    changes = {"augment": {}, "model": {**MODEL, "dropout": 0.2}, "steps": 9}
    for name in ("whole", "broken"):
        write_tones(tmp_path / name / "data", 20)
        write_config(tmp_path / name, **changes)
    Trainer(read_config(tmp_path / "whole/config.yaml"), "cpu", quiet).run()
    for _ in range(40):
        # stop_after 0 still saves; a step limit by a stop flag set from the log line
        trainer = Trainer(read_config(tmp_path / "broken/config.yaml"), "cpu", quiet)
        step = trainer._step

        def once(batch: object, step: object = step, trainer: Trainer = trainer) -> object:
            trainer._stop = trainer.progress.step % 2 == 1
            return step(batch)  # type: ignore[operator]

        trainer._step = once  # type: ignore[method-assign,assignment]
        if trainer.run().finished:
            break
    whole = read_checkpoint(tmp_path / "whole/exp/checkpoint.pt")
    broken = read_checkpoint(tmp_path / "broken/exp/checkpoint.pt")
    assert whole["progress"]["step"] == broken["progress"]["step"] == 9
    assert whole["progress"]["batch"] == broken["progress"]["batch"]
    for part in ("model", "average"):
        for name, value in whole[part].items():
            assert torch.equal(value, broken[part][name]), name


def test_killed_and_resumed_is_the_same_run(tmp_path: Path) -> None:
    """kill -9 again and again loses what came after the last checkpoint and changes nothing."""
    changes = {"augment": {}, "model": {**MODEL, "dropout": 0.2}, "steps": 60, "save_seconds": 0.01}
    for name in ("whole", "killed"):
        write_tones(tmp_path / name / "data", 20)
        write_config(tmp_path / name, **changes)
    Trainer(read_config(tmp_path / "whole/config.yaml"), "cpu", quiet).run()
    command = [sys.executable, "-m", "uyir.asr.commands", "train", "--device", "cpu", "--config"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    checkpoint = tmp_path / "killed/exp/checkpoint.pt"
    reached = 0
    for _ in range(2):
        process = subprocess.Popen(
            [*command, str(tmp_path / "killed/config.yaml")],
            env=environment,
            stderr=subprocess.PIPE,
        )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if (
                checkpoint.exists()
                and read_checkpoint(checkpoint)["progress"]["step"] > reached + 2
            ):
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        reached = read_checkpoint(checkpoint)["progress"]["step"]
        assert 0 < reached < 60
    said: list[str] = []
    trainer = Trainer(read_config(tmp_path / "killed/config.yaml"), "cpu", said.append)
    assert trainer.run().finished
    assert f"resumed at step {reached}" in said
    whole, killed = (
        read_checkpoint(tmp_path / name / "exp/checkpoint.pt") for name in ("whole", "killed")
    )
    assert whole["progress"]["batch"] == killed["progress"]["batch"]
    for part in ("model", "average"):
        for name, value in whole[part].items():
            assert torch.equal(value, killed[part][name]), name


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    """torchrun's two processes take the steps of one, on halves of the same batches."""
    # Nothing is drawn at random an utterance, or the two would differ by that.
    calm = {**CALM, "level_db": [-15, -15]}
    changes = {"steps": 25, "pad_seconds": 0, "log_steps": 1, "ema": 0, "augment": calm}
    for name in ("one", "two"):
        write_tones(tmp_path / name / "data", 20)
        write_config(tmp_path / name, **changes)
    command = ["-m", "uyir.asr.commands", "train", "--device", "cpu", "--config"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    for name, before in (("one", []), ("two", torchrun)):
        path = str(tmp_path / name / "config.yaml")
        done = subprocess.run(
            [sys.executable, *before, *command, path],
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, done.stderr
    losses = {}
    for name in ("one", "two"):
        log = (tmp_path / name / "exp/log.jsonl").read_text().splitlines()
        losses[name] = [entry["loss"] for entry in map(json.loads, log) if "loss" in entry]
    assert len(losses["one"]) == len(losses["two"]) == 25
    for one, two in zip(losses["one"], losses["two"]):
        assert two == pytest.approx(one, rel=2e-3)
    assert losses["two"][-1] < 0.8 * losses["two"][0]
    first, second = (
        read_checkpoint(tmp_path / name / "exp/checkpoint.pt") for name in ("one", "two")
    )
    assert second["progress"]["audio_seconds"] == pytest.approx(first["progress"]["audio_seconds"])
    for name, value in first["model"].items():
        assert torch.allclose(value, second["model"][name], atol=2e-2), name


def test_a_process_that_reads_nothing_of_a_batch_keeps_in_step(tmp_path: Path) -> None:
    write_tones(tmp_path / "data", 20)
    trainer = Trainer(read_config(write_config(tmp_path)), "cpu", quiet)
    trainer._set_normalisation()
    before = {n: v.clone() for n, v in trainer.model.named_parameters()}
    trainer.config = dataclasses.replace(trainer.config, weight_decay=0.0)
    assert trainer._step(None) == 0.0
    assert trainer.progress.step == trainer.progress.batch == 1
    assert before.keys() == dict(trainer.model.named_parameters()).keys()


def test_shares_of_a_batch_are_its_rows(tmp_path: Path) -> None:
    write_tones(tmp_path / "data", 7)
    rows = read_manifest(tmp_path / "data/manifest.tsv", TOKENS)
    batches = [[0, 1, 2, 3, 4], [5], [6, 2]]
    halves = [list(Loader(rows, ["ta"], share=(rank, 2)).load(batches, 0)) for rank in (0, 1)]
    assert [batch.ids for batch in halves[0]] == [["u0", "u2", "u4"], ["u5"], ["u6"]]
    assert [batch.ids for batch in halves[1]] == [["u1", "u3"], ["u5"], ["u2"]]


def test_label_smoothing_is_the_divergence_from_uniform() -> None:
    torch.manual_seed(0)
    log_probs = torch.randn(2, 5, 4).log_softmax(dim=-1)
    lengths = torch.tensor([5, 3])
    wanted = 0.0
    for row, length in enumerate(lengths.tolist()):
        for frame in range(length):
            for value in log_probs[row, frame].tolist():
                wanted += 0.25 * (math.log(0.25) - value)
    assert float(uniform_loss(log_probs, lengths)) == pytest.approx(wanted, rel=1e-5)
    flat = torch.full((1, 3, 4), math.log(0.25))
    assert float(uniform_loss(flat, torch.tensor([3]))) == pytest.approx(0.0, abs=1e-6)


def test_a_time_delay_network_learns(tmp_path: Path) -> None:
    write_tones(tmp_path / "data", 24)
    model = {**MODEL, "encoder": "tdnn", "kernel": 3, "layers": 3, "inter_layer": 1}
    outcome = Trainer(read_config(write_config(tmp_path, model=model)), "cpu", quiet).run()
    assert outcome.dev["ta"] < 0.1


def test_compiled_and_not_give_the_same_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tones(tmp_path / "data", 20)
    path = write_config(tmp_path, compile=True, steps=1)
    if not hasattr(torch, "compile"):
        with pytest.raises(ModelError, match="compile wants torch 2"):
            Trainer(read_config(path), "cpu", quiet)
        return
    # The graph that compiling captures, run as it is: no compiler of C++ is wanted here.
    compile = torch.compile
    monkeypatch.setattr(torch, "compile", functools.partial(compile, backend="eager"))
    one = Trainer(read_config(path), "cpu", quiet)
    two = Trainer(read_config(write_config(tmp_path, steps=1)), "cpu", quiet)
    for trainer in (one, two):
        trainer._set_normalisation()
    assert one._network is not one.model
    batch = next(iter(two.loader.load(two._epoch(0), 0)))
    losses = [float(trainer._loss(batch).detach()) for trainer in (one, two)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_tensorboard(tmp_path: Path) -> None:
    write_tones(tmp_path / "data", 20)
    config = read_config(write_config(tmp_path, tensorboard=True, steps=10))
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError:
        with pytest.raises(ModelError, match="tensorboard is not installed"):
            Trainer(config, "cpu", quiet)
        return
    Trainer(config, "cpu", quiet).run()
    assert list((tmp_path / "exp/tensorboard").glob("events*"))


def test_batches_for_a_gpu_are_warned_about_on_a_cpu(tmp_path: Path) -> None:
    write_tones(tmp_path / "data", 20)
    for seconds, warned in ((8, False), (600, True)):
        said: list[str] = []
        path = write_config(tmp_path, batch_seconds=seconds, output=f"exp{seconds}")
        Trainer(read_config(path), "cpu", said.append).run(stop_after=0)
        assert any("are made for a GPU" in line for line in said) is warned


def test_label_smoothing_trains(tmp_path: Path) -> None:
    write_tones(tmp_path / "data", 20)
    config = read_config(write_config(tmp_path, steps=5, label_smoothing=0.1))
    assert Trainer(config, "cpu", quiet).run().progress.skipped == 0


def test_loss_that_is_not_finite_is_skipped_and_counted(tmp_path: Path) -> None:
    write_tones(tmp_path / "data", 20)
    trainer = Trainer(read_config(write_config(tmp_path, steps=6)), "cpu", quiet)
    features = trainer._features
    calls = {"n": 0}

    def poisoned(batch: object, generator: object) -> object:
        found, lengths = features(batch, generator)  # type: ignore[arg-type]
        calls["n"] += 1
        if calls["n"] in (4, 5):  # after two batches of normalisation, steps 2 and 3
            found = found * float("nan")
        return found, lengths

    trainer._features = poisoned  # type: ignore[method-assign,assignment]
    said: list[str] = []
    trainer.say = said.append
    outcome = trainer.run()
    assert outcome.progress.step == 6
    assert outcome.progress.skipped == 2
    assert any(line.startswith("step 1: loss nan, gradient nan: not finite") for line in said)
    assert "2 of 6 steps were skipped: not finite" in said
    for value in read_checkpoint(tmp_path / "exp/checkpoint.pt")["model"].values():
        assert torch.isfinite(value).all()


def test_a_run_that_is_hopeless_ends(tmp_path: Path) -> None:
    write_tones(tmp_path / "data", 20)
    trainer = Trainer(read_config(write_config(tmp_path, steps=500)), "cpu", quiet)
    features = trainer._features
    trainer._set_normalisation = lambda: None  # type: ignore[method-assign]
    trainer._features = lambda *a: (features(*a)[0] * float("inf"), features(*a)[1])  # type: ignore[method-assign]
    with pytest.raises(DataError, match=f"not finite in {HOPELESS} steps.*lower peak_lr"):
        trainer.run()


def test_the_mean_of_kept_checkpoints(tmp_path: Path) -> None:
    write_tones(tmp_path / "data", 20)
    Trainer(read_config(write_config(tmp_path, steps=6, keep_steps=2)), "cpu", quiet).run()
    kept = [tmp_path / f"exp/checkpoint-{step}.pt" for step in (2, 4, 6)]
    assert sorted((tmp_path / "exp").glob("checkpoint-*")) == kept
    arguments = [*map(str, kept[:2]), str(tmp_path / "mean"), "--weights", "float32"]
    assert CliRunner().invoke(main, ["export", *arguments]).exit_code == 0
    found = load_model(tmp_path / "mean").model.state_dict()
    two, four = (read_checkpoint(path)["average"] for path in kept[:2])
    for name, value in two.items():
        assert torch.allclose(found[name], 0.5 * (value + four[name]), atol=1e-6)
    changed = write_config(tmp_path, output="other", steps=1, model={**MODEL, "layers": 1})
    Trainer(read_config(changed), "cpu", quiet).run()
    with pytest.raises(ModelError, match="of another model than"):
        export([kept[0], tmp_path / "other/checkpoint.pt"], tmp_path / "x")


def test_a_chunked_conformer_learns(tmp_path: Path) -> None:
    write_tones(tmp_path / "data", 24)
    model = {**MODEL, "chunk": 8, "left_chunks": 2}
    outcome = Trainer(read_config(write_config(tmp_path, model=model)), "cpu", quiet).run()
    assert outcome.dev["ta"] < 0.1


def test_starting_from_a_model_folder(tmp_path: Path) -> None:
    write_tones(tmp_path / "data", 20)
    Trainer(read_config(write_config(tmp_path, steps=20)), "cpu", quiet).run()
    export(tmp_path / "exp/checkpoint.pt", tmp_path / "model", "float32")
    config = read_config(write_config(tmp_path, initial="model", output="exp2", steps=1))
    trainer = Trainer(config, "cpu", quiet)
    wanted = load_model(tmp_path / "model").model.state_dict()
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(value, wanted[name])
    trainer.run()
    other = read_config(
        write_config(tmp_path, initial="model", output="exp3", model={**MODEL, "dim": 16})
    )
    with pytest.raises(ModelError, match="does not fit"):
        Trainer(other, "cpu", quiet)


def test_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    write_tones(tmp_path / "data", 20)
    Trainer(read_config(write_config(tmp_path, steps=1)), "cpu", quiet).run()
    changed = read_config(write_config(tmp_path, model={**MODEL, "layers": 3}))
    with pytest.raises(ModelError, match="another model configuration"):
        Trainer(changed, "cpu", quiet).run()
    (tmp_path / "exp/checkpoint.pt").write_bytes(b"rubbish")
    with pytest.raises(ModelError, match=r"checkpoint.pt: damaged"):
        Trainer(read_config(write_config(tmp_path)), "cpu", quiet).run()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": "red"}, "unknown setting 'colour'"),
        ({"steps": 0}, "steps is 0"),
        ({"warmup": 1.5}, "warmup is 1.5"),
        ({"train": []}, "no training manifest"),
        ({"augment": {"echo": 1}}, "echo"),
        ({"augment": {"mu_law": 2}}, "mu_law 2"),
    ],
)
def test_bad_settings_are_named(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    path = write_config(tmp_path, **changes)
    with pytest.raises(DataError) as error:
        read_config(path)
    assert str(path) in str(error.value)
    assert message in str(error.value)


def test_missing_configuration_and_settings(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such configuration"):
        read_config(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("train: [")
    with pytest.raises(DataError, match="not readable as YAML"):
        read_config(tmp_path / "bad.yaml")
    (tmp_path / "half.yaml").write_text("train: [a.tsv]\n")
    with pytest.raises(DataError, match="setting 'dev' is missing"):
        read_config(tmp_path / "half.yaml")


def test_commands(tmp_path: Path) -> None:
    write_tones(tmp_path / "data", 20)
    path = write_config(tmp_path, steps=3)
    runner = CliRunner()
    result = runner.invoke(main, ["train", "--config", str(path), "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert "finished, step 3" in result.output
    assert "ta token error rate" in result.output
    checkpoint = str(tmp_path / "exp" / "checkpoint.pt")
    result = runner.invoke(
        main, ["export", checkpoint, str(tmp_path / "m"), "--weights", "float16"]
    )
    assert result.exit_code == 0
    assert load_model(tmp_path / "m").tokens[0] == "<blk>"
    result = runner.invoke(main, ["export", str(tmp_path / "none.pt"), str(tmp_path / "n")])
    assert result.exit_code == 1
    assert "no such checkpoint" in result.output
    result = runner.invoke(main, ["train", "--config", str(tmp_path / "none.yaml")])
    assert result.exit_code == 1
    assert "Traceback" not in result.output


def test_edit_distance_against_the_plain_recursion() -> None:

    def plain(one: tuple[int, ...], two: tuple[int, ...]) -> int:
        @functools.cache
        def distance(i: int, j: int) -> int:
            if not i or not j:
                return i + j
            same = one[i - 1] == two[j - 1]
            return min(
                distance(i - 1, j) + 1, distance(i, j - 1) + 1, distance(i - 1, j - 1) + (not same)
            )

        return distance(len(one), len(two))

    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        sizes = torch.randint(0, 9, (2,), generator=generator).tolist()
        one, two = (
            tuple(torch.randint(0, 3, (size,), generator=generator).tolist()) for size in sizes
        )
        assert edit_distance(one, two) == plain(one, two)
