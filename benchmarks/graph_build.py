"""Our graph builder beside a plain OpenFst compose–determinise–minimise of the same L, SG and LM.

    python benchmarks/graph_build.py --language ta --text MARKED --test MARKED \\
        [--ngrams 100000 300000 1000000] [--order 3] [--least 2] [--limit 600] [--memory 10] [--out FOLDER]

MARKED are sentences of marked subwords (``uyir units segment``); what is seen less often than ``--least`` is unknown. For each number of n-grams a model is
trained on the text and pruned to it; perplexity on the test text is given as a ratio to the unpruned
model's. Then each builder makes LG over phones from the same word table, ARPA file, grammar and exact L,
in a process of its own with a limit of processor time and of memory (GB of address space). The reference reads:

    LG = T⁻¹ ∘ min(det(L ∘ (SG ∩ LM)))

by OpenFst (Pynini), L with disambiguation symbols, SG closed over sentences, ``#0`` for back-off. Seconds
are of processor time and of the clock. What does not finish is said so.
"""

from __future__ import annotations

import argparse
import json
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from uyir.decode.arcs import Arcs
from uyir.decode.graph_build import build_graph
from uyir.decode.graph_files import openfst_bytes
from uyir.decode.graph_parts import (
    BACKOFF,
    COST_UNIT,
    Grammar,
    LmAcceptor,
    grammar_tables,
    lm_acceptor,
    word_table,
)
from uyir.decode.graph_watch import Limits, memory_gb
from uyir.decode.lm import Vocabulary, perplexity, read_arpa, read_sentences, train
from uyir.errors import UyirError
from uyir.grammar.morphotactics import load_grammar, subword_acceptor
from uyir.lexicon.fst import phone_transducer
from uyir.lexicon.lexicon import build_letter_lexicon
from uyir.lexicon.symbols import Symbols, tokens_table


def _fst(arcs: Arcs) -> Any:
    import pynini

    with tempfile.NamedTemporaryFile(suffix=".fst") as file:
        file.write(openfst_bytes(arcs))
        file.flush()
        return pynini.Fst.read(file.name)


def model_fst(lm: LmAcceptor, backoff: int) -> Any:
    """The language model as an acceptor with back-off arcs."""
    source = np.repeat(np.arange(lm.num_states), np.diff(lm.begin))
    down = np.arange(1, lm.num_states)
    end = np.array(lm.end, dtype=np.float64)
    label = np.concatenate([lm.word, np.full(len(down), backoff)])
    return _fst(
        Arcs.build(
            np.concatenate([source, down]),
            np.concatenate([lm.target, np.array(lm.backoff)[1:]]),
            label,
            label,
            np.concatenate([lm.cost, np.array(lm.backoff_cost)[1:]]) * COST_UNIT,
            lm.start,
            np.where(end >= 0, end * COST_UNIT, np.inf),
        )
    )


def grammar_fst(sg: Grammar, backoff: int) -> Any:
    """The grammar closed over sentences, with loops that let back-off through."""
    rows = [
        (state, target, word)
        for state, table in enumerate(sg.follow)
        for word, (target, _) in table.items()
    ]
    rows += [(state, state, backoff) for state in range(len(sg.follow))]
    source, target, label = (np.array(column) for column in zip(*rows))
    final = np.full(len(sg.follow), np.inf)
    final[0] = 0.0
    return _fst(Arcs.build(source, target, label, label, np.zeros(len(rows)), 0, final))


def reference(language: str, arpa: Path, words: Symbols, say: Any) -> tuple[int, int]:
    """LG over phones the plain way; returns its states and arcs."""
    import pynini

    tokens = tokens_table()
    backoff = words.id(BACKOFF)
    sg = grammar_tables(subword_acceptor(load_grammar(language), words), words)
    model = model_fst(lm_acceptor(read_arpa(arpa), words), backoff)
    g = pynini.compose(grammar_fst(sg, backoff).arcsort("olabel"), model.arcsort("ilabel"))
    g.connect()
    say(f"G: {g.num_states():,} states")
    lexicon = build_letter_lexicon(words, language)
    lg = pynini.compose(lexicon.fst.arcsort("olabel"), g.arcsort("ilabel"))
    lg.connect()
    del g
    say(f"L o G: {lg.num_states():,} states")
    lg = pynini.determinize(lg)
    say(f"det: {lg.num_states():,} states")
    lg.minimize(allow_nondet=True)
    say(f"min: {lg.num_states():,} states")
    # Every disambiguation symbol is let through and is an epsilon afterwards.
    rules = phone_transducer(
        language,
        lexicon.letters,
        tokens,
        variants=False,
        transparent=dict.fromkeys(lexicon.disambig, 0),
    )
    rules.invert().arcsort("olabel")
    whole = pynini.compose(rules, lg.arcsort("ilabel"))
    whole.connect()
    return whole.num_states(), sum(whole.num_arcs(state) for state in whole.states())


