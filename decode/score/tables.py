"""Utterances from tables (CSV, TSV) and JSON: ours, NeMo's manifests, anything with an id and a text."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from uyir.decode.score.read import (
    ALIASES,
    AUDIO_COLUMNS,
    ID_COLUMNS,
    TEXT_COLUMNS,
    Reading,
    Utterance,
    by_id,
    form_of,
    lines_of,
    read_text,
)
from uyir.errors import DataError

#: Not worth keeping of an utterance: texts, and what is longer than a table's cell.
_LONGEST_VALUE = 200
#: Kaldi's files of two columns, and what the second one is.
_KALDI_COLUMNS = {
    "utt2spk": "speaker",
    "utt2dur": "duration",
    "reco2dur": "duration",
    "utt2gender": "gender",
}


def read_table(text: str, path: str, reading: Reading) -> Iterator[Utterance]:
    """With a header that names an id and a text column, or two columns without: id, text."""
    rows = _rows(text, path, comma=form_of(path, reading.form) == "csv")
    first = next(rows, None)
    if first is None:
        return
    header = [_column(cell) for cell in first[1]]
    at = _find((*ID_COLUMNS, *AUDIO_COLUMNS), header)
    wanted = TEXT_COLUMNS[reading.role] if reading.column is None else (_column(reading.column),)
    words = _find(wanted, header)
    if reading.column is not None and words is None:
        raise DataError(f"no column {reading.column!r}; there are {', '.join(header)}", path, 1)
    if at is None or words is None:
        if len(first[1]) != 2:
            raise DataError(
                f"{len(first[1])} columns; want an id and a text, or a header that names a column "
                f"{' or '.join(ID_COLUMNS[:2])} and a column {wanted[0]}",
                path,
                first[0],
            )
        yield Utterance(reading.id_of(first[1][0]), first[1][1], first[0])
        header, at, words = [], 0, 1
    width = len(header) or 2
    for number, cells in rows:
        if len(cells) != width:
            raise DataError(f"{len(cells)} columns, want {width}", path, number)
        meta, audio = _meta(dict(zip(header, cells)), header[words] if header else "")
        if not cells[at]:
            raise DataError("no id", path, number)
        yield Utterance(reading.id_of(cells[at]), cells[words], number, meta, audio)


def _rows(text: str, path: str, comma: bool) -> Iterator[tuple[int, list[str]]]:
    if not comma:
        for number, line in enumerate(lines_of(text, path), 1):
            if line.strip():
                yield number, line.split("\t")
        return
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    begin = 1
    try:
        for cells in reader:
            if cells:
                yield begin, cells
            begin = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"not CSV: {error}", path, begin) from None


def _column(name: str) -> str:
    return name.strip().lower().replace(" ", "_")


def _find(names: Sequence[str], header: Sequence[str]) -> Optional[int]:
    return next((header.index(name) for name in names if name in header), None)


def _meta(row: Mapping[str, Any], text_key: str) -> tuple[dict[str, str], Optional[str]]:
    """What a row says besides id and text: values by column, and the recording."""
    meta: dict[str, str] = {}
    audio = None
    for key in AUDIO_COLUMNS:
        value = row.get(key)
        if audio is None and isinstance(value, str) and "." in value:
            audio = value
    texts = {text_key, *TEXT_COLUMNS["ref"], *TEXT_COLUMNS["hyp"]}
    for key, value in row.items():
        if key in texts or key in AUDIO_COLUMNS or key in ID_COLUMNS:
            continue
        if isinstance(value, (str, int, float)) and len(str(value)) <= _LONGEST_VALUE:
            meta[ALIASES.get(key, key)] = str(value)
    return meta, audio


def read_json(text: str, path: str, reading: Reading) -> Iterator[Utterance]:
    """Objects with an id and a text: one, a list of them, or one a line (JSON Lines)."""
    wanted = TEXT_COLUMNS[reading.role] if reading.column is None else (reading.column,)
    for value, number in _values(text, path):
        if not isinstance(value, dict):
            raise DataError("want objects with an 'id' (or 'source') and a 'text'", path, number)
        name, found_by = _name(value)
        key = next((key for key in wanted if isinstance(value.get(key), str)), None)
        if name is None or key is None:
            lacking = (
                "an 'id', 'source' or 'audio_filepath'" if name is None else f"a {wanted[0]!r}"
            )
            raise DataError(
                f"an object without {lacking}; want objects with an id and a text", path, number
            )
        meta, audio = _meta(value, key)
        name = reading.id_of(name)
        # NeMo: several utterances of one recording differ in their offset only.
        if found_by in AUDIO_COLUMNS and isinstance(value.get("offset"), (int, float)):
            name = f"{name}@{value['offset']:g}" if value["offset"] else name
        yield Utterance(name, value[key], number, meta, audio)


def _name(value: Mapping[str, Any]) -> tuple[Optional[str], str]:
    for key in (*ID_COLUMNS, *AUDIO_COLUMNS):
        found = value.get(key)
        if isinstance(found, (str, int)) and not isinstance(found, bool) and str(found):
            return str(found), key
    return None, ""


def _values(text: str, path: str) -> Iterator[tuple[Any, int]]:
    """The objects of a JSON text with the line each begins in."""
    decoder = json.JSONDecoder()
    position, line, counted = 0, 1, 0
    listed = text.lstrip()[:1] == "["
    closed = not listed
    if listed:
        position = text.index("[") + 1
    while True:
        while position < len(text) and (
            text[position].isspace() or (listed and text[position] == ",")
        ):
            position += 1
        line += text.count("\n", counted, position)
        counted = position
        if position == len(text):
            break
        if listed and text[position] == "]":
            closed = True
            if text[position + 1 :].strip():
                raise DataError("something after the list's end", path, line)
            break
        try:
            value, end = decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            at = line + text.count("\n", counted, error.pos)
            raise DataError(f"not JSON: {error.msg}", path, at) from None
        yield value, line
        position = end
    if not closed:
        raise DataError("not JSON: the list does not end", path, line)


def read_metadata(path: str) -> dict[str, Utterance]:
    """What a file says of utterances, by id; see `read.with_metadata`."""
    text, name = read_text(path), Path(path).name
    kaldi = _KALDI_COLUMNS.get(name)
    if kaldi is not None:
        rows: Iterator[Utterance] = _kaldi_column(text, path, kaldi)
    elif form_of(path, None) in ("csv", "tsv"):
        rows = _table_of_metadata(text, path)
    elif form_of(path, None) == "json":
        rows = _json_of_metadata(text, path)
    else:
        raise DataError(f"want a .csv, .tsv or .jsonl, or {', '.join(_KALDI_COLUMNS)}", path)
    return by_id(rows, path)


def _kaldi_column(text: str, path: str, column: str) -> Iterator[Utterance]:
    for number, line in enumerate(lines_of(text, path), 1):
        cells = line.split()
        if cells:
            if len(cells) != 2:
                raise DataError(f"{len(cells)} columns, want 2", path, number)
            yield Utterance(cells[0], "", number, {column: cells[1]})


def _table_of_metadata(text: str, path: str) -> Iterator[Utterance]:
    rows = _rows(text, path, comma=form_of(path, None) == "csv")
    header = [_column(cell) for cell in next(rows, (1, [""]))[1]]
    at = _find((*ID_COLUMNS, *AUDIO_COLUMNS), header)
    if at is None:
        raise DataError(f"no column {' or '.join(ID_COLUMNS[:3])} in its header", path, 1)
    for number, cells in rows:
        if len(cells) != len(header):
            raise DataError(f"{len(cells)} columns, want {len(header)}", path, number)
        meta, audio = _meta(dict(zip(header, cells)), "")
        yield Utterance(Reading().id_of(cells[at]), "", number, meta, audio)


def _json_of_metadata(text: str, path: str) -> Iterator[Utterance]:
    for value, number in _values(text, path):
        name, _ = _name(value) if isinstance(value, dict) else (None, "")
        if name is None:
            raise DataError("want objects with an 'id'", path, number)
        meta, audio = _meta(value, "")
        yield Utterance(Reading().id_of(name), "", number, meta, audio)
