"""Lint every tracked table: UTF-8, NFC, one header, whole rows, no stray space, no row twice, order.

A table whose comments hold a line ``# sorted by: COLUMN`` (or ``# sorted by: COLUMN, COLUMN``) must
stand in code-point order of those columns. Tables of one kind, named by a pattern below, must have the
columns that the kind has.
"""

from __future__ import annotations

import re
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Patterns are tried in order; a table that matches none may have columns of its own.
COLUMNS: list[tuple[str, list[str]]] = [
    ("grammar/*/script.tsv", ["letter", "kind", "sign", "features", "note"]),
    (
        "grammar/*/*/*fix.tsv",
        ["form", "class", "next", "gloss", "features", "weight", "note"],
    ),
    ("lexicon/phones.tsv", ["name", "ipa", "ta", "kn", "class", "note"]),
    ("uyir/demo/*/reference.tsv", ["id", "voice", "rate", "text", "novel"]),
]
SORTED_BY = re.compile(r"#\s*sorted by:\s*(.+)")
# Zero-width and directional characters look like nothing and break string equality.
INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")


def problems(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, what is wrong) for one table."""
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        yield 0, f"not UTF-8: {error}"
        return
    if text and not text.endswith("\n"):
        yield text.count("\n") + 1, "no newline at the end"
    header: list[str] = []
    sorted_by: list[str] = []
    seen: dict[tuple[str, ...], int] = {}
    before: tuple[str, ...] = ()
    for number, line in enumerate(text.split("\n"), start=1):
        if "\r" in line:
            yield number, "carriage return"
        if unicodedata.normalize("NFC", line) != line:
            yield number, "not in Unicode NFC"
        if INVISIBLE.search(line):
            yield number, "an invisible character (zero width, joiner or direction mark)"
        if match := SORTED_BY.match(line):
            sorted_by = [name.strip() for name in match[1].split(",")]
        if not line.strip() or line.startswith("#"):
            continue
        cells = line.split("\t")
        if any(cell != cell.strip() for cell in cells):
            yield number, "space around a value"
        if not header:
            header = cells
            yield from ((number, message) for message in header_problems(path, header, sorted_by))
            continue
        if len(cells) > len(header):
            yield number, f"{len(cells)} cells under {len(header)} columns"
            continue
        cells += [""] * (len(header) - len(cells))
        row = tuple(cells)
        if row in seen:
            yield number, f"the same row as line {seen[row]}"
        seen[row] = number
        key = tuple(cells[header.index(name)] for name in sorted_by if name in header)
        if key < before:
            yield number, f"out of order by {', '.join(sorted_by)}: {key} after {before}"
        before = key
    if not header:
        yield 0, "no header"


def header_problems(path: Path, header: list[str], sorted_by: list[str]) -> Iterator[str]:
    relative = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.as_posix()
    for pattern, columns in COLUMNS:
        # fnmatch's * crosses slashes, so the depth is compared too.
        if fnmatch(relative, pattern) and relative.count("/") == pattern.count("/"):
            if header != columns:
                yield f"columns {header}, want {columns}"
            break
    if len(set(header)) != len(header):
        yield f"a column twice in {header}"
    for name in sorted_by:
        if name not in header:
            yield f"sorted by {name}, which is no column"


def tracked_tables() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.tsv"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [ROOT / name for name in sorted(listed.splitlines()) if (ROOT / name).is_file()]


def main(arguments: list[str]) -> int:
    paths = [Path(name) for name in arguments] or tracked_tables()
    count = 0
    for path in paths:
        for line, message in problems(path):
            print(f"{path}:{line}: {message}", file=sys.stderr)
            count += 1
    print(f"{len(paths)} tables, {count} problems", file=sys.stderr)
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
