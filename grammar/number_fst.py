"""The number transducer as an OpenFst transducer over characters, for composing with others.

The input is a number as it is written (``25-க்கு``), the output its words (``இருபத்தைந்துக்கு``), the
weight the cost of the reading. Needs Pynini (extra ``build``); `uyir.grammar.numbers` does the same
search without.
"""

from __future__ import annotations

from typing import Any

from uyir.grammar.number_machine import ENDING_MARK, TIMES
from uyir.grammar.numbers import NumberGrammar
from uyir.grammar.script import load_script


def number_fst(language: str) -> Any:
    """A `pynini.Fst` (utf8 tokens) from written numbers to words.

    A fraction that counts a scale (ஒன்றரை லட்சம்) is written with a times sign: ``1½*100000``.
    """
    import pynini

    numbers = NumberGrammar.load(language)
    letters = pynini.Fst()
    letters.add_states(len(numbers.arcs))
    letters.set_start(numbers.START)
    letters.set_final(numbers.END)
    for source, arcs in enumerate(numbers.arcs):
        for arc in arcs:
            _add_path(letters, source, arc.label, arc.letters, arc.weight, arc.target)
    # Both sides are letter strings: of the ending on the written side, of all words on the spoken.
    signs = "0123456789." + ENDING_MARK + TIMES + "".join(sorted(numbers.fractions.values()))
    fst = pynini.compose(pynini.invert(_spelling(language, signs)), letters)
    return pynini.compose(fst, _spelling(language, " ")).optimize()


def _add_path(fst: Any, source: int, label: str, letters: str, weight: float, target: int) -> None:
    """An arc whose sides are strings, as a chain of arcs of one character."""
    import pynini

    length = max(len(label), len(letters))
    for position in range(length):
        last = position == length - 1
        following = target if last else fst.add_state()
        cost = pynini.Weight(fst.weight_type(), weight if last else 0.0)
        ilabel = ord(label[position]) if position < len(label) else 0
        olabel = ord(letters[position]) if position < len(letters) else 0
        fst.add_arc(source, pynini.Arc(ilabel, olabel, cost, following))
        source = following


def _spelling(language: str, others: str) -> Any:
    """Letter strings to ordinary spelling, with other characters that stand between words.

    State 0: at the beginning or after a vowel; state 1: after a consonant whose vowel is to come.
    """
    import pynini

    script = load_script(language)
    fst = pynini.Fst()
    fst.add_states(2)
    fst.set_start(0)
    fst.set_final(0)
    one = pynini.Weight.one(fst.weight_type())

    def add(source: int, letter: str, spelt: str, target: int) -> None:
        _add_path(fst, source, letter, spelt, 0.0, target)

    virama = fst.add_state()
    fst.set_final(virama)
    fst.add_arc(1, pynini.Arc(0, ord(script.virama), one, virama))
    for vowel, sign in script.vowels.items():
        add(0, vowel, script.spelling(vowel), 0)
        add(1, vowel, sign, 0)
    for source in (0, virama):
        for consonant in script.consonants:
            add(source, consonant, consonant, 1)
        for mark in script.marks:
            add(source, mark, mark, 0)
        for other in others:
            add(source, other, other, 0)
    if script.nukta:
        add(1, script.nukta, script.nukta, 1)
    return fst
