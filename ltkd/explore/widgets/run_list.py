"""The runs that an explorer shows, and their display names."""

from pathlib import Path

from ... import runs
from ...errors import ConfigError, DataError, RunError
from .. import recorded
from ..logits import SavedLogits

# What a table row says beyond the settings of a run, and settings that change no more than how a run is repeated.
NOT_SETTINGS = {"run", "recipe", "seed", "subset_seed", "method", "role", "teaches", "best_epoch"}
NOT_SETTINGS |= {prefix + name for name in runs.REPORTED for prefix in ("", "best_")}
LONGEST = 24  # letters of a setting in a name


class RunList:
    """Finished runs by name: runs {name: Run}; table, the rows of `runs.tabulate` after `name`, `setting` and `role`,
    which is the method, or teacher; left_out, a sentence on what is not shown, or nothing.

    source: a folder of runs, the name of a recording, {name: Run} or a list of runs; None is the folder of runs that
    `fit` uses. Runs of one setting differ in their seed alone, so they may be averaged.
    """

    def __init__(self, source=None):
        named = isinstance(source, str) and source in recorded.recordings()
        self._recording = recorded.recording(source) if named else None
        given, strangers = _given(self._recording.runs if named else source)
        readable = [(name, run) for name, run in given if run.finished]
        problems = [f"{run.config.name} is unfinished" for _, run in given if not run.finished]
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
        """The networks' logits, for their explorers: the recording, or the stored test logits, shuffled by the seed,
        the teachers' first. Raises RunError if no run has logits."""
        if self._recording is not None:
            return self._recording
        teachers_first = sorted(self.runs, key=lambda name: not self.runs[name].config.teaches)
        return SavedLogits.of_tests({name: self.runs[name] for name in teachers_first}, seed=seed)

    def setting(self, name):
        """The setting of the run called `name`."""
        return self.table.loc[self.table["name"] == name, "setting"].iloc[0]


def _given(source):
    """[(name or None, Run)] and the sentences on folders that hold no run of this version."""
    if isinstance(source, dict) and all(isinstance(run, runs.Run) for run in source.values()):
        return [(str(name), run) for name, run in source.items()], []
    if isinstance(source, list | tuple) and all(isinstance(run, runs.Run) for run in source):
        return [(None, run) for run in {run.folder: run for run in source}.values()], []
    if source is not None and not isinstance(source, str | Path):
        kind = type(source).__name__
        raise ConfigError(f"{kind} is no source of runs: give a folder, the name of a recording, runs or {{name: run}}")
    folder = runs.runs_folder(source)
    if not folder.exists():
        known = ", ".join(recorded.recordings()) or "none here"
        raise DataError(f"{str(source or folder)!r} is neither a folder of runs nor a recording (recordings: {known})")
    store = runs.read_store(folder)
    return [(None, run) for run in store.runs], [f"{error}" for error in store.strangers.values()]


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
