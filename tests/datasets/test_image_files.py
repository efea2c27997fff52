import math
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import hears_ctrl_c, random_dataset
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from ltkd import ConfigError, DataError
from ltkd.datasets import STREAMED, ImageFiles, ImageSet, LongTailedDataset, crops, image_folders, load

SIDE = 32
every_augmentation = pytest.mark.parametrize("augment", STREAMED)
with_workers = pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])


def picture(width, height, seed=0):
    """Soft random shades, which differ from place to place and survive JPEG."""
    shades = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(shades).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def files(tmp_path):
    """Twelve JPEG files of several sizes, in two classes."""
    paths = [tmp_path / f"{i}.JPEG" for i in range(12)]
    for i, path in enumerate(paths):
        picture(40 + 9 * i, 90 - 5 * i, seed=i).save(path, quality=95)
    return ImageFiles(paths, [0, 1, 1] * 4, SIDE)


def all_of(files, batch_size=5, **how):
    return torch.cat(list(files.batches(torch.arange(len(files)).split(batch_size), **how)))


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
    picture(60, 50).convert("L").save(tmp_path / "8 bits.jpg")
    Image.fromarray(np.arange(3600, dtype=np.uint16).reshape(60, 60) * 16).save(tmp_path / "16 bits.png")
    for red, green, blue in all_of(ImageFiles(sorted(tmp_path.iterdir()), [0, 0], SIDE), augment=augment):
        assert torch.equal(red, green)
        assert torch.equal(red, blue)
        assert red.float().std() > 10


# --- the middle, for tests ---


@pytest.mark.parametrize(("width", "height"), [(500, 375), (375, 500), (256, 256), (100, 90), (900, 300)])
def test_without_augmentation_an_image_is_scaled_to_256_and_cut_to_224_as_torchvision_does(tmp_path, width, height):
    picture(width, height).save(tmp_path / "0.jpg")
    image = all_of(ImageFiles([tmp_path / "0.jpg"], [0], 224))[0]
    transform = v2.Compose([v2.Resize(256), v2.CenterCrop(224)])
    with Image.open(tmp_path / "0.jpg") as original:
        assert torch.equal(image, transform(functional.pil_to_tensor(original)))
        on_pil = functional.pil_to_tensor(transform(original))
    assert (image.int() - on_pil.int()).abs().max() <= 1


def test_other_sizes_are_scaled_likewise(files):
    with Image.open(os.fsdecode(files.paths[3])) as original:
        expected = v2.Compose([v2.Resize(37), v2.CenterCrop(32)])(functional.pil_to_tensor(original))  # 37: 32 * 8/7
    assert torch.equal(all_of(files)[3], expected)


# --- a random part, for training ---


@pytest.mark.parametrize(("width", "height"), [(500, 375), (30, 90), (1, 1), (400, 1), (3, 1000)])
def test_a_random_part_lies_in_the_image(width, height):
    for seed in range(200):
        left, top, right, bottom = crops.random_box(width, height, np.random.default_rng(seed))
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height


@pytest.mark.parametrize(("size", "middle"), [((400, 100), (133, 0, 266, 100)), ((60, 600), (0, 260, 60, 340))])
def test_of_a_strip_the_largest_middle_part_is_taken(size, middle):
    class Unlucky:
        uniform = staticmethod(lambda low, high: high)  # the whole area, as wide as may be: never fits

    width, height = size
    if width < height:
        Unlucky.uniform = staticmethod(lambda low, high: low if low < 0 else high)
    assert crops.random_box(*size, Unlucky) == middle


def test_random_parts_are_spread_as_torchvisions():
    image, n = torch.empty(3, 300, 400), 4000
    torch.manual_seed(0)
    transform = v2.RandomResizedCrop(SIDE)
    theirs = [transform.make_params([image]) for _ in range(n)]
    theirs = np.array([(p["left"], p["top"], p["left"] + p["width"], p["top"] + p["height"]) for p in theirs])
    ours = np.array([crops.random_box(400, 300, np.random.default_rng((7, i))) for i in range(n)])
    np.testing.assert_allclose(ours.mean(0), theirs.mean(0), atol=6 * 100 / math.sqrt(n))
    np.testing.assert_allclose(ours.std(0), theirs.std(0), rtol=0.08)


def test_a_part_is_cropped_then_scaled(tmp_path):
    picture(90, 60).save(tmp_path / "0.png")
    with Image.open(tmp_path / "0.png") as image:
        part = crops.scaled_part(image, (10, 20, 60, 50), SIDE)
        expected = functional.resized_crop(functional.pil_to_tensor(image), 20, 10, 30, 50, [SIDE, SIDE])
    assert torch.equal(part, expected)


