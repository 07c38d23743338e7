"""`uyir adapt`: the bundled model, or another one, adapted to a few recordings of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from uyir import LANGUAGES


@click.command()
@click.argument("recordings", type=click.Path(path_type=Path))
@click.option("--language", "-l", help="ta or kn; needed where the recordings do not say.")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    help="Folder of the new model; by default NAME-adapted in the working folder.",
)
@click.option("--model", "-m", help="Model folder or bundled model to start from.")
@click.option(
    "--minutes", type=float, default=4.0, show_default=True, help="Train no longer than this."
)
@click.option("--passes", type=float, default=12.0, show_default=True, help="Over the recordings.")
@click.option("--learning-rate", type=float, default=1e-4, show_default=True)
@click.option(
    "--frozen-layers",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Encoder blocks that stay as they are, from below (the convolutions always do).",
)
@click.option(
    "--held-out",
    type=click.FloatRange(0, 0.9),
    default=0.15,
    show_default=True,
    help="Share of the recordings to compare on and not to train on.",
)
@click.option("--device", help="cpu, cuda or cuda:N; by default a GPU where there is one.")
@click.option("--seed", type=int, default=1, show_default=True)
def adapt(
    recordings: Path,
    language: Optional[str],
    output: Optional[Path],
    model: Optional[str],
    minutes: float,
    passes: float,
    learning_rate: float,
    frozen_layers: int,
    held_out: float,
    device: Optional[str],
    seed: int,
) -> None:
    """Adapt a model to RECORDINGS: some 20 utterances with transcripts, or more.

    RECORDINGS is a folder of audio with text files of the same names, a Kaldi directory, or a list
    (NeMo's JSON Lines, Lhotse cuts, CSV or TSV with a header). The new model shares the graphs of
    the old one; `uyir transcribe --model FOLDER` uses it.
    """
    from uyir.asr.adapt import adapt as run
    from uyir.asr.adapt import report
    from uyir.decode.transcribe import MODELS, find_model, graph_folder
    from uyir.errors import DataError

    start = find_model(model)
    graphs = graph_folder(start)
    output = output or Path(f"{start.name}-adapted")
    beside = graphs.parent.resolve() == output.resolve().parent
    if not beside and graphs.parent.resolve() != MODELS.resolve():
        raise DataError(f"want it beside the graphs that it shares, in {graphs.parent}", output)
    done = run(
        recordings,
        start,
        output,
        language=language,
        graphs=graphs.name,
        minutes=minutes,
        passes=passes,
        learning_rate=learning_rate,
        frozen_layers=frozen_layers,
        held_out=held_out,
        device=device,
        seed=seed,
        say=lambda line: click.echo(line, err=True),
    )
    (output / "README.md").write_text(
        report(done, [language] if language else LANGUAGES), encoding="utf-8"
    )
    if done.before is not None and done.after is not None:
        click.echo(
            f"phone error rate on {done.held_out} held-out recordings: "
            f"{done.before:.4f} before, {done.after:.4f} after"
        )
        if done.share == 0.0:
            click.echo("the recordings taught it nothing: the model is as it was", err=True)
    click.echo(output)
