"""Runs as rows of a table, and their means over seeds."""

import math

import numpy as np

from .store import all_runs

REPORTED = ("all", "head", "medium", "tail", "many_shot", "medium_shot", "few_shot")


def table(folder=None):
    """One row a finished run (DataFrame): `run`, the config's fields, the method's options, then accuracies in per
    cent of the last epoch (all, head, medium, tail, many_shot, medium_shot, few_shot) and of the best (best_all ...),
    which is chosen on the test set and kept only for comparison with papers that report it."""
    return tabulate([run for run in all_runs(folder) if run.finished])


def tabulate(finished):
    """The rows of `table` for the finished runs given."""
    import pandas as pd

    return pd.DataFrame([_row(run) for run in finished])


def _row(run):
    config = {k: ", ".join(map(str, v)) if isinstance(v, list) else v for k, v in run.config.to_dict().items()}
    options = config.pop("options")
    last, best = run.result["last"], run.result["best"]
    accuracies = {k: last.get(k) for k in REPORTED} | {f"best_{k}": best.get(k) for k in ("epoch", *REPORTED)}
    return {"run": run.config.name, **config, **options, **accuracies}


def summarise(frame, by=None, measures=REPORTED):
    """Mean and half-width of the 95 % interval over seeds (Student's t): rows of `table` -> one row a group of `by`.

    by: columns that tell groups apart (default: all settings but the seed, so that only seeds are averaged).
    Columns: `by`, `seeds`, then each measure and `<measure>_ci` (NaN for a single seed).
    """
    import pandas as pd

    if by is None:
        outcomes = {"run", "seed", "recipe", "best_epoch", *REPORTED, *(f"best_{name}" for name in REPORTED)}
        by = [column for column in frame.columns if column not in outcomes]
    rows = []
    for key, part in frame.groupby(list(by), dropna=False, sort=False):
        row = dict(zip(by, key, strict=True)) | {"seeds": len(part)}
        for measure in measures:
            values = part[measure].dropna().astype(float)
            row[measure] = values.mean() if len(values) else math.nan
            row[f"{measure}_ci"] = interval(values)
        rows.append(row)
    return pd.DataFrame(rows)


def interval(values):
    """Half-width of the 95 % confidence interval of the mean (Student's t); NaN for fewer than two values."""
    from scipy.stats import t

    if len(values) < 2:
        return math.nan
    return float(t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)))
