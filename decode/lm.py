"""Subword n-gram language models: interpolated modified Kneser-Ney, entropy pruning, ARPA files.

Theory. Of an n-gram's count c(hw) a discount D is taken, D1, D2 or D3+ by whether c is 1, 2 or more,
and what was taken of a history is given to the shorter history's distribution (Chen and Goodman
1998, modified Kneser-Ney, interpolated):

    p(w | h) = (c(hw) - D) / c(h) + g(h) p(w | h'),   Y = n1 / (n1 + 2 n2),   D_i = i - (i+1) Y n_{i+1} / n_i

Below the highest order c(hw) is the number of different words seen before hw, not how often hw was
seen, but for n-grams that begin with ``<s>``, before which nothing stands. At the bottom is the
uniform distribution over the vocabulary, so pieces never seen share what the unigrams were docked.

Pruning goes by relative entropy (Stolcke 1998), with two things that Kneser-Ney needs. How probable a
history is comes from its plain count, since the lower orders' probabilities are of another kind
(Chelba et al. 2010). And the lower orders are estimated again afterwards: an n-gram that was pruned
now has to be foretold by the shorter history, which therefore gets its count whole and not as 1
(revised Kneser pruning, Siivola et al. 2007).

N-grams are numbered hierarchically: one of order n is (number of its history at order n-1, word), so
a key is one 64-bit number at any order, and counting is sorting.
"""

from __future__ import annotations

import gzip
import io
import lzma
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, TextIO, Union, cast

import numpy as np
import numpy.typing as npt

from uyir.errors import DataError
from uyir.lexicon.symbols import EPSILON, Symbols

Ints = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

BOS, EOS, UNK = "<s>", "</s>", "<unk>"
LN10 = math.log(10.0)
#: What ARPA files write for a probability of 0.
ARPA_ZERO = -99.0
#: Discounts where a corpus is too small or too regular to estimate them from.
FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)
_MAX_SIZE = 1 << 62


# --------------------------------------------------------------------------------------------------
# Text


@contextmanager
def open_text(path: Union[str, Path]) -> Iterator[TextIO]:
    """A text file, plain or .gz or .xz, or standard input for ``-``; raises `DataError`."""
    if str(path) == "-":
        yield sys.stdin
        return
    path = Path(path)
    openers: dict[str, Any] = {".gz": gzip.open, ".xz": lzma.open}
    try:
        raw = openers.get(path.suffix, open)(path, "rb")
    except OSError as error:
        raise DataError(error.strerror or str(error), path) from None
    with io.TextIOWrapper(raw, encoding="utf-8", newline="\n") as file:
        yield file


def read_lines(path: Union[str, Path]) -> Iterator[tuple[int, str]]:
    """Lines of a text with their numbers; raises `DataError` for NUL bytes and other encodings."""
    number = 0
    with open_text(path) as file:
        try:
            for number, line in enumerate(file, start=1):
                if "\0" in line:
                    raise DataError("a NUL byte: this is no text", path, number)
                yield number, line
        except UnicodeDecodeError as error:
            raise DataError(f"not UTF-8: {error.reason}", path, number + 1) from None
        except (EOFError, OSError, lzma.LZMAError) as error:
            raise DataError(f"cannot be read to its end: {error}", path, number + 1) from None


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
        blocks: list[npt.NDArray[np.int32]] = []
        row: list[int] = []
        known = self._ids.get
        for sentence in sentences:
            if not sentence:
                continue
            row.append(0)
            row += [self.id(p) if (i := known(p)) is None else i for p in sentence]
            row.append(1)
            if len(row) > 1_000_000:
                blocks.append(np.array(row, dtype=np.int32))
                row = []
        blocks.append(np.array(row, dtype=np.int32))
        return np.concatenate(blocks)


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
        for number, line in read_lines(path):
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


# --------------------------------------------------------------------------------------------------
# Counting


@dataclass(frozen=True, eq=False)
class Level:
    """The n-grams of one order in a corpus: (K,) arrays, sorted by (history, word).

    ``history`` numbers an n-gram of the order below (-1 at order 1), ``lower`` the n-gram without its
    first word; ``count`` is how often it was seen, ``opens`` whether it begins with ``<s>``.
    """

    history: Ints
    word: Ints
    lower: Ints
    count: Ints
    opens: Mask

    def __len__(self) -> int:
        return len(self.word)


