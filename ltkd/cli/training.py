"""train and sweep."""

import time

from .. import runs
from .._support import distributed
from .._support.settings import Setting
from ..config import RunConfig
from ..errors import ConfigError, SweepError
from ..reproduce import cost
from ..reproduce.grids import expand, names, read_grid
from ..reproduce.sweep import describe, in_order, sweep
from ..training.fit import fit, pick_device
from . import options, reports
from .results import export, finished_in

JOBS = Setting(1, "runs trained side by side, sharing the cores (1)", low=1)
MINUTES = Setting(None, "stop in time; what was trained until then is stored", low=0, above=True, kind=float | None)


def train(given):
    """Train one student (and its teacher, if it is not there yet) and print what came out."""
    config = RunConfig.make(**options.settings(given))
    if given.dry_run:
        print(_described(config))
        return
    started = time.time()
    run = fit(config, **options.where(given))
    if not distributed.is_first():
        return
    old = " (finished earlier, not trained again)" if run.finished_at < started else ""
    print(f"{run.config.name}{old}: {describe(run)}")
    print(f"stored in {run.folder}")


def _described(config):
    """Everything that determines a run, what of it is not the recipe's, and what no paper states."""
    settings = config.to_dict()
    own = settings.pop("options")
    lines = [config.name, *(f"  {name:18} {value}" for name, value in settings.items() if value is not None)]
    lines += [f"  {config.method + '.' + name:18} {value}" for name, value in own.items()]
    lines += [f"{role}: {c.name} (lr {c.lr:g}, {c.epochs} epochs)" for role, c in config.builds_on().items()]
    lines += [f"not the recipe's: {name} = {value}" for name, value in config.overrides().items()]
    lines += [f"assumed: {name}: {why}" for name, why in config.assumptions().items()]
    return "\n".join(lines)


def run_sweep(given):
    """Train every combination of the values given, or the runs behind a published table."""
    started = time.time()
    jobs, minutes = JOBS.check("--jobs", given.jobs), MINUTES.check("--minutes", given.minutes)
    grid = read_grid(given.grid) if given.grid else {}
    configs = expand(grid | options.settings(given))
    if given.retrain and given.minutes is not None:
        raise ConfigError("--retrain with --minutes would begin anew at every call; leave one of them out")
    done = finished_in(given.runs)
    if given.dry_run:
        return _say_what_it_costs(configs, done, given)
    until = None if minutes is None else started + 60 * minutes
    finished, failed = _swept(configs, jobs=jobs, until=until, **options.where(given))
    left = len(configs) - len(finished) - len(failed)
    print(f"{len(finished)} of {len(configs)} runs finished" + (f", {len(failed)} failed" if failed else ""))
    stuck = left and not _moved(given.runs, started)
    if stuck:
        print(f"time is up, and no epoch was finished in it; give more than --minutes {minutes:g}")
    elif left:
        print(f"time is up with {left} runs to go; give the same command again to go on")
    if given.export:
        involved = {config.id for config in in_order(configs)}
        export([run for run in runs.all_runs(given.runs) if run.finished and run.config.id in involved], given.export)
    return 1 if failed or stuck else 3 if left else 0


def _swept(configs, **how):
    """The finished runs, and the errors of the others, which `sweep` has reported line by line."""
    try:
        return sweep(configs, **how), {}
    except SweepError as error:
        return error.finished, error.failed


def _moved(folder, since):
    """Whether a run was finished, or a state of one stored, since then (seconds since 1970)."""
    written = [*runs.runs_folder(folder).glob("*/result.json"), *runs.runs_folder(folder).glob("*/checkpoint.pt")]
    return any(path.stat().st_mtime >= since - 1 for path in written)  # some file systems cut off the fraction


def _say_what_it_costs(configs, done, given):
    """Print every setting with its seeds, how many runs are left, and what they take here. done: finished runs."""
    anew = {config.id for config in configs} if given.retrain else ()
    done = [run for run in done if run.config.id not in anew]
    left = [config for config in configs if config.id not in {run.config.id for run in done}]
    trained = {run.config.id for run in done if run.has_weights}  # the others cannot teach
    needed = in_order(left, trained)
    print("\n".join(reports.settings(configs, {run.config.id for run in done})))
    print(
        f"{len(configs)} runs, {len(configs) - len(left)} of them finished; {len(needed) - len(left)} more that they "
        f"build on"
    )
    if needed:
        device, works = pick_device(given.device), cost.works(needed, given.data)
        print("\n".join(cost.report(works, cost.measured(works, device), device)))


# --- options ---


def add_train(commands):
    parser = options.add_command(
        commands,
        "train",
        train,
        options.known_names()
        + options.examples("""
          python -m ltkd train --method ltkd --seed 1
          python -m ltkd train --dataset cifar100 --imbalance-factor 100 --teacher resnet32x4 --student resnet8x4
          python -m ltkd train --dataset path/to/folder --method bkd --image-size 32
          A finished run is not trained again without --retrain; one that was stopped goes on where it stopped."""),
    )
    parser.add_argument("--dry-run", action="store_true", help="print every setting of the run, and stop")
    options.add_settings(parser, repeated=False)
    options.add_places(parser)


def add_sweep(commands):
    parser = options.add_command(
        commands,
        "sweep",
        run_sweep,
        usage="[grid] [options]",
        epilog=options.known_names()
        + f"grids: {', '.join(names())}\n"
        + options.examples("""
          python -m ltkd sweep --method ce kd bkd ltkd --seed 0 1 2
          python -m ltkd sweep ltkd-table1 --dry-run                     what the paper's Tab. 1 would cost here
          python -m ltkd sweep ltkd-table1 --method ltkd --imbalance-factor 100 --student resnet8x4
          python -m ltkd sweep laptop --minutes 9 --jobs 2 --export laptop.zip     again and again, until it is done
          Every option takes several values; a grid file holds the same, as name = [values]. One seed of everything
          comes before the second. Beside a grid of a published table, --dataset, --imbalance-factor, --teacher,
          --student and --method choose among its rows; any other option changes them all.
          Exit code: 0 done, 1 some runs failed, or not one epoch was finished in the time, 3 time is up and some are
          left."""),
    )
    parser.add_argument("grid", nargs="?", help="a grid by its name (below), or a TOML file of settings and lists")
    options.add_option(parser, "jobs", JOBS, JOBS.help, default=JOBS.default)
    options.add_option(parser, "minutes", MINUTES, MINUTES.help, default=MINUTES.default)
    parser.add_argument("--export", metavar="FILE", help="export the finished runs to this file at the end")
    parser.add_argument("--dry-run", action="store_true", help="list the runs, estimate what they cost here, and stop")
    options.add_settings(parser, repeated=True)
    options.add_places(parser)


ADD = add_train, add_sweep
