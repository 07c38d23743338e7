"""Weights of the subword grammar by maximum likelihood, from how often words occur.

The lists describe a process that writes a word piece by piece, and its choices are what is weighted:

* at a list state, which list entry comes next: ``p(entry | state)``;
* after an entry, how it goes on: ``p(to | entry)``, `to` being a list state or the end of the word. Roots of
  one paradigm (category, class and next) share this choice, as a root alone is too rare to tell.

What the seam rules do follows from the two pieces that meet, so it costs nothing. A word may be
written in several ways; its probability is their sum. Baum-Welch re-estimation (EM; Baum et al. 1970)
shares each word's count among its analyses by their probabilities, Viterbi training gives it
to the best one; both then take relative frequencies, again and again, and the likelihood (of the words,
or of their best analyses) never falls. Analyses of different words share their endings, so all words are one
acyclic graph whose nodes are (ending, state); both passes go over it in the log semiring, all nodes of one length
at a time.

Only at the end `smoothing` is added to the count of every choice that the lists allow, seen or not,
so no path of the grammar loses all its mass.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np

from uyir.errors import DataError
from uyir.grammar.lists import read_table
from uyir.grammar.morphotactics import Entry, Grammar, load_grammar
from uyir.grammar.roots import Arc
from uyir.grammar.script import decompose
from uyir.grammar.segment import Segmenter

WEIGHT_COLUMNS = ("state", "category", "kind", "form", "class", "next", "to", "weight")
METHODS = ("em", "viterbi")
#: The option that stands for each one a context allows but the file does not name.
UNSEEN = ("*",)
#: Training stops when an iteration gains less than this, in nats a word.
LEAST_GAIN = 1e-6

#: What is chosen given what: (state,) and an entry's key, or an entry's key and (list state,).
Key = tuple[str, ...]


def entry_key(entry: Entry) -> Key:
    """What names a list entry wherever its line stands: category, kind, form, class, next."""
    return (
        entry.category,
        entry.kind,
        entry.form,
        " ".join(entry.classes),
        " ".join(entry.next),
    )


def exit_key(entry: Entry) -> Key:
    """What shares the choice of how to go on: a root's paradigm, or an affix by itself."""
    category, kind, form, classes, following = entry_key(entry)
    return (category, kind, "" if kind == "prefix" else form, classes, following)


class Choices:
    """The choices of a grammar: a number for each (context, option), and the two that an arc makes.

    `context[choice]` numbers the context; the choices of one context are a distribution.
    """

    def __init__(self, grammar: Grammar) -> None:
        self.keys: list[tuple[Key, Key]] = []
        self.context: list[int] = []
        #: Costs in the lists, for the first iteration.
        self.costs: list[float] = []
        self._numbers: dict[tuple[Key, Key], int] = {}
        self._contexts: dict[Key, int] = {}
        #: By state of the grammar, for each of its arcs in order: (choice of entry, choice of exit).
        self.of_arcs: list[list[tuple[int, int]]] = []
        keys: dict[int, tuple[Key, Key]] = {}
        for source, arcs in enumerate(grammar.arcs):
            name = (grammar.states[source].name,)
            pairs: list[tuple[int, int]] = []
            for arc, to in zip(arcs, _exits(grammar, arcs)):
                key = keys.get(arc.entry)
                if key is None:
                    entry = grammar.entries[arc.entry]
                    key = keys[arc.entry] = entry_key(entry), exit_key(entry)
                pairs.append(
                    (self._number(name, key[0], arc.weight), self._number(key[1], (to,), 0.0))
                )
            self.of_arcs.append(pairs)

    def _number(self, context: Key, option: Key, cost: float) -> int:
        number = self._numbers.get((context, option))
        if number is None:
            number = self._numbers[context, option] = len(self.keys)
            self.keys.append((context, option))
            self.context.append(self._contexts.setdefault(context, len(self._contexts)))
            self.costs.append(cost)
        self.costs[number] = min(cost, self.costs[number])
        return number


def _exits(grammar: Grammar, arcs: Any) -> Iterator[str]:
    """How each arc goes on: the list state it leads to, numbered where several stems lead to one.

    The states of one list state differ by seam. Arcs of an entry that differ by the seam taken are
    one choice; arcs that differ by more are stems of their own, told apart by the order of ``stems.tsv``.
    """
    stems: dict[tuple[int, str], dict[tuple[tuple[int, ...], int], int]] = {}
    taken: dict[tuple[int, int], int] = {}
    for arc in arcs:
        state = grammar.states[arc.target]
        again = taken[arc.entry, arc.target] = taken.get((arc.entry, arc.target), -1) + 1
        known = stems.setdefault((arc.entry, state.name), {})
        place = known.setdefault((state.rules, again), len(known))
        yield state.name if not place else f"{state.name}~{place + 1}"


