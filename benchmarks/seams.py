"""Whether L reads along subwords what the rules say of the word, and how long L and G2P take.

    python benchmarks/seams.py --language ta --words WORDLIST [--list 50000] [--sample 1000]

Of the first ``--list`` well-formed types of a word list (a word a line, or text) some are sampled. For each
and for every segmentation that the grammar's lists allow (up to 200 of them), the set of weighted
pronunciations of the word must equal the set that L ∘ T has for the sequence of subwords. Then the exact L is
compiled for 50,000 subwords, those of the list's own segmentations and, where they do not suffice, the
grammar's further pieces; and the rules pronounce 100,000 distinct words, of the list and, where it is shorter,
joined from it two and two.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Optional

from uyir.decode.graph_watch import memory_gb
from uyir.errors import UyirError
from uyir.grammar.join import mark
from uyir.grammar.morphotactics import Grammar
from uyir.grammar.script import compose, decompose
from uyir.grammar.segment import Segmenter, load_segmenter
from uyir.grammar.text import count_words
from uyir.lexicon.fst import phone_transducer
from uyir.lexicon.g2p import G2p, load_g2p
from uyir.lexicon.lexicon import build_letter_lexicon
from uyir.lexicon.symbols import Symbols, tokens_table
from uyir.lexicon.user import UserLexicon

Pronunciations = dict[tuple[str, ...], float]
_MOST = 200


class Along:
    """Reads pronunciations from L along subwords: words -> letters -> phones."""

    def __init__(
        self,
        table: Sequence[str],
        language: str,
        variants: bool = True,
        user: Optional[UserLexicon] = None,
    ) -> None:
        self.words = Symbols(["<eps>", *dict.fromkeys(table)])
        self.tokens = tokens_table()
        lexicon = build_letter_lexicon(self.words, language, user)
        rules = phone_transducer(
            language,
            lexicon.letters,
            self.tokens,
            variants=variants,
            transparent=dict.fromkeys(lexicon.disambig, 0),
            user=user,
        )
        self.spelled = lexicon.fst.invert().arcsort("ilabel")
        self.rules = rules.arcsort("ilabel")

    def __call__(self, subwords: Sequence[str]) -> Pronunciations:
        """The pronunciations of a sequence of subwords, with their costs rounded to 1/1000."""
        import pynini
        import pywrapfst

        row = pynini.Fst()
        row.add_states(len(subwords) + 1)
        row.set_start(0)
        row.set_final(len(subwords))
        for state, subword in enumerate(subwords):
            label = self.words.id(subword)
            row.add_arc(state, pywrapfst.Arc(label, label, 0.0, state + 1))
        letters = pynini.compose(row, self.spelled).project("output").rmepsilon()
        paths = pynini.compose(letters, self.rules).project("output").rmepsilon().paths()
        found: Pronunciations = {}
        while not paths.done():
            key = tuple(self.tokens.symbol(i) for i in paths.olabels())
            weight = round(float(str(paths.weight())), 3)
            found[key] = min(weight, found.get(key, weight))
            paths.next()
        return found


def by_rule(g2p: G2p, word: str) -> Pronunciations:
    """The same of a word, by the rules without a transducer."""
    return {p.phones: round(p.weight, 3) for p in g2p.pronounce(word, limit=5000)}


def segmentations(segmenter: Segmenter, word: str) -> Iterator[tuple[str, ...]]:
    """Every way in which the grammar's lists make a word, as marked subwords, each once."""
    letters = decompose(word, segmenter.language)
    grammar = segmenter.grammar
    seen = set()
    stack: list[tuple[int, int, tuple[str, ...]]] = [(0, Grammar.START, ())]
    while stack:
        begin, state, pieces = stack.pop()
        for piece, target in _leaving(grammar, state).get(letters[begin : begin + 1], ()):
            if not letters.startswith(piece, begin):
                continue
            longer = (*pieces, piece)
            end = begin + len(piece)
            if target != Grammar.END:
                stack.append((end, target, longer))
            elif end == len(letters) and longer not in seen:
                seen.add(longer)
                yield mark([compose(part, segmenter.language) for part in longer])


