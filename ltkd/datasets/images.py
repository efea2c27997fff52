"""The two halves of a data set as tensors, and their long-tailed version."""

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class ImageSet:
    """images: uint8 (N, channels, side, side); labels: LongTensor (N,)."""

    images: Tensor
    labels: Tensor

    def __len__(self):
        return len(self.labels)

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


@dataclass(frozen=True, eq=False)
class LongTailedDataset:
    """A long-tailed training set with a test set that keeps the source's own (balanced) distribution.

    class_counts: LongTensor (C,), training images of each class; source: in words, where the images were found.
    """

    name: str
    train: ImageSet
    test: ImageSet
    class_names: tuple[str, ...]
    source: str = ""
    class_counts: Tensor = field(init=False)

    def __post_init__(self):
        object.__setattr__(self, "class_counts", self.train.counts(self.num_classes))

    @property
    def num_classes(self):
        return len(self.class_names)

    @property
    def image_size(self):
        return self.train.images.shape[-1]

    @property
    def in_channels(self):
        return self.train.images.shape[1]
