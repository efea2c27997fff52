"""Many runs from one grid: every combination of the listed values, finished runs skipped, failed ones reported."""

import itertools
import tomllib
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch

from . import methods
from .config import RunConfig
from .errors import ConfigError, Interrupted, LtkdError, RunError
from .methods import option_names
from .remembering import shared_folder
from .runs import Run
from .training import fit


def read_grid(path):
    """A grid file in TOML: `name = value` for what is fixed, `name = [values]` for what varies."""
    try:
        return tomllib.loads(Path(path).read_text())
    except OSError as error:
        raise ConfigError(f"grid file {path} cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"grid file {path} is not TOML: {error}") from error


def expand(grid):
    """The configs of a grid: {field or method option: value or list of values} -> [RunConfig], each one once.

    An option is given only to the methods that have it, so one grid may hold methods with different options.
    """
    axes = {name: value if isinstance(value, list) else [value] for name, value in grid.items()}
    for name, values in axes.items():
        if not values:
            raise ConfigError(f"{name} has no value in this grid; give at least one")
    owners = option_names()
    swept = axes.get("method", ["ltkd"])
    for name in axes:
        if name in owners and not set(owners[name]) & set(swept):
            raise ConfigError(
                f"{name} is an option of {', '.join(owners[name])}, but the methods here are {', '.join(swept)}; leave "
                f"it out or add such a method"
            )
    configs = {}
    for values in itertools.product(*axes.values()):
        settings = dict(zip(axes, values, strict=True))
        method = settings.get("method", "ltkd")
        settings = {k: v for k, v in settings.items() if k not in owners or method in owners[k]}
        config = RunConfig.make(**settings)
        configs[config.id] = config
    return list(configs.values())


def sweep(configs, *, jobs=1, report=print, **where):
    """`fit` every config; an error in one does not stop the others.

    jobs: how many runs are trained side by side, in processes that share the cores and the remembered teachers.
    report: called with one line a run. where: passed on to `fit`. Returns (finished runs, {name of the run: error}).
    """
    finished, failed = [], {}
    train_all = _one_by_one if jobs == 1 else partial(_side_by_side, jobs)
    for config, outcome in train_all(configs, where):
        number = f"[{len(finished) + len(failed) + 1}/{len(configs)}]"
        if isinstance(outcome, Run):
            finished.append(outcome)
            report(f"{number} {config.name}: {describe(outcome)}")
        else:
            failed[config.name] = outcome
            report(f"{number} {config.name}: FAILED: {outcome}")
    return finished, failed


def _one_by_one(configs, where):
    for config in configs:
        yield config, _fit(config, where)


def _fit(config, where):
    """The finished run, or the error that says why there is none."""
    try:
        return fit(config, **where)
    except Interrupted:
        raise
    except LtkdError as error:
        return error
    except RuntimeError as error:  # such as a GPU without memory left
        return RunError(f"{type(error).__name__}: {error}")


def _side_by_side(jobs, configs, where):
    """As `_one_by_one`, but in the order in which they finish. What several runs build on is trained before them."""
    for config in configs:
        if methods.code_of(methods.METHODS[config.method]) is not None:
            raise ConfigError(f"method {config.method!r} is your own, which other processes do not know; use jobs=1")
    threads = max(1, torch.get_num_threads() // jobs)
    where = {**where, "progress": False}
    wanted = {config.id for config in configs}
    with shared_folder(), ProcessPoolExecutor(jobs, get_context("spawn"), _start_worker, (threads,)) as pool:
        try:
            for stage in stages(configs):
                for config, outcome in _as_they_finish(pool, jobs, stage, where):
                    if config.id in wanted:
                        yield config, outcome
        except (KeyboardInterrupt, Interrupted):  # every process got Ctrl-C too, and has stored what it had
            pool.shutdown(cancel_futures=True)
            raise Interrupted(
                "stopped; every run that was being trained is stored. Give the same command again to go on"
            ) from None


def _as_they_finish(pool, jobs, configs, where):
    """Never hands the pool more than it trains at once, so that none is begun after an interrupt."""
    waiting, running = list(configs), {}
    while waiting or running:
        while waiting and len(running) < jobs:
            config = waiting.pop(0)
            running[pool.submit(_fit, config, where)] = config
        for done in wait(running, return_when=FIRST_COMPLETED).done:
            yield running.pop(done), done.result()


def _start_worker(threads):
    torch.set_num_threads(threads)


def stages(configs):
    """The configs and all that they build on, each once, in lists that can be trained one after the other."""
    depths, known = {}, {}

    def depth(config):
        if config.id not in depths:
            known[config.id] = config
            depths[config.id] = 1 + max(map(depth, config.builds_on()), default=-1)
        return depths[config.id]

    for config in configs:
        depth(config)
    return [
        [known[i] for i, d in depths.items() if d == level] for level in range(max(depths.values(), default=-1) + 1)
    ]


def describe(run):
    """A finished run's accuracies in one line."""
    last = run.result["last"]
    groups = ", ".join(f"{name} {last[name]:.2f}" for name in ("head", "medium", "tail") if name in last)
    return f"all {last['all']:.2f} % ({groups}), epoch {last['epoch']}"
