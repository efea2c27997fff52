"""The commands table and runs: print results, and move them to another machine."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from .. import runs
from .._support.terminal import say, say_csv, say_table
from ..errors import ConfigError, DataError
from ..reproduce import claims, compare, cost, tables
from ..reproduce.grids import table_of
from ..runs import archive
from ..runs.store import Folders
from . import options, reports

if TYPE_CHECKING:
    import pandas as pd

LEGEND = (
    "accuracy in per cent, last epoch; mean ± 95 % interval over seeds, not over test images; all: of all test images; "
    "balanced: mean over the classes; head, medium, tail: mean over the classes of a third by rank"
)


def show_table(given: argparse.Namespace) -> None:
    """Print the accuracies of all finished runs, compare them with the papers', or test the papers' claims."""
    folders = given.runs or [None]
    for folder in given.runs or []:
        if not runs.runs_folder(folder).exists():
            raise ConfigError(f"--runs {folder}: there is no such folder; give folders that hold runs")
    if (given.against or given.claims) and not given.runs:
        folders = [None, *_recorded_runs()]
    finished = finished_in(folders)
    if given.against:
        _show_against(finished, table_of(given.against), given.csv)
    elif not finished:
        places = ", ".join(str(runs.runs_folder(folder)) for folder in folders)
        say(f"no finished run in {places}; train one with: python -m ltkd train")
    elif given.claims:
        _show(claims.check(finished), reports.claims, given.csv)
        if not given.csv:
            say(claims.NOTE)
    elif given.by_run:
        frame = runs.tabulate(finished)
        _show(frame, lambda frame: frame[["run", *reports.ACCURACIES, "answered"]], given.csv)
    else:
        _show(runs.summarise(runs.tabulate(finished)), reports.summary, given.csv)
        if not given.csv:
            say(LEGEND)
            _show_silent_classes(finished)


def _show_silent_classes(finished: list[runs.Run]) -> None:
    """Print how many runs never predict some of their classes: a mean accuracy may hide that."""
    silent = [run for run in finished if 0 in run.result.get("per_class", {}).get("predicted", ())]
    if silent:
        say(f"{len(silent)} of {len(finished)} runs never predict some of their classes; --by-run shows which runs")


def _recorded_runs() -> list[Path]:
    try:
        return [runs.recorded_runs()]
    except DataError as error:
        say(f"skipped: {error}", file=sys.stderr)
        return []


def _show(frame: "pd.DataFrame", readable: "Callable[[pd.DataFrame], pd.DataFrame]", csv: bool) -> None:
    if csv:
        say_csv(frame)
    else:
        say_table(readable(frame))


def _show_against(finished: list[runs.Run], table: str, csv: bool) -> None:
    """Print a published table with our accuracies, then separately our runs with other protocols."""
    frame = compare.against(finished, table)
    if frame.empty:
        raise ConfigError(f"{table} has no accuracies to compare with: {tables.title(table)}")
    if not csv:
        say(f"{table}: {tables.title(table)}")
    _show(frame, reports.compared, csv)
    if csv:
        return
    say("", *compare.counts(frame).to_string().split("\n"), "", compare.NOTE)
    there = set(frame.dataset)
    own = compare.own_protocols([run for run in finished if run.config.dataset in there])
    if not own.empty:
        say("", "Runs with other protocols, which must not be compared with the papers' numbers:")
        say_table(reports.summary(own))
        say(LEGEND)


def carry_runs(given: argparse.Namespace) -> None:
    """Export finished runs to a file, or import runs from such files."""
    if bool(given.export) == bool(given.imports):
        raise ConfigError("give either --export FILE or --import FILE [FILE ...]")
    if given.export:
        export(finished_in(given.runs), given.export)
        return
    folder = runs.runs_folder(given.runs)
    imported = archive.unpack(given.imports, folder)
    say(f"added {len(imported.added)} runs to {folder}" + _kept(imported.kept, str(folder)))
    for name, (here, there) in imported.differing.items():
        if here is None:
            why = f"is not finished here: finish it, or remove {folder / name} and import again"
        else:
            why = f"has another accuracy in the file ({there:.2f} %, here {here:.2f} %): the run here is kept"
        say(f"{name} {why}", file=sys.stderr)


def export(finished: list[runs.Run], file: str) -> None:
    """Export finished runs to a file, and print how many."""
    if not finished:
        say(f"no finished run to export; {file} is not written")
        return
    added, kept = archive.pack(finished, file)
    say(f"exported {len(added)} runs to {file} ({cost.number(Path(file).stat().st_size)}B)" + _kept(kept, "that file"))


def _kept(kept: list[str], where: str) -> str:
    return f"; {len(kept)} more were in {where} already and did not change" if kept else ""


def finished_in(folders: Folders) -> list[runs.Run]:
    """The finished runs of one or several folders. Prints on stderr which of them cannot be read."""
    store = runs.read_store(folders)
    for path, why in store.strangers.items():
        say(f"skipped {path.name}: {why}", file=sys.stderr)
    return [run for run in store.runs if run.finished]


# --- options ---


def add_table(commands: options.Commands) -> None:
    """Add the command table."""
    parser = options.add_command(
        commands,
        "table",
        show_table,
        options.examples("""
          python -m ltkd table
          python -m ltkd table --against ltkd-table1       our numbers beside the paper's
          python -m ltkd table --claims                    the papers' claims, tested on our runs
          python -m ltkd table --runs runs runs-of-another-machine"""),
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--by-run", action="store_true", help="one row per run instead of means over seeds")
    kind.add_argument("--against", metavar="TABLE", help="compare with a published table: ltkd-1 or ltkd-table1, ...")
    kind.add_argument("--claims", action="store_true", help="test the papers' claims by paired differences over seeds")
    parser.add_argument("--csv", action="store_true", help="print comma-separated values")
    parser.add_argument(
        "--runs",
        metavar="FOLDER",
        nargs="+",
        help="folders of runs (default: LTKD_RUNS, else runs; with --against or --claims also data/recorded/runs)",
    )


def add_runs(commands: options.Commands) -> None:
    """Add the command runs."""
    parser = options.add_command(
        commands,
        "runs",
        carry_runs,
        options.examples("""
          python -m ltkd runs --export machine-a.zip
          python -m ltkd runs --import machine-a.zip machine-b.zip
          python -m ltkd runs --import machine-a.zip --runs data/recorded/runs
          An imported run has its config, result and history, but no weights and no logits. It appears in tables, and is
          trained again only if another run builds on it. An import never replaces a run that is there already."""),
    )
    parser.add_argument("--export", metavar="FILE", help="add all finished runs to this zip file")
    parser.add_argument(
        "--import",
        dest="imports",
        metavar="FILE",
        nargs="+",
        help="add the runs of these files to the folder of the runs",
    )
    parser.add_argument("--runs", metavar="FOLDER", help="folder of the runs (default: LTKD_RUNS, else runs)")


ADD = add_table, add_runs
