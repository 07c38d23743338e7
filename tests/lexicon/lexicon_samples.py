"""Random words of both languages, from a fixed seed, and an independent way to read a transducer."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

from uyir.grammar.script import load_script


def random_letters(language: str, count: int, seed: int, longest: int = 10) -> Iterator[str]:
    """Letter strings: two in three with syllable structure, the rest any letters in any order."""
    script = load_script(language)
    rng = random.Random(seed)
    vowels, consonants = sorted(script.vowels), sorted(script.consonants)
    for _ in range(count):
        length = rng.randint(1, longest)
        if rng.random() < 2 / 3:
            yield "".join(
                rng.choice(vowels) if rng.random() < 0.45 else rng.choice(consonants)
                for _ in range(length)
            )
        else:
            yield "".join(rng.choice(script.letters) for _ in range(length))


def acceptor(labels: Sequence[int]) -> Any:
    import pynini
    import pywrapfst

    out = pynini.Fst()
    state = out.add_state()
    out.set_start(state)
    for label in labels:
        target = out.add_state()
        out.add_arc(state, pywrapfst.Arc(label, label, 0.0, target))
        state = target
    out.set_final(state)
    return out


def outputs(labels: Sequence[int], fst: Any) -> dict[tuple[int, ...], float]:
    """Every output string of a transducer for one input string, with its least weight."""
    import pynini

    found: dict[tuple[int, ...], float] = {}
    paths = pynini.compose(acceptor(labels), fst).project("output").rmepsilon().paths()
    while not paths.done():
        key, weight = tuple(paths.olabels()), float(str(paths.weight()))
        found[key] = min(weight, found.get(key, weight))
        paths.next()
    return found
