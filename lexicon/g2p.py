"""Pronunciation by rule: a cascade of ordered, named rewrite rules over the letters of a word.

Theory. A rule ``input -> output / left _ right`` rewrites every occurrence of its input that stands
between its contexts, left to right (Kaplan and Kay 1994; Mohri and Sproat 1996). The rules of a
language stand in ``lexicon/<language>/rules.tsv`` in the order in which they apply. They see the whole
word and its edges (`#`), never a neighbouring word, and they do not know where subwords meet: that is
what makes a pronunciation right across a seam. The alphabet is mixed while the cascade runs: letters
not yet rewritten, and phones.

A rule row with a weight is optional: at each site it may apply, at that cost (tropical; lower is
better), and so makes a variant. Rows without weight are obligatory and make the canonical
pronunciation, which costs 0.

>>> load_g2p("ta").pronounce("பாம்பு", variants=False)[0].phones
('p', 'aa', 'm', 'b', 'eu')

The same rows are compiled twice: to a cascade of pynini's ``cdrewrite`` for building graphs
(`G2p.fst`), and to regular expressions for pronouncing words without pynini (`G2p.pronounce`). Tests
hold the two equal on random words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from uyir.errors import DataError, ScriptError
from uyir.grammar.lists import Row, read_table
from uyir.grammar.script import decompose, load_script
from uyir.lexicon.symbols import Symbols, geminates, load_phones

if TYPE_CHECKING:
    import pynini

LANGUAGE_DATA = Path(__file__).parent
RULE_COLUMNS = ("name", "input", "output", "left", "right", "weight", "note")
CLASS_COLUMNS = ("class", "members", "note")
EXCEPTION_COLUMNS = ("stem", "where", "phones", "weight", "note")

EDGE = "#"
#: Stands for any opaque symbol (a splice marker); every rule takes it for a vowel.
OPAQUE = "\uf8ff"
#: Above this many letters a word gets its canonical pronunciation only: variants multiply by site.
MAX_VARIANT_LETTERS = 200
DEFAULT_LIMIT = 16
#: Dearer variants (dropped vowels, lenition) are left out unless asked for: they make graphs large.
DEFAULT_MAX_WEIGHT = 2.0

_PHONE_BASE = 0xE000


@dataclass(frozen=True)
class Pronunciation:
    """One pronunciation of a word: phone names, cost (0 canonical), names of the rules that fired."""

    phones: tuple[str, ...]
    weight: float
    rules: tuple[str, ...]

    @property
    def ipa(self) -> str:
        table = load_phones()
        return "".join(table[phone].ipa for phone in self.phones)


@dataclass(frozen=True)
class Rule:
    """One compiled row: strings over the mixed alphabet, one character a letter or phone."""

    name: str
    source: str
    target: str
    left: tuple[str, ...]  # each a set of characters, nearest last
    right: tuple[str, ...]
    weight: Optional[float]  # None: obligatory
    pattern: re.Pattern[str]

    @property
    def sees_itself(self) -> bool:
        """Whether what the rule changes may be left context of its next site."""
        return any(char in chars for chars in self.left for char in self.source + self.target)


def _pattern(source: str, left: Sequence[str], right: Sequence[str]) -> re.Pattern[str]:
    def one(chars: str) -> str:
        return re.escape(chars) if len(chars) == 1 else "[" + re.escape(chars) + "]"

    behind = f"(?<={''.join(map(one, left))})" if left else ""
    ahead = f"(?={''.join(map(one, right))})" if right else ""
    return re.compile(behind + re.escape(source) + ahead)


@cache
def phone_characters() -> tuple[dict[str, str], dict[str, str]]:
    """Phone name -> the character that stands for it in the cascade, and back."""
    names = {name: chr(_PHONE_BASE + number) for number, name in enumerate(load_phones())}
    return names, {char: name for name, char in names.items()}


class _Alphabet:
    """Reads the symbols of rule files: letters, phone names, ``{CLASS}`` and ``#``."""

    def __init__(self, language: str, folder: Path) -> None:
        self.letters = load_script(language).letters
        self.phones = {
            name: char
            for name, char in phone_characters()[0].items()
            if language in load_phones()[name].languages
        }
        self.classes: dict[str, str] = {}
        for row in read_table(folder / "classes.tsv", CLASS_COLUMNS):
            name = row["class"]
            if not re.fullmatch(r"[A-Z][A-Z_]*", name) or name in self.classes:
                raise row.error(f"bad or repeated class name {name!r}")
            members = "".join(self.sets(row, row["members"]))
            if not members:
                raise row.error(f"class {name!r} is empty")
            self.classes[name] = "".join(sorted(set(members)))

    def sets(self, row: Row, text: str) -> tuple[str, ...]:
        """Each symbol of a cell as the set of characters that it may be."""
        out = []
        for symbol in text.split():
            if symbol in self.letters or symbol == EDGE:
                out.append(symbol)
            elif symbol in self.phones:
                out.append(self.phones[symbol])
            elif symbol == "{OPAQUE}":
                out.append(OPAQUE)
            elif symbol[1:-1] in self.classes and symbol == "{" + symbol[1:-1] + "}":
                out.append(self.classes[symbol[1:-1]])
            else:
                raise row.error(f"{symbol!r} is neither a letter, a phone, a {{CLASS}} nor #")
        return tuple(out)

    def string(self, row: Row, text: str) -> str:
        """The symbols of a cell as one string; classes and edges cannot be rewritten."""
        out = self.sets(row, text)
        if EDGE in out or any(len(chars) != 1 for chars in out) or OPAQUE in out:
            raise row.error(f"{text!r}: only letters and phones can be rewritten")
        return "".join(out)


