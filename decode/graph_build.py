"""Building graphs: HLG = H ∘ T⁻¹ ∘ (L ∘ (SG ∩ LM)); needs Pynini for T, the grammar and one composition.

The parts, each of which may be left out:

    LM   a back-off n-gram model: an acceptor over word-table ids whose back-off arcs are `#0`
    SG   the subword grammar: an acceptor of one word's subwords, closed here over sentences
    L    letters to subwords: spelling, with a mark on the last letter of a word
    T    letters to phones: the pronunciation rules, which see whole words across subword seams
    H    the CTC topology

How LG over letters is made. The textbook way composes L with G, determinises and minimises. As the
outcome is known beforehand it is written down directly: from a state q = (SG state, LM state) lead
the subwords that both allow, and what determinisation would make of them is their prefix tree, with
each subword put where it can no longer be another one and the least cost of a branch at its stem.
What minimisation would share, equal branches that lead to the same states, is shared while the trees
are made, from their tips (`_Letters.node`). No determinisation means nothing to run away: time and
memory grow with the number of n-grams, not with the look-ahead of a subset construction. Where one
subword begins another one the tree has two arcs of a letter, so no disambiguation symbols are needed.

Back-off arcs keep the SG state. A state (SG, LM) without any subword of its own is passed over, its
back-off cost being paid on the way in. At word ends the SG goes back to its start.

T is then composed before it by OpenFst, its epsilons are taken out where that costs no arcs
(`contract`), and H is left to `uyir.decode.graph`, which adds it when a graph is loaded.

Splices. ``<splice:STATE>`` symbols of the word table lead from the start of a word, in the unigram
state, to SG state STATE. They pass L and T as one opaque letter (to the rules, a vowel), stop the
pushing of costs and labels as any letter does, and end as `uyir.decode.graph.Splice` records.
"""

from __future__ import annotations

import math
import resource
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Callable, Optional, Union

import numpy as np
import numpy.typing as npt

from uyir.decode.graph import Arcs, Graph, Splice, cheapest, file_sha256, openfst_bytes, ranges
from uyir.decode.lm import BOS, EOS, UNK, NgramModel, is_vocabulary
from uyir.errors import GraphError
from uyir.lexicon.symbols import EPSILON, WORD_END, Symbols

Ints = npt.NDArray[np.int64]
Say = Callable[[str], None]

#: Raised whenever the same inputs give another graph.
BUILDER_VERSION = 1
BACKOFF = "#0"
SPLICE = "<splice:"
#: Costs are whole multiples of this while a graph is built, so that equal branches compare equal.
COST_UNIT = 1.0 / 1024
#: Letters are characters from here on in the builder's strings; those that end a word from FINAL.
_LETTER, _FINAL = 0x100, 0x4000
#: For the estimate; measured on Tamil and Kannada models of 45,000 to 1.2 million n-grams (within a third).
_ARCS_PER_NGRAM, _ARCS_PER_SG_ARC, _BYTES_PER_ARC = 2.3, 0.4, 700


@dataclass(frozen=True)
class Limits:
    """When a build stops: states or arcs of any step, memory of the process in GB."""

    max_states: int = 30_000_000
    max_arcs: int = 60_000_000
    max_memory: float = 6.0