class Lattices:
    """All closed analyses of some words as one graph, endings shared.

    A node is (ending, state), an edge an arc of the grammar with the two choices it makes.
    """

    def __init__(self, grammar: Grammar, choices: Choices) -> None:
        self._roots: dict[str, list[tuple[int, int]]] = {}
        self._affixes: dict[str, dict[int, list[tuple[int, int]]]] = {}
        self._pairs: list[tuple[int, int]] = []
        self._longest = 0
        for source, arcs in enumerate(grammar.arcs):
            for arc, pair in zip(arcs, choices.of_arcs[source]):
                number = len(self._pairs)
                self._pairs.append(pair)
                if source == Grammar.START:
                    self._roots.setdefault(arc.letters, []).append((arc.target, number))
                else:
                    after = self._affixes.setdefault(arc.letters, {})
                    after.setdefault(arc.target, []).append((source, number))
                    self._longest = max(self._longest, len(arc.letters))
        self._endings: dict[str, dict[int, int]] = {"": {Grammar.END: 0}}
        self._lengths = array("q", [0])
        self._sizes = array("q", [0])
        self._targets = array("q")
        self._arcs = array("q")
        self._words = array("q")
        self._counts = array("d")

    def add(self, letters: str, count: float = 1.0) -> bool:
        """Add a word, given as letter string; False if the closed grammar does not accept it."""
        for begin in range(len(letters) - 1, 0, -1):
            if letters[begin:] not in self._endings:
                self._endings[letters[begin:]] = self._ending(letters[begin:])
        edges = []
        for end in range(1, len(letters) + 1):
            after = self._endings[letters[end:]]
            for target, number in self._roots.get(letters[:end], ()) if after else ():
                if target in after:
                    edges.append((after[target], number))
        if not edges:
            return False
        self._words.append(self._node(len(letters), edges))
        self._counts.append(count)
        return True

    def _node(self, length: int, edges: list[tuple[int, int]]) -> int:
        self._lengths.append(length)
        self._sizes.append(len(edges))
        for target, number in edges:
            self._targets.append(target)
            self._arcs.append(number)
        return len(self._lengths) - 1

    def _ending(self, letters: str) -> dict[int, int]:
        """The nodes of an ending by state, all shorter endings being there."""
        found: dict[int, list[tuple[int, int]]] = {}
        for end in range(1, min(len(letters), self._longest) + 1):
            pieces = self._affixes.get(letters[:end])
            after = self._endings[letters[end:]] if pieces else {}
            if pieces and after:
                for target in sorted(pieces.keys() & after.keys()):
                    for source, number in pieces[target]:
                        found.setdefault(source, []).append((after[target], number))
        if not found:
            return _NOTHING
        return {state: self._node(len(letters), edges) for state, edges in found.items()}

    def graph(self) -> _Graph:
        """The graph as arrays."""
        return _Graph(
            np.asarray(self._lengths),
            np.asarray(self._sizes),
            np.asarray(self._targets, dtype=np.int64),
            np.asarray([self._pairs[number] for number in self._arcs], dtype=np.int64),
            np.asarray(self._words, dtype=np.int64),
            np.asarray(self._counts),
        )


_NOTHING: dict[int, int] = {}


