"""Units of recognition: how words are cut, by one of five means behind one interface.

    word          the commonest words as they are; every other word is ``<unk>``
    bpe           byte pair encoding: the commonest pair is merged, again and again
    bpe-extended  a larger BPE dictionary whose pieces get probabilities (maximum likelihood, or
                  Viterbi), loses those that are missed least, and cuts words at least cost
    morfessor     Morfessor Baseline: the dictionary of least description length
    grammar       the lists of a language's grammar (`uyir.grammar.segment`)

All give the same left and right marks (`m`, `m+`, `+m+`, `+m`), so that everything after is the same
code. Data-driven units are learnt over *atoms*, a letter each (with its nukta, or with the vowel that it
is spelled apart from), so that every piece can be written and pieces join back into the word.

Training them is in `uyir.grammar.unit_training`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol, Union

from uyir.errors import DataError, ScriptError
from uyir.grammar.cut import cheapest_cut
from uyir.grammar.join import mark
from uyir.grammar.morphotactics import Grammar, load_grammar
from uyir.grammar.script import HIATUS, compose, decompose, load_script
from uyir.grammar.segment import Segmenter
from uyir.grammar.text import read_lines, sentences

KINDS = ("word", "bpe", "bpe-extended", "morfessor", "grammar")
UNKNOWN = "<unk>"
#: Entries that stand alone in writing only: endings after digits. Nobody says them so.
UNSPOKEN = frozenset({"detached=yes"})
_DETACHED = frozenset(tuple(feature.split("=")) for feature in UNSPOKEN)

_HEADER = "# uyir units"
#: What a letter costs that no training word had.
_UNSEEN_COST = 20.0
#: Atoms of several characters are numbered from here while words are cut.
_PRIVATE = 0xF0000


class Units(Protocol):
    """What cuts words into marked subwords."""

    kind: str
    language: str

    def segment_all(self, words: Sequence[str]) -> list[tuple[str, ...]]:
        """The marked subwords of each well-formed word; ``(UNKNOWN,)`` where there are none."""
        ...

    def pieces(self) -> Iterator[str]:
        """Marked subwords that have to be known besides those that training words are cut into."""
        ...


# --------------------------------------------------------------------------------------------------
# Atoms


class Atoms:
    """Words of a language as strings of atoms, one character each, and back."""

    def __init__(self, language: str) -> None:
        self.language = language
        script = load_script(language)
        several = []
        for consonant in sorted(script.consonants):
            for base in (consonant, *([consonant + script.nukta] if script.nukta else [])):
                if len(base) > 1:
                    several.append(base)
                several += [base + HIATUS + vowel for vowel in sorted(script.vowels)]
        self._special = {text: chr(_PRIVATE + i) for i, text in enumerate(several)}
        self._letters = {char: text for text, char in self._special.items()}
        self._rare = (HIATUS, script.nukta) if script.nukta else (HIATUS,)
        self.single = sorted({*script.vowels, *script.consonants, *script.marks})

    def of(self, word: str) -> str:
        """The atoms of a well-formed word or piece; raises `ScriptError` for anything else."""
        letters = decompose(word, self.language)
        if not any(mark in letters for mark in self._rare):
            return letters
        out, begin = [], 0
        while begin < len(letters):
            for length in (4, 3, 2):
                text = letters[begin : begin + length]
                if text in self._special:
                    out.append(self._special[text])
                    break
            else:
                text = letters[begin]
                out.append(text)
            begin += len(text)
        return "".join(out)

    def word(self, atoms: str) -> str:
        """Ordinary spelling of a string of atoms."""
        return compose("".join(self._letters.get(char, char) for char in atoms), self.language)


# --------------------------------------------------------------------------------------------------
# Units


class WordUnits:
    """The words of a list as they are."""

    kind = "word"

    def __init__(self, language: str, words: Iterable[str]) -> None:
        self.language = language
        self.words = dict.fromkeys(words)

    def segment_all(self, words: Sequence[str]) -> list[tuple[str, ...]]:
        return [(word,) if word in self.words else (UNKNOWN,) for word in words]

    def pieces(self) -> Iterator[str]:
        yield from self.words


class _CutUnits(ABC):
    """Pieces of atoms; a subclass says how a word is cut."""

    kind = ""

    def __init__(self, language: str, costs: Mapping[str, float]) -> None:
        self.language = language
        self.atoms = Atoms(language)
        self.costs = dict(costs)
        self.longest = max(map(len, self.costs), default=1)

    @abstractmethod
    def cut(self, atoms: str) -> Sequence[str]:
        """The pieces of a word's atoms, in order."""

    def segment_all(self, words: Sequence[str]) -> list[tuple[str, ...]]:
        spell = lru_cache(maxsize=None)(self.atoms.word)
        return [mark([spell(piece) for piece in self.cut(self.atoms.of(word))]) for word in words]

    def pieces(self) -> Iterator[str]:
        """Every piece and every single letter with all marks: whatever `cut` gives, wherever it stands."""
        for atoms in sorted({*self.costs, *self.atoms.single}):
            piece = self.atoms.word(atoms)
            yield from (piece, piece + "+", "+" + piece + "+", "+" + piece)


