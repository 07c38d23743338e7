"""What a stranger's file may not do: run code, write elsewhere, speak to the terminal, fill the memory."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct

import numpy as np
import pytest
import soundfile
import torch

from uyir.asr.audio import stream_audio
from uyir.asr.export import read_checkpoint
from uyir.cli import main
from uyir.decode.transcribe import load
from uyir.errors import AudioError, ModelError, UyirError

RATE = 16000


class Evil:
    """Unpickled it makes a file."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), "w")


@pytest.fixture()
def mark(tmp_path):
    path = tmp_path / "mark"
    pickle.loads(pickle.dumps(Evil(path))).close()
    assert path.exists()  # it does what it is feared for
    path.unlink()
    return path


@pytest.mark.parametrize("way", ["torch", "plain"])
def test_a_checkpoint_runs_no_code(tmp_path, mark, way):
    path = tmp_path / "checkpoint.pt"
    if way == "torch":
        torch.save({"version": 1, "progress": Evil(mark)}, path)
    else:
        path.write_bytes(pickle.dumps(Evil(mark)))
    with pytest.raises(ModelError, match="damaged checkpoint"):
        read_checkpoint(path)
    assert not mark.exists()


def test_a_model_folder_runs_no_code(model, tmp_path, mark, noise):
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    evil = pickle.dumps(Evil(mark))
    for name in ("model.pt", "HLG.pt", "ta/HLG.pt", "ta/words.pkl", "config.pkl"):
        (folder / name).write_bytes(evil)
    (folder / "config.py").write_text(f"open({str(mark)!r}, 'w')")
    (found,) = load(folder).transcribe([noise(0.5)], "ta")
    assert found.error is None
    for name in ("model.safetensors", "ta/HLG.safetensors"):
        broken = tmp_path / name.replace("/", "-")
        shutil.copytree(model, broken)
        (broken / name).write_bytes(evil)
        with pytest.raises(UyirError):
            load(broken).transcribe([noise(0.5)], "ta")
    assert not mark.exists()


@pytest.mark.parametrize("name", ["../other", "/etc", "a/b", "..", "", "a\nb", 3, ["base"]])
def test_a_model_folder_names_no_other_place(model, tmp_path, name):
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "graphs": name}))
    with pytest.raises(ModelError, match="graphs"):
        load(folder)


def test_ids_of_a_manifest_stay_in_the_output_folder(model, tmp_path, noise, capsys):
    soundfile.write(tmp_path / "a.wav", noise(0.4), RATE)
    ids = [
        "../../evil",
        "/tmp/uyir-test-evil",
        "x/../../evil",
        "a\nb\x1b[31m",
        "ஒ" * 100,
        ".uyir",
        "~",
    ]
    rows = [
        {"audio_filepath": str(tmp_path / "a.wav"), "duration": 0.4, "id": name} for name in ids
    ]
    manifest = tmp_path / "in" / "m.jsonl"
    manifest.parent.mkdir()
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    before = {p for p in tmp_path.rglob("*") if "out" not in p.parts}
    out = tmp_path / "deep" / "out"
    arguments = ["--manifest", str(manifest), "-l", "ta", "--model", str(model), "-o", str(out)]
    assert main(["transcribe", *arguments, "--threads", "1"]) == 0, capsys.readouterr().err
    assert {p for p in tmp_path.rglob("*") if "out" not in p.parts} - before == {out.parent}
    files = list(out.rglob("*.txt"))
    assert len(files) == len(ids)
    assert all(str(p.resolve()).startswith(f"{out.resolve()}{os.sep}") for p in files)
    assert all("\n" not in str(p) and "\x1b" not in str(p) for p in files)
    assert not os.path.exists("/tmp/uyir-test-evil.txt")


def test_names_do_not_speak_to_the_terminal(model, tmp_path, noise, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    soundfile.write(folder / "a.wav", noise(0.4), RATE)
    good, bad = folder / "g\x1b]0;title\x07\n.wav", folder / "b\x1b[2J\x9b31m.wav"
    os.rename(folder / "a.wav", good)
    bad.write_bytes(b"none")
    arguments = ["-l", "ta", "--model", str(model), "--threads", "1"]
    assert main(["transcribe", str(folder), *arguments]) == 1
    shown = capsys.readouterr()
    assert main(["transcribe", str(folder), *arguments, "-o", str(tmp_path / "out")]) == 1
    again = capsys.readouterr()
    for text in (shown.out, shown.err, again.out, again.err):
        assert not {"\x1b", "\x07", "\x9b"} & set(text)
    assert "\\x1b" in shown.err and "\\x1b" in shown.out and shown.out.count("\n") == 1


def bomb(path, form, wave):
    """A small recording whose header promises more than 4 GB."""
    soundfile.write(path, wave, RATE, format=form, subtype="PCM_16")
    data = bytearray(path.read_bytes())
    if form == "FLAC":  # 36 bits of STREAMINFO
        data[21] |= 0x0F
        data[22:26] = b"\xff" * 4
    elif form == "AU":
        data[8:12] = struct.pack(">I", 2**32 - 2)
    elif form == "W64":
        at = data.index(b"data")
        data[at + 16 : at + 24] = struct.pack("<Q", 2**40)
    elif form == "CAF":
        at = data.index(b"data")
        data[at + 4 : at + 12] = struct.pack(">Q", 2**40)
    elif form == "AIFF":
        at = data.index(b"COMM")
        data[at + 10 : at + 14] = struct.pack(">I", 2**31)
        at = data.index(b"SSND")
        data[at + 4 : at + 8] = struct.pack(">I", 2**32 - 16)
    else:
        at = data.index(b"data")
        data[at + 4 : at + 8] = struct.pack("<I", 2**32 - 2)
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("form", ["WAV", "FLAC", "AU", "W64", "AIFF", "CAF"])
def test_a_header_that_promises_gigabytes_is_refused_before_there_is_memory_for_them(
    tmp_path, noise, form
):
    path = tmp_path / "bomb"
    bomb(path, form, noise(0.5))
    held = 0
    with pytest.raises(AudioError) as error:
        for block in stream_audio(path):
            held += len(block)
    assert held <= RATE and str(path) in str(error.value)


@pytest.mark.parametrize("form", ["WAV", "FLAC", "AU", "W64", "AIFF", "CAF", "RF64", "NIST"])
@pytest.mark.parametrize("samples", [8000, 8001])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_U8", "PCM_S8"])
def test_a_header_that_keeps_its_promise_is_believed(tmp_path, noise, form, samples, subtype):
    if not soundfile.check_format(form, subtype):
        pytest.skip(f"no {subtype} in {form}")
    path = tmp_path / "good"
    soundfile.write(path, noise(0.6)[:samples], RATE, format=form, subtype=subtype)
    # libsndfile takes the pad byte of an AIFF of single bytes for a sample.
    padded = samples + (form == "AIFF" and subtype != "PCM_16" and samples % 2)
    assert sum(len(block) for block in stream_audio(path)) == padded


def test_hours_packed_into_little_are_read_a_piece_at_a_time(tmp_path):
    """Three hours of zeros in some 50 kB."""
    path = tmp_path / "zeros.flac"
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16") as file:
        for _ in range(180):
            file.write(np.zeros(60 * RATE, dtype=np.int16))
    assert path.stat().st_size < 1_000_000
    sizes = [len(block) for block in stream_audio(path)]
    assert sum(sizes) == 3 * 3600 * RATE and max(sizes) <= 20 * RATE
