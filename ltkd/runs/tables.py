"""Runs as rows of a table, and their means over seeds."""

import math

import numpy as np

from .run import REPORTED
from .store import all_runs

OWN_SUBSET = "seed"  # in place of a subset's seed: every run's own seed draws its subset


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

    by: columns that tell groups apart. By default all settings but the seed, so that only seeds are averaged;
    `subset_seed` is then "seed" where every run's own seed draws its subset, and a number where all share one: a run
    that is part of both kinds (see `designs`) counts in both rows.
    Columns: `by`, `seeds`, then each measure and `<measure>_ci` (NaN for a single seed).
    """
    import pandas as pd

    if by is None:
        outcomes = {"run", "seed", "recipe", "best_epoch", *REPORTED, *(f"best_{name}" for name in REPORTED)}
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


def _by_design(frame, by):
    """The rows, of each design of otherwise equal settings, with the design as `subset_seed`."""
    import pandas as pd

    parts = []
    for _, alike in frame.groupby([column for column in by if column != "subset_seed"], dropna=False, sort=False):
        pairs = list(zip(alike["subset_seed"], alike["seed"], strict=True))
        for subset, chosen in designs(pairs).items():
            parts.append(alike[[pair in chosen for pair in pairs]].assign(subset_seed=subset))
    return pd.concat(parts)


def shared_subsets(pairs):
    """The seeds of subsets that another seed than their own was trained on. pairs: (subset_seed, seed) of each run."""
    return {subset for subset, seed in pairs if subset != seed}


def designs(pairs):
    """How runs that differ in their seeds alone drew their subsets: {subset: the pairs that share it}.

    pairs: (subset_seed, seed) of each run. A number stands for a subset that several seeds, or another seed than its
    own, were trained on; OWN_SUBSET for the runs whose own seed drew it. So (0, 0), (0, 1) share subset 0, and
    (0, 0), (1, 1) have their own; a run may be part of both.
    """
    shared = shared_subsets(pairs)
    found = {subset: {pair for pair in pairs if pair[0] == subset} for subset in sorted(shared)}
    own = {(subset, seed) for subset, seed in pairs if subset == seed}
    alone = {pair for pair in own if pair[0] not in shared}
    return ({OWN_SUBSET: own} if alone or len(own) > 1 else {}) | found


def interval(values):
    """Half-width of the 95 % confidence interval of the mean (Student's t); NaN for fewer than two values."""
    from scipy.special import stdtrit  # the quantile of Student's t; scipy.stats takes thrice as long to import

    if len(values) < 2:
        return math.nan
    return float(stdtrit(len(values) - 1, 0.975) * np.std(values, ddof=1) / math.sqrt(len(values)))
