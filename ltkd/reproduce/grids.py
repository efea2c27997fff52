"""Which runs make up an experiment: a grid of settings, by hand or out of a table of the papers."""

import itertools
import tomllib
from pathlib import Path

from ..config import RunConfig
from ..errors import ConfigError, unknown
from ..methods import option_names
from . import data, tables

TABLE, PARTS = "table", "part"  # what is no setting: the name of a published table; grids that make up one
CHOOSES = ("dataset", "imbalance_factor", "teacher", "student", "method")  # rows of a table; all else changes them


def names():
    """The grids that come with the package: those of `reproduce/data/grids`."""
    return sorted(file.name.removesuffix(".toml") for file in data("grids").iterdir())


def read_grid(grid):
    """A grid by its name (`names()`) or from a TOML file: `name = value` for what is fixed, `name = [values]` for what
    varies."""
    path = Path(grid)
    if path.suffix != ".toml" and not path.exists():
        if str(grid) not in names():
            raise ConfigError(f"{unknown('grid', grid, names())}; or give the path of a file.toml")
        path = data("grids") / f"{grid}.toml"
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"grid file {path} cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"grid file {path} is not TOML: {error}") from error


def expand(grid):
    """The configs of a grid: {field or method option: value or list of values} -> [RunConfig], each one once.

    One seed of everything comes before the second. An option is given only to the methods that have it, so one grid may
    hold methods with different options. `table`: the runs behind a table of the papers, each under its recipe; a data
    set, imbalance factor, network or method beside it chooses among its rows, any other setting changes them. `part`: a
    list of grids, for all of which the rest holds.
    """
    shared = {name: value for name, value in grid.items() if name != PARTS}
    parts = [part | shared for part in grid[PARTS]] if PARTS in grid else [shared]
    configs = {config.id: config for part in parts for config in _expand_part(part)}
    seeds = list(dict.fromkeys(config.seed for config in configs.values()))
    return sorted(configs.values(), key=lambda config: seeds.index(config.seed))


def table_of(grid):
    """The published table behind the name of a grid or of a table: "ltkd-table1", "ltkd-1" -> "ltkd-1"."""
    if grid in tables.names():
        return grid
    if grid in names():
        parts = read_grid(grid)
        for part in (parts, *parts.get(PARTS, [])):
            if TABLE in part:
                return part[TABLE]
    raise unknown("published table", grid, tables.names())


def _expand_part(grid):
    axes = {name: value if isinstance(value, list) else [value] for name, value in grid.items()}
    for name, values in axes.items():
        if not values:
            raise ConfigError(f"{name} has no value in this grid; give at least one")
    return _of_table(axes) if TABLE in axes else _of_axes(axes)


def _of_axes(axes):
    owners = option_names()
    swept = axes.get("method", ["ltkd"])
    _check_options(axes, swept)
    for settings in _combinations(axes):
        method = settings.get("method", "ltkd")
        yield RunConfig.make(**{k: v for k, v in settings.items() if k not in owners or method in owners[k]})


def _of_table(axes):
    rows = _rows(axes)
    changes = {name: values for name, values in axes.items() if name not in (TABLE, *CHOOSES)}
    _check_options(changes, [row.method for row in rows])
    for settings in _combinations(changes):
        yield from filter(None, (tables.config_of(row, **settings) for row in rows))


def _rows(axes):
    """The rows of the tables that the grid chooses."""
    found = [row for table in axes[TABLE] for row in tables.read(table).itertuples()]
    before = ""
    for name in CHOOSES:
        if name in axes:
            there = dict.fromkeys(getattr(row, name) for row in found)
            found = [row for row in found if getattr(row, name) in axes[name]]
            if missing := [value for value in axes[name] if value not in there]:
                raise ConfigError(
                    f"no row of {', '.join(axes[TABLE])}{before} has {name} = {', '.join(map(str, missing))}; there "
                    f"are {', '.join(str(each) for each in there if each != '')}"
                )
            before += f" with {name} = {', '.join(map(str, axes[name]))}"
    return found


def _check_options(axes, methods):
    owners = option_names()
    for name in axes:
        if name in owners and not set(owners[name]) & set(methods):
            raise ConfigError(
                f"{name} is an option of {', '.join(owners[name])}, but the methods here are "
                f"{', '.join(dict.fromkeys(methods))}; leave it out or add such a method"
            )


def _combinations(axes):
    return (dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values()))
