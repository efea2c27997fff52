"""Many runs: finished ones are skipped, failed ones reported, and where time is up, all that was done is kept."""

import time
from collections.abc import Callable, Container, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, wait
from contextlib import ExitStack
from typing import Any

from ..config import RunConfig
from ..errors import ConfigError, Interrupted, LtkdError, RunError, SweepError, TimeUp
from ..runs import Run, all_runs
from ..training.custom_objects import with_objects
from ..training.fit import fit
from ..training.teacher_cache import shared_folder
from .executors import Executor, InProcess, Processes, result_of

OBJECTS = ("teacher", "student", "dataset")  # the caller's own: with them a run builds on others than its config says

Outcome = Run | LtkdError  # of a run: finished, failed, or TimeUp


def sweep(
    configs: Iterable[RunConfig],
    *,
    jobs: int = 1,
    report: Callable[[str], object] | None = print,
    until: float | None = None,
    retrain: bool = False,
    **where: Any,
) -> list[Run]:
    """`fit` every config; an error in one stops only those that build on it.

    Args:
        configs: what to train. Runs that are finished are not trained again without `retrain`, unless their weights are
            not stored and `weights=True`, or a run that is to be trained builds on them.
        jobs: how many runs are trained side by side, in processes that share the cores and the teachers' logits.
        report: called with one line a run, unless None.
        until: when to stop, in seconds since 1970. Runs in training are stored then, as after Ctrl-C, and are neither
            finished nor failed.
        retrain: train all of `configs` anew, but not the runs that they build on.
        where: passed on to `fit`.

    Returns:
        The finished runs in the order of their configs: all of them, unless `until` came first.

    Raises:
        SweepError: a run failed; raised when all others are done.
        Interrupted: Ctrl-C; what was in training is stored.
    """
    report = report or (lambda line: None)
    own = {role: where.get(role) for role in OBJECTS}
    wanted = {config.id: config for config in (with_objects(config, **own) for config in configs)}
    where["retrain"] = frozenset(wanted) if retrain else frozenset()
    finished: dict[str, Run] = {}
    failed: dict[str, LtkdError] = {}
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


def _outcomes(wanted, jobs, until, where) -> Iterator[tuple[RunConfig, Outcome]]:
    """The outcome of every config of {id: config}: stored runs first, then trained ones as they finish."""
    stored = {run.config.id: run for run in all_runs(where.get("runs")) if run.finished}
    stored = {i: run for i, run in stored.items() if i not in where["retrain"]}
    if where.get("weights"):
        stored = {i: run for i, run in stored.items() if run.has_weights}
    yield from ((config, stored[i]) for i, config in wanted.items() if i in stored)
    missing = [config for i, config in wanted.items() if i not in stored]
    if not any(where.get(role) is not None for role in OBJECTS):
        missing = in_order(missing)
    if not missing:
        return
    with ExitStack() as stack:
        executor: Executor = InProcess()
        if jobs > 1:
            stack.enter_context(shared_folder())
            executor, where = Processes(jobs), {**where, "progress": False}
        stack.callback(executor.close)
        if jobs > 1:
            _check_understood(executor, missing, {role: where.get(role) for role in OBJECTS})
        for config, outcome in _trained(executor, missing, until, {**where, "weights": True}):
            if (config.id in wanted and config.id not in stored) or isinstance(outcome, TimeUp):
                yield config, outcome


def _trained(executor, configs, until, where) -> Iterator[tuple[RunConfig, Outcome]]:
    """Train the configs, each after what it builds on. At most `slots` are handed out at once, so that none is begun
    after Ctrl-C or when the time is up."""
    waiting, running, failed = list(configs), {}, {}
    while waiting or running:
        if until is not None and time.time() >= until:
            waiting = []
        for config in [*waiting]:  # in their order: what builds on one that is dropped here is dropped too
            if (before := _failed_before(config, failed)) is not None:
                why = f"it builds on {before.name}, which failed: {failed[before.id]}"
                failed[config.id] = RunError(f"not trained, since {why}")
                waiting.remove(config)
                yield config, failed[config.id]
        unfinished = {config.id for config in (*waiting, *running.values())}
        ready = [c for c in waiting if not unfinished & {before.id for before in c.builds_on().values()}]
        for config in ready[: executor.slots - len(running)]:
            waiting.remove(config)
            running[executor.submit(_fit, config, until, where)] = config
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            config, outcome = running.pop(future), result_of(future)
            if not isinstance(outcome, Run | TimeUp):
                failed[config.id] = outcome
            yield config, outcome


def _failed_before(config, failed):
    """The first run that this one builds on and that failed; None if there is none."""
    return next((before for before in config.builds_on().values() if before.id in failed), None)


def _fit(config, until, where) -> Outcome:
    """The finished run, or the error that says why there is none."""
    try:
        return fit(config, until=until, **where | {"retrain": config.id in where["retrain"]})
    except TimeUp as stop:
        return stop
    except (KeyboardInterrupt, Interrupted) as stop:
        raise Interrupted(str(stop) or "stopped; every run that was being trained is stored") from None
    except LtkdError as error:
        return error
    except Exception as error:  # such as a GPU without memory left, or a fault in a callback
        return RunError(f"{type(error).__name__}: {error}")


def _check_understood(executor, configs, objects):
    """Raise ConfigError unless another process gets the same runs from the configs and objects."""
    expected = [config.id for config in configs]
    try:
        understood = result_of(executor.submit(_ids, configs, objects)) == expected
        why = "a class differs there"
    except (KeyboardInterrupt, Interrupted):
        raise
    except Exception as error:  # an object's own class may raise anything
        understood, why = False, f"{type(error).__name__}: {error}".splitlines()[0]
    if not understood:
        raise ConfigError(
            f"other processes cannot use your own object or method ({why}); define its class in a module that they can "
            f"import, or use jobs=1"
        )


def _ids(configs, objects):
    return [with_objects(config, **objects).id for config in configs]


def in_order(configs: Iterable[RunConfig], done: Container[str] = ()) -> list[RunConfig]:
    """The configs and all that they build on, each once, each after what it builds on.

    done: ids of runs to leave out, with what they alone build on.
    """
    found = {}

    def add(config):
        if config.id not in found and config.id not in done:
            for before in config.builds_on().values():
                add(before)
            found[config.id] = config

    for config in configs:
        add(config)
    return list(found.values())


def describe(run: Run) -> str:
    """A finished run's accuracies in one line."""
    last = run.result["last"]
    groups = ", ".join(f"{name} {last[name]:.2f}" for name in ("head", "medium", "tail") if name in last)
    return f"all {last['all']:.2f} % ({groups}), epoch {last['epoch']}"
