"""A search on a GPU under way: memory, launches and what comes back.

The kernels are in common.cuh, search.cu and lattice.cu; `uyir.decode.engines.cuda` is the engine.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Protocol, Union

import numpy as np
import numpy.typing as npt

from uyir.decode.engines import SearchOptions
from uyir.decode.engines.common import usable
from uyir.decode.engines.cuda_lattice import Backward, BestPaths
from uyir.decode.hypothesis import Hypothesis, failed
from uyir.decode.lattice import Lattice
from uyir.errors import EngineError

if TYPE_CHECKING:
    from uyir.decode.engines.cuda import CudaEngine

Array = npt.NDArray[Any]

RUNNING, DONE, BAD_INPUT, POOL_FULL, TABLE_FULL, DEAD = range(6)
_POINTER = ctypes.c_void_p
#: Bytes of shared memory that search.cu needs besides its table: in any case, and a warp.
SHARED_FIXED, SHARED_A_WARP = 2944, 1920
#: Scores of the last two frames alone are kept while they take no more bytes than this.
_MOST_SCRATCH = 1 << 29


class Launcher(Protocol):
    """What runs kernels: `nvrtc.Module`, or an emulation in tests."""

    def launch(
        self, name: str, grid: int, block: int, shared: int, arguments: Sequence[Any]
    ) -> None: ...  # pragma: no cover


def _struct(name: str, **fields: Any) -> Any:
    return type(name, (ctypes.Structure,), {"_fields_": list(fields.items())})


def _pointers(names: str) -> dict[str, Any]:
    return dict.fromkeys(names.split(), _POINTER)


GraphStruct = _struct(
    "GraphStruct",
    **_pointers("arc state eps eps_row closure closure_row source olabel final level"),
    **dict.fromkeys(("first_eps", "num_emitting", "start"), ctypes.c_uint32),
    least_cost=ctypes.c_float,
)
_Batch = _struct(
    "_Batch",
    log_probs=_POINTER,
    **dict.fromkeys(("stride_n", "stride_t", "stride_c"), ctypes.c_longlong),
    **_pointers("row length skip order first"),
    utterances=ctypes.c_int,
    tokens=ctypes.c_int,
    beam=ctypes.c_float,
    scale=ctypes.c_float,
    max_active=ctypes.c_uint32,
)
_Record = _struct(
    "_Record",
    **_pointers("state arc score"),
    capacity=ctypes.c_uint64,
    top=_POINTER,
    room=ctypes.c_uint32,
    chunk=ctypes.c_uint32,
    **_pointers("base count norm frame status best visited active most restarts path path_first"),
    path_length=_POINTER,
)


@dataclass(frozen=True)
class Shape:
    """How `search` is compiled: threads a block, slots of the table of a frame's states, how many of
    them may be taken, blocks a multiprocessor, and whether the table is in shared memory."""

    threads: int
    slots: int
    listed: int
    blocks: int
    shared: bool = True


#: From the smallest to the largest that shared memory has room for.
SHAPES = (
    Shape(128, 2528, 1920, 5),
    Shape(256, 4096, 3072, 3),
    Shape(512, 5888, 4480, 2),
    Shape(1024, 12288, 9216, 1),
)


#: Parts of the books of U utterances: (first, size) in words of 32 bits, times U.
_BOOKS = {
    "best": (0, 4),
    "visited": (4, 2),
    "active": (6, 2),
    "frame": (8, 1),
    "status": (9, 1),
    "most": (10, 1),
    "restarts": (11, 1),
    "path_length": (12, 1),
}


@lru_cache(maxsize=2)
def source(name: str) -> str:
    """The text of the kernels: ``search`` or ``lattice``."""
    folder = Path(__file__).parent
    files = (folder / "common.cuh", folder / f"{name}.cu")
    return "\n".join(path.read_text(encoding="utf-8") for path in files)


@dataclass(frozen=True, eq=False)
class Found:
    """What a search says of one utterance: the arcs of its best path, by number, and how it ended."""

    arcs: Array
    final: bool
    dead: bool = False
    bad_frame: Optional[int] = None


class Paths(Sequence[Found]):
    """The best paths of a batch of U utterances, read as `Found` one by one.

    ``length`` (U,) arcs, ``status`` (U,), ``final`` (U,) whether a final state was reached, ``frame`` (U,) frames
    done, or the bad one.
    """

    def __init__(self, written: Array, room: Array, host: dict[str, Array]) -> None:
        # Paths were written from their ends, each at the beginning of its room.
        self._written, self._room = written, room
        self.length = host["path_length"].astype(np.int64)
        self.status, self.frame = host["status"], host["frame"]
        self.final = host["best"][::2] != 0

    @property
    def arcs(self) -> Array:
        """The arcs of all paths, one path behind the other, each in order."""
        end = np.cumsum(self.length)
        owner = np.repeat(np.arange(len(end)), self.length)
        back = (self._room[:-1] + end - 1)[owner] - np.arange(len(owner))
        arcs: Array = self._written[back]
        return arcs

    def __len__(self) -> int:
        return len(self.length)

    def __getitem__(self, u: Any) -> Any:
        if isinstance(u, slice):
            return [self[i] for i in range(*u.indices(len(self)))]
        if self.status[u] == BAD_INPUT:
            return Found(self._written[:0], False, bad_frame=int(self.frame[u]))
        if self.status[u] == DEAD:
            return Found(self._written[:0], False, dead=True)
        first = int(self._room[u])
        path = self._written[first : first + int(self.length[u])][::-1]
        return Found(path, bool(self.final[u]))

    def __iter__(self) -> Iterator[Found]:
        return (self[u] for u in range(len(self)))


class _Tables:
    """Small tables of whole numbers on the GPU; ``first`` is of 64 bits, the others of 32."""

    def __init__(self, device: Any, first: Array, **tables: Array) -> None:
        import torch

        parts = {"first": first.astype(np.int64).view(np.int32)}
        parts.update((name, np.asarray(t).astype(np.int32)) for name, t in tables.items())
        ends = np.cumsum([len(part) for part in parts.values()]).tolist()
        self._held = torch.from_numpy(np.concatenate(list(parts.values()))).to(device)
        self._place = dict(zip(parts, [0, *ends]))

    def pointer(self, name: str) -> Any:
        return _POINTER(self._held.data_ptr() + 4 * self._place[name])


class Session:
    """A search under way: what it recorded lies on the GPU, and it can go on from there.

    ``whole``: all is kept that going on with more log_probs (see `advance`), paths and lattices want; otherwise
    what ``options.nbest`` wants, a third less.
    """

    def __init__(
        self,
        engine: CudaEngine,
        lengths: Sequence[int],
        options: SearchOptions,
        *,
        whole: bool = False,
    ) -> None:
        import torch

        self.engine, self.options = engine, options
        self.count = count = len(lengths)
        #: Frames searched of each utterance.
        self.done = np.zeros(count, dtype=np.int64)
        self._t = torch
        self._keep_arcs = whole or options.nbest == 1
        self._keep_scores = whole or options.nbest > 1
        self._rows: Any = None
        self._frames = np.zeros(count, dtype=np.int64)
        self._first = np.zeros(count, dtype=np.int64)
        self._tables: Any = None
        self._pool: dict[str, Any] = {}
        self._capacity = 0
        self._room = 0
        self._lay_out(np.asarray(lengths, dtype=np.int64))
        self._grow_pool(int(self._frames.sum() + count) * engine.expected_active(options))

    # Memory.

    def _lay_out(self, frames: Array) -> None:
        """Make room for so many frames an utterance, keeping what is there."""
        torch, count = self._t, self.count
        first = np.concatenate([[0], np.cumsum(frames + 1)])
        tables = torch.empty((3, int(first[-1])), dtype=torch.int32, device=self.engine.device)
        if self._tables is not None:
            for u in range(count):
                size = int(self.done[u]) + 1
                a, b = int(self._first[u]), int(first[u])
                tables[:, b : b + size] = self._tables[:, a : a + size]
        self._path_first = np.concatenate([[0], np.cumsum(frames + frames // 4 + 16)])
        old = self._book if self._tables is not None else None
        self._make_book(old)
        self._tables = tables
        self._first, self._frames = first[:-1], frames

    def _make_book(self, old: Any) -> None:
        """Books first, then paths, so that one copy brings all to the host."""
        head = 2 + 13 * self.count
        size = head + int(self._path_first[-1])
        self._book = self._t.empty(size, dtype=self._t.int32, device=self.engine.device)
        if old is not None:
            self._book[:head] = old[:head]
        else:
            self._book[:head].zero_()
            self._book_at("frame").fill_(-1)

    def _book_at(self, name: str) -> Any:
        """The part of the books on the GPU: best, visited, active and top are of 64 bits."""
        begin, size = _BOOKS[name]
        count = self.count
        return self._book[2 + begin * count : 2 + (begin + size) * count]

    def _grow_pool(self, wanted: float) -> None:
        torch, engine = self._t, self.engine
        size = int(wanted) + min(self.count, engine.blocks(5)) * self._chunk() + 4096
        if size >= 2**32:
            raise EngineError(
                f"{int(self._frames.sum())} frames would record 2^32 active states or more: "
                "search fewer at a time"
            )
        used = 0
        if self._capacity:
            used = min(self._capacity, int(self._book[:2].view(torch.int64).item()))
            self._book[:2].view(torch.int64).fill_(used)
        kinds = {"state": torch.int32}
        if self._keep_arcs:
            kinds["arc"] = torch.int32
        if self._keep_scores:
            kinds["score"] = torch.float32
        for name, kind in kinds.items():
            bigger = torch.empty(size, dtype=kind, device=engine.device)
            if used:
                bigger[:used] = self._pool[name][:used]
            self._pool[name] = bigger
        self._capacity = size

    def _chunk(self) -> int:
        """How many places of the pool a block takes at a time."""
        mean = self.engine.expected_active(self.options)
        return int(min(16384, max(512, 8 * mean)))

    def _make_scratch(self, shape: Shape) -> bool:
        """Room for the scores of two frames; False if the searches under way must begin anew."""
        torch = self._t
        if self._keep_scores or shape.listed <= self._room:
            return True
        room = shape.listed
        if 8 * self.count * room > _MOST_SCRATCH:
            # Fewer bytes if all scores are kept.
            self._keep_scores, self._room = True, 0
            self._pool["score"] = torch.empty(
                self._capacity, dtype=torch.float32, device=self.engine.device
            )
            return False
        bigger = torch.empty((self.count, 2, room), dtype=torch.float32, device=self.engine.device)
        if self._room:
            bigger[:, :, : self._room] = self._pool["score"]
        self._pool["score"], self._room = bigger, room
        return True

    # Searching.

    def advance(
        self,
        log_probs: Any,
        lengths: Optional[Sequence[int]] = None,
        rows_at: Optional[Sequence[int]] = None,
    ) -> None:
        """Search on through log_probs (N, T, C) on the engine's device.

        Utterance k's next frames are ``log_probs[rows_at[k], :lengths[k]]``; by default row k, and as many as
        the session was made for.
        """
        counts = (
            self._frames - self.done if lengths is None else np.asarray(lengths, dtype=np.int64)
        )
        total = self.done + counts
        if (total > self._frames).any():
            self._lay_out(np.maximum(total, 2 * self._frames))
        self._rows = log_probs
        self._row_at = np.arange(self.count) if rows_at is None else np.asarray(rows_at)
        self._skip = self.done
        self._run(np.argsort(-counts, kind="stable"), total)
        self.done = total
        self.engine.note(self, self._host)

    def _run(self, order: Array, total: Array) -> None:
        shapes = self.engine.shapes(self.options)
        at = self.engine.first_shape(self.options, shapes)
        todo, looking = order, True
        while len(todo):
            if not self._make_scratch(shapes[at]):
                self._book_at("frame")[self._t.from_numpy(todo).to(self.engine.device)] = -1
            self._launch_search(todo, total, shapes[at], looking)
            looking = False
            host = self._read()
            status = host["status"][todo]
            todo = todo[(status == POOL_FULL) | (status == TABLE_FULL)]
            if (status == POOL_FULL).any():
                done = float(np.maximum(host["frame"], 0).sum()) + 1.0
                used = min(self._capacity, int(host["top"][0]))
                need = 1.15 * used * max(1.0, float(total.sum()) / done)
                self._grow_pool(max(need, 1.3 * self._capacity))
            if (status == TABLE_FULL).any():
                if at + 1 == len(shapes):
                    raise EngineError("a frame has more active states than the graph has states")
                at += 1

    def _launch_search(self, order: Array, total: Array, shape: Shape, looking: bool) -> None:
        torch, engine = self._t, self.engine
        tokens = engine.packed.num_tokens
        grid = min(engine.blocks(shape.blocks), max(1, len(order)))
        threads = engine.threads(shape.threads)
        shared = SHARED_FIXED + SHARED_A_WARP * (threads // 32) + 8 * tokens + 16
        keys = values = lists = self._book
        if shape.shared:
            shared += 12 * shape.slots + 2 * shape.listed
        else:
            grid = max(1, min(grid, (1 << 30) // (16 * shape.slots)))
            keys = torch.empty(grid * shape.slots, dtype=torch.int32, device=engine.device)
            values = torch.empty(grid * shape.slots, dtype=torch.int64, device=engine.device)
            lists = torch.empty(grid * shape.listed, dtype=torch.int32, device=engine.device)
        batch, held = self._batch(order, total)
        record = self._record(held)
        module = engine.module(
            "search",
            self._rows.dtype,
            THREADS=threads,
            BLOCKS=shape.blocks,
            SLOTS=shape.slots,
            LISTED=shape.listed,
            SHARED_TABLE=int(shape.shared),
            SHARED_FIXED=SHARED_FIXED,
            SHARED_A_WARP=SHARED_A_WARP,
        )
        self._module = (module, threads)
        if looking:
            busy = torch.empty(self.count, dtype=torch.int32, device=engine.device)
            arguments = [batch, record, _POINTER(busy.data_ptr())]
            engine.launch(module, "look", len(order), threads, 0, arguments)
            if len(order) > grid and len(order) == self.count:
                # What takes longest comes first, so that no block ends the batch alone with it.
                first = torch.argsort(busy, descending=True).int()
                batch.order = first.data_ptr()
        arguments = [engine.graph, batch, record, held.pointer("cursor")]
        arguments += [_POINTER(t.data_ptr()) for t in (keys, values, lists)]
        engine.launch(module, "search", grid, threads, shared, arguments)

    def _batch(
        self, order: Array, total: Array, path_first: Optional[Array] = None
    ) -> tuple[Any, _Tables]:
        """The batch as kernels read it; all its small tables go to the GPU in one copy."""
        held = _Tables(
            self.engine.device,
            first=self._first,
            row=self._row_at,
            length=total,
            skip=self._skip,
            order=order,
            path_first=self._path_first if path_first is None else path_first,
            cursor=np.zeros(2),
        )
        rows, options = self._rows, self.options
        batch = _Batch(
            rows.data_ptr(),
            *rows.stride(),
            *(held.pointer(name) for name in ("row", "length", "skip", "order", "first")),
            len(order),
            self.engine.packed.num_tokens,
            options.beam,
            options.acoustic_scale,
            min(options.max_active, 2**31 - 1),
        )
        return batch, held

    def _record(self, held: _Tables) -> Any:
        pool, count = self._pool, self.count
        begin, tables = self._book.data_ptr(), self._tables.data_ptr()
        books = {name: begin + 4 * (2 + first * count) for name, (first, _) in _BOOKS.items()}
        table = 4 * self._tables.shape[1]
        return _Record(
            state=pool["state"].data_ptr(),
            arc=pool["arc"].data_ptr() if self._keep_arcs else None,
            score=pool["score"].data_ptr(),
            capacity=self._capacity,
            top=begin,
            room=0 if self._keep_scores else self._room,
            chunk=self._chunk(),
            base=tables,
            count=tables + table,
            norm=tables + 2 * table,
            path=begin + 4 * (2 + 13 * count),
            path_first=held.pointer("path_first"),
            **books,
        )

    def _read(self) -> dict[str, Array]:
        """Books and paths, in host memory."""
        host = self.engine.on_host(self._book)
        books = {"top": host[:2].view(np.int64)}
        for name, (begin, size) in _BOOKS.items():
            part = host[2 + begin * self.count : 2 + (begin + size) * self.count]
            books[name] = part.view(np.int64) if size > 1 else part
        books["path"] = host[2 + 13 * self.count :]
        self._host = books
        return books

    # Results.

    @property
    def bytes(self) -> int:
        """Bytes on the GPU that the search recorded into."""
        held = [self._book, self._tables, *self._pool.values()]
        return int(sum(tensor.numel() * tensor.element_size() for tensor in held))

    @property
    def log_probs(self) -> Any:
        """What was searched last, on the GPU."""
        return self._rows

    def unfinished(self) -> Array:
        """(U,) whether a search came to its end, but to no final state."""
        done: Array = (self._host["status"] == DONE) & (self._host["best"][::2] == 0)
        return done

    def failure(self, utterance: int, row: int) -> Hypothesis:
        """What to say of an utterance that has no path; ``row`` is where its log_probs are."""
        if self._host["status"][utterance] != BAD_INPUT:
            return Hypothesis((), (), -np.inf, -np.inf, -np.inf, 0.0, False)
        frame = int(self._host["frame"][utterance])
        values = self._rows[row, : int(self.done[utterance])].float().cpu().numpy()
        return failed(usable(values) or f"bad log_probs at frame {frame}")

    def paths(self) -> Paths:
        """The best path of each utterance so far."""
        if not self._keep_arcs:
            raise EngineError("a search for n-best keeps no single paths")
        host, room = self._host, np.diff(self._path_first)
        while (host["path_length"] > room).any():
            # More epsilons than there was room for: the paths are read again.
            room = np.maximum(room, host["path_length"])
            self._path_first = np.concatenate([[0], np.cumsum(room)])
            self._make_book(self._book)
            batch, held = self._batch(np.arange(self.count), self.done)
            module, threads = self._module
            arguments = [self.engine.graph, batch, self._record(held)]
            self.engine.launch(module, "trace", self.count, threads, 0, arguments)
            host = self._read()
        return Paths(host["path"], self._path_first, host)

    def best_paths(self) -> BestPaths:
        """The best label sequences of each utterance whose search ended in a final state."""
        return Backward(self, self.options.nbest).best_paths()

    def lattices(self, log_probs: Union[Array, Sequence[Array]]) -> list[Optional[Lattice]]:
        """What lies within ``lattice_beam`` of the best path of each utterance, whose log_probs (T, C) lie in host
        memory; None where there is no complete path."""
        if not self._keep_scores:
            raise EngineError("a search for the best path alone keeps no scores for a lattice")
        return Backward(self, 1).lattices(log_probs)
