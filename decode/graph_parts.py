"""The parts of a graph as plain tables: the word table, the language model, the subword grammar.

Costs are whole multiples of `COST_UNIT` while a graph is built, so that equal branches compare equal.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from uyir.decode.lm import BOS, EOS, UNK, NgramModel, is_vocabulary
from uyir.errors import GraphError
from uyir.lexicon.symbols import EPSILON, Symbols

Ints = npt.NDArray[np.int64]

BACKOFF = "#0"
SPLICE = "<splice:"
COST_UNIT = 1.0 / 1024


def word_table(pieces: Iterable[str], splices: Iterable[str] = ()) -> Symbols:
    """A word table: ``<eps>``, the subwords in order, splice symbols, ``#0``."""
    return Symbols([EPSILON, *sorted(set(pieces)), *splices, BACKOFF])


@dataclass(frozen=True, eq=False)
class LmAcceptor:
    """A back-off model over word-table ids. State 0 is the empty history; costs in `COST_UNIT`.

    The arcs of state s are ``begin[s]:begin[s + 1]`` of ``word``, ``cost`` and ``target``; ``end[s]``
    is the cost of the sentence's end, -1 where it has to back off; ``backoff[0]`` is -1.
    """

    begin: list[int]
    word: list[int]
    cost: list[int]
    target: list[int]
    end: list[int]
    backoff: list[int]
    backoff_cost: list[int]
    start: int

    @property
    def num_states(self) -> int:
        return len(self.end)


def _costs(log_probability: npt.NDArray[np.float64]) -> Ints:
    return np.rint(-np.maximum(log_probability, -1000.0) / COST_UNIT).astype(np.int64)


def free_lm(words: Symbols) -> LmAcceptor:
    """The model that allows every subword everywhere at no cost."""
    ids = [i for i, symbol in enumerate(words) if is_vocabulary(symbol)]
    zeros = [0] * len(ids)
    return LmAcceptor([0, len(ids)], ids, zeros, list(zeros), [0], [-1], [0], 0)


def lm_acceptor(model: NgramModel, words: Symbols) -> LmAcceptor:
    """A model as an acceptor; subwords that it does not know get the probability of ``<unk>``.

    States are the n-grams that are histories of others. An arc leads to the longest suffix of its
    n-gram that is a state. Raises `GraphError` if a subword is unknown and there is no ``<unk>``.
    """
    size = len(model.symbols)
    known = {symbol: i for i, symbol in enumerate(model.symbols)}
    to_word = np.full(size, -1, dtype=np.int64)
    for number, symbol in enumerate(words):
        if is_vocabulary(symbol) and symbol in known:
            to_word[known[symbol]] = number
    eos = known[EOS]

    # Global numbers: 0 the empty history, then the n-grams order by order.
    first = np.cumsum([1, *(len(order) for order in model.orders)])
    total = int(first[-1])
    level = np.zeros(total, dtype=np.int64)
    is_state = np.zeros(total, dtype=bool)
    is_state[0] = True
    link = np.zeros(total, dtype=np.int64)  # the longest proper suffix that is an n-gram
    history = np.zeros(total, dtype=np.int64)
    word = np.zeros(total, dtype=np.int64)
    for n, order in enumerate(model.orders):
        here = slice(int(first[n]), int(first[n + 1]))
        level[here] = n + 1
        word[here] = order.word
        if n + 1 < model.order:
            is_state[here] = np.abs(order.logb) > 1e-7
        if n == 0:
            continue
        history[here] = first[n - 1] + order.history
        is_state[history[here]] = True
        suffix = link[history[here]]
        found = np.full(len(order), -1, dtype=np.int64)
        while (found < 0).any():
            for m in range(n):
                at = np.flatnonzero((found < 0) & (level[suffix] == m))
                if not len(at):
                    continue
                if m == 0:
                    found[at] = first[0] + order.word[at]
                else:
                    place = model.find(m, suffix[at] - first[m - 1], order.word[at])
                    found[at] = np.where(place >= 0, first[m] + place, -1)
            missing = found < 0
            suffix[missing] = link[suffix[missing]]
        link[here] = found
    # The state an n-gram leads to: itself or its longest suffix that is one. Links go to lower numbers.
    state = np.cumsum(is_state) - 1
    lead = np.where(is_state, np.arange(total), -1)
    for n in range(model.order):
        here = slice(int(first[n]), int(first[n + 1]))
        lead[here] = np.where(lead[here] >= 0, lead[here], lead[link[here]])
    lead = state[lead]

    cost = _costs(np.concatenate([[0.0], *(order.logp for order in model.orders)]))[1:]
    grams = np.arange(1, total)
    source = state[history[grams]]
    spoken = to_word[word[grams]] >= 0
    rows = [source[spoken], to_word[word[grams]][spoken], cost[spoken], lead[grams][spoken]]
    absent = [i for i, symbol in enumerate(words) if is_vocabulary(symbol) and symbol not in known]
    if absent:
        if UNK not in known:
            raise GraphError(
                f"{len(absent)} subwords of the word table are not in the language model, "
                f"{words.symbol(absent[0])!r} for one, and it has no <unk>"
            )
        unknown = int(_costs(model.orders[0].logp[[known[UNK]]])[0])
        zeros = np.zeros(len(absent), dtype=np.int64)
        more = (zeros, np.array(absent, dtype=np.int64), zeros + unknown, zeros)
        rows = [np.concatenate(pair) for pair in zip(rows, more)]
    order_ = np.argsort(rows[0], kind="stable")
    source, label, cost_, target = (row[order_] for row in rows)
    states = int(is_state.sum())
    end = np.full(states, -1, dtype=np.int64)
    ending = word[grams] == eos
    end[state[history[grams][ending]]] = cost[ending]
    numbers = np.flatnonzero(is_state)
    backoff_log = np.concatenate([[0.0], *(o.logb for o in model.orders)])[numbers]
    backoff = lead[link[numbers]]
    backoff[0] = -1
    return LmAcceptor(
        np.searchsorted(source, np.arange(states + 1)).tolist(),
        label.tolist(),
        cost_.tolist(),
        target.tolist(),
        end.tolist(),
        backoff.tolist(),
        _costs(backoff_log).tolist(),
        int(lead[first[0] + known[BOS]]),
    )


