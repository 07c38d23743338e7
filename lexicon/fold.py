"""Fold IPA of many hands to one phone set, for comparing pronunciations."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from uyir.errors import DataError
from uyir.grammar.lists import read_table

FOLD_COLUMNS = ("ipa", "folded", "language", "note")
VOWELS = frozenset("aeiou")


class Fold:
    """Maps an IPA string to the phones that `lexicon/fold.tsv` folds it to."""

    def __init__(self, table: Iterable[tuple[str, tuple[str, ...]]]) -> None:
        self.table = {unicodedata.normalize("NFD", ipa): folded for ipa, folded in table}
        longest = sorted(self.table, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest)))

    def __call__(self, ipa: str) -> tuple[str, ...]:
        """Folded phones, equal neighbouring consonants once; a symbol not in the table stays."""
        text = unicodedata.normalize("NFD", "".join(ipa.split()))
        out: list[str] = []
        place = 0
        while place < len(text):
            match = self._pattern.match(text, place)
            phones = self.table[match.group()] if match else (text[place],)
            place = match.end() if match else place + 1
            for phone in phones:
                if not out or out[-1] != phone or phone[0] in VOWELS:
                    out.append(phone)
        return tuple(out)


@cache
def load_fold(language: str) -> Fold:
    """The fold of one language; rows without a language hold for all."""
    table: dict[str, tuple[str, ...]] = {}
    for row in read_table(Path(__file__).parent / "fold.tsv", FOLD_COLUMNS):
        if row["language"] not in ("", language):
            continue
        if row["ipa"] in table:
            raise DataError(f"{row['ipa']!r} is folded twice", row.path, row.line)
        table[row["ipa"]] = tuple(row["folded"].split())
    return Fold(table.items())