def _leaving(grammar: Grammar, state: int) -> dict[str, list[tuple[str, int]]]:
    """The pieces that leave a state, by their first letter, and where they lead."""
    cache: dict[int, dict[str, list[tuple[str, int]]]] = grammar.__dict__.setdefault("_leaving", {})
    if state not in cache:
        table = cache[state] = {}
        for arc in grammar.arcs[state]:
            table.setdefault(arc.letters[:1], []).append((arc.letters, arc.target))
    return cache[state]


def check(language: str, words: Sequence[str]) -> dict[str, Any]:
    """How many words, segmentations and pronunciations were compared, and which differ."""
    segmenter = load_segmenter(language)
    samples = []
    for word in words:
        found = list(itertools.islice(segmentations(segmenter, word), _MOST))
        samples += [(word, subwords) for subwords in found or [segmenter.segment(word).marked]]
    along = Along([piece for _, subwords in samples for piece in subwords], language)
    g2p = load_g2p(language)
    pronunciations = 0
    differing = []
    for word, subwords in samples:
        want = by_rule(g2p, word)
        pronunciations += len(want)
        if along(subwords) != want:
            differing.append(" ".join(subwords))
    return {
        "words": len(words),
        "segmentations": len(samples),
        "pronunciations": pronunciations,
        "differing": len(differing),
        "examples": differing[:5],
    }


def compile_time(language: str, words: Sequence[str], count: int = 50_000) -> dict[str, Any]:
    """Processor seconds to compile the exact L of so many subwords, rules included."""
    segmenter = load_segmenter(language)
    pieces = dict.fromkeys(p for found in segmenter.segment_all(words) for p in found.marked)
    pieces.update(dict.fromkeys(segmenter.pieces()))
    table = Symbols(["<eps>", *list(pieces)[:count]])
    begin = time.process_time()
    along = Along(list(table)[1:], language)
    import pynini

    whole = pynini.compose(along.spelled, along.rules)
    arcs = sum(whole.num_arcs(state) for state in whole.states())
    return {
        "subwords": len(table) - 1,
        "states": whole.num_states(),
        "arcs": arcs,
        "cpu_seconds": round(time.process_time() - begin, 1),
        "peak_memory_gb": round(memory_gb(), 2),
    }


def pronouncing_time(language: str, words: Sequence[str], count: int = 100_000) -> dict[str, Any]:
    """Processor seconds for the pronunciations of so many distinct words, with and without variants."""
    distinct = dict.fromkeys(words)
    for one, two in itertools.product(words, repeat=2):
        if len(distinct) >= count:
            break
        distinct[compose(decompose(one, language) + decompose(two, language), language)] = None
    chosen = list(distinct)[:count]
    seconds = {}
    for variants in (False, True):
        g2p = G2p(language, load_g2p(language).rules)
        begin = time.process_time()
        for word in chosen:
            g2p.pronounce(word, variants)
        seconds["variants" if variants else "canonical"] = round(time.process_time() - begin, 1)
    return {"words": len(chosen), "of_the_list": min(len(words), count), "cpu_seconds": seconds}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--language", required=True)
    parser.add_argument("--words", type=Path, required=True)
    parser.add_argument("--list", type=int, default=50_000)
    parser.add_argument("--sample", type=int, default=1000)
    arguments = parser.parse_args()
    language = arguments.language
    try:
        words = sorted(count_words([arguments.words], language))
        random.Random(1).shuffle(words)
        types = words[: arguments.list]
        report = {
            "language": language,
            "list": len(types),
            "compile": compile_time(language, types),
            "g2p": pronouncing_time(language, words),
            "seams": check(language, types[: arguments.sample]),
        }
    except UyirError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(report, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
