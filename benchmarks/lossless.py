"""Whether every word of some texts is cut and joined again without loss, and how many are of the closed grammar.

    python benchmarks/lossless.py -l ta TEXT...

Prints one JSON object: distinct words, those that `join` does not give back letter by letter (`lost`, at most 20 named), those
that the segmenter refuses though they are well formed (`refused`), and the share of the closed grammar.
Texts are plain or .xz, .gz, .bz2; what is no word of the language's script is passed over, as in `uyir grammar coverage`.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path

from uyir.errors import UyirError
from uyir.grammar.join import join
from uyir.grammar.segment import load_segmenter
from uyir.grammar.text import count_words


def check(language: str, texts: list[Path]) -> dict[str, object]:
    words = sorted(count_words(texts, language))
    begin = time.process_time()
    segmenter = load_segmenter(language)
    lost, refused, closed = [], [], 0
    for word, found in segmenter.segment_known(words).items():
        if found is None:
            refused.append(word)
            continue
        closed += found.closed
        if join(found.marked, language) != word:
            lost.append(word)
    return {
        "language": language,
        "words": len(words),
        "lost": len(lost),
        "refused": len(refused),
        "examples": (lost + refused)[:20],
        "closed": round(closed / len(words), 4) if words else None,
        "processor_seconds": round(time.process_time() - begin, 1),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-l", "--language", required=True)
    parser.add_argument("text", nargs="+", type=Path)
    arguments = parser.parse_args()
    try:
        report = check(arguments.language, arguments.text)
    except UyirError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(report, ensure_ascii=False))
    return int(bool(report["lost"] or report["refused"]))


if __name__ == "__main__":
    sys.exit(main())
