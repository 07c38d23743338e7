"""Our modified Kneser-Ney beside two other trainers', on the same text.

    python benchmarks/lm_reference.py --text MARKED --test MARKED [--order 4] [--varikn FOLDER] [--tlm /usr/lib/irstlm/bin/tlm]

MARKED are sentences of marked subwords. VariKN (PyPI's ``varikn``; ``--varikn`` is a folder to import it from) and IRSTLM
(Debian's ``irstlm``) are asked for every n-gram, three discounts an order. The text is made one sentence, with a mark for
line ends: what stands after ``<s>`` they count each in a way of their own.

For each trainer and order: the median and the greatest difference of log probability (natural) over the n-grams of
both. VariKN sets the discounts of orders from 3 up while it grows, so perplexity is compared for the two lowest orders
(the Kneser-Ney distribution that trigrams fall back to), as well as whole; IRSTLM gives ``<unk>`` a class of its own, some tenth
of the unigrams' mass. Then a pruned model of VariKN (revised Kneser pruning) beside ours of the same number of n-grams. JSON
Lines.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np

from uyir.decode.lm import NgramModel, Order, Vocabulary, read_arpa, read_sentences, train

LINE_END = "LINE_END"


def one_sentence(path: Path) -> list[str]:
    words: list[str] = []
    for sentence in read_sentences([path]):
        words += [*sentence, LINE_END]
    return words[:-1]


def as_arpa(path: Path) -> NgramModel:
    """An ARPA file with the names of the two, in the plain form that `read_arpa` wants."""
    text = path.read_text(encoding="utf-8").replace("<UNK>", "<unk>")
    text = re.sub(r"^ngram +(\d+)= *(\d+)$", r"ngram \1=\2", text, flags=re.M)
    path.write_text(text, encoding="utf-8")
    return read_arpa(path)


def varikn(folder: Optional[Path], text: Path, order: int, scale: float, out: Path) -> NgramModel:
    """VariKN's model; ``scale``: what an n-gram has to gain to be there, 0 for every one."""
    code = (
        "import sys; sys.path[:0] = sys.argv[5:]; from varikn import VarigramTrainer as T; t = T(True, False);"
        "t.set_datacost_scale(float(sys.argv[3])); t.set_max_order(int(sys.argv[2]));"
        "t.initialize(sys.argv[1], 0, 0, int(sys.argv[2]) - 1, '', '<s>', False); t.grow(1);"
        "t.write_file(sys.argv[4], True)"
    )
    command = [sys.executable, "-c", code, str(text), str(order), str(scale), str(out)]
    subprocess.run(
        command + ([] if folder is None else [str(folder)]), check=True, stderr=subprocess.DEVNULL
    )
    return as_arpa(out)


def irstlm(tlm: Path, text: Path, order: int, out: Path) -> NgramModel:
    command = [str(tlm), f"-tr={text}", f"-n={order}", "-lm=ikn", "-ps=no", "-pts=no"]
    command += [f"-oarpa={out}", "-te=/dev/null"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return as_arpa(out)


def lowest_two(model: NgramModel) -> NgramModel:
    pairs = model.orders[1]
    plain = Order(pairs.history, pairs.word, pairs.logp, np.zeros(len(pairs)))
    return NgramModel(model.symbols, (model.orders[0], plain))


def perplexity(model: NgramModel, words: Sequence[str]) -> float:
    text = model.encode([words])
    score = model.score(text)
    known = (text >= 0) & (text != model.symbols.index("<unk>"))
    known[[0, -1]] = False
    return math.exp(-score[known].sum() / known.sum())


def differences(ours: NgramModel, theirs: NgramModel, n: int) -> dict[str, Any]:
    numbers = {symbol: i for i, symbol in enumerate(theirs.symbols)}
    grams = np.array([numbers.get(symbol, -1) for symbol in ours.symbols])[ours.ngrams(n)]
    place = grams[:, 0]
    for m in range(1, n + 1):
        place = theirs.find(m, place, grams[:, m])
    both = np.flatnonzero(place >= 0)
    a, b = ours.orders[n].logp[both], theirs.orders[n].logp[place[both]]
    finite = np.isfinite(a) & np.isfinite(b)
    apart = np.abs(a - b)[finite]
    return {
        "ngrams": [len(ours.orders[n]), len(theirs.orders[n])],
        "in_both": len(both),
        "median": float(f"{np.median(apart):.2g}"),
        "within_0.005": round(float((apart <= 0.005).mean()), 5),
        "greatest": float(f"{apart.max():.2g}"),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--order", type=int, default=4)
    parser.add_argument("--varikn", type=Path)
    parser.add_argument("--tlm", type=Path, default=Path("/usr/lib/irstlm/bin/tlm"))
    parser.add_argument(
        "--scale", type=float, nargs="*", default=[0.05], help="of VariKN's pruning"
    )
    arguments = parser.parse_args()
    words, test = one_sentence(arguments.text), one_sentence(arguments.test)
    vocabulary = Vocabulary()
    text = vocabulary.encode([words])
    ours = train(text, vocabulary, arguments.order)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plain = folder / "text"
        plain.write_text(" ".join(["<s>", *words, "</s>"]) + "\n", encoding="utf-8")
        others = {"VariKN": varikn(arguments.varikn, plain, arguments.order, 0.0, folder / "v")}
        if arguments.tlm.is_file():
            others["IRSTLM"] = irstlm(arguments.tlm, plain, arguments.order, folder / "i")
        for other, model in others.items():
            for n in range(arguments.order):
                print(json.dumps({"trainer": other, "order": n + 1, **differences(ours, model, n)}))
            whole = [perplexity(m, test) for m in (ours, model)]
            lower = [perplexity(lowest_two(m), test) for m in (ours, model)]
            row = {
                "trainer": other,
                "perplexity_ours_theirs": [round(p, 3) for p in whole],
                "of_the_two_lowest_orders": [round(p, 3) for p in lower],
                "ratio": round(lower[1] / lower[0], 5),
            }
            print(json.dumps(row), flush=True)
        for scale in arguments.scale:
            pruned = varikn(arguments.varikn, plain, arguments.order, scale, folder / "p")
            same = train(text, vocabulary, arguments.order, max_ngrams=len(pruned))
            row = {
                "pruned_ngrams_ours_theirs": [len(same), len(pruned)],
                "perplexity_ours_theirs": [
                    round(perplexity(same, test), 2),
                    round(perplexity(pruned, test), 2),
                ],
            }
            print(json.dumps(row), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
