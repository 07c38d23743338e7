"""Lists of recordings in the formats of others: Lhotse cuts, Kaldi's wav.scp, NeMo's JSON Lines, CSV.

They are read as data, with parsers of JSON and tables alone; the toolkits are not needed. What would
run a program (a Kaldi pipe, a Lhotse source of type ``command``) is refused without leave.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional, Union

from uyir.decode.inputs import Input, named
from uyir.errors import DataError

_PATH_COLUMNS = ("audio_filepath", "path", "audio", "file", "wav", "filename")
_ID_COLUMNS = ("id", "utterance", "utt_id", "name")
_Row = tuple[int, dict[str, Any]]


def read_manifest(
    path: Union[str, Path], *, allow_commands: bool = False
) -> tuple[list[Input], list[str]]:
    """The inputs of a manifest, and what is wrong with single entries of it.

    Which kind it is shows in its name and first line: a folder with ``wav.scp`` (and ``segments``) or
    such a file; ``.csv`` and ``.tsv`` with a header; JSON Lines (also ``.gz``) of NeMo
    (``audio_filepath``) or Lhotse (cuts, recordings). Relative files are looked for beside the
    manifest, then in the working folder. Raises `DataError` for a manifest that is none of these.
    """
    path = Path(path)
    reader = _Reader(path, allow_commands)
    try:
        if path.is_dir():
            if not (path / "wav.scp").is_file():
                raise DataError("a folder without wav.scp", path)
            reader.kaldi(path / "wav.scp")
        elif path.suffix == ".scp":
            reader.kaldi(path)
        elif path.suffix in (".csv", ".tsv"):
            reader.table("," if path.suffix == ".csv" else "\t")
        else:
            reader.json_lines()
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8: {error}", path) from None
    except (OSError, EOFError) as error:
        raise DataError(str(getattr(error, "strerror", None) or error), path) from None
    if not reader.found and not reader.problems:
        raise DataError("no recordings in this manifest", path)
    return named(reader.found), reader.problems


class _Reader:
    def __init__(self, path: Path, allow_commands: bool) -> None:
        self.path = path
        self.allow_commands = allow_commands
        self.found: list[Input] = []
        self.problems: list[str] = []

    def problem(self, line: int, message: str, path: Optional[Path] = None) -> None:
        self.problems.append(f"{path or self.path}:{line}: {message}")

    def add(
        self,
        line: int,
        file: Optional[str],
        name: Optional[str],
        *,
        start: Any = None,
        duration: Any = None,
        channel: Any = None,
        command: Optional[str] = None,
        language: Any = None,
        source: Optional[Path] = None,
    ) -> None:
        """Add an entry, or a problem where its values make no sense."""
        try:
            begin = 0.0 if start in (None, "") else float(start)
            length = None if duration in (None, "") else float(duration)
            number = None if channel in (None, "") else int(channel)
        except (TypeError, ValueError) as error:
            self.problem(line, f"not a number: {error}", source)
            return
        if not 0.0 <= begin < 1e9 or (length is not None and not 0.0 < length < 1e9):
            self.problem(line, f"a part from {begin} s of {length} s is impossible", source)
            return
        if command is not None and not self.allow_commands:
            self.problem(
                line,
                f"{name}: runs the command {command!r}: refused without --allow-commands",
                source,
            )
            return
        if command is None and not file:
            self.problem(line, f"{name}: names no file", source)
            return
        where = Path(name or "") if command is not None else self._beside(str(file))
        self.found.append(
            Input(
                where,
                Path(name) if name else where if not where.is_absolute() else Path(where.name),
                start=begin,
                duration=length,
                channel=number,
                command=command,
                id=name or None,
                language=str(language) if language else None,
            )
        )

    def _beside(self, file: str) -> Path:
        path = Path(file)
        folder = self.path if self.path.is_dir() else self.path.parent
        if not path.is_absolute() and (folder / path).exists():
            return folder / path
        return path

    def kaldi(self, scp: Path) -> None:
        recordings: dict[str, tuple[int, str]] = {}
        for line, text in _lines(scp):
            name, _, value = text.partition(" ") if " " in text else text.partition("\t")
            if not value.strip():
                self.problem(line, f"{text!r}, want 'recording file'", scp)
            elif name in recordings:
                self.problem(line, f"recording {name!r} stands twice", scp)
            else:
                recordings[name] = (line, value.strip())
        segments = scp.parent / "segments"
        if not segments.is_file():
            for name, (line, value) in recordings.items():
                self._kaldi_entry(line, scp, name, value, None, None)
            return
        for line, text in _lines(segments):
            cells = text.split()
            if len(cells) not in (4, 5):
                self.problem(line, f"{text!r}, want 'utterance recording start end'", segments)
                continue
            if cells[1] not in recordings:
                self.problem(line, f"recording {cells[1]!r} is not in {scp.name}", segments)
                continue
            try:
                start, end = float(cells[2]), float(cells[3])
            except ValueError:
                self.problem(line, f"{text!r}: not a number", segments)
                continue
            value = recordings[cells[1]][1]
            # An end of -1 is the recording's.
            length = None if end < 0 else end - start
            self._kaldi_entry(line, segments, cells[0], value, start, length)

    def _kaldi_entry(
        self,
        line: int,
        where: Path,
        name: str,
        value: str,
        start: Optional[float],
        duration: Optional[float],
    ) -> None:
        times: dict[str, Any] = {"start": start, "duration": duration, "source": where}
        if value.endswith("|"):
            self.add(line, None, name, command=value[:-1].strip(), **times)
        elif value.startswith("|") or value == "-":
            self.problem(line, f"{name}: {value!r} cannot be read", where)
        else:
            self.add(line, value, name, **times)

    def table(self, separator: str) -> None:
        with self.path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, delimiter=separator)
            column = _first(_PATH_COLUMNS, rows.fieldnames or ())
            if column is None:
                raise DataError(f"no column {', '.join(_PATH_COLUMNS)} in its header", self.path, 1)
            for row in rows:
                self._named_row(rows.line_num, row, column)

    def _named_row(self, line: int, row: dict[str, Any], column: str) -> None:
        identity = _first(_ID_COLUMNS, [key for key, value in row.items() if value])
        start = row.get("start", row.get("offset"))
        duration = row.get("duration")
        end = row.get("end")
        if end not in (None, "") and duration in (None, ""):
            try:
                duration = float(str(end)) - float(start or 0.0)
            except ValueError:
                self.problem(line, f"not a number: {end!r}")
                return
        # A duration without a start is the whole file's.
        if start in (None, "") and end in (None, ""):
            duration = None
        self.add(
            line,
            row.get(column),
            str(row[identity]) if identity else None,
            start=start,
            duration=duration,
            channel=row.get("channel"),
            language=row.get("language", row.get("lang")),
        )

    def json_lines(self) -> None:
        for line, text in _lines(self.path):
            try:
                row = json.loads(text)
            except (json.JSONDecodeError, RecursionError) as error:
                if line == 1:
                    raise DataError(f"not JSON Lines: {error}", self.path, 1) from None
                self.problem(line, f"not JSON: {error}")
                continue
            if not isinstance(row, dict):
                self.problem(line, "want a JSON object")
            elif "audio_filepath" in row:
                self._named_row(line, row, "audio_filepath")
            elif "sources" in row:
                self._lhotse(line, row.get("id"), row, None, None, None)
            elif "recording" in row:
                self._cut(line, row)
            else:
                kind = row.get("type", "an object")
                self.problem(line, f"{kind} without audio_filepath, sources or recording")

    def _cut(self, line: int, row: dict[str, Any]) -> None:
        recording = row["recording"]
        channel = row.get("channel")
        if isinstance(channel, list):  # all of several channels: their mean
            channel = channel[0] if len(channel) == 1 else None
        if not isinstance(recording, dict):
            self.problem(line, "a cut without its recording")
            return
        self._lhotse(line, row.get("id"), recording, row.get("start"), row.get("duration"), channel)

    def _lhotse(
        self,
        line: int,
        name: Any,
        recording: dict[str, Any],
        start: Any,
        duration: Any,
        channel: Any,
    ) -> None:
        label = str(name or recording.get("id") or line)
        sources = recording.get("sources")
        if not isinstance(sources, list) or len(sources) != 1 or not isinstance(sources[0], dict):
            self.problem(line, f"{label}: want one source, of all channels")
            return
        kind, value = sources[0].get("type"), sources[0].get("source")
        if recording.get("transforms"):
            self.problem(line, f"{label}: its recording has transforms, which are not applied here")
        elif not isinstance(value, str) or kind not in ("file", "command"):
            self.problem(line, f"{label}: a source of type {kind!r} is not read, want 'file'")
        elif kind == "command":
            self.add(line, None, label, start=start, duration=duration, command=value)
        else:
            self.add(line, value, label, start=start, duration=duration, channel=channel)


def _first(wanted: tuple[str, ...], there: Any) -> Optional[str]:
    return next((name for name in wanted if name in there), None)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, line.strip()
