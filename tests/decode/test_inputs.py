"""What names become recordings, and what recordings' outputs are called."""

from __future__ import annotations

import gzip
import io
import json
import os
from pathlib import Path

import pytest

from uyir.decode.inputs import NAME_BYTES, find_inputs, safe_path
from uyir.decode.manifests import read_manifest
from uyir.errors import DataError


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def outputs(inputs):
    return [str(entry.output) for entry in inputs]


def test_names_never_collide(tmp_path):
    touch(tmp_path, "a.wav", "a.flac", "b.wav", "deep/a.wav", "deep/notes.txt")
    inputs, problems = find_inputs([str(tmp_path), str(tmp_path / "b.wav"), "elsewhere/b.wav"])
    assert not problems
    assert outputs(inputs) == ["a.flac", "a.wav", "b.wav", "deep/a", "b.wav~2", "b.wav~3"]


def test_names_that_differ_by_case_alone_do_not_collide_where_case_does_not_count(tmp_path):
    inputs, _ = find_inputs(["x/A.wav", "y/a.wav", "z/A.flac"])
    assert len({name.casefold() for name in outputs(inputs)}) == 3


def test_a_hollow_folder_is_a_problem(tmp_path):
    inputs, problems = find_inputs([str(tmp_path)])
    assert not inputs and "no recordings" in problems[0] and str(tmp_path) in problems[0]


def test_globs_are_mirrored_from_where_they_begin(tmp_path):
    touch(tmp_path, "in/x/1.wav", "in/y/z/1.wav", "in/y/z/2.mp3", "odd[1].wav")
    inputs, problems = find_inputs([f"{tmp_path}/in/**/*.wav", f"{tmp_path}/none*.wav"])
    assert outputs(inputs) == ["x/1", "y/z/1"]
    assert problems == [f"{tmp_path}/none*.wav: no file matches"]
    inputs, problems = find_inputs([f"{tmp_path}/odd[1].wav"])
    assert outputs(inputs) == ["odd[1]"] and not problems


@pytest.mark.parametrize("separator", ["\n", "\0"])
def test_a_list_on_stdin_keeps_its_tree(separator):
    names = ["deep/a.wav", "/abs/b.wav", "../c d.wav"]
    inputs, _ = find_inputs(["-"], io.StringIO(separator.join(names) + separator))
    assert [str(entry.path) for entry in inputs] == names
    assert outputs(inputs) == ["deep/a", "abs/b", "c d"]


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/x.wav",
        "/abs/y.wav",
        "a\nb.wav",
        "\x1b31m.wav",
        "க" * 100 + ".wav",
        "x" * 300,
        "a/../../b.wav",
        "C:\\windows\\x.wav",
        ".uyir.jsonl",
        "~/x.wav",
        "a\udcff.wav",
    ],
)
def test_no_name_leads_out_or_is_too_long(name):
    inputs, _ = find_inputs([name, name])
    for entry in inputs:
        assert not entry.output.is_absolute() and ".." not in entry.output.parts
        assert all(len(os.fsencode(p)) <= NAME_BYTES for p in entry.output.parts)
        assert "\n" not in str(entry.output) and "\x1b" not in str(entry.output)
        assert not str(entry.output).startswith(".uyir")
    assert len(set(outputs(inputs))) == 2


def test_long_names_stay_different():
    inputs, _ = find_inputs(["x" * 240 + "1.wav", "x" * 240 + "2.wav"])
    assert len(set(outputs(inputs))) == 2


def test_safe_paths():
    assert str(safe_path("a/./b/../c")) == "a/b/c"
    for name in ("", ".", "..", "/", "../.."):
        assert str(safe_path(name)) == "_"


# --------------------------------------------------------------------------------------------------
# Manifests


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(r if isinstance(r, str) else json.dumps(r) + "\n" for r in rows))
    return path


