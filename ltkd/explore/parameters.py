"""Checks the parameters of a notebook, so that a wrong one stops the notebook at its start with a clear error."""

from dataclasses import replace
from types import GenericAlias, ModuleType
from typing import Any

from .._support.settings import Setting
from ..errors import ConfigError, unknown

CHECKED = "_parameters_checked"  # set in a namespace after its first check
JUPYTER_NAMES = {"In", "Out", "exit", "quit", "get_ipython", "open"}


def check_parameters(namespace: dict[str, Any], /, **allowed: Any) -> None:
    """Check the parameters of a notebook. Call it in the cell after the parameters.

    namespace: the notebook's globals(); allowed: the values of each parameter. (low, high): a number in this range,
    whole if both bounds are; a list of names: one of them; str: any text; bool: True or False; [list of names] or
    [(low, high)]: a list of at least one such value; (value, (low, high)): this value or a number in this range.
    Raises ConfigError for a parameter that is missing, unknown or has a wrong value.
    """
    given = {name: value for name, value in namespace.items() if _is_parameter(name, value)}
    for name in given:
        # When the cell runs again, the namespace also holds the names of later cells.
        if name not in allowed and CHECKED not in namespace:
            raise unknown("parameter", name, allowed)
    for name, limits in allowed.items():
        if name not in given:
            raise ConfigError(f"parameter {name} is missing; define it in the parameters cell")
        if isinstance(limits, list) and not isinstance(limits[0], str) and isinstance(given[name], str):
            raise ConfigError(
                f"{name} = {given[name]!r}: must be a list, not a text; papermill takes a list with -y '{name}: [...]'"
            )
        if isinstance(limits, tuple) and isinstance(limits[1], tuple):
            also, limits = limits
            if given[name] == also and type(given[name]) is type(also):
                continue
        if _setting(limits).check(name, given[name]) == ():
            raise ConfigError(f"{name} = {given[name]!r}: must be a list of at least one value")
    namespace[CHECKED] = True


def _is_parameter(name: str, value: Any) -> bool:
    return not (name.startswith("_") or name in JUPYTER_NAMES or isinstance(value, ModuleType) or callable(value))


def _setting(limits: Any) -> Setting[Any]:
    """The Setting for the allowed values of one parameter."""
    if limits in (str, bool):
        return Setting(limits())
    if isinstance(limits, tuple):
        low, high = limits if all(isinstance(limit, int) for limit in limits) else map(float, limits)
        return Setting(low, low=low, high=high)
    if isinstance(limits[0], str):
        return Setting(limits[0], choices=limits)
    entry = _setting(limits[0])
    return replace(entry, default=(entry.default,), kind=GenericAlias(tuple, (type(entry.default), ...)))
