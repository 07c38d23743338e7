"""Runs over many recordings: killed, interrupted, taken up, in shards, with workers that die."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from uyir.cli import main
from uyir.decode import batches
from uyir.decode.batches import PADDING, batches_of, groups_of
from uyir.decode.calibration import Identification
from uyir.decode.evidence import Spoken
from uyir.decode.lanes import forked
from uyir.decode.pauses import Stretch
from uyir.decode.report import Report, clock, printable
from uyir.decode.transcribe import load
from uyir.decode.work import Found, Piece, Task
from uyir.errors import ModelError

RATE = 16000


#: `uyir`, with groups of some seconds and a rest before each batch.
SLOWLY = """
import sys, time
from uyir.decode import batches

batches.GROUP_S = {group}
from uyir.decode.transcribe import Recogniser

recognise = Recogniser.recognise


def slowly(self, task):
    time.sleep({seconds})
    return recognise(self, task)


Recogniser.recognise = slowly
from uyir.cli import main

sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory, noise):
    """Forty short recordings in folders, four of them bad."""
    folder = tmp_path_factory.mktemp("archive")
    for i in range(40):
        path = folder / f"d{i % 3}" / f"e{i % 5}" / f"r{i}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, noise(0.2 + 0.03 * i, seed=i), RATE)
        if i % 10 == 9:
            path.write_bytes(path.read_bytes()[: 30 * i])
    return folder


