"""Commands on units of recognition: `uyir units train`, `uyir units segment`."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from uyir import LANGUAGES
from uyir.errors import UyirError
from uyir.grammar.units import KINDS

language_option = click.option(
    "--language", "-l", required=True, type=click.Choice(LANGUAGES), help="Language of the text."
)
held_out_option = click.option(
    "--held-out",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Text whose runs of six words are not trained on.",
)


@click.group()
def units() -> None:
    """Learn units of any kind from text, and cut text into them."""


@units.command()
@click.argument("texts", nargs=-1, required=True)
@language_option
@click.option("--kind", "-k", required=True, type=click.Choice(KINDS))
@click.option("--size", type=click.IntRange(1), help="How many (words 50,000, others 10,000).")
@click.option(
    "--types",
    type=click.IntRange(1),
    default=100_000,
    show_default=True,
    help="Learn from so many of the commonest words (a list of words sees all).",
)
@click.option(
    "--estimator",
    type=click.Choice(("ml", "viterbi")),
    default="ml",
    show_default=True,
    help="How bpe-extended estimates: over all cuts of a word, or over its best.",
)
@click.option("--out", "-o", required=True, type=click.Path(path_type=Path), help="Table of units.")
@held_out_option
def train(
    texts: tuple[str, ...],
    language: str,
    kind: str,
    size: Optional[int],
    types: int,
    estimator: str,
    out: Path,
    held_out: tuple[Path, ...],
) -> None:
    """Learn units from TEXTS: sentences, one a line, plain or .xz, .gz, .bz2.

    Sentences with a word that is not well formed in the language (digits, Latin letters) are left out,
    for all kinds alike.
    """
    from uyir.grammar.unit_training import train_units, word_counts
    from uyir.grammar.units import spoken_sentences, write_units

    counts = word_counts(spoken_sentences(texts, language, held_out))
    found = train_units(kind, language, counts, size or 0, max_types=types, estimator=estimator)
    try:
        write_units(out, found)
    except OSError as error:
        raise UyirError(f"{out}: {error.strerror}") from None
    click.echo(f"{out}: units of kind {kind} from {len(counts):,} words", err=True)


@units.command()
@click.argument("table", type=click.Path(path_type=Path))
@click.argument("texts", nargs=-1, required=True)
@held_out_option
def segment(table: Path, texts: tuple[str, ...], held_out: tuple[Path, ...]) -> None:
    """Cut TEXTS into the units of TABLE (of `units train`): marked subwords, a sentence a line.

    The same sentences are left out as in training.
    """
    from uyir.grammar.units import read_units, spoken_sentences

    found = read_units(table)
    lines = spoken_sentences(texts, found.language, held_out)
    words = sorted({word for line in lines for word in line})
    cut = {word: " ".join(pieces) for word, pieces in zip(words, found.segment_all(words))}
    for line in lines:
        click.echo(" ".join(cut[word] for word in line))
