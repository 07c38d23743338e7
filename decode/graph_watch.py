"""What a graph build may use, what it says on the way, and what it reports."""

from __future__ import annotations

import contextlib
import math
import resource
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Callable

from uyir.errors import GraphError

Say = Callable[[str], None]
#: GB of the machine's memory that a build never asks for.
_RESERVE = 0.3


@dataclass(frozen=True)
class Limits:
    """When a build stops: states or arcs of any step, memory of the process in GB."""

    max_states: int = 30_000_000
    max_arcs: int = 60_000_000
    max_memory: float = 6.0


@dataclass
class Report:
    """What was built: states, arcs and seconds of each step, and the whole's size and peak memory."""

    steps: list[dict[str, Any]] = field(default_factory=list)
    states: int = 0
    arcs: int = 0
    epsilons: int = 0
    hlg_states: int = 0
    hlg_arcs: int = 0
    splices: int = 0
    epsilon_free_states: int = 0
    epsilon_free_arcs: int = 0
    bytes: int = 0
    peak_memory_gb: float = 0.0
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def memory_gb() -> float:
    """The process's greatest memory so far, in GB."""
    # The system's count of resources goes on through exec: it has what the parent held before.
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / (1 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)


def held_gb() -> float:
    """The process's memory now, in GB; where the system does not tell, its greatest so far."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * resource.getpagesize() / (1 << 30)
    return memory_gb()


def available_gb() -> float:
    """What the machine, or the control group that the process is in, has left, in GB."""
    left = [math.inf]
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                left.append(int(line.split()[1]) / (1 << 20))
    with contextlib.suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        most = int((group / "memory.max").read_text(encoding="ascii"))
        used = int((group / "memory.current").read_text(encoding="ascii"))
        left.append((most - used) / (1 << 30))
    return min(left)


class Watch:
    """Progress, and the clean stop before memory is gone."""

    def __init__(self, limits: Limits, say: Say) -> None:
        self.limits, self.say = limits, say
        self.report = Report()
        self.begun = self.last = time.monotonic()

    def step(self, name: str, states: int, arcs: int) -> None:
        now = time.monotonic()
        seconds = round(now - self.last, 2)
        self.last = now
        self.report.steps.append({"step": name, "states": states, "arcs": arcs, "seconds": seconds})
        self.say(f"{name}: {states:,} states, {arcs:,} arcs, {seconds:.1f} s, {memory_gb():.2f} GB")
        self.check(name, states, arcs)

    def check(self, name: str, states: int, arcs: int, ahead: float = 0.0) -> None:
        """Raise `GraphError` over a limit; ``ahead``: GB that the next step is expected to add."""
        limits = self.limits
        for what, have, most in (
            ("states", states, limits.max_states),
            ("arcs", arcs, limits.max_arcs),
        ):
            if have > most:
                raise GraphError(
                    f"{name} has {have:,} {what}, more than the limit of {most:,}: "
                    "prune the language model harder or raise the limit"
                )
        left = available_gb()
        if ahead > left - _RESERVE:
            raise GraphError(
                f"{name} needs {ahead:.1f} GB more memory, and the machine has {left:.1f} GB left: "
                "prune the language model harder"
            )
        # What earlier work of the process held and gave back is no need of this build.
        need = held_gb() + ahead
        if need > limits.max_memory:
            raise GraphError(
                f"{name} needs {need:.1f} GB of memory, more than the limit of "
                f"{limits.max_memory:.1f} GB: prune the language model harder or raise the limit"
            )