def count_ngrams(text: npt.NDArray[np.int32], size: int, order: int) -> list[Level]:
    """Count all n-grams up to an order in encoded text (T,) over a vocabulary of this size.

    Raises `DataError` for an empty corpus or an order below 1.
    """
    if order < 1:
        raise DataError(f"a model of order {order}; want 1 or more")
    if len(text) == 0:
        raise DataError("an empty corpus: there is nothing to estimate a model from")
    starts = text == 0
    everything = np.arange(size, dtype=np.int64)
    none = np.full(size, -1, dtype=np.int64)
    counts = np.bincount(text, minlength=size).astype(np.int64)
    levels = [Level(none, everything, none, counts, everything == 0)]
    here = text.astype(np.int64)  # the number of the n-gram that ends at each place, -1 if none
    for _ in range(2, order + 1):
        if len(levels[-1]) > _MAX_SIZE // size:
            raise DataError(f"too many n-grams for 64-bit keys: {len(levels[-1])} times {size}")
        places = np.flatnonzero(~starts[1:] & (here[:-1] >= 0)) + 1
        keys = here[places - 1] * size + text[places]
        sort = np.argsort(keys, kind="stable")
        ordered = keys[sort]
        fresh = np.ones(len(ordered), dtype=bool)
        fresh[1:] = ordered[1:] != ordered[:-1]
        first = np.flatnonzero(fresh)
        unique = ordered[first]
        number = np.empty(len(keys), dtype=np.int64)
        number[sort] = np.cumsum(fresh) - 1
        history = unique // size
        count = np.diff(np.append(first, len(ordered)))
        lower = here[places[sort[first]]]
        levels.append(Level(history, unique % size, lower, count, levels[-1].opens[history]))
        here = np.full(len(text), -1, dtype=np.int64)
        here[places] = number
    return levels


# --------------------------------------------------------------------------------------------------
# Estimation


def discounts(counts: Ints) -> tuple[float, float, float]:
    """D1, D2, D3+ from the counts of one order; `FALLBACK_DISCOUNTS` where they make no sense."""
    n1, n2, n3, n4 = (int((counts == i).sum()) for i in (1, 2, 3, 4))
    if not n1 or not n2 or not n3:
        return FALLBACK_DISCOUNTS
    y = n1 / (n1 + 2 * n2)
    found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    if all(0 < d < i for i, d in enumerate(found, start=1)):
        return found
    return FALLBACK_DISCOUNTS


@dataclass(frozen=True, eq=False)
class _Estimate:
    """Natural probabilities of all n-grams (kept or not) and back-off factors of all histories."""

    probability: list[Doubles]
    backoff: list[Doubles]  # per order n: factor of the n-gram as a history; 1 if nothing follows


def _adjusted(levels: Sequence[Level], kept: Sequence[Mask]) -> list[Ints]:
    """Kneser-Ney counts; a lower order gets 1 for a kept longer n-gram, its count for a pruned one."""
    found = [levels[-1].count]
    for n in range(len(levels) - 1, 0, -1):
        below, above = levels[n - 1], levels[n]
        share = np.where(kept[n], 1, found[0])
        counts = np.bincount(above.lower, weights=share, minlength=len(below)).astype(np.int64)
        found.insert(0, np.where(below.opens, below.count, counts))
    return found


def _estimate(levels: Sequence[Level], kept: Sequence[Mask]) -> _Estimate:
    everything = [np.ones(len(level), dtype=bool) for level in levels]
    plain = _adjusted(levels, everything)
    counts = _adjusted(levels, kept)
    probability: list[Doubles] = []
    backoff: list[Doubles] = []
    for n, level in enumerate(levels):
        count = counts[n].copy()
        if n == 0:
            count[0] = plain[0][0] = 0  # <s> is never foretold
        taken = np.array([0.0, *discounts(plain[n])])[np.minimum(count, 3)]
        history = np.zeros(len(level), dtype=np.int64) if n == 0 else level.history
        histories = 1 if n == 0 else len(levels[n - 1])
        total = np.bincount(history, weights=count, minlength=histories)
        freed = np.where(kept[n], taken, count)
        with np.errstate(invalid="ignore", divide="ignore"):
            factor = np.bincount(history, weights=freed, minlength=histories) / total
            own = (count - freed) / total[history]
        factor[total == 0] = 1.0
        own[total[history] == 0] = 0.0
        if n == 0:
            uniform = np.full(len(level), 1.0 / (len(level) - 1))
            uniform[0] = 0.0
            probability.append(own + factor[0] * uniform)
        else:
            backoff.append(factor)
            probability.append(own + factor[history] * probability[-1][level.lower])
    backoff.append(np.ones(len(levels[-1])))
    return _Estimate(probability, backoff)


