"""From a data set to the batches of an epoch: drawn by a sampler, augmented, normalised, on the device."""

import torch

from . import datasets
from .methods import Batch
from .sampling import SAMPLERS


class Feed:
    """The images of one half of a data set, kept on the device.

    images: an ImageSet; augmentation: a key of AUGMENTATIONS; normalize: a Normalizer.
    """

    def __init__(self, images, augmentation, normalize, device):
        self.labels, self.device = images.labels, device
        self._held, self._normalize = images.to(device), normalize
        self._views = datasets.views(augmentation)

    def __len__(self):
        return len(self.labels)

    def batches(self, sampler, batch_size, seed):
        """The batches of one epoch, drawn with the given seed. sampler: a key of SAMPLERS. The last may be smaller."""
        generator = torch.Generator().manual_seed(seed)
        order = SAMPLERS[sampler](self.labels, generator).to(self.device)
        views = self._views.draw(len(order), generator).to(self.device)
        sizes = batch_sizes(len(order), batch_size)
        for indices, numbers in zip(order.split(sizes), views.split(sizes), strict=True):
            images = self._views.make(self._held.images[indices], numbers)
            yield Batch(self._normalize(images), self._held.labels[indices], indices)

    def plain(self, batch_size=500):
        """All images in order, without augmentation: normalised tensors (batch_size, channels, H, W)."""
        return (self._normalize(images) for images in self._held.images.split(batch_size))


def batch_sizes(n, batch_size):
    """The sizes of the batches of n images. The last may be smaller, but a single image, of which BatchNorm and
    correlations make nothing, joins the batch before."""
    sizes = [batch_size] * (n // batch_size) + ([n % batch_size] if n % batch_size else [])
    if len(sizes) > 1 and sizes[-1] == 1 < batch_size:
        return [*sizes[:-2], batch_size + 1]
    return sizes
