"""The table of the paper: word error rates of five kinds of units with one acoustic model and one text.

    python benchmarks/spoken_set.py --language ta --text dakshina_native_dev.txt.xz --out exp/units/ta [--model EAR]
    python benchmarks/units_wer.py build --language ta --held-out dakshina_native_dev.txt.xz \\
        --tokens uyir/models/base/tokens.txt --graphs exp/units/graphs TEXT...
    python benchmarks/units_wer.py decode --language ta --graphs exp/units/graphs --heard exp/units/ta/heard/base \\
        --vocabulary exp/units/graphs/vocabulary.ta.txt --out exp/units/results

``build`` makes a graph of every kind, from the same sentences, with the same order, cut-offs and number of
n-grams. ``decode`` tunes each graph equally, the acoustic scale and the cost of a word, on the part ``tune``, on clean speech,
and decodes the part ``test``, clean and noisy, with the engine `kaldi` and one beam; it prints a line of JSON for each. Both go
on where they were stopped. Time is processor time: of the search alone, the network's is in ``network_rtf``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from spoken_set import CONDITIONS, Heard, read_heard

from uyir.decode.assemble import Assembly, assemble
from uyir.decode.engines import SearchOptions, create
from uyir.decode.graph import Graph
from uyir.decode.lm import is_vocabulary
from uyir.decode.score import Options, Texts, Utterance, score_pairs, score_texts
from uyir.errors import UyirError
from uyir.grammar.join import join_sentence, opens
from uyir.grammar.unit_training import train_units, word_counts
from uyir.grammar.units import spoken_sentences
from uyir.lexicon.symbols import Symbols

#: System: kind of units, how many, whether there is a language model.
SYSTEMS = {
    "word": ("word", 50_000, True),
    "bpe": ("bpe", 10_000, True),
    "morfessor": ("morfessor", 10_000, True),
    "grammar-no-lm": ("grammar", 0, False),
    "grammar": ("grammar", 0, True),
}
SCALES = (1.1, 1.5, 2.0, 2.7, 3.6)
WORD_COSTS = (0.0, 1.0, 2.0)
BEAM, MAX_ACTIVE = 16.0, 7000


def build(arguments: argparse.Namespace) -> None:
    language, graphs = arguments.language, arguments.graphs
    lines = sentences_for_all(arguments)
    counts = word_counts(lines)
    for name in arguments.system or SYSTEMS:
        kind, size, with_lm = SYSTEMS[name]
        if kind in ("bpe", "morfessor") and arguments.size:
            size = arguments.size
        out = graphs / name / language
        if (out / "meta.json").exists():
            continue
        how = Assembly(
            order=arguments.order,
            min_counts=tuple(arguments.min_counts),
            max_ngrams=arguments.max_ngrams,
            unseen_roots=True,
            with_lm=with_lm,
            graph={"variants": False},
        )
        units = train_units(kind, language, counts, size)
        assemble(units, lines, arguments.tokens, out, out / "work", how)


def sentences_for_all(arguments: argparse.Namespace) -> list[list[str]]:
    """The sentences that all systems are made from; written down, and their words, the first time."""
    language, graphs = arguments.language, arguments.graphs
    kept = graphs / f"sentences.{language}.txt"
    if not kept.exists():
        lines = spoken_sentences(arguments.text, language, [arguments.held_out])
        graphs.mkdir(parents=True, exist_ok=True)
        words = sorted(word_counts(lines))
        (graphs / f"vocabulary.{language}.txt").write_text("".join(f"{word}\n" for word in words))
        unfinished = graphs / f"sentences.{language}.part"
        unfinished.write_text("".join(" ".join(line) + "\n" for line in lines))
        os.replace(unfinished, kept)
    return [line.split() for line in kept.read_text(encoding="utf-8").splitlines()]


def costly(graph: Graph, words: Sequence[str], cost: float) -> Graph:
    """The graph with a cost on every word's first subword; without a language model on every subword,
    or nothing would speak against spelling everything."""
    every = graph.meta.get("lm_ngrams", ()) is None
    more = np.array([cost * (is_vocabulary(word) and (every or opens(word))) for word in words])
    arcs = graph.lexical
    weight = (arcs.weight + more[arcs.olabel]).astype(np.float32)
    return replace(graph, lexical=replace(arcs, weight=weight))


class System:
    """A graph with its word table, and what it makes of speech."""

    def __init__(self, folder: Path, language: str) -> None:
        self.language = language
        self.words = list(Symbols.read(folder / "words.txt"))
        self.graph = Graph.load(folder / "HLG.safetensors", words=folder / "words.txt")

    def decode(self, heard: Sequence[Heard], scale: float, cost: float) -> tuple[list[str], float]:
        """A text for each utterance, and seconds of processor time a second of speech."""
        options = SearchOptions(beam=BEAM, max_active=MAX_ACTIVE, acoustic_scale=scale)
        engine = create("kaldi", costly(self.graph, self.words, cost), options)
        texts = []
        begin = time.process_time()
        for one in heard:
            found = engine.decode(one.log_probs[None], np.array([len(one.log_probs)]))[0][0]
            pieces = [self.words[number] for number in found.subwords]
            spoken = [piece for piece in pieces if not piece.startswith("<")]
            texts.append(" ".join(join_sentence(spoken, self.language)))
        return texts, (time.process_time() - begin) / sum(one.seconds for one in heard)

    def tune(self, heard: Sequence[Heard]) -> tuple[float, float]:
        """Scale and word cost of least word error rate, of all pairs: one at a time ends where it began."""

        def rate(pair: tuple[float, float]) -> float:
            texts, _ = self.decode(heard, *pair)
            pairs = [(one.text, text) for one, text in zip(heard, texts)]
            return score_pairs(pairs, self.language).wer

        return min(itertools.product(SCALES, WORD_COSTS), key=rate)


def scored(
    heard: Sequence[Heard], texts: Sequence[str], language: str, vocabulary: frozenset[str]
) -> dict[str, Any]:
    """Rates with 95 % intervals by bootstrap over utterances; see `uyir.decode.score`."""
    refs = Texts("ref", {one.id: Utterance(one.id, one.text) for one in heard})
    hyps = Texts("hyp", {one.id: Utterance(one.id, text) for one, text in zip(heard, texts)})
    # Without the grammar the tolerant rate forgives spaces alone.
    report = score_texts(refs, hyps, Options(language, vocabulary=vocabulary, grammar=False))
    score = report.normalised
    unknown = report.vocabulary["out of vocabulary"]
    tolerant = score.tolerant
    wer_interval, cer_interval = score.wer_interval, score.cer_interval
    return {
        "utterances": score.utterances,
        "words": score.words.units,
        "wer": round(score.wer, 4),
        "wer_interval": None if wer_interval is None else wer_interval.to_dict(),
        "cer": round(score.cer, 4),
        "cer_interval": None if cer_interval is None else cer_interval.to_dict(),
        "oov_words": unknown.units,
        "oov_wer": round(unknown.rate, 4),
        "wer_but_spaces": None if tolerant is None else round(tolerant.rate, 4),
    }


def decode(arguments: argparse.Namespace) -> None:
    language, out = arguments.language, arguments.out
    out.mkdir(parents=True, exist_ok=True)
    vocabulary = frozenset(arguments.vocabulary.read_text(encoding="utf-8").split())
    for name in arguments.system or SYSTEMS:
        results = [out / f"{name}.{language}.{condition}.json" for condition in CONDITIONS]
        tuned = out / f"{name}.{language}.tuned.json"
        if not all(path.exists() for path in results):
            system = System(arguments.graphs / name / language, language)
            if not tuned.exists():
                heard = read_heard(arguments.heard / "tune", "clean", arguments.tuning)
                write_whole(tuned, json.dumps(system.tune(heard)))
            scale, cost = json.loads(tuned.read_text())
        for condition, path in zip(CONDITIONS, results):
            if not path.exists():
                heard = read_heard(arguments.heard / "test", condition, arguments.limit)
                texts, rtf = system.decode(heard, scale, cost)
                lines = [f"{one.id}\t{text}\n" for one, text in zip(heard, texts)]
                write_whole(path.with_suffix(".tsv"), "".join(lines))
                index = arguments.heard / "test" / f"{condition}.json"
                row = {
                    "system": name,
                    "language": language,
                    "condition": condition,
                    **scored(heard, texts, language, vocabulary),
                    "acoustic_scale": scale,
                    "word_cost": cost,
                    "search_rtf": round(rtf, 4),
                    "network_rtf": json.loads(index.read_text(encoding="utf-8"))["network_rtf"],
                }
                write_whole(path, json.dumps(row) + "\n")
            print(path.read_text(), end="", flush=True)


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    stages = parser.add_subparsers(dest="stage", required=True)
    make = stages.add_parser("build")
    make.add_argument("text", nargs="+", type=Path)
    make.add_argument("--held-out", required=True, type=Path)
    make.add_argument("--tokens", required=True, type=Path)
    make.add_argument("--order", type=int, default=4)
    make.add_argument("--min-counts", type=int, nargs="*", default=[1, 2, 2])
    make.add_argument("--max-ngrams", type=int, default=800_000)
    make.add_argument("--size", type=int, default=0, help="of data-driven units")
    search = stages.add_parser("decode")
    search.add_argument(
        "--heard", required=True, type=Path, help="OUT/heard/MODEL of spoken_set.py"
    )
    search.add_argument("--vocabulary", required=True, type=Path)
    search.add_argument("--out", required=True, type=Path)
    search.add_argument("--tuning", type=int, default=150, help="utterances to tune on")
    search.add_argument("--limit", type=int, help="test only so many")
    for stage in (make, search):
        stage.add_argument("--language", required=True)
        stage.add_argument("--graphs", required=True, type=Path)
        stage.add_argument("--system", action="append", choices=SYSTEMS, help="default: all")
    arguments = parser.parse_args()
    try:
        {"build": build, "decode": decode}[arguments.stage](arguments)
    except UyirError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
