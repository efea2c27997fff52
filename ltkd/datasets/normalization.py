"""Mean and standard deviation of each channel, by which images are normalised before they enter a network."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import ConfigError

NORMALIZATIONS = {
    "data": None,  # computed from the training images at hand
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "inaturalist": ((0.466, 0.471, 0.380), (0.195, 0.194, 0.192)),
    "tiny-imagenet": ((0.4802, 0.4481, 0.3975), (0.2302, 0.2265, 0.2262)),
}


class Normalizer:
    """uint8 images (B, C, H, W) -> float32 (B, C, H, W), (x / 255 - mean) / std, channels last in memory.

    mean, std: one number a channel, for pixels from 0 to 1. Raises ConfigError for another number of channels.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self.mean, self.std = list(mean), list(std)
        self._on_device: dict[torch.device, tuple[Tensor, Tensor]] = {}

    @classmethod
    def of(cls, images: Tensor) -> "Normalizer":
        """The normalisation by which these images, uint8 (N, C, H, W), have mean 0 and deviation 1 in each channel."""
        levels = torch.arange(256, dtype=torch.float64) / 255
        shares = torch.stack([torch.bincount(x.flatten(), minlength=256) for x in images.unbind(1)]).double()
        shares /= shares.sum(1, keepdim=True)
        mean = shares @ levels
        std = (shares @ levels**2 - mean**2).clamp_min(0).sqrt().clamp_min(1 / 255)
        return cls(mean.tolist(), std.tolist())

    def __call__(self, images: Tensor) -> Tensor:
        if images.shape[1] != len(self.mean):
            raise ConfigError(
                f"the normalization has a mean and a deviation for each of {len(self.mean)} channels, but these images "
                f"have {images.shape[1]}: choose normalization = 'data', which is computed from the images themselves"
            )
        if images.device not in self._on_device:  # made once, since a copy to a GPU at every step would stall it
            mean, std = (torch.tensor(v, device=images.device).view(1, -1, 1, 1) for v in (self.mean, self.std))
            self._on_device[images.device] = 255 * std, mean / std
        scale, shift = self._on_device[images.device]
        return (images.float() / scale - shift).contiguous(memory_format=torch.channels_last)
