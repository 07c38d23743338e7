"""`uyir words`: roots that a user adds to a model, with all their inflections."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Optional

import click

_language = click.option("-l", "--language", required=True, help="ta or kn.")
_model = click.option("-m", "--model", help="Model folder or bundled model.")


@click.group()
def words() -> None:
    """Add words to a model: roots, recognised in all their inflections, without training.

    The list is kept apart from the model (UYIR_WORDS, or the user's data folder) and outlives a new
    build of its graph.
    """


@words.command()
@click.argument("file", type=click.Path(path_type=Path))
@_language
@_model
def add(file: Path, language: str, model: Optional[str]) -> None:
    """Add the roots of FILE: one a line, perhaps a tab and a category (noun, name, verb …) or class.

    Without one, a noun's class is guessed by how the root ends, and what was guessed is shown.
    """
    from uyir.decode.added import AddedWord, Classes, read_roots, read_words, write_words
    from uyir.decode.graph_files import splice_keys
    from uyir.decode.transcribe import find_model, graph_folder
    from uyir.errors import DataError

    path = _path(model, language)
    graph = graph_folder(find_model(model)) / language / "HLG.safetensors"
    keys = splice_keys(graph)
    roots = read_roots(file, language)
    have = {word.root: word for word in read_words(path)}
    classes = Classes(language)
    new: dict[str, AddedWord] = {}
    for root, wanted, line in roots:
        try:
            word = classes.choose(root, wanted)
            places = classes.place(word)
            missing = [place.marked for place in places if place.key not in keys]
            if len(missing) == len(places):
                raise DataError(
                    f"{root!r}: no root of class {word.class_name} can enter {graph}: name another class"
                )
        except DataError as error:
            raise DataError(str(error), file, line) from None
        if missing:
            click.echo(f"{root}: {graph} has no place for {', '.join(missing)}", err=True)
        state = "already there" if have.get(root) == word else "added"
        new[root] = word
        click.echo(f"{root}\t{word.class_name}\t{state}\t{word.why}")
    write_words(path, list({**have, **new}.values()))
    _place(path, language, model)
    click.echo(f"{path}: {len({**have, **new})} words", err=True)


@words.command()
@click.argument("roots", nargs=-1)
@_language
@_model
@click.option("--all", "everything", is_flag=True, help="Remove every added word.")
def remove(roots: tuple[str, ...], language: str, model: Optional[str], everything: bool) -> None:
    """Remove added words."""
    from uyir.decode.added import read_words, write_words
    from uyir.errors import DataError
    from uyir.grammar.script import normalise

    if bool(roots) == everything:
        raise click.UsageError("name the words to remove, or --all")
    path = _path(model, language)
    have = read_words(path)
    gone = {word.root for word in have} if everything else {normalise(r, language) for r in roots}
    unknown = gone - {word.root for word in have}
    if unknown:
        raise DataError(f"{', '.join(sorted(unknown))}: not among the added words", path)
    write_words(path, [word for word in have if word.root not in gone])
    _place(path, language, model)
    click.echo(f"{path}: {len(have) - len(gone)} words", err=True)


@words.command("list")
@_language
@_model
def list_(language: str, model: Optional[str]) -> None:
    """Print the added words with their classes."""
    from uyir.decode.added import read_words

    for word in read_words(_path(model, language)):
        sys.stdout.write(f"{word.root}\t{word.class_name}\t{word.why}\n")


def _path(model: Optional[str], language: str) -> Path:
    from uyir.decode.added import word_folder
    from uyir.decode.transcribe import find_model, graph_folder
    from uyir.errors import ModelError
    from uyir.lexicon.symbols import table_file

    folder = find_model(model)
    if not table_file(graph_folder(folder) / language / "words.txt").is_file():
        raise ModelError(f"{folder}: no graph of {language!r} in this model")
    return word_folder(folder.name) / f"{language}.tsv"


def _place(path: Path, language: str, model: Optional[str]) -> None:
    """Work out the words' places now, so that the next transcription need not."""
    import json

    from uyir.decode.added import graph_key, places_of, read_words
    from uyir.decode.transcribe import find_model, graph_folder

    meta = graph_folder(find_model(model)) / language / "meta.json"
    words = read_words(path)
    if words:
        key = graph_key(json.loads(meta.read_text(encoding="utf-8")))
        places_of(path, words, language, key)
