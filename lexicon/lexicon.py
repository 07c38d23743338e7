"""L, the lexicon transducer over marked subwords (needs pynini).

Two of them, chosen by whoever builds the graph:

- the exact one, `build_letter_lexicon`: subwords are spelled in letters, and the pronunciation comes
  from `uyir.lexicon.fst.phone_transducer`, which reads the whole word across all seams;
- the context-free one, `build_phone_lexicon`: every subword has pronunciations of its own, made as if
  it stood alone. It is what most recognisers do, and what the exact one is measured against.

Both have two states, outside and inside a word: `m` and `m+` start outside, `+m+` and `+m` inside; `m`
and `+m` lead outside, `m+` and `+m+` inside. So orphan affixes and silence within a word cannot
occur. Each is a prefix tree, deterministic on its input, that writes a subword as soon as no other one
is possible. A subword that is a proper prefix of another one, or sounds like it, ends in a
disambiguation symbol ``#1``, ``#2``... so that no two sequences of subwords read alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable, Optional

from uyir.errors import DataError, ScriptError
from uyir.grammar.join import bare, closes, opens
from uyir.grammar.script import decompose
from uyir.lexicon.fst import letter_symbols, phone_letter
from uyir.lexicon.g2p import DEFAULT_MAX_WEIGHT, load_g2p
from uyir.lexicon.symbols import WORD_END, Symbols

if TYPE_CHECKING:
    import pynini

    from uyir.lexicon.user import UserLexicon

#: Back-off label of the language model; the lexicon lets it through between subwords.
BACKOFF = "#0"
SPLICE = "<splice:"

OUTSIDE, INSIDE = 0, 1


@dataclass(frozen=True)
class LetterLexicon:
    """Letters (and ``|``, splice and disambiguation symbols) -> ids of marked subwords."""

    fst: pynini.Fst
    letters: Symbols
    disambig: list[int]  # ids in `letters` of #0, #1, ...
    splices: dict[str, int]  # splice symbol -> its id in `letters`


@dataclass(frozen=True)
class PhoneLexicon:
    """The context-free L: token ids (and splice and disambiguation symbols) -> ids of subwords."""

    fst: pynini.Fst
    tokens: Symbols
    disambig: list[int]
    splices: dict[str, int]


@dataclass(frozen=True)
class _Entry:
    """One way to read a subword: input ids, what it is, and the states that it joins."""

    labels: tuple[int, ...]
    word: int
    begin: int
    end: int
    weight: float = 0.0


def is_subword(symbol: str) -> bool:
    """Whether a word-table symbol is spoken: not ``<eps>``, ``<s>``, ``#0`` and their like."""
    return not (symbol.startswith("#") or (symbol.startswith("<") and symbol.endswith(">")))


def _entries(
    words: Symbols,
    read: Callable[[str], Iterable[tuple[tuple[int, ...], float]]],
    symbols: Symbols,
) -> tuple[list[_Entry], dict[str, int]]:
    """Every reading of every subword of a table; splice symbols stand for prefixes."""
    entries, splices = [], {}
    for number, word in enumerate(words):
        if word.startswith(SPLICE):
            splices[word] = symbols.add(word)
            entries.append(_Entry((splices[word],), number, OUTSIDE, INSIDE))
        elif is_subword(word):
            begin = OUTSIDE if opens(word) else INSIDE
            end = OUTSIDE if closes(word) else INSIDE
            try:
                for labels, weight in read(word):
                    entries.append(_Entry(labels, number, begin, end, weight))
            except ScriptError as error:
                raise ScriptError(f"subword {number}, {word!r}, has no letters: {error}") from None
    if not entries:
        raise DataError(f"none of the {len(words)} symbols of the word table is a subword")
    return entries, splices


def build_letter_lexicon(
    words: Symbols, language: str, user: Optional[UserLexicon] = None
) -> LetterLexicon:
    """The exact L: spells marked subwords in letters; a word's last one ends in ``|``.

    `words` is the word table of the graph; ``<splice:...>`` in it opens a word as one opaque letter.
    A subword that the user's lexicon pronounces is spelled in `phone_letter` symbols.
    Raises `ScriptError` for a subword that is not of the script, `DataError` for an empty table.
    """
    letters = letter_symbols(language)
    end = letters.id(WORD_END)

    own = {} if user is None else user.subwords
    for word, entries_of_word in own.items():
        if word in words:
            for phone in (phone for entry in entries_of_word for phone in entry.phones):
                letters.add(phone_letter(phone))

    def spell(word: str) -> Iterable[tuple[tuple[int, ...], float]]:
        if word in own:
            for entry in own[word]:
                phones = [letters.id(phone_letter(phone)) for phone in entry.phones]
                yield tuple([*phones, end] if closes(word) else phones), entry.weight
            return
        spelled = decompose(bare(word), language)
        if not spelled:
            raise ScriptError("an empty piece")
        ids = [letters.id(char) for char in spelled]
        yield tuple([*ids, end] if closes(word) else ids), 0.0

    entries, splices = _entries(words, spell, letters)
    fst, disambig = _prefix_tree(entries, words, letters)
    return LetterLexicon(fst, letters, disambig, splices)


