"""A run of `uyir transcribe` over a list of recordings: what is done is kept, what fails is said.

`run_archive` writes files and keeps a journal, so that it can be killed at any moment and taken up;
`run_stream` gives transcripts in order and keeps nothing.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Optional, Union

from uyir.decode.batches import groups_of
from uyir.decode.files import OutputFolder
from uyir.decode.inputs import Input
from uyir.decode.journal import Journal, plan_of, sha256
from uyir.decode.output import ENDINGS, Style, writers
from uyir.decode.pipeline import AUTO, Pipeline, Recognised, in_order
from uyir.decode.report import Report
from uyir.decode.sources import Source, sources_of
from uyir.decode.transcribe import Recogniser
from uyir.decode.transcript import Transcript
from uyir.errors import AudioError, DataError


@dataclass(frozen=True)
class Wishes:
    """What a run makes of recordings, besides what its recogniser decides. ``shard``: *(i, n)*, the
    i-th of n parts of the list, from 1."""

    language: str = AUTO
    formats: tuple[str, ...] = ("txt",)
    written: bool = False
    style: Style = field(default_factory=Style)
    resume: bool = True
    shard: tuple[int, int] = (1, 1)


#: Recordings that are written at once, at most.
_AT_ONCE = 256
#: What was written: the hashes of the files by format, or what went wrong.
Written = tuple[Recognised, dict[str, str], Optional[DataError]]

#: Hands over the pipeline before it runs, so that a signal can stop it.
Started = Callable[[Pipeline], None]


def shard_of(inputs: Sequence[Input], shard: tuple[int, int]) -> list[Input]:
    """The i-th of n parts of a list: every n-th of it, so that parts are about as long."""
    return list(inputs[shard[0] - 1 :: shard[1]])


def run_stream(
    recogniser: Recogniser,
    inputs: Sequence[Input],
    wishes: Wishes,
    started: Started,
    report: Report,
) -> Iterator[tuple[int, Transcript]]:
    """Yield the numbers and transcripts of inputs in order. The pipeline's `stop` ends it early."""
    sources = list(sources_of(inputs))
    durations = [source.duration() for source in sources]
    report.expected = sum(durations)
    groups = [
        [(n, sources[n]) for n in group] for group in groups_of(durations, recogniser.group_s)
    ]
    pipeline, lanes = recogniser.pipeline(wishes.language)
    started(pipeline)
    try:
        for result in in_order(pipeline.run(groups)):
            yield result.number, _shown(result.transcript, wishes)
    finally:
        for lane in lanes:
            lane.close()


def _shown(transcript: Transcript, wishes: Wishes) -> Transcript:
    if not wishes.written or not transcript.segments:
        return transcript
    from uyir.decode.written import written

    language = transcript.language
    return replace(transcript, segments=tuple(written(s, language) for s in transcript.segments))


def made_by(recogniser: Recogniser, wishes: Wishes) -> str:
    """SHA-256 of all that decides about an output but the recording."""
    about = {
        "recogniser": recogniser.fingerprint(),
        "language": wishes.language,
        "written": wishes.written,
        "style": asdict(wishes.style),
    }
    return sha256(json.dumps(about, sort_keys=True).encode())


def run_archive(
    recogniser: Recogniser,
    inputs: Sequence[Input],
    folder: Path,
    wishes: Wishes,
    report: Report,
    started: Started,
    each: Callable[[Transcript], None] = lambda transcript: None,
) -> float:
    """Transcribe inputs into a folder, saying to ``report`` what became of each.

    ``each`` is called with every new transcript. Returns the share of padding in batches. Raises `DataError` where the folder or its journal
    cannot be used; what is wrong with one recording or its output goes to the report.
    """
    part = "" if wishes.shard[1] == 1 else f"-{wishes.shard[0]}-of-{wishes.shard[1]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot be made: {error.strerror or error}", folder) from None
    journal = Journal(folder, part)
    try:
        archive = _Archive(recogniser, inputs, folder, part, wishes, report, journal)
        return archive.run(started, each)
    finally:
        journal.close()


