"""Text input: lines and word counts of plain or compressed files, with errors that say where."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Callable, Union

from uyir.errors import DataError
from uyir.grammar.script import letters_of, normalise, words_of

_OPENERS: dict[str, Callable[..., Iterable[bytes]]] = {
    ".xz": lzma.open,
    ".gz": gzip.open,
    ".bz2": bz2.open,
}


#: How many bytes of a text are read at once.
_BLOCK = 1 << 20


def read_lines(path: Union[str, Path]) -> Iterator[str]:
    """Lines of a UTF-8 text, plain or .xz, .gz, .bz2; ``-`` is standard input.

    A BOM and CRLF are removed. Raises `DataError` with the line for another encoding, a NUL byte, a
    missing file or damaged compression.
    """
    for block in read_blocks(path):
        yield from block


def read_blocks(path: Union[str, Path]) -> Iterator[list[str]]:
    """`read_lines` in blocks of what can be had without waiting: some ten thousand lines of a file, single
    lines of what somebody types. Lines before one that is at fault are given before the error is raised."""
    if str(path) == "-":
        yield from _blocks(sys.stdin.buffer, "<stdin>")
        return
    path = Path(path)
    opener = _OPENERS.get(path.suffix, open)
    try:
        with opener(path, "rb") as stream:
            yield from _blocks(stream, str(path))
    except FileNotFoundError:
        raise DataError("no such file", path) from None
    except IsADirectoryError:
        raise DataError("a folder, not a file", path) from None
    except (EOFError, lzma.LZMAError, gzip.BadGzipFile, OSError) as error:
        raise DataError(f"cannot be read: {error}", path) from None


def _blocks(stream: Any, name: str) -> Iterator[list[str]]:
    number = 1
    begun: list[bytes] = []  # of a line whose end has not been read
    while True:
        data = stream.read1(_BLOCK)
        whole, newline, rest = data.rpartition(b"\n")
        if data and not newline:
            begun.append(data)
            continue
        raw = b"".join([*begun, whole]).split(b"\n") if newline or begun else []
        begun = [rest] if rest else []
        block: list[str] = []
        try:
            for line in raw:
                block.append(_decode(line, name, number))
                number += 1
        except DataError:
            if block:
                yield block
            raise
        if block:
            yield block
        if not data:
            return


def _decode(raw: bytes, name: str, number: int) -> str:
    if number == 1 and raw.startswith(b"\xef\xbb\xbf"):
        raw = raw[3:]
    if number == 1 and raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError("UTF-16, not UTF-8: save it as UTF-8", name, number)
    if b"\0" in raw:
        raise DataError("a NUL byte: not a text file, or a damaged one", name, number)
    try:
        return raw.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data":
            raise DataError("cut short within a letter, or not UTF-8", name, number) from None
        wrong = f"not UTF-8: {error.reason} (byte 0x{raw[error.start]:02x}); save it as UTF-8"
        raise DataError(wrong, name, number) from None


def count_words(paths: Iterable[Union[str, Path]], language: str) -> Counter[str]:
    """How often each well-formed word of a language's script occurs in some texts."""
    counts: Counter[str] = Counter()
    for path in paths:
        for line in read_lines(path):
            counts.update(words_of(line, language))
    return counts


_DIGIT = re.compile(r"\d")
_SENTENCE_END = re.compile(r"[.?!।॥]+(?:\s+|$)")
#: Successive words that a training sentence may not share with held-out text.
RUN = 6


def sentences_of(line: str, language: str) -> Iterator[list[str]]:
    """The sentences of a line as lists of words, as they are trained on.

    The line is cut at sentence ends and normalised, and numbers in digits are read out; a sentence with a
    word that is not well formed in the language's script (Latin letters) is left out.
    """
    from uyir.grammar.numbers import read_out  # whose tables are read by the lines of this module

    digits = _DIGIT.search(line)
    for part in _SENTENCE_END.split(line):
        words = read_out(part, language) if digits else normalise(part, language).split()
        if words and all(_wellformed(word, language) for word in words):
            yield words


@lru_cache(maxsize=1 << 20)
def _wellformed(word: str, language: str) -> bool:
    return letters_of(word, language) is not None


class HeldOut:
    """Text that is kept for measuring: what shares `run` successive words with it, or is a whole
    sentence of it, must not be trained on."""

    def __init__(self, run: int = RUN) -> None:
        self.run = run
        self._runs: set[tuple[str, ...]] = set()
        self._sentences: set[tuple[str, ...]] = set()

    def add(self, line: str, language: str) -> None:
        """Keep a line, and each of its sentences, for measuring."""
        for part in (line, *_SENTENCE_END.split(line)):
            words = tuple(normalise(part, language).split())
            if words:
                self._sentences.add(words)
                self._runs.update(_windows(words, self.run))

    def read(self, paths: Iterable[Union[str, Path]], language: str) -> HeldOut:
        """Keep the lines of some texts; returns itself."""
        for path in paths:
            for line in read_lines(path):
                self.add(line, language)
        return self

    def shares(self, words: Sequence[str]) -> bool:
        """Whether words share a run with what is held out, or are a sentence of it."""
        return tuple(words) in self._sentences or any(
            window in self._runs for window in _windows(words, self.run)
        )


def sentences(
    paths: Iterable[Union[str, Path]],
    language: str,
    held_out: Iterable[Union[str, Path]] = (),
    run: int = RUN,
) -> Iterator[list[str]]:
    """Sentences of some texts as lists of words (`sentences_of`), for training.

    A line that shares something with a held-out text (`HeldOut`) is left out, and so is a sentence, so
    that no test sentence is trained on.
    """
    kept = HeldOut(run).read(held_out, language)
    for path in paths:
        for line in read_lines(path):
            if not kept.shares(normalise(line, language).split()):
                for words in sentences_of(line, language):
                    if not kept.shares(words):
                        yield words


def _windows(words: Sequence[str], run: int) -> Iterator[tuple[str, ...]]:
    for begin in range(len(words) - run + 1):
        yield tuple(words[begin : begin + run])
