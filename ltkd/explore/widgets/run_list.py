"""The runs that an explorer shows, and their display names."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ... import runs
from ...errors import ConfigError, DataError, RunError
from .. import recorded
from ..logits import SavedLogits

if TYPE_CHECKING:
    import pandas as pd

Source = str | Path | Mapping[str, runs.Run] | Sequence[runs.Run] | None
# Columns that are not settings, or that only distinguish repetitions of a run.
NOT_SETTINGS = {"run", "recipe", "seed", "subset_seed", "method", "role", "teaches", "best_epoch", "answered"}
NOT_SETTINGS |= {prefix + name for name in runs.REPORTED for prefix in ("", "best_")}
LONGEST = 24  # the most characters of a setting in a display name


class RunList:
    """Finished runs with display names.

    source: a folder of runs, the name of a recording, {name: Run} or a list of runs; None: the folder of runs that
    `fit` uses. Raises RunError if there is no finished run, DataError for an unknown folder, ConfigError for a source
    of another type.

    runs: {name: Run}. table: the rows of `runs.tabulate` after the columns `name`, `setting` and `role` (the method, or
    "teacher"); runs of one setting differ only in their seed, so they may be averaged. left_out: a sentence on the runs
    that are not shown, or empty.
    """

    def __init__(self, source: Source = None) -> None:
        named = isinstance(source, str) and source in recorded.recordings()
        self._recording = recorded.recording(str(source)) if named else None
        given, strangers = _given(self._recording.runs if self._recording else source)
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

    def answers(self, seed: int = 0) -> SavedLogits:
        """The logits of the networks, for the explorers.

        These are the recording, or the stored test logits with the teachers' first. seed: of the order of the test
        images. Raises RunError if no run has logits.
        """
        if self._recording is not None:
            return self._recording
        teachers_first = sorted(self.runs, key=lambda name: not self.runs[name].config.teaches)
        return SavedLogits.of_tests({name: self.runs[name] for name in teachers_first}, seed=seed)

    def setting(self, name: str) -> str:
        """The setting of the run called `name`."""
        return self.table.loc[self.table["name"] == name, "setting"].iloc[0]


def _given(source: Source) -> tuple[list[tuple[str | None, runs.Run]], list[str]]:
    """The runs of a source with their given names, and the errors of folders that cannot be read."""
    if isinstance(source, dict) and all(isinstance(run, runs.Run) for run in source.values()):
        return [(str(name), run) for name, run in source.items()], []
    if isinstance(source, list | tuple) and all(isinstance(run, runs.Run) for run in source):
        return [(None, run) for run in {run.folder: run for run in source}.values()], []
    if source is not None and not isinstance(source, str | Path):
        kind = type(source).__name__
        raise ConfigError(
            f"{kind} is not a source of runs: give a folder, the name of a recording, runs or {{name: run}}"
        )
    folder = runs.runs_folder(source)
    if not folder.exists():
        known = ", ".join(recorded.recordings()) or "none here"
        raise DataError(f"{str(source or folder)!r} is neither a folder of runs nor a recording (recordings: {known})")
    store = runs.read_store(folder)
    return [(None, run) for run in store.runs], [f"{error}" for error in store.strangers.values()]


def _settings(table: "pd.DataFrame") -> list[str]:
    """A name for each row: its role, and the settings that differ between rows of this role."""
    rest = [column for column in table.columns if column not in NOT_SETTINGS]
    names = list(table["role"])
    for part in table.groupby("role").groups.values():
        differing = [column for column in rest if len(set(texts(table.loc[part, column]))) > 1]
        for row in part:
            shown = ((column, _short(table.at[row, column], table.loc[part, column])) for column in differing)
            names[row] += "".join(f" {_in_words(column, value)}" for column, value in shown)
    return names


def _short(value: object, values: "pd.Series") -> object:
    """The start of a long text, such as the counts of 100 classes, unless another value has the same start."""
    if not isinstance(value, str) or len(value) <= LONGEST:
        return value
    start = value[: LONGEST // 2]
    return value if sum(text.startswith(start) for text in set(texts(values))) > 1 else f"{start}…"


def texts(column: "pd.Series") -> list[str]:
    """The values of a column as texts; a missing value, None or NaN, is '-'."""
    return ["-" if value is None or value != value else str(value) for value in column]


def _in_words(column: str, value: object) -> str:
    """One setting in few words: a text alone, a number after the name of its column."""
    if isinstance(value, str):
        return value
    return f"{column.replace('_', ' ')} {value:g}" if isinstance(value, int | float) else f"{column} {value}"


def _names(settings: list[str], finished: list[runs.Run]) -> list[str]:
    """A unique name for each run: its setting, and its seed if several runs have this setting.

    Equal names get the subset's seed, then the run's id, then its folder, until they differ.
    """
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


def _left_out(n_runs: int, n_folders: int, why: list[str]) -> str:
    counted = [f"{n} {what}{'s' * (n > 1)}" for n, what in ((n_runs, "run"), (n_folders, "folder")) if n]
    more = f" (and {len(why) - 1} more)" if len(why) > 1 else ""
    return f"Left out: {' and '.join(counted)}; {why[0]}{more}." if why else ""


def _nothing(source: Source, why: list[str]) -> str:
    where = f"in {str(source)!r}" if isinstance(source, str | Path) else "among the runs given"
    reason = f": {why[0]}" if why else ""
    return f"there is no finished run {where}{reason}; train runs with ltkd.fit or python -m ltkd sweep"
