"""The papers' numbers beside ours. A run stands beside a published number only if it is that number's run: the config
of the row under the paper's recipe, whatever the seed. Runs under a protocol of their own have a table of their own.

Everything here takes finished runs (`runs.all_runs`) and returns a DataFrame.
"""

import math

from .. import runs
from .._support.fingerprint import digest
from ..config.recipes import RECIPES
from ..methods import METHODS
from . import tables
from .cost import images_of

TOLERANCE = 1.0  # points within which a number counts as reproduced, however narrow the interval
ROUNDING = 1e-9  # points
WIDEST = 2.0  # points; half of an interval in which a mean within one point is no chance
NOTE = (
    "published: as printed; ours: mean ± 95 % interval over seeds of the runs under the paper's recipe, and no others; "
    "reproduced: within one point, by an interval of at most ±2; near: within one point, but from one seed or with a "
    "wider interval; within the interval: further off, but covered by it. Intervals are over seeds, not over test "
    "images. No paper says whether its epoch is the last or the best on the test set. LTKD's rows say exp-eq15 (its "
    "Eq. 15 to the letter), the runs have the recipe's exp, as the field's code has it: about one image a class less"
)
REPRODUCED, NEAR, COVERED, NOT_RUN = "reproduced", "near", "within the interval", "not run"
KINDS = [REPRODUCED, NEAR, COVERED, "off", NOT_RUN]
ROW = ["table", "source", "dataset", "imbalance_factor", "teacher", "student", "method", "options", "group"]


def against(finished, table):
    """One row a number of a published table (DataFrame): the columns of `tables.read` that name it, `published`,
    then for the last epoch and, as `best_...`, for the best on the test set: `mean` and `ci` (half of the 95 %
    interval over seeds, NaN for one seed), `difference` (ours − published), `verdict`; `seeds`, how many runs there
    are; `images`, that one such run trains on.

    Verdicts: reproduced (within one point), near (so too, but from one seed, or with an interval too wide to tell),
    within the interval (further off, but the interval covers the published number), off by so much, not run.
    """
    import pandas as pd

    by_id = {run.config.id: run for run in finished}
    seeds = sorted({run.config.seed for run in finished})
    rows = []
    for row in tables.read(table).drop_duplicates().itertuples():
        config = tables.config_of(row)
        if config is None:
            continue
        ids = [tables.config_of(row, seed=seed).id for seed in seeds]
        same = [by_id[i] for i in ids if i in by_id]
        record = {name: getattr(row, name) for name in ROW} | {"published": row.accuracy, "seeds": len(same)}
        for prefix, epoch in (("", "last"), ("best_", "best")):
            values = [run.result[epoch][row.group] for run in same if run.result[epoch].get(row.group) is not None]
            record |= {prefix + name: value for name, value in _beside(row.accuracy, values).items()}
        rows.append(record | {"images": images_of(config)})
    return pd.DataFrame(rows, columns=[*ROW, "published", "seeds", *_columns(""), *_columns("best_"), "images"])


def _columns(prefix):
    return [prefix + name for name in ("mean", "ci", "difference", "verdict")]


def _beside(accuracy, values):
    if not values:
        return {"mean": math.nan, "ci": math.nan, "difference": math.nan, "verdict": NOT_RUN}
    mean, half = sum(values) / len(values), runs.interval(values)
    return {"mean": mean, "ci": half, "difference": mean - accuracy, "verdict": verdict(accuracy, mean, half)}


def verdict(accuracy, mean, half):
    """What a mean and half its interval (NaN for one seed) say of a published number."""
    off = mean - accuracy
    if abs(off) <= TOLERANCE + ROUNDING:
        return REPRODUCED if ROUNDING < half <= WIDEST else NEAR  # seeds that agree to the image do so by chance
    return COVERED if abs(off) <= half else f"off by {off:+.2f}"


def counts(compared):
    """How many numbers have which verdict, by the last and by the best epoch (DataFrame)."""
    import pandas as pd

    def kind(word):
        return word if word in KINDS else "off"

    columns = {"last epoch": "verdict", "best epoch": "best_verdict"}
    found = {name: compared[column].map(kind).value_counts() for name, column in columns.items()}
    return pd.DataFrame(found).reindex(KINDS).fillna(0).astype(int)


def own_protocols(finished):
    """Mean and interval over seeds of the runs that are no published number's (DataFrame): `protocol`, in words, then
    the columns of `runs.summarise`. Not to be set beside the papers' numbers."""
    import pandas as pd

    known = _published_ids(sorted({run.config.seed for run in finished}))
    own = [run for run in finished if run.config.id not in known]
    if not own:
        return pd.DataFrame(columns=["protocol"])
    frame = runs.tabulate(own)
    frame.insert(0, "protocol", [protocol(run.config) for run in own])
    frame = runs.summarise(frame)
    frame["protocol"] = list(map(on_subset, frame["protocol"], frame["subset_seed"]))
    return frame


def _published_ids(seeds):
    """The ids of the runs of all published rows, with each of the seeds."""
    rows = tables.read()
    rows = rows[rows.table != "bkd-5"].drop_duplicates([*ROW[2:-1]])  # bkd-5 repeats the tables before it
    configs = [tables.config_of(row, seed=seed) for row in rows.itertuples() for seed in seeds]
    return {config.id for config in configs if config is not None}


VARIED = ("dataset", "imbalance_factor", "teacher", "student", "method", "seed", "subset_seed", "teaches", "n_groups")


def protocol(config):
    """What a run shares with all that it may be compared with, in words: "laptop", "cifar-crd, epochs = 20". The subset
    is added by `on_subset`: only beside other runs can be told whether it is one that several seeds share."""
    options = {name for method in METHODS.values() for name in method.options()}
    changed = {k: v for k, v in config.overrides().items() if k not in VARIED and k not in options}
    if config.dataset_version is not None:  # runs on other images are never compared
        changed["dataset_version"] = config.dataset_version
    if config.teaches:  # a student whose teacher learned otherwise says so itself; an expert learns some classes
        changed.pop("lr", None)
        changed.pop("classes", None)
    if "profile" in changed and not isinstance(changed["profile"], str):
        counts = changed["profile"]
        changed["profile"] = f"{len(counts)} counts ({digest(counts, 6)})"
    return ", ".join([config.recipe, *(f"{name} = {value}" for name, value in changed.items())])


def on_subset(protocol, subset):
    """The protocol, with the subset of `runs.designs` where that is not the recipe's."""
    usual = RECIPES[protocol.split(", ")[0]].defaults.get("subset_seed", runs.OWN_SUBSET)
    return protocol if subset == usual else f"{protocol}, subset_seed = {subset}"


def changes(config):
    """What of a method is not the recipe's: {option or n_groups: value}."""
    changed = config.overrides()
    return {name: changed[name] for name in (*METHODS[config.method].options(), "n_groups") if name in changed}
