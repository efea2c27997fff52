"""A time at which training stops."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from .._support import distributed
from ..errors import TimeUp

T = TypeVar("T")


class Deadline:
    """`until` in seconds since 1970; None: never. Long loops of `fit` look at it once an iteration."""

    def __init__(self, until: float | None = None) -> None:
        self._until = until

    def check(self) -> None:
        """Raise TimeUp if the time is up. Processes that train one run together stop at a step only, see `watch`."""
        if self._until is not None and distributed.world_size() == 1 and time.time() >= self._until:
            raise TimeUp("time is up")

    def watch(self, values: Iterable[T]) -> Iterator[T]:
        """The values, while there is time; processes that train one run together stop at the same value."""
        for value in values:
            if self._until is not None and distributed.agreed(time.time() >= self._until):
                raise TimeUp("time is up")
            yield value
