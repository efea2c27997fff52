"""The command line: python -m ltkd train | sweep | table | check-data | benchmark."""

import argparse
import sys
import time
from dataclasses import fields
from textwrap import dedent, indent
from typing import get_args

from . import __version__, benchmark, datasets, methods, models, parallel, runs
from .config import RunConfig
from .errors import Interrupted, LtkdError
from .evaluation import thirds
from .groups import ClassGroups
from .recipes import RECIPES
from .remembering import CACHES
from .sweep import describe, expand, read_grid, sweep
from .training import fit, load_dataset

ACCURACIES = ("all", "head", "medium", "tail")
DATA_SETTINGS = ("dataset", "imbalance_factor", "profile", "image_size", "subset_seed", "seed")


def main(arguments=None):
    """Run one command; returns the exit code: 0 done, 1 some runs of a sweep failed, 2 any other error, 130 Ctrl-C."""
    parser = build_parser()
    given = parser.parse_args(arguments)
    try:
        return given.command(given) or 0
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
    config = RunConfig.make(**_settings(given))
    if given.dry_run:
        print(_described(config))
        return
    started = time.time()
    run = fit(config, **_where(given))
    if not parallel.is_first():
        return
    old = " (finished earlier, not trained again)" if run.finished_at < started else ""
    print(f"{run.config.name}{old}: {describe(run)}")
    print(f"stored in {run.folder}")


def _described(config):
    """Everything that determines a run, what of it is not the recipe's, and what no paper states."""
    settings = config.to_dict()
    options = settings.pop("options")
    lines = [config.name, *(f"  {name:18} {value}" for name, value in settings.items() if value is not None)]
    lines += [f"  {config.method + '.' + name:18} {value}" for name, value in options.items()]
    if teacher := next(iter(config.builds_on()), None):
        lines.append(f"built on {teacher.name} (lr {teacher.lr:g}, {teacher.epochs} epochs)")
    lines += [f"not the recipe's: {name} = {value}" for name, value in config.overrides().items()]
    lines += [f"assumed: {name}: {why}" for name, why in config.assumptions().items()]
    return "\n".join(lines)


def run_sweep(given):
    """Train every combination of the values given."""
    grid = read_grid(given.grid) if given.grid else {}
    configs = expand(grid | _settings(given))
    if given.dry_run:
        for config in configs:
            print(config.name)
        print(f"{len(configs)} runs, and the teachers they need")
        return 0
    finished, failed = sweep(configs, jobs=given.jobs, **_where(given))
    print(f"{len(finished)} of {len(configs)} runs finished" + (f", {len(failed)} failed" if failed else ""))
    return 1 if failed else 0


def show_table(given):
    """Print accuracies of all finished runs."""
    frame = runs.table(given.runs)
    for path, why in runs.strangers(given.runs).items():
        print(f"passed over {path.name}: {why}", file=sys.stderr)
    if frame.empty:
        print(f"no finished run in {runs.runs_folder(given.runs)}; train one with: python -m ltkd train")
        return
    chosen = frame if given.by_run else runs.summarise(frame)
    if given.csv:
        print(chosen.to_csv(index=False), end="")
    elif given.by_run:
        print(chosen[["run", *ACCURACIES]].to_string(index=False, float_format="%.2f"))
    else:
        print(_readable(chosen).to_string(index=False, na_rep="-"))
        print("accuracy in per cent, last epoch; mean ± 95 % interval over seeds; head, medium, tail: thirds by rank")


