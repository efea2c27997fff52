"""Augmentations by name. For images in memory, each is a finite set of numbered views.

The standard augmentations of small images are finite: crops of an image padded by 4 pixels, mirrored or not, are
9 x 9 x 2 = 162 views. So an augmented batch is images plus view numbers, computed on the device for the whole batch at
once, and the logits of a frozen teacher for a view can be stored. Large images, which stay on disk, are cropped at
random while they are decoded.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ConfigError, unknown


@dataclass(frozen=True)
class Views:
    """All crops of an image with `padding` zero pixels around it, mirrored or not, rotated by whole degrees.

    padding: pixels on each side. flip: also mirror images. degrees: rotate by -degrees to +degrees.
    """

    padding: int = 0
    flip: bool = False
    degrees: int = 0

    @property
    def count(self) -> int:
        """The number of views of an image."""
        return self._side**2 * (1 + self.flip) * (2 * self.degrees + 1)

    @property
    def _side(self) -> int:
        return 2 * self.padding + 1

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """n random view numbers: LongTensor (n,) on the generator's device."""
        return torch.randint(self.count, (n,), generator=generator, device=generator.device)

    def make(self, images: Tensor, views: Tensor) -> Tensor:
        """The numbered view of each image: uint8 (B, C, H, W), LongTensor (B,) -> uint8 (B, C, H, W)."""
        rest, top = views // self._side, views % self._side
        rest, left = rest // self._side, rest % self._side
        angle, flip = rest // (1 + self.flip), rest % (1 + self.flip)
        if self.degrees:
            images = _rotate(images, angle - self.degrees)
        if self.padding or self.flip:
            images = _crop_and_flip(images, top, left, flip.bool(), self.padding)
        return images


@dataclass(frozen=True)
class Crop:
    """How an image on disk becomes a square: its middle, or (random) a random part of it, mirrored or not.

    jitter: brightness, contrast and saturation of a random part change by a factor of up to 1 ± jitter.
    """

    random: bool = True
    jitter: float = 0.0


NUMBERED = {
    "none": Views(),
    "crop1": Views(padding=1),  # 9 views: 8 x 8 digits, which must not be mirrored
    "crop2-flip": Views(padding=2, flip=True),  # 50 views: CIFAR at half its size
    "crop4-flip": Views(padding=4, flip=True),  # 162 views: CIFAR
    "rotate20-flip": Views(degrees=20, flip=True),  # 82 views: TinyImageNet in the distillation field
}
STREAMED = {
    "none": Crop(random=False),
    "imagenet-crop": Crop(),  # ImageNet, as everybody trains on it
    "imagenet-crop-jitter": Crop(jitter=0.4),  # ImageNet-LT and Places-LT in OLTR and all who follow it
}
AUGMENTATIONS = tuple(NUMBERED | STREAMED)


def views(name: str) -> Views:
    """The views of an augmentation of images in memory. Raises ConfigError unless `name` is a key of NUMBERED."""
    check_augmentation(name, streamed=False)
    return NUMBERED[name]


def streamed_crop(name: str) -> Crop:
    """The crop of an augmentation of images on disk. Raises ConfigError unless `name` is a key of STREAMED."""
    check_augmentation(name, streamed=True)
    return STREAMED[name]


def check_augmentation(name: str, streamed: bool) -> None:
    """Raise ConfigError unless the augmentation called `name` is one for images on disk (streamed) or in memory."""
    fitting, where = (tuple(STREAMED), "read from disk") if streamed else (tuple(NUMBERED), "held in memory")
    if name not in AUGMENTATIONS:
        raise unknown("augmentation", name, fitting)
    if name not in fitting:
        raise ConfigError(f"augmentation {name!r} is not for images that are {where}; choose {', '.join(fitting)}")


def _crop_and_flip(images: Tensor, top: Tensor, left: Tensor, flip: Tensor, padding: int) -> Tensor:
    """Crop at (top, left) of the padded image, then mirror: one gather for the whole batch."""
    height, width = images.shape[2:]
    rows = top[:, None] + torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device).expand(len(images), width)
    columns = left[:, None] + torch.where(flip[:, None], width - 1 - columns, columns)
    batch = torch.arange(len(images), device=images.device)[:, None, None]
    padded = F.pad(images, (padding,) * 4)
    return padded.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Rotate each image counter-clockwise about its centre, nearest pixel, zeros outside."""
    radians = torch.deg2rad(degrees.float())
    cos, sin, zero = radians.cos(), radians.sin(), torch.zeros_like(radians)
    matrix = torch.stack([torch.stack([cos, -sin, zero], 1), torch.stack([sin, cos, zero], 1)], 1)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images.float(), grid, mode="nearest", align_corners=False).to(images.dtype)
