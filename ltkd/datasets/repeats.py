"""Images that come more than once: in both halves, under two classes, or twice in one half."""

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple


class Contents(NamedTuple):
    """One half: what identifies each image, its label, and how it is called in a sentence."""

    keys: Sequence[Hashable]
    labels: Sequence[int]
    called: Callable[[int], str]


def repeats(train: Contents, test: Contents, class_names: Sequence[str]) -> tuple[str, ...]:
    """A sentence for each kind of repetition that there is, with the number of images and the first of them."""
    halves, first = (train, test), dict[Hashable, tuple[int, int]]()
    shared, mixed, twice = list[str](), list[str](), list[str]()
    for h, half in enumerate(halves):
        for i, key in enumerate(half.keys):
            g, j = first.setdefault(key, (h, i))
            if (g, j) == (h, i):
                continue
            names = f"{half.called(i)} = {halves[g].called(j)}"
            classes = [class_names[half.labels[i]], class_names[halves[g].labels[j]]]
            if g != h:
                shared.append(names)
            if classes[0] != classes[1]:
                mixed.append(f"{half.called(i)} ({classes[0]}) = {halves[g].called(j)} ({classes[1]})")
            elif g == h:
                twice.append(names)
    kinds = (
        (shared, "test images are training images too, so that the test accuracy is too high"),
        (mixed, "images lie under two classes, so that one label is wrong"),
        (twice, "images come more than once in one half, so that they count more than others"),
    )
    return tuple(f"{len(found)} {what}, first {found[0]}; remove one of each" for found, what in kinds if found)
