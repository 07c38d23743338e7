"""How good confidences and the choice of language are, and what makes them so.

    python benchmarks/calibrate.py MANIFEST.tsv... [--model FOLDER] [--most N] [--write]

A manifest is tab-separated with columns set, kind, language, text, audio (relative to it). Every
recording is recognised in every language of the model. On every second recording a logistic map from
(posterior, how surely heard) to "the word is right", and one offset a language for comparing languages,
are fitted; the others say how good they are: normalised cross entropy (NIST: 1 perfect, 0 no better than
the share of right words) and the share of recordings whose language is told. ``--write`` puts what was
fitted on all recordings into the model's ``config.json``, the keys `uyir.decode.calibration` reads.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import kaldialign
import torch

from uyir.asr.audio import read_audio
from uyir.decode.calibration import Calibration, log_odds, normalised_cross_entropy
from uyir.decode.transcribe import Recogniser, load
from uyir.decode.vad import parts_of
from uyir.decode.work import Piece, Task
from uyir.grammar.script import normalise


@dataclass
class Word:
    recording: int
    kind: str
    right: bool
    posterior: float
    heard: float


@dataclass
class Recording:
    kind: str
    language: str
    scores: dict[str, float]


class Noting(Calibration):
    """Lets the two confidences of each word through, as one number that says both."""

    def confidence(self, posterior: float, heard: float) -> float:
        NOTED.append((posterior, heard))
        return 0.0


NOTED: list[tuple[float, float]] = []


def read(paths: Sequence[Path], most: Optional[int]) -> list[dict[str, str]]:
    rows = []
    for path in paths:
        with path.open(encoding="utf-8", newline="") as file:
            mine = [row for row in csv.DictReader(file, delimiter="\t") if row["text"]]
        for row in mine:
            row["audio"] = str(path.parent / row["audio"])
        rows += mine[:: max(1, len(mine) // most)] if most else mine
    return rows


def recognise(
    recogniser: Recogniser, rows: list[dict[str, str]]
) -> tuple[list[Word], list[Recording]]:
    words: list[Word] = []
    recordings: list[Recording] = []
    for number, row in enumerate(rows):
        samples, _ = read_audio(row["audio"])
        parts = list(parts_of([samples], recogniser.vad))
        if not parts:
            continue
        pieces = tuple(Piece(0, i, part.stretch, part.samples) for i, part in enumerate(parts))
        kind = f"{row['set']} {row['kind']}"
        scores = {}
        for language in recogniser.languages:
            NOTED.clear()
            found = recogniser.recognise(Task(0, language, pieces))
            frames = sum(f.frames for f in found)
            scores[language] = sum(f.score for f in found) / max(1, frames)
            if language != row["language"]:
                continue
            ref = normalise(row["text"], language).split()
            hyp = [w.word for f in found if f.segment is not None for w in f.segment.words]
            noted = iter(NOTED[: len(hyp)])
            for theirs, ours in kaldialign.align(ref, [normalise(w, language) for w in hyp], "*"):
                if ours != "*":
                    posterior, heard = next(noted)
                    words.append(Word(number, kind, theirs == ours, posterior, heard))
        recordings.append(Recording(kind, row["language"], scores))
    return words, recordings


def fit_confidence(words: Sequence[Word]) -> Calibration:
    """Logistic regression whose slopes are kept from being negative."""
    x = torch.tensor([[log_odds(w.posterior), log_odds(w.heard), 1.0] for w in words])
    y = torch.tensor([float(w.right) for w in words])
    raw = torch.tensor([0.5, 0.5, 0.0], requires_grad=True)
    optimiser = torch.optim.LBFGS([raw], max_iter=200, line_search_fn="strong_wolfe")

    def slopes() -> torch.Tensor:
        return torch.cat([raw[:2].abs(), raw[2:]])

    def closure() -> Any:
        optimiser.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(x @ slopes(), y)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call,unused-ignore]
    posterior, heard, offset = (round(v, 3) for v in slopes().tolist())
    return Calibration(posterior, heard, offset)


def fit_offsets(recordings: Sequence[Recording], languages: Sequence[str]) -> dict[str, float]:
    """What to add to each language's score: the first has 0, of the others the best of a grid.

    Recordings weigh so that each kind counts the same, and ties go to the middle of the best stretch.
    """
    offsets = dict.fromkeys(languages, 0.0)
    counts = {r.kind: sum(o.kind == r.kind for o in recordings) for r in recordings}
    for language in languages[1:]:
        grid = [i / 500 for i in range(-250, 251)]
        gains = []
        for value in grid:
            trial = {**offsets, language: value}
            gains.append(sum(right(r, trial) / counts[r.kind] for r in recordings))
        best = [v for v, gain in zip(grid, gains) if gain >= max(gains) - 1e-9]
        offsets[language] = round(best[len(best) // 2], 3)
    return offsets


def right(recording: Recording, offsets: dict[str, float]) -> bool:
    return recording.language == max(
        recording.scores, key=lambda name: recording.scores[name] + offsets.get(name, 0.0)
    )


def report(
    words: Sequence[Word],
    recordings: Sequence[Recording],
    calibration: Calibration,
    offsets: dict[str, float],
) -> None:
    print("kind\twords\tright\tnce\trecordings\tlanguage right")
    for kind in ["all", *sorted({w.kind for w in words})]:
        mine = [w for w in words if kind in ("all", w.kind)]
        heard = [r for r in recordings if kind in ("all", r.kind)]
        correct = [w.right for w in mine]
        sure = [calibration.confidence(w.posterior, w.heard) for w in mine]
        try:
            nce = normalised_cross_entropy(correct, sure)
        except ValueError:
            nce = math.nan
        told = sum(right(r, offsets) for r in heard) / max(1, len(heard))
        share = sum(correct) / max(1, len(mine))
        print(f"{kind}\t{len(mine)}\t{share:.3f}\t{nce:.3f}\t{len(heard)}\t{told:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifests", nargs="+", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--most", type=int, help="about so many recordings of a manifest")
    parser.add_argument("--write", action="store_true", help="into the model's config.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    recogniser = load(arguments.model)
    recogniser.calibration = Noting(0.0, 0.0, 0.0)
    words, recordings = recognise(recogniser, read(arguments.manifests, arguments.most))
    numbers = sorted({w.recording for w in words})
    half = set(numbers[::2])
    fitted = fit_confidence([w for w in words if w.recording in half])
    offsets = fit_offsets(recordings[::2], recogniser.languages)
    print(f"fitted on every second recording: {fitted}, {offsets}; measured on the others:")
    report([w for w in words if w.recording not in half], recordings[1::2], fitted, offsets)
    fitted, offsets = fit_confidence(words), fit_offsets(recordings, recogniser.languages)
    print(f"fitted on all: {fitted}, {offsets}")
    if arguments.write:
        path = recogniser.folder / "config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        config["confidence"] = {
            "posterior": fitted.posterior,
            "heard": fitted.heard,
            "offset": fitted.offset,
        }
        config["identify"] = offsets
        path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        print(f"written to {path}")


if __name__ == "__main__":
    main()
