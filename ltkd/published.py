"""The papers' own numbers as tidy tables. What the columns mean, and doubts about values: data/published/README.md."""

import io
import json
from collections import defaultdict

from .errors import DataError, unknown
from .files import project_folder

TYPES = defaultdict(lambda: str, imbalance_factor=float, accuracy=float)


def tables():
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

    names = tables() if table is None else [_known(table)]
    return pd.concat([_frame(name) for name in names], ignore_index=True)


def options(text):
    """A value of the column `options` as RunConfig.make takes it: "beta=0;rebalanced=false" -> {"beta": 0, ...}."""
    pairs = (part.split("=") for part in text.split(";") if part)
    return {name: json.loads(value) for name, value in pairs}


def _known(table):
    if table not in _titles():
        raise unknown("table", table, _titles())
    return table


def _titles():
    frame = _frame("tables")
    return dict(zip(frame.table, frame.title, strict=True))


def _frame(name):
    """A file of data/published."""
    import pandas as pd

    path = project_folder() / "data" / "published" / f"{name}.csv"
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise DataError(
            f"cannot read {path} ({error.strerror or error}): the published tables come with a checkout of the "
            "project, not with an installed package; work in a checkout, or copy its data/published there"
        ) from error
    return pd.read_csv(io.StringIO(text), dtype=TYPES, keep_default_na=False, na_values={"imbalance_factor": [""]})
