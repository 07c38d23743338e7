"""`uyir score` and `uyir compare`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Optional, TypeVar

import click

from uyir import LANGUAGES
from uyir.errors import DataError

#: `uyir.decode.score.FORMATS`, which would import what --help has no need of.
FORMS = ("txt", "kaldi", "trn", "ctm", "stm", "csv", "tsv", "json")

_Command = TypeVar("_Command", bound=Callable[..., Any])
_COMMON = (
    click.option(
        "--language", "-l", required=True, type=click.Choice(LANGUAGES), help="Language spoken."
    ),
    click.option("--ref_format", type=click.Choice(FORMS), help="Where REF's name does not say."),
    click.option("--hyp_format", type=click.Choice(FORMS), help="Where HYP's name does not say."),
    click.option("--ref_column", help="Column or key of the reference's text."),
    click.option("--hyp_column", help="Column or key of the hypothesis's text."),
    click.option(
        "--full_paths", is_flag=True, help="Ids that are paths stay so; else the file's name is it."
    ),
    click.option(
        "--missing",
        type=click.Choice(["count", "skip", "error"]),
        default="count",
        show_default=True,
        help="Utterances that HYP lacks: all their words are deleted, they are left out, an error.",
    ),
    click.option(
        "--extra",
        type=click.Choice(["count", "skip", "error"]),
        default="skip",
        show_default=True,
        help="Utterances that REF lacks: all their words are inserted, they are left out, an error.",
    ),
    click.option(
        "--costs",
        type=click.Choice(["unit", "sclite"]),
        default="unit",
        show_default=True,
        help="Of words: 1 each, as jiwer; or substitution 4, deletion and insertion 3, as sclite.",
    ),
    click.option(
        "--metadata",
        multiple=True,
        type=click.Path(),
        help="What is known of utterances: .csv, .tsv, .jsonl with ids, or Kaldi's utt2spk.",
    ),
    click.option(
        "--speaker_pattern",
        help="Regular expression that finds the speaker in an id, by its first group.",
    ),
    click.option("--by", multiple=True, help="Column of metadata to make a table by."),
    click.option(
        "--draws", type=click.IntRange(0), default=1000, show_default=True, help="Of the bootstrap."
    ),
    click.option(
        "--grammar/--no_grammar",
        default=True,
        show_default=True,
        help="Load the grammar, for categories, parts of words and sandhi variants.",
    ),
    click.option("--any_script", is_flag=True, help="Score texts in another script, too."),
)


def _common(command: _Command) -> _Command:
    for option in reversed(_COMMON):
        command = option(command)
    return command


def _score(
    ref: str,
    hyp: str,
    *,
    language: str,
    ref_format: Optional[str],
    hyp_format: Optional[str],
    ref_column: Optional[str],
    hyp_column: Optional[str],
    full_paths: bool,
    metadata: Iterable[str],
    vocabulary: Optional[str] = None,
    **options: Any,
) -> Any:
    import re

    from uyir.decode.score.report import Options, read_vocabulary, score_files

    pattern = options["speaker_pattern"]
    try:
        re.compile(pattern or "")
    except re.error as error:
        raise click.BadParameter(f"--speaker_pattern {pattern!r}: {error}") from None
    known = read_vocabulary(vocabulary, language) if vocabulary is not None else None
    options["by"] = tuple(options["by"])
    report = score_files(
        ref,
        hyp,
        language,
        ref_form=ref_format,
        hyp_form=hyp_format,
        ref_column=ref_column,
        hyp_column=hyp_column,
        full_paths=full_paths,
        metadata=metadata,
        options=Options(language, vocabulary=known, **options),
    )
    for note in report.notes:
        click.echo(f"uyir: {note}", err=True)
    for names, what in ((report.missing, "missing from"), (report.extra, "extra in")):
        if names:
            click.echo(f"uyir: {len(names)} utterances are {what} {report.hyp_path}", err=True)
    return report


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataError(error.strerror or str(error), path) from None


@click.command()
@click.argument("ref", type=click.Path())
@click.argument("hyp", type=click.Path())
@_common
@click.option(
    "--vocabulary", type=click.Path(), help="Words, one a line: rates in it and out of it."
)
@click.option("--html", type=click.Path(path_type=Path), help="Write the report as one page there.")
@click.option(
    "--errs", type=click.Path(path_type=Path), help="Write icefall's file of errors there."
)
@click.option(
    "--audio_root",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Where the recordings are, for the page's players.",
)
@click.option("--embed_audio", is_flag=True, help="Put the recordings into the page.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of tables.")
@click.option(
    "--top", type=click.IntRange(0), default=100, show_default=True, help="Words a list in JSON."
)
def score(
    ref: str,
    hyp: str,
    html: Optional[Path],
    errs: Optional[Path],
    audio_root: Optional[Path],
    embed_audio: bool,
    as_json: bool,
    top: int,
    **options: Any,
) -> None:
    """Compare recognised text HYP with reference REF: word and letter error rates.

    Either is a file, a folder of transcripts, or - for stdin. Utterances are matched by id:
    .txt (a line an utterance, by number), .trn, .ctm, .stm, .csv, .tsv, .json, .jsonl (ours, NeMo's
    manifests: `text` is the reference, `pred_text` the hypothesis), and Kaldi's text.
    """
    if ref == hyp == "-":
        raise click.UsageError("REF and HYP cannot both be stdin")
    if html is None and (audio_root is not None or embed_audio):
        raise click.UsageError("--audio_root and --embed_audio are for the page: --html FILE")
    from uyir.decode.score.report import no_collector

    with no_collector():
        report = _score(ref, hyp, **options)
        if html is not None:
            from uyir.decode.score.page import write_page

            write_page(report, html, audio_root=audio_root, embed_audio=embed_audio)
            click.echo(f"uyir: wrote {html}", err=True)
        if errs is not None:
            from uyir.decode.score.errs import errs_lines

            _write(errs, "".join(f"{line}\n" for line in errs_lines(report)))
            click.echo(f"uyir: wrote {errs}", err=True)
        if as_json:
            from uyir.decode.score.report import to_dict

            click.echo(json.dumps(to_dict(report, top), ensure_ascii=False))
        else:
            from uyir.decode.score.terminal import write

            write(report, sys.stdout)


@click.command()
@click.argument("hyps", nargs=-1, required=True, type=click.Path())
@click.option(
    "--ref",
    "-r",
    type=click.Path(),
    help="The reference; each HYP itself where it has both texts, as NeMo's manifests do.",
)
@_common
@click.option("--name", "names", multiple=True, help="Of a system, in order.  [default: its file]")
@click.option(
    "--output_format",
    "-f",
    type=click.Choice(["markdown", "latex"]),
    default="markdown",
    show_default=True,
)
@click.option(
    "--differences",
    type=click.Path(path_type=Path),
    help="Write there (TSV) in which utterances the systems differ from the first.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def compare(
    hyps: tuple[str, ...],
    ref: Optional[str],
    names: tuple[str, ...],
    output_format: str,
    differences: Optional[Path],
    as_json: bool,
    **options: Any,
) -> None:
    """Compare systems HYPS by one reference, as a table for a paper.

    The others are compared with the first: matched pairs (MAPSSWE) and the bootstrap say whether
    they differ.
    """
    if names and len(names) != len(hyps):
        raise click.UsageError(f"{len(names)} names for {len(hyps)} systems")
    from uyir.decode.score import systems

    labels = names or tuple(_labels(hyps))
    reports = [_score(ref if ref is not None else hyp, hyp, **options) for hyp in hyps]
    found = systems.compare_reports(labels, reports)
    if differences is not None:
        _write(differences, "".join(f"{line}\n" for line in systems.difference_lines(found)))
        click.echo(f"uyir: wrote {differences}", err=True)
    if as_json:
        click.echo(json.dumps(systems.to_dict(found), ensure_ascii=False))
    else:
        table = systems.latex if output_format == "latex" else systems.markdown
        click.echo(table(found), nl=False)


def _labels(hyps: Iterable[str]) -> list[str]:
    """File names without ending where these differ, else the paths."""
    paths = list(hyps)
    stems = [Path(path).stem for path in paths]
    return stems if len(set(stems)) == len(stems) else paths
