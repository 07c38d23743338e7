"""Text input: lines and word counts of plain or compressed files, with errors that say where."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Callable, Union

from uyir.errors import DataError
from uyir.grammar.script import is_wellformed, normalise, words_of

_OPENERS: dict[str, Callable[..., Iterable[bytes]]] = {
    ".xz": lzma.open,
    ".gz": gzip.open,
    ".bz2": bz2.open,
}


def read_lines(path: Union[str, Path]) -> Iterator[str]:
    """Lines of a UTF-8 text, plain or .xz, .gz, .bz2; ``-`` is standard input.

    A BOM and CRLF are removed. Raises `DataError` with the line for another encoding, a NUL byte, a
    missing file or damaged compression.
    """
    if str(path) == "-":
        yield from _decode(sys.stdin.buffer, "<stdin>")
        return
    path = Path(path)
    opener = _OPENERS.get(path.suffix, open)
    try:
        with opener(path, "rb") as stream:
            yield from _decode(stream, str(path))
    except FileNotFoundError:
        raise DataError("no such file", path) from None
    except IsADirectoryError:
        raise DataError("a folder, not a file", path) from None
    except (EOFError, lzma.LZMAError, gzip.BadGzipFile, OSError) as error:
        raise DataError(f"cannot be read: {error}", path) from None


def _decode(stream: Iterable[bytes], name: str) -> Iterator[str]:
    for number, raw in enumerate(stream, start=1):
        if number == 1 and raw.startswith(b"\xef\xbb\xbf"):
            raw = raw[3:]
        if b"\0" in raw:
            raise DataError("a NUL byte: not a text file", name, number)
        try:
            yield raw.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise DataError(f"not UTF-8: {error}", name, number) from None


def count_words(paths: Iterable[Union[str, Path]], language: str) -> Counter[str]:
    """How often each well-formed word of a language's script occurs in some texts."""
    counts: Counter[str] = Counter()
    for path in paths:
        for line in read_lines(path):
            counts.update(words_of(line, language))
    return counts


_SENTENCE_END = re.compile(r"[.?!।॥]+(?:\s+|$)")


def sentences(
    paths: Iterable[Union[str, Path]],
    language: str,
    held_out: Iterable[Union[str, Path]] = (),
    run: int = 6,
) -> Iterator[list[str]]:
    """Sentences of some texts as lists of words, for training.

    Lines are cut at sentence ends; a sentence with a word that is not well formed in the language's
    script (digits, Latin letters) is left out, and so is one that shares `run` successive words with
    a held-out text, so that no test sentence is trained on.
    """
    forbidden = {
        window
        for path in held_out
        for line in read_lines(path)
        for window in _windows(normalise(line, language).split(), run)
    }
    for path in paths:
        for line in read_lines(path):
            if forbidden.intersection(_windows(normalise(line, language).split(), run)):
                continue
            for part in _SENTENCE_END.split(line):
                words = normalise(part, language).split()
                if words and all(is_wellformed(word, language) for word in words):
                    yield words


def _windows(words: Sequence[str], run: int) -> Iterator[tuple[str, ...]]:
    for begin in range(len(words) - run + 1):
        yield tuple(words[begin : begin + run])
