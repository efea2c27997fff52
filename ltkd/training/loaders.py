"""Batches of one half of a data set: drawn by a sampler, augmented, normalised, on the device."""

import os
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import datasets
from .._support import distributed
from ..datasets import ImageFiles, ImageSet
from ..datasets.normalization import Normalizer
from ..methods import Batch
from .sampling import SAMPLERS

PLAIN_BATCH = 500  # images without augmentation; they need no memory for gradients


def make_loader(
    images: ImageSet | ImageFiles,
    augmentation: str,
    normalize: Normalizer,
    device: torch.device,
    workers: int | None = None,
) -> "DeviceLoader | StreamingLoader":
    """The loader of one half of a data set.

    augmentation: one of AUGMENTATIONS. workers: number of processes that decode images on disk (default: one for each
    core, at most 16). Raises ConfigError for an augmentation that does not fit.
    """
    datasets.check_augmentation(augmentation, images.streamed)
    if isinstance(images, ImageFiles):
        workers = default_workers() if workers is None else workers
        return StreamingLoader(images, augmentation, normalize, device, workers)
    return DeviceLoader(images, augmentation, normalize, device)


def default_workers() -> int:
    """The number of cores that this process may use, at most 16."""
    return min(16, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


class Draw(NamedTuple):
    """Images of one epoch, in their order.

    indices: LongTensor (n,). views: LongTensor (n,), the number of the view of each image; empty for images on disk.
    seed: draws the random crops of images on disk. start: the position of the first of these images in the epoch.
    """

    indices: Tensor
    views: Tensor
    seed: int
    start: int = 0

    def batches(self, batch_size: int) -> list["Draw"]:
        """This process's part of each batch."""
        sizes = batch_sizes(len(self.indices), batch_size, least=2 * distributed.world_size())
        places = [distributed.share(batch) for batch in torch.arange(len(self.indices)).split(sizes)]
        return [self._part(int(place[0]), int(place[-1]) + 1) for place in places]

    def shown(self, batch_size: int) -> tuple[Tensor, Tensor]:
        """Indices and views of all images that this process computes, (m,) each."""
        parts = self.batches(batch_size)
        return torch.cat([part.indices for part in parts]), torch.cat([part.views for part in parts])

    def _part(self, start: int, end: int) -> "Draw":
        return Draw(self.indices[start:end], self.views[start:end], self.seed, start)


class DeviceLoader:
    """Images on the device as one uint8 tensor; they are cropped, mirrored and normalised there."""

    def __init__(self, images: ImageSet, augmentation: str, normalize: Normalizer, device: torch.device) -> None:
        self.labels, self.device, self.views = images.labels, device, datasets.views(augmentation)
        self._images, self._normalize = images.to(device), normalize

    def __len__(self) -> int:
        return len(self.labels)

    def identity(self) -> tuple[Tensor, ...]:
        """Tensors that differ between two loaders with different normalised images."""
        return (*self._images.identity(), torch.tensor([self._normalize.mean, self._normalize.std]))

    def draw(self, sampler: str, seed: int) -> Draw:
        """The images of one epoch. sampler: a key of SAMPLERS."""
        generator = torch.Generator().manual_seed(seed)
        order = SAMPLERS[sampler](self.labels, generator).to(self.device)
        return Draw(order, self.views.draw(len(order), generator).to(self.device), seed)

    def batches(self, draw: Draw, batch_size: int) -> Iterator[Batch]:
        """This process's part of each batch of an epoch."""
        for indices, views, *_ in draw.batches(batch_size):
            yield Batch(self.make(indices, views), self._images.labels[indices], indices, views)

    def make(self, indices: Tensor, numbers: Tensor) -> Tensor:
        """Normalised views of images: indices and numbers of views, LongTensors (B,) -> (B, channels, H, W)."""
        return self._normalize(self.views.make(self._images.images[indices], numbers))

    def plain(self, batch_size: int = PLAIN_BATCH) -> Iterator[Tensor]:
        """All images in order, without augmentation: normalised tensors (batch_size, channels, H, W)."""
        return (self._normalize(images) for images in self._images.images.split(batch_size))


class StreamingLoader:
    """Images on disk, decoded by worker processes while the device computes."""

    views = None

    def __init__(
        self, images: ImageFiles, augmentation: str, normalize: Normalizer, device: torch.device, workers: int
    ) -> None:
        self.labels, self.device, self._files, self._augmentation = images.labels, device, images, augmentation
        self._normalize, self._workers = normalize, workers

    def __len__(self) -> int:
        return len(self.labels)

    def draw(self, sampler: str, seed: int) -> Draw:
        """The images of one epoch. sampler: a key of SAMPLERS."""
        return Draw(SAMPLERS[sampler](self.labels, torch.Generator().manual_seed(seed)), torch.empty(0), seed)

    def batches(self, draw: Draw, batch_size: int) -> Iterator[Batch]:
        """This process's part of each batch of an epoch; batches are decoded in advance."""
        parts = draw.batches(batch_size)
        indices, starts = [part.indices for part in parts], [part.start for part in parts]
        decoded = self._decoded(indices, starts=starts, seed=draw.seed, augment=self._augmentation)
        for own, images in zip(indices, decoded, strict=True):
            yield Batch(images, self.labels[own].to(self.device), own.to(self.device))

    def plain(self, batch_size: int = PLAIN_BATCH) -> Iterator[Tensor]:
        """All images in order, without augmentation: normalised tensors (batch_size, channels, H, W)."""
        return self._decoded(torch.arange(len(self)).split(batch_size))

    def _decoded(self, parts: Iterable[Tensor], **how: Any) -> Iterator[Tensor]:
        pixels = self._files.batches(parts, workers=self._workers, **how)
        return (self._normalize(images.to(self.device, non_blocking=True)) for images in pixels)


def batch_sizes(n: int, batch_size: int, least: int = 2) -> list[int]:
    """The sizes of the batches of n images. The last may be smaller; with fewer than `least` images it joins the batch
    before it, because BatchNorm and correlations need two images."""
    sizes = [batch_size] * (n // batch_size) + ([n % batch_size] if n % batch_size else [])
    if len(sizes) > 1 and sizes[-1] < min(least, batch_size):
        return [*sizes[:-2], batch_size + sizes[-1]]
    return sizes
