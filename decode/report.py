"""What a run says of itself while it works and at its end: to people on stderr, to programs in a log."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Optional

from uyir.errors import DataError

#: Seconds between two lines of progress where there is no terminal, and between two states of the bar.
LINE_S, BAR_S = 30.0, 0.2
_BAR = 24
#: Reasons in the table at the end.
_MOST = 12
_ENCODER = json.JSONEncoder(ensure_ascii=False)


def printable(text: str) -> str:
    """Text for a terminal: control characters, and what cannot be encoded, escaped."""
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(
        c if c.isprintable() or c in "\u200c\u200d" else f"\\x{ord(c):02x}" for c in text
    )


def clock(seconds: float) -> str:
    """A duration for people.

    >>> clock(3725.2)
    '1:02:05'
    """
    whole = round(seconds)
    minutes = f"{whole // 60 % 60:02d}:{whole % 60:02d}"
    return f"{whole // 3600}:{minutes}" if whole >= 3600 else minutes.lstrip("0").rjust(4, "0")


class Report:
    """Counts what happens to ``files`` recordings of about ``seconds`` in all, and says so.

    ``log``: a file that JSON Lines are appended to, an object an event.
    """

    def __init__(
        self,
        files: int,
        seconds: float,
        log: Optional[Path] = None,
        stream: Optional[IO[str]] = None,
    ) -> None:
        self.stream = stream if stream is not None else sys.stderr
        self.files = files
        self.expected = seconds
        self.begin = time.perf_counter()
        self.done = self.skipped = 0
        self.failures: list[tuple[str, str]] = []
        self.audio = 0.0
        self._terminal = self.stream.isatty()
        self._said = self.begin
        self._drawn = False
        self._bursting = False
        self._log: Optional[IO[str]] = None
        if log is not None:
            try:
                self._log = log.open("a", encoding="utf-8", errors="backslashreplace")
            except OSError as error:
                raise DataError(f"cannot be written: {error.strerror or error}", log) from None

    def event(self, kind: str, **values: Any) -> None:
        """Write a line to the log."""
        if self._log is not None:
            row = {"time": round(time.time(), 3), "event": kind, **values}
            self._log.write(_ENCODER.encode(row) + "\n")
            if not self._bursting:
                self._log.flush()

    @contextmanager
    def burst(self) -> Iterator[None]:
        """Many events that the log has at the end of it."""
        self._bursting = True
        try:
            yield
        finally:
            self._bursting = False
            if self._log is not None:
                self._log.flush()

    def say(self, message: str) -> None:
        """A line for people."""
        self._clear()
        self.stream.write(f"uyir: {printable(message)}\n")
        self.stream.flush()

    def finished(self, name: str, seconds: float, **values: Any) -> None:
        """A recording is transcribed."""
        self.done += 1
        self.audio += seconds
        self.event("done", file=name, duration=round(seconds, 3), **values)
        self.progress()

    def failed(self, name: str, reason: str) -> None:
        """A recording, or an argument, could not be done."""
        self.failures.append((name, reason))
        self.say(reason)
        self.event("failed", file=name, reason=reason)

    def skip(self, files: int) -> None:
        """So many recordings were done by an earlier run."""
        self.skipped += files

    @property
    def left(self) -> int:
        """Recordings of which nothing has been said yet."""
        return self.files - self.done - self.skipped - len(self.failures)

    def progress(self) -> None:
        """Say how far it is, if it is time to."""
        now = time.perf_counter()
        if now - self._said < (BAR_S if self._terminal else LINE_S):
            return
        self._said = now
        spent = now - self.begin
        rate = self.audio / spent if spent else 0.0
        share = min(1.0, self.audio / self.expected) if self.expected else 1.0
        left = clock(max(0.0, self.expected - self.audio) / rate) if rate else "?"
        count = f"{self.done + self.skipped + len(self.failures)}/{self.files}"
        text = f"{count} files, {rate:.1f} × real time, {left} left"
        if self._terminal:
            full = round(_BAR * share)
            self.stream.write(
                f"\r\x1b[K{'━' * full}{' ' * (_BAR - full)} {100 * share:3.0f} % {text}"
            )
            self._drawn = True
        else:
            self.stream.write(f"uyir: {100 * share:.0f} %, {text}\n")
        self.stream.flush()

    def _clear(self) -> None:
        if self._drawn:
            self.stream.write("\r\x1b[K")
            self._drawn = False

    def summary(self, *, padding: float, interrupted: bool) -> None:
        """The table at the end."""
        self._clear()
        spent = time.perf_counter() - self.begin
        rate = self.audio / spent if spent else 0.0
        rows = [
            ("files", f"{self.done + self.skipped} of {self.files} done"
             + (f", {self.skipped} of them before" if self.skipped else "")),
        ]  # fmt: skip
        if self.done:
            rows += [
                ("audio", f"{clock(self.audio)} ({self.audio / 3600:.2f} h)"),
                ("time", f"{spent:.1f} s, {rate:.1f} × real time, {100 * padding:.1f} % padding"),
            ]
        if interrupted:
            rows.append(("interrupted", "the same command goes on where this stopped"))
        reasons = Counter(_reason(name, reason) for name, reason in self.failures)
        rows += [("failed", f"{count} × {reason}") for reason, count in reasons.most_common(_MOST)]
        others = sum(count for _, count in reasons.most_common()[_MOST:])
        if others:
            rows.append(("failed", f"{others} × for other reasons, said above"))
        for label, value in rows:
            self.stream.write(f"{label:12}{printable(value)}\n")
        self.stream.flush()
        self.event(
            "summary",
            files=self.files,
            done=self.done,
            skipped=self.skipped,
            failed=len(self.failures),
            audio_s=round(self.audio, 3),
            wall_s=round(spent, 3),
            times_real_time=round(rate, 2),
            padding=round(padding, 4),
            interrupted=interrupted,
        )

    def close(self) -> None:
        if self._log is not None:
            self._log.close()


def _reason(name: str, message: str) -> str:
    """A message without the file's name, and without what differs from file to file."""
    text = message.replace(f"{name}: ", "", 1)
    for stop in (" (", ": it promises", ", it promises"):
        text = text.partition(stop)[0]
    return " ".join("…" if word.replace(".", "").isdigit() else word for word in text.split())
