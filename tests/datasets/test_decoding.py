import math

import numpy as np
import pytest
import torch
from pictures import all_of, shades
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from ltkd.datasets import STREAMED, ImageFiles, decoding

SIDE = 32
every_augmentation = pytest.mark.parametrize("augment", STREAMED)


# --- kinds of files ---

COLOUR = (200, 120, 40)


def plain(mode, size):
    return Image.new("RGB", size, COLOUR).convert(mode)


def clear_palette(size):
    image = plain("P", size)
    image.info["transparency"] = bytes([0, 128] + [255] * 254)
    return image


KINDS = {
    "wide.jpg": lambda: plain("RGB", (90, 40)),
    "high.JPEG": lambda: plain("RGB", (40, 90)),
    "smaller than the crop.jpg": lambda: plain("RGB", (7, 5)),
    "a strip.png": lambda: plain("RGB", (100, 1)),
    "print.jpg": lambda: plain("CMYK", (50, 60)),
    "image.png": lambda: plain("RGB", (64, 64)),
    "palette.png": lambda: plain("P", (50, 40)),
    "clear palette.png": lambda: clear_palette((50, 40)),
    "clear.png": lambda: plain("RGBA", (50, 40)),
    "image.webp": lambda: plain("RGB", (50, 40)),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("augment", ["none", "imagenet-crop"])
@pytest.mark.parametrize("name", KINDS)
def test_files_of_every_kind_keep_their_colour(tmp_path, name, augment):
    KINDS[name]().save(tmp_path / name)
    image = all_of(ImageFiles([tmp_path / name], [0], SIDE), augment=augment)[0]
    assert (image.shape, image.dtype) == ((3, SIDE, SIDE), torch.uint8)
    assert (image.float().mean((1, 2)) - torch.tensor(COLOUR)).abs().max() <= 6  # the mean: palettes dither


@every_augmentation
def test_grey_images_stay_grey(tmp_path, augment):
    shades(60, 50).convert("L").save(tmp_path / "8 bits.jpg")
    Image.fromarray(np.arange(3600, dtype=np.uint16).reshape(60, 60) * 16).save(tmp_path / "16 bits.png")
    for red, green, blue in all_of(ImageFiles(sorted(tmp_path.iterdir()), [0, 0], SIDE), augment=augment):
        assert torch.equal(red, green)
        assert torch.equal(red, blue)
        assert red.float().std() > 10


# --- the middle, for tests ---


@pytest.mark.parametrize(("width", "height"), [(500, 375), (375, 500), (256, 256), (100, 90), (900, 300)])
def test_without_augmentation_an_image_is_scaled_to_256_and_cut_to_224_as_torchvision_does(tmp_path, width, height):
    shades(width, height).save(tmp_path / "0.jpg")
    image = all_of(ImageFiles([tmp_path / "0.jpg"], [0], 224))[0]
    transform = v2.Compose([v2.Resize(256), v2.CenterCrop(224)])
    with Image.open(tmp_path / "0.jpg") as original:
        assert torch.equal(image, transform(functional.pil_to_tensor(original)))
        on_pil = functional.pil_to_tensor(transform(original))
    assert (image.int() - on_pil.int()).abs().max() <= 1


def test_other_sizes_are_scaled_likewise(tmp_path):
    shades(67, 75).save(tmp_path / "0.jpg")
    with Image.open(tmp_path / "0.jpg") as original:
        expected = v2.Compose([v2.Resize(37), v2.CenterCrop(32)])(functional.pil_to_tensor(original))  # 37: 32 * 8/7
    assert torch.equal(all_of(ImageFiles([tmp_path / "0.jpg"], [0], SIDE))[0], expected)


# --- a random part, for training ---


@pytest.mark.parametrize(("width", "height"), [(500, 375), (30, 90), (1, 1), (400, 1), (3, 1000)])
def test_a_random_part_lies_in_the_image(width, height):
    for seed in range(200):
        left, top, right, bottom = decoding.random_box(width, height, np.random.default_rng(seed))
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height


@pytest.mark.parametrize(("size", "middle"), [((400, 100), (133, 0, 266, 100)), ((60, 600), (0, 260, 60, 340))])
def test_of_a_strip_the_largest_middle_part_is_taken(size, middle):
    class Unlucky:
        uniform = staticmethod(lambda low, high: high)  # the whole area, as wide as may be: never fits

    width, height = size
    if width < height:
        Unlucky.uniform = staticmethod(lambda low, high: low if low < 0 else high)
    assert decoding.random_box(*size, Unlucky) == middle


def test_random_parts_are_spread_as_torchvisions():
    image, n = torch.empty(3, 300, 400), 4000
    torch.manual_seed(0)
    transform = v2.RandomResizedCrop(SIDE)
    theirs = [transform.make_params([image]) for _ in range(n)]
    theirs = np.array([(p["left"], p["top"], p["left"] + p["width"], p["top"] + p["height"]) for p in theirs])
    ours = np.array([decoding.random_box(400, 300, np.random.default_rng((7, i))) for i in range(n)])
    np.testing.assert_allclose(ours.mean(0), theirs.mean(0), atol=6 * 100 / math.sqrt(n))
    np.testing.assert_allclose(ours.std(0), theirs.std(0), rtol=0.08)


def test_a_part_is_cropped_then_scaled(tmp_path):
    shades(90, 60).save(tmp_path / "0.png")
    with Image.open(tmp_path / "0.png") as image:
        part = decoding.scaled_part(image, (10, 20, 60, 50), SIDE)
        expected = functional.resized_crop(functional.pil_to_tensor(image), 20, 10, 30, 50, [SIDE, SIDE])
    assert torch.equal(part, expected)


def test_a_large_jpeg_decoded_at_a_fraction_looks_the_same(tmp_path):
    shades(1200, 900).save(tmp_path / "0.jpg")
    with Image.open(tmp_path / "0.jpg") as image:
        whole = functional.pil_to_tensor(image)
    with Image.open(tmp_path / "0.jpg") as image:
        part = decoding.scaled_part(image, (101, 203, 902, 804), SIDE)
        assert image.width == 150  # an eighth
    expected = functional.resized_crop(whole, 203, 101, 601, 801, [SIDE, SIDE])
    assert (part.int() - expected.int()).abs().float().mean() < 2


def test_about_half_of_the_parts_are_mirrored(tmp_path):
    ramp = np.tile(np.arange(0, 200, 2, dtype=np.uint8)[None, :, None], (50, 1, 3))
    Image.fromarray(ramp).save(tmp_path / "0.png")
    files = ImageFiles([tmp_path / "0.png"], [0], SIDE)
    images = next(files.batches([torch.zeros(200, dtype=torch.long)], augment="imagenet-crop")).float()
    mirrored = (images[..., 0] > images[..., -1]).all(2).all(1)
    assert 70 <= int(mirrored.sum()) <= 130


def test_jitter_varies_the_brightness_by_at_most_four_tenths(tmp_path):
    Image.new("RGB", (40, 40), (100, 100, 100)).save(tmp_path / "0.png")
    files = ImageFiles([tmp_path / "0.png"], [0], SIDE)
    images = next(files.batches([torch.zeros(100, dtype=torch.long)], augment="imagenet-crop-jitter"))
    assert images.amin() >= 59
    assert images.amax() <= 140
    assert images[:, 0, 0, 0].float().std() > 15


def test_jitter_is_torchvisions_but_for_rounding():
    image = functional.pil_to_tensor(shades(SIDE, SIDE))
    changed = decoding.jittered(image, 0.4, np.random.default_rng(3))
    draw = np.random.default_rng(3)
    names = ("adjust_brightness", "adjust_contrast", "adjust_saturation")
    for i in draw.permutation(3):
        image = getattr(functional, names[i])(image, draw.uniform(0.6, 1.4))
    assert (changed.int() - image.int()).abs().float().mean() < 2
