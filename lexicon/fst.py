"""The rule cascade as a transducer: letters of closed words to phones (needs pynini).

`phone_transducer` reads sequences of closed words, each ended by ``|``, and writes phone tokens. It
is what makes exact seams: composed with a lexicon over letters (`uyir.lexicon.lexicon`), the rules
read the letters of the whole word, whatever subwords they came from, and start afresh after ``|``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Optional

from uyir.errors import GraphError
from uyir.grammar.join import bare, closes, opens
from uyir.grammar.script import decompose, load_script
from uyir.lexicon.g2p import (
    DEFAULT_MAX_WEIGHT,
    EDGE,
    OPAQUE,
    G2p,
    Rule,
    load_g2p,
    phone_characters,
)
from uyir.lexicon.symbols import EPSILON, WORD_END, Symbols

if TYPE_CHECKING:
    import pynini

    from uyir.lexicon.user import UserLexicon

#: A rule file that makes a larger transducer than this is taken for a mistake in its contexts.
MAX_STATES = 20_000


def letter_symbols(language: str) -> Symbols:
    """``<eps>``, every letter of the script, then ``|``, the end of a word."""
    return Symbols([EPSILON, *load_script(language).letters, WORD_END])


def phone_letter(phone: str) -> str:
    """The symbol of a letter table that stands for a phone: a user's subword is spelled in these."""
    return f"/{phone}/"


def cascade(rules: Iterable[Rule], letters: Iterable[str]) -> pynini.Fst:
    """The composition of all rules over one word, edges inserted before and removed after.

    Labels are the code points of the mixed alphabet. Each rule is one ``cdrewrite``, left to right;
    a rule that no earlier output can feed is left out. Raises `GraphError` over `MAX_STATES`.
    """
    import pynini

    def accept(text: str) -> pynini.Fst:
        return pynini.accep(text, token_type="utf8")

    def one_of(chars: Iterable[str]) -> pynini.Fst:
        return pynini.union(*map(accept, chars)).optimize()

    word = {*letters, OPAQUE}
    alphabet = word | {EDGE}
    fed = []
    for rule in rules:
        if set(rule.source) <= alphabet:
            fed.append(rule)
            alphabet |= set(rule.target)

    def context(sets: tuple[str, ...]) -> Optional[pynini.Fst]:
        out = accept("")
        for chars in sets:
            known = sorted(set(chars) & alphabet)
            if not known:
                return None
            out = out + one_of(known)
        return out.optimize()

    sigma_star = pynini.closure(one_of(sorted(alphabet))).optimize()
    edge = accept(EDGE)
    whole = pynini.cross("", edge) + one_of(sorted(word)).closure(1) + pynini.cross("", edge)
    whole.optimize()
    for rule in fed:
        left, right = context(rule.left), context(rule.right)
        if left is None or right is None:
            continue
        change = pynini.cross(accept(rule.source), accept(rule.target))
        if rule.weight is not None:
            change = change + pynini.accep("", weight=rule.weight)
        rewrite = pynini.cdrewrite(
            change,
            left,
            right,
            sigma_star,
            direction="ltr",
            mode="obl" if rule.weight is None else "opt",
        )
        whole = pynini.compose(whole, rewrite).optimize()
        if whole.num_states() > MAX_STATES:
            raise GraphError(
                f"the rules up to {rule.name!r} make {whole.num_states()} states, "
                f"more than {MAX_STATES}"
            )
    phones = one_of(sorted({*phone_characters()[1], OPAQUE} & alphabet)).closure()
    bare = pynini.cross(edge, "") + phones + pynini.cross(edge, "")
    return pynini.compose(whole, bare).optimize()


@lru_cache(maxsize=16)
def _cascade(g2p: G2p, variants: bool, max_weight: float, extra: str) -> pynini.Fst:
    letters = [*load_script(g2p.language).letters, *extra]
    return cascade(g2p.active(variants, max_weight), letters)


def word_transducer(
    g2p: G2p,
    letters: Symbols,
    tokens: Symbols,
    variants: bool = True,
    max_weight: float = DEFAULT_MAX_WEIGHT,
    passthrough: Optional[Mapping[int, int]] = None,
    user: Optional[UserLexicon] = None,
) -> pynini.Fst:
    """Letter ids of one closed word -> token ids. See `phone_transducer`."""
    import pynini
    import pywrapfst

    chars, names = phone_characters()
    spelled = {char: phone_letter(name) for name, char in chars.items()}
    extra = "".join(char for char, symbol in spelled.items() if symbol in letters)
    source = _cascade(g2p, variants, max_weight, extra)
    opaque = ord(OPAQUE)
    out = pynini.Fst()
    out.add_states(source.num_states())
    out.set_start(source.start())
    for state in source.states():
        out.set_final(state, source.final(state))
        for arc in source.arcs(state):
            if opaque in (arc.ilabel, arc.olabel):
                if arc.ilabel != arc.olabel:
                    raise GraphError("a rule delays an opaque symbol")
                pairs = list((passthrough or {}).items())
            else:
                letter = chr(arc.ilabel)
                ilabel = letters.id(spelled.get(letter, letter)) if arc.ilabel else 0
                pairs = [(ilabel, tokens.id(names[chr(arc.olabel)]) if arc.olabel else 0)]
            for ilabel, olabel in pairs:
                out.add_arc(state, pywrapfst.Arc(ilabel, olabel, arc.weight, arc.nextstate))
    out.connect()
    if user is None or not user.words:
        return out
    return _overridden(out, letters, tokens, user, passthrough or {})


