"""The `kaldi` engine: kaldi-decoder's token passing over an OpenFst graph, on a CPU.

One-best goes through `FasterDecoder`; for n-best `LatticeSimpleDecoder` builds a state-level lattice.
The wheels hold Python's lock while they search (measured: another thread stands still), so
several cores mean several processes: they are forked from one that holds the graph, which all share.
"""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, Any, Optional

import numpy as np

from uyir.decode.engines import SearchOptions
from uyir.decode.engines.common import as_batch, usable
from uyir.decode.hypothesis import FloatArray, Hypothesis, failed, from_path
from uyir.decode.lattice import NO_TOKEN, Arc, Lattice
from uyir.errors import EngineError, GraphError

if TYPE_CHECKING:
    from uyir.decode.rescore import Rescorer

#: Relative difference below which two path scores, summed in float32, are the same.
_TIE = 1e-4


class KaldiEngine:
    """See `uyir.decode.engines.Engine`. Raises `GraphError` for a graph without a start state."""

    name = "kaldi"

    def __init__(
        self, graph: Any, options: SearchOptions, *, rescorer: Optional[Rescorer] = None
    ) -> None:
        self.options = options
        self._rescorer = rescorer
        fst = graph.to_openfst()
        if fst.start < 0:
            raise GraphError("the graph has no start state: nothing can be found in it")
        self._fst = fst
        self._tokens = int(graph.num_tokens)
        self._pool: Optional[ProcessPoolExecutor] = None

    def decode(self, log_probs: Any, lengths: Any) -> list[list[Hypothesis]]:
        utterances = as_batch(log_probs, lengths, self._tokens)
        pool = self._workers() if len(utterances) > 1 else None
        if pool is None:
            return [self._decode_one(utterance) for utterance in utterances]
        # Longest first, so that no worker ends the batch alone with a long one.
        order = sorted(range(len(utterances)), key=lambda i: -len(utterances[i]))
        found = pool.map(_decode_in_worker, [(id(self), utterances[i]) for i in order])
        results: list[list[Hypothesis]] = [[] for _ in utterances]
        for index, hypotheses in zip(order, found):
            results[index] = hypotheses
        return results

    def close(self) -> None:
        """End the worker processes, if there are any."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
        _ENGINES.pop(id(self), None)

    def _workers(self) -> Optional[ProcessPoolExecutor]:
        if self.options.threads < 2 or "fork" not in multiprocessing.get_all_start_methods():
            return None
        if self._pool is None:
            _ENGINES[id(self)] = self
            workers = min(self.options.threads, os.cpu_count() or 1)
            context = multiprocessing.get_context("fork")
            self._pool = ProcessPoolExecutor(workers, mp_context=context)
        return self._pool

    def _decode_one(self, log_probs: FloatArray) -> list[Hypothesis]:
        """Search one utterance (T, C), a second time with a wider beam if need be."""
        reason = usable(log_probs)
        if reason is not None:
            return [failed(reason)]
        hypotheses = self._search(log_probs, self.options)
        if not hypotheses or not hypotheses[0].final:
            hypotheses = self._search(log_probs, self.options.wider()) or hypotheses
        return hypotheses or [Hypothesis((), (), -np.inf, -np.inf, -np.inf, 0.0, False)]

    def _search(self, log_probs: FloatArray, options: SearchOptions) -> list[Hypothesis]:
        scaled = np.ascontiguousarray(log_probs * np.float32(options.acoustic_scale))
        if (options.nbest == 1 and self._rescorer is None) or len(log_probs) == 0:
            return self._one_best(log_probs, scaled, options)
        return self._lattice_nbest(log_probs, scaled, options)

    def _one_best(
        self, log_probs: FloatArray, scaled: FloatArray, options: SearchOptions
    ) -> list[Hypothesis]:
        import kaldi_decoder

        config = kaldi_decoder.FasterDecoderOptions(
            beam=options.beam,
            max_active=options.max_active,
            min_active=min(20, options.max_active - 1),
        )
        decoder = kaldi_decoder.FasterDecoder(self._fst, config)
        decoder.init_decoding()
        if len(scaled):  # an empty matrix has no address to read from
            decoder.advance_decoding(kaldi_decoder.DecodableCtc(scaled))
        final = bool(decoder.reached_final())
        found, path = decoder.get_best_path()
        if not found:
            return []
        leaving, start, finals = _read(path)
        alignment: list[int] = []
        events: list[tuple[int, int]] = []
        lm_score = 0.0
        state = start
        while state in leaving:
            (arc,) = leaving[state]
            events.extend((len(alignment), label) for label in arc.labels)
            if arc.token != NO_TOKEN:
                alignment.append(arc.token)
            lm_score += arc.lm
            state = arc.dst
        lm_score += finals[state]
        hypothesis = from_path(
            alignment,
            events,
            log_probs,
            lm_score=lm_score,
            acoustic_scale=options.acoustic_scale,
            final=final,
        )
        return [hypothesis]

    def _lattice_nbest(
        self, log_probs: FloatArray, scaled: FloatArray, options: SearchOptions
    ) -> list[Hypothesis]:
        """One-best first; then lattices of growing beams until one holds a path as good.

        `LatticeSimpleDecoder` knows no max_active and is slow at the beams that one-best bears; mostly
        half the beam has the best path and all its rivals within ``lattice_beam``. The retry widens
        the one-best search alone: where no lattice reaches its path there are no rivals to it.
        """
        (best,) = self._one_best(log_probs, scaled, options) or (None,)
        if best is None or not best.final:
            return [] if best is None else [best]
        found: list[Hypothesis] = []
        widest = self.options.beam
        for beam in (max(widest / 2, min(options.lattice_beam, widest)), widest):
            lattice = self._lattice(log_probs, scaled, options, beam)
            if lattice is None:
                continue
            first = lattice.nbest(1)
            if not first:
                continue
            found = self._hypotheses(lattice, options)
            if first[0].score >= best.score - _TIE * max(1.0, abs(best.score)):
                return found
        # No lattice has the best path: it is judged alone, and with the rivals that there are.
        if self._rescorer is not None:
            best = self._rescorer.judge(best)
        rivals = [h for h in found if h.subwords != best.subwords]
        return sorted([best, *rivals], key=lambda h: -h.score)[: options.nbest]

    def _hypotheses(self, lattice: Lattice, options: SearchOptions) -> list[Hypothesis]:
        if self._rescorer is not None:
            lattice = self._rescorer.rescore(lattice)
        return lattice.hypotheses(options.nbest)

    def _lattice(
        self, log_probs: FloatArray, scaled: FloatArray, options: SearchOptions, beam: float
    ) -> Optional[Lattice]:
        """What lies within ``lattice_beam`` of the best path that a beam finds; None if it finds none."""
        import kaldi_decoder

        config = kaldi_decoder.LatticeSimpleDecoderConfig(
            beam=beam, lattice_beam=min(options.lattice_beam, beam)
        )
        decoder = kaldi_decoder.LatticeSimpleDecoder(self._fst, config)
        if not decoder.decode(kaldi_decoder.DecodableCtc(scaled)):
            return None
        found, raw = decoder.get_raw_lattice()
        if not found:
            return None
        leaving, start, finals = _read(raw)
        arcs = [arc for state in leaving.values() for arc in state]
        return Lattice(arcs, start, finals, log_probs, options.acoustic_scale)


def _read(fst: Any) -> tuple[dict[int, list[Arc]], int, dict[int, float]]:
    """Arcs by source state, start state and final states of a kaldifst ``Lattice``.

    Its text form is the one public way in; it keeps six digits of the graph's weights, and the
    network's are not read but taken from the log_probs again.
    """
    leaving: dict[int, list[Arc]] = {}
    finals: dict[int, float] = {}
    for line in fst.to_str(show_weight_one=True).splitlines():
        cells = line.split()
        if len(cells) == 5:
            src, dst, ilabel, olabel = map(int, cells[:4])
            labels = (olabel,) if olabel else ()
            lm = -float(cells[4].partition(",")[0])
            leaving.setdefault(src, []).append(Arc(src, dst, ilabel - 1, labels, lm))
        elif len(cells) == 2:
            finals[int(cells[0])] = -float(cells[1].partition(",")[0])
    return leaving, int(fst.start), finals


#: Engines that worker processes inherit when they are forked, by the id they had in the parent.
_ENGINES: dict[int, KaldiEngine] = {}


def _decode_in_worker(task: tuple[int, FloatArray]) -> list[Hypothesis]:
    key, log_probs = task
    engine = _ENGINES.get(key)
    if engine is None:
        raise EngineError("a search process was forked before its graph was loaded")
    return engine._decode_one(log_probs)
