"""Work beside the rest, in a process of its own: words are segmented while utterances are compared."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

_Result = TypeVar("_Result")


class Background(Generic[_Result]):
    """A function at work in a forked process, or done at once where there is no fork or need of one."""

    def __init__(self, work: Callable[[], _Result], apart: bool) -> None:
        self._work = work
        # A fork takes only the thread that forks along: with others, what they hold stays held.
        can = "fork" in multiprocessing.get_all_start_methods() and threading.active_count() == 1
        self._process = None
        if apart and can and not multiprocessing.current_process().daemon:
            context = multiprocessing.get_context("fork")
            self._receiver, sender = context.Pipe(duplex=False)
            self._process = context.Process(target=_send, args=(work, sender), daemon=True)
            self._process.start()
            sender.close()

    def result(self) -> _Result:
        """What the function returned; raises what it raised."""
        if self._process is None:
            return self._work()
        try:
            done, value = self._receiver.recv()
        except EOFError:
            # The process was ended from outside, for want of memory perhaps: here it may yet succeed.
            return self._work()
        finally:
            self._process.join()
        if not done:
            raise value
        result: _Result = value
        return result


def _send(work: Callable[[], _Result], sender: multiprocessing.connection.Connection) -> None:
    try:
        sender.send((True, work()))
    except Exception as error:
        sender.send((False, error))
    finally:
        sender.close()
