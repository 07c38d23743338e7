"""How much of unseen text a word list misses: why this recogniser works on subwords.

    python benchmarks/vocabulary.py --language ta --test HELDOUT.txt.xz TEXT...

Prints the share of running words of the held-out text that are outside the commonest words of TEXT,
for several sizes, and outside all of them.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click

from uyir import LANGUAGES
from uyir.errors import UyirError
from uyir.grammar.text import count_words

SIZES = (10_000, 50_000, 200_000)


def missed(test: Counter[str], vocabulary: Sequence[str]) -> float:
    """The share of running words of `test` that are not in the vocabulary."""
    known = sum(test[word] for word in vocabulary)
    return 1.0 - known / sum(test.values())


@click.command()
@click.option("-l", "--language", required=True, type=click.Choice(LANGUAGES))
@click.option("--test", required=True, type=click.Path(path_type=Path), help="Held-out text.")
@click.argument("texts", nargs=-1, required=True, type=click.Path(path_type=Path))
def main(language: str, test: Path, texts: tuple[Path, ...]) -> None:
    """Share of running words that a word list made from TEXTS misses."""
    ranked = [word for word, _ in count_words(texts, language).most_common()]
    held_out = count_words([test], language)
    click.echo("language\twords in the list\tmissed")
    for size in (*(size for size in SIZES if size < len(ranked)), len(ranked)):
        click.echo(f"{language}\t{size}\t{missed(held_out, ranked[:size]):.4f}")


if __name__ == "__main__":
    try:
        main()
    except UyirError as error:
        sys.exit(f"vocabulary.py: {error}")
