"""Reading references and hypotheses: utterances by id, with what else the file says of each.

Every format ends as `Texts`. What cannot be right is refused with file and line: not UTF-8, a NUL, a
carriage return or byte order mark inside, an id twice, a line without id. A byte order mark at the
beginning and CRLF line ends are removed.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Optional, Union

from uyir import LANGUAGES
from uyir.asr.audio import AUDIO_SUFFIXES
from uyir.errors import DataError
from uyir.grammar.script import load_script

FORMATS = ("txt", "kaldi", "trn", "ctm", "stm", "csv", "tsv", "json")
_FORM_OF = {
    ".txt": "txt",
    ".trn": "trn",
    ".ctm": "ctm",
    ".stm": "stm",
    ".csv": "csv",
    ".tsv": "tsv",
    ".json": "json",
    ".jsonl": "json",
}
#: Which side a file is: a file may hold both texts (NeMo's manifests do).
ROLES = ("ref", "hyp")
TEXT_COLUMNS = {
    "ref": ("text", "sentence", "transcript", "ref", "reference", "ref_text"),
    "hyp": (
        *("pred_text", "hyp", "hypothesis", "hyp_text", "prediction"),
        *("text", "sentence", "transcript"),
    ),
}
ID_COLUMNS = ("id", "utterance_id", "utt_id", "utterance", "utt", "name")
#: Columns that name a recording: they say where the audio is, and the id where nothing else does.
AUDIO_COLUMNS = ("audio_filepath", "audio", "source", "path", "file")
#: Other names for what tables are made by.
ALIASES = {
    "client_id": "speaker",
    "speaker_id": "speaker",
    "spk": "speaker",
    "spk_id": "speaker",
    "dur": "duration",
}


@dataclass(frozen=True)
class Utterance:
    """One utterance as a file has it: its text, the line it stands in, and what else is said of it."""

    id: str
    text: str
    line: Optional[int] = None
    meta: Mapping[str, str] = field(default_factory=dict)
    audio: Optional[str] = None


@dataclass(frozen=True)
class Texts:
    """Utterances of a file by id, in its order.

    ``by_line``: the ids are line numbers. ``notes``: what a user ought to know of this file.
    """

    path: str
    utterances: dict[str, Utterance] = field(default_factory=dict)
    by_line: bool = False
    notes: tuple[str, ...] = ()

    @property
    def texts(self) -> dict[str, str]:
        return {name: utterance.text for name, utterance in self.utterances.items()}


@dataclass(frozen=True)
class Reading:
    """How a file is to be read; None means: by its name, or by the usual names of columns."""

    role: str = "ref"
    form: Optional[str] = None
    column: Optional[str] = None
    #: Ids that are paths of recordings: only the name, without folder and ending, or the path.
    full_paths: bool = False

    def id_of(self, name: str) -> str:
        """A recording's path without folder and ending; any other id as it is."""
        if self.full_paths or "." not in name:
            return name
        path = Path(name)
        return path.stem if path.suffix.lower() in AUDIO_SUFFIXES else name


def read_texts(
    path: Union[str, Path],
    form: Optional[str] = None,
    *,
    role: str = "ref",
    column: Optional[str] = None,
    full_paths: bool = False,
) -> Texts:
    """Read utterances from a file, a folder of `uyir transcribe`'s outputs, or ``-`` (stdin).

    ``form`` is one of `FORMATS`; None goes by the name's ending, ``txt`` on stdin, and no known ending
    means Kaldi's ``text`` (id first). ``txt`` is a line an utterance, its number the id. ``role`` and
    ``column`` choose the text in a table or JSON that has several. Ids that are paths of recordings
    become their names without folder and ending, unless ``full_paths``. Raises `DataError`.
    """
    reading = Reading(role, form, column, full_paths)
    if role not in ROLES:
        raise DataError(f"a text is {' or '.join(ROLES)}, not {role!r}")
    path = str(path)
    if path != "-" and Path(path).is_dir():
        return _read_folder(Path(path), reading)
    form = form_of(path, form)
    text = read_text(path)
    if form == "txt":
        lines = lines_of(text, path)
        found = {str(n): Utterance(str(n), line, n) for n, line in enumerate(lines, 1)}
        return Texts(path, found, by_line=True, notes=_notes(found.values(), path))
    utterances = by_id(_parser(form)(text, path, reading), path)
    return Texts(path, utterances, notes=_notes(utterances.values(), path))


