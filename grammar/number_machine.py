"""The transducer between numbers in digits and numbers in words, laid from a language's tables.

`grammar/<language>/numbers/` holds `scales.tsv` (the places that have a name), `numerals.tsv` (the
words of each value, by the role they play), `seams.tsv` (how neighbours meet, spaced or fused) and
`endings.tsv` (what may follow a number); ``grammar/README.md`` defines them. Everything here is the
same for every language that counts in hundreds, thousands, lakhs and crores.

A number is read in *blocks* of the digits below the top scale: block, "crore", block, "crore",
block. A block is read in *parts*, one for each smaller scale. A part that is not zero is a word of
its own (நூறு) or a count and the scale's name (இரண்டு + லட்சம்), in the role that its place asks for:
`link` if a smaller part follows, else the role of the block's end. Arcs carry what is written and
the letters that are spoken. `uyir.grammar.numbers` searches them, `uyir.grammar.number_fst` writes
them as an OpenFst transducer.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Optional, Union

from uyir.errors import DataError, ScriptError
from uyir.grammar.lists import Row, read_table
from uyir.grammar.morphotactics import expand_features
from uyir.grammar.script import decompose, load_script

SCALE_COLUMNS = ("scale", "value", "note")
NUMERAL_COLUMNS = ("value", "form", "roles", "weight", "features", "note")
SEAM_COLUMNS = ("rule", "at", "left", "right", "left_out", "space", "right_out", "weight", "note")
ENDING_COLUMNS = ("form", "class", "next", "written", "weight", "note")

#: Blocks of digits: numbers below (top scale) ** BLOCKS, 10^21 with crores.
BLOCKS = 3
#: Divides a number from its ending in writing: 25-க்கு.
ENDING_MARK = "-"
#: In a label, a number with a fraction times a scale: ஒன்றரை லட்சம் is 1½*100000.
TIMES = "*"
END_OF_NUMBER = "#"
#: Stands in `written` for an ending that digits do not show (the linking stop of பத்துப் பேர்).
NOTHING = "-"


@dataclass(frozen=True)
class Numeral:
    """A line of ``numerals.tsv``: a word, its value, and the roles it plays with their costs."""

    value: str
    letters: str
    roles: dict[str, float]
    written: bool
    where: str

    @property
    def is_fraction(self) -> bool:
        return len(self.value) == 1 and not self.value.isdecimal() and self.value != "."


@dataclass(frozen=True)
class Seam:
    """A line of ``seams.tsv``: one way in which two pieces meet."""

    name: str
    at: tuple[str, ...]
    left: re.Pattern[str]
    right: re.Pattern[str]
    left_out: Optional[str]
    right_out: Optional[str]
    space: bool
    weight: float
    where: str


@dataclass(frozen=True)
class Ending:
    """A line of ``endings.tsv``: a case ending, an ordinal or a clitic."""

    letters: str
    classes: tuple[str, ...]
    next: tuple[str, ...]
    written: str
    weight: float
    where: str


class Arc(NamedTuple):
    """`label` is what is written, `letters` what is spoken (letters and spaces).

    `where` names the line of the list that it comes from.
    """

    label: str
    letters: str
    weight: float
    target: int
    where: str


# What the builder's states stand for: a place in the number, and the seam rule that the piece on
# the left has undergone (None at the start).
_Place = tuple[object, ...]
_END: _Place = ("end",)
_Word = Union[Numeral, Ending]


class _Goal(NamedTuple):
    """What a block's or a count's last piece leads to.

    `role` it plays, `seam` that follows it, `place` after the seam, `zeros` to write behind it.
    """

    role: str
    seam: Optional[str]
    place: _Place
    zeros: int = 0


def _weight(row: Row, text: str) -> float:
    try:
        return float(text) if text else 0.0
    except ValueError:
        raise row.error(f"weight {text!r} is not a number") from None


def _where(row: Row) -> str:
    return f"numbers/{row.path.name}:{row.line}"


class NumberTables:
    """The number tables of one language, read and checked."""

    def __init__(self, language: str, data: Path) -> None:
        self.language = language
        self.script = load_script(language)
        home = data / language / "numbers"
        self.scales: list[tuple[str, int]] = []
        for row in read_table(home / "scales.tsv", SCALE_COLUMNS):
            if not re.fullmatch(r"10*", row["value"]):
                raise row.error(f"value {row['value']!r} is no power of ten")
            self.scales.append((row["scale"], int(row["value"])))
        values = [value for _, value in self.scales]
        if values != sorted(set(values), reverse=True) or values[-2:] != [10, 1]:
            raise DataError("scales must go down, to 10 and 1", home / "scales.tsv")
        self.numerals = [
            self._numeral(row) for row in read_table(home / "numerals.tsv", NUMERAL_COLUMNS)
        ]
        self.seams = [self._seam(row) for row in read_table(home / "seams.tsv", SEAM_COLUMNS)]
        self.endings = [
            self._ending(row) for row in read_table(home / "endings.tsv", ENDING_COLUMNS)
        ]

    def _letters(self, row: Row, form: str) -> str:
        try:
            return decompose(form, self.language)
        except ScriptError as error:
            raise row.error(str(error)) from None

    def _numeral(self, row: Row) -> Numeral:
        value = row["value"]
        known = {TIMES + str(v) for _, v in self.scales[:-2]} | {"."}
        if not value.isdecimal() and value not in known:
            try:
                unicodedata.numeric(value)
            except (TypeError, ValueError):
                raise row.error(
                    f"value {value!r} is no number, fraction, '.' or one of {', '.join(sorted(known))}"
                ) from None
        base = _weight(row, row["weight"])
        roles = {}
        for role in row["roles"].split():
            name, _, extra = role.partition("=")
            roles[name] = base + _weight(row, extra)
        if not roles:
            raise row.error(f"{row['form']!r} plays no role")
        written = "written=no" not in row["features"].split()
        return Numeral(value, self._letters(row, row["form"]), roles, written, _where(row))

    def _seam(self, row: Row) -> Seam:
        try:
            left = re.compile("(?:" + expand_features(row["left"].rstrip("$"), self.script) + ")$")
            right = re.compile("(?:" + expand_features(row["right"].lstrip("^"), self.script) + ")")
        except (re.error, ScriptError) as error:
            raise row.error(f"pattern: {error}") from None
        return Seam(
            row["rule"],
            tuple(row["at"].split()),
            left,
            right,
            None if row["left_out"] == "=" else row["left_out"],
            None if row["right_out"] == "=" else row["right_out"],
            row["space"] == "yes",
            _weight(row, row["weight"]),
            _where(row),
        )

    def _ending(self, row: Row) -> Ending:
        letters = self._letters(row, row["form"])
        written = letters
        if row["written"]:
            written = "" if row["written"] == NOTHING else self._letters(row, row["written"])
        return Ending(
            letters,
            tuple(row["class"].split()),
            tuple(row["next"].split()),
            written,
            _weight(row, row["weight"]),
            _where(row),
        )


class Laid(NamedTuple):
    """Arcs by state (state 0 is final), the start, the limit of integers, and lines without use."""

    arcs: list[list[Arc]]
    start: int
    limit: int
    unused: list[str]


def lay_arcs(tables: NumberTables) -> Laid:
    """The transducer of a language's number tables, trimmed."""
    builder = _Builder(tables)
    builder.build()
    arcs = _trim(builder.arcs)
    used = {arc.where for leaving in arcs for arc in leaving}
    for (_, seam), state in builder.states.items():
        if seam is not None and arcs[state]:
            used.add(tables.seams[seam].where)
    lines = [row.where for row in tables.numerals]
    lines += [row.where for row in tables.seams] + [row.where for row in tables.endings]
    unused = [line for line in lines if line not in used]
    return Laid(arcs, builder.start, builder.top**BLOCKS, unused)


