"""The `cuda` engine: our own beam search on a GPU, with nothing but torch.

An utterance is searched from its first frame to its last by one block of a kernel compiled at run time
(`search.cu`); the host waits once for the whole batch. What the search means (beam, max_active, ties)
is said in `reference`, which gives the same answer on a CPU.
"""

from __future__ import annotations

import ctypes
import warnings
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Protocol

import numpy as np
import numpy.typing as npt

from uyir.decode.engines import SearchOptions
from uyir.decode.engines.common import check_batch, usable
from uyir.decode.engines.packed import pack
from uyir.decode.engines.reference import read_path
from uyir.decode.graph import ranges
from uyir.decode.hypothesis import Hypothesis, failed, from_path
from uyir.decode.lattice import NO_TOKEN, Arc, Lattice
from uyir.errors import EngineError

if TYPE_CHECKING:
    from uyir.decode.rescore import Rescorer

Array = npt.NDArray[Any]

_RUNNING, _DONE, _BAD_INPUT, _POOL_FULL, _TABLE_FULL, _DEAD = range(6)
#: Active states a frame that the first record has room for; it grows where that is too little.
_FIRST_ROOM = 1024
#: More sequences than this per node do not fit a warp: n-best is then read off the lattice on the host.
_MOST_NBEST = 32
_POINTER = ctypes.c_void_p


class Launcher(Protocol):
    """What runs kernels: `nvrtc.Module`, or an emulation in tests."""

    def launch(
        self, name: str, grid: int, block: int, shared: int, arguments: Sequence[Any]
    ) -> None: ...  # pragma: no cover


class _Graph(ctypes.Structure):
    _fields_ = (
        *[
            (name, _POINTER)
            for name in ["arc", "eps", "row", "eps_row", "source", "olabel", "final", "level"]
        ],
        *[
            (name, ctypes.c_uint32)
            for name in ["first_eps", "num_emitting", "start", "most_blanks"]
        ],
        ("least_cost", ctypes.c_float),
        ("rising", ctypes.c_int),
    )


class _Batch(ctypes.Structure):
    _fields_ = (
        ("log_probs", _POINTER),
        *[(name, ctypes.c_longlong) for name in ["stride_n", "stride_t", "stride_c"]],
        *[(name, _POINTER) for name in ["row", "length", "skip", "order", "first"]],
        ("utterances", ctypes.c_int),
        ("tokens", ctypes.c_int),
        ("beam", ctypes.c_float),
        ("scale", ctypes.c_float),
        ("max_active", ctypes.c_int),
    )


class _Record(ctypes.Structure):
    _fields_ = (
        ("state", _POINTER),
        ("arc", _POINTER),
        ("score", _POINTER),
        ("capacity", ctypes.c_uint64),
        *[
            (name, _POINTER)
            for name in [
                "top",
                "base",
                "count",
                "norm",
                "frame",
                "status",
                "best",
                "visited",
                "active",
                "restarts",
            ]
        ],
    )


class _Lattice(ctypes.Structure):
    _fields_ = (
        *[
            (name, _POINTER)
            for name in [
                "state",
                "entry",
                "entries",
                "arc_first",
                "arcs",
                "alpha",
                "beta_sum",
                "by",
                "next",
                "score",
                "hash",
                "arc",
                "src",
                "dst",
                "posterior",
                "top",
            ]
        ],
        ("room", ctypes.c_uint64 * 4),
        *[
            (name, _POINTER)
            for name in [
                "node_base",
                "node_count",
                "best",
                "found",
                "sum",
                "label_at",
                "label_frame",
                "label",
                "label_posterior",
            ]
        ],
        ("beam", ctypes.c_float),
        ("nbest", ctypes.c_int),
        ("keep_arcs", ctypes.c_int),
    )


@dataclass(frozen=True)
class Shape:
    """How the kernels are compiled: log2 of table sizes, threads a block, blocks a multiprocessor."""

    log_slots: int
    shared: bool
    threads: int
    blocks: int
    log_alive: int


@dataclass(frozen=True, eq=False)
class Found:
    """What a search says of one utterance: the arcs of its best path, by number, and how it ended."""

    arcs: Array
    final: bool
    dead: bool = False
    bad_frame: Optional[int] = None


