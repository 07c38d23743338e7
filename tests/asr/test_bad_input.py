"""Bad recordings and full disks, through the commands: counted, listed, the rest goes on, or a clear message."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tones import write_tones

from uyir import cli
from uyir.asr.checkpoint import load_model, save_model
from uyir.asr.model import CtcModel, ModelConfig
from uyir.errors import DataError
from uyir.lexicon.symbols import tokens_table

TINY = {"dim": 16, "heads": 2, "ffn_dim": 16, "layers": 1, "kernel": 3, "subsampling_channels": 4}
GOOD = {"one": "ನಾನು ಮನೆಗೆ ಹೋದೆ", "two": "ಮಳೆ ಬಂತು", "three": "ಅವನು ಬಂದನು"}
#: What is wrong with the rest, by name, and what it is counted as.
BAD = {
    "alone": "audio without transcript",
    "silent": "transcript without audio",
    "tamil": "of another language",
    "long": "longer than",
    "broken": "unreadable audio",
}


def sound(path: Path, seconds: float = 1.5) -> None:
    rng = np.random.default_rng(len(path.name))
    soundfile.write(str(path), 0.1 * rng.normal(size=round(16000 * seconds)), 16000)


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    for name, text in {**GOOD, "tamil": "மழை வந்தது", "long": "ಮಳೆ", "broken": "ಮಳೆ"}.items():
        sound(folder / f"{name}.wav", 61.0 if name == "long" else 1.5)
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    (folder / "broken.wav").write_bytes((folder / "broken.wav").read_bytes()[:30])
    sound(folder / "alone.wav")
    (folder / "silent.txt").write_text("ಮಳೆ", encoding="utf-8")
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    tokens = list(tokens_table())
    network = CtcModel(ModelConfig.from_dict({**TINY, "tokens": len(tokens)}))
    save_model(tmp_path / "models" / "tiny", network, tokens, graphs="base")
    return tmp_path / "models" / "tiny"


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    code = cli.main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_a_corpus_is_prepared_without_what_is_bad(
    recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    code, said = run(
        capsys, "corpus", "prepare", recordings, "-l", "kn", "--out", out, "--dev", 0, "--test", 0
    )
    assert code == 0
    rows = (out / "train.tsv").read_text(encoding="utf-8").splitlines()[1:]
    assert sorted(row.split("\t")[0] for row in rows) == sorted(GOOD)
    listed = (out / "left_out.tsv").read_text(encoding="utf-8").splitlines()[1:]
    assert len(listed) == len(BAD)
    for name, kind in BAD.items():
        assert f"1 {kind}" in said
        assert any(line.startswith(kind) and name in line for line in listed)


def test_a_model_is_adapted_without_what_is_bad(
    recordings: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new"
    code, said = run(
        capsys,
        "adapt",
        recordings,
        "-l",
        "kn",
        "-m",
        model,
        "-o",
        out,
        "--passes",
        1,
        "--device",
        "cpu",
    )
    assert code == 0, said
    for kind in BAD.values():
        assert f"1 {kind}" in said
    assert len((out / "left_out.tsv").read_text(encoding="utf-8").splitlines()) == 1 + len(BAD)
    assert load_model(out).model.config.dim == 16


def test_what_can_be_aligned_is(
    recordings: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "aligned"
    code, said = run(capsys, "align", recordings, "-l", "kn", "-m", model, "-o", out)
    assert code == 1
    assert {p.stem for p in out.iterdir()} == {*GOOD, "long"}
    for name in set(BAD) - {"long"}:
        assert name in said


def test_an_unreadable_utterance_costs_a_run_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that is only found to be broken in training; and one with more phones than frames."""
    write_tones(tmp_path / "data", 12, shards=False)
    (tmp_path / "data/3.wav").write_bytes(b"RIFF")
    manifest = tmp_path / "data/manifest.tsv"
    lines = manifest.read_text().splitlines()
    cells = lines[5].split("\t")
    lines[5] = "\t".join([*cells[:5], " ".join(["a", "k"] * 300)])
    cells = lines[6].split("\t")
    lines[6] = "\t".join([*cells[:3], "hi", *cells[4:]])
    manifest.write_text("\n".join(lines) + "\n")
    (tmp_path / "c.yaml").write_text(
        f"train: [data/manifest.tsv]\ndev: [data/manifest.tsv]\noutput: exp\ntokens: data/tokens.txt\n"
        f"model: {TINY}\nbatch_seconds: 8\nworkers: 1\nsteps: 4\nnormalisation_batches: 1\n"
    )
    code, said = run(capsys, "train", "--config", tmp_path / "c.yaml", "--device", "cpu")
    assert code == 0
    assert "10 utterances" in said
    assert "1 more tokens than frames" in said and "1 unknown language" in said
    assert "unreadable: u3" in said
    assert "1 utterances could not be read and were left out" in said


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 32 KiB, where one may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False).returncode
    except OSError:
        done = 1
    if done:
        pytest.skip("a small disk cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_said_by_every_command(
    full_disk: Path,
    recordings: Path,
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_tones(tmp_path / "data", 12)
    config = (
        f"train: [data/manifest.tsv]\ndev: []\ntokens: data/tokens.txt\nmodel: {TINY}\nbatch_seconds: 8\n"
        f"workers: 1\nsteps: 2\nnormalisation_batches: 1\noutput: "
    )
    for name, output in (("good", "exp"), ("full", full_disk / "exp")):
        (tmp_path / f"{name}.yaml").write_text(f"{config}{output}\n")
    train = ["train", "--device", "cpu", "--config"]
    assert run(capsys, *train, tmp_path / "good.yaml")[0] == 0
    (full_disk / "filler").write_bytes(b"x" * 24 * 1024)
    for command in (
        [*train, tmp_path / "full.yaml"],
        ["export", tmp_path / "exp/checkpoint.pt", full_disk / "model"],
    ):
        code, said = run(capsys, *command)
        assert code == 1
        assert "cannot be written" in said and "Traceback" not in said
    assert not list(full_disk.rglob("*.part"))
    left = os.statvfs(full_disk)
    (full_disk / "more").write_bytes(b"x" * (left.f_bavail * left.f_bsize))
    out = ("-l", "kn", "--out", full_disk)
    code, said = run(capsys, "corpus", "prepare", recordings, *out)
    assert code == 1
    assert "cannot be written: No space left on device" in said
    arguments = ("adapt", recordings, "-l", "kn", "-m", model, "-o", full_disk / "m", "--passes", 1)
    code, said = run(capsys, *arguments, "--device", "cpu")
    assert code == 1
    assert "cannot be written" in said and "Traceback" not in said


def test_a_model_that_cannot_be_written_leaves_the_old_one(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load_model(model).model.state_dict()
    write = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        write(self, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    network = CtcModel(load_model(model).model.config)
    with pytest.raises(DataError, match=r"model\.safetensors: cannot be written: No space left"):
        save_model(model, network, list(tokens_table()))
    monkeypatch.undo()
    after = load_model(model).model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert not list(model.glob("*.part"))
