"""Many runs: finished runs are skipped, failed runs reported, and at the deadline all finished work is stored."""

import time
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack
from typing import Any

from .._support.callbacks import notify
from .._support.fingerprint import of_a_library
from .._support.settings import Setting
from .._support.terminal import say
from ..config import RunConfig
from ..errors import ConfigError, Interrupted, LtkdError, RunError, SweepError, TimeUp
from ..methods import METHODS, Method
from ..runs import Run, all_runs
from ..training.custom_objects import with_objects
from ..training.fit import check_arguments, fit, pick_device
from ..training.teacher_cache import shared_folder
from .executors import Executor, InProcess, Processes, result_of

OBJECTS = ("teacher", "student", "dataset")  # the caller's own; with them, builds_on() of a config does not apply

JOBS = Setting(1, "number of runs trained in parallel, which share the cores (1)", low=1)

OwnMethods = dict[str, type[Method]]
Outcome = Run | LtkdError  # a finished run, the error of a failed run, or TimeUp


def sweep(
    configs: Iterable[RunConfig],
    *,
    jobs: int = 1,
    report: Callable[[str], object] | None = say,
    until: float | None = None,
    retrain: bool = False,
    **where: Any,
) -> list[Run]:
    """`fit` every config; an error in one run stops only the runs that build on it.

    Args:
        configs: the runs to train. Finished runs are not trained again, unless `retrain` is set, or their weights are
            not stored and are needed: with `weights=True`, or for a run that builds on them.
        jobs: number of runs trained side by side, in processes that share the cores and the teachers' logits.
        report: called with one line for each run, unless None; by default it prints them. Its error is a warning, as
            that of a callback of `fit`.
        until: when to stop, in seconds since 1970. The runs in training are stored, as after Ctrl-C; they count neither
            as finished nor as failed.
        retrain: train all of `configs` again, but not the runs that they build on.
        where: passed on to `fit`.

    Returns:
        The finished runs in the order of their configs: all of them, unless `until` was reached.

    Raises:
        SweepError: a run failed; raised after all others are done.
        ConfigError: other processes cannot use an object or method of your own.
        Interrupted: Ctrl-C, or a callback raised it; the runs in training are stored.

    >>> import ltkd, tempfile
    >>> configs = [ltkd.RunConfig.make(method=method, epochs=1, teacher_epochs=1) for method in ("ce", "kd")]
    >>> finished = sweep(configs, runs=tempfile.mkdtemp(), progress=False, report=None)
    >>> [run.config.method for run in finished]
    ['ce', 'kd']
    """
    report, jobs = report or (lambda line: None), JOBS.check("jobs", jobs)
    check_arguments(until=until, retrain=retrain, **where)
    pick_device(where.get("device", "auto"))
    own = {role: where.get(role) for role in OBJECTS}
    wanted = {config.id: config for config in (with_objects(config, **own) for config in configs)}
    where["retrain"] = frozenset(wanted) if retrain else frozenset()
    finished: dict[str, Run] = {}
    failed: dict[str, LtkdError] = {}
    for config, outcome in _outcomes(wanted, jobs, until, where):
        number = f"[{len(finished) + len(failed) + 1}/{len(wanted)}]"
        if isinstance(outcome, TimeUp):
            notify(report, f"{config.name}: {outcome}")
        elif isinstance(outcome, Run):
            finished[config.id] = outcome
            notify(report, f"{number} {config.name}: {describe(outcome)}")
        else:
            failed[config.name] = outcome
            notify(report, f"{number} {config.name}: FAILED: {outcome}")
    done = [finished[i] for i in wanted if i in finished]
    if failed:
        raise SweepError(done, failed)
    return done


def _outcomes(
    wanted: dict[str, RunConfig], jobs: int, until: float | None, where: dict[str, Any]
) -> Iterator[tuple[RunConfig, Outcome]]:
    """The outcome of every config of {id: config}: stored runs first, then trained ones as they finish."""
    stored = {run.config.id: run for run in all_runs(where.get("runs")) if run.finished}
    stored = {i: run for i, run in stored.items() if i not in where["retrain"]}
    if where.get("weights"):
        stored = {i: run for i, run in stored.items() if run.has_weights}
    missing = [config for i, config in wanted.items() if i not in stored]
    if not any(where.get(role) is not None for role in OBJECTS):
        missing = in_order(missing)
    bases = {config.id for config in missing}  # imported runs among them are trained again, for their weights
    done = {i: run for i, run in stored.items() if i not in bases or run.has_weights}
    yield from ((config, done[i]) for i, config in wanted.items() if i in done)
    if not missing:
        return
    with ExitStack() as stack:
        executor: Executor = InProcess()
        if jobs > 1:
            stack.enter_context(shared_folder())
            executor, where = Processes(jobs), {**where, "progress": False}
        stack.callback(executor.close)
        if jobs > 1:
            _check_understood(executor, missing, where)
        try:
            for config, outcome in _trained(executor, missing, until, {**where, "weights": True}):
                if (config.id in wanted and config.id not in done) or isinstance(outcome, TimeUp):
                    yield config, outcome
        except KeyboardInterrupt:  # the processes got it too, and store what they have
            raise Interrupted(
                "stopped; every run in training is stored. Give the same command again to go on"
            ) from None


