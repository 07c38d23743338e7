"""How good confidences and the choice of language are, and what makes them so.

    python benchmarks/calibrate.py MANIFEST.tsv... [--model FOLDER] [--most N] [--jobs N] [--keep FILE]
        [--write]

A manifest is tab-separated with columns set, kind, language, text, audio (relative to it). Every
recording is recognised in every language of the model, and what speaks for words and languages
(`uyir.decode.evidence`) noted. On every second recording a logistic map from a word's evidence to "the word is
right", and one from the languages' evidence to the language, are fitted; the others say how good they
are, and the other way round: normalised cross entropy (NIST: 1 perfect, 0 no better than the share of right words)
and the share of recordings whose language is told. Said besides: the same share of each kind where the
fit had seen nothing of its set. Every set counts as much as any other with as many words or recordings.
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
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Optional

import kaldialign
import torch

from uyir.asr.audio import read_audio
from uyir.decode.calibration import Calibration, Identification, normalised_cross_entropy
from uyir.decode.evidence import LANGUAGE_EVIDENCE, WORD_EVIDENCE, Spoken
from uyir.decode.processes import spread
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
    recogniser: Recogniser, rows: list[dict[str, str]], jobs: int
) -> tuple[list[Word], list[Recording]]:
    for language in recogniser.languages:
        recogniser.language(language)  # once, before processes are forked
    found = spread(lambda i: heard_in(recogniser, rows[i]), len(rows), jobs)
    words: list[Word] = []
    recordings: list[Recording] = []
    for one in found:
        if one is not None:
            words += [replace(word, recording=len(recordings)) for word in one[0]]
            recordings.append(one[1])
    return words, recordings


def heard_in(recogniser: Recogniser, row: dict[str, str]) -> Optional[tuple[list[Word], Recording]]:
    """What speaks for words and languages in one recording; None where there is no speech."""
    samples, _ = read_audio(row["audio"])
    parts = list(parts_of([samples], recogniser.vad))
    if not parts:
        return None
    pieces = tuple(Piece(0, i, part.stretch, part.samples) for i, part in enumerate(parts))
    kind = f"{row['set']} {row['kind']}"
    words = []
    heard = {}
    for language in recogniser.languages:
        NOTED.clear()
        found = recogniser.recognise(Task(0, language, pieces))
        heard[language] = sum((f.spoken for f in found), Spoken())
        if language != row["language"]:
            continue
        ref = normalise(row["text"], language).split()
        hyp = [w.word for f in found if f.segment is not None for w in f.segment.open().words]
        noted = iter(NOTED[: len(hyp)])
        for theirs, ours in kaldialign.align(ref, [normalise(w, language) for w in hyp], "*"):
            if ours != "*":
                words.append(Word(0, kind, theirs == ours, next(noted)))
    return words, Recording(kind, row["language"], heard)


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


#: What holds the language's weights down: they are many, and the recordings few.
DECAY = 2e-3


def fit_identification(recordings: Sequence[Recording], languages: Sequence[str]) -> Identification:
    """The evidence of either of two languages against which of both it was, with weights of its own each."""
    if len(languages) != 2:
        raise SystemExit("the choice of language is fitted for two languages")
    first, other = languages
    # How short the speech is is the same in both: once is enough.
    of_other = [name for name in LANGUAGE_EVIDENCE if name != "short"]

    def evidence(recording: Recording) -> list[float]:
        a, b = recording.heard[first].per_frame(), recording.heard[other].per_frame()
        return [*(a[name] for name in LANGUAGE_EVIDENCE), *(-b[name] for name in of_other)]

    x = torch.tensor([evidence(r) for r in recordings], dtype=torch.float64)
    y = torch.tensor([float(r.language == first) for r in recordings], dtype=torch.float64)
    # Either language counts the same, and within it every kind by the root of its number.
    weight = balanced([r.kind for r in recordings])
    for value in (0.0, 1.0):
        weight[y == value] /= weight[y == value].sum()
    slopes, offset = logistic(x, y, weight, DECAY)
    rounded = [round(value, 4) for value in slopes]
    mine = dict(zip(LANGUAGE_EVIDENCE, rounded))
    theirs = dict(zip(of_other, rounded[len(LANGUAGE_EVIDENCE) :]))
    return Identification({first: mine, other: theirs}, {first: round(offset, 4), other: 0.0})


def right(recording: Recording, rule: Identification) -> bool:
    return recording.language == rule.best(recording.heard)


@dataclass
class Measured:
    """What maps say of recordings that they were not fitted on."""

    kind: str
    words: list[tuple[bool, float]]
    told: bool


def measure(
    words: Sequence[Word],
    recordings: Sequence[Recording],
    fitted: Sequence[int],
    measured: Sequence[int],
    languages: Sequence[str],
) -> list[Measured]:
    """Fit on some recordings, measure on others."""
    inside = set(fitted)
    calibration = fit_confidence([w for w in words if w.recording in inside])
    rule = fit_identification([recordings[i] for i in fitted], languages)
    of_recording: dict[int, list[tuple[bool, float]]] = {}
    for word in words:
        sure = calibration.confidence(word.evidence)
        of_recording.setdefault(word.recording, []).append((word.right, sure))
    return [
        Measured(recordings[i].kind, of_recording.get(i, []), right(recordings[i], rule))
        for i in measured
    ]


def report(found: Sequence[Measured]) -> None:
    print("kind\twords\tright\tnce\trecordings\tlanguage right")
    for kind in ["all", *sorted({one.kind for one in found})]:
        heard = [one for one in found if kind in ("all", one.kind)]
        pairs = [pair for one in heard for pair in one.words]
        try:
            nce = normalised_cross_entropy([p[0] for p in pairs], [p[1] for p in pairs])
        except ValueError:
            nce = math.nan
        told = sum(one.told for one in heard) / max(1, len(heard))
        share = sum(p[0] for p in pairs) / max(1, len(pairs))
        print(f"{kind}\t{len(pairs)}\t{share:.3f}\t{nce:.3f}\t{len(heard)}\t{told:.3f}")


def left_out(recordings: Sequence[Recording], languages: Sequence[str]) -> None:
    """The share of languages told in kinds of speech of which the fit had seen nothing.

    A set is left out together with its twin in the other language, if there is one (``x-ta``, ``x-kn``).
    """

    def family(kind: str) -> str:
        name = kind.partition(" ")[0]
        base, _, end = name.rpartition("-")
        twins = {f"{base}-{code}" for code in languages}
        there = {r.kind.partition(" ")[0] for r in recordings}
        return base if end in languages and twins <= there else name

    families = sorted({family(r.kind) for r in recordings})
    for name in families:
        rest = [r for r in recordings if family(r.kind) != name]
        if len({r.language for r in rest}) < 2:
            continue
        rule = fit_identification(rest, languages)
        for kind in sorted({r.kind for r in recordings if family(r.kind) == name}):
            mine = [right(r, rule) for r in recordings if r.kind == kind]
            print(f"without {name}: {kind}\t{len(mine)}\t{sum(mine) / len(mine):.3f}")


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
    parser.add_argument("--jobs", type=int, default=1, help="processes that recognise")
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
        words, recordings = recognise(
            recogniser, read(arguments.manifests, arguments.most), arguments.jobs
        )
        if arguments.keep is not None:
            keep(arguments.keep, words, recordings)
    numbers = range(len(recordings))
    halves = [list(numbers[0::2]), list(numbers[1::2])]
    print("fitted on every second recording, measured on the others, and the other way round:")
    found = []
    for fitted, measured in (halves, halves[::-1]):
        found += measure(words, recordings, fitted, measured, recogniser.languages)
    report(found)
    left_out(recordings, recogniser.languages)
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
