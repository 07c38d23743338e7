"""Throughput of the whole of `uyir transcribe` on a GPU, beside that of its network alone.

    python benchmarks/gpu_transcribe.py [--hours 40] [--device cuda] [--formats txt] [--work FOLDER]
        [--language ta] [--model FOLDER] [--threads N] [--alone SECONDS] [--stages N]

The bundled recordings of the language are strung together at random to files of 2 to 20 s, each with a level and
noise of its own, half of them FLAC and half WAV, in folders. The command transcribes them into files. The
same batches then go through the network alone, features to log_probs, timed with the device idle before
and after each. Said are: the command's wall clock with and without its start (imports, model, graphs), its
rate between the first and the last tenth of its files, padding, the ratio to the network's own, and the processor
time of the command's threads and processes, most first. With ``--device cpu`` it runs, too, and shows that
the pipeline overlaps. ``--device cuda:0,cuda:1`` is two GPUs; the network alone then runs on the first.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import multiprocessing
import os
import pickle
import pstats
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

import uyir
from uyir.decode.batches import groups_of
from uyir.decode.files import OutputFolder
from uyir.decode.inputs import find_inputs
from uyir.decode.pipeline import Pipeline
from uyir.decode.reading import How, Reading, events_of
from uyir.decode.sources import sources_of
from uyir.decode.transcribe import Recogniser, load
from uyir.decode.work import Done, Found, Task

RATE = 16000


def make_file(job: tuple[Path, int, str]) -> float:
    """One recording; returns its length (s)."""
    path, seed, language = job
    rng = np.random.default_rng(seed)
    spoken = sorted((Path(uyir.__file__).parent / "demo" / language).glob("*.flac"))
    wanted = rng.uniform(2.0, 20.0)
    parts: list[Any] = []
    held = 0.0
    while held < wanted - 1.0:
        wave, _ = soundfile.read(spoken[int(rng.integers(len(spoken)))], dtype="float32")
        wave = wave[: int((20.0 - held) * RATE)]
        parts += [wave, np.zeros(int(0.2 * RATE), np.float32)]
        held += len(wave) / RATE + 0.2
    whole = np.concatenate(parts)[: 20 * RATE]
    whole = 10 ** rng.uniform(-0.5, 0.0) * whole
    whole += 10 ** rng.uniform(-4.0, -2.3) * rng.standard_normal(len(whole))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.clip(whole, -1, 1), RATE, subtype="PCM_16")
    return len(whole) / RATE


def make_archive(folder: Path, hours: float, language: str) -> float:
    """Recordings of so many hours; returns how long they are in all (s)."""
    count = int(hours * 3600 / 11.0)
    jobs = [
        (folder / f"d{i % 37}" / f"r{i}.{'flac' if i % 2 else 'wav'}", i, language)
        for i in range(count)
    ]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with multiprocessing.get_context("fork").Pool(cores) as pool:
        return sum(pool.imap_unordered(make_file, jobs, chunksize=32))


def run_command(arguments: argparse.Namespace, archive: Path, out: Path) -> dict[str, float]:
    """Transcribe the archive; what the log, the clock and the system say."""
    log = out.with_suffix(".jsonl")
    command = [sys.executable, "-m", "uyir", "transcribe", str(archive), "-o", str(out)]
    command += ["-l", arguments.language, "--device", arguments.device, "--log", str(log)]
    command += ["-f", arguments.formats]
    if arguments.model:
        command += ["--model", arguments.model]
    if arguments.threads:
        command += ["--threads", str(arguments.threads)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    process = subprocess.Popen(command)
    used: dict[str, float] = {}
    while process.poll() is None:
        used.update(processor_time(process.pid))
        time.sleep(0.1)
    wall = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode:
        raise SystemExit(f"uyir transcribe failed with {process.returncode}")
    most = sorted(used.items(), key=lambda pair: -pair[1])[:40]
    print("processor s", json.dumps({name: round(s, 2) for name, s in most}), flush=True)
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    summary = next(row for row in rows if row["event"] == "summary")
    finished = [(row["time"], row["duration"]) for row in rows if row["event"] == "done"]
    started = next(row["time"] for row in rows if row["event"] == "start")
    inner = finished[len(finished) // 10 : -max(1, len(finished) // 10)]
    steady = sum(length for _, length in inner) / max(1e-9, inner[-1][0] - inner[0][0])
    return {
        "audio_s": summary["audio_s"],
        "wall_s": round(wall, 2),
        "wall_without_start_s": summary["wall_s"],
        "times_real_time": round(summary["audio_s"] / summary["wall_s"], 1),
        "times_real_time_between": round(steady, 1),
        "first_and_last_done_s": [round(finished[i][0] - started, 2) for i in (0, -1)],
        "padding": summary["padding"],
        "cpu_s": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
    }


def processor_time(pid: int) -> dict[str, float]:
    """Seconds of processor time of a process's threads, and of its children; nothing where /proc is not."""
    found: dict[str, float] = {}

    def seconds(path: Path) -> float:
        fields = path.read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            name = "main thread" if task.name == str(pid) else f"thread {int(task.name) - pid}"
            found[name] = seconds(task / "stat")
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            found[f"process {int(child) - pid}"] = seconds(Path(f"/proc/{child}/stat"))
    except (OSError, IndexError, ValueError):  # gone meanwhile
        pass
    return found


