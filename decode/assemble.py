"""One language's half of a model from text, with units of any kind: word table, n-gram model, graph.

    text ─► sentences ─► units ─► marked subwords ─► n-gram LM ─┐
    lists ─► SG (units of kind grammar) ────────────────────────┴─► HLG

Everything after the units is the same for all kinds. Deterministic: the same texts, lists and options
give the same files.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional, Union

from uyir.decode.graph_build import build_files
from uyir.decode.graph_parts import word_table
from uyir.decode.graph_watch import Limits, Say
from uyir.decode.lm import NgramModel, Vocabulary, train
from uyir.decode.tables import write_subwords, write_vocabulary
from uyir.grammar.join import bare, opens
from uyir.grammar.morphotactics import load_grammar, splice_states
from uyir.grammar.segment import Segmentation
from uyir.grammar.units import UNKNOWN, GrammarUnits, Units
from uyir.lexicon.symbols import Symbols, pack_table

Lines = Sequence[Sequence[str]]


def say(line: str) -> None:
    """Talk on stderr."""
    print(line, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Assembly:
    """How a language's half is made.

    ``root_count``: a root of the grammar is in the table if the text has it so often (with
    ``unseen_roots`` every one is); all its affixes and letters are. Without ``with_lm`` the graph has
    the units and, of kind grammar, their grammar alone. The rest is of
    `uyir.decode.lm.train` and `uyir.decode.graph_build.build_files`.
    """

    order: int = 4
    min_counts: tuple[int, ...] = (1, 2, 2)
    max_ngrams: Optional[int] = None
    root_count: int = 2
    unseen_roots: bool = False
    vocabulary: bool = False
    with_lm: bool = True
    graph: dict[str, Any] = field(default_factory=dict)


def cut_words(units: Units, words: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Every different word with its marked subwords."""
    types = sorted(set(words))
    return dict(zip(types, units.segment_all(types)))


def unit_counts(cut: Mapping[str, Sequence[str]], words: Mapping[str, int]) -> Counter[str]:
    """How often each unit stands in a text, from its words' counts."""
    counts: Counter[str] = Counter()
    for word, count in words.items():
        for piece in cut[word]:
            counts[piece] += count
    return counts


def unit_table(
    units: Units, counts: Counter[str], splices: Iterable[str], how: Assembly
) -> Symbols:
    """The word table: what the text has, and what must be there besides; see `Assembly`."""
    if isinstance(units, GrammarUnits):
        kept = [
            piece
            for piece in units.pieces()
            if not opens(piece)
            or len(bare(piece)) == 1
            or how.unseen_roots
            or counts[piece] >= how.root_count
        ]
        return word_table(kept, splices)
    return word_table({*counts, *units.pieces()} - {UNKNOWN})


def language_model(
    table: Symbols, lines: Lines, cut: dict[str, tuple[str, ...]], how: Assembly
) -> NgramModel:
    """The n-gram model of some sentences in units; every symbol of the table has a probability."""
    known = Vocabulary.of_table(table)
    text = known.encode([piece for word in line for piece in cut[word]] for line in lines)
    return train(text, known, how.order, min_counts=how.min_counts, max_ngrams=how.max_ngrams)


def assemble(
    units: Units,
    lines: Lines,
    tokens: Union[str, Path],
    out: Path,
    work: Path,
    how: Assembly,
    say: Say = say,
) -> tuple[Symbols, NgramModel]:
    """Write ``words.txt``, the tables of subwords and the graph into the folder ``out``, and the ARPA
    file into the folder ``work``, from sentences as lists of words; returns table and model."""
    language = units.language
    words: Counter[str] = Counter()
    for line in lines:
        words.update(line)
    types = sorted(words)
    analyses: list[Segmentation] = []
    splices: list[str] = []
    if isinstance(units, GrammarUnits):
        analyses = units.segmenter.segment_all(types)
        cut = {word: found.marked for word, found in zip(types, analyses)}
        splices = splice_states(load_grammar(language))
    else:
        cut = cut_words(units, types)
    counts = unit_counts(cut, words)
    say(
        f"{language}: {len(lines)} sentences, {sum(words.values())} words of {len(words)} types, "
        f"{sum(counts.values())} {units.kind} units of {len(counts)} types"
    )
    table = unit_table(units, counts, splices, how)
    out.mkdir(parents=True, exist_ok=True)
    table.write(out / "words.txt")
    write_subwords(out, ((found, words[found.word]) for found in analyses), table)
    if how.vocabulary:
        write_vocabulary(out, words)
    begin = time.monotonic()
    model = language_model(table, lines, cut, how)
    work.mkdir(parents=True, exist_ok=True)
    arpa = work / f"{language}.arpa"
    model.write_arpa(arpa)
    say(
        f"{len(table)} symbols, n-grams: {[len(order) for order in model.orders]}, "
        f"{time.monotonic() - begin:.0f} s"
    )
    build_files(
        language,
        out / "words.txt",
        tokens,
        out,
        lm_path=arpa if how.with_lm else None,
        use_grammar=isinstance(units, GrammarUnits),
        limits=Limits(max_memory=8.0),
        say=say,
        **how.graph,
    )
    # Some MB of digits and letters; a tenth of it packed.
    pack_table(out / "words.txt")
    return table, model
