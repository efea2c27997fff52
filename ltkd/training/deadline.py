"""The time at which training stops."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from .._support import distributed
from ..errors import TimeUp

T = TypeVar("T")


class Deadline:
    """A time to stop, which long loops of `fit` check once an iteration. until: seconds since 1970, None for never."""

    def __init__(self, until: float | None = None) -> None:
        self._until = until

    def check(self) -> None:
        """Raise TimeUp if the time is up. It does nothing if several processes train one run: `watch` stops them."""
        if self._until is not None and distributed.world_size() == 1 and time.time() >= self._until:
            raise TimeUp("time is up")

    def watch(self, values: Iterable[T]) -> Iterator[T]:
        """Yield the values until the time is up, then raise TimeUp: at the same value in all processes of one run."""
        for value in values:
            if self._until is not None and distributed.agreed(time.time() >= self._until):
                raise TimeUp("time is up")
            yield value
