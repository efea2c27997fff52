"""From image files of any common kind to RGB pixels: the whole of an image, its middle, or a random part of it."""

import io
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from ..errors import DataError
from .augmentation import Crop

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".tif", ".tiff"}
DAMAGE = (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError)
MARGIN = 256 / 224  # for the middle of an image, the shorter side is scaled to this many times the square's
AREA, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)  # of a random part: share of the image's area, width over height
TRIES = 10

ImageFile = str | os.PathLike[str] | io.BytesIO


@contextmanager
def opened(file: ImageFile, description: str | os.PathLike[str]) -> Iterator[Image.Image]:
    """The PIL image in `file`. Any error in opening or decoding it is a DataError that begins with `description`."""
    try:
        with Image.open(file) as image:
            yield image
    except DAMAGE as error:
        raise DataError(f"{description} cannot be decoded ({error}); remove it or fetch it again") from error


def rgb(image: Image.Image) -> Image.Image:
    """The image in 8-bit RGB, from any mode."""
    if image.mode.startswith("I"):  # 16 bits of grey, which convert() would cut off at 255
        image = Image.fromarray((np.asarray(image).astype(np.int32) >> 8).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:  # else PIL warns
        image = image.convert("RGBA")
    image.load()
    return image if image.mode == "RGB" else image.convert("RGB")


def decode(file: ImageFile, description: str | os.PathLike[str], image_size: int | None) -> Image.Image:
    """The RGB image in `file`, resized to a square of `image_size` pixels a side if that is given.

    Raises DataError that begins with `description` if it cannot be decoded.
    """
    with opened(file, description) as image:
        return resize(rgb(image), image_size)


def resize(image: Image.Image, image_size: int | None) -> Image.Image:
    """Scale the shorter side to `image_size`, then cut out the middle; without an image size, the image itself."""
    if image_size is None or image.size == (image_size, image_size):
        return image
    scale = image_size / min(image.size)
    width, height = (max(image_size, round(side * scale)) for side in image.size)
    left, top = (width - image_size) // 2, (height - image_size) // 2
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    return image.crop((left, top, left + image_size, top + image_size))


# --- images that stay on disk ------------------------------------------------------------------------------------


def decode_crop(path: str, crop: Crop, side: int, draw: np.random.Generator) -> Tensor:
    """The image in `path`, cropped to a square: uint8 (3, side, side).

    crop: which part. draw: the source of its random numbers. Raises DataError that names the file if it is damaged.
    """
    with opened(path, path) as image:
        if not crop.random:
            return middle(image, side)
        part = scaled_part(image, random_box(*image.size, draw), side)
    if draw.random() < 0.5:
        part = functional().horizontal_flip(part)
    return jittered(part, crop.jitter, draw) if crop.jitter else part


def middle(image: Image.Image, side: int) -> Tensor:
    """The middle of an image as uint8 (3, side, side): for a square of 224 pixels, the shorter side is scaled to 256;
    for other squares in proportion."""
    scaled = functional().resize(_pixels(rgb(image)), [round(side * MARGIN)], antialias=True)
    return functional().center_crop(scaled, [side, side])


def random_box(width: int, height: int, draw: np.random.Generator) -> tuple[int, int, int, int]:
    """A random part of an image: left, top, right, bottom.

    Its share of the area is uniform in AREA, its aspect ratio log-uniform in RATIO. If no such part fits, the largest
    middle part whose ratio lies in RATIO (Szegedy et al. 2015, as torchvision's RandomResizedCrop).
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


def scaled_part(image: Image.Image, box: tuple[int, int, int, int], side: int) -> Tensor:
    """The part of an opened image that lies in `box` (left, top, right, bottom), scaled to uint8 (3, side, side)."""
    left, top, right, bottom = box
    width = image.width
    # A JPEG can be decoded at a half, a quarter or an eighth, as long as the part keeps at least `side` pixels.
    image.draft("RGB", (width * side // (right - left), image.height * side // (bottom - top)))
    scale = image.width / width
    left, top, right, bottom = (round(x * scale) for x in box)
    part = rgb(image).crop((left, top, right, bottom))
    return functional().resize(_pixels(part), [side, side], antialias=True).contiguous()


def jittered(image: Tensor, jitter: float, draw: np.random.Generator) -> Tensor:
    """A uint8 image (3, H, W) with its brightness, contrast and saturation each times a random factor of 1 ± jitter, in
    random order."""
    tv = functional()
    image = tv.to_dtype(image, torch.float32, scale=True)
    changes = tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation
    for i in draw.permutation(len(changes)):
        image = changes[i](image, draw.uniform(1 - jitter, 1 + jitter))
    return tv.to_dtype(image, torch.uint8, scale=True)


@cache
def functional() -> Any:
    """torchvision's functions on images. Importing them costs a second, and only images on disk need them."""
    from torchvision.transforms.v2 import functional

    return functional


def _pixels(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)
