"""The `k2` engine: `intersect_dense_pruned` to a lattice, on a CPU or a GPU.

Keeps to calls that k2 1.23.4 (PyPI's newest, torch 1.13) and 1.24.4 (torch 2) both have. A k2 graph
has no input epsilons: every arc but the final one consumes a frame.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Optional

import numpy as np

from uyir.decode.engines import SearchOptions
from uyir.decode.engines.common import as_batch, usable
from uyir.decode.hypothesis import FloatArray, Hypothesis, failed, from_path
from uyir.decode.lattice import NO_TOKEN, Arc, Lattice
from uyir.errors import EngineError, GraphError

if TYPE_CHECKING:
    from uyir.decode.rescore import Rescorer

#: Stands in for -inf, which would turn k2's differences of scores into NaN; a path through it is
#: recognised by its true log_prob and dropped.
_FLOOR = -1.0e5
_MIN_ACTIVE = 30
#: k2 numbers the states of a batch's lattice with int32.
_MOST_STATES = 2**31 - 1
#: Below this a narrowed beam finds nothing worth having.
_NARROWEST = 2.0


class K2Engine:
    """See `uyir.decode.engines.Engine`. Raises `GraphError` for an empty graph.

    Where no final state is reached k2 has no lattice at all: such an utterance comes back empty
    with ``final=False``, where `kaldi` shows the best unfinished path.
    """

    name = "k2"

    def __init__(
        self,
        graph: Any,
        options: SearchOptions,
        *,
        device: str = "cpu",
        rescorer: Optional[Rescorer] = None,
    ) -> None:
        import torch

        self.options = options
        self._rescorer = rescorer
        self._tokens = int(graph.num_tokens)
        try:
            self._device = torch.device(device)
            fsa = graph.to_k2().to(self._device)
        except RuntimeError as error:
            raise EngineError(f"k2 cannot use device {device!r}: {error}") from None
        if fsa.num_arcs == 0:
            raise GraphError("the graph has no arcs: nothing can be found in it")
        if fsa.num_arcs >= _MOST_STATES:
            raise GraphError(f"{fsa.num_arcs} arcs are too many for k2, which counts in 32 bits")
        # Carried along to the lattice's arcs, so that graph and network scores can be told apart.
        fsa.lm_scores = fsa.scores.clone()
        self._fsa = fsa

    def decode(self, log_probs: Any, lengths: Any) -> list[list[Hypothesis]]:
        utterances = as_batch(log_probs, lengths, self._tokens)
        results: list[list[Hypothesis]] = [[] for _ in utterances]
        todo = []
        for index, utterance in enumerate(utterances):
            reason = usable(utterance)
            if reason is not None:
                results[index] = [failed(reason)]
            elif len(utterance) == 0:
                results[index] = [self._without_frames(utterance)]
            else:
                todo.append(index)
        for options in (self.options, self.options.wider()):
            if todo:
                found = self._fitting([utterances[i] for i in todo], options)
                for index, hypotheses in zip(todo, found):
                    results[index] = hypotheses
                todo = [index for index in todo if not results[index]]
        for index in todo:
            results[index] = [Hypothesis((), (), -np.inf, -np.inf, -np.inf, 0.0, False)]
        return results

    def close(self) -> None:
        """Nothing is held but the graph."""

    def _without_frames(self, log_probs: FloatArray) -> Hypothesis:
        """The empty utterance: accepted if the start state has a final arc."""
        arcs = self._fsa.arcs.values()
        leaving = (arcs[:, 0] == 0) & (arcs[:, 2] == -1)
        if not bool(leaving.any()):
            return Hypothesis((), (), -np.inf, 0.0, -np.inf, 0.0, False)
        lm_score = float(self._fsa.scores[leaving].max())
        scale = self.options.acoustic_scale
        return from_path((), (), log_probs, lm_score=lm_score, acoustic_scale=scale, final=True)

    def _fitting(
        self, utterances: Sequence[FloatArray], options: SearchOptions
    ) -> list[list[Hypothesis]]:
        """Search in batches that k2 can number and the device has the memory for.

        A batch that does not fit is halved, a single utterance's beam narrowed, and a warning says so.
        """
        frames = sum(map(len, utterances)) + len(utterances)
        too_large = frames * min(options.max_active, self._fsa.shape[0]) >= _MOST_STATES
        if not (too_large and len(utterances) > 1):
            try:
                return self._search(utterances, options)
            except (MemoryError, RuntimeError) as error:
                if not _out_of_memory(error):
                    raise
                reason = "the device has not the memory"
            self._empty_cache()
        else:
            reason = "k2 counts in 32 bits, which are too few"
        if len(utterances) > 1:
            half = len(utterances) // 2
            warnings.warn(
                f"{reason} for {len(utterances)} utterances at once: searched {half} at a time",
                stacklevel=3,
            )
            return [
                *self._fitting(utterances[:half], options),
                *self._fitting(utterances[half:], options),
            ]
        narrower = replace(
            options, beam=0.75 * options.beam, max_active=max(2, options.max_active // 2)
        )
        if narrower.beam < _NARROWEST:
            raise EngineError(
                f"{reason} for one utterance of {len(utterances[0])} frames, even at beam {options.beam:g}"
            )
        warnings.warn(
            f"{reason} for an utterance of {len(utterances[0])} frames: searched with beam "
            f"{narrower.beam:g} and max_active {narrower.max_active}",
            stacklevel=3,
        )
        return self._fitting(utterances, narrower)

    def _empty_cache(self) -> None:
        import torch

        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _search(
        self, utterances: Sequence[FloatArray], options: SearchOptions
    ) -> list[list[Hypothesis]]:
        import k2
        import torch

        # DenseFsaVec wants the longest first.
        order = sorted(range(len(utterances)), key=lambda i: -len(utterances[i]))
        longest = len(utterances[order[0]])
        padded = np.zeros((len(order), longest, self._tokens), dtype=np.float32)
        for row, index in enumerate(order):
            padded[row, : len(utterances[index])] = utterances[index]
        scaled = torch.from_numpy(padded).to(self._device) * options.acoustic_scale
        segments = torch.tensor(
            [[row, 0, len(utterances[index])] for row, index in enumerate(order)], dtype=torch.int32
        )
        lattices = k2.intersect_dense_pruned(
            self._fsa,
            k2.DenseFsaVec(scaled.clamp(min=_FLOOR), segments),
            search_beam=options.beam,
            output_beam=min(options.lattice_beam, options.beam),
            min_active_states=min(_MIN_ACTIVE, options.max_active),
            max_active_states=options.max_active,
        )
        if options.nbest == 1 and self._rescorer is None:
            lattices = k2.shortest_path(lattices, use_double_scores=True)
        lattices = lattices.to("cpu")
        results: list[list[Hypothesis]] = [[] for _ in utterances]
        for row, index in enumerate(order):
            results[index] = self._read(lattices[row], utterances[index], options)
        return results

    def _read(self, fsa: Any, log_probs: FloatArray, options: SearchOptions) -> list[Hypothesis]:
        """The hypotheses in one utterance's lattice or best path."""
        if fsa.num_arcs == 0:
            return []
        lattice = _read_lattice(fsa, log_probs, options.acoustic_scale)
        if self._rescorer is not None:
            lattice = self._rescorer.rescore(lattice)
        # One path alone has no rivals that a posterior could speak of.
        several = options.nbest > 1 or self._rescorer is not None
        return lattice.hypotheses(options.nbest, posteriors=several)


def _out_of_memory(error: Exception) -> bool:
    text = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in text or "can't allocate" in text


def _read_lattice(fsa: Any, log_probs: FloatArray, acoustic_scale: float) -> Lattice:
    import torch

    ends = fsa.arcs.values()[:, :3].tolist()
    lm_scores = fsa.lm_scores.tolist()
    if isinstance(fsa.aux_labels, torch.Tensor):
        labels = [[label] for label in fsa.aux_labels.tolist()]
    else:
        labels = fsa.aux_labels.tolist()
    arcs = []
    last = 0
    for (src, dst, token), out, lm in zip(ends, labels, lm_scores):
        words = tuple(label for label in out if label > 0)
        if token == -1:
            arcs.append(Arc(src, dst, NO_TOKEN, words, lm))
            last = dst
        else:
            arcs.append(Arc(src, dst, token, words, lm))
    return Lattice(arcs, 0, {last: 0.0}, log_probs, acoustic_scale)
