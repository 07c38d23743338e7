"""What kind of word goes wrong, and which part of it: by the grammar's segmentation.

A word's category is that of its root's list (verbs, nouns, pronouns, numbers, other). A root that no
list has is what its endings make it, and a noun without any; digits are numbers. A wrong word is
wrong in its *root*, in its *affixes*, in both, or it has no affixes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Optional

from uyir.errors import DataError
from uyir.grammar.lists import LANGUAGE_DATA
from uyir.grammar.pieces import Subword
from uyir.grammar.script import HIATUS, compose, decompose, is_wellformed, load_script
from uyir.grammar.segment import Segmentation, Segmenter

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

    root: str  # as its list has it, with its category; empty for an unknown root
    root_letters: str
    letters: str
    affixes: tuple[Subword, ...]


class Kinds:
    """Categories and parts of words, each word looked at once."""

    def __init__(self, language: str, segmenter: Segmenter) -> None:
        self.language = self._language = language
        self._segmenter = segmenter
        self._found: dict[str, Segmentation] = {}
        self._categories: dict[str, str] = {}
        self._parts: dict[str, Optional[_Parts]] = {}
        self._accepted: dict[str, bool] = {}

    def learn(self, words: Iterable[str]) -> None:
        """Look at words before they are asked for."""
        new = [word for word in words if word not in self._categories]
        for word, found in self._segmenter.segment_known(new).items():
            if found is None:
                digits = any(char.isdigit() for char in word)
                self._categories[word] = "numbers" if digits else OTHER
            else:
                self._found[word] = found
                self._categories[word] = found.category

    def category(self, word: str) -> str:
        if word not in self._categories:
            self.learn([word])
        return self._categories[word]

    def position(self, ref: str, hyp: str) -> str:
        """Which part of a reference word is wrong in the word heard in its place."""
        a = self._look(ref)
        if a is None:
            return "no word"
        if not a.affixes:
            return "no affix"
        if not is_wellformed(hyp, self._language):
            return "both"
        letters = decompose(hyp, self._language)
        # Both parts may be there with something between them: an affix too many.
        if letters.startswith(a.root_letters):
            return "affix"
        ending = a.letters[len(a.root_letters) :]
        b = None
        if letters[0] == a.letters[0] and a.root and self._accepts(hyp):
            b = self._look(hyp)
        if b is not None and a.root == b.root:
            return "affix"  # another stem of the same root
        return "root" if letters.endswith(ending) else "both"

    def affixes(self, word: str, beside: Optional[str] = None) -> str:
        """A word's affixes with their glosses, as a label.

        Of a word that the grammar does not accept: its letters after the root of the word ``beside``.
        """
        if beside is not None and not self._accepts(word):
            root = self._look(beside)
            letters = decompose(word, self._language)
            rest = letters[len(root.root_letters) :] if root is not None else letters
            rest = rest.lstrip(HIATUS + load_script(self._language).nukta)
            return f"+{compose(rest, self._language)}" if rest else "(none)"
        parts = self._look(word)
        if parts is None or not parts.affixes:
            return "(none)"
        return " ".join(f"{x.marked} {x.gloss}".strip() for x in parts.affixes)

    def _accepts(self, word: str) -> bool:
        found = self._accepted.get(word)
        if found is None:
            found = self._accepted[word] = is_wellformed(
                word, self._language
            ) and self._segmenter.accepts(word)
        return found

    def _look(self, word: str) -> Optional[_Parts]:
        if word not in self._parts:
            self.learn([word])
            found = self._found.get(word)
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
        length = sum(len(decompose(piece.form, self._language)) for piece in pieces[:roots])
        entry = self._segmenter.path(found.word)[0][1] if found.closed else None
        root = f"{entry.category} {entry.form}" if entry is not None else ""
        return _Parts(root, letters[:length], letters, pieces[roots:])
