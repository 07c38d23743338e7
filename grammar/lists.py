"""TSV lists: one reader for every table of linguistic facts.

Lines that begin with ``#`` and empty lines are comments; the first other line names the columns.
Every value is NFC. An error names the file and the line.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Union

from uyir.errors import DataError

LANGUAGE_DATA = Path(__file__).parent
LANGUAGE_COLUMNS = ("code", "name")


@dataclass(frozen=True)
class Row:
    """One data line of a table: its values by column name, and where it stands."""

    values: dict[str, str]
    path: Path
    line: int

    def __getitem__(self, column: str) -> str:
        return self.values[column]

    def error(self, message: str) -> DataError:
        return DataError(message, self.path, self.line)


def read_table(path: Union[str, Path], columns: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of a TSV table that must have exactly these columns.

    Missing trailing cells are empty. Raises `DataError` for a wrong header, too many cells, text
    that is not UTF-8 or not NFC, and for space around a value.
    """
    path = Path(path)
    header_seen = False
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError("no such list", path) from None
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8: {error}", path) from None
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.rstrip("\r")
        if not line.strip() or line.startswith("#"):
            continue
        if unicodedata.normalize("NFC", line) != line:
            raise DataError("not in Unicode NFC", path, number)
        cells = line.split("\t")
        if not header_seen:
            if cells != list(columns):
                raise DataError(f"columns {cells}, want {list(columns)}", path, number)
            header_seen = True
            continue
        if len(cells) > len(columns):
            raise DataError(f"{len(cells)} cells, want at most {len(columns)}", path, number)
        for cell in cells:
            if cell != cell.strip():
                raise DataError(f"space around {cell!r}", path, number)
        cells += [""] * (len(columns) - len(cells))
        yield Row(dict(zip(columns, cells)), path, number)
    if not header_seen:
        raise DataError(f"empty list, want a header of {list(columns)}", path)


def language_names() -> dict[str, str]:
    """Code of each language -> its name in English, in the order of ``languages.tsv``."""
    return {
        row["code"]: row["name"]
        for row in read_table(LANGUAGE_DATA / "languages.tsv", LANGUAGE_COLUMNS)
    }