def _weight(row: Row) -> Optional[float]:
    if not row["weight"]:
        return None
    try:
        weight = float(row["weight"])
    except ValueError:
        raise row.error(f"weight {row['weight']!r} is not a number") from None
    if not 0 < weight < 100:
        raise row.error(f"weight {weight} is not between 0 and 100; a variant costs something")
    return weight


def _read_exceptions(language: str, folder: Path, alphabet: _Alphabet) -> Iterable[Rule]:
    """Loan stems whose sounds the spelling does not tell, as rules that come before all others."""
    for row in read_table(folder / "exceptions.tsv", EXCEPTION_COLUMNS):
        try:
            source = decompose(row["stem"], language)
        except ScriptError as error:
            raise row.error(str(error)) from None
        if row["where"] not in ("stem", "word"):
            raise row.error(f"where is {row['where']!r}, want stem or word")
        target = alphabet.string(row, row["phones"])
        left: tuple[str, ...] = (EDGE,)
        right = (EDGE,) if row["where"] == "word" else ()
        yield Rule(
            f"exception:{row['stem']}",
            source,
            target,
            left,
            right,
            _weight(row),
            _pattern(source, left, right),
        )


def _merges() -> Iterable[Rule]:
    """Equal consonants that meet, in a subword or at a seam, become the geminate phone."""
    chars = phone_characters()[0]
    for single, double in geminates().items():
        for first, second in dict.fromkeys([(single, single), (single, double), (double, single)]):
            source = chars[first] + chars[second]
            yield Rule(
                "merge_equal_consonants",
                source,
                chars[double],
                (),
                (),
                None,
                _pattern(source, (), ()),
            )


def read_rules(language: str, folder: Optional[Path] = None) -> tuple[Rule, ...]:
    """All rules of a language in order: exceptions, `rules.tsv`, merging of equal consonants.

    `folder` holds ``rules.tsv``, ``classes.tsv`` and ``exceptions.tsv``; the language's own if None.
    Raises `DataError` that names file and line.
    """
    folder = LANGUAGE_DATA / language if folder is None else folder
    alphabet = _Alphabet(language, folder)
    rules = list(_read_exceptions(language, folder, alphabet))
    for row in read_table(folder / "rules.tsv", RULE_COLUMNS):
        if not re.fullmatch(r"[a-z][a-z0-9_]*", row["name"]):
            raise row.error(f"bad rule name {row['name']!r}")
        source = alphabet.string(row, row["input"])
        if not source:
            raise row.error("a rule needs an input")
        target = alphabet.string(row, row["output"])
        left, right = alphabet.sets(row, row["left"]), alphabet.sets(row, row["right"])
        weight = _weight(row)
        pattern = _pattern(source, left, right)
        rules.append(Rule(row["name"], source, target, left, right, weight, pattern))
    return (*rules, *_merges())


@dataclass(frozen=True)
class _Partial:
    text: str
    weight: float
    rules: tuple[str, ...]


