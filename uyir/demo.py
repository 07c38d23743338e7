"""`uyir demo`: transcribe the bundled recordings and compare with what was said.

The recordings are sentences of our own in voices that no acoustic model heard; some of their words
occur in no text that a language model was trained on (`recipes/demo/make.py` verified it). They go
through the same `Recogniser` as in ``uyir transcribe``.

With ``--json`` one object; programs may rely on these keys:

- ``utterances``: a list of {``id``, ``language``, ``voice``, ``ref``, ``hyp``, ``subwords`` (marked),
  ``novel`` (reference words that are in no training text), ``recognised`` (those of them that were
  recognised), ``wer``, ``cer``};
- ``totals``: language → {``wer``, ``cer``, ``words``, ``novel``, ``recognised``} (counts);
- ``engine``, ``model``; ``threads``, the network's on the CPU; ``audio_s``, ``load_s``, ``search_s`` in seconds; ``rtf``, seconds of search for
  each second of audio.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import click

from uyir import LANGUAGES
from uyir.errors import AudioError

if TYPE_CHECKING:
    from uyir.decode.score import Score

RECORDINGS = Path(__file__).parent / "demo"
COLUMNS = ("id", "voice", "rate", "text", "novel")


@dataclass(frozen=True)
class Recording:
    """One bundled recording: what is said, and which of its words no training text has."""

    id: str
    language: str
    voice: str
    path: Path
    ref: str
    novel: tuple[str, ...]


@dataclass(frozen=True)
class Utterance:
    """One recording and what was recognised in it; `wer` and `cer` are fractions."""

    id: str
    language: str
    voice: str
    ref: str
    hyp: str
    subwords: tuple[str, ...]
    novel: tuple[str, ...]
    recognised: tuple[str, ...]
    wer: float
    cer: float


@dataclass(frozen=True)
class Total:
    """Rates over all words of a language, and how many novel words there were and were recognised."""

    wer: float
    cer: float
    words: int
    novel: int
    recognised: int


@dataclass(frozen=True)
class Demo:
    """All that the demo found; the keys of its JSON are these fields."""

    utterances: tuple[Utterance, ...]
    totals: dict[str, Total]
    engine: str
    model: str
    threads: int
    audio_s: float
    load_s: float
    search_s: float
    rtf: float


def recordings(language: str, folder: Path = RECORDINGS) -> list[Recording]:
    """The bundled recordings of a language; raises `DataError` if their table is damaged."""
    from uyir.grammar.lists import read_table

    return [
        Recording(
            id=row["id"],
            language=language,
            voice=row["voice"],
            path=folder / language / f"{row['id']}.flac",
            ref=row["text"],
            novel=tuple(row["novel"].split()),
        )
        for row in read_table(folder / language / "reference.tsv", COLUMNS)
    ]


def run(
    languages: Sequence[str] = LANGUAGES,
    *,
    engine: Optional[str] = None,
    model: Optional[str] = None,
) -> Demo:
    """Transcribe the bundled recordings of these languages.

    Raises `ModelError` or `EngineError` if that cannot be done here, and `AudioError` for a recording
    that has no transcript.
    """
    import torch

    from uyir.decode.transcribe import load

    begin = time.perf_counter()
    recogniser = load(model, engine=engine)
    for language in languages:
        recogniser.language(language)
    load_s = time.perf_counter() - begin
    utterances: list[Utterance] = []
    totals = {}
    audio_s = search_s = 0.0
    for language in languages:
        items = recordings(language)
        begin = time.perf_counter()
        transcripts = recogniser.transcribe([item.path for item in items], language=language)
        search_s += time.perf_counter() - begin
        mine = []
        for item, transcript in zip(items, transcripts):
            if transcript.error is not None:
                raise AudioError(transcript.error)
            audio_s += transcript.duration
            pieces = [piece.marked for word in transcript.words for piece in word.subwords]
            mine.append(compare(item, transcript.text, pieces))
        utterances += mine
        totals[language] = total(mine)
    recogniser.close()
    return Demo(
        utterances=tuple(utterances),
        totals=totals,
        engine=recogniser.engine,
        model=recogniser.folder.name,
        threads=torch.get_num_threads(),
        audio_s=round(audio_s, 2),
        load_s=round(load_s, 2),
        search_s=round(search_s, 2),
        rtf=round(search_s / audio_s, 4),
    )


def compare(item: Recording, hyp: str, subwords: Iterable[str]) -> Utterance:
    """What was said beside what was recognised."""
    rates = score([(item.ref, hyp)], item.language)
    heard = set(hyp.split())
    return Utterance(
        id=item.id,
        language=item.language,
        voice=item.voice,
        ref=item.ref,
        hyp=hyp,
        subwords=tuple(subwords),
        novel=item.novel,
        recognised=tuple(word for word in item.novel if word in heard),
        wer=round(rates.wer, 4),
        cer=round(rates.cer, 4),
    )


def total(utterances: Sequence[Utterance]) -> Total:
    """Rates over utterances of one language together."""
    rates = score([(u.ref, u.hyp) for u in utterances], utterances[0].language)
    return Total(
        wer=rates.wer,
        cer=rates.cer,
        words=sum(len(u.ref.split()) for u in utterances),
        novel=sum(len(u.novel) for u in utterances),
        recognised=sum(len(u.recognised) for u in utterances),
    )


def score(pairs: Sequence[tuple[str, str]], language: str) -> Score:
    from uyir.decode.score import score_pairs

    return score_pairs(pairs, language)


def describe(utterance: Utterance) -> str:
    """One utterance for people; a novel word has a star on both sides where it stands."""

    def marked(text: str) -> str:
        return " ".join(f"*{word}*" if word in utterance.novel else word for word in text.split())

    return "\n".join(
        [
            f"{utterance.id} ({utterance.voice})  WER {utterance.wer:.3f}  CER {utterance.cer:.3f}",
            f"  ref       {marked(utterance.ref)}",
            f"  hyp       {marked(utterance.hyp)}",
            f"  subwords  {' '.join(utterance.subwords)}",
        ]
        + [
            f"  novel     {word}: {'recognised' if word in utterance.recognised else 'missed'}"
            for word in utterance.novel
        ]
    )


def summary(found: Demo) -> str:
    """The totals; the last lines are ``LANGUAGE WER 0.xxx CER 0.xxx``, one a language."""
    lines = [
        f"{language}: {sums.recognised} of {sums.novel} words that are in no training text were "
        f"recognised; {sums.words} words in all"
        for language, sums in found.totals.items()
    ]
    lines.append(
        f"{len(found.utterances)} recordings, {found.audio_s:.1f} s of audio; engine {found.engine}, "
        f"model {found.model}; loading {found.load_s:.1f} s, recognising {found.search_s:.1f} s: "
        f"real-time factor {found.rtf:.3f} on a CPU, {found.threads} threads"
    )
    lines += [
        f"{language} WER {sums.wer:.3f} CER {sums.cer:.3f}"
        for language, sums in found.totals.items()
    ]
    return "\n".join(lines)


@click.command()
@click.option("--engine", help="Search engine; by default the one that serves best here.")
@click.option("--model", help="Model folder, or the name of a bundled model.")
@click.option(
    "-l",
    "--language",
    "languages",
    type=click.Choice(LANGUAGES),
    multiple=True,
    help="Only this language.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
def demo(
    engine: Optional[str], model: Optional[str], languages: tuple[str, ...], as_json: bool
) -> None:
    """Transcribe the bundled recordings and compare with what was said.

    Words between stars are in no text that the language model was trained on.
    """
    chosen = languages or LANGUAGES
    click.echo("demo: loading the model and transcribing the bundled recordings", err=True)
    found = run(chosen, engine=engine, model=model)
    if as_json:
        click.echo(json.dumps(asdict(found), ensure_ascii=False))
        return
    for utterance in found.utterances:
        click.echo(describe(utterance) + "\n")
    click.echo(summary(found))
