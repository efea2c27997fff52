"""Many runs from one grid: every combination of the listed values, finished runs skipped, failed ones reported."""

import itertools
import tomllib
from pathlib import Path

from .config import RunConfig
from .errors import ConfigError, Interrupted, LtkdError
from .methods import option_names
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


def sweep(configs, *, report=print, **where):
    """`fit` every config, one after the other; an error in one does not stop the others.

    report: called with one line a run. where: passed on to `fit`. Returns (finished runs, {name of the run: error}).
    """
    finished, failed = [], {}
    for number, config in enumerate(configs, start=1):
        try:
            run = fit(config, **where)
        except Interrupted:
            raise
        except LtkdError as error:
            failed[config.name] = error
            report(f"[{number}/{len(configs)}] {config.name}: FAILED: {error}")
        else:
            finished.append(run)
            report(f"[{number}/{len(configs)}] {config.name}: {describe(run)}")
    return finished, failed


def describe(run):
    """A finished run's accuracies in one line."""
    last = run.result["last"]
    groups = ", ".join(f"{name} {last[name]:.2f}" for name in ("head", "medium", "tail") if name in last)
    return f"all {last['all']:.2f} % ({groups}), epoch {last['epoch']}"