def test_nemo(tmp_path):
    touch(tmp_path, "x/1.wav")
    path = lines(
        tmp_path / "m.json",
        {"audio_filepath": "x/1.wav", "duration": 3.0, "text": "-"},
        {"audio_filepath": "/abs/2.wav", "offset": 1.5, "duration": 2.0, "lang": "kn"},
        {"audio_filepath": "z.wav", "offset": "soon", "duration": 2.0},
        "not json\n",
        [1],
    )
    inputs, problems = read_manifest(path)
    assert [(e.start, e.duration, e.language) for e in inputs] == [
        (0.0, None, None),
        (1.5, 2.0, "kn"),
    ]
    assert inputs[0].path == tmp_path / "x/1.wav"
    assert [p.partition(" ")[0] for p in problems] == [f"{path}:{n}:" for n in (3, 4, 5)]


def test_csv(tmp_path):
    path = lines(tmp_path / "m.csv", "id,path,start,end,channel\nu/1,a.wav,1,2.5,1\n,b.wav,,,\n")
    inputs, problems = read_manifest(path)
    assert not problems
    assert (inputs[0].id, inputs[0].start, inputs[0].duration) == ("u/1", 1.0, 1.5)
    assert inputs[0].channel == 1 and outputs(inputs) == ["u/1", "b"]
    with pytest.raises(DataError, match="no column"):
        read_manifest(lines(tmp_path / "n.csv", "sound\na.wav\n"))


def test_kaldi(tmp_path):
    scp = lines(tmp_path / "wav.scp", "r1 a.wav\nr2 sox b.wav -t wav - |\nr1 c.wav\nr3\n")
    inputs, problems = read_manifest(scp)
    assert [e.id for e in inputs] == ["r1"] and len(problems) == 3
    assert any("--allow-commands" in p and "sox b.wav" in p for p in problems)
    inputs, _ = read_manifest(tmp_path, allow_commands=True)
    assert [(e.id, e.command) for e in inputs] == [("r1", None), ("r2", "sox b.wav -t wav -")]
    lines(tmp_path / "segments", "u1 r1 0.5 2.0\nu2 r1 2.0 -1\nu3 r9 0 1\nu4 r1 3 2\nu5 r1\n")
    inputs, problems = read_manifest(tmp_path)
    assert [(e.id, e.start, e.duration) for e in inputs] == [("u1", 0.5, 1.5), ("u2", 2.0, None)]
    assert sum("segments:" in p for p in problems) == 3


def cut(kind="file", source="a.wav", **more):
    recording = {"id": "r", "sources": [{"type": kind, "channels": [0], "source": source}]}
    return {
        "id": "c/1",
        "start": 1.0,
        "duration": 2.0,
        "channel": 0,
        "recording": recording,
        **more,
    }


def test_lhotse(tmp_path):
    path = tmp_path / "cuts.jsonl.gz"
    rows = [
        cut(type="MonoCut"),
        cut("command", "touch /tmp/pwned; cat a.wav"),
        cut("url", "http://localhost/a.wav"),
        {"id": "m", "type": "MixedCut", "tracks": []},
    ]
    path.write_bytes(gzip.compress("".join(json.dumps(r) + "\n" for r in rows).encode()))
    inputs, problems = read_manifest(path)
    (entry,) = inputs
    assert (entry.id, entry.start, entry.duration, entry.channel) == ("c/1", 1.0, 2.0, 0)
    assert len(problems) == 3 and "--allow-commands" in problems[0]
    inputs, problems = read_manifest(path, allow_commands=True)
    assert len(inputs) == 2 and len(problems) == 2


def test_manifests_that_are_none(tmp_path):
    for name, data in (
        ("a.jsonl", b"\xff\xfe"),
        ("b.jsonl", b"no json"),
        ("c.jsonl", b""),
        ("d.jsonl.gz", b"no gzip"),
        ("e.jsonl", b"[" * 100_000),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=name):
            read_manifest(tmp_path / name)
    with pytest.raises(DataError, match=r"wav\.scp"):
        read_manifest(tmp_path)
    with pytest.raises(DataError, match="nowhere"):
        read_manifest(tmp_path / "nowhere.jsonl")
