"""A run of `uyir transcribe` over a list of recordings: what is done is kept, what fails is said.

`run_archive` writes files and keeps a journal, so that it can be killed at any moment and taken up;
`run_stream` gives transcripts in order and keeps nothing.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Optional

from uyir.decode.batches import groups_of
from uyir.decode.files import OutputFolder
from uyir.decode.inputs import Input
from uyir.decode.journal import Journal, plan_of, sha256
from uyir.decode.output import Style
from uyir.decode.pipeline import AUTO, Pipeline, in_order
from uyir.decode.processes import spread
from uyir.decode.report import Report
from uyir.decode.sources import Source, sources_of
from uyir.decode.transcribe import Recogniser
from uyir.decode.transcript import Transcript
from uyir.decode.writing import Scribe, Writers, Written, output_name, shown
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


#: So often (s) what was written is waited for on the disk, beside the work.
SYNC_S = 10.0

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
    sources, durations = planned(inputs, recogniser.workers)
    report.expected = sum(durations)
    groups = [
        [(n, sources[n]) for n in group] for group in groups_of(durations, recogniser.group_s)
    ]
    pipeline, lanes = recogniser.pipeline(wishes.language)
    started(pipeline)
    try:
        for result in in_order(pipeline.run(groups)):
            yield result.number, shown(result.transcript, wishes.written)
    finally:
        for lane in lanes:
            lane.close()


def planned(inputs: Sequence[Input], workers: int) -> tuple[list[Source], list[float]]:
    """A source for each input, and about how long each is (s), looked up once."""
    sources = list(sources_of(inputs))
    durations = spread(lambda n: sources[n].duration(), len(sources), workers)
    return [replace(s, planned=d) for s, d in zip(sources, durations)], durations


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
    show: Optional[Callable[[Transcript], None]] = None,
) -> float:
    """Transcribe inputs into a folder, saying to ``report`` what became of each.

    ``show`` is called with every new transcript. Returns the share of padding in batches. Raises `DataError` where the folder or its journal
    cannot be used; what is wrong with one recording or its output goes to the report.
    """
    part = "" if wishes.shard[1] == 1 else f"-{wishes.shard[0]}-of-{wishes.shard[1]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot be made: {error.strerror or error}", folder) from None
    journal = Journal(folder, part)
    try:
        archive = _Archive(recogniser, inputs, folder, part, wishes, report, journal, show)
        return archive.run(started)
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
        show: Optional[Callable[[Transcript], None]],
    ) -> None:
        self.recogniser = recogniser
        self.inputs = inputs
        self.wishes = wishes
        self.report = report
        self.journal = journal
        self.show = show
        self.output = OutputFolder(folder, part)
        self.made = made_by(recogniser, wishes)
        self.missing: dict[int, tuple[str, ...]] = {}
        #: Of what was read, until it is written.
        self.hashes: dict[int, str] = {}

    def run(self, started: Started) -> float:
        workers = self.recogniser.workers
        sources, durations = planned(self.inputs, workers)
        names = [str(entry.output) for entry in self.inputs]
        known = [self.wishes.formats] * len(names)
        if self.wishes.resume and self.journal.records:
            known = spread(lambda n: self._missing(self.inputs[n], sources[n]), len(names), workers)
        self.missing = {n: formats for n, formats in enumerate(known) if formats}
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
        scribe = Scribe(
            self.recogniser,
            self.inputs,
            sources,
            self.output,
            self.missing,
            self._ours,
            written=self.wishes.written,
            style=self.wishes.style,
            showing=self.show is not None,
        )
        # Forked, so before the threads of the pipeline, and of this run, are started.
        writers = Writers(scribe, Writers.processes(scribe, self.recogniser.scribes))
        pipeline, lanes = self.recogniser.pipeline(self.wishes.language, hashing=True)
        started(pipeline)
        try:
            groups = [
                [(order[i], sources[order[i]]) for i in group]
                for group in groups_of([durations[n] for n in order], self.recogniser.group_s)
            ]
            with _Keeping(self.output, self.journal), writers:
                for result in pipeline.run(groups, self.missing.__contains__):
                    if result.parts.error is None:
                        self.hashes[result.number] = str(result.hash)
                        writers.put(result)
                    else:
                        self.report.failed(self.inputs[result.number].name, result.parts.error)
                    self._settle(writers.done())
                self._settle(writers.all())
        finally:
            for lane in lanes:
                lane.close()
        self._end(interrupted=pipeline.stopped and self.report.left > 0)
        return pipeline.counts.padding

    def _end(self, *, interrupted: bool) -> None:
        rows = self.journal.rows
        if interrupted:
            self.output.sync()
            self.journal.keep(rows)
        else:
            tidy = self.journal.tidy()
            if tidy != self.journal.path.read_bytes():
                # In a journal in order all is on the disk, so before it is.
                self.output.sync()
                self.output.write(Path(self.journal.path.name), tidy)
                self.output.sync()
        self.output.close()

    def _before(self, name: str) -> bool:
        record = self.journal.records.get(name)
        return record is not None and record.before

    def _ours(self, entry: Input) -> Mapping[str, str]:
        record = self.journal.records.get(str(entry.output))
        return {} if record is None else record.files

    def _missing(self, entry: Input, source: Source) -> tuple[str, ...]:
        """The formats that an input is not yet there in."""
        record = self.journal.records.get(str(entry.output))
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
            if form not in record.files
            or not self._is_there(entry, form, record.files[form], record.kept)
        )

    def _is_there(self, entry: Input, form: str, digest: str, kept: bool) -> bool:
        """Whether an output is there. Changed by someone it is theirs; changed by a power cut it is not
        there, which it can be where the disk was not known to have it (``kept``)."""
        path = self.output.folder / output_name(entry, form)
        try:
            if not kept:
                return sha256(path.read_bytes()) == digest
            return path.stat().st_size > 0 or digest == sha256(b"")
        except OSError:
            return False

    def _settle(self, written: Iterable[Written]) -> None:
        """Keep the journal of what is written, and say it."""
        some = list(written)
        rows = []
        for one in some:
            if one.problem is None:
                entry = self.inputs[one.number]
                for form in one.files:
                    self.output.wrote(self.output.folder / output_name(entry, form))
                digest = self.hashes.pop(one.number)
                rows.append((str(entry.output), digest, self.made, dict(one.files)))
        if rows:
            self.journal.done_all(rows)
        with self.report.burst():
            for one in some:
                name = self.inputs[one.number].name
                for note in one.notes:
                    self.report.say(note)
                if one.problem is not None:
                    self.report.failed(name, one.problem)
                    continue
                note_of(self.report, name, one.no_speech, one.about["final"])
                if self.show is not None and one.transcript is not None:
                    self.show(one.transcript)
                self.report.finished(name, one.duration, **one.about)


def note_of(report: Report, name: str, no_speech: bool, final: bool) -> None:
    """Say what a reader of a transcript ought to know, besides errors."""
    if no_speech:
        report.say(f"{name}: no speech found")
    if not final:
        report.say(f"{name}: the search came to no proper end in places (final: false)")


class _Keeping:
    """Has, now and then and beside the work, the disk keep what was written, and the journal say so."""

    def __init__(self, output: OutputFolder, journal: Journal) -> None:
        self._output = output
        self._journal = journal
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        kept = self._journal.rows
        while not self._ended.wait(SYNC_S):
            rows = self._journal.rows
            if rows == kept:
                continue
            # What goes wrong here goes wrong at the end, too, and is said there.
            with contextlib.suppress(DataError):
                self._output.wrote(self._journal.path)
                self._output.sync()
                self._journal.keep(rows)
                kept = rows
