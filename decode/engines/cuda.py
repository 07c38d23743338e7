"""The `cuda` engine: our own beam search on a GPU, with nothing but torch.

An utterance is searched from its first frame to its last by one block of a kernel compiled at run time
(`search.cu`); the host waits once for the whole batch. What the search means (beam, max_active, ties)
is said in `reference`, which gives the same answer on a CPU.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
import numpy.typing as npt

from uyir.decode.engines import SearchOptions
from uyir.decode.engines.common import check_batch
from uyir.decode.engines.cuda_lattice import SHAPES as LATTICE_SHAPES
from uyir.decode.engines.cuda_lattice import Shape as LatticeShape
from uyir.decode.engines.cuda_session import (
    BAD_INPUT,
    DEAD,
    SHAPES,
    GraphStruct,
    Launcher,
    Session,
    Shape,
    source,
)
from uyir.decode.engines.packed import PackedGraph, pack
from uyir.decode.hypothesis import AlignedPaths, Hypothesis, from_paths, sums
from uyir.decode.lattice import Lattice
from uyir.errors import EngineError, GraphError

if TYPE_CHECKING:
    from uyir.decode.rescore import Rescorer

Array = npt.NDArray[Any]

#: Active states a frame that the first record has room for; it grows where that is too little.
_FIRST_ROOM = 1024


@dataclass(frozen=True, eq=False)
class Raw:
    """One utterance searched, in arrays that processes can exchange.

    ``arcs``: those of its paths, best first, ``length`` of each; ``confidences`` by arc, from a lattice, if there
    was one. ``failure`` says what came of an utterance without a path. ``log_probs``: (T, C), on the host,
    or else row ``row`` of what was searched. ``lattice``: what rescoring reads.
    """

    row: int
    arcs: Array
    length: Array
    final: bool
    options: SearchOptions
    confidences: Optional[Array] = None
    failure: Optional[Hypothesis] = None
    log_probs: Any = None
    lattice: Optional[Lattice] = None


@lru_cache(maxsize=32)
def _module(device: str, name: str, macros: tuple[tuple[str, int], ...]) -> Launcher:
    import torch

    from uyir.decode.engines.nvrtc import Module

    with torch.cuda.device(device):
        return Module(source(name), dict(macros))


def describe_states(packed: PackedGraph) -> Array:
    """(S, 4) of 32 bits, as common.cuh has them: first arc, blanks << 24 | arcs, and how many other arcs
    cost at most 0, 2, … 14, a byte each (255: all)."""
    row, states = packed.row, packed.num_states
    degree = np.diff(row)
    if degree.max(initial=0) >= 1 << 24:
        raise GraphError(f"{degree.max()} arcs leave one state: at most 2^24 - 1 fit")
    count = packed.num_emitting
    source = packed.source[:count]
    blank = packed.token[:count] == 0
    blanks = np.bincount(source[blank], minlength=states)
    words = np.zeros((states, 4), dtype=np.uint32)
    words[:, 0] = row[:-1]
    words[:, 1] = degree | np.minimum(blanks, 255) << 24
    for step in range(8):
        cheap = ~blank & (-packed.pushed[:count] <= 2.0 * step)
        others = np.bincount(source[cheap], minlength=states)
        others = np.where(others < 255, others, 255).astype(np.uint32)
        words[:, 2 + step // 4] |= others << np.uint32(8 * (step % 4))
    return words


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
        self.packed = packed = pack(graph)
        self._strings = bool(getattr(graph, "strings", ()))
        self._launcher = launcher
        device = device if device.startswith("cuda") or launcher is not None else "cuda"
        self.device = torch.device(device)
        # As many bits for tokens as most tables need, so that graphs share their compiled kernels.
        token_bits = max(8, (packed.num_tokens - 1).bit_length())
        self.state_bits = 32 - token_bits
        if packed.num_states > 1 << self.state_bits:
            self.state_bits = (packed.num_states - 1).bit_length()
        if (packed.num_tokens - 1).bit_length() + self.state_bits > 32:
            raise EngineError(
                f"{packed.num_states} states and {packed.num_tokens} tokens do not fit an arc's 32 bits"
            )
        self._held = self._put_graph()
        self.graph = GraphStruct(
            **{name: t.data_ptr() for name, t in self._held.items()},
            first_eps=packed.first_eps,
            num_emitting=packed.num_emitting,
            start=packed.start,
            least_cost=packed.least_cost,
        )
        #: What searches with some beam and max_active saw: mean active states, and the most at once.
        self._seen: dict[tuple[float, int], tuple[float, float]] = {}
        self._lattices: dict[tuple[float, int], Array] = {}
        #: Sizes of a lattice's tables, from the smallest.
        self.lattice_shapes: tuple[LatticeShape, ...] = LATTICE_SHAPES
        if launcher is not None:
            self.lattice_shapes = tuple(replace(s, threads=64) for s in LATTICE_SHAPES)
        #: Of the last `search`: arcs visited, active states summed over frames, frames; bytes of record.
        self.counts = (0, 0, 0)
        self.bytes = 0
        self.restarts = 0

    def _put_graph(self) -> dict[str, Any]:
        packed = self.packed
        count = packed.num_emitting
        target = packed.target.astype(np.int64)
        first = target[:count] | packed.token[:count].astype(np.int64) << self.state_bits
        weight = packed.pushed.view(np.uint32)
        chains = packed.closure
        closure = np.zeros((len(chains.target), 4), dtype=np.uint32)
        closure[:, 0], closure[:, 1] = chains.target, chains.weight.view(np.uint32)
        closure[:, 2] = chains.arc
        return {
            "arc": self._put(np.stack([first.astype(np.uint32), weight[:count]], axis=1)),
            "state": self._put(describe_states(packed)),
            "eps": self._put(np.stack([target[count:].astype(np.uint32), weight[count:]], axis=1)),
            "eps_row": self._put(packed.eps_row.astype(np.uint32)),
            "closure": self._put(closure),
            "closure_row": self._put(chains.row.astype(np.uint32)),
            "source": self._put(packed.source),
            "olabel": self._put(packed.olabel),
            "final": self._put(packed.pushed_final),
            "level": self._put(packed.level),
        }

    def _put(self, array: Array) -> Any:
        import torch

        array = np.ascontiguousarray(array)
        if array.dtype == np.uint32:
            array = array.view(np.int32)
        if not array.size:  # an empty tensor has no address
            array = np.zeros((1, *array.shape[1:]), array.dtype)
        return torch.from_numpy(array).to(self.device)

    def close(self) -> None:
        """Let go of the graph on the GPU."""
        self._held.clear()

    # Searching.

    def decode(self, log_probs: Any, lengths: Any) -> list[list[Hypothesis]]:
        rows, counts = self.prepare(log_probs, lengths)
        return self._hypotheses(self._find(rows, counts), rows)

    def find(self, log_probs: Any, lengths: Any) -> list[Raw]:
        """What the GPU does of `decode`; `hypotheses` makes the rest of each, in another process too."""
        rows, counts = self.prepare(log_probs, lengths)
        found = self._find(rows, counts)
        host = self.on_host(rows[:, : max(counts, default=0)].float())
        return [
            replace(raw, log_probs=values[:count])
            for raw, values, count in zip(found, host, counts)
        ]

    def hypotheses(self, raw: Raw, most: Optional[int] = None) -> list[Hypothesis]:
        """The hypotheses of an utterance that `find` found, best first, at most so many; touches no GPU."""
        # Of paths with the same labels the best is kept: none may be left out before that.
        if most is not None and not self._strings:
            arcs = raw.arcs[: int(raw.length[:most].sum())]
            sure = None if raw.confidences is None else raw.confidences[: len(arcs)]
            raw = replace(raw, arcs=arcs, length=raw.length[:most], confidences=sure)
        (hypotheses,) = self._hypotheses([raw], None, most)
        return hypotheses[:most]

    def _find(self, rows: Any, counts: Sequence[int]) -> list[Raw]:
        """What is found of every row, tried once more where there is no complete path."""
        results: list[Optional[Raw]] = [None] * len(counts)
        todo = list(range(len(counts)))
        for options in (self.options, self.options.wider()):
            again = []
            for index, raw in zip(todo, self._search(rows, counts, todo, options) if todo else ()):
                if results[index] is not None and raw.failure is not None:
                    continue
                results[index] = raw
                if not raw.final and (raw.failure is None or raw.failure.error is None):
                    again.append(index)
            todo = again
        return [raw for raw in results if raw is not None]

    def search(self, log_probs: Any, lengths: Any) -> Sequence[Any]:
        """The best path of each utterance as `Found`, with n-best as `FoundBest`; nothing is tried again."""
        rows, counts = self.prepare(log_probs, lengths)
        session = Session(self, counts, self.options)
        session.advance(rows)
        return session.best_paths() if self.options.nbest > 1 else session.paths()

    def lattice(self, log_probs: Any) -> Optional[Lattice]:
        """What lies within ``lattice_beam`` of the best path of one utterance (T, C); None if there is no
        complete path."""
        rows, counts = self.prepare(log_probs[None], [len(log_probs)])
        session = Session(self, counts, self.options, whole=True)
        session.advance(rows)
        return session.lattices(self.on_host(rows.float()))[0]

    def stream(self, count: int = 1) -> Session:
        """A search of ``count`` utterances that come chunk by chunk (see `Session.advance`)."""
        return Session(self, [0] * count, self.options, whole=True)

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

    def _search(
        self, rows: Any, counts: Sequence[int], which: Sequence[int], options: SearchOptions
    ) -> list[Raw]:
        import torch

        try:
            lengths = [counts[i] for i in which]
            session = Session(self, lengths, options, whole=self._rescorer is not None)
            session.advance(rows, rows_at=which)
            return self._read_out(session, which)
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
                *self._search(rows, counts, which[:half], options),
                *self._search(rows, counts, which[half:], options),
            ]

    def _read_out(self, session: Session, which: Sequence[int]) -> list[Raw]:
        """What a session found that searched the rows ``which``."""
        options, count = session.options, session.count
        results: list[Optional[Raw]] = [None] * count
        if options.nbest > 1 and self._rescorer is None:
            best = session.best_paths()
            ends = np.cumsum(best.length)
            after = np.cumsum(best.counts)
            arcs, sure = best.arcs, best.confidences
            for u in np.flatnonzero(best.counts).tolist():
                paths = slice(int(after[u] - best.counts[u]), int(after[u]))
                place = slice(int(ends[paths][0] - best.length[paths][0]), int(ends[paths][-1]))
                results[u] = Raw(u, arcs[place], best.length[paths], True, options, sure[place])
            # What has no complete path has no lattice, but may have a best unfinished path.
            lone = np.flatnonzero((best.counts == 0) & session.unfinished())
            if len(lone):
                rows = [which[u] for u in lone.tolist()]
                lengths = [int(session.done[u]) for u in lone]
                alone = Session(self, lengths, replace(options, nbest=1))
                alone.advance(session.log_probs, rows_at=rows)
                for u, raw in zip(lone.tolist(), self._read_out(alone, rows)):
                    results[u] = raw
        else:
            found = session.paths()
            ends, arcs = np.cumsum(found.length), found.arcs
            good = (found.status != BAD_INPUT) & (found.status != DEAD)
            for u in np.flatnonzero(good).tolist():
                length = found.length[u : u + 1]
                place = slice(int(ends[u] - length[0]), int(ends[u]))
                results[u] = Raw(u, arcs[place], length, bool(found.final[u]), options)
            if self._rescorer is not None:
                host = self.on_host(session.log_probs[list(which)].float())
                for u, lattice in enumerate(session.lattices(host)):
                    kept = results[u]
                    if kept is not None and lattice is not None:
                        results[u] = replace(kept, lattice=lattice)
        none = np.empty(0, dtype=np.int32)
        for u, index in enumerate(which):
            if results[u] is None:
                failure = session.failure(u, index)
                results[u] = Raw(u, none, none, False, options, failure=failure)
        return [replace(raw, row=which[u]) for u, raw in enumerate(results) if raw is not None]

    def _hypotheses(
        self, raws: Sequence[Raw], rows: Any, most: Optional[int] = None
    ) -> list[list[Hypothesis]]:
        """The hypotheses of what was found; log_probs are those of ``raws``, or else of ``rows`` on the GPU."""
        good = [raw for raw in raws if raw.failure is None]
        # Those with a lattice, and those without.
        parts = [[r for r in good if (r.confidences is None) == none] for none in (False, True)]
        made = [iter(self._hypotheses_of_paths(part, rows) if part else ()) for part in parts]
        results = []
        for raw in raws:
            if raw.failure is not None:
                results.append([raw.failure])
                continue
            mine = made[raw.confidences is None]
            hypotheses = [next(mine) for _ in raw.length]
            if raw.lattice is not None and self._rescorer is not None:
                rescored = self._rescorer.rescore(raw.lattice)
                hypotheses = rescored.hypotheses(most or raw.options.nbest) or hypotheses
            if self._strings:  # two spellings of one sequence differ in their arcs' labels
                hypotheses = list({h.subwords: h for h in reversed(hypotheses)}.values())[::-1]
            results.append(hypotheses)
        return results

    def _hypotheses_of_paths(self, raws: Sequence[Raw], rows: Any) -> list[Hypothesis]:
        """A hypothesis of every path; all of them have confidences, or none."""
        packed = self.packed
        arcs = np.concatenate([raw.arcs for raw in raws])
        length = np.concatenate([raw.length for raw in raws])
        paths = [len(raw.length) for raw in raws]
        final = np.repeat([raw.final for raw in raws], paths)
        count = len(length)
        owner = np.repeat(np.arange(count), length)
        token, label = packed.token[arcs], packed.olabel[arcs]
        loud = token >= 0
        frames = np.bincount(owner[loud], minlength=count)
        frame = np.cumsum(loud) - loud
        frame -= (np.cumsum(frames) - frames)[owner]
        lm = sums(owner, packed.weight[arcs], count)
        last = np.full(count, packed.start)
        some = length > 0
        last[some] = packed.target[arcs[np.cumsum(length)[some] - 1]]
        lm[final] += packed.final[last[final]]
        tokens, heard = token[loud].astype(np.int64), frame[loud]
        if rows is not None:
            row = np.repeat([raw.row for raw in raws], paths)[owner[loud]]
            along = self._log_probs_at(rows, row, heard, tokens)
        else:
            ends = np.cumsum(
                [
                    int(n)
                    for n in np.add.reduceat(frames, (np.cumsum(paths) - paths).astype(np.int64))
                ]
            )
            parts = zip(raws, np.split(heard, ends[:-1]), np.split(tokens, ends[:-1]))
            along = np.concatenate([raw.log_probs[at, which] for raw, at, which in parts])
        spoken = np.flatnonzero(label)
        confidences = [raw.confidences for raw in raws if raw.confidences is not None]
        numbers = label[spoken]
        sure = np.concatenate(confidences)[spoken] if confidences else None
        if self._strings:  # one arc may bring several labels
            expanded = [packed.expand(number) for number in numbers.tolist()]
            times = [len(labels) for labels in expanded]
            spoken = np.repeat(spoken, times)
            sure = None if sure is None else np.repeat(sure, times)
            numbers = np.array([n for labels in expanded for n in labels], dtype=np.int64)
        made = AlignedPaths(
            frames,
            tokens,
            along,
            np.bincount(owner[spoken], minlength=count),
            frame[spoken],
            numbers,
            lm,
            final,
            sure,
        )
        return from_paths(made, raws[0].options.acoustic_scale)

    def _log_probs_at(self, rows: Any, row: Array, frame: Array, token: Array) -> Array:
        """The log_probs on the GPU at (row, frame, token), in host memory, float32."""
        import torch

        place = torch.from_numpy(np.stack([row, frame, token])).to(self.device)
        return self.on_host(rows[place[0], place[1], place[2]].float())

    # What sessions use.

    def shapes(self, options: SearchOptions) -> list[Shape]:
        """Table sizes for a search, from the smallest; the last one holds every state of the graph."""
        states = self.packed.num_states
        wanted = min(states, options.max_active + options.max_active // 4 + 64)
        shapes = list(SHAPES)
        if wanted > shapes[-1].listed and wanted < states:
            shapes.append(Shape(1024, 2 * wanted, wanted + wanted // 8, 1, shared=False))
        return [*shapes, Shape(1024, 2 * states + 64, states + 64, 1, shared=False)]

    def first_shape(self, options: SearchOptions, shapes: Sequence[Shape]) -> int:
        """Which shape to begin with: what earlier searches needed, or what max_active may need."""
        seen = self._seen.get((options.beam, options.max_active))
        most = 1.25 * (options.max_active if seen is None else seen[1])
        wide = [at for at, shape in enumerate(shapes) if shape.listed >= most]
        return min([*wide, len(SHAPES) - 1]) if seen is None else min([*wide, len(shapes) - 1])

    def expected_active(self, options: SearchOptions) -> float:
        """Active states a frame, about."""
        seen = self._seen.get((options.beam, options.max_active))
        return min(float(options.max_active), float(_FIRST_ROOM) if seen is None else 1.1 * seen[0])

    def note(self, session: Session, host: dict[str, Array]) -> None:
        """Take note of what a search took."""
        frames = int(session.done.sum())
        active = int(host["active"].sum())
        self.counts = (int(host["visited"].sum()), active, frames)
        self.restarts = int(host["restarts"].sum())
        self.bytes = session.bytes
        if frames:
            most = float(np.quantile(host["most"], 0.98))
            key = (session.options.beam, session.options.max_active)
            self._seen[key] = (max(32.0, active / frames), most)

    def expected_lattice(self, options: SearchOptions) -> Array:
        """Nodes, label sequences (for each of n-best) and arcs of a frame's lattice, about."""
        return self._lattices.get((options.beam, options.max_active), np.array([24.0, 18.0, 64.0]))

    def note_lattice(self, options: SearchOptions, used: Array) -> None:
        """Take note of what lattices took a frame, as `expected_lattice` gives it."""
        key = (options.beam, options.max_active)
        self._lattices[key] = np.maximum([2.0, 1.0, 2.0], used)

    def module(self, name: str, dtype: Any, **macros: int) -> Launcher:
        """The kernels of a source for a type of log_probs."""
        import torch

        kinds = [torch.float32, torch.float16, torch.bfloat16]
        macros = {"INPUT_KIND": kinds.index(dtype), "STATE_BITS": self.state_bits, **macros}
        if self._launcher is not None:
            made: Launcher = self._launcher(name, macros)
            return made
        return _module(str(self.device), name, tuple(macros.items()))

    def launch(
        self, module: Launcher, name: str, grid: int, block: int, shared: int, arguments: Any
    ) -> None:
        """Launch a kernel on the engine's device."""
        if self.device.type == "cuda":
            import torch

            with torch.cuda.device(self.device):
                module.launch(name, grid, block, shared, arguments)
        else:
            module.launch(name, grid, block, shared, arguments)

    def threads(self, wanted: int) -> int:
        """Threads a block."""
        return wanted if self._launcher is None else 64

    def blocks(self, a_multiprocessor: int) -> int:
        """How many blocks the GPU runs at once."""
        if self._launcher is not None:
            return 2
        import torch

        properties = torch.cuda.get_device_properties(self.device)
        return int(properties.multi_processor_count) * a_multiprocessor

    def on_host(self, tensor: Any) -> Array:
        """A tensor's values in host memory; waits for them."""
        import torch

        if tensor.device.type != "cuda":
            return np.array(tensor.numpy())
        host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        host.copy_(tensor, non_blocking=True)
        torch.cuda.current_stream(self.device).synchronize()
        values: Array = host.numpy()
        return values
