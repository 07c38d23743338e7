"""Joining: marked subwords back into words, letter by letter."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from uyir.grammar.script import compose, decompose

MARK = "+"


def opens(marked: str) -> bool:
    """Whether a marked subword can begin a word (`m` or `m+`)."""
    return not marked.startswith(MARK)


def closes(marked: str) -> bool:
    """Whether a marked subword can end a word (`m` or `+m`)."""
    return not marked.endswith(MARK)


def bare(marked: str) -> str:
    """A subword without its marks."""
    return marked.strip(MARK)


def mark(pieces: Sequence[str]) -> tuple[str, ...]:
    """Mark the pieces of one word by their place.

    >>> mark(["படி", "த்த்", "ஆன்"])
    ('படி+', '+த்த்+', '+ஆன்')
    """
    last = len(pieces) - 1
    return tuple(
        (MARK if i > 0 else "") + piece + (MARK if i < last else "")
        for i, piece in enumerate(pieces)
    )


def join(marked: Iterable[str], language: str) -> str:
    """One word from its subwords: a bare consonant and a vowel become a syllable.

    Marks are optional. Raises `ScriptError` for a piece that is not well formed.

    >>> join(["படி+", "+த்த்+", "+ஆன்"], "ta")
    'படித்தான்'
    """
    return compose("".join([_letters(m, language) for m in marked]), language)


@lru_cache(maxsize=1 << 16)
def _letters(marked: str, language: str) -> str:
    return decompose(bare(marked), language)


def join_sentence(marked: Iterable[str], language: str) -> list[str]:
    """Words from a sequence of marked subwords.

    Orphans are kept: a suffix with nothing before it opens a word, a prefix with nothing after it
    ends one, so that a damaged hypothesis loses no letter.
    """
    words: list[list[str]] = []
    inside = False
    for subword in marked:
        if inside and not opens(subword):
            words[-1].append(subword)
        else:
            words.append([subword])
        inside = not closes(subword)
    return [join(word, language) for word in words]