def form_of(path: str, form: Optional[str]) -> str:
    """The format of a file: the one asked for, or by the ending of its name."""
    if form is None:
        form = _FORM_OF.get(Path(path).suffix.lower(), "kaldi") if path != "-" else "txt"
    if form not in FORMATS:
        raise DataError(f"unknown format {form!r}; there are {', '.join(FORMATS)}")
    return form


def _parser(form: str) -> Callable[[str, str, Reading], Iterator[Utterance]]:
    from uyir.decode.score import tables, timed

    parsers: dict[str, Callable[[str, str, Reading], Iterator[Utterance]]] = {
        "kaldi": _kaldi,
        "trn": _trn,
        "ctm": timed.read_ctm,
        "stm": timed.read_stm,
        "csv": tables.read_table,
        "tsv": tables.read_table,
        "json": tables.read_json,
    }
    return parsers[form]


def by_id(items: Iterable[Utterance], path: str) -> dict[str, Utterance]:
    """Utterances by id; raises `DataError` for an id that stands twice, naming both lines."""
    out: dict[str, Utterance] = {}
    for item in items:
        before = out.setdefault(item.id, item)
        if before is not item:
            where = f", first in line {before.line}" if before.line is not None else ""
            hint = ""
            if item.audio and before.audio and item.audio != before.audio:
                hint = f" ({before.audio}, {item.audio}: --full_paths takes the paths as ids)"
            raise DataError(f"utterance {item.id!r} stands twice{where}{hint}", path, item.line)
    return out


def read_text(path: str) -> str:
    """A file's text, UTF-8 without byte order mark; raises `DataError` with the line at fault."""
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise DataError(error.strerror or str(error), path) from None
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError("UTF-16, not UTF-8: save it as UTF-8", path, 1)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        byte = data[error.start]
        raise DataError(f"not UTF-8: {error.reason} (byte 0x{byte:02x})", path, line) from None
    for char, what in (
        ("\0", "a NUL in it: not a text file"),
        ("\ufeff", "a byte order mark in the middle: were files put together?"),
    ):
        if char in text:
            raise DataError(what, path, text[: text.index(char)].count("\n") + 1)
    return text


def lines_of(text: str, path: str) -> list[str]:
    """Lines without their ends, LF or CRLF; a carriage return inside a line is refused."""
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    if "\r" in text:
        for number, line in enumerate(lines, 1):
            line = lines[number - 1] = line[:-1] if line.endswith("\r") else line
            if "\r" in line:
                raise DataError(
                    "a carriage return inside the line: want LF or CRLF at its end", path, number
                )
    return lines


def _notes(utterances: Iterable[Utterance], path: str) -> tuple[str, ...]:
    broken = [item for item in utterances if "\ufffd" in item.text]
    if not broken:
        return ()
    where = f"line {broken[0].line}" if broken[0].line else f"utterance {broken[0].id!r}"
    return (
        f"{path}: {len(broken)} utterances hold U+FFFD, what a wrong decoding leaves; first {where}",
    )


def _kaldi(text: str, path: str, reading: Reading) -> Iterator[Utterance]:
    for number, line in enumerate(lines_of(text, path), 1):
        if line.strip():
            name, *rest = line.split(None, 1)
            yield Utterance(reading.id_of(name), rest[0].rstrip() if rest else "", number)


_TRN = re.compile(r"^(.*?)\s*\(([^()\s]+)\)\s*$")
_ALTERNATIVES = re.compile(r"\{.*/.*\}")


def _trn(text: str, path: str, reading: Reading) -> Iterator[Utterance]:
    for number, line in enumerate(lines_of(text, path), 1):
        if line.strip() and not line.startswith(";;"):
            match = _TRN.match(line)
            if match is None:
                raise DataError("no utterance id in brackets at its end", path, number)
            refuse_alternatives(match.group(1), path, number)
            yield Utterance(reading.id_of(match.group(2)), match.group(1), number)