def _losses(levels: Sequence[Level], estimate: _Estimate, kept: Sequence[Mask]) -> list[Doubles]:
    """How much relative entropy dropping each n-gram alone would cost (Stolcke 1998, equation 7)."""
    total = float(levels[0].count[1:].sum())
    losses = [np.full(len(levels[0]), np.inf)]
    for n in range(1, len(levels)):
        level = levels[n]
        p, low = estimate.probability[n], estimate.probability[n - 1][level.lower]
        kept_p, kept_low = np.where(kept[n], p, 0.0), np.where(kept[n], low, 0.0)
        size = len(levels[n - 1])
        left = np.maximum(1.0 - np.bincount(level.history, weights=kept_p, minlength=size), 1e-12)
        under = np.maximum(
            1.0 - np.bincount(level.history, weights=kept_low, minlength=size), 1e-12
        )
        seen = levels[n - 1].count[level.history] / total
        mass, rest = left[level.history], under[level.history]
        before = np.log(mass / rest)
        after = np.log((mass + p) / (rest + low))
        loss = -seen * (p * (np.log(low) + after - np.log(p)) + mass * (after - before))
        losses.append(loss)
    return losses


def _keep(
    levels: Sequence[Level], allowed: Sequence[Mask], losses: Sequence[Doubles], threshold: float
) -> list[Mask]:
    """What stays above a threshold: n-grams that lose more, and the histories of those that stay."""
    kept = [allowed[-1] & (losses[-1] >= threshold)] if len(levels) > 1 else [allowed[0]]
    for n in range(len(levels) - 2, -1, -1):
        if n == 0:
            kept.insert(0, np.ones(len(levels[0]), dtype=bool))
        else:
            needed = np.zeros(len(levels[n]), dtype=bool)
            needed[levels[n + 1].history[kept[0]]] = True
            kept.insert(0, needed | (allowed[n] & (losses[n] >= threshold)))
    return kept


def train(
    text: npt.NDArray[np.int32],
    vocabulary: Vocabulary,
    order: int,
    *,
    min_counts: Sequence[int] = (),
    prune: float = 0.0,
    max_ngrams: Optional[int] = None,
) -> NgramModel:
    """Estimate a model from encoded text.

    ``min_counts[i]``: n-grams of order i + 2 seen less often are left out (the last number goes for
    the orders after it, too). ``prune``: n-grams whose loss would raise the perplexity by less than
    this fraction are dropped. ``max_ngrams``: the smallest threshold is sought (from ``prune`` up)
    that leaves at most so many n-grams, unigrams included. Raises `DataError` for an empty corpus
    and for limits that cannot be kept.
    """
    size = len(vocabulary)
    levels = count_ngrams(text, size, order)
    lowest = [1] * order
    for n in range(1, order):
        lowest[n] = max(lowest[n - 1], min_counts[min(n, len(min_counts)) - 1] if min_counts else 1)
    kept = [level.count >= least for level, least in zip(levels, lowest)]
    kept[0][:] = True
    if prune > 0 or max_ngrams is not None:
        losses = _losses(levels, _estimate(levels, kept), kept)
        allowed, threshold = kept, math.log1p(prune)
        kept = _keep(levels, allowed, losses, threshold)
        if max_ngrams is not None:
            if max_ngrams < size:
                raise DataError(
                    f"at most {max_ngrams} n-grams: the vocabulary alone has {size} unigrams"
                )
            low, high = threshold, 1.0
            while _number(kept) > max_ngrams and high / max(low, 1e-30) > 1.001:
                middle = math.sqrt(max(low, 1e-15) * high)
                tried = _keep(levels, allowed, losses, middle)
                if _number(tried) > max_ngrams:
                    low = middle
                else:
                    high = middle
            if _number(kept) > max_ngrams:
                kept = _keep(levels, allowed, losses, high)
    estimate = _estimate(levels, kept)
    return _select(levels, estimate, kept, vocabulary.symbols)


def _number(kept: Sequence[Mask]) -> int:
    return sum(int(mask.sum()) for mask in kept)


