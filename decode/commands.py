"""`uyir transcribe`: an archive of audio in, transcripts out."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import click

from uyir import LANGUAGES
from uyir.grammar.lists import language_names

if TYPE_CHECKING:
    from uyir.decode.archive import Wishes
    from uyir.decode.inputs import Input
    from uyir.decode.pipeline import Pipeline
    from uyir.decode.report import Report
    from uyir.decode.transcribe import Recogniser
    from uyir.decode.transcript import Transcript

FORMATS = ("txt", "json", "srt", "vtt", "tsv", "ctm", "trn", "textgrid")


def _formats(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    names = FORMATS if value == "all" else tuple(dict.fromkeys(value.lower().split(",")))
    for name in names:
        if name not in FORMATS:
            raise click.BadParameter(
                f"unknown format {name!r}; there are {', '.join(FORMATS)} and all"
            )
    return names


def _shard(
    context: click.Context, parameter: click.Parameter, value: Optional[str]
) -> tuple[int, int]:
    if value is None:
        return (1, 1)
    number, _, count = value.partition("/")
    if not (number.isdigit() and count.isdigit() and 1 <= int(number) <= int(count)):
        raise click.BadParameter(f"{value!r}, want i/n with i from 1 to n")
    return (int(number), int(count))


_NAMES = {name.lower(): code for code, name in language_names().items()}


class _Language(click.Choice):  # type: ignore[type-arg, unused-ignore]
    """A language's code, or its name as Whisper takes it."""

    def convert(
        self, value: Any, param: Optional[click.Parameter], ctx: Optional[click.Context]
    ) -> Any:
        name = str(value).lower()
        return super().convert(_NAMES.get(name, name), param, ctx)


def _either_dash(name: str) -> str:
    """Options may be written with - or _ between their words, as in one Whisper program or another."""
    return name.replace("-", "_")


@click.command(context_settings={"token_normalize_func": _either_dash})
@click.argument("audio", nargs=-1)
@click.option(
    "--language",
    "-l",
    type=_Language([*LANGUAGES, "auto"]),
    default="auto",
    show_default=True,
    help="Language spoken, or its name; auto tells each recording's.",
)
@click.option("--model", help="Model folder, or the name of a bundled model.")
@click.option("--engine", type=click.Choice(["kaldi", "k2", "cuda"]), help="Search engine.")
@click.option(
    "--device",
    default="cpu",
    show_default=True,
    help="cpu, cuda, cuda:1; several with commas, or cuda:all.",
)
@click.option(
    "--compute_type",
    type=click.Choice(["auto", "float32", "bfloat16"]),
    default="auto",
    show_default=True,
    help="Of the network; auto is bfloat16 on a GPU that has it.",
)
@click.option("--output_dir", "-o", type=click.Path(path_type=Path), help="Write files there.")
@click.option(
    "--output_format",
    "-f",
    "formats",
    default="txt",
    show_default=True,
    callback=_formats,
    help=f"{', '.join(FORMATS)}: several with commas, or all.",
)
@click.option("--stdout", "to_stdout", is_flag=True, help="On stdout too, with --output_dir.")
@click.option("--json", "as_json", is_flag=True, help="JSON Lines on stdout, an object an input.")
@click.option("--manifest", "manifests", multiple=True, type=click.Path(path_type=Path),
              help="List of recordings: Lhotse cuts, Kaldi wav.scp or its folder, NeMo JSONL, CSV.")  # fmt: skip
@click.option("--allow-commands", is_flag=True, help="Run the commands that a manifest holds.")
@click.option(
    "--shard", callback=_shard, metavar="I/N", help="Only the I-th of N parts of the list."
)
@click.option("--resume/--no-resume", default=True, show_default=True,
              help="Skip what is done: same audio, model and options.")  # fmt: skip
@click.option("--vad", type=click.Choice(["auto", "silero", "energy", "none"]), default="auto",
              show_default=True, help="How speech is found in recordings of more than 20 s.")  # fmt: skip
@click.option(
    "--written",
    is_flag=True,
    help="Numbers, money, times of day and dates in digits, where they are sure.",
)
@click.option("--word_timestamps", type=bool, default=True, show_default=True,
              help="Words with times in JSON.")  # fmt: skip
@click.option("--max_line_width", type=click.IntRange(1), default=84, show_default=True,
              help="Letters of a subtitle.")  # fmt: skip