class _Builder:
    """Lays the arcs: every place of a number, every piece that may stand there, every seam."""

    def __init__(self, tables: NumberTables) -> None:
        self.tables = tables
        self.top_scale, self.top = tables.scales[0]
        #: Parts of a block, largest first: (scale, its value, digits); the last is below a hundred.
        self.parts: list[tuple[str, int, int]] = []
        above = self.top
        for scale, value in tables.scales[1:-2]:
            self.parts.append((scale, value, len(str(above)) - len(str(value))))
            above = value
        self.parts.append(("unit", 1, len(str(above)) - 1))
        self.width = len(str(self.top)) - 1
        self.states: dict[tuple[_Place, Optional[int]], int] = {(_END, None): 0}
        self.arcs: list[list[Arc]] = [[]]
        self.start: int = self.state(("start",), None)
        self._queue: list[tuple[_Place, Optional[int]]] = [(("start",), None)]

    def state(self, place: _Place, seam: Optional[int]) -> int:
        key = (place, seam)
        number = self.states.get(key)
        if number is None:
            number = self.states[key] = len(self.arcs)
            self.arcs.append([])
            if place != ("start",):
                self._queue.append(key)
        return number

    def build(self) -> None:
        while self._queue:
            place, seam = self._queue.pop()
            self._source, self._seam = self.states[place, seam], seam
            getattr(self, "_leave_" + str(place[0]))(*place[1:])

    # One piece from the present state.

    def _piece(self, label: str, piece: _Word, weight: float, goal: _Goal, spelt: str = "") -> None:
        """Add the arcs of a piece.

        `spelt` is how an ending is written (letters). Seams between endings change it, too; that
        between the number and its first ending, which the label marks, does not: 1-ஐ, ஒன்றை.
        """
        letters = piece.letters
        if self._seam is not None:
            rule = self.tables.seams[self._seam]
            if not rule.right.match(letters):
                return
            if rule.right_out is not None:
                letters = rule.right.sub(rule.right_out, letters, count=1)
                if not label:
                    spelt = rule.right.sub(rule.right_out, spelt, count=1)
        label += "0" * goal.zeros
        if goal.seam is None:
            target = self.state(goal.place, None)
            self._arc(Arc(label + spelt, letters, weight, target, piece.where))
            return
        for number, rule in enumerate(self.tables.seams):
            if goal.seam not in rule.at or not rule.left.search(letters):
                continue
            changed, written = letters, spelt
            if rule.left_out is not None:
                changed = rule.left.sub(rule.left_out, letters, count=1)
                written = rule.left.sub(rule.left_out, written, count=1)
            target = self.state(goal.place, number)
            if rule.space:
                changed += " "
            total = weight + rule.weight
            self._arc(Arc(label + written, changed, total, target, piece.where))

    def _arc(self, arc: Arc) -> None:
        if arc.letters:
            self.arcs[self._source].append(arc)

    def _goals(self, block: int) -> list[_Goal]:
        """What the last piece of a block may lead to."""
        if block < BLOCKS - 1:
            return [_Goal("count", self.top_scale + ".count", ("top", block))]
        return [*self._ends(), _Goal("whole", "frac", ("fraction",))]

    def _ends(self, zeros: int = 0) -> list[_Goal]:
        return [
            _Goal("whole", None, _END, zeros),
            _Goal("whole", "whole.end", ("ending", "whole", True), zeros),
            _Goal("obl", "obl.end", ("ending", "obl", True), zeros),
            _Goal("ord", "ord.end", ("ending", "ord", True), zeros),
            _Goal("whole", "point", ("point",), zeros),
        ]

    def _onward(self, scale: str, block: int, first: int, zeros: int) -> Iterator[_Goal]:
        """Goals of a piece that a smaller part follows: parts from `first` on, over zero ones."""
        for number in range(first, len(self.parts)):
            for role in ("link", "bare"):
                yield _Goal(role, f"{scale}.{role}", ("part", block, number, False), zeros)
            zeros += self.parts[number][2]

    def _rows(self, value: str, goals: Sequence[_Goal], label: str) -> None:
        for numeral in self.tables.numerals:
            if numeral.value == value:
                self._row(numeral, goals, label)

    def _row(self, numeral: Numeral, goals: Sequence[_Goal], label: str) -> None:
        for goal in goals:
            if goal.role in numeral.roles:
                self._piece(label, numeral, numeral.roles[goal.role], goal)

    def _lower(self, number: int) -> int:
        """How many digits a block has below part `number`."""
        return sum(width for _, _, width in self.parts[number + 1 :])

    # The places.

    def _leave_start(self) -> None:
        self._rows("0", self._ends(), "0")
        for numeral in self.tables.numerals:
            lone = _Goal("lone", "lone.end", ("ending", "lone", True))
            self._row(numeral, [lone], numeral.value)
        self._leave_fraction()
        # a bare top scale: கோடி for ஒரு கோடி
        for block in range(BLOCKS - 1):
            self._rows(str(self.top), list(self._after_top(block)), "1")
            for number in range(len(self.parts)):
                self._leave_part(block, number, True)
        for number in range(len(self.parts)):
            self._leave_part(BLOCKS - 1, number, True)

    def _leave_part(self, block: int, number: int, first: bool) -> None:
        scale, value, width = self.parts[number]
        lower = self._lower(number)
        goals = [g._replace(zeros=g.zeros + lower) for g in self._goals(block)]
        if value == 1:
            self._small(width, first, goals, ("part", block, number))
            return
        goals += self._onward(scale, block, number + 1, 0)
        for count in range(1, 10**width):
            self._rows(str(count * value), goals, str(count) if first else f"{count:0{width}}")
        head = _Goal("count", scale + ".count", ("head", block, number))
        self._small(width, first, [head], ("count", block, number))

    def _small(self, width: int, first: bool, goals: Sequence[_Goal], context: _Place) -> None:
        """A number below 100 (below 10 where width is 1)."""
        for value in range(1, 10**width):
            label = str(value) if first else f"{value:0{width}}"
            self._rows(str(value), goals, label)
        if width < 2:
            return
        for ten in range(10, 100, 10):
            for role in ("link", "bare"):
                goal = _Goal(role, "ten." + role, ("unit", *context))
                self._rows(str(ten), [goal], str(ten // 10))

    def _leave_unit(self, kind: str, block: int, number: int) -> None:
        scale = self.parts[number][0]
        if kind == "count":
            goals = [_Goal("count", scale + ".count", ("head", block, number))]
        else:
            goals = self._goals(block)
        for unit in range(1, 10):
            self._rows(str(unit), goals, str(unit))

    def _leave_head(self, block: int, number: int) -> None:
        scale, value, _ = self.parts[number]
        lower = self._lower(number)
        goals = [g._replace(zeros=g.zeros + lower) for g in self._goals(block)]
        goals += self._onward(scale, block, number + 1, 0)
        self._rows(TIMES + str(value), goals, "")

    def _after_top(self, block: int) -> Iterator[_Goal]:
        yield from self._onward(self.top_scale, block + 1, 0, 0)
        for goal in self._goals(block + 1):
            yield goal._replace(zeros=goal.zeros + self.width)

    def _leave_top(self, block: int) -> None:
        self._rows(TIMES + str(self.top), list(self._after_top(block)), "")

    def _leave_fraction(self) -> None:
        goals = [goal for goal in self._ends() if goal.seam != "point"]
        counts = [
            _Goal("count", scale + ".count", ("times", scale, value))
            for scale, value in self.tables.scales[:-2]
        ]
        for numeral in self.tables.numerals:
            if numeral.is_fraction:
                self._row(numeral, [*goals, *counts], numeral.value)

    def _leave_times(self, scale: str, value: int) -> None:
        goals = [goal for goal in self._ends() if goal.seam != "point"]
        self._rows(TIMES + str(value), goals, TIMES + str(value))

    def _leave_point(self) -> None:
        self._rows(".", [_Goal("point", "digit", ("digit",))], ".")

    def _leave_digit(self) -> None:
        goals = [goal for goal in self._ends() if goal.seam != "point"]
        goals.append(_Goal("whole", "digit", ("digit",)))
        for digit in range(10):
            self._rows(str(digit), goals, str(digit))

    def _leave_ending(self, name: str, first: bool) -> None:
        mark = ENDING_MARK if first else ""
        for ending in self.tables.endings:
            if name not in ending.classes:
                continue
            for following in ending.next:
                goal = (
                    _Goal("", None, _END)
                    if following == END_OF_NUMBER
                    else _Goal("", following, ("ending", following, False))
                )
                self._piece(mark, ending, ending.weight, goal, spelt=ending.written)


def _trim(arcs: list[list[Arc]]) -> list[list[Arc]]:
    """Without the arcs that lead to no end of a number."""
    incoming: list[list[int]] = [[] for _ in arcs]
    for source, leaving in enumerate(arcs):
        for arc in leaving:
            incoming[arc.target].append(source)
    alive, stack = {0}, [0]
    while stack:
        for source in incoming[stack.pop()]:
            if source not in alive:
                alive.add(source)
                stack.append(source)
    return [[arc for arc in leaving if arc.target in alive] for leaving in arcs]
