"""The two halves of a data set, held in memory as tensors, and their long-tailed version."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import DataError
from .image_files import ImageFiles, Indices, unordered

MEMORY = 4e9  # bytes of decoded images that are held


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images in memory and their classes.

    images: uint8 (N, channels, side, side). labels: LongTensor (N,).
    """

    streamed: ClassVar[bool] = False
    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_size(self) -> int:
        """Pixels a side."""
        return self.images.shape[-1]

    @property
    def in_channels(self) -> int:
        """1 for grey images, 3 for RGB."""
        return self.images.shape[1]

    def subset(self, indices: Indices) -> "ImageSet":
        """The images at `indices` (n,), in that order."""
        indices = torch.as_tensor(indices)
        return ImageSet(self.images[indices], self.labels[indices])

    def to(self, device: torch.device | str) -> "ImageSet":
        """The same images and labels on `device`."""
        return ImageSet(self.images.to(device), self.labels.to(device))

    def counts(self, num_classes: int) -> Tensor:
        """Images of each class: LongTensor (num_classes,)."""
        return torch.bincount(self.labels, minlength=num_classes)

    def identity(self) -> tuple[Tensor, ...]:
        """Tensors that differ between any two different sets: the images and the labels."""
        return self.images, self.labels

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits of the images and their labels, in any order."""
        return unordered(zip(self.images.cpu().contiguous().numpy(), self.labels.tolist(), strict=True))


def image_set(images: Sequence[Image.Image], labels: np.ndarray | Sequence[int]) -> ImageSet:
    """An ImageSet of PIL images and their labels.

    Raises DataError unless there is an image, and all are squares of one size.
    """
    if not images:
        raise DataError("there is not a single image in one half of the data; needed are images to train and to test")
    if len(sizes := {image.size for image in images}) > 1 or any(w != h for w, h in sizes):
        shown = " and ".join(f"{w} x {h}" for w, h in sorted({min(sizes), max(sizes)}))
        raise DataError(
            f"the images must be squares of one size, but some are {shown} pixels; choose a side length with "
            f"--image-size (image_size=): the shorter side is scaled to it and the middle is cut out"
        )
    side = images[0].width
    pixels = torch.empty(len(images), len(images[0].getbands()), side, side, dtype=torch.uint8)
    for out, image in zip(pixels.numpy(), images, strict=True):
        out[:] = np.asarray(image).reshape(side, side, -1).transpose(2, 0, 1)
    return ImageSet(pixels, torch.as_tensor(labels).long())


class Size(NamedTuple):
    """The size of a data set before any subset is taken.

    images: training images of the largest class; of a published list (listed=True), of all classes together. test: test
    images. side: pixels a side.
    """

    classes: int
    images: int
    test: int
    channels: int = 3
    side: int = 32
    listed: bool = False


class Source(NamedTuple):
    """All images of a data set before any subset is taken.

    found: in words, where the images are. uneven: the classes differ in size, so that one may have fewer images than a
    profile asks for.
    """

    train: ImageSet | ImageFiles
    test: ImageSet | ImageFiles
    class_names: tuple[str, ...]
    found: str
    uneven: bool = False


@dataclass(frozen=True, eq=False)
class LongTailedDataset:
    """A long-tailed training set with a test set that keeps the source's own (balanced) distribution.

    train, test: an ImageSet each, or ImageFiles if the images stay on disk. class_names: the C names, by label. source:
    in words, where the images were found. whole: the training images of all classes, if `train` has only some of them.
    class_counts: LongTensor (C,), training images of each class.
    """

    name: str
    train: ImageSet | ImageFiles
    test: ImageSet | ImageFiles
    class_names: tuple[str, ...]
    source: str = ""
    whole: ImageSet | ImageFiles | None = None
    class_counts: Tensor = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_counts", self.train.counts(self.num_classes))

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.class_names)

    @property
    def image_size(self) -> int:
        """Pixels a side."""
        return self.train.image_size

    @property
    def in_channels(self) -> int:
        """1 for grey images, 3 for RGB."""
        return self.train.in_channels

    @property
    def streamed(self) -> bool:
        """True if the images stay on disk and are decoded as they are needed."""
        return self.train.streamed
