"""The search for cheapest paths, of many words at once.

What ``uyir.grammar.search`` does word by word is done here for all words in step, in arrays. Words are
sorted by their last letters, so those with an ending in common are a run of rows; all endings of one
length are worked out together, each common one once, then those with one letter more:

    (end) ──► ..ம் ──► ..உம்
          │       └──► ..கம்
          └─► ..ல் ──► ..இல்

On the way live pieces are carried from each run to the runs that it falls into: (run, node of the tries of
pieces, cost, rank). The rank says where the pieces behind it meet: a bit a letter, the last letter
of the word first, 0 within a piece and 1 at a seam. So of two paths of the same cost the one of lower rank has the
longer last piece, then the longer last but one, and so on, which is the order of ``uyir.grammar.search``. Where a
piece begins a record is kept; records are then met with the roots that end there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

import numpy as np

from uyir.grammar.cut import Cutter
from uyir.grammar.letters import Encoder, Letters, Words, spread
from uyir.grammar.morphotactics import (
    OPEN_SIGHT,
    UNKNOWN_LETTER_COST,
    UNKNOWN_ROOT_COST,
    UNKNOWN_WORD_COST,
    Grammar,
    unknown_pieces,
)
from uyir.grammar.tables import NO_PATH, UNITS, tables_of

#: Longer words are left to the search word by word: a rank has a bit for every letter.
LONGEST = 60
#: How many of the last letters words are sorted by; longer endings in common are worked out more than once.
_SORTED_BY = 8


class Records(NamedTuple):
    """Affixes that lead to the end of some words: [record].

    run: which ending they begin; state: that they leave; cost, rank: to the end; arc: their own; next: the
    record after each, -1 at the end; pieces: how many there are to the end, itself counted.
    """

    run: Any
    state: Any
    cost: Any
    rank: Any
    arc: Any
    next: Any
    pieces: Any


class Paths(NamedTuple):
    """The cheapest path of each of some words: [word].

    cost: in `UNITS`; closed: whether a listed root begins it; size: letters of the root; root: number of the
    arc of a listed root; first: the record of the first affix, -1 if there is none.
    """

    cost: Any
    closed: Any
    size: Any
    root: Any
    first: Any
    records: Records


class Batch(NamedTuple):
    """Many words in pieces, one word's after the other's: those of word i end at ``ends[i]``.

    pieces: numbers, as `uyir.grammar.pieces` has them; costs: in natural logs. A word without pieces is not
    well formed, or wants the search word by word.
    """

    pieces: Any
    ends: Any
    closed: Any
    costs: Any


class _Endings(NamedTuple):
    """Records by ending: those of row r that begin n letters from the end are ``first[i]:first[i + 1]``
    with ``i = runs[n - 1, r]``."""

    runs: Any
    first: Any
    records: Records


class _Kinds:
    """Where roots of each kind lead: cost and place among the arcs of the kind, by kind and state."""

    def __init__(self, kind: Any, state: Any, cost: Any, place: Any, states: int) -> None:
        key = kind * states + state
        order = np.lexsort((place, cost, key))
        order = order[np.flatnonzero(np.diff(key[order], prepend=-1))]
        self._states = states
        self._key = np.append(key[order], NO_PATH)
        self._cost = cost[order]
        self._place = place[order]
        ends = np.flatnonzero(state[order] == Grammar.END)
        kinds = int(kind.max(initial=-1)) + 1
        #: [kind]: what a root costs that is the whole word, and its place.
        self.alone = np.full(kinds, NO_PATH)
        self.alone[kind[order][ends]] = self._cost[ends]
        self.alone_place = np.zeros(kinds, dtype=np.int64)
        self.alone_place[kind[order][ends]] = self._place[ends]

    def meet(self, kind: Any, state: Any) -> tuple[Any, Any, Any]:
        """For pairs of kind and state: the numbers of those that there are, their costs and places."""
        key = kind * self._states + state
        at = np.searchsorted(self._key, key)
        met = np.flatnonzero(self._key[at] == key)
        at = at[met]
        return met, self._cost[at], self._place[at]


class BatchSearch:
    """Finds the cheapest paths of many letter strings through one grammar."""

    def __init__(self, grammar: Grammar) -> None:
        tables = tables_of(grammar)
        self._letters = tables.letters
        self._states = len(grammar.states)
        self._child = tables.child
        self._inner = tables.inner
        self._begin = np.where(tables.inner[tables.begin], tables.begin, 0)
        self._last = int(tables.begin[Grammar.END])
        self._arc_first = tables.arc_first.astype(np.int64)
        self._arc_count = np.diff(self._arc_first)
        self._arc_source = tables.arc_source.astype(np.int64)
        self._arc_place = tables.arc_place.astype(np.int64)
        self._arc_cost = tables.arc_cost.astype(np.int64)
        # The last edge is none: a look-up of what is not there ends at it.
        self._root_edges = np.append(tables.root_edges.astype(np.int64), NO_PATH)
        self._root_at = np.append(tables.root_at, -1)
        self._root_kind = tables.root_kind.astype(np.int64)
        self._root_first = tables.root_first.astype(np.int64)
        kind, place = spread(np.diff(tables.kind_first))
        self._kinds = _Kinds(
            kind,
            tables.kind_state.astype(np.int64),
            tables.kind_cost.astype(np.int64),
            place,
            self._states,
        )
        self._unknown = _UnknownRoots(grammar, self._letters)
        self._cutter = Cutter(self._letters, unknown_pieces(grammar))
        self._encoder = Encoder(grammar.language)
        self._first_root = len(self._arc_source)
        self._first_unknown = self._first_root + len(grammar.roots.entries)

    def search(self, words: Sequence[str]) -> Batch:
        """Cut words, each as its cheapest path says."""
        encoded = self._encoder.encode(words)
        fit = np.flatnonzero((encoded.sizes > 0) & (encoded.sizes <= LONGEST))
        closed = np.zeros(len(words), dtype=bool)
        costs, counts = np.zeros(len(words)), np.zeros(len(words), dtype=np.int64)
        pieces = np.zeros(0, dtype=np.int64)
        if len(fit):
            some = Words(encoded.codes, encoded.starts[fit], encoded.sizes[fit])
            paths = self.best(some)
            closed[fit], costs[fit] = paths.closed, paths.cost / UNITS
            counts[fit], pieces = self._pieces(some, paths)
        return Batch(pieces, np.cumsum(counts), closed, costs)

    def _pieces(self, words: Words, paths: Paths) -> tuple[Any, Any]:
        """How many pieces each word has, and the pieces one word after the other; see `Batch`."""
        records = paths.records
        unknown = np.flatnonzero(~paths.closed)
        cut, owner, piece = self._cutter.cut(
            Words(words.codes, words.starts[unknown], paths.size[unknown])
        )
        roots = np.ones(len(words.sizes), dtype=np.int64)
        roots[unknown] = cut
        first = np.where(roots > 0, paths.first, -1)
        counts = roots + np.where(first >= 0, records.pieces[first], 0)
        begins = np.cumsum(counts) - counts
        pieces = np.zeros(int(counts.sum()), dtype=np.int64)
        known = np.flatnonzero(paths.closed)
        pieces[begins[known]] = self._first_root + paths.root[known]
        number = spread(cut)[1]
        closes = (number == cut[owner] - 1) & (first[unknown[owner]] < 0)
        marks = 2 * (number == 0) + closes
        pieces[begins[unknown[owner]] + number] = self._first_unknown + 4 * piece + marks
        word = np.flatnonzero(first >= 0)
        record, at = first[word], begins[word] + roots[word]
        while len(record):
            pieces[at] = records.arc[record]
            record = records.next[record]
            going = np.flatnonzero(record >= 0)
            record, at = record[going], at[going] + 1
        return counts, pieces

    def best(self, words: Words) -> Paths:
        """The cheapest path of each word, none of them empty or longer than `LONGEST`.

        From a listed root if there is one, else from an unknown one, which may be the whole word.
        """
        order = np.argsort(_last_letters(words), kind="stable")
        rows = Words(words.codes, words.starts[order], words.sizes[order])
        endings = self._endings(rows)
        paths = self._closed(rows, endings)
        open_rows = np.flatnonzero(~paths.closed)
        if len(open_rows):
            self._open(rows, endings, open_rows, paths)
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return Paths(
            paths.cost[back],
            paths.closed[back],
            paths.size[back],
            paths.root[back],
            paths.first[back],
            paths.records,
        )

    def _endings(self, rows: Words) -> _Endings:
        """Everything that affixes can make of the ends of words."""
        codes, starts, sizes = rows
        longest = int(sizes.max())
        places = (starts + sizes)[:, None] - 1 - np.arange(longest)
        inside = np.arange(longest) < sizes[:, None]
        letters = codes[np.maximum(places, 0)] * inside
        new = np.ones((len(sizes), longest), dtype=bool)
        np.logical_or.accumulate(letters[1:] != letters[:-1], axis=1, out=new[1:])
        letters, new = np.ascontiguousarray(letters.T), np.ascontiguousarray(new.T)
        width = self._letters.width
        nothing = np.zeros(1, dtype=np.int64)
        run, node, cost, rank, pieces = nothing, nothing + self._last, nothing, nothing, nothing
        record = nothing - 1
        begins = nothing  # the first row of each run of the level before
        runs: list[Any] = []
        kept: list[Records] = []
        known = made = 0  # runs of shorter endings; records
        for level in range(longest):
            if not len(run):
                break
            numbers = np.cumsum(new[level]) - 1
            first_below = np.append(numbers[begins], numbers[-1] + 1)
            begins = np.flatnonzero(new[level])
            runs.append(numbers + known)
            owner, below = spread(first_below[run + 1] - first_below[run])
            below += first_below[run][owner]
            child = self._child[node[owner] * width + letters[level][begins[below]]]
            alive = np.flatnonzero(child)
            owner, run, node = owner[alive], below[alive], child[alive]
            cost, rank, record, pieces = cost[owner], rank[owner], record[owner], pieces[owner]
            owner, number = spread(self._arc_count[node])
            arc = self._arc_first[node[owner]] + number
            total = cost[owner] + self._arc_cost[arc]
            ending = run[owner] * self._states + self._arc_source[arc]
            best = _least_of(ending, total, rank[owner], self._arc_place[arc])
            owner, arc, total = owner[best], arc[best], total[best]
            here = Records(
                run[owner],
                self._arc_source[arc],
                total,
                rank[owner],
                arc,
                record[owner],
                pieces[owner] + 1,
            )
            kept.append(here._replace(run=here.run + known))
            begin = self._begin[here.state]
            new_ones = np.flatnonzero(begin)
            going = np.flatnonzero(self._inner[node])
            run = np.concatenate([run[going], here.run[new_ones]])
            node = np.concatenate([node[going], begin[new_ones]])
            cost = np.concatenate([cost[going], total[new_ones]])
            rank = np.concatenate([2 * rank[going], 2 * here.rank[new_ones] + 1])
            record = np.concatenate([record[going], made + new_ones])
            pieces = np.concatenate([pieces[going], here.pieces[new_ones]])
            known += len(begins)
            made += len(arc)
        records = Records(*(np.concatenate(part) for part in zip(*kept)))
        counts = np.bincount(records.run, minlength=known)
        first = np.concatenate([nothing, np.cumsum(counts)])
        return _Endings(np.stack(runs), first, records)

    def _roots(self, rows: Words) -> tuple[Any, Any, Any]:
        """The listed roots that begin words: row, letters and number of each."""
        codes, starts, sizes = rows
        row, node = np.arange(len(sizes)), np.ones(len(sizes), dtype=np.int64)
        found: list[tuple[Any, Any, Any]] = []
        size = 0
        while len(row):
            edge = node * self._letters.width + codes[starts[row] + size]
            at = np.searchsorted(self._root_edges, edge)
            alive = np.flatnonzero(self._root_edges[at] == edge)
            row, node = row[alive], at[alive] + 2
            number = self._root_at[node]
            size += 1
            ends = np.flatnonzero(number >= 0)
            found.append((row[ends], np.full(len(ends), size), number[ends]))
            going = np.flatnonzero(sizes[row] > size)
            row, node = row[going], node[going]
        row, size_of, number = (np.concatenate(part) for part in zip(*found))
        return row, size_of, number

    def _closed(self, rows: Words, endings: _Endings) -> Paths:
        row, size, number = self._roots(rows)
        kind = self._root_kind[number]
        rest = rows.sizes[row] - size
        cost = np.full(len(rows.sizes), NO_PATH)
        size_of, root = rows.sizes.copy(), np.zeros_like(rows.sizes)
        whole = np.flatnonzero(rest == 0)
        cost[row[whole]] = self._kinds.alone[kind[whole]]
        root[row[whole]] = self._root_first[number[whole]] + self._kinds.alone_place[kind[whole]]
        first = np.full(len(rows.sizes), -1)
        some = np.flatnonzero((rest > 0) & (rest <= len(endings.runs)))
        met = _meet(row[some], rest[some], kind[some], self._kinds, endings)
        chosen = met.cheapest(cost)
        row = met.row[chosen]
        cost[row] = met.cost[chosen]
        first[row] = met.record[chosen]
        pair = some[met.pair[chosen]]
        size_of[row] = size[pair]
        root[row] = self._root_first[number[pair]] + met.place[chosen]
        return Paths(cost, cost < NO_PATH, size_of, root, first, endings.records)

    def _open(self, rows: Words, endings: _Endings, which: Any, paths: Paths) -> None:
        """Paths from unknown roots, of these rows, into `paths`."""
        sizes, starts = rows.sizes[which], rows.starts[which]
        levels = np.arange(1, len(endings.runs) + 1)[:, None]
        there = np.diff(endings.first)[endings.runs[:, which]] > 0
        level, place = np.nonzero(there & (levels < sizes))
        rest = level + 1
        size = sizes[place] - rest
        kind = self._unknown.kinds(rows.codes, starts[place], size)
        whole = self._unknown.kinds(rows.codes, starts, sizes)
        met = _meet(which[place], rest, kind, self._unknown.targets(), endings)
        root = round(UNKNOWN_ROOT_COST * UNITS) + round(UNKNOWN_LETTER_COST * UNITS) * size
        met = met._replace(cost=met.cost + root[met.pair])
        alone = UNKNOWN_ROOT_COST + UNKNOWN_LETTER_COST * sizes + self._unknown.alone(whole)
        paths.cost[which] = np.rint(alone * UNITS)
        # A whole word is an unknown root where that is cheaper, not where it costs the same.
        chosen = met.cheapest(paths.cost + 1)
        row = met.row[chosen]
        paths.cost[row] = met.cost[chosen]
        paths.first[row] = met.record[chosen]
        paths.size[row] = size[met.pair[chosen]]


class _Met(NamedTuple):
    """Roots met with the records that go on from them: [meeting]; cost and rank of the whole path."""

    pair: Any
    row: Any
    record: Any
    cost: Any
    rank: Any
    place: Any

    def cheapest(self, below: Any) -> Any:
        """The best meeting of each row that has one cheaper than ``below[row]``."""
        some = np.flatnonzero(self.cost < below[self.row])
        some = some[np.argsort(self.row[some], kind="stable")]
        return some[
            _least_of_sorted(self.row[some], self.cost[some], self.rank[some], self.place[some])
        ]


def _meet(row: Any, rest: Any, kind: Any, kinds: _Kinds, endings: _Endings) -> _Met:
    """The meetings of roots, given by row, letters after the root, and kind."""
    run = endings.runs[rest - 1, row]
    begin = endings.first[run]
    owner, number = spread(endings.first[run + 1] - begin)
    record = begin[owner] + number
    met, cost, place = kinds.meet(kind[owner], endings.records.state[record])
    owner, record = owner[met], record[met]
    # The seam with the root is a bit too; then ranks of endings of any length are of one scale.
    rank = (2 * endings.records.rank[record] + 1) << (LONGEST - rest[owner])
    return _Met(owner, row[owner], record, cost + endings.records.cost[record], rank, place)


def _least_of(group: Any, *values: Any) -> Any:
    """The number of the least element of each group, in the order of groups: by the first of the values,
    where that is equal by the next."""
    order = np.argsort(group, kind="stable")
    return order[_least_of_sorted(group[order], *(value[order] for value in values))]


def _least_of_sorted(group: Any, *values: Any) -> Any:
    """`_least_of` for groups in order."""
    left = np.arange(len(group))
    for value in values:
        begins = np.flatnonzero(np.diff(group[left], prepend=-1))
        if len(begins) == len(left):
            return left
        least = np.minimum.reduceat(value[left], begins)
        sizes = np.diff(begins, append=len(left))
        left = left[value[left] == np.repeat(least, sizes)]
    return left


def _last_letters(words: Words) -> Any:
    """[word]: its last letters as one number, the last letter first."""
    key = np.zeros(len(words.sizes), dtype=np.uint64)
    for place in range(_SORTED_BY):
        at = words.starts + words.sizes - 1 - place
        letter = words.codes[np.maximum(at, 0)] * (place < words.sizes)
        key = (key << np.uint64(8)) | letter
    return key


class _UnknownRoots:
    """Where unknown roots lead; what has been asked is kept."""

    def __init__(self, grammar: Grammar, letters: Letters) -> None:
        self._grammar = grammar
        self._letters = letters
        self._longest = grammar.longest_open
        self._seen: dict[int, int] = {}
        self._numbers: dict[tuple[tuple[int, float], ...], int] = {}
        self._targets: Optional[_Kinds] = None
        self._alone = np.zeros(0)

    def kinds(self, codes: Any, starts: Any, sizes: Any) -> Any:
        """[root]: the number of the kind of each."""
        width = self._letters.width
        length = np.minimum(sizes, self._longest)
        key = length
        for place in range(1, OPEN_SIGHT + 1):
            at = np.maximum(starts + sizes - place, 0)
            key = key * width + np.where(place <= sizes, codes[at], 0)
        asked, inverse = np.unique(key, return_inverse=True)
        seen = self._seen
        found = [
            seen[number] if number in seen else self._look(number) for number in asked.tolist()
        ]
        return np.array(found, dtype=np.int64)[inverse]

    def _look(self, key: int) -> int:
        rest, tail = key, ""
        for _ in range(OPEN_SIGHT):
            rest, code = divmod(rest, self._letters.width)
            tail += self._letters.letters[code - 1] if code else ""
        targets = self._grammar.open_targets_of(tail, rest)
        number = self._numbers.get(targets)
        if number is None:
            number = self._numbers[targets] = len(self._numbers)
            self._targets = None
        self._seen[key] = number
        return number

    def targets(self) -> _Kinds:
        """What kinds lead to."""
        if self._targets is None:
            flat = [
                (number, target, weight, place)
                for targets, number in self._numbers.items()
                for place, (target, weight) in enumerate(targets)
            ]
            kind, target, place = (
                np.array([entry[i] for entry in flat], dtype=np.int64) for i in (0, 1, 3)
            )
            cost = np.array([round(entry[2] * UNITS) for entry in flat], dtype=np.int64)
            self._targets = _Kinds(kind, target, cost, place, len(self._grammar.states))
            ends: list[float] = []
            for targets in self._numbers:
                ends.append(
                    min([UNKNOWN_WORD_COST] + [w for target, w in targets if target == Grammar.END])
                )
            self._alone = np.array(ends)
        return self._targets

    def alone(self, kind: Any) -> Any:
        """[root]: what a root of each kind costs more that is the whole word."""
        self.targets()
        return self._alone[kind]
