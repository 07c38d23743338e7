"""Transcripts as files: txt, json, srt, vtt, tsv, ctm, trn.

Every writer is a function from one `Transcript` to text. Nothing in an output depends on the clock, so
that the same audio, model and options give the same bytes. Files appear whole or not at all.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

from uyir.decode.transcribe import Segment, SpokenWord, Transcript
from uyir.errors import DataError

#: A subtitle is at most so long; it breaks before that at a pause of at least `CUE_PAUSE_S`.
CUE_S = 7.0
CUE_LETTERS = 84
CUE_PAUSE_S = 0.6

#: What soundfile reads, by the ending of the name; folders are searched for these.
AUDIO_SUFFIXES = frozenset(
    [
        ".wav",
        ".flac",
        ".ogg",
        ".oga",
        ".opus",
        ".mp3",
        ".aiff",
        ".aif",
        ".aifc",
        ".au",
        ".caf",
        ".w64",
        ".rf64",
        ".sph",
    ]
)


def as_json(transcript: Transcript) -> dict[str, Any]:
    """One transcript as JSON; ``decode/README.md`` says what the keys mean."""
    return {
        # A name that is not UTF-8 shows what cannot be decoded as U+FFFD.
        "source": os.fsencode(transcript.source).decode("utf-8", "replace"),
        "language": transcript.language,
        "duration": transcript.duration,
        "text": transcript.text,
        "no_speech": transcript.no_speech,
        "confidence": transcript.confidence,
        "final": transcript.final,
        "words": [_word(word) for word in transcript.words],
        "segments": [_segment(segment) for segment in transcript.segments],
        "engine": transcript.engine,
        "model": transcript.model,
        "normaliser": transcript.normaliser,
        "version": transcript.version,
        "error": transcript.error,
    }


def _word(word: SpokenWord) -> dict[str, Any]:
    return {
        "word": word.word,
        "start": word.start,
        "end": word.end,
        "confidence": word.confidence,
        "oov": word.oov,
        "subwords": [
            {
                "form": piece.form,
                "marked": piece.marked,
                "category": piece.category,
                "gloss": piece.gloss,
                "start": piece.start,
                "end": piece.end,
                "confidence": piece.confidence,
            }
            for piece in word.subwords
        ],
    }


def _segment(segment: Segment) -> dict[str, Any]:
    return {
        "start": segment.start,
        "end": segment.end,
        "text": segment.text,
        "confidence": segment.confidence,
        "final": segment.final,
        "nbest": [{"text": other.text, "score": other.score} for other in segment.alternatives],
    }


def write_json(transcript: Transcript) -> str:
    return json.dumps(as_json(transcript), ensure_ascii=False, indent=1) + "\n"


def write_txt(transcript: Transcript) -> str:
    """The text, a line a segment."""
    return "".join(segment.text + "\n" for segment in transcript.segments)


def write_tsv(transcript: Transcript) -> str:
    """``start end text`` with times in whole milliseconds, a line a segment."""
    rows = ["start\tend\ttext"]
    rows += [f"{_ms(s.start)}\t{_ms(s.end)}\t{s.text}" for s in transcript.segments]
    return "\n".join(rows) + "\n"


def write_srt(transcript: Transcript) -> str:
    cues = [
        f"{number}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{text}\n"
        for number, (start, end, text) in enumerate(cues_of(transcript), start=1)
    ]
    return "\n".join(cues)


def write_vtt(transcript: Transcript) -> str:
    cues = [
        f"{_clock(start, '.')} --> {_clock(end, '.')}\n{_escape(text)}\n"
        for start, end, text in cues_of(transcript)
    ]
    return "\n".join(["WEBVTT\n", *cues])


def write_ctm(transcript: Transcript) -> str:
    """NIST's ``recording channel start duration word confidence``, a line a word."""
    name = utterance_id(transcript)
    return "".join(
        f"{name} 1 {word.start:.3f} {max(0.0, word.end - word.start):.3f} {word.word}"
        f" {word.confidence:.3f}\n"
        for word in transcript.words
    )


def write_trn(transcript: Transcript) -> str:
    """NIST's ``text (utterance)``; sclite takes the name up to its first ``-`` or ``_`` as speaker."""
    text = transcript.text
    return f"{text + ' ' if text else ''}({utterance_id(transcript)})\n"


