"""The `uyir` command: a table of subcommands, each imported only when it runs.

Every subcommand is a click command that lives in the package it serves. Data goes to stdout, talk to
stderr. Exit codes: 0 done, 1 something the user gave could not be used, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Optional

import click

from uyir import __version__
from uyir.errors import UyirError

# name → (where the click command is, one line of help), in the order of the help page.
COMMANDS: dict[str, tuple[str, str]] = {
    "transcribe": ("uyir.decode.commands:transcribe", "Transcribe recordings."),
    "score": ("uyir.decode.score.commands:score", "Compare transcripts with references: WER, CER."),
    "compare": ("uyir.decode.score.commands:compare", "Compare systems: a table for a paper."),
    "demo": ("uyir.demo:demo", "Transcribe the bundled recordings and compare."),
    "segment": ("uyir.grammar.commands:segment", "Cut words into marked subwords."),
    "join": ("uyir.grammar.commands:join", "Join marked subwords into words."),
    "number": ("uyir.grammar.number_commands:number", "Numbers in digits to words, and back."),
    "grammar": ("uyir.grammar.commands:grammar", "Compile, check, measure and explain a grammar."),
    "pronounce": ("uyir.lexicon.commands:pronounce", "Say how words are pronounced, by rule."),
    "units": (
        "uyir.grammar.unit_commands:units",
        "Learn units of any kind, and cut text into them.",
    ),
    "lm": ("uyir.decode.graph_commands:lm", "Estimate and measure subword language models."),
    "graph": ("uyir.decode.graph_commands:graph", "Build HLG from a language model and a grammar."),
    "words": (
        "uyir.decode.added_commands:words",
        "Add words to a model, in all their inflections.",
    ),
    "corpus": ("uyir.asr.corpus_commands:corpus", "Make manifests of corpora; convert them."),
    "recipe": ("uyir.asr.corpus_commands:recipe", "Run a corpus's stages to a scored model."),
    "train": ("uyir.asr.commands:train", "Train an acoustic model, or go on with a stopped one."),
    "adapt": ("uyir.adapt:adapt", "Adapt a model to some recordings of one's own."),
    "align": ("uyir.align:align", "Say when each phone, subword and word of a text was said."),
    "export": ("uyir.asr.commands:export", "Write a trained acoustic model as a model folder."),
    "bench": ("uyir.decode.engines.bench:bench", "Measure search engines side by side."),
    "doctor": ("uyir.doctor:doctor", "Say what is installed and what can run here, and why not."),
}


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports one only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> Optional[click.Command]:
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name][0].split(":")
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{module}.{attribute} is no click command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="uyir")
def uyir() -> None:
    """Recognise Tamil and Kannada speech with an open vocabulary."""


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run the command line and return its exit code."""
    try:
        # Commands return nothing, or an exit code of their own when only some of their input failed.
        code = uyir.main(args=arguments, prog_name="uyir", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except UyirError as error:
        click.echo(f"uyir: {error}", err=True)
        return 1
    except (click.Abort, KeyboardInterrupt):
        click.echo("uyir: interrupted", err=True)
        return 130
    except BrokenPipeError:
        # The reader (head, less) has left; Python would complain again when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    sys.exit(main())