#: Subwords that may follow in a state: word id -> (next state, cost).
Ways = dict[int, tuple[int, int]]


@dataclass(frozen=True, eq=False)
class Grammar:
    """SG as tables: per state the subwords that may follow, word id -> (next state, cost).

    State 0 is between words: a subword that closes a word leads there, and so does a splice symbol
    that stands for a whole word. A piece that asks something of the next word (a linking stop) leads to a
    state of its own between words instead, from which only such words follow and no sentence ends.
    ``splices`` are (symbol id, state) pairs. Costs in `COST_UNIT`.

    A weighted grammar may have the same subword at different costs (a root of the lists, and the same
    letters as an unknown root): ``follow`` has the cheapest, ``others`` the further ways of a state.
    """

    follow: list[Ways]
    splices: list[tuple[int, int]]
    #: The states between words: 0, and those after a piece that asks something.
    between: tuple[int, ...] = (0,)
    others: Mapping[int, Sequence[tuple[int, int, int]]] = field(default_factory=dict)

    @property
    def num_arcs(self) -> int:
        return sum(map(len, self.follow)) + sum(map(len, self.others.values()))

    def with_word_cost(self, cost: float) -> Grammar:
        """The same with a cost (natural logarithm) on every subword that opens a word."""
        more = round(cost / COST_UNIT)
        if not more:
            return self
        follow, others = list(self.follow), dict(self.others)
        for state in self.between:
            follow[state] = {
                word: (after, paid + more) for word, (after, paid) in follow[state].items()
            }
            if state in others:
                others[state] = [(word, after, paid + more) for word, after, paid in others[state]]
        return Grammar(follow, self.splices, self.between, others)


def free_grammar(words: Symbols) -> Grammar:
    """The grammar that only keeps affixes within words and roots out of them."""
    follow: list[Ways] = [{}, {}]
    splices = []
    for number, word in enumerate(words):
        if is_vocabulary(word):
            follow[int(word.startswith("+"))][number] = (int(word.endswith("+")), 0)
        elif word.startswith(SPLICE):
            splices.append((number, 1))
    return Grammar(follow, splices)


def opening_with(words: Symbols, language: str, letters: Sequence[str]) -> list[frozenset[int]]:
    """For each letter the subwords of a table that open a word and begin with it."""
    from uyir.grammar.join import bare, opens
    from uyir.grammar.script import decompose

    found: dict[str, list[int]] = {letter: [] for letter in letters}
    if found:
        for number, word in enumerate(words):
            if is_vocabulary(word) and opens(word):
                found.get(decompose(bare(word), language)[0], []).append(number)
    return [frozenset(found[letter]) for letter in letters]


