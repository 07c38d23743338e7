"""Words a second of our segmenter and of Morfessor's Viterbi segmentation, same words, same run, one core.

    python benchmarks/segment_speed.py --language ta [--words 20000] TEXT...

Distinct words in random order (seed 1). Morfessor's model is trained on the same words first; loading and
training are not timed, and what they made is put out of the garbage collector's way for all alike.
`first`: our first pass over the words, endings being learnt on the way; `again`: the same words once more. `ratio`
is that of the first pass. Wants the package morfessor.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

from uyir.errors import UyirError
from uyir.grammar.segment import load_segmenter
from uyir.grammar.text import count_words


def rate(action: Callable[[], object], words: int) -> float:
    begin = time.process_time()
    action()
    return words / (time.process_time() - begin)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", nargs="+", type=Path)
    parser.add_argument("--language", required=True)
    parser.add_argument("--words", type=int, default=20_000)
    arguments = parser.parse_args()
    import morfessor

    try:
        types = sorted(count_words(arguments.text, arguments.language))
        segmenter = load_segmenter(arguments.language)
    except UyirError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    words = random.Random(1).sample(types, min(arguments.words, len(types)))
    peer = morfessor.BaselineModel()
    peer.load_data([(1, word) for word in words])
    peer.train_batch()
    segmenter.segment(words[0])
    gc.collect()
    gc.freeze()
    first = rate(lambda: segmenter.segment_all(words), len(words))
    again = rate(lambda: [segmenter.segment(word) for word in words], len(words))
    theirs = rate(lambda: [peer.viterbi_segment(word) for word in words], len(words))
    print(
        json.dumps(
            {
                "language": arguments.language,
                "words": len(words),
                "first": round(first),
                "again": round(again),
                "morfessor": round(theirs),
                "ratio": round(first / theirs, 2),
                "ratio_again": round(again / theirs, 2),
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
