"""Language models on disk for scoring: packed, mapped into memory, made for one word table.

An ARPA file of millions of n-grams takes minutes to read and gigabytes to hold. A packed model is a
safetensors file that is mapped: opening it reads a few pages, processes share the rest, and what is never asked
for is never read. It needs neither Pynini nor pickle.

Arrays, of a model of order N over a word table of W symbols (``<s>`` is W, ``</s>`` W + 1):

    logp.0 (W + 2,)        log probabilities of single words, in `STEP`; `NEVER` where there is none
    word.n, logp.n (K_n,)  for n = 1 … N - 1: the last words of the (n + 1)-grams, by history and word
    first.n (K_{n-1} + 1,) the (n + 1)-grams after history i of order n are first.n[i] … first.n[i + 1]
    logb.n (K_n,)          for n = 0 … N - 2: back-off weights in `STEP`

A file holds one model or two: ``first.…`` is the one that a graph was built with, whose scores are taken away
where the larger one's are put in (`uyir.decode.rescore`).
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
import numpy.typing as npt

from uyir.decode.graph_files import file_sha256
from uyir.decode.lm import BOS, EOS, UNK, NgramModel, is_vocabulary
from uyir.errors import ModelError
from uyir.lexicon.symbols import Symbols

Array = npt.NDArray[Any]

FORMAT = "uyir-lm"
#: Raised whenever a reader of the older files would misread the newer ones.
FORMAT_VERSION = 1
#: Natural logarithms a unit of the stored 16-bit numbers.
STEP = 1.0 / 512
NEVER = -32768
_DTYPES: dict[str, np.dtype[Any]] = {"I16": np.dtype("<i2"), "U32": np.dtype("<u4")}
_BLOCK = 1 << 24
#: Answers that a model remembers, before it begins anew.
_MOST_KNOWN = 1 << 20


@dataclass(eq=False)
class PackedLm:
    """A back-off model over word-table ids; see the module's text for the arrays.

    A history is a number: what `start` and `step` give. Words beyond the table (roots that a user added) and
    symbols without a probability cost the way back to the empty history and nothing more.
    """

    num_words: int
    logp: tuple[Array, ...]
    word: tuple[Array, ...]
    first: tuple[Array, ...]
    logb: tuple[Array, ...]
    _histories: list[tuple[int, ...]] = field(default_factory=lambda: [()], repr=False)
    _numbers: dict[tuple[int, ...], int] = field(default_factory=lambda: {(): 0}, repr=False)
    _steps: dict[tuple[int, int], tuple[float, int]] = field(default_factory=dict, repr=False)
    _places: dict[tuple[int, ...], int] = field(default_factory=dict, repr=False)

    @property
    def order(self) -> int:
        return len(self.logp)

    def __len__(self) -> int:
        """The number of n-grams of all orders."""
        return sum(len(array) for array in self.logp)

    @property
    def start(self) -> int:
        """The history at the beginning of a sentence."""
        return self._number((self.num_words,))

    def step(self, history: int, word: int) -> tuple[float, int]:
        """Log probability (natural) of a word after a history, and the history then."""
        key = (history, word)
        found = self._steps.get(key)
        if found is None:
            found = self._steps[key] = self._step(self._histories[history], word)
        return found

    def end(self, history: int) -> float:
        """Log probability of the sentence's end after a history."""
        return self.step(history, self.num_words + 1)[0]

    def score(self, words: list[int]) -> float:
        """Log probability of a sentence of word-table ids, its end included."""
        history, total = self.start, 0.0
        for word in words:
            more, history = self.step(history, word)
            total += more
        return total + self.end(history)

    def forget(self) -> None:
        """Let go of what was asked for, if that is much; histories given out before mean nothing then."""
        if len(self._steps) >= _MOST_KNOWN:
            self._histories[1:] = []
            for held in (self._numbers, self._steps, self._places):
                held.clear()
            self._numbers[()] = 0

    def _step(self, context: tuple[int, ...], word: int) -> tuple[float, int]:
        total = 0
        known = 0 <= word < len(self.logp[0]) and self.logp[0][word] != NEVER
        while context:
            place = self._place((*context, word)) if known else -1
            if place >= 0:
                total += int(self.logp[len(context)][place])
                return total * STEP, self._number((*context, word))
            total += int(self.logb[len(context) - 1][self._place(context)])
            context = self._shorter(context)
        if not known:
            return total * STEP, 0
        return (total + int(self.logp[0][word])) * STEP, self._number((word,))

    def _shorter(self, context: tuple[int, ...]) -> tuple[int, ...]:
        """The longest proper ending of a context that is a history: something follows it, or it has a weight."""
        context = context[1:]
        while context and not self._is_history(context):
            context = context[1:]
        return context

    def _is_history(self, context: tuple[int, ...]) -> bool:
        place, n = self._place(context), len(context) - 1
        if place < 0:
            return False
        return bool(self.first[n][place] != self.first[n][place + 1] or self.logb[n][place])

    def _number(self, words: tuple[int, ...]) -> int:
        """The number of the longest history that some words end in."""
        context = words[len(words) - min(len(words), self.order - 1) :]
        if context and not self._is_history(context):
            context = self._shorter(context)
        number = self._numbers.get(context)
        if number is None:
            number = self._numbers[context] = len(self._histories)
            self._histories.append(context)
        return number

    def _place(self, words: tuple[int, ...]) -> int:
        """The place of an n-gram among those of its order, -1 if it is not there."""
        if len(words) == 1:
            return words[0]
        place = self._places.get(words)
        if place is None:
            place = self._places[words] = self._search(words)
        return place

    def _search(self, words: tuple[int, ...]) -> int:
        history = self._place(words[:-1])
        if history < 0:
            return -1
        n = len(words) - 1
        first = self.first[n - 1]
        begin, end = int(first[history]), int(first[history + 1])
        row = self.word[n - 1][begin:end]
        at = int(row.searchsorted(words[-1]))
        return begin + at if at < end - begin and row[at] == words[-1] else -1


