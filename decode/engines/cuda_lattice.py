"""Lattices on a GPU: the pruned lattice of a finished search, its best sequences and posteriors (lattice.cu)."""

from __future__ import annotations

import ctypes
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Optional, Union

import numpy as np
import numpy.typing as npt

from uyir.decode.arcs import ranges
from uyir.decode.lattice import NO_TOKEN, Arc, Lattice
from uyir.errors import EngineError

if TYPE_CHECKING:
    from uyir.decode.engines.cuda_session import Session

Array = npt.NDArray[Any]
_POINTER = ctypes.c_void_p
#: More sequences than this per node do not fit a warp.
MOST_NBEST = 32
_NO_ROOM, _TOO_MUCH = -1, -2
#: Below this a narrowed lattice holds nothing worth having.
_NARROWEST = 0.25
#: Places of each kind beyond those expected.
SPARE = 4096
_BY_FRAME = ("node_base", "node_count", "arc_base", "arc_count", "loud_count", "deepest")


class _Lattice(ctypes.Structure):
    _fields_ = (
        *(
            (name, _POINTER)
            for name in ["state", "sum", "entry", "arc", "ends", "label", "weight", "top"]
        ),
        ("room", ctypes.c_uint64 * 3),
        ("chunk", ctypes.c_uint32 * 3),
        *((name, _POINTER) for name in _BY_FRAME),
        *(
            (name, _POINTER)
            for name in ["scores", "hashes", "beam", "best", "found", "path", "sure", "event"]
        ),
        ("path_first", _POINTER),
        ("path_length", _POINTER),
        ("nbest", ctypes.c_int),
    )


