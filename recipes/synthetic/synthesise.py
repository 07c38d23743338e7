"""Speak sentences with espeak-ng into 16 kHz shards and a training manifest.

Each sentence gets a voice variant, rate, pitch, pitch range, amplitude, word gap and pauses drawn
from the seed and its id. Processes speak one shard each, through libespeak-ng itself. A shard is
written whole or not at all, so that a killed run, started again, goes on with the shards that are missing.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import lzma
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np

# By name or by file: the voice female4 is the file f4, and espeak-ng speaks an unknown variant in
# its default voice without a word.
RESERVED = ("klatt5", "Andrea", "Michael", "grandpa", "female4", "f4", "Diogo")
SENTENCE_COLUMNS = ("id", "language", "text", "phones")
MANIFEST_COLUMNS = ("id", "audio", "duration", "language", "text", "phones")
RATE = 16000

# espeak_PARAMETER and other constants of speak_lib.h.
_RATE, _VOLUME, _PITCH, _RANGE, _WORDGAP = 1, 2, 3, 4, 7
_AUDIO_SYNCHRONOUS, _CHARS_UTF8, _POSITION_CHARACTER = 2, 1, 1


@dataclass(frozen=True)
class Sentence:
    id: str
    language: str
    text: str
    phones: str


@dataclass(frozen=True)
class Voicing:
    """How a sentence is spoken."""

    variant: str
    rate: int  # words a minute
    pitch: int
    pitch_range: int
    volume: int
    gap: int  # tens of milliseconds
    text: str


class Failure(Exception):
    """Something that the user can set right."""


class Espeak:
    """libespeak-ng through ctypes; one a process.

    `folder` holds unpacked Debian packages (any layout): every library in it is loaded before
    libespeak-ng, and its espeak-ng-data is used. Without it the system's is used.
    """

    def __init__(self, folder: Optional[Path] = None) -> None:
        self.data = find_data(folder)
        self.library = _load_library(folder)
        data = None if folder is None else os.fsencode(self.data.parent)
        self.rate = self.library.espeak_Initialize(_AUDIO_SYNCHRONOUS, 0, data, 0x8000)
        if self.rate <= 0:
            raise Failure(f"espeak-ng does not start with the data in {self.data}")
        self._chunks: list[bytes] = []
        callback = ctypes.CFUNCTYPE(
            ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
        )

        def receive(wave: Any, count: int, events: Any) -> int:
            if wave and count > 0:
                self._chunks.append(ctypes.string_at(wave, 2 * count))
            return 0

        self._callback = callback(receive)  # kept, or it would be collected
        self.library.espeak_SetSynthCallback(self._callback)

    def speak(self, language: str, voicing: Voicing) -> np.ndarray:
        """Samples ``(S,)`` int16 at `self.rate`; empty if espeak-ng fails."""
        voice = f"{language}+{voicing.variant}" if voicing.variant else language
        if self.library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise Failure(f"espeak-ng has no voice {voice!r}")
        for parameter, value in (
            (_RATE, voicing.rate),
            (_VOLUME, voicing.volume),
            (_PITCH, voicing.pitch),
            (_RANGE, voicing.pitch_range),
            (_WORDGAP, voicing.gap),
        ):
            self.library.espeak_SetParameter(parameter, value, 0)
        self._chunks.clear()
        text = voicing.text.encode()
        status = self.library.espeak_Synth(
            text, len(text) + 1, 0, _POSITION_CHARACTER, 0, _CHARS_UTF8, None, None
        )
        return np.frombuffer(b"".join(self._chunks) if status == 0 else b"", dtype="<i2")


def find_data(folder: Optional[Path]) -> Path:
    """The espeak-ng-data folder."""
    if folder is not None:
        places = list(folder.rglob("espeak-ng-data"))
    else:
        roots = [
            Path("/usr/lib/x86_64-linux-gnu"),
            Path("/usr/lib/aarch64-linux-gnu"),
            Path("/usr/share"),
            Path("/usr/local/share"),
        ]
        if os.environ.get("ESPEAK_DATA_PATH"):
            roots.insert(0, Path(os.environ["ESPEAK_DATA_PATH"]))
        places = [root / "espeak-ng-data" for root in roots]
    for place in places:
        if (place / "voices" / "!v").is_dir():
            return place
    raise Failure(f"no espeak-ng-data in {folder or 'the system'}")


def _load_library(folder: Optional[Path]) -> Any:
    if folder is None:
        try:
            return ctypes.CDLL("libespeak-ng.so.1")
        except OSError as error:
            raise Failure(f"libespeak-ng: {error}; install espeak-ng or give --espeak") from None
    found = sorted(folder.rglob("libespeak-ng.so.1*"))
    if not found:
        raise Failure(f"{folder}: no libespeak-ng.so.1 in it")
    others = sorted(p for p in folder.rglob("*.so*") if p.is_file() and p not in found)
    # Each loads once those that it needs are there: go round until a round loads nothing new.
    reason: Optional[OSError] = None
    while True:
        try:
            return ctypes.CDLL(str(found[0]))
        except OSError as error:
            reason = error
        still = []
        for path in others:
            try:
                ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
            except OSError:
                still.append(path)
        if len(still) == len(others):
            raise Failure(f"{found[0]}: {reason}")
        others = still


def variants(data: Path, only: list[str]) -> list[str]:
    """The voice variants to speak with: `only` these, or all but the reserved ones."""
    there = sorted(path.name for path in (data / "voices" / "!v").iterdir())
    if only:
        missing = [name for name in only if name and name not in there]
        if missing:
            raise Failure(f"no voice variant {missing[0]!r}; there are {', '.join(there)}")
        return only
    return ["", *(name for name in there if name not in RESERVED)]


def voicing_of(sentence: Sentence, names: list[str], seed: str) -> Voicing:
    rng = random.Random(f"{seed}/{sentence.id}")
    words = sentence.text.split()
    spoken = [word + ("," if rng.random() < 0.06 else "") for word in words[:-1]] + words[-1:]
    return Voicing(
        rng.choice(names),
        rng.randint(110, 230),
        rng.randint(15, 85),
        rng.randint(20, 80),
        rng.randint(40, 110),
        rng.choice((0, 0, 0, 1, 2, 4, 8)),
        " ".join(spoken),
    )


def read_sentences(paths: list[Path]) -> Iterator[Sentence]:
    for path in paths:
        opened = lzma.open if path.suffix == ".xz" else open
        try:
            with opened(path, "rt", encoding="utf-8") as file:
                if tuple(file.readline().rstrip("\n").split("\t")) != SENTENCE_COLUMNS:
                    raise Failure(f"{path}:1: want the columns {' '.join(SENTENCE_COLUMNS)}")
                for number, line in enumerate(file, start=2):
                    cells = line.rstrip("\n").split("\t")
                    if len(cells) != len(SENTENCE_COLUMNS) or not all(cells):
                        raise Failure(f"{path}:{number}: want {len(SENTENCE_COLUMNS)} cells")
                    yield Sentence(*cells)
        except (OSError, lzma.LZMAError, EOFError, UnicodeDecodeError) as error:
            raise Failure(f"{path}: {error}") from None


def tidy(samples: np.ndarray, rate: int, phones: int) -> Optional[np.ndarray]:
    """16 kHz int16 with at most 0.15 s of digital silence at each end, or None if it cannot be
    right: silent, or faster than 25 ms or slower than 400 ms a phone."""
    import soxr

    loud = np.flatnonzero(np.abs(samples.astype(np.int32)) > 8)
    if not len(loud):
        return None
    keep = round(0.15 * rate)
    samples = samples[max(0, loud[0] - keep) : loud[-1] + keep]
    seconds = (loud[-1] - loud[0]) / rate
    if not 0.025 * phones <= seconds <= 0.4 * phones + 0.5:
        return None
    resampled: np.ndarray = soxr.resample(samples.astype(np.float32), rate, RATE)
    return np.clip(np.round(resampled), -32768, 32767).astype("<i2")


@dataclass(frozen=True)
class Task:
    """One shard to speak."""

    shard: Path
    sentences: list[Sentence]
    names: list[str]
    seed: str
    folder: Optional[Path]

    @property
    def done(self) -> bool:
        return self.shard.with_suffix(".tsv").exists()


def _speak_shard(task: Task, avoid: frozenset[int], at: Path) -> None:
    """Speak one shard but for the sentences to `avoid`; `at` says which one is being spoken."""
    engine = Espeak(task.folder)
    offset = dropped = 0
    lines = []
    part = task.shard.with_suffix(".part")
    with part.open("wb") as file:
        for number, sentence in enumerate(task.sentences):
            if number in avoid:
                dropped += 1
                continue
            at.write_text(str(number), encoding="ascii")
            voicing = voicing_of(sentence, task.names, task.seed)
            spoken = engine.speak(sentence.language, voicing)
            samples = tidy(spoken, engine.rate, len(sentence.phones.split()))
            if samples is None:
                dropped += 1
                continue
            file.write(samples.tobytes())
            name = f"{sentence.id}-{task.seed}-{voicing.variant or 'plain'}".replace(" ", "_")
            audio = f"{task.shard.name}@{offset}+{len(samples)}"
            seconds = f"{len(samples) / RATE:.3f}"
            lines.append(
                "\t".join((name, audio, seconds, sentence.language, sentence.text, sentence.phones))
            )
            offset += len(samples)
    os.replace(part, task.shard)
    index = task.shard.with_suffix(".tsv.part")
    index.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    os.replace(index, task.shard.with_suffix(".tsv"))  # last: its presence says: done
    print(len(lines), dropped, offset)


def _speak_apart(task: Task) -> tuple[int, int, int]:
    """Speak one shard in a process of its own; returns utterances, dropped ones, samples.

    libespeak-ng may crash or hang on a sentence: then the process is started again without it.
    """
    at, plan = task.shard.with_suffix(".at"), task.shard.with_suffix(".plan")
    avoid: set[int] = set()
    command = [sys.executable, str(Path(__file__).resolve()), "--speak", str(plan)]
    while True:
        plan.write_text(
            json.dumps(
                {
                    "shard": str(task.shard),
                    "sentences": [asdict(sentence) for sentence in task.sentences],
                    "names": task.names,
                    "seed": task.seed,
                    "folder": None if task.folder is None else str(task.folder),
                    "avoid": sorted(avoid),
                }
            ),
            encoding="utf-8",
        )
        at.write_text("-1", encoding="ascii")
        try:
            result = subprocess.run(
                command,
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
                timeout=60 + 0.5 * len(task.sentences),
            )
            status = result.returncode
        except subprocess.TimeoutExpired:
            status = -1
        if status == 0:
            at.unlink()
            plan.unlink()
            utterances, dropped, samples = (int(cell) for cell in result.stdout.split())
            return utterances, dropped, samples
        number = int(at.read_text(encoding="ascii"))
        if number < 0 or number in avoid:
            raise Failure(f"{task.shard}: {result.stderr.strip() or 'the speaking process died'}")
        print(f"espeak-ng failed on {task.sentences[number].id}: left out", file=sys.stderr)
        avoid.add(number)


def _speak_plan(path: Path) -> None:
    """The other end of `_speak_apart`."""
    plan = json.loads(path.read_text(encoding="utf-8"))
    task = Task(
        Path(plan["shard"]),
        [Sentence(**values) for values in plan["sentences"]],
        plan["names"],
        plan["seed"],
        None if plan["folder"] is None else Path(plan["folder"]),
    )
    _speak_shard(task, frozenset(plan["avoid"]), path.with_suffix(".at"))


def synthesise(arguments: argparse.Namespace) -> None:
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    names = variants(find_data(arguments.espeak), [v for v in arguments.voices.split(",") if v])
    sentences = list(read_sentences(arguments.sentences))
    random.Random(arguments.seed).shuffle(sentences)
    tasks = []
    for copy in range(arguments.copies):
        for start in range(0, len(sentences), arguments.shard):
            shard = out / f"part-{copy:02d}-{start // arguments.shard:05d}.i16"
            chosen = sentences[start : start + arguments.shard]
            tasks.append(Task(shard, chosen, names, f"{arguments.seed}.{copy}", arguments.espeak))
    missing = [task for task in tasks if not task.done]
    print(
        f"{len(sentences)} sentences x {arguments.copies}, {len(names)} voices, "
        f"{len(missing)} of {len(tasks)} shards to speak",
        file=sys.stderr,
    )
    began = last = time.monotonic()
    spoken = dropped = samples = number = 0

    def speak(task: Task) -> Optional[tuple[int, int, int]]:
        late = arguments.stop_after and time.monotonic() - began > arguments.stop_after
        return None if late else _speak_apart(task)

    with ThreadPoolExecutor(arguments.workers) as pool:
        for counts in pool.map(speak, missing):
            if counts is None:
                continue
            number += 1
            spoken, dropped, samples = spoken + counts[0], dropped + counts[1], samples + counts[2]
            if time.monotonic() - last > 10 or number == len(missing):
                last = time.monotonic()
                hours = samples / RATE / 3600
                print(
                    f"{number}/{len(missing)} shards, {spoken} utterances, {hours:.2f} h, "
                    f"{dropped} dropped, {hours * 3600 / (last - began):.0f} x real time",
                    file=sys.stderr,
                    flush=True,
                )
    if number < len(missing):
        print(f"stopped: {len(missing) - number} shards are still to be spoken", file=sys.stderr)
    write_manifest(out, [task.shard for task in tasks if task.done])


def write_manifest(out: Path, shards: list[Path]) -> None:
    part = out / "manifest.tsv.part"
    seconds = count = 0.0
    with part.open("w", encoding="utf-8") as file:
        file.write("\t".join(MANIFEST_COLUMNS) + "\n")
        for shard in shards:
            for line in shard.with_suffix(".tsv").open(encoding="utf-8"):
                file.write(line)
                seconds += float(line.split("\t")[2])
                count += 1
    os.replace(part, out / "manifest.tsv")
    print(f"{out / 'manifest.tsv'}: {count:.0f} utterances, {seconds / 3600:.2f} h")


def shard_arguments(parser: argparse.ArgumentParser, shard: int = 200) -> None:
    """The options of every script that speaks sentences into shards."""
    parser.add_argument("--sentences", type=Path, action="append", required=True, metavar="TSV")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--shard", type=int, default=shard, help="sentences a shard")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--stop-after", type=float, metavar="SECONDS", help="begin no shard after so long"
    )


def main() -> int:
    if sys.argv[1:2] == ["--speak"]:
        try:
            _speak_plan(Path(sys.argv[2]))
        except Failure as error:
            print(error, file=sys.stderr)
            return 1
        return 0
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    shard_arguments(parser, shard=1000)
    parser.add_argument("--copies", type=int, default=1, help="times that each sentence is spoken")
    parser.add_argument(
        "--voices", default="", help="only these variants, by commas; default: all but the reserved"
    )
    parser.add_argument("--espeak", type=Path, help="folder of unpacked espeak-ng packages")
    try:
        synthesise(parser.parse_args())
    except Failure as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
