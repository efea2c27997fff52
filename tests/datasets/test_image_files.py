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
from pictures import all_of, shades
from PIL import Image

from ltkd import ConfigError, DataError
from ltkd._support.fingerprint import tensors_fingerprint
from ltkd.datasets import STREAMED, ImageFiles, ImageSet, LongTailedDataset

SIDE = 32
every_augmentation = pytest.mark.parametrize("augment", STREAMED)
with_workers = pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])


@pytest.fixture
def files(tmp_path):
    """Twelve JPEG files of several sizes, in two classes."""
    paths = [tmp_path / f"{i}.JPEG" for i in range(12)]
    for i, path in enumerate(paths):
        shades(40 + 9 * i, 90 - 5 * i, seed=i).save(path, quality=95)
    return ImageFiles(paths, [0, 1, 1] * 4, SIDE)


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
    with pytest.raises(ConfigError, match="12 images with labels of shape"):
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


def test_a_file_with_another_content_makes_another_set(tmp_path):
    for colour, name in ((1, "0.png"), (2, "1.png")):
        Image.new("RGB", (8, 8), (colour, 0, 0)).save(tmp_path / name)
    files = ImageFiles([tmp_path / "0.png", tmp_path / "1.png"], [0, 1], 8)
    before = tensors_fingerprint(files.identity())
    assert tensors_fingerprint(ImageFiles(files.paths, [0, 1], 8).identity()) == before
    Image.new("RGB", (8, 8), (3, 0, 0)).save(tmp_path / "1.png")
    assert tensors_fingerprint(files.identity()) != before
