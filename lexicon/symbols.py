"""Symbol tables: the phone tokens of the acoustic model, letters, and subwords.

A table gives every symbol its place in an order, 0 first. The phone set that both languages share is
``lexicon/phones.tsv``; its order is the order of the network's outputs, so it is only ever appended to.

>>> tokens = tokens_table()
>>> tokens.symbol(0), tokens.symbol(1), tokens.symbol(2)
('<blk>', '<spn>', 'a')
"""

from __future__ import annotations

import lzma
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Union

from uyir import LANGUAGES
from uyir.errors import DataError
from uyir.grammar.lists import read_table

LEXICON_DATA = Path(__file__).parent
PHONE_COLUMNS = ("name", "ipa", *LANGUAGES, "class", "note")

EPSILON = "<eps>"
BLANK = "<blk>"
#: A sound that is no speech in this language: noise, laughter, a foreign word.
SPOKEN_NOISE = "<spn>"
#: The end of a word: a letter of T's input and, in models that were taught it, a token of the network.
WORD_END = "|"


def table_file(path: Union[str, Path]) -> Path:
    """A table's file: the path itself, or where only that is there, the packed one beside it (``.xz``)."""
    path = Path(path)
    packed = path.with_name(path.name + ".xz")
    return packed if packed.is_file() and not path.is_file() else path


def table_bytes(path: Union[str, Path]) -> bytes:
    """What stands in a table's file, unpacked. Raises `OSError` or `lzma.LZMAError`."""
    path = table_file(path)
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


def pack_table(path: Union[str, Path]) -> Path:
    """Replace a table by its packed form; returns the new file."""
    path = Path(path)
    packed = path.with_name(path.name + ".xz")
    packed.write_bytes(lzma.compress(path.read_bytes(), preset=9))
    path.unlink()
    return packed


class Symbols:
    """An ordered table of distinct symbols, without space in them; ids count from 0."""

    def __init__(self, symbols: Iterable[str] = ()) -> None:
        self._symbols: list[str] = []
        self._ids: dict[str, int] = {}
        for symbol in symbols:
            if symbol in self._ids:
                raise DataError(f"symbol {symbol!r} stands twice in a table")
            self.add(symbol)

    def add(self, symbol: str) -> int:
        """The id of a symbol, which is appended if it is new."""
        known = self._ids.get(symbol)
        if known is not None:
            return known
        if not symbol or symbol.split() != [symbol]:
            raise DataError(f"{symbol!r} cannot be a symbol: it is empty or has space in it")
        self._ids[symbol] = len(self._symbols)
        self._symbols.append(symbol)
        return len(self._symbols) - 1

    @classmethod
    def read(cls, path: Union[str, Path]) -> Symbols:
        """Read a table of lines ``symbol id``, or the packed one of that name; raises `DataError` naming
        file and line."""
        path = table_file(path)
        try:
            text = table_bytes(path).decode("utf-8")
        except FileNotFoundError:
            raise DataError("no such symbol table", path) from None
        except UnicodeDecodeError as error:
            raise DataError(f"not UTF-8: {error}", path) from None
        except (lzma.LZMAError, EOFError) as error:
            raise DataError(f"not a whole .xz file: {error}", path) from None
        table = cls()
        for number, line in enumerate(text.split("\n"), start=1):
            if not line.strip():
                continue
            cells = line.split()
            if len(cells) != 2:
                raise DataError(f"want 'symbol id', got {line!r}", path, number)
            if cells[1] != str(len(table)):
                raise DataError(f"id {cells[1]} of {cells[0]!r}, want {len(table)}", path, number)
            if cells[0] in table:
                raise DataError(f"symbol {cells[0]!r} stands twice", path, number)
            table.add(cells[0])
        if not len(table):
            raise DataError("empty symbol table", path)
        return table

    def write(self, path: Union[str, Path]) -> None:
        """Write the table as lines ``symbol id``."""
        lines = [f"{symbol} {number}\n" for number, symbol in enumerate(self._symbols)]
        Path(path).write_text("".join(lines), encoding="utf-8")

    def id(self, symbol: str) -> int:
        """The id of a symbol; raises `DataError` for one that is not in the table."""
        try:
            return self._ids[symbol]
        except KeyError:
            raise DataError(f"symbol {symbol!r} is not among the table's {len(self)}") from None

    def symbol(self, number: int) -> str:
        """The symbol of an id; raises `DataError` for an id outside the table."""
        if not 0 <= number < len(self._symbols):
            raise DataError(f"id {number} is not among the table's {len(self)}")
        return self._symbols[number]

    def copy(self) -> Symbols:
        return Symbols(self._symbols)

    def __len__(self) -> int:
        return len(self._symbols)

    def __contains__(self, symbol: object) -> bool:
        return symbol in self._ids

    def __iter__(self) -> Iterator[str]:
        return iter(self._symbols)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Symbols) and self._symbols == other._symbols

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Symbols({len(self)})"


@dataclass(frozen=True)
class Phone:
    """One row of ``phones.tsv``."""

    name: str  # ASCII
    ipa: str
    languages: frozenset[str]
    features: frozenset[str]

    @property
    def is_vowel(self) -> bool:
        return "vowel" in self.features


@cache
def load_phones() -> dict[str, Phone]:
    """The shared phone set by ASCII name, in table order."""
    phones: dict[str, Phone] = {}
    seen: set[str] = set()
    for row in read_table(LEXICON_DATA / "phones.tsv", PHONE_COLUMNS):
        name, ipa = row["name"], row["ipa"]
        if not name.isascii() or not ipa or name in phones or ipa in seen:
            raise row.error(f"a phone needs an ASCII name and an IPA of its own: {name!r} {ipa!r}")
        languages = frozenset(language for language in LANGUAGES if row[language] == "+")
        if not languages:
            raise row.error(f"phone {name!r} belongs to no language")
        phones[name] = Phone(name, ipa, languages, frozenset(row["class"].split()))
        seen.add(ipa)
    return phones


def tokens_table(word_ends: bool = False) -> Symbols:
    """The token table: ``<blk>``, ``<spn>``, the phone set in the order of ``phones.tsv``, then, if words'
    ends are heard too, ``|``."""
    return Symbols([BLANK, SPOKEN_NOISE, *load_phones(), *([WORD_END] if word_ends else [])])


def geminates() -> dict[str, str]:
    """Short consonant -> its geminate; a consonant without one of its own maps to itself."""
    phones = load_phones()
    by_ipa = {phone.ipa: phone.name for phone in phones.values()}
    return {
        name: by_ipa.get(phone.ipa + "ː", name)
        for name, phone in phones.items()
        if not phone.is_vowel and "geminate" not in phone.features
    }
