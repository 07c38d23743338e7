"""Expanded grammars kept on disk: expanding the lists takes seconds, reading the result a fraction of one.

A grammar is kept as arrays (safetensors, nothing pickled) in the cache folder (`uyir.cache`) when a process
first expands it. The file's name has a hash of every list of the
language, of the code that expands them and of what is switched off, and the file a hash of its content: a file
whose hashes do not fit is not read but made again. Where the folder cannot be written nothing is kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Optional, TypeVar, Union, overload

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from uyir.cache import cache_folder
from uyir.grammar.lists import LANGUAGE_DATA
from uyir.grammar.morphotactics import (
    Entry,
    Grammar,
    OpenRow,
    SeamRule,
    State,
    compile_grammar,
)
from uyir.grammar.roots import Arc, Roots
from uyir.grammar.tables import Tables, array_names, tables_of

#: How many expanded grammars are kept (some 10 MB each): both languages, and a few with entries switched off.
MOST_FILES = 12
_CODE = (
    "letters.py",
    "lists.py",
    "morphotactics.py",
    "roots.py",
    "script.py",
    "store.py",
    "tables.py",
)
#: What the names of the arrays of `Tables` begin with in a file.
_TABLES = "tables."


def kept_grammar(
    language: str, without: frozenset[str] = frozenset(), data: Path = LANGUAGE_DATA
) -> Grammar:
    """The grammar of a language, from the cache if it is there, else expanded and kept."""
    key = _key(language, without, data)
    path = None
    with suppress(OSError, RuntimeError):  # no home folder
        path = cache_folder() / f"grammar-{language}-{key}.safetensors"
        if path.is_file():
            known = _read(path, key, data)
            if known is not None:
                with suppress(OSError):
                    os.utime(path)  # the least recently used go first
                return known
    grammar = compile_grammar(language, without, data)
    if path is not None:
        with suppress(OSError):
            _write(grammar, path, key, data)
    return grammar


def _key(language: str, without: frozenset[str], data: Path) -> str:
    digest = hashlib.sha256(json.dumps([language, sorted(without)]).encode())
    code = [Path(__file__).parent / name for name in _CODE]
    lists = sorted((data / language).rglob("*.tsv"))
    script = LANGUAGE_DATA / language / "script.tsv"
    for path in [*code, script, *lists]:
        name = path.relative_to(data / language).as_posix() if path in lists else path.name
        content = path.read_bytes() if path.is_file() else b""
        digest.update(f"\n{name}\n{len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


# --- what a file holds ---------------------------------------------------------------------------


_T = TypeVar("_T")


class _Made(Sequence[_T]):
    """A sequence whose elements are made when they are asked for."""

    def __init__(self, size: int, make: Callable[[int], _T]) -> None:
        self._size = size
        self._make = make

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, place: int) -> _T: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[_T]: ...
    def __getitem__(self, place: Union[int, slice]) -> Union[_T, Sequence[_T]]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(self._size))]
        if not -self._size <= place < self._size:
            raise IndexError(place)
        return self._make(place % self._size)


class _Lines(Sequence[str]):
    """The lines of a text, divided when one is asked for."""

    def __init__(self, text: Any, size: int) -> None:
        self._text = text
        self._size = size

    @cached_property
    def _lines(self) -> list[str]:
        return bytes(self._text).decode().split("\n")

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[str]:
        return iter(self._lines if self._size else ())

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[str]: ...
    def __getitem__(self, place: Union[int, slice]) -> Union[str, Sequence[str]]:
        return self._lines[place]


class _Kept(Grammar):
    """A grammar from a file; its entries are lines until they are asked for."""

    lines: Sequence[str]

    def labels(self, entry: int) -> tuple[str, str]:
        cells = self.lines[entry].split("\t", 7)
        return cells[2], cells[6]


def _entries(lines: Sequence[str], data: Path) -> Sequence[Entry]:
    """List lines, each an `Entry` made once."""
    paths: dict[str, Path] = {}

    @cache
    def entry(number: int) -> Entry:
        cells = lines[number].split("\t")
        path = paths.get(cells[9])
        if path is None:
            path = paths[cells[9]] = data / cells[9]
        return Entry(
            cells[0],
            cells[1],
            cells[2],
            cells[3],
            tuple(cells[4].split()),
            tuple(cells[5].split()),
            cells[6],
            tuple([(n, v) for n, _, v in (f.partition("=") for f in cells[7].split())]),
            float(cells[8]),
            path,
            int(cells[10]),
        )

    return _Made(len(lines), entry)


def _entry_line(entry: Entry, data: Path) -> str:
    return "\t".join(
        (
            entry.form,
            entry.letters,
            entry.category,
            entry.kind,
            " ".join(entry.classes),
            " ".join(entry.next),
            entry.gloss,
            " ".join(f"{name}={value}" for name, value in entry.features),
            repr(entry.weight),
            entry.path.relative_to(data).as_posix(),
            str(entry.line),
        )
    )


def _arcs(roots: Roots, letters: Sequence[str], arrays: dict[str, Any]) -> Sequence[Sequence[Arc]]:
    """The arcs that leave each state."""
    first = [*arrays["arc_first"].tolist(), len(letters)]
    targets, weights, entries = (
        memoryview(arrays[name]) for name in ("arc_target", "arc_weight", "arc_entry")
    )

    def leaving(state: int) -> Sequence[Arc]:
        if state == Grammar.START:
            return list(roots.arcs())
        begin = first[state]

        def arc(place: int) -> Arc:
            number = begin + place
            return Arc(letters[number], targets[number], weights[number], entries[number])

        return _Made(first[state + 1] - begin, arc)

    return _Made(len(first) - 1, cache(leaving))


def _text(lines: Iterable[str]) -> Any:
    return np.frombuffer("\n".join(lines).encode(), dtype=np.uint8)


def _digest(arrays: dict[str, Any]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}\n".encode())
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()


def _write(grammar: Grammar, path: Path, key: str, data: Path) -> None:
    roots = grammar.roots
    rest = [[] if state == Grammar.START else list(arcs) for state, arcs in enumerate(grammar.arcs)]
    flat = [arc for arcs in rest for arc in arcs]
    numbers = {id(entry): i for i, entry in enumerate(grammar.entries)}
    facts = {
        "language": grammar.language,
        "states": [list(state) for state in grammar.states],
        "seams": [
            [
                rule.name,
                rule.left.pattern,
                rule.right.pattern,
                rule.left_out,
                rule.right_out,
                rule.at,
            ]
            for rule in grammar.seam_rules
        ],
        "open": [[r.state, r.pattern.pattern, r.weight, r.min_letters] for r in grammar.open_rows],
        "chunks": grammar.chunks,
        "entries": len(grammar.entries),
        "unused": [numbers[id(entry)] for entry in grammar.unused],
    }
    arrays = {
        "facts": _text([json.dumps(facts, ensure_ascii=False)]),
        "entries": _text([_entry_line(entry, data) for entry in grammar.entries]),
        "root_letters": _text(roots.letters),
        "root_entry": np.asarray(roots.entries, dtype=np.int32),
        "kind_size": np.asarray([len(kind) for kind in roots.targets], dtype=np.int32),
        "kind_target": np.asarray([t for kind in roots.targets for t, _ in kind], dtype=np.int32),
        "kind_weight": np.asarray([w for kind in roots.targets for _, w in kind], dtype=np.float64),
        "arc_first": np.cumsum([0, *map(len, rest)], dtype=np.int32)[:-1].copy(),
        "arc_letters": _text([arc.letters for arc in flat]),
        "arc_target": np.asarray([arc.target for arc in flat], dtype=np.int32),
        "arc_weight": np.asarray([arc.weight for arc in flat], dtype=np.float64),
        "arc_entry": np.asarray([arc.entry for arc in flat], dtype=np.int32),
        **{_TABLES + name: array for name, array in tables_of(grammar).arrays().items()},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".part")
    os.close(handle)
    try:
        save_file(arrays, temporary, metadata={"key": key, "content": _digest(arrays)})
        os.replace(temporary, path)
        _drop_old(path.parent)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _drop_old(folder: Path) -> None:
    """Leave the files used last: each change of a list makes a new one."""
    files = sorted(folder.glob("grammar-*.safetensors"), key=lambda path: path.stat().st_mtime)
    for path in files[:-MOST_FILES]:
        with suppress(OSError):
            path.unlink()


def _read(path: Path, key: str, data: Path) -> Optional[Grammar]:
    """The grammar in a file, None if it is damaged or not the one wanted."""
    try:
        with safe_open(str(path), framework="np") as file:
            told = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return None
    if told.get("key") != key or told.get("content") != _digest(arrays):
        return None
    facts = json.loads(bytes(arrays["facts"]).decode())
    tables = Tables.from_arrays(
        facts["language"], {name: arrays[_TABLES + name] for name in array_names()}
    )
    ends = np.cumsum(arrays["kind_size"]).tolist()
    pairs = list(zip(arrays["kind_target"].tolist(), arrays["kind_weight"].tolist()))
    roots = Roots(
        _Lines(arrays["root_letters"], len(tables.root_kind)),
        memoryview(tables.root_kind),
        memoryview(tables.root_first),
        memoryview(arrays["root_entry"]),
        [tuple(pairs[begin:end]) for begin, end in zip([0, *ends], ends)],
    )
    lines = _Lines(arrays["entries"], facts["entries"])
    entries = _entries(lines, data)
    grammar = _Kept(
        facts["language"],
        entries,
        [
            SeamRule(name, re.compile(left), re.compile(right), left_out, right_out, tuple(at))
            for name, left, right, left_out, right_out, at in facts["seams"]
        ],
        [State(name, tuple(rules), rule) for name, rules, rule in facts["states"]],
        _arcs(roots, _Lines(arrays["arc_letters"], len(arrays["arc_target"])), arrays),
        [OpenRow(state, re.compile(p), weight, least) for state, p, weight, least in facts["open"]],
        facts["chunks"],
        [entries[number] for number in facts["unused"]],
    )
    grammar.lines = lines
    grammar.__dict__["_roots"] = roots
    grammar.__dict__["_tables"] = tables
    return grammar