@click.option("--max_words_per_line", type=click.IntRange(1), help="Words of a subtitle.")
@click.option("--beam", type=float, default=14.0, show_default=True, help="Search beam (log).")
@click.option("--max_active", type=int, default=7000, show_default=True, help="States a frame.")
@click.option("--nbest", type=int, default=1, show_default=True, help="Readings a segment.")
@click.option(
    "--acoustic_scale",
    type=float,
    help="Weight of the network against the graph.  [default: the model's]",
)
@click.option("--hotwords", type=click.Path(path_type=Path), metavar="FILE",
              help="Roots, one a line, that are likely here, in all their inflections.")  # fmt: skip
@click.option("--hotword_gain", type=float, default=6.0, show_default=True,
              help="How much likelier (natural logarithm).")  # fmt: skip
@click.option("--rescore", type=click.Path(path_type=Path), metavar="LM",
              help="Larger language model (of `uyir lm pack`) for a second pass.  [default: the model's, if any]")  # fmt: skip
@click.option("--rescore_scale", type=click.FloatRange(0, 2, min_open=True), default=1.0,
              show_default=True, help="How much of the second pass's difference counts.")  # fmt: skip
@click.option("--no-rescore", is_flag=True, help="No second pass.")
@click.option("--batch_size", type=int,
              help="Stretches at once.  [default: 64, on a GPU 512]")  # fmt: skip
@click.option("--threads", type=click.IntRange(1), help="Cores to use on a CPU.  [default: all]")
@click.option("--cluster", type=click.Choice(["ray"]),
              help="Recognise on all cores (or GPUs) of a Ray cluster: RAY_ADDRESS's, or of this machine.")  # fmt: skip
