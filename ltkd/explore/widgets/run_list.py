"""The runs that an explorer shows, wherever they lie, and the names by which it calls them."""

from pathlib import Path

import numpy as np

from ... import runs
from ...errors import ConfigError, DataError, RunError
from .. import recorded
from ..logits import SavedLogits

# What a table row says beyond the settings of a run, and settings that change no more than how a run is repeated.
NOT_SETTINGS = {"run", "recipe", "seed", "subset_seed", "method", "role", "teaches", "best_epoch"}
NOT_SETTINGS |= {prefix + name for name in runs.REPORTED for prefix in ("", "best_")}
LONGEST = 24  # letters of a setting in a name


class Shelf:
    """Finished runs by name: runs {name: Run}; table, the rows of `runs.tabulate` after `name`, `setting` and `role`,
    which is the method, or teacher; left_out, a sentence on what is not shown, or nothing.

    source: a folder of runs, the name of a recording, a Recording, {name: Run} or a list of runs; None is the folder
    of runs that `fit` uses. Runs of one setting differ in their seed alone, so they may be averaged.
    """

    def __init__(self, source=None):
        given, strangers = _given(source)
        self._recording = _recording(source)
        readable, problems = _readable(given)
        if not readable:
            raise RunError(_nothing(source, [*problems, *strangers]))
        table = runs.tabulate([run for _, run in readable])
        table.insert(0, "role", table["method"].where(~table["teaches"].astype(bool), "teacher"))
        settings = [name or setting for (name, _), setting in zip(readable, _settings(table), strict=True)]
        names = _names(settings, [run for _, run in readable])
        table.insert(0, "setting", settings)
        table.insert(0, "name", names)
        self.table = table
        self.runs = {name: run for name, (_, run) in zip(names, readable, strict=True)}
        self.left_out = _left_out(len(problems), len(strangers), [*problems, *strangers])

    def answers(self, seed=0):
        """The networks' logits, for the explorers of them: the Recording, or SavedLogits of the test images, shuffled
        by the seed, of all runs that were tested on the same as the first; packed runs have none."""
        if self._recording is not None:
            return self._recording
        names = [name for name, run in self.runs.items() if not isinstance(run, runs.PackedRun)]
        if not names:
            raise RunError("packed runs hold no logits: give a recording, or a folder of runs that were trained there")
        names.sort(key=lambda name: not self.runs[name].config.teaches)  # teachers first
        first = self.runs[names[0]]
        order = np.random.default_rng(seed).permutation(len(first.labels))
        networks = {
            name: {"test": (run.logits[order], run.labels[order])}
            for name, run in ((name, self.runs[name]) for name in names)
            if np.array_equal(run.labels, first.labels) and len(run.class_counts) == len(first.class_counts)
        }
        return SavedLogits(networks, first.class_counts, first.result["class_names"])

    def setting(self, name):
        """The setting of the run called `name`."""
        return self.table.loc[self.table["name"] == name, "setting"].iloc[0]


def _recording(source):
    """The Recording that the source is or names, else None."""
    if isinstance(source, str) and source in recorded.recordings():
        return recorded.recording(source)
    return source if isinstance(source, recorded.Recording) else None


def _given(source):
    """[(name or None, Run)] and the sentences on folders that hold no run of this version."""
    recording = _recording(source)
    source = recording.runs if recording else source
    if isinstance(source, dict) and all(isinstance(run, runs.Run) for run in source.values()):
        return [(str(name), run) for name, run in source.items()], []
    if isinstance(source, list | tuple) and all(isinstance(run, runs.Run) for run in source):
        return [(None, run) for run in {run.folder: run for run in source}.values()], []
    if source is not None and not isinstance(source, str | Path):
        kind = type(source).__name__
        raise ConfigError(f"{kind} is no source of runs: give a folder, the name of a recording, runs or {{name: run}}")
    folder = runs.runs_folder(source)
    if not folder.exists():  # a file is one of packed runs
        known = ", ".join(recorded.recordings()) or "none here"
        raise DataError(f"{str(source or folder)!r} is neither a folder of runs nor a recording (recordings: {known})")
    return [(None, run) for run in runs.all_runs(folder)], [f"{error}" for error in runs.strangers(folder).values()]


def _readable(given):
    """The finished runs whose files are there, and a sentence on each of the others."""
    readable, problems = [], []
    for name, run in given:
        try:
            run.result["last"], run.result["best"]
            needed = () if isinstance(run, runs.PackedRun) else ("history.parquet", "logits.npz")
            missing = [f for f in needed if not (run.folder / f).is_file()]
            if missing:
                raise RunError(f"{run.folder / missing[0]} is missing")
        except (RunError, KeyError, TypeError) as error:
            problems.append(f"{run.config.name}: {error}" if run.finished else f"{run.config.name} is unfinished")
        else:
            readable.append((name, run))
    return readable, problems


def _settings(table):
    """A name for each row: its role, and what else tells it from rows of the same role."""
    rest = [column for column in table.columns if column not in NOT_SETTINGS]
    names = list(table["role"])
    for part in table.groupby("role").groups.values():
        differing = [column for column in rest if len(set(texts(table.loc[part, column]))) > 1]
        for row in part:
            said = ((column, _short(table.at[row, column], table.loc[part, column])) for column in differing)
            names[row] += "".join(f" {_said(column, value)}" for column, value in said)
    return names


def _short(value, values):
    """The beginning of a long text, such as the counts of a hundred classes, if no other value begins so."""
    if not isinstance(value, str) or len(value) <= LONGEST:
        return value
    start = value[: LONGEST // 2]
    return value if sum(text.startswith(start) for text in set(texts(values))) > 1 else f"{start}…"


def texts(column):
    """The values of a column as texts; what is missing, None or not a number, is '-'."""
    return ["-" if value is None or value != value else str(value) for value in column]


def _said(column, value):
    """One setting in few words: a text speaks for itself, a number needs its name."""
    if isinstance(value, str):
        return value
    return f"{column.replace('_', ' ')} {value:g}" if isinstance(value, int | float) else f"{column} {value}"


def _names(settings, finished):
    """Settings, with the seed where one has several runs, and before it what else it takes to tell them apart: the
    subset's seed, the run's id, its folder."""
    seeds = [
        f" seed {run.config.seed}" if settings.count(s) > 1 else "" for s, run in zip(settings, finished, strict=True)
    ]
    names = [f"{s}{seed}" for s, seed in zip(settings, seeds, strict=True)]
    for tell in (
        lambda run: f"subset {run.config.subset_seed}",
        lambda run: run.config.id,
        lambda run: f"in {run.folder.parent}",
    ):
        alike = [names.count(name) > 1 for name in names]
        settings = [f"{s} {tell(run)}" if a else s for s, run, a in zip(settings, finished, alike, strict=True)]
        names = [f"{s}{seed}" for s, seed in zip(settings, seeds, strict=True)]
    return names


def _left_out(n_runs, n_folders, why):
    counted = [f"{n} {what}{'s' * (n > 1)}" for n, what in ((n_runs, "run"), (n_folders, "folder")) if n]
    more = f" (and {len(why) - 1} more)" if len(why) > 1 else ""
    return f"Left out: {' and '.join(counted)}; {why[0]}{more}." if why else ""


def _nothing(source, why):
    where = f"in {str(source)!r}" if isinstance(source, str | Path) else "among the runs given"
    reason = f": {why[0]}" if why else ""
    return f"there is no finished run {where}{reason}; train some with ltkd.fit or python -m ltkd sweep"
