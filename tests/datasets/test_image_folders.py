import os
import shutil
import struct
import zlib

import numpy as np
import pytest
import torch
from pictures import all_of, picture, png, save, shades, write_folder, write_parquet, write_tiny_imagenet
from PIL import ExifTags, Image

from ltkd import ConfigError, DataError
from ltkd.datasets import image_folders, inspection, load, version

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
        for c, (name, n) in enumerate(zip(("cat", "dog"), counts, strict=True)):
            (tmp_path / "pets" / split / name).mkdir(parents=True)
            for i in range(n):
                image = shades(40 + i, 50, seed=20 * (split == "test") + 10 * c + i)
                image.save(tmp_path / "pets" / split / name / f"{i}.jpg")
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


# --- what is not what it seems ---


def loop(place):
    (place / "train" / "cat" / "back").symlink_to(place / "train")
    (place / "train" / "dog" / "here").symlink_to(place / "train" / "dog")


def circle(place):
    """Two folders, each with a link to the other."""
    for name, other in (("x", "y"), ("y", "x")):
        (place.parent / name).mkdir()
        (place.parent / name / other).symlink_to(place.parent / other)
    (place / "train" / "cat" / "x").symlink_to(place.parent / "x")


def system_folders(place):
    for name in ("__MACOSX", "@eaDir", ".ipynb_checkpoints"):
        save(place / "train" / name / "0.png", picture(9))
        save(place / "train" / "cat" / name / "0.png", picture(9))
    (place / "train" / "cat" / "._0.png").write_bytes(b"of a Mac")


@pytest.mark.parametrize("junk", [loop, circle, system_folders])
def test_links_back_and_what_systems_leave_behind_are_no_images(root, junk):
    place = write_folder(root / "pets")
    junk(place)
    data = load(place)
    assert (data.class_names, data.class_counts.tolist(), data.notes) == (("cat", "dog"), [3, 2], ())


@pytest.mark.parametrize("suffix", ["gif", "jfif", "avif", "pgm", "jp2", "tga", "dib", "TIF"])
def test_all_common_kinds_of_images_are_read(root, suffix):
    assert load(write_folder(root / "pets", suffix=suffix)).class_counts.tolist() == [3, 2]


def test_files_that_are_passed_over_are_told(root):
    place = write_folder(root / "pets")
    (place / "train" / "dog" / "notes.txt").write_text("a good dog")
    (place / "train" / "README.md").write_text("dogs and cats")
    (note,) = load(place).notes
    assert note.startswith(f"2 files are passed over, first {place}/train/README.md")
    (place / "train" / "eel").mkdir()
    (place / "train" / "eel" / "1.heif").write_bytes(b"")
    with pytest.raises(DataError, match=r"class 'eel' has no training images .*passed over"):
        load(place)


REPEATED = {
    "in both halves": (
        ("train/cat/0.png", "test/cat/x.png"),
        "1 test images are training images too",
        "test/cat/x.png = train/cat/0.png",
    ),
    "under two classes": (
        ("train/cat/0.png", "train/dog/x.png"),
        "1 images lie under two classes",
        r"train/dog/x.png \(dog\) = train/cat/0.png \(cat\)",
    ),
    "twice": (
        ("train/cat/0.png", "train/cat/x.png"),
        "1 images come more than once",
        "train/cat/x.png = train/cat/0.png",
    ),
}


@pytest.mark.parametrize("kind", REPEATED)
@pytest.mark.parametrize("image_size", [None, 8], ids=["held", "streamed"])
def test_images_that_come_more_than_once_are_told(root, monkeypatch, kind, image_size):
    place, ((source, copy), message, first) = write_folder(root / "pets"), REPEATED[kind]
    monkeypatch.setattr(image_folders, "MEMORY", 0 if image_size else 4e9)
    shutil.copy(place / source, place / copy)
    for _ in range(2):  # decoded, then from the cache
        with pytest.warns(UserWarning, match=f"pets: {message}.*first {first}; remove"):
            data = load(place, image_size=image_size)
    assert len(data.doubts) == 1


def test_a_list_that_names_an_image_twice_is_told(root):
    place = write_folder(root / "pets")
    for half in ("train", "test"):
        rows = [
            f"{half}/{name}/{i}.png {name}" for name in ("cat", "dog") for i in (0, 1, 1)[: 3 if half == "train" else 2]
        ]
        (place / f"{half}.txt").write_text("\n".join(rows))
    with pytest.warns(
        UserWarning, match="2 images come more than once in one half, .*first train/cat/1.png = train/cat/1.png"
    ):
        load(place)


# --- names ---


@pytest.mark.parametrize(
    "names", [("Train", "TEST"), ("training", "valid"), ("train", "Validation"), ("train", "testing")]
)
def test_the_halves_may_be_called_otherwise(root, names):
    place = write_folder(root / "pets")
    for old, new in zip(("train", "test"), names, strict=True):
        (place / old).rename(place / "aside")
        (place / "aside").rename(place / new)
    assert load(place).class_counts.tolist() == [3, 2]


