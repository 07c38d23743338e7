"""Sentences of a text, spoken by espeak-ng's reserved voices, and what an acoustic model hears in them.

    python benchmarks/spoken_set.py --language ta --text dakshina_native_dev.txt.xz --sentences 1000 \\
        --tuning 200 --out exp/units/ta [--model base]

Writes, each only where it is missing, into OUT: ``sentences.tsv`` (the test sentences, and others of the
same text to tune on: whole lines of 2 to 24 words, digits read out, lines with Latin letters or anything else
outside the script left out), ``speech/`` (shards of 16 kHz samples), and for the named model
``heard/MODEL/{tune,test}/{clean,noise}.{f16,json}``: log_probs of every utterance, as float16, of the
speech as it is and with coloured noise 10 dB below it. All by the seed: the same command gives the same
sentences, voicings and noise.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import numpy as np
import numpy.typing as npt

from uyir.errors import UyirError
from uyir.grammar.script import is_wellformed, normalise
from uyir.grammar.text import read_lines

Samples = npt.NDArray[np.float32]
RECIPES = Path(__file__).resolve().parent.parent / "recipes"
VOICES = "klatt5,Andrea,Michael,grandpa,f4,Diogo"
CONDITIONS = ("clean", "noise")
PARTS = ("tune", "test")
NOISE_DB = 10.0
SAMPLE_RATE = 16000
#: A batch of the network, in seconds.
BATCH_S = 60.0


def chosen_lines(path: Path, language: str, count: int, seed: int) -> list[tuple[str, str]]:
    """(text, phones) of so many different lines that can be spoken, drawn by the seed."""
    from uyir.asr.prepare import phones_of
    from uyir.lexicon.symbols import SPOKEN_NOISE

    lines = [line for line in read_lines(path) if not re.search("[A-Za-z]", line)]
    random.Random(f"{seed}/{language}").shuffle(lines)
    found: dict[str, str] = {}
    for line in lines:
        text, phones = phones_of(line, language)
        words = text.split()
        fits = 2 <= len(words) <= 24 and all(is_wellformed(word, language) for word in words)
        if fits and SPOKEN_NOISE not in phones and len(phones) <= 200:
            found.setdefault(normalise(text, language), " ".join(phones))
        if len(found) == count:
            break
    return list(found.items())


def write_sentences(out: Path, path: Path, language: str, test: int, tuning: int) -> None:
    if (out / "sentences.tsv").exists():
        return
    out.mkdir(parents=True, exist_ok=True)
    rows = ["id\tlanguage\ttext\tphones"]
    for number, (text, phones) in enumerate(chosen_lines(path, language, test + tuning, 1)):
        part = "test" if number < test else "tune"
        rows.append(f"{part}-{language}{number:05d}\t{language}\t{text}\t{phones}")
    part_file = out / "sentences.part"
    part_file.write_text("".join(row + "\n" for row in rows), encoding="utf-8")
    os.replace(part_file, out / "sentences.tsv")


def speak(out: Path, espeak: Optional[Path]) -> None:
    command = [sys.executable, str(RECIPES / "synthetic" / "synthesise.py"), "--shard", "50"]
    command += ["--sentences", str(out / "sentences.tsv"), "--out", str(out / "speech")]
    command += ["--seed", "7", "--voices", VOICES]
    command += [] if espeak is None else ["--espeak", str(espeak)]
    subprocess.run(command, check=True)


@dataclass(frozen=True)
class Heard:
    """One utterance: what was said, how long it is, and its log_probs (T, C)."""

    id: str
    text: str
    seconds: float
    log_probs: npt.NDArray[np.float32]


def read_heard(folder: Path, condition: str, limit: Optional[int] = None) -> list[Heard]:
    """The utterances of a part as a model heard them (``OUT/heard/MODEL/PART``), by id."""
    index = json.loads((folder / f"{condition}.json").read_text(encoding="utf-8"))
    stored = np.memmap(folder / f"{condition}.f16", dtype="<f2", mode="r")
    values = stored.reshape(-1, index["tokens"])
    found = [
        Heard(
            row["id"],
            row["text"],
            row["seconds"],
            np.asarray(values[row["begin"] : row["end"]], dtype=np.float32),
        )
        for row in index["utterances"]
    ]
    return sorted(found, key=lambda heard: heard.id)[:limit]


def listen(out: Path, language: str, model: Optional[str], part: str, device: str = "cpu") -> None:
    """Write the log_probs of a model for one of `PARTS`; what is there already is not heard again."""
    from uyir.asr.data import SampleReader, read_manifest
    from uyir.decode.batches import batches_of
    from uyir.decode.transcribe import find_model, load

    name = find_model(model).name
    folder = out / "heard" / name / part
    missing = [c for c in CONDITIONS if not (folder / f"{c}.f16").exists()]
    if not missing:
        return
    folder.mkdir(parents=True, exist_ok=True)
    recogniser = load(model, device=device, engine="kaldi", precision="float32")
    spoken = read_manifest(out / "speech" / "manifest.tsv", recogniser._tokens)
    spoken = [one for one in spoken if one.id.startswith(part + "-")]
    texts = {line.split("\t")[0]: line.split("\t")[2] for line in read_lines(out / "sentences.tsv")}
    reader = SampleReader()
    waves = [reader.read(one).astype(np.float32) / 32768.0 for one in spoken]
    seconds = sum(map(len, waves)) / SAMPLE_RATE
    batches = batches_of([len(wave) for wave in waves], 64, round(BATCH_S * SAMPLE_RATE))
    for condition in missing:
        begin, at = time.process_time(), 0
        rows: list[dict[str, object]] = []
        unfinished = folder / f"{condition}.part"
        with unfinished.open("wb") as file:
            for number, batch in enumerate(batches):
                parts = [waves[i] for i in batch]
                if condition == "noise":
                    parts = with_noise(parts, number)
                log_probs, counts = recogniser.log_probs(parts, language)
                for i, values, count in zip(batch, log_probs, counts.tolist()):
                    file.write(values[:count].clamp(min=-60).numpy().astype("<f2").tobytes())
                    key = "-".join(spoken[i].id.split("-")[:2])
                    rows.append(
                        {
                            "id": key,
                            "voice": spoken[i].id.rpartition("-")[2],
                            "text": texts[key],
                            "seconds": len(waves[i]) / SAMPLE_RATE,
                            "begin": at,
                            "end": at + count,
                        }
                    )
                    at += count
        report = {
            "model": name,
            "tokens": len(recogniser._tokens),
            "network_rtf": round((time.process_time() - begin) / seconds, 4),
            "utterances": rows,
        }
        index = json.dumps(report, ensure_ascii=False, indent=1) + "\n"
        (folder / f"{condition}.json").write_text(index, encoding="utf-8")
        os.replace(unfinished, folder / f"{condition}.f16")
        print(
            f"{folder}: {condition}, {len(rows)} utterances, {seconds / 3600:.2f} h",
            file=sys.stderr,
        )


def with_noise(waves: list[Samples], seed: int) -> list[Samples]:
    """The waves with coloured noise `NOISE_DB` below each, drawn by the seed."""
    import torch

    from uyir.asr.augment import AugmentConfig, WaveAugment

    config = AugmentConfig(
        speed=(1.0, 1.0), reverberation=0.0, colour=0.0, telephone=0.0, low_pass=0.0, noise=1.0,
        babble=0.0, snr_db=(NOISE_DB, NOISE_DB), mu_law=0.0, level_db=(-26.0, -26.0),
    )  # fmt: skip
    lengths = torch.tensor([len(wave) for wave in waves])
    padded = torch.nn.utils.rnn.pad_sequence(
        [torch.from_numpy(wave) for wave in waves], batch_first=True
    )
    noisy, _ = WaveAugment(config)(padded, lengths, torch.Generator().manual_seed(seed))
    return [row[:n].numpy() for row, n in zip(noisy, lengths.tolist())]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--language", required=True)
    parser.add_argument("--text", required=True, type=Path)
    parser.add_argument("--sentences", type=int, default=1000)
    parser.add_argument("--tuning", type=int, default=200)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--model", help="whose acoustic model listens")
    parser.add_argument("--part", choices=PARTS, help="only this; default: both")
    parser.add_argument("--device", default="cpu", help="that the acoustic model listens on")
    parser.add_argument("--espeak", type=Path, help="folder of unpacked espeak-ng packages")
    arguments = parser.parse_args()
    try:
        write_sentences(
            arguments.out, arguments.text, arguments.language, arguments.sentences, arguments.tuning
        )
        speak(arguments.out, arguments.espeak)
        for part in [arguments.part] if arguments.part else PARTS:
            listen(arguments.out, arguments.language, arguments.model, part, arguments.device)
    except UyirError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