def _readable(summary):
    """The columns of a summary that a reader wants: what tells its rows apart, and mean ± interval."""
    key = ["dataset", "imbalance_factor", "teacher", "student", "method"]
    settings = [c for c in summary.columns[: list(summary.columns).index("seeds")] if c not in key]
    alike = summary.groupby(key, dropna=False)
    key += [c for c in settings if (alike[c].nunique(dropna=False) > 1).any()]
    readable = summary[[*(name for name in key if name not in ("teaches", "classes")), "seeds"]].copy()
    readable["method"] += [_role(*role) for role in zip(summary["teaches"], summary["classes"], strict=True)]
    for name in ACCURACIES:
        pairs = zip(summary[name], summary[f"{name}_ci"], strict=True)
        readable[name] = [_with_interval(mean, half_width) for mean, half_width in pairs]
    return readable


def _role(teaches, classes):
    """What a row of the table is beside its method."""
    if isinstance(classes, str):
        return f" (expert, {len(classes.split(','))} classes)"
    return " (teacher)" if teaches else ""


def check_data(given):
    """Load a data set and say what is in it."""
    data = load_dataset(RunConfig.make(**_settings(given)), given.data)
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
        title="commands", required=True, metavar="train | sweep | table | check-data | benchmark"
    )
    _add_train(commands)
    _add_sweep(commands)
    _add_table(commands)
    _add_check_data(commands)
    _add_benchmark(commands)
    return parser


