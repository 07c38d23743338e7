"""Files of many recordings: written by this process or by others, each with its own fate; kept by the disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import soundfile

from uyir.cli import main
from uyir.decode import archive as archives
from uyir.decode import files, writing
from uyir.decode.files import OutputFolder
from uyir.decode.inputs import Input
from uyir.decode.journal import Journal
from uyir.decode.output import Style
from uyir.decode.pipeline import Parts, Recognised
from uyir.decode.processes import spread
from uyir.decode.sources import Source
from uyir.decode.transcript import Sealed, Segment, SpokenWord, Transcript
from uyir.decode.writing import Scribe, Writers
from uyir.errors import DataError

RATE = 16000
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
PARTS = Parts("ta", (), 1.0, 0.1, True, None)


class Recogniser:
    def transcript(self, source, parts):
        segments = tuple(segment.open() for segment in parts.segments)
        return Transcript(source.name, parts.language, segments, parts.duration, "e", "m")


def scribe(out, count, formats=("txt", "tsv"), showing=False):
    inputs = [Input(Path(f"r{i}.wav"), Path(f"d{i % 3}/r{i}")) for i in range(count)]
    sources = [Source(f"r{i}.wav", entry) for i, entry in enumerate(inputs)]
    missing = dict.fromkeys(range(count), formats)
    return Scribe(
        Recogniser(),
        inputs,
        sources,
        OutputFolder(out),
        missing,
        lambda entry: {},
        written=False,
        style=Style(),
        showing=showing,
    )


def results(count, parts=PARTS):
    return [
        Recognised(i, Source(f"r{i}.wav"), parts, Recogniser().transcript) for i in range(count)
    ]


@needs_fork
@pytest.mark.parametrize("processes", [0, 2])
def test_many_are_written_and_one_that_cannot_be_costs_the_others_nothing(tmp_path, processes):
    mine = scribe(tmp_path / "out", 300)
    (tmp_path / "out/d1/r7.txt").mkdir(parents=True)  # a folder stands where a file is to be
    found = []
    with Writers(mine, Writers.processes(mine, processes)) as several:
        for result in results(300):
            several.put(result)
            found += several.done()
        found += several.all()
    assert sorted(one.number for one in found) == list(range(300))
    wrong = [one for one in found if one.problem is not None]
    assert [one.number for one in wrong] == [7] and "in the way" in str(wrong[0].problem)
    for one in found:
        if one.number != 7:
            assert set(one.files) == {"txt", "tsv"} and one.about["language"] == "ta"
            for form in one.files:
                assert (tmp_path / f"out/d{one.number % 3}/r{one.number}.{form}").is_file()
    assert list((tmp_path / "out/.uyir-making").iterdir()) == []


@needs_fork
def test_a_killed_writer_costs_nothing_and_faults_are_raised(tmp_path):
    mine = scribe(tmp_path / "out", 50)
    children = Writers.processes(mine, 2)
    for child in children:
        os.kill(child.pid, signal.SIGKILL)
    with Writers(mine, children) as several:
        for result in results(50):
            several.put(result)
        assert sum(one.problem is None for one in several.all()) == 50
    mine._missing = {0: ("nonsense",)}
    with Writers(mine, []) as several, pytest.raises(KeyError):
        several.put(results(1)[0])


def test_a_sealed_segment_is_written_as_an_open_one(tmp_path):
    word = SpokenWord("நான்", 0.1, 0.4, 0.9, False, ())
    segment = Segment(0.1, 0.4, "நான்", (word,), 0.9, True)
    sealed = Sealed.of(segment)
    assert (sealed.count, sealed.final, sealed.open()) == (1, True, segment)
    for name, one in (("a", segment), ("b", sealed)):
        mine = scribe(tmp_path / name, 1, ("txt", "json"), showing=True)
        found = mine.write(0, Parts("ta", (one,), 1.0, 0.1, True, None))
        assert found.problem is None and found.transcript.text == "நான்"
        assert not found.no_speech and found.about["words"] == 1
    for form in ("txt", "json"):
        assert (tmp_path / f"a/d0/r0.{form}").read_bytes() == (
            tmp_path / f"b/d0/r0.{form}"
        ).read_bytes()


@needs_fork
def test_work_is_spread_and_comes_back_in_order():
    here = os.getpid()
    found = spread(lambda i: (i, os.getpid()), 1000, 3)
    assert [i for i, _ in found] == list(range(1000))
    assert here not in {pid for _, pid in found} and len({pid for _, pid in found}) == 3
    assert {pid for _, pid in spread(lambda i: (i, os.getpid()), 100, 3)} == {here}

    def fragile(i):
        if os.getpid() != here and i == 500:
            os.kill(os.getpid(), signal.SIGKILL)
        return i

    assert spread(fragile, 1000, 3) == list(range(1000))


# ---- killed, and without power


@pytest.fixture(scope="module")
def recordings(tmp_path_factory, noise):
    folder = tmp_path_factory.mktemp("recordings")
    for i in range(24):
        soundfile.write(folder / f"r{i}.wav", noise(0.3 + 0.02 * i, seed=i), RATE)
    return folder


def texts(out):
    return {p.name: p.read_bytes() for p in sorted(out.glob("*.txt"))}


def transcribe(model, recordings, out, *more):
    arguments = ["transcribe", "-l", "ta", "--threads", "1", str(recordings)]
    return main([*arguments, "--model", str(model), "-o", str(out), *map(str, more)])


#: `uyir` that is killed, without a word, when so many recordings are in its journal.
DYING = """
import os, signal, sys
from uyir.decode.journal import Journal

