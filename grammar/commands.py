"""Commands on words: `uyir segment`, `uyir join`, `uyir grammar`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import click

from uyir.errors import ScriptError, UyirError
from uyir.grammar.script import is_wellformed, normalise
from uyir.grammar.text import count_words, read_blocks, read_lines

if TYPE_CHECKING:
    from uyir.grammar.segment import Segmentation, Segmenter

language_option = click.option(
    "--language", "-l", required=True, help="Language of the text: ta or kn."
)
json_option = click.option("--json", "as_json", is_flag=True, help="JSON Lines on stdout.")
weights_option = click.option(
    "--weights",
    type=click.Path(path_type=Path),
    help="Costs of `uyir grammar train` instead of those of the lists.",
)


#: How many words' segmentations `uyir segment` keeps: running text repeats its words.
MOST_WORDS = 100_000


def _blocks(items: tuple[str, ...], text: bool) -> Iterator[list[str]]:
    """Lines of words: arguments are words, or files (``-`` for stdin) with `text`."""
    if text or items in ((), ("-",)):
        for path in items or ("-",):
            yield from read_blocks(path)
    else:
        yield [" ".join(items)]


@click.command()
@click.argument("items", metavar="[WORD...|-]", nargs=-1)
@language_option
@json_option
@click.option("--file", "from_files", is_flag=True, help="The arguments are text files.")
@click.option("--sentences", is_flag=True, help="One line of marked subwords a line of input.")
@click.option(
    "--pieces", is_flag=True, help="Spell unknown roots, too, as language models know them."
)
@weights_option
def segment(
    items: tuple[str, ...],
    language: str,
    as_json: bool,
    from_files: bool,
    sentences: bool,
    pieces: bool,
    weights: Optional[Path],
) -> None:
    """Cut words into marked subwords (`m`, `m+`, `+m+`, `+m`).

    Prints word, morphemes, `closed` (the grammar accepts it) or `open`, category: a line a word.
    A root that no list has is one morpheme; --pieces spells it in the subwords of language models and
    graphs, as --sentences always does. JSON has both.
    What is not a well-formed word of the language is reported on stderr and costs exit code 1;
    the rest is done.
    """
    from uyir.grammar.segment import load_segmenter
    from uyir.grammar.weights import weighted_segmenter

    segmenter = (
        load_segmenter(language) if weights is None else weighted_segmenter(language, weights)
    )
    failures = done = 0
    known: dict[str, Optional[Segmentation]] = {}
    for block in _blocks(items, from_files):
        lines = [normalise(line, language).split() for line in block]
        new = {word: None for line in lines for word in line if word not in known}
        if len(known) + len(new) > MOST_WORDS:
            known.clear()
            new = {word: None for line in lines for word in line}
        known.update(segmenter.segment_known(new))
        out: list[str] = []
        for number, line in enumerate(lines, start=done + 1):
            good = [result for result in map(known.__getitem__, line) if result is not None]
            if len(good) < len(line):
                failures += len(line) - len(good)
                _say_what_is_wrong(segmenter, [w for w in line if known[w] is None], number)
            if sentences:
                out.append(" ".join([marked for result in good for marked in result.marked]))
            else:
                shown = (
                    partial(_as_json, segmenter)
                    if as_json
                    else partial(_as_text, segmenter, pieces)
                )
                out += map(shown, good)
        done += len(lines)
        if out:
            click.echo("\n".join(out))
    if failures:
        sys.exit(1)


def _say_what_is_wrong(segmenter: Segmenter, words: Iterable[str], line: int) -> None:
    for word in words:
        try:
            segmenter.segment(word)
        except ScriptError as error:
            click.echo(f"line {line}: {error}", err=True)


def _as_text(segmenter: Segmenter, pieces: bool, result: Segmentation) -> str:
    state = "closed" if result.closed else "open"
    cut = result.subwords if pieces else segmenter.morphemes(result)
    marked = " ".join([subword.marked for subword in cut])
    return f"{result.word}\t{marked}\t{state}\t{result.category}"


def _as_json(segmenter: Segmenter, result: Segmentation) -> str:
    return json.dumps(
        {
            "word": result.word,
            "morphemes": [subword._asdict() for subword in segmenter.morphemes(result)],
            "subwords": [subword._asdict() for subword in result.subwords],
            "closed": result.closed,
            "category": result.category,
            "cost": result.cost,
        },
        ensure_ascii=False,
    )


@click.command()
@click.argument("items", metavar="[SUBWORD...|-]", nargs=-1)
@language_option
@json_option
def join(items: tuple[str, ...], language: str, as_json: bool) -> None:
    """Join marked subwords into words: a sentence a line."""
    from uyir.grammar.join import join_sentence

    failures = 0
    lines = read_lines("-") if items in ((), ("-",)) else [" ".join(items)]
    for number, line in enumerate(lines, start=1):
        try:
            words = join_sentence(line.split(), language)
        except ScriptError as error:
            failures += 1
            click.echo(f"line {number}: {error}", err=True)
            words = []
        if as_json:
            click.echo(json.dumps({"subwords": line.split(), "words": words}, ensure_ascii=False))
        else:
            click.echo(" ".join(words))
    if failures:
        sys.exit(1)


@click.group()
def grammar() -> None:
    """Compile, check, measure and explain a language's grammar."""


