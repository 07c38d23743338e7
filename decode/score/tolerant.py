"""Words that are equal but for spaces, and sandhi variants that the grammar knows.

Two groups of neighbouring words are equal by *spacing* if they are the same letters
(வந்து விட்டான், வந்துவிட்டான்). They are equal by *sandhi* if a seam rule of the language
(``grammar/<language>/sandhi.tsv``) makes the letters of one the letters of the other:

- joined, with what the rule does at the seam (வந்து இருந்தான், வந்திருந்தான்); the joined word must be
  one that the grammar accepts, without unknown roots;
- apart, with the sound that the rule puts between the two written at the end of the first: Tamil's
  linking consonant, வலிமிகுதல் (அந்தப் பையன், அந்த பையன்). The next word must begin as the rule says.

Words of a group count as right in the tolerant word error rate; every such pair is listed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Optional

from uyir.decode.score.counts import Counts
from uyir.errors import ScriptError
from uyir.grammar.morphotactics import SeamRule
from uyir.grammar.script import compose, decompose, is_wellformed
from uyir.grammar.segment import Segmenter

#: Words a side that sandhi may join; spacing has no limit.
MOST_JOINED = 5
#: A seam rule changes at most so many code points at the end of the left word.
_CHANGED = 2
#: Costs of substitution, deletion, insertion.
_COSTS = {"unit": (1, 1, 1), "sclite": (4, 3, 3)}


class Equal(NamedTuple):
    """Words of a reference and of a hypothesis that are equal, and by what: ``spacing``, ``sandhi``."""

    kind: str
    ref: str
    hyp: str


class Group(NamedTuple):
    """Ranges of an utterance's words that are equal: reference, hypothesis, and by what."""

    begin: int
    end: int
    hyp_begin: int
    hyp_end: int
    kind: str


