"""A recording of hours: peak memory of `uyir transcribe`, and how right the times of words are.

    python benchmarks/long_recording.py --sentences FILE --language kn [--hours 6] [--model FOLDER]
        [--voice VARIANT] [--vad METHOD] [--pause SECONDS] [--work FOLDER]

FILE has a sentence a line. espeak-ng speaks its words with a pause between any two, so that where a word
begins and ends is known to the 10 ms from its own silence; sentences follow each other with pauses, until the
recording is long enough (it then repeats). Words that were recognised right are compared with where they
are; the median of the absolute differences of starts and ends is printed, and the command's peak
memory (its processes together, resident, shared pages counted once: PSS).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import kaldialign
import numpy as np
import soundfile

RATE = 16000


def speak(
    sentence: str, language: str, voice: str, folder: Path
) -> tuple[np.ndarray, list[tuple[str, float, float]]]:
    """Samples at 16 kHz of a sentence, and its words with times found at the pauses between them."""
    import soxr

    path = folder / "one.wav"
    subprocess.run(
        [
            "espeak-ng",
            "-v",
            f"{language}+{voice}",
            "-s",
            "150",
            "-g",
            "12",
            "-w",
            str(path),
            sentence,
        ],
        check=True,
        capture_output=True,
    )
    wave, rate = soundfile.read(path, dtype="float32")
    wave = soxr.resample(wave, rate, RATE).astype(np.float32)
    frame = RATE // 100
    level = np.abs(wave[: len(wave) // frame * frame]).reshape(-1, frame).max(axis=1)
    loud = np.flatnonzero(level > 0.003)
    if not len(loud):
        return wave, []
    # -g 12 puts some 120 ms between words, longer than the closure of any stop.
    breaks = np.flatnonzero(np.diff(loud) > 9)
    begins = np.concatenate([loud[:1], loud[breaks + 1]])
    ends = np.concatenate([loud[breaks], loud[-1:]]) + 1
    words = sentence.split()
    if len(begins) != len(words):  # a word with a pause inside, or none after: not a known time
        return wave, []
    times = [(w, b / 100, e / 100) for w, b, e in zip(words, begins.tolist(), ends.tolist())]
    return wave, times


def record(
    arguments: argparse.Namespace, folder: Path
) -> tuple[Path, list[tuple[str, float, float]]]:
    """The long recording, and its words with their times."""
    sentences = [s for s in arguments.sentences.read_text(encoding="utf-8").splitlines() if s]
    rng = np.random.default_rng(0)
    spoken = []
    for sentence in sentences[: arguments.most]:
        wave, times = speak(sentence, arguments.language, arguments.voice, folder)
        if times:
            spoken.append((wave, times))
    path = folder / "long.flac"
    known, at, wanted = [], 0, int(arguments.hours * 3600 * RATE)
    with soundfile.SoundFile(str(path), "w", RATE, 1) as file:
        while at < wanted:
            wave, times = spoken[int(rng.integers(len(spoken)))]
            gap = int(rng.uniform(0.4, arguments.pause) * RATE)
            file.write(0.0005 * rng.standard_normal(gap).astype(np.float32))
            file.write(wave + 0.0005 * rng.standard_normal(len(wave)).astype(np.float32))
            start = (at + gap) / RATE
            known += [(word, start + begin, start + end) for word, begin, end in times]
            at += gap + len(wave)
    print(f"{len(spoken)} sentences with known times, {len(known)} words, {at / RATE / 3600:.2f} h")
    return path, known


def memory_of(process: int) -> int:
    """Resident bytes of a process and its children, shared pages counted once."""
    total = 0
    waiting = [process]
    while waiting:
        number = waiting.pop()
        try:
            for line in Path(f"/proc/{number}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += 1024 * int(line.split()[1])
            for task in Path(f"/proc/{number}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
        except (OSError, ValueError):
            continue
    return total


def run(arguments: argparse.Namespace, path: Path, out: Path) -> tuple[int, float]:
    """Transcribe; returns peak bytes and seconds."""
    command = [sys.executable, "-m", "uyir", "transcribe", str(path), "-l", arguments.language]
    command += ["-f", "json", "-o", str(out), "--vad", arguments.vad, "--no-resume"]
    if arguments.model:
        command += ["--model", arguments.model]
    begin = time.perf_counter()
    process = subprocess.Popen(command)
    peak = [0]

    def watch() -> None:
        while process.poll() is None:
            peak[0] = max(peak[0], memory_of(process.pid))
            time.sleep(0.5)

    watcher = threading.Thread(target=watch)
    watcher.start()
    if process.wait() != 0:
        raise SystemExit("uyir transcribe failed")
    watcher.join()
    return peak[0], time.perf_counter() - begin


def compare(known: list[tuple[str, float, float]], found: list[dict[str, object]]) -> None:
    """Differences of the times of words that were recognised right, minute by minute."""
    starts, ends = [], []
    minutes: dict[int, tuple[list[tuple[str, float, float]], list[dict[str, object]]]] = {}
    for word in known:
        minutes.setdefault(int(word[1] // 60), ([], []))[0].append(word)
    for other in found:
        minutes.setdefault(int(float(str(other["start"])) // 60), ([], []))[1].append(other)
    for theirs, ours in minutes.values():
        pairs = iter(theirs), iter(ours)
        for a, b in kaldialign.align([w[0] for w in theirs], [str(w["word"]) for w in ours], "*"):
            left = next(pairs[0]) if a != "*" else None
            right = next(pairs[1]) if b != "*" else None
            if left is not None and right is not None and a == b:
                starts.append(float(str(right["start"])) - left[1])
                ends.append(float(str(right["end"])) - left[2])
    differences = {"starts": np.array(starts), "ends": np.array(ends)}
    print(f"{len(starts)} of {len(known)} words recognised right and in their minute")
    for name, values in [*differences.items(), ("both", np.concatenate([*differences.values()]))]:
        apart = np.abs(values)
        print(
            f"{name}: median difference {1000 * np.median(apart):.0f} ms, 90 % within "
            f"{1000 * np.percentile(apart, 90):.0f} ms, mean shift {1000 * values.mean():+.0f} ms"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sentences", type=Path, required=True)
    parser.add_argument("--language", required=True)
    parser.add_argument("--hours", type=float, default=6.0)
    parser.add_argument("--most", type=int, default=60, help="sentences to speak")
    parser.add_argument("--pause", type=float, default=4.0, help="longest between sentences (s)")
    parser.add_argument("--model")
    parser.add_argument("--voice", default="Andrea")
    parser.add_argument("--vad", default="auto")
    parser.add_argument("--work", type=Path)
    arguments = parser.parse_args()
    folder = arguments.work or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    path, known = record(arguments, folder)
    peak, seconds = run(arguments, path, folder / "out")
    length = soundfile.info(str(path)).duration
    print(
        f"peak memory {peak / 2**30:.2f} GiB; {seconds:.0f} s, {length / seconds:.1f} × real time"
    )
    found = json.loads((folder / "out" / "long.json").read_text(encoding="utf-8"))
    compare(known, found["words"])


if __name__ == "__main__":
    main()
