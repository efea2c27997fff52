"""Where the runs of a sweep are trained: in this process, or in worker processes."""

import multiprocessing
import os
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any, Protocol

import torch

from ..errors import ResultWarning, RunError

if TYPE_CHECKING:
    from loky import ProcessPoolExecutor


class Executor(Protocol):
    """Trains up to `slots` runs at the same time."""

    slots: int

    def submit(self, function: Callable[..., Any], *args: Any) -> Future:
        """Call function(*args) and return its Future; see `result_of`."""

    def close(self) -> None:
        """Wait for the calls that are running, and end the processes."""


class InProcess:
    """One run at a time, in this process: `submit` returns when the function has returned."""

    slots = 1

    def submit(self, function: Callable[..., Any], *args: Any) -> Future:
        future: Future = Future()
        future.set_result(function(*args))
        return future

    def close(self) -> None:
        pass


class Processes:
    """`jobs` worker processes, which share the cores. They end with this process, however it ends."""

    def __init__(self, jobs: int) -> None:
        self.slots = jobs
        self._pool: ProcessPoolExecutor | None = None

    def submit(self, function: Callable[..., Any], *args: Any) -> Future:
        try:
            return self._open().submit(function, *args)
        except BrokenProcessPool:  # a worker died: replace all
            self._pool = None
            return self._open().submit(function, *args)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def _open(self) -> "ProcessPoolExecutor":
        if self._pool is None:
            from loky import ProcessPoolExecutor

            # loky replaces a worker that uses much memory between two runs; the user need not know.
            warnings.filterwarnings("ignore", "A worker was restarted", module="loky")
            threads = max(1, torch.get_num_threads() // self.slots)
            how = threads, multiprocessing.get_start_method(), os.getpid()
            self._pool = ProcessPoolExecutor(self.slots, initializer=_begin, initargs=how)
        return self._pool


def result_of(future: Future) -> Any:
    """The function's return value, or a RunError if its process died."""
    try:
        return future.result()
    except BrokenProcessPool:
        return RunError(
            "the process that trained it, or one beside it, was killed, probably because memory was full; use fewer "
            "--jobs (jobs=), and give the same command again to go on"
        )


def _begin(threads: int, start_method: str, parent: int) -> None:
    """Set up a worker process."""
    torch.set_num_threads(threads)
    warnings.simplefilter("ignore", ResultWarning)  # the report of a run has its remarks
    # loky sets a method of its own, with which the processes that decode images cannot be started.
    multiprocessing.set_start_method(start_method, force=True)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process when its parent has ended. Files are never partly written, so that this is safe at any time."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