class _Archive:
    def __init__(
        self,
        recogniser: Recogniser,
        inputs: Sequence[Input],
        folder: Path,
        part: str,
        wishes: Wishes,
        report: Report,
        journal: Journal,
    ) -> None:
        self.recogniser = recogniser
        self.inputs = inputs
        self.wishes = wishes
        self.report = report
        self.journal = journal
        self.output = OutputFolder(folder, part)
        self.made = made_by(recogniser, wishes)
        self.writers = writers(wishes.style)
        self.missing: dict[int, tuple[str, ...]] = {}

    def run(self, started: Started, each: Callable[[Transcript], None]) -> float:
        sources = list(sources_of(self.inputs))
        durations = [source.duration() for source in sources]
        names = [str(entry.output) for entry in self.inputs]
        known = {n: self._missing(entry, sources[n]) for n, entry in enumerate(self.inputs)}
        self.missing = {n: formats for n, formats in known.items() if formats}
        self.report.skip(len(self.inputs) - len(self.missing))
        self.report.expected = sum(durations[n] for n in self.missing)
        plan = plan_of(names, durations, f"{self.made} {','.join(sorted(self.wishes.formats))}")
        if not self.missing:
            self._end(interrupted=False)
            return 0.0
        self.journal.begin(plan)
        self.report.event("plan", missing=len(self.missing), audio_s=round(self.report.expected, 1))
        # All that this plan began with: what it has done by now shares batches with what is left.
        members = [n for n in range(len(names)) if n in self.missing or not self._before(names[n])]
        order = sorted(members, key=lambda n: (-durations[n], names[n]))
        pipeline, lanes = self.recogniser.pipeline(self.wishes.language, hashing=True)
        started(pipeline)
        try:
            groups = [
                [(order[i], sources[order[i]]) for i in group]
                for group in groups_of([durations[n] for n in order], self.recogniser.group_s)
            ]
            with Committer(self._commit) as committer:
                for result in pipeline.run(groups, self.missing.__contains__):
                    if result.transcript.error is None:
                        committer.put(result)
                    else:
                        name = self.inputs[result.number].name
                        self.report.failed(name, result.transcript.error)
                    self._settle(committer.done(), each)
                self._settle(committer.all(), each)
        finally:
            for lane in lanes:
                lane.close()
        self._end(interrupted=pipeline.stopped)
        return pipeline.counts.padding

    def _end(self, *, interrupted: bool) -> None:
        if not interrupted:
            tidy = self.journal.tidy()
            if tidy != self.journal.path.read_bytes():
                self.output.write(Path(self.journal.path.name), tidy)
        self.output.close()

    def _before(self, name: str) -> bool:
        record = self.journal.records.get(name)
        return record is not None and record.before

    def _missing(self, entry: Input, source: Source) -> tuple[str, ...]:
        """The formats that an input is not yet there in."""
        record = self.journal.records.get(str(entry.output)) if self.wishes.resume else None
        if record is None or record.made != self.made or not set(record.files):
            return self.wishes.formats
        try:
            if source.hash() != record.source:
                return self.wishes.formats
        except AudioError:
            return self.wishes.formats
        return tuple(
            form
            for form in self.wishes.formats
            if form not in record.files or not self._is_there(entry, form, record.files[form])
        )

    def _is_there(self, entry: Input, form: str, digest: str) -> bool:
        """Whether an output is there. Changed by someone it is theirs; lost in a power cut it is not."""
        try:
            size = (self.output.folder / _name(entry, form)).stat().st_size
        except OSError:
            return False
        return size > 0 or digest == sha256(b"")

    def _commit(self, results: Sequence[Recognised]) -> list[Written]:
        """Write the files of some transcripts; says of each with which hashes, by format, or why not."""
        files: list[tuple[Path, bytes]] = []
        begun: list[tuple[Recognised, dict[str, str], Optional[DataError], int]] = []
        for result in results:
            entry, first, hashes, problem = self.inputs[result.number], len(files), {}, None
            try:
                transcript = _shown(result.transcript, self.wishes)
                for form in self.missing[result.number]:
                    data = self.writers[form](transcript).encode("utf-8", "replace")
                    self._keep(entry, form, data)
                    files.append((_name(entry, form), data))
                    hashes[form] = sha256(data)
            except DataError as error:
                problem = error
                del files[first:]
            begun.append((result, hashes, problem, len(files) - first))
        wrong = iter(self.output.write_all(files))
        return [
            (result, hashes, problem or next((p for p in list(islice(wrong, count)) if p), None))
            for result, hashes, problem, count in begun
        ]

    def _settle(self, written: Iterable[Written], each: Callable[[Transcript], None]) -> None:
        """Keep the journal of what is written, and say it."""
        for result, files, problem in written:
            entry, transcript = self.inputs[result.number], result.transcript
            if problem is not None:
                self.report.failed(entry.name, str(problem))
                continue
            self.journal.done(str(entry.output), str(result.hash), self.made, files)
            each(_shown(transcript, self.wishes))
            self.report.finished(
                entry.name,
                transcript.duration,
                output=str(entry.output),
                language=transcript.language,
                words=len(transcript.words),
                confidence=transcript.confidence,
                final=transcript.final,
                rtf=round(transcript.rtf, 4),
            )

    def _keep(self, entry: Input, form: str, data: bytes) -> None:
        """Put aside, as ``NAME~``, a file in the way that holds what we did not write."""
        path = self.output.path(_name(entry, form))
        record = self.journal.records.get(str(entry.output))
        try:
            there = path.read_bytes()
            if there == data or (record and record.files.get(form) == sha256(there)):
                return
            path.replace(path.with_name(f"{path.name}~"))
        except FileNotFoundError:
            return
        except OSError as error:
            raise DataError(f"is in the way: {error.strerror or error}", path) from None
        self.report.say(f"{path}: was not as written by uyir: kept as {path.name}~")


class Committer:
    """Writes, in a thread, whatever waits to be written by then; so a slow disk is waited for seldom."""

    def __init__(self, commit: Callable[[Sequence[Recognised]], list[Written]]) -> None:
        self._commit = commit
        self._waiting: queue.SimpleQueue[Optional[Recognised]] = queue.SimpleQueue()
        self._written: queue.SimpleQueue[Union[list[Written], BaseException]] = queue.SimpleQueue()
        self._under_way = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Committer:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._waiting.put(None)
        self._thread.join()

    def put(self, result: Recognised) -> None:
        self._under_way += 1
        self._waiting.put(result)

    def done(self) -> Iterator[Written]:
        """What has been written since it was last asked, waiting where too much waits to be."""
        while self._under_way > 4 * _AT_ONCE or not self._written.empty():
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

    def _run(self) -> None:
        ended = False
        while not ended:
            some = [self._waiting.get()]
            while len(some) < _AT_ONCE and some[-1] is not None and not self._waiting.empty():
                some.append(self._waiting.get())
            ended = some[-1] is None
            results = [one for one in some if one is not None]
            if results:
                try:
                    self._written.put(self._commit(results))
                except BaseException as error:  # raised where it is waited for
                    self._written.put(error)


def _name(entry: Input, form: str) -> Path:
    return entry.output.with_name(f"{entry.output.name}.{ENDINGS[form]}")