class Tolerance:
    """Finds what is equal in a pair of utterances; without a segmenter only by spacing."""

    def __init__(self, language: str, segmenter: Optional[Segmenter], costs: str = "unit") -> None:
        self._language = language
        self._segmenter = segmenter
        self._rules: Sequence[SeamRule] = segmenter.grammar.seam_rules if segmenter else ()
        self._costs = _COSTS[costs]
        self._letters: dict[str, Optional[str]] = {}
        self._joined: dict[tuple[str, str], frozenset[str]] = {}
        self._accepted: dict[str, bool] = {}
        self._linked: dict[tuple[str, str, str], bool] = {}

    def count(self, ref: Sequence[str], hyp: Sequence[str]) -> tuple[Optional[Counts], list[Group]]:
        """Counts of an utterance's words with equal groups as hits; None where there is no group."""
        groups = self._groups(ref, hyp)
        if not groups:
            return None, []
        errors, chosen = self._best(ref, hyp, groups)
        return (Counts(len(ref), *errors), chosen) if chosen else (None, [])

    def _groups(self, ref: Sequence[str], hyp: Sequence[str]) -> dict[tuple[int, int], list[Group]]:
        """Every smallest group of equal words, by where it ends."""
        found: dict[tuple[int, int], list[Group]] = {}
        cut = _CHANGED if self._rules else 0
        beginnings: dict[str, list[int]] = {}
        for j, word in enumerate(hyp):
            beginnings.setdefault(word[0], []).append(j)
        for i, a in enumerate(ref):
            for j in beginnings.get(a[0], ()):
                b = hyp[j]
                if a == b:
                    continue
                short, long = (a, b) if len(a) <= len(b) else (b, a)
                if not long.startswith(short[: max(1, len(short) - cut)]):
                    continue
                group = self._spacing(ref, hyp, i, j)
                if group is None and self._rules:
                    group = self._link(ref, hyp, i, j) or self._sandhi(ref, hyp, i, j)
                if group is not None:
                    found.setdefault((group.end, group.hyp_end), []).append(group)
        return found

    def _spacing(self, ref: Sequence[str], hyp: Sequence[str], i: int, j: int) -> Optional[Group]:
        left, right = ref[i], hyp[j]
        end, other = i + 1, j + 1
        while len(left) != len(right):
            if len(left) < len(right):
                if end == len(ref) or not right.startswith(left):
                    return None
                left += ref[end]
                end += 1
            else:
                if other == len(hyp) or not left.startswith(right):
                    return None
                right += hyp[other]
                other += 1
        return Group(i, end, j, other, "spacing") if left == right else None

    def _link(self, ref: Sequence[str], hyp: Sequence[str], i: int, j: int) -> Optional[Group]:
        """One word that ends as it does for the sake of the next."""
        for side, at, other in ((ref, i, hyp[j]), (hyp, j, ref[i])):
            if at + 1 < len(side) and self._is_linked(other, side[at], side[at + 1]):
                return Group(i, i + 1, j, j + 1, "sandhi")
        return None

    def _is_linked(self, plain: str, changed: str, following: str) -> bool:
        key = (plain, changed, following)
        found = self._linked.get(key)
        if found is None:
            found = self._linked[key] = abs(
                len(plain) - len(changed)
            ) <= _CHANGED and changed + following in self.joined(plain, following)
        return found

    def _sandhi(self, ref: Sequence[str], hyp: Sequence[str], i: int, j: int) -> Optional[Group]:
        left, right = {ref[i]}, {hyp[j]}
        end, other = i + 1, j + 1
        while True:
            for word in left & right:
                if self._accepts(word):
                    return Group(i, end, j, other, "sandhi")
            # The side with fewer letters takes its next word.
            if max(map(len, left)) <= max(map(len, right)):
                if end == len(ref) or end - i == MOST_JOINED:
                    return None
                left = self._extend(left, ref[end], right)
                end += 1
            else:
                if other == len(hyp) or other - j == MOST_JOINED:
                    return None
                right = self._extend(right, hyp[other], left)
                other += 1
            if not left or not right:
                return None

    def _extend(self, forms: set[str], word: str, others: set[str]) -> set[str]:
        out: set[str] = set()
        for form in forms:
            for joined in self.joined(form, word):
                for other in others:
                    common = min(len(joined), len(other)) - _CHANGED
                    if joined[:common] == other[:common]:
                        out.add(joined)
                        break
        return out

    def joined(self, left: str, right: str) -> frozenset[str]:
        """What two words may become when they are joined: as they are, and by each rule that fits."""
        found = self._joined.get((left, right))
        if found is None:
            out = {left + right}
            a, b = self._decompose(left), self._decompose(right)
            if a is not None and b is not None:
                for rule in self._rules:
                    if rule.left.search(a) and rule.right.search(b):
                        before = a if rule.left_out is None else rule.left.sub(rule.left_out, a, 1)
                        behind = (
                            b if rule.right_out is None else rule.right.sub(rule.right_out, b, 1)
                        )
                        try:
                            out.add(compose(before + behind, self._language))
                        except ScriptError:
                            continue
            found = self._joined[left, right] = frozenset(out)
        return found

    def _decompose(self, word: str) -> Optional[str]:
        if word not in self._letters:
            well_formed = is_wellformed(word, self._language)
            self._letters[word] = decompose(word, self._language) if well_formed else None
        return self._letters[word]

    def _accepts(self, word: str) -> bool:
        found = self._accepted.get(word)
        if found is None:
            found = self._accepted[word] = (
                self._segmenter is not None
                and self._decompose(word) is not None
                and self._segmenter.accepts(word)
            )
        return found

    def _best(
        self, ref: Sequence[str], hyp: Sequence[str], groups: dict[tuple[int, int], list[Group]]
    ) -> tuple[tuple[int, int, int], list[Group]]:
        """Substitutions, deletions, insertions of a best alignment with groups, and its groups."""
        substitute, delete, insert = self._costs
        # By cell: cost, the cell before, and the group that led here.
        table: list[list[tuple[int, int, int, Optional[Group]]]] = []
        for i in range(len(ref) + 1):
            line: list[tuple[int, int, int, Optional[Group]]] = []
            for j in range(len(hyp) + 1):
                ways: list[tuple[int, int, int, Optional[Group]]] = []
                if i and j:
                    cost = 0 if ref[i - 1] == hyp[j - 1] else substitute
                    ways.append((table[i - 1][j - 1][0] + cost, i - 1, j - 1, None))
                if i:
                    ways.append((table[i - 1][j][0] + delete, i - 1, j, None))
                if j:
                    ways.append((line[j - 1][0] + insert, i, j - 1, None))
                for group in groups.get((i, j), ()):
                    source = table[group.begin][group.hyp_begin][0]
                    ways.append((source, group.begin, group.hyp_begin, group))
                line.append(min(ways, key=lambda way: way[0]) if ways else (0, 0, 0, None))
            table.append(line)
        i, j = len(ref), len(hyp)
        substitutions = deletions = insertions = 0
        chosen: list[Group] = []
        while i or j:
            _, a, b, taken = table[i][j]
            if taken is not None:
                chosen.append(taken)
            elif a == i:
                insertions += 1
            elif b == j:
                deletions += 1
            else:
                substitutions += ref[a] != hyp[b]
            i, j = a, b
        return (substitutions, deletions, insertions), chosen[::-1]
