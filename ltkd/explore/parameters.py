"""Checks a notebook's parameters, so that a wrong one stops its first cell with one clear sentence."""

from types import ModuleType

from ..errors import ConfigError, unknown

CHECKED = "_parameters_checked"  # the name by which a namespace remembers that it was checked
JUPYTER_NAMES = {"In", "Out", "exit", "quit", "get_ipython", "open"}


def check_parameters(namespace, /, **allowed):
    """Raise ConfigError unless `namespace`, a notebook's globals(), holds exactly the names of `allowed`, each valid.

    Call it in the cell after the parameters. allowed: by name, what a parameter may be:
    (low, high) a number in this range, whole if both ends are; a list of names, one of them; str, any text; bool, True
    or False; [list of names] or [(low, high)], a list of such values.
    """
    given = {name: value for name, value in namespace.items() if _is_parameter(name, value)}
    for name in given:
        # When the cell is run again, the names of all later cells are there too.
        if name not in allowed and CHECKED not in namespace:
            raise unknown("parameter", name, allowed)
    for name, limits in allowed.items():
        if name not in given:
            raise ConfigError(f"parameter {name} is missing; define it in the parameters cell")
        _check_value(name, given[name], limits)
    namespace[CHECKED] = True


def _is_parameter(name, value):
    return not (name.startswith("_") or name in JUPYTER_NAMES or isinstance(value, ModuleType) or callable(value))


def _check_value(name, value, limits):
    if limits in (str, bool):
        if not isinstance(value, limits):
            raise ConfigError(f"{name} = {value!r}: must be {'text' if limits is str else 'True or False'}")
    elif isinstance(limits, tuple):
        _check_number(name, value, *limits)
    elif isinstance(limits[0], list | tuple):
        if not isinstance(value, list) or not value:
            entries = "number" if isinstance(limits[0], tuple) else f"of {', '.join(limits[0])}"
            raise ConfigError(f"{name} = {value!r}: must be a list of at least one {entries}")
        for entry in value:
            _check_value(name, entry, limits[0])
    elif value not in limits:
        raise unknown(name, value, limits)


def _check_number(name, value, low, high):
    whole = isinstance(low, int) and isinstance(high, int)
    fits = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if not fits or not low <= value <= high:
        kind = "a whole number" if whole else "a number"
        raise ConfigError(f"{name} = {value!r}: must be {kind} from {low:g} to {high:g}")