@grammar.command("compile")
@language_option
@click.option("--out", type=click.Path(path_type=Path), help="Write SG (OpenFst) and words.txt.")
@click.option("--without", multiple=True, help="Switch entries off by feature: style=colloquial.")
@weights_option
def compile_command(
    language: str, out: Optional[Path], without: tuple[str, ...], weights: Optional[Path]
) -> None:
    """Expand the lists and compile the subword grammar (SG-WFST).

    SG is a plain constraint; with --weights its arcs have their costs.
    """
    from uyir.grammar.morphotactics import load_grammar, subword_acceptor
    from uyir.grammar.segment import Segmenter
    from uyir.grammar.weights import Weights
    from uyir.lexicon.symbols import Symbols

    begin = time.time()
    machine = load_grammar(language, frozenset(without))
    if weights is not None:
        machine = Weights.read(weights).apply(machine)
    arcs = sum(map(len, machine.arcs))
    click.echo(f"entries\t{len(machine.entries)}")
    click.echo(f"states\t{len(machine.states)}")
    click.echo(f"arcs\t{arcs}")
    click.echo(f"expand_s\t{time.time() - begin:.1f}")
    begin = time.time()
    words = Symbols(["<eps>", *Segmenter(machine).pieces()])
    sg = subword_acceptor(machine, words, weighted=weights is not None)
    click.echo(f"subwords\t{len(words) - 1}")
    click.echo(f"sg_states\t{sg.num_states()}")
    click.echo(f"sg_arcs\t{sum(sg.num_arcs(s) for s in sg.states())}")
    click.echo(f"sg_s\t{time.time() - begin:.1f}")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        words.write(out / "words.txt")
        sg.write(str(out / "SG.fst"))


@grammar.command()
@language_option
def check(language: str) -> None:
    """Check every list: columns, letters, classes, unused or derivable entries, order."""
    from uyir.grammar.check import check_language

    problems = check_language(language)
    for problem in problems:
        click.echo(problem)
    if problems:
        raise UyirError(f"{language}: {len(problems)} problems in the lists")
    click.echo(f"{language}: lists are sound")


@grammar.command()
@language_option
@json_option
@click.option("--failures", "shown", default=50, show_default=True, help="How many to list.")
@click.option(
    "--roots-from",
    multiple=True,
    metavar="TEXT",
    help="Report coverage by the roots that occur in this other text, too; may be repeated.",
)
@click.argument("files", nargs=-1, required=True)
def coverage(
    language: str, as_json: bool, shown: int, roots_from: tuple[str, ...], files: tuple[str, ...]
) -> None:
    """Share of running words and of word types that the grammar accepts, on any text.

    closed: accepted without an unknown root, with and without an affix. open: cut and joined again
    without loss. known_roots: closed, with no root but those found in --roots-from.
    """
    from uyir.grammar.coverage import attested_roots, measure
    from uyir.grammar.segment import load_segmenter

    segmenter = load_segmenter(language)
    known = attested_roots(segmenter, count_words(roots_from, language)) if roots_from else None
    report, refused = measure(segmenter, count_words(files, language), known)
    failures = refused.most_common(shown)
    if as_json:
        click.echo(json.dumps({**report, "failures": failures}, ensure_ascii=False))
        return
    for kind, values in report.items():
        for name, value in values.items():
            click.echo(f"{kind}.{name}\t{value}")
    for word, count in failures:
        click.echo(f"{count}\t{word}")


