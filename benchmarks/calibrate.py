"""How good confidences and the choice of language are, and what makes them so.

    python benchmarks/calibrate.py MANIFEST.tsv... [--model FOLDER] [--most N] [--keep FILE] [--write]

A manifest is tab-separated with columns set, kind, language, text, audio (relative to it). Every
recording is recognised in every language of the model, and what speaks for words and languages
(`uyir.decode.evidence`) noted. On every second recording a logistic map from a word's evidence to "the word is
right", and one from the languages' evidence to the language, are fitted; the others say how good they
are: normalised cross entropy (NIST: 1 perfect, 0 no better than the share of right words) and the share of
recordings whose language is told. Every set counts as much as any other with as many words or recordings.
``--keep`` keeps what was noted, so that fitting again wants no recognition; ``--write`` puts what was
fitted on all recordings into the model's ``config.json``, the keys `uyir.decode.calibration` reads.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Optional

import kaldialign
import torch

from uyir.asr.audio import read_audio
from uyir.decode.calibration import Calibration, Identification, normalised_cross_entropy
from uyir.decode.evidence import LANGUAGE_EVIDENCE, WORD_EVIDENCE, Spoken, best_language
from uyir.decode.transcribe import Recogniser, load
from uyir.decode.vad import parts_of
from uyir.decode.work import Piece, Task
from uyir.grammar.script import normalise


@dataclass
class Word:
    recording: int
    kind: str
    right: bool
    evidence: dict[str, float]


@dataclass
class Recording:
    kind: str
    language: str
    heard: dict[str, Spoken]


class Noting(Calibration):
    """Notes the evidence of each word."""

    def confidence(self, evidence: Mapping[str, float]) -> float:
        NOTED.append(dict(evidence))
        return 0.0


NOTED: list[dict[str, float]] = []


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
    for row in rows:
        samples, _ = read_audio(row["audio"])
        parts = list(parts_of([samples], recogniser.vad))
        if not parts:
            continue
        pieces = tuple(Piece(0, i, part.stretch, part.samples) for i, part in enumerate(parts))
        kind = f"{row['set']} {row['kind']}"
        heard = {}
        for language in recogniser.languages:
            NOTED.clear()
            found = recogniser.recognise(Task(0, language, pieces))
            heard[language] = sum((f.spoken for f in found), Spoken())
            if language != row["language"]:
                continue
            ref = normalise(row["text"], language).split()
            hyp = [w.word for f in found if f.segment is not None for w in f.segment.words]
            noted = iter(NOTED[: len(hyp)])
            for theirs, ours in kaldialign.align(ref, [normalise(w, language) for w in hyp], "*"):
                if ours != "*":
                    words.append(Word(len(recordings), kind, theirs == ours, next(noted)))
        recordings.append(Recording(kind, row["language"], heard))
    return words, recordings


def logistic(
    x: torch.Tensor, y: torch.Tensor, weight: torch.Tensor, decay: float
) -> tuple[list[float], float]:
    """Weights of a logistic regression on standardised columns with an L2 penalty, for the columns as
    they are, and the offset."""
    mean, std = x.mean(dim=0), x.std(dim=0).clamp(min=1e-6)
    z = (x - mean) / std
    raw = torch.zeros(x.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([raw], max_iter=300, line_search_fn="strong_wolfe")

    def closure() -> Any:
        optimiser.zero_grad()
        odds = z @ raw[:-1] + raw[-1]
        losses = torch.nn.functional.binary_cross_entropy_with_logits(odds, y, reduction="none")
        loss = (weight * losses).sum() / weight.sum() + decay * raw[:-1].square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call,unused-ignore]
    slopes = (raw[:-1] / std).detach()
    return slopes.tolist(), float((raw[-1] - (slopes * mean).sum()).detach())


def balanced(kinds: Sequence[str]) -> torch.Tensor:
    """A weight each, so that a kind counts by the root of how many it has."""
    counts = Counter(kinds)
    return torch.tensor([counts[kind] ** -0.5 for kind in kinds], dtype=torch.float64)


def fit_confidence(words: Sequence[Word]) -> Calibration:
    x = torch.tensor([[w.evidence[n] for n in WORD_EVIDENCE] for w in words], dtype=torch.float64)
    y = torch.tensor([float(w.right) for w in words], dtype=torch.float64)
    slopes, offset = logistic(x, y, balanced([w.kind for w in words]), 1e-3)
    weights = {name: round(v, 4) for name, v in zip(WORD_EVIDENCE, slopes)}
    return Calibration(weights, round(offset, 4))


def fit_identification(recordings: Sequence[Recording], languages: Sequence[str]) -> Identification:
    """Languages in pairs: the difference of their evidence against which of both it was."""
    first, *others = languages
    if len(others) != 1:
        raise SystemExit("the choice of language is fitted for two languages")
    other = others[0]

    def difference(recording: Recording) -> list[float]:
        a, b = recording.heard[first].per_frame(), recording.heard[other].per_frame()
        return [a[name] - b[name] for name in LANGUAGE_EVIDENCE]

    x = torch.tensor([difference(r) for r in recordings], dtype=torch.float64)
    y = torch.tensor([float(r.language == first) for r in recordings], dtype=torch.float64)
    # Either language counts the same, and within it every kind by the root of its number.
    weight = balanced([r.kind for r in recordings])
    for value in (0.0, 1.0):
        weight[y == value] /= weight[y == value].sum()
    slopes, offset = logistic(x, y, weight, 1e-3)
    weights = {name: round(v, 4) for name, v in zip(LANGUAGE_EVIDENCE, slopes)}
    return Identification(weights, {first: round(offset, 4), other: 0.0})


def right(recording: Recording, rule: Identification) -> bool:
    return recording.language == best_language(recording.heard, rule.weights, rule.offsets)


def report(
    words: Sequence[Word],
    recordings: Sequence[Recording],
    calibration: Calibration,
    rule: Identification,
) -> None:
    print("kind\twords\tright\tnce\trecordings\tlanguage right")
    for kind in ["all", *sorted({w.kind for w in words})]:
        mine = [w for w in words if kind in ("all", w.kind)]
        heard = [r for r in recordings if kind in ("all", r.kind)]
        correct = [w.right for w in mine]
        sure = [calibration.confidence(w.evidence) for w in mine]
        try:
            nce = normalised_cross_entropy(correct, sure)
        except ValueError:
            nce = math.nan
        told = sum(right(r, rule) for r in heard) / max(1, len(heard))
        share = sum(correct) / max(1, len(mine))
        print(f"{kind}\t{len(mine)}\t{share:.3f}\t{nce:.3f}\t{len(heard)}\t{told:.3f}")


def keep(path: Path, words: Sequence[Word], recordings: Sequence[Recording]) -> None:
    data = {"words": [asdict(w) for w in words], "recordings": [asdict(r) for r in recordings]}
    path.write_text(json.dumps(data), encoding="utf-8")


def kept(path: Path) -> tuple[list[Word], list[Recording]]:
    data = json.loads(path.read_text(encoding="utf-8"))
    recordings = [
        Recording(r["kind"], r["language"], {k: Spoken(**v) for k, v in r["heard"].items()})
        for r in data["recordings"]
    ]
    return [Word(**w) for w in data["words"]], recordings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifests", nargs="*", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--most", type=int, help="about so many recordings of a manifest")
    parser.add_argument(
        "--keep", type=Path, help="keep what was noted there, or take it from there"
    )
    parser.add_argument("--write", action="store_true", help="into the model's config.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    recogniser = load(arguments.model)
    if arguments.keep is not None and arguments.keep.is_file():
        words, recordings = kept(arguments.keep)
    else:
        recogniser.calibration = Noting({}, 0.0)
        words, recordings = recognise(recogniser, read(arguments.manifests, arguments.most))
        if arguments.keep is not None:
            keep(arguments.keep, words, recordings)
    half = set(range(0, len(recordings), 2))
    calibration = fit_confidence([w for w in words if w.recording in half])
    rule = fit_identification(recordings[::2], recogniser.languages)
    print("fitted on every second recording, measured on the others:")
    report([w for w in words if w.recording not in half], recordings[1::2], calibration, rule)
    calibration, rule = fit_confidence(words), fit_identification(recordings, recogniser.languages)
    print(f"fitted on all: {calibration}, {rule}")
    if arguments.write:
        path = recogniser.folder / "config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        config["confidence"] = asdict(calibration)
        config["identify"] = asdict(rule)
        path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        print(f"written to {path}")


if __name__ == "__main__":
    main()
