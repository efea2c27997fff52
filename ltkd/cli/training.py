"""The commands train and sweep."""

import argparse
import time
from collections.abc import Mapping, Sequence
from typing import Any

from .. import runs
from .._support import distributed
from .._support.settings import Setting
from .._support.terminal import say, say_table
from ..config import RunConfig
from ..errors import ConfigError, LtkdError, SweepError
from ..reproduce import cost
from ..reproduce.grids import expand, names, read_grid
from ..reproduce.sweep import JOBS, describe, in_order, sweep
from ..training.fit import fit, pick_device
from . import options, reports
from .results import export, finished_in

MINUTES: Setting[float | None] = Setting(
    None, "stop after this time; all finished epochs are stored", low=0, above=True, kind=float | None
)


def train(given: argparse.Namespace) -> None:
    """Train one student (and its teacher, if that is not trained yet), and print the accuracies."""
    config = RunConfig.make(**options.settings(given))
    if given.dry_run:
        say(*_described(config))
        return
    started = time.time()
    run = fit(config, **options.where(given))
    if not distributed.is_first():
        return
    old = " (finished earlier, not trained again)" if run.finished_at < started else ""
    say(f"{run.config.name}{old}: {describe(run)}")
    if "per_class" in run.result:  # not in runs of version 0.1
        title, frame = reports.classes(run)
        say(title)
        say_table(frame)
    say(f"stored in {run.folder}")


def _described(config: RunConfig) -> list[str]:
    """All settings of a run, its differences from the recipe, and its values that no paper states."""
    settings = config.to_dict()
    own = settings.pop("options")
    lines = [config.name, *(f"  {name:18} {value}" for name, value in settings.items() if value is not None)]
    lines += [f"  {config.method + '.' + name:18} {value}" for name, value in own.items()]
    lines += [f"{role}: {c.name} (lr {c.lr:g}, {c.epochs} epochs)" for role, c in config.builds_on().items()]
    lines += [f"not the recipe's: {name} = {value}" for name, value in config.overrides().items()]
    return lines + [f"assumed: {name}: {why}" for name, why in config.assumptions().items()]


def run_sweep(given: argparse.Namespace) -> int:
    """Train all combinations of the given values, or the runs of a published table."""
    started = time.time()
    jobs, minutes = JOBS.check("--jobs", given.jobs), MINUTES.check("--minutes", given.minutes)
    grid = read_grid(given.grid) if given.grid else {}
    configs = expand(grid | options.settings(given))
    if given.retrain and given.minutes is not None:
        raise ConfigError("--retrain with --minutes would start from the beginning at each call; leave one of them out")
    done = finished_in(given.runs)
    if given.dry_run:
        _print_costs(configs, done, given)
        return 0
    until = None if minutes is None else started + 60 * minutes
    finished, failed = _swept(configs, jobs=jobs, until=until, **options.where(given))
    left = len(configs) - len(finished) - len(failed)
    say(f"{len(finished)} of {len(configs)} runs finished" + (f", {len(failed)} failed" if failed else ""))
    stuck = left and not _moved(given.runs, started)
    if stuck:
        say(f"time is up, and no epoch was finished in it; give more than --minutes {minutes:g}")
    elif left:
        say(f"time is up, {left} runs are left; repeat the command to continue")
    if given.export:
        involved = {config.id for config in in_order(configs)}
        export([run for run in runs.all_runs(given.runs) if run.finished and run.config.id in involved], given.export)
    return 1 if failed or stuck else 3 if left else 0


def _swept(configs: list[RunConfig], **how: Any) -> tuple[Sequence[runs.Run], Mapping[str, LtkdError]]:
    """The finished runs, and the errors of the failed ones by name, which `sweep` has already reported."""
    try:
        return sweep(configs, **how), {}
    except SweepError as error:
        return error.finished, error.failed


def _moved(folder: str | None, since: float) -> bool:
    """True if a result or a checkpoint was written after `since` (seconds since 1970)."""
    written = [*runs.runs_folder(folder).glob("*/result.json"), *runs.runs_folder(folder).glob("*/checkpoint.pt")]
    return any(path.stat().st_mtime >= since - 1 for path in written)  # some file systems store whole seconds


def _print_costs(configs: list[RunConfig], done: Sequence[runs.Run], given: argparse.Namespace) -> None:
    """Print the settings with their seeds, the number of runs left, and their cost here. done: the finished runs."""
    again = {config.id for config in configs} if given.retrain else set()
    done = [run for run in done if run.config.id not in again]
    finished = {run.config.id for run in done}
    left = [config for config in configs if config.id not in finished]
    needed = in_order(left, {run.config.id for run in done if run.has_weights})  # no run builds on one without weights
    say(*reports.settings(configs, finished))
    say(
        f"{len(configs)} runs, {len(configs) - len(left)} of them finished; {len(needed) - len(left)} more that they "
        f"build on"
    )
    if needed:
        device, works = pick_device(given.device), cost.works(needed, given.data)
        say(*cost.report(works, cost.measured(works, device), device))


# --- options ---


def add_train(commands: options.Commands) -> None:
    """Add the command train."""
    parser = options.add_command(
        commands,
        "train",
        train,
        options.known_names()
        + options.examples("""
          python -m ltkd train --method ltkd --seed 1
          python -m ltkd train --dataset cifar100 --imbalance-factor 100 --teacher resnet32x4 --student resnet8x4
          python -m ltkd train --dataset path/to/folder --method bkd --image-size 32
          A finished run is not trained again without --retrain. A stopped run continues where it stopped."""),
    )
    parser.add_argument("--dry-run", action="store_true", help="print all settings of the run, and stop")
    options.add_settings(parser, repeated=False)
    options.add_places(parser)


def add_sweep(commands: options.Commands) -> None:
    """Add the command sweep."""
    parser = options.add_command(
        commands,
        "sweep",
        run_sweep,
        usage="[grid] [options]",
        epilog=options.known_names()
        + f"grids: {', '.join(names())}\n"
        + options.examples("""
          python -m ltkd sweep --method ce kd bkd ltkd --seed 0 1 2
          python -m ltkd sweep ltkd-table1 --dry-run                     the cost of the paper's Tab. 1 here
          python -m ltkd sweep ltkd-table1 --method ltkd --imbalance-factor 100 --student resnet8x4
          python -m ltkd sweep laptop --minutes 9 --jobs 2 --export laptop.zip     repeat until it is done
          Each option takes several values; a grid file holds the same as name = [values]. All runs of the first seed
          are trained before those of the second. With the grid of a published table, --dataset, --imbalance-factor,
          --teacher, --student and --method choose among its rows; all other options change every row.
          Exit code: 0 done; 1 some runs failed, or the time was too short for one epoch; 3 time is up and runs are
          left."""),
    )
    parser.add_argument("grid", nargs="?", help="name of a grid (below), or a TOML file of settings and lists")
    options.add_option(parser, "jobs", JOBS, JOBS.help, default=JOBS.default)
    options.add_option(parser, "minutes", MINUTES, MINUTES.help, default=MINUTES.default)
    parser.add_argument("--export", metavar="FILE", help="export the finished runs to this file at the end")
    parser.add_argument("--dry-run", action="store_true", help="list the runs, estimate their cost here, and stop")
    options.add_settings(parser, repeated=True)
    options.add_places(parser)


ADD = add_train, add_sweep
