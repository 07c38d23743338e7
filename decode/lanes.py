"""Who recognises: this process, or processes of their own for several cores or machines, or GPUs.

On a CPU each process runs one thread: batches are recognised independently of how many cores there
are, and give the same numbers on two as on one. Processes are forked where that can be done, so that
all share one copy of the graphs; elsewhere they are started afresh and load the model themselves. A
process that dies is started again and its batch done in halves; only a piece that kills it twice is
given up. On GPUs this process runs network and search, and others make words of what they found.
"""

from __future__ import annotations

import contextlib
import gc
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Optional, Protocol

from uyir.decode.processes import Child, Died, can_fork
from uyir.decode.transcript import Sealed
from uyir.decode.work import Done, Found, Lane, Task
from uyir.errors import UyirError

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
        found = guarded(task, lambda: self._recogniser.recognise(task))
        return Done(task, tuple(found), time.perf_counter() - begin)

    def close(self) -> None:
        """Nothing is held."""


def guarded(task: Task, recognise: Callable[[], Sequence[Found]]) -> Sequence[Found]:
    """What was found, or why a batch failed, said of each of its pieces."""
    try:
        return recognise()
    except UyirError as error:
        return [Found(None, error=str(error))] * len(task.pieces)
    except Died:
        raise
    except Exception as error:  # a fault of ours or a library's: this batch fails, not the run
        return [Found(None, error=f"{type(error).__name__}: {error}")] * len(task.pieces)


class Answerer(Protocol):
    """A process somewhere that answers messages; see `uyir.decode.processes.Child`."""

    def ask(self, message: Any) -> Any:
        """Raises `Died` where the process ended over the message."""
        ...  # pragma: no cover

    def end(self) -> Optional[int]: ...  # pragma: no cover


class Elsewhere:
    """Recognises in another process, which may die."""

    def __init__(self, process: Answerer) -> None:
        self.process = process

    def run(self, task: Task) -> Done:
        begin = time.perf_counter()
        return Done(task, tuple(self._found(task)), time.perf_counter() - begin)

    def _found(self, task: Task) -> Sequence[Found]:
        for attempt in range(2):
            try:
                answer = self.process.ask(task)
                if isinstance(answer, UyirError):
                    return [Found(None, error=str(answer))] * len(task.pieces)
                return answer  # type: ignore[no-any-return]
            except Died as died:
                if len(task.pieces) > 1:
                    half = len(task.pieces) // 2
                    parts = (task.pieces[:half], task.pieces[half:])
                    return [f for part in parts for f in self._found(replace(task, pieces=part))]
                if attempt:
                    why = died.reason
                    reason = f"the process that recognised it died twice ({why}: out of memory?)"
                    return [Found(None, error=reason)]
        raise AssertionError("unreachable")

    def close(self) -> None:
        """End the process."""
        self.process.end()


def recognising(make: Maker) -> Callable[[Task], Sequence[Found]]:
    """What a process answers tasks with."""
    here = Here(make())
    return lambda task: here.run(task).found


def forked(recogniser: Recogniser) -> Elsewhere:
    """A lane that is a copy of this process."""
    return Elsewhere(Child(lambda: recognising(lambda: recogniser), forked=True))


class _Fresh:
    """Begins a process that is started afresh (picklable)."""

    def __init__(self, make: Maker) -> None:
        self._make = make

    def __call__(self) -> Callable[[Task], Sequence[Found]]:
        return recognising(self._make)


def fresh(make: Maker) -> Elsewhere:
    """A lane in a process that loads the model itself."""
    return Elsewhere(Child(_Fresh(make), forked=False))


class Gpu:
    """A GPU's recogniser, and whose turn it is: one batch in its network, one in its search."""

    def __init__(self, recogniser: Recogniser) -> None:
        self.recogniser = recogniser
        self.network = _Turn(recogniser.device)
        self.search = _Turn(recogniser.device)