def _select(
    levels: Sequence[Level], estimate: _Estimate, kept: Sequence[Mask], symbols: Sequence[str]
) -> NgramModel:
    orders = []
    number: Ints = np.zeros(0, dtype=np.int64)
    for n, (level, mask) in enumerate(zip(levels, kept)):
        with np.errstate(divide="ignore"):
            logp = np.log(estimate.probability[n][mask])
        logb = np.log(estimate.backoff[n][mask])
        history = level.history[mask] if n == 0 else number[level.history[mask]]
        orders.append(Order(history, level.word[mask], logp, logb))
        number = np.cumsum(mask) - 1
    return NgramModel(tuple(symbols), tuple(orders))


# --------------------------------------------------------------------------------------------------
# Models


@dataclass(frozen=True, eq=False)
class Order:
    """The n-grams of one order in a model: (K,), sorted by (history, word); natural logarithms.

    ``logb`` is the back-off weight of the n-gram as a history, 0 if it is none.
    """

    history: Ints
    word: Ints
    logp: Doubles
    logb: Doubles

    def __len__(self) -> int:
        return len(self.word)


@dataclass(frozen=True, eq=False)
class NgramModel:
    """A back-off n-gram model: the symbols of its vocabulary and its n-grams, order by order.

    Order 1 has every symbol, in order; ``<s>`` has probability 0.
    """

    symbols: tuple[str, ...]
    orders: tuple[Order, ...]

    @property
    def order(self) -> int:
        return len(self.orders)

    def __len__(self) -> int:
        """The number of n-grams of all orders."""
        return sum(len(order) for order in self.orders)

    def keys(self, n: int) -> Ints:
        """The sorted keys of order n + 1: history times the size of the vocabulary, plus word."""
        cache = self.__dict__.setdefault("_keys", {})
        if n not in cache:
            order = self.orders[n]
            cache[n] = order.word if n == 0 else order.history * len(self.symbols) + order.word
        return cast(Ints, cache[n])

    def find(self, n: int, history: Ints, word: Ints) -> Ints:
        """Numbers at order n + 1 (n >= 1) of (history, word), -1 where the model has no such n-gram."""
        keys = self.keys(n)
        if not len(keys):
            return np.full(np.broadcast(history, word).shape, -1, dtype=np.int64)
        wanted = history * len(self.symbols) + word
        place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where((keys[place] == wanted) & (history >= 0), place, -1).astype(np.int64)

    def encode(self, sentences: Iterable[Sequence[str]]) -> npt.NDArray[np.int32]:
        """As `Vocabulary.encode`, in this model's numbers; unknown pieces are ``<unk>``."""
        ids = {symbol: i for i, symbol in enumerate(self.symbols)}
        bos, eos, unk = ids[BOS], ids[EOS], ids.get(UNK, -1)
        row: list[int] = []
        for sentence in sentences:
            if sentence:
                row += [bos, *(ids.get(piece, unk) for piece in sentence), eos]
        return np.array(row, dtype=np.int32)

    def score(self, text: npt.NDArray[np.int32]) -> Doubles:
        """Natural log probabilities (T,) of encoded text, each place given what stands before it.

        0 for ``<s>`` (it is given), -inf for what the model gives no probability (id -1).
        """
        text = text.astype(np.int64)
        bos = self.symbols.index(BOS)
        starts = text == bos
        match = [np.where(text >= 0, text, -1)]
        for n in range(1, self.order):
            before = np.concatenate([[-1], match[-1][:-1]])
            before[starts] = -1
            found = self.find(n, before, np.maximum(text, 0))
            found[(text < 0) | starts] = -1
            match.append(found)
        score = np.where(text >= 0, self.orders[0].logp[np.maximum(text, 0)], -np.inf)
        longest = np.zeros(len(text), dtype=np.int64)
        for n in range(1, self.order):
            has = match[n] >= 0
            longest[has] = n
            score[has] = self.orders[n].logp[match[n][has]]
        for n in range(self.order - 1):
            # The history of n + 1 words was not enough: its back-off weight is paid.
            history = np.concatenate([[-1], match[n][:-1]])
            history[starts] = -1
            paid = (longest <= n) & (history >= 0)
            score[paid] += self.orders[n].logb[history[paid]]
        score[starts] = 0.0
        return score

    def ngrams(self, n: int) -> Ints:
        """(K, n + 1) the words of every n-gram of order n + 1."""
        words = self.orders[0].word[:, None]
        for m in range(1, n + 1):
            order = self.orders[m]
            words = np.concatenate([words[order.history], order.word[:, None]], axis=1)
        return words

    def write_arpa(self, path: Union[str, Path]) -> None:
        """Write the model in ARPA format, log10 with seven digits, n-grams in the model's order."""
        symbols = np.array(self.symbols, dtype=object)
        with Path(path).open("w", encoding="utf-8", newline="\n") as file:
            file.write("\\data\\\n")
            for n, order in enumerate(self.orders, start=1):
                file.write(f"ngram {n}={len(order)}\n")
            for n, order in enumerate(self.orders):
                file.write(f"\n\\{n + 1}-grams:\n")
                grams = [" ".join(row) for row in symbols[self.ngrams(n)].tolist()]
                logp = np.where(np.isfinite(order.logp), order.logp / LN10, ARPA_ZERO).tolist()
                if n + 1 == self.order:
                    file.writelines(f"{p:.7f}\t{g}\n" for p, g in zip(logp, grams))
                else:
                    logb = (order.logb / LN10).tolist()
                    file.writelines(
                        f"{p:.7f}\t{g}\t{b:.7f}\n" for p, g, b in zip(logp, grams, logb)
                    )
            file.write("\n\\end\\\n")


