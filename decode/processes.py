"""A process of its own that answers messages: what lanes and readers are made of.

Forked where there is something loaded to share, else started afresh. Large arrays come back through
memory that both sides map, so that they are neither copied nor pickled.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import multiprocessing
import os
import signal
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import Any, Optional

import numpy as np

from uyir.errors import EngineError, UyirError

#: Files that are this process's affair: what is forked from it closes them, so that a lock on one is free when
#: this process is gone.
OURS: set[int] = set()
#: From so many things to do for each on, a process is worth starting.
_WORTH_IT = 128

#: Answers one message.
Handler = Callable[[Any], Any]


class Died(Exception):
    """The process ended instead of answering. ``reason`` says how."""

    def __init__(self, code: Optional[int], reason: Optional[str] = None) -> None:
        self.code = code
        ended = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        self.reason = ended if reason is None else reason
        super().__init__(self.reason)


@dataclass(frozen=True)
class Arrays:
    """An answer that carries samples: ``of`` says what they are, ``arrays`` are float32 (S,)."""

    of: Any
    arrays: Sequence[Any]


class Child:
    """A process that answers messages one at a time.

    ``begin`` is called there and gives what answers. ``forked``: as a copy of this process, so that what
    is loaded is shared; else ``begin`` must be something that can be pickled. ``threads``: of torch.
    ``inherits``: whether a forked one keeps open what is in `OURS`.
    """

    def __init__(
        self,
        begin: Callable[[], Handler],
        *,
        forked: bool,
        threads: int = 1,
        inherits: bool = False,
    ) -> None:
        self._begin = begin
        self._forked = forked
        self._threads = threads
        self._inherits = inherits
        self._process: Any = None
        self._connection: Optional[Connection] = None

    @property
    def pid(self) -> Optional[int]:
        """The number of the process, None while there is none."""
        return None if self._process is None else int(self._process.pid)

    def start(self) -> None:
        """Start the process; `ask` does where there is none."""
        context: Any = multiprocessing.get_context("fork" if self._forked else "spawn")
        ours, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve,
            args=(theirs, self._begin, self._threads, os.getpid(), not self._inherits),
            daemon=True,
        )
        self._process.start()
        theirs.close()
        self._connection = ours

    def ask(self, message: Any) -> Any:
        """The answer to a message; an exception of ours is answered as a value.

        Raises `Died` where the process ended over it; the next message starts another one.
        """
        if self._process is None:
            self.start()
        try:
            assert self._connection is not None
            self._connection.send(message)
            answer = self._connection.recv()
            if isinstance(answer, _Shared):
                return answer.taken(self._connection)
            return answer
        except (EOFError, OSError):
            raise Died(self.end()) from None

    def ask_or(self, message: Any, instead: Callable[[], Any]) -> Any:
        """The answer to a message, or, where the process was killed over it, what ``instead`` gives here.

        Raises an exception of ours that was answered.
        """
        try:
            answer = self.ask(message)
        except Died:  # killed from without: this process can do it, too
            return instead()
        if isinstance(answer, UyirError):
            raise answer
        return answer

    def end(self) -> Optional[int]:
        """End the process; returns its exit code where it had one."""
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


class Segments:
    """Memory in pieces, mapped by this process and those forked from it afterwards, lent and given back.

    Unlike what comes in an answer its pages are not made and thrown away each time. ``size``: float32
    numbers in a piece. Where the system has not the memory for it there are no pieces.
    """

    def __init__(self, count: int, size: int) -> None:
        self._maps: list[mmap.mmap] = []
        with contextlib.suppress(OSError, ValueError):
            self._maps += [mmap.mmap(-1, 4 * size) for _ in range(count)]
        self.size = size
        # The last one given back is lent first: its pages are there.
        self._free = list(range(len(self._maps)))

    def lend(self) -> Optional[int]:
        """The number of a piece that no one has; None if there is none."""
        try:
            return self._free.pop()
        except IndexError:
            return None

    def give_back(self, number: int) -> None:
        self._free.append(number)

    def fill(self, number: int, arrays: Sequence[Any]) -> Optional[tuple[int, ...]]:
        """Put arrays side by side into a piece; their lengths, or None where it is too small."""
        lengths = tuple(len(array) for array in arrays)
        if sum(lengths) > self.size:
            return None
        whole = np.frombuffer(self._maps[number], dtype=np.float32)
        at = 0
        for array in arrays:
            whole[at : at + len(array)] = array
            at += len(array)
        return lengths

    def arrays(self, number: int, lengths: Sequence[int]) -> list[Any]:
        """The arrays in a piece, which is given back when none of them is left."""
        whole = np.frombuffer(self._maps[number], dtype=np.float32, count=sum(lengths))
        weakref.finalize(whole, self.give_back, number).atexit = False
        return np.split(whole, np.cumsum(lengths)[:-1]) if lengths else []


def can_fork() -> bool:
    return "fork" in multiprocessing.get_all_start_methods() and hasattr(os, "fork")


def spread(work: Callable[[int], Any], count: int, workers: int) -> list[Any]:
    """``work(i)`` of each i below ``count``, in so many forked processes where it is worth it.

    To be called before any thread is started. What is answered must be something that can be pickled.
    """
    if workers < 2 or count < 4 * _WORTH_IT or not can_fork():
        return [work(i) for i in range(count)]
    several = min(workers, count // _WORTH_IT)

    def some(numbers: range) -> list[Any]:
        return [work(i) for i in numbers]

    def asked(child: Child, numbers: range) -> Any:
        return child.ask_or(numbers, lambda: some(numbers))

    children = [Child(lambda: some, forked=True) for _ in range(several)]
    for child in children:
        child.start()
    try:
        # Neighbours in a list are alike: each process gets some of everywhere.
        shares = [range(i, count, several) for i in range(several)]
        with ThreadPoolExecutor(several) as pool:
            found = list(pool.map(asked, children, shares))
    finally:
        for child in children:
            child.end()
    out: list[Any] = [None] * count
    for share, answers in zip(shares, found):
        out[share.start :: several] = answers
    return out


def _serve(
    connection: Connection,
    begin: Callable[[], Handler],
    threads: int,
    parent: int,
    alone: bool,
) -> None:
    """The life of a process: messages in, answers out, until the other end is closed or gone."""
    import torch

    if alone:
        for file in OURS:
            with contextlib.suppress(OSError):
                os.close(file)
    OURS.clear()

    # Ctrl-C goes to the whole group; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(threads)
    trim = _trimmer()
    try:
        handle = begin()
        while True:
            # Forked siblings hold each other's ends open, so that a killed parent is no EOF.
            while not connection.poll(0.5):
                if os.getppid() != parent:
                    os._exit(1)
            message = connection.recv()
            if message is None:
                break
            answer = handle(message)
            if isinstance(answer, Arrays):
                _send_arrays(connection, answer, parent)
            else:
                connection.send(answer)
            del message, answer
            trim()
    except UyirError as error:
        _answer(connection, error)
    except (EOFError, OSError, KeyboardInterrupt):
        pass
    finally:
        os._exit(0)  # no clean-up of what was forked from the parent


def _answer(connection: Connection, error: UyirError) -> None:
    """Answer every message with the error that the process could not start for."""
    while True:
        if connection.recv() is None:
            return
        connection.send(EngineError(str(error)))


@dataclass(frozen=True)
class _Shared:
    """Announces memory with arrays in it, whose handle follows."""

    of: Any
    lengths: tuple[int, ...]

    def taken(self, connection: Connection) -> Arrays:
        handle = reduction.recv_handle(connection)
        try:
            # The mapping lives as long as an array that looks into it.
            held = mmap.mmap(handle, 4 * sum(self.lengths))
        finally:
            os.close(handle)
        whole = np.frombuffer(held, dtype=np.float32)
        return Arrays(self.of, np.split(whole, np.cumsum(self.lengths)[:-1]))


def _send_arrays(connection: Connection, answer: Arrays, parent: int) -> None:
    lengths = tuple(len(array) for array in answer.arrays)
    if not hasattr(os, "memfd_create") or not sum(lengths):
        connection.send(answer)
        return
    handle = os.memfd_create("uyir")
    try:
        os.ftruncate(handle, 4 * sum(lengths))
        with mmap.mmap(handle, 4 * sum(lengths)) as held:
            whole = np.frombuffer(held, dtype=np.float32)
            at = 0
            for array in answer.arrays:
                whole[at : at + len(array)] = array
                at += len(array)
            del whole
        connection.send(_Shared(answer.of, lengths))
        reduction.send_handle(connection, handle, parent)
    finally:
        os.close(handle)


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