def test_a_large_jpeg_decoded_at_a_fraction_looks_the_same(tmp_path):
    picture(1200, 900).save(tmp_path / "0.jpg")
    with Image.open(tmp_path / "0.jpg") as image:
        whole = functional.pil_to_tensor(image)
    with Image.open(tmp_path / "0.jpg") as image:
        part = crops.scaled_part(image, (101, 203, 902, 804), SIDE)
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
    image = functional.pil_to_tensor(picture(SIDE, SIDE))
    changed = crops.jittered(image, 0.4, np.random.default_rng(3))
    draw = np.random.default_rng(3)
    names = ("adjust_brightness", "adjust_contrast", "adjust_saturation")
    for i in draw.permutation(3):
        image = getattr(functional, names[i])(image, draw.uniform(0.6, 1.4))
    assert (changed.int() - image.int()).abs().float().mean() < 2


# --- order and randomness ---


@with_workers
@every_augmentation
def test_the_same_images_come_whatever_the_number_of_workers_and_again(files, augment, workers):
    first, again = (all_of(files, augment=augment, seed=5, workers=n) for n in (0, workers))
    assert torch.equal(first, again)


@with_workers
def test_images_come_in_the_order_asked_for(files, workers):
    whole = all_of(files)
    asked = [torch.tensor([3, 0, 3]), torch.tensor([11]), torch.tensor([5, 4])]
    for indices, images in zip(asked, files.batches(asked, workers=workers), strict=True):
        assert torch.equal(images, whole[indices])


def test_a_crop_depends_on_the_seed_and_the_position_alone(files):
    first = all_of(files, augment="imagenet-crop", seed=1)
    assert torch.equal(first, all_of(files, batch_size=2, augment="imagenet-crop", seed=1))
    other_seed = all_of(files, augment="imagenet-crop", seed=2)
    assert all(not torch.equal(a, b) for a, b in zip(first, other_seed, strict=True))
    one, two = next(files.batches([torch.tensor([4, 4])], augment="imagenet-crop", seed=1))
    assert not torch.equal(one, two)


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_no_global_generator_is_read(files, workers):
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    all_of(files, augment="imagenet-crop-jitter", workers=workers)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)


# --- parts and properties ---


def test_a_subset_keeps_files_labels_and_order(files):
    part = files.subset(torch.tensor([7, 2]))
    assert (len(part), part.labels.tolist(), part.image_size) == (2, [1, 1], SIDE)
    assert torch.equal(all_of(part), all_of(files)[[7, 2]])


def test_the_fingerprint_is_that_of_the_kept_files_in_any_folder_and_order(files, tmp_path):
    half = files.subset(torch.arange(6))
    moved = [tmp_path / "elsewhere" / os.path.basename(os.fsdecode(path)) for path in half.paths[::-1]]
    assert ImageFiles(moved, half.labels.flip(0), SIDE).fingerprint() == half.fingerprint()
    others = files.subset(torch.arange(1, 7)), ImageFiles(half.paths, 1 - half.labels, SIDE)
    assert half.fingerprint() not in {other.fingerprint() for other in others}


def test_the_fingerprint_of_images_in_memory_is_of_pixels_and_labels_in_any_order():
    images = random_dataset().train
    part = images.subset(torch.arange(20))
    assert part.subset(torch.randperm(20, generator=torch.Generator().manual_seed(0))).fingerprint() == (
        part.fingerprint()
    )
    others = images.subset(torch.arange(1, 21)), ImageSet(part.images, part.labels.flip(0))
    assert part.fingerprint() not in {other.fingerprint() for other in others}


def test_counts_of_classes_that_have_none_are_zero(files):
    assert files.counts(4).tolist() == [4, 8, 0, 0]


def test_a_sample_is_some_of_the_images_without_augmentation(files):
    sample, whole = files.sample(5, seed=1), all_of(files)
    assert len(sample) == 5
    assert all(any(torch.equal(image, other) for other in whole) for image in sample)
    assert torch.equal(sample, files.sample(5, seed=1))
    assert torch.equal(files.sample(100), whole)


def test_a_data_set_tells_whether_its_images_are_streamed(files):
    on_disk, held = LongTailedDataset("own", files, files, ("a", "b")), random_dataset()
    assert (on_disk.streamed, on_disk.image_size, on_disk.in_channels) == (True, SIDE, 3)
    assert (held.streamed, held.image_size, held.in_channels) == (False, *held.train.images.shape[:0:-2])
    assert on_disk.class_counts.tolist() == [4, 8]


def test_other_files_labels_or_sizes_are_another_identity(files, tmp_path):
    def shown(some):
        return [part.flatten().tolist() for part in some.identity()]

    same = ImageFiles(files.paths, files.labels, SIDE)
    others = [
        files.subset(list(range(11, -1, -1))),
        ImageFiles(files.paths, 1 - files.labels, SIDE),
        ImageFiles(files.paths, files.labels, SIDE + 1),
    ]
    assert shown(files) == shown(same)
    assert all(shown(files) != shown(other) for other in others)


def test_each_path_needs_a_label(files):
    with pytest.raises(ConfigError, match="12 paths with 1 labels"):
        ImageFiles(files.paths, [0], SIDE)


