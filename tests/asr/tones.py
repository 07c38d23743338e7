"""Synthetic speech for the tests: each phone is a tone of its own, words are tone sequences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

TOKENS = ("<blk>", "<spn>", "a", "i", "u", "k", "m")
HERTZ = {"a": 500, "i": 900, "u": 1500, "k": 2400, "m": 3600}


def write_tones(
    folder: Path,
    count: int,
    seed: int = 0,
    shards: bool = True,
    language: str = "ta",
    seconds: float = 0.135,
    sizes: tuple[int, int] = (3, 7),
) -> Path:
    """Write `count` utterances of 3 to 6 tone phones of some `seconds`; returns the manifest."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokens.txt").write_text("".join(f"{t} {i}\n" for i, t in enumerate(TOKENS)))
    lines = ["id\taudio\tduration\tlanguage\ttext\tphones"]
    shard: list[np.ndarray] = []
    offset = 0
    for number in range(count):
        phones = [str(p) for p in rng.choice(list(HERTZ), size=rng.integers(*sizes))]
        wave = np.concatenate([_tone(HERTZ[p], rng, seconds) for p in phones])
        wave += 0.002 * rng.normal(size=len(wave))
        samples = (wave * 32767).astype("<i2")
        if shards:
            audio = f"tones.i16@{offset}+{len(samples)}"
            shard.append(samples)
            offset += len(samples)
        else:
            audio = f"{number}.wav"
            soundfile.write(str(folder / audio), samples, 16000)
        length = f"{len(samples) / 16000:.3f}"
        lines.append(f"u{number}\t{audio}\t{length}\t{language}\tx\t{' '.join(phones)}")
    if shards:
        (folder / "tones.i16").write_bytes(np.concatenate(shard).tobytes())
    manifest = folder / "manifest.tsv"
    manifest.write_text("\n".join(lines) + "\n")
    return manifest


def _tone(hertz: float, rng: np.random.Generator, seconds: float) -> np.ndarray:
    time = np.arange(int(rng.uniform(seconds - 0.025, seconds + 0.025) * 16000)) / 16000
    gap = np.zeros(int(0.04 * 16000))
    wave: np.ndarray = np.concatenate([0.3 * np.sin(2 * np.pi * hertz * time), gap])
    return wave
