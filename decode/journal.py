"""What is done, so that a run that was interrupted is taken up where it was.

In the output folder stands ``.uyir.jsonl`` (with ``--shard`` one a shard): JSON Lines, appended to as
recordings are written, and put in order when a run ends, so that its bytes depend on the outputs alone.

- ``{"output", "source", "made", "files": {format: sha256}}``: a recording is done in these formats;
  ``source`` is the SHA-256 of its bytes, ``made`` that of model, options and versions.
- ``{"plan": sha256}``: here a run over a list of recordings began. Batches are formed from all that was
  not done before this line: a run that takes up this one forms the same, and comes to the same bytes.
- ``{"kept": n}``: the files of the first n recordings of this journal are on the disk, not in the system's
  memory alone, where a power cut takes them. In a journal without plans all are.

A recording is done in a format if its line says so with the hash of what the recording is now and of
how it would be made now, and the file is there. A file that someone has changed since is left alone;
but one that the disk was not known to keep must be what its line says, or it is made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Optional

from uyir.decode.processes import OURS
from uyir.errors import DataError

NAME = ".uyir{part}.jsonl"
#: So many tenths of a second another run's hold on a journal is waited for.
_PATIENCE = 50


@dataclass
class Record:
    """What a journal says of one output. ``before``: whether it was done before the last plan. ``kept``:
    whether the disk is known to have its files."""

    source: str
    made: str
    files: dict[str, str] = field(default_factory=dict)
    before: bool = False
    kept: bool = False


class Journal:
    """The journal of an output folder, open for this run alone.

    ``part`` names the shard. Lines of other shards are read, too. Raises `DataError` where another
    run has it open, or it cannot be written.
    """

    def __init__(self, folder: Path, part: str = "") -> None:
        self.folder = folder
        self.path = folder / NAME.format(part=part)
        self.records: dict[str, Record] = {}
        self.plan: Optional[str] = None
        self._file: Optional[IO[bytes]] = None
        self._writing = threading.Lock()
        self._rows = 0
        try:
            self._file = self.path.open("ab+")
        except OSError as error:
            raise DataError(f"cannot be written: {error.strerror or error}", self.path) from None
        self._lock()
        OURS.add(self._file.fileno())
        for other in sorted(folder.glob(NAME.format(part="*"))):
            if other != self.path:
                self._read(other)
        self.plan = None
        own = self._read(self.path)
        self._own, self._rows = set(own), len(own)
        if self.path.stat().st_size and not self.path.read_bytes().endswith(b"\n"):
            self._append_bytes(b"\n")

    def _lock(self) -> None:
        try:
            import fcntl
        except ImportError:  # not on this system; two runs at once are the user's affair there
            return
        assert self._file is not None
        for attempt in range(_PATIENCE):
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except OSError:
                # The processes of a run that was killed hold it until they see that it is gone.
                if attempt + 1 < _PATIENCE:
                    time.sleep(0.1)
        raise DataError("another run is writing to this folder", self.path)

    def _read(self, path: Path) -> list[str]:
        outputs: list[str] = []
        kept = planned = None
        try:
            lines = path.read_bytes().split(b"\n")
        except OSError as error:
            raise DataError(str(error.strerror or error), path) from None
        for line in lines:
            # The last line of a killed run may be cut: what it said is not done.
            with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
                row = json.loads(line)
                if "plan" in row:
                    self.plan = str(row["plan"])
                    planned = len(outputs) if planned is None else planned
                    for record in self.records.values():
                        record.before = True
                elif "kept" in row:
                    kept = int(row["kept"])
                else:
                    files = {str(k): str(v) for k, v in row["files"].items()}
                    self._add(str(row["output"]), str(row["source"]), str(row["made"]), files)
                    outputs.append(str(row["output"]))
        # What stood there before the first plan was put in order when all of it was kept.
        sure = max(len(outputs) if planned is None else planned, kept or 0)
        for output in outputs[:sure]:
            self.records[output].kept = True
        for output in outputs[sure:]:
            self.records[output].kept = False
        return outputs

    def _add(self, output: str, source: str, made: str, files: dict[str, str]) -> None:
        known = self.records.get(output)
        if known is not None and (known.source, known.made) == (source, made):
            known.files.update(files)  # formats of an earlier run stay done
            known.before = known.kept = False
        else:
            self.records[output] = Record(source, made, files)

    def begin(self, plan: str) -> bool:
        """Begin a run over a plan; returns whether it takes up the one that the journal ends with."""
        if plan == self.plan:
            return True
        self._append_bytes(_line({"plan": plan}))
        for record in self.records.values():
            record.before = True
        return False

    def done(self, output: str, source: str, made: str, files: dict[str, str]) -> None:
        """Say that a recording is done; called after its files are there."""
        self.done_all([(output, source, made, files)])

    def done_all(self, rows: Sequence[tuple[str, str, str, dict[str, str]]]) -> None:
        """Say that recordings are done, as `done` says it of one."""
        names = ("output", "source", "made", "files")
        self._append_bytes(b"".join(_line(dict(zip(names, row))) for row in rows), len(rows))
        for output, source, made, files in rows:
            self._add(output, source, made, files)
            self._own.add(output)

    @property
    def rows(self) -> int:
        """Recordings that this journal says are done, by now."""
        with self._writing:
            return self._rows

    def keep(self, rows: int) -> None:
        """Say that the files of the first so many are on the disk, as this journal is up to them."""
        self._append_bytes(_line({"kept": rows}))

    def _append_bytes(self, data: bytes, done: int = 0) -> None:
        assert self._file is not None
        with self._writing:
            try:
                self._file.write(data)
                self._file.flush()
                self._rows += done
            except OSError as error:
                raise DataError(
                    f"cannot be written: {error.strerror or error}", self.path
                ) from None

    def tidy(self) -> bytes:
        """This journal in order and without plans: what stands there when all is done."""
        rows = []
        for output in sorted(self._own):
            record = self.records[output]
            files = dict(sorted(record.files.items()))
            rows.append(
                {"output": output, "source": record.source, "made": record.made, "files": files}
            )
        return b"".join(map(_line, rows))

    def close(self) -> None:
        if self._file is not None:
            OURS.discard(self._file.fileno())
            self._file.close()
            self._file = None


def _line(row: dict[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=True).encode("ascii") + b"\n"


def plan_of(names: Sequence[str], durations: Sequence[float], made: str) -> str:
    """SHA-256 of what batches depend on: which recordings, how long, made how."""
    digest = hashlib.sha256(made.encode())
    for name, duration in zip(names, durations):
        digest.update(f"\n{name!r} {duration:.4f}".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