class _Graph:
    """The lattices with nodes in order of length and edges in order of their first node.

    lengths, sizes: [node], targets: [edge], pairs: [edge][2], words, counts: [word]. Node 0 is
    the end of every word, and every edge leads to a shorter ending.
    """

    def __init__(
        self, lengths: Any, sizes: Any, targets: Any, pairs: Any, words: Any, counts: Any
    ) -> None:
        order = np.argsort(lengths, kind="stable")
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        begins = np.cumsum(sizes) - sizes
        self.first = np.concatenate([[0], np.cumsum(sizes[order])])
        self.source = np.repeat(np.arange(len(order)), sizes[order])
        edges = np.arange(len(targets)) - self.first[self.source] + begins[order][self.source]
        self.target = place[targets[edges]]
        self.entry_choice, self.exit_choice = pairs.reshape(-1, 2)[edges].T
        self.words = place[words]
        self.counts = counts
        longest = int(lengths.max())
        bounds = np.searchsorted(lengths[order], np.arange(1, longest + 2)).tolist()
        #: (first node, past the last) by length, from 1 on.
        self.levels = [(a, b) for a, b in zip(bounds, bounds[1:]) if b > a]

    def expect(self, logp: Any, best_only: bool) -> tuple[float, Any]:
        """Log-likelihood of the words and the expected count of each choice, given their [choice] logs.

        `best_only`: of the best analysis of each word; of equal ones the first in list order.
        """
        weight = logp[self.entry_choice] + logp[self.exit_choice]
        inside = np.zeros(len(self.first) - 1)
        share = np.zeros(len(weight))  # of an edge in what passes through its node
        for low, high in self.levels:
            begin, end = self.first[low], self.first[high]
            node = self.source[begin:end] - low
            score = weight[begin:end] + inside[self.target[begin:end]]
            starts = self.first[low:high] - begin
            top = np.maximum.reduceat(score, starts)
            alive = np.isfinite(top)[node]
            difference = np.where(alive, score - np.where(alive, top[node], 0.0), -np.inf)
            if best_only:
                ties = np.flatnonzero(difference == 0.0)
                chosen = ties[np.unique(node[ties], return_index=True)[1]]
                share[begin + chosen] = 1.0
                inside[low:high] = top
            else:
                part = np.exp(difference)
                total = np.add.reduceat(part, starts)
                inside[low:high] = top + np.log(np.where(total > 0.0, total, 1.0))
                share[begin:end] = part / np.where(total > 0.0, total, 1.0)[node]
        flow = np.zeros(len(inside))
        np.add.at(flow, self.words, self.counts)
        passed = np.zeros(len(weight))
        for low, high in reversed(self.levels):
            begin, end = self.first[low], self.first[high]
            passed[begin:end] = flow[self.source[begin:end]] * share[begin:end]
            np.add.at(flow, self.target[begin:end], passed[begin:end])
        counts = np.bincount(self.entry_choice, passed, len(logp))
        counts += np.bincount(self.exit_choice, passed, len(logp))
        return float(inside[self.words] @ self.counts), counts


@dataclass(frozen=True)
class Weights:
    """Costs (``-ln p``) by context and option; `UNSEEN` is what each option costs that is not named."""

    costs: Mapping[Key, Mapping[Key, float]]

    def write(self, path: Union[str, Path], comment: str = "") -> None:
        """Write the table that `read` reads, costs to six digits; `comment` goes into its first line."""
        lines = [f"# {comment}"] if comment else []
        lines.append("\t".join(WEIGHT_COLUMNS))
        for context, options in self.costs.items():
            unseen = f"{options[UNSEEN]:.6f}" if UNSEEN in options else ""
            for option, cost in options.items():
                if option != UNSEEN and f"{cost:.6f}" == unseen:
                    continue
                if len(context) == 1:
                    key = (option + ("",) * 5)[:5]
                    cells = (context[0], *key, "")
                else:
                    cells = ("", *context, option[0])
                lines.append("\t".join((*cells, f"{cost:.6f}")))
        try:
            Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")
        except OSError as error:
            raise DataError(f"cannot be written: {error}", Path(path)) from None

    @classmethod
    def read(cls, path: Union[str, Path]) -> Weights:
        """Read a table of `uyir grammar train`; raises `DataError` with the line for anything wrong."""
        costs: dict[Key, dict[Key, float]] = {}
        for row in read_table(path, WEIGHT_COLUMNS):
            key = tuple(row[name] for name in WEIGHT_COLUMNS[1:6])
            context: Key = key
            option: Key = (row["to"],)
            if row["state"]:
                context = (row["state"],)
                option = UNSEEN if row["category"] == "*" else key
            try:
                cost = float(row["weight"])
            except ValueError:
                cost = math.nan
            if not 0.0 <= cost < math.inf:
                raise row.error(f"weight {row['weight']!r} is no cost (a number from 0 up)")
            options = costs.setdefault(context, {})
            if option in options:
                raise row.error("this choice is there already")
            options[option] = cost
        return cls(costs)

    def apply(self, grammar: Grammar) -> Grammar:
        """A grammar with the same states and arcs whose arcs cost what these weights say.

        An option that is not named costs what `UNSEEN` does, and where the context is not named
        all its options are as likely. Raises `DataError` if no entry of the grammar is named.
        """
        choices = Choices(grammar)
        sizes = np.bincount(choices.context)
        costs, named = [], 0
        for number, (context, option) in enumerate(choices.keys):
            known = self.costs.get(context, {})
            cost = known.get(option)
            named += cost is not None and len(context) == 1
            if cost is None:
                cost = known.get(UNSEEN, math.log(sizes[choices.context[number]]))
            costs.append(cost)
        if not named:
            raise DataError(f"the weights name no entry of the grammar of {grammar.language!r}")
        arcs = [
            [
                Arc(arc.letters, arc.target, costs[entry] + costs[onward], arc.entry)
                for arc, (entry, onward) in zip(leaving, choices.of_arcs[source])
            ]
            for source, leaving in enumerate(grammar.arcs)
        ]
        return Grammar(
            grammar.language,
            grammar.entries,
            grammar.seam_rules,
            grammar.states,
            arcs,
            grammar.open_rows,
            grammar.chunks,
            grammar.unused,
        )


