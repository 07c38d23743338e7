"""Make the recordings that `uyir demo` transcribes, and find out which of their words are novel.

    python recipes/demo/make.py --out uyir/demo TEXT...

Reads `sentences.tsv` beside this file, has espeak-ng speak each sentence in its voice, writes 16 kHz
FLAC and, for each language, `reference.tsv` (columns: id voice rate text novel). TEXT are the text
files (plain or .xz) that language models are trained on; a word that occurs in none of them, as a
whole word, stands in the column `novel`. The voices are reserved: no acoustic model is trained on them.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import soundfile
import soxr

from uyir import LANGUAGES
from uyir.errors import DataError, UyirError
from uyir.grammar.lists import read_table
from uyir.grammar.script import words_of
from uyir.grammar.text import read_lines

SENTENCES = Path(__file__).parent / "sentences.tsv"
COLUMNS = ("id", "language", "voice", "rate", "text")
RESERVED_VOICES = ("klatt5", "Andrea", "Michael", "grandpa", "female4", "Diogo")
SAMPLE_RATE = 16000


def novel_words(wanted: set[str], language: str, texts: Sequence[Path]) -> set[str]:
    """The words that occur in none of the texts as a whole word."""
    novel = set(wanted)
    for path in texts:
        for line in read_lines(path):
            novel.difference_update(words_of(line, language))
    return novel


def variants() -> dict[str, str]:
    """Voice name → what espeak-ng's ``-v LANGUAGE+`` wants.

    The two differ (female4 is f4), and a variant that it does not know gives the default voice,
    without a word.
    """
    command = ["espeak-ng", "--voices=variant"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = [line.split() for line in listed.splitlines()[1:]]
    return {row[3]: row[4].split("/", 1)[1] for row in rows if len(row) == 5}


def speak(text: str, language: str, variant: str, rate: str, path: Path) -> float:
    """Write one sentence as 16 kHz FLAC and return its seconds."""
    command = ["espeak-ng", "-v", f"{language}+{variant}", "-s", rate, "--stdout", text]
    wave = subprocess.run(command, check=True, capture_output=True).stdout
    samples, source_rate = soundfile.read(io.BytesIO(wave), dtype="float32")
    samples = soxr.resample(samples, source_rate, SAMPLE_RATE)
    soundfile.write(path, samples, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return len(samples) / SAMPLE_RATE


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write to.")
@click.argument(
    "texts", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
def main(out: Path, texts: tuple[Path, ...]) -> None:
    """Make the demo's recordings; TEXTS are what language models are trained on."""
    if not shutil.which("espeak-ng"):
        raise UyirError("espeak-ng is not installed; apt-get install espeak-ng")
    rows = list(read_table(SENTENCES, COLUMNS))
    for row in rows:
        if row["voice"] not in RESERVED_VOICES:
            raise row.error(f"{row['voice']} is not reserved: {', '.join(RESERVED_VOICES)}")
        if row["language"] not in LANGUAGES:
            raise row.error(f"unknown language {row['language']}")
    variant_of = variants()
    for language in LANGUAGES:
        mine = [row for row in rows if row["language"] == language]
        words = {word for row in mine for word in row["text"].split()}
        novel = novel_words(words, language, texts)
        if not novel:
            raise DataError(f"no word of {language} is novel", SENTENCES)
        folder = out / language
        folder.mkdir(parents=True, exist_ok=True)
        seconds = 0.0
        with (folder / "reference.tsv").open("w", encoding="utf-8", newline="\n") as table:
            table.write("# Written by recipes/demo/make.py; novel: words in no training text.\n")
            table.write("id\tvoice\trate\ttext\tnovel\n")
            for row in mine:
                new = " ".join(word for word in row["text"].split() if word in novel)
                if row["voice"] not in variant_of:
                    raise row.error(f"espeak-ng has no voice {row['voice']} here")
                variant = variant_of[row["voice"]]
                path = folder / f"{row['id']}.flac"
                seconds += speak(row["text"], language, variant, row["rate"], path)
                table.write(
                    f"{row['id']}\t{row['voice']}\t{row['rate']}\t{row['text']}\t{new}".rstrip("\t")
                    + "\n"
                )
        running = sum(len(row["text"].split()) for row in mine)
        click.echo(
            f"{language}: {len(mine)} sentences, {seconds:.1f} s, {running} words, {len(novel)} novel",
            err=True,
        )


if __name__ == "__main__":
    try:
        main()
    except UyirError as error:
        sys.exit(f"make.py: {error}")
