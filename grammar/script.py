"""Script: letters, well-formedness and normalisation of Tamil and Kannada text.

An orthographic syllable (akshara) hides its letters: தா is the consonant த் and the vowel ஆ. All
grammar here works on *letter strings*, one character a letter: a consonant character stands for the
bare consonant, an independent vowel character for the vowel, wherever it stands in the word.

>>> decompose("தான்", "ta")
'தஆன'
>>> compose("தஆன", "ta")
'தான்'

Where a word writes virama + independent vowel (பிஎஸ்ஏ) the letter string has `HIATUS` between the
two, so that decomposing is one to one; no morpheme seam is ever put next to it. A vowel that is
written with several letters (ಆ್ಯ in ಆ್ಯಪ್) is one character too, the one that ``script.tsv`` gives it.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Optional

from uyir import LANGUAGES
from uyir.errors import DataError, ScriptError
from uyir.grammar.lists import LANGUAGE_DATA, read_table

#: Scores depend on the normaliser: raise this whenever `normalise` changes any output.
NORMALISER_VERSION = "2"

#: Stands in a letter string where the word writes virama + independent vowel.
HIATUS = "·"

#: Code points of a block of Unicode that holds a script of India.
_BLOCK = 0x80
SCRIPT_COLUMNS = ("letter", "kind", "sign", "features", "note")


@dataclass(frozen=True)
class Script:
    """The letters of one script, as read from ``grammar/<language>/script.tsv``."""

    language: str
    vowels: dict[str, str]  # independent vowel -> vowel sign ("" for the inherent vowel)
    consonants: frozenset[str]
    marks: frozenset[str]
    virama: str
    nukta: str
    features: dict[str, frozenset[str]]
    signs: dict[str, str] = field(default_factory=dict)  # vowel sign -> independent vowel
    #: Vowels that are written with several letters (ಆ್ಯ): letter -> how it stands by itself.
    spelt: dict[str, str] = field(default_factory=dict)

    def spelling(self, vowel: str) -> str:
        """How a vowel is written where no consonant is before it."""
        return self.spelt.get(vowel, vowel)

    @property
    def inherent(self) -> str:
        return self.signs[""]

    @property
    def letters(self) -> tuple[str, ...]:
        """Every character that can stand in a letter string, sorted."""
        extra = {self.nukta} if self.nukta else set()
        return tuple(sorted({*self.vowels, *self.consonants, *self.marks, *extra, HIATUS}))

    def having(self, *features: str) -> str:
        """The letters that have all these features, as one string in code point order."""
        wanted = set(features)
        return "".join(sorted(x for x, have in self.features.items() if wanted <= have))


@cache
def load_script(language: str) -> Script:
    """Read ``grammar/<language>/script.tsv``; raises `DataError` for an unknown language."""
    path = LANGUAGE_DATA / language / "script.tsv"
    if not re.fullmatch(r"[a-z]{2,3}", language) or not path.is_file():
        known = sorted(p.parent.name for p in LANGUAGE_DATA.glob("*/script.tsv"))
        raise DataError(f"unknown language {language!r}; there are {', '.join(known)}")
    vowels: dict[str, str] = {}
    consonants, marks = set(), set()
    features: dict[str, frozenset[str]] = {}
    virama = nukta = ""
    for row in read_table(path, SCRIPT_COLUMNS):
        letter, kind = row["letter"], row["kind"]
        features[letter] = frozenset({kind, *row["features"].split()})
        if kind == "vowel":
            vowels[letter] = row["sign"]
        elif kind == "consonant":
            consonants.add(letter)
        elif kind == "mark":
            marks.add(letter)
        elif kind == "virama":
            virama = letter
        elif kind == "nukta":
            nukta = letter
        else:
            raise row.error(f"unknown kind of letter {kind!r}")
    return Script(
        language,
        vowels,
        frozenset(consonants),
        frozenset(marks),
        virama,
        nukta,
        features,
        {sign: vowel for vowel, sign in vowels.items() if not _is_spelt(sign, virama)},
        {vowel: sign[1:] for vowel, sign in vowels.items() if _is_spelt(sign, virama)},
    )


def _is_spelt(sign: str, virama: str) -> bool:
    """Whether the sign of a vowel is the virama and letters: it has no sign of its own."""
    return len(sign) > 1 and sign[0] == virama


def decompose(word: str, language: str) -> str:
    """The letter string of a word or piece; raises `ScriptError` if it is not well formed.

    A piece may begin with any letter and end in a bare consonant: pieces are cut between letters.
    """
    script = load_script(language)
    out: list[str] = []
    pending = False  # a consonant whose vowel is not known yet
    after = 0  # where a vowel of several letters ends
    for position, char in enumerate(word):
        if position < after:
            continue
        spelt = next((v for v, s in script.spelt.items() if word.startswith(s, position)), None)
        if spelt is not None:
            if pending:
                out.append(script.inherent)
            out.append(spelt)
            pending = False
            after = position + len(script.spelt[spelt])
        elif char in script.consonants:
            if pending:
                out.append(script.inherent)
            out.append(char)
            pending = True
        elif char == script.nukta and char:
            if not pending:
                raise ScriptError(f"{word!r}: a nukta without a consonant at {position}")
            out.append(char)
        elif char == script.virama:
            if not pending:
                raise ScriptError(f"{word!r}: a virama without a consonant at {position}")
            pending = False
        elif char and char in script.signs:
            if not pending:
                raise ScriptError(f"{word!r}: a vowel sign without a consonant at {position}")
            out.append(script.signs[char])
            pending = False
        elif char in script.vowels and char not in script.spelt:
            if pending:
                out.append(script.inherent)
            elif position and word[position - 1] == script.virama:
                out.append(HIATUS)
            out.append(char)
            pending = False
        elif char in script.marks:
            if pending:
                out.append(script.inherent)
            out.append(char)
            pending = False
        else:
            raise ScriptError(
                f"{word!r}: {char!r} (U+{ord(char):04X}) is not a letter of {language!r}"
            )
    if pending:
        out.append(script.inherent)
    return "".join(out)


def compose(letters: str, language: str) -> str:
    """The word that a letter string spells; inverse of `decompose`."""
    script = load_script(language)
    out: list[str] = []
    bare = False  # the last letter was a consonant
    for char in letters:
        if char in script.vowels:
            out.append(script.vowels[char] if bare else script.spelling(char))
            bare = False
        elif char in script.consonants:
            if bare:
                out.append(script.virama)
            out.append(char)
            bare = True
        elif char == HIATUS:
            if not bare:
                raise ScriptError(f"{letters!r}: a hiatus without a consonant before it")
            out.append(script.virama)
            bare = False
        elif char == script.nukta and char and bare:
            out.append(char)
        elif char in script.marks:
            if bare:
                out.append(script.virama)
            out.append(char)
            bare = False
        else:
            raise ScriptError(f"{letters!r}: {char!r} is not a letter of {language!r}")
    if bare:
        out.append(script.virama)
    return "".join(out)


def is_wellformed(word: str, language: str) -> bool:
    """Whether a word is non-empty, in NFC, all in this script, and decomposes losslessly."""
    if not word or unicodedata.normalize("NFC", word) != word:
        return False
    try:
        letters = decompose(word, language)
        return compose(letters, language) == word
    except ScriptError:
        return False


class _Syllables(dict[str, str]):
    """Letter strings by orthographic syllable, each worked out when it first comes."""

    def __init__(self, script: Script) -> None:
        super().__init__()
        self._language = script.language

        def one_of(letters: Iterable[str]) -> str:
            return "[" + "".join(map(re.escape, sorted(letters))) + "]"

        single = one_of(v for v in script.vowels if v not in script.spelt)
        vowel = f"(?:{'|'.join([*map(re.escape, script.spelt.values()), single])})"
        mark = one_of(script.marks)
        nukta = re.escape(script.nukta) + "*" if script.nukta else ""
        signs = one_of(sign for sign in script.signs if sign)
        self.find = re.compile(
            f"{one_of(script.consonants)}{nukta}(?:{signs}|{script.virama}{vowel}?)?{mark}*"
            f"|{vowel}{mark}*|{mark}+"
        ).findall

    def __missing__(self, syllable: str) -> str:
        letters = decompose(syllable, self._language)
        if compose(letters, self._language) != syllable:
            raise ScriptError(f"{syllable!r} is not spelt as it should be")
        if unicodedata.normalize("NFC", syllable) != syllable:
            raise ScriptError(f"{syllable!r} is not in NFC")
        self[syllable] = letters
        return letters


@cache
def _syllables(language: str) -> _Syllables:
    return _Syllables(load_script(language))


def letters_of(word: str, language: str) -> Optional[str]:
    """The letter string of a well-formed word, None for anything else: `is_wellformed` and
    `decompose` at once, and much faster.

    A word is well formed exactly if it is a row of syllables that are: what begins a syllable never
    combines with what is before it.
    """
    table = _syllables(language)
    syllables = table.find(word)
    if not word or "".join(syllables) != word:
        return None
    try:
        return "".join([table[syllable] for syllable in syllables])
    except ScriptError:
        return None


_JOINERS = re.compile("[\u200b-\u200f\u2060\ufeff\u00ad]")
LOOKALIKE_COLUMNS = ("pattern", "replacement", "note")


@cache
def _lookalikes(language: str) -> tuple[tuple[re.Pattern[str], str], ...]:
    """Spellings that look like others, from ``grammar/<language>/lookalikes.tsv`` if there is one, in order."""
    load_script(language)
    path = LANGUAGE_DATA / language / "lookalikes.tsv"
    if not path.exists():
        return ()
    return tuple(
        (re.compile(row["pattern"]), row["replacement"])
        for row in read_table(path, LOOKALIKE_COLUMNS)
    )


@cache
def _plain_text() -> re.Pattern[str]:
    """Letters and signs of the scripts that there are languages for, and spaces: no digit, no punctuation."""
    blocks = [_block(x) * _BLOCK + place for x in LANGUAGES for place in range(_BLOCK)]
    letters = "".join(
        chr(code)
        for code in blocks
        if _is_word_character(chr(code)) and unicodedata.category(chr(code)) != "Nd"
    )
    return re.compile(f"[{letters} ]*")


def _is_word_character(char: str) -> bool:
    return char.isalnum() or unicodedata.category(char)[0] == "M"


class _Normal(dict[int, str]):
    """What a character becomes in normalised text, for `str.translate`; worked out when it first comes."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        if unicodedata.category(char) == "Nd":
            found = str(unicodedata.digit(char))
        else:
            found = char.lower() if _is_word_character(char) else " "
        self[code] = found
        return found


