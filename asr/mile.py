"""The IISc-MILE corpora (OpenSLR 126 Kannada, 127 Tamil; CC BY 2.0): layout, checks, splits.

``{train,test}/{audio_files,trans_files}/NAME.{wav,txt}``, perhaps below a folder or two. There is no
development part, and speakers occur in both parts (a third party counted 430 of the Tamil ones), so
besides the official split there is one in which no speaker is in two parts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional

from uyir.asr.corpus import Corpus, pair_files
from uyir.asr.prepare import Prepared, prepare, split, write_left_out, write_manifest
from uyir.errors import DataError

PARTS = ("train", "test")
#: Who speaks, at the beginning of a file's name: ISTL_0000202_..., MILE_03_SP_3415_UTT_...
SPEAKERS = {"ta": re.compile(r"([^_]+_[^_]+)_"), "kn": re.compile(r"(.+?)_UTT_")}
#: Utterances that the archives are said to hold; None where we know of no figure.
SIZES: dict[str, dict[str, Optional[int]]] = {
    "ta": {"train": 77314, "test": 12087},
    "kn": {"train": None, "test": 21891},
}


@dataclass(frozen=True)
class Split:
    """Rows of the three parts of a split."""

    train: list[Prepared]
    dev: list[Prepared]
    test: list[Prepared]


def find_root(folder: Path) -> Path:
    """The folder that holds ``train`` and ``test``; raises `DataError` saying what is wrong."""
    if folder.is_file():
        raise DataError("an archive: unpack it (tar -xf) and name the folder", folder)
    if not folder.is_dir():
        raise DataError("no such folder", folder)
    places = [folder, *sorted(p for p in folder.glob("*") if p.is_dir())]
    places += sorted(p for p in folder.glob("*/*") if p.is_dir())
    for place in places:
        if any((place / part).is_dir() for part in PARTS):
            for part in PARTS:
                for kind in ("audio_files", "trans_files"):
                    if not (place / part / kind).is_dir():
                        raise DataError(
                            "missing: the corpus is not unpacked whole", place / part / kind
                        )
            return place
    # The Kannada archives may unpack into a folder each.
    found = {part: sorted(folder.rglob(f"{part}/audio_files")) for part in PARTS}
    if all(found.values()):
        raise DataError(
            "train and test lie in different folders: move both into one",
            found["train"][0].parent,
        )
    raise DataError("no folder train or test in it: want the unpacked IISc-MILE corpus", folder)


def prepare_mile(
    folder: Path, language: str, out: Path, say: Callable[[str], None], dev_share: float = 0.02
) -> None:
    """Write manifests of the official and of the speaker-disjoint split under `out`.

    ``official/{train,dev,test}.tsv``: dev is speakers held out of the official training part.
    ``disjoint/{train,dev,test}.tsv``: the same dev, some speakers of the official test part, and the
    official training part without the speakers of both. What is left out is in ``left_out.tsv``.
    """
    if language not in SPEAKERS:
        raise DataError(f"language {language!r}, want {' or '.join(SPEAKERS)}")
    root = find_root(folder)
    corpus = Corpus()
    rows: dict[str, list[Prepared]] = {}
    for part in PARTS:
        here = Corpus()
        pair_files(
            root / part / "audio_files", here, root / part / "trans_files", SPEAKERS[language]
        )
        expected = SIZES[language][part]
        there = len(here.spoken)
        if not there:
            raise DataError("no recording with a transcript in it", root / part)
        if expected and there < expected:
            say(f"warning: {root / part}: {there} of {expected} utterances: not the whole corpus?")
        nameless = [s for s in here.spoken if s.speaker is None]
        for spoken in nameless:
            here.problem("with a name of another form", spoken.audio)
        here.spoken = [s for s in here.spoken if s.speaker is not None]
        rows[part] = prepare(here, language, say=say)
        corpus.problems += here.problems
        say(f"{part}: {len(rows[part])} utterances, {_hours(rows[part]):.2f} h")
    if corpus.problems:
        say(f"left out: {corpus.summary()}")
    write_left_out(out / "left_out.tsv", corpus)
    official, disjoint = make_splits(rows["train"], rows["test"], dev_share)
    both = speakers(rows["train"]) & speakers(rows["test"])
    say(
        f"speakers: {len(speakers(rows['train']))} in train, {len(speakers(rows['test']))} in test, "
        f"{len(both)} in both"
    )
    for name, parts in (("official", official), ("disjoint", disjoint)):
        for part, kept in vars(parts).items():
            write_manifest(out / name / f"{part}.tsv", kept)
            say(
                f"{name}/{part}: {len(kept)} utterances, {_hours(kept):.2f} h, "
                f"{len(speakers(kept))} speakers"
            )


def make_splits(
    train: list[Prepared], test: list[Prepared], dev_share: float
) -> tuple[Split, Split]:
    """The official split with a development part, and the speaker-disjoint one."""
    rest, dev = split(train, dev_share)
    official = Split(rest, dev, test)
    # Some of the test speakers, so that the training part does not lose all that are in both.
    unseen = [row for row in test if row.spoken.speaker not in speakers(dev)]
    _, chosen = split(unseen, max(0.1, dev_share))
    kept = [row for row in rest if row.spoken.speaker not in speakers(chosen)]
    return official, Split(kept, dev, chosen)


def speakers(rows: list[Prepared]) -> set[str]:
    """Who speaks."""
    return {row.spoken.speaker for row in rows if row.spoken.speaker}


def _hours(rows: list[Prepared]) -> float:
    return sum(row.duration for row in rows) / 3600
