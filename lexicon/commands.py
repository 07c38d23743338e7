"""The command on pronunciation: `uyir pronounce`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import click

from uyir.errors import DataError, ScriptError
from uyir.grammar.join import MARK, closes, opens

if TYPE_CHECKING:
    from uyir.lexicon.g2p import Pronunciation


def _sources(items: tuple[str, ...]) -> list[tuple[str, Optional[str]]]:
    """(name, text): each file and ``-`` by itself (None: to be read), all words as one text."""
    files: list[tuple[str, Optional[str]]] = []
    loose = []
    for item in items or ("-",):
        suffix = Path(item).suffix
        if item == "-" or "/" in item or (suffix and suffix.isascii()):
            files.append((item, None))
        else:
            loose.append(item)
    return [("arguments", " ".join(loose)), *files] if loose else files


def _lines(name: str, text: Optional[str]) -> Iterator[tuple[str, str]]:
    """(where, line) of one source."""
    from uyir.grammar.text import read_lines

    if text is not None:
        yield name, text
        return
    for number, line in enumerate(read_lines(name), start=1):
        yield f"{name}:{number}", line


def _words(tokens: Iterable[str], language: str) -> Iterator[tuple[str, ...]]:
    """Tokens of a line as words: marked subwords that belong together, or one token each."""
    from uyir.grammar.script import normalise

    word: list[str] = []
    for token in tokens:
        if word and opens(token):
            yield tuple(word)
            word = []
        if token.strip(MARK) and token != token.strip(MARK):
            word.append(token)
            if closes(token):
                yield tuple(word)
                word = []
        else:
            for plain in normalise(token, language).split():
                yield (plain,)
    if word:
        yield tuple(word)


@click.command()
@click.argument("items", metavar="[WORD...|FILE|-]", nargs=-1)
@click.option("--language", "-l", required=True, help="Language of the words: ta or kn.")
@click.option("--json", "as_json", is_flag=True, help="JSON Lines: word, phones, ipa.")
@click.option("--explain", is_flag=True, help="Name the rules that fired.")
@click.option("--variants", is_flag=True, help="All pronunciations with their costs, best first.")
@click.option("--max-weight", default=3.0, show_default=True, help="Dearest optional rule.")
@click.option(
    "--lexicon",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Your pronunciations: word or subword, tab, phones, tab, weight.",
)
def pronounce(
    items: tuple[str, ...],
    language: str,
    as_json: bool,
    explain: bool,
    variants: bool,
    max_weight: float,
    lexicon: Optional[Path],
) -> int:
    """Pronounce words, texts and subword sequences.

    Prints word, phones and IPA a line, then cost (--variants) and rules (--explain). Arguments are
    words, or text files (names with a slash or an ending), or `-` for stdin. Marked subwords (`m+ +m+ +m`) are
    joined to a word first. What cannot be pronounced is reported on stderr, costs exit code 1, and
    the rest is done.
    """
    from uyir.lexicon.g2p import load_g2p
    from uyir.lexicon.user import UserLexicon, pronounce_subwords

    load_g2p(language)
    user = UserLexicon.read(lexicon, language) if lexicon is not None else None
    failures = 0
    for name, text in _sources(items):
        try:
            for where, line in _lines(name, text):
                for subwords in _words(line.split(), language):
                    try:
                        word = _word(subwords, language)
                        made = pronounce_subwords(subwords, language, user, variants, max_weight)
                    except ScriptError as error:
                        failures += 1
                        click.echo(f"{where}: {error}", err=True)
                    else:
                        _print(word, made, as_json, variants, explain)
        except DataError as error:  # a file that cannot be read costs only itself
            failures += 1
            click.echo(str(error), err=True)
    return 1 if failures else 0


def _print(
    word: str, made: list[Pronunciation], as_json: bool, variants: bool, explain: bool
) -> None:
    if as_json:
        click.echo(json.dumps(_record(word, made, variants, explain), ensure_ascii=False))
        return
    for one in made if variants else made[:1]:
        cells = [word, " ".join(one.phones), one.ipa]
        if variants:
            cells.append(f"{one.weight:g}")
        if explain:
            cells.append(" ".join(one.rules))
        click.echo("\t".join(cells))


def _word(subwords: tuple[str, ...], language: str) -> str:
    from uyir.grammar.join import join

    return subwords[0] if subwords[0].strip(MARK) == subwords[0] else join(subwords, language)


def _record(
    word: str, made: list[Pronunciation], variants: bool, explain: bool
) -> dict[str, object]:
    def one(pronunciation: Pronunciation) -> dict[str, object]:
        out: dict[str, object] = {
            "phones": list(pronunciation.phones),
            "ipa": pronunciation.ipa,
        }
        if variants:
            out["weight"] = pronunciation.weight
        if explain:
            out["rules"] = list(pronunciation.rules)
        return out

    record = {"word": word, **one(made[0])}
    if variants:
        record["variants"] = [one(pronunciation) for pronunciation in made]
    return record
