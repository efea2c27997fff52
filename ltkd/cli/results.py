"""table and runs: what came out, and how it is carried from machine to machine."""

import sys
from pathlib import Path

from .. import runs
from ..errors import ConfigError, DataError
from ..reproduce import claims, compare, cost, tables
from ..reproduce.grids import table_of
from ..runs import archive
from . import options, reports

IMPORTED = "imported.zip"  # the file in the folder of the runs to which imported runs are added
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
            raise ConfigError(f"--runs {folder}: there is no such folder, or file of packed runs")
    if (given.against or given.claims) and not given.runs:
        folders = [None, *_recorded_runs()]
    finished = finished_in(folders)
    say_what_is_passed_over(folders)
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
    """Pack finished runs in a file, or add the runs of such files to those here."""
    if bool(given.export) == bool(given.imports):
        raise ConfigError("give either --export FILE or --import FILE [FILE ...]")
    if given.export:
        say_what_is_passed_over(given.runs)
        export(finished_in(given.runs), given.export)
        return
    folder = runs.runs_folder(given.runs)
    merged = archive.merge(given.imports, folder / IMPORTED, known=finished_in(given.runs))
    print(f"added {len(merged.added)} runs to {folder / IMPORTED}" + _kept(merged.kept, str(folder)))
    for name, (here, there) in merged.differing.items():
        print(
            f"{name} came out differently there ({there:.2f} %, here {here:.2f} %): what is here stays", file=sys.stderr
        )


def export(finished, file):
    if not finished:
        print(f"no finished run to pack; {file} is not written")
        return
    added, kept = archive.pack(finished, file)
    print(f"packed {len(added)} runs in {file} ({cost.number(Path(file).stat().st_size)}B)" + _kept(kept, "that file"))


def _kept(kept, where):
    return f"; {len(kept)} more were in {where} already and stay as they were" if kept else ""


def finished_in(folder):
    return [run for run in runs.all_runs(folder) if run.finished]


def say_what_is_passed_over(folders):
    for path, why in runs.strangers(folders).items():
        print(f"passed over {path.name}: {why}", file=sys.stderr)


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


def add_runs(commands):
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


ADD = add_table, add_runs