@dataclass(frozen=True, eq=False)
class LmFile:
    """What a file of packed models holds: the model, perhaps the graph's own, and what they are for."""

    model: PackedLm
    first: Optional[PackedLm]
    meta: Mapping[str, Any]


# --------------------------------------------------------------------------------------------------
# Packing


def _fixed(values: Array) -> Array:
    scaled = np.rint(np.maximum(values, -60.0) / STEP)
    return np.where(np.isfinite(values), np.minimum(scaled, 32767), NEVER).astype("<i2")


def packed_arrays(model: NgramModel, words: Symbols) -> dict[str, Array]:
    """The arrays of a model over a word table; see the module's text.

    N-grams of symbols that the table does not have are left out: they can never be asked for. Symbols of the
    table that the model does not know have the probability of its ``<unk>``. Raises `ModelError` if
    it has none.
    """
    size = len(words)
    known = {symbol: i for i, symbol in enumerate(model.symbols)}
    to_word = np.full(len(model.symbols), -1, dtype=np.int64)
    absent = []
    for number, symbol in enumerate(words):
        if is_vocabulary(symbol):
            if symbol in known:
                to_word[known[symbol]] = number
            else:
                absent.append(number)
    to_word[known[BOS]], to_word[known[EOS]] = size, size + 1
    if absent and UNK not in known:
        raise ModelError(
            f"{len(absent)} subwords of the word table are not in the language model, "
            f"{words.symbol(absent[0])!r} for one, and it has no <unk>"
        )
    single = np.full(size + 2, -np.inf)
    weight = np.zeros(size + 2)
    there = to_word >= 0
    single[to_word[there]] = model.orders[0].logp[there]
    weight[to_word[there]] = model.orders[0].logb[there]
    if absent:
        single[absent] = model.orders[0].logp[known[UNK]]
    arrays = {"logp.0": _fixed(single)}
    if model.order > 1:
        arrays["logb.0"] = _fixed(weight)
    place = to_word  # of each n-gram of the order below among those that are kept
    count = size + 2
    for n in range(1, model.order):
        order = model.orders[n]
        history, last = place[order.history], to_word[order.word]
        kept = np.flatnonzero((history >= 0) & (last >= 0))
        kept = kept[np.lexsort((last[kept], history[kept]))]
        if len(kept) >= 2**32 - 1:
            raise ModelError(f"{len(kept)} {n + 1}-grams are too many for a packed model")
        arrays[f"word.{n}"] = last[kept].astype("<u4")
        arrays[f"logp.{n}"] = _fixed(order.logp[kept])
        if n + 1 < model.order:
            arrays[f"logb.{n}"] = _fixed(order.logb[kept])
        arrays[f"first.{n}"] = np.searchsorted(history[kept], np.arange(count + 1)).astype("<u4")
        place = np.full(len(order), -1, dtype=np.int64)
        place[kept] = np.arange(len(kept))
        count = len(kept)
    return arrays


def write_packed(
    path: Union[str, Path],
    model: NgramModel,
    words_path: Union[str, Path],
    *,
    first: Optional[NgramModel] = None,
    meta: Optional[Mapping[str, Any]] = None,
) -> int:
    """Write a model, and perhaps the one that a graph was built with, for a word table; returns the bytes.

    ``meta``: free JSON, where the models are from. Raises `ModelError` where the table asks for what a model does
    not have or the file cannot be written.
    """
    import safetensors.numpy

    words = Symbols.read(words_path)
    tensors = packed_arrays(model, words)
    if first is not None:
        tensors.update({f"first/{k}": v for k, v in packed_arrays(first, words).items()})
    header = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "num_words": len(words),
        "order": model.order,
        "first_order": None if first is None else first.order,
        "words_sha256": file_sha256(words_path),
        "crc32": {name: zlib.crc32(np.ascontiguousarray(t).data) for name, t in tensors.items()},
        "meta": dict(meta or {}),
    }
    path = Path(path)
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        safetensors.numpy.save_file(
            tensors, str(part), metadata={FORMAT: json.dumps(header, ensure_ascii=False)}
        )
        part.chmod(0o644)  # safetensors leaves it to its owner alone
        part.replace(path)
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from None
    finally:
        part.unlink(missing_ok=True)
    return path.stat().st_size


