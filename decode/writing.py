"""Transcripts become files: in the thread that asks, or in processes of their own.

With a GPU behind it one process cannot write as fast as recordings are done: laying out, hashing and creating
files hold Python's lock in between. On a CPU the cores have better to do.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Union

from uyir.decode.files import OutputFolder
from uyir.decode.inputs import Input
from uyir.decode.journal import sha256
from uyir.decode.output import ENDINGS, Style, writers
from uyir.decode.pipeline import Parts, Recognised
from uyir.decode.processes import Child
from uyir.decode.sources import Source
from uyir.decode.transcript import Transcript
from uyir.errors import DataError

if TYPE_CHECKING:
    from uyir.decode.transcribe import Recogniser

#: Recordings that a process is handed at once, and that wait to be written, at most.
_AT_ONCE, _WAITING = 64, 2048


@dataclass(frozen=True)
class Written:
    """What became of a recording's files: their hashes by format, or what went wrong; and what a report
    says of it. ``notes``: what was done to files that were in the way. ``transcript``: where it was asked for."""

    number: int
    files: Mapping[str, str]
    problem: Optional[str] = None
    duration: float = 0.0
    about: Mapping[str, Any] = field(default_factory=dict)
    no_speech: bool = False
    notes: tuple[str, ...] = ()
    transcript: Optional[Transcript] = None


class Scribe:
    """Writes the files of one recording at a time.

    ``missing``: the formats that are wanted of each; ``ours``: the hashes by format of what an earlier run
    wrote for an output; ``showing``: whether transcripts are to be given back.
    """

    def __init__(
        self,
        recogniser: Recogniser,
        inputs: Sequence[Input],
        sources: Sequence[Source],
        output: OutputFolder,
        missing: Mapping[int, tuple[str, ...]],
        ours: Callable[[Input], Mapping[str, str]],
        *,
        written: bool,
        style: Style,
        showing: bool,
    ) -> None:
        self._recogniser = recogniser
        self._inputs = inputs
        self._sources = sources
        self._output = output
        self._missing = missing
        self._ours = ours
        self._written = written
        self._writers = writers(style)
        self._showing = showing

    def write(self, number: int, parts: Parts) -> Written:
        """Write what is missing of a recording; never raises for a file that cannot be written."""
        entry, notes, hashes = self._inputs[number], [], {}
        try:
            transcript = self._recogniser.transcript(self._sources[number], parts)
            transcript = shown(transcript, self._written)
            for form in self._missing[number]:
                data = self._writers[form](transcript).encode("utf-8", "replace")
                notes += self._put_aside(entry, form, data)
                self._output.write(output_name(entry, form), data)
                hashes[form] = sha256(data)
        except DataError as error:
            return Written(number, {}, str(error), notes=tuple(notes))
        return Written(
            number,
            hashes,
            None,
            transcript.duration,
            {
                "output": str(entry.output),
                "language": transcript.language,
                "words": len(transcript.words),
                "confidence": transcript.confidence,
                "final": transcript.final,
                "rtf": round(transcript.rtf, 4),
            },
            transcript.no_speech,
            tuple(notes),
            transcript if self._showing else None,
        )

    def _put_aside(self, entry: Input, form: str, data: bytes) -> list[str]:
        """Put aside, as ``NAME~``, a file in the way that holds what we did not write."""
        path = self._output.path(output_name(entry, form))
        try:
            there = path.read_bytes()
            if there == data or self._ours(entry).get(form) == sha256(there):
                return []
            path.replace(path.with_name(f"{path.name}~"))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise DataError(f"is in the way: {error.strerror or error}", path) from None
        return [f"{path}: was not as written by uyir: kept as {path.name}~"]


class Writers:
    """Has recordings written, and gives what came of each; without processes by the thread that asks."""

    def __init__(self, scribe: Scribe, processes: Sequence[Child] = ()) -> None:
        self._scribe = scribe
        self._processes = processes
        self._waiting: queue.SimpleQueue[Optional[Recognised]] = queue.SimpleQueue()
        self._written: queue.SimpleQueue[Union[Sequence[Written], BaseException]] = (
            queue.SimpleQueue()
        )
        self._under_way = 0
        self._threads = [
            threading.Thread(target=self._run, args=(child,), daemon=True) for child in processes
        ]

    @staticmethod
    def processes(scribe: Scribe, count: int) -> list[Child]:
        """Processes for `Writers`, forked: to be made before any thread is started."""

        def answer(message: Sequence[tuple[int, Parts]]) -> list[Written]:
            return [scribe.write(number, parts) for number, parts in message]

        # They hold on to the journal's lock: a run that takes over waits for what they still write.
        children = [Child(lambda: answer, forked=True, inherits=True) for _ in range(count)]
        for child in children:
            child.start()
        return children

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join()
        for child in self._processes:
            child.end()

    def put(self, result: Recognised) -> None:
        """Have a recording written."""
        self._under_way += 1
        if self._threads:
            self._waiting.put(result)
        else:
            self._written.put([self._scribe.write(result.number, result.parts)])

    def done(self) -> Iterator[Written]:
        """What has been written since it was last asked, waiting where too much waits to be."""
        while self._under_way > _WAITING or not self._written.empty():
            yield from self._next()

    def all(self) -> Iterator[Written]:
        """What is still to be written, as it is."""
        while self._under_way:
            yield from self._next()

    def _next(self) -> Iterator[Written]:
        found = self._written.get()
        if isinstance(found, BaseException):
            raise found
        self._under_way -= len(found)
        yield from found

    def _run(self, child: Child) -> None:
        ended = False
        while not ended:
            some = [self._waiting.get()]
            while len(some) < _AT_ONCE and some[-1] is not None and not self._waiting.empty():
                some.append(self._waiting.get())
            ended = some[-1] is None
            results = [(one.number, one.parts) for one in some if one is not None]
            if results:
                try:
                    self._written.put(self._asked(child, results))
                except BaseException as error:  # raised where it is waited for
                    self._written.put(error)

    def _asked(self, child: Child, results: Sequence[tuple[int, Parts]]) -> Sequence[Written]:
        def here() -> list[Written]:
            return [self._scribe.write(number, parts) for number, parts in results]

        written: Sequence[Written] = child.ask_or(results, here)
        return written


def shown(transcript: Transcript, written: bool) -> Transcript:
    """The transcript as readers see it: in written form where that is asked for."""
    if not written or not transcript.segments:
        return transcript
    from uyir.decode.written import written as in_digits

    language = transcript.language
    segments = tuple(in_digits(segment, language) for segment in transcript.segments)
    return replace(transcript, segments=segments)


def output_name(entry: Input, form: str) -> Path:
    """The name of an input's output in a format, relative to the output folder."""
    return entry.output.with_name(f"{entry.output.name}.{ENDINGS[form]}")