def _overridden(
    rules: pynini.Fst,
    letters: Symbols,
    tokens: Symbols,
    user: UserLexicon,
    passthrough: Iterable[int],
) -> pynini.Fst:
    """The rules for all words but the user's own, and the user's pronunciations for those."""
    import pynini
    import pywrapfst

    def path(ids: Iterable[int]) -> pynini.Fst:
        out = pynini.Fst()
        state = out.add_state()
        out.set_start(state)
        for number in ids:
            target = out.add_state()
            out.add_arc(state, pywrapfst.Arc(number, number, 0.0, target))
            state = target
        out.set_final(state)
        return out

    def spelled(word: str) -> pynini.Fst:
        """A word in letters, or with the phone letters of those subwords that are the user's own."""
        text = decompose(word, user.language)
        out = path(letters.id(letter) for letter in text)
        for subword, own in user.subwords.items():
            piece = decompose(bare(subword), user.language)
            for begin in range(len(text) - len(piece) + 1):
                end = begin + len(piece)
                fits = opens(subword) == (begin == 0) and closes(subword) == (end == len(text))
                if not fits or text[begin:end] != piece:
                    continue
                for entry in own:
                    labels = [phone_letter(phone) for phone in entry.phones]
                    if all(label in letters for label in labels):
                        state = begin
                        for number, label in enumerate(labels, start=1):
                            target = end if number == len(labels) else out.add_state()
                            i = letters.id(label)
                            out.add_arc(state, pywrapfst.Arc(i, i, 0.0, target))
                            state = target
        return out

    mine, spellings = [], []
    for word, entries in user.words.items():
        spelling = spelled(word)
        spellings.append(spelling)
        for entry in entries:
            phones = path(tokens.id(phone) for phone in entry.phones)
            mine.append(pynini.cross(spelling, phones) + pynini.accep("", weight=entry.weight))
    symbols = [*range(1, len(letters)), *passthrough]
    everything = pynini.union(*(path([i]) for i in symbols)).closure().optimize()
    others = pynini.difference(everything, pynini.union(*spellings).optimize())
    return pynini.union(pynini.compose(others, rules), *mine).optimize()


def phone_transducer(
    language: str,
    letters: Symbols,
    tokens: Symbols,
    variants: bool = True,
    max_weight: float = DEFAULT_MAX_WEIGHT,
    passthrough: Optional[Mapping[int, int]] = None,
    transparent: Optional[Mapping[int, int]] = None,
    user: Optional[UserLexicon] = None,
) -> pynini.Fst:
    """Letter ids -> token ids for any sequence of closed words, each ended by ``|``.

    `letters` holds `letter_symbols(language)` at least (its ids count), `tokens` the phones; ids on
    both sides are those of the tables. ``|`` gives the token of that name where `tokens` has one, and
    nothing otherwise (CTC's blank is the silence).

    variants, max_weight: whether optional rules apply, and up to which cost each.
    passthrough: letter id -> output id of opaque symbols; to the rules they are vowels.
    transparent: letter id -> output id of symbols that no rule sees (disambiguation symbols); they
        may stand anywhere.
    user: entries for whole words override the rules. Entries for subwords need a `letters` table in
        which `build_letter_lexicon` has put `phone_letter` symbols.

    Raises `DataError` where a letter or phone is missing in its table, `GraphError` above
    `MAX_STATES`.
    """
    import pynini
    import pywrapfst

    g2p = load_g2p(language)
    word = word_transducer(g2p, letters, tokens, variants, max_weight, passthrough, user)
    end = pynini.Fst()
    end.add_states(2)
    end.set_start(0)
    end.set_final(1)
    said = tokens.id(WORD_END) if WORD_END in tokens else 0
    end.add_arc(0, pywrapfst.Arc(letters.id(WORD_END), said, 0.0, 1))
    words = (word + end).closure().optimize()
    for state in list(words.states()):
        for ilabel, olabel in (transparent or {}).items():
            words.add_arc(state, pywrapfst.Arc(ilabel, olabel, 0.0, state))
    return words
