"""Back-off n-gram models: scores, ARPA files, perplexity."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Union, cast

import numpy as np
import numpy.typing as npt

from uyir.decode.lm_text import BOS, EOS, UNK
from uyir.errors import DataError
from uyir.grammar.text import read_lines

Ints = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]

LN10 = math.log(10.0)
#: What ARPA files write for a probability of 0.
ARPA_ZERO = -99.0
#: N-grams written at a time: their text is many times what they are as numbers.
_BLOCK = 1 << 18


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
                ngrams = self.ngrams(n)
                for begin in range(0, len(order), _BLOCK):
                    part = slice(begin, begin + _BLOCK)
                    grams = [" ".join(row) for row in symbols[ngrams[part]].tolist()]
                    p = order.logp[part]
                    logp = np.where(np.isfinite(p), p / LN10, ARPA_ZERO).tolist()
                    if n + 1 == self.order:
                        file.writelines(f"{p:.7f}\t{g}\n" for p, g in zip(logp, grams))
                    else:
                        logb = (order.logb[part] / LN10).tolist()
                        file.writelines(
                            f"{p:.7f}\t{g}\t{b:.7f}\n" for p, g, b in zip(logp, grams, logb)
                        )
            file.write("\n\\end\\\n")


def read_arpa(path: Union[str, Path]) -> NgramModel:
    """Read an ARPA file (plain, .gz or .xz); raises `DataError` with file and line if it is not one."""
    lines = enumerate(read_lines(path), start=1)
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
    for the space or line end after each, so that units of any length compare; letters of unknown pieces
    (``oov_letters``) are left out there, too.
    """

    sentences: int
    words: int
    pieces: int
    letters: int
    oov_pieces: int
    oov_words: int
    oov_letters: int
    log_probability: float  # natural, ends of sentences included

    @property
    def by_piece(self) -> float:
        return self._per(self.pieces - self.oov_pieces + self.sentences)

    @property
    def by_word(self) -> float:
        return self._per(self.words - self.oov_words + self.sentences)

    @property
    def by_letter(self) -> float:
        return self._per(self.letters - self.oov_letters)

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
            "oov_letters": self.oov_letters,
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
    letters = words = oov_words = oov_letters = 0
    for sentence in held:
        bad = False
        for piece in sentence:
            if piece not in length:
                length[piece] = 0 if piece == UNK else len(decompose(piece.strip("+"), language))
            closes = not piece.endswith("+") or piece == "+"
            own = length[piece] + closes
            letters += own
            if piece not in ids or piece == UNK:
                bad = True
                oov_letters += own
            if closes:
                words += 1
                oov_words += bad
                bad = False
    return Perplexity(
        sentences=len(held),
        words=words,
        pieces=sum(map(len, held)),
        letters=letters,
        oov_pieces=int(unknown.sum()),
        oov_words=oov_words,
        oov_letters=oov_letters,
        log_probability=float(score[~unknown].sum()),
    )
