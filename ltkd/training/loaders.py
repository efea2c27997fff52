"""From one half of a data set to batches: drawn by a sampler, augmented, normalised, on the device."""

import os
from typing import NamedTuple

import torch

from .. import datasets
from .._support import distributed
from ..methods import Batch
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


class Drawn(NamedTuple):
    """What an epoch shows: indices (n,) of images in their order, and the view of each, or the seed of the crops."""

    indices: torch.Tensor
    views: torch.Tensor | None
    seed: int
    start: int = 0  # where in the epoch it begins

    def batches(self, batch_size):
        """What each batch shows, of which every process takes its part: [Drawn]."""
        sizes = batch_sizes(len(self.indices), batch_size, least=2 * distributed.world_size())
        places = [distributed.share(batch) for batch in torch.arange(len(self.indices)).split(sizes)]
        return [self._part(int(place[0]), int(place[-1]) + 1) for place in places]

    def _part(self, start, end):
        views = None if self.views is None else self.views[start:end]
        return Drawn(self.indices[start:end], views, self.seed, start)


class HeldFeed:
    """Images that lie on the device, and views of them."""

    def __init__(self, images, augmentation, normalize, device):
        self.labels, self.device, self.views = images.labels, device, datasets.views(augmentation)
        self._held, self._normalize = images.to(device), normalize

    def __len__(self):
        return len(self.labels)

    def identity(self):
        """The tensors that tell the pictures of this feed from those of any other."""
        return (*self._held.identity(), torch.tensor([self._normalize.mean, self._normalize.std]))

    def draw(self, sampler, seed):
        """What one epoch shows. sampler: a key of SAMPLERS."""
        generator = torch.Generator().manual_seed(seed)
        order = SAMPLERS[sampler](self.labels, generator).to(self.device)
        return Drawn(order, self.views.draw(len(order), generator).to(self.device), seed)

    def parts(self, drawn, batch_size):
        """What `batch` makes the batches of an epoch of: for each, what it shows."""
        return drawn.batches(batch_size)

    def batch(self, part):
        """The Batch of a part."""
        images = self.make(part.indices, part.views)
        return Batch(images, self._held.labels[part.indices], part.indices, part.views)

    def make(self, indices, numbers):
        """Normalised views of images: LongTensors (B,) -> (B, channels, H, W)."""
        return self._normalize(self.views.make(self._held.images[indices], numbers))

    def plain(self, batch_size=PLAIN_BATCH):
        """All images in order, without augmentation: normalised tensors (batch_size, channels, H, W)."""
        return (self._normalize(images) for images in self._held.images.split(batch_size))


class StreamedFeed:
    """Images that stay on disk, decoded by worker processes while the device computes."""

    views = None

    def __init__(self, images, augmentation, normalize, device, workers):
        self.labels, self.device, self._files, self._augmentation = images.labels, device, images, augmentation
        self._normalize, self._workers = normalize, workers

    def __len__(self):
        return len(self.labels)

    def draw(self, sampler, seed):
        """What one epoch shows. sampler: a key of SAMPLERS."""
        return Drawn(SAMPLERS[sampler](self.labels, torch.Generator().manual_seed(seed)), None, seed)

    def parts(self, drawn, batch_size):
        """What `batch` makes the batches of an epoch of: the batches themselves, which are decoded ahead."""
        batches = drawn.batches(batch_size)
        parts, starts = [batch.indices for batch in batches], [batch.start for batch in batches]
        decoded = self._decoded(parts, starts=starts, seed=drawn.seed, augment=self._augmentation)
        for indices, images in zip(parts, decoded, strict=True):
            yield Batch(images, self.labels[indices].to(self.device), indices.to(self.device))

    def batch(self, part):
        """The Batch of a part."""
        return part

    def plain(self, batch_size=PLAIN_BATCH):
        """All images in order, without augmentation: normalised tensors (batch_size, channels, H, W)."""
        return self._decoded(torch.arange(len(self)).split(batch_size))

    def _decoded(self, parts, **how):
        pixels = self._files.batches(parts, workers=self._workers, **how)
        return (self._normalize(images.to(self.device, non_blocking=True)) for images in pixels)


def batch_sizes(n, batch_size, least=2):
    """The sizes of the batches of n images. The last may be smaller, but one of fewer than `least` images joins the
    batch before: of a single image BatchNorm and correlations make nothing."""
    sizes = [batch_size] * (n // batch_size) + ([n % batch_size] if n % batch_size else [])
    if len(sizes) > 1 and sizes[-1] < min(least, batch_size):
        return [*sizes[:-2], batch_size + sizes[-1]]
    return sizes
