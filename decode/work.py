"""What is handed to whoever recognises, and what comes back: small values that processes can exchange."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Optional, Protocol, Union

from uyir.decode.evidence import Spoken
from uyir.decode.pauses import Samples, Stretch
from uyir.decode.transcript import Sealed, Segment


@dataclass(frozen=True)
class Piece:
    """A stretch of recording number ``recording``; ``stretch`` counts samples of the recording."""

    recording: int
    number: int
    stretch: Stretch
    samples: Samples


@dataclass(frozen=True)
class Task:
    """A batch of pieces in one language."""

    number: int
    language: str
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class Found:
    """What became of a piece: a segment, or why there is none. ``spoken``: what speaks for the language."""

    segment: Union[Segment, Sealed, None]
    spoken: Spoken = field(default_factory=Spoken)
    error: Optional[str] = None


@dataclass(frozen=True)
class Heard:
    """What a search found for a piece: hypotheses, or what its engine makes them of without a GPU; and
    its log_probs (T, C), on the host."""

    found: Any
    log_probs: Any


@dataclass(frozen=True)
class Done:
    """A task with what was found for each of its pieces, and the seconds that it took."""

    task: Task
    found: tuple[Found, ...]
    seconds: float


class Lane(Protocol):
    """One that recognises tasks, one at a time."""

    def run(self, task: Task) -> Done:
        """Never raises for what is wrong with a piece; see `Found.error`."""
        ...  # pragma: no cover

    def close(self) -> None:
        """Give back what it holds."""
        ...  # pragma: no cover


class TaskQueue:
    """Tasks that wait for a lane."""

    def __init__(self) -> None:
        self._tasks: deque[Task] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, task: Task, *, first: bool = False) -> None:
        with self._changed:
            if first:
                self._tasks.appendleft(task)
            else:
                self._tasks.append(task)
            self._changed.notify()

    def get(self) -> Optional[Task]:
        """The next task, waiting for one; None when the queue is closed."""
        with self._changed:
            while not self._tasks and not self._closed:
                self._changed.wait()
            return self._tasks.popleft() if self._tasks and not self._closed else None

    def clear(self) -> list[Task]:
        """Take back what no lane has begun."""
        with self._changed:
            taken = list(self._tasks)
            self._tasks.clear()
            return taken

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
