"""Morphotactics: the lists of a language expanded into an automaton over surface pieces.

A state of the automaton is (continuation state of the lists, seam rules that the left piece could
undergo, the seam rule it did undergo). The left piece is already changed when the state is entered,
the right piece is changed as it leaves, so the surface word is plainly its pieces in a row and no
rewriting is left to do at run time. See ``grammar/README.md`` for the lists.

    lists ──expand──► Grammar (states, arcs) ──subword_acceptor──► SG over the word table
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

from uyir.errors import DataError, ScriptError
from uyir.grammar.lists import LANGUAGE_DATA, Row, read_table
from uyir.grammar.roots import Arc, Roots
from uyir.grammar.script import HIATUS, Script, compose, decompose, load_script

if TYPE_CHECKING:
    from uyir.lexicon.symbols import Symbols

LIST_COLUMNS = ("form", "class", "next", "gloss", "features", "weight", "note")
STEM_COLUMNS = ("class", "rule", "next", "features", "note")
RULE_COLUMNS = ("rule", "pattern", "replacement", "note")
SANDHI_COLUMNS = ("rule", "left", "right", "left_out", "right_out", "at", "note")
STATE_COLUMNS = ("state", "includes", "note")
OPEN_COLUMNS = ("state", "pattern", "weight", "min", "note")
CHUNK_COLUMNS = ("form", "weight")

END_OF_WORD = "#"
START_NAME = "^"
#: What each piece costs besides its own weight: of two analyses the one with fewer pieces wins.
PIECE_COST = 1.0
#: What each letter of an unknown root costs; a suffix that explains two letters is worth taking.
UNKNOWN_LETTER_COST = 1.5
#: What an unknown root costs to begin with; only orders open analyses, closed ones come first.
UNKNOWN_ROOT_COST = 20.0
#: What a whole word without a known ending costs more.
UNKNOWN_WORD_COST = 4.0
#: What a letter of an unknown root costs that no chunk covers.
SINGLE_LETTER_COST = 12.0
#: What an unknown root is taken for unless its endings say otherwise: names and loans, mostly.
UNKNOWN_CATEGORY = "nouns"
#: How many of an unknown root's last letters say where it may lead; patterns see no more of it.
OPEN_SIGHT = 3


class Entry(NamedTuple):
    """One line of a prefix, infix or suffix list."""

    form: str
    letters: str
    category: str
    kind: str  # "prefix", "infix" or "suffix"
    classes: tuple[str, ...]
    next: tuple[str, ...]
    gloss: str
    features: tuple[tuple[str, str], ...]
    weight: float
    path: Path
    line: int


@dataclass(frozen=True)
class SeamRule:
    """A named sandhi rule between a left and a right piece."""

    name: str
    left: re.Pattern[str]
    right: re.Pattern[str]
    left_out: Optional[str]
    right_out: Optional[str]
    at: tuple[str, ...]

    def applies_at(self, state: str) -> bool:
        return not self.at or any(fnmatch.fnmatchcase(state, glob) for glob in self.at)


@dataclass(frozen=True)
class StemRow:
    """One stem allomorph of a paradigm class."""

    rule: str
    next: tuple[str, ...]
    row: Row


@dataclass(frozen=True)
class OpenRow:
    """Where an unknown root with a certain ending may lead."""

    state: str
    pattern: re.Pattern[str]
    weight: float
    min_letters: int


class State(NamedTuple):
    """A state of the expanded automaton.

    `rules` are the seam rules (by index) that the piece on the left could undergo here; `rule` is
    the one it did undergo, None if it stands unchanged because none fits what follows.
    """

    name: str
    rules: tuple[int, ...]
    rule: Optional[int]


@dataclass
class Grammar:
    """The expanded automaton of one language. State 0 starts a word, state 1 ends it."""

    language: str
    entries: Sequence[Entry]
    seam_rules: list[SeamRule]
    states: list[State]
    arcs: Sequence[Sequence[Arc]]
    open_rows: list[OpenRow]
    chunks: dict[str, float]  # letter string -> cost
    unused: list[Entry] = field(default_factory=list)

    START = 0
    END = 1

    @property
    def roots(self) -> Roots:
        """The arcs that leave the first state, by their letters."""
        roots: Optional[Roots] = self.__dict__.get("_roots")
        if roots is None:
            roots = self.__dict__["_roots"] = Roots.of(self.arcs[self.START])
        return roots

    def labels(self, entry: int) -> tuple[str, str]:
        """Category and gloss of an entry."""
        return self.entries[entry].category, self.entries[entry].gloss

    def open_targets(self, letters: str) -> tuple[tuple[int, float], ...]:
        """The states that an unknown root with these letters may lead to, and the costs.

        Only seams that leave the left piece as it is are considered: an unknown root is taken as
        it is written.
        """
        return self.open_targets_of(letters[-OPEN_SIGHT:], len(letters))

    def open_targets_of(self, tail: str, length: int) -> tuple[tuple[int, float], ...]:
        """`open_targets` of an unknown root by its last `OPEN_SIGHT` letters and how many it has."""
        return self._open_index().targets(tail, length)

    @property
    def longest_open(self) -> int:
        """From how many letters on it no longer matters how many an unknown root has."""
        return self._open_index().longest

    def _open_index(self) -> _OpenIndex:
        index = self.__dict__.get("_open")
        if index is None:
            index = self.__dict__["_open"] = _OpenIndex(self)
        return index

    def state_label(self, state: int) -> str:
        """A readable, stable name of a state: its list state and the seam rule taken."""
        it = self.states[state]
        rules = ",".join(self.seam_rules[i].name for i in it.rules)
        taken = "" if it.rule is None else self.seam_rules[it.rule].name
        return f"{it.name}[{rules}>{taken}]" if it.rules else it.name


class _OpenIndex:
    """Looks up the states open to an unknown root; what its last letters say is kept."""

    def __init__(self, grammar: Grammar) -> None:
        rules = grammar.seam_rules
        by_name: dict[str, list[tuple[int, State]]] = {}
        for number, state in enumerate(grammar.states):
            by_name.setdefault(state.name, []).append((number, state))
        relevant = {
            name: [
                rule
                for rule in sorted({rule for _, state in by_name[name] for rule in state.rules})
                if rules[rule].applies_at(name)
            ]
            for name in {row.state for row in grammar.open_rows} & by_name.keys()
        }
        #: Each pattern once, as many rows and rules have the same.
        self._patterns: dict[str, re.Pattern[str]] = {}
        for pattern in (
            *(row.pattern for row in grammar.open_rows),
            *(rules[rule].left for name in relevant for rule in relevant[name]),
        ):
            self._patterns.setdefault(pattern.pattern, pattern)
        #: Rows with the rules that may apply where they lead, each rule with the pattern that it wants.
        self._rows = [
            (row, [(rule, rules[rule].left.pattern) for rule in relevant.get(row.state, ())])
            for row in grammar.open_rows
        ]
        #: The states that leave the left piece as it is, by name and the rules that it could undergo.
        self._states: dict[tuple[str, tuple[int, ...]], list[int]] = {}
        for name in relevant:
            for number, state in by_name[name]:
                if state.rule is None or rules[state.rule].left_out is None:
                    self._states.setdefault((name, state.rules), []).append(number)
        self.longest = max((row.min_letters for row in grammar.open_rows), default=0)
        self._fitting: dict[str, frozenset[str]] = {}
        self._known: dict[tuple[frozenset[str], int], tuple[tuple[int, float], ...]] = {}

    def targets(self, tail: str, length: int) -> tuple[tuple[int, float], ...]:
        fitting = self._fitting.get(tail)
        if fitting is None:
            fitting = self._fitting[tail] = frozenset(
                [text for text, pattern in self._patterns.items() if pattern.search(tail)]
            )
        key = (fitting, min(length, self.longest))
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = tuple(self._find(*key))
        return known

    def _find(self, fitting: frozenset[str], length: int) -> Iterator[tuple[int, float]]:
        for row, rules in self._rows:
            if length < row.min_letters or row.pattern.pattern not in fitting:
                continue
            if row.state == END_OF_WORD:
                yield Grammar.END, row.weight
                continue
            undergone = tuple([rule for rule, left in rules if left in fitting])
            for number in self._states.get((row.state, undergone), ()):
                yield number, row.weight


def expand_features(pattern: str, script: Script) -> str:
    """Replace ``{feature}``, ``{a+b}`` and ``{a-b}`` in a pattern by a set of letters."""

    def letters(match: re.Match[str]) -> str:
        wanted = match.group(1)
        having, _, lacking = wanted.partition("-")
        chosen = set(script.having(*having.split("+")))
        for feature in filter(None, lacking.split("-")):
            chosen -= set(script.having(feature))
        if not chosen:
            raise ScriptError(f"no letter of {script.language!r} fits {{{wanted}}}")
        return "[" + "".join(sorted(chosen)) + "]"

    return re.sub(r"\{([a-z][a-z+-]*)\}", letters, pattern)


def _pattern(
    row: Row, text: str, script: Script, start: str = "", end: str = ""
) -> re.Pattern[str]:
    try:
        return re.compile(start + "(?:" + expand_features(text, script) + ")" + end)
    except (re.error, ScriptError) as error:
        raise row.error(f"pattern {text!r}: {error}") from None


def _number(row: Row, column: str, default: float) -> float:
    if not row[column]:
        return default
    try:
        return float(row[column])
    except ValueError:
        raise row.error(f"{column} {row[column]!r} is not a number") from None


class Lists:
    """Everything the tables of one language say, read and indexed."""

    def __init__(self, language: str, without: frozenset[str], data: Path) -> None:
        self.script = load_script(language)
        self.language = language
        home = data / language
        self.stem_rules = self._read_rules(home / "rules.tsv")
        self.seam_rules = self._read_sandhi(home / "sandhi.tsv")
        self.includes = self._read_states(home / "states.tsv")
        self.open_rows = self._read_open(home / "open.tsv")
        self.chunks = self._read_chunks(home / "chunks.tsv")
        self.entries: list[Entry] = []
        self.stems: dict[str, list[StemRow]] = {}
        self.roots: dict[str, list[int]] = {}  # category -> prefix entries
        self.after: dict[str, list[int]] = {}  # list state -> infix and suffix entries
        for folder in sorted(p for p in home.iterdir() if p.is_dir()):
            self._read_category(folder, without)
        self._expanded: dict[int, list[tuple[str, tuple[str, ...]]]] = {}
        self._by_level: Optional[dict[str, set[str]]] = None

    def _optional(self, path: Path, columns: Sequence[str]) -> Iterable[Row]:
        return read_table(path, columns) if path.exists() else ()

    def _read_rules(self, path: Path) -> dict[str, tuple[re.Pattern[str], str]]:
        rules: dict[str, tuple[re.Pattern[str], str]] = {}
        for row in self._optional(path, RULE_COLUMNS):
            if row["rule"] in rules or row["rule"] == "same":
                raise row.error(f"stem rule {row['rule']!r} is there already")
            pattern = _pattern(row, row["pattern"].rstrip("$"), self.script, end="$")
            rules[row["rule"]] = (pattern, row["replacement"])
        return rules

    def _read_sandhi(self, path: Path) -> list[SeamRule]:
        rules: list[SeamRule] = []
        for row in self._optional(path, SANDHI_COLUMNS):
            rules.append(
                SeamRule(
                    row["rule"],
                    _pattern(row, row["left"].rstrip("$"), self.script, end="$"),
                    _pattern(row, row["right"].lstrip("^"), self.script, start="^"),
                    None if row["left_out"] == "=" else row["left_out"],
                    None if row["right_out"] == "=" else row["right_out"],
                    tuple(row["at"].split()),
                )
            )
        return rules

    def _read_states(self, path: Path) -> dict[str, tuple[str, ...]]:
        return {
            row["state"]: tuple(row["includes"].split())
            for row in self._optional(path, STATE_COLUMNS)
        }

    def _read_open(self, path: Path) -> list[OpenRow]:
        return [
            OpenRow(
                row["state"],
                _pattern(row, row["pattern"].rstrip("$"), self.script, end="$"),
                _number(row, "weight", 0.0),
                int(_number(row, "min", 1)),
            )
            for row in self._optional(path, OPEN_COLUMNS)
        ]

    def _read_chunks(self, path: Path) -> dict[str, float]:
        return {
            decompose(row["form"], self.language): _number(row, "weight", 0.0)
            for row in self._optional(path, CHUNK_COLUMNS)
        }

    def _read_category(self, folder: Path, without: frozenset[str]) -> None:
        for row in self._optional(folder / "stems.tsv", STEM_COLUMNS):
            if row["rule"] != "same" and row["rule"] not in self.stem_rules:
                raise row.error(f"no stem rule {row['rule']!r} in rules.tsv")
            stem = StemRow(row["rule"], tuple(row["next"].split()), row)
            self.stems.setdefault(row["class"], []).append(stem)
        for kind in ("prefix", "infix", "suffix"):
            for path in sorted(folder.glob(f"{kind}*.tsv")):
                for row in read_table(path, LIST_COLUMNS):
                    self._add(row, folder.name, kind, without)

    def _add(self, row: Row, category: str, kind: str, without: frozenset[str]) -> None:
        features = tuple(
            (name, value) for name, _, value in (f.partition("=") for f in row["features"].split())
        )
        if without.intersection(f"{name}={value}" for name, value in features):
            if kind != "prefix":
                # the state stays known, though it may be a dead end
                for name in row["class"].split():
                    self.after.setdefault(name, [])
            return
        try:
            letters = decompose(row["form"], self.language)
        except ScriptError as error:
            raise row.error(str(error)) from None
        if not letters:
            raise row.error("an empty form")
        classes = tuple(row["class"].split())
        following = tuple(row["next"].split())
        if kind == "prefix" and not following:
            following = tuple("=" + name for name in classes)
        if not following:
            raise row.error(f"{row['form']!r} leads nowhere: neither next nor class")
        number = len(self.entries)
        self.entries.append(
            Entry(
                row["form"],
                letters,
                category,
                kind,
                classes,
                following,
                row["gloss"],
                features,
                _number(row, "weight", 0.0),
                row.path,
                row.line,
            )
        )
        if kind == "prefix":
            self.roots.setdefault(category, []).append(number)
        else:
            if not classes:
                raise row.error(f"{row['form']!r} can follow nothing: no class")
            for name in classes:
                self.after.setdefault(name, []).append(number)

    def closure(self, state: str) -> list[str]:
        """A state and all it includes, in a fixed order."""
        seen = [state]
        for name in seen:
            seen += [other for other in self.includes.get(name, ()) if other not in seen]
        return seen

    def leaving(self, state: str) -> list[int]:
        """The entries that may stand after a state, each once."""
        found: dict[int, None] = {}
        for name in self.closure(state):
            if name == START_NAME:
                numbers = [n for category in sorted(self.roots) for n in self.roots[category]]
            elif name.startswith("@"):
                numbers = self.roots.get(name[1:], [])
            else:
                numbers = self.after.get(name, [])
            found.update(dict.fromkeys(numbers))
        return list(found)

    def shapes(self, number: int) -> list[tuple[str, tuple[str, ...]]]:
        """The stem allomorphs of an entry: (letters, where they lead)."""
        known = self._expanded.get(number)
        if known is not None:
            return known
        shapes = self._expanded[number] = self.stem_shapes(self.entries[number])
        return shapes

    def stem_shapes(self, entry: Entry) -> list[tuple[str, tuple[str, ...]]]:
        """The stem allomorphs of an entry, whether it is of these lists or not."""
        shapes: list[tuple[str, tuple[str, ...]]] = []
        plain = tuple(name for name in entry.next if not name.startswith("="))
        if plain:
            shapes.append((entry.letters, plain))
        for name in entry.next:
            if name.startswith("="):
                class_name, _, level = name[1:].partition("/")
                shapes += self._inflect(entry, class_name, level)
        return shapes

    def _inflect(
        self, entry: Entry, class_name: str, level: str = ""
    ) -> list[tuple[str, tuple[str, ...]]]:
        if class_name not in self.stems:
            raise DataError(f"{entry.form!r}: no class {class_name!r}", entry.path, entry.line)
        shapes = []
        for stem in self.stems[class_name]:
            letters = self.apply_stem_rule(stem.rule, entry.letters)
            if letters is None:
                raise DataError(
                    f"{entry.form!r} cannot be of class {class_name!r}: stem rule "
                    f"{stem.rule!r} does not fit it",
                    entry.path,
                    entry.line,
                )
            shapes.append((letters, self._at_level(stem.next, level, entry)))
        return shapes

    def _at_level(self, states: tuple[str, ...], level: str, entry: Entry) -> tuple[str, ...]:
        """The states of a stem row, each of its own where one is kept for this level (``n.cmp/2``)."""
        if not level:
            return states
        levels = self._levels()
        if level not in levels:
            raise DataError(
                f"{entry.form!r}: no state ends in {'/' + level!r}", entry.path, entry.line
            )
        graded = {state.partition("/")[0] for own in levels.values() for state in own}
        found = []
        for state in states:
            own = f"{state}/{level}"
            if state in graded and own not in levels[level]:
                raise DataError(
                    f"{entry.form!r}: {state!r} has levels, but no {own!r}", entry.path, entry.line
                )
            found.append(own if state in graded else state)
        return tuple(found)

    def _levels(self) -> dict[str, set[str]]:
        """The list states that stand for a level, by level."""
        if self._by_level is None:
            self._by_level = {}
            for state in (*self.after, *self.includes):
                _, slash, level = state.partition("/")
                if slash:
                    self._by_level.setdefault(level, set()).add(state)
        return self._by_level

    def apply_stem_rule(self, rule: str, letters: str) -> Optional[str]:
        """What a stem rule makes of a letter string, None where it does not fit."""
        if rule == "same":
            return letters
        pattern, replacement = self.stem_rules[rule]
        changed, changes = pattern.subn(replacement, letters, count=1)
        return changed if changes else None


class _Expansion:
    """Breadth-first expansion of the lists into states and arcs."""

    def __init__(self, lists: Lists) -> None:
        self.lists = lists
        self.rules = lists.seam_rules
        self.states: list[State] = [State(START_NAME, (), None), State(END_OF_WORD, (), None)]
        self.numbers = {state: i for i, state in enumerate(self.states)}
        self.arcs: list[list[Arc]] = []
        self._right: dict[str, frozenset[int]] = {}
        self._relevant: dict[str, list[int]] = {}
        self._known_states = {*lists.after, *lists.includes}
        self._landings: dict[tuple[str, str], list[tuple[str, int]]] = {}

    def right_fits(self, letters: str) -> frozenset[int]:
        """The seam rules whose right side fits the beginning of a piece."""
        fits = self._right.get(letters)
        if fits is None:
            fits = self._right[letters] = frozenset(
                i for i, rule in enumerate(self.rules) if rule.right.search(letters)
            )
        return fits

    def relevant(self, state: str) -> list[int]:
        """The seam rules that can fire at a list state, in order."""
        known = self._relevant.get(state)
        if known is None:
            fits: set[int] = set()
            for number in self.lists.leaving(state):
                for letters, _ in self.lists.shapes(number):
                    fits |= self.right_fits(letters)
            known = self._relevant[state] = sorted(
                i for i in fits if self.rules[i].applies_at(state)
            )
        return known

    def state(self, name: str, rules: tuple[int, ...], rule: Optional[int]) -> int:
        key = State(name, rules, rule)
        number = self.numbers.get(key)
        if number is None:
            number = self.numbers[key] = len(self.states)
            self.states.append(key)
        return number

    def landings(self, letters: str, name: str, entry: Entry) -> list[tuple[str, int]]:
        """How a left piece may be changed at a list state: (surface letters, state)."""
        found = self._landings.get((letters, name))
        if found is None:
            found = self._landings[letters, name] = self._land(letters, name, entry)
        return found

    def _land(self, letters: str, name: str, entry: Entry) -> list[tuple[str, int]]:
        if name == END_OF_WORD:
            return [(letters, Grammar.END)]
        if name not in self._known_states and not (
            name.startswith("@") and name[1:] in self.lists.roots
        ):
            raise DataError(
                f"{entry.form!r} leads to {name!r}, after which nothing stands",
                entry.path,
                entry.line,
            )
        fits = tuple(i for i in self.relevant(name) if self.rules[i].left.search(letters))
        found = [(letters, self.state(name, fits, None))]
        for i in fits:
            out = self.rules[i].left_out
            changed = letters if out is None else self.rules[i].left.sub(out, letters, count=1)
            found.append((changed, self.state(name, fits, i)))
        return found

    def run(self) -> None:
        self._go_on()
        for row in self.lists.open_rows:
            if row.state != END_OF_WORD and all(s.name != row.state for s in self.states):
                self._open(row)
        self._go_on()

    def _go_on(self) -> None:
        while len(self.arcs) < len(self.states):
            done = len(self.arcs)
            self.arcs.append(self.leave(self.states[done]) if done != Grammar.END else [])

    def _open(self, row: OpenRow) -> None:
        """The states where an unknown root may lead and no listed piece does: others only include them."""
        letters = load_script(self.lists.language).letters
        for tail in map("".join, product(letters, repeat=2)):
            if row.pattern.search(tail):
                fits = tuple(i for i in self.relevant(row.state) if self.rules[i].left.search(tail))
                self.state(row.state, fits, None)
                for rule in fits:
                    if self.rules[rule].left_out is None:
                        self.state(row.state, fits, rule)

    def leave(self, state: State) -> list[Arc]:
        best: dict[tuple[str, int], Arc] = {}
        possible = set(state.rules)
        for number in self.lists.leaving(state.name):
            entry = self.lists.entries[number]
            weight = PIECE_COST + entry.weight
            for underlying, following in self.lists.shapes(number):
                if possible:
                    fits = self.right_fits(underlying) & possible
                    if (min(fits) if fits else None) != state.rule:
                        continue
                letters = underlying
                if state.rule is not None:
                    rule = self.rules[state.rule]
                    if rule.right_out is not None:
                        letters = rule.right.sub(rule.right_out, underlying, count=1)
                for name in following:
                    for surface, target in self.landings(letters, name, entry):
                        if not surface:
                            continue
                        known = best.get((surface, target))
                        if known is None or weight < known.weight:
                            best[surface, target] = Arc(surface, target, weight, number)
        return list(best.values())


def _trim(expansion: _Expansion) -> tuple[list[State], list[list[Arc]]]:
    """Drop what cannot reach the end of a word."""
    incoming: list[list[int]] = [[] for _ in expansion.states]
    for source, leaving in enumerate(expansion.arcs):
        for arc in leaving:
            incoming[arc.target].append(source)
    alive = {Grammar.END}
    stack = [Grammar.END]
    while stack:
        for source in incoming[stack.pop()]:
            if source not in alive:
                alive.add(source)
                stack.append(source)
    keep = [i for i in range(len(expansion.states)) if i in alive or i == Grammar.START]
    if len(keep) == len(expansion.states):
        return expansion.states, expansion.arcs
    number = {old: new for new, old in enumerate(keep)}
    states = [expansion.states[i] for i in keep]
    arcs = [
        [
            Arc(arc.letters, number[arc.target], arc.weight, arc.entry)
            for arc in expansion.arcs[i]
            if arc.target in number
        ]
        for i in keep
    ]
    return states, arcs


def read_lists(language: str, data: Path = LANGUAGE_DATA) -> Lists:
    """The tables of a language, read but not expanded; raises `DataError` as they do."""
    return Lists(language, frozenset(), data)


def compile_grammar(
    language: str, without: Iterable[str] = (), data: Path = LANGUAGE_DATA
) -> Grammar:
    """Expand the lists of a language.

    `without` switches off entries by feature (``style=colloquial``). Raises `DataError`, naming
    file and line, for anything wrong in the lists.
    """
    lists = Lists(language, frozenset(without), data)
    expansion = _Expansion(lists)
    expansion.run()
    states, arcs = _trim(expansion)
    used = {arc.entry for leaving in arcs for arc in leaving}
    return Grammar(
        language,
        lists.entries,
        lists.seam_rules,
        states,
        arcs,
        lists.open_rows,
        lists.chunks,
        [entry for number, entry in enumerate(lists.entries) if number not in used],
    )


@lru_cache(maxsize=4)
def load_grammar(language: str, without: frozenset[str] = frozenset()) -> Grammar:
    """The grammar of a language that comes with uyir; kept on disk once it has been expanded."""
    from uyir.grammar.store import kept_grammar

    load_script(language)  # names the languages that there are
    return kept_grammar(language, without)


def splice_name(grammar: Grammar, state: int) -> str:
    """The word-table symbol that stands for "an unknown root that leads to this state"."""
    return f"<splice:{grammar.state_label(state)}>"


def splice_states(grammar: Grammar) -> list[str]:
    """The splice symbols of a grammar: one for each state that a root can lead to."""
    targets = sorted({arc.target for arc in grammar.arcs[Grammar.START]})
    return [splice_name(grammar, target) for target in targets]


class RootPlaces:
    """Where new roots enter a grammar's graph; reads the language's lists once for any number of them."""

    def __init__(self, grammar: Grammar) -> None:
        self._grammar = grammar
        self._lists = Lists(grammar.language, frozenset(), LANGUAGE_DATA)
        self._number = {state: i for i, state in enumerate(grammar.states)}

    @property
    def entries(self) -> Sequence[Entry]:
        """The roots and affixes of the lists."""
        return self._lists.entries

    def targets(self, form: str, class_name: str) -> list[tuple[str, str]]:
        """The pieces that a root of a class shows itself in, each with its splice symbol.

        Raises `DataError` for an unknown class or a root that cannot be of it.
        """
        lists = self._lists
        entry = Entry(
            form,
            decompose(form, self._grammar.language),
            "",
            "prefix",
            (class_name,),
            ("=" + class_name,),
            "",
            (),
            0.0,
            Path("<new root>"),
            0,
        )
        expansion = _Expansion(lists)
        found: dict[tuple[str, str], None] = {}
        for letters, following in lists.stem_shapes(entry):
            for name in following:
                for surface, target in expansion.landings(letters, name, entry):
                    state = self._number.get(expansion.states[target])
                    if surface and state is not None:
                        piece = compose(surface, self._grammar.language)
                        found[piece, splice_name(self._grammar, state)] = None
        return list(found)


def marked_form(letters: str, language: str, opens: bool, closes: bool) -> str:
    """A surface piece in ordinary spelling with its marks."""
    return ("" if opens else "+") + compose(letters, language) + ("" if closes else "+")


def licence_of(entry: Entry) -> Optional[str]:
    """The letter that the next word must begin with after this piece (``link=``), None if it may be any."""
    return next((value for name, value in entry.features if name == "link"), None)


def licences(grammar: Grammar) -> tuple[str, ...]:
    """The letters that some closing piece asks the next word to begin with, in a fixed order."""
    return tuple(sorted({letter for e in grammar.entries if (letter := licence_of(e)) is not None}))


def silent_pieces(grammar: Grammar) -> dict[str, float]:
    """The closing pieces that may be left unspoken (``silent=``), marked, and what that costs."""
    return {
        marked_form(entry.letters, grammar.language, False, True): float(cost)
        for entry in grammar.entries
        for name, cost in entry.features
        if name == "silent"
    }


def subword_acceptor(
    grammar: Grammar,
    words: Symbols,
    weighted: bool = False,
    splices: bool = True,
    licensed: bool = False,
) -> Any:
    """SG: an acceptor of one word's subwords over the ids of a word table.

    Accepts every sequence that `uyir.grammar.segment` emits, as far as its pieces are in the table:
    closed words, and unknown roots as a loop over chunks and letters before the same endings.
    `weighted` keeps the costs of the lists (tropical); without, SG is a plain constraint.
    `splices` adds an arc from the start for every splice symbol that is in the table.
    `licensed` ends words whose last piece asks something of the next word (`licences`) in a label of
    its own, ``len(words)`` and what follows it, and unknown roots in the label after those.
    Returns a deterministic, minimal `pynini.Fst`; weighted, it is so in pairs of subword and cost,
    as unknown roots and compounds loop over the same subwords at different costs, and to put off
    such differences would take no end of states.
    """
    import pynini

    language = grammar.language
    fst = pynini.Fst()
    fst.add_states(len(grammar.states))
    fst.set_start(Grammar.START)
    fst.set_final(Grammar.END)
    one = pynini.Weight.one(fst.weight_type())

    letters = licences(grammar) if licensed else ()
    asks: dict[Optional[str], int] = {None: Grammar.END}
    unknown = Grammar.END
    if letters:
        ends = [fst.add_state() for _ in range(len(letters) + 2)]
        fst.set_final(ends[-1])
        for number, state in enumerate(ends[:-1]):
            label = len(words) + number
            fst.add_arc(state, pynini.Arc(label, label, one, ends[-1]))
        asks.update(zip(letters, ends))
        unknown = ends[len(letters)]

    def add(source: int, piece: str, target: int, weight: float) -> None:
        if piece in words:
            label = words.id(piece)
            cost = pynini.Weight(fst.weight_type(), weight) if weighted else one
            fst.add_arc(source, pynini.Arc(label, label, cost, target))

    for source, arcs in enumerate(grammar.arcs):
        for arc in arcs:
            opens, closes = source == Grammar.START, arc.target == Grammar.END
            piece = marked_form(arc.letters, language, opens, closes)
            asked = licence_of(grammar.entries[arc.entry]) if closes and letters else None
            add(source, piece, asks[asked] if closes else arc.target, arc.weight)
    inside = fst.add_state()
    for chunk, cost in unknown_pieces(grammar).items():
        for opens, source in ((True, Grammar.START), (False, inside)):
            middle = marked_form(chunk, language, opens, False)
            add(source, middle, inside, cost)
            add(source, marked_form(chunk, language, opens, True), unknown, cost)
            for target in _targets_after(grammar, chunk):
                add(source, middle, target, cost)
    if splices:
        for target in sorted({arc.target for arc in grammar.arcs[Grammar.START]}):
            add(Grammar.START, splice_name(grammar, target), target, 0.0)
    fst = pynini.connect(fst).rmepsilon()
    if not weighted:
        return pynini.determinize(fst).minimize()
    pairs = pynini.EncodeMapper(fst.arc_type(), encode_labels=True, encode_weights=True)
    return pynini.determinize(fst.encode(pairs)).minimize().decode(pairs)


def _targets_after(grammar: Grammar, chunk: str) -> frozenset[int]:
    """The states that some unknown root ending in this chunk may lead to.

    A pattern of ``open.tsv`` may look further back than the chunk reaches (by up to two letters), so
    the states of all chunks with the same last letter count: SG may accept more here, never less.
    """
    cache = grammar.__dict__.setdefault("_after_letter", {})
    known: Optional[frozenset[int]] = cache.get(chunk[-1])
    if known is None:
        found: set[int] = set()
        script = load_script(grammar.language)
        for before in script.letters:
            for further in script.letters:
                padded = script.inherent * 6 + further + before + chunk[-1]
                found.update(target for target, _ in grammar.open_targets(padded))
        found.discard(Grammar.END)
        known = cache[chunk[-1]] = frozenset(found)
    return known


def unknown_pieces(grammar: Grammar) -> dict[str, float]:
    """The pieces that unknown roots are built of, with costs: chunks, then single letters."""
    known: Optional[dict[str, float]] = grammar.__dict__.get("_unknown_pieces")
    if known is None:
        script = load_script(grammar.language)
        atoms = {*script.vowels, *script.marks}
        for consonant in script.consonants:
            for bare in (consonant, consonant + script.nukta):
                atoms.add(bare)
                atoms.update(bare + HIATUS + vowel for vowel in script.vowels)
        known = {atom: SINGLE_LETTER_COST * len(atom) for atom in sorted(atoms)}
        known.update(grammar.chunks)
        grammar.__dict__["_unknown_pieces"] = known
    return known
