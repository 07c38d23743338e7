"""`uyir transcribe`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import click

from uyir import LANGUAGES
from uyir.errors import UyirError

if TYPE_CHECKING:
    from uyir.decode.transcribe import Transcript

FORMATS = ("txt", "json", "srt", "vtt", "tsv", "ctm", "trn")

language_option = click.option(
    "--language", "-l", required=True, type=click.Choice(LANGUAGES), help="Language spoken."
)


def _formats(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    names = FORMATS if value == "all" else tuple(dict.fromkeys(value.split(",")))
    for name in names:
        if name not in FORMATS:
            raise click.BadParameter(
                f"unknown format {name!r}; there are {', '.join(FORMATS)} and all"
            )
    return names


@click.command()
@click.argument("audio", nargs=-1, required=True)
@language_option
@click.option("--model", help="Model folder, or the name of a bundled model.")
@click.option("--engine", type=click.Choice(["kaldi", "k2"]), help="Search engine.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1 …")
@click.option("--output_dir", "-o", type=click.Path(path_type=Path), help="Write files there.")
@click.option(
    "--output_format",
    "-f",
    "formats",
    default="txt",
    show_default=True,
    callback=_formats,
    help="txt, json, srt, vtt, tsv, ctm, trn, several with commas, or all.",
)
@click.option("--json", "as_json", is_flag=True, help="JSON Lines on stdout, an object an input.")
@click.option("--beam", type=float, default=14.0, show_default=True, help="Search beam (log).")
@click.option("--max_active", type=int, default=7000, show_default=True, help="States a frame.")
@click.option("--nbest", type=int, default=1, show_default=True, help="Readings a segment.")
@click.option(
    "--acoustic_scale",
    type=float,
    help="Weight of the network against the graph.  [default: the model's]",
)
@click.option("--batch_size", type=int, default=16, show_default=True, help="Segments at once.")
@click.option("--threads", type=int, default=1, show_default=True, help="Cores to use on a CPU.")
def transcribe(
    audio: tuple[str, ...],
    language: str,
    model: Optional[str],
    engine: Optional[str],
    device: str,
    output_dir: Optional[Path],
    formats: tuple[str, ...],
    as_json: bool,
    beam: float,
    max_active: int,
    nbest: int,
    acoustic_scale: Optional[float],
    batch_size: int,
    threads: int,
) -> int:
    """Transcribe recordings (wav, flac, ogg, mp3 …); folders are searched for them.

    Without an output folder the text goes to stdout, after the file's name and a tab if there is more
    than one input. A recording that cannot be done is named on stderr, the others are done,
    and the exit code is 1.
    """
    if output_dir is None and len(formats) != 1:
        raise click.UsageError("several formats want an --output_dir to go to")
    if output_dir is not None and as_json:
        raise click.UsageError("--json is for stdout; with --output_dir use --output_format json")

    import torch

    from uyir.decode.engines import SearchOptions
    from uyir.decode.output import WRITERS, find_inputs, write_outputs
    from uyir.decode.output import as_json as to_json
    from uyir.decode.transcribe import load

    begin = time.perf_counter()
    torch.set_num_threads(threads)
    options = SearchOptions(
        beam=beam,
        max_active=max_active,
        nbest=nbest,
        acoustic_scale=1.0 if acoustic_scale is None else acoustic_scale,
        threads=threads,
    )
    inputs, problems = find_inputs(audio)
    recogniser = load(
        model,
        engine=engine,
        device=device,
        options=options,
        batch_size=batch_size,
        tuned=acoustic_scale is None,
    )
    recogniser.language(language)  # what the model lacks is said before any work
    for problem in problems:
        _say(problem)
    failures, seconds = len(problems), 0.0
    transcripts = recogniser.stream((entry.path for entry in inputs), language)
    for entry, transcript in zip(inputs, transcripts):
        seconds += transcript.duration
        if transcript.error is not None:
            failures += 1
            _say(transcript.error)
        for note in _notes(transcript):
            _say(f"{entry.path}: {note}")
        if as_json:
            click.echo(json.dumps(to_json(transcript), ensure_ascii=False))
        elif transcript.error is None:
            try:
                if output_dir is not None:
                    write_outputs(transcript, entry.output, output_dir, formats)
                elif formats == ("txt",):
                    several = len(inputs) + len(problems) > 1
                    name = f"{printable(str(entry.path))}\t" if several else ""
                    click.echo(name + transcript.text)
                else:
                    click.echo(WRITERS[formats[0]](transcript), nl=False)
            except UyirError as error:
                failures += 1
                _say(str(error))
    wall = time.perf_counter() - begin
    total = len(inputs) + len(problems)
    rate = f"{seconds / wall:.1f} × real time" if wall else ""
    click.echo(
        f"{total - failures} of {total} done, {seconds:.1f} s of audio in {wall:.1f} s ({rate})",
        err=True,
    )
    return 1 if failures else 0


def _notes(transcript: Transcript) -> list[str]:
    """What a reader of the transcript ought to know, besides errors."""
    notes: list[str] = []
    if transcript.no_speech:
        notes.append("no speech found")
    if transcript.error is None and not transcript.final:
        notes.append("the search came to no proper end in places (final: false)")
    return notes


def _say(message: str) -> None:
    click.echo(f"uyir: {printable(message)}", err=True)


def printable(text: str) -> str:
    """Text for a terminal: control characters, and what cannot be encoded, escaped."""
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(c if c.isprintable() or c == "\u200c" else f"\\x{ord(c):02x}" for c in text)
