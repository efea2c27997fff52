"""Many runs: finished ones are skipped, failed ones reported, and where time is up, all that was done is kept."""

import _thread
import pickle
import signal
import threading
import time
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context

import torch

from .. import methods
from .._support.fingerprint import class_code
from ..errors import ConfigError, Interrupted, LtkdError, RunError, SweepError
from ..runs import Run, all_runs
from ..training.custom_objects import with_objects
from ..training.fit import fit
from ..training.teacher_cache import shared_folder

OBJECTS = ("teacher", "student", "dataset")  # of the caller's own, with which a run builds on others than it says


class TimeUp(LtkdError):
    """The time of a sweep is over; says what of the run in training is stored."""


def sweep(configs, *, jobs=1, report=print, until=None, **where):
    """`fit` every config; an error in one stops no other but those that build on it.

    jobs: how many runs are trained side by side, in processes that share the cores and the remembered teachers.
    report: called with one line a run, unless None. until: when to stop, in seconds since 1970; what is in training
    then is stored as after Ctrl-C, and is neither finished nor failed. where: passed on to `fit`. A run that is
    finished, or packed in the folder of the runs, is not trained again.

    Returns the finished runs in the order of their configs, which are all unless `until` came first. Raises SweepError,
    once all others are done, if a run failed.
    """
    report = report or (lambda line: None)
    own = {role: where.get(role) for role in OBJECTS}
    wanted = {config.id: config for config in (with_objects(config, **own) for config in configs)}
    finished, failed = {}, {}
    for config, outcome in _outcomes(wanted, jobs, until, where):
        number = f"[{len(finished) + len(failed) + 1}/{len(wanted)}]"
        if isinstance(outcome, TimeUp):
            report(f"{config.name}: {outcome}")
        elif isinstance(outcome, Run):
            finished[config.id] = outcome
            report(f"{number} {config.name}: {describe(outcome)}")
        else:
            failed[config.name] = outcome
            report(f"{number} {config.name}: FAILED: {outcome}")
    done = [finished[i] for i in wanted if i in finished]
    if failed:
        raise SweepError(done, failed)
    return done


def _outcomes(wanted, jobs, until, where):
    """(config, its finished Run or the error) for every config of {id: config}: what is stored, then what is trained,
    after all that it builds on."""
    stored = {run.config.id: run for run in all_runs(where.get("runs")) if run.finished}
    yield from ((config, stored[i]) for i, config in wanted.items() if i in stored)
    missing = [config for i, config in wanted.items() if i not in stored]
    own = any(where.get(role) is not None for role in OBJECTS)
    ordered = missing if own else in_order(missing)
    train_all = _one_by_one if jobs == 1 else partial(_side_by_side, jobs)
    for config, outcome in train_all(ordered, until, where):
        if config.id in wanted or isinstance(outcome, TimeUp):
            yield config, outcome


def _one_by_one(configs, until, where):
    failed = {}
    for config in configs:
        if until is not None and time.time() >= until:
            return
        outcome = _dropped(config, failed) or _fit(config, until, where)
        _note(failed, config, outcome)
        yield config, outcome


def _dropped(config, failed):
    """The error of a run that builds on one that failed; None for any other."""
    for before in config.builds_on():
        if before.id in failed:
            return RunError(f"not trained, since it builds on {before.name}, which failed: {failed[before.id]}")
    return None


def _note(failed, config, outcome):
    """Write an error down in `failed`."""
    if not isinstance(outcome, Run | TimeUp):
        failed[config.id] = outcome


def _fit(config, until, where):
    """The finished run, or the error that says why there is none."""
    try:
        with _stopped_at(until):
            return fit(config, **where)
    except (KeyboardInterrupt, Interrupted) as stop:
        if until is None or time.time() < until:
            raise
        return TimeUp(f"time is up: {str(stop) or 'no epoch was begun'}")
    except LtkdError as error:
        return error
    except Exception as error:  # such as a GPU without memory left, or a fault in a callback
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
        try:
            yield
        finally:
            timer.cancel()
            timer.join()  # what it has fired comes up here, and not in whatever follows
    finally:
        signal.signal(signal.SIGINT, before)


def _side_by_side(jobs, configs, until, where):
    """As `_one_by_one`, but in the order in which they finish."""
    if not configs:
        return
    for config in configs:
        if class_code(methods.METHODS[config.method]) is not None:
            raise ConfigError(f"method {config.method!r} is your own, which other processes do not know; use jobs=1")
    threads = max(1, torch.get_num_threads() // jobs)
    where = {**where, "progress": False}
    new_pool = partial(_new_pool, jobs, threads, where)
    with shared_folder():
        try:
            yield from _as_they_finish(new_pool, jobs, configs, until, where)
        except (KeyboardInterrupt, Interrupted):  # every process got Ctrl-C too, and has stored what it had
            raise Interrupted(
                "stopped; every run that was being trained is stored. Give the same command again to go on"
            ) from None


def _as_they_finish(new_pool, jobs, configs, until, where):
    """Never hands the pool more than it trains at once, so that none is begun after an interrupt, and none before what
    it builds on is done."""
    waiting, running, failed, pool = list(configs), {}, {}, new_pool()
    try:
        while waiting or running:
            if until is not None and time.time() >= until:
                waiting = []
            for config in [*waiting]:
                if error := _dropped(config, failed):
                    waiting.remove(config)
                    _note(failed, config, error)
                    yield config, error
            open_ids = {config.id for config in (*waiting, *running.values())}
            for config in [each for each in waiting if not open_ids & {before.id for before in each.builds_on()}]:
                if len(running) < jobs:
                    waiting.remove(config)
                    try:
                        future = pool.submit(_fit, config, until, where)
                    except BrokenProcessPool:
                        pool = new_pool()
                        future = pool.submit(_fit, config, until, where)
                    running[future] = config
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                config = running.pop(done)
                outcome = _outcome(done)
                _note(failed, config, outcome)
                yield config, outcome
    finally:
        pool.shutdown(cancel_futures=True)


def _outcome(done):
    """What `_fit` has returned in another process, if that lived to return it. A pool dies as a whole."""
    try:
        return done.result()
    except BrokenProcessPool:
        return RunError(
            "the process that trained it, or one beside it, was killed, most likely for want of memory; use fewer "
            "--jobs (jobs=), and give the same command again to go on"
        )


def _new_pool(jobs, threads, where):
    """A pool whose processes are all there, and can read what `fit` is given. Left to itself it starts each when it is
    needed, and does not notice the death of one that was started while its own thread was asleep."""
    pool = ProcessPoolExecutor(jobs, get_context("spawn"), torch.set_num_threads, (threads,))
    try:
        given = pickle.dumps(where)
        for started in [pool.submit(_read, given) for _ in range(jobs)]:
            started.result()
    except BrokenProcessPool as error:
        raise RunError(
            "no process could be started beside this one; in a script, call sweep() below "
            "`if __name__ == '__main__':`, or use jobs=1"
        ) from error
    except Exception as error:  # an object's own class may raise anything
        pool.shutdown()
        raise ConfigError(
            f"other processes cannot read what you hand over ({error}); define it in a module that can be imported, or "
            f"use jobs=1"
        ) from error
    return pool


def _read(given):
    pickle.loads(given)


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