class Alone:
    """A lane that does one stage after the other, and notes how long each takes.

    Beside the network's, the stages of the first ``most`` batches tell where a command's time goes.
    """

    def __init__(self, recogniser: Recogniser, most: int) -> None:
        self.recogniser = recogniser
        self.most = most
        self.seconds: dict[str, float] = {}
        self.audio_s: dict[str, float] = {}
        self.sizes: list[int] = []
        #: Of the searches.
        self.profile = cProfile.Profile()

    def run(self, task: Task) -> Done:
        recogniser = self.recogniser
        audio_s = sum(len(piece.samples) for piece in task.pieces) / RATE
        # The first batch warms up: its times are not counted.
        self.counted = audio_s if self.sizes else 0.0
        waves = self.timed("stack", lambda: recogniser.stacked([p.samples for p in task.pieces]))
        features, counts = self.timed("features", lambda: recogniser.features(waves))

        def network() -> Any:
            return recogniser.network(features, counts, task.language)

        # A shape that is new costs more the first time; the network's own is the second.
        self.timed("network, first", network)
        log_probs, lengths = self.timed("network", network)
        if len(self.sizes) <= self.most:
            if self.sizes:
                self.profile.enable()
            heard = self.timed(
                "search", lambda: recogniser.search(task.language, log_probs, lengths)
            )
            self.profile.disable()
            sent = self.timed("pickle", lambda: pickle.loads(pickle.dumps(heard, -1)))
            stretches = [piece.stretch for piece in task.pieces]
            found = self.timed(
                "assemble", lambda: recogniser.assemble(task.language, stretches, sent)
            )
            self.timed("pickle words", lambda: pickle.loads(pickle.dumps(found, -1)))
        self.sizes.append(len(task.pieces))
        return Done(task, (Found(None, error="not kept"),) * len(task.pieces), 0.0)

    def timed(self, name: str, stage: Callable[[], Any]) -> Any:
        begin = time.perf_counter()
        result = stage()
        if self.recogniser.device != "cpu":
            import torch

            torch.cuda.synchronize()
        if self.counted:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begin
            self.audio_s[name] = self.audio_s.get(name, 0.0) + self.counted
        return result

    def close(self) -> None:
        """Nothing is held."""


def network_alone(arguments: argparse.Namespace, archive: Path) -> dict[str, Any]:
    """The network's own rate over the command's batches (of about ``--alone`` s of audio), and the other
    stages' over some."""
    device = arguments.device.partition(",")[0].replace("cuda:all", "cuda")
    recogniser = load(arguments.model, device=device)
    inputs, _ = find_inputs([str(archive)])
    sources = list(sources_of(inputs))
    durations = [source.duration() for source in sources]
    order = sorted(range(len(sources)), key=lambda n: (-durations[n], str(inputs[n].output)))
    groups = groups_of([durations[n] for n in order], recogniser.group_s)
    step = max(1, round(sum(durations) / arguments.alone))
    lane = Alone(recogniser, arguments.stages)
    pipeline, lanes = recogniser.pipeline(arguments.language)
    for each in lanes:
        each.close()
    alone = Pipeline([lane], pipeline.plan, recogniser.transcript, readers=pipeline.readers)
    members = [[(order[i], sources[order[i]]) for i in group] for group in groups[::step]]
    for _ in alone.run(members):
        pass
    begin, read = time.perf_counter(), 0.0
    for number, source in members[0][::8]:
        for event in events_of(number, source, How(recogniser.vad, True)):
            if isinstance(event, Reading):
                read += event.duration
    lane.seconds["read, a process"], lane.audio_s["read, a process"] = (
        time.perf_counter() - begin,
        read,
    )
    output = OutputFolder(Path(tempfile.mkdtemp(dir=archive.parent)))
    begin = time.perf_counter()
    for number in range(1024):
        output.write(Path(f"d{number % 8}/f{number}"), b"x" * 300)
    print("files written a second", round(1024 / (time.perf_counter() - begin)), flush=True)
    begin = time.perf_counter()
    output.sync()
    print("s until the disk has them", round(time.perf_counter() - begin, 3), flush=True)
    pstats.Stats(lane.profile).sort_stats("tottime").print_stats(18)
    return {
        "times_real_time": {
            name: round(lane.audio_s[name] / max(1e-9, seconds), 1)
            for name, seconds in lane.seconds.items()
        },
        "network_s": round(lane.seconds["network"], 3),
        "audio_s": round(lane.audio_s["network"], 1),
        "batches": len(lane.sizes),
        "mean_batch": round(sum(lane.sizes) / len(lane.sizes), 1),
        "padding": round(alone.counts.padding, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=float, default=40.0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--formats", default="txt")
    parser.add_argument("--language", default="ta")
    parser.add_argument("--model")
    parser.add_argument("--threads", type=int)
    parser.add_argument(
        "--alone", type=float, default=36000.0, help="seconds for the network, 0 for none"
    )
    parser.add_argument(
        "--stages", type=int, default=8, help="batches whose other stages are timed"
    )
    parser.add_argument("--work", type=Path)
    arguments = parser.parse_args()
    folder = arguments.work or Path(tempfile.mkdtemp())
    archive = folder / "in"
    if not archive.is_dir():
        begin = time.perf_counter()
        seconds = make_archive(archive, arguments.hours, arguments.language)
        print(f"made {seconds / 3600:.2f} h in {time.perf_counter() - begin:.1f} s", flush=True)
    out = folder / f"out-{arguments.formats.replace(',', '-')}-{time.monotonic_ns()}"
    whole = run_command(arguments, archive, out)
    print("command", json.dumps(whole), flush=True)
    if not arguments.alone:
        return
    alone = network_alone(arguments, archive)
    print("stages", json.dumps(alone), flush=True)
    for name in ("times_real_time", "times_real_time_between"):
        print(
            f"ratio of {name}: {whole[name] / alone['times_real_time']['network']:.3f}", flush=True
        )


if __name__ == "__main__":
    main()