def tree(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def transcribe(*arguments):
    return main(["transcribe", "-l", "ta", "--threads", "1", *map(str, arguments)])


def transcripts(out: Path) -> list[str]:
    """The texts in the folder of a run that may be at work: what comes and goes is no error."""
    return [name for _, _, names in os.walk(out) for name in names if name.endswith(".txt")]


def test_killed_at_random_moments_and_taken_up_the_tree_is_the_same(model, archive, tmp_path):
    """Groups of some seconds, so that there are several; each run is killed a little later."""
    command = [sys.executable, "-c"]
    program = SLOWLY.format(group=4.0, seconds=0.05)
    arguments = ["transcribe", str(archive), "-l", "ta", "--model", str(model), "-f", "txt,json"]
    command += [program, *arguments, "--threads", "2", "-o"]
    whole = subprocess.run([*command, str(tmp_path / "whole")], capture_output=True, text=True)
    assert whole.returncode == 1, whole.stderr
    rng = random.Random(1)
    out = tmp_path / "killed"
    kills = 0
    for _ in range(3):
        process = subprocess.Popen([*command, str(out)], stderr=subprocess.DEVNULL)
        before = len(transcripts(out))
        deadline = time.monotonic() + 60
        # Not before it has done something more, so that kills fall into the work.
        while time.monotonic() < deadline and process.poll() is None:
            if len(transcripts(out)) > before + rng.randrange(6):
                break
            time.sleep(0.002)
        if process.poll() is None:
            kills += 1
            process.send_signal(signal.SIGKILL)
        process.wait()
        for path in out.rglob("*.json"):
            json.loads(path.read_text())  # whole, whenever the kill came
    assert kills >= 2
    last = subprocess.run([*command, str(out)], capture_output=True, text=True)
    assert last.returncode == 1
    assert tree(out) == tree(tmp_path / "whole")
    assert len([name for name in tree(out) if name.endswith(".txt")]) == 36
    assert sum("cut short" in line or "r9." in line for line in last.stderr.splitlines()) >= 3


def test_what_is_done_is_skipped_until_something_changes(model, archive, tmp_path, capsys, noise):
    source = tmp_path / "in"
    shutil.copytree(archive / "d0", source)
    for path in source.rglob("*.wav"):
        if path.stat().st_size < 3000:
            path.unlink()
    out = tmp_path / "out"
    count = len(list(source.rglob("*.wav")))

    def done(*more):
        code = transcribe(source, "--model", model, "-o", out, *more)
        assert code == 0
        err = capsys.readouterr().err
        before = err.partition(" of them before")[0].rpartition(" ")[2]
        return int(before) if "of them before" in err else 0

    assert done() == 0
    first = tree(out)
    assert done() == count and tree(out) == first
    assert done("-f", "txt,json") == 0  # a format more
    assert done("-f", "json") == count
    assert {k: v for k, v in tree(out).items() if k.endswith(".txt")} == {
        k: v for k, v in first.items() if k.endswith(".txt")
    }
    assert done("--beam", "13", "-f", "json") == 0  # another option
    assert done("--beam", "13", "-f", "json") == count
    one = next(source.rglob("*.wav"))
    soundfile.write(one, noise(0.4, seed=99), RATE)
    os.utime(one, (0, 0))
    assert done("--beam", "13", "-f", "json") == count - 1  # other content, older date
    one.rename(one.with_name("other.wav"))
    assert done("--beam", "13", "-f", "json") == count - 1
    next(out.rglob("*.json")).unlink()
    assert done("--beam", "13", "-f", "json") == count - 1
    next(out.rglob("*.json")).write_bytes(b"")  # a power cut
    assert done("--beam", "13", "-f", "json") == count - 1
    assert done("--beam", "13", "-f", "json", "--no-resume") == 0


def test_what_someone_wrote_is_kept(model, archive, tmp_path, capsys):
    out = tmp_path / "out"
    recording = next(p for p in archive.rglob("*.wav") if p.stat().st_size > 9000)
    assert transcribe(recording, "--model", model, "-o", out) == 0
    text = out / f"{recording.stem}.txt"
    text.write_text("corrected by hand")
    assert transcribe(recording, "--model", model, "-o", out) == 0
    assert text.read_text() == "corrected by hand"
    capsys.readouterr()
    assert transcribe(recording, "--model", model, "-o", out, "--beam", "9") == 0
    assert (out / f"{text.name}~").read_text() == "corrected by hand"
    assert "kept as" in capsys.readouterr().err and text.read_text() != "corrected by hand"


def test_shards_together_are_the_whole(model, archive, tmp_path):
    transcribe(archive, "--model", model, "-o", tmp_path / "whole")
    for i in (1, 2, 3):
        transcribe(archive, "--model", model, "-o", tmp_path / "parts", "--shard", f"{i}/3")
    texts = [
        {k: v for k, v in tree(tmp_path / name).items() if k.endswith(".txt")}
        for name in ("whole", "parts")
    ]
    assert texts[0] == texts[1]


def test_ctrl_c_keeps_what_is_begun_and_goes_on_later(model, archive, tmp_path):
    program = SLOWLY.format(group=2.0, seconds=0.3)
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-c",
        program,
        "transcribe",
        str(archive),
        "-l",
        "ta",
        "--threads",
        "1",
    ]
    command += ["--model", str(model), "-o", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not transcripts(out) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "interrupted" in err and "Traceback" not in err
    assert 0 < len(transcripts(out)) < 36
    assert not [name for name in tree(out) if ".uyir-making" in name]
    transcribe(archive, "--model", model, "-o", out)
    assert len(transcripts(out)) == 36


def test_progress_log_and_summary(model, archive, tmp_path, capsys):
    log = tmp_path / "log.jsonl"
    code = transcribe(archive, "--model", model, "-o", tmp_path / "out", "--log", log)
    assert code == 1
    events = [json.loads(line) for line in log.read_text().splitlines()]
    kinds = [event["event"] for event in events]
    assert kinds[0] == "start" and kinds[-1] == "summary"
    assert kinds.count("done") == 36 and kinds.count("failed") == 4
    assert events[-1]["failed"] == 4 and events[-1]["padding"] <= PADDING
    err = capsys.readouterr().err
    assert "36 of 40 done" in err and "failed" in err


def test_a_bar_on_terminals_alone(capsys):
    import io

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for stream in (Terminal(), io.StringIO()):
        report = Report(2, 10.0, stream=stream)
        report._said -= 100
        report.finished("a", 5.0)
        report.failed("b\x1b[31m", "b\x1b[31m: bad")
        text = stream.getvalue()
        assert ("\r" in text) == stream.isatty()
        assert "real time" in text and "\x1b[31m" not in text
    report = Report(50, 10.0, stream=io.StringIO())
    for i in range(30):
        report.failed(f"f{i}", f"f{i}: reason {chr(97 + i)}")
    report.summary(padding=0.0, interrupted=False)
    table = report.stream.getvalue().rpartition("0 of 50 done\n")[2].splitlines()
    assert len(table) == 13 and "18 × for other reasons" in table[-1] and report.left == 20
    assert (clock(59.6), clock(3600)) == ("1:00", "1:00:00")
    assert printable("a\nb\x9bc") == "a\\x0ab\\x9bc"


# --------------------------------------------------------------------------------------------------
# Batches, lanes


def test_batches_hold_all_within_their_limits():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 20 * RATE, 500).tolist()
    found = batches_of(lengths, 16, 60 * RATE)
    assert sorted(i for batch in found for i in batch) == list(range(500))
    for batch in found:
        longest = max(lengths[i] for i in batch)
        padding = longest * len(batch) - sum(lengths[i] for i in batch)
        assert len(batch) <= 16 and padding <= PADDING * longest * len(batch)
        assert len(batch) == 1 or longest * len(batch) <= 60 * RATE
    assert batches_of([], 16, 100) == []