class G2p:
    """The pronunciation rules of one language. Make one with `load_g2p`."""

    def __init__(self, language: str, rules: Sequence[Rule]) -> None:
        self.language = language
        self.rules = tuple(rules)
        self._cache: dict[tuple[str, bool, float, int], list[Pronunciation]] = {}
        self._active: dict[tuple[bool, float], tuple[Rule, ...]] = {}

    def active(
        self, variants: bool = True, max_weight: float = DEFAULT_MAX_WEIGHT
    ) -> tuple[Rule, ...]:
        """The rules that apply: the obligatory ones, and optional ones up to a cost."""
        key = (variants, max_weight)
        if key not in self._active:
            self._active[key] = tuple(
                rule
                for rule in self.rules
                if rule.weight is None or (variants and rule.weight <= max_weight)
            )
        return self._active[key]

    # -- words, without pynini -------------------------------------------------------------

    def pronounce(
        self,
        word: str,
        variants: bool = True,
        max_weight: float = DEFAULT_MAX_WEIGHT,
        limit: int = DEFAULT_LIMIT,
    ) -> list[Pronunciation]:
        """The pronunciations of a word, best first; the first is the canonical one, of weight 0.

        `max_weight` leaves out optional rules that cost more, `limit` keeps the best so many
        pronunciations. A word of more than `MAX_VARIANT_LETTERS` letters gets only the canonical
        one. A vowel sign alone is read as its vowel. Raises `ScriptError` for an empty word and for
        one that is not well formed.
        """
        if not word:
            raise ScriptError("an empty word has no pronunciation")
        word = load_script(self.language).signs.get(word, word)
        return self.pronounce_letters(decompose(word, self.language), variants, max_weight, limit)

    def pronounce_letters(
        self,
        letters: str,
        variants: bool = True,
        max_weight: float = DEFAULT_MAX_WEIGHT,
        limit: int = DEFAULT_LIMIT,
    ) -> list[Pronunciation]:
        """As `pronounce`, of a letter string, in which phone characters may stand for letters."""
        if len(letters) > MAX_VARIANT_LETTERS:
            variants = False
        key = (letters, variants, max_weight, limit)
        known = self._cache.get(key)
        if known is None:
            known = self._derive(letters, variants, max_weight, limit)
            if len(self._cache) >= 200_000:
                self._cache.clear()
            self._cache[key] = known
        return list(known)

    def _derive(
        self, letters: str, variants: bool, max_weight: float, limit: int
    ) -> list[Pronunciation]:
        partials = [_Partial(EDGE + letters + EDGE, 0.0, ())]
        for rule in self.active(variants, max_weight):
            first = rule.source[0]
            for number, partial in enumerate(partials):
                if first not in partial.text:
                    continue
                if rule.weight is None:
                    text = _everywhere(rule, partial.text)
                    if text != partial.text:
                        fired = partial.rules
                        if rule.name not in fired:
                            fired = (*fired, rule.name)
                        partials[number] = _Partial(text, partial.weight, fired)
                else:
                    partials = _with_options(partials, rule, limit)
                    break
        best: dict[tuple[str, ...], Pronunciation] = {}
        for partial in partials:
            phones = self._phones(partial.text, letters)
            old = best.get(phones)
            if old is None or partial.weight < old.weight:
                best[phones] = Pronunciation(phones, round(partial.weight, 6), partial.rules)
        return sorted(best.values(), key=lambda p: (p.weight, p.phones))[:limit]

    def _phones(self, text: str, letters: str) -> tuple[str, ...]:
        names = phone_characters()[1]
        try:
            return tuple([names[char] for char in text[1:-1]])
        except KeyError as error:
            raise DataError(
                f"no rule of {self.language!r} pronounces {error.args[0]!r} in {letters!r}",
                LANGUAGE_DATA / self.language / "rules.tsv",
            ) from None

    # -- graphs, with pynini ---------------------------------------------------------------

    def fst(
        self,
        letters: Symbols,
        tokens: Symbols,
        variants: bool = True,
        max_weight: float = DEFAULT_MAX_WEIGHT,
    ) -> pynini.Fst:
        """The transducer of one closed word, letter ids -> token ids, by the same rules."""
        from uyir.lexicon.fst import word_transducer

        return word_transducer(self, letters, tokens, variants, max_weight)


def _everywhere(rule: Rule, text: str) -> str:
    """An obligatory rule applied from left to right."""
    if not rule.sees_itself:
        return rule.pattern.sub(rule.target, text)
    match = rule.pattern.search(text)
    while match is not None:
        begin, end = match.span()
        text = text[:begin] + rule.target + text[end:]
        match = rule.pattern.search(text, begin + len(rule.target))
    return text


def _with_options(partials: Sequence[_Partial], rule: Rule, limit: int) -> list[_Partial]:
    """Each partial derivation with an optional rule applied at every subset of its sites.

    Sites are visited from left to right, so that a left context is what earlier sites made of it.
    """
    cost = rule.weight or 0.0
    done: dict[str, _Partial] = {}
    front = [(partial, 0) for partial in partials]
    while front:
        going: dict[tuple[str, int], _Partial] = {}
        for partial, place in front:
            match = rule.pattern.search(partial.text, place)
            if match is None:
                old = done.get(partial.text)
                if old is None or partial.weight < old.weight:
                    done[partial.text] = partial
                continue
            begin, end = match.span()
            fired = partial.rules
            if rule.name not in fired:
                fired = (*fired, rule.name)
            text = partial.text[:begin] + rule.target + partial.text[end:]
            for new, after in (
                (partial, begin + 1),
                (_Partial(text, partial.weight + cost, fired), begin + len(rule.target)),
            ):
                known = going.get((new.text, after))
                if known is None or new.weight < known.weight:
                    going[new.text, after] = new
        ranked = sorted(going.items(), key=lambda item: (item[1].weight, item[0]))
        front = [(partial, place) for (_, place), partial in ranked[: 4 * limit]]
    return sorted(done.values(), key=lambda p: (p.weight, p.text))[: 4 * limit]


@cache
def load_g2p(language: str) -> G2p:
    """The G2P of a language; raises `DataError` for an unknown one or a malformed rule file."""
    load_script(language)  # names the languages there are
    return G2p(language, read_rules(language))
