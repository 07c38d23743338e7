"""Corrupted words: what a grammar must refuse, made from words that it accepts.

A word's pieces are changed in one place, in one of these ways, and spelt again:

- *reverse*: two neighbouring affixes change places
- *double*: an affix stands twice
- *delete*: an inner piece that the word cannot do without is left out: its tense, or what makes the
  oblique stem of a noun (the root then stands in its own form)
- *tense*: the marker of the same tense that only verbs of another class take
- *stem*: the stem allomorph for the same place that another paradigm class would have

A corrupted word may still be a word by chance (நண்பர்களால் → நண்பரால்), so `attested` words are left
out, and what still passes is read by hand. A result that is not well formed, or in which a vowel
stands right after a vowel, is left out, too: it would be refused for its letters alone.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple, Optional

from uyir.errors import ScriptError
from uyir.grammar.morphotactics import Entry, Lists, read_lists
from uyir.grammar.script import compose, decompose, is_wellformed, load_script
from uyir.grammar.segment import Segmenter

KINDS = ("reverse", "double", "delete", "tense", "stem")
#: Categories whose root has an oblique stem.
_NOMINAL = frozenset({"nouns", "pronouns", "numbers"})


class Corruption(NamedTuple):
    """A corrupted word: the kind of change, the word it was made from, the result."""

    kind: str
    word: str
    corrupted: str


class _Piece(NamedTuple):
    letters: str
    entry: Entry


class Corrupter:
    """Makes corrupted words of one language from words that its closed grammar accepts."""

    def __init__(self, segmenter: Segmenter, lists: Optional[Lists] = None) -> None:
        self.segmenter = segmenter
        self._language = segmenter.language
        self._lists = read_lists(self._language) if lists is None else lists
        self._vowels = frozenset(load_script(self._language).vowels)
        self._tenses: dict[str, list[Entry]] = {}
        for entry in segmenter.grammar.entries:
            tense = _feature(entry, "tense")
            if entry.kind != "prefix" and tense and _feature(entry, "style") is None:
                self._tenses.setdefault(tense, []).append(entry)

    def corruptions(self, word: str) -> Iterator[Corruption]:
        """Every corruption of an accepted word, each result once a kind, in a fixed order."""
        pieces = []
        for form, entry, _ in self.segmenter.path(word):
            if entry is None:
                return
            pieces.append(_Piece(decompose(form, self._language), entry))
        made = {
            "reverse": self._reversed(pieces),
            "double": self._doubled(pieces),
            "delete": self._deleted(pieces),
            "tense": self._other_tense(pieces),
            "stem": self._other_stem(pieces),
        }
        for kind in KINDS:
            seen = {word}
            for letters in made[kind]:
                corrupted = self._spelt(letters)
                if corrupted is not None and corrupted not in seen:
                    seen.add(corrupted)
                    yield Corruption(kind, word, corrupted)

    def _spelt(self, parts: Sequence[str]) -> Optional[str]:
        letters = "".join(parts)
        if any(a in self._vowels and b in self._vowels for a, b in zip(letters, letters[1:])):
            return None
        try:
            word = compose(letters, self._language)
        except ScriptError:
            return None
        return word if is_wellformed(word, self._language) else None

    def _reversed(self, pieces: list[_Piece]) -> Iterator[list[str]]:
        parts = [piece.letters for piece in pieces]
        for i in range(1, len(parts) - 1):
            yield [*parts[:i], parts[i + 1], parts[i], *parts[i + 2 :]]

    def _doubled(self, pieces: list[_Piece]) -> Iterator[list[str]]:
        parts = [piece.letters for piece in pieces]
        for i in range(1, len(parts)):
            yield [*parts[: i + 1], *parts[i:]]

    def _deleted(self, pieces: list[_Piece]) -> Iterator[list[str]]:
        parts = [piece.letters for piece in pieces]
        for i in range(1, len(parts) - 1):
            if _feature(pieces[i].entry, "tense"):
                yield parts[:i] + parts[i + 1 :]
        root = pieces[0].entry
        if root.category in _NOMINAL and len(parts) > 1 and parts[0] != root.letters:
            yield [root.letters, *parts[1:]]

    def _other_tense(self, pieces: list[_Piece]) -> Iterator[list[str]]:
        parts = [piece.letters for piece in pieces]
        for i in range(1, len(parts)):
            entry = pieces[i].entry
            for other in self._tenses.get(_feature(entry, "tense") or "", ()):
                if other.letters in (entry.letters, parts[i]):
                    continue
                if set(other.classes).intersection(entry.classes):
                    continue  # a variant that verbs of the same class take
                before = list(parts[:i])
                if other.letters[0] not in self._vowels:
                    before[-1] = pieces[i - 1].entry.letters
                yield [*before, other.letters, *parts[i + 1 :]]

    def _other_stem(self, pieces: list[_Piece]) -> Iterator[list[str]]:
        root, rest = pieces[0].entry, [piece.letters for piece in pieces[1:]]
        own = {name[1:] for name in root.next if name.startswith("=")}
        if not rest or not own:
            return
        # Where this stem leads, so that the other class's stem for the same place is taken.
        places = {
            state
            for letters, following in self._lists.stem_shapes(root)
            if letters == pieces[0].letters
            for state in following
        } - {"#"}
        known = {letters for letters, _ in self._lists.stem_shapes(root)}
        for name in sorted(set(self._lists.stems) - own):
            for row in self._lists.stems[name]:
                shape = self._lists.apply_stem_rule(row.rule, root.letters)
                if shape and shape != pieces[0].letters and places.intersection(row.next):
                    if shape in known and row.rule != "same":
                        continue
                    yield [shape, *rest]


def _feature(entry: Entry, name: str) -> Optional[str]:
    return dict(entry.features).get(name)


def sample_corruptions(
    corrupter: Corrupter,
    words: Iterable[str],
    attested: Collection[str],
    wanted: int,
    seed: int = 7,
) -> list[Corruption]:
    """About `wanted` corrupted words that are not attested: one of each kind that a word allows.

    The words are taken in random order, each corruption at random among those of its kind, both
    from `seed`; no corrupted word comes twice.
    """
    rng = random.Random(seed)
    order = sorted(set(words))
    rng.shuffle(order)
    found: dict[str, Corruption] = {}
    for word in order:
        if len(found) >= wanted:
            break
        by_kind: dict[str, list[Corruption]] = {}
        for corruption in corrupter.corruptions(word):
            if corruption.corrupted not in attested:
                by_kind.setdefault(corruption.kind, []).append(corruption)
        for choices in by_kind.values():
            chosen = rng.choice(choices)
            found.setdefault(chosen.corrupted, chosen)
    return list(found.values())
