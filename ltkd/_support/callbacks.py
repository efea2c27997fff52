"""Calls of the caller's own functions along the way, which must not cost the work that they watch."""

import traceback
import warnings
from collections.abc import Callable
from typing import Any

from ..errors import Interrupted


def notify(function: Callable[..., object], *values: Any) -> None:
    """Call function(*values). Its error is a warning, except Interrupted and Ctrl-C, which ask to stop."""
    try:
        function(*values)
    except Interrupted:
        raise
    except Exception as error:
        why = traceback.format_exception_only(error)[-1].strip()
        name = getattr(function, "__qualname__", type(function).__qualname__)
        warnings.warn(f"the callback {name} failed, and the work goes on without it: {why}", stacklevel=2)