_NORMAL = _Normal()
_POINT = re.compile("['.,]")


def normalise(text: str, language: str) -> str:
    """Text as it is scored and as the language model sees it: words divided by single spaces.

    NFC; zero-width characters and soft hyphens removed; punctuation and symbols become spaces
    (a stop, comma or apostrophe between digits stays); Latin letters lower case; spellings that only
    look right (``lookalikes.tsv``) set right; digits of any script become 0 to 9.
    """
    text = unicodedata.normalize("NFC", text)
    text = _JOINERS.sub("", text)
    for pattern, replacement in _lookalikes(language):
        text = pattern.sub(replacement, text)
    if _plain_text().fullmatch(text):  # nearly all text: nothing below would change it
        return unicodedata.normalize("NFC", " ".join(text.split()))
    points = [
        at
        for at in map(re.Match.start, _POINT.finditer(text))
        if 0 < at < len(text) - 1 and text[at - 1].isdigit() and text[at + 1].isdigit()
    ]
    if points:
        parts = [text[a + 1 : b] for a, b in zip([-1, *points], [*points, len(text)])]
        marks = [text[at] for at in points]
        text = "".join(x + y for x, y in zip((p.translate(_NORMAL) for p in parts), [*marks, ""]))
    else:
        text = text.translate(_NORMAL)
    return unicodedata.normalize("NFC", " ".join(text.split()))


def words_of(text: str, language: str) -> list[str]:
    """The words of a normalised text that are well formed in this language's script."""
    return [w for w in normalise(text, language).split() if is_wellformed(w, language)]


def script_of(text: str) -> Optional[str]:
    """Which language's script most letters of a text belong to; None if neither."""
    blocks = Counter(ord(char) // _BLOCK for char in text)
    counts = {language: blocks[_block(language)] for language in LANGUAGES}
    best = max(counts, key=lambda language: counts[language])
    return best if counts[best] else None


@cache
def _block(language: str) -> int:
    """Which block of Unicode a language's letters are in."""
    return ord(load_script(language).virama) // _BLOCK
