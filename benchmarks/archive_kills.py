"""A large archive, some of it bad, transcribed in one go and again with the command killed at random moments.

    python benchmarks/archive_kills.py [--files 10000] [--kills 20] [--seconds 0.5 1.0] [--model FOLDER]
        [--language ta] [--threads N] [--work FOLDER]

Short recordings in nested folders are cut from the bundled ones, in several formats and rates; one in a hundred is
bad, in ten ways. It is checked, and the program ends with 1 where something does not hold: all good
recordings are transcribed; each bad one is named with its reason, those of one way with the same; after
each `kill -9` every output is whole; and the tree of the run that was killed and taken up, its journal
included, is byte by byte that of the undisturbed one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import soundfile

import uyir

RATE = 16000
_WAV = b"RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00"


def _wav(rate: int = RATE, promised: int = 0, data: bytes = b"") -> bytes:
    return (
        _WAV
        + struct.pack("<HHIIHH", 1, 1, rate, (2 * rate) % 2**32, 2, 16)
        + b"data"
        + struct.pack("<I", promised)
        + data
    )


def _cut(path: Path, wave: np.ndarray) -> None:
    soundfile.write(path, wave, RATE)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def _not_numbers(path: Path, wave: np.ndarray) -> None:
    bad = wave.copy()
    bad[len(bad) // 3] = np.nan
    soundfile.write(path, bad, RATE, subtype="FLOAT")


#: The ten ways to be bad: what makes such a file, its ending, and words that its reason holds.
WAYS: dict[str, tuple[Callable[[Path, np.ndarray], object], str, str]] = {
    "empty": (lambda path, wave: path.write_bytes(b""), "wav", "empty"),
    "text": (lambda path, wave: path.write_text("no sound\n" * 9), "mp3", "not a recording"),
    "cut": (_cut, "wav", "cut short"),
    "cut, packed": (_cut, "flac", ""),
    "no samples": (lambda path, wave: path.write_bytes(_wav()), "wav", "no samples"),
    "not numbers": (_not_numbers, "wav", "not a finite number"),
    "4 GB promised": (
        lambda path, wave: path.write_bytes(_wav(promised=2**32 - 2, data=b"\0" * 64)),
        "wav",
        "promises",
    ),
    "absurd rate": (
        lambda path, wave: path.write_bytes(_wav(2**30, 64, b"\1" * 64)),
        "wav",
        "rate",
    ),
    "dangling link": (lambda path, wave: path.symlink_to("nowhere.wav"), "wav", "no such file"),
    "pipe": (lambda path, wave: os.mkfifo(path), "wav", "not a regular file"),
}


def make_archive(
    folder: Path, files: int, seconds: tuple[float, float] = (0.5, 1.0)
) -> dict[str, str]:
    """Recordings in nested folders; returns the way of each bad one by its path."""
    demo = sorted((Path(uyir.__file__).parent / "demo").glob("*/*.flac"))
    spoken = [soundfile.read(path, dtype="float32")[0] for path in demo]
    rng = np.random.default_rng(0)
    ways = list(WAYS)
    bad: dict[str, str] = {}
    each = max(1, files // 1000)  # of each way: one in a hundred in all
    wrong = dict(zip(rng.permutation(files).tolist(), ways * each))
    for i in range(files):
        wave = spoken[i % len(spoken)]
        length = int(rng.uniform(*seconds) * RATE)
        begin = int(rng.integers(len(wave) - length))
        wave = wave[begin : begin + length]
        parts = [f"d{i % 7}", f"e{i % 11}", f"ஒலி{i % 5}"][: i % 4]
        path = folder.joinpath(*parts, f"r{i}")
        path.parent.mkdir(parents=True, exist_ok=True)
        if i in wrong:
            make, ending, _ = WAYS[wrong[i]]
            path = path.with_suffix(f".{ending}")
            make(path, wave)
            bad[str(path)] = wrong[i]
        elif i % 10 == 1:
            soundfile.write(path.with_suffix(".flac"), wave, RATE)
        elif i % 10 == 2:
            soundfile.write(
                path.with_suffix(".wav"), np.stack([wave, wave], axis=1)[::2], RATE // 2
            )
        else:
            soundfile.write(path.with_suffix(".wav"), wave, RATE)
    return bad


def command(archive: Path, out: Path, log: Path, more: Sequence[str]) -> list[str]:
    return [
        *(sys.executable, "-m", "uyir", "transcribe", str(archive), "-o", str(out)),
        *("-f", "txt,json", "--log", str(log), *more),
    ]


def tree(folder: Path) -> dict[str, str]:
    """Every file's hash by its path."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def check_undisturbed(archive: Path, out: Path, log: Path, bad: dict[str, str]) -> list[str]:
    """What does not hold of an undisturbed run."""
    wrong = []
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    reasons = {row["file"]: row["reason"] for row in rows if row["event"] == "failed"}
    for path, way in bad.items():
        reason = reasons.pop(path, None)
        if reason is None or path not in reason or WAYS[way][2] not in reason:
            wrong.append(f"{path} ({way}): its reason is {reason!r}")
    wrong += [f"{path}: is good and failed: {reason}" for path, reason in reasons.items()]
    good = {p for p in archive.rglob("r*") if str(p) not in bad}
    for recording in sorted(good):
        name = out / recording.relative_to(archive).with_suffix("")
        for ending in (".txt", ".json"):
            if not name.with_name(name.name + ending).is_file():
                wrong.append(f"{recording}: has no {ending}")
    return wrong