class MergeUnits(_CutUnits):
    """Byte pair encoding: of the pairs of neighbours the cheapest known one is merged, until none is
    known. Costs are the order in which the merges were learnt."""

    kind = "bpe"

    def cut(self, atoms: str) -> Sequence[str]:
        parts = list(atoms)
        costs = self.costs
        while len(parts) > 1:
            best, place = math.inf, -1
            for i in range(len(parts) - 1):
                cost = costs.get(parts[i] + parts[i + 1])
                if cost is not None and cost < best:
                    best, place = cost, i
            if place < 0:
                break
            parts[place : place + 2] = [parts[place] + parts[place + 1]]
        return parts


class CostUnits(_CutUnits):
    """Pieces with costs (negative log probabilities): words are cut at least total cost."""

    def __init__(self, kind: str, language: str, costs: Mapping[str, float]) -> None:
        super().__init__(language, costs)
        self.kind = kind

    def cut(self, atoms: str) -> Sequence[str]:
        return cheapest_cut(atoms, self.costs, _UNSEEN_COST, self.longest)


class GrammarUnits:
    """The pieces of a language's lists; endings that stand alone in writing only are not spoken."""

    kind = "grammar"

    def __init__(self, language: str) -> None:
        self.language = language
        self.segmenter = Segmenter(load_grammar(language, UNSPOKEN))

    def segment_all(self, words: Sequence[str]) -> list[tuple[str, ...]]:
        return [found.marked for found in self.segmenter.segment_all(words)]

    def pieces(self) -> Iterator[str]:
        return self.segmenter.pieces()


# --------------------------------------------------------------------------------------------------
# Files


def write_units(path: Union[str, Path], units: Units) -> None:
    """Write units as a table: a header line with kind and language, then piece, tab, cost."""
    rows = [f"{_HEADER}\t{units.kind}\t{units.language}"]
    if isinstance(units, WordUnits):
        rows += [f"{word}\t{number}" for number, word in enumerate(units.words)]
    elif isinstance(units, _CutUnits):
        rows += [f"{units.atoms.word(piece)}\t{cost!r}" for piece, cost in units.costs.items()]
    Path(path).write_text("".join(row + "\n" for row in rows), encoding="utf-8")


def read_units(path: Union[str, Path]) -> Units:
    """Read what `write_units` wrote; raises `DataError` with the line for anything else."""
    lines = read_lines(path)
    header = next(lines, "").split("\t")
    if len(header) != 3 or header[0] != _HEADER or header[1] not in KINDS:
        raise DataError(f"not a table of units: want '{_HEADER}', kind, language", path, 1)
    _, kind, language = header
    atoms = Atoms(language)
    costs: dict[str, float] = {}
    for number, line in enumerate(lines, start=2):
        piece, tab, cost = line.partition("\t")
        try:
            key = piece if kind == "word" else atoms.of(piece)
            decompose(piece, language)
            value = float(cost)
        except (ScriptError, ValueError) as error:
            raise DataError(str(error), path, number) from None
        if not tab or not key or not math.isfinite(value):
            raise DataError(f"want piece, tab, cost; got {line!r}", path, number)
        costs[key] = value
    return make_units(kind, language, costs)


def make_units(kind: str, language: str, costs: Mapping[str, float]) -> Units:
    """Units of a kind from its pieces and their costs (of which the grammar needs none)."""
    if kind == "grammar":
        return GrammarUnits(language)
    if not costs:
        raise DataError(f"units of kind {kind!r} without a piece")
    if kind == "word":
        return WordUnits(language, costs)
    if kind == "bpe":
        return MergeUnits(language, costs)
    return CostUnits(kind, language, costs)


# --------------------------------------------------------------------------------------------------
# One cleaning for all


def unspoken_words(words: Iterable[str], language: str) -> set[str]:
    """The words that the grammar knows in writing only (endings after digits that are gone)."""
    grammar = load_grammar(language)
    begins = {
        arc.letters
        for arc in grammar.arcs[Grammar.START]
        if arc.entry >= 0 and _DETACHED & set(grammar.entries[arc.entry].features)
    }
    longest = max(map(len, begins), default=0)
    candidates = []
    for word in words:
        letters = decompose(word, language)
        if any(letters[:length] in begins for length in range(1, longest + 1)):
            candidates.append(word)
    if not candidates:
        return set()
    spoken, written = Segmenter(load_grammar(language, UNSPOKEN)), Segmenter(grammar)
    return {word for word in candidates if not spoken.accepts(word) and written.accepts(word)}


def spoken_sentences(
    paths: Iterable[Union[str, Path]], language: str, held_out: Iterable[Union[str, Path]] = ()
) -> list[list[str]]:
    """The sentences that units and models of all kinds are trained on, as lists of words.

    As `uyir.grammar.text.sentences` gives them: none with a word that is not well formed (digits,
    Latin letters), none that shares six words with held-out text; and none with an ending that
    stands alone, since what stood before it (digits) is gone.
    """
    lines = list(sentences(paths, language, held_out))
    bad = unspoken_words({word for line in lines for word in line}, language)
    return [line for line in lines if bad.isdisjoint(line)] if bad else lines
