"""table and runs: print results, and carry them from machine to machine."""

import sys
from pathlib import Path

from .. import runs
from ..errors import ConfigError, DataError
from ..reproduce import claims, compare, cost, tables
from ..reproduce.grids import table_of
from ..runs import archive
from . import options, reports

AS_TEXT = {"index": False, "na_rep": "-", "float_format": "%.2f"}
LEGEND = (
    "accuracy in per cent, last epoch; mean ± 95 % interval over seeds, not over test images; head, medium, tail: "
    "thirds by rank"
)


def show_table(given):
    """Print accuracies of all finished runs, or beside the papers', or what they say of the papers' claims."""
    folders = given.runs or [None]
    for folder in given.runs or []:
        if not runs.runs_folder(folder).exists():
            raise ConfigError(f"--runs {folder}: there is no such folder")
    if (given.against or given.claims) and not given.runs:
        folders = [None, *_recorded_runs()]
    finished = finished_in(folders)
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


def _recorded_runs():
    try:
        return [runs.recorded_runs()]
    except DataError as error:
        print(f"not counted: {error}", file=sys.stderr)
        return []


def _show(frame, readable, csv):
    print(frame.to_csv(index=False).rstrip("\n") if csv else readable(frame).to_string(**AS_TEXT))


def _show_against(finished, table, csv):
    """Our runs of a table beside it, then, apart, those under protocols of their own."""
    frame = compare.against(finished, table)
    if frame.empty:
        raise ConfigError(f"{table} has no accuracies of networks to be held against: {tables.title(table)}")
    if not csv:
        print(f"{table}: {tables.title(table)}")
    _show(frame, reports.compared, csv)
    if csv:
        return
    print(f"\n{compare.counts(frame).to_string()}\n\n{compare.NOTE}")
    there = set(frame.dataset)
    own = compare.own_protocols([run for run in finished if run.config.dataset in there])
    if not own.empty:
        print("\nRuns under protocols of their own, not to be set beside the papers' numbers:")
        print(f"{reports.summary(own).to_string(**AS_TEXT)}\n{LEGEND}")


def carry_runs(given):
    """Export finished runs to a file, or import the runs of such files."""
    if bool(given.export) == bool(given.imports):
        raise ConfigError("give either --export FILE or --import FILE [FILE ...]")
    if given.export:
        export(finished_in(given.runs), given.export)
        return
    folder = runs.runs_folder(given.runs)
    imported = archive.unpack(given.imports, folder)
    print(f"added {len(imported.added)} runs to {folder}" + _kept(imported.kept, str(folder)))
    for name, (here, there) in imported.differing.items():
        if here is None:
            why = f"is not finished here: finish it, or remove {folder / name} and import again"
        else:
            why = f"came out differently there ({there:.2f} %, here {here:.2f} %): what is here stays"
        print(f"{name} {why}", file=sys.stderr)


def export(finished, file):
    if not finished:
        print(f"no finished run to export; {file} is not written")
        return
    added, kept = archive.pack(finished, file)
    print(
        f"exported {len(added)} runs to {file} ({cost.number(Path(file).stat().st_size)}B)" + _kept(kept, "that file")
    )


def _kept(kept, where):
    return f"; {len(kept)} more were in {where} already and stay as they were" if kept else ""


def finished_in(folders):
    """The finished runs of these folders. What cannot be read there is named on stderr."""
    store = runs.read_store(folders)
    for path, why in store.strangers.items():
        print(f"passed over {path.name}: {why}", file=sys.stderr)
    return [run for run in store.runs if run.finished]


# --- options ---


def add_table(commands):
    parser = options.add_command(
        commands,
        "table",
        show_table,
        options.examples("""
          python -m ltkd table
          python -m ltkd table --against ltkd-table1       the paper's numbers beside ours
          python -m ltkd table --claims                    what the papers say, on the runs at hand
          python -m ltkd table --runs runs runs-of-another-machine"""),
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
        help="folders of runs (default: LTKD_RUNS, else runs; for --against and --claims data/recorded/runs too)",
    )


def add_runs(commands):
    parser = options.add_command(
        commands,
        "runs",
        carry_runs,
        options.examples("""
          python -m ltkd runs --export machine-a.zip
          python -m ltkd runs --import machine-a.zip machine-b.zip
          python -m ltkd runs --import machine-a.zip --runs data/recorded/runs
          An imported run has its config, result and history, no weights and no logits: it counts in tables and is
          not trained again, unless a run builds on it. A run that is there already is never replaced."""),
    )
    parser.add_argument("--export", metavar="FILE", help="add all finished runs to this zip file")
    parser.add_argument(
        "--import",
        dest="imports",
        metavar="FILE",
        nargs="+",
        help="add the runs of these files to the folder of the runs, after checking every byte",
    )
    parser.add_argument("--runs", metavar="FOLDER", help="folder of the runs (default: LTKD_RUNS, else runs)")


ADD = add_table, add_runs
