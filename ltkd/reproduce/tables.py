"""The numbers of the papers as tidy tables. reproduce/data/published/README.md explains the columns, and lists doubts
about values."""

import io
import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from ..config import RunConfig
from ..config.recipes import recipe_for
from ..errors import unknown
from ..methods import METHODS, option_names
from . import data

if TYPE_CHECKING:
    import pandas as pd

TYPES: defaultdict[str, type] = defaultdict(lambda: str, imbalance_factor=float, accuracy=float)
TEACHER = "teacher"  # stands for the method in the row of a teacher
RECIPES_OF_BKD = {"cifar100": "cifar-bkd"}  # data sets whose default recipe is the one of LTKD


def names() -> list[str]:
    """The names of all tables, in the papers' order: ltkd-1 to ltkd-6, ltkd-fig3, ltkd-fig5, bkd-1 to bkd-5."""
    return list(_titles())


def title(table: str) -> str:
    """The title of a table. Raises ConfigError for an unknown name."""
    return _titles()[_known(table)]


def read(table: str | None = None) -> "pd.DataFrame":
    """The published numbers of one table or of all, one in each row.

    Columns: source (the paper that measured it), table, dataset, profile, imbalance_factor, teacher, student, method,
    options, group, accuracy (per cent; in ltkd-fig3 the mass of a group in a batch of 64). Missing text is an empty
    string, a missing imbalance factor NaN. Raises ConfigError for an unknown table.
    """
    import pandas as pd

    chosen = names() if table is None else [_known(table)]
    return pd.concat([_frame(name) for name in chosen], ignore_index=True)


def options(text: str) -> dict[str, Any]:
    """The column `options` as arguments of RunConfig.make: "beta=0;rebalanced=false" -> {"beta": 0, ...}."""
    pairs = (part.split("=") for part in text.split(";") if part)
    return {name: json.loads(value) for name, value in pairs}


def config_of(row: Any, **changes: Any) -> RunConfig | None:
    """The RunConfig of the run in a row: its networks, data and options under the paper's recipe, seed 0.

    row: from `read().itertuples()`. changes: settings with other values; an option applies only to the methods that
    have it. Returns None for a row that is not the accuracy of a run (ltkd-fig3). The profile of LTKD's rows is
    exp-eq15, its Eq. 15 as printed; the config has exp, an assumption of the recipe. Raises ConfigError for a change
    that is not allowed.
    """
    if row.method not in {*METHODS, TEACHER}:
        return None
    method = "kd" if row.method == TEACHER else row.method  # the teacher of any student is the same run
    settings: dict[str, Any] = {
        "recipe": recipe_of(row),
        "dataset": row.dataset,
        "imbalance_factor": row.imbalance_factor,
    }
    settings |= {role: getattr(row, role) for role in ("teacher", "student") if getattr(row, role)}
    settings |= {"method": method} | options(row.options) | changes
    owners = option_names()
    config = RunConfig.make(**{k: v for k, v in settings.items() if k not in owners or method in owners[k]})
    return config.for_teacher() if row.method == TEACHER else config


def recipe_of(row: Any) -> str:
    """The name of the recipe of a row from `read().itertuples()`."""
    usual = recipe_for(row.dataset)
    return RECIPES_OF_BKD.get(row.dataset, usual) if row.table.startswith("bkd") else usual


def _known(table: str) -> str:
    """The name of a table, if it is known."""
    if table not in _titles():
        raise unknown("table", table, _titles())
    return table


def _titles() -> dict[str, str]:
    frame = _frame("tables")
    return dict(zip(frame.table, frame.title, strict=True))


def _frame(name: str) -> "pd.DataFrame":
    """A file of reproduce/data/published."""
    import pandas as pd

    text = (data("published") / f"{name}.csv").read_text("utf-8")
    return pd.read_csv(io.StringIO(text), dtype=TYPES, keep_default_na=False, na_values={"imbalance_factor": [""]})
