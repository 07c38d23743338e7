"""Recordings read and cut into parts: by the thread that asks, or by processes of their own, ahead.

With a GPU behind it one process reads too slowly (opening, decoding, resampling and hashing recordings
hold Python's lock in between), so readers are processes; on a CPU the cores have better to do.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Optional, Union

from uyir.asr.audio import SAMPLE_RATE
from uyir.decode.pauses import Stretch
from uyir.decode.processes import Arrays, Child, Died, Segments
from uyir.decode.sources import Source
from uyir.decode.vad import Part, parts_of
from uyir.errors import UyirError

#: A reader is handed about so much audio (s) at once; a recording that is longer than `LONG_S` it is
#: never: such a one is read in pieces, as it is needed.
CHUNK_S, LONG_S = 120.0, 600.0
#: Pieces of memory of twice that, for what is read and not yet recognised. Only what is used of them is there.
_SEGMENTS = 192

Member = tuple[int, Source]


@dataclass(frozen=True)
class Reading:
    """What came of reading a recording: how many parts, of how much audio (s), in how much time."""

    number: int
    pieces: int
    duration: float
    error: Optional[str]
    seconds: float
    hash: Optional[str]


#: A recording's parts, and what came of it after the last of them.
Event = Union[Part, Reading]


@dataclass(frozen=True)
class How:
    """How to read: which voice activity detection, and whether files are hashed."""

    vad: str
    hashing: bool


def events_of(number: int, source: Source, how: How, hashing: bool = True) -> Iterator[Event]:
    """Read a recording. Never raises for what is wrong with it: see `Reading.error`."""
    begin, count, samples, error, digest = time.perf_counter(), 0, [0], None, None
    try:
        if how.hashing and hashing:
            digest = source.hash()
        for part in parts_of(_counting(source.blocks(), samples), how.vad):
            yield part
            count += 1
    except UyirError as reason:
        error = str(reason)
    except Exception as reason:  # whatever a damaged file makes a library do
        error = f"{source.name}: {type(reason).__name__}: {reason}"
    duration = samples[0] / SAMPLE_RATE if error is None else 0.0
    yield Reading(number, count, duration, error, time.perf_counter() - begin, digest)


def _counting(blocks: Iterable[Any], count: list[int]) -> Iterator[Any]:
    for block in blocks:
        count[0] += len(block)
        yield block


class Readers:
    """Processes that read recordings ahead of who needs them; none: the asking thread reads."""

    def __init__(
        self,
        how: How,
        processes: Sequence[Child] = (),
        segments: Optional[Segments] = None,
    ) -> None:
        self._how = how
        self._segments = segments
        self._idle = deque(processes)
        self._processes = list(processes)
        self._pool: Optional[ThreadPoolExecutor] = None

    @staticmethod
    def forked(how: How, count: int) -> Readers:
        """With so many processes, forked: to be made before any thread is started."""
        segments = Segments(_SEGMENTS, int(2 * CHUNK_S * SAMPLE_RATE)) if count else None
        children = [Child(partial(_reader, how, segments), forked=True) for _ in range(count)]
        for child in children:
            child.start()
        return Readers(how, children, segments)

    @property
    def processes(self) -> Sequence[Child]:
        """Those that read; none where the asking thread does."""
        return self._processes

    def ahead(
        self, groups: Iterable[Sequence[Member]], wanted: Callable[[int], bool]
    ) -> Iterator[tuple[Sequence[Member], Iterator[Event]]]:
        """Each group with its recordings' events in order, the next group being read meanwhile.

        ``wanted``: whether a recording's file is to be hashed.
        """
        if not self._processes:
            for members in groups:
                yield members, self._here(members, wanted)
            return
        self._pool = ThreadPoolExecutor(len(self._processes))
        waiting: deque[tuple[Sequence[Member], list[Any]]] = deque()
        for members in groups:
            waiting.append((members, self._begun(members, wanted)))
            if len(waiting) > 1:
                first, begun = waiting.popleft()
                yield first, self._events(begun, wanted)
        for members, begun in waiting:
            yield members, self._events(begun, wanted)

    def _here(self, members: Sequence[Member], wanted: Callable[[int], bool]) -> Iterator[Event]:
        for number, source in members:
            yield from events_of(number, source, self._how, wanted(number))

    def _begun(self, members: Sequence[Member], wanted: Callable[[int], bool]) -> list[Any]:
        """What is done about each stretch of a group: asked of a process, or left to this thread."""
        assert self._pool is not None
        begun: list[Any] = []
        chunk: list[Member] = []
        held = 0.0

        def ask() -> None:
            nonlocal chunk, held
            if chunk:
                hashed = [wanted(number) for number, _ in chunk]
                begun.append(self._pool.submit(self._asked, chunk, hashed))  # type: ignore[union-attr]
            chunk, held = [], 0.0

        for member in members:
            source, length = member[1], member[1].duration()
            if source.entry is None or source.entry.command is not None or length > LONG_S:
                ask()
                begun.append(member)
                continue
            chunk.append(member)
            held += length
            if held >= CHUNK_S:
                ask()
        ask()
        return begun

    def _events(self, begun: Sequence[Any], wanted: Callable[[int], bool]) -> Iterator[Event]:
        for one in begun:
            if isinstance(one, Future):
                yield from one.result()
            else:
                yield from events_of(one[0], one[1], self._how, wanted(one[0]))

    def _asked(self, chunk: Sequence[Member], hashed: Sequence[bool]) -> list[Event]:
        child = self._idle.popleft()
        try:
            return self._taken(child, chunk, hashed)
        except Died:
            # Each by itself, in a new process, tells whose fault it was.
            return [
                event
                for member, one in zip(chunk, hashed)
                for event in self._alone(child, member, one)
            ]
        finally:
            self._idle.append(child)

    def _alone(self, child: Child, member: Member, hashed: bool) -> list[Event]:
        try:
            return self._taken(child, [member], [hashed])
        except Died as died:
            number, source = member
            why = f"{source.name}: the process that read it died ({died.reason})"
            return [Reading(number, 0, 0.0, why, 0.0, None)]

    def _taken(self, child: Child, chunk: Sequence[Member], hashed: Sequence[bool]) -> list[Event]:
        number = None if self._segments is None else self._segments.lend()
        placed = False
        try:
            answer = child.ask((chunk, hashed, number))
            placed = isinstance(answer, _Placed)
        finally:
            if number is not None and not placed:
                self._segments.give_back(number)  # type: ignore[union-attr]
        if placed:
            arrays = iter(self._segments.arrays(number, answer.lengths))  # type: ignore[union-attr, arg-type]
        else:
            arrays = iter(answer.arrays)
        return [Part(e, next(arrays)) if isinstance(e, Stretch) else e for e in answer.of]

    def close(self) -> None:
        for child in self._processes:
            child.end()
        if self._pool is not None:
            self._pool.shutdown(wait=False)


@dataclass(frozen=True)
class _Placed:
    """As `Arrays`, where the arrays are in the piece of memory that was lent."""

    of: Any
    lengths: tuple[int, ...]


def _reader(how: How, segments: Optional[Segments]) -> Callable[[Any], Any]:
    """What a process answers: the events of recordings, the samples of their parts apart."""

    def read(message: tuple[Sequence[Member], Sequence[bool], Optional[int]]) -> Any:
        chunk, wanted, number = message
        events: list[Any] = []
        arrays = []
        for (recording, source), hashed in zip(chunk, wanted):
            for event in events_of(recording, source, how, hashed):
                if isinstance(event, Part):
                    events.append(event.stretch)
                    arrays.append(event.samples)
                else:
                    events.append(event)
        if number is not None and segments is not None:
            lengths = segments.fill(number, arrays)
            if lengths is not None:
                return _Placed(events, lengths)
        return Arrays(events, arrays)

    return read
