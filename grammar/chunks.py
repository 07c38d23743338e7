"""Chunks: the commonest pieces of unknown roots, learnt from text.

A unigram model over letter sequences of whole syllables, trained by Viterbi re-estimation: begin
with every frequent sequence, count the best cuts, keep the most useful, repeat.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from uyir.grammar.cut import cheapest_cut
from uyir.grammar.morphotactics import SINGLE_LETTER_COST
from uyir.grammar.script import HIATUS, compose, decompose, load_script
from uyir.grammar.segment import Segmenter

#: The longest chunk, in syllables.
MAX_SYLLABLES = 4
ROUNDS = 4


def syllables(letters: str, language: str) -> list[str]:
    """A letter string cut after each vowel and its marks; consonants at the end stand alone."""
    script = load_script(language)
    parts: list[str] = []
    current = ""
    for i, letter in enumerate(letters):
        current += letter
        following = letters[i + 1 : i + 2]
        if (
            (letter in script.vowels and following not in script.marks)
            or letter in script.marks
            or (
                letter in script.consonants
                and following not in script.vowels
                and following not in (HIATUS, script.nukta)
            )
        ):
            parts.append(current)
            current = ""
    if current:
        parts.append(current)
    return parts


def unknown_roots(segmenter: Segmenter, counts: Counter[str]) -> Counter[str]:
    """The unknown roots in a word count, as letter strings."""
    roots: Counter[str] = Counter()
    for (word, count), found in zip(counts.items(), segmenter.segment_each(counts)):
        if not found.closed:
            roots[decompose(segmenter.path(word)[0][0], segmenter.language)] += count
    return roots


def learn_chunks(roots: Counter[str], language: str, size: int) -> dict[str, float]:
    """The `size` most useful chunks (letter string -> cost, natural log) of these roots."""
    candidates: Counter[str] = Counter()
    for root, count in roots.items():
        parts = syllables(root, language)
        for begin in range(len(parts)):
            for end in range(begin + 1, min(len(parts), begin + MAX_SYLLABLES) + 1):
                candidates["".join(parts[begin:end])] += count
    kept = {c: n for c, n in candidates.most_common(size * 8) if HIATUS not in c}
    costs = _costs(Counter(kept))
    for round_number in range(ROUNDS):
        longest = max(map(len, costs), default=1)
        used: Counter[str] = Counter()
        for root, count in roots.items():
            for piece in cheapest_cut(root, costs, SINGLE_LETTER_COST, longest):
                used[piece] += count
        limit = size if round_number == ROUNDS - 1 else size * (ROUNDS - round_number)
        top = {c: n for c, n in used.most_common() if c in costs}
        best = sorted(top, key=lambda c: (-top[c] * (len(c) + 1), c))[:limit]
        costs = _costs(Counter({c: top[c] for c in best}))
    return costs


def _costs(counts: Counter[str]) -> dict[str, float]:
    total = sum(counts.values())
    return {c: -math.log(n / total) for c, n in counts.items() if n > 0}


def chunk_table(costs: dict[str, float], language: str) -> Iterable[str]:
    """Lines of ``chunks.tsv``, sorted by form."""
    yield "form\tweight"
    for form, cost in sorted((compose(c, language), cost) for c, cost in costs.items()):
        yield f"{form}\t{cost:.2f}"


__all__ = ["chunk_table", "learn_chunks", "syllables", "unknown_roots"]
