"""Small tables beside a graph that say more about what was recognised.

- ``subwords.tsv.xz``: marked subword, category, gloss. Without it the segmenter is asked, which first
  has to expand the language's whole grammar: some seconds.
- ``vocabulary.txt.xz``: the words of the language model's training text, by which a recognised word is
  new or not. Without it nothing is said about that.

Both are written when a graph is built and are optional in a model folder.
"""

from __future__ import annotations

import lzma
from collections import Counter
from collections.abc import Container, Iterable
from pathlib import Path
from typing import Optional

from uyir.errors import ModelError
from uyir.grammar.segment import Segmentation

SUBWORDS = "subwords.tsv.xz"
VOCABULARY = "vocabulary.txt.xz"
COLUMNS = ("marked", "category", "gloss")

#: Marked subword -> category, gloss.
Analyses = dict[str, tuple[str, str]]


def write_subwords(
    folder: Path, segmentations: Iterable[tuple[Segmentation, int]], table: Container[str]
) -> int:
    """Write each subword's commonest category and gloss; returns how many there are.

    ``segmentations``: words of the training text with their counts. Subwords that are not in
    ``table``, the graph's word table, are left out.
    """
    counts: dict[str, Counter[tuple[str, str]]] = {}
    for segmentation, count in segmentations:
        for piece in segmentation.subwords:
            if piece.marked in table:
                known = counts.setdefault(piece.marked, Counter())
                known[piece.category, piece.gloss] += count
    rows = ["\t".join(COLUMNS)]
    for marked in sorted(counts):
        category, gloss = min(counts[marked], key=lambda k: (-counts[marked][k], k))
        rows.append(f"{marked}\t{category}\t{gloss}")
    _write(folder / SUBWORDS, rows)
    return len(rows) - 1


def write_vocabulary(folder: Path, words: Iterable[str]) -> int:
    """Write the different words of the training text; returns how many there are."""
    rows = sorted(set(words))
    _write(folder / VOCABULARY, rows)
    return len(rows)


def read_subwords(folder: Path) -> Optional[Analyses]:
    """The table of a model's language folder, None if it has none; `ModelError` for a damaged one."""
    text = _read(folder / SUBWORDS)
    if text is None:
        return None
    out: Analyses = {}
    for number, line in enumerate(text.splitlines(), 1):
        cells = line.split("\t")
        if len(cells) != len(COLUMNS) or (number == 1 and tuple(cells) != COLUMNS):
            raise ModelError(f"{folder / SUBWORDS}:{number}: want the columns {', '.join(COLUMNS)}")
        if number > 1:
            out[cells[0]] = (cells[1], cells[2])
    return out


def read_vocabulary(folder: Path) -> Optional[frozenset[str]]:
    """The words of a model's language folder, None if it has none; `ModelError` for a damaged file."""
    text = _read(folder / VOCABULARY)
    return None if text is None else frozenset(text.split())


def _write(path: Path, rows: Iterable[str]) -> None:
    text = "".join(row + "\n" for row in rows)
    path.write_bytes(lzma.compress(text.encode("utf-8"), preset=9))


def _read(path: Path) -> Optional[str]:
    try:
        return lzma.decompress(path.read_bytes()).decode("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, EOFError, UnicodeDecodeError, lzma.LZMAError) as error:
        raise ModelError(f"{path}: damaged: {error}") from None
