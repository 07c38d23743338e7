"""Whether a model's probabilities sum to 1 after every history, and whether kenlm agrees with us on it.

    python benchmarks/lm_check.py MODEL.arpa --text MARKED [--sentences 20000]

The sum after a history h is that of its n-grams, and of its back-off weight times what the shorter history has left;
shorter histories come first, so that every one is checked. ``greatest_miss``: by order of history, the greatest
distance from 1. kenlm reads the file too; every place of the first sentences of MARKED is scored by both:
``greatest_difference`` of the log10 probabilities. A JSON object.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from pathlib import Path

import numpy as np

from uyir.decode.lm import BOS, EOS, LN10, NgramModel, read_arpa, read_sentences
from uyir.errors import UyirError

_BLOCK = 1 << 20


def misses(model: NgramModel) -> list[float]:
    """By order of history, from the empty one: the greatest distance of a sum from 1."""
    found = [abs(float(np.exp(model.orders[0].logp).sum()) - 1.0)]
    ending = model.symbols.index(EOS)
    for n in range(1, model.order):
        order, below = model.orders[n], model.orders[n - 1]
        grams = model.ngrams(n)
        shorter = np.empty(len(order))
        for begin in range(0, len(grams), _BLOCK):
            # A place without a word between rows keeps them apart.
            rows = grams[begin : begin + _BLOCK, 1:]
            text = np.full((len(rows), n + 1), -1, dtype=np.int32)
            text[:, 1:] = rows
            score = model.score(text.reshape(-1)).reshape(len(rows), n + 1)[:, -1]
            shorter[begin : begin + _BLOCK] = score
        own = np.bincount(order.history, weights=np.exp(order.logp), minlength=len(below))
        under = np.bincount(order.history, weights=np.exp(shorter), minlength=len(below))
        total = own + np.exp(below.logb) * (1.0 - under)
        # Nothing follows the end of a sentence.
        ends = model.ngrams(n - 1)[:, -1] == ending
        found.append(float(np.abs(total[~ends] - 1.0).max(initial=0.0)))
    return found


def compared(model: NgramModel, arpa: Path, sentences: list[list[str]]) -> tuple[int, float]:
    """How many places kenlm and we have scored, and the greatest difference."""
    import kenlm

    theirs = kenlm.Model(str(arpa))
    bos = model.symbols.index(BOS)
    text = model.encode(sentences)
    ours = model.score(text)[text != bos] / LN10
    other = np.array(
        [p for sentence in sentences for p, _, _ in theirs.full_scores(" ".join(sentence))]
    )
    return len(other), float(np.abs(ours - other).max())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("arpa", type=Path)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--sentences", type=int, default=20000)
    arguments = parser.parse_args()
    try:
        model = read_arpa(arguments.arpa)
        report = {
            "ngrams": [len(order) for order in model.orders],
            "greatest_miss": [float(f"{miss:.2g}") for miss in misses(model)],
        }
        texts = itertools.islice(read_sentences([arguments.text]), arguments.sentences)
        places, difference = compared(model, arguments.arpa, [s for s in texts if s])
    except UyirError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(
        json.dumps({**report, "places": places, "greatest_difference": float(f"{difference:.2g}")})
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
