"""Written forms of money, shares, times of day, dates and years, around the numbers in words.

    நூறு ரூபாய்க்கு → ₹100-க்கு      ஐந்தரை மணிக்கு → 5:30 மணிக்கு      ಶೇಕಡಾ ಹತ್ತು → 10%

`uyir.grammar.numbers` finds the numbers. Here the words beside them decide how they are written, and whether:
what is as likely something else (ஆறு, six or river) becomes digits only where a neighbour says that it
counts. ``grammar/<language>/numbers/written.tsv`` has these words by the role they play, and
``written_endings.tsv`` the endings they may carry; ``grammar/README.md`` defines both.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Optional

from uyir.errors import DataError, ScriptError
from uyir.grammar.lists import LANGUAGE_DATA, read_table
from uyir.grammar.number_machine import ENDING_MARK
from uyir.grammar.numbers import NumberGrammar, Reading, Span
from uyir.grammar.script import compose, decompose, normalise

WORD_COLUMNS = ("form", "role", "class", "note")
ENDING_COLUMNS = ("class", "form", "written", "note")
ROLES = frozenset(
    [
        *("currency", "coin", "percent", "percent_before", "hour", "minute", "duration"),
        *("month", "date", "year", "unit", "unsure", "one"),
    ]
)
#: Roles beside which a number is one.
_COUNTED = frozenset(["currency", "coin", "percent", "hour", "minute", "date", "year", "unit"])
_QUARTERS = {Fraction(1, 4): 15, Fraction(1, 2): 30, Fraction(3, 4): 45}
_RUPEE, _PERCENT = "₹", "%"


@dataclass(frozen=True)
class Beside:
    """A word with a role: its root's form in the table, and its ending as it is written after digits."""

    form: str
    role: str
    ending: str = ""


@dataclass(frozen=True)
class WrittenSpan:
    """``words[start:end]`` are written as ``text``."""

    start: int
    end: int
    text: str


