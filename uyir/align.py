"""`uyir align`: when each phone, subword and word of a known text was said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Optional

import click


@click.command()
@click.argument("recordings", type=click.Path(path_type=Path))
@click.option("--language", "-l", help="ta or kn; needed where the recordings do not say.")
@click.option("--text", help="What is said, where RECORDINGS is one audio file.")
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), help="Folder to write to; else stdout."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["textgrid", "ctm", "json"]),
    default="textgrid",
    show_default=True,
)
@click.option(
    "--tier",
    type=click.Choice(["phones", "subwords", "words"]),
    default="words",
    show_default=True,
    help="Of a CTM; the other formats have all.",
)
@click.option("--model", "-m", help="Model folder or bundled model.")
@click.option("--device", default="cpu", show_default=True)
def align(
    recordings: Path,
    language: Optional[str],
    text: Optional[str],
    output: Optional[Path],
    form: str,
    tier: str,
    model: Optional[str],
    device: str,
) -> Optional[int]:
    """Align RECORDINGS with what is said in them.

    RECORDINGS is one audio file (with --text), or a folder of audio with text files of the same
    names, a Kaldi directory, or a list (NeMo, Lhotse, CSV, TSV). Times are right to about a frame or
    two of 40 ms. What cannot be aligned is listed, and the exit code is then 1.
    """
    from uyir.asr.align import align as run
    from uyir.asr.align import ctm, heard, textgrid
    from uyir.asr.audio import read_audio
    from uyir.asr.checkpoint import load_model
    from uyir.asr.corpus import Corpus, Spoken, read_corpus
    from uyir.asr.features import make_frontend
    from uyir.asr.files import write_whole
    from uyir.asr.prepare import prepare
    from uyir.decode.transcribe import find_model
    from uyir.errors import UyirError

    if text is not None:
        corpus = Corpus([Spoken(recordings.stem, recordings, text)])
    else:
        corpus = read_corpus(recordings)
    loaded = load_model(find_model(model), device)
    frontend = make_frontend(loaded.model.config.frontend)
    rows = prepare(corpus, language, max_seconds=600.0, say=lambda line: click.echo(line, err=True))
    for row in rows:
        try:
            samples, rate = read_audio(row.spoken.audio)
            begin = round(row.spoken.start * rate)
            samples = samples[begin : begin + round(row.duration * rate)]
            found = run(
                heard(loaded.model, frontend, samples, row.language, device),
                row.spoken.text,
                row.language,
                loaded.tokens,
                len(samples) / rate,
            )
        except UyirError as error:
            corpus.problem("not aligned", row.spoken.id, str(error))
            continue
        name = row.spoken.id.replace(" ", "_")
        if form == "ctm":
            written, suffix = ctm(name, found, tier), "ctm"
        elif form == "textgrid":
            written, suffix = textgrid(found), "TextGrid"
        else:
            tiers = {
                key: [vars(piece) for piece in getattr(found, key)]
                for key in ("phones", "subwords", "words")
            }
            values = {"id": name, "duration": found.duration, "score": found.score, **tiers}
            written, suffix = json.dumps(values, ensure_ascii=False) + "\n", "json"
        if output is None:
            click.echo(written, nl=False)
        else:
            write_whole(output / f"{name}.{suffix}", written)
    for problem in corpus.problems:
        click.echo(f"{problem.where}: {problem.kind}: {problem.message}", err=True)
    return 1 if corpus.problems else None
