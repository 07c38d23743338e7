"""From recordings with transcripts to a training manifest, and to the formats of other toolkits.

Whatever cannot be trained on is counted by reason and listed in ``left_out.tsv`` beside the manifest;
the rest goes on.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Callable, Optional, Union

from uyir.asr.audio import SAMPLE_RATE, duration_of, read_audio
from uyir.asr.corpus import Corpus, Spoken
from uyir.asr.data import MANIFEST_COLUMNS
from uyir.asr.files import write_whole
from uyir.errors import AudioError, DataError, ScriptError
from uyir.grammar.numbers import read_out
from uyir.grammar.script import script_of
from uyir.lexicon.g2p import load_g2p
from uyir.lexicon.symbols import SPOKEN_NOISE, WORD_END

MAX_SECONDS = 60.0
SPEAKER_COLUMNS = (*MANIFEST_COLUMNS, "speaker")

# <noise>, [laughter], <unk>: tags of transcripts, which are no words.
_TAG = re.compile(r"<[^<>]*>|\[[^\[\]]*\]")


@dataclass(frozen=True)
class Prepared:
    """An utterance ready for training: what was said as normalised text and as phones."""

    spoken: Spoken
    duration: float
    language: str
    text: str
    phones: tuple[str, ...]

    @property
    def audio(self) -> str:
        """As a manifest names it: with the samples of a stretch, where it is not the whole file."""
        path = str(self.spoken.audio.resolve())
        if self.spoken.stretch:
            return path + self.spoken.stretch
        if self.spoken.start or self.spoken.duration is not None:
            start, length = self.spoken.start, self.duration
            return f"{path}@{round(start * SAMPLE_RATE)}+{round(length * SAMPLE_RATE)}"
        return path


def phones_of(text: str, language: str) -> tuple[str, tuple[str, ...]]:
    """A transcript as normalised text and as canonical phones.

    Numbers in digits are read out. A tag (``<noise>``, ``[laugh]``), and a word that is not in the
    language's script or cannot be pronounced, becomes `SPOKEN_NOISE` among the phones; tags are left
    out of the text.
    """
    words: list[str] = []
    phones: list[str] = []
    for number, part in enumerate(_TAG.split(text)):
        if number:
            phones.append(SPOKEN_NOISE)
        for word in read_out(part, language):
            words.append(word)
            phones += _pronounce(word, language)
    merged = [p for p, before in zip(phones, [None, *phones]) if (p, before) != (SPOKEN_NOISE,) * 2]
    return " ".join(words), tuple(merged)


def with_word_ends(phones: Sequence[str], text: str, language: str) -> list[str]:
    """Canonical phones of a text with `WORD_END` after each word's; tags' phones belong to no word.

    Phones that are not the canonical ones of the text come back as they are, with one end at their end: who
    wrote them knows where words end and can say so.
    """
    out: list[str] = []
    at = 0
    for word in text.split():
        said = _pronounce(word, language)
        while at < len(phones) and phones[at] == SPOKEN_NOISE and said[0] != SPOKEN_NOISE:
            out.append(SPOKEN_NOISE)
            at += 1
        if tuple(phones[at : at + len(said)]) == said:
            out += [*said, WORD_END]
            at += len(said)
        elif (
            said != (SPOKEN_NOISE,) or SPOKEN_NOISE not in out[-2:]
        ):  # one noise stands for several
            return [*phones, WORD_END]
    rest = list(phones[at:])
    return out + rest if all(phone == SPOKEN_NOISE for phone in rest) else [*phones, WORD_END]


@lru_cache(maxsize=1 << 18)
def _pronounce(word: str, language: str) -> tuple[str, ...]:
    try:
        best = load_g2p(language).pronounce(word, variants=False)
    except (ScriptError, DataError):
        best = []
    return best[0].phones if best and best[0].phones else (SPOKEN_NOISE,)


def prepare(
    corpus: Corpus,
    language: Optional[str] = None,
    *,
    max_seconds: float = MAX_SECONDS,
    thorough: bool = False,
    say: Callable[[str], None] = print,
    workers: int = 4,
) -> list[Prepared]:
    """What can be trained on; the rest joins `corpus.problems`.

    `language` is that of utterances that do not say; one that says another, or whose letters are
    mostly of another script, is left out. `thorough` reads every sample, not only the headers.
    """
    found: list[Prepared] = []
    with ThreadPoolExecutor(workers) as pool:
        lengths = pool.map(lambda spoken: _length(spoken, thorough), corpus.spoken)
        for number, (spoken, length) in enumerate(zip(corpus.spoken, lengths), start=1):
            ready = _prepare_one(spoken, length, language, max_seconds, corpus)
            if ready is not None:
                found.append(ready)
            if number % 20000 == 0:
                say(f"{number} of {len(corpus.spoken)} utterances")
    return found


def _length(spoken: Spoken, thorough: bool) -> Union[float, str]:
    """Seconds, or what is wrong with the recording."""
    if not spoken.audio.is_file():
        return f"{spoken.audio}: no such file"
    if spoken.stretch:
        start, _, samples = spoken.stretch[1:].partition("+")
        if (int(start) + int(samples)) * 2 > spoken.audio.stat().st_size:
            return f"{spoken.audio}: ends before sample {int(start) + int(samples)}"
        return int(samples) / SAMPLE_RATE
    whole: float
    if thorough:
        try:
            whole = len(read_audio(spoken.audio)[0]) / SAMPLE_RATE
        except AudioError as error:
            return str(error)
    else:
        import soundfile

        try:
            soundfile.info(str(spoken.audio))
        except (soundfile.SoundFileError, OSError) as error:
            return f"{spoken.audio}: {error}"
        whole = duration_of(spoken.audio)
    left = whole - spoken.start
    if left <= 0 or spoken.start < 0:
        return f"{spoken.audio}: starts at {spoken.start:g} s, but is {whole:.2f} s long"
    if spoken.duration is None:
        return left
    if not 0 < spoken.duration <= left + 0.5:
        return (
            f"{spoken.audio}: {spoken.duration:g} s from {spoken.start:g} s, but {whole:.2f} s long"
        )
    return min(spoken.duration, left)


def _prepare_one(
    spoken: Spoken,
    length: Union[float, str],
    language: Optional[str],
    max_seconds: float,
    corpus: Corpus,
) -> Optional[Prepared]:
    if isinstance(length, str):
        missing = not spoken.audio.is_file()
        corpus.problem(
            "transcript without audio" if missing else "unreadable audio", spoken.id, length
        )
        return None
    if length > max_seconds:
        corpus.problem(f"longer than {max_seconds:g} s", spoken.id, f"{length:.1f} s")
        return None
    named = spoken.language or language or script_of(spoken.text)
    written = script_of(_TAG.sub(" ", spoken.text))
    if language is not None and named != language:
        corpus.problem("of another language", spoken.id, f"{named}, want {language}")
        return None
    if named is None or (written is not None and written != named):
        corpus.problem("of another language", spoken.id, spoken.text[:60])
        return None
    try:
        text, phones = phones_of(spoken.text, named)
    except DataError as error:
        corpus.problem("of another language", spoken.id, str(error))
        return None
    if not phones or all(phone == SPOKEN_NOISE for phone in phones):
        empty = not spoken.text.strip()
        kind = "audio without transcript" if empty else "of another language"
        corpus.problem(kind, spoken.id, spoken.text[:60])
        return None
    return Prepared(spoken, length, named, text, phones)


def split(
    rows: Sequence[Prepared], share: float, seed: int = 1, by_speaker: bool = True
) -> tuple[list[Prepared], list[Prepared]]:
    """Rows for training and held-out ones, some `share` of the seconds.

    Where three speakers or more are known, whole speakers are held out, so that none is in both.
    """
    rng = random.Random(seed)
    speakers = sorted({row.spoken.speaker for row in rows if row.spoken.speaker})
    total = sum(row.duration for row in rows)
    held: set[str] = set()
    if by_speaker and len(speakers) >= 3 and all(row.spoken.speaker for row in rows):
        rng.shuffle(speakers)
        groups = [[r for r in rows if r.spoken.speaker == speaker] for speaker in speakers]
    else:
        order = sorted(rows, key=lambda row: row.spoken.id)
        rng.shuffle(order)
        groups = [[row] for row in order]
    seconds = 0.0
    for group in groups[:-1]:
        length = sum(row.duration for row in group)
        if seconds >= share * total:
            break
        held.update(row.spoken.id for row in group)
        seconds += length
    return (
        [row for row in rows if row.spoken.id not in held],
        [row for row in rows if row.spoken.id in held],
    )


# -- writing ---------------------------------------------------------------------------------


def write_manifest(path: Path, rows: Iterable[Prepared]) -> None:
    """Write a training manifest, with the speakers in ``NAME.speakers.tsv`` where they are known."""
    rows = list(rows)
    lines = ["\t".join(MANIFEST_COLUMNS)]
    for row in rows:
        cells = (
            row.spoken.id.replace(" ", "_"),
            row.audio,
            f"{row.duration:.3f}",
            row.language,
            row.text,
            " ".join(row.phones),
        )
        lines.append("\t".join(cells))
    write_whole(path, "\n".join(lines) + "\n")
    known = [row for row in rows if row.spoken.speaker]
    if known:
        pairs = [f"{row.spoken.id.replace(' ', '_')}\t{row.spoken.speaker}" for row in known]
        write_whole(
            path.with_name(path.stem + ".speakers.tsv"), "\n".join(["id\tspeaker", *pairs]) + "\n"
        )


def write_left_out(path: Path, corpus: Corpus) -> None:
    """Write what was left out: a TSV ``kind where message``."""
    lines = ["kind\twhere\tmessage"]
    for problem in corpus.problems:
        cells = (problem.kind, problem.where, problem.message)
        lines.append("\t".join(" ".join(cell.split()) for cell in cells))
    write_whole(path, "\n".join(lines) + "\n")


def write_kaldi(folder: Path, rows: Sequence[Prepared]) -> None:
    """Write a Kaldi directory: wav.scp, text, utt2spk, spk2utt, utt2lang, segments, sorted."""
    rows = sorted((_named(row) for row in rows), key=lambda row: row.spoken.id)
    whole = all(r.spoken.duration is None and not r.spoken.start for r in rows)
    recordings = {_recording(r, whole): str(r.spoken.audio.resolve()) for r in rows}
    speaker = {r.spoken.id: r.spoken.speaker or r.spoken.id for r in rows}
    by_speaker: dict[str, list[str]] = {}
    for name, who in speaker.items():
        by_speaker.setdefault(who, []).append(name)
    files = {
        "wav.scp": [f"{name} {path}" for name, path in sorted(recordings.items())],
        "text": [f"{r.spoken.id} {r.text}" for r in rows],
        "utt2spk": [f"{name} {who}" for name, who in speaker.items()],
        "spk2utt": [f"{who} {' '.join(names)}" for who, names in sorted(by_speaker.items())],
        "utt2lang": [f"{r.spoken.id} {r.language}" for r in rows],
    }
    if not whole:
        files["segments"] = [
            f"{r.spoken.id} {_recording(r, whole)} {r.spoken.start:.4f} "
            f"{r.spoken.start + r.duration:.4f}"
            for r in rows
        ]
    for name, lines in files.items():
        write_whole(folder / name, "\n".join(lines) + "\n")


def _named(row: Prepared) -> Prepared:
    """Kaldi's ids have no space in them; shards are no audio files that others can read."""
    if row.spoken.stretch:
        raise DataError("a shard of raw samples; write its utterances as files first", row.audio)
    return replace(row, spoken=replace(row.spoken, id=row.spoken.id.replace(" ", "_")))


