"""Letter strings of many words at once, as arrays of numbers.

What `uyir.grammar.script` does with one word is done here with all words in step, where each is a
plain row of consonants with their vowel signs or virama, vowels and marks; the few other words
(a hiatus, a nukta, a vowel of several letters, what is no word at all) still go through it one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from uyir.grammar.script import compose, letters_of, load_script


class Words(NamedTuple):
    """Letter strings by number: word i is ``codes[starts[i] : starts[i] + sizes[i]]``."""

    codes: Any
    starts: Any
    sizes: Any


class Letters:
    """The letters of a script by number, from 1 on; 0 is no letter."""

    def __init__(self, language: str) -> None:
        self.letters = load_script(language).letters
        #: One more than there are letters.
        self.width = len(self.letters) + 1
        self._table = np.zeros(max(map(ord, self.letters)) + 2, dtype=np.uint8)
        self._table[[ord(letter) for letter in self.letters]] = np.arange(1, self.width)

    def codes(self, strings: Iterable[str]) -> Any:
        """The numbers of the letters of letter strings, one string after the other: [letter]."""
        points = code_points("".join(strings))
        return self._table[np.minimum(points, len(self._table) - 1)]


# What characters are, and what may stand before a character.
_OTHER, _CONSONANT, _SIGN, _VIRAMA, _VOWEL, _MARK, _EDGE = range(7)
_AFTER = {
    _CONSONANT: (_EDGE, _CONSONANT, _SIGN, _VIRAMA, _VOWEL, _MARK),
    _SIGN: (_CONSONANT,),
    _VIRAMA: (_CONSONANT,),
    _VOWEL: (_EDGE, _CONSONANT, _SIGN, _VOWEL, _MARK),
    _MARK: (_CONSONANT, _SIGN, _VOWEL),
}


class Encoder:
    """Makes letter strings of words of one language, and words of letter strings."""

    def __init__(self, language: str) -> None:
        self._language = language
        self._letters = Letters(language)
        script = load_script(language)
        signs = {sign: vowel for sign, vowel in script.signs.items() if len(sign) == 1}
        kinds = {
            **dict.fromkeys(script.consonants, _CONSONANT),
            **dict.fromkeys(signs, _SIGN),
            script.virama: _VIRAMA,
            **dict.fromkeys((v for v in script.vowels if v not in script.spelt), _VOWEL),
            **dict.fromkeys(script.marks, _MARK),
        }
        points = [ord(char) for char in kinds]
        self._kind = np.zeros(max(points) + 2, dtype=np.uint8)
        self._kind[points] = list(kinds.values())
        #: The letter that a character stands for by itself.
        self._letter = np.zeros(len(self._kind), dtype=np.uint8)
        self._letter[points] = self._letters.codes(
            signs.get(char, char) if char != script.virama else "?" for char in kinds
        )
        letters = self._letters.letters
        kind_of = {**kinds, **{letter: _OTHER for letter in letters if letter not in kinds}}
        #: By the number of a letter: what kind it is, and the characters that it stands as by itself, and
        #: that a vowel stands as after a consonant.
        self._kind_of = np.array([_EDGE, *(kind_of[letter] for letter in letters)], dtype=np.uint8)
        self._alone = np.array([0, *map(ord, letters)], dtype="<u4")
        self._sign = self._alone.copy()
        for sign, vowel in signs.items():
            self._sign[self._letters.codes([vowel])] = ord(sign)
        self._virama = ord(script.virama)
        self._inherent = self._letters.codes([script.inherent])[0]
        self._fits = np.zeros((_EDGE + 1, _EDGE + 1), dtype=bool)
        for kind, before in _AFTER.items():
            self._fits[list(before), kind] = True
        #: How many letters a character stands for, by its kind and that of the next.
        self._count = np.ones((_EDGE + 1, _EDGE + 1), dtype=np.int64)
        self._count[_VIRAMA] = 0
        self._count[_CONSONANT, [_CONSONANT, _VOWEL, _MARK, _EDGE]] = 2

    def encode(self, words: Sequence[str]) -> Words:
        """The letter strings of words; what is not a well-formed word of the language has no letters."""
        points = code_points("".join(words))
        lengths = lengths_of(words)
        ends = np.cumsum(lengths)
        points = np.minimum(points, len(self._kind) - 1)
        kind = self._kind[points]
        before, after = _neighbours(kind, ends - lengths)
        fits = _totals(self._fits[before, kind], ends)
        plain = (np.diff(fits, prepend=0) == lengths) & (lengths > 0)
        count = self._count[kind, after]
        upto = np.cumsum(count)
        codes = np.full(int(upto[-1]) if len(upto) else 0, self._inherent, dtype=np.uint8)
        written = np.flatnonzero(count)
        codes[(upto - count)[written]] = self._letter[points[written]]
        last = _totals(count, ends)
        sizes = np.diff(last, prepend=0)
        starts = last - sizes
        sizes[~plain] = 0
        others = np.flatnonzero(~plain).tolist()
        if others:
            strings = [letters_of(words[number], self._language) or "" for number in others]
            more = lengths_of(strings)
            starts[others] = len(codes) + np.cumsum(more) - more
            sizes[others] = more
            codes = np.concatenate([codes, self._letters.codes(strings)])
        return Words(codes, starts, sizes)

    def spell(self, strings: Sequence[str]) -> list[str]:
        """The words that letter strings spell; raises `ScriptError` as `compose` does."""
        codes, lengths = self._letters.codes(strings), lengths_of(strings)
        ends = np.cumsum(lengths)
        kind = self._kind_of[codes]
        before, after = _neighbours(kind, ends - lengths)
        odd = np.diff(_totals((kind == _OTHER) | (codes == 0), ends), prepend=0) > 0
        consonant, vowel = kind == _CONSONANT, kind == _VOWEL
        sign = vowel & (before == _CONSONANT)
        count = np.ones(len(kind), dtype=np.int64)
        count[consonant & (after != _VOWEL)] = 2
        count[sign & (codes == self._inherent)] = 0
        upto = np.cumsum(count)
        points = np.full(int(upto[-1]) if len(upto) else 0, self._virama, dtype="<u4")
        written = np.flatnonzero(count)
        point = np.where(sign, self._sign[codes], self._alone[codes])
        points[(upto - count)[written]] = point[written]
        text = points.tobytes().decode("utf-32-le")
        last = _totals(count, ends).tolist()
        words = [text[begin:end] for begin, end in zip([0, *last], last)]
        for number in np.flatnonzero(odd).tolist():
            words[number] = compose(strings[number], self._language)
        return words


def _neighbours(kind: Any, begins: Any) -> tuple[Any, Any]:
    """The kinds before and after each of some kinds, `_EDGE` where a word begins (at `begins`) or ends."""
    edge = np.zeros(len(kind) + 1, dtype=bool)
    edge[begins] = True
    edge[-1] = True
    before = np.where(edge[:-1], _EDGE, np.roll(kind, 1))
    return before, np.where(edge[1:], _EDGE, np.roll(kind, -1))


def _totals(counts: Any, ends: Any) -> Any:
    """The sums of ``counts[:end]`` for each of the ends."""
    return np.concatenate([[0], np.cumsum(counts)])[ends]


def code_points(text: str) -> Any:
    """The code points of a text: [character]."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def lengths_of(strings: Sequence[str]) -> Any:
    """How long strings are: [string]."""
    return np.fromiter(map(len, strings), dtype=np.int64, count=len(strings))


def spread(counts: Any) -> tuple[Any, Any]:
    """For each of ``counts[i]`` things, i by i: its i, and its number among the things of i."""
    owner = np.repeat(np.arange(len(counts)), counts)
    ends = np.cumsum(counts)
    return owner, np.arange(len(owner)) - (ends - counts)[owner]