done = Journal.done_all


def dying(self, rows):
    done(self, rows)
    if self.rows == {count}:
        os.kill(os.getpid(), signal.SIGKILL)


Journal.done_all = dying
from uyir.cli import main

sys.exit(main(sys.argv[1:]))
"""


def test_killed_all_that_was_done_is_there(model, recordings, tmp_path, capsys):
    """However many were done when the kill came, no fewer are skipped afterwards: none is in the making."""
    out = tmp_path / "out"
    arguments = ["transcribe", "-l", "ta", "--threads", "1", str(recordings), "--model", str(model)]
    command = [sys.executable, "-c", DYING.format(count=13), *arguments, "-o", str(out)]
    died = subprocess.run(command, capture_output=True, text=True)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert len(texts(out)) == 13
    assert list((out / ".uyir-making").iterdir()) == []
    assert transcribe(model, recordings, out) == 0
    assert "13 of them before" in capsys.readouterr().err
    assert transcribe(model, recordings, tmp_path / "whole") == 0
    assert texts(out) == texts(tmp_path / "whole")
    assert (out / ".uyir.jsonl").read_bytes() == (tmp_path / "whole/.uyir.jsonl").read_bytes()


def test_ctrl_c_when_all_is_done_is_no_interruption(
    model, recordings, tmp_path, capsys, monkeypatch
):
    real, count = writing.Scribe.write, []

    def write(self, *arguments):
        found = real(self, *arguments)
        count.append(found)
        if len(count) == 24:
            os.kill(os.getpid(), signal.SIGINT)
        return found

    monkeypatch.setattr(writing.Scribe, "write", write)
    assert transcribe(model, recordings, tmp_path / "out") == 0
    err = capsys.readouterr().err
    assert "stopping" in err and "24 of 24 done" in err and "interrupted" not in err
    assert b"plan" not in (tmp_path / "out/.uyir.jsonl").read_bytes()
    monkeypatch.undo()
    assert transcribe(model, recordings, tmp_path / "out") == 0
    err = capsys.readouterr().err
    # Nothing was transcribed: there is no rate to speak of.
    assert "24 of them before" in err and "real time" not in err


@pytest.mark.parametrize("loss", ["nothing left", "cut short", "zeros", "gone"])
def test_what_a_power_cut_spoilt_is_found_and_made_again(
    model, recordings, tmp_path, capsys, monkeypatch, loss
):
    out = tmp_path / "out"
    # The run is killed with its journal saying that nothing is known to be on the disk.
    monkeypatch.setattr(archives._Archive, "_end", lambda self, *, interrupted: None)
    assert transcribe(model, recordings, out, "-f", "json") == 0
    monkeypatch.undo()
    whole = {p.name: p.read_bytes() for p in out.glob("*.json")}
    victims = sorted(out.glob("*.json"))[3:8]
    for victim in victims:
        data = victim.read_bytes()
        if loss == "gone":
            victim.unlink()
        else:
            left = {"nothing left": b"", "cut short": data[:-20], "zeros": bytes(len(data))}
            victim.write_bytes(left[loss])
    capsys.readouterr()
    assert transcribe(model, recordings, out, "-f", "json") == 0
    assert "19 of them before" in capsys.readouterr().err
    assert {p.name: p.read_bytes() for p in out.glob("*.json")} == whole
    # Now the disk has it, and what differs is someone's own.
    victims[0].write_text("mine")
    assert transcribe(model, recordings, out, "-f", "json") == 0
    assert "24 of them before" in capsys.readouterr().err and victims[0].read_text() == "mine"


def test_while_it_works_the_disk_is_asked_to_keep_what_is_done(
    model, recordings, tmp_path, monkeypatch
):
    monkeypatch.setattr(archives, "SYNC_S", 0.02)
    real, asked = OutputFolder.sync, []

    def sync(self):
        asked.append(len(list(self.folder.glob("*.txt"))))
        real(self)

    monkeypatch.setattr(OutputFolder, "sync", sync)
    slow = writing.Scribe.write

    def write(self, *arguments):
        time.sleep(0.02)
        return slow(self, *arguments)

    monkeypatch.setattr(writing.Scribe, "write", write)
    kept = []
    keep = Journal.keep
    monkeypatch.setattr(
        Journal, "keep", lambda self, rows: (kept.append((rows, asked[-1])), keep(self, rows))
    )
    assert transcribe(model, recordings, tmp_path / "out") == 0
    assert len(kept) > 1 and all(rows <= there for rows, there in kept)
    lines = (tmp_path / "out/.uyir.jsonl").read_text().splitlines()
    assert len(lines) == 24 and not any("kept" in line for line in lines)


def test_a_journal_knows_what_the_disk_is_known_to_have(tmp_path):
    journal = Journal(tmp_path)
    journal.begin("p")
    for name in "abc":
        journal.done(name, "s", "m", {"txt": "1"})
    journal.keep(2)
    journal.close()
    journal = Journal(tmp_path)
    assert {k: r.kept for k, r in journal.records.items()} == {"a": True, "b": True, "c": False}
    journal.done("d", "s", "m", {"txt": "1"})
    assert journal.rows == 4
    journal.keep(4)
    journal.done("a", "s", "m", {"json": "1"})
    tidy = journal.tidy()
    journal.close()
    journal = Journal(tmp_path)
    assert [k for k, r in journal.records.items() if not r.kept] == ["a"]
    journal.close()
    journal.path.write_bytes(tidy)
    journal = Journal(tmp_path)
    assert all(r.kept for r in journal.records.values()) and journal.rows == 4
    journal.begin("another")
    journal.done("e", "s", "m", {"txt": "1"})
    journal.close()
    journal = Journal(tmp_path)
    assert [k for k, r in journal.records.items() if not r.kept] == ["e"]
    journal.close()


@pytest.mark.parametrize("syncfs", [True, False])
def test_a_disk_that_cannot_keep_is_said(tmp_path, monkeypatch, syncfs):
    def wrong(handle):
        raise OSError(5, "Input/output error")

    output = OutputFolder(tmp_path)
    if syncfs:
        monkeypatch.setattr(files, "_syncfs", lambda: wrong)
    else:
        monkeypatch.setattr(files, "_syncfs", lambda: None)
        monkeypatch.setattr(os, "fsync", wrong)
    output.write(Path("a.txt"), b"x")
    with pytest.raises(DataError, match="not kept: Input/output error"):
        output.sync()


def test_without_syncfs_each_file_and_folder_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_syncfs", lambda: None)
    real, asked = os.fsync, []
    monkeypatch.setattr(os, "fsync", lambda handle: (asked.append(handle), real(handle)))
    output = OutputFolder(tmp_path / "out")
    for name in ("a.txt", "d/b.txt", "d/c.txt"):
        output.write(Path(name), b"x")
    (tmp_path / "out/d/c.txt").unlink()
    output.sync()
    assert len(asked) == 2 + 2
    output.sync()
    assert len(asked) == 4


@needs_fork
def test_the_processes_of_a_killed_run_do_not_hold_its_journal(model, recordings, tmp_path):
    """A lane may be busy for seconds when its run is killed; the next run does not wait for it."""
    out = tmp_path / "out"
    program = """
import os, sys, time
from uyir.decode.transcribe import Recogniser


def slowly(self, task):
    os.write(1, b"busy\\n")  # at once: two lanes write here
    time.sleep(20)


Recogniser.recognise = slowly
from uyir.cli import main

sys.exit(main(sys.argv[1:]))
"""
    arguments = ["transcribe", "-l", "ta", str(recordings), "--model", str(model), "-o", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments, "--threads", "2"], stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"busy\n"
    process.kill()
    process.wait()
    begin = time.monotonic()
    Journal(out).close()
    assert time.monotonic() - begin < 4.0
    process.stdout.close()