def read_arpa(path: Union[str, Path]) -> NgramModel:
    """Read an ARPA file (plain, .gz or .xz); raises `DataError` with file and line if it is not one."""
    lines = ((number, line.rstrip("\r\n")) for number, line in read_lines(path))
    for _, line in lines:
        if line.strip() == "\\data\\":
            break
    else:
        raise DataError("no \\data\\ section: not an ARPA file", path)
    promised: list[int] = []
    number, line = 0, ""
    for number, line in lines:
        text = line.strip()
        if text.startswith("\\"):
            break
        if text:
            name, _, value = text.partition("=")
            if name.split() != ["ngram", str(len(promised) + 1)] or not value.strip().isdigit():
                raise DataError(
                    f"want 'ngram {len(promised) + 1}=COUNT', got {text!r}", path, number
                )
            promised.append(int(value))
    if not promised:
        raise DataError("the \\data\\ section promises no n-grams", path, number)
    symbols: list[str] = []
    orders: list[Order] = []
    lookup: dict[tuple[int, ...], int] = {}
    for n, want in enumerate(promised):
        if line.strip() != f"\\{n + 1}-grams:":
            raise DataError(f"want '\\{n + 1}-grams:', got {line.strip()!r}", path, number)
        begin = number
        rows: list[tuple[int, ...]] = []
        logp: list[float] = []
        logb: list[float] = []
        line = ""
        for number, line in lines:
            cells = line.split()
            if not cells:
                continue
            if cells[0].startswith("\\") and len(cells) == 1:
                break
            if not n + 2 <= len(cells) <= n + 3:
                raise DataError(
                    f"want a {n + 1}-gram with its log probability, got {line!r}", path, number
                )
            try:
                p, b = float(cells[0]), float(cells[n + 2]) if len(cells) == n + 3 else 0.0
            except ValueError:
                raise DataError(f"a number that is none in {line!r}", path, number) from None
            if math.isnan(p) or math.isnan(b) or p > 1e-6:
                raise DataError(f"{p} is not the logarithm of a probability", path, number)
            if n == 0:
                symbols.append(cells[1])
                rows.append((len(rows),))
            else:
                try:
                    rows.append(tuple([lookup[(s,)] for s in cells[1 : n + 2]]))  # type: ignore[index]
                except KeyError as error:
                    raise DataError(
                        f"{error.args[0][0]!r} is not among the unigrams", path, number
                    ) from None
            logp.append(p)
            logb.append(b)
            line = ""
        if len(rows) != want:
            raise DataError(
                f"the file promises {want} {n + 1}-grams and has {len(rows)}"
                + ("" if line else " before it ends"),
                path,
                begin,
            )
        if n == 0:
            if len(set(symbols)) != len(symbols):
                raise DataError("a unigram stands twice", path, begin)
            for name in (BOS, EOS):
                if name not in symbols:
                    raise DataError(f"the model has no {name}", path, begin)
            lookup = {(symbol,): i for i, symbol in enumerate(symbols)}  # type: ignore[misc]
        orders.append(_order(n, rows, logp, logb, orders, len(symbols), path, begin))
    if line.strip() != "\\end\\":
        raise DataError(
            f"want '\\end\\', got {line.strip()!r}" if line else "cut short: no \\end\\",
            path,
            number,
        )
    return NgramModel(tuple(symbols), tuple(orders))


