"""Commands of the acoustic model: ``uyir train`` and ``uyir export``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Optional

import click

from uyir.asr.checkpoint import WEIGHT_FORMATS
from uyir.errors import UyirError


@click.command()
@click.option(
    "--config", required=True, type=click.Path(path_type=Path), help="YAML file of the run."
)
@click.option("--device", help="cpu, cuda, cuda:N or auto, the default: a GPU where there is one.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    help="What relative paths in the configuration are relative to; by default its own folder.",
)
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="Instead of the YAML's.")
@click.option(
    "--stop-after",
    type=float,
    metavar="SECONDS",
    help="Save and stop after so long; the same command goes on from there.",
)
def train(
    config: Path,
    device: Optional[str],
    folder: Optional[Path],
    minutes: Optional[float],
    stop_after: Optional[float],
) -> None:
    """Train an acoustic model, or go on with one that was stopped.

    The output folder gets checkpoint.pt and log.jsonl; `uyir export` makes a model of them.
    """
    from uyir.asr.config import read_config
    from uyir.asr.train import Trainer

    try:
        values = read_config(config, folder)
        if minutes is not None:
            values = dataclasses.replace(values, minutes=minutes)
        device = None if device == "auto" else device
        outcome = Trainer(values, device, lambda line: click.echo(line, err=True)).run(stop_after)
    except UyirError as error:
        raise click.ClickException(str(error)) from None
    state = "finished" if outcome.finished else "not finished: run the same command again"
    click.echo(f"{state}, step {outcome.progress.step}, {outcome.progress.seconds / 60:.1f} min")
    for language, rate in outcome.dev.items():
        click.echo(f"{language} token error rate {rate:.4f}")


@click.command()
@click.argument("checkpoints", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--weights", type=click.Choice(WEIGHT_FORMATS), default="int8", show_default=True)
@click.option(
    "--pretrained",
    multiple=True,
    help="What the encoder was before: a CTranslate2 model.bin, or its parts in order; a hub's name or folder.",
)
@click.option(
    "--tuned",
    type=float,
    default=1.0,
    show_default=True,
    help="With --pretrained: the fine-tuned share of each encoder weight; the rest is pretrained.",
)
@click.option("--graphs", help="Share the graphs of this model, beside FOLDER or bundled.")
def export(
    checkpoints: tuple[Path, ...],
    folder: Path,
    weights: str,
    pretrained: tuple[str, ...],
    tuned: float,
    graphs: Optional[str],
) -> None:
    """Write the averaged weights of CHECKPOINTS as the model folder FOLDER: of several of one run
    (``keep_steps`` in its configuration), the mean."""
    from uyir.asr.export import export as write

    if tuned != 1.0 and not pretrained:
        raise click.UsageError("--tuned mixes with --pretrained, which is not given")
    try:
        write(checkpoints, folder, weights, pretrained, tuned, graphs)
    except UyirError as error:
        raise click.ClickException(str(error)) from None
    size = sum(path.stat().st_size for path in folder.glob("model*.safetensors"))
    click.echo(f"{folder}: {size / 1e6:.2f} MB")


@click.group()
def main() -> None:
    """The commands of this module alone, for machines without the rest of uyir."""


main.add_command(train)
main.add_command(export)

if __name__ == "__main__":
    main()
