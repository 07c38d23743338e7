"""Search engines behind one small protocol; each imports its library only when created.

>>> options = SearchOptions(beam=12.0, nbest=4)
>>> options.wider().beam
18.0
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Optional, Protocol

from uyir.decode.hypothesis import Hypothesis
from uyir.errors import EngineError

if TYPE_CHECKING:
    from uyir.decode.graph import Graph
    from uyir.decode.rescore import Rescorer


@dataclass(frozen=True)
class SearchOptions:
    """How a graph is searched; the meaning is the same in every engine.

    ``beam``: a path that costs this much more than the best one at the same frame is dropped (natural
    logarithm, after acoustic scaling). ``max_active``: at most so many states live on a frame (the
    lattice search of `kaldi` has no such limit and goes by its beam alone). ``nbest``: how many
    different subword sequences to return; above 1 a lattice is built, and confidences are its
    posteriors. ``lattice_beam``: how far below the best path a path in that lattice may lie.
    ``acoustic_scale`` multiplies log_probs. ``threads``: searches running at once on a CPU.
    Raises `EngineError` for a value outside its range.
    """

    beam: float = 14.0
    max_active: int = 7000
    nbest: int = 1
    acoustic_scale: float = 1.0
    lattice_beam: float = 8.0
    threads: int = 1

    def __post_init__(self) -> None:
        for name in ("beam", "acoustic_scale", "lattice_beam"):
            value = getattr(self, name)
            if not (isinstance(value, (int, float)) and math.isfinite(value) and value > 0):
                raise EngineError(f"{name} is {value!r}, want a positive number")
        for name, least in (("max_active", 2), ("nbest", 1), ("threads", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise EngineError(f"{name} is {value!r}, want a whole number of at least {least}")

    def wider(self) -> SearchOptions:
        """The options of the one retry after an unfinished or empty result."""
        return replace(self, beam=1.5 * self.beam, max_active=2 * self.max_active)


class Engine(Protocol):
    """A graph and options, ready to search."""

    name: str

    def decode(self, log_probs: Any, lengths: Any) -> list[list[Hypothesis]]:
        """Search a batch: log_probs (N, T, C) tensor or array, lengths (N) in frames.

        Returns for each utterance at least one and at most ``nbest`` hypotheses, best first, all of
        different subwords. A result that is empty or reached no final state was tried again once with
        `SearchOptions.wider`; if that did not help ``final`` is false. NaN or +inf in one
        utterance fails that one alone (``Hypothesis.error``). Raises `EngineError` where shapes
        do not fit each other or the graph.
        """
        ...  # pragma: no cover

    def close(self) -> None:
        """Give back processes and memory; the engine is not used afterwards."""
        ...  # pragma: no cover


#: Engine names; `reference` is the `cuda` engine's search in plain torch, slow and never chosen by itself.
NAMES = ("kaldi", "k2", "cuda", "reference")
_NEEDS: Mapping[str, Sequence[str]] = {
    "kaldi": ("kaldifst", "kaldi_decoder"),
    "k2": ("torch", "k2"),
    "cuda": ("torch",),
    "reference": ("torch",),
}
#: Which engine to take, the fastest first (RESULTS.md has the measurements, `uyir bench search` repeats
#: them): on a GPU ours, then k2; on a CPU kaldi, which is several times faster there than k2.
_ORDER = {"cuda": ("cuda", "k2", "kaldi"), "cpu": ("kaldi", "k2")}


def why_not(name: str) -> Optional[str]:
    """Why an engine cannot run here, or None if it can."""
    if name not in _NEEDS:
        return f"there is no engine {name!r}; there are {', '.join(NAMES)}"
    for module in _NEEDS[name]:
        try:
            importlib.import_module(module)
        except ImportError as error:
            return f"{module} cannot be imported: {error}"
        except Exception as error:  # a wheel built for another torch fails in its own ways
            return f"{module} fails on import: {type(error).__name__}: {error}"
    if name == "cuda":
        from uyir.decode.engines.nvrtc import why_not as no_gpu

        return no_gpu()
    return None


def available() -> dict[str, Optional[str]]:
    """Every engine's name with None if it can run here, else the reason why not."""
    return {name: why_not(name) for name in NAMES}


def choose(device: str = "cpu") -> str:
    """The fastest engine that can run here for a device: `cuda` on a GPU, `kaldi` on a CPU."""
    order = _ORDER["cuda" if device.startswith("cuda") else "cpu"]
    reasons = {name: why_not(name) for name in order}
    for name in order:
        if reasons[name] is None:
            return name
    raise EngineError(
        "no search engine can run: " + "; ".join(f"{n}: {r}" for n, r in reasons.items())
    )


def why_chosen(device: str = "cpu") -> str:
    """In words: the engine that `choose` takes for a device, and why that one."""
    order = _ORDER["cuda" if device.startswith("cuda") else "cpu"]
    name = choose(device)
    passed = [f"{other} cannot run here ({why_not(other)})" for other in order[: order.index(name)]]
    place = "a GPU" if device.startswith("cuda") else "a CPU"
    fastest = f"the fastest on {place} that can run here"
    return "; ".join([fastest, *passed]) if passed else f"the fastest on {place}"


def create(
    name: str,
    graph: Graph,
    options: Optional[SearchOptions] = None,
    *,
    device: str = "cpu",
    rescorer: Optional[Rescorer] = None,
) -> Engine:
    """The named engine over a graph; raises `EngineError` saying why if it cannot run here.

    ``device`` is where the search itself runs: `k2` can use any, `cuda` takes the first GPU if it is ``cpu``,
    the others run on a CPU. With a ``rescorer`` a lattice is made of every utterance, and what is returned
    is read off that lattice with a larger model's scores.
    """
    reason = why_not(name)
    if reason is not None:
        raise EngineError(f"engine {name}: {reason}")
    options = options if options is not None else SearchOptions()
    if name == "kaldi":
        from uyir.decode.engines.kaldi import KaldiEngine

        return KaldiEngine(graph, options, rescorer=rescorer)
    if name == "cuda":
        from uyir.decode.engines.cuda import CudaEngine

        return CudaEngine(graph, options, device=device, rescorer=rescorer)
    if name == "reference":
        from uyir.decode.engines.reference import ReferenceEngine

        return ReferenceEngine(graph, options, rescorer=rescorer)
    from uyir.decode.engines.k2 import K2Engine

    return K2Engine(graph, options, device=device, rescorer=rescorer)
