"""Recognising on several machines through Ray (https://ray.io), an optional extra.

This process reads recordings, forms batches and writes, as ever; batches travel to actors, one a core (or a
GPU) of the cluster, that load the model from its folder. That folder must be at the same place on
every machine, with the same content: an actor that has another model is refused. What an actor does not
answer because it died is asked of a new one, as with processes of one machine; nothing is counted twice
because results are taken by the batch that was asked for.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Optional

from uyir.decode.lanes import Elsewhere, recognising
from uyir.decode.processes import Died
from uyir.decode.work import Found, Task
from uyir.errors import EngineError, ModelError, UyirError

if TYPE_CHECKING:
    from uyir.decode.transcribe import Recogniser

#: Where ``--cluster ray`` finds a cluster that runs already; without it one is started on this machine.
ADDRESS = "RAY_ADDRESS"


class _Worker:
    """What an actor is: a recogniser in a process somewhere, that answers tasks."""

    def __init__(self, make: Callable[[], Recogniser], fingerprint: str) -> None:
        import torch

        torch.set_num_threads(1)
        self._answer: Optional[Callable[[Task], Sequence[Found]]] = None
        self._error: Optional[UyirError] = None
        try:
            recogniser = make()
            if recogniser.fingerprint() != fingerprint:
                raise ModelError(
                    f"{recogniser.folder}: on {os.uname().nodename} is another model, or another "
                    "version of uyir, than where the command was given"
                )
            self._answer = recognising(lambda: recogniser)
        except UyirError as error:
            self._error = error

    def ask(self, task: Task) -> Any:
        return self._error if self._answer is None else self._answer(task)

    def pid(self) -> int:
        return os.getpid()


class RayActor:
    """An actor as `uyir.decode.lanes.Answerer`; a new one takes the place of one that died."""

    def __init__(self, start: Callable[[], Any]) -> None:
        self._start = start
        self._actor: Any = None

    def start(self) -> None:
        """Ask for the actor; it loads while others are asked for."""
        self._actor = self._start()

    def ask(self, message: Any) -> Any:
        import ray

        if self._actor is None:
            self.start()
        try:
            return ray.get(self._actor.ask.remote(message))
        except ray.exceptions.RayActorError as error:
            self._actor = None
            raise Died(None, str(error).strip().splitlines()[0]) from None
        except ray.exceptions.RayError as error:
            return EngineError(f"Ray: {str(error).strip().splitlines()[-1]}")

    def end(self) -> Optional[int]:
        import ray

        actor, self._actor = self._actor, None
        if actor is not None:
            with contextlib.suppress(Exception):  # the cluster may be gone already
                ray.kill(actor)
        return None


def cluster_lanes(recogniser: Recogniser) -> list[Elsewhere]:
    """A lane for each core, or GPU, of the cluster that ``RAY_ADDRESS`` names, or of this machine.

    At most ``workers`` where the recogniser has more than one, so that ``--threads`` bounds them. Raises
    `ModelError` where Ray is not installed or the cluster cannot be reached.
    """
    ray = connected()
    resources = ray.cluster_resources()
    gpu = recogniser.device.startswith("cuda")
    count = int(resources.get("GPU" if gpu else "CPU", 0))
    if not count:
        raise ModelError(f"the Ray cluster has no {'GPU' if gpu else 'CPU'} to offer")
    if os.environ.get(ADDRESS) is None or recogniser.bounded:
        count = max(1, min(count, recogniser.workers))
    kind = ray.remote(num_cpus=0 if gpu else 1, num_gpus=1 if gpu else 0)(_Worker)
    make, fingerprint = recogniser.maker("cuda" if gpu else "cpu"), recogniser.fingerprint()
    actors = [RayActor(lambda: kind.remote(make, fingerprint)) for _ in range(count)]
    for actor in actors:
        actor.start()
    return [Elsewhere(actor) for actor in actors]


def connected() -> Any:
    """Ray, connected to its cluster; raises `ModelError`."""
    try:
        import ray
    except ImportError:
        raise ModelError("Ray is not installed: pip install 'uyir[ray]'") from None
    if not ray.is_initialized():
        try:
            ray.init(
                address=os.environ.get(ADDRESS),
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ModelError(f"the Ray cluster cannot be reached: {reason}") from None
    return ray