def _recording(row: Prepared, whole: bool) -> str:
    if whole:
        return row.spoken.id
    return re.sub(r"[^\w.-]+", "_", str(row.spoken.audio.resolve().with_suffix(""))).strip("_")


def write_nemo(path: Path, rows: Sequence[Prepared]) -> None:
    """Write NeMo's JSON Lines."""
    lines = []
    for row in map(_named, rows):
        entry: dict[str, Any] = {
            "audio_filepath": str(row.spoken.audio.resolve()),
            "duration": round(row.duration, 4),
            "text": row.text,
            "lang": row.language,
            "id": row.spoken.id,
        }
        if row.spoken.start or row.spoken.duration is not None:
            entry["offset"] = row.spoken.start
        if row.spoken.speaker:
            entry["speaker"] = row.spoken.speaker
        lines.append(json.dumps(entry, ensure_ascii=False))
    write_whole(path, "\n".join(lines) + "\n")


def write_lhotse(folder: Path, rows: Sequence[Prepared]) -> None:
    """Write ``cuts.jsonl``: cuts of one supervision, with its phones in ``custom``."""
    import soundfile

    lines = []
    for row in map(_named, rows):
        path = row.spoken.audio.resolve()
        info = soundfile.info(str(path))
        name = row.spoken.id
        said = {
            "id": name,
            "recording_id": name,
            "start": 0.0,
            "duration": row.duration,
            "channel": 0,
            "text": row.text,
            "language": row.language,
            "custom": {"phones": " ".join(row.phones)},
        }
        if row.spoken.speaker:
            said["speaker"] = row.spoken.speaker
        recording = {
            "id": name,
            "sources": [{"type": "file", "channels": [0], "source": str(path)}],
            "sampling_rate": info.samplerate,
            "num_samples": info.frames,
            "duration": info.frames / info.samplerate,
            "channel_ids": list(range(info.channels)),
        }
        cut = {
            "id": name,
            "start": row.spoken.start,
            "duration": row.duration,
            "channel": 0,
            "supervisions": [said],
            "recording": recording,
            "type": "MonoCut",
        }
        lines.append(json.dumps(cut, ensure_ascii=False))
    write_whole(folder / "cuts.jsonl", "\n".join(lines) + "\n")
