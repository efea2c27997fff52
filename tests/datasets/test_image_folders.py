import numpy as np
import pytest
import torch
from pictures import all_of, picture, png, save, shades, write_folder, write_tiny_imagenet
from PIL import Image

from ltkd import ConfigError, DataError
from ltkd.datasets import image_folders, load

pytestmark = pytest.mark.usefixtures("own_cache_no_network")


@pytest.mark.parametrize("test", ["test", "val"])
def test_a_folder_of_ones_own_is_a_data_set(root, test):
    data = load(str(write_folder(root / "pets", test=test)), profile="as-is")
    assert data.class_names == ("cat", "dog")
    assert data.class_counts.tolist() == [3, 2]
    assert data.test.labels.tolist() == [0, 0, 1, 1]


def test_without_a_factor_every_image_is_taken_and_with_one_a_long_tail(root):
    place = str(write_folder(root / "pets", counts=(6, 5)))
    assert load(place).class_counts.tolist() == [6, 5]
    assert load(place, imbalance_factor=3).class_counts.tolist() == [6, 2]


def test_a_class_folder_may_be_a_link(root):
    place = write_folder(root / "pets")
    (place / "train" / "dog").rename(root / "elsewhere")
    (place / "train" / "dog").symlink_to(root / "elsewhere")
    assert load(str(place)).class_counts.tolist() == [3, 2]


def test_images_may_lie_in_subfolders_of_their_class(root):
    place = write_folder(root / "pets")
    save(place / "train" / "dog" / "brown" / "small" / "9.png", picture(7))
    assert load(str(place), profile="as-is").class_counts.tolist() == [3, 3]


def test_files_that_are_no_images_are_passed_over(root):
    place = write_folder(root / "pets")
    (place / "train" / "dog" / "notes.txt").write_text("a good dog")
    (place / "train" / "README.md").write_text("dogs and cats")
    assert load(str(place), profile="as-is").class_counts.tolist() == [3, 2]


def test_a_class_without_test_images_is_named(root):
    place = write_folder(root / "pets")
    for file in (place / "test" / "dog").iterdir():
        file.unlink()
    with pytest.raises(DataError, match="class 'dog' has no test images"):
        load(str(place), profile="as-is")


def test_a_class_without_training_images_is_named(root):
    place = write_folder(root / "pets")
    (place / "train" / "eel").mkdir()
    with pytest.raises(DataError, match="class 'eel' has no training images"):
        load(str(place), profile="as-is")


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_half_without_a_single_image_is_an_error(root, split):
    place = write_folder(root / "pets")
    for file in (place / split).rglob("*.png"):
        file.unlink()
    with pytest.raises(DataError):
        load(str(place), profile="as-is")


def test_a_class_that_only_the_test_has_is_named(root):
    place = write_folder(root / "pets")
    save(place / "test" / "eel" / "0.png", picture(3))
    with pytest.raises(DataError, match="eel"):
        load(str(place), profile="as-is")


@pytest.mark.parametrize("missing", ["train", "test"])
def test_a_folder_needs_both_halves(root, missing):
    place = write_folder(root / "pets")
    (place / missing).rename(place / "elsewhere")
    with pytest.raises(DataError, match=missing):
        load(str(place), profile="as-is")


def test_jpeg_and_png_of_any_size_and_kind_are_brought_to_one(root):
    place = write_folder(root / "pets")
    save(place / "train" / "cat" / "wide.jpg", picture(0, (40, 20)))
    save(place / "train" / "cat" / "high.jpeg", picture(0, (9, 31)))
    save(place / "train" / "cat" / "grey.png", picture(0, (16, 16), "L"))
    save(place / "train" / "dog" / "print.JPG", picture(0, (12, 12), "CMYK"))
    save(place / "train" / "dog" / "palette.png", picture(0, (12, 12), "P"))
    save(place / "train" / "dog" / "clear.png", picture(0, (12, 12), "RGBA"))
    images = load(str(place), profile="as-is", image_size=16).train.images
    assert tuple(images.shape) == (11, 3, 16, 16)


def test_a_grey_image_becomes_three_equal_channels(root):
    data = load(str(write_folder(root / "pets", mode="L")), profile="as-is")
    channels = data.train.images.unbind(1)
    assert len(channels) == 3
    assert torch.equal(channels[0], channels[1])
    assert torch.equal(channels[0], channels[2])


def test_sixteen_bit_grey_images_keep_their_shades(root):
    place = write_folder(root / "pets")
    shades = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    save(place / "train" / "cat" / "0.png", Image.fromarray(shades))
    image = load(str(place), profile="as-is").train.images[0]
    torch.testing.assert_close(image[0].int(), torch.from_numpy((shades >> 8).astype(np.int32)), rtol=0, atol=1)