@dataclass(frozen=True)
class Shape:
    """How the kernels are compiled: threads and slots of a frame's table of nodes, how many of them may
    be taken, arcs of a frame, blocks a multiprocessor."""

    threads: int
    nodes: int
    alive: int
    arcs: int
    blocks: int

    @property
    def bytes(self) -> int:
        """Bytes of shared memory that ``Scan`` takes, at most."""
        nodes = 26 * self.nodes + 14 * self.alive + 16
        return (2 * nodes + 20 * self.arcs + 384 * (self.threads // 32) + 128 + 15) // 8 * 8

    def macros(self) -> dict[str, int]:
        """What lattice.cu is compiled with."""
        return {
            "THREADS": self.threads,
            "BLOCKS": self.blocks,
            "NODES": self.nodes,
            "ALIVE": self.alive,
            "ARCS": self.arcs,
            "SCAN_BYTES": self.bytes,
        }


#: From the smallest to the largest.
SHAPES = (Shape(128, 320, 256, 512, 5), Shape(256, 1024, 800, 2560, 1))


@dataclass(frozen=True, eq=False)
class FoundBest:
    """The arcs of one utterance's best label sequences, best first; ``confidences`` stand at the arcs that
    labels come out on."""

    paths: tuple[Array, ...]
    confidences: tuple[Array, ...]


class BestPaths(Sequence[FoundBest]):
    """The best label sequences of a batch of U utterances, read as `FoundBest` one by one; none for an
    utterance that has no complete path.

    ``counts`` (U,); of all paths, utterance by utterance: ``utterance``, ``length`` (P,).
    """

    def __init__(
        self, path: Array, sure: Array, room: Array, length: Array, found: Array, nbest: int
    ) -> None:
        self._path, self._sure = path, sure
        self.counts = np.maximum(found, 0)
        sizes = np.diff(room)
        rank = np.arange(nbest)
        some = rank < self.counts[:, None]
        self._begin = (room[:-1, None] * nbest + rank * sizes[:, None])[some]
        self.length = length.reshape(-1, nbest)[some].astype(np.int64)
        self.utterance = np.repeat(np.arange(len(found)), self.counts)
        self._first = np.cumsum(self.counts) - self.counts

    @cached_property
    def _place(self) -> Array:
        place: Array = np.repeat(self._begin, self.length) + np.arange(int(self.length.sum()))
        place -= np.repeat(np.cumsum(self.length) - self.length, self.length)
        return place

    @property
    def arcs(self) -> Array:
        """The arcs of all paths, one path behind the other."""
        arcs: Array = self._path[self._place]
        return arcs

    @property
    def confidences(self) -> Array:
        """Of the label on each of ``arcs``; 0 where there is none."""
        sure: Array = self._sure[self._place]
        return sure

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, u: Any) -> Any:
        if isinstance(u, slice):
            return [self[i] for i in range(*u.indices(len(self)))]
        first = int(self._first[u])
        spans = [
            slice(int(self._begin[p]), int(self._begin[p] + self.length[p]))
            for p in range(first, first + int(self.counts[u]))
        ]
        return FoundBest(tuple(self._path[s] for s in spans), tuple(self._sure[s] for s in spans))

    def __iter__(self) -> Iterator[FoundBest]:
        return (self[u] for u in range(len(self)))


class Backward:
    """The way back over what a session recorded: makes the lattices of all its utterances."""

    def __init__(self, session: Session, nbest: int) -> None:
        if nbest > MOST_NBEST:
            warnings.warn(f"the GPU finds at most {MOST_NBEST} sequences", stacklevel=3)
        self.session, self.engine = session, session.engine
        self.nbest = min(nbest, MOST_NBEST)
        count = session.count
        self._frames = int(session.done.sum()) + count
        options = session.options
        self._beam = np.full(count, min(options.lattice_beam, options.beam), dtype=np.float32)
        self._room = np.zeros(3, dtype=np.int64)
        #: What lies on the GPU.
        self.held: dict[str, Any] = {}
        self.found = self._walk(np.argsort(-session.done, kind="stable"))

    # Memory.

    def _make(self, name: str, size: int, kind: str = "int32") -> None:
        torch = self.session._t
        self.held[name] = torch.empty(size, dtype=getattr(torch, kind), device=self.engine.device)

    def _grow(self, room: Array) -> None:
        """Make room for nodes, entries and arcs; what was there is lost."""
        self.held.clear()
        self._room = room
        nodes, entries, arcs = map(int, room)
        for name in ("state", "sum"):
            self._make(name, nodes)
        self._make("entry", 2 * entries)
        for name in ("arc", "ends", "label", "weight"):
            self._make(name, arcs)
        for name in _BY_FRAME:
            self._make(name, self._frames)
        self._make("best", self.session.count * self.nbest)
        self._make("top", 3, "int64")
        self._make("found", self.session.count)
        self.held["top"].zero_()

    def _wanted(self, found: Array, top: Array) -> Array:
        """Nodes, entries and arcs to make room for after there were too few: what those that are done tell,
        but at least half as much more of what ran out, and at most four times as much."""
        done = int(self.session.done[found >= 0].sum()) + 1
        share = max(1.0, self._frames / done)
        guess = 1.2 * np.minimum(top, self._room) * share
        least = np.where(top > self._room, 1.5 * self._room, self._room)
        wanted: Array = np.clip(guess, least, 4.0 * self._room).astype(np.int64)
        return wanted

    def _chunk(self) -> Array:
        """Nodes, entries and arcs that a block takes at a time."""
        expected = self.engine.expected_lattice(self.session.options)
        chunk: Array = np.clip(8 * expected * [1, self.nbest / 2, 1], 256, 16384).astype(np.int64)
        return chunk

    def _struct(self, **more: Any) -> Any:
        pointers = {name: tensor.data_ptr() for name, tensor in self.held.items()}
        return _Lattice(
            **pointers,
            room=(ctypes.c_uint64 * 3)(*map(int, self._room)),
            chunk=(ctypes.c_uint32 * 3)(*map(int, self._chunk())),
            nbest=self.nbest,
            **more,
        )

    # Kernels.

    def _walk(self, order: Array) -> Array:
        """Keep what lies within the beam of each utterance, and posteriors of its arcs; how many sequences."""
        session, engine = self.session, self.engine
        expected = engine.expected_lattice(session.options) * [1, self.nbest, 1]
        slack = min(session.count, engine.blocks(5)) * self._chunk()
        self._grow((1.2 * expected * self._frames).astype(np.int64) + slack + SPARE)
        shapes, at, todo = engine.lattice_shapes, 0, order
        while True:
            self._launch(todo, shapes[at])
            found = engine.on_host(self.held["found"])
            top = engine.on_host(self.held["top"])
            full = (found[todo] == _NO_ROOM).any()
            large = todo[found[todo] == _TOO_MUCH]
            if full:
                self._grow(self._wanted(found, top))
                at, todo = 0, order
                continue
            if not len(large):
                break
            if at + 1 < len(shapes):
                at += 1
            else:
                self._beam[large] /= 2
                if (self._beam[large] < _NARROWEST).any():
                    raise EngineError("a frame's lattice does not fit, however narrow it is")
                warnings.warn(
                    f"the lattices of {len(large)} utterances have more than {shapes[at].alive} states or "
                    f"{shapes[at].arcs} arcs on a frame: their beam is narrowed to {self._beam[large].max():g}",
                    stacklevel=4,
                )
            todo = large
        engine.note_lattice(session.options, top / self._frames / [1, self.nbest, 1])
        batch, held = session._batch(order, session.done)
        module, _ = self._module(shapes[at])
        arguments = [engine.graph, batch, session._record(held), self._struct()]
        engine.launch(module, "share", session.count, 32, 0, arguments)
        self._held_tables = held
        return found

    def _module(self, shape: Shape) -> tuple[Any, int]:
        module = self.engine.module("lattice", self.session._rows.dtype, **shape.macros())
        return module, shape.threads

    def _launch(self, order: Array, shape: Shape) -> None:
        session, engine = self.session, self.engine
        torch = session._t
        grid = min(engine.blocks(shape.blocks), max(1, len(order)))
        kept = grid * 2 * shape.alive * self.nbest
        scores = torch.empty(kept, dtype=torch.float32, device=engine.device)
        hashes = torch.empty(kept, dtype=torch.int64, device=engine.device)
        beam = torch.from_numpy(self._beam).to(engine.device)
        batch, held = session._batch(order, session.done)
        lattice = self._struct(
            scores=scores.data_ptr(), hashes=hashes.data_ptr(), beam=beam.data_ptr()
        )
        shared = shape.bytes + 8 * engine.packed.num_tokens + 16
        module, threads = self._module(shape)
        arguments = [engine.graph, batch, session._record(held), lattice, held.pointer("cursor")]
        engine.launch(module, "rescan", grid, threads, shared, arguments)

    def best_paths(self) -> BestPaths:
        """The best label sequences of every utterance, with confidences."""
        session, engine = self.session, self.engine
        torch, count = session._t, session.count
        room = session.done + session.done // 4 + 16
        while True:
            first = np.concatenate([[0], np.cumsum(room)])
            size = int(first[-1]) * self.nbest
            # Lengths, paths and confidences lie side by side, for one copy to the host.
            out = torch.empty(
                count * self.nbest + 2 * size, dtype=torch.int32, device=engine.device
            )
            event = torch.empty(2 * size, dtype=torch.int32, device=engine.device)
            batch, held = session._batch(np.arange(count), session.done, path_first=first)
            begin = out.data_ptr() + 4 * count * self.nbest
            lattice = self._struct(
                path=begin,
                sure=begin + 4 * size,
                event=event.data_ptr(),
                path_first=held.pointer("path_first"),
                path_length=out.data_ptr(),
            )
            module, _ = self._module(engine.lattice_shapes[0])
            arguments = [engine.graph, batch, session._record(held), lattice]
            engine.launch(module, "spell", count * self.nbest, 32, 0, arguments)
            host = engine.on_host(out)
            length = host[: count * self.nbest]
            longest = length.reshape(count, self.nbest).max(axis=1, initial=0)
            if (longest <= room).all():
                break
            room = np.maximum(room, longest)
        path = host[count * self.nbest :]
        return BestPaths(
            path[:size], path[size:].view(np.float32), first, length, self.found, self.nbest
        )

    def lattices(self, log_probs: Union[Array, Sequence[Array]]) -> list[Optional[Lattice]]:
        """The lattice of every utterance that has a complete path, given log_probs (T, C) in host memory."""
        held = {
            name: self.engine.on_host(self.held[name]).view(np.uint32).astype(np.int64)
            for name in (*_BY_FRAME, "state", "arc", "ends")
        }
        return [
            self._lattice(u, rows, held) if found > 0 else None
            for u, (found, rows) in enumerate(zip(self.found.tolist(), log_probs))
        ]

    def _lattice(self, utterance: int, log_probs: Array, held: dict[str, Array]) -> Lattice:
        session, packed = self.session, self.engine.packed
        frames = int(session.done[utterance])
        first = int(session._first[utterance])
        base, nodes, arc_base, arcs, _, _ = (
            held[name][first : first + frames + 1] for name in _BY_FRAME
        )
        place, frame = ranges(arc_base, arc_base + arcs)
        number, ends = held["arc"][place], held["ends"][place]
        token = packed.token[number]
        then = np.append(base[1:], 0)
        target = np.where(token < 0, base[frame], then[frame]) + (ends >> 16)
        made = [
            Arc(src, dst, token if token >= 0 else NO_TOKEN, packed.expand(olabel), lm)
            for src, dst, token, olabel, lm in zip(
                (base[frame] + (ends & 0xFFFF)).tolist(),
                target.tolist(),
                token.tolist(),
                packed.olabel[number].tolist(),
                packed.weight[number].tolist(),
            )
        ]
        last = np.arange(base[-1], base[-1] + nodes[-1])
        scores = packed.final[held["state"][last]]
        finals = {n: lm for n, lm in zip(last.tolist(), scores.tolist()) if np.isfinite(lm)}
        at_start = held["state"][base[0] : base[0] + nodes[0]] == packed.start
        start = int(base[0] + np.flatnonzero(at_start)[0])
        scale = session.options.acoustic_scale
        return Lattice(made, start, finals, log_probs[:frames], scale)