def _trained(
    executor: Executor, configs: Iterable[RunConfig], until: float | None, where: dict[str, Any]
) -> Iterator[tuple[RunConfig, Outcome]]:
    """Train the configs, each after the runs that it builds on. At most `slots` are submitted at a time, so that none
    starts after Ctrl-C or the deadline."""
    waiting = list(configs)
    running: dict[Future, RunConfig] = {}
    failed: dict[str, LtkdError] = {}
    while waiting or running:
        if until is not None and time.time() >= until:
            waiting = []
        for config in [*waiting]:  # in their order, so that a failure reaches all that build on it
            if (before := _failed_before(config, failed)) is not None:
                why = f"it builds on {before.name}, which failed: {failed[before.id]}"
                failed[config.id] = RunError(f"not trained, since {why}")
                waiting.remove(config)
                yield config, failed[config.id]
        unfinished = {config.id for config in (*waiting, *running.values())}
        ready = [c for c in waiting if not unfinished & {before.id for before in c.builds_on().values()}]
        for config in ready[: executor.slots - len(running)]:
            waiting.remove(config)
            running[executor.submit(_fit, config, until, where, _own_methods())] = config
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            config, outcome = running.pop(future), result_of(future)
            if not isinstance(outcome, Run | TimeUp):
                failed[config.id] = outcome
            yield config, outcome


def _failed_before(config: RunConfig, failed: Container[str]) -> RunConfig | None:
    """The first failed run that this one builds on; None if there is none. failed: ids."""
    return next((before for before in config.builds_on().values() if before.id in failed), None)


def _own_methods() -> OwnMethods:
    """The methods that the user registered here: other processes know them only if they are sent along."""
    return {name: method for name, method in METHODS.items() if not of_a_library(method)}


def _fit(config: RunConfig, until: float | None, where: dict[str, Any], own_methods: OwnMethods) -> Outcome:
    """The finished run, or the error that stopped it."""
    METHODS.update(own_methods)
    try:
        return fit(config, until=until, **where | {"retrain": config.id in where["retrain"]})
    except TimeUp as stop:
        return stop
    except (KeyboardInterrupt, Interrupted) as stop:
        raise Interrupted(str(stop) or "stopped; every run in training is stored") from None
    except LtkdError as error:
        return error
    except Exception as error:  # such as a GPU out of memory
        return RunError(f"{type(error).__name__}: {error}")


def _check_understood(executor: Executor, configs: Sequence[RunConfig], where: dict[str, Any]) -> None:
    """Raise ConfigError unless another process can read all arguments, and finds the same ids for the configs."""
    try:
        found = result_of(executor.submit(_ids, configs, where, _own_methods()))
        why = "a class differs there"
    except (KeyboardInterrupt, Interrupted):
        raise
    except Exception as error:  # the class of an object may raise anything
        found, why = None, f"{type(error).__name__}: {error}".splitlines()[0]
    if isinstance(found, RunError):  # the process died
        raise found
    if found != [config.id for config in configs]:
        raise ConfigError(
            f"other processes cannot use your own object, callback or method ({why}); define its class in a module "
            f"that they can import, or use jobs=1"
        )


def _ids(configs: Sequence[RunConfig], where: dict[str, Any], own_methods: OwnMethods) -> list[str]:
    METHODS.update(own_methods)
    objects = {role: where.get(role) for role in OBJECTS}
    return [with_objects(config, **objects).id for config in configs]


def in_order(configs: Iterable[RunConfig], done: Container[str] = ()) -> list[RunConfig]:
    """The configs and all runs that they build on, each once, each after the runs that it builds on.

    done: ids of runs to omit, together with the runs that only they build on.
    """
    found: dict[str, RunConfig] = {}

    def add(config: RunConfig) -> None:
        if config.id not in found and config.id not in done:
            for before in config.builds_on().values():
                add(before)
            found[config.id] = config

    for config in configs:
        add(config)
    return list(found.values())


def describe(run: Run) -> str:
    """The accuracies of a finished run and the remarks on them, as one line of text."""
    last = run.result["last"]
    groups = ", ".join(f"{name} {last[name]:.2f}" for name in ("head", "medium", "tail") if last.get(name) is not None)
    balanced = f"balanced {last['balanced']:.2f} %, " if "balanced" in last else ""  # not in runs of version 0.1
    line = f"{balanced}all {last['all']:.2f} % ({groups}), epoch {last['epoch']}"
    return "; ".join([line, *run.result.get("remarks", [])])
