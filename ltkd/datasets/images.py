"""The two halves of a data set, held in memory as tensors, and their long-tailed version."""

from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from .image_files import ImageFiles, unordered


@dataclass(frozen=True, eq=False)
class ImageSet:
    """images: uint8 (N, channels, side, side); labels: LongTensor (N,)."""

    streamed: ClassVar[bool] = False
    images: Tensor
    labels: Tensor

    def __len__(self):
        return len(self.labels)

    @property
    def image_size(self):
        return self.images.shape[-1]

    @property
    def in_channels(self):
        return self.images.shape[1]

    def subset(self, indices):
        """The images at `indices`, in that order."""
        indices = torch.as_tensor(indices)
        return ImageSet(self.images[indices], self.labels[indices])

    def to(self, device):
        """The same images and labels on `device`."""
        return ImageSet(self.images.to(device), self.labels.to(device))

    def counts(self, num_classes):
        """Images of each class: LongTensor (num_classes,)."""
        return torch.bincount(self.labels, minlength=num_classes)

    def identity(self):
        """The tensors that tell this set from every other."""
        return self.images, self.labels

    def fingerprint(self):
        """Sixteen hexadecimal digits of the images and their labels, in whatever order they are."""
        return unordered(zip(self.images.cpu().contiguous().numpy(), self.labels.tolist(), strict=True))


def image_set(images, labels):
    """An ImageSet of PIL images, which must be squares of one size, and their labels."""
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
    """A data set as it comes: classes, training images of the largest class or, of a published list, of all together,
    test images, channels and side."""

    classes: int
    images: int
    test: int
    channels: int = 3
    side: int = 32
    listed: bool = False


class Source(NamedTuple):
    """All images of a data set before any subset is taken; `found` says in words where.

    uneven: its classes differ in size, so that one may have fewer images than a profile asks of it.
    """

    train: ImageSet | ImageFiles
    test: ImageSet | ImageFiles
    class_names: tuple[str, ...]
    found: str
    uneven: bool = False


@dataclass(frozen=True, eq=False)
class LongTailedDataset:
    """A long-tailed training set with a test set that keeps the source's own (balanced) distribution.

    train, test: an ImageSet each, or ImageFiles where the images stay on disk. class_counts: LongTensor (C,), training
    images of each class; source: in words, where the images were found; whole: the training images of all classes,
    where these are only some.
    """

    name: str
    train: ImageSet | ImageFiles
    test: ImageSet | ImageFiles
    class_names: tuple[str, ...]
    source: str = ""
    whole: ImageSet | ImageFiles | None = None
    class_counts: Tensor = field(init=False)

    def __post_init__(self):
        object.__setattr__(self, "class_counts", self.train.counts(self.num_classes))

    @property
    def num_classes(self):
        return len(self.class_names)

    @property
    def image_size(self):
        return self.train.image_size

    @property
    def in_channels(self):
        return self.train.in_channels

    @property
    def streamed(self):
        """Whether the images stay on disk and are decoded as they are needed."""
        return self.train.streamed
