"""From one half of a data set to batches: drawn by a sampler, augmented, normalised, on the device."""

import os

import torch

from . import datasets
from .methods import Batch
from .sampling import SAMPLERS

PLAIN_BATCH = 500  # images without augmentation, which need no memory for gradients


def feed(images, augmentation, normalize, device, workers=None):
    """The feed of an ImageSet or of ImageFiles.

    augmentation: a key of AUGMENTATIONS; normalize: a Normalizer; workers: processes that decode images on disk
    (default: one a core, at most 16).
    """
    datasets.check_augmentation(augmentation, images.streamed)
    if images.streamed:
        return StreamedFeed(images, augmentation, normalize, device, default_workers() if workers is None else workers)
    return HeldFeed(images, augmentation, normalize, device)


def default_workers():
    """Processes that decode images: one a core that this process may use, at most 16."""
    return min(16, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


class HeldFeed:
    """Images that lie on the device, and views of them."""

    def __init__(self, images, augmentation, normalize, device):
        self.labels, self._held = images.labels, images.to(device)
        self._views, self._normalize, self._device = datasets.views(augmentation), normalize, device

    def __len__(self):
        return len(self.labels)

    def batches(self, sampler, batch_size, seed):
        """The batches of one epoch, drawn with the given seed. sampler: a key of SAMPLERS."""
        generator = torch.Generator().manual_seed(seed)
        order = SAMPLERS[sampler](self.labels, generator).to(self._device)
        views = self._views.draw(len(order), generator).to(self._device)
        sizes = batch_sizes(len(order), batch_size)
        for indices, numbers in zip(order.split(sizes), views.split(sizes), strict=True):
            images = self._views.make(self._held.images[indices], numbers)
            yield Batch(self._normalize(images), self._held.labels[indices], indices)

    def plain(self, batch_size=PLAIN_BATCH):
        """All images in order, without augmentation: normalised tensors (batch_size, channels, H, W)."""
        return (self._normalize(images) for images in self._held.images.split(batch_size))


class StreamedFeed:
    """Images that stay on disk, decoded by worker processes while the device computes."""

    def __init__(self, images, augmentation, normalize, device, workers):
        self.labels, self._files, self._augmentation = images.labels, images, augmentation
        self._normalize, self._device, self._workers = normalize, device, workers

    def __len__(self):
        return len(self.labels)

    def batches(self, sampler, batch_size, seed):
        """The batches of one epoch, drawn with the given seed. sampler: a key of SAMPLERS."""
        order = SAMPLERS[sampler](self.labels, torch.Generator().manual_seed(seed))
        parts = order.split(batch_sizes(len(order), batch_size))
        decoded = self._decoded(parts, seed=seed, augment=self._augmentation)
        for indices, images in zip(parts, decoded, strict=True):
            yield Batch(images, self.labels[indices].to(self._device), indices.to(self._device))

    def plain(self, batch_size=PLAIN_BATCH):
        """All images in order, without augmentation: normalised tensors (batch_size, channels, H, W)."""
        return self._decoded(torch.arange(len(self)).split(batch_size))

    def _decoded(self, parts, **how):
        pixels = self._files.batches(parts, workers=self._workers, **how)
        return (self._normalize(images.to(self._device, non_blocking=True)) for images in pixels)


def batch_sizes(n, batch_size):
    """The sizes of the batches of n images. The last may be smaller, but a single image, of which BatchNorm and
    correlations make nothing, joins the batch before."""
    sizes = [batch_size] * (n // batch_size) + ([n % batch_size] if n % batch_size else [])
    if len(sizes) > 1 and sizes[-1] == 1 < batch_size:
        return [*sizes[:-2], batch_size + 1]
    return sizes