# --- errors and processes ---


@with_workers
@pytest.mark.parametrize("damage", ["cut", "text", "empty", "gone"])
def test_a_damaged_file_is_named_in_one_sentence(files, workers, damage):
    path = Path(os.fsdecode(files.paths[8]))
    data = path.read_bytes()
    path.unlink()
    if damage != "gone":
        path.write_bytes({"cut": data[: len(data) // 2], "text": b"no image", "empty": b""}[damage])
    with pytest.raises(DataError) as error:
        all_of(files, augment="imagenet-crop", workers=workers)
    assert str(path) in str(error.value)
    assert "Traceback" not in str(error.value)


@pytest.mark.slow
def test_images_that_nobody_wants_any_more_leave_no_process_behind(files):
    images = files.batches([torch.tensor([0])] * 1000, workers=2)
    next(images)
    assert len(multiprocessing.active_children()) == 2
    images.close()
    assert not multiprocessing.active_children()


ENDLESS = """
import collections, multiprocessing, sys
import torch
from ltkd.datasets import ImageFiles

torch.utils.data._utils.worker.MP_STATUS_CHECK_INTERVAL = 0.1
files = ImageFiles([sys.argv[1]], [0], 32)
images = files.batches([torch.tensor([0])] * 100_000, workers=2)
next(images)
print(*(child.pid for child in multiprocessing.active_children()), flush=True)
collections.deque(images, maxlen=0)
"""


LATE = """
import multiprocessing, time
from ltkd.datasets.image_files import _start_worker

def late():
    time.sleep(1)
    _start_worker(0)
    time.sleep(300)

workers = [multiprocessing.get_context("fork").Process(target=late) for _ in range(2)]
for worker in workers:
    worker.start()
print(*(worker.pid for worker in workers), flush=True)
time.sleep(300)
"""


def ended(path, end, script=ENDLESS):
    """Stream without end in a process of its own, call `end(its id, ids of its workers)`; returns what it wrote to
    stderr and the ids of its workers."""
    command = [sys.executable, "-c", script, path]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, start_new_session=True, preexec_fn=hears_ctrl_c, **pipes) as process:
        workers = [int(word) for word in process.stdout.readline().split()]
        assert len(workers) == 2
        end(process.pid, workers)
        _, errors = process.communicate(timeout=60)
    return errors, workers


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rsplit(")", 1)[1].split()[0] != "Z"


def end_soon(workers):
    deadline = time.monotonic() + 20
    while any(map(is_alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(map(is_alive, workers))


needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="asks Linux which processes are alive")


@pytest.mark.slow
@needs_proc
def test_ctrl_c_ends_the_workers_without_a_word_of_theirs(files):
    errors, workers = ended(os.fsdecode(files.paths[0]), lambda pid, _: os.killpg(pid, signal.SIGINT))
    assert not any(map(is_alive, workers))
    assert errors.count("Traceback") == 1  # the script's own, which does not catch KeyboardInterrupt
    assert errors.strip().endswith("KeyboardInterrupt")


@pytest.mark.slow
@needs_proc
def test_workers_die_with_their_parent(files):
    _, workers = ended(os.fsdecode(files.paths[0]), lambda pid, _: os.kill(pid, signal.SIGKILL))
    assert end_soon(workers)


@pytest.mark.slow
@needs_proc
def test_workers_that_begin_when_their_parent_is_dead_end_too(files):
    _, workers = ended("", lambda pid, _: os.kill(pid, signal.SIGKILL), LATE)
    assert end_soon(workers)


@pytest.mark.slow
@needs_proc
def test_a_worker_that_dies_is_an_error_that_says_what_to_do(files):
    errors, workers = ended(os.fsdecode(files.paths[0]), lambda _, workers: os.kill(workers[0], signal.SIGKILL))
    assert "RunError: a process that decodes images died" in errors
    assert "choose fewer workers" in errors
    assert not any(map(is_alive, workers))


@pytest.mark.slow
def test_the_package_is_imported_without_torchvision():
    code = "import sys, ltkd, ltkd.datasets; assert 'torchvision' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unfit_augmentation_is_refused_before_anything_is_decoded(files):
    with pytest.raises(ConfigError, match="crop1"):
        files.batches([torch.tensor([0])], augment="crop1")


# --- large folders ---


@pytest.fixture
def pets(tmp_path, monkeypatch):
    """Seven training and four test images of many sizes."""
    monkeypatch.setenv("LTKD_CACHE", str(tmp_path / "cache"))
    for split, counts in (("train", (5, 2)), ("test", (2, 2))):
        for name, n in zip(("cat", "dog"), counts, strict=True):
            (tmp_path / "pets" / split / name).mkdir(parents=True)
            for i in range(n):
                picture(40 + i, 50, seed=i).save(tmp_path / "pets" / split / name / f"{i}.jpg")
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