# --------------------------------------------------------------------------------------------------
# Reading


def _mapped(path: Path) -> tuple[dict[str, Any], dict[str, Array]]:
    """The header and the arrays of a safetensors file, mapped; `ModelError` for a damaged one."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length < min(path.stat().st_size, 1 << 26):
                raise ValueError("no header")
            table = json.loads(file.read(length))
        header = json.loads(table.pop("__metadata__", {}).get(FORMAT, "null"))
        if header is None:
            raise ModelError(f"{path}: not a packed language model (make one with `uyir lm pack`)")
        data = np.memmap(path, np.uint8, "r", offset=8 + length)
        arrays = {}
        end = 0
        for name, entry in table.items():
            dtype = _DTYPES[entry["dtype"]]
            a, b = entry["data_offsets"]
            (count,) = entry["shape"]
            if not 0 <= a <= b <= len(data) or b - a != count * dtype.itemsize:
                raise ValueError(f"array {name!r} does not lie within the file")
            arrays[name] = np.asarray(data[a:b]).view(dtype)
            end = max(end, b)
        if end != len(data):
            raise ValueError(f"{len(data)} bytes of arrays, want {end}")
    except FileNotFoundError:
        raise ModelError(f"{path}: no such language model") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ModelError(f"{path}: damaged, or not a packed language model ({reason})") from None
    return header, arrays


def _model(header: Mapping[str, Any], arrays: Mapping[str, Array], prefix: str) -> PackedLm:
    order = header["first_order"] if prefix else header["order"]
    size = header["num_words"] + 2
    logp = tuple(arrays[f"{prefix}logp.{n}"] for n in range(order))
    word = tuple(arrays[f"{prefix}word.{n}"] for n in range(1, order))
    first = tuple(arrays[f"{prefix}first.{n}"] for n in range(1, order))
    logb = tuple(arrays[f"{prefix}logb.{n}"] for n in range(order - 1))
    lengths = [len(array) for array in logp]
    fits = (
        lengths[0] == size
        and [len(w) for w in word] == lengths[1:]
        and [len(b) for b in logb] == lengths[:-1]
        and [len(f) for f in first] == [n + 1 for n in lengths[:-1]]
        and all(int(f[-1]) == n for f, n in zip(first, lengths[1:]))
    )
    if not fits:
        raise ValueError("its arrays do not fit each other")
    return PackedLm(header["num_words"], logp, word, first, logb)


def read_packed(
    path: Union[str, Path],
    *,
    words: Optional[Union[str, Path]] = None,
    lm_sha256: Optional[str] = None,
) -> LmFile:
    """Open a file of packed models.

    ``words``: the word table that it has to be of; ``lm_sha256``: the hash of the ARPA file that the graph to rescore
    was built with, whose scores ``first`` then has to have. Raises `ModelError` for a file that is missing,
    damaged, of another version, or of another word table or graph (naming both hashes).
    """
    path = Path(path)
    header, arrays = _mapped(path)
    try:
        if header["version"] != FORMAT_VERSION:
            raise ModelError(
                f"{path}: format {header['version']} of packed models; this version of uyir reads "
                f"{FORMAT_VERSION}"
            )
        for name, array in arrays.items():
            crc = 0
            for begin in range(0, array.nbytes, _BLOCK):
                crc = zlib.crc32(array.view(np.uint8)[begin : begin + _BLOCK].data, crc)
            if crc != header["crc32"][name]:
                raise ValueError(f"array {name!r} does not match its checksum")
        model = _model(header, arrays, "")
        first = None if header["first_order"] is None else _model(header, arrays, "first/")
        table, meta = str(header["words_sha256"]), dict(header["meta"])
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise ModelError(f"{path}: damaged, or not a packed language model ({error})") from None
    if words is not None and file_sha256(words) != table:
        raise ModelError(
            f"{path} was made for another word table: sha256 {table[:12]}…, but {words} has "
            f"{file_sha256(words)[:12]}…"
        )
    if lm_sha256 is not None and meta.get("first_sha256") != lm_sha256:
        raise ModelError(
            f"{path} is for graphs built with another language model: sha256 "
            f"{str(meta.get('first_sha256'))[:12]}…, but this graph has {lm_sha256[:12]}…"
        )
    return LmFile(model, first, meta)
