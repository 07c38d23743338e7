"""Recordings with transcripts, in the layouts that people have them in.

`read_corpus` reads a folder of audio with text files, a Kaldi directory, NeMo's JSON Lines, Lhotse's
cuts or recordings with supervisions, and tables with a header (CSV, TSV, our own manifest). All are
read as data, by parsers of JSON and tables alone; commands in them are never run. What is wrong with
single entries is collected, not raised: one bad line does not stop ten thousand good ones.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional, Union

from uyir.asr.audio import AUDIO_SUFFIXES
from uyir.errors import DataError

AUDIO_COLUMNS = ("audio_filepath", "audio", "path", "file", "wav", "filename")
TEXT_COLUMNS = ("text", "sentence", "transcript", "transcription", "normalized_text")
ID_COLUMNS = ("id", "utterance", "utt_id", "name")
SPEAKER_COLUMNS = ("speaker", "client_id", "speaker_id", "spk")
LANGUAGE_COLUMNS = ("language", "lang", "locale")
TRANSCRIPT_SUFFIXES = (".txt", ".lab")

_STRETCH = re.compile(r"(.+\.i16)@(\d+)\+(\d+)")


@dataclass(frozen=True)
class Spoken:
    """A recording, or `duration` seconds of it from `start` on, and what is said in it."""

    id: str
    audio: Path
    text: str
    language: Optional[str] = None
    speaker: Optional[str] = None
    start: float = 0.0
    duration: Optional[float] = None  # None: to the end
    #: A stretch of a shard, ``@1600+32000``: the first sample and how many.
    stretch: str = ""


@dataclass(frozen=True)
class Problem:
    """Why an entry is left out; `kind` is what such entries are counted by."""

    kind: str
    where: str
    message: str


@dataclass
class Corpus:
    """What was found, and what was wrong with the rest."""

    spoken: list[Spoken] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def problem(self, kind: str, where: object, message: str = "") -> None:
        self.problems.append(Problem(kind, str(where), message))

    def summary(self) -> str:
        """How many entries were left out for which reason, or an empty text."""
        counts = Counter(problem.kind for problem in self.problems)
        return ", ".join(f"{count} {kind}" for kind, count in counts.most_common())


def read_corpus(path: Union[str, Path]) -> Corpus:
    """Read a corpus of any layout that shows in its files.

    A folder with ``wav.scp`` is a Kaldi directory; one with ``cuts.jsonl[.gz]``, or ``recordings`` and
    ``supervisions``, is Lhotse's; another one is searched for audio with transcripts. A file is a
    table (``.csv``, ``.tsv``) or JSON Lines (NeMo, Lhotse cuts). Raises `DataError` for anything else, and
    where nothing at all is found.
    """
    path = Path(path)
    corpus = Corpus()
    try:
        if path.is_dir():
            _read_folder_of_any_kind(path, corpus)
        elif path.suffix in (".csv", ".tsv"):
            _read_table(path, corpus)
        elif path.name.endswith((".json", ".jsonl", ".jsonl.gz")):
            _read_json_lines(path, corpus)
        elif not path.exists():
            raise DataError("no such corpus", path)
        else:
            raise DataError("want a folder, a .csv, .tsv, .json or .jsonl list", path)
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8: {error}", path) from None
    except (OSError, EOFError) as error:
        raise DataError(str(getattr(error, "strerror", None) or error), path) from None
    if not corpus.spoken and not corpus.problems:
        raise DataError("no recordings with transcripts in it", path)
    _drop_repeated(corpus)
    return corpus


def _drop_repeated(corpus: Corpus) -> None:
    seen: set[str] = set()
    kept = []
    for spoken in corpus.spoken:
        if spoken.id in seen:
            corpus.problem("with an id that stands twice", spoken.id, str(spoken.audio))
        else:
            seen.add(spoken.id)
            kept.append(spoken)
    corpus.spoken = kept


def _read_folder_of_any_kind(folder: Path, corpus: Corpus) -> None:
    if (folder / "wav.scp").is_file():
        _read_kaldi(folder, corpus)
        return
    for suffix in ("", ".gz"):
        if (folder / f"cuts.jsonl{suffix}").is_file():
            _read_json_lines(folder / f"cuts.jsonl{suffix}", corpus)
            return
        parts = [folder / f"{name}.jsonl{suffix}" for name in ("recordings", "supervisions")]
        if all(part.is_file() for part in parts):
            _read_lhotse(parts[0], parts[1], corpus)
            return
    pair_files(folder, corpus)
    if not corpus.spoken:
        tables = [p for p in sorted(folder.iterdir()) if p.suffix in (".csv", ".tsv", ".jsonl")]
        if len(tables) == 1:
            corpus.problems.clear()
            corpus.spoken = read_corpus(tables[0]).spoken


def pair_files(
    audio: Path,
    corpus: Corpus,
    transcripts: Optional[Path] = None,
    speaker: Optional[re.Pattern[str]] = None,
) -> None:
    """Pair the audio files under a folder with text files of the same name.

    The texts lie beside the audio, or under `transcripts`, in folders of the same names. The first
    group of `speaker`, matched at the beginning of a file's name, is who speaks. An audio file
    without a text is a problem, and a text without audio another one.
    """
    texts_in = transcripts or audio
    sounds: dict[str, Path] = {}
    for path in sorted(p for p in audio.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES):
        key = path.relative_to(audio).with_suffix("").as_posix()
        if key in sounds:
            corpus.problem("with an id that stands twice", path, f"beside {sounds[key].name}")
        elif not path.name.startswith("."):
            sounds[key] = path
    texts = {
        path.relative_to(texts_in).with_suffix("").as_posix(): path
        for path in sorted(p for p in texts_in.rglob("*") if p.suffix in TRANSCRIPT_SUFFIXES)
        if not path.name.startswith(".")
    }
    for key, path in sounds.items():
        if key not in texts:
            corpus.problem("audio without transcript", path)
            continue
        text = _read_text(texts[key], corpus)
        if text is None:
            continue
        who = speaker.match(path.stem) if speaker else None
        corpus.spoken.append(Spoken(key, path, text, speaker=who[1] if who else None))
    for key, path in texts.items():
        # A README.txt is no transcript.
        if key not in sounds and path.stem.upper() not in ("README", "LICENSE", "LICENCE"):
            corpus.problem("transcript without audio", path)


def _read_text(path: Path, corpus: Corpus) -> Optional[str]:
    try:
        return " ".join(path.read_text(encoding="utf-8-sig").split())
    except UnicodeDecodeError:
        corpus.problem("unreadable transcript", path, "not UTF-8")
    except OSError as error:
        corpus.problem("unreadable transcript", path, error.strerror or str(error))
    return None


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    opened: Any = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, line.rstrip("\r\n")


def _beside(folder: Path, name: str) -> Path:
    path = Path(name)
    return path if path.is_absolute() or not (folder / path).exists() else folder / path


# -- Kaldi -----------------------------------------------------------------------------------


def _kaldi_map(path: Path, corpus: Corpus, required: bool = False) -> dict[str, str]:
    if not required and not path.is_file():
        return {}
    found: dict[str, str] = {}
    for number, line in _lines(path):
        key, *rest = line.split(maxsplit=1)
        if key in found:
            corpus.problem("with an id that stands twice", f"{path}:{number}", key)
        found.setdefault(key, rest[0].strip() if rest else "")
    return found


def _read_kaldi(folder: Path, corpus: Corpus) -> None:
    recordings = _kaldi_map(folder / "wav.scp", corpus, required=True)
    if not (folder / "text").is_file():
        raise DataError("missing: a Kaldi directory has wav.scp and text", folder / "text")
    texts = _kaldi_map(folder / "text", corpus)
    speakers = _kaldi_map(folder / "utt2spk", corpus)
    languages = _kaldi_map(folder / "utt2lang", corpus)
    segments = _kaldi_map(folder / "segments", corpus)
    if not segments:
        segments = {name: f"{name} 0 -1" for name in recordings}
    for name, segment in segments.items():
        cells = segment.split()
        try:
            recording, start, end = cells[0], float(cells[1]), float(cells[2])
        except (IndexError, ValueError):
            corpus.problem("malformed", f"{folder / 'segments'}: {name}", segment)
            continue
        source = recordings.get(recording)
        if source is None:
            corpus.problem("transcript without audio", name, f"no recording {recording!r}")
        elif source.endswith("|") or source == "-":
            corpus.problem("a command, not a file", name, source)
        elif name not in texts:
            corpus.problem("audio without transcript", name)
        else:
            corpus.spoken.append(
                Spoken(
                    name,
                    _beside(folder, source),
                    texts[name],
                    languages.get(name),
                    speakers.get(name),
                    start,
                    None if end < 0 else end - start,
                )
            )
    for name in texts:
        if name not in segments:
            corpus.problem("transcript without audio", name)


# -- tables and NeMo -------------------------------------------------------------------------


def _first(columns: Iterable[str], row: Mapping[str, Any]) -> str:
    """The first of the columns that has a value."""
    return next((str(row[c]).strip() for c in columns if row.get(c) not in (None, "")), "")


def _read_table(path: Path, corpus: Corpus) -> None:
    with path.open(encoding="utf-8-sig", newline="") as file:
        if path.suffix == ".tsv":
            rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        else:
            rows = csv.DictReader(file)
        header = rows.fieldnames or ()
        for columns, what in ((AUDIO_COLUMNS, "audio"), (TEXT_COLUMNS, "text")):
            if not any(column in header for column in columns):
                raise DataError(f"no column of {what}: want {' or '.join(columns)}", path, 1)
        for row in rows:
            _add_row(path, rows.line_num, row, corpus, whole="start" not in header)


def _add_row(
    path: Path, line: int, row: Mapping[str, Any], corpus: Corpus, whole: bool = False
) -> None:
    where = f"{path}:{line}"
    audio, text = _first(AUDIO_COLUMNS, row), _first(TEXT_COLUMNS, row)
    if not audio:
        corpus.problem("transcript without audio", where, text)
        return
    if not text:
        corpus.problem("audio without transcript", where, audio)
        return
    stretch = _STRETCH.fullmatch(audio)
    name = stretch[1] if stretch else audio
    start = _first(("start", "offset"), row) or "0"
    duration = _first(("duration",), row)
    try:
        begin = float(start)
        # A duration without a start is the whole file's, and may be rounded.
        length = float(duration) if duration and (stretch or begin or not whole) else None
    except ValueError:
        corpus.problem("malformed", where, f"start {start!r}, duration {duration!r}")
        return
    corpus.spoken.append(
        Spoken(
            _first(ID_COLUMNS, row) or Path(name).with_suffix("").as_posix(),
            _beside(path.parent, name),
            text,
            _first(LANGUAGE_COLUMNS, row) or None,
            _first(SPEAKER_COLUMNS, row) or None,
            begin,
            length,
            f"@{stretch[2]}+{stretch[3]}" if stretch else "",
        )
    )


def _read_json_lines(path: Path, corpus: Corpus) -> None:
    for number, line in _lines(path):
        where = f"{path}:{number}"
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            if number == 1:
                raise DataError(f"not JSON Lines: {error}", path, 1) from None
            corpus.problem("malformed", where, str(error))
            continue
        if not isinstance(row, dict):
            corpus.problem("malformed", where, "want a JSON object")
        elif "recording" in row or "supervisions" in row:
            _add_cut(path.parent, where, row, corpus)
        else:
            _add_row(path, number, row, corpus, whole="offset" not in row)


# -- Lhotse ----------------------------------------------------------------------------------


def _add_cut(folder: Path, where: str, cut: Mapping[str, Any], corpus: Corpus) -> None:
    try:
        supervisions = cut.get("supervisions") or []
        if len(supervisions) != 1:
            corpus.problem(
                "audio without transcript" if not supervisions else "malformed",
                where,
                f"{len(supervisions)} supervisions, want one",
            )
            return
        said = supervisions[0]
        start = float(cut.get("start", 0.0)) + float(said.get("start", 0.0))
        duration = float(said.get("duration", cut["duration"]))
        _add_supervised(
            folder, where, str(cut["id"]), cut["recording"], said, start, duration, corpus
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        corpus.problem("malformed", where, f"{type(error).__name__}: {error}")


def _add_supervised(
    folder: Path,
    where: str,
    name: str,
    recording: Mapping[str, Any],
    said: Mapping[str, Any],
    start: float,
    duration: float,
    corpus: Corpus,
) -> None:
    source = recording["sources"][0]
    if source["type"] != "file":
        corpus.problem("a command, not a file", where, str(source["type"]))
        return
    whole = start == 0.0 and abs(duration - float(recording["duration"])) < 0.01
    corpus.spoken.append(
        Spoken(
            name,
            _beside(folder, str(source["source"])),
            str(said.get("text") or ""),
            said.get("language") or None,
            said.get("speaker") or None,
            start,
            None if whole else duration,
        )
    )


def _read_lhotse(recordings: Path, supervisions: Path, corpus: Corpus) -> None:
    by_id: dict[str, dict[str, Any]] = {}
    for number, line in _lines(recordings):
        try:
            row = json.loads(line)
            by_id[row["id"]] = row
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            corpus.problem("malformed", f"{recordings}:{number}", str(error))
    heard = set()
    for number, line in _lines(supervisions):
        where = f"{supervisions}:{number}"
        try:
            said = json.loads(line)
            recording = by_id.get(said["recording_id"])
            if recording is None:
                corpus.problem("transcript without audio", where, str(said["recording_id"]))
                continue
            heard.add(said["recording_id"])
            start, duration = float(said["start"]), float(said["duration"])
            folder = recordings.parent
            _add_supervised(
                folder, where, str(said["id"]), recording, said, start, duration, corpus
            )
        except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            corpus.problem("malformed", where, f"{type(error).__name__}: {error}")
    for name in by_id:
        if name not in heard:
            corpus.problem("audio without transcript", name)
