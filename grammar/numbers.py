"""Numbers in digits to numbers in words and back, in plain Python.

    25-க்கு ◄──► இருபத்தைந்துக்கு        1000000 ◄──► பத்து லட்சம்

`NumberGrammar` searches the transducer that `uyir.grammar.number_machine` lays from a language's
tables, from either side.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Optional, Union

from uyir.errors import DataError, ScriptError
from uyir.grammar.lists import LANGUAGE_DATA
from uyir.grammar.number_machine import ENDING_MARK, TIMES, Arc, NumberTables, lay_arcs
from uyir.grammar.script import compose, decompose, normalise

Value = Union[int, Fraction]


@dataclass(frozen=True)
class Reading:
    """What a phrase says: its value, how it is written in digits, and the cost of the reading."""

    value: Value
    digits: str
    ending: str
    cost: float

    @property
    def text(self) -> str:
        return self.digits + (ENDING_MARK + self.ending if self.ending else "")


@dataclass(frozen=True)
class Span:
    """A number phrase in a sequence of words: ``words[start:end]``."""

    start: int
    end: int
    reading: Reading

    @property
    def text(self) -> str:
        return self.reading.text


def _as_value(label: str) -> Value:
    """The value of a label without its ending: 25, 3.14, 2½, 1½*100000."""
    number, _, scale = label.partition(TIMES)
    value = Fraction(0)
    if number and not number[-1].isdecimal():
        value = Fraction(unicodedata.numeric(number[-1]))
        number = number[:-1]
    if number:
        value += Fraction(number)
    if scale:
        value *= int(scale)
    return int(value) if value.denominator == 1 else value


_DIGITS = re.compile(r"(\d[\d,]*)(\.\d+)?")
#: 3/4 and 2 1/2, at the beginning of a token.
_QUOTIENT = re.compile(r"^(?:(\d+) )?(\d+)/(\d+)(?![\d/])")


class NumberGrammar:
    """Numbers of one language, both ways. Make it with `NumberGrammar.load`.

    >>> numbers = NumberGrammar.load("ta")
    >>> numbers.words(25)
    'இருபத்தைந்து'
    >>> numbers.parse("இருபத்தி அஞ்சு")
    [25]
    """

    END = 0

    def __init__(self, language: str, data: Path = LANGUAGE_DATA) -> None:
        tables = NumberTables(language, data)
        self.language = language
        #: Arcs by state; state 0 is final. `unused` names the lines of the lists that make no arc.
        self.arcs, self.START, self.limit, self.unused = lay_arcs(tables)
        self.fractions = {
            Fraction(unicodedata.numeric(n.value)): n.value
            for n in tables.numerals
            if n.is_fraction
        }
        #: Words that are other things more often than a number, when they stand alone.
        self._other_words = {compose(n.letters, language) for n in tables.numerals if not n.written}
        self._by_letter: list[dict[str, list[Arc]]] = []
        self._by_label: list[dict[str, list[Arc]]] = []
        for arcs in self.arcs:
            letter: dict[str, list[Arc]] = {}
            label: dict[str, list[Arc]] = {}
            for arc in arcs:
                letter.setdefault(arc.letters[0], []).append(arc)
                label.setdefault(arc.label[:1], []).append(arc)
            self._by_letter.append(letter)
            self._by_label.append(label)
        #: The first arcs by how many digits the number has.
        self._by_digits: dict[int, list[Arc]] = {}
        known: dict[int, frozenset[int]] = {}
        for arc in self.arcs[self.START]:
            for digits in self._digits_from(arc, known):
                self._by_digits.setdefault(digits, []).append(arc)
        self._best = lru_cache(maxsize=200_000)(self._search)

    @staticmethod
    @lru_cache(maxsize=4)
    def load(language: str) -> NumberGrammar:
        """The numbers of a language that comes with uyir; raises `DataError` if it has no tables."""
        return NumberGrammar(language)

    # Written → spoken.

    def words(self, value: Value) -> str:
        """A number in words, in the one form that we write.

        Takes integers from 0 and fractions of which the language has words (2½); raises
        `ScriptError` for others.
        """
        if isinstance(value, Fraction) and value.denominator > 1:
            whole, rest = int(value), value - int(value)
            if rest not in self.fractions or value < 0:
                raise ScriptError(f"no words of {self.language!r} for {value}")
            return self._spoken((str(whole) if whole else "") + self.fractions[rest])
        if not 0 <= value < self.limit:
            raise ScriptError(f"{value}: numbers go from 0 to {self.limit - 1}")
        return self._spoken(str(int(value)))

    def read(self, token: str) -> str:
        """A number as it stands in text, in words: 25, ௨௫, 1,00,000, 3.14, 2½, 3/4, 2 1/2, 25-க்கு, 25ஆம்.

        Raises `ScriptError` for what is no number.
        """
        plain = unicodedata.normalize("NFC", token)
        plain = "".join(
            str(unicodedata.digit(c)) if unicodedata.category(c) == "Nd" else c for c in plain
        )
        symbols = _old_symbols(plain)
        if symbols is not None:
            return self.words(symbols)
        plain = _QUOTIENT.sub(self._quotient, plain)
        signs = self.fractions.values()
        match = _DIGITS.match(plain)
        if not match and plain[:1] not in signs:
            raise ScriptError(f"{token!r} is no number")
        label, rest = "", plain
        if match:
            label = (match[1].replace(",", "").lstrip("0") or "0") + (match[2] or "")
            rest = plain[match.end() :]
        if rest and rest[0] in signs:
            label, rest = label + rest[0], rest[1:]
        rest = rest.lstrip(ENDING_MARK)
        try:
            ending = ENDING_MARK + decompose(rest, self.language) if rest else ""
        except ScriptError:
            raise ScriptError(f"{token!r} is no number") from None
        return self._spoken(label + ending)

    def _quotient(self, match: re.Match[str]) -> str:
        """A quotient that has a sign of its own as that sign: 2 1/2 as 2½. Others stay, and are no numbers."""
        part = Fraction(int(match[2]), int(match[3])) if int(match[3]) else None
        sign = self.fractions.get(part) if part is not None else None
        return match[0] if sign is None else (match[1] or "") + sign

    def _spoken(self, label: str) -> str:
        found = self._best(self.START, label)
        if found is None:
            raise ScriptError(f"no words of {self.language!r} for {label!r}")
        return self._compose(found[1])

    def _compose(self, letters: str) -> str:
        return " ".join(compose(part, self.language) for part in letters.split(" "))

    def _digits_from(self, arc: Arc, known: dict[int, frozenset[int]]) -> frozenset[int]:
        """How many digits may be written from an arc on, up to what is no digit."""
        digits = _leading_digits(arc.label)
        if digits < len(arc.label) or arc.target == self.END:
            return frozenset({digits})
        if arc.target not in known:
            known[arc.target] = frozenset(
                count
                for following in self.arcs[arc.target]
                for count in self._digits_from(following, known)
            )
        return frozenset(digits + count for count in known[arc.target])

    def _search(self, state: int, label: str) -> Optional[tuple[float, str]]:
        """The cheapest way to say the rest of a label from a state: (cost, letters)."""
        if state == self.END:
            return None if label else (0.0, "")
        best: Optional[tuple[float, str]] = None
        if state == self.START:
            choices = [self._by_digits.get(_leading_digits(label), [])]
        else:
            by_label = self._by_label[state]
            choices = [by_label.get(label[:1], []) if label else [], by_label.get("", [])]
        for arcs in choices:
            for arc in arcs:
                if not label.startswith(arc.label):
                    continue
                rest = self._best(arc.target, label[len(arc.label) :])
                if rest is not None:
                    found = (arc.weight + rest[0], arc.letters + rest[1])
                    if best is None or found < best:
                        best = found
        return best

    # Spoken → written.

    def parse(self, text: str) -> list[Value]:
        """Every value that a phrase in words may have, the best reading first; [] if it is none.

        Ordinals, case endings and clitics are left aside; `readings` tells them.
        """
        return list(dict.fromkeys(reading.value for reading in self.readings(text)))

    def readings(self, text: str) -> list[Reading]:
        """Every reading of a phrase in words, cheapest first."""
        letters = self._letters(text.split())
        if letters is None:
            return []
        labels: dict[str, float] = {}
        for position, state, label, cost in self._run(letters):
            if position == len(letters) and state == self.END:
                labels[label] = min(cost, labels.get(label, cost))
        found: dict[tuple[Value, str], Reading] = {}
        for label, cost in sorted(labels.items(), key=lambda item: (item[1], item[0])):
            reading = self._reading(label, cost)
            found.setdefault((reading.value, reading.ending), reading)
        return list(found.values())

    def written(self, words: Sequence[str], minimum: Value = 0) -> list[Span]:
        """The number phrases in a sequence of words, from left to right, each as long as it can be.

        Leaves out numbers below `minimum`, and words that alone are rarely numbers (ஒரு, கால்).
        """
        spans: list[Span] = []
        start = 0
        while start < len(words):
            span = self._longest(words, start)
            if span is None:
                start += 1
                continue
            if span.reading.value >= minimum:
                spans.append(span)
            start = span.end
        return spans

    def write(self, words: Sequence[str], minimum: Value = 0) -> list[str]:
        """The words with number phrases in digits: பத்து பேருக்கு → 10 பேருக்கு."""
        out: list[str] = []
        done = 0
        for span in self.written(words, minimum):
            out += [*words[done : span.start], span.text]
            done = span.end
        return [*out, *words[done:]]

    def _longest(self, words: Sequence[str], start: int) -> Optional[Span]:
        end = start
        while end < len(words) and self.begins(words[start : end + 1]):
            end += 1
        for stop in range(end, start, -1):
            if stop == start + 1 and words[start] in self._other_words:
                return None
            readings = self.readings(" ".join(words[start:stop]))
            if readings:
                return Span(start, stop, readings[0])
        return None

    def begins(self, words: Sequence[str]) -> bool:
        """Whether some number begins with these words."""
        letters = self._letters(words)
        if letters is None:
            return False
        whole = len(letters)
        return any(
            (position == whole and state == self.END)
            or (position == whole + 1 and state != self.END)
            for position, state, _, _ in self._run(letters + " ")
        )

    def _letters(self, words: Sequence[str]) -> Optional[str]:
        try:
            return " ".join(
                decompose(unicodedata.normalize("NFC", word), self.language) for word in words
            )
        except ScriptError:
            return None

    def _run(self, letters: str) -> Iterator[tuple[int, int, str, float]]:
        """All partial readings: (letters read, state, label, cost), cheapest first for each."""
        chart: list[dict[tuple[int, str], float]] = [{} for _ in range(len(letters) + 1)]
        chart[0][self.START, ""] = 0.0
        for position, cell in enumerate(chart):
            for (state, label), cost in cell.items():
                yield position, state, label, cost
                if position == len(letters):
                    continue
                for arc in self._by_letter[state].get(letters[position], ()):
                    if letters.startswith(arc.letters, position):
                        key = (arc.target, label + arc.label)
                        after = chart[position + len(arc.letters)]
                        total = cost + arc.weight
                        if total < after.get(key, total + 1.0):
                            after[key] = total

    def _reading(self, label: str, cost: float) -> Reading:
        digits, _, ending = label.partition(ENDING_MARK)
        value = _as_value(digits)
        if TIMES in digits:
            digits = str(value) if isinstance(value, int) else f"{float(value):.15g}"
        return Reading(value, digits, compose(ending, self.language) if ending else "", cost)


def _leading_digits(label: str) -> int:
    match = re.match(r"\d*", label)
    return match.end() if match else 0


def _old_symbols(text: str) -> Optional[int]:
    """The value of a numeral with signs for ten, hundred, thousand (௨௱௫௰ is 250), else None."""
    if not any(unicodedata.category(c) == "No" and unicodedata.numeric(c) >= 10 for c in text):
        return None
    total, count = 0, 0
    for char in text:
        try:
            value = unicodedata.numeric(char)
        except ValueError:
            raise ScriptError(f"{text!r} is no number") from None
        if value >= 10:
            total += max(count, 1) * int(value)
            count = 0
        elif value == int(value):
            count = count * 10 + int(value)
        else:
            raise ScriptError(f"{text!r} is no number")
    return total + count


_ENDING_APART = re.compile(r"(?<=\d)-(?=[^\W\d_])")


def read_out(text: str, language: str) -> list[str]:
    """The words of a text as `uyir.grammar.script.normalise` gives them, with numbers in words.

    An ending set off by a hyphen (25-க்கு) goes with its number. What has a digit and is no number that
    can be read stays as it is.

    >>> read_out("2006-ஆம் ஆண்டு", "ta")
    ['இரண்டாயிரத்து', 'ஆறாம்', 'ஆண்டு']
    """
    words: list[str] = []
    for word in normalise(_ENDING_APART.sub("", text), language).split():
        if any(char.isdigit() for char in word):
            try:
                words += NumberGrammar.load(language).read(word).split()
                continue
            except (ScriptError, DataError):
                pass
        words.append(word)
    return words