def test_groups_are_of_some_length(monkeypatch):
    monkeypatch.setattr(batches, "GROUP_S", 10.0)
    assert groups_of([3, 3, 3, 3, 20, 1]) == [[0, 1, 2, 3], [4], [5]]


class Fragile:
    """Stands in for a recogniser; dies on samples that begin with a 2, once on those with a 1."""

    def __init__(self, mark):
        self.mark = mark

    def recognise(self, task):
        for piece in task.pieces:
            if piece.samples[0] == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            if piece.samples[0] == 1 and not self.mark.exists():
                self.mark.write_text("")
                os.kill(os.getpid(), signal.SIGKILL)
            if piece.samples[0] == 3:
                raise ZeroDivisionError("a fault")
        return [Found(None, Spoken(score=float(len(p.samples)))) for p in task.pieces]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_dying_process_costs_what_killed_it_alone(tmp_path):
    lane = forked(Fragile(tmp_path / "mark"))

    def pieces(*kinds):
        return tuple(
            Piece(i, 0, Stretch(0, 1), np.full(i + 1, kind, np.float32))
            for i, kind in enumerate(kinds)
        )

    done = lane.run(Task(0, "ta", pieces(0, 1, 0)))
    assert [f.spoken.score for f in done.found] == [1.0, 2.0, 3.0]
    done = lane.run(Task(1, "ta", pieces(0, 0, 2, 0)))
    assert [f.error is None for f in done.found] == [True, True, False, True]
    assert "died" in str(done.found[2].error) and "signal 9" in str(done.found[2].error)
    done = lane.run(Task(2, "ta", pieces(3)))
    assert "ZeroDivisionError" in str(done.found[0].error)
    lane.close()


def test_processes_give_what_this_one_gives(model, archive):
    files = sorted(archive.rglob("*.wav"))
    torch.set_num_threads(1)
    here = load(model, workers=1).transcribe(files, "ta")
    forked = load(model, workers=2).transcribe(files, "ta")
    spawned = load(model, device="cpu,cpu").transcribe(files[:6], "ta")
    assert [t.source for t in here] == [str(f) for f in files]
    assert [(t.segments, t.error) for t in here] == [(t.segments, t.error) for t in forked]
    assert [t.segments for t in spawned] == [t.segments for t in here[:6]]


def test_memory_that_does_not_suffice_shrinks_the_batch(model, noise):
    recogniser = load(model)
    real, sizes = recogniser._forward, []

    def forward(waves, language):
        sizes.append(len(waves))
        if len(waves) > 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate much")
        return real(waves, language)

    recogniser._forward = forward
    waves = [noise(0.5, seed=i) for i in range(8)]
    want = load(model).transcribe(waves, "ta")
    found = recogniser.transcribe(waves, "ta")
    assert [t.text for t in found] == [t.text for t in want]
    assert sizes == [8, 4, 2, 2, 2, 2]
    sizes.clear()
    recogniser.transcribe(waves, "ta")
    assert 8 not in sizes  # learned
    recogniser._forward = lambda waves, language: (_ for _ in ()).throw(MemoryError())
    assert "memory" in str(recogniser.transcribe(waves[:1], "ta")[0].error)


def test_languages_are_told_by_score_and_offset(model, noise):
    recogniser = load(model)
    probes = []

    def recognise(task):
        probes.append((task.language, len(task.pieces)))
        out = []
        for piece in task.pieces:
            tamil = piece.samples.mean() > 0
            good = tamil == (task.language == "ta")
            segment = recogniser.language(task.language).segment
            hypotheses = [_empty()]
            out.append(
                Found(segment(piece.stretch, hypotheses), Spoken(10, -1.0 if good else -2.0))
            )
        return out

    recogniser.recognise = recognise
    waves = [noise(1.0, seed=i) + (0.1 if i % 2 else -0.1) for i in range(6)]
    found = recogniser.transcribe(waves, "auto")
    assert [t.language for t in found] == ["ta" if i % 2 else "kn" for i in range(6)]
    recogniser.identification = Identification(offsets={"ta": 5.0})
    assert {t.language for t in recogniser.transcribe(waves)} == {"ta"}