class WrittenGrammar:
    """Written forms of one language. Make it with `WrittenGrammar.load`.

    >>> WrittenGrammar.load("ta").write("ஐம்பது ரூபாய் கொடுத்தான்".split())
    ['₹50', 'கொடுத்தான்']
    """

    def __init__(self, language: str, data: Path = LANGUAGE_DATA) -> None:
        self.language = language
        self.numbers = NumberGrammar(language, data)
        home = data / language / "numbers"
        endings: dict[str, list[tuple[str, str]]] = {}
        for row in read_table(home / "written_endings.tsv", ENDING_COLUMNS):
            for name in row["class"].split():
                endings.setdefault(name, []).append((row["form"], row["written"]))
        self._beside: dict[str, Beside] = {}
        self._forms: dict[str, dict[str, str]] = {}
        for row in read_table(home / "written.tsv", WORD_COLUMNS):
            if row["role"] not in ROLES:
                raise row.error(f"role {row['role']!r}, want one of {', '.join(sorted(ROLES))}")
            if row["class"] and row["class"] not in endings:
                raise row.error(f"class {row['class']!r} has no endings")
            for form, written in [*endings.get(row["class"], [("", "")])]:
                word = self._joined(row["form"], form)
                if word in self._beside and self._beside[word].role != row["role"]:
                    raise row.error(f"{word} is {self._beside[word].role} already")
                self._beside.setdefault(word, Beside(row["form"], row["role"], written))
                self._forms.setdefault(row["role"], {}).setdefault(written, word)
        missing = {"currency", "coin", "percent", "hour", "minute"} - set(self._forms)
        if missing:
            raise DataError(f"has no word for {', '.join(sorted(missing))}", home / "written.tsv")

    @staticmethod
    @lru_cache(maxsize=4)
    def load(language: str) -> WrittenGrammar:
        """The written forms of a language that comes with uyir; raises `DataError` if it has no tables."""
        return WrittenGrammar(language)

    def _joined(self, stem: str, ending: str) -> str:
        letters = decompose(stem, self.language) + decompose(ending, self.language)
        return compose(letters, self.language)

    # Spoken → written.

    def write(self, words: Sequence[str]) -> list[str]:
        """The words with what has a written form in it."""
        out: list[str] = []
        done = 0
        for span in self.spans(words):
            out += [*words[done : span.start], span.text]
            done = span.end
        return [*out, *words[done:]]

    def spans(self, words: Sequence[str]) -> list[WrittenSpan]:
        """What of a sequence of words has a written form, from left to right."""
        numbers = {span.start: span for span in self.numbers.written(words)}
        words = [self._normal(word) for word in words]
        spans: list[WrittenSpan] = []
        at = 0
        while at < len(words):
            span = self._at(words, at, numbers)
            if span is not None:
                spans.append(span)
                at = span.end
            else:
                at = numbers[at].end if at in numbers else at + 1
        return spans

    def _normal(self, word: str) -> str:
        try:
            return normalise(word, self.language)
        except ScriptError:
            return word

    def _role(self, words: Sequence[str], at: int) -> Optional[Beside]:
        return self._beside.get(words[at]) if 0 <= at < len(words) else None

    def _at(self, words: Sequence[str], at: int, numbers: dict[int, Span]) -> Optional[WrittenSpan]:
        here = self._role(words, at)
        number = numbers.get(at)
        if number is None:
            if here is not None and here.role == "percent_before" and at + 1 in numbers:
                share = numbers[at + 1]
                return WrittenSpan(at, share.end, _percent(share.reading, share.reading.ending))
            one = self._one(words, at)
            # The article stays a word; with "o'clock" it is none.
            if one is not None and self._is_clock(words, at + 1):
                return self._clock(words, one, numbers) or WrittenSpan(at, at + 1, "1")
            return None
        after = self._role(words, number.end)
        if not number.reading.ending and after is not None:
            found = None
            if after.role == "currency":
                found = self._money(words, number, after, numbers)
            elif after.role == "percent":
                text = _percent(number.reading, after.ending)
                found = WrittenSpan(number.start, number.end + 1, text)
            elif after.role == "hour":
                found = self._clock(words, number, numbers)
            if found is not None:
                return found
        return self._year(words, number, numbers) or self._plain(words, number, numbers)

    def _money(
        self, words: Sequence[str], number: Span, rupees: Beside, numbers: dict[int, Span]
    ) -> WrittenSpan:
        text = _RUPEE + grouped(number.reading.digits, least=4)
        end, ending = number.end + 1, rupees.ending
        coins = numbers.get(end) or self._one(words, end)
        coin = self._role(words, coins.end) if coins is not None else None
        if (
            coins is not None
            and coin is not None
            and coin.role == "coin"
            and not (ending or coins.reading.ending)
            and number.reading.digits.isdecimal()
            and coins.reading.digits.isdecimal()
            and 0 < coins.reading.value < 100
        ):
            text += f".{int(coins.reading.value):02d}"
            end, ending = coins.end + 1, coin.ending
        return WrittenSpan(number.start, end, text + _marked(ending))

    def _one(self, words: Sequence[str], at: int) -> Optional[Span]:
        """The article as the number that it is beside what is counted out: ஒரு மணி, ಐದು ರೂಪಾಯಿ ಒಂದು ಪೈಸೆ."""
        beside = self._role(words, at)
        if beside is None or beside.role != "one":
            return None
        return Span(at, at + 1, Reading(1, "1", "", 0.0))

    def _clock(
        self, words: Sequence[str], number: Span, numbers: dict[int, Span]
    ) -> Optional[WrittenSpan]:
        """A time of day: 5:30 for five and a half or five hours thirty minutes, where no length is meant."""
        value = Fraction(number.reading.value)
        whole, rest = int(value), value - int(value)
        if not self._is_clock(words, number.end) or not 1 <= whole <= 12:
            return None
        if rest:
            if rest not in _QUARTERS:
                return None
            return WrittenSpan(number.start, number.end, f"{whole}:{_QUARTERS[rest]}")
        hour = self._role(words, number.end)
        minutes = numbers.get(number.end + 1) or self._one(words, number.end + 1)
        minute = self._role(words, minutes.end) if minutes is not None else None
        if (
            minutes is not None
            and minute is not None
            and minute.role == "minute"
            and hour is not None
            and not (hour.ending or minutes.reading.ending)
            and minutes.reading.digits.isdecimal()
            and 0 < minutes.reading.value < 60
            and not self._is_length(words, minutes.end + 1)
        ):
            text = f"{whole}:{int(minutes.reading.value):02d}" + _marked(minute.ending)
            return WrittenSpan(number.start, minutes.end + 1, text)
        return None

    def _is_clock(self, words: Sequence[str], at: int) -> bool:
        """Whether an hour's word says which hour it is, and not how many."""
        hour = self._role(words, at)
        return hour is not None and hour.role == "hour" and not self._is_length(words, at + 1)

    def _is_length(self, words: Sequence[str], at: int) -> bool:
        beside = self._role(words, at)
        return beside is not None and beside.role == "duration"

    def _year(
        self, words: Sequence[str], number: Span, numbers: dict[int, Span]
    ) -> Optional[WrittenSpan]:
        """Nineteen eighty-five, before the word for year."""
        rest = numbers.get(number.end)
        year = self._role(words, rest.end) if rest is not None else None
        if (
            rest is None
            or year is None
            or year.role != "year"
            or number.reading.ending
            or not re.fullmatch(r"1\d|20", number.reading.digits)
            or not re.fullmatch(r"\d\d", rest.reading.digits)
        ):
            return None
        text = number.reading.digits + rest.reading.digits + _marked(rest.reading.ending)
        return WrittenSpan(number.start, rest.end, text)

    def _plain(
        self, words: Sequence[str], number: Span, numbers: dict[int, Span]
    ) -> Optional[WrittenSpan]:
        one = self._role(words, number.start) if number.end == number.start + 1 else None
        if one is not None and one.role == "unsure":
            before, after = self._role(words, number.start - 1), self._role(words, number.end)
            beside_number = number.end in numbers or any(
                span.end == number.start for span in numbers.values()
            )
            counted = after is not None and after.role in _COUNTED
            if not (counted or beside_number or (before is not None and before.role == "month")):
                return None
        reading = number.reading
        text = grouped(reading.digits, least=5) + _marked(reading.ending)
        return WrittenSpan(number.start, number.end, text)

    # Written → spoken.

    def read(self, token: str) -> str:
        """A written form in words, in the one way that we say it: ₹1,250.50, 50%-க்கு, 5:30, or a number.

        `write` of the words gives the token back. Raises `ScriptError` for what is none.
        """
        money = re.fullmatch(r"₹([\d,]+)(?:\.(\d\d))?(?:-(.+))?", token)
        if money:
            rupees, coins, ending = money[1].replace(",", ""), money[2], money[3] or ""
            if coins is None or coins == "00":
                return f"{self.numbers.read(rupees)} {self._form('currency', ending)}"
            said = self.numbers.words(int(coins))
            rupee = self._form("currency", "")
            return f"{self.numbers.read(rupees)} {rupee} {said} {self._form('coin', ending)}"
        share = re.fullmatch(r"([\d,.]+)%(?:-(.+))?", token)
        if share:
            return f"{self.numbers.read(share[1])} {self._form('percent', share[2] or '')}"
        clock = re.fullmatch(r"(1[0-2]|[1-9]):([0-5]\d)(?:-(.+))?", token)
        if clock:
            hour, minute, ending = int(clock[1]), int(clock[2]), clock[3] or ""
            for part, minutes in _QUARTERS.items():
                if minute == minutes and part in self.numbers.fractions:
                    said = self.numbers.words(hour + part)
                    return f"{said} {self._form('hour', ending)}"
            said = self.numbers.words(hour)
            if not minute:
                return f"{said} {self._form('hour', ending)}"
            minutes_said = self.numbers.words(minute)
            middle = self._form("hour", "")
            return f"{said} {middle} {minutes_said} {self._form('minute', ending)}"
        return self.numbers.read(token)

    def _form(self, role: str, ending: str) -> str:
        forms = self._forms[role]
        if ending not in forms:
            raise ScriptError(f"no word of {self.language!r} for {role} with {ending!r}")
        return forms[ending]


def grouped(digits: str, least: int) -> str:
    """Digits in groups of lakhs and crores, if they are as many as ``least``.

    >>> grouped("1234567.5", 5), grouped("1990", 5)
    ('12,34,567.5', '1990')
    """
    whole, point, rest = digits.partition(".")
    if not whole.isdecimal() or len(whole) < least:
        return digits
    head, last = whole[:-3], whole[-3:]
    pairs = [head[max(0, i - 2) : i] for i in range(len(head), 0, -2)][::-1]
    return ",".join([*pairs, last]) + point + rest


def _percent(reading: Reading, ending: str) -> str:
    return reading.digits + _PERCENT + _marked(ending)


def _marked(ending: str) -> str:
    return ENDING_MARK + ending if ending else ""
