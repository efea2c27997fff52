"""From image files of any common kind to RGB pixels: the whole of an image, its middle, or a random part of it."""

import io
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from ..errors import DataError
from .augmentation import Crop

FORMATS = {"AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM", "TGA", "TIFF", "WEBP"}
DAMAGE = (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError)
MARGIN = 256 / 224  # for the middle of an image, the shorter side is scaled to this many times the square's
AREA, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)  # of a random part: share of the image's area, width over height
LONGEST = 8  # longer side over shorter side of what is scaled to take its middle
TRIES = 10
SIXTEEN_BITS = 65535.0
OVERSHOOT = 1e-3  # by which floats may exceed white, as after resizing; they become white
PREMULTIPLIED = {"La": "LA", "RGBa": "RGBA"}  # which convert() turns into these alone

SHOWN = 3  # images named in an error about many

ImageFile = str | os.PathLike[str] | io.BytesIO


@cache
def image_suffixes() -> frozenset[str]:
    """The ends of the names of image files that are read, in lower case: of all common formats that Pillow reads."""
    suffixes = Image.registered_extensions()
    return frozenset(suffix for suffix, name in suffixes.items() if name in FORMATS and name in Image.OPEN)


def is_image(name: str) -> bool:
    """True for the name of an image file."""
    return os.path.splitext(name)[1].lower() in image_suffixes()


@contextmanager
def opened(file: ImageFile, description: str | os.PathLike[str]) -> Iterator[Image.Image]:
    """The PIL image in `file`. Any error in opening or decoding it is a DataError that begins with `description`."""
    try:
        with Image.open(file) as image:
            yield image
    except DAMAGE as error:
        raise DataError(f"{description} cannot be decoded ({reason(error)}); remove it or fetch it again") from error


def reason(error: BaseException | None) -> str:
    """Why an image cannot be decoded, in a few words."""
    if isinstance(error, UnidentifiedImageError):
        return "it is no image of a known kind"
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    return str(error) or type(error).__name__


def rgb(image: Image.Image, white: float | None = None) -> Image.Image:
    """The image in 8-bit RGB, from any mode. white: the value of white in an image of more than 8 bits a pixel."""
    if is_deep(image):  # convert() would cut it off at 255
        if white is None and image.mode == "F":
            raise ValueError("it has pixels of floats, and nothing says which of them is white")
        image = Image.fromarray(eight_bits(np.asarray(image), white or SIXTEEN_BITS))
    if image.mode == "P" and "transparency" in image.info:  # else PIL warns
        image = image.convert("RGBA")
    if image.mode in PREMULTIPLIED:
        image = image.convert(PREMULTIPLIED[image.mode])
    image.load()
    return image if image.mode == "RGB" else image.convert("RGB")


def is_deep(image: Image.Image) -> bool:
    """True for an image of one channel with more than 8 bits a pixel: whole numbers of 16 or 32 bits, or floats."""
    return image.mode[0] in "IF"


def white_of(low: float, high: float) -> float:
    """The value that becomes white, for all images of a data set whose values lie between `low` and `high`: the largest
    number of as many bits as `high` needs, such as 4095 for 12-bit data, and 1 for floats up to 1.

    Raises ValueError for values that have no such number: some negative, infinite or NaN, or all 0.
    """
    if not (low >= 0 and 0 < high < math.inf):  # NaN fails too
        raise ValueError(
            f"pixel values from {low:g} to {high:g} have no known black and white; use finite values of at least 0"
        )
    return float(2 ** max(1, math.ceil(high - OVERSHOOT)).bit_length() - 1)


def eight_bits(values: np.ndarray, white: float) -> np.ndarray:
    """Values from 0 to `white` as uint8 from 0 to 255."""
    return np.rint(np.clip(values, 0, white) * (255 / white)).astype(np.uint8)


def upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF data say; the image itself, not yet decoded, where they say nothing."""
    if image.getexif().get(ExifTags.Base.Orientation, 1) == 1:
        return image
    return ImageOps.exif_transpose(image)


def decode(
    file: ImageFile, description: str | os.PathLike[str], image_size: int | None, white: float | None = None
) -> Image.Image:
    """The RGB image in `file`, upright, resized to a square of `image_size` pixels a side if that is given.

    white: as in `rgb`. Raises DataError that begins with `description` if it cannot be decoded.
    """
    with opened(file, description) as image:
        return resize(rgb(upright(image), white), image_size)


def decode_all(
    files: Sequence[tuple[ImageFile, str]], image_size: int | None, white: float | None = None
) -> list[Image.Image]:
    """`decode` for files with their descriptions. Raises one DataError about all that cannot be decoded."""
    images, faults = [], []
    for file, description in files:
        try:
            images.append(decode(file, description, image_size, white))
        except DataError as error:
            faults.append((description, reason(error.__cause__)))
    refuse(faults, len(files))
    return images


def fault(file: str) -> tuple[str, str] | None:
    """The file and why it cannot be decoded; None if it can."""
    try:
        with opened(file, file) as image:
            image.load()
    except DataError as error:
        return file, reason(error.__cause__)
    return None


def refuse(faults: Sequence[tuple[str, str]], images: int) -> None:
    """Raise DataError for images that cannot be decoded, if there are any. faults: names and reasons; images: of how
    many."""
    shown = [f"{name} cannot be decoded ({reason})" for name, reason in faults[:SHOWN]]
    if len(faults) == 1:
        raise DataError(f"{shown[0]}; remove it or fetch it again")
    if faults:
        more = f", and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise DataError(
            f"{len(faults)} of {images} images are damaged: {', '.join(shown)}{more}; remove them or fetch them again"
        )


def resize(image: Image.Image, image_size: int | None) -> Image.Image:
    """Scale the shorter side to `image_size`, then cut out the middle; without an image size, the image itself."""
    if image_size is None or image.size == (image_size, image_size):
        return image
    image = without_ends(image)
    scale = image_size / min(image.size)
    width, height = (max(image_size, round(side * scale)) for side in image.size)
    left, top = (width - image_size) // 2, (height - image_size) // 2
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    return image.crop((left, top, left + image_size, top + image_size))


def without_ends(image: Image.Image) -> Image.Image:
    """The middle of an image that is very long for its width, else the image itself. A square from the middle does not
    show the ends, and they would take gigabytes once the shorter side is scaled up."""
    longest = LONGEST * min(image.size)
    left, top = (max(0, (side - longest) // 2) for side in image.size)
    return image.crop((left, top, image.width - left, image.height - top)) if left or top else image


# --- images that stay on disk ------------------------------------------------------------------------------------


def decode_crop(path: str, crop: Crop, side: int, draw: np.random.Generator, white: float | None = None) -> Tensor:
    """The image in `path`, upright, cropped to a square: uint8 (3, side, side).

    crop: which part. draw: the source of its random numbers. white: as in `rgb`. Raises DataError that names the file
    if it is damaged.
    """
    with opened(path, path) as file:
        image = upright(file)
        if not crop.random:
            return middle(image, side, white)
        part = scaled_part(image, random_box(*image.size, draw), side, white)
    if draw.random() < 0.5:
        part = functional().horizontal_flip(part)
    return jittered(part, crop.jitter, draw) if crop.jitter else part


def middle(image: Image.Image, side: int, white: float | None = None) -> Tensor:
    """The middle of an image as uint8 (3, side, side): for a square of 224 pixels, the shorter side is scaled to 256;
    for other squares in proportion."""
    scaled = functional().resize(_pixels(without_ends(rgb(image, white))), [round(side * MARGIN)], antialias=True)
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


def scaled_part(image: Image.Image, box: tuple[int, int, int, int], side: int, white: float | None = None) -> Tensor:
    """The part of an opened image that lies in `box` (left, top, right, bottom), scaled to uint8 (3, side, side)."""
    left, top, right, bottom = box
    width = image.width
    # A JPEG can be decoded at a half, a quarter or an eighth, as long as the part keeps at least `side` pixels.
    image.draft("RGB", (width * side // (right - left), image.height * side // (bottom - top)))
    scale = image.width / width
    left, top, right, bottom = (round(x * scale) for x in box)
    part = rgb(image, white).crop((left, top, right, bottom))
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
