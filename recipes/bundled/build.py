"""Make one language's half of a bundled model from text: word table, language model, graph.

    text ─► sentences ─► units ─► marked subwords ─► n-gram LM ─┐
    lists ─► SG (units of kind grammar) ────────────────────────┴─► HLG

Everything is deterministic: the same texts, lists and options give the same files. ``--units`` takes any
other kind of unit instead of the grammar's, to compare with.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from uyir.decode.assemble import Assembly, assemble, say
from uyir.decode.graph_build import SEAMS
from uyir.errors import UyirError
from uyir.grammar.unit_training import train_units, word_counts
from uyir.grammar.units import KINDS, spoken_sentences, write_units


def build(arguments: argparse.Namespace) -> None:
    language, out = arguments.language, arguments.out
    begin = time.time()
    lines = spoken_sentences(arguments.text, language, arguments.held_out)
    units = train_units(arguments.units, language, word_counts(lines), arguments.size)
    out.mkdir(parents=True, exist_ok=True)
    if arguments.units != "grammar":
        write_units(out / "units.tsv", units)
    say(f"{language}: text and units of kind {units.kind}, {time.time() - begin:.0f} s")
    how = Assembly(
        order=arguments.order,
        min_counts=tuple(arguments.min_counts),
        max_ngrams=arguments.max_ngrams,
        root_count=arguments.root_count,
        unseen_roots=arguments.unseen_roots,
        vocabulary=arguments.vocabulary,
        graph={
            "seams": arguments.seams,
            "variants": arguments.variants,
            "word_cost": arguments.word_cost,
        },
    )
    assemble(units, lines, arguments.tokens, out, arguments.work, how)
    if arguments.acoustic_scale is not None:
        path = out / "meta.json"
        meta = json.loads(path.read_text(encoding="utf-8"))
        meta["acoustic_scale"] = arguments.acoustic_scale
        path.write_text(json.dumps(meta, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", nargs="+", type=Path)
    parser.add_argument("--language", required=True)
    parser.add_argument("--held-out", action="append", default=[], type=Path)
    parser.add_argument("--tokens", type=Path, required=True, help="the model's tokens.txt")
    parser.add_argument("--out", type=Path, required=True, help="MODEL/LANGUAGE")
    parser.add_argument("--work", type=Path, default=Path("exp/bundled"), help="for the ARPA file")
    parser.add_argument("--units", choices=KINDS, default="grammar")
    parser.add_argument(
        "--size", type=int, default=0, help="units of other kinds than the grammar's"
    )
    parser.add_argument("--order", type=int, default=3)
    parser.add_argument("--min-counts", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--max-ngrams", type=int, default=200_000)
    parser.add_argument("--root-count", type=int, default=2)
    parser.add_argument("--unseen-roots", action="store_true")
    parser.add_argument(
        "--vocabulary", action="store_true", help="the text's words, for `oov` (some MB)"
    )
    parser.add_argument("--word-cost", type=float, default=0.0, help="against too many spaces")
    parser.add_argument("--acoustic-scale", type=float, help="found on development speech")
    parser.add_argument("--seams", choices=SEAMS, default=SEAMS[0], help="how L sees subword seams")
    parser.add_argument("--variants", action="store_true", help="optional pronunciations")
    try:
        build(parser.parse_args())
    except UyirError as error:
        say(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
