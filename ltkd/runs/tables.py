"""Tables of runs, and means over seeds."""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .result_file import REPORTED
from .run import Run
from .store import Folders, all_runs

if TYPE_CHECKING:
    import pandas as pd

OWN_SUBSET = "seed"  # stands for the subset's seed if each run draws its subset with its own seed


def table(folder: Folders = None) -> "pd.DataFrame":
    """One row per finished run: `run`, the config's fields, the method's options, then accuracies in per cent.

    Accuracies of the last epoch are named as in `metrics.scores`: all, balanced, macro_f1, head and so on.
    best_all and so on are those of the epoch with the best balanced accuracy. That epoch is chosen on the test set: use
    it only to compare with papers that report it. answered: the number of classes that the network predicts at all.

    folder: one folder or several; None: see `runs_folder`.
    """
    return tabulate([run for run in all_runs(folder) if run.finished])


def tabulate(finished: Iterable[Run]) -> "pd.DataFrame":
    """The rows of `table` for these finished runs."""
    import pandas as pd

    return pd.DataFrame([_row(run) for run in finished])


def _row(run: Run) -> dict[str, Any]:
    config = run.config.to_dict()
    options = config.pop("options")
    config = {k: ", ".join(map(str, v)) if isinstance(v, list) else v for k, v in config.items()}
    last, best = run.result["last"], run.result["best"]
    accuracies = {k: last.get(k) for k in REPORTED} | {f"best_{k}": best.get(k) for k in ("epoch", *REPORTED)}
    predicted = run.result.get("per_class", {}).get("predicted")  # None: a run of version 0.1
    answered = None if predicted is None else sum(map(bool, predicted))
    return {"run": run.config.name, **config, **options, **accuracies, "answered": answered}


def summarise(
    frame: "pd.DataFrame", by: Sequence[str] | None = None, measures: Sequence[str] | None = None
) -> "pd.DataFrame":
    """Mean and half-width of the 95 % confidence interval over seeds (Student's t), one row per group of runs.

    frame: rows of `table`; by: the columns that define a group; measures: the columns to average (default: the scores
    that the frame has). Without `by`, runs of
    a group differ only in their seed. `subset_seed` is then a number if all runs of the group share one subset, and
    "seed" if each run draws its own; a run that belongs to both kinds (see `designs`) counts in both rows.

    Returns the columns `by`, `seeds`, then each measure and `<measure>_ci` (NaN for a single seed).
    """
    import pandas as pd

    measures = [name for name in REPORTED if name in frame] if measures is None else measures
    if by is None:
        outcomes = {
            "run",
            "seed",
            "recipe",
            "best_epoch",
            "answered",
            *REPORTED,
            *(f"best_{name}" for name in REPORTED),
        }
        by = [column for column in frame.columns if column not in outcomes]
        frame = _by_design(frame, by)
    rows = []
    for key, part in frame.groupby(list(by), dropna=False, sort=False):
        row = dict(zip(by, key, strict=True)) | {"seeds": len(part)}
        for measure in measures:
            values = part[measure].dropna().astype(float)
            row[measure] = values.mean() if len(values) else math.nan
            row[f"{measure}_ci"] = interval(values)
        rows.append(row)
    return pd.DataFrame(rows)


def _by_design(frame: "pd.DataFrame", by: Sequence[str]) -> "pd.DataFrame":
    """The rows with their design (see `designs`) as `subset_seed`; a row of two designs appears twice."""
    import pandas as pd

    parts = []
    for _, alike in frame.groupby([column for column in by if column != "subset_seed"], dropna=False, sort=False):
        pairs = list(zip(alike["subset_seed"], alike["seed"], strict=True))
        for subset, chosen in designs(pairs).items():
            parts.append(alike[[pair in chosen for pair in pairs]].assign(subset_seed=subset))
    return pd.concat(parts)


def shared_subsets(pairs: Iterable[tuple[int, int]]) -> set[int]:
    """The subset seeds that differ from the seed of some run. pairs: (subset_seed, seed) of each run."""
    return {subset for subset, seed in pairs if subset != seed}


def designs(pairs: Sequence[tuple[int, int]]) -> dict[int | str, set[tuple[int, int]]]:
    """Group runs that differ only in their seeds by the origin of their subset: {design: pairs}.

    A design is a subset seed if the runs share this subset, and OWN_SUBSET if each run draws the subset with its own
    seed: (0, 0) and (0, 1) share subset 0; (0, 0) and (1, 1) each have their own. A run may belong to both.

    pairs: (subset_seed, seed) of each run.
    """
    shared = shared_subsets(pairs)
    found: dict[int | str, set[tuple[int, int]]] = {
        subset: {pair for pair in pairs if pair[0] == subset} for subset in sorted(shared)
    }
    own = {(subset, seed) for subset, seed in pairs if subset == seed}
    alone = {pair for pair in own if pair[0] not in shared}
    return ({OWN_SUBSET: own} if alone or len(own) > 1 else {}) | found


def interval(values: Sequence[float]) -> float:
    """Half-width of the 95 % confidence interval of the mean (Student's t); NaN for fewer than two values."""
    from scipy.special import stdtrit  # the quantile of Student's t; importing scipy.stats takes three times longer

    if len(values) < 2:
        return math.nan
    return float(stdtrit(len(values) - 1, 0.975) * np.std(values, ddof=1) / math.sqrt(len(values)))
