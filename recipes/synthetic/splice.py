"""Speak sentences with a real reader's own voice: stretches of recordings, joined in the middle of vowels.

A few minutes of one reader hold a few dozen sentences, and a model that hears them again and again learns those.
Cut in the vowels and joined anew, the same recordings say thousands of other words, with all that is real in
them. Input is a training manifest of the recordings, and their phones in time as `uyir align` writes them (CTM);
output is what `synthesise.py` writes.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional

import numpy as np
import soundfile
import soxr
from spoken import VOWELS, say
from synthesise import RATE, Failure, Sentence, read_sentences, shard_arguments, write_manifest

from uyir.lexicon.g2p import load_g2p

#: Phones that a reader of Kannada does not have, and what is nearest to them.
NEAREST = {
    "eu": "u",
    "rx": "r",
    "zx": "lx",
    "tq": "tt",
    "dq": "d",
    "ng": "n",
    "nng": "nn",
    "ny": "n",
}
#: A stretch that is this many phones long at most is looked up.
LONGEST = 14
#: A silence of more than this between two phones is a pause, in s.
PAUSE_S = 0.12
#: Join: how far it may move to where the waves fit, and how long one fades into the other, in samples.
REACH, FADE = 128, 160


@dataclass(frozen=True)
class Place:
    """A phone in a recording: which, and its start and end in s."""

    recording: int
    phone: str
    start: float
    end: float

    @property
    def middle(self) -> float:
        return (self.start + self.end) / 2


class Voice:
    """A reader's recordings, and every stretch of them from vowel to vowel, or from or to an edge of a word.

    Stretches are keyed by their phones, with ``#`` where they begin or end at an edge.
    """

    def __init__(self, manifest: Path, alignment: Path) -> None:
        self.waves: list[np.ndarray] = []
        self.stretches: dict[tuple[str, ...], list[tuple[Place, Place]]] = defaultdict(list)
        for phones in self._read(manifest, alignment):
            runs: list[list[Place]] = [[]]
            for place in phones:
                if runs[-1] and place.start - runs[-1][-1].end > PAUSE_S:
                    runs.append([])
                runs[-1].append(place)
            for run in runs:
                self._index(run)

    def _read(self, manifest: Path, alignment: Path) -> list[list[Place]]:
        said: dict[str, list[tuple[str, float, float]]] = defaultdict(list)
        for line in alignment.open(encoding="utf-8"):
            name, _, start, length, phone = line.split()[:5]
            said[name].append((phone, float(start), float(start) + float(length)))
        recordings = []
        for line in manifest.read_text(encoding="utf-8").splitlines()[1:]:
            name, audio = line.split("\t")[:2]
            if name not in said:
                continue
            wave, rate = soundfile.read(manifest.parent / audio, dtype="float32")
            if rate != RATE:
                raise Failure(f"{audio}: {rate} Hz, want {RATE}")
            number = len(self.waves)
            self.waves.append(wave)
            recordings.append([Place(number, *cells) for cells in said[name]])
        if not recordings:
            raise Failure(f"{alignment}: of no recording of {manifest}")
        return recordings

    def _index(self, run: list[Place]) -> None:
        for first in range(len(run)):
            edge = first == 0
            for last in range(first + 1, min(len(run), first + LONGEST)):
                key = tuple(place.phone for place in run[first : last + 1])
                ends = (run[first], run[last])
                if key[0] in VOWELS and key[-1] in VOWELS:
                    self.stretches[key].append(ends)
                if key[-1] in VOWELS and (edge or key[0] not in VOWELS):
                    # After a pause the first sound may begin before the aligner says so.
                    opening = replace(run[first], start=run[first].start - (0.06 if edge else 0.01))
                    self.stretches[("#", *key)].append((opening, run[last]))
                if last == len(run) - 1 and key[0] in VOWELS:
                    self.stretches[(*key, "#")].append(ends)

    def path(self, phones: list[str], rng: random.Random) -> Optional[list[tuple[str, ...]]]:
        """Keys of stretches that together say the phones of a run; None if there are none such."""
        whole = ["#", *phones, "#"]
        cuts = [0, *(n for n, phone in enumerate(whole) if phone in VOWELS), len(whole) - 1]
        best: dict[int, tuple[float, list[tuple[str, ...]]]] = {0: (0.0, [])}
        for number, start in enumerate(cuts[:-1]):
            if start not in best:
                continue
            cost, keys = best[start]
            for end in cuts[number + 1 :]:
                if end - start > LONGEST:
                    break
                key = tuple(whole[start : end + 1])
                if key not in self.stretches:
                    continue
                total = cost + 1.0 + rng.random()
                if end not in best or total < best[end][0]:
                    best[end] = (total, [*keys, key])
        found = best.get(cuts[-1])
        return None if found is None else found[1]

    def say(self, keys: list[tuple[str, ...]], rng: random.Random) -> np.ndarray:
        """Samples ``(S,)`` of stretches joined where their waves fit best."""
        said = np.zeros(0, dtype=np.float32)
        for key in keys:
            first, last = rng.choice(self.stretches[key])
            wave = self.waves[first.recording]
            opens, closes = key[0] == "#", key[-1] == "#"
            start = first.start if opens else first.middle
            end = last.end + 0.05 if closes else last.middle
            begin, stop = (round(min(max(0.0, s), len(wave) / RATE) * RATE) for s in (start, end))
            if len(said):
                begin = max(0, begin + _fit(said, wave, begin))
            piece = wave[begin : max(stop, begin + 2 * FADE) + FADE].copy()
            said = _join(said, piece)
        return said


def _fit(said: np.ndarray, wave: np.ndarray, begin: int) -> int:
    """How far from `begin` the wave is likest to the end of what was said."""
    end = said[-FADE:]
    window = wave[max(0, begin - REACH) : begin + REACH + FADE]
    if len(end) < FADE or len(window) <= FADE:
        return 0
    products = np.correlate(window, end, mode="valid")
    energy = np.convolve(window**2, np.ones(FADE, dtype=np.float32), mode="valid")
    return int(np.argmax(products / np.sqrt(energy + 1e-6))) - min(begin, REACH)


def _join(said: np.ndarray, piece: np.ndarray) -> np.ndarray:
    length = min(FADE, len(said), len(piece))
    ramp = np.linspace(0.0, 1.0, length, dtype=np.float32)
    if not length:
        return piece
    mixed = said[-length:] * (1 - ramp) + piece[:length] * ramp
    return np.concatenate([said[:-length], mixed, piece[length:]])


def pronounced(word: str, language: str, rng: random.Random) -> tuple[tuple[str, ...], list[str]]:
    """The canonical phones of a word, and how the reader says it."""
    phones = load_g2p(language).pronounce(word, variants=False)[0].phones
    sounds = say([phones], language, rng, 0.6 * rng.random())
    return phones, [NEAREST.get(sound, sound) for sound in sounds]


def runs_of(
    voice: Voice, sentence: Sentence, rng: random.Random
) -> list[tuple[list[str], list[str], list[str]]]:
    """The longest runs of words of a sentence that the voice can say: words, phones, sounds."""
    found: list[tuple[list[str], list[str], list[str]]] = []
    open_run = False
    for word in sentence.text.split():
        phones, sounds = pronounced(word, sentence.language, rng)
        if open_run:
            words, before, said = found[-1]
            if voice.path(said + sounds, rng) is not None:
                found[-1] = ([*words, word], [*before, *phones], said + sounds)
                continue
        open_run = voice.path(sounds, rng) is not None
        if open_run:
            found.append(([word], list(phones), sounds))
    return found


def speak_shard(voice: Voice, sentences: list[Sentence], shard: Path, seed: str) -> None:
    offset, lines = 0, []
    part = shard.with_suffix(".part")
    with part.open("wb") as file:
        for sentence in sentences:
            rng = random.Random(f"{seed}/splice/{sentence.id}")
            for number, (words, phones, sounds) in enumerate(runs_of(voice, sentence, rng)):
                keys = voice.path(sounds, rng)
                if keys is None or (len(words) == 1 and rng.random() < 0.6):
                    continue
                samples = voice.say(keys, rng)
                # Faster or slower: another length of vocal tract, another pitch.
                samples = soxr.resample(samples, RATE * rng.uniform(0.82, 1.25), RATE)
                samples = samples * (0.7 / max(1e-3, float(np.abs(samples).max())))
                file.write((samples * 32767).astype("<i2").tobytes())
                cells = (
                    f"{sentence.id}-{seed}-splice{number}",
                    f"{shard.name}@{offset}+{len(samples)}",
                    f"{len(samples) / RATE:.3f}",
                    sentence.language,
                    " ".join(words),
                    " ".join(phones),
                )
                lines.append("\t".join(cells) + "\n")
                offset += len(samples)
    os.replace(part, shard)
    index = shard.with_suffix(".tsv.part")
    index.write_text("".join(lines), encoding="utf-8")
    os.replace(index, shard.with_suffix(".tsv"))  # last: its presence says: done


_voice: Optional[Voice] = None


def _start(manifest: Path, alignment: Path) -> None:
    global _voice
    _voice = Voice(manifest, alignment)


def _speak(task: tuple[list[Sentence], Path, str, float]) -> None:
    sentences, shard, seed, until = task
    assert _voice is not None
    if time.time() < until and not shard.with_suffix(".tsv").exists():
        speak_shard(_voice, sentences, shard, seed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    shard_arguments(parser)
    parser.add_argument("--recordings", type=Path, required=True, metavar="MANIFEST")
    parser.add_argument("--phones", type=Path, required=True, metavar="CTM")
    parser.add_argument("--limit", type=int, default=20000, help="sentences")
    arguments = parser.parse_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    until = time.time() + (arguments.stop_after or 1e9)
    try:
        sentences = list(read_sentences(arguments.sentences))
        random.Random(arguments.seed).shuffle(sentences)
        sentences = sentences[: arguments.limit]
        shards = [
            (
                sentences[start : start + arguments.shard],
                out / f"splice-{start // arguments.shard:05d}.i16",
                str(arguments.seed),
                until,
            )
            for start in range(0, len(sentences), arguments.shard)
        ]
        with ProcessPoolExecutor(
            arguments.workers, initializer=_start, initargs=(arguments.recordings, arguments.phones)
        ) as pool:
            list(pool.map(_speak, shards))
    except (Failure, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    done = [shard for _, shard, _, _ in shards if shard.with_suffix(".tsv").exists()]
    write_manifest(out, done)
    return 0


if __name__ == "__main__":
    sys.exit(main())
