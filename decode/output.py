"""Transcripts in the formats of others: txt, json, srt, vtt, tsv, ctm, trn, textgrid.

Every writer is a function from one `Transcript` to text. Nothing in an output depends on the clock, so
that the same audio, model and options give the same bytes. `uyir.decode.files` puts them on disk.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from uyir.asr.textgrid import textgrid_text
from uyir.decode.transcript import Segment, SpokenWord, Transcript


@dataclass(frozen=True)
class Style:
    """How transcripts are laid out. A subtitle is at most ``cue_s`` long and ``letters`` wide, and ends
    before that at a pause of at least ``pause_s``; ``words``: of so many words at most. ``times``:
    whether JSON has words with their times."""

    cue_s: float = 7.0
    letters: int = 84
    pause_s: float = 0.6
    words: Optional[int] = None
    times: bool = True


STYLE = Style()


def as_json(transcript: Transcript, style: Style = STYLE) -> dict[str, Any]:
    """One transcript as JSON; ``decode/README.md`` says what the keys mean."""
    words = {"words": [_word(word) for word in transcript.words]} if style.times else {}
    return {
        # A name that is not UTF-8 shows what cannot be decoded as U+FFFD.
        "source": os.fsencode(transcript.source).decode("utf-8", "replace"),
        "id": utterance_id(transcript),
        "language": transcript.language,
        "duration": transcript.duration,
        "text": transcript.text,
        "no_speech": transcript.no_speech,
        "confidence": transcript.confidence,
        "final": transcript.final,
        **words,
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
        "written": word.written,
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


def write_json(transcript: Transcript, style: Style = STYLE) -> str:
    return json.dumps(as_json(transcript, style), ensure_ascii=False, indent=1) + "\n"


def write_txt(transcript: Transcript, style: Style = STYLE) -> str:
    """The text, a line a segment."""
    return "".join(segment.text + "\n" for segment in transcript.segments)


def write_tsv(transcript: Transcript, style: Style = STYLE) -> str:
    """``start end text`` with times in whole milliseconds, a line a segment."""
    rows = ["start\tend\ttext"]
    rows += [f"{_ms(s.start)}\t{_ms(s.end)}\t{s.text}" for s in transcript.segments]
    return "\n".join(rows) + "\n"


def write_srt(transcript: Transcript, style: Style = STYLE) -> str:
    cues = [
        f"{number}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{text}\n"
        for number, (start, end, text) in enumerate(cues_of(transcript, style), start=1)
    ]
    return "\n".join(cues)


def write_vtt(transcript: Transcript, style: Style = STYLE) -> str:
    cues = [
        f"{_clock(start, '.')} --> {_clock(end, '.')}\n{_escape(text)}\n"
        for start, end, text in cues_of(transcript, style)
    ]
    return "\n".join(["WEBVTT\n", *cues])


def write_ctm(transcript: Transcript, style: Style = STYLE) -> str:
    """NIST's ``recording channel start duration word confidence``, a line a word, as spoken."""
    name = utterance_id(transcript)
    return "".join(
        f"{name} 1 {word.start:.3f} {max(0.0, word.end - word.start):.3f} {word.word}"
        f" {word.confidence:.3f}\n"
        for word in transcript.words
    )


def write_trn(transcript: Transcript, style: Style = STYLE) -> str:
    """NIST's ``text (utterance)``, as spoken; sclite takes the name up to its first ``-`` or ``_`` as
    speaker."""
    words = "".join(f"{word.word} " for word in transcript.words)
    return f"{words}({utterance_id(transcript)})\n"


def write_textgrid(transcript: Transcript, style: Style = STYLE) -> str:
    """Praat's text grid with interval tiers of segments, words and subwords."""
    words = transcript.words
    tiers = {
        "segments": [(s.start, s.end, s.text) for s in transcript.segments],
        "words": [(w.start, w.end, w.word) for w in words],
        "subwords": [(p.start, p.end, p.marked) for w in words for p in w.subwords],
    }
    filled = {name: _tiled(marks) for name, marks in tiers.items()}
    end = max([transcript.duration, 0.001, *(m[-1][1] for m in filled.values() if m)])
    for name, marks in filled.items():
        last = marks[-1][1] if marks else 0.0
        if last < end:
            filled[name] = [*marks, (last, end, "")]
    return textgrid_text(filled, end)


def _tiled(marks: Iterable[tuple[float, float, str]]) -> list[tuple[float, float, str]]:
    """Marks in order without overlap, each of some length, the gaps between them filled."""
    out: list[tuple[float, float, str]] = []
    at = 0.0
    for start, end, text in marks:
        begin = max(start, at)
        if begin > at:
            out.append((at, begin, ""))
        at = max(end, round(begin + 0.001, 4))
        out.append((begin, at, text))
    return out


Writer = Callable[[Transcript], str]
_WRITERS: dict[str, Callable[[Transcript, Style], str]] = {
    "txt": write_txt,
    "json": write_json,
    "srt": write_srt,
    "vtt": write_vtt,
    "tsv": write_tsv,
    "ctm": write_ctm,
    "trn": write_trn,
    "textgrid": write_textgrid,
}
#: In Praat's spelling, which some programs go by.
ENDINGS = {**{form: form for form in _WRITERS}, "textgrid": "TextGrid"}


def writers(style: Style = STYLE) -> dict[str, Writer]:
    """The writer of each format, in a style."""

    def in_style(writer: Callable[[Transcript, Style], str]) -> Writer:
        return lambda transcript: writer(transcript, style)

    return {form: in_style(writer) for form, writer in _WRITERS.items()}


WRITERS = writers()


def utterance_id(transcript: Transcript) -> str:
    """What formats call it: its id, or its name without folder and ending; no space or brackets."""
    name = transcript.id or Path(transcript.source).stem
    name = os.fsencode(name).decode("utf-8", "replace")
    return re.sub(r"[\s()\x00-\x1f\x7f]", "_", name) or "_"


Cue = tuple[float, float, str]


def cues_of(transcript: Transcript, style: Style = STYLE) -> list[Cue]:
    """Subtitles: words gathered up to a pause or what `Style` allows; none overlap."""
    out: list[Cue] = []
    words: list[SpokenWord] = []

    def close() -> None:
        text = " ".join(w.shown for w in words if w.shown)
        if text:
            out.append((words[0].start, words[-1].end, text))
        words.clear()

    for segment in transcript.segments:
        for word in segment.words:
            # The words of one number stay together: the first shows them all.
            if (
                words
                and word.written != ""
                and (
                    word.start - words[-1].end >= style.pause_s
                    or word.end - words[0].start > style.cue_s
                    or sum(len(w.shown) + 1 for w in words) + len(word.shown) > style.letters
                    or (style.words is not None and len(words) >= style.words)
                )
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