class _Turn:
    """Whose turn a stage is; on a GPU each stage has a stream, so that stages run side by side there."""

    def __init__(self, device: str) -> None:
        self._lock = threading.Lock()
        self._stream: Any = None
        if device.startswith("cuda"):
            import torch

            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call,unused-ignore]

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if self._stream is None:
                yield
                return
            import torch

            with torch.cuda.stream(self._stream):
                yield
                # What comes out of a stage is there before the next one, on its stream, looks at it.
                self._stream.synchronize()


class Staged:
    """Network and search on a GPU, which several such lanes share; words in a process of its own.

    So several batches are under way at a time: while one is searched, the next is in the network, one
    more is copied together, and those before it become words.
    """

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        recogniser = gpu.recogniser

        def assembled(message: Any) -> Sequence[Found]:
            return [sealed(found) for found in recogniser.assemble(*message)]

        self._child = Child(lambda: assembled, forked=True)

    def start(self) -> None:
        self._child.start()

    def run(self, task: Task) -> Done:
        begin = time.perf_counter()
        found = guarded(task, lambda: self._recognise(task))
        return Done(task, tuple(found), time.perf_counter() - begin)

    def _recognise(self, task: Task) -> Sequence[Found]:
        gpu, recogniser = self._gpu, self._gpu.recogniser
        waves = recogniser.stacked([piece.samples for piece in task.pieces])
        with gpu.network():
            log_probs, lengths = recogniser.bearable(waves, task.language)
        with gpu.search():
            heard = recogniser.search(task.language, log_probs, lengths)
        message = (task.language, [piece.stretch for piece in task.pieces], heard)
        found: Sequence[Found] = self._child.ask_or(message, lambda: recogniser.assemble(*message))
        return found

    def close(self) -> None:
        self._child.end()


def sealed(found: Found) -> Found:
    """What was found, its segment as bytes."""
    if found.segment is None:
        return found
    return replace(found, segment=Sealed.of(found.segment.open()))


def make_lanes(recogniser: Recogniser, languages: Sequence[str]) -> list[Lane]:
    """The lanes of a run over these languages: some a GPU, or one for each core that may be used."""
    if recogniser.cluster is not None:
        from uyir.decode.cluster import cluster_lanes

        return list(cluster_lanes(recogniser))
    on_gpus = all(device.startswith("cuda") for device in recogniser.devices)
    if on_gpus and recogniser.workers > 1 and can_fork():
        return list(_gpu_lanes(recogniser, languages))
    if len(recogniser.devices) > 1:
        return [fresh(recogniser.maker(device)) for device in recogniser.devices]
    if recogniser.device != "cpu" or recogniser.workers < 2:
        return [Here(recogniser)]
    if not can_fork():
        return [fresh(recogniser.maker("cpu")) for _ in range(recogniser.workers)]
    settle()
    lanes = [forked(recogniser) for _ in range(recogniser.workers)]
    # All at once and before any thread of ours is started.
    for lane in lanes:
        lane.process.start()  # type: ignore[attr-defined]
    return list(lanes)


def _gpu_lanes(recogniser: Recogniser, languages: Sequence[str]) -> list[Staged]:
    several = len(recogniser.devices) > 1
    gpus = [
        Gpu(recogniser.maker(device)() if several else recogniser) for device in recogniser.devices
    ]
    for gpu in gpus:
        for language in languages:
            gpu.recogniser.language(language)
    settle()
    each = max(2, recogniser.assemblers // len(gpus))
    lanes = [Staged(gpu) for gpu in gpus for _ in range(each)]
    for lane in lanes:
        lane.start()
    return lanes


def settle() -> None:
    """Before forking: what is loaded is never garbage, else each collection would write to its pages,
    and so copy them."""
    gc.collect()
    gc.freeze()


def start_threads(lanes: Sequence[Lane], loop: Callable[[Lane], None]) -> list[threading.Thread]:
    """A thread for each lane that runs ``loop``."""
    threads = [threading.Thread(target=loop, args=(lane,), daemon=True) for lane in lanes]
    for thread in threads:
        thread.start()
    return threads
