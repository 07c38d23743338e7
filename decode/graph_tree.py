"""LG, written down instead of determinised: prefix trees over product states of grammar and model.

From a state q = (SG state, LM state) lead the subwords that both allow, and what determinisation would
make of them is their prefix tree, with each subword put where it can no longer be another one and the
least cost of a branch at its stem. What minimisation would share, equal branches that lead to the same
states, is shared while the trees are made, from their tips (`_Trees.node`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Optional

import numpy as np

from uyir.decode.arcs import Arcs
from uyir.decode.graph_parts import COST_UNIT, SPLICE, Grammar, LmAcceptor
from uyir.decode.graph_watch import Watch
from uyir.decode.lm import is_vocabulary
from uyir.errors import GraphError
from uyir.lexicon.symbols import Symbols

if TYPE_CHECKING:
    from uyir.lexicon.user import UserLexicon

BACKOFF_LABEL = 1
#: Symbols are characters from LETTER on in the builder's strings; letters that end a word from FINAL.
LETTER, FINAL = 0x100, 0x4000
#: The letter of a piece that is written but not spoken.
SILENT = "<silent>"

#: How each word of a table is read: (symbols, cost in `COST_UNIT`), one entry for each way.
Readings = Sequence[Sequence[tuple[str, int]]]
_LetterArc = tuple[str, int, int, int]  # letter, word or 0, cost, target
_Entry = tuple[str, int, int, int]  # letters, word, cost, target


class _Trees:
    """LG while it is made: trees from product states, shared from their tips.

    Product states are numbers from 0, tree nodes from -1 down.
    """

    def __init__(self, sg: Grammar, lm: LmAcceptor, readings: Readings, watch: Watch) -> None:
        self.sg, self.lm, self.readings, self.watch = sg, lm, readings, watch
        self.numbers: dict[tuple[int, int], int] = {}
        self.states: list[tuple[int, int]] = []
        self.waiting: dict[tuple[int, int], list[tuple[int, int, int, int]]] = {}
        self.settled: dict[tuple[int, int], tuple[int, int]] = {}
        self.nodes: dict[tuple[_LetterArc, ...], int] = {}
        self.tails: dict[tuple[str, int], int] = {}
        self.root_words: dict[int, tuple[int, int]] = {}
        for arc in range(lm.begin[0], lm.begin[1]):
            self.root_words[lm.word[arc]] = (lm.cost[arc], lm.target[arc])
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
        others = self.sg.others.get(sg_state)
        if others:
            said = self.said(lm_state)
            found += [
                (word, said[word][0] + extra, after, said[word][1])
                for word, after, extra in others
                if word in said
            ]
        return found

    def said(self, lm_state: int) -> dict[int, tuple[int, int]]:
        """The words that the model has in a state without backing off: (cost, next LM state)."""
        if lm_state == 0:
            return self.root_words
        lm = self.lm
        arcs = range(lm.begin[lm_state], lm.begin[lm_state + 1])
        return {lm.word[arc]: (lm.cost[arc], lm.target[arc]) for arc in arcs}

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
                for letters, weight in self.readings[word]:
                    entries.append((letters, word, cost + weight + more, target))
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
                self.watch.check("LG", len(self.states) + len(self.nodes), self.num_arcs)
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
            label = np.concatenate([label, [BACKOFF_LABEL]])
            word = np.concatenate([word, [0]])
            cost = np.concatenate([cost, [extra]])
            final = np.append(final, np.inf)
            start = len(nodes)
        return Arcs.build(
            np.concatenate([source, back[:, 0]]),
            np.concatenate([target, back[:, 1]]),
            np.concatenate([label, np.full(len(back), BACKOFF_LABEL)]),
            np.concatenate([word, np.zeros(len(back), dtype=np.int64)]),
            np.concatenate([cost, back[:, 2]]) * COST_UNIT,
            start,
            final,
        )


def letter_readings(
    words: Symbols,
    language: str,
    letters: Symbols,
    user: Optional[UserLexicon] = None,
    silent: Mapping[str, float] = MappingProxyType({}),
) -> Readings:
    """The exact L's side of a graph: every subword spelled in letters, its word's last one marked.

    Labels are ``LETTER + letter id``, and ``FINAL + letter id`` for a letter that ends a word. A subword
    that the user's lexicon pronounces is spelled in `phone_letter` symbols, which are added to
    ``letters``. A subword of ``silent`` may also, at that cost, be a letter `SILENT` that no rule sees and
    that has no sound. Raises `GraphError` for a subword without letters.
    """
    from uyir.grammar.join import bare, closes
    from uyir.grammar.script import decompose
    from uyir.lexicon.fst import phone_letter

    own = {} if user is None else user.subwords
    found: list[list[tuple[str, int]]] = []
    for word in words:
        spelled: list[tuple[list[int], float]] = []
        if word in own:
            for entry in own[word]:
                phones = [letters.add(phone_letter(phone)) for phone in entry.phones]
                spelled.append((phones, entry.weight))
        elif is_vocabulary(word):
            spelled.append(([letters.id(x) for x in decompose(bare(word), language)], 0.0))
            if word in silent:
                spelled.append(([letters.add(SILENT)], silent[word]))
        readings = []
        for ids, weight in spelled:
            if not ids:
                raise GraphError(f"subword {word!r} has no letters")
            text = "".join(chr(LETTER + i) for i in ids)
            if closes(word):
                text = text[:-1] + chr(FINAL + ids[-1])
            readings.append((text, round(weight / COST_UNIT)))
        found.append(readings)
    return found


def phone_readings(
    words: Symbols,
    language: str,
    tokens: Symbols,
    variants: bool = True,
    user: Optional[UserLexicon] = None,
) -> Readings:
    """The context-free L's side of a graph: every subword in the phones it has when it stands alone.

    Labels are ``LETTER + token id``; where `tokens` has the end of a word, it follows a word's last
    subword. Raises `GraphError` for a subword without phones.
    """
    from uyir.grammar.join import bare, closes
    from uyir.lexicon.g2p import load_g2p
    from uyir.lexicon.symbols import WORD_END

    g2p = load_g2p(language)
    end = chr(LETTER + tokens.id(WORD_END)) if WORD_END in tokens else ""
    own = {} if user is None else {**user.words, **user.subwords}
    found: list[list[tuple[str, int]]] = []
    for word in words:
        spoken: list[tuple[tuple[str, ...], float]] = []
        if word in own:
            spoken = [(entry.phones, entry.weight) for entry in own[word]]
        elif is_vocabulary(word):
            spoken = [(made.phones, made.weight) for made in g2p.pronounce(bare(word), variants)]
        readings = []
        for phones, weight in spoken:
            if not phones:
                raise GraphError(f"subword {word!r} has no phones of its own")
            text = "".join(chr(LETTER + tokens.id(phone)) for phone in phones)
            if closes(word):
                text += end
            readings.append((text, round(weight / COST_UNIT)))
        found.append(readings)
    return found


def tree_graph(
    words: Symbols,
    readings: Readings,
    symbols: int,
    sg: Grammar,
    lm: LmAcceptor,
    splice_cost: float,
    watch: Watch,
) -> tuple[Arcs, dict[int, int]]:
    """LG over the symbols of some readings, and the labels of the splice symbols: word id -> label.

    ``symbols``: how many letters or tokens there are; splices are numbered after them, and those that
    stand for a whole word from `FINAL`. Back-off arcs have `BACKOFF_LABEL`.
    """
    whole = {word for word, state in sg.splices if state == 0}
    splice_letters: dict[int, str] = {}
    for number, word in enumerate(words):
        if word.startswith(SPLICE):
            place = FINAL if number in whole else LETTER
            splice_letters[number] = chr(place + symbols + len(splice_letters))
    if LETTER + symbols + len(splice_letters) >= FINAL:
        raise GraphError(f"{len(splice_letters)} splice symbols are too many")
    builder = _Trees(sg, lm, readings, watch)
    built = builder.build(splice_letters, round(splice_cost / COST_UNIT))
    return built, {word: ord(letter) for word, letter in splice_letters.items()}
