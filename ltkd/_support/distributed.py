"""One run on several processes, started by torchrun: each computes its part of every batch, on its own GPU.

If the loss is a mean over images, the gradients are those of one process with the whole batch. LTKD sums its group
masses over all processes. Other losses see only the part of their process: the weighted means of `cb` and `ldam-drw`,
the correlations of `dist`, the centres of `oltr`; on a CPU also BatchNorm.
In a single process, every function here does nothing.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


def world_size() -> int:
    """The number of processes that train this run."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_first() -> bool:
    """True in the process that writes files and prints for all."""
    if dist.is_initialized():
        return dist.get_rank() == 0
    return not is_one_of_several() or int(os.environ.get("RANK", 0)) == 0


def is_one_of_several() -> bool:
    """True if torchrun started this process with others. A scheduler sets RANK and LOCAL_RANK also without torchrun."""
    return int(os.environ.get("WORLD_SIZE", 1)) > 1


@contextmanager
def group(device: torch.device) -> Iterator[None]:
    """Join the processes that torchrun started; leave them at the end. Does nothing in a group or a single process."""
    if dist.is_initialized() or not is_one_of_several():
        yield
        return
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if on_gpu else "gloo", device_id=device if on_gpu else None)
    try:
        yield
    finally:
        dist.destroy_process_group()


def own_device(name: str | torch.device) -> str | torch.device:
    """The device of this process: its own GPU for the names 'auto' and 'cuda', else `name`."""
    own = is_one_of_several() and "LOCAL_RANK" in os.environ
    gpus = torch.cuda.is_available() and name in ("auto", "cuda")
    return f"cuda:{os.environ['LOCAL_RANK']}" if own and gpus else name


def share(values: Tensor) -> Tensor:
    """This process's part of a batch: (B, ...) -> (b, ...)."""
    return values if world_size() == 1 else values.tensor_split(world_size())[dist.get_rank()]


def total(values: Tensor) -> Tensor:
    """The sum of a tensor over all processes."""
    if world_size() == 1:
        return values
    values = values.clone()
    dist.all_reduce(values)
    return values


def weight(values: Tensor) -> float:
    """The factor that makes the averaged gradients those of the mean over the whole batch: 1 for parts of equal size.

    values: (b, ...), this process's part of the batch.
    """
    if world_size() == 1:
        return 1.0
    return len(values) * world_size() / float(total(torch.tensor(float(len(values)), device=values.device)))


def wait() -> None:
    """Wait until every process is here."""
    if world_size() > 1:
        dist.barrier()


def agreed(value: Any = None) -> Any:
    """The value of the first process, in all processes. Others may not see a new file on a shared disk yet."""
    if world_size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


@contextmanager
def by_first(
    claimed: Callable[[Callable[[], None]], AbstractContextManager[Any]], meanwhile: Callable[[], object] = lambda: None
) -> Iterator[None]:
    """Enter `claimed(callback)` in the first process; the others wait until it has entered.

    While `claimed` waits for another program, it calls the callback every few seconds. The callback calls `meanwhile`
    and sends a message to the waiting processes, so that they do not time out.
    """
    if not is_first():
        while not agreed():
            pass
        yield
        return

    def wait_on() -> None:
        agreed(False)
        meanwhile()

    with claimed(wait_on):
        agreed(True)
        yield


def synchronised(student: nn.Module, method: nn.Module, device: torch.device) -> nn.Module:
    """The module that computes the terms of a step: the method; in a group, one that averages the gradients."""
    if world_size() == 1:
        return method
    return DistributedDataParallel(_Trained(student, method), device_ids=[device] if device.type == "cuda" else None)


class _Trained(nn.Module):
    """Student and method as one module: DistributedDataParallel averages the gradients of both."""

    def __init__(self, student: nn.Module, method: nn.Module) -> None:
        super().__init__()
        self.student, self.method = student, method

    def forward(self, step: Any) -> dict[str, Tensor]:
        return self.method(step)
