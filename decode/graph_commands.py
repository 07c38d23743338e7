"""Commands on language models and graphs: `uyir lm`, `uyir graph`."""

from __future__ import annotations

import json
import math
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import click

from uyir import LANGUAGES
from uyir.errors import UyirError

language_option = click.option(
    "--language", "-l", required=True, type=click.Choice(LANGUAGES), help="Language of the text."
)
json_option = click.option("--json", "as_json", is_flag=True, help="A JSON object on stdout.")
table_option = click.option(
    "--words", type=click.Path(path_type=Path), help="Word table: the vocabulary."
)


def _say(line: str) -> None:
    click.echo(line, err=True)


def _numbers(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, ...]:
    try:
        numbers = tuple(int(cell) for cell in value.split(",") if cell)
    except ValueError:
        raise click.BadParameter(f"want whole numbers with commas between, got {value!r}") from None
    if any(n < 1 for n in numbers):
        raise click.BadParameter("a count below 1")
    return numbers


def _some_sentences(files: Sequence[str], language: str) -> list[list[str]]:
    """The sentences of some files; raises `DataError` naming them if there are none."""
    from uyir.decode.lm import read_sentences
    from uyir.errors import DataError

    found = list(read_sentences(files, language))
    if not found:
        raise DataError("an empty text: not one sentence in it", ", ".join(files))
    return found


@click.group()
def lm() -> None:
    """Train, prune and measure n-gram language models over marked subwords."""