@dataclass
class Report:
    """What was built: states, arcs and seconds of each step, and the whole's size and peak memory."""

    steps: list[dict[str, Any]] = field(default_factory=list)
    states: int = 0
    arcs: int = 0
    epsilons: int = 0
    hlg_states: int = 0
    hlg_arcs: int = 0
    splices: int = 0
    bytes: int = 0
    peak_memory_gb: float = 0.0
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def memory_gb() -> float:
    """The process's greatest memory so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)


class _Watch:
    """Progress, and the clean stop before memory is gone."""

    def __init__(self, limits: Limits, say: Say) -> None:
        self.limits, self.say = limits, say
        self.report = Report()
        self.begun = self.last = time.monotonic()

    def step(self, name: str, states: int, arcs: int) -> None:
        now = time.monotonic()
        seconds = round(now - self.last, 2)
        self.last = now
        self.report.steps.append({"step": name, "states": states, "arcs": arcs, "seconds": seconds})
        self.say(f"{name}: {states:,} states, {arcs:,} arcs, {seconds:.1f} s, {memory_gb():.2f} GB")
        self.check(name, states, arcs)

    def check(self, name: str, states: int, arcs: int, ahead: float = 0.0) -> None:
        """Raise `GraphError` over a limit; ``ahead``: GB that the next step is expected to add."""
        limits = self.limits
        for what, have, most in (
            ("states", states, limits.max_states),
            ("arcs", arcs, limits.max_arcs),
        ):
            if have > most:
                raise GraphError(
                    f"{name} has {have:,} {what}, more than the limit of {most:,}: "
                    "prune the language model harder or raise the limit"
                )
        need = memory_gb() + ahead
        if need > limits.max_memory:
            raise GraphError(
                f"{name} needs {need:.1f} GB of memory, more than the limit of "
                f"{limits.max_memory:.1f} GB: prune the language model harder or raise the limit"
            )


# --------------------------------------------------------------------------------------------------
# LM and SG as tables


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


@dataclass(frozen=True, eq=False)
class Grammar:
    """SG as tables: per state the subwords that may follow, word id -> (next state, cost).

    State 0 is between words: a subword that closes a word leads there, and so does a splice symbol
    that stands for a whole word. ``splices`` are (symbol id, state) pairs. Costs in `COST_UNIT`.
    """

    follow: list[dict[int, tuple[int, int]]]
    splices: list[tuple[int, int]]


def free_grammar(words: Symbols) -> Grammar:
    """The grammar that only keeps affixes within words and roots out of them."""
    follow: list[dict[int, tuple[int, int]]] = [{}, {}]
    splices = []
    for number, word in enumerate(words):
        if is_vocabulary(word):
            follow[int(word.startswith("+"))][number] = (int(word.endswith("+")), 0)
        elif word.startswith(SPLICE):
            splices.append((number, 1))
    return Grammar(follow, splices)


def grammar_tables(acceptor: Any, words: Symbols, scale: float = 0.0) -> Grammar:
    """An SG acceptor (`pynini.Fst` over word-table ids, one word a path) closed over sentences.

    Weights are multiplied by ``scale``. Raises `GraphError` if it is not deterministic, accepts
    nothing, or has arcs into its start state.
    """
    if acceptor.start() < 0 or acceptor.num_states() == 0:
        raise GraphError("the subword grammar accepts nothing of this word table")
    number: dict[int, int] = {acceptor.start(): 0}
    follow: list[dict[int, tuple[int, int]]] = []
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

    for state in queue:
        table: dict[int, tuple[int, int]] = {}
        for arc in acceptor.arcs(state):
            if arc.ilabel == 0 or arc.ilabel in table:
                raise GraphError(f"the subword grammar is not deterministic in state {state}")
            if not 0 < arc.ilabel < len(words):
                raise GraphError(
                    f"the subword grammar has word {arc.ilabel}, the table {len(words)} words"
                )
            if arc.nextstate == acceptor.start():
                raise GraphError("the subword grammar goes back to its start: it is of one word")
            if is_splice[arc.ilabel]:
                ends = math.isfinite(float(acceptor.final(arc.nextstate)))
                splices.append((arc.ilabel, 0 if ends else place(arc.nextstate)))
            elif closes[arc.ilabel]:
                final = float(acceptor.final(arc.nextstate))
                if math.isfinite(final):
                    table[arc.ilabel] = (0, cost(arc.weight) + cost(final))
            else:
                table[arc.ilabel] = (place(arc.nextstate), cost(arc.weight))
        follow.append(table)
    return Grammar(_productive(follow), splices)


def _productive(
    follow: list[dict[int, tuple[int, int]]],
) -> list[dict[int, tuple[int, int]]]:
    """Without the subwords that lead to where no word can be finished any more."""
    into: list[list[int]] = [[] for _ in follow]
    for source, table in enumerate(follow):
        for target, _ in table.values():
            into[target].append(source)
    alive = {0}
    stack = [0]
    while stack:
        for source in into[stack.pop()]:
            if source not in alive:
                alive.add(source)
                stack.append(source)
    return [{w: t for w, t in table.items() if t[0] in alive} for table in follow]


# --------------------------------------------------------------------------------------------------
# LG over letters

_LetterArc = tuple[str, int, int, int]  # letter, word or 0, cost, target
_Entry = tuple[str, int, int, int]  # letters, word, cost, target


class _Letters:
    """LG over letters while it is made: trees from product states, shared from their tips.

    Product states are numbers from 0, tree nodes from -1 down.
    """

    def __init__(self, sg: Grammar, lm: LmAcceptor, spelling: Sequence[str], watch: _Watch) -> None:
        self.sg, self.lm, self.spelling, self.watch = sg, lm, spelling, watch
        self.numbers: dict[tuple[int, int], int] = {}
        self.states: list[tuple[int, int]] = []
        self.waiting: dict[tuple[int, int], list[tuple[int, int, int, int]]] = {}
        self.settled: dict[tuple[int, int], tuple[int, int]] = {}
        self.nodes: dict[tuple[_LetterArc, ...], int] = {}
        self.tails: dict[tuple[str, int], int] = {}
        self.root_words: dict[int, tuple[int, int]] = {}
        for arc in range(lm.begin[0], lm.begin[1]):
            self.root_words[lm.word[arc]] = (lm.cost[arc], lm.target[arc])
        self.rows: list[tuple[int, str, int, int, int]] = []
        self.num_arcs = 0

    def subwords(self, sg_state: int, lm_state: int) -> list[tuple[int, int, int, int]]:
        """(word, cost, next SG state, next LM state) of what both allow without backing off."""
        follow, lm = self.sg.follow[sg_state], self.lm
        found = []
        if lm_state == 0:
            for word, (after, extra) in follow.items():
                known = self.root_words.get(word)
                if known is not None:
                    found.append((word, known[0] + extra, after, known[1]))
        else:
            for arc in range(lm.begin[lm_state], lm.begin[lm_state + 1]):
                word = lm.word[arc]
                allowed = follow.get(word)
                if allowed is not None:
                    found.append((word, lm.cost[arc] + allowed[1], allowed[0], lm.target[arc]))
        return found

    def settle(self, sg_state: int, lm_state: int) -> tuple[int, int]:
        """The number of the first product state along the back-offs that allows anything, and the
        cost of getting there."""
        key = (sg_state, lm_state)
        done = self.settled.get(key)
        if done is None:
            found = self.subwords(sg_state, lm_state)
            ends = sg_state == 0 and self.lm.end[lm_state] >= 0
            if found or ends or lm_state == 0:
                number = self.numbers[key] = len(self.states)
                self.states.append(key)
                self.waiting[key] = found
                done = (number, 0)
            else:
                number, cost = self.settle(sg_state, self.lm.backoff[lm_state])
                done = (number, cost + self.lm.backoff_cost[lm_state])
            self.settled[key] = done
        return done

    def node(self, arcs: tuple[_LetterArc, ...]) -> int:
        """The tree node with these arcs; equal nodes are one."""
        number = self.nodes.get(arcs)
        if number is None:
            number = self.nodes[arcs] = -1 - len(self.nodes)
            self.num_arcs += len(arcs)
        return number

    def tail(self, letters: str, target: int) -> int:
        """The node from which only these letters lead, to the target."""
        if not letters:
            return target
        number = self.tails.get((letters, target))
        if number is None:
            after = self.tail(letters[1:], target)
            number = self.tails[letters, target] = self.node(((letters[0], 0, 0, after),))
        return number

    def branches(
        self, entries: Sequence[_Entry], begin: int, end: int, depth: int, paid: int
    ) -> list[_LetterArc]:
        """The arcs of the node that sorted entries [begin, end) share at a depth."""
        arcs: list[_LetterArc] = []
        i = begin
        while i < end:
            letter = entries[i][0][depth]
            j = i + 1
            while j < end and entries[j][0][depth] == letter:
                j += 1
            while i < j and len(entries[i][0]) == depth + 1:
                _, word, cost, target = entries[i]
                arcs.append((letter, word, cost - paid, target))
                i += 1
            if j - i == 1:
                letters, word, cost, target = entries[i]
                arcs.append((letter, word, cost - paid, self.tail(letters[depth + 1 :], target)))
            elif i < j:
                least = min(entry[2] for entry in entries[i:j])
                child = self.node(tuple(self.branches(entries, i, j, depth + 1, least)))
                arcs.append((letter, 0, least - paid, child))
            i = j
        return arcs

    def build(self, splice_letters: dict[int, str], splice_cost: int) -> Arcs:
        """Expand everything that can be reached from the start of a sentence."""
        start, extra = self.settle(0, self.lm.start)
        roots: list[tuple[_LetterArc, ...]] = []
        backoffs: list[tuple[int, int, int]] = []
        done = 0
        while done < len(self.states):
            key = self.states[done]
            sg_state, lm_state = key
            entries = []
            for word, cost, after, history in self.waiting.pop(key):
                target, more = self.settle(after, history)
                entries.append((self.spelling[word], word, cost + more, target))
            if key == (0, 0):
                for word, after in self.sg.splices:
                    if word in splice_letters:
                        target, more = self.settle(after, 0)
                        entries.append((splice_letters[word], word, splice_cost + more, target))
            entries.sort()
            arcs = tuple(self.branches(entries, 0, len(entries), 0, 0))
            roots.append(arcs)
            self.num_arcs += len(arcs)
            if lm_state:
                target, more = self.settle(sg_state, self.lm.backoff[lm_state])
                backoffs.append((done, target, self.lm.backoff_cost[lm_state] + more))
            done += 1
            if done % 2000 == 0:
                self.watch.check(
                    "LG over letters", len(self.states) + len(self.nodes), self.num_arcs
                )
                if done % 20000 == 0:
                    self.watch.say(
                        f"  {done:,} of {len(self.states):,} histories, "
                        f"{len(self.nodes):,} shared nodes, {self.num_arcs:,} arcs"
                    )
        return self._arrays(roots, backoffs, start, extra)

    def _arrays(
        self,
        roots: Sequence[tuple[_LetterArc, ...]],
        backoffs: Sequence[tuple[int, int, int]],
        start: int,
        extra: int,
    ) -> Arcs:
        count = len(roots)
        nodes: list[tuple[_LetterArc, ...]] = [*roots, *self.nodes]
        flat = [arc for arcs in nodes for arc in arcs]
        source = np.repeat(np.arange(len(nodes)), [len(arcs) for arcs in nodes])
        label = np.fromiter((ord(arc[0]) for arc in flat), np.int64, len(flat))
        word = np.fromiter((arc[1] for arc in flat), np.int64, len(flat))
        cost = np.fromiter((arc[2] for arc in flat), np.int64, len(flat))
        target = np.fromiter((arc[3] for arc in flat), np.int64, len(flat))
        target = np.where(target < 0, count - 1 - target, target)
        final = np.full(len(nodes), np.inf)
        for number, (sg_state, lm_state) in enumerate(self.states):
            if sg_state == 0 and self.lm.end[lm_state] >= 0:
                final[number] = self.lm.end[lm_state] * COST_UNIT
        back = np.array(backoffs, dtype=np.int64).reshape(-1, 3)
        if extra:
            # The sentence's first history allowed nothing: pay for its back-off at a start of its own.
            source = np.concatenate([source, [len(nodes)]])
            target = np.concatenate([target, [start]])
            label = np.concatenate([label, [_BACKOFF_LABEL]])
            word = np.concatenate([word, [0]])
            cost = np.concatenate([cost, [extra]])
            final = np.append(final, np.inf)
            start = len(nodes)
        return Arcs.build(
            np.concatenate([source, back[:, 0]]),
            np.concatenate([target, back[:, 1]]),
            np.concatenate([label, np.full(len(back), _BACKOFF_LABEL)]),
            np.concatenate([word, np.zeros(len(back), dtype=np.int64)]),
            np.concatenate([cost, back[:, 2]]) * COST_UNIT,
            start,
            final,
        )


_BACKOFF_LABEL = 1


def letter_graph(
    words: Symbols,
    language: str,
    letters: Symbols,
    sg: Grammar,
    lm: LmAcceptor,
    splice_cost: float,
    watch: _Watch,
) -> tuple[Arcs, dict[int, int]]:
    """LG over letters, and the labels of the splice symbols: word id -> label.

    Labels: `_BACKOFF_LABEL` for back-off, ``_LETTER + letter id``, ``_FINAL + letter id`` for a
    letter that ends a word.
    """
    from uyir.grammar.join import bare, closes
    from uyir.grammar.script import decompose

    spelling: list[str] = []
    splice_letters: dict[int, str] = {}
    whole = {word for word, state in sg.splices if state == 0}
    for number, word in enumerate(words):
        text = ""
        if is_vocabulary(word):
            ids = [letters.id(letter) for letter in decompose(bare(word), language)]
            if not ids:
                raise GraphError(f"subword {word!r} has no letters")
            text = "".join(chr(_LETTER + i) for i in ids)
            if closes(word):
                text = text[:-1] + chr(_FINAL + ids[-1])
        elif word.startswith(SPLICE):
            place = _FINAL if number in whole else _LETTER
            splice_letters[number] = chr(place + len(letters) + len(splice_letters))
        spelling.append(text)
    if _LETTER + len(letters) + len(splice_letters) >= _FINAL:
        raise GraphError(f"{len(splice_letters)} splice symbols are too many")
    builder = _Letters(sg, lm, spelling, watch)
    built = builder.build(splice_letters, round(splice_cost / COST_UNIT))
    return built, {word: ord(letter) for word, letter in splice_letters.items()}


# --------------------------------------------------------------------------------------------------
# T


def _to_pynini(arcs: Arcs) -> Any:
    import pynini

    with tempfile.NamedTemporaryFile(suffix=".fst") as file:
        file.write(openfst_bytes(arcs))
        file.flush()
        return pynini.Fst.read(file.name)


def from_openfst(fst: Any) -> Arcs:
    """A `pynini.Fst` (tropical, vector) as arrays; raises `GraphError` if it has no states."""
    if fst.num_states() == 0 or fst.start() < 0:
        raise GraphError("the graph is empty: its parts accept nothing in common")
    with tempfile.NamedTemporaryFile(suffix=".fst") as file:
        fst.write(file.name)
        data = Path(file.name).read_bytes()
    at = 4
    for _ in range(2):  # names of the FST and arc types
        at += 4 + int.from_bytes(data[at : at + 4], "little")
    flags = int.from_bytes(data[at + 4 : at + 8], "little")
    if flags & 3:
        raise GraphError("an OpenFst file with symbol tables cannot be read")
    start, states, _ = np.frombuffer(data, dtype="<i8", count=3, offset=at + 16).tolist()
    body = np.frombuffer(data, dtype="<i4", offset=at + 40)
    count = np.empty(states, dtype=np.int64)
    place = np.empty(states, dtype=np.int64)
    here = 0
    for state in range(states):
        place[state] = here
        arcs = int(body[here + 1])
        count[state] = arcs
        here += 3 + 4 * arcs
    rows, owner = ranges(np.zeros(states, dtype=np.int64), count)
    base = place[owner] + 3 + 4 * rows
    return Arcs.build(
        owner,
        body[base + 3],
        body[base],
        body[base + 1],
        body[base + 2].view("<f4"),
        start,
        body[place].view("<f4"),
    )


def _pronouncer(
    language: str,
    letters: Symbols,
    tokens: Symbols,
    splice_labels: Sequence[int],
    variants: bool,
) -> Any:
    """T with the labels of `letter_graph` on the letters' side.

    On the phones' side: token ids, then the back-off, then the splices in the order given.
    """
    import pynini
    import pywrapfst

    from uyir.lexicon.fst import phone_transducer

    end = letters.id(WORD_END)
    backoff = len(letters)
    opaque = {len(letters) + 1 + i: len(tokens) + 1 + i for i in range(len(splice_labels))}
    rules = phone_transducer(
        language,
        letters,
        tokens,
        variants=variants,
        passthrough=opaque,
        transparent={backoff: len(tokens)},
    )
    # Our labels to T's letters: a final letter is the letter and the word's end.
    arc = pywrapfst.Arc
    marks = pynini.Fst()
    marks.add_states(2)
    marks.set_start(0)
    marks.set_final(0)
    marks.add_arc(1, arc(0, end, 0.0, 0))
    for number in range(1, len(letters)):
        if number != end:
            marks.add_arc(0, arc(_LETTER + number, number, 0.0, 0))
            marks.add_arc(0, arc(_FINAL + number, number, 0.0, 1))
    marks.add_arc(0, arc(_BACKOFF_LABEL, backoff, 0.0, 0))
    for label, inner in zip(splice_labels, opaque):
        marks.add_arc(0, arc(label, inner, 0.0, int(label >= _FINAL)))
    marks.arcsort("olabel")
    whole = pynini.compose(marks, rules.arcsort("ilabel"))
    whole.rmepsilon()
    whole.connect()
    if whole.num_states() == 0:
        raise GraphError(f"the pronunciation rules of {language!r} accept nothing")
    return whole


#: Contracting and merging stop when a round takes out less than this share of what is there.
_WORTHWHILE = 0.001


def contract(arcs: Arcs, rounds: int = 20) -> Arcs:
    """Take out input epsilons wherever no arcs are added, or hardly any; keeps costs and words.

    Two moves, repeated: a state whose only arc is an epsilon is passed over, and an epsilon into a
    state that nothing else enters, or that has at most two arcs, is replaced by that state's arcs. A
    word is moved only onto an arc that has none.
    """
    for _ in range(rounds):
        before = int((arcs.ilabel == 0).sum())
        arcs = _pull_back(_skip_forward(arcs))
        if before - int((arcs.ilabel == 0).sum()) <= _WORTHWHILE * before:
            break
    return _dedupe(arcs).connected()


def _skip_forward(arcs: Arcs) -> Arcs:
    degree = np.diff(arcs.offsets)
    only = (degree == 1) & ~np.isfinite(arcs.final)
    only[arcs.start] = False
    states = np.flatnonzero(only)
    states = states[arcs.ilabel[arcs.offsets[states]] == 0]
    # A word on the epsilon needs all arcs into its state to be free of words.
    busy = np.zeros(arcs.num_states, dtype=bool)
    busy[arcs.target[arcs.olabel != 0]] = True
    word = arcs.olabel[arcs.offsets[states]]
    states = states[(word == 0) | ~busy[states]]
    target = arcs.target[arcs.offsets[states]]
    # One at a time along a chain: skip a state only if what it leads to is not skipped itself.
    skipped = np.zeros(arcs.num_states, dtype=bool)
    skipped[states] = True
    states = states[~skipped[target]]
    if not len(states):
        return arcs
    place = np.full(arcs.num_states, -1, dtype=np.int64)
    place[states] = arcs.offsets[states]
    via = place[arcs.target]
    hit = via >= 0
    new_target, new_word, cost = arcs.target.copy(), arcs.olabel.copy(), arcs.weight.copy()
    new_target[hit] = arcs.target[via[hit]]
    new_word[hit] += arcs.olabel[via[hit]]
    cost[hit] += arcs.weight[via[hit]]
    return _without_orphans(
        Arcs(arcs.source, new_target, arcs.ilabel, new_word, cost, arcs.start, arcs.final)
    )


def _pull_back(arcs: Arcs) -> Arcs:
    degree = np.diff(arcs.offsets)
    entering = np.bincount(arcs.target, minlength=arcs.num_states)
    entering[arcs.start] += 1
    eps = np.flatnonzero(arcs.ilabel == 0)
    to = arcs.target[eps]
    fits = ((entering[to] == 1) | (degree[to] <= 2)) & ~np.isfinite(arcs.final[to])
    speaks = np.zeros(arcs.num_states, dtype=bool)
    speaks[arcs.source[arcs.olabel != 0]] = True
    fits &= (arcs.olabel[eps] == 0) | ~speaks[to]
    # Not through a state that itself loses an epsilon in this round.
    chosen = eps[fits]
    losing = np.zeros(arcs.num_states, dtype=bool)
    losing[arcs.source[chosen]] = True
    chosen = chosen[~losing[arcs.target[chosen]]]
    if not len(chosen):
        return arcs
    keep = np.ones(arcs.num_arcs, dtype=bool)
    keep[chosen] = False
    to = arcs.target[chosen]
    copies, owner = ranges(arcs.offsets[to], arcs.offsets[to + 1])
    origin = chosen[owner]
    return _without_orphans(
        Arcs.build(
            np.concatenate([arcs.source[keep], arcs.source[origin]]),
            np.concatenate([arcs.target[keep], arcs.target[copies]]),
            np.concatenate([arcs.ilabel[keep], arcs.ilabel[copies]]),
            np.concatenate([arcs.olabel[keep], arcs.olabel[copies] + arcs.olabel[origin]]),
            np.concatenate([arcs.weight[keep], arcs.weight[copies] + arcs.weight[origin]]),
            arcs.start,
            arcs.final,
        )
    )


def _without_orphans(arcs: Arcs) -> Arcs:
    """Without the arcs of states that nothing enters any more; the states stay."""
    while True:
        entered = np.zeros(arcs.num_states, dtype=bool)
        entered[arcs.target] = True
        entered[arcs.start] = True
        keep = entered[arcs.source]
        if keep.all():
            return arcs
        arcs = Arcs(
            arcs.source[keep],
            arcs.target[keep],
            arcs.ilabel[keep],
            arcs.olabel[keep],
            arcs.weight[keep],
            arcs.start,
            arcs.final,
        )


def _dedupe(arcs: Arcs) -> Arcs:
    """Of arcs that differ in cost only, the cheapest."""
    fresh = cheapest(
        arcs.num_states, arcs.source, arcs.target, arcs.olabel, arcs.ilabel, arcs.weight
    )
    if len(fresh) == arcs.num_arcs:
        return arcs
    fresh.sort()
    return Arcs(
        arcs.source[fresh],
        arcs.target[fresh],
        arcs.ilabel[fresh],
        arcs.olabel[fresh],
        arcs.weight[fresh],
        arcs.start,
        arcs.final,
    )


def merge_equal_states(arcs: Arcs, rounds: int = 100) -> Arcs:
    """Merge states whose arcs out are the same, and states whose arcs in are the same; exact.

    States with equal futures are one state; so are states with equal pasts, since every path in
    may go on either way (bisimulation, forward and backward). Costs in may differ by a constant,
    which moves to the arcs out. The second kind undoes what T guessed too early: several arcs of one
    token out of a state become one.
    """
    for _ in range(rounds):
        before = arcs.num_states
        arcs = _merge_futures(arcs)
        arcs = _merge_pasts(arcs)
        if before - arcs.num_states <= _WORTHWHILE * before:
            break
    return arcs


def _steps(cost: npt.NDArray[Any]) -> Ints:
    return np.rint(cost / COST_UNIT).astype(np.int64)


def _merge_futures(arcs: Arcs) -> Arcs:
    ends = np.where(np.isfinite(arcs.final), arcs.final, -1.0)
    columns = [arcs.target, arcs.ilabel, arcs.olabel, _steps(arcs.weight)]
    chosen = _representatives(arcs.source, columns, _steps(ends), arcs.num_states)
    if chosen is None:
        return arcs
    keep = chosen[arcs.source] == arcs.source
    return _renumbered(
        chosen,
        arcs.source[keep],
        arcs.target[keep],
        arcs.ilabel[keep],
        arcs.olabel[keep],
        arcs.weight[keep],
        arcs.start,
        arcs.final,
    )


def _merge_pasts(arcs: Arcs) -> Arcs:
    least = np.full(arcs.num_states, np.inf, dtype=np.float32)
    np.minimum.at(least, arcs.target, arcs.weight)
    least[arcs.start] = 0.0
    is_start = np.zeros(arcs.num_states, dtype=np.int64)
    is_start[arcs.start] = 1
    columns = [arcs.source, arcs.ilabel, arcs.olabel, _steps(arcs.weight - least[arcs.target])]
    chosen = _representatives(arcs.target, columns, is_start, arcs.num_states)
    if chosen is None:
        return arcs
    base = np.full(arcs.num_states, np.inf, dtype=np.float32)
    np.minimum.at(base, chosen, least)
    # What entering a state cost above the cheapest of its group is paid on leaving it.
    late = least - base[chosen]
    final = np.full(arcs.num_states, np.inf, dtype=np.float32)
    np.minimum.at(final, chosen, arcs.final + late)
    return _renumbered(
        chosen,
        arcs.source,
        arcs.target,
        arcs.ilabel,
        arcs.olabel,
        arcs.weight + late[arcs.source] - late[arcs.target],
        arcs.start,
        final,
    )


def _renumbered(
    chosen: Ints,
    source: Ints,
    target: Ints,
    ilabel: Ints,
    olabel: Ints,
    weight: npt.NDArray[Any],
    start: int,
    final: npt.NDArray[Any],
) -> Arcs:
    """Arcs between chosen states, which get numbers without gaps; equal arcs once."""
    stays = np.zeros(len(chosen), dtype=bool)
    stays[chosen] = True
    number = (np.cumsum(stays) - 1)[chosen]
    return _dedupe(
        Arcs.build(
            number[source],
            number[target],
            ilabel,
            olabel,
            weight,
            int(number[start]),
            final[stays],
        )
    )


def _representatives(of: Ints, columns: Sequence[Ints], extra: Ints, states: int) -> Optional[Ints]:
    """For each state the first one with the same set of arcs; None if all differ.

    ``of`` (A,): the state whose arc it is; ``columns``: what the arc is; ``extra`` (S,): what else has
    to be equal. Sets are compared by two 64-bit hashes.
    """
    rng = np.random.default_rng(5)
    hashes = []
    for _ in range(2):
        odd = rng.integers(1, 1 << 62, size=len(columns) + 1, dtype=np.uint64) * np.uint64(2)
        odd += np.uint64(1)
        mixed = np.zeros(len(of), dtype=np.uint64)
        for column, factor in zip(columns, odd):
            mixed = _scramble(mixed + column.astype(np.uint64) * factor)
        total = _scramble(extra.astype(np.uint64) * odd[-1])
        np.add.at(total, of, mixed)  # a sum, so that the order of arcs does not count
        hashes.append(total)
    ranked = np.lexsort((hashes[1], hashes[0]))
    differs = np.ones(states, dtype=bool)
    differs[1:] = np.any([np.diff(h[ranked]) != 0 for h in hashes], axis=0)
    if differs.all():
        return None
    chosen = np.empty(states, dtype=np.int64)
    chosen[ranked] = ranked[differs][np.cumsum(differs) - 1]
    return chosen


def _scramble(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(31))) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    return x ^ (x >> np.uint64(32))


# --------------------------------------------------------------------------------------------------
# All together


def word_table(pieces: Iterable[str], splices: Iterable[str] = ()) -> Symbols:
    """A word table: ``<eps>``, the subwords in order, splice symbols, ``#0``."""
    return Symbols([EPSILON, *sorted(set(pieces)), *splices, BACKOFF])


