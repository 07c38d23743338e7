"""Building graphs: HLG = H ∘ T⁻¹ ∘ (L ∘ (SG ∩ LM)); needs Pynini for T, the grammar and one composition.

The parts, each of which may be left out:

    LM   a back-off n-gram model: an acceptor over word-table ids whose back-off arcs are `#0`
    SG   the subword grammar: an acceptor of one word's subwords, closed here over sentences
    L    letters to subwords: spelling, with a mark on the last letter of a word
    T    letters to phones: the pronunciation rules, which see whole words across subword seams
    H    the CTC topology

With context-free seams L and T are one: subwords have the phones that they have when they stand alone.

How LG is made. The textbook way composes L with G, determinises and minimises. As the outcome is known
beforehand it is written down directly (`uyir.decode.graph_tree`). No determinisation means nothing to
run away: time and memory grow with the number of n-grams, not with the look-ahead of a subset
construction. Where one subword begins another one the tree has two arcs of a letter, so no
disambiguation symbols are needed.

Back-off arcs keep the SG state. A state (SG, LM) without any subword of its own is passed over, its
back-off cost being paid on the way in. At word ends the SG goes back to its start.

T is then composed before it by OpenFst, its epsilons are taken out where that costs no arcs
(`contract`), and H is left to `uyir.decode.graph`, which adds it when a graph is loaded.

Splices. ``<splice:STATE>`` symbols of the word table lead from the start of a word, in the unigram
state, to SG state STATE. They pass L and T as one opaque letter (to the rules, a vowel), stop the
pushing of costs and labels as any letter does, and end as `uyir.decode.graph_splices.Splice` records.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Union

import numpy as np
import numpy.typing as npt

from uyir.decode.arcs import Arcs, ranges
from uyir.decode.graph import Graph
from uyir.decode.graph_files import file_sha256, openfst_bytes
from uyir.decode.graph_parts import (
    SPLICE,
    Grammar,
    LmAcceptor,
    free_grammar,
    free_lm,
    grammar_tables,
    lm_acceptor,
    opening_with,
)
from uyir.decode.graph_reduce import contract, merge_equal_states
from uyir.decode.graph_splices import Splice
from uyir.decode.graph_tree import (
    BACKOFF_LABEL,
    FINAL,
    LETTER,
    SILENT,
    letter_readings,
    phone_readings,
    tree_graph,
)
from uyir.decode.graph_watch import Limits, Report, Say, Watch, memory_gb
from uyir.decode.lm import NgramModel
from uyir.errors import DataError, GraphError, ScriptError
from uyir.lexicon.symbols import WORD_END, Symbols

if TYPE_CHECKING:
    from uyir.lexicon.user import UserLexicon

#: Raised whenever the same inputs give another graph.
BUILDER_VERSION = 2
#: For the estimate; measured on Tamil and Kannada models of 45,000 to 1.2 million n-grams (within a third).
_ARCS_PER_NGRAM, _ARCS_PER_SG_ARC, _BYTES_PER_ARC = 2.3, 0.4, 700

# --------------------------------------------------------------------------------------------------
# T


def _to_pynini(arcs: Arcs) -> Any:
    import pynini

    with tempfile.NamedTemporaryFile(suffix=".fst") as file:
        file.write(openfst_bytes(arcs))
        file.flush()
        return pynini.Fst.read(file.name)


def from_openfst(fst: Any) -> Arcs:
    """A `pynini.Fst` (tropical, vector) as arrays; raises `GraphError` if it has no states."""
    if fst.num_states() == 0 or fst.start() < 0:
        raise GraphError("the graph is empty: its parts accept nothing in common")
    with tempfile.NamedTemporaryFile(suffix=".fst") as file:
        fst.write(file.name)
        data = Path(file.name).read_bytes()
    at = 4
    for _ in range(2):  # names of the FST and arc types
        at += 4 + int.from_bytes(data[at : at + 4], "little")
    flags = int.from_bytes(data[at + 4 : at + 8], "little")
    if flags & 3:
        raise GraphError("an OpenFst file with symbol tables cannot be read")
    start, states, _ = np.frombuffer(data, dtype="<i8", count=3, offset=at + 16).tolist()
    body = np.frombuffer(data, dtype="<i4", offset=at + 40)
    count = np.empty(states, dtype=np.int64)
    place = np.empty(states, dtype=np.int64)
    here = 0
    for state in range(states):
        place[state] = here
        arcs = int(body[here + 1])
        count[state] = arcs
        here += 3 + 4 * arcs
    rows, owner = ranges(np.zeros(states, dtype=np.int64), count)
    base = place[owner] + 3 + 4 * rows
    return Arcs.build(
        owner,
        body[base + 3],
        body[base],
        body[base + 1],
        body[base + 2].view("<f4"),
        start,
        body[place].view("<f4"),
    )


def _pronouncer(
    language: str,
    letters: Symbols,
    tokens: Symbols,
    splice_labels: Sequence[int],
    variants: bool,
    user: Optional[UserLexicon],
) -> Any:
    """T with the labels of `letter_readings` on the letters' side.

    On the phones' side: token ids, then the back-off, then the splices in the order given.
    """
    import pynini
    import pywrapfst

    from uyir.lexicon.fst import phone_transducer

    end = letters.id(WORD_END)
    backoff = len(letters)
    opaque = {len(letters) + 1 + i: len(tokens) + 1 + i for i in range(len(splice_labels))}
    transparent = {backoff: len(tokens)}
    if SILENT in letters:
        transparent[letters.id(SILENT)] = 0
    rules = phone_transducer(
        language,
        letters,
        tokens,
        variants=variants,
        passthrough=opaque,
        transparent=transparent,
        user=user,
    )
    # Our labels to T's letters: a final letter is the letter and the word's end.
    arc = pywrapfst.Arc
    marks = pynini.Fst()
    marks.add_states(2)
    marks.set_start(0)
    marks.set_final(0)
    marks.add_arc(1, arc(0, end, 0.0, 0))
    for number in range(1, len(letters)):
        if number != end:
            marks.add_arc(0, arc(LETTER + number, number, 0.0, 0))
            marks.add_arc(0, arc(FINAL + number, number, 0.0, 1))
    marks.add_arc(0, arc(BACKOFF_LABEL, backoff, 0.0, 0))
    for label, inner in zip(splice_labels, opaque):
        marks.add_arc(0, arc(label, inner, 0.0, int(label >= FINAL)))
    marks.arcsort("olabel")
    whole = pynini.compose(marks, rules.arcsort("ilabel"))
    whole.rmepsilon()
    whole.connect()
    if whole.num_states() == 0:
        raise GraphError(f"the pronunciation rules of {language!r} accept nothing")
    return whole


def _exact(parts: _Parts, watch: Watch) -> tuple[Arcs, list[int]]:
    """T⁻¹ ∘ LG over letters: token labels, and the words of its splices in their order."""
    import pynini

    from uyir.lexicon.fst import letter_symbols

    letters = letter_symbols(parts.language)
    readings = letter_readings(parts.words, parts.language, letters, parts.user, parts.silent)
    arcs, splices = tree_graph(
        parts.words, readings, len(letters), parts.sg, parts.lm, parts.splice_cost, watch
    )
    watch.step("LG over letters", arcs.num_states, arcs.num_arcs)
    rules = _pronouncer(
        parts.language, letters, parts.tokens, list(splices.values()), parts.variants, parts.user
    )
    watch.step("T", rules.num_states(), sum(rules.num_arcs(s) for s in rules.states()))
    # OpenFst cannot be stopped: what it will need is looked at before. An arc is 16 bytes there, and
    # composition makes up to twice as many.
    watch.check("T ∘ LG", 0, arcs.num_arcs, 2 * arcs.num_arcs * 60 / 2**30)
    rules.invert()
    rules.arcsort("olabel")
    composed = pynini.compose(rules, _to_pynini(arcs).arcsort("ilabel"))
    watch.step(
        "T ∘ LG", composed.num_states(), sum(composed.num_arcs(s) for s in composed.states())
    )
    return from_openfst(composed), list(splices)


def _context_free(parts: _Parts, watch: Watch) -> tuple[Arcs, list[int]]:
    """LG over the tokens that each subword has when it stands alone; as `_exact` otherwise."""
    count = len(parts.tokens)
    readings = phone_readings(parts.words, parts.language, parts.tokens, parts.variants, parts.user)
    arcs, splices = tree_graph(
        parts.words, readings, count, parts.sg, parts.lm, parts.splice_cost, watch
    )
    watch.step("LG over phones", arcs.num_states, arcs.num_arcs)
    place = {label: count + 1 + i for i, label in enumerate(splices.values())}
    label = np.where(arcs.ilabel == BACKOFF_LABEL, count, arcs.ilabel - LETTER)
    for old, new in place.items():
        label[arcs.ilabel == old] = new
    whole = np.isin(arcs.ilabel, [old for old in place if old >= FINAL])
    arcs = replace(arcs, ilabel=label)
    if WORD_END in parts.tokens:
        arcs = _followed(arcs, whole, parts.tokens.id(WORD_END))
    return arcs, list(splices)


def _followed(arcs: Arcs, which: npt.NDArray[np.bool_], label: int) -> Arcs:
    """The arcs, with one of that input label between each of ``which`` and the state it led to."""
    count = int(which.sum())
    between = arcs.num_states + np.arange(count)
    target = arcs.target.copy()
    target[which] = between
    final = np.full(arcs.num_states + count, np.inf, dtype=np.float32)
    final[: arcs.num_states] = arcs.final
    return Arcs.build(
        np.concatenate([arcs.source, between]),
        np.concatenate([target, arcs.target[which]]),
        np.concatenate([arcs.ilabel, np.full(count, label)]),
        np.concatenate([arcs.olabel, np.zeros(count, dtype=np.int64)]),
        np.concatenate([arcs.weight, np.zeros(count, dtype=np.float32)]),
        arcs.start,
        final,
    )


# --------------------------------------------------------------------------------------------------
# All together


#: How a subword sounds: by the rules over its whole word, or as if it stood alone.
SEAMS = ("exact", "context-free")


@dataclass(frozen=True, eq=False)
class _Parts:
    language: str
    words: Symbols
    tokens: Symbols
    sg: Grammar
    lm: LmAcceptor
    variants: bool
    user: Optional[UserLexicon]
    silent: Mapping[str, float]
    splice_cost: float


def build_graph(
    language: str,
    words: Symbols,
    tokens: Symbols,
    *,
    model: Optional[NgramModel] = None,
    grammar: Any = None,
    licences: Sequence[str] = (),
    sg_scale: float = 0.0,
    seams: str = "exact",
    variants: bool = True,
    user: Optional[UserLexicon] = None,
    silent: Optional[Mapping[str, float]] = None,
    splice_cost: float = 12.0,
    word_cost: float = 0.0,
    limits: Optional[Limits] = None,
    meta: Optional[dict[str, Any]] = None,
    say: Say = lambda line: None,
) -> tuple[Graph, Report]:
    """Build a graph from its parts; see the module's text.

    ``model``: the language model, None for none. ``grammar``: the SG acceptor (`pynini.Fst` over ids of
    ``words``), None for none; its weights are scaled by ``sg_scale``. ``licences``: the letters of an
    acceptor with licences, in the order of its labels. ``seams``: one of `SEAMS`.
    ``variants``: whether optional pronunciations are in. ``user``: a user's pronunciations (of whole
    words that are cut into several subwords only with exact seams). ``silent``: subwords that may be left unspoken, and
    what that costs (with exact seams). ``splice_cost``: what an added root
    costs by itself. Raises `GraphError` over a limit and where the parts have nothing in common.
    """
    if seams not in SEAMS:
        raise GraphError(f"seams {seams!r}; want one of {', '.join(SEAMS)}")
    watch = Watch(limits or Limits(), say)
    lm = free_lm(words) if model is None else lm_acceptor(model, words)
    watch.step("LM", lm.num_states, len(lm.word))
    licensed = opening_with(words, language, licences)
    sg = (
        free_grammar(words)
        if grammar is None
        else grammar_tables(grammar, words, sg_scale, licensed)
    ).with_word_cost(word_cost)
    watch.step("SG", len(sg.follow), sg.num_arcs)

    guess = _ARCS_PER_NGRAM * len(lm.word) + _ARCS_PER_SG_ARC * sg.num_arcs
    ahead = guess * _BYTES_PER_ARC / 2**30
    say(f"estimate: {guess / 1e6:.1f} million arcs before H, {ahead:.1f} GB to build")
    watch.check("the estimate", 0, int(guess), ahead)
    parts = _Parts(
        language, words, tokens, sg, lm, variants, user, silent or {}, splice_cost + word_cost
    )
    arcs, splice_words = (_exact if seams == "exact" else _context_free)(parts, watch)
    arcs = contract(arcs.connected())
    watch.step("without local epsilons", arcs.num_states, arcs.num_arcs)
    arcs = contract(merge_equal_states(arcs))
    watch.step("merged", arcs.num_states, arcs.num_arcs)

    graph = _finished(arcs, words, tokens, splice_words, meta or {})
    report = watch.report
    report.states, report.arcs = graph.lexical.num_states, graph.lexical.num_arcs
    report.epsilons = int((graph.lexical.ilabel == 0).sum())
    report.splices = len(graph.splices)
    report.hlg_states, report.hlg_arcs = graph.num_states, graph.num_arcs
    watch.step("H", graph.num_states, graph.num_arcs)
    report.peak_memory_gb = round(memory_gb(), 3)
    report.seconds = round(time.monotonic() - watch.begun, 2)
    # Of the report only what the same inputs always give: equal builds are equal files.
    graph.meta["counts"] = {
        "states": report.states,
        "arcs": report.arcs,
        "epsilons": report.epsilons,
        "hlg_states": report.hlg_states,
        "hlg_arcs": report.hlg_arcs,
        "splices": report.splices,
    }
    return graph, report


def _finished(
    arcs: Arcs,
    words: Symbols,
    tokens: Symbols,
    splice_words: Sequence[int],
    meta: dict[str, Any],
) -> Graph:
    """Back-offs to epsilons, splice arcs to records, tokens to ilabels."""
    backoff = len(tokens)
    is_splice = arcs.ilabel > backoff
    splices = tuple(
        Splice(
            words.symbol(splice_words[label - backoff - 1])[len(SPLICE) : -1],
            0,
            source,
            target,
            cost,
        )
        for label, source, target, cost in zip(
            arcs.ilabel[is_splice].tolist(),
            arcs.source[is_splice].tolist(),
            arcs.target[is_splice].tolist(),
            arcs.weight[is_splice].tolist(),
        )
    )
    keep = ~is_splice
    ilabel = np.where((arcs.ilabel == backoff) | (arcs.ilabel == 0), 0, arcs.ilabel + 1)
    lexical = Arcs.build(
        arcs.source[keep],
        arcs.target[keep],
        ilabel[keep],
        arcs.olabel[keep],
        arcs.weight[keep],
        arcs.start,
        arcs.final,
    )
    return Graph(lexical, len(words), len(tokens), splices=splices, meta=dict(meta))


def build_files(
    language: str,
    words_path: Union[str, Path],
    tokens_path: Union[str, Path],
    out: Union[str, Path],
    *,
    lm_path: Optional[Union[str, Path]] = None,
    use_grammar: bool = True,
    sg_scale: float = 0.0,
    seams: str = "exact",
    variants: bool = True,
    user_path: Optional[Union[str, Path]] = None,
    splice_cost: float = 12.0,
    word_cost: float = 0.0,
    limits: Optional[Limits] = None,
    say: Say = lambda line: print(line, file=sys.stderr, flush=True),
) -> tuple[Graph, Report]:
    """Build a graph of a bundled grammar from files, and write ``HLG.safetensors`` and ``meta.json``
    into the folder ``out``."""
    import json

    from uyir.decode.lm import read_arpa
    from uyir.grammar.script import NORMALISER_VERSION
    from uyir.lexicon.user import UserLexicon

    words, tokens = Symbols.read(words_path), Symbols.read(tokens_path)
    model = None if lm_path is None else read_arpa(lm_path)
    grammar: Any = None
    asked: tuple[str, ...] = ()
    silent: dict[str, float] = {}
    if use_grammar:
        from uyir.grammar.morphotactics import (
            licences,
            load_grammar,
            silent_pieces,
            subword_acceptor,
        )

        lists = load_grammar(language)
        asked, silent = licences(lists), silent_pieces(lists)
        grammar = subword_acceptor(lists, words, weighted=sg_scale > 0, licensed=True)
    meta = {
        "language": language,
        "builder": BUILDER_VERSION,
        "normaliser": NORMALISER_VERSION,
        "tokens_sha256": file_sha256(tokens_path),
        "words_sha256": file_sha256(words_path),
        "lm_sha256": None if lm_path is None else file_sha256(lm_path),
        "lm_ngrams": None if model is None else [len(order) for order in model.orders],
        "sg": use_grammar,
        "sg_scale": sg_scale,
        "seams": seams,
        "variants": variants,
        "word_cost": word_cost,
        "user_sha256": None if user_path is None else file_sha256(user_path),
    }
    user = None if user_path is None else UserLexicon.read(user_path, language)
    try:
        graph, report = build_graph(
            language,
            words,
            tokens,
            model=model,
            grammar=grammar,
            licences=asked,
            sg_scale=sg_scale,
            seams=seams,
            variants=variants,
            user=user,
            silent=silent,
            splice_cost=splice_cost,
            word_cost=word_cost,
            limits=limits,
            meta=meta,
            say=say,
        )
    except ScriptError as error:
        raise DataError(f"not a word table of {language!r}: {error}", words_path) from None
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    report.bytes = graph.save(folder / "HLG.safetensors")
    say(f"{folder / 'HLG.safetensors'}: {report.bytes:,} bytes")
    (folder / "meta.json").write_text(
        json.dumps({**meta, "report": report.as_dict()}, ensure_ascii=False, indent=1) + "\n",
        encoding="utf-8",
    )
    return graph, report