@dataclass(frozen=True, eq=False)
class FoundBest:
    """The arcs of one utterance's best label sequences, best first, and its labels' posteriors.

    ``labels``: (frame, label, posterior) columns of the lattice's arcs with labels.
    """

    arcs: Array
    lengths: Array
    labels: tuple[Array, Array, Array]

    @property
    def paths(self) -> list[Array]:
        return [row[:length] for row, length in zip(self.arcs, self.lengths.tolist())]


@dataclass(frozen=True, eq=False)
class Raw:
    """One utterance searched, in arrays that processes can exchange. ``log_probs``: (T, C), on the host.
    ``lattice``: what rescoring reads instead of ``best``."""

    found: Found
    best: Optional[FoundBest]
    log_probs: Array
    options: SearchOptions
    lattice: Optional[Lattice] = None


@lru_cache(maxsize=1)
def source() -> str:
    """The text of the kernels."""
    return (Path(__file__).parent / "search.cu").read_text(encoding="utf-8")


@lru_cache(maxsize=32)
def _module(device: str, macros: tuple[tuple[str, int], ...]) -> Launcher:
    import torch

    from uyir.decode.engines.nvrtc import Module

    with torch.cuda.device(device):
        return Module(source(), dict(macros))


class CudaEngine:
    """See `uyir.decode.engines.Engine`. log_probs may lie on the GPU, in any layout, float32, float16
    or bfloat16; they are read where they are.

    Raises `GraphError` for an empty graph or one with a cycle of epsilons, `EngineError` where the
    GPU cannot be used.
    """

    name = "cuda"

    def __init__(
        self,
        graph: Any,
        options: SearchOptions,
        *,
        device: str = "cuda",
        launcher: Any = None,
        rescorer: Optional[Rescorer] = None,
    ) -> None:
        import torch

        self.options = options
        self._rescorer = rescorer
        self.packed = pack(graph)
        self._strings = bool(getattr(graph, "strings", ()))
        self._launcher = launcher
        device = device if device.startswith("cuda") or launcher is not None else "cuda"
        self.device = torch.device(device)
        packed = self.packed
        # As many bits for tokens as most tables need, so that graphs share their compiled kernels.
        token_bits = max(8, (packed.num_tokens - 1).bit_length())
        self.state_bits = 32 - token_bits
        if packed.num_states > 1 << self.state_bits:
            self.state_bits = (packed.num_states - 1).bit_length()
        if (packed.num_tokens - 1).bit_length() + self.state_bits > 32:
            raise EngineError(
                f"{packed.num_states} states and {packed.num_tokens} tokens do not fit an arc's 32 bits"
            )
        count = packed.num_emitting
        target = packed.target.astype(np.int64)
        first = (target[:count] | packed.token[:count].astype(np.int64) << self.state_bits).astype(
            np.uint32
        )
        weight = packed.weight.view(np.uint32)
        self._held = {
            "arc": self._put(np.stack([first, weight[:count]], axis=1)),
            "eps": self._put(np.stack([target[count:].astype(np.uint32), weight[count:]], axis=1)),
            "row": self._put(packed.row.astype(np.uint32)),
            "eps_row": self._put(packed.eps_row.astype(np.uint32)),
            "source": self._put(packed.source),
            "olabel": self._put(packed.olabel),
            "final": self._put(packed.final),
            "level": self._put(packed.level),
        }
        self._graph = _Graph(
            **{name: t.data_ptr() for name, t in self._held.items()},
            first_eps=packed.first_eps,
            num_emitting=count,
            start=packed.start,
            most_blanks=packed.most_blanks,
            least_cost=packed.least_cost,
            rising=int(packed.has_rising_epsilons),
        )
        #: Mean active states a frame seen so far: what a record is sized by.
        self._room = float(_FIRST_ROOM)
        #: Of the last `search`: arcs visited, active states summed over frames, frames, bytes of record.
        self.counts = (0, 0, 0)
        self.bytes = 0
        self.restarts = 0

    def close(self) -> None:
        """Let go of the graph on the GPU."""
        self._held.clear()

    # Searching.

    def decode(self, log_probs: Any, lengths: Any) -> list[list[Hypothesis]]:
        return [self.hypotheses(raw) for raw in self.find(log_probs, lengths)]

    def find(self, log_probs: Any, lengths: Any) -> list[Raw]:
        """What the GPU does of `decode`; `hypotheses` makes the rest of each, in another process too."""
        rows, counts = self.prepare(log_probs, lengths)
        results: list[Optional[Raw]] = [None] * len(counts)
        todo = list(range(len(counts)))
        for options in (self.options, self.options.wider()):
            again = []
            for index, raw in zip(todo, self._decode(rows, counts, todo, options) if todo else ()):
                if results[index] is not None and raw.found.dead:
                    continue
                results[index] = raw
                if not raw.found.final and raw.found.bad_frame is None:
                    again.append(index)
            todo = again
        return [raw for raw in results if raw is not None]

    def hypotheses(self, raw: Raw, most: Optional[int] = None) -> list[Hypothesis]:
        """The hypotheses of an utterance, best first, at most so many; touches no GPU."""
        if raw.lattice is not None and self._rescorer is not None:
            found = self._rescorer.rescore(raw.lattice).hypotheses(most or raw.options.nbest)
            if found:
                return found
        return self._hypotheses(raw.found, raw.best, raw.log_probs, raw.options, most)

    def search(self, log_probs: Any, lengths: Any) -> list[Any]:
        """The best path of each utterance as `Found`, with n-best as `FoundBest`; nothing is tried again."""
        rows, counts = self.prepare(log_probs, lengths)
        session = Session(self, counts, self.options)
        session.advance(rows)
        return list(session.best_paths() if self.options.nbest > 1 else session.paths())

    def prepare(self, log_probs: Any, lengths: Any) -> tuple[Any, list[int]]:
        """log_probs (N, T, C) as a tensor on the engine's device, and lengths; raises `EngineError`."""
        import torch

        rows = log_probs if isinstance(log_probs, torch.Tensor) else torch.as_tensor(log_probs)
        counts = check_batch(rows.shape, lengths, self.packed.num_tokens)
        if rows.dtype not in (torch.float32, torch.float16, torch.bfloat16):
            rows = rows.float()
        if self._launcher is not None:
            rows = rows.float()
        return rows.detach().to(self.device, non_blocking=True), counts

    def _decode(
        self, rows: Any, counts: Sequence[int], which: Sequence[int], options: SearchOptions
    ) -> list[Raw]:
        import torch

        try:
            session = Session(self, [counts[i] for i in which], options)
            session.advance(rows, rows_at=which)
            found = session.paths()
            none: list[Any] = [None] * len(found)
            rescoring = self._rescorer is not None
            best = session.best_paths() if options.nbest > 1 and not rescoring else none
            host = _on_host(rows, which, counts)
            lattices = session.lattices(found, host) if rescoring else none
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            if len(which) == 1:
                raise EngineError(
                    f"the GPU has not the memory to search {counts[which[0]]} frames at beam "
                    f"{options.beam} and max_active {options.max_active}"
                ) from None
            half = len(which) // 2
            warnings.warn(
                f"the GPU has not the memory for {len(which)} utterances: searched {half} at a time",
                stacklevel=2,
            )
            return [
                *self._decode(rows, counts, which[:half], options),
                *self._decode(rows, counts, which[half:], options),
            ]
        return [Raw(found[k], best[k], host[k], options, lattices[k]) for k in range(len(which))]

    def _hypotheses(
        self,
        found: Found,
        best: Optional[FoundBest],
        log_probs: Array,
        options: SearchOptions,
        most: Optional[int],
    ) -> list[Hypothesis]:
        if found.bad_frame is not None:
            return [failed(usable(log_probs) or f"bad log_probs at frame {found.bad_frame}")]
        if found.dead:
            return [Hypothesis((), (), -np.inf, -np.inf, -np.inf, 0.0, False)]
        paths = best.paths if best is not None else []
        by_label = (
            _by_label(best.labels, self.packed.expand) if best is not None and paths else None
        )
        # Of paths with the same labels the best is kept: none may be left out before that.
        paths = (paths or [found.arcs])[: None if self._strings else most]
        hypotheses: list[Hypothesis] = []
        for path in paths:
            alignment, events, lm = read_path(self.packed, path)
            last = int(self.packed.target[path[-1]]) if len(path) else self.packed.start
            hypotheses.append(
                from_path(
                    alignment,
                    events,
                    log_probs,
                    lm_score=lm + (float(self.packed.final[last]) if found.final else 0.0),
                    acoustic_scale=options.acoustic_scale,
                    final=found.final,
                    confidences=None if by_label is None else _confidences(events, by_label),
                )
            )
        if self._strings:  # two spellings of one sequence differ in their arcs' labels
            hypotheses = list({h.subwords: h for h in reversed(hypotheses)}.values())[::-1]
        return hypotheses[:most]

    def lattice(self, log_probs: Any) -> Optional[Lattice]:
        """What lies within ``lattice_beam`` of the best path of one utterance (T, C); None if there is no path."""
        rows, counts = self.prepare(log_probs[None], [len(log_probs)])
        session = Session(self, counts, self.options)
        session.advance(rows)
        return session.lattices(session.paths(), _on_host(rows, [0], counts))[0]

    # What sessions use.

    def shape(self, options: SearchOptions, *, large: bool = False) -> Shape:
        """Table sizes for a search: in shared memory where they fit."""
        states = max(1024, 2 * self.packed.num_states)
        wanted = states if large else min(states, max(1024, 2 * options.max_active))
        log_slots = (wanted - 1).bit_length()
        if log_slots <= 14:
            threads = {13: 512, 14: 1024}.get(log_slots, 256)
            if self._launcher is not None:
                threads = 64
            blocks = {13: 2, 14: 1}.get(log_slots, 4)
            return Shape(log_slots, True, threads, blocks, 11)
        return Shape(log_slots, False, 64 if self._launcher is not None else 1024, 1, 11)

    def module(self, shape: Shape, dtype: Any) -> Launcher:
        """The kernels for a shape of tables and a type of log_probs."""
        import torch

        macros = {
            "INPUT_KIND": [torch.float32, torch.float16, torch.bfloat16].index(dtype),
            "STATE_BITS": self.state_bits,
            "THREADS": shape.threads,
            "BLOCKS": shape.blocks,
            "LOG_SLOTS": shape.log_slots,
            "SHARED_TABLE": int(shape.shared),
            "LOG_ALIVE": shape.log_alive,
        }
        if self._launcher is not None:
            made: Launcher = self._launcher(macros)
            return made
        return _module(str(self.device), tuple(macros.items()))

    def blocks(self, shape: Shape) -> int:
        """How many blocks the GPU runs at once."""
        if self._launcher is not None:
            return 2
        import torch

        return (
            int(torch.cuda.get_device_properties(self.device).multi_processor_count) * shape.blocks
        )

    def _put(self, array: Array) -> Any:
        import torch

        array = np.ascontiguousarray(array)
        if array.dtype == np.uint32:
            array = array.view(np.int32)
        if not array.size:  # an empty tensor has no address
            array = np.zeros((1, *array.shape[1:]), array.dtype)
        return torch.from_numpy(array).to(self.device)

    def stream(self, count: int = 1) -> Session:
        """A search of ``count`` utterances that come chunk by chunk (see `Session.advance`)."""
        return Session(self, [0] * count, self.options)


