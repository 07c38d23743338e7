"""Letter perplexity and out-of-vocabulary rate of models over units of every kind, from one text.

    python benchmarks/units_table.py --language ta --test dakshina_native_dev.txt.xz \\
        [--kind bpe ...] [--max-ngrams 280000] [--models OUT --tokens uyir/models/base/tokens.txt] TEXT...

All kinds have the same sentences (those of ``uyir.grammar.units.spoken_sentences``; what shares six words
with the test text is not trained on), the same marks, order, cut-offs and number of n-grams. With
``--models`` each kind's word table, ARPA file and graph go to OUT/KIND/LANGUAGE, which a model folder can
have for its language's folder (link the acoustic model's files beside it).

``perplexity_by_letter`` is over letters of the words and one for the space after each; what is out of
vocabulary is left out of it, which flatters units that cannot spell. ``perplexity_spelled`` leaves
nothing out: what is out of vocabulary is charged the probability of ``<unk>`` and that of its letters by
a letter 5-gram, trained on what of the training text is out of vocabulary.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from uyir.decode.assemble import (
    Assembly,
    assemble,
    cut_words,
    language_model,
    unit_counts,
    unit_table,
)
from uyir.decode.graph_build import SEAMS
from uyir.decode.lm import NgramModel, Vocabulary, train
from uyir.errors import UyirError
from uyir.grammar.join import bare
from uyir.grammar.script import decompose
from uyir.grammar.unit_training import train_units, word_counts
from uyir.grammar.units import KINDS, UNKNOWN, Units, spoken_sentences
from uyir.lexicon.symbols import Symbols

Lines = Sequence[Sequence[str]]


def unknown_units(cut: dict[str, tuple[str, ...]], table: Symbols) -> dict[str, list[str]]:
    """What the table does not have of each word that it does not have: pieces, or the whole word."""
    found = {}
    for word, pieces in cut.items():
        missing = [piece for piece in pieces if piece not in table]
        if missing:
            found[word] = [word if piece == UNKNOWN else bare(piece) for piece in missing]
    return found


def speller(language: str, lines: Lines, units: Units, table: Symbols) -> NgramModel:
    """The letter model of what the table does not have, as often as the text has it."""
    counts = word_counts(lines)
    unknown = unknown_units(cut_words(units, counts), table)
    vocabulary = Vocabulary()
    rows = [
        list(decompose(piece, language))
        for word, pieces in sorted(unknown.items())
        for piece in pieces * counts[word]
    ]
    return train(vocabulary.encode(rows or [["a"]]), vocabulary, 5)


def measure(
    model: NgramModel, spell: NgramModel, units: Units, table: Symbols, lines: Lines
) -> dict[str, float]:
    """The model on some sentences; see the module's text."""
    words = [word for line in lines for word in line]
    cut = cut_words(units, words)
    unknown = unknown_units(cut, table)
    text = model.encode([piece for word in line for piece in cut[word]] for line in lines)
    score = model.score(text)
    known = text != model.symbols.index("<unk>")
    letters = sum(len(decompose(word, units.language)) + 1 for word in words)
    rows = [
        list(decompose(piece, units.language)) for word in words for piece in unknown.get(word, ())
    ]
    # The letters of what is left out, and the space after it where it ends its word.
    ending = sum(cut[word][-1] not in table for word in words)
    known_letters = letters - sum(map(len, rows)) - ending
    spelled = spell.score(spell.encode(rows)) if rows else np.zeros(1)
    # What the letter model has never seen is charged as one of a hundred letters.
    spelled = np.where(np.isfinite(spelled), spelled, -math.log(100.0))
    return {
        "words": len(words),
        "units": len(text) - 2 * len(lines),
        "oov": round(sum(word in unknown for word in words) / len(words), 4),
        "perplexity_by_letter": round(math.exp(-score[known].sum() / known_letters), 4),
        "perplexity_spelled": round(math.exp(-(score.sum() + spelled.sum()) / letters), 4),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", nargs="+", type=Path)
    parser.add_argument("--language", required=True)
    parser.add_argument("--test", required=True, type=Path, help="held-out text")
    parser.add_argument("--kind", action="append", choices=KINDS, help="default: all")
    parser.add_argument("--size", type=int, default=0, help="of other units than words, grammar")
    parser.add_argument("--order", type=int, default=4)
    parser.add_argument("--min-counts", type=int, nargs="*", default=[1, 2, 2])
    parser.add_argument(
        "--unseen-roots", action="store_true", help="every root of the grammar is in the table"
    )
    parser.add_argument("--max-ngrams", type=int, help="default: no pruning")
    parser.add_argument("--models", type=Path, metavar="OUT", help="write OUT/KIND/LANGUAGE")
    parser.add_argument("--tokens", type=Path, help="the acoustic model's tokens.txt")
    parser.add_argument("--seams", choices=SEAMS, default=SEAMS[0])
    arguments = parser.parse_args()
    if arguments.models and not arguments.tokens:
        parser.error("--models needs --tokens")
    language = arguments.language
    how = Assembly(
        order=arguments.order,
        min_counts=tuple(arguments.min_counts),
        max_ngrams=arguments.max_ngrams,
        unseen_roots=arguments.unseen_roots,
        graph={"seams": arguments.seams, "variants": False},
    )
    try:
        lines = spoken_sentences(arguments.text, language, [arguments.test])
        test = spoken_sentences([arguments.test], language)
        counts = word_counts(lines)
        for kind in arguments.kind or KINDS:
            begin = time.time()
            size = arguments.size if kind not in ("word", "grammar") else 0
            units = train_units(kind, language, counts, size)
            if arguments.models:
                folder = arguments.models / kind
                table, model = assemble(
                    units, lines, arguments.tokens, folder / language, folder / "work", how
                )
            else:
                cut = cut_words(units, counts)
                table = unit_table(units, unit_counts(cut, counts), (), how)
                model = language_model(table, lines, cut, how)
            row = measure(model, speller(language, lines, units, table), units, table, test)
            report = {
                "language": language,
                "kind": kind,
                "vocabulary": len(table),
                "ngrams": [len(order) for order in model.orders],
                **row,
                "seconds": round(time.time() - begin),
            }
            print(json.dumps(report), flush=True)
    except UyirError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
