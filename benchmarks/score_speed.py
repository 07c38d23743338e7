"""Seconds and memory of `uyir score` on 100,000 utterances with every table, page and file of errors.

    python benchmarks/score_speed.py TEXT [--language ta] [--utterances 100000] [--folder DIR]

TEXT is a text, plain or .xz, a sentence a line; its first utterances of 6 to 12 words are the reference, and a
hypothesis is made by changing letters, losing, adding, exchanging and joining words (some 22 % WER), with
400 speakers and durations. Runs the command in a process of its own and prints one JSON object: wall and
CPU seconds (children included) and the peak resident memory of the largest process (MB).
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from uyir.grammar.text import read_lines


def write_pair(text: str, folder: Path, count: int) -> int:
    """Write ref, hyp and metadata; the number of reference words."""
    rng = random.Random(1)
    lines: list[list[str]] = []
    for line in read_lines(text):
        words = line.split()
        if len(words) >= 6:
            lines.append(words[:12])
            if len(lines) == count:
                break
    vocabulary = [word for words in lines for word in words]
    letters = sorted({char for word in vocabulary[:100_000] for char in word if char.isalpha()})

    def spoilt(word: str) -> str:
        at, kind = rng.randrange(len(word)), rng.random()
        if kind < 0.5:
            return word[:at] + rng.choice(letters) + word[at + 1 :]
        if kind < 0.75 and len(word) > 1:
            return word[:at] + word[at + 1 :]
        return rng.choice(vocabulary)

    refs, hyps, metadata = [], [], ["id\tspeaker\tduration\tgender\n"]
    for number, words in enumerate(lines):
        heard: list[str] = []
        for word in words:
            kind = rng.random()
            if kind < 0.15:
                heard.append(spoilt(word))
            elif kind < 0.19:
                heard += [word, rng.choice(vocabulary)] if kind >= 0.17 else []
            elif kind < 0.21 and heard:
                heard[-1] += word
            else:
                heard.append(word)
        name = f"u{number:06d}"
        refs.append(f"{name} {' '.join(words)}\n")
        hyps.append(f"{name} {' '.join(heard)}\n")
        seconds = rng.uniform(1, 15)
        metadata.append(f"{name}\ts{number % 400}\t{seconds:.2f}\t{'fm'[number % 2]}\n")
    (folder / "ref").write_text("".join(refs), encoding="utf-8")
    (folder / "hyp").write_text("".join(hyps), encoding="utf-8")
    (folder / "meta.tsv").write_text("".join(metadata), encoding="utf-8")
    known = sorted(set(vocabulary[: len(vocabulary) // 2]))
    (folder / "vocabulary").write_text("\n".join(known) + "\n", encoding="utf-8")
    return len(vocabulary)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("text")
    parser.add_argument("--language", default="ta")
    parser.add_argument("--utterances", type=int, default=100_000)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        words = write_pair(options.text, folder, options.utterances)
        command = [sys.executable, "-m", "uyir", "score", "ref", "hyp", "-l", options.language]
        command += ["--metadata", "meta.tsv", "--by", "gender", "--vocabulary", "vocabulary"]
        command += ["--html", "page.html", "--errs", "errs.txt"]
        begin = time.perf_counter()
        with (folder / "table.txt").open("w") as table:
            subprocess.run(command, cwd=folder, check=True, stdout=table)
        wall = time.perf_counter() - begin
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        found = {
            "utterances": options.utterances,
            "words": words,
            "wall_s": round(wall, 1),
            "cpu_s": round(used.ru_utime + used.ru_stime, 1),
            "peak_mb": round(used.ru_maxrss / 1024),
            "page_mb": round((folder / "page.html").stat().st_size / 1e6, 1),
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