def _empty():
    from uyir.decode.hypothesis import Hypothesis

    return Hypothesis((), (), -1.0, -1.0, 0.0, 1.0, True)


def test_a_long_recording_is_probed_at_its_beginning_alone(model, noise):
    speech = [noise(8.0, seed=i) for i in range(8)]
    wave = np.concatenate([x for s in speech for x in (s, noise(2.0, 0.0005))])
    recogniser = load(model, vad="energy")
    real, tasks = recogniser.recognise, []

    def recognise(task):
        tasks.append((task.language, sum(len(p.samples) for p in task.pieces) / RATE))
        return real(task)

    recogniser.recognise = recognise
    (found,) = recogniser.transcribe([wave])
    other = "kn" if found.language == "ta" else "ta"
    heard = {name: sum(s for lang, s in tasks if lang == name) for name in ("ta", "kn")}
    assert heard[other] < 30 < heard[found.language]


def test_one_recording_may_stand_for_itself(model, noise):
    import uyir

    (found,) = uyir.load(model).transcribe(noise(0.5), "ta")
    assert found.error is None
    with pytest.raises(ModelError, match="workers"):
        uyir.load(model, workers=0)


def test_commands_run_only_with_leave(model, archive, tmp_path, capsys):
    recording = next(p for p in archive.rglob("*.wav") if p.stat().st_size > 9000)
    mark = tmp_path / "mark"
    (tmp_path / "wav.scp").write_text(
        f"one touch {mark}; cat {recording} |\ntwo false |\nthree {recording}\n"
    )
    manifest = ["--manifest", tmp_path / "wav.scp", "--model", model]
    assert transcribe(*manifest) == 1
    assert capsys.readouterr().out.startswith("three\t")
    arguments = [*manifest, "-o", tmp_path / "out"]
    assert transcribe(*arguments) == 1
    err = capsys.readouterr().err
    assert not mark.exists() and err.count("--allow-commands") >= 2
    assert [p.name for p in (tmp_path / "out").glob("*.txt")] == ["three.txt"]
    assert transcribe(*arguments, "--allow-commands") == 1
    assert mark.exists() and "exit code 1" in capsys.readouterr().err
    out = tmp_path / "out"
    assert (out / "one.txt").read_bytes() == (out / "three.txt").read_bytes()


def test_parts_of_a_recording_have_times_of_the_whole(model, tmp_path, noise):
    soundfile.write(tmp_path / "r.wav", noise(6.0), RATE)
    (tmp_path / "wav.scp").write_text(f"r {tmp_path}/r.wav\n")
    (tmp_path / "segments").write_text("a r 0.0 2.0\nb r 3.0 5.5\nc r 5.0 9.0\n")
    out = tmp_path / "out"
    manifest = ["--manifest", tmp_path, "--model", model, "-f", "json"]
    assert transcribe(*manifest, "-o", out) == 1
    found = {p.stem: json.loads(p.read_text()) for p in out.glob("*.json")}
    assert sorted(found) == ["a", "b"]
    for name, (begin, end) in {"a": (0.0, 2.0), "b": (3.0, 5.5)}.items():
        assert found[name]["id"] == name
        assert found[name]["duration"] == pytest.approx(end - begin, abs=0.01)
        for word in found[name]["words"]:
            assert begin <= word["start"] <= word["end"] <= end + 0.01
            assert all(begin <= p["start"] for p in word["subwords"])


def test_outputs_hold_no_clock_and_names_stay_inside(model, archive, tmp_path):
    recording = next(p for p in archive.rglob("*.wav") if p.stat().st_size > 9000)
    odd = [tmp_path / "a\nb.wav", tmp_path / ("x" * 250 + ".wav")]
    for path in odd:
        shutil.copy(recording, path)
    out = tmp_path / "out"
    assert transcribe(*odd, "--model", model, "-o", out, "-f", "all") == 0
    names = [p.name for p in out.iterdir() if not p.name.startswith(".")]
    assert len(names) == 16 and not any("\n" in name for name in names)
    outside = {p for p in Path(tmp_path).iterdir() if p != out}
    assert outside == set(odd)