@dataclass(frozen=True)
class Training:
    """Weights and how they came about.

    `log_likelihood`: of the closed words in nats, before each iteration and after the last one,
    unsmoothed; with Viterbi training that of their best analyses. Words outside the closed grammar,
    which only an unknown root explains, are counted in `open_tokens` and `open_types` and not trained on.
    """

    weights: Weights
    log_likelihood: tuple[float, ...]
    closed_tokens: int
    closed_types: int
    open_tokens: int
    open_types: int


def weighted_segmenter(language: str, path: Union[str, Path]) -> Segmenter:
    """The segmenter of a language that comes with uyir, by the weights of a file."""
    return Segmenter(Weights.read(path).apply(load_grammar(language)))


def train(
    grammar: Grammar,
    counts: Mapping[str, int],
    method: str = "em",
    iterations: int = 10,
    smoothing: float = 0.1,
    report: Optional[Callable[[int, float], None]] = None,
) -> Training:
    """Weights of maximum likelihood for word counts (well-formed words of the grammar's language).

    The first distribution is that of the lists' costs. `report` is called with the number of
    iterations done and the log-likelihood. Raises `DataError` if the grammar accepts no word.
    """
    if method not in METHODS or iterations < 1 or not 0.0 < smoothing < math.inf:
        raise DataError(
            f"method {method!r} (one of {', '.join(METHODS)}), {iterations} iterations (1 or more), "
            f"smoothing {smoothing} (above 0)"
        )
    choices = Choices(grammar)
    lattices = Lattices(grammar, choices)
    tokens = {True: 0, False: 0}
    types = {True: 0, False: 0}
    for word in sorted(counts):
        closed = lattices.add(decompose(word, grammar.language), counts[word])
        tokens[closed] += counts[word]
        types[closed] += 1
    if not types[True]:
        raise DataError(f"the grammar of {grammar.language!r} accepts none of {types[False]} words")
    graph = lattices.graph()
    context = np.asarray(choices.context)
    logp = _logs(np.exp(-np.asarray(choices.costs)), context, None)
    told: list[float] = []
    while True:
        likelihood, expected = graph.expect(logp, method == "viterbi")
        told.append(likelihood)
        if report is not None:
            report(len(told) - 1, likelihood)
        gained = math.inf if len(told) == 1 else told[-1] - told[-2]
        if len(told) > iterations or gained < LEAST_GAIN * tokens[True]:
            break
        logp = _logs(expected, context, logp)
    return Training(
        _named(choices, expected, smoothing),
        tuple(told),
        tokens[True],
        types[True],
        tokens[False],
        types[False],
    )


def _logs(amounts: Any, context: Any, before: Any) -> Any:
    """Logs of relative frequencies; a context that nothing reached keeps those before."""
    totals = np.bincount(context, amounts)[context]
    reached = totals > 0.0
    with np.errstate(divide="ignore"):
        logs = np.log(amounts / np.where(reached, totals, 1.0))
    return logs if before is None else np.where(reached, logs, before)


def _named(choices: Choices, expected: Any, smoothing: float) -> Weights:
    """Smoothed weights by name; what was never seen is not named."""
    context = np.asarray(choices.context)
    totals = np.bincount(context, expected + smoothing)
    found = (np.log(totals[context]) - np.log(expected + smoothing)).tolist()
    unseen = (np.log(totals) - math.log(smoothing)).tolist()
    costs: dict[Key, dict[Key, float]] = {}
    for number in sorted(range(len(found)), key=lambda number: choices.keys[number]):
        of, option = choices.keys[number]
        options = costs.setdefault(of, {UNSEEN: unseen[choices.context[number]]})
        if expected[number] > 0.0:
            options[option] = max(0.0, found[number])
    return Weights(costs)
