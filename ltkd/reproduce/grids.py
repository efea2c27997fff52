"""Grids: the runs of an experiment, from lists of settings or from a table of the papers."""

import itertools
import tomllib
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import numpy as np

from ..config import RunConfig
from ..config.run_config import SETTINGS
from ..errors import ConfigError, shown, unknown
from ..methods import option_names
from . import data, tables

TABLE, PARTS = "table", "part"  # keys of a grid that are not settings: a published table, and a list of grids
CHOOSES = ("dataset", "imbalance_factor", "teacher", "student", "method")  # settings that choose rows of a table

Axes = dict[str, list[Any]]


def names() -> list[str]:
    """The names of the grids in `reproduce/data/grids`."""
    return sorted(file.name.removesuffix(".toml") for file in data("grids").iterdir())


def read_grid(grid: str | Path) -> dict[str, Any]:
    """A grid by its name (`names()`) or from a TOML file: `name = value` for one value, `name = [values]` for several.

    Raises ConfigError for an unknown name, or a file that cannot be read.
    """
    path: Path | Traversable = (file := Path(grid))
    if file.suffix != ".toml" and not file.exists():
        if str(grid) not in names():
            raise ConfigError(f"{unknown('grid', grid, names())}; or give the path of a file.toml")
        path = data("grids") / f"{grid}.toml"
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"grid file {path} cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"grid file {path} is not TOML: {error}") from error


def expand(grid: Mapping[str, Any]) -> list[RunConfig]:
    """The configs of a grid: {field or method option: value or list of values} -> each config once.

    All runs of the first seed come before those of the second. An option applies only to the methods that have it, so
    that methods with different options fit in one grid. A list that is itself a value, as of `milestones`, is one
    value; a list of such lists holds several. `table`: the runs of a table of the papers, each under its recipe; data
    sets, imbalance factors, networks and methods choose among its rows, other settings change the rows. `part`: a list
    of grids that share the other settings. Raises ConfigError for unknown settings, or a choice without a row.
    """
    shared = {name: value for name, value in _table(grid).items() if name != PARTS}
    parts = [{**_table(part), **shared} for part in _parts(grid)] if PARTS in grid else [shared]
    configs = {config.id: config for part in parts for config in _expand_part(part)}
    seeds = list(dict.fromkeys(config.seed for config in configs.values()))
    return sorted(configs.values(), key=lambda config: seeds.index(config.seed))


def table_of(grid: str) -> str:
    """The published table of a grid or a table: "ltkd-table1" -> "ltkd-1", "ltkd-1" -> "ltkd-1".

    Raises ConfigError if there is none.
    """
    if grid in tables.names():
        return grid
    if grid in names():
        parts = read_grid(grid)
        for part in (parts, *_parts(parts)):
            if TABLE in part:
                return part[TABLE]
    raise unknown("published table", grid, tables.names())


def _table(grid: object) -> Mapping[str, Any]:
    if not isinstance(grid, Mapping):
        raise ConfigError(f"a grid is {shown(grid)}: must be settings with their values, {{name: value or list}}")
    return grid


def _parts(grid: Mapping[str, Any]) -> list[Any]:
    parts = grid.get(PARTS, [])
    if not isinstance(parts, list | tuple):
        raise ConfigError(f"{PARTS} = {shown(parts)}: must be a list of grids, in TOML each under a line [[{PARTS}]]")
    return [*parts]


def _values(name: str, given: Any) -> list[Any]:
    """The values of a setting in a grid: a list holds several, unless it is itself one value, as of `milestones`."""
    given = given.tolist() if isinstance(given, np.ndarray) else given
    if not isinstance(given, list | tuple | range):
        return [given]
    for setting in (SETTINGS.get(name), *option_names().get(name, {}).values()):
        with suppress(ConfigError):
            if setting and setting.check(name, given) != ():
                return [given]
    return [*given]


def _expand_part(grid: Mapping[str, Any]) -> Iterator[RunConfig]:
    axes = {name: _values(name, value) for name, value in grid.items()}
    for name in {TABLE, *CHOOSES} & axes.keys():
        for value in axes[name]:
            if not isinstance(value, Hashable):
                raise ConfigError(f"{name} = {shown(value)}: must be one value, or one list of values")
    for name, values in axes.items():
        if not values:
            raise ConfigError(f"{name} has no value in this grid; give at least one")
    return _of_table(axes) if TABLE in axes else _of_axes(axes)


def _of_axes(axes: Axes) -> Iterator[RunConfig]:
    owners = option_names()
    swept = axes.get("method", ["ltkd"])
    _check_options(axes, swept)
    for settings in _combinations(axes):
        method = settings.get("method", "ltkd")
        yield RunConfig.make(**{k: v for k, v in settings.items() if k not in owners or method in owners[k]})


def _of_table(axes: Axes) -> Iterator[RunConfig]:
    rows = _rows(axes)
    changes = {name: values for name, values in axes.items() if name not in (TABLE, *CHOOSES)}
    _check_options(changes, [row.method for row in rows])
    for settings in _combinations(changes):
        yield from filter(None, (tables.config_of(row, **settings) for row in rows))


def _rows(axes: Axes) -> list[Any]:
    """The rows that the grid chooses from its tables."""
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


def _check_options(axes: Axes, methods: Sequence[str]) -> None:
    """Raise ConfigError for an option that no method here has."""
    owners = option_names()
    for name in axes:
        if name in owners and not set(owners[name]) & set(methods):
            raise ConfigError(
                f"{name} is an option of {', '.join(owners[name])}, but the methods here are "
                f"{', '.join(dict.fromkeys(methods))}; remove it or add such a method"
            )


def _combinations(axes: Axes) -> Iterator[dict[str, Any]]:
    return (dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values()))