def test_two_folders_for_one_half_are_not_chosen_between(root):
    place = write_folder(root / "pets")
    (place / "Train").mkdir()
    with pytest.raises(DataError, match="both Train and train"):
        load(place)


COMPOSED, APART = "caf\u00e9", "cafe\u0301"


@pytest.mark.parametrize(("first", "second"), [(COMPOSED, APART), (APART, COMPOSED)])
def test_an_accent_may_be_written_in_two_ways(root, first, second):
    place = write_folder(root / "pets")
    (place / "train" / "cat").rename(place / "train" / first)
    (place / "test" / "cat").rename(place / "test" / second)
    assert load(place).class_names == (COMPOSED, "dog")
    (place / "train" / first / "0.png").rename(place / "train" / first / f"{first}.png")
    rows = [f"train/{second}/{second}.png\tdog {second}", "train/dog/0.png\tdog"]
    (place / "train.txt").write_text("\n".join(rows))
    (place / "test.txt").write_text(f"test/{first}/0.png\tdog {first}\ntest/dog/0.png\tdog")
    data = load(place)
    assert (data.class_names, data.class_counts.tolist()) == (("dog", f"dog {COMPOSED}"), [1, 1])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_list_may_begin_with_the_mark_of_windows(root, encoding):
    place = write_folder(root / "pets")
    for half in ("train", "test"):
        (place / f"{half}.txt").write_text(f"{half}/cat/0.png 0\n{half}/dog/0.png 1\n", encoding=encoding)
    assert load(place).class_counts.tolist() == [1, 1]


@pytest.mark.parametrize("path", ["{root}/pests", "./pests", "~/pests", "{root}/file"])
def test_a_path_that_is_no_folder_is_not_called_a_name(root, path):
    (root / "file").write_text("")
    with pytest.raises(ConfigError, match=r"^the folder .*(is not there|is a file)"):
        load(path.format(root=root))


def test_a_folder_of_everything_is_answered_soon(root):
    deep = root / "pets" / "of" / "all" / "kinds" / "of" / "owners"
    write_parquet(deep)
    (deep / "loop").symlink_to(root)
    with pytest.raises(DataError, match="neither train/ nor train"):
        load(root / "pets")


# --- damage ---


@pytest.mark.parametrize("image_size", [None, 8], ids=["held", "streamed"])
def test_all_damaged_files_are_told_at_once(root, monkeypatch, image_size):
    place = write_folder(root / "pets", counts=(4, 2))
    monkeypatch.setattr(image_folders, "MEMORY", 0 if image_size else 4e9)
    (place / "train" / "cat" / "9.png").symlink_to(root / "gone.png")
    (place / "train" / "cat" / "1.png").write_bytes(b"no image")
    (place / "train" / "cat" / "2.png").write_bytes(b"")
    (place / "test" / "dog" / "0.png").write_bytes(b"")
    with pytest.raises(
        DataError,
        match=r"4 of 11 images are damaged: .*cat/1.png .*known kind.*cat/2.png.*cat/9.png .*a link to .*, and 1 more",
    ):
        load(place, image_size=image_size)


def test_a_file_is_read_once_until_it_changes(root, monkeypatch):
    place = str(write_folder(root / "pets"))
    first, read = version(place), []
    facts = inspection._facts
    monkeypatch.setattr(inspection, "_facts", lambda path: read.append(path) or facts(path))
    assert (version(place), read) == (first, [])
    for store in ("_known", "_loaded"):  # another process
        getattr(inspection, store).clear()
    assert (version(place), read) == (first, [])
    file = root / "pets" / "train" / "cat" / "0.png"
    os.utime(file, ns=(0, 1))
    assert (version(place), read) == (first, [str(file)])


@pytest.mark.parametrize("image_size", [None, 8], ids=["held", "streamed"])
def test_an_image_replaced_by_one_of_the_same_size_and_time_is_read_anew(root, monkeypatch, image_size):
    place = write_folder(root / "pets", suffix="bmp")  # files of one length
    monkeypatch.setattr(image_folders, "MEMORY", 0 if image_size else 4e9)
    file = place / "train" / "cat" / "0.bmp"
    before, old = load(place, image_size=image_size).train.identity()[0], os.stat(file)
    save(file, picture(250))
    os.utime(file, ns=(old.st_atime_ns, old.st_mtime_ns))
    new = os.stat(file)
    assert (new.st_size, new.st_mtime_ns, new.st_ino) == (old.st_size, old.st_mtime_ns, old.st_ino)
    assert not torch.equal(load(place, image_size=image_size).train.identity()[0], before)


# --- pixels ---

RAMP = np.arange(64).reshape(8, 8) * 4  # 0 to 252


