"""One run on several processes, started by torchrun: each computes its part of every batch, on a GPU of its own.

The gradients are those of one process with the whole batch where the loss is a mean over images, and LTKD sums its
group masses over all of them. A loss that makes something else of a batch does so with each part: the weighted means of
`cb` and `ldam-drw`, the correlations of `dist`, the centres of `oltr`. On a CPU so does BatchNorm.
Alone, a process is a group of one, and everything here does nothing.
"""

import os
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def world_size():
    """How many processes train this run."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_first():
    """Whether this process writes and reports for all."""
    if dist.is_initialized():
        return dist.get_rank() == 0
    return not is_one_of_several() or int(os.environ.get("RANK", 0)) == 0


def is_one_of_several():
    """Whether torchrun started this process with others. A scheduler may leave RANK and LOCAL_RANK where it did not."""
    return int(os.environ.get("WORLD_SIZE", 1)) > 1


@contextmanager
def group(device):
    """Join the processes that torchrun started; leave them at the end. Within a group, or alone: do nothing."""
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


def own_device(name):
    """The device of this process: of the name 'auto' or 'cuda', the GPU that is its own."""
    own = is_one_of_several() and "LOCAL_RANK" in os.environ
    gpus = torch.cuda.is_available() and name in ("auto", "cuda")
    return f"cuda:{os.environ['LOCAL_RANK']}" if own and gpus else name


def share(values):
    """This process's part of a batch."""
    return values if world_size() == 1 else values.tensor_split(world_size())[dist.get_rank()]


def total(values):
    """The sum of a tensor over all processes."""
    if world_size() == 1:
        return values
    values = values.clone()
    dist.all_reduce(values)
    return values


def weight(values):
    """What the mean over this process's part of a batch weighs in the mean over the whole batch, whose gradients are
    averaged over the processes: 1 where all parts are alike."""
    if world_size() == 1:
        return 1.0
    return len(values) * world_size() / float(total(torch.tensor(float(len(values)), device=values.device)))


def wait():
    """Wait until every process is here."""
    if world_size() > 1:
        dist.barrier()


def agreed(value=None):
    """The value that the first process gives, in all of them: what each finds out for itself, such as whether a file is
    there, may differ."""
    if world_size() == 1:
        return value
    said = [value]
    dist.broadcast_object_list(said)
    return said[0]


@contextmanager
def by_first(claimed, meanwhile=lambda: None):
    """Enter `claimed(callback)` in the first process; the others wait until it has entered.

    `claimed` may wait for other programs, and then calls the callback every few seconds. That keeps the waiting
    processes alive, which would otherwise give up, and calls `meanwhile`.
    """
    if not is_first():
        while not agreed():
            pass
        yield
        return

    def wait_on():
        agreed(False)
        meanwhile()

    with claimed(wait_on):
        agreed(True)
        yield


def synchronised(student, method, device):
    """What turns a step into its terms: the method, or, in a group, a module whose gradients are averaged."""
    if world_size() == 1:
        return method
    return DistributedDataParallel(_Trained(student, method), device_ids=[device] if device.type == "cuda" else None)


class _Trained(nn.Module):
    """Student and method as one module, so that one forward pass reaches the parameters of both."""

    def __init__(self, student, method):
        super().__init__()
        self.student, self.method = student, method

    def forward(self, step):
        return self.method(step)
