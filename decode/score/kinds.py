"""What kind of word goes wrong, and which part of it: by the grammar's segmentation.

A word's category is that of its root's list (verbs, nouns, pronouns, numbers, other). A root that no
list has takes the category of the endings that it stands with, and is *other* without any; digits
are numbers. A wrong word is wrong in its *root*, in its *affixes*, in both, or it has no affixes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Optional

from uyir.errors import DataError
from uyir.grammar.lists import LANGUAGE_DATA
from uyir.grammar.script import decompose, is_wellformed
from uyir.grammar.segment import Segmentation, Segmenter, Subword

OTHER = "other"
#: Where a substituted word is wrong.
POSITIONS = ("root", "affix", "both", "no affix", "no word")


def categories_of(language: str) -> tuple[str, ...]:
    """The categories of a language's lists, ``other`` last."""
    folder = LANGUAGE_DATA / language
    if not folder.is_dir():
        raise DataError(f"unknown language {language!r}")
    names = sorted(p.name for p in folder.iterdir() if any(p.glob("prefix*.tsv")))
    return (*(name for name in names if name != OTHER), OTHER)


class _Parts(NamedTuple):
    """A word's root and affixes."""

    root: tuple[str, str]  # category, gloss; the gloss of an unknown root is empty
    root_letters: str
    letters: str
    affixes: tuple[Subword, ...]


class Kinds:
    """Categories and parts of words, each word looked at once."""

    def __init__(self, language: str, segmenter: Segmenter) -> None:
        self._language = language
        self._segmenter = segmenter
        self._found: dict[str, Optional[Segmentation]] = {}
        self._parts: dict[str, Optional[_Parts]] = {}

    def learn(self, words: Iterable[str]) -> None:
        """Segment many words at once, which is faster than one by one."""
        new = sorted({word for word in words if word not in self._found})
        fit = [word for word in new if is_wellformed(word, self._language)]
        self._found.update(dict.fromkeys(new))
        self._found.update(zip(fit, self._segmenter.segment_all(fit)))

    def category(self, word: str) -> str:
        if word not in self._found:
            self.learn([word])
        found = self._found[word]
        if found is None:
            return "numbers" if any(char.isdigit() for char in word) else OTHER
        if found.closed:
            return found.category
        return next((x.category for x in found.subwords if x.category != OTHER), OTHER)

    def position(self, ref: str, hyp: str) -> str:
        """Which part of a reference word is wrong in the word heard in its place."""
        a = self._look(ref)
        if a is None:
            return "no word"
        if not a.affixes:
            return "no affix"
        b = self._look(hyp)
        if b is None:
            return "both"
        known_root = a.root[1] != "" and a.root == b.root
        root = known_root or b.letters.startswith(a.root_letters)
        ending = a.letters[len(a.root_letters) :]
        affix = _glosses(a) == _glosses(b) or b.letters.endswith(ending)
        # Both may be right by themselves where something stands between them: an affix too many.
        return "affix" if root else "root" if affix else "both"

    def affixes(self, word: str) -> str:
        """A word's affixes with their glosses, as a label."""
        parts = self._look(word)
        if parts is None or not parts.affixes:
            return "(none)"
        return " ".join(f"{x.marked} {x.gloss}".strip() for x in parts.affixes)

    def _look(self, word: str) -> Optional[_Parts]:
        if word not in self._parts:
            if word not in self._found:
                self.learn([word])
            found = self._found[word]
            self._parts[word] = None if found is None else self._split(found)
        return self._parts[word]

    def _split(self, found: Segmentation) -> _Parts:
        pieces = found.subwords
        roots = 1
        if not found.closed:
            # An unknown root is cut into several pieces; what a list has has a gloss.
            while roots < len(pieces) and not pieces[roots].gloss:
                roots += 1
        letters = decompose(found.word, self._language)
        form = "".join(decompose(piece.form, self._language) for piece in pieces[:roots])
        root = (pieces[0].category, pieces[0].gloss)
        return _Parts(root, letters[: len(form)], letters, pieces[roots:])


def _glosses(parts: _Parts) -> tuple[str, ...]:
    return tuple(x.gloss or x.form for x in parts.affixes)