def refuse_alternatives(text: str, path: str, number: int) -> None:
    if "{" in text and _ALTERNATIVES.search(text):
        raise DataError("alternatives { a / b } are not read: choose one", path, number)


def _read_folder(folder: Path, reading: Reading) -> Texts:
    """A folder of outputs, a file an utterance: json where there are any, else txt."""
    from uyir.decode.score.tables import read_json

    for suffix in (".json", ".txt") if reading.form is None else (f".{reading.form}",):
        found: dict[str, Utterance] = {}
        for file in sorted(folder.rglob(f"*{suffix}")):
            text = read_text(str(file))
            if suffix == ".json":
                items = list(read_json(text, str(file), reading))
            elif suffix == ".txt":
                items = [Utterance(reading.id_of(file.stem), " ".join(text.split()))]
            else:
                items = list(_parser(suffix[1:])(text, str(file), reading))
            for item in items:
                if item.id in found:
                    raise DataError(f"utterance {item.id!r} stands twice in this folder", file)
                found[item.id] = item
        if found:
            return Texts(str(folder), found, notes=_notes(found.values(), str(folder)))
    raise DataError("no transcripts (json or txt) in this folder", folder)


# --------------------------------------------------------------------------------------------------


def check_script(texts: Texts, language: str) -> tuple[str, ...]:
    """Refuse a text that is not in the script of its language; notes on single utterances that are not.

    Raises `DataError` with the first line at fault if more utterances are in another script than in this
    one, or if there is not one letter of it.
    """
    own = _letters(language)
    others = {other: _letters(other) for other in LANGUAGES if other != language}
    counted = 0
    foreign: dict[str, list[Utterance]] = {}
    lacking: list[Utterance] = []
    for item in texts.utterances.values():
        if own.search(item.text):
            counted += 1
            continue
        script = next(
            (other for other, pattern in others.items() if pattern.search(item.text)), None
        )
        if script is not None:
            foreign.setdefault(script, []).append(item)
        elif item.text.strip():
            lacking.append(item)
    for script, items in foreign.items():
        if len(items) > counted:
            raise DataError(
                f"in the script of {script!r}, not of {language!r} "
                f"({len(items)} of {len(texts.utterances)} utterances)",
                texts.path,
                items[0].line,
            )
    if lacking and not counted:
        raise DataError(f"not a letter of {language!r} in it", texts.path, lacking[0].line)
    return tuple(
        f"{texts.path}: {len(items)} utterances are in the script of {script!r}; "
        f"first {items[0].id!r}" + (f" in line {items[0].line}" if items[0].line else "")
        for script, items in foreign.items()
    )


def _letters(language: str) -> re.Pattern[str]:
    script = load_script(language)
    signs = "".join(script.signs) + "".join(script.vowels) + "".join(script.consonants)
    return re.compile(f"[{signs}{script.virama}]")


def with_metadata(texts: Texts, path: Union[str, Path]) -> Texts:
    """Add the columns of a file to the utterances of the same id.

    The file is a table (.csv, .tsv), JSON Lines, or one of Kaldi's two columns ``utt2spk``, ``utt2dur``,
    ``utt2gender``. Raises `DataError` where it has no utterance of these texts.
    """
    from uyir.decode.score.tables import read_metadata

    extra = read_metadata(str(path))
    known = [name for name in texts.utterances if name in extra]
    if not known:
        raise DataError(
            f"it has none of the utterances of {texts.path}, such as "
            f"{next(iter(texts.utterances), '')!r}",
            path,
        )
    utterances = dict(texts.utterances)
    for name in known:
        item, more = utterances[name], extra[name]
        utterances[name] = replace(
            item, meta={**item.meta, **more.meta}, audio=more.audio or item.audio
        )
    notes = texts.notes
    if len(known) < len(utterances):
        first = next(name for name in utterances if name not in extra)
        missing = len(utterances) - len(known)
        notes += (f"{path}: it says nothing of {missing} utterances, first {first!r}",)
    return replace(texts, utterances=utterances, notes=notes)
