"""Several processes, one model: what `torchrun` starts, or one process alone.

Each process takes its rows of every batch, and the gradients, of the loss summed over rows, are added up
and divided by the tokens of all. So the batches, the losses and the steps are those of one process.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import timedelta

import torch


class Processes:
    """The processes of a run. `rank` is this one's number; alone it is 0 of 1."""

    def __init__(self, rank: int = 0, world: int = 1) -> None:
        self.rank = rank
        self.world = world

    @classmethod
    def start(cls, device: torch.device) -> Processes:
        """Join the processes that `torchrun` started; alone where it did not."""
        world = int(os.environ.get("WORLD_SIZE", "1"))
        if world == 1:
            return cls()
        import torch.distributed as distributed

        if not distributed.is_initialized():
            backend = "nccl" if device.type == "cuda" else "gloo"
            # The first process evaluates and saves while the others wait.
            distributed.init_process_group(backend, timeout=timedelta(hours=1))
        return cls(distributed.get_rank(), distributed.get_world_size())

    @property
    def first(self) -> bool:
        """Whether this is the process that talks, evaluates and saves."""
        return self.rank == 0

    def add(self, values: torch.Tensor) -> torch.Tensor:
        """The sum of a tensor over all processes, in place."""
        if self.world > 1:
            import torch.distributed as distributed

            distributed.all_reduce(values)
        return values

    def add_gradients(self, parameters: Iterable[torch.nn.Parameter], total: float) -> None:
        """Sum the gradients over all processes and divide them by `total`, in place."""
        learning = [parameter for parameter in parameters if parameter.requires_grad]
        for parameter in learning:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in learning if parameter.grad is not None]
        if self.world == 1:
            torch._foreach_div_(gradients, total)
            return
        flat = self.add(torch.cat([gradient.flatten() for gradient in gradients])) / total
        for gradient, part in zip(gradients, torch.split(flat, [g.numel() for g in gradients])):
            gradient.copy_(part.view_as(gradient))


def default_device() -> torch.device:
    """A GPU where there is one: the one of this process's number on its machine."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    local = int(os.environ.get("LOCAL_RANK", "0"))
    torch.cuda.set_device(local)
    return torch.device("cuda", local)
