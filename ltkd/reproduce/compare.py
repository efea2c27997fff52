"""The papers' numbers beside ours.

A published number is compared only with runs of its own config: the settings of its row under the paper's recipe, with
any seed. Runs under other protocols have their own table. `finished`, here: finished runs (see `runs.all_runs`).
"""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from .. import runs
from .._support.fingerprint import digest
from ..config import RunConfig
from ..config.recipes import RECIPES
from ..methods import METHODS
from ..runs import Run
from . import tables
from .cost import images_of

if TYPE_CHECKING:
    import pandas as pd

TOLERANCE = 1.0  # points; a mean within them counts as reproduced, even outside a narrow interval
ROUNDING = 1e-9  # points
WIDEST = 2.0  # points; the largest half-width of an interval that shows more than chance
NOTE = (
    "published: as printed; ours: mean ± 95 % interval over seeds of the runs under the paper's recipe; reproduced: "
    "within one point, with an interval of at most ±2; near: within one point, but from one seed or with a wider "
    "interval; within the interval: further off, but covered by it. Intervals are over seeds, not over test images. No "
    "paper states whether its epoch is the last or the best on the test set. LTKD's rows have profile exp-eq15 (its "
    "Eq. 15 as printed), the runs have exp, as the code of the field: about one image less in each class"
)
REPRODUCED, NEAR, COVERED, NOT_RUN = "reproduced", "near", "within the interval", "not run"
KINDS = [REPRODUCED, NEAR, COVERED, "off", NOT_RUN]
ROW = ["table", "source", "dataset", "imbalance_factor", "teacher", "student", "method", "options", "group"]


def against(finished: Sequence[Run], table: str) -> "pd.DataFrame":
    """The numbers of a published table beside ours, one in each row.

    Columns: those of `tables.read` that identify the number; `published`; `seeds`, the number of our runs; for the last
    epoch and, with the prefix `best_`, for the best on the test set: `mean`, `ci` (half-width of the 95 % interval over
    seeds, NaN for one seed), `difference` (ours − published) and `verdict`; `images`, trained on in one run.

    Verdicts: reproduced (within one point), near (the same, but from one seed or with an interval too wide to decide),
    within the interval (further off, but the interval covers the published number), off by ..., not run. Raises
    ConfigError for an unknown table.
    """
    import pandas as pd

    by_id = {run.config.id: run for run in finished}
    seeds = sorted({run.config.seed for run in finished})
    rows = []
    for row in tables.read(table).drop_duplicates().itertuples():
        config = tables.config_of(row)
        if config is None:
            continue
        same = [by_id[i] for i in _ids_of(row, seeds) if i in by_id]
        record = {name: getattr(row, name) for name in ROW} | {"published": row.accuracy, "seeds": len(same)}
        for prefix, epoch in (("", "last"), ("best_", "best")):
            values = [run.result[epoch][row.group] for run in same if run.result[epoch].get(row.group) is not None]
            record |= {prefix + name: value for name, value in _beside(row.accuracy, values).items()}
        rows.append(record | {"images": images_of(config)})
    return pd.DataFrame(rows, columns=[*ROW, "published", "seeds", *_columns(""), *_columns("best_"), "images"])


def _columns(prefix: str) -> list[str]:
    return [prefix + name for name in ("mean", "ci", "difference", "verdict")]


def _beside(accuracy: float, values: Sequence[float]) -> dict[str, Any]:
    """The columns `mean`, `ci`, `difference`, `verdict` of our values."""
    if not values:
        return {"mean": math.nan, "ci": math.nan, "difference": math.nan, "verdict": NOT_RUN}
    mean, half = sum(values) / len(values), runs.interval(values)
    return {"mean": mean, "ci": half, "difference": mean - accuracy, "verdict": verdict(accuracy, mean, half)}


def verdict(accuracy: float, mean: float, half: float) -> str:
    """The verdict on a published accuracy. half: half-width of the interval of our mean, NaN for one seed."""
    off = mean - accuracy
    if abs(off) <= TOLERANCE + ROUNDING:
        return REPRODUCED if ROUNDING < half <= WIDEST else NEAR  # exactly equal seeds are chance
    return COVERED if abs(off) <= half else f"off by {off:+.2f}"


def counts(compared: "pd.DataFrame") -> "pd.DataFrame":
    """How often each verdict occurs in a result of `against`, by the last and by the best epoch."""
    import pandas as pd

    def kind(word: str) -> str:
        return word if word in KINDS else "off"

    columns = {"last epoch": "verdict", "best epoch": "best_verdict"}
    found = {name: compared[column].map(kind).value_counts() for name, column in columns.items()}
    return pd.DataFrame(found).reindex(KINDS).fillna(0).astype(int)


def own_protocols(finished: Sequence[Run]) -> "pd.DataFrame":
    """Mean and interval over seeds of runs that belong to no published number: `protocol` as text, then the columns of
    `runs.summarise`. They must not be compared with the papers' numbers."""
    import pandas as pd

    rows = tables.read()
    rows = rows[rows.table != "bkd-5"].drop_duplicates([*ROW[2:-1]])  # bkd-5 repeats the tables before it
    seeds = {run.config.seed for run in finished}
    published = {run_id for row in rows.itertuples() for run_id in _ids_of(row, seeds)}
    own = [run for run in finished if run.config.id not in published]
    if not own:
        return pd.DataFrame(columns=["protocol"])
    frame = runs.tabulate(own)
    frame.insert(0, "protocol", [protocol(run.config) for run in own])
    frame = runs.summarise(frame)
    frame["protocol"] = list(map(on_subset, frame["protocol"], frame["subset_seed"]))
    return frame


def _ids_of(row: Any, seeds: Iterable[int]) -> list[str]:
    """The ids of the runs of a published row, one for each seed; none if the row is not the accuracy of a run."""
    return [config.id for seed in seeds if (config := tables.config_of(row, seed=seed)) is not None]


# Settings that are not part of a protocol
VARIED = ("dataset", "imbalance_factor", "teacher", "student", "method", "seed", "subset_seed", "teaches", "n_groups")


def protocol(config: RunConfig) -> str:
    """The settings that runs must share to be compared, as text: "laptop" or "cifar-crd, epochs = 20".

    `on_subset` adds the subset: only other runs show whether several seeds share it.
    """
    options = {name for method in METHODS.values() for name in method.options()}
    changed = {k: v for k, v in config.overrides().items() if k not in VARIED and k not in options}
    if config.dataset_version is not None:  # runs on different images are never compared
        changed["dataset_version"] = config.dataset_version
    if config.teaches:  # teacher_lr of the student states the rate; an expert has some classes only
        changed.pop("lr", None)
        changed.pop("classes", None)
    if "profile" in changed and not isinstance(changed["profile"], str):
        counts = changed["profile"]
        changed["profile"] = f"{len(counts)} counts ({digest(counts, 6)})"
    return ", ".join([config.recipe, *(f"{name} = {value}" for name, value in changed.items())])


def on_subset(protocol: str, subset: int | str) -> str:
    """The protocol, with `subset` (a key of `runs.designs`) if it is not the one of the recipe."""
    usual = RECIPES[protocol.split(", ")[0]].defaults.get("subset_seed", runs.OWN_SUBSET)
    return protocol if subset == usual else f"{protocol}, subset_seed = {subset}"


def changes(config: RunConfig) -> dict[str, Any]:
    """The options of the method, and n_groups, that differ from the recipe: {name: value}."""
    changed = config.overrides()
    return {name: changed[name] for name in (*METHODS[config.method].options(), "n_groups") if name in changed}
