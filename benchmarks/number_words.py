"""Numbers: digits to words and back, and what other programs' number words parse to.

    python benchmarks/number_words.py -l ta                          # every n to 10^6, 10^5 random n to 10^14
    python benchmarks/number_words.py -l ta --to 0 --random 0 --engines ta_number_words.tsv.xz

FILE has a header and a column `n`; each other column is an engine: how it writes n. None is gold: for each
engine, how many of its forms parse to n, to another value, or to none, and the commonest pieces of
those that do not (the word at which no number goes on). Exit code 1 if the identity fails.
"""

from __future__ import annotations

import argparse
import lzma
import random
import sys
import time
from collections import Counter
from pathlib import Path

from uyir.grammar.numbers import NumberGrammar
from uyir.grammar.segment import load_segmenter


def identity(numbers: NumberGrammar, values: list[int] | range) -> list[int]:
    """The values whose words do not parse to them, best reading first."""
    return [n for n in values if numbers.parse(numbers.words(n))[:1] != [n]]


def first_wrong_word(numbers: NumberGrammar, words: list[str]) -> str:
    """The first word with which the phrase is no beginning of a number any more."""
    for end in range(1, len(words) + 1):
        if not numbers.begins(words[:end]):
            return " ".join(words[max(0, end - 2) : end])
    return "(ends in " + " ".join(words[-2:]) + ")"


def engines(numbers: NumberGrammar, path: Path, shown: int) -> None:
    opener = lzma.open if path.suffix == ".xz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        names = file.readline().rstrip("\n").split("\t")
        rows = [dict(zip(names, line.rstrip("\n").split("\t"))) for line in file]
    for engine in (name for name in names if name != "n"):
        other: list[tuple[int, str, object]] = []
        wrong: Counter[str] = Counter()
        example: dict[str, tuple[int, str]] = {}
        right = total = same = 0
        for row in rows:
            text, n = row.get(engine, ""), int(row["n"])
            if not text:
                continue
            total += 1
            values = numbers.parse(text)
            same += text == numbers.words(n)
            if values[:1] == [n]:
                right += 1
            elif values:
                other.append((n, text, values[0]))
            else:
                piece = first_wrong_word(numbers, text.split())
                wrong[piece] += 1
                example.setdefault(piece, (n, text))
        print(
            f"{engine}\tforms {total}\tto n {right}\tto another {len(other)}"
            f"\tto none {sum(wrong.values())}\tas we write {same}"
        )
        for n, text, value in other[:shown]:
            print(f"  another\t{n}\t{text}\t{value}")
        for piece, count in wrong.most_common(shown):
            print(f"  none\t{count}\t{piece}\t{example[piece][0]}\t{example[piece][1]}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-l", "--language", required=True)
    parser.add_argument("--to", type=int, default=10**6, help="every n up to this")
    parser.add_argument("--random", type=int, default=10**5, help="so many random n up to 10^14")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engines", type=Path, help="number words of other programs (TSV, TSV.xz)")
    parser.add_argument("--shown", type=int, default=20, help="differences to list")
    parser.add_argument("--grammar", type=int, default=0, help="words of random n to segment")
    options = parser.parse_args()
    numbers = NumberGrammar.load(options.language)
    rng = random.Random(options.seed)
    begin = time.process_time()
    failures = identity(numbers, range(options.to + 1)) if options.to else []
    print(f"every n to {options.to}: {len(failures)} fail, {time.process_time() - begin:.0f} s")
    begin = time.process_time()
    drawn = [rng.randrange(10**14 + 1) for _ in range(options.random)]
    failures += identity(numbers, drawn)
    print(f"{options.random} random n to 10^14: {time.process_time() - begin:.0f} s")
    for n in failures[: options.shown]:
        print(f"  fails\t{n}\t{numbers.words(n)}\t{numbers.parse(numbers.words(n))}")
    if options.engines:
        engines(numbers, options.engines, options.shown)
    if options.grammar:
        segmenter = load_segmenter(options.language)
        words: Counter[str] = Counter()
        for _ in range(options.grammar):
            words.update(numbers.words(rng.randrange(10 ** rng.randrange(1, 15))).split())
        bad = {w: c for w, c in words.items() if not _is_number(segmenter.segment(w))}
        print(
            f"number words in the subword grammar: {1 - len(bad) / len(words):.4f} of {len(words)}"
        )
        for word, count in sorted(bad.items(), key=lambda item: -item[1])[: options.shown]:
            print(f"  not closed as a number\t{count}\t{word}\t{segmenter.segment(word).marked}")
    return 1 if failures else 0


def _is_number(word: object) -> bool:
    return bool(getattr(word, "closed", False)) and getattr(word, "category", "") == "numbers"


if __name__ == "__main__":
    sys.exit(main())
