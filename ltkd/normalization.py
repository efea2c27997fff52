"""Mean and standard deviation a channel, by which images are normalised before they enter a network."""

import torch

NORMALIZATIONS = {
    "data": None,  # computed from the training images at hand
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "tiny-imagenet": ((0.4802, 0.4481, 0.3975), (0.2302, 0.2265, 0.2262)),
}


class Normalizer:
    """uint8 images (B, C, H, W) -> float32, (x / 255 - mean) / std, channels last in memory."""

    def __init__(self, mean, std):
        self.mean, self.std = list(mean), list(std)

    @classmethod
    def named(cls, name, train_images):
        """The normalisation called `name`, a key of NORMALIZATIONS; 'data' is computed from `train_images`."""
        if NORMALIZATIONS[name] is not None:
            return cls(*NORMALIZATIONS[name])
        pixels = train_images.transpose(0, 1).flatten(1).double() / 255
        return cls(pixels.mean(1).tolist(), pixels.std(1).clamp_min(1 / 255).tolist())

    def __call__(self, images):
        scale = torch.tensor([255 * s for s in self.std], device=images.device).view(1, -1, 1, 1)
        shift = torch.tensor([m / s for m, s in zip(self.mean, self.std, strict=True)], device=images.device)
        return (images.float() / scale - shift.view(1, -1, 1, 1)).contiguous(memory_format=torch.channels_last)
