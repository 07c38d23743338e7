"""A user's lexicon: pronunciations that override the rules and extend them.

A line is a word or a marked subword, a tab, phones divided by spaces, and perhaps a tab and a weight (a
cost; 0 if there is none). Lines that begin with ``#`` and empty lines are comments. An entry that
stands on several lines has several pronunciations. For example::

    விக்ரம்	v i k r a m
    டிவி+	dx i v i	0.5

A word's entry replaces what the rules say of that word. A subword's entry (with ``+`` marks) replaces
the subword's letters by these phones wherever it is used; the rules still see them as context for its
neighbours, and equal consonants that meet still merge.
"""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Union

from uyir.errors import DataError, ScriptError
from uyir.grammar.join import MARK, bare, join
from uyir.grammar.script import decompose, load_script
from uyir.lexicon.g2p import (
    DEFAULT_LIMIT,
    DEFAULT_MAX_WEIGHT,
    Pronunciation,
    load_g2p,
    phone_characters,
)
from uyir.lexicon.symbols import load_phones

USER_RULE = "user_lexicon"


@dataclass(frozen=True)
class Entry:
    """One pronunciation of a user's word or subword."""

    phones: tuple[str, ...]
    weight: float

    @property
    def text(self) -> str:
        """The phones as characters of the rules' mixed alphabet."""
        return "".join(phone_characters()[0][phone] for phone in self.phones)


@dataclass(frozen=True)
class UserLexicon:
    """Entries by whole word and by marked subword."""

    language: str
    words: dict[str, tuple[Entry, ...]]
    subwords: dict[str, tuple[Entry, ...]]

    @classmethod
    def read(cls, path: Union[str, Path], language: str) -> UserLexicon:
        """Read a user's file; raises `DataError` that names the line of the first mistake."""
        load_script(language)
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror}", path) from None
        except UnicodeDecodeError as error:
            raise DataError(f"not UTF-8: {error}", path) from None
        words: dict[str, tuple[Entry, ...]] = {}
        subwords: dict[str, tuple[Entry, ...]] = {}
        for number, line in enumerate(text.split("\n"), start=1):
            line = unicodedata.normalize("NFC", line.rstrip("\r"))
            if not line.strip() or line.startswith("#"):
                continue
            try:
                key, entry = _parse(line, language)
            except (DataError, ScriptError) as error:
                raise DataError(str(error), path, number) from None
            table = subwords if MARK in key else words
            if any(entry.phones == old.phones for old in table.get(key, ())):
                raise DataError(f"{key!r} has this pronunciation twice", path, number)
            table[key] = (*table.get(key, ()), entry)
        return cls(language, words, subwords)


def _parse(line: str, language: str) -> tuple[str, Entry]:
    cells = [cell.strip() for cell in line.split("\t")]
    if len(cells) not in (2, 3):
        raise DataError(f"{len(cells)} columns, want word, tab, phones, and perhaps tab, weight")
    key, phones = cells[0], tuple(cells[1].split())
    if not bare(key) or MARK in bare(key):
        raise DataError(f"{key!r} is neither a word nor a marked subword")
    decompose(bare(key), language)
    if not phones:
        raise DataError(f"{key!r} has no phones")
    table = load_phones()
    for phone in phones:
        if phone not in table:
            raise DataError(
                f"{phone!r} in {key!r} is not a phone; see lexicon/phones.tsv: "
                + " ".join(name for name, known in table.items() if language in known.languages)
            )
    weight = 0.0
    if len(cells) == 3 and cells[2]:
        try:
            weight = float(cells[2])
        except ValueError:
            raise DataError(f"weight {cells[2]!r} of {key!r} is not a number") from None
        if not 0 <= weight < 100:
            raise DataError(f"weight {weight} of {key!r} is not between 0 and 100")
    return key, Entry(phones, weight)


def pronounce_subwords(
    marked: Sequence[str],
    language: str,
    user: Optional[UserLexicon] = None,
    variants: bool = True,
    max_weight: float = DEFAULT_MAX_WEIGHT,
    limit: int = DEFAULT_LIMIT,
) -> list[Pronunciation]:
    """The pronunciations of one word given as its subwords (or as one piece), best first.

    The rules read the joined word; a user's entry for the word, or else for a subword of it, comes
    first. A vowel sign alone is read as its vowel. Raises `ScriptError` for what is not well formed.
    """
    g2p = load_g2p(language)
    if len(marked) == 1:
        # A vowel sign alone is read as its vowel.
        marked = [load_script(language).signs.get(marked[0] or MARK, marked[0])]
    word = join(marked, language)
    if user is not None and word in user.words:
        made = [Pronunciation(e.phones, e.weight, (USER_RULE,)) for e in user.words[word]]
        return sorted(made, key=lambda p: (p.weight, p.phones))[:limit]
    if user is None or not any(subword in user.subwords for subword in marked):
        return g2p.pronounce(word, variants, max_weight, limit)
    pieces = []
    for subword in marked:
        mine = user.subwords.get(subword)
        plain = [(decompose(bare(subword), language), 0.0)]
        pieces.append([(e.text, e.weight) for e in mine] if mine else plain)
    best: dict[tuple[str, ...], Pronunciation] = {}
    for choice in itertools.islice(itertools.product(*pieces), limit):
        cost = sum(weight for _, weight in choice)
        text = "".join(piece for piece, _ in choice)
        for made_one in g2p.pronounce_letters(text, variants, max_weight, limit):
            new = Pronunciation(
                made_one.phones, round(made_one.weight + cost, 6), (USER_RULE, *made_one.rules)
            )
            old = best.get(new.phones)
            if old is None or new.weight < old.weight:
                best[new.phones] = new
    return sorted(best.values(), key=lambda p: (p.weight, p.phones))[:limit]
