"""NIST's formats with times: STM (segments of a reference) and CTM (words with times).

A CTM word belongs to the STM segment that its middle falls into, of the same file and channel; words
outside of every segment are an utterance of their own, which the reference does not have.
Both formats are those of sclite's manual (``sctk``, infmts).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from uyir.decode.score.read import Reading, Texts, Utterance, lines_of, refuse_alternatives
from uyir.errors import DataError

#: An STM segment with this text is not scored, nor are the words recognised in it.
IGNORED = "ignore_time_segment_in_scoring"


class _Word(NamedTuple):
    file: str
    channel: str
    begin: float
    duration: float
    word: str
    line: int


def _cells(text: str, path: str, least: int, want: str) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(lines_of(text, path), 1):
        if line.strip() and not line.startswith(";;"):
            cells = line.split(None, least)
            if len(cells) < least:
                raise DataError(f"{len(cells)} columns; want {want}", path, number)
            yield number, cells


def _seconds(text: str, path: str, number: int) -> float:
    try:
        return float(text)
    except ValueError:
        raise DataError(f"{text!r} is no time in seconds", path, number) from None


def _ctm_words(text: str, path: str) -> list[_Word]:
    words: list[_Word] = []
    for number, cells in _cells(text, path, 5, "file channel begin duration word"):
        if cells[4].upper().startswith("<ALT"):
            raise DataError("alternatives <ALT> are not read: choose one", path, number)
        begin, duration = (_seconds(cell, path, number) for cell in cells[2:4])
        words.append(_Word(cells[0], cells[1], begin, duration, cells[4], number))
    return words


def read_ctm(text: str, path: str, reading: Reading) -> Iterator[Utterance]:
    """A recording's channel an utterance, its words in order of time; the id is the file's name, with
    the channel after an underscore where the file has several."""
    found: dict[tuple[str, str], list[_Word]] = {}
    for word in _ctm_words(text, path):
        found.setdefault((word.file, word.channel), []).append(word)
    channels: dict[str, int] = {}
    for file, _ in found:
        channels[file] = channels.get(file, 0) + 1
    for (file, channel), words in found.items():
        name = reading.id_of(file) + (f"_{channel}" if channels[file] > 1 else "")
        words.sort(key=lambda word: word.begin)
        end = max(word.begin + word.duration for word in words)
        spoken = " ".join(word.word for word in words)
        yield Utterance(name, spoken, words[0].line, {"channel": channel, "duration": f"{end:g}"})


class _Segment(NamedTuple):
    file: str
    channel: str
    begin: float
    end: float
    utterance: Utterance


def _stm_segments(text: str, path: str, reading: Reading) -> list[_Segment]:
    rows = []
    for number, cells in _cells(text, path, 5, "file channel speaker begin end <labels> text"):
        file, channel, speaker = cells[:3]
        begin, end = (_seconds(cell, path, number) for cell in cells[3:5])
        if end < begin:
            raise DataError(f"it ends at {end:g} before it begins at {begin:g}", path, number)
        words = cells[5].strip() if len(cells) > 5 else ""
        meta = {"speaker": speaker, "channel": channel, "duration": f"{end - begin:g}"}
        if words.startswith("<") and ">" in words:
            meta["label"], _, words = words[1:].partition(">")
        refuse_alternatives(words, path, number)
        rows.append((file, channel, begin, end, words.strip(), number, meta))
    alone: dict[str, int] = {}
    for file, *_ in rows:
        alone[file] = alone.get(file, 0) + 1
    segments = []
    for file, channel, begin, end, words, number, meta in rows:
        stem = reading.id_of(file)
        name = stem if alone[file] == 1 else f"{stem}_{channel}_{begin:.2f}_{end:.2f}"
        segments.append(_Segment(file, channel, begin, end, Utterance(name, words, number, meta)))
    return segments


def _is_ignored(segment: _Segment) -> bool:
    return segment.utterance.text.strip().lower() == IGNORED


def read_stm(text: str, path: str, reading: Reading) -> Iterator[Utterance]:
    """A segment an utterance; the id is the file's name where it has one segment, else
    FILE_CHANNEL_BEGIN_END with times in seconds. Segments to be ignored are left out."""
    for segment in _stm_segments(text, path, reading):
        if not _is_ignored(segment):
            yield segment.utterance


def read_into_segments(ctm: str, ctm_path: str, stm: str, stm_path: str, reading: Reading) -> Texts:
    """The words of a CTM, sorted into the segments of an STM by the middle of each."""
    segments: dict[tuple[str, str], list[_Segment]] = {}
    for segment in _stm_segments(stm, stm_path, reading):
        segments.setdefault((segment.file, segment.channel), []).append(segment)
    for several in segments.values():
        several.sort(key=lambda segment: segment.begin)
    begins = {key: [segment.begin for segment in several] for key, several in segments.items()}
    found: dict[str, list[_Word]] = {}
    for several in segments.values():
        found.update({s.utterance.id: [] for s in several if not _is_ignored(s)})
    ignored = 0
    for word in sorted(_ctm_words(ctm, ctm_path), key=lambda word: word.begin):
        key = (word.file, word.channel)
        middle = word.begin + word.duration / 2
        at = bisect_right(begins.get(key, []), middle) - 1
        around = segments[key][at] if at >= 0 else None
        if around is not None and middle <= around.end:
            if _is_ignored(around):
                ignored += 1
                continue
            name = around.utterance.id
        else:
            name = f"{reading.id_of(word.file)}_{word.channel} outside of segments"
        found.setdefault(name, []).append(word)
    utterances = {
        name: Utterance(name, " ".join(w.word for w in words), words[0].line if words else None)
        for name, words in found.items()
    }
    left_out = sum(_is_ignored(s) for several in segments.values() for s in several)
    notes: tuple[str, ...] = ()
    if left_out:
        notes = (
            f"{stm_path}: {left_out} segments are marked to be ignored, and with them {ignored} "
            f"words of {ctm_path}",
        )
    return Texts(ctm_path, utterances, notes=notes)