def done_lines(out: Path) -> int:
    """How many recordings the journal says are done."""
    try:
        return (out / ".uyir.jsonl").read_bytes().count(b'"output"')
    except OSError:
        return 0


def kill_at_random(
    run: Sequence[str], out: Path, good: int, kills: int, seed: int = 1
) -> tuple[int, list[str]]:
    """Start the command and kill it ``kills`` times, at random moments over the whole of its work; returns how
    many kills hit a run, and what was not whole after one."""
    rng = random.Random(seed)
    hit, wrong, whole = 0, [], set()
    for moment in sorted(rng.uniform(0.0, 0.98) for _ in range(kills)):
        process = subprocess.Popen(
            run, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
        )
        while process.poll() is None and done_lines(out) < moment * good:
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 0.3))
        if process.poll() is None:
            hit += 1
            # Half of them take the workers along, as the kernel does where memory runs out.
            if rng.random() < 0.5:
                process.send_signal(signal.SIGKILL)
            else:
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for path in out.rglob("*.json"):
            if path not in whole:
                try:
                    json.loads(path.read_text(encoding="utf-8"))
                    whole.add(path)
                except ValueError as error:
                    wrong.append(f"{path}: half a file after a kill: {error}")
        print(f"killed at {done_lines(out)} of {good}", flush=True)
    return hit, wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seconds", type=float, nargs=2, default=(0.5, 1.0), help="of a recording")
    parser.add_argument("--model")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--language", default="auto")
    parser.add_argument("--work", type=Path)
    arguments = parser.parse_args()
    folder = arguments.work or Path(tempfile.mkdtemp())
    archive = folder / "in"
    bad = make_archive(archive, arguments.files, tuple(arguments.seconds))
    good = arguments.files - len(bad)
    print(f"{arguments.files} files, {len(bad)} of them bad in {len(set(bad.values()))} ways")
    more = ["--language", arguments.language]
    more += ["--model", arguments.model] if arguments.model else []
    more += ["--threads", str(arguments.threads)] if arguments.threads else []

    def run(name: str) -> list[str]:
        return command(archive, folder / name, folder / f"{name}.jsonl", more)

    begin = time.perf_counter()
    done = subprocess.run(run("whole"), stderr=subprocess.DEVNULL, check=False)
    print(
        f"undisturbed: {time.perf_counter() - begin:.0f} s, exit code {done.returncode}", flush=True
    )
    wrong = [] if done.returncode == 1 else [f"exit code {done.returncode}, want 1"]
    wrong += check_undisturbed(archive, folder / "whole", folder / "whole.jsonl", bad)
    begin = time.perf_counter()
    hit, half = kill_at_random(run("killed"), folder / "killed", good, arguments.kills)
    wrong += half
    last = subprocess.run(run("killed"), stderr=subprocess.DEVNULL, check=False)
    print(f"killed {hit} times and taken up: {time.perf_counter() - begin:.0f} s", flush=True)
    if last.returncode != 1:
        wrong.append(f"exit code {last.returncode} at the end, want 1")
    trees = tree(folder / "whole"), tree(folder / "killed")
    differ = [k for k in sorted({*trees[0], *trees[1]}) if trees[0].get(k) != trees[1].get(k)]
    wrong += [f"{name}: differs from the undisturbed run" for name in differ]
    print(f"{len(trees[0])} outputs, {len(differ)} of them differ; {len(wrong)} things do not hold")
    for line in wrong[:50]:
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