def grammar_tables(
    acceptor: Any,
    words: Symbols,
    scale: float = 0.0,
    licensed: Sequence[frozenset[int]] = (),
) -> Grammar:
    """An SG acceptor (`pynini.Fst` over word-table ids, one word a path) closed over sentences.

    Weights are multiplied by ``scale``. ``licensed``: for an acceptor with licences (see
    `uyir.grammar.morphotactics.subword_acceptor`) the words that may follow each of them; a piece that
    may also close a word without asking anything is taken so. Of arcs with the same subword and the same
    next state the cheapest stays. Raises `GraphError` if the acceptor has epsilons, accepts nothing, or
    has arcs into its start state.
    """
    if acceptor.start() < 0 or acceptor.num_states() == 0:
        raise GraphError("the subword grammar accepts nothing of this word table")
    number: dict[int, int] = {acceptor.start(): 0}
    follow: list[Ways] = []
    several: dict[tuple[int, int], dict[int, int]] = {}  # (state, word) -> next states, costs
    splices: list[tuple[int, int]] = []
    queue = [acceptor.start()]
    closes = [word.endswith("+") is False for word in words]
    is_splice = [word.startswith(SPLICE) for word in words]

    def cost(weight: Any) -> int:
        return round(float(weight) * scale / COST_UNIT) if scale else 0

    def place(state: int) -> int:
        if state not in number:
            number[state] = len(queue)
            queue.append(state)
        return number[state]

    def ending(state: int) -> tuple[int, float]:
        """What a word that ends in a state asks of the next one (0, or one more than the licence's
        place), and the weight of ending so; infinite if no word ends there."""
        weight = float(acceptor.final(state))
        if math.isfinite(weight):
            return 0, weight
        ways = {
            arc.ilabel - len(words): float(arc.weight) + float(acceptor.final(arc.nextstate))
            for arc in acceptor.arcs(state)
            if arc.ilabel >= len(words)
        }
        if ways and max(ways) > len(licensed):
            raise GraphError(
                "the subword grammar has licences, and nothing says which words have them"
            )
        if len(licensed) in ways or not ways:
            return 0, ways.get(len(licensed), weight)
        licence = min(ways)
        return licence + 1, ways[licence]

    def add(word: int, target: int, paid: int) -> None:
        table = follow[-1]
        old = table.get(word)
        if old is None or (old[0] == target and paid < old[1]):
            table[word] = (target, paid)
        elif old[0] != target:
            ends = several.setdefault((len(follow) - 1, word), {})
            ends[target] = min(paid, ends.get(target, paid))

    asking: list[tuple[int, int]] = []
    for state in queue:
        follow.append({})
        for arc in acceptor.arcs(state):
            if arc.ilabel == 0:
                raise GraphError(f"the subword grammar has epsilons in state {state}")
            if not 0 < arc.ilabel < len(words):
                raise GraphError(
                    f"the subword grammar has word {arc.ilabel}, the table {len(words)} words"
                )
            if arc.nextstate == acceptor.start():
                raise GraphError("the subword grammar goes back to its start: it is of one word")
            if is_splice[arc.ilabel]:
                whole = math.isfinite(ending(arc.nextstate)[1])
                splices.append((arc.ilabel, 0 if whole else place(arc.nextstate)))
            elif closes[arc.ilabel]:
                asked, final = ending(arc.nextstate)
                if math.isfinite(final):
                    # What asks something leads to a state that has no number yet.
                    add(arc.ilabel, -asked, cost(arc.weight) + cost(final))
                    if asked:
                        asking.append((len(follow) - 1, arc.ilabel))
            else:
                add(arc.ilabel, place(arc.nextstate), cost(arc.weight))
    first = len(follow)
    for state, word in asking:
        target, paid = follow[state][word]
        follow[state][word] = (first - 1 - target if target < 0 else target, paid)
        ends = several.get((state, word), {})
        for target in [target for target in ends if target < 0]:
            ends[first - 1 - target] = ends.pop(target)
    for after, admitted in enumerate(licensed, start=first):
        follow.append({w: t for w, t in follow[0].items() if w in admitted})
        several.update({(after, w): several[0, w] for w in admitted if (0, w) in several})
    follow, others = _productive(follow, several)
    return Grammar(follow, splices, (0, *range(first, len(follow))), others)


def _productive(
    follow: list[Ways], several: Mapping[tuple[int, int], Mapping[int, int]]
) -> tuple[list[Ways], dict[int, list[tuple[int, int, int]]]]:
    """`Grammar.follow` and `Grammar.others` without the subwords that lead to where no word can be
    finished any more."""
    into: list[list[int]] = [[] for _ in follow]
    for source, table in enumerate(follow):
        for target, _ in table.values():
            into[target].append(source)
    for (source, _), ends in several.items():
        for target in ends:
            into[target].append(source)
    alive = {0}
    stack = [0]
    while stack:
        for source in into[stack.pop()]:
            if source not in alive:
                alive.add(source)
                stack.append(source)
    kept = [{w: t for w, t in table.items() if t[0] in alive} for table in follow]
    others: dict[int, list[tuple[int, int, int]]] = {}
    for (source, word), ends in several.items():
        ways = sorted((paid, target) for target, paid in ends.items() if target in alive)
        if word in kept[source]:
            target, paid = kept[source][word]
            ways = sorted([(paid, target), *ways])
        if ways:
            kept[source][word] = ways[0][1], ways[0][0]
            if ways[1:]:
                others.setdefault(source, []).extend((word, at, paid) for paid, at in ways[1:])
    return kept, others