def _order(
    n: int,
    rows: Sequence[tuple[int, ...]],
    logp: Sequence[float],
    logb: Sequence[float],
    below: Sequence[Order],
    size: int,
    path: Union[str, Path],
    line: int,
) -> Order:
    """The n-grams of one ARPA section, sorted, their histories looked up in the orders below."""
    words = np.array(rows, dtype=np.int64).reshape(-1, n + 1)
    p, b = np.array(logp), np.array(logb) * LN10
    natural = np.where(p <= ARPA_ZERO, -np.inf, p * LN10)
    if n == 0:
        return Order(np.full(len(words), -1, dtype=np.int64), words[:, 0], natural, b)
    history = words[:, 0]
    for m in range(1, n):
        keys = below[m].history * size + below[m].word
        wanted = history * size + words[:, m]
        place = np.minimum(np.searchsorted(keys, wanted), max(len(keys) - 1, 0))
        if len(wanted) and (not len(keys) or (keys[place] != wanted).any()):
            raise DataError(f"a {n + 1}-gram's history is not among the {m + 1}-grams", path, line)
        history = place.astype(np.int64)
    key = history * size + words[:, n]
    order = np.argsort(key, kind="stable")
    if (np.diff(key[order]) == 0).any():
        raise DataError(f"a {n + 1}-gram stands twice", path, line)
    return Order(history[order], words[:, n][order], natural[order], b[order])


# --------------------------------------------------------------------------------------------------
# Perplexity


@dataclass(frozen=True)
class Perplexity:
    """How well a model foretells a text.

    Unknown pieces are counted and left out of the probability, as is usual; a word with one is an
    unknown word. ``by_letter`` divides by the letters of the words (a letter string's length) and one
    for the space or line end after each, so that units of any length compare.
    """

    sentences: int
    words: int
    pieces: int
    letters: int
    oov_pieces: int
    oov_words: int
    log_probability: float  # natural, ends of sentences included

    @property
    def by_piece(self) -> float:
        return self._per(self.pieces - self.oov_pieces + self.sentences)

    @property
    def by_word(self) -> float:
        return self._per(self.words - self.oov_words + self.sentences)

    @property
    def by_letter(self) -> float:
        return self._per(self.letters)

    @property
    def oov_rate(self) -> float:
        return self.oov_words / self.words if self.words else 0.0

    def _per(self, units: int) -> float:
        return math.exp(-self.log_probability / units) if units > 0 else math.nan

    def as_dict(self) -> dict[str, Union[int, float]]:
        return {
            "sentences": self.sentences,
            "words": self.words,
            "pieces": self.pieces,
            "letters": self.letters,
            "oov_pieces": self.oov_pieces,
            "oov_words": self.oov_words,
            "oov_rate": self.oov_rate,
            "log_probability": self.log_probability,
            "perplexity_by_piece": self.by_piece,
            "perplexity_by_word": self.by_word,
            "perplexity_by_letter": self.by_letter,
        }


def perplexity(model: NgramModel, sentences: Iterable[Sequence[str]], language: str) -> Perplexity:
    """Perplexity of a model on sentences of marked subwords; raises `DataError` if there are none."""
    from uyir.grammar.script import decompose

    held = [sentence for sentence in sentences if sentence]
    if not held:
        raise DataError("an empty text has no perplexity")
    text = model.encode(held)
    score = model.score(text)
    ids = {symbol: i for i, symbol in enumerate(model.symbols)}
    unk = ids.get(UNK, -1)
    unknown = (text == unk) | (text < 0)
    length: dict[str, int] = {}
    letters = words = oov_words = 0
    for sentence in held:
        bad = False
        for piece in sentence:
            if piece not in length:
                length[piece] = len(decompose(piece.strip("+"), language))
            letters += length[piece]
            bad = bad or piece not in ids or piece == UNK
            if not piece.endswith("+") or piece == "+":
                words += 1
                letters += 1
                oov_words += bad
                bad = False
    return Perplexity(
        sentences=len(held),
        words=words,
        pieces=sum(map(len, held)),
        letters=letters,
        oov_pieces=int(unknown.sum()),
        oov_words=oov_words,
        log_probability=float(score[~unknown].sum()),
    )