def build_graph(
    language: str,
    words: Symbols,
    tokens: Symbols,
    *,
    model: Optional[NgramModel] = None,
    grammar: Any = None,
    sg_scale: float = 0.0,
    variants: bool = True,
    splice_cost: float = 12.0,
    limits: Optional[Limits] = None,
    meta: Optional[dict[str, Any]] = None,
    say: Say = lambda line: None,
) -> tuple[Graph, Report]:
    """Build a graph from its parts; see the module's text.

    ``model``: the language model, None for none. ``grammar``: the SG acceptor (`pynini.Fst` over ids of
    ``words``), None for none; its weights are scaled by ``sg_scale``. ``variants``: whether optional
    pronunciations are in. ``splice_cost``: what an added root costs by itself. Raises `GraphError`
    over a limit and where the parts have nothing in common.
    """
    from uyir.lexicon.fst import letter_symbols

    watch = _Watch(limits or Limits(), say)
    letters = letter_symbols(language)
    lm = free_lm(words) if model is None else lm_acceptor(model, words)
    watch.step("LM", lm.num_states, len(lm.word))
    sg = free_grammar(words) if grammar is None else grammar_tables(grammar, words, sg_scale)
    watch.step("SG", len(sg.follow), sum(map(len, sg.follow)))

    guess = _ARCS_PER_NGRAM * len(lm.word) + _ARCS_PER_SG_ARC * sum(map(len, sg.follow))
    ahead = guess * _BYTES_PER_ARC / 2**30
    say(f"estimate: {guess / 1e6:.1f} million arcs before H, {ahead:.1f} GB to build")
    watch.check("the estimate", 0, int(guess), ahead)
    arcs, splice_labels = letter_graph(words, language, letters, sg, lm, splice_cost, watch)
    watch.step("LG over letters", arcs.num_states, arcs.num_arcs)

    rules = _pronouncer(language, letters, tokens, list(splice_labels.values()), variants)
    watch.step("T", rules.num_states(), sum(rules.num_arcs(s) for s in rules.states()))
    # OpenFst cannot be stopped: what it will need is looked at before. An arc is 16 bytes there, and
    # composition makes up to twice as many.
    watch.check("T ∘ LG", 0, arcs.num_arcs, 2 * arcs.num_arcs * 60 / 2**30)
    import pynini

    rules.invert()
    rules.arcsort("olabel")
    composed = pynini.compose(rules, _to_pynini(arcs).arcsort("ilabel"))
    watch.step(
        "T ∘ LG", composed.num_states(), sum(composed.num_arcs(s) for s in composed.states())
    )
    arcs = from_openfst(composed)
    del composed
    arcs = contract(arcs.connected())
    watch.step("without local epsilons", arcs.num_states, arcs.num_arcs)
    arcs = contract(merge_equal_states(arcs))

    watch.step("merged", arcs.num_states, arcs.num_arcs)
    graph = _finished(arcs, words, tokens, list(splice_labels), meta or {})
    report = watch.report
    report.states, report.arcs = graph.lexical.num_states, graph.lexical.num_arcs
    report.epsilons = int((graph.lexical.ilabel == 0).sum())
    report.splices = len(graph.splices)
    report.hlg_states, report.hlg_arcs = graph.num_states, graph.num_arcs
    watch.step("H", graph.num_states, graph.num_arcs)
    report.peak_memory_gb = round(memory_gb(), 3)
    report.seconds = round(time.monotonic() - watch.begun, 2)
    # Of the report only what the same inputs always give: equal builds are equal files.
    graph.meta["counts"] = {
        "states": report.states,
        "arcs": report.arcs,
        "epsilons": report.epsilons,
        "hlg_states": report.hlg_states,
        "hlg_arcs": report.hlg_arcs,
        "splices": report.splices,
    }
    return graph, report


