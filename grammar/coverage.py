"""How much of a text the closed grammar accepts, and which roots a text bears out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Optional

from uyir.grammar.join import join
from uyir.grammar.morphotactics import Entry
from uyir.grammar.segment import Segmenter


def roots_of(segmenter: Segmenter, word: str) -> Optional[list[Entry]]:
    """The list lines of the roots in a word's cheapest path; None if the word is not closed."""
    entries = [entry for _, entry, _ in segmenter.path(word)]
    if any(entry is None for entry in entries):
        return None
    return [entry for entry in entries if entry is not None and entry.kind == "prefix"]


def attested_roots(segmenter: Segmenter, words: Iterable[str]) -> set[Entry]:
    """The roots that stand in the cheapest path of some word."""
    found: set[Entry] = set()
    for word in words:
        found.update(roots_of(segmenter, word) or ())
    return found


def unattested_roots(segmenter: Segmenter, words: Iterable[str]) -> list[Entry]:
    """The roots of the lists that no word has, in the order of the lists.

    Only the cheapest path of a word counts: of two roots with a form in common one may be missed.
    """
    found = attested_roots(segmenter, words)
    return [e for e in segmenter.grammar.entries if e.kind == "prefix" and e not in found]


def share(part: int, whole: int) -> float:
    return round(part / whole, 6) if whole else 0.0


def measure(
    segmenter: Segmenter,
    counts: Mapping[str, int],
    known_roots: Optional[Collection[Entry]] = None,
) -> tuple[dict[str, dict[str, float]], Counter[str]]:
    """Shares of running words (`tokens`) and of different words (`types`), and the words refused.

    `closed` is what the grammar accepts without unknown roots, with and without an affix; `open` what
    is cut and joined again without loss. With `known_roots`, `known_roots` is the share whose roots
    are all among them: coverage by roots that were found elsewhere.
    """
    names = ("closed", "affixed", "open", "known")
    tokens: Counter[str] = Counter()
    types: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    for (word, count), result in zip(counts.items(), segmenter.segment_each(counts)):
        holds = {
            "closed": result.closed,
            "affixed": result.closed and len(result.subwords) > 1,
            "open": join(result.marked, segmenter.language) == word,
        }
        if known_roots is not None and result.closed:
            roots = roots_of(segmenter, word)
            holds["known"] = roots is not None and all(root in known_roots for root in roots)
        for name in names:
            if holds.get(name):
                tokens[name] += count
                types[name] += 1
        if not result.closed:
            refused[word] = count
    all_tokens, all_types = sum(counts.values()), len(counts)
    report: dict[str, dict[str, float]] = {
        "words": {"tokens": all_tokens, "types": all_types},
        "closed": {
            "tokens": share(tokens["closed"], all_tokens),
            "types": share(types["closed"], all_types),
            "tokens_with_affix": share(tokens["affixed"], all_tokens),
            "tokens_without_affix": share(tokens["closed"] - tokens["affixed"], all_tokens),
        },
        "open": {
            "tokens": share(tokens["open"], all_tokens),
            "types": share(types["open"], all_types),
        },
    }
    if known_roots is not None:
        report["known_roots"] = {
            "tokens": share(tokens["known"], all_tokens),
            "types": share(types["known"], all_types),
        }
    return report, refused
