"""Work beside the rest, in a process of its own: words are segmented while utterances are compared."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

_State = TypeVar("_State")
_Data = TypeVar("_Data")
_Result = TypeVar("_Result")


class Background(Generic[_State, _Data, _Result]):
    """Work in two steps in a forked process, or done at the end where there is no fork or need of one.

    ``prepare`` begins at once; ``work`` goes on with what it returned and the data that `give` brings.
    """

    def __init__(
        self,
        prepare: Callable[[], _State],
        work: Callable[[_State, _Data], _Result],
        apart: bool,
    ) -> None:
        self._prepare, self._work = prepare, work
        # A fork takes only the thread that forks along: with others, what they hold stays held.
        can = "fork" in multiprocessing.get_all_start_methods() and threading.active_count() == 1
        self._process = None
        if apart and can and not multiprocessing.current_process().daemon:
            context = multiprocessing.get_context("fork")
            self._pipe, other = context.Pipe()
            self._process = context.Process(target=_serve, args=(prepare, work, other), daemon=True)
            self._process.start()
            other.close()

    def give(self, data: _Data) -> None:
        """Hand over the data; does not wait until they are wanted."""
        self._data = data
        if self._process is not None:
            threading.Thread(target=self._send, args=(data,), daemon=True).start()

    def _send(self, data: _Data) -> None:
        # The process may be gone: `result` finds out.
        with suppress(OSError, ValueError):
            self._pipe.send(data)

    def result(self) -> _Result:
        """What the work returned; raises what it raised. To be asked once, after `give`."""
        if self._process is None:
            return self._work(self._prepare(), self._data)
        try:
            done, value = self._pipe.recv()
        except (EOFError, OSError):
            # The process was ended from outside, for want of memory perhaps: here it may yet succeed.
            return self._work(self._prepare(), self._data)
        finally:
            self._process.join()
        if not done:
            raise value
        result: _Result = value
        return result


def _serve(
    prepare: Callable[[], _State],
    work: Callable[[_State, _Data], _Result],
    pipe: multiprocessing.connection.Connection,
) -> None:
    try:
        state = prepare()
        pipe.send((True, work(state, pipe.recv())))
    except Exception as error:
        pipe.send((False, error))
    finally:
        pipe.close()