def _command(commands, name, function, epilog):
    summary = function.__doc__.split("\n")[0]
    parser = commands.add_parser(
        name,
        help=summary,
        description=summary,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(command=function)
    return parser


def _add_train(commands):
    parser = _command(
        commands,
        "train",
        train,
        _names()
        + _examples("""
          python -m ltkd train --method ltkd --seed 1
          python -m ltkd train --dataset cifar100 --imbalance-factor 100 --teacher resnet32x4 --student resnet8x4
          python -m ltkd train --dataset path/to/folder --method bkd --image-size 32
          A finished run is not trained again; one that was stopped goes on where it stopped."""),
    )
    parser.add_argument("--dry-run", action="store_true", help="print every setting of the run, and stop")
    _add_settings(parser, repeated=False)
    _add_places(parser)


def _add_sweep(commands):
    parser = _command(
        commands,
        "sweep",
        run_sweep,
        _names()
        + _examples("""
          python -m ltkd sweep --method ce kd bkd ltkd --seed 0 1 2
          python -m ltkd sweep data/grids/digits.toml
          Every option takes several values; a grid file holds the same, as name = [values]."""),
    )
    parser.add_argument("grid", nargs="?", help="a TOML file of settings and lists of settings")
    parser.add_argument("--jobs", type=_count, default=1, help="runs trained side by side, which share the cores (1)")
    parser.add_argument("--dry-run", action="store_true", help="list the runs and stop")
    _add_settings(parser, repeated=True)
    _add_places(parser)


def _add_table(commands):
    parser = _command(commands, "table", show_table, "")
    parser.add_argument("--by-run", action="store_true", help="one row a run instead of means over seeds")
    parser.add_argument("--csv", action="store_true", help="as comma-separated values")
    parser.add_argument("--runs", metavar="FOLDER", help="folder of the runs (default: runs)")


def _add_check_data(commands):
    parser = _command(commands, "check-data", check_data, "")
    _add_settings(parser, repeated=False, only=DATA_SETTINGS)
    parser.add_argument("--data", metavar="FOLDER", help="where data lie (default: LTKD_DATA, else data/downloads)")


def _examples(text):
    return "\nexamples:\n" + indent(dedent(text).strip(), "  ")


def _add_benchmark(commands):
    parser = _command(commands, "benchmark", run_benchmark, "")
    parser.add_argument("--quick", action="store_true", help="fewer images and rounds: under a minute")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    for field in fields(benchmark.Setup):
        if field.type in (int, str):
            convert = _count if field.type is int else str
            _add_option(parser, field.name, convert, f"{field.metadata['help']} (default: {field.default})", {})


def _names():
    lines = ["methods:", *(f"  {name:16} {cls.__doc__.splitlines()[0]}" for name, cls in methods.METHODS.items())]
    lines += ["", "recipes:", *(f"  {name:18} {recipe.summary}" for name, recipe in RECIPES.items())]
    lines += [
        "",
        f"networks: {', '.join(models.MODELS)}, timm:<name>",
        f"data sets: {', '.join(datasets.SOURCES)}, or a folder",
        "",
    ]
    return "\n".join(lines)


def _add_places(parser):
    group = parser.add_argument_group("where")
    group.add_argument("--runs", metavar="FOLDER", help="folder of the runs (default: LTKD_RUNS, else runs)")
    group.add_argument("--data", metavar="FOLDER", help="where data lie (default: LTKD_DATA, else data/downloads)")
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (default: auto)")
    group.add_argument("--workers", type=int, help="processes that decode images on disk (default: one a core)")
    group.add_argument(
        "--cache",
        choices=CACHES,
        default="auto",
        help="where a teacher's answers are kept, so that it is asked once (default: auto: in memory with room)",
    )
    group.add_argument("--quiet", action="store_true", help="no progress bars")


def _where(given):
    return {
        "runs": given.runs,
        "data_root": given.data,
        "device": given.device,
        "workers": given.workers,
        "cache": given.cache,
        "progress": not given.quiet,
    }


def _add_settings(parser, *, repeated, only=None):
    """One option a field of RunConfig, and one an option of any method. Unset ones stay out of the namespace."""
    common = {"nargs": "+"} if repeated else {}
    group = parser.add_argument_group("what is trained", "unset ones come from the recipe")
    for field in fields(RunConfig):
        if field.name in ("options", "dataset_version") or (only and field.name not in only):
            continue
        kind = next((t for t in get_args(field.type) if t is not type(None)), field.type)
        convert = PARSERS.get(field.name, {bool: _flag}.get(kind, kind))
        _add_option(group, field.name, convert, field.metadata["help"], common)
    if not only:
        group = parser.add_argument_group("options of the methods")
        for name, owners in methods.option_names().items():
            kind = type(next(iter(owners.values())).default)
            _add_option(group, name, {bool: _flag}.get(kind, kind), _meanings(owners), common)


def _meanings(owners):
    """What an option means, and its default, in each method that has it: {method: Option} -> text."""
    by_meaning = {}
    for method, option in owners.items():
        default = f"{option.default:g}" if isinstance(option.default, float) else str(option.default).lower()
        by_meaning.setdefault(option.help, []).append(f"{method} {default}")
    return "; ".join(f"{meaning} ({', '.join(found)})" for meaning, found in by_meaning.items())


def _add_option(group, name, convert, help, common):
    flag, metavar = f"--{name.replace('_', '-')}", name.split("_")[-1].upper()
    group.add_argument(
        flag,
        dest=name,
        type=convert,
        metavar=metavar,
        default=argparse.SUPPRESS,
        help=help.replace("%", "%%"),
        **common,
    )


def _settings(given):
    """What the caller set of the run itself."""
    known = {field.name for field in fields(RunConfig)} | set(methods.option_names())
    return {name: value for name, value in vars(given).items() if name in known}


def _profile(text):
    """A profile's name, or counts separated by commas."""
    return tuple(int(n) for n in text.split(",")) if text.replace(",", "").isdigit() else text


def _count(text):
    """A whole number of at least 1."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number of at least 1")
    return int(text)


def _classes(text):
    """Class numbers separated by commas."""
    return tuple(int(c) for c in text.split(","))


def _milestones(text):
    """Fractions separated by commas."""
    return tuple(float(m) for m in text.split(","))


def _flag(text):
    """true or false."""
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r}: must be true or false")
    return text.lower() == "true"


def _with_interval(mean, half_width):
    if mean != mean:
        return "-"
    return f"{mean:.2f}" if half_width != half_width else f"{mean:.2f} ± {half_width:.2f}"


PARSERS = {"profile": _profile, "milestones": _milestones, "classes": _classes}


if __name__ == "__main__":
    sys.exit(main())