@lm.command()
@click.argument("files", nargs=-1, required=True)
@language_option
@click.option("--out", "-o", required=True, type=click.Path(path_type=Path), help="ARPA file.")
@click.option("--order", type=click.IntRange(1, 9), default=3, show_default=True)
@table_option
@click.option(
    "--min_counts",
    default="",
    callback=_numbers,
    help="Least counts of 2-grams, 3-grams …, with commas; the last goes for the rest, too.",
)
@click.option(
    "--prune",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="Drop n-grams whose loss raises the perplexity by less than this fraction.",
)
@click.option("--max_ngrams", type=int, help="Prune as hard as it takes to have so many n-grams.")
@click.option(
    "--memory",
    type=click.FloatRange(min=0.01),
    default=2.0,
    show_default=True,
    help="A longer text is sorted on disk, so many GB at a time.",
)
@click.option(
    "--scratch",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder for what does not fit into memory.  [default: the system's]",
)
@json_option
def train(
    files: tuple[str, ...],
    language: str,
    out: Path,
    order: int,
    words: Optional[Path],
    min_counts: tuple[int, ...],
    prune: float,
    max_ngrams: Optional[int],
    memory: float,
    scratch: Optional[Path],
    as_json: bool,
) -> None:
    """Estimate a model (modified Kneser-Ney) from FILES: sentences of marked subwords, one a line.

    FILES may be .gz, .xz or .bz2, or `-`. Without --words the vocabulary is what the text has; with it,
    every subword of the table has a probability and all others are unknown. The text is never in memory
    as a whole; with it, besides --memory, are the n-grams that --min_counts leaves.
    """
    import numpy as np

    from uyir.decode.graph_watch import memory_gb
    from uyir.decode.lm import UNK, Vocabulary, read_sentences
    from uyir.decode.lm import train as estimate
    from uyir.errors import DataError
    from uyir.lexicon.symbols import Symbols

    begun = time.monotonic()
    vocabulary = Vocabulary() if words is None else Vocabulary.of_table(Symbols.read(words))
    with tempfile.TemporaryDirectory(dir=scratch, prefix="uyir-text-") as folder:
        with (Path(folder) / "text").open("w+b") as file:
            tokens = vocabulary.encode_file(read_sentences(files, language), file)
            if not tokens:
                raise DataError("an empty corpus: not one sentence in it", ", ".join(files))
            text = np.memmap(file, np.int32, "r", shape=(tokens,))
        # Keys, their order, numbers and counts: some 90 bytes a token while a stretch is sorted.
        stretch = max(1000, int(memory * 2**30 / 90))
        unknown = int((text == vocabulary.id(UNK)).sum())
        _say(
            f"{tokens:,} tokens of {len(vocabulary):,} kinds, {unknown:,} of them unknown, "
            f"{time.monotonic() - begun:.1f} s"
        )
        model = estimate(
            text,
            vocabulary,
            order,
            min_counts=min_counts,
            prune=prune,
            max_ngrams=max_ngrams,
            stretch=stretch,
            scratch=folder if tokens > stretch else None,
        )
        del text
    try:
        model.write_arpa(out)
    except OSError as error:
        raise UyirError(f"{out}: {error.strerror}") from None
    seconds = time.monotonic() - begun
    peak = memory_gb()
    counts = [len(level) for level in model.orders]
    _say(f"{out}: {counts} n-grams, {seconds:.1f} s, {peak:.2f} GB at most")
    if as_json:
        report = {
            "tokens": tokens,
            "unknown": unknown,
            "vocabulary": len(vocabulary),
            "ngrams": counts,
            "seconds": round(seconds, 2),
            "peak_memory_gb": round(peak, 3),
        }
        click.echo(json.dumps(report))


@lm.command()
@click.argument("arpa", type=click.Path(path_type=Path))
@click.argument("files", nargs=-1, required=True)
@language_option
@json_option
def perplexity(arpa: Path, files: tuple[str, ...], language: str, as_json: bool) -> None:
    """Perplexity of the model ARPA on FILES: sentences of marked subwords, one a line.

    By subword, by word, and by letter (with one for the space after each word), so that units of any
    size compare. Unknown subwords are counted and left out.
    """
    from uyir.decode.lm import perplexity as measure
    from uyir.decode.lm import read_arpa

    found = measure(read_arpa(arpa), _some_sentences(files, language), language).as_dict()
    if as_json:
        click.echo(json.dumps(found))
    else:
        for name, value in found.items():
            click.echo(f"{name}\t{value:.4f}" if isinstance(value, float) else f"{name}\t{value}")


@lm.command()
@click.argument("arpas", nargs=-1, required=True, type=click.Path(path_type=Path))
@language_option
@click.option("--out", "-o", required=True, type=click.Path(path_type=Path), help="ARPA file.")
@click.option(
    "--held-out",
    multiple=True,
    help="Text that the weights are tuned on: marked subwords, a sentence a line.",
)
@click.option("--weights", help="Shares of 1 with commas between, instead of tuning.")
@json_option
def mix(
    arpas: tuple[Path, ...],
    language: str,
    out: Path,
    held_out: tuple[str, ...],
    weights: Optional[str],
    as_json: bool,
) -> None:
    """Interpolate the models ARPAS (one a corpus, say) into one, weighted as held-out text asks.

    Models that share a word table (`lm train --words`) have the same vocabulary; a piece that one does not
    know has no probability in it.
    """
    from uyir.decode.lm import mix as interpolate
    from uyir.decode.lm import perplexity as measure
    from uyir.decode.lm import read_arpa, tune_weights

    if bool(held_out) == (weights is not None):
        raise click.UsageError("give either --held-out TEXT or --weights")
    held = _some_sentences(held_out, language) if held_out else []
    models = [read_arpa(arpa) for arpa in arpas]
    if weights is None:
        shares = tune_weights(models, held)
    else:
        try:
            shares = tuple(float(cell) for cell in weights.split(","))
        except ValueError:
            raise click.UsageError(f"weights {weights!r} are not numbers") from None
    mixed = interpolate(models, shares)
    try:
        mixed.write_arpa(out)
    except OSError as error:
        raise UyirError(f"{out}: {error.strerror}") from None
    report: dict[str, object] = {
        "weights": {str(arpa): round(share, 6) for arpa, share in zip(arpas, shares)},
        "ngrams": [len(level) for level in mixed.orders],
    }
    if held_out:
        for name, model in ((str(out), mixed), *zip(map(str, arpas), models)):
            found = measure(model, held, language)
            _say(
                f"{name}: perplexity by letter {found.by_letter:.4f}, {found.oov_rate:.4f} unknown"
            )
    for arpa, share in zip(arpas, shares):
        _say(f"{share:.4f}\t{arpa}")
    if as_json:
        click.echo(json.dumps(report, ensure_ascii=False))


@lm.command()
@click.argument("arpa", type=click.Path(path_type=Path))
@click.argument("files", nargs=-1, required=True)
@language_option
@click.option("--out", "-o", required=True, type=click.Path(path_type=Path), help="ARPA file.")
@click.option(
    "--prune",
    "threshold",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="Drop n-grams whose loss raises the perplexity by less than this fraction.",
)
@click.option("--max_ngrams", type=int, help="Prune as hard as it takes to have so many n-grams.")
@json_option
def prune(
    arpa: Path,
    files: tuple[str, ...],
    language: str,
    out: Path,
    threshold: float,
    max_ngrams: Optional[int],
    as_json: bool,
) -> None:
    """Prune the model ARPA, an interpolated one, say; how common its histories are is counted in FILES.

    A model of one text is better pruned by `lm train`, which estimates the lower orders again.
    """
    from uyir.decode.lm import prune as pruned
    from uyir.decode.lm import read_arpa

    if not threshold and max_ngrams is None:
        raise click.UsageError("give --prune or --max_ngrams")
    text = _some_sentences(files, language)
    model = read_arpa(arpa)
    small = pruned(model, text, threshold=math.log1p(threshold), max_ngrams=max_ngrams)
    try:
        small.write_arpa(out)
    except OSError as error:
        raise UyirError(f"{out}: {error.strerror}") from None
    counts = [len(level) for level in small.orders]
    _say(f"{out}: {counts} n-grams of {[len(level) for level in model.orders]}")
    if as_json:
        click.echo(json.dumps({"ngrams": counts}))


@lm.command()
@click.argument("arpa", type=click.Path(path_type=Path))
@click.option(
    "--words", required=True, type=click.Path(path_type=Path), help="Word table of the graph."
)
@click.option(
    "--graph-lm",
    type=click.Path(path_type=Path),
    help="ARPA file that the graph was built with: its scores are taken away.",
)
@click.option("--out", "-o", required=True, type=click.Path(path_type=Path), help="Packed file.")
@json_option
def pack(arpa: Path, words: Path, graph_lm: Optional[Path], out: Path, as_json: bool) -> None:
    """Pack the model ARPA for rescoring: `uyir transcribe --rescore`, or LM.safetensors in a model's folder.

    The file is mapped, not read, and belongs to one word table and one graph (built with --graph-lm, or
    without a language model).
    """
    from uyir.decode.graph_files import file_sha256
    from uyir.decode.lm import read_arpa
    from uyir.decode.lm_store import write_packed

    begun = time.monotonic()
    model = read_arpa(arpa)
    first = None if graph_lm is None else read_arpa(graph_lm)
    meta = {
        "lm_sha256": file_sha256(arpa),
        "first_sha256": None if graph_lm is None else file_sha256(graph_lm),
    }
    size = write_packed(out, model, words, first=first, meta=meta)
    seconds = time.monotonic() - begun
    _say(
        f"{out}: {[len(level) for level in model.orders]} n-grams, {size:,} bytes, {seconds:.1f} s"
    )
    if as_json:
        report = {
            "ngrams": [len(level) for level in model.orders],
            "bytes": size,
            "seconds": round(seconds, 2),
        }
        click.echo(json.dumps(report))


@lm.command()
@click.argument("files", nargs=-1)
@language_option
@click.option(
    "--units",
    type=click.Path(path_type=Path),
    help="Table of units (`units train`).  [default: those of the grammar]",
)
@click.option("--out", "-o", required=True, type=click.Path(path_type=Path), help="Word table.")
def words(files: tuple[str, ...], language: str, units: Optional[Path], out: Path) -> None:
    """Write the word table that models and graphs share: every unit, and of the grammar's its splices.

    Given FILES, sentences of marked subwords, of the grammar's roots only those that they have twice are in,
    which makes for smaller models; all endings are.
    """
    from collections import Counter

    from uyir.decode.assemble import Assembly, unit_table
    from uyir.grammar.morphotactics import load_grammar, splice_states
    from uyir.grammar.units import GrammarUnits, make_units, read_units

    known = make_units("grammar", language, {}) if units is None else read_units(units)
    if known.language != language:
        raise click.UsageError(f"{units} has units of {known.language!r}")
    splices: Sequence[str] = ()
    if isinstance(known, GrammarUnits):
        splices = list(splice_states(load_grammar(language)))
    counts: Counter[str] = Counter()
    for sentence in _some_sentences(files, language) if files else ():
        counts.update(sentence)
    table = unit_table(known, counts, splices, Assembly(unseen_roots=not files))
    try:
        table.write(out)
    except OSError as error:
        raise UyirError(f"{out}: {error.strerror}") from None
    _say(f"{out}: {len(table):,} symbols")


@click.command()
@language_option
@click.option("--lm", "arpa", type=click.Path(path_type=Path), help="Language model (ARPA).")
@click.option("--words", required=True, type=click.Path(path_type=Path), help="Word table.")
@click.option("--tokens", required=True, type=click.Path(path_type=Path), help="Token table.")
@click.option("--out", "-o", required=True, type=click.Path(path_type=Path), help="Folder.")
@click.option("--no-lm", "no_lm", is_flag=True, help="Without a language model.")
@click.option("--no-sg", "no_sg", is_flag=True, help="Without the subword grammar.")
@click.option(
    "--sg-scale",
    type=click.FloatRange(0.0),
    default=0.0,
    show_default=True,
    help="Weight of the grammar's costs.",
)
@click.option(
    "--word-cost",
    type=float,
    default=0.0,
    show_default=True,
    help="What each word costs besides (natural logarithm): against too many spaces.",
)
@click.option(
    "--seams",
    type=click.Choice(("exact", "context-free")),
    default="exact",
    show_default=True,
    help="How a subword sounds: by rule over its whole word, or as if it stood alone.",
)
@click.option(
    "--lexicon",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Your pronunciations: word or subword, tab, phones, tab, weight.",
)
@click.option("--no-variants", is_flag=True, help="Canonical pronunciations only.")
@click.option(
    "--splice_cost", type=float, default=12.0, show_default=True, help="Cost of an added root."
)
@click.option(
    "--max_memory", type=float, default=6.0, show_default=True, help="Stop above so many GB."
)
@click.option(
    "--max_states", type=int, default=30_000_000, show_default=True, help="Stop above so many."
)
@click.option(
    "--k2", "for_k2", is_flag=True, help="Write HLG.pt for k2, too, without epsilons (needs k2)."
)
@click.option("--openfst", is_flag=True, help="Write HLG.fst for OpenFst, too.")
@json_option
def graph(
    language: str,
    arpa: Optional[Path],
    words: Path,
    tokens: Path,
    out: Path,
    no_lm: bool,
    no_sg: bool,
    sg_scale: float,
    word_cost: float,
    seams: str,
    lexicon: Optional[Path],
    no_variants: bool,
    splice_cost: float,
    max_memory: float,
    max_states: int,
    for_k2: bool,
    openfst: bool,
    as_json: bool,
) -> None:
    """Build a decoding graph, H ∘ (L ∘ (SG ∩ LM)), into the folder given by --out.

    Writes HLG.safetensors, which needs neither Pynini nor pickle to be read, and meta.json with a
    report: states, arcs, epsilons, bytes, peak memory, seconds. Back-off epsilons are kept there (an
    engine that can do with them searches the smaller graph); HLG.pt is the same graph without them.
    """
    from uyir.decode.graph_build import build_files
    from uyir.decode.graph_files import openfst_bytes
    from uyir.decode.graph_watch import Limits

    if (arpa is None) != no_lm:
        raise click.UsageError("give either --lm ARPA or --no-lm")
    built, report = build_files(
        language,
        words,
        tokens,
        out,
        lm_path=arpa,
        use_grammar=not no_sg,
        sg_scale=sg_scale,
        word_cost=word_cost,
        seams=seams,
        user_path=lexicon,
        variants=not no_variants,
        splice_cost=splice_cost,
        limits=Limits(max_states=max_states, max_memory=max_memory),
        say=_say,
    )
    if openfst:
        (out / "HLG.fst").write_bytes(openfst_bytes(built.arcs))
        _say(f"{out / 'HLG.fst'}: {(out / 'HLG.fst').stat().st_size:,} bytes")
    if for_k2:
        free = built.epsilon_free()
        report.epsilon_free_states, report.epsilon_free_arcs = free.num_states, free.num_arcs
        _say(f"without epsilons: {free.num_states:,} states, {free.num_arcs:,} arcs")
        try:
            import torch

            torch.save(free.to_k2().as_dict(), out / "HLG.pt")
        except ImportError as error:
            raise UyirError(f"HLG.pt was not written: k2 cannot be imported ({error})") from None
        _say(f"{out / 'HLG.pt'}: {(out / 'HLG.pt').stat().st_size:,} bytes")
    if as_json:
        click.echo(json.dumps(report.as_dict()))
    sys.stdout.flush()
