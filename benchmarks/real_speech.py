"""Word and letter error rates on real recordings, by the same recogniser as `uyir transcribe`.

    python benchmarks/real_speech.py speech/MANIFEST.tsv [--engine k2] [--hypotheses hyp.tsv]

The manifest has the columns set, language, kind, speaker, duration_s, text, transliteration, audio (a
path from the manifest's folder). Every set is scored by kind; of halthor-kn's sentences only the test
part is taken, ``sampleN`` with N divisible by 4.
"""

from __future__ import annotations

import re
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Optional

import click

from uyir.decode.score import score_pairs
from uyir.decode.transcribe import load
from uyir.errors import UyirError
from uyir.grammar.lists import Row, read_table

COLUMNS = (
    "set",
    "language",
    "kind",
    "speaker",
    "duration_s",
    "text",
    "transliteration",
    "audio",
)
HALTHOR_SENTENCE = re.compile(r"sample(\d+)\.\w+$")


def is_test(row: Row) -> bool:
    """Whether a recording may be scored; the others are for training and adaptation."""
    numbered = HALTHOR_SENTENCE.search(row["audio"])
    if row["set"] != "halthor-kn" or row["kind"] != "sentence" or numbered is None:
        return True
    return int(numbered[1]) % 4 == 0


@click.command()
@click.argument("manifest", type=click.Path(path_type=Path))
@click.option("--set", "wanted", help="Only this set.")
@click.option("--kind", help="Only recordings of this kind.")
@click.option("--model", help="Model folder, or the name of a bundled model.")
@click.option("--engine", help="Search engine.")
@click.option(
    "--hypotheses", type=click.Path(path_type=Path), help="Write every ref and hyp there."
)
def main(
    manifest: Path,
    wanted: Optional[str],
    kind: Optional[str],
    model: Optional[str],
    engine: Optional[str],
    hypotheses: Optional[Path],
) -> None:
    """Score the bundled (or another) model on the recordings of MANIFEST."""
    groups: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in read_table(manifest, COLUMNS):
        if wanted in (None, row["set"]) and kind in (None, row["kind"]) and is_test(row):
            groups[row["set"], row["language"], row["kind"]].append(row)
    recogniser = load(model, engine=engine)
    click.echo("set\tkind\tutterances\twords\tWER\tCER\tfailed\trtf")
    said = ["audio\tref\thyp\n"]
    for (name, language, kind_of_group), rows in groups.items():
        recogniser.language(language)
        begin = time.perf_counter()
        audio = [manifest.parent / row["audio"] for row in rows]
        transcripts = recogniser.transcribe(audio, language=language)
        seconds = time.perf_counter() - begin
        pairs = [(row["text"], found.text) for row, found in zip(rows, transcripts)]
        said += [f"{row['audio']}\t{ref}\t{hyp}\n" for row, (ref, hyp) in zip(rows, pairs)]
        score = score_pairs(pairs, language)
        failed = sum(found.error is not None for found in transcripts)
        length = sum(found.duration for found in transcripts)
        click.echo(
            f"{name}\t{kind_of_group}\t{len(rows)}\t{score.words.units}\t{score.wer:.4f}\t"
            f"{score.cer:.4f}\t{failed}\t{seconds / length:.3f}"
        )
    if hypotheses is not None:
        hypotheses.write_text("".join(said), encoding="utf-8")


if __name__ == "__main__":
    try:
        main()
    except UyirError as error:
        sys.exit(f"real_speech.py: {error}")
