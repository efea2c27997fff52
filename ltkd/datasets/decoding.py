"""From image files of any common kind to RGB pixels."""

from contextlib import contextmanager

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..errors import DataError

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".tif", ".tiff"}
DAMAGE = (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError)


@contextmanager
def opened(file, description):
    """The PIL image in `file`; whatever goes wrong in opening or decoding it is an error that names it."""
    try:
        with Image.open(file) as image:
            yield image
    except DAMAGE as error:
        raise DataError(f"{description} cannot be decoded ({error}); remove it or fetch it again") from error


def rgb(image):
    """The image in 8-bit RGB, whatever it was."""
    if image.mode.startswith("I"):  # 16 bits of grey, which convert() would cut off at 255
        image = Image.fromarray((np.asarray(image).astype(np.int32) >> 8).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:  # else PIL warns
        image = image.convert("RGBA")
    image.load()
    return image if image.mode == "RGB" else image.convert("RGB")


def decode(file, description, image_size):
    """The RGB image in `file`, cut to a square of `image_size` pixels if that is given."""
    with opened(file, description) as image:
        return resize(rgb(image), image_size)


def resize(image, image_size):
    """Scale the shorter side to `image_size`, then cut out the middle."""
    if image_size is None or image.size == (image_size, image_size):
        return image
    scale = image_size / min(image.size)
    width, height = (max(image_size, round(side * scale)) for side in image.size)
    left, top = (width - image_size) // 2, (height - image_size) // 2
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    return image.crop((left, top, left + image_size, top + image_size))