class Session:
    """A search under way: what it recorded lies on the GPU, and it can go on from there."""

    def __init__(self, engine: CudaEngine, lengths: Sequence[int], options: SearchOptions) -> None:
        import torch

        self.engine, self.options = engine, options
        self.count = len(lengths)
        #: Frames searched of each utterance.
        self.done = np.zeros(self.count, dtype=np.int64)
        self._t = torch
        self._rows: Any = None
        self._frames = np.zeros(self.count, dtype=np.int64)
        self._first = np.zeros(self.count, dtype=np.int64)
        made = {
            "frame": torch.full((self.count,), -1, dtype=torch.int32),
            "status": torch.zeros(self.count, dtype=torch.int32),
            "best": torch.zeros((self.count, 2), dtype=torch.int64),
            "visited": torch.zeros(self.count, dtype=torch.int64),
            "active": torch.zeros(self.count, dtype=torch.int64),
            "restarts": torch.zeros(self.count, dtype=torch.int32),
            "top": torch.zeros(1, dtype=torch.int64),
        }
        self._record = {name: tensor.to(engine.device) for name, tensor in made.items()}
        self._capacity = 0
        self._lay_out(np.asarray(lengths, dtype=np.int64))
        self._grow_pool(int((self._frames).sum()) + self.count)

    # Memory.

    def _lay_out(self, frames: Array) -> None:
        """Make room for the tables of so many frames an utterance, keeping what is there."""
        torch, device = self._t, self.engine.device
        first = np.concatenate([[0], np.cumsum(frames + 1)])
        old = {name: self._record.get(name) for name in ("base", "count", "norm")}
        for name in ("base", "count", "norm"):
            kind = torch.float32 if name == "norm" else torch.int32
            table = torch.zeros(int(first[-1]), dtype=kind, device=device)
            before = old[name]
            if before is not None:
                for u in range(self.count):
                    size = int(self.done[u]) + 1
                    a, b = int(self._first[u]), int(first[u])
                    table[b : b + size] = before[a : a + size]
            self._record[name] = table
        self._first, self._frames = first[:-1], frames

    def _grow_pool(self, frames: int) -> None:
        torch, device = self._t, self.engine.device
        wanted = int(max(frames, 1) * min(self.engine._room, self.options.max_active) * 1.1) + 65536
        wanted = max(wanted, int(1.5 * self._capacity))
        if wanted >= 2**32:
            raise EngineError(
                f"{frames} frames would record 2^32 active states or more: search fewer at a time"
            )
        used = min(self._capacity, int(self._record["top"].item())) if self._capacity else 0
        for name in ("state", "arc", "score"):
            kind = torch.float32 if name == "score" else torch.int32
            bigger = torch.empty(wanted, dtype=kind, device=device)
            if used:
                bigger[:used] = self._record[name][:used]
            self._record[name] = bigger
        self._record["top"].clamp_(max=max(used, 0))
        self._capacity = wanted

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
        rows = range(self.count) if rows_at is None else rows_at
        self._rows, self._row_at = log_probs, list(rows)
        self._skip = self.done.copy()
        order = np.argsort(-counts, kind="stable")
        self._run(order, total, self.engine.shape(self.options))
        self.done = total
        engine = self.engine
        read = self._read("status", "frame", "visited", "active", "restarts")
        self._status, self._frame = read["status"], read["frame"]
        frames = int(total.sum())
        engine.counts = (int(read["visited"].sum()), int(read["active"].sum()), frames)
        engine.restarts = int(read["restarts"].sum())
        if frames:
            engine._room = max(64.0, engine.counts[1] / frames)
        engine.bytes = sum(t.numel() * t.element_size() for t in self._record.values())

    def _run(self, order: Array, total: Array, shape: Shape) -> None:
        todo, large = order, shape
        while len(todo):
            self._launch_search(todo, total, large)
            status = self._read("status")["status"]
            full = todo[status[todo] == _POOL_FULL]
            lost = todo[status[todo] == _TABLE_FULL]
            if len(full):
                self._grow_pool(int(2 * (total.sum() + self.count)))
            if len(lost):
                large = self.engine.shape(self.options, large=True)
            todo = np.concatenate([full, lost])

    def _launch_search(self, order: Array, total: Array, shape: Shape) -> None:
        torch, engine = self._t, self.engine
        module = engine.module(shape, self._rows.dtype)
        grid = min(engine.blocks(shape), max(1, len(order)))
        shared = 4 * engine.packed.num_tokens + 16
        slots = 1 << shape.log_slots
        if shape.shared:
            shared += 12 * slots
            keys = values = torch.zeros(1, dtype=torch.int64, device=engine.device)
        else:
            grid = max(1, min(grid, (1 << 30) // (12 * slots)))
            keys = torch.empty(grid * slots, dtype=torch.int32, device=engine.device)
            values = torch.empty(grid * slots, dtype=torch.int64, device=engine.device)
        cursor = torch.zeros(1, dtype=torch.int32, device=engine.device)
        batch, held = self._batch(order, total)
        arguments: list[Any] = [engine._graph, batch, self._records()]
        arguments += [_POINTER(t.data_ptr()) for t in (cursor, keys, values)]
        self._go(module, "search", grid, shape.threads, shared, arguments)
        del held

    def _go(
        self, module: Launcher, name: str, grid: int, block: int, shared: int, arguments: Any
    ) -> None:
        if self.engine.device.type == "cuda":
            with self._t.cuda.device(self.engine.device):
                module.launch(name, grid, block, shared, arguments)
        else:
            module.launch(name, grid, block, shared, arguments)

    def _batch(self, order: Array, total: Array) -> tuple[_Batch, Any]:
        torch = self._t
        # One copy to the GPU for all the small tables.
        table = np.stack(
            [
                np.asarray(self._row_at, dtype=np.int64),
                total,
                self._skip,
                np.pad(order, (0, self.count - len(order))),
            ]
        ).astype(np.int32)
        small = torch.from_numpy(table).to(self.engine.device)
        first = torch.from_numpy(self._first.astype(np.int64)).to(self.engine.device)
        rows, options = self._rows, self.options
        batch = _Batch(
            rows.data_ptr(),
            *rows.stride(),
            *(small[i].data_ptr() for i in range(4)),
            first.data_ptr(),
            len(order),
            self.engine.packed.num_tokens,
            options.beam,
            options.acoustic_scale,
            min(options.max_active, 2**31 - 1),
        )
        return batch, (small, first)

    def _records(self) -> _Record:
        held = {name: tensor.data_ptr() for name, tensor in self._record.items()}
        return _Record(capacity=self._capacity, **held)

    def _read(self, *names: str) -> dict[str, Array]:
        return {name: self._record[name].cpu().numpy() for name in names}

    # Results.

    def paths(self) -> list[Found]:
        """The best path of each utterance so far."""
        torch, engine = self._t, self.engine
        total = self.done
        batch, held = self._batch(np.arange(self.count), total)
        room = total + total // 4 + 16
        while True:
            first = np.concatenate([[0], np.cumsum(room)])
            path = torch.empty(int(first[-1]), dtype=torch.int32, device=engine.device)
            places = torch.from_numpy(first[:-1].astype(np.int64)).to(engine.device)
            rooms = torch.from_numpy(room.astype(np.int32)).to(engine.device)
            length = torch.zeros(self.count, dtype=torch.int32, device=engine.device)
            arguments: list[Any] = [engine._graph, batch, self._records()]
            arguments += [_POINTER(t.data_ptr()) for t in (path, places, rooms, length)]
            shape = engine.shape(self.options)
            block = 256 if engine.device.type == "cuda" else 32
            module = engine.module(shape, self._rows.dtype)
            self._go(module, "trace", self.count, block, 0, arguments)
            lengths = length.cpu().numpy()
            if (lengths <= room).all():
                break
            room = np.maximum(room, lengths)
        del held
        arcs = path.cpu().numpy()
        best = self._read("best")["best"]
        found = []
        for u in range(self.count):
            if self._status[u] == _BAD_INPUT:
                found.append(Found(arcs[:0], False, bad_frame=int(self._frame[u])))
            elif self._status[u] == _DEAD:
                found.append(Found(arcs[:0], False, dead=True))
            else:
                a = int(first[u])
                found.append(Found(arcs[a : a + int(lengths[u])][::-1], bool(best[u, 0] != 0)))
        return found

    def best_paths(self) -> list[FoundBest]:
        """The best label sequences of each utterance whose search ended in a final state."""
        nbest = self.options.nbest
        if nbest > _MOST_NBEST:
            warnings.warn(f"the GPU finds at most {_MOST_NBEST} sequences", stacklevel=2)
            nbest = _MOST_NBEST
        kept = self._rescan(nbest)
        torch, engine = self._t, self.engine
        found = kept["found"].cpu().numpy()
        room = self.done + self.done // 4 + 16
        while True:
            first = np.concatenate([[0], np.cumsum(room)])
            path = torch.empty(int(first[-1]) * nbest, dtype=torch.int32, device=engine.device)
            places = torch.from_numpy(first[:-1].astype(np.int64)).to(engine.device)
            rooms = torch.from_numpy(room.astype(np.int32)).to(engine.device)
            length = torch.zeros(self.count * nbest, dtype=torch.int32, device=engine.device)
            arguments: list[Any] = [self._scan_batch, self._scan_lattice]
            arguments += [_POINTER(t.data_ptr()) for t in (path, places, rooms, length)]
            self._go(self._scan_module, "spell", -(-self.count * nbest // 64), 64, 0, arguments)
            lengths = length.cpu().numpy().reshape(self.count, nbest)
            longest = lengths.max(axis=1, initial=0)
            if (longest <= room).all():
                break
            room = np.maximum(room, longest)
        arcs = path.cpu().numpy()
        labels = self._labels(kept)
        number = np.maximum(found, 0).tolist()
        return [
            FoundBest(
                arcs[a * nbest : b * nbest].reshape(nbest, b - a)[:n], lengths[u, :n], labels[u]
            )
            for u, (a, b, n) in enumerate(zip(first[:-1].tolist(), first[1:].tolist(), number))
        ]

    def _labels(self, kept: dict[str, Any]) -> list[tuple[Array, Array, Array]]:
        used = int(kept["top"][3].item())
        at, frame, label = (
            kept[name][:used].cpu().numpy() for name in ("label_at", "label_frame", "label")
        )
        posterior = kept["label_posterior"][:used].cpu().numpy()
        order = np.argsort(at, kind="stable")
        bounds = np.searchsorted(at[order], np.arange(self.count + 1))
        columns = (frame[order], label[order], posterior[order])
        return [
            (
                columns[0][bounds[u] : bounds[u + 1]],
                columns[1][bounds[u] : bounds[u + 1]],
                columns[2][bounds[u] : bounds[u + 1]],
            )
            for u in range(self.count)
        ]

    def _rescan(self, nbest: int) -> dict[str, Any]:
        """Walk back over what was recorded; keeps the lattice in memory until the next call."""
        torch, engine, options = self._t, self.engine, self.options
        tables = int(self._record["base"].numel())
        room = np.array([64, 64 + 32 * min(nbest, 8), 256, 64], dtype=np.int64) * (tables + 64)
        beam = min(options.lattice_beam, options.beam)
        base = self.engine.shape(options)
        threads = min(base.threads, 256)
        shape = Shape(min(base.log_slots, 13), True, threads, 2, 11)
        while True:
            kept = self._lattice_tensors(room, tables, nbest)
            lattice = _Lattice(
                **{name: t.data_ptr() for name, t in kept.items()},
                room=(ctypes.c_uint64 * 4)(*map(int, room)),
                beam=beam,
                nbest=nbest,
                keep_arcs=1,
            )
            batch, held = self._batch(np.argsort(-self.done, kind="stable"), self.done)
            module = engine.module(shape, self._rows.dtype)
            cursor = torch.zeros(1, dtype=torch.int32, device=engine.device)
            shared = 32 * (1 << shape.log_alive) + 4 * engine.packed.num_tokens + 16
            common = [engine._graph, batch, self._records(), lattice]
            grid = min(engine.blocks(shape), max(1, self.count))
            self._go(
                module,
                "rescan",
                grid,
                shape.threads,
                shared,
                [*common, _POINTER(cursor.data_ptr())],
            )
            self._go(module, "share", self.count, shape.threads, 0, common)
            found = kept["found"].cpu().numpy()
            top = kept["top"].cpu().numpy()
            if (found == -2).any():
                if shape.log_alive < 12:
                    shape = Shape(shape.log_slots, True, threads, 1, shape.log_alive + 1)
                else:
                    beam /= 2
                    warnings.warn(
                        f"a lattice has more than {1 << shape.log_alive} states on a frame: "
                        f"its beam is narrowed to {beam:g}",
                        stacklevel=3,
                    )
            elif (found == -1).any() or top[3] > room[3]:
                room = np.maximum(room * np.where(top > room, 2, 1), (1.2 * top).astype(np.int64))
            else:
                break
        self._scan_batch, self._scan_lattice, self._scan_module = batch, lattice, module
        self._kept = (kept, held)
        return kept

    def _lattice_tensors(self, room: Array, tables: int, nbest: int) -> dict[str, Any]:
        torch, device = self._t, self.engine.device
        nodes, entries, arcs, labels = map(int, room)
        sizes = {
            **dict.fromkeys(("state", "entry", "entries", "arc_first", "arcs"), nodes),
            **dict.fromkeys(("by", "next"), entries),
            **dict.fromkeys(("arc", "src", "dst"), arcs),
            **dict.fromkeys(("node_base", "node_count"), tables),
            **dict.fromkeys(("label_at", "label_frame", "label"), labels),
            "best": self.count * nbest,
            "found": self.count,
        }
        floats = {
            **dict.fromkeys(("alpha", "beta_sum", "sum"), nodes),
            "score": entries,
            "posterior": arcs,
            "label_posterior": labels,
        }
        made = {
            name: torch.empty(size, dtype=torch.int32, device=device)
            for name, size in sizes.items()
        }
        for name, size in floats.items():
            made[name] = torch.empty(size, dtype=torch.float32, device=device)
        made["hash"] = torch.empty(entries, dtype=torch.int64, device=device)
        made["top"] = torch.zeros(4, dtype=torch.int64, device=device)
        return made

    def lattices(
        self, found: Sequence[Found], log_probs: Sequence[Array]
    ) -> list[Optional[Lattice]]:
        """The pruned lattice of every utterance that came to an end, given log_probs (T, C) in host memory."""
        kept = self._rescan(1)
        held = {
            name: kept[name].cpu().numpy().view(np.uint32).astype(np.int64)
            for name in ("node_base", "state", "arc_first", "arcs", "arc", "src", "dst")
        }
        held["node_count"] = kept["node_count"].cpu().numpy().astype(np.int64)
        return [
            self._lattice(u, rows, held) if one.final and not one.dead else None
            for u, (one, rows) in enumerate(zip(found, log_probs))
        ]

    def _lattice(self, utterance: int, log_probs: Array, held: dict[str, Array]) -> Lattice:
        packed = self.engine.packed
        frames = int(self.done[utterance])
        place = slice(int(self._first[utterance]), int(self._first[utterance]) + frames + 1)
        base, count = held["node_base"][place], held["node_count"][place]
        state, arc_first, arcs = held["state"], held["arc_first"], held["arcs"]
        nodes, _ = ranges(base, base + count)
        places, _ = ranges(arc_first[nodes], arc_first[nodes] + arcs[nodes])
        number = held["arc"][places]
        out = [
            Arc(src, dst, NO_TOKEN if token < 0 else token, packed.expand(olabel), lm)
            for src, dst, token, olabel, lm in zip(
                held["src"][places].tolist(),
                held["dst"][places].tolist(),
                packed.token[number].tolist(),
                packed.olabel[number].tolist(),
                packed.weight[number].tolist(),
            )
        ]
        ends = range(int(base[-1]), int(base[-1] + count[-1]))
        finals = {
            node: float(packed.final[state[node]])
            for node in ends
            if np.isfinite(packed.final[state[node]])
        }
        start = next(
            node
            for node in range(int(base[0]), int(base[0] + count[0]))
            if state[node] == packed.start
        )
        return Lattice(out, start, finals, log_probs, self.options.acoustic_scale)


_Places = dict[int, tuple[list[int], list[float]]]


def _by_label(
    labels: tuple[Array, Array, Array], expand: Callable[[int], tuple[int, ...]]
) -> _Places:
    """Frames and posteriors of every label of a lattice, by frame."""
    frames, numbers, posteriors = labels
    order = np.argsort(frames, kind="stable")
    places: _Places = {}
    for frame, number, posterior in zip(
        frames[order].tolist(), numbers[order].tolist(), posteriors[order].tolist()
    ):
        for label in expand(number):
            there = places.setdefault(label, ([], []))
            there[0].append(frame)
            there[1].append(posterior)
    return places


def _confidences(events: Sequence[tuple[int, int]], places: _Places) -> list[float]:
    """As `Lattice.confidences`: a label's posterior, summed nearer to it than to its neighbours."""
    out = []
    for index, (frame, label) in enumerate(events):
        low = (events[index - 1][0] + frame) / 2 if index else -np.inf
        high = (events[index + 1][0] + frame) / 2 if index + 1 < len(events) else np.inf
        frames, posteriors = places.get(label, ([], []))
        near = slice(bisect_left(frames, low), bisect_right(frames, high))
        out.append(min(1.0, sum(posteriors[near])))
    return out


def _on_host(rows: Any, which: Sequence[int], counts: Sequence[int]) -> list[Array]:
    """The log_probs of some utterances in host memory, float32, each (length, C)."""
    longest = max((counts[i] for i in which), default=0)
    every = len(which) == rows.shape[0]
    part = rows[:, :longest] if every else rows[list(which), :longest]
    host = part.float().cpu().numpy()
    return [host[k, : counts[i]] for k, i in enumerate(which)]