def ours(language: str, arpa: Path, words: Symbols, say: Any) -> tuple[int, int]:
    """The same by `uyir.decode.graph_build`; returns states and arcs before H, which is made, too."""
    _, report = build_graph(
        language,
        words,
        tokens_table(),
        model=read_arpa(arpa),
        grammar=subword_acceptor(load_grammar(language), words),
        variants=False,
        limits=Limits(max_memory=1000.0),
        say=say,
    )
    return report.states, report.arcs


def _builder(arguments: argparse.Namespace) -> None:
    """One build in this process: what the parent has asked for."""
    most = int(arguments.memory * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CPU, (arguments.limit, arguments.limit + 1))
    begin = time.monotonic()
    builder = {"ours": ours, "openfst": reference}[arguments.builder]
    say = lambda line: print(line, file=sys.stderr, flush=True)  # noqa: E731
    states, arcs = builder(arguments.language, arguments.arpa, Symbols.read(arguments.words), say)
    used = resource.getrusage(resource.RUSAGE_SELF)
    row = {
        "states": states,
        "arcs": arcs,
        "seconds": round(time.monotonic() - begin, 1),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_memory_gb": round(memory_gb(), 2),
    }
    print(json.dumps(row))


def build(builder: str, arguments: argparse.Namespace, arpa: Path, words: Path) -> dict[str, Any]:
    """A build in a process of its own; ``failed`` says why there is no result."""
    command = [sys.executable, __file__, "--builder", builder, "--language", arguments.language]
    command += ["--arpa", str(arpa), "--words", str(words), "--memory", str(arguments.memory)]
    command += ["--limit", str(arguments.limit)]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if run.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        return {"failed": f"not finished after {arguments.limit} s of processor time"}
    if run.returncode:
        return {"failed": f"out of {arguments.memory:g} GB (status {run.returncode})"}
    return dict(json.loads(run.stdout))


def compare(arguments: argparse.Namespace, folder: Path) -> None:
    language = arguments.language
    counts: Counter[str] = Counter()
    for sentence in read_sentences([arguments.text], language):
        counts.update(sentence)
    table = word_table(piece for piece, count in counts.items() if count >= arguments.least)
    words = folder / "words.txt"
    table.write(words)
    known = Vocabulary.of_table(table)
    text = known.encode(read_sentences([arguments.text]))
    whole = train(text, known, arguments.order)

    def by_piece(model: Any) -> float:
        return perplexity(model, read_sentences([arguments.test]), language).by_piece

    unpruned = by_piece(whole)
    for most in arguments.ngrams:
        model = train(text, known, arguments.order, max_ngrams=most)
        arpa = folder / f"{most}.arpa"
        model.write_arpa(arpa)
        row: dict[str, Any] = {
            "language": language,
            "ngrams": len(model),
            "of": len(whole),
            "perplexity_ratio": round(by_piece(model) / unpruned, 4),
        }
        for builder in arguments.only or ("ours", "openfst"):
            row[builder] = build(builder, arguments, arpa, words)
        if all("failed" not in row.get(builder, {"failed": ""}) for builder in ("ours", "openfst")):
            for name in ("cpu_seconds", "peak_memory_gb"):
                row[f"{name}_ratio"] = round(row["openfst"][name] / row["ours"][name], 2)
        print(json.dumps(row), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--language", required=True)
    parser.add_argument("--text", type=Path, help="marked subwords to train on")
    parser.add_argument("--test", type=Path, help="marked subwords to measure on")
    parser.add_argument("--ngrams", type=int, nargs="*", default=[100_000, 300_000, 1_000_000])
    parser.add_argument("--order", type=int, default=3)
    parser.add_argument("--least", type=int, default=2, help="least count of a subword")
    parser.add_argument("--limit", type=int, default=600, help="processor seconds a build")
    parser.add_argument("--memory", type=float, default=10.0, help="GB a build")
    parser.add_argument("--only", action="append", choices=("ours", "openfst"))
    parser.add_argument("--out", type=Path, help="keep the models here")
    for hidden in ("--builder", "--arpa", "--words"):
        parser.add_argument(
            hidden, type=str if hidden == "--builder" else Path, help=argparse.SUPPRESS
        )
    arguments = parser.parse_args()
    try:
        if arguments.builder:
            _builder(arguments)
        elif not (arguments.text and arguments.test):
            parser.error("give --text and --test")
        elif arguments.out:
            arguments.out.mkdir(parents=True, exist_ok=True)
            compare(arguments, arguments.out)
        else:
            with tempfile.TemporaryDirectory() as folder:
                compare(arguments, Path(folder))
    except UyirError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