def _finished(
    arcs: Arcs,
    words: Symbols,
    tokens: Symbols,
    splice_words: Sequence[int],
    meta: dict[str, Any],
) -> Graph:
    """Back-offs to epsilons, splice arcs to records, tokens to ilabels."""
    backoff = len(tokens)
    is_splice = arcs.ilabel > backoff
    splices = tuple(
        Splice(
            words.symbol(splice_words[label - backoff - 1])[len(SPLICE) : -1],
            0,
            source,
            target,
            cost,
        )
        for label, source, target, cost in zip(
            arcs.ilabel[is_splice].tolist(),
            arcs.source[is_splice].tolist(),
            arcs.target[is_splice].tolist(),
            arcs.weight[is_splice].tolist(),
        )
    )
    keep = ~is_splice
    ilabel = np.where((arcs.ilabel == backoff) | (arcs.ilabel == 0), 0, arcs.ilabel + 1)
    lexical = Arcs.build(
        arcs.source[keep],
        arcs.target[keep],
        ilabel[keep],
        arcs.olabel[keep],
        arcs.weight[keep],
        arcs.start,
        arcs.final,
    )
    return Graph(lexical, len(words), len(tokens), splices=splices, meta=dict(meta))


def build_files(
    language: str,
    words_path: Union[str, Path],
    tokens_path: Union[str, Path],
    out: Union[str, Path],
    *,
    lm_path: Optional[Union[str, Path]] = None,
    use_grammar: bool = True,
    sg_scale: float = 0.0,
    variants: bool = True,
    splice_cost: float = 12.0,
    limits: Optional[Limits] = None,
    say: Say = lambda line: print(line, file=sys.stderr, flush=True),
) -> tuple[Graph, Report]:
    """Build a graph of a bundled grammar from files, and write ``HLG.safetensors`` and ``meta.json``
    into the folder ``out``."""
    import json

    from uyir.decode.lm import read_arpa
    from uyir.grammar.script import NORMALISER_VERSION

    words, tokens = Symbols.read(words_path), Symbols.read(tokens_path)
    model = None if lm_path is None else read_arpa(lm_path)
    grammar = None
    if use_grammar:
        from uyir.grammar.morphotactics import load_grammar, subword_acceptor

        grammar = subword_acceptor(load_grammar(language), words, weighted=sg_scale > 0)
    meta = {
        "language": language,
        "builder": BUILDER_VERSION,
        "normaliser": NORMALISER_VERSION,
        "tokens_sha256": file_sha256(tokens_path),
        "words_sha256": file_sha256(words_path),
        "lm_sha256": None if lm_path is None else file_sha256(lm_path),
        "lm_ngrams": None if model is None else [len(order) for order in model.orders],
        "sg": use_grammar,
        "sg_scale": sg_scale,
        "variants": variants,
    }
    graph, report = build_graph(
        language,
        words,
        tokens,
        model=model,
        grammar=grammar,
        sg_scale=sg_scale,
        variants=variants,
        splice_cost=splice_cost,
        limits=limits,
        meta=meta,
        say=say,
    )
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    report.bytes = graph.save(folder / "HLG.safetensors")
    say(f"{folder / 'HLG.safetensors'}: {report.bytes:,} bytes")
    (folder / "meta.json").write_text(
        json.dumps({**meta, "report": report.as_dict()}, ensure_ascii=False, indent=1) + "\n",
        encoding="utf-8",
    )
    return graph, report
