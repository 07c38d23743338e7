"""Make one language's half of a bundled model from text: word table, language model, graph.

    text ─► sentences ─► segmenter ─► marked subwords ─► n-gram LM ─┐
    lists ─► SG ────────────────────────────────────────────────────┴─► HLG

Everything is deterministic: the same texts, lists and options give the same files.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path

from uyir.decode.graph_build import SEAMS, build_files
from uyir.decode.graph_parts import word_table
from uyir.decode.lm import Vocabulary, train
from uyir.decode.tables import write_subwords, write_vocabulary
from uyir.errors import UyirError
from uyir.grammar.join import bare, opens
from uyir.grammar.morphotactics import load_grammar, splice_states
from uyir.grammar.segment import Segmentation, Segmenter, load_segmenter
from uyir.grammar.text import sentences


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


#: Entries that stand alone in writing only: endings after digits. Nobody says them so.
UNSPOKEN = frozenset({"detached=yes"})


def segment_text(
    texts: list[Path], held_out: list[Path], language: str
) -> tuple[list[list[str]], dict[str, Segmentation]]:
    """Sentences as words, and the segmentation of each different word.

    A sentence with an ending that stands alone is left out: its digits are gone.
    """
    lines = list(sentences(texts, language, held_out))
    types = sorted({word for line in lines for word in line})
    written = load_segmenter(language)
    spoken = Segmenter(load_grammar(language, UNSPOKEN))
    found = dict(zip(types, spoken.segment_all(types)))
    detached = {word for word in types if not found[word].closed and written.accepts(word)}
    kept = [line for line in lines if detached.isdisjoint(line)]
    say(f"{language}: {len(lines) - len(kept)} sentences with an ending that stands alone left out")
    return kept, found


def vocabulary(
    language: str, counts: Counter[str], root_count: int, unseen_roots: bool
) -> list[str]:
    """The pieces that can be recognised.

    All affixes and letters of the grammar, seen or not, so that every form of a known root can be
    heard; roots that occur `root_count` times, and with `unseen_roots` every listed one.
    """
    kept = []
    for piece in Segmenter(load_grammar(language, UNSPOKEN)).pieces():
        if opens(piece) and len(bare(piece)) > 1:
            wanted = unseen_roots or counts[piece] >= root_count
        else:
            wanted = True
        if wanted:
            kept.append(piece)
    return kept


def build(arguments: argparse.Namespace) -> None:
    language, out = arguments.language, arguments.out
    begin = time.time()
    lines, found = segment_text(arguments.text, arguments.held_out, language)
    counts: Counter[str] = Counter()
    words: Counter[str] = Counter()
    for line in lines:
        words.update(line)
    for word, count in words.items():
        for piece in found[word].marked:
            counts[piece] += count
    closed = sum(count for word, count in words.items() if found[word].closed)
    say(
        f"{language}: {len(lines)} sentences, {sum(words.values())} words of {len(words)} types, "
        f"{closed / sum(words.values()):.3f} in the closed grammar, {sum(counts.values())} subwords "
        f"of {len(counts)} types, {time.time() - begin:.0f} s"
    )
    grammar = load_grammar(language)
    pieces = vocabulary(language, counts, arguments.root_count, arguments.unseen_roots)
    table = word_table(pieces, splice_states(grammar))
    out.mkdir(parents=True, exist_ok=True)
    table.write(out / "words.txt")
    say(f"{len(pieces)} subwords in the table")
    write_subwords(out, [(found[word], count) for word, count in words.items()], table)
    if arguments.vocabulary:
        write_vocabulary(out, words)
    known = Vocabulary.of_table(table)
    text = known.encode([piece for word in line for piece in found[word].marked] for line in lines)
    begin = time.time()
    model = train(
        text,
        known,
        arguments.order,
        min_counts=arguments.min_counts,
        max_ngrams=arguments.max_ngrams,
    )
    arpa = arguments.work / f"{language}.arpa"
    arguments.work.mkdir(parents=True, exist_ok=True)
    model.write_arpa(arpa)
    say(f"n-grams: {[len(order) for order in model.orders]}, {time.time() - begin:.0f} s")
    build_files(
        language,
        out / "words.txt",
        arguments.tokens,
        out,
        lm_path=arpa,
        variants=arguments.variants,
        seams=arguments.seams,
    )
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
    parser.add_argument("--order", type=int, default=3)
    parser.add_argument("--min-counts", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--max-ngrams", type=int, default=200_000)
    parser.add_argument("--root-count", type=int, default=2)
    parser.add_argument("--unseen-roots", action="store_true")
    parser.add_argument(
        "--vocabulary", action="store_true", help="the text's words, for `oov` (some MB)"
    )
    parser.add_argument("--acoustic-scale", type=float, help="found on development speech")
    parser.add_argument("--variants", action="store_true", help="optional pronunciations")
    parser.add_argument("--seams", choices=SEAMS, default=SEAMS[0], help="how L sees subword seams")
    try:
        build(parser.parse_args())
    except UyirError as error:
        say(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
