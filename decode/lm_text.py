"""Text for language models: sentences of marked subwords, and the numbers of their pieces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Optional, Union

import numpy as np
import numpy.typing as npt

from uyir.errors import DataError
from uyir.grammar.text import read_lines
from uyir.lexicon.symbols import EPSILON, Symbols

BOS, EOS, UNK = "<s>", "</s>", "<unk>"
#: So many numbers are written at a time.
_BLOCK = 1 << 20


def is_vocabulary(symbol: str) -> bool:
    """Whether a word-table symbol is a piece, not epsilon, a splice or a disambiguation symbol."""
    return symbol != EPSILON and not symbol.startswith(("#", "<"))


class Vocabulary:
    """The pieces that a model knows, after ``<s>`` 0, ``</s>`` 1 and ``<unk>`` 2."""

    def __init__(self, pieces: Iterable[str] = (), closed: bool = False) -> None:
        self.symbols: list[str] = [BOS, EOS, UNK]
        self._ids = {symbol: i for i, symbol in enumerate(self.symbols)}
        self.closed = closed
        for piece in pieces:
            self._add(piece)

    @classmethod
    def of_table(cls, words: Symbols) -> Vocabulary:
        return cls((symbol for symbol in words if is_vocabulary(symbol)), closed=True)

    def _add(self, piece: str) -> int:
        number = self._ids.setdefault(piece, len(self.symbols))
        if number == len(self.symbols):
            self.symbols.append(piece)
        return number

    def id(self, piece: str) -> int:
        """A piece's id, new if the vocabulary is open and it is; ``<unk>`` if it is closed."""
        known = self._ids.get(piece)
        if known is not None:
            return known
        return self._ids[UNK] if self.closed else self._add(piece)

    def __len__(self) -> int:
        return len(self.symbols)

    def __contains__(self, piece: object) -> bool:
        return piece in self._ids

    def encode(self, sentences: Iterable[Sequence[str]]) -> npt.NDArray[np.int32]:
        """Sentences in one row (T,), each with ``<s>`` before and ``</s>`` after; empty ones dropped."""
        return np.concatenate([np.empty(0, dtype=np.int32), *self._blocks(sentences)])

    def encode_file(self, sentences: Iterable[Sequence[str]], file: BinaryIO) -> int:
        """As `encode`, into a binary file of int32; returns how many numbers there are."""
        total = 0
        for block in self._blocks(sentences):
            block.tofile(file)
            total += len(block)
        file.flush()
        return total

    def _blocks(self, sentences: Iterable[Sequence[str]]) -> Iterator[npt.NDArray[np.int32]]:
        row: list[int] = []
        known = self._ids.get
        for sentence in sentences:
            if not sentence:
                continue
            row.append(0)
            row += [self.id(p) if (i := known(p)) is None else i for p in sentence]
            row.append(1)
            if len(row) > _BLOCK:
                yield np.array(row, dtype=np.int32)
                row = []
        yield np.array(row, dtype=np.int32)


def read_sentences(
    paths: Iterable[Union[str, Path]], language: Optional[str] = None
) -> Iterator[list[str]]:
    """Sentences of marked subwords, one a line; empty lines are passed over.

    With a language each piece must be spelt in its letters. Raises `DataError` with file and line.
    """
    from uyir.errors import ScriptError
    from uyir.grammar.script import decompose

    seen: set[str] = {"<unk>"}
    for path in paths:
        for number, line in enumerate(read_lines(path), start=1):
            pieces = line.split()
            if language is not None and not seen.issuperset(pieces):
                for piece in pieces:
                    if piece not in seen:
                        try:
                            decompose(piece.strip("+"), language)
                        except ScriptError as error:
                            raise DataError(str(error), path, number) from None
                        if piece in (BOS, EOS, "+", "++"):
                            raise DataError(f"{piece!r} is no subword", path, number)
                        seen.add(piece)
            if pieces:
                yield pieces