WRITERS: dict[str, Callable[[Transcript], str]] = {
    "txt": write_txt,
    "json": write_json,
    "srt": write_srt,
    "vtt": write_vtt,
    "tsv": write_tsv,
    "ctm": write_ctm,
    "trn": write_trn,
}


def utterance_id(transcript: Transcript) -> str:
    """The recording's name without folder and ending, without space or brackets."""
    return re.sub(r"[\s()]", "_", Path(transcript.source).stem) or "_"


Cue = tuple[float, float, str]


def cues_of(transcript: Transcript) -> list[Cue]:
    """Subtitles: words gathered up to a pause, `CUE_S` or `CUE_LETTERS`; none overlap."""
    out: list[Cue] = []
    words: list[SpokenWord] = []

    def close() -> None:
        if words:
            out.append((words[0].start, words[-1].end, " ".join(w.word for w in words)))
            words.clear()

    for segment in transcript.segments:
        for word in segment.words:
            if words and (
                word.start - words[-1].end >= CUE_PAUSE_S
                or word.end - words[0].start > CUE_S
                or sum(len(w.word) + 1 for w in words) + len(word.word) > CUE_LETTERS
            ):
                close()
            words.append(word)
        close()
    # A cue of no length is not shown; a frame is the least there can be.
    return [
        (start, max(end, start + 0.04) if i + 1 == len(out) else max(end, start + 0.001), text)
        for i, (start, end, text) in enumerate(out)
    ]


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _clock(seconds: float, point: str) -> str:
    ms = _ms(seconds)
    return f"{ms // 3600000:02d}:{ms // 60000 % 60:02d}:{ms // 1000 % 60:02d}{point}{ms % 1000:03d}"


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


# --------------------------------------------------------------------------------------------------
# Inputs and the names of outputs


@dataclass(frozen=True)
class Input:
    """One recording to do: where it is, and its output's name without ending, relative."""

    path: Path
    output: Path


def find_inputs(arguments: Iterable[str]) -> tuple[list[Input], list[str]]:
    """The recordings that arguments name, folders searched; and what is wrong with the others.

    Inside a folder the tree is mirrored. Two inputs never share an output: where names
    collide the ending is kept (``a.wav.txt``), and where they still do a number is added.
    """
    found: list[tuple[Path, Path]] = []
    problems: list[str] = []
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            inside = _walk(path, problems)
            if not inside and not any(p.startswith(f"{path}") for p in problems):
                problems.append(f"{path}: no recordings in this folder")
            found += [(file, file.relative_to(path)) for file in inside]
        else:
            found.append((path, Path(path.name)))
    return _named(found), problems


def _walk(folder: Path, problems: list[str]) -> list[Path]:
    def unreadable(error: OSError) -> None:
        problems.append(f"{error.filename}: {error.strerror or error}")

    out = []
    for root, folders, files in os.walk(folder, onerror=unreadable):
        folders.sort()
        out += [Path(root) / f for f in sorted(files) if Path(f).suffix.lower() in AUDIO_SUFFIXES]
    return out


def _named(found: Sequence[tuple[Path, Path]]) -> list[Input]:
    bases = [relative.with_suffix("") for _, relative in found]
    counts: dict[Path, int] = {}
    for base in bases:
        counts[base] = counts.get(base, 0) + 1
    taken: set[Path] = set()
    out = []
    for (path, relative), base in zip(found, bases):
        name = base if counts[base] == 1 else relative
        number = 2
        while name in taken:
            name = relative.with_name(f"{relative.name}~{number}")
            number += 1
        taken.add(name)
        out.append(Input(path, name))
    return out


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all; makes its folder.

    Raises `DataError` naming the file where that cannot be done.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", newline="\n", dir=path.parent, prefix=".uyir-", delete=False
        ) as file:
            temporary = file.name
            file.write(text)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
        raise DataError(f"cannot be written: {error.strerror or error}", path) from None


def _umask() -> int:
    now = os.umask(0o022)
    os.umask(now)
    return now


def write_outputs(
    transcript: Transcript, name: Path, folder: Union[str, Path], formats: Sequence[str]
) -> list[Path]:
    """Write a transcript in each format under a folder; returns the files."""
    out = []
    for form in formats:
        path = Path(folder) / name.with_name(f"{name.name}.{form}")
        write_atomically(path, WRITERS[form](transcript))
        out.append(path)
    return out
