"""The papers' own numbers as tidy tables. What the columns mean, and doubts about values: the
README.md beside the tables, in reproduce/data/published."""

import io
import json
from collections import defaultdict

from ..config import RunConfig
from ..config.recipes import recipe_for
from ..errors import unknown
from ..methods import METHODS, option_names
from . import data

TYPES = defaultdict(lambda: str, imbalance_factor=float, accuracy=float)
TEACHER = "teacher"  # the method of a teacher's own row
RECIPES_OF_BKD = {"cifar100": "cifar-bkd"}  # where the data set's own recipe is that of LTKD


def names():
    """The names of all tables, in the papers' order: ltkd-1 to ltkd-6, ltkd-fig3, ltkd-fig5, bkd-1 to bkd-5."""
    return list(_titles())


def title(table):
    """What a table shows, in one line."""
    return _titles()[_known(table)]


def read(table=None):
    """One row a published number (DataFrame), of one table or of all.

    Columns: source (whose measurement it is), table, dataset, profile, imbalance_factor, teacher, student, method,
    options, group, accuracy (per cent; in ltkd-fig3 a group's mass in a batch of 64). What a row has not is an empty
    string, an imbalance factor that is not stated NaN.
    """
    import pandas as pd

    chosen = names() if table is None else [_known(table)]
    return pd.concat([_frame(name) for name in chosen], ignore_index=True)


def options(text):
    """A value of the column `options` as RunConfig.make takes it: "beta=0;rebalanced=false" -> {"beta": 0, ...}."""
    pairs = (part.split("=") for part in text.split(";") if part)
    return {name: json.loads(value) for name, value in pairs}


def config_of(row, **changes):
    """The RunConfig whose accuracy a row prints: its networks, data and options under the paper's recipe, seed 0.

    row: of `read`, as itertuples gives it; changes: settings that are to be others. None for a row that no run of a
    network prints (ltkd-fig3). LTKD's rows say exp-eq15, its Eq. 15 to the letter; the config has the recipe's profile,
    exp, which the recipe lists among its assumptions. An option among the changes goes to the methods that have it.
    """
    if row.method not in {*METHODS, TEACHER}:
        return None
    method = "kd" if row.method == TEACHER else row.method  # the teacher of any student is the same run
    settings = {"recipe": recipe_of(row), "dataset": row.dataset, "imbalance_factor": row.imbalance_factor}
    settings |= {role: getattr(row, role) for role in ("teacher", "student") if getattr(row, role)}
    settings |= {"method": method} | options(row.options) | changes
    owners = option_names()
    config = RunConfig.make(**{k: v for k, v in settings.items() if k not in owners or method in owners[k]})
    return config.for_teacher() if row.method == TEACHER else config


def recipe_of(row):
    """The name of the recipe that is a row's protocol."""
    usual = recipe_for(row.dataset)
    return RECIPES_OF_BKD.get(row.dataset, usual) if row.table.startswith("bkd") else usual


def _known(table):
    if table not in _titles():
        raise unknown("table", table, _titles())
    return table


def _titles():
    frame = _frame("tables")
    return dict(zip(frame.table, frame.title, strict=True))


def _frame(name):
    """A file of reproduce/data/published."""
    import pandas as pd

    text = (data("published") / f"{name}.csv").read_text("utf-8")
    return pd.read_csv(io.StringIO(text), dtype=TYPES, keep_default_na=False, na_values={"imbalance_factor": [""]})
