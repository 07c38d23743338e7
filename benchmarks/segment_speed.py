"""Words a second of our segmenter and of Morfessor's Viterbi segmentation, same words, same run, one core.

    python benchmarks/segment_speed.py --language ta [--words 20000] [--rounds 5] TEXT...

Distinct words in random order (seed 1). Morfessor's model is trained on the same words first; loading and
training are not timed, and what they made is put out of the garbage collector's way for all alike.
Times are of the process; rounds are taken in turns, and `ratio` is the median of the rounds' ratios to Morfessor's
`viterbi_segment` of the same round, with the least and the greatest of them.

`list`: `Segmenter.segment_all` of a segmenter that is new in each round, so all words come for the first time.
`single`: `Segmenter.segment`, word by word, of a new one. `again`: the same words once more, word by word.
`load`: the seconds that one process takes to read the grammar and make the segmenter. Wants the package morfessor.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from uyir.errors import UyirError
from uyir.grammar.segment import Segmenter
from uyir.grammar.store import kept_grammar
from uyir.grammar.text import count_words


def rate(cut: Callable[[list[str]], object], words: list[str]) -> float:
    gc.collect()
    gc.freeze()
    begin = time.process_time()
    cut(words)
    return len(words) / (time.process_time() - begin)


def in_turn(cut: Callable[[str], object]) -> Callable[[list[str]], object]:
    return lambda words: [cut(word) for word in words]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", nargs="+", type=Path)
    parser.add_argument("--language", required=True)
    parser.add_argument("--words", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    import morfessor

    language = arguments.language
    try:
        types = sorted(count_words(arguments.text, language))
        kept_grammar(language)
    except UyirError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    words = random.Random(1).sample(types, min(arguments.words, len(types)))
    peer = morfessor.BaselineModel()
    peer.load_data([(1, word) for word in words])
    peer.train_batch()
    rates: dict[str, list[float]] = {"list": [], "single": [], "again": [], "morfessor": []}
    loads: list[float] = []
    for number in range(arguments.rounds):
        begin = time.process_time()
        listed = Segmenter(kept_grammar(language))
        loads.append(time.process_time() - begin)
        rates["list"].append(rate(listed.segment_all, words))
        single = Segmenter(kept_grammar(language))
        for name in ("single", "again"):
            rates[name].append(rate(in_turn(single.segment), words))
        # All of the words in all of the rounds, a share in each.
        some = words[number :: arguments.rounds]
        rates["morfessor"].append(rate(in_turn(peer.viterbi_segment), some))
    report: dict[str, object] = {"language": language, "words": len(words)}
    for name, ours in rates.items():
        report[name] = round(statistics.median(ours))
        if name != "morfessor":
            ratios = [one / other for one, other in zip(ours, rates["morfessor"])]
            report[f"ratio_{name}"] = round(statistics.median(ratios), 2)
            report[f"range_{name}"] = [round(min(ratios), 2), round(max(ratios), 2)]
    report["load"] = round(statistics.median(loads), 3)
    report["load_average"] = round(os.getloadavg()[0], 1)
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