DEPTHS = {
    "12 bits in 16": ("png", (RAMP * 4095 // 255).astype(np.uint16), 4095),
    "0 to 255 in 16 bits": ("png", RAMP.astype(np.uint16), 255),
    "16 bits": ("png", (RAMP * 257).astype(np.uint16), 65535),
    "16 bits, big-endian": ("tif", (RAMP * 257).astype(">u2"), 65535),
    "0 to 255 in 32 bits": ("tif", RAMP.astype(np.int32), 255),
    "floats up to 1": ("tif", (RAMP / 255).astype(np.float32), 1),
    "floats up to 255": ("tif", RAMP.astype(np.float32), 255),
}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("depth", DEPTHS)
def test_pixels_of_more_than_8_bits_are_scaled_by_the_range_of_the_data_set(root, monkeypatch, depth, streamed):
    suffix, values, white = DEPTHS[depth]
    place = write_folder(root / "pets", suffix=suffix, mode="L")
    monkeypatch.setattr(image_folders, "MEMORY", 0 if streamed else 4e9)
    save(place / "train" / "cat" / f"0.{suffix}", Image.fromarray(values))
    save(place / "test" / "dog" / f"0.{suffix}", Image.fromarray(values // 2 if white > 1 else values / 2))
    data = load(place, image_size=8)
    assert f"with values from 0 to {values.max():g}: 0 becomes black, {white:g} white" in data.notes[0]
    if not streamed:
        assert (data.train.images[0].int() - torch.from_numpy(RAMP)).abs().max() <= 1
        assert (data.test.images[2].int() - torch.from_numpy(RAMP // 2)).abs().max() <= 1
    else:
        assert 110 < all_of(data.train)[0].float().mean() < 140
        assert 50 < all_of(data.test)[2].float().mean() < 70


NO_RANGE = {
    "negative": (RAMP - 9).astype(np.float32),
    "negative whole numbers": (RAMP - 9).astype(np.int32),
    "NaN": np.where(RAMP > 99, np.nan, RAMP).astype(np.float32),
    "infinite": np.where(RAMP > 99, np.inf, RAMP).astype(np.float32),
    "all 0": np.zeros((8, 8), np.float32),
}


@pytest.mark.parametrize("kind", NO_RANGE)
def test_pixels_without_a_range_are_refused(root, kind):
    place = write_folder(root / "pets")
    save(place / "train" / "cat" / "0.tif", Image.fromarray(NO_RANGE[kind]))
    with pytest.raises(DataError, match=r"cat/0\.tif and others: pixel values from .*; write them as images of 8 bits"):
        load(place)


@pytest.mark.parametrize(("top", "fits"), [(4095, False), (65535, True)])
def test_colours_of_16_bits_must_use_them(root, top, fits):
    place = write_folder(root / "pets")
    colours = np.stack([RAMP * top // 255] * 3, 2).astype(">u2")
    (place / "train" / "cat" / "0.png").write_bytes(png_of_16_bits(colours))
    if fits:
        assert (load(place).train.images[0].int() - torch.from_numpy(RAMP)).abs().max() <= 1
    else:
        with pytest.raises(DataError, match=r"colour images of 16 bits .*use only the lower ones"):
            load(place)


def png_of_16_bits(colours):
    """Pillow cannot write it."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = colours.shape
    rows = b"".join(b"\0" + row.tobytes() for row in colours)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("streamed", [False, True])
def test_images_are_turned_as_their_camera_says(root, monkeypatch, suffix, streamed):
    place = write_folder(root / "pets", suffix=suffix, size=(16, 16))
    monkeypatch.setattr(image_folders, "MEMORY", 0 if streamed else 4e9)
    left = np.zeros((16, 16, 3), np.uint8)
    left[:, :8] = 255
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # the camera was turned: left is up
    Image.fromarray(left).save(place / "train" / "cat" / f"0.{suffix}", exif=exif)
    image = all_of(load(place, image_size=16).train)[0] if streamed else load(place, image_size=16).train.images[0]
    assert image[:, :6].float().mean() > 240
    assert image[:, 10:].float().mean() < 15


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_of_several_images_in_a_file_the_first_is_taken_and_that_is_told(root, suffix):
    place = write_folder(root / "pets")
    file = place / "train" / "cat" / f"0.{suffix}"
    picture(0).save(file, save_all=True, append_images=[picture(200), picture(90)])
    data = load(place)
    assert f"1 files have several images, first {file}: of each, the first image is taken" in data.notes
    assert (data.train.images[0].float().mean((1, 2)) - torch.tensor([0.0, 40, 200])).abs().max() < 20


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_every_mode_of_8_bits_keeps_its_brightness(root, mode):
    place = write_folder(root / "pets", suffix="tif")
    save(
        place / "train" / "cat" / "0.tif",
        Image.new("L", (8, 8), 255).convert("RGB").convert(mode)
        if mode != "PA"
        else Image.new("L", (8, 8), 255).convert("P"),
    )
    assert load(place).train.images[0].float().mean() > 250


def test_a_panorama_takes_no_more_memory_than_its_middle(root, monkeypatch):
    place, sizes = write_folder(root / "pets"), []
    save(place / "train" / "cat" / "0.png", Image.new("RGB", (20_000, 2), (255, 255, 255)))
    monkeypatch.setattr(
        Image.Image,
        "resize",
        lambda image, size, *rest, resize=Image.Image.resize: sizes.append(size) or resize(image, size, *rest),
    )
    assert (load(place, image_size=64).train.images[0] == 255).all()
    assert max(width * height for width, height in sizes) <= 64 * 64 * 8
