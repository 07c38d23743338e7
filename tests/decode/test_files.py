"""Files whole or not at all, inside their folder; and the journal of what is done."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from uyir.decode import journal as journals
from uyir.decode.files import OutputFolder
from uyir.decode.journal import Journal, plan_of
from uyir.errors import DataError


def tree(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_writing_leaves_the_old_file_or_the_new_one(tmp_path, monkeypatch):
    output = OutputFolder(tmp_path / "out")
    name = Path("deep/a.txt")
    path = output.write(name, b"old\n")
    assert path.read_bytes() == b"old\n"

    def broken(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", broken)
    with pytest.raises(DataError, match=r"a\.txt: cannot be written: No space left"):
        output.write(name, b"new\n")
    assert path.read_bytes() == b"old\n"
    output.close()
    assert tree(tmp_path / "out") == ["deep/a.txt"]


def test_what_a_killed_run_left_is_cleared(tmp_path):
    OutputFolder(tmp_path)._making.joinpath("half").write_text("x")
    assert tree(tmp_path) == [".uyir-making/half"]
    OutputFolder(tmp_path).close()
    assert tree(tmp_path) == []


def test_nothing_is_written_outside(tmp_path):
    output = OutputFolder(tmp_path / "out")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "out" / "link").symlink_to(elsewhere)
    (elsewhere / "file").write_text("theirs")
    (tmp_path / "out" / "b.txt").symlink_to(elsewhere / "file")
    for name in ("../a.txt", "/tmp/uyir-test-a.txt", "link/a.txt", "x/../../a.txt"):
        with pytest.raises(DataError, match="output folder"):
            output.write(Path(name), b"x")
    output.write(Path("b.txt"), b"ours")
    assert (elsewhere / "file").read_text() == "theirs"
    assert tree(elsewhere) == ["file"]


def test_the_mode_of_files_is_that_of_the_user(tmp_path):
    old = os.umask(0o027)
    try:
        path = OutputFolder(tmp_path).write(Path("a.txt"), b"x")
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_journal_is_read_back_whatever_its_last_line(tmp_path):
    journal = Journal(tmp_path)
    assert journal.begin("p1") is False
    journal.done("a", "s", "m", {"txt": "1"})
    journal.done("நான்\udcff", "s", "m", {"txt": "2"})
    journal.close()
    with journal.path.open("ab") as file:
        file.write(b'{"output": "c", "sour')
    journal = Journal(tmp_path)
    assert sorted(journal.records) == ["a", "நான்\udcff"]
    assert journal.begin("p1") is True
    assert not any(r.before for r in journal.records.values())
    journal.done("c", "s", "m", {"json": "3"})
    journal.close()
    journal = Journal(tmp_path)
    assert sorted(journal.records) == ["a", "c", "நான்\udcff"]
    assert journal.begin("p2") is False
    assert all(r.before for r in journal.records.values())
    tidy = journal.tidy()
    journal.close()
    assert tidy.count(b"\n") == 3 and b"plan" not in tidy


def test_formats_of_a_recording_add_up_and_another_source_replaces(tmp_path):
    journal = Journal(tmp_path)
    journal.done("a", "s", "m", {"txt": "1"})
    journal.done("a", "s", "m", {"json": "2"})
    assert journal.records["a"].files == {"txt": "1", "json": "2"}
    journal.done("a", "t", "m", {"txt": "3"})
    assert journal.records["a"].files == {"txt": "3"}
    journal.close()


def test_two_runs_at_once_are_refused_but_shards_are_not(tmp_path, monkeypatch):
    pytest.importorskip("fcntl", reason="this system has no file locks")
    monkeypatch.setattr(journals, "_PATIENCE", 2)
    journal = Journal(tmp_path)
    with pytest.raises(DataError, match="another run"):
        Journal(tmp_path)
    journal.done("a", "s", "m", {"txt": "1"})
    other = Journal(tmp_path, "-1-of-2")
    assert list(other.records) == ["a"] and other.tidy() == b""
    other.close()
    journal.close()


def test_a_plan_is_of_names_durations_and_how():
    plans = {
        plan_of(["a", "b"], [1.0, 2.0], "m"),
        plan_of(["a", "b"], [1.0, 2.1], "m"),
        plan_of(["a", "c"], [1.0, 2.0], "m"),
        plan_of(["a", "b"], [1.0, 2.0], "n"),
    }
    assert len(plans) == 4