def build_phone_lexicon(
    words: Symbols,
    language: str,
    tokens: Symbols,
    variants: bool = True,
    max_weight: float = DEFAULT_MAX_WEIGHT,
) -> PhoneLexicon:
    """The context-free L: each subword is pronounced as if it were a word of its own.

    Raises as `build_letter_lexicon` does.
    """
    g2p = load_g2p(language)
    table = tokens.copy()

    def speak(word: str) -> Iterable[tuple[tuple[int, ...], float]]:
        for made in g2p.pronounce(bare(word), variants, max_weight):
            yield tuple(tokens.id(phone) for phone in made.phones), made.weight

    entries, splices = _entries(words, speak, table)
    fst, disambig = _prefix_tree(entries, words, table)
    return PhoneLexicon(fst, table, disambig, splices)


def _disambiguated(entries: Sequence[_Entry], symbol: Callable[[int], int]) -> list[_Entry]:
    """The entries, with ``#k`` after those that read like another one, or like its beginning."""
    longer: set[tuple[int, tuple[int, ...]]] = set()
    alike: dict[tuple[int, tuple[int, ...]], int] = {}
    for entry in entries:
        labels = entry.labels
        alike[entry.begin, labels] = alike.get((entry.begin, labels), 0) + 1
        for length in range(1, len(labels)):
            longer.add((entry.begin, labels[:length]))
    seen: dict[tuple[int, tuple[int, ...]], int] = {}
    out = []
    for entry in entries:
        key = (entry.begin, entry.labels)
        if alike[key] > 1 or key in longer:
            seen[key] = seen.get(key, 0) + 1
            labels = (*entry.labels, symbol(seen[key]))
            entry = _Entry(labels, entry.word, entry.begin, entry.end, entry.weight)
        out.append(entry)
    return out


class _Node:
    __slots__ = ("ending", "next", "words")

    def __init__(self) -> None:
        self.next: dict[int, _Node] = {}
        self.words = 0  # how many entries go through
        self.ending: Optional[_Entry] = None


def _prefix_tree(
    entries: Sequence[_Entry], words: Symbols, symbols: Symbols
) -> tuple[pynini.Fst, list[int]]:
    """The closed prefix tree of all entries; appends the disambiguation symbols to `symbols`."""
    import pynini
    import pywrapfst

    disambig: list[int] = []
    backoff = symbols.add(BACKOFF) if BACKOFF in words else None
    if backoff is not None:
        disambig.append(backoff)

    def symbol(k: int) -> int:
        number = symbols.add(f"#{k}")
        if number not in disambig:
            disambig.append(number)
        return number

    roots = (_Node(), _Node())
    for entry in _disambiguated(entries, symbol):
        node = roots[entry.begin]
        node.words += 1
        for label in entry.labels:
            node = node.next.setdefault(label, _Node())
            node.words += 1
        node.ending = entry

    fst = pynini.Fst()
    fst.add_states(2)
    fst.set_start(OUTSIDE)
    fst.set_final(OUTSIDE)
    arc = pywrapfst.Arc
    for state in (OUTSIDE, INSIDE):
        if backoff is not None:
            fst.add_arc(state, arc(backoff, words.id(BACKOFF), 0.0, state))
    # (node, its state, whether its one subword has been written)
    stack = [(roots[OUTSIDE], OUTSIDE, False), (roots[INSIDE], INSIDE, False)]
    while stack:
        node, state, written = stack.pop()
        for label, child in node.next.items():
            output, weight = 0, 0.0
            if child.words == 1 and not written:
                only = _only(child)
                output, weight = only.word, only.weight
            # No entry continues where another one ends: `_disambiguated` saw to it.
            target = fst.add_state() if child.ending is None else child.ending.end
            fst.add_arc(state, arc(label, output, weight, target))
            if child.ending is None:
                stack.append((child, target, written or output != 0))
    fst.connect()
    return fst, disambig


def _only(node: _Node) -> _Entry:
    while node.ending is None:
        (node,) = node.next.values()
    return node.ending