@grammar.command()
@language_option
@click.argument("files", nargs=-1, required=True)
def unattested(language: str, files: tuple[str, ...]) -> None:
    """List the roots of which no form occurs in some texts: form, class, gloss, file and line."""
    from uyir.grammar.coverage import unattested_roots
    from uyir.grammar.segment import load_segmenter

    for entry in unattested_roots(load_segmenter(language), count_words(files, language)):
        place = f"{entry.category}/{entry.path.name}:{entry.line}"
        click.echo(f"{entry.form}\t{' '.join(entry.classes)}\t{entry.gloss}\t{place}")


@grammar.command()
@language_option
@click.argument("words", nargs=-1, required=True)
def why(language: str, words: tuple[str, ...]) -> None:
    """Show the path of a word through the grammar, or how far a rejected word gets."""
    from uyir.grammar.segment import load_segmenter

    segmenter = load_segmenter(language)
    for word in words:
        if not is_wellformed(word, language):
            raise ScriptError(f"{word!r} is not a well-formed word of {language!r}")
        if segmenter.accepts(word):
            click.echo(f"{word}: accepted")
        else:
            reached, states = segmenter.furthest(word)
            click.echo(f"{word}: not in the closed grammar; it gets to {reached!r}, then wants:")
            click.echo("  " + " ".join(states[:20]))
            click.echo("  open analysis:")
        for piece, entry, state in segmenter.path(word):
            if entry is None:
                click.echo(f"  {piece}\tunknown root\t→ {state}")
            else:
                source = f"{entry.category}/{entry.path.name}:{entry.line}"
                click.echo(f"  {piece}\t{entry.form}\t{entry.gloss}\t{source}\t→ {state}")


@grammar.command()
@language_option
@click.option("--size", default=1500, show_default=True, help="How many chunks.")
@click.argument("files", nargs=-1, required=True)
def chunks(language: str, size: int, files: tuple[str, ...]) -> None:
    """Learn the pieces of unknown roots from text; prints chunks.tsv."""
    from uyir.grammar.chunks import chunk_table, learn_chunks, unknown_roots
    from uyir.grammar.segment import load_segmenter

    roots = unknown_roots(load_segmenter(language), count_words(files, language))
    for line in chunk_table(learn_chunks(roots, language, size), language):
        click.echo(line)


@grammar.command()
@language_option
@click.option("--method", type=click.Choice(["em", "viterbi"]), default="em", show_default=True)
@click.option("--iterations", type=click.IntRange(1), default=10, show_default=True)
@click.option(
    "--smoothing",
    type=click.FloatRange(0, min_open=True),
    default=0.1,
    show_default=True,
    help="Added at the end to the count of every choice of the grammar, seen or not.",
)
@click.option("--output", "-o", type=click.Path(path_type=Path), required=True)
@click.argument("files", metavar="TEXT...", nargs=-1, required=True)
def train(
    language: str,
    method: str,
    iterations: int,
    smoothing: float,
    output: Path,
    files: tuple[str, ...],
) -> None:
    """Learn weights of the lists' entries from text, by maximum likelihood.

    Prints the log-likelihood of the words that the closed grammar accepts after each iteration; the
    others are counted and left out. `uyir segment --weights` and `uyir grammar compile --weights` use
    the table that is written.
    """
    from uyir.grammar.morphotactics import load_grammar
    from uyir.grammar.weights import train as train_weights

    result = train_weights(
        load_grammar(language),
        count_words(files, language),
        method,
        iterations,
        smoothing,
        lambda done, value: click.echo(f"log_likelihood\t{done}\t{value:.4f}"),
    )
    result.weights.write(output, f"{language} {method}, smoothing {smoothing:g}")
    for name in ("closed_tokens", "closed_types", "open_tokens", "open_types"):
        click.echo(f"{name}\t{getattr(result, name)}")


@grammar.command()
@language_option
@click.option("--category", required=True, help="Which folder of lists to draw.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["svg", "dot"]),
    default="svg",
    show_default=True,
    help="svg: a picture (needs Graphviz); dot: its source.",
)
def draw(language: str, category: str, kind: str) -> None:
    """Print a drawing of one category's states and the pieces that lead from each to the next."""
    from uyir.grammar.check import draw_category, render_svg

    drawing = draw_category(language, category)
    click.echo(render_svg(drawing) if kind == "svg" else drawing, nl=False)
