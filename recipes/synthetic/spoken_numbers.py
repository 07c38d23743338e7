"""Number words to be spoken, one phrase a line: every number below a thousand and a choice of larger ones.

They come from the grammar's own tables (`uyir.grammar.numbers`), so that no list of spoken numbers is needed;
phrases of several words are followed by their words.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

from uyir.grammar.numbers import NumberGrammar


def phrases(language: str, seed: int) -> list[str]:
    """Phrases and single words, sorted, no one twice."""
    grammar = NumberGrammar.load(language)
    rng = random.Random(seed)
    values = [
        *range(1000),
        *(rng.randrange(1000, 100_000) for _ in range(1200)),
        *(rng.randrange(10**5, 10**8) for _ in range(300)),
    ]
    found: set[str] = set()
    for value in values:
        phrase = grammar.words(value)
        found.update((phrase, *phrase.split()))
    return sorted(found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("language")
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    lines = phrases(arguments.language, arguments.seed)
    arguments.out.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    print(f"{arguments.out}: {len(lines)} phrases")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
