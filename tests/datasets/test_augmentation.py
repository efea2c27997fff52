import pytest
import torch

from ltkd import ConfigError
from ltkd.datasets import AUGMENTATIONS, NUMBERED, STREAMED, Views, check_augmentation, views

every_augmentation = pytest.mark.parametrize("name", NUMBERED)


def pictures(n, channels=3, size=10, seed=0):
    """Random images without a black pixel, so that padding shows."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, 256, (n, channels, size, size), dtype=torch.uint8, generator=generator)


def crop_and_flip(image, top, left, flip, padding):
    """One view of one picture, with slices."""
    channels, height, width = image.shape
    padded = torch.zeros(channels, height + 2 * padding, width + 2 * padding, dtype=torch.uint8)
    padded[:, padding : padding + height, padding : padding + width] = image
    crop = padded[:, top : top + height, left : left + width]
    return crop.flip(2) if flip else crop


@pytest.mark.parametrize(("name", "count"), [("crop4-flip", 162), ("crop1", 9), ("rotate20-flip", 82), ("none", 1)])
def test_an_image_has_so_many_views(name, count):
    assert views(name).count == count


@pytest.mark.parametrize(("padding", "flip", "channels"), [(4, True, 3), (1, False, 1), (2, True, 3), (0, True, 3)])
def test_every_view_is_its_crop_of_the_padded_picture_then_its_flip(padding, flip, channels):
    numbered, side = Views(padding=padding, flip=flip), 2 * padding + 1
    images = pictures(numbered.count, channels)
    made = numbered.make(images, torch.arange(numbered.count))
    for view in range(numbered.count):
        flipped, rest = divmod(view, side * side)
        left, top = divmod(rest, side)
        assert torch.equal(made[view], crop_and_flip(images[view], top, left, flipped, padding))


@pytest.mark.parametrize("name", ["crop1", "crop4-flip"])
def test_all_crops_of_a_picture_differ_and_one_is_the_picture_itself(name):
    picture, count = pictures(1), views(name).count
    made = views(name).make(picture.expand(count, -1, -1, -1), torch.arange(count))
    assert len({view.numpy().tobytes() for view in made}) == count
    assert sum(torch.equal(view, picture[0]) for view in made) == 1


def test_the_only_view_without_augmentation_is_the_picture_itself():
    assert torch.equal(views("none").make(pictures(2), torch.tensor([0, 0])), pictures(2))


@every_augmentation
def test_views_keep_shape_and_type_and_the_images_given(name):
    images = pictures(5)
    before = images.clone()
    made = views(name).make(images, views(name).draw(5, torch.Generator().manual_seed(0)))
    assert (made.shape, made.dtype) == (images.shape, torch.uint8)
    assert torch.equal(images, before)


def test_rotation_by_no_degrees_is_the_identity():
    images = pictures(2)
    rotations = Views(degrees=20)
    assert torch.equal(rotations.make(images, torch.tensor([20, 20])), images)


@pytest.mark.parametrize(("view", "turns"), [(0, -1), (90, 0), (180, 1)])
def test_rotation_is_counter_clockwise_from_minus_to_plus(view, turns):
    images = pictures(1)
    assert torch.equal(Views(degrees=90).make(images, torch.tensor([view])), images.rot90(turns, (2, 3)))


def test_opposite_rotations_of_a_symmetric_picture_mirror_each_other():
    half = pictures(1, size=16)
    picture = torch.cat([half, half.flip(3)], 3)[..., :, 8:24]
    minus, plus = Views(degrees=20).make(picture.expand(2, -1, -1, -1), torch.tensor([20 - 13, 20 + 13]))
    assert torch.equal(minus, plus.flip(2))


def test_a_rotation_leaves_black_corners():
    turned = Views(degrees=20).make(pictures(1, size=32), torch.tensor([40]))[0]
    assert (turned[:, [0, 0, -1, -1], [0, -1, 0, -1]] == 0).all()


@every_augmentation
def test_draws_are_view_numbers(name):
    drawn = views(name).draw(5000, torch.Generator().manual_seed(0))
    assert (int(drawn.min()), int(drawn.max())) == (0, views(name).count - 1)


def test_draws_come_from_the_generator_alone():
    state = torch.get_rng_state()
    first, second = (views("crop4-flip").draw(50, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(first, views("crop4-flip").draw(50, torch.Generator().manual_seed(2)))


def test_an_unknown_augmentation_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'crop4-flip'"):
        views("crop4flip")


@pytest.mark.parametrize(
    ("name", "streamed", "message"),
    [
        ("crop4-flip", True, "read from disk; choose none, imagenet-crop, imagenet-crop-jitter"),
        ("imagenet-crop", False, "held in memory; choose none, crop1"),
        ("imagenet-crob", True, "did you mean 'imagenet-crop'"),
        ("crop1-flip", False, "did you mean 'crop"),
    ],
)
def test_an_augmentation_must_fit_where_the_images_are(name, streamed, message):
    with pytest.raises(ConfigError, match=message):
        check_augmentation(name, streamed)


def test_every_augmentation_is_for_images_in_memory_or_on_disk():
    assert set(AUGMENTATIONS) == set(NUMBERED) | set(STREAMED)
    for name in NUMBERED:
        check_augmentation(name, streamed=False)
    for name in STREAMED:
        check_augmentation(name, streamed=True)
