"""The command line: python -m ltkd train | sweep | table | runs | check-data | pack-data | benchmark."""

import argparse
import os
import sys
import time
from dataclasses import fields
from pathlib import Path

from . import __version__, benchmark, claims, comparison, cost, options, packing, parallel, published, reports, runs
from .config import RunConfig
from .datasets import packed
from .errors import ConfigError, Interrupted, LtkdError
from .evaluation import thirds
from .files import project_folder
from .grids import expand, names, read_grid, table_of
from .groups import ClassGroups
from .sweep import describe, in_order, sweep
from .training import fit, load_dataset, pick_device

IMPORTED = "imported.zip"  # the file in the folder of the runs to which imported runs are added
AS_TEXT = {"index": False, "na_rep": "-", "float_format": "%.2f"}
LEGEND = (
    "accuracy in per cent, last epoch; mean ± 95 % interval over seeds, not over test images; head, medium, tail: "
    "thirds by rank"
)
DATA_SETTINGS = ("dataset", "imbalance_factor", "profile", "image_size", "subset_seed", "seed")


def main(arguments=None):
    """Run one command; returns the exit code: 0 done, 1 some runs of a sweep failed, or no epoch was finished in
    its time, 2 any other error, 3 the time of a sweep is up and it is not done, 130 Ctrl-C, 141
    nobody reads the output any more."""
    parser = build_parser()
    given = parser.parse_args(arguments)
    try:
        code = given.command(given) or 0
        sys.stdout.flush()  # here, where a reader that has gone, such as `| head`, is no fault
        return code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left to say at exit goes nowhere
        return 141  # as a shell says of a program whose reader has gone
    except Interrupted as error:
        print(error, file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("stopped; nothing was being trained", file=sys.stderr)
        return 130
    except LtkdError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


# --- commands ----------------------------------------------------------------------------------------------------


def train(given):
    """Train one student (and its teacher, if it is not there yet) and print what came out."""
    config = RunConfig.make(**options.settings(given))
    if given.dry_run:
        print(_described(config))
        return
    started = time.time()
    run = fit(config, **options.where(given))
    if not parallel.is_first():
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
    if teacher := next(iter(config.builds_on()), None):
        lines.append(f"built on {teacher.name} (lr {teacher.lr:g}, {teacher.epochs} epochs)")
    lines += [f"not the recipe's: {name} = {value}" for name, value in config.overrides().items()]
    lines += [f"assumed: {name}: {why}" for name, why in config.assumptions().items()]
    return "\n".join(lines)


def run_sweep(given):
    """Train every combination of the values given, or the runs behind a published table."""
    started = time.time()
    grid = read_grid(given.grid) if given.grid else {}
    configs = expand(grid | options.settings(given))
    _say_what_is_passed_over(given.runs)
    if given.dry_run:
        return _say_what_it_costs(configs, given)
    until = None if given.minutes is None else started + 60 * given.minutes
    finished, failed = sweep(configs, jobs=given.jobs, until=until, **options.where(given))
    left = len(configs) - len(finished) - len(failed)
    print(f"{len(finished)} of {len(configs)} runs finished" + (f", {len(failed)} failed" if failed else ""))
    stuck = left and not _moved(given.runs, started)
    if stuck:
        print(f"time is up, and no epoch was finished in it; give more than --minutes {given.minutes:g}")
    elif left:
        print(f"time is up with {left} runs to go; give the same command again to go on")
    if given.export:
        involved = {config.id for config in in_order(configs)}
        _export([run for run in _finished(given.runs) if run.config.id in involved], given.export)
    return 1 if failed or stuck else 3 if left else 0


def _moved(folder, since):
    """Whether a run was finished, or a state of one stored, since then (seconds since 1970)."""
    written = [*runs.runs_folder(folder).glob("*/result.json"), *runs.runs_folder(folder).glob("*/checkpoint.pt")]
    return any(path.stat().st_mtime >= since - 1 for path in written)  # some file systems cut off the fraction


def _say_what_it_costs(configs, given):
    """Every setting with its seeds, what is left to do, and what that takes here."""
    done = _finished(given.runs)
    left = [config for config in configs if config.id not in {run.config.id for run in done}]
    trained = {run.config.id for run in done if not isinstance(run, runs.PackedRun)}  # others have no weights to teach
    needed = in_order(left, trained)
    print("\n".join(reports.settings(configs, {run.config.id for run in done})))
    print(
        f"{len(configs)} runs, {len(configs) - len(left)} of them finished; {len(needed) - len(left)} more that they "
        f"build on"
    )
    if needed:
        device, works = pick_device(given.device), cost.works(needed, given.data)
        print("\n".join(cost.report(works, cost.measured(works, device), device)))


def _finished(folder):
    return [run for run in runs.all_runs(folder) if run.finished]


def _say_what_is_passed_over(folders):
    for path, why in runs.strangers(folders).items():
        print(f"passed over {path.name}: {why}", file=sys.stderr)


def _export(finished, file):
    if not finished:
        print(f"no finished run to pack; {file} is not written")
        return
    added, kept = packing.pack(finished, file)
    print(f"packed {len(added)} runs in {file} ({cost.number(Path(file).stat().st_size)}B)" + _kept(kept, "that file"))


def _kept(kept, where):
    return f"; {len(kept)} more were in {where} already and stay as they were" if kept else ""


def carry_runs(given):
    """Pack finished runs in a file, or add the runs of such files to those here."""
    if bool(given.export) == bool(given.imports):
        raise ConfigError("give either --export FILE or --import FILE [FILE ...]")
    if given.export:
        _say_what_is_passed_over(given.runs)
        _export(_finished(given.runs), given.export)
        return
    folder = runs.runs_folder(given.runs)
    merged = packing.merge(given.imports, folder / IMPORTED, known=_finished(given.runs))
    print(f"added {len(merged.added)} runs to {folder / IMPORTED}" + _kept(merged.kept, str(folder)))
    for name, (here, there) in merged.differing.items():
        print(
            f"{name} came out differently there ({there:.2f} %, here {here:.2f} %): what is here stays", file=sys.stderr
        )


def show_table(given):
    """Print accuracies of all finished runs, or beside the papers', or what they say of the papers' claims."""
    folders = given.runs or [None]
    for folder in given.runs or []:
        if not runs.runs_folder(folder).exists():
            raise ConfigError(f"--runs {folder}: there is no such folder, or file of packed runs")
    if given.against or given.claims:
        folders = given.runs or [None, project_folder() / "data" / "recorded" / "runs"]
    finished = _finished(folders)
    _say_what_is_passed_over(folders)
    if given.against:
        return _show_against(finished, table_of(given.against), given.csv)
    if not finished:
        places = ", ".join(str(runs.runs_folder(folder)) for folder in folders)
        print(f"no finished run in {places}; train one with: python -m ltkd train")
    elif given.claims:
        _show(claims.check(finished), reports.claims, given.csv)
        if not given.csv:
            print(claims.NOTE)
    elif given.by_run:
        frame = runs.tabulate(finished)
        shown = frame.to_csv(index=False) if given.csv else frame[["run", *reports.ACCURACIES]].to_string(**AS_TEXT)
        print(shown.rstrip("\n"))
    else:
        _show(runs.summarise(runs.tabulate(finished)), reports.summary, given.csv)
        if not given.csv:
            print(LEGEND)
    return 0


def _show(frame, readable, csv):
    print(frame.to_csv(index=False).rstrip("\n") if csv else readable(frame).to_string(**AS_TEXT))


def _show_against(finished, table, csv):
    """Our runs of a table beside it, then, apart, those under protocols of their own."""
    frame = comparison.against(finished, table)
    if frame.empty:
        raise ConfigError(f"{table} has no accuracies of networks to be held against: {published.title(table)}")
    if not csv:
        print(f"{table}: {published.title(table)}")
    _show(frame, reports.compared, csv)
    if csv:
        return
    print(f"\n{comparison.counts(frame).to_string()}\n\n{comparison.NOTE}")
    there = set(frame.dataset)
    own = comparison.own_protocols([run for run in finished if run.config.dataset in there])
    if not own.empty:
        print("\nRuns under protocols of their own, not to be set beside the papers' numbers:")
        print(f"{reports.summary(own).to_string(**AS_TEXT)}\n{LEGEND}")


def check_data(given):
    """Load a data set and say what is in it."""
    data = load_dataset(RunConfig.make(**options.settings(given)), given.data)
    counts = data.class_counts
    print(f"{data.name}: found as {data.source}")
    print(
        f"{len(data.train)} training and {len(data.test)} test images, ({data.in_channels}, {data.image_size}, "
        f"{data.image_size}), {data.num_classes} classes"
    )
    if data.streamed:
        print("the images stay on disk and are decoded as they are needed")
    print(f"training images a class: {int(counts.max())} to {int(counts.min())}")
    for title, groups in (("by rank", thirds(counts)), ("by shots", ClassGroups.by_shots(counts))):
        sizes = zip(groups.names, groups.sizes, strict=True)
        print(f"{title}: " + ", ".join(f"{name} {size}" for name, size in sizes) + " classes")


def pack_data(given):
    """Write the long-tailed subset and the test set of a data set as one small file, for a machine without network."""
    config = RunConfig.make(**options.settings(given))
    data = load_dataset(config, given.data)
    file = packed.pack(data, Path(given.out), config)
    print(
        f"{file}: {len(data.train)} training and {len(data.test)} test images of {data.name}, "
        f"{file.stat().st_size / 2**20:.1f} MiB"
    )


def run_benchmark(given):
    """Measure what training costs on this machine, beside a loop written the usual way."""
    chosen = {field.name: getattr(given, field.name) for field in fields(benchmark.Setup) if hasattr(given, field.name)}
    result = benchmark.benchmark(benchmark.Setup(**(benchmark.QUICK if given.quick else {}) | chosen))
    print(benchmark.report(result))
    if given.json:
        benchmark.store(result, given.json)


# --- options -----------------------------------------------------------------------------------------------------


def build_parser():
    """The parser of all commands; its options are the fields of RunConfig and the methods' own options."""
    parser = argparse.ArgumentParser(
        prog="python -m ltkd",
        description="Distil balanced knowledge from a biased teacher, on long-tailed data.",
    )
    parser.add_argument("--version", action="version", version=f"ltkd {__version__}")
    commands = parser.add_subparsers(
        title="commands", required=True, metavar="train | sweep | table | runs | check-data | pack-data | benchmark"
    )
    _add_train(commands)
    _add_sweep(commands)
    _add_table(commands)
    _add_runs(commands)
    _add_check_data(commands)
    _add_pack_data(commands)
    _add_benchmark(commands)
    return parser


def _add_train(commands):
    parser = options.add_command(
        commands,
        "train",
        train,
        options.known_names()
        + options.examples("""
          python -m ltkd train --method ltkd --seed 1
          python -m ltkd train --dataset cifar100 --imbalance-factor 100 --teacher resnet32x4 --student resnet8x4
          python -m ltkd train --dataset path/to/folder --method bkd --image-size 32
          A finished run is not trained again; one that was stopped goes on where it stopped."""),
    )
    parser.add_argument("--dry-run", action="store_true", help="print every setting of the run, and stop")
    options.add_settings(parser, repeated=False)
    options.add_places(parser)


def _add_sweep(commands):
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
    parser.add_argument(
        "--jobs", type=options.count, default=1, help="runs trained side by side, sharing the cores (1)"
    )
    parser.add_argument("--minutes", type=options.minutes, help="stop in time; what was trained until then is stored")
    parser.add_argument("--export", metavar="FILE", help="pack the finished runs in this file at the end")
    parser.add_argument("--dry-run", action="store_true", help="list the runs, estimate what they cost here, and stop")
    options.add_settings(parser, repeated=True)
    options.add_places(parser)


def _add_table(commands):
    parser = options.add_command(
        commands,
        "table",
        show_table,
        options.examples("""
          python -m ltkd table
          python -m ltkd table --against ltkd-table1       the paper's numbers beside ours
          python -m ltkd table --claims                    what the papers say, on the runs at hand
          python -m ltkd table --runs runs other.zip       folders of runs, and files of packed ones"""),
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--by-run", action="store_true", help="one row a run instead of means over seeds")
    kind.add_argument("--against", metavar="TABLE", help="a published table beside ours: ltkd-1 or ltkd-table1, ...")
    kind.add_argument("--claims", action="store_true", help="the papers' claims, as paired differences over seeds")
    parser.add_argument("--csv", action="store_true", help="as comma-separated values")
    parser.add_argument(
        "--runs",
        metavar="FOLDER",
        nargs="+",
        help="folders of runs, or files of packed ones (default: LTKD_RUNS, else runs; for --against and --claims "
        "data/recorded/runs too)",
    )


def _add_runs(commands):
    parser = options.add_command(
        commands,
        "runs",
        carry_runs,
        options.examples("""
          python -m ltkd runs --export machine-a.zip
          python -m ltkd runs --import machine-a.zip machine-b.zip
          python -m ltkd runs --import machine-a.zip --runs data/recorded/runs
          A packed run has its config, result and history, no weights and no logits: it counts in tables and is not
          trained again by a sweep, but it cannot teach. A run that is there already is never replaced."""),
    )
    parser.add_argument("--export", metavar="FILE", help="add all finished runs to this file")
    parser.add_argument(
        "--import",
        dest="imports",
        metavar="FILE",
        nargs="+",
        help=f"add the runs of these files to {IMPORTED} in the folder of the runs",
    )
    parser.add_argument("--runs", metavar="FOLDER", help="folder of the runs (default: LTKD_RUNS, else runs)")


def _add_check_data(commands):
    parser = options.add_command(commands, "check-data", check_data, "")
    options.add_settings(parser, repeated=False, only=DATA_SETTINGS)
    parser.add_argument("--data", metavar="FOLDER", help="where data lie (default: LTKD_DATA, else data/downloads)")


def _add_pack_data(commands):
    parser = options.add_command(
        commands,
        "pack-data",
        pack_data,
        options.examples("""
          python -m ltkd pack-data --dataset cifar100 --imbalance-factor 100 --seed 0 --out elsewhere/
          Put the file into the data folder of the other machine; every command finds it there."""),
    )
    options.add_settings(parser, repeated=False, only=DATA_SETTINGS)
    parser.add_argument("--data", metavar="FOLDER", help="where data lie (default: LTKD_DATA, else data/downloads)")
    parser.add_argument("--out", metavar="FOLDER", default=".", help="where the file is written (default: here)")


def _add_benchmark(commands):
    parser = options.add_command(commands, "benchmark", run_benchmark, "")
    parser.add_argument("--quick", action="store_true", help="fewer images and rounds: under a minute")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    for field in fields(benchmark.Setup):
        if field.type in (int, str):
            convert = options.count if field.type is int else str
            options.add_option(parser, field.name, convert, f"{field.metadata['help']} (default: {field.default})", {})


if __name__ == "__main__":
    sys.exit(main())