@click.option("--log", type=click.Path(path_type=Path), help="Append events to it, as JSON Lines.")
def transcribe(
    audio: tuple[str, ...],
    manifests: tuple[Path, ...],
    allow_commands: bool,
    output_dir: Optional[Path],
    formats: tuple[str, ...],
    to_stdout: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Transcribe recordings: files (sound, and video where ffmpeg is), folders, globs, or - for a list
    of files on stdin.

    Without an output folder the text goes to stdout, after the file's name (or its id in a manifest) and a
    tab if there is more than one input. With one, files go there, each whole or not at all; the same command again does what
    is left. A recording that cannot be done is named on stderr, the others are done, and the exit code
    is 1.
    """
    if not audio and not manifests:
        raise click.UsageError("no recordings: name files, folders or a --manifest")
    if len(formats) != 1 and (output_dir is None or to_stdout):
        raise click.UsageError("several formats want an --output_dir to go to, and no --stdout")
    if output_dir is not None and as_json:
        raise click.UsageError("--json is for stdout; with --output_dir use --output_format json")
    if options["rescore"] is not None and options["no_rescore"]:
        raise click.UsageError("give either --rescore LM or --no-rescore")
    if output_dir is not None and output_dir.exists() and not output_dir.is_dir():
        raise click.UsageError(f"--output_dir {output_dir} is a file, want a folder")
    if options["shard"] != (1, 1) and output_dir is None:
        raise click.UsageError("--shard wants an --output_dir")

    import torch

    from uyir.decode.archive import shard_of
    from uyir.decode.inputs import find_inputs
    from uyir.decode.report import Report

    # Each process has one thread of its own: numbers then do not depend on how many there are.
    torch.set_num_threads(1)
    inputs, problems = _inputs(audio, manifests, allow_commands, find_inputs)
    inputs = shard_of(inputs, options["shard"])
    recogniser = _recogniser(options)
    wishes = _wishes(options, formats)
    # What the model lacks is said before any work.
    for language in recogniser.languages if wishes.language == "auto" else (wishes.language,):
        recogniser.language(language)
    report = Report(len(inputs) + len(problems), 0.0, options["log"])
    report.event(
        "start", inputs=len(inputs), model=str(recogniser.folder), language=wishes.language
    )
    for problem in problems:
        report.failed(problem.partition(": ")[0], problem)
    show = _shower(as_json, formats[0], len(inputs) + len(problems) > 1, wishes)
    with _signals(report) as (started, interrupted):
        if output_dir is not None:
            from uyir.decode.archive import run_archive

            padding = run_archive(
                recogniser,
                inputs,
                output_dir,
                wishes,
                report,
                started,
                show if to_stdout else None,
            )
        else:
            padding = _to_stdout(recogniser, inputs, wishes, report, started, show, as_json)
    # Whoever wants to stop when all is done has it done.
    stopped = bool(interrupted) and report.left > 0
    report.summary(padding=padding, interrupted=stopped)
    report.close()
    recogniser.close()
    if stopped:
        return 130
    return 1 if report.failures else 0


def _to_stdout(
    recogniser: Recogniser,
    inputs: list[Input],
    wishes: Wishes,
    report: Report,
    started: Callable[[Pipeline], None],
    show: Callable[[Transcript], None],
    as_json: bool,
) -> float:
    """Print the transcripts in order; returns the share of padding."""
    from uyir.decode.archive import note_of, run_stream

    pipelines: list[Pipeline] = []

    def keep(pipeline: Pipeline) -> None:
        pipelines.append(pipeline)
        started(pipeline)

    for number, transcript in run_stream(recogniser, inputs, wishes, keep, report):
        name = inputs[number].name
        if transcript.error is None or as_json:
            show(transcript)
        if transcript.error is not None:
            report.failed(name, transcript.error)
            continue
        note_of(report, name, transcript.no_speech, transcript.final)
        report.finished(name, transcript.duration, language=transcript.language)
    return pipelines[0].counts.padding


def _inputs(
    audio: tuple[str, ...],
    manifests: tuple[Path, ...],
    allow_commands: bool,
    find_inputs: Callable[..., tuple[list[Input], list[str]]],
) -> tuple[list[Input], list[str]]:
    from uyir.decode.inputs import named
    from uyir.decode.manifests import read_manifest

    inputs, problems = find_inputs(audio, sys.stdin)
    for manifest in manifests:
        found, wrong = read_manifest(manifest, allow_commands=allow_commands)
        for entry in list(found):
            if entry.language not in (None, *LANGUAGES):
                wrong.append(f"{entry.name}: its language {entry.language!r} is not known")
                found.remove(entry)
        inputs, problems = inputs + found, problems + wrong
    return (named(inputs) if manifests else inputs), problems


def _recogniser(options: dict[str, Any]) -> Recogniser:
    from uyir.decode.engines import SearchOptions
    from uyir.decode.transcribe import load

    scale = options["acoustic_scale"]
    return load(
        options["model"],
        engine=options["engine"],
        device=options["device"],
        options=SearchOptions(
            beam=options["beam"],
            max_active=options["max_active"],
            nbest=options["nbest"],
            acoustic_scale=1.0 if scale is None else scale,
        ),
        batch_size=options["batch_size"],
        tuned=scale is None,
        workers=options["threads"] or _cores(),
        bounded=options["threads"] is not None,
        cluster=options["cluster"],
        vad=options["vad"],
        precision=options["compute_type"],
        hotwords=options["hotwords"],
        hotword_gain=options["hotword_gain"],
        rescore="" if options["no_rescore"] else options["rescore"],
        rescore_scale=options["rescore_scale"],
    )


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _wishes(options: dict[str, Any], formats: tuple[str, ...]) -> Wishes:
    from uyir.decode.archive import Wishes
    from uyir.decode.output import Style

    return Wishes(
        language=options["language"],
        formats=formats,
        written=options["written"],
        style=Style(
            letters=options["max_line_width"],
            words=options["max_words_per_line"],
            times=options["word_timestamps"],
        ),
        resume=options["resume"],
        shard=options["shard"],
    )


def _shower(
    as_json: bool, form: str, several: bool, wishes: Wishes
) -> Callable[[Transcript], None]:
    """What prints a transcript."""
    from uyir.decode.output import as_json as to_json
    from uyir.decode.output import writers
    from uyir.decode.report import printable

    def show(transcript: Transcript) -> None:
        if as_json:
            click.echo(json.dumps(to_json(transcript, wishes.style), ensure_ascii=False))
        elif form == "txt":
            # A manifest may have several recordings in one file.
            name = f"{printable(transcript.id or transcript.source)}\t" if several else ""
            click.echo(name + transcript.text)
        else:
            click.echo(writers(wishes.style)[form](transcript), nl=False)

    return show


@contextmanager
def _signals(report: Report) -> Iterator[tuple[Callable[[Pipeline], None], list[int]]]:
    """On Ctrl-C (or SIGTERM) what is begun is finished; a second one ends it at once.

    Gives a function that is told of the pipeline, and a list that is not empty once a signal came.
    """
    pipelines: list[Pipeline] = []
    came: list[int] = []

    def stop(number: int, frame: Any) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(number)
        report.say("stopping when what is begun is done; again to stop at once")
        for pipeline in pipelines:
            pipeline.stop()

    def started(pipeline: Pipeline) -> None:
        pipelines.append(pipeline)
        if came:
            pipeline.stop()

    before = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, stop)
    except ValueError:  # not in the main thread: whoever runs us there sees to signals
        before = {}
    try:
        yield started, came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
