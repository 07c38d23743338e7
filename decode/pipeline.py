"""Recordings in, transcripts out: reading, cutting, the network, the search and writing overlap.

One thread reads and cuts recordings, at most `AHEAD` groups ahead of what is recognised; lanes
(`uyir.decode.lanes`) run network and search on batches; whoever iterates gets the transcripts. Batches
are formed a group at a time, from its parts alone, so they do not depend on time.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Optional, Union

from uyir.asr.audio import SAMPLE_RATE
from uyir.decode.batches import GROUP_S, batches_of
from uyir.decode.calibration import Identification
from uyir.decode.evidence import Spoken
from uyir.decode.lanes import start_threads
from uyir.decode.reading import Event, Readers, Reading
from uyir.decode.sources import Source
from uyir.decode.transcript import Sealed, Segment, Transcript
from uyir.decode.vad import Part
from uyir.decode.work import Done, Found, Lane, Piece, Task, TaskQueue

#: Groups that are read and not yet recognised.
AHEAD = 2
#: So much of a recording (s) is heard in every language to tell which it is.
PROBE_S = 25.0
AUTO = "auto"


@dataclass(frozen=True)
class Counts:
    """What a pipeline has done so far: seconds of audio in batches, and of padding besides."""

    batches: int = 0
    audio_s: float = 0.0
    padding_s: float = 0.0

    @property
    def padding(self) -> float:
        """The share of padding in all batches."""
        whole = self.audio_s + self.padding_s
        return self.padding_s / whole if whole else 0.0


@dataclass(frozen=True)
class Parts:
    """What a transcript is made of (`uyir.decode.transcribe.Recogniser.transcript`): the language, segments in order
    of time, and the rest as `Transcript` has it."""

    language: str
    segments: tuple[Union[Segment, Sealed], ...]
    duration: float
    rtf: float
    final: bool
    error: Optional[str]


@dataclass(frozen=True)
class Recognised:
    """What became of a recording, its number in the list, and the hash of what was read."""

    number: int
    source: Source
    parts: Parts
    make: Callable[[Source, Parts], Transcript]
    hash: Optional[str] = None

    @property
    def transcript(self) -> Transcript:
        """Made anew each time."""
        return self.make(self.source, self.parts)


@dataclass(frozen=True)
class Plan:
    """How to recognise: the languages (one, or `AUTO` and the languages to tell apart), how to cut,
    how large batches may be, and of how much audio (s) the groups that they are formed from.
    ``identification``: how languages are compared."""

    language: str
    languages: tuple[str, ...]
    vad: str
    batch_size: int
    batch_s: float
    group_s: float = GROUP_S
    identification: Identification = field(default_factory=Identification)


@dataclass
class _Group:
    pieces: list[Piece] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    last: bool = False


@dataclass
class _Recording:
    source: Source
    language: Optional[str]
    segments: dict[int, Union[Segment, Sealed]] = field(default_factory=dict)
    answered: int = 0
    seconds: float = 0.0
    final: bool = True
    error: Optional[str] = None
    reading: Optional[Reading] = None
    probes: dict[str, list[tuple[Piece, Found]]] = field(default_factory=dict)


class Pipeline:
    """One run over groups of recordings; iterate over `run` once. ``make`` gives a transcript."""

    def __init__(
        self,
        lanes: Sequence[Lane],
        plan: Plan,
        make: Callable[[Source, Parts], Transcript],
        *,
        readers: Readers,
    ) -> None:
        self._lanes = lanes
        self.plan = plan
        self._make = make
        self.readers = readers
        self._tasks = TaskQueue()
        self._inbox: queue.Queue[Any] = queue.Queue()
        self._ahead = threading.Semaphore(AHEAD)
        self._told = False
        self._stopped = threading.Event()
        self._recordings: dict[int, _Recording] = {}
        self._numbers = 0
        self._pending: dict[int, _Group] = {}  # task -> the group it is of
        self._left: dict[int, int] = {}  # group's id -> tasks that are not done
        self._probing: Optional[_Group] = None
        self._waiting: deque[_Group] = deque()
        self.counts = Counts()

    def stop(self) -> None:
        """Begin nothing new: `run` gives what is done by then, and ends."""
        self._told = True
        self._stopped.set()

    @property
    def stopped(self) -> bool:
        """Whether it was told to stop before all was done."""
        return self._told

    def run(
        self,
        groups: Iterable[Sequence[tuple[int, Source]]],
        wanted: Optional[Callable[[int], bool]] = None,
    ) -> Iterator[Recognised]:
        """Yield each recording as soon as it is done, in no order.

        A group without a recording that is ``wanted`` is passed over; of others, batches without one.
        """
        self._wanted = wanted or (lambda number: True)
        reader = threading.Thread(target=self._read_all, args=(groups,), daemon=True)
        reader.start()
        threads = start_threads(self._lanes, self._work)
        try:
            yield from self._results()
        finally:
            self._stopped.set()
            self._tasks.close()
            self._ahead.release()
            for thread in threads:
                thread.join(timeout=60.0)
            reader.join(timeout=60.0)
            self.readers.close()

    # ---- reading, in a thread of its own

    def _read_all(self, groups: Iterable[Sequence[tuple[int, Source]]]) -> None:
        some = (members for members in groups if any(self._wanted(number) for number, _ in members))
        try:
            for members, events in self.readers.ahead(some, self._wanted):
                if self._stopped.is_set():
                    break
                self._read_group(members, events)
            self._inbox.put(_Group(last=True))
        except BaseException as error:  # what a caller's iterable raises is the caller's
            self._inbox.put(error)

    def _read_group(self, members: Sequence[tuple[int, Source]], events: Iterator[Event]) -> None:
        group, held = _Group(), 0.0
        for number, source in members:
            self._recordings[number] = _Recording(source, source.language or self._language())
            for count, event in enumerate(events):
                if self._stopped.is_set():
                    return
                if isinstance(event, Part):
                    if held >= self.plan.group_s:
                        self._send(group)
                        group, held = _Group(), 0.0
                    group.pieces.append(Piece(number, count, event.stretch, event.samples))
                    held += len(event.samples) / SAMPLE_RATE
                    continue
                if event.error is not None:
                    group.pieces = [piece for piece in group.pieces if piece.recording != number]
                group.readings.append(event)
                break
        self._send(group)

    def _language(self) -> Optional[str]:
        return None if self.plan.language == AUTO else self.plan.language

    def _send(self, group: _Group) -> None:
        self._ahead.acquire()
        if not self._stopped.is_set():
            self._inbox.put(group)

    # ---- recognising, in a thread a lane

    def _work(self, lane: Lane) -> None:
        while True:
            task = self._tasks.get()
            if task is None:
                return
            self._inbox.put(lane.run(task))

    # ---- putting together, where `run` is iterated

    def _results(self) -> Iterator[Recognised]:
        reading = True
        while reading or self._left or self._waiting:
            if self._stopped.is_set():
                for task in self._tasks.clear():
                    self._forget(task)
                self._waiting.clear()
                if not self._left:
                    return
            try:
                event = self._inbox.get(timeout=0.2)
            except queue.Empty:
                continue
            if isinstance(event, BaseException):
                raise event
            if isinstance(event, Done):
                touched = self._answered(event)
            elif event.last:
                reading, touched = False, set()
            elif self._stopped.is_set():
                continue
            else:
                touched = {reading.number for reading in event.readings}
                for found in event.readings:
                    self._recordings[found.number].reading = found
                self._waiting.append(event)
                self._begin()
            for number in sorted(touched):
                finished = self._finished(number)
                if finished is not None:
                    yield finished

    def _begin(self) -> None:
        """Hand out the groups that wait, as far as the languages of their recordings are known."""
        while self._waiting and self._probing is None:
            group = self._waiting.popleft()
            group.pieces = [p for p in group.pieces if p.recording in self._recordings]
            self._left[id(group)] = 0
            if self._probe(group):
                self._probing = group
            else:
                self._hand_out(group, group.pieces)
                self._close(group)

    def _probe(self, group: _Group) -> bool:
        """Have what tells the languages of a group's recordings recognised in all of them."""
        unknown: dict[int, list[Piece]] = {}
        for piece in group.pieces:
            if self._recordings[piece.recording].language is None:
                unknown.setdefault(piece.recording, []).append(piece)
        probes: list[Piece] = []
        for pieces in unknown.values():
            heard = 0.0
            for piece in sorted(pieces, key=lambda piece: (-len(piece.samples), piece.number)):
                if heard and heard + len(piece.samples) / SAMPLE_RATE > PROBE_S:
                    break
                probes.append(piece)
                heard += len(piece.samples) / SAMPLE_RATE
        for language in self.plan.languages if probes else ():
            self._batches(group, probes, language)
        return bool(probes)

    def _hand_out(self, group: _Group, pieces: Sequence[Piece]) -> None:
        by_language: dict[str, list[Piece]] = {}
        for piece in pieces:
            language = self._recordings[piece.recording].language
            by_language.setdefault(str(language), []).append(piece)
        for language in sorted(by_language):
            self._batches(group, by_language[language], language)

    def _batches(self, group: _Group, pieces: Sequence[Piece], language: str) -> None:
        lengths = [len(piece.samples) for piece in pieces]
        limit = int(self.plan.batch_s * SAMPLE_RATE)
        for batch in batches_of(lengths, self.plan.batch_size, limit):
            members = tuple(pieces[i] for i in batch)
            known = all(self._recordings[piece.recording].language for piece in members)
            if known and not any(self._wanted(piece.recording) for piece in members):
                continue
            task = Task(self._numbers, language, members)
            self._numbers += 1
            self._pending[task.number] = group
            self._left[id(group)] += 1
            self._tasks.put(task)

    def _answered(self, done: Done) -> set[int]:
        group = self._forget(done.task)
        heard = [len(piece.samples) / SAMPLE_RATE for piece in done.task.pieces]
        self.counts = Counts(
            self.counts.batches + 1,
            self.counts.audio_s + sum(heard),
            self.counts.padding_s + len(heard) * max(heard) - sum(heard),
        )
        for piece, found, length in zip(done.task.pieces, done.found, heard):
            recording = self._recordings.get(piece.recording)
            if recording is None:
                continue
            recording.seconds += done.seconds * length / sum(heard)
            if recording.language is None:
                recording.probes.setdefault(done.task.language, []).append((piece, found))
            else:
                self._take(recording, piece, found)
        touched = {piece.recording for piece in done.task.pieces}
        if self._probing is group and not self._left.get(id(group)) and not self.stopped:
            touched |= {piece.recording for piece in group.pieces}
            self._decide(group)
        self._close(group)
        self._begin()
        return touched

    def _decide(self, group: _Group) -> None:
        """Give each probed recording its language, and have the rest of the group recognised."""
        self._probing = None
        rest = []
        # A recording that could not be read to its end has been given up meanwhile.
        pieces = [piece for piece in group.pieces if piece.recording in self._recordings]
        for number in dict.fromkeys(piece.recording for piece in pieces):
            recording = self._recordings[number]
            if recording.language is None:
                recording.language = self._likeliest(recording.probes)
                for piece, found in recording.probes.get(recording.language, ()):
                    self._take(recording, piece, found)
        for piece in pieces:
            recording = self._recordings[piece.recording]
            probed = {p.number for p, _ in recording.probes.get(str(recording.language), ())}
            if piece.number not in probed:
                rest.append(piece)
        self._hand_out(group, rest)

    def _likeliest(self, probes: Mapping[str, Sequence[tuple[Piece, Found]]]) -> str:
        heard = {
            language: sum(
                (f.spoken for _, f in probes.get(language, ()) if f.error is None), Spoken()
            )
            for language in self.plan.languages
        }
        return self.plan.identification.best(heard)

    def _take(self, recording: _Recording, piece: Piece, found: Found) -> None:
        recording.answered += 1
        if found.segment is not None:
            recording.segments[piece.number] = found.segment
            recording.final = recording.final and found.segment.final
        elif recording.error is None:
            recording.error = f"{recording.source.name}: {found.error}"

    def _forget(self, task: Task) -> _Group:
        group = self._pending.pop(task.number)
        self._left[id(group)] -= 1
        if self._stopped.is_set():
            self._close(group)
        return group

    def _close(self, group: _Group) -> None:
        """Let the reader go on once nothing of a group is left to do."""
        if self._probing is group and not self._stopped.is_set():
            return
        if self._left.get(id(group)) == 0:
            del self._left[id(group)]
            group.pieces = []
            self._ahead.release()

    def _finished(self, number: int) -> Optional[Recognised]:
        recording = self._recordings.get(number)
        if recording is None or recording.reading is None:
            return None
        reading = recording.reading
        if not self._wanted(number):
            if reading.error is not None or recording.answered >= reading.pieces:
                del self._recordings[number]
            return None
        error = reading.error or recording.error
        if reading.error is None and recording.answered < reading.pieces:
            return None
        del self._recordings[number]
        seconds = recording.seconds + reading.seconds
        in_order = [recording.segments[n] for n in sorted(recording.segments)]
        parts = Parts(
            language=recording.language or self.plan.languages[0],
            segments=tuple(s for s in in_order if s.count) if error is None else (),
            duration=reading.duration,
            rtf=seconds / reading.duration if reading.duration else 0.0,
            final=error is None and recording.final,
            error=error,
        )
        return Recognised(number, recording.source, parts, self._make, reading.hash)


def moved(segment: Segment, seconds: float) -> Segment:
    """A segment as much later: of a recording that begins there in its file."""
    if not seconds:
        return segment

    def later(time: float) -> float:
        return round(time + seconds, 3)

    return replace(
        segment,
        start=later(segment.start),
        end=later(segment.end),
        words=tuple(
            replace(
                word,
                start=later(word.start),
                end=later(word.end),
                subwords=tuple(
                    replace(piece, start=later(piece.start), end=later(piece.end))
                    for piece in word.subwords
                ),
            )
            for word in segment.words
        ),
    )


def in_order(results: Iterable[Recognised]) -> Iterator[Recognised]:
    """Results by number from 0; a number that never comes holds back what follows until the end."""
    held: dict[int, Recognised] = {}
    following = 0
    for result in results:
        held[result.number] = result
        while following in held:
            yield held.pop(following)
            following += 1
    for number in sorted(held):
        yield held[number]
