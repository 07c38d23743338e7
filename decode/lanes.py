"""Who recognises: this process, or processes of their own for several cores or several GPUs.

On a CPU each process runs one thread: batches are recognised independently of how many cores there
are, and give the same numbers on two as on one. Processes are forked where that can be done, so that
all share one copy of the graphs; on a GPU (and where there is no fork) they are started afresh and load
the model themselves. A process that dies is started again and its batch done in halves; only a piece
that kills it twice is given up.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Optional

from uyir.decode.work import Done, Found, Lane, Task
from uyir.errors import EngineError, UyirError

if TYPE_CHECKING:
    from uyir.decode.transcribe import Recogniser

#: Makes the recogniser of a process that was started afresh.
Maker = Callable[[], "Recogniser"]


class Here:
    """Recognises in this process."""

    def __init__(self, recogniser: Recogniser) -> None:
        self._recogniser = recogniser

    def run(self, task: Task) -> Done:
        begin = time.perf_counter()
        try:
            found = self._recogniser.recognise(task)
        except UyirError as error:
            found = [Found(None, error=str(error))] * len(task.pieces)
        except Exception as error:  # a fault of ours or a library's: this batch fails, not the run
            found = [Found(None, error=f"{type(error).__name__}: {error}")] * len(task.pieces)
        return Done(task, tuple(found), time.perf_counter() - begin)

    def close(self) -> None:
        """Nothing is held."""


class Process:
    """Recognises in a process of its own. ``recogniser``: forked with it; else ``make`` loads one there."""

    def __init__(
        self, recogniser: Optional[Recogniser], make: Optional[Maker], threads: int
    ) -> None:
        self._recogniser = recogniser
        self._make = make
        self._threads = threads
        self._process: Any = None
        self._connection: Optional[Connection] = None

    def start(self) -> None:
        """Start the process; called by `run` where it has died."""
        method = "fork" if self._recogniser is not None else "spawn"
        context: Any = multiprocessing.get_context(method)
        ours, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve,
            args=(theirs, self._recogniser, self._make, self._threads, os.getpid()),
            daemon=True,
        )
        self._process.start()
        theirs.close()
        self._connection = ours

    def run(self, task: Task) -> Done:
        begin = time.perf_counter()
        found = self._found(task)
        return Done(task, tuple(found), time.perf_counter() - begin)

    def _found(self, task: Task) -> Sequence[Found]:
        for attempt in range(2):
            if self._process is None:
                self.start()
            try:
                assert self._connection is not None
                self._connection.send(task)
                answer = self._connection.recv()
                if isinstance(answer, UyirError):
                    return [Found(None, error=str(answer))] * len(task.pieces)
                return answer  # type: ignore[no-any-return]
            except (EOFError, OSError):
                code = self._end()
                if len(task.pieces) > 1:
                    half = len(task.pieces) // 2
                    parts = (task.pieces[:half], task.pieces[half:])
                    return [f for part in parts for f in self._found(replace(task, pieces=part))]
                if attempt:
                    why = (
                        f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
                    )
                    reason = f"the process that recognised it died twice ({why}: out of memory?)"
                    return [Found(None, error=reason)]
        raise AssertionError("unreachable")

    def _end(self) -> Optional[int]:
        process, self._process = self._process, None
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.send(None)  # forked siblings hold this end too: closing is no sign
            connection.close()
        if process is None:
            return None
        process.join(5.0)
        if process.is_alive():
            process.kill()
            process.join()
        code: Optional[int] = process.exitcode
        return code

    def close(self) -> None:
        """End the process."""
        self._end()


def _serve(
    connection: Connection,
    recogniser: Optional[Recogniser],
    make: Optional[Maker],
    threads: int,
    parent: int,
) -> None:
    """The life of a process: tasks in, what was found out, until the other end is closed or gone."""
    import torch

    # Ctrl-C goes to the whole group; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(threads)
    trim = _trimmer()
    try:
        if recogniser is None:
            assert make is not None
            recogniser = make()
        here = Here(recogniser)
        while True:
            # Forked siblings hold each other's ends open, so that a killed parent is no EOF.
            while not connection.poll(0.5):
                if os.getppid() != parent:
                    os._exit(1)
            task = connection.recv()
            if task is None:
                break
            connection.send(here.run(task).found)
            del task
            trim()
    except UyirError as error:
        _answer(connection, error)
    except (EOFError, OSError, KeyboardInterrupt):
        pass
    finally:
        os._exit(0)  # no clean-up of what was forked from the parent


def _trimmer() -> Callable[[], object]:
    """What gives freed memory back to the system, which glibc else keeps in pieces for hours.

    Large blocks are mapped one by one from then on. Elsewhere than on glibc nothing is done.
    """
    try:
        library = ctypes.CDLL(None)
        library.mallopt(-3, 1 << 20)  # M_MMAP_THRESHOLD; setting it keeps it from growing
        trim = library.malloc_trim
    except (OSError, AttributeError):
        return lambda: None
    return lambda: trim(0)


def _answer(connection: Connection, error: UyirError) -> None:
    """Answer every task with the error that the process could not start for."""
    while True:
        if connection.recv() is None:
            return
        connection.send(EngineError(str(error)))


def make_lanes(recogniser: Recogniser) -> list[Lane]:
    """A lane a GPU, or a core that the recogniser may use."""
    if len(recogniser.devices) > 1:
        lanes = [Process(None, recogniser.maker(device), 1) for device in recogniser.devices]
        return list(lanes)
    if recogniser.device != "cpu" or recogniser.workers < 2:
        return [Here(recogniser)]
    if "fork" in multiprocessing.get_all_start_methods() and hasattr(os, "fork"):
        # What is loaded is never garbage: else each collection would write to, and so copy, its pages.
        gc.collect()
        gc.freeze()
        forked = [Process(recogniser, None, 1) for _ in range(recogniser.workers)]
        # All at once and before any thread of ours is started.
        for lane in forked:
            lane.start()
        return list(forked)
    return [Process(None, recogniser.maker("cpu"), 1) for _ in range(recogniser.workers)]


def start_threads(lanes: Sequence[Lane], loop: Callable[[Lane], None]) -> list[threading.Thread]:
    """A thread for each lane that runs ``loop``."""
    threads = [threading.Thread(target=loop, args=(lane,), daemon=True) for lane in lanes]
    for thread in threads:
        thread.start()
    return threads
