"""What becomes of an image file on its way to a network: a random part of it, or its middle, scaled to a square."""

import math

import numpy as np
import torch
from torchvision.transforms.v2 import functional

from .decoding import opened, rgb

MARGIN = 256 / 224  # of the middle of an image: the shorter side is scaled to so many times the square's
AREA, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)  # of a random part: share of the image's area, width over height
TRIES = 10


def read(path, crop, side, draw):
    """The image in `path` as uint8 (3, side, side). crop: a Crop; draw: the numpy generator of its random numbers."""
    with opened(path, path) as image:
        if not crop.random:
            return middle(image, side)
        part = scaled_part(image, random_box(*image.size, draw), side)
    if draw.random() < 0.5:
        part = functional.horizontal_flip(part)
    return jittered(part, crop.jitter, draw) if crop.jitter else part


def middle(image, side):
    """Scale the shorter side to 256 pixels for a square of 224, likewise for others, and cut out the middle."""
    scaled = functional.resize(_pixels(rgb(image)), [round(side * MARGIN)], antialias=True)
    return functional.center_crop(scaled, [side, side])


def random_box(width, height, draw):
    """A random part of an image: left, top, right, bottom.

    Its share of the area is uniform in AREA, its aspect ratio log-uniform in RATIO. Where no such part fits, the
    largest middle part whose ratio lies in RATIO (Szegedy et al. 2015, as torchvision's RandomResizedCrop).
    """
    for _ in range(TRIES):
        area = width * height * draw.uniform(*AREA)
        ratio = math.exp(draw.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(draw.integers(width - w + 1)), int(draw.integers(height - h + 1))
            return left, top, left + w, top + h
    w, h = min(width, round(height * RATIO[1])), min(height, round(width / RATIO[0]))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def scaled_part(image, box, side):
    """The part of an opened image that lies in `box`, scaled to uint8 (3, side, side)."""
    left, top, right, bottom = box
    width = image.width
    # A JPEG can be decoded at a half, a quarter or an eighth: wherever the part keeps at least `side` pixels.
    image.draft("RGB", (width * side // (right - left), image.height * side // (bottom - top)))
    scale = image.width / width
    part = rgb(image).crop(tuple(round(x * scale) for x in box))
    return functional.resize(_pixels(part), [side, side], antialias=True).contiguous()


def jittered(image, jitter, draw):
    """Brightness, contrast and saturation, each times a random factor of 1 ± jitter, in random order."""
    image = functional.to_dtype(image, torch.float32, scale=True)
    changes = functional.adjust_brightness, functional.adjust_contrast, functional.adjust_saturation
    for i in draw.permutation(len(changes)):
        image = changes[i](image, draw.uniform(1 - jitter, 1 + jitter))
    return functional.to_dtype(image, torch.uint8, scale=True)


def _pixels(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)
