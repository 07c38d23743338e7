"""Graphs: what a search walks through, as plain arrays that need neither Pynini nor pickle.

A `Graph` is stored without its CTC topology: `Graph.lexical` is a transducer from tokens to words
(LG), and `Graph.arcs`, the HLG that engines see, is written out from it when it is first asked for
(`ctc_topology`; about four arcs for one, all of them regular). So files are small, roots can be
spliced in where no arc of the topology has to be mended, and equal tokens at a seam get their blank.

Labels follow OpenFst's side of the house: ``ilabel = token + 1`` and 0 is epsilon; ``olabel`` is a
word-table id and 0 is none; ``weight`` is a cost, lower is better. `Graph.to_k2` is the one place
where they are turned round: label = token, 0 is blank, scores are negated, final arcs have -1.

An arc carries at most one word. Only in a graph made by `Graph.epsilon_free` may an arc stand for a
chain of several: its olabel is then ``num_words + index`` into `Graph.strings`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Optional, Union

import numpy.typing as npt

from uyir.decode import graph_files, graph_splices
from uyir.decode.arcs import Arcs, Floats, Ints
from uyir.decode.graph_epsilons import StringTable, chained, remove_epsilons
from uyir.decode.graph_splices import Root, Splice
from uyir.decode.graph_topology import ctc_topology
from uyir.errors import GraphError

#: What the header of a file says of a graph besides its arcs.
_ABOUT = ("ctc", "num_words", "num_tokens", "meta")


@dataclass(frozen=True, eq=False)
class Graph:
    """A decoding graph; see the module's text for what is stored and what engines see.

    ``ctc``: whether ``lexical`` is without CTC topology (the usual case). ``num_words`` and
    ``num_tokens`` are the lengths of the two tables; the latter is the C of log_probs (N, T, C). ``meta`` is free JSON: where the graph is from, hashes of its tables, counts.
    """

    lexical: Arcs
    num_words: int
    num_tokens: int
    ctc: bool = True
    splices: tuple[Splice, ...] = ()
    strings: tuple[tuple[int, ...], ...] = ()
    meta: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_arcs(
        cls,
        src: npt.ArrayLike,
        dst: npt.ArrayLike,
        ilabel: npt.ArrayLike,
        olabel: npt.ArrayLike,
        weight: npt.ArrayLike,
        start: int,
        final: npt.ArrayLike,
        *,
        num_words: Optional[int] = None,
        num_tokens: Optional[int] = None,
        ctc: bool = False,
        meta: Optional[dict[str, Any]] = None,
    ) -> Graph:
        """A graph from arrays (A,) and final costs (S,), inf where a state is not final.

        With ``ctc`` the arcs are those of LG and the topology is added; without it they are an HLG
        as it stands (ilabel 1 is blank). Tables whose length is not given reach to the greatest label.
        """
        arcs = Arcs.build(src, dst, ilabel, olabel, weight, start, final)
        words = int(arcs.olabel.max(initial=0)) + 1 if num_words is None else num_words
        tokens = max(1, int(arcs.ilabel.max(initial=0))) if num_tokens is None else num_tokens
        return cls(arcs, words, tokens, ctc, meta=dict(meta or {}))

    # What engines see.

    @cached_property
    def arcs(self) -> Arcs:
        """The HLG: (A,) arcs with ilabel = token + 1 (0 epsilon, 1 blank)."""
        return ctc_topology(self.lexical) if self.ctc else self.lexical

    @property
    def src(self) -> Ints:
        return self.arcs.source

    @property
    def dst(self) -> Ints:
        return self.arcs.target

    @property
    def ilabel(self) -> Ints:
        return self.arcs.ilabel

    @property
    def olabel(self) -> Ints:
        return self.arcs.olabel

    @property
    def weight(self) -> Floats:
        return self.arcs.weight

    @property
    def start(self) -> int:
        return self.arcs.start

    @property
    def final(self) -> Floats:
        """(S,) costs of ending in a state; inf where it is not final."""
        return self.arcs.final

    @property
    def num_states(self) -> int:
        return self.arcs.num_states

    @property
    def num_arcs(self) -> int:
        return self.arcs.num_arcs

    def expand(self, olabel: int) -> tuple[int, ...]:
        """The word-table ids that an olabel stands for: none for 0, several for a string."""
        return StringTable(self.strings, self.num_words).expand(olabel)

    # Other forms.

    def epsilon_free(self) -> Graph:
        """The same graph without input epsilons, but into the end state (see `remove_epsilons`)."""
        if not self.lexical.has_epsilons:
            return self
        arcs, strings = remove_epsilons(self.lexical, self.strings, self.num_words)
        return replace(self, lexical=arcs, strings=strings, splices=())

    def with_roots(self, roots: Iterable[Root]) -> Graph:
        """This graph with roots spliced in, each wherever its key and context have a splice.

        Raises `GraphError` for a graph without CTC topology of its own, for a key or context that has
        no splice, and for a root without tokens.
        """
        if not self.ctc:
            raise GraphError(
                "roots cannot be spliced into a graph whose CTC topology is written out"
            )
        arcs, words = graph_splices.with_roots(self.lexical, self.splices, roots, self.num_words)
        if arcs is self.lexical:
            return self
        if words > self.num_words and self.strings:
            raise GraphError("new words cannot enter a graph that is already free of epsilons")
        return replace(self, lexical=arcs, num_words=words)

    def splice(
        self, key: str, phones: Sequence[int], word_id: int, weight: float = 0.0, context: int = 0
    ) -> Graph:
        """`with_roots` for one root; ``phones`` are token ids."""
        return self.with_roots([Root(key, context, tuple(phones), word_id, weight)])

    def to_openfst(self) -> Any:
        """A ``kaldifst.StdVectorFst`` of the HLG, for kaldi-decoder."""
        import kaldifst

        arcs = chained(self.arcs, self.strings, self.num_words)
        with tempfile.NamedTemporaryFile(suffix=".fst", delete=False) as file:
            file.write(graph_files.openfst_bytes(arcs))
        try:
            fst = kaldifst.StdVectorFst.read(file.name)
        finally:
            os.unlink(file.name)
        if fst is None:
            raise GraphError("kaldifst cannot read the graph that was written for it")
        return fst

    def to_k2(self) -> Any:
        """A ``k2.Fsa`` of the HLG: label = token, 0 is blank; scores = -weight; final arcs -1.

        Epsilons are removed first where there are any. ``aux_labels`` is a tensor (A,), 0 none and -1
        on final arcs; if some arcs carry several words it is a `k2.RaggedTensor` [arc][word] instead
        (-1 last on final arcs). State 0 is the start.
        """
        from uyir.decode.graph_k2 import fsa

        graph = self.epsilon_free()
        return fsa(graph.arcs, graph.strings, graph.num_words)

    # On disk.

    def save(self, path: Union[str, Path]) -> int:
        """Write the graph as safetensors (`uyir.decode.graph_files.write`); returns the number of bytes."""
        if self.strings:
            raise GraphError("a graph is saved with its epsilons: save it before `epsilon_free`")
        arcs, splices = graph_splices.depth_first(self.lexical, self.splices)
        about = {name: getattr(self, name) for name in _ABOUT}
        return graph_files.write(Path(path), arcs, splices, about)

    @classmethod
    def load(
        cls,
        path: Union[str, Path],
        *,
        tokens: Optional[Union[str, Path]] = None,
        words: Optional[Union[str, Path]] = None,
    ) -> Graph:
        """Read a graph; given the paths of ``tokens.txt`` and ``words.txt``, refuse one of others.

        Raises `GraphError` for a file that is missing, damaged, of another format or version, or
        built from another token or word table (naming both hashes).
        """
        arcs, splices, header = graph_files.read(Path(path), _ABOUT)
        about = {name: header[name] for name in _ABOUT}
        graph = cls(arcs, splices=splices, **about)
        graph.check_tables(tokens, words, name=str(path))
        return graph

    def check_tables(
        self,
        tokens: Optional[Union[str, Path]] = None,
        words: Optional[Union[str, Path]] = None,
        name: str = "the graph",
    ) -> None:
        """Raise `GraphError` unless the graph was built from these token and word tables."""
        for kind, table in (("tokens", tokens), ("words", words)):
            if table is None:
                continue
            have, want = graph_files.file_sha256(table), self.meta.get(f"{kind}_sha256")
            if have != want:
                raise GraphError(
                    f"{name} was built from another table of {kind}: "
                    f"sha256 {str(want)[:12]}…, but {table} has {have[:12]}…"
                )
