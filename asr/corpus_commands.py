"""Commands on corpora and recipes: ``uyir corpus`` and ``uyir recipe``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Optional

import click

from uyir.errors import DataError


def _say(line: str) -> None:
    click.echo(line, err=True)


@click.group()
def corpus() -> None:
    """Make training manifests of recordings with transcripts; convert between toolkits."""


_SOURCE = click.argument("source", type=click.Path(path_type=Path))
_OUT = click.option("--out", required=True, type=click.Path(path_type=Path))
_LANGUAGE = click.option("--language", "-l", help="ta or kn; needed where the corpus does not say.")
_MAX = click.option(
    "--max-seconds",
    type=click.FloatRange(0.1),
    default=60.0,
    show_default=True,
    help="Leave longer ones out.",
)


@corpus.command()
@_SOURCE
@_OUT
@_LANGUAGE
@_MAX
@click.option(
    "--dev", type=click.FloatRange(0, 0.9), default=0.05, show_default=True, help="Share held out."
)
@click.option(
    "--test", type=click.FloatRange(0, 0.9), default=0.05, show_default=True, help="Share held out."
)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--thorough", is_flag=True, help="Read every recording, not only its header.")
def prepare(
    source: Path,
    out: Path,
    language: Optional[str],
    max_seconds: float,
    dev: float,
    test: float,
    seed: int,
    thorough: bool,
) -> None:
    """Make train.tsv, dev.tsv and test.tsv of SOURCE, by speaker where three or more are known.

    SOURCE is a folder of audio with text files, a Kaldi directory, NeMo's or Lhotse's lists, CSV or
    TSV. What cannot be used is counted and listed in left_out.tsv.
    """
    from uyir.asr.corpus import read_corpus
    from uyir.asr.prepare import prepare as run
    from uyir.asr.prepare import split, write_left_out, write_manifest

    found = read_corpus(source)
    rows = run(found, language, max_seconds=max_seconds, thorough=thorough, say=_say)
    write_left_out(out / "left_out.tsv", found)
    if found.problems:
        _say(f"left out: {found.summary()} ({out / 'left_out.tsv'})")
    if not rows:
        raise DataError("nothing in it can be trained on", source)
    rest, test_rows = split(rows, test, seed) if test else (rows, [])
    # Of the whole, not of what the test part has left.
    share = min(0.9, dev / (1 - test))
    train_rows, dev_rows = split(rest, share, seed + 1) if dev else (rest, [])
    for name, part in (("train", train_rows), ("dev", dev_rows), ("test", test_rows)):
        write_manifest(out / f"{name}.tsv", part)
        hours = sum(row.duration for row in part) / 3600
        click.echo(f"{out / name}.tsv: {len(part)} utterances, {hours:.2f} h")


@corpus.command()
@_SOURCE
@_OUT
@click.option("--language", "-l", required=True, type=click.Choice(["ta", "kn"]))
def mile(source: Path, out: Path, language: str) -> None:
    """Make manifests of an unpacked IISc-MILE corpus: its own split, and one by speakers."""
    from uyir.asr.mile import prepare_mile

    prepare_mile(source, language, out, _say)


@corpus.command("common-voice")
@_SOURCE
@_OUT
@_LANGUAGE
@_MAX
def common_voice(source: Path, out: Path, language: Optional[str], max_seconds: float) -> None:
    """Make manifests of an unpacked Common Voice release: SOURCE has train.tsv and clips/."""
    from uyir.asr.corpus import Corpus, read_corpus
    from uyir.asr.prepare import prepare as run
    from uyir.asr.prepare import write_left_out, write_manifest

    if not (source / "clips").is_dir():
        raise DataError("no folder clips in it: want a language's folder of a release", source)
    problems = Corpus()
    for part in ("train", "dev", "test"):
        path = source / f"{part}.tsv"
        if not path.is_file():
            raise DataError("missing from the release", path)
        found = read_corpus(path)
        found.spoken = [
            dataclasses.replace(s, audio=source / "clips" / s.audio.name) for s in found.spoken
        ]
        rows = run(found, language, max_seconds=max_seconds, say=_say)
        write_manifest(out / f"{part}.tsv", rows)
        problems.problems += found.problems
        hours = sum(row.duration for row in rows) / 3600
        click.echo(f"{out / part}.tsv: {len(rows)} utterances, {hours:.2f} h")
    write_left_out(out / "left_out.tsv", problems)
    if problems.problems:
        _say(f"left out: {problems.summary()} ({out / 'left_out.tsv'})")


@corpus.command()
@_SOURCE
@_OUT
@_LANGUAGE
@click.option("--to", "kind", required=True, type=click.Choice(["kaldi", "nemo", "lhotse", "tsv"]))
def convert(source: Path, out: Path, language: Optional[str], kind: str) -> None:
    """Write SOURCE as a Kaldi directory, NeMo's JSON Lines, Lhotse cuts or our manifest, in OUT."""
    from uyir.asr.corpus import read_corpus
    from uyir.asr.prepare import prepare as run
    from uyir.asr.prepare import (
        write_kaldi,
        write_left_out,
        write_lhotse,
        write_manifest,
        write_nemo,
    )

    found = read_corpus(source)
    rows = run(found, language, max_seconds=float("inf"), say=_say)
    if found.problems:
        write_left_out(out / "left_out.tsv", found)
        _say(f"left out: {found.summary()} ({out / 'left_out.tsv'})")
    if not rows:
        raise DataError("nothing in it can be used", source)
    if kind == "kaldi":
        write_kaldi(out, rows)
    elif kind == "nemo":
        write_nemo(out / "manifest.jsonl", rows)
    elif kind == "lhotse":
        write_lhotse(out, rows)
    else:
        write_manifest(out / "manifest.tsv", rows)
    click.echo(f"{out}: {len(rows)} utterances")


@click.group()
def recipe() -> None:
    """Run a corpus's stages from its files to a scored model."""


@recipe.command("list")
def list_() -> None:
    """Name the recipes, their settings and stages."""
    from uyir.asr.recipe import list_recipes, read_values

    for folder in list_recipes():
        values = read_values(folder)
        click.echo(f"{folder.name}: {values.get('summary', '')}")
        for name, default in (values.get("settings") or {}).items():
            click.echo(f"  --set {name}={'...' if default is None else default}")
        click.echo(f"  stages: {' '.join(str(stage['name']) for stage in values['stages'])}")


@recipe.command()
@click.argument("name")
@click.option("--stage", metavar="A..B", help="Only these stages; A.., ..B and A do as well.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A recipe's setting.")
@click.option("--out", type=click.Path(path_type=Path), help="Output folder; by default exp/NAME.")
@click.option("--force", is_flag=True, help="Run stages even if nothing changed.")
def run(
    name: str, stage: Optional[str], settings: tuple[str, ...], out: Optional[Path], force: bool
) -> None:
    """Run the recipe NAME, or a folder with a recipe.yaml; stages that are done are skipped."""
    from uyir.asr.recipe import choose_stages, find_recipe, read_recipe, run_stages

    folder = find_recipe(name)
    given = {}
    for setting in settings:
        key, sign, value = setting.partition("=")
        if not sign:
            raise click.UsageError(f"--set {setting}: want NAME=VALUE")
        given[key] = value
    found = read_recipe(folder, (out or Path("exp") / folder.name).resolve(), given)
    ran = run_stages(found, choose_stages(found, stage), _say, force)
    click.echo(f"{folder.name}: {len(ran)} stages run ({', '.join(ran) or 'none'})")