def test_resizing_scales_the_shorter_side_and_keeps_the_middle(root):
    place = write_folder(root / "pets", size=(8, 8))
    wide = np.zeros((8, 24, 3), dtype=np.uint8)
    wide[:, 8:16] = 255
    save(place / "train" / "cat" / "0.png", Image.fromarray(wide))
    assert (load(str(place), profile="as-is", image_size=8).train.images[0] == 255).all()


def test_mixed_sizes_without_image_size_say_how_to_choose_one(root):
    place = write_folder(root / "pets")
    save(place / "train" / "cat" / "big.png", picture(0, (20, 20)))
    with pytest.raises(DataError, match="image-size"):
        load(str(place), profile="as-is")


def test_oblong_images_without_image_size_say_how_to_choose_one(root):
    place = write_folder(root / "pets", size=(12, 8))
    with pytest.raises(DataError, match="image-size"):
        load(str(place), profile="as-is")


@pytest.mark.parametrize("unlabelled_test", [False, True], ids=["without test/", "with its unlabelled test/"])
def test_tiny_imagenets_own_layout_is_read(root, unlabelled_test):
    place = root / "tiny-imagenet-200"
    write_tiny_imagenet(place)
    if unlabelled_test:
        save(place / "test" / "images" / "test_0.JPEG", picture(50))
    data = load("tiny-imagenet", root=root, profile="as-is")
    assert data.class_names == ("n01443537", "n01629819")
    assert data.class_counts.tolist() == [3, 2]
    assert data.test.labels.tolist() == [0, 1]
    assert data.test.images[0, 0].float().mean() < data.test.images[1, 0].float().mean()  # each with its own label


@pytest.mark.parametrize(("line", "ends_well"), [("", True), ("  ", True), ("val_0.JPEG", False)], ids=repr)
def test_a_line_of_tiny_imagenets_list_without_a_class_is_named_unless_it_is_blank(root, line, ends_well):
    write_tiny_imagenet(root / "tiny-imagenet-200")
    file = root / "tiny-imagenet-200" / "val" / "val_annotations.txt"
    file.write_text(f"{line}\n{file.read_text()}")
    if ends_well:
        assert load("tiny-imagenet", root=root, profile="as-is").test.labels.tolist() == [0, 1]
    else:
        with pytest.raises(DataError, match=f"{file}: the line 'val_0.JPEG' is not an image"):
            load("tiny-imagenet", root=root, profile="as-is")


@pytest.mark.parametrize("data", [b"", b"not an image", png(picture(0, (64, 64)))[:60]], ids=["empty", "text", "cut"])
def test_a_corrupt_image_in_a_folder_is_named(root, data):
    place = write_folder(root / "pets")
    (place / "train" / "dog" / "1.png").write_bytes(data)
    with pytest.raises(DataError, match=r"dog.1\.png"):
        load(str(place), profile="as-is")


# --- large folders ---


@pytest.fixture
def pets(tmp_path, monkeypatch):
    """Seven training and four test images of many sizes."""
    monkeypatch.setenv("LTKD_CACHE", str(tmp_path / "cache"))
    for split, counts in (("train", (5, 2)), ("test", (2, 2))):
        for name, n in zip(("cat", "dog"), counts, strict=True):
            (tmp_path / "pets" / split / name).mkdir(parents=True)
            for i in range(n):
                shades(40 + i, 50, seed=i).save(tmp_path / "pets" / split / name / f"{i}.jpg")
    return tmp_path / "pets"


def test_a_folder_too_large_to_hold_is_streamed(pets, monkeypatch):
    monkeypatch.setattr(image_folders, "MEMORY", 11 * 3 * 16 * 16 - 1)
    data = load(str(pets), image_size=16)
    assert data.streamed
    assert data.image_size == 16
    assert data.class_counts.tolist() == [5, 2]
    assert (data.train.labels.tolist(), data.test.labels.tolist()) == ([0] * 5 + [1] * 2, [0, 0, 1, 1])
    assert "read from disk as needed" in data.source
    assert tuple(all_of(data.train, augment="imagenet-crop").shape) == (7, 3, 16, 16)


def test_a_folder_just_small_enough_is_held(pets, monkeypatch):
    monkeypatch.setattr(image_folders, "MEMORY", 11 * 3 * 16 * 16)
    data = load(str(pets), image_size=16)
    assert not data.streamed
    assert "disk" not in data.source


def test_a_folder_too_large_to_hold_needs_an_image_size(pets, monkeypatch):
    monkeypatch.setattr(image_folders, "MEMORY", 11 * 3 * 40 * 50 - 1)
    with pytest.raises(ConfigError, match="--image-size"):
        load(str(pets))


def test_a_long_tail_is_cut_from_files_too(pets, monkeypatch):
    monkeypatch.setattr(image_folders, "MEMORY", 0)
    data = load(str(pets), image_size=16, profile=[3, 1], seed=1)
    held = all_of(load(str(pets), image_size=16).train)
    assert data.class_counts.tolist() == [3, 1]
    assert all(any(torch.equal(image, other) for other in held) for image in all_of(data.train))
