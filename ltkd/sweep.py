"""Many runs: finished ones are skipped, failed ones reported, and where time is up, all that was done is kept."""

import _thread
import signal
import threading
import time
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context

import torch

from . import methods
from .errors import ConfigError, Interrupted, LtkdError, RunError
from .remembering import shared_folder
from .runs import Run, packed_runs
from .training import fit


class TimeUp(LtkdError):
    """The time of a sweep is over; says what of the run in training is stored."""


def sweep(configs, *, jobs=1, report=print, until=None, **where):
    """`fit` every config; an error in one does not stop the others.

    jobs: how many runs are trained side by side, in processes that share the cores and the remembered teachers.
    report: called with one line a run. until: when to stop, in seconds since 1970; what is in training then is stored
    as after Ctrl-C, and is neither finished nor failed. where: passed on to `fit`. A run that is packed in the folder
    of the runs is not trained again. Returns (finished runs, {name of the run: error}).
    """
    finished, failed = [], {}
    packed = {run.config.id: run for run in packed_runs(where.get("runs"))}
    train_all = _one_by_one if jobs == 1 else partial(_side_by_side, jobs)
    for config, outcome in train_all(configs, packed, until, where):
        number = f"[{len(finished) + len(failed) + 1}/{len(configs)}]"
        if isinstance(outcome, TimeUp):
            report(f"{config.name}: {outcome}")
        elif isinstance(outcome, Run):
            finished.append(outcome)
            report(f"{number} {config.name}: {describe(outcome)}")
        else:
            failed[config.name] = outcome
            report(f"{number} {config.name}: FAILED: {outcome}")
    return finished, failed


def _one_by_one(configs, packed, until, where):
    for config in configs:
        if config.id in packed:
            yield config, packed[config.id]
        elif until is None or time.time() < until:
            yield config, _fit(config, until, where)


def _fit(config, until, where):
    """The finished run, or the error that says why there is none."""
    try:
        with _stopped_at(until):
            return fit(config, **where)
    except (KeyboardInterrupt, Interrupted) as stop:
        if until is None or time.time() < until:
            raise
        return TimeUp(f"time is up: {stop or 'no epoch was begun'}")
    except LtkdError as error:
        return error
    except RuntimeError as error:  # such as a GPU without memory left
        return RunError(f"{type(error).__name__}: {error}")


@contextmanager
def _stopped_at(until):
    """As if Ctrl-C were pressed at that time, also where a shell had this process ignore it; None: never."""
    if until is None:
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(max(0.0, until - time.time()), _thread.interrupt_main)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()  # what it has fired comes up here, and not in whatever follows
        signal.signal(signal.SIGINT, before)


def _side_by_side(jobs, configs, packed, until, where):
    """As `_one_by_one`, but in the order in which they finish. What several runs build on is trained before them."""
    for config in configs:
        if methods.code_of(methods.METHODS[config.method]) is not None:
            raise ConfigError(f"method {config.method!r} is your own, which other processes do not know; use jobs=1")
    yield from ((config, packed[config.id]) for config in configs if config.id in packed)
    wanted = {config.id: config for config in configs if config.id not in packed}
    threads = max(1, torch.get_num_threads() // jobs)
    where = {**where, "progress": False}
    with shared_folder(), ProcessPoolExecutor(jobs, get_context("spawn"), _start_worker, (threads,)) as pool:
        try:
            for config, outcome in _as_they_finish(pool, jobs, in_order(wanted.values()), until, where):
                if config.id in wanted:
                    yield config, outcome
        except (KeyboardInterrupt, Interrupted):  # every process got Ctrl-C too, and has stored what it had
            pool.shutdown(cancel_futures=True)
            raise Interrupted(
                "stopped; every run that was being trained is stored. Give the same command again to go on"
            ) from None


def _as_they_finish(pool, jobs, configs, until, where):
    """Never hands the pool more than it trains at once, so that none is begun after an interrupt, and none before what
    it builds on is done."""
    waiting, running = list(configs), {}
    while waiting or running:
        if until is not None and time.time() >= until:
            waiting = []
        open_ids = {config.id for config in (*waiting, *running.values())}
        for config in [each for each in waiting if not open_ids & {before.id for before in each.builds_on()}]:
            if len(running) < jobs:
                waiting.remove(config)
                running[pool.submit(_fit, config, until, where)] = config
        for done in wait(running, return_when=FIRST_COMPLETED).done:
            yield running.pop(done), done.result()


def _start_worker(threads):
    torch.set_num_threads(threads)


def in_order(configs, done=()):
    """The configs and all that they build on, each once, each after what it builds on. done: ids of runs to leave out,
    with what they alone build on."""
    found = {}

    def add(config):
        if config.id not in found and config.id not in done:
            for before in config.builds_on():
                add(before)
            found[config.id] = config

    for config in configs:
        add(config)
    return list(found.values())


def describe(run):
    """A finished run's accuracies in one line."""
    last = run.result["last"]
    groups = ", ".join(f"{name} {last[name]:.2f}" for name in ("head", "medium", "tail") if name in last)
    return f"all {last['all']:.2f} % ({groups}), epoch {last['epoch']}"
