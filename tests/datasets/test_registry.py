import hashlib
import pickle
import tempfile
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from pictures import write_folder, write_parquet, write_tiny_imagenet

from ltkd import ConfigError, DataError, datasets
from ltkd.datasets import class_counts, large, load, registry

pytestmark = pytest.mark.usefixtures("own_cache_no_network")


# --- digits ---


def test_digits_hold_124_training_and_50_test_images_a_class():
    data = load("digits")
    assert len(data.train) == 1240
    assert data.class_counts.tolist() == [124] * 10
    assert data.test.counts(10).tolist() == [50] * 10


def test_digits_are_grey_8_by_8_in_the_whole_range():
    images = load("digits").train.images
    assert (tuple(images.shape[1:]), images.dtype) == ((1, 8, 8), torch.uint8)
    assert (int(images.min()), int(images.max())) == (0, 255)


def test_digits_are_the_same_every_time():
    first, second = (load("digits", imbalance_factor=20, seed=3) for _ in range(2))
    assert torch.equal(first.train.images, second.train.images)
    assert torch.equal(first.test.images, second.test.images)


def test_the_seed_draws_training_images_and_leaves_the_test_alone():
    first, second = (load("digits", imbalance_factor=20, seed=seed) for seed in (0, 1))
    assert torch.equal(first.class_counts, second.class_counts)
    assert not torch.equal(first.train.images, second.train.images)
    assert torch.equal(first.test.images, second.test.images)


def test_no_digit_is_in_training_and_test():
    data = load("digits")
    train, test = ({x.numpy().tobytes() for x in half.images} for half in (data.train, data.test))
    assert not train & test


def test_digits_can_be_resized():
    assert load("digits", image_size=16).image_size == 16


@pytest.mark.parametrize("factor", [0.5, 0, -1, float("nan"), float("inf"), "5", None])
def test_the_imbalance_factor_must_be_a_finite_number_of_at_least_one(factor):
    with pytest.raises(ConfigError, match="imbalance_factor"):
        load("digits", imbalance_factor=factor)


def test_an_unknown_data_set_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'cifar100'"):
        load("cifar1000")


def test_a_folder_that_is_named_is_not_made(root):
    with pytest.raises(DataError, match="there is no folder"):
        load("cifar10", root=root / "mistyped")
    assert not (root / "mistyped").exists()


def test_what_is_missing_is_told_every_place(root):
    with pytest.raises(DataError) as error:
        load("cifar10", root=root)
    for part in ("cifar-10-batches-py", "train-*.parquet", "train/<class>", str(root / "cifar10")):
        assert part in str(error.value)


# --- where a data set is looked for ---


@pytest.mark.parametrize(
    ("name", "folder"), [("cifar10", "cifar10"), ("cifar100", "cifar-100"), ("tiny-imagenet", "tiny_imagenet")]
)
def test_a_named_data_set_may_lie_as_image_folders(root, name, folder):
    write_folder(root / folder)
    assert load(name, root=root, profile="as-is").class_counts.tolist() == [3, 2]


def test_ltkd_data_names_the_root(root, monkeypatch):
    write_parquet(root / "cifar100")
    monkeypatch.setenv("LTKD_DATA", str(root))
    assert load("cifar100", profile="as-is").class_counts.tolist() == [3, 2]


# --- torchvision's folder ---


def write_torchvision(place, monkeypatch, labels=(0, 0, 1), test_labels=(0, 1)):
    """A tiny cifar-100-python/, whose check sums torchvision is made to expect."""
    cifar, folder = torchvision.datasets.CIFAR100, place / "cifar-100-python"
    folder.mkdir(parents=True)

    def dump(name, record):
        (folder / name).write_bytes(pickle.dumps(record))
        return hashlib.md5((folder / name).read_bytes()).hexdigest()

    def half(labels, seed):
        pixels = np.random.default_rng(seed).integers(256, size=(len(labels), 3072), dtype=np.uint8)
        return {"data": pixels, "fine_labels": list(labels)}

    train, test = half(labels, 0), half(test_labels, 1)
    monkeypatch.setattr(cifar, "train_list", [["train", dump("train", train)]])
    monkeypatch.setattr(cifar, "test_list", [["test", dump("test", test)]])
    md5 = dump("meta", {"fine_label_names": ["apple", "bear"]})
    monkeypatch.setattr(cifar, "meta", {"filename": "meta", "key": "fine_label_names", "md5": md5})
    return train["data"].reshape(-1, 3, 32, 32)


def write_torchvision_cifar10(place, monkeypatch):
    """As `write_torchvision`: two training batches of three images each."""
    cifar, folder = torchvision.datasets.CIFAR10, place / "cifar-10-batches-py"
    folder.mkdir(parents=True)

    def dump(name, record):
        (folder / name).write_bytes(pickle.dumps(record))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    def batch(labels, seed):
        pixels = np.random.default_rng(seed).integers(256, size=(len(labels), 3072), dtype=np.uint8)
        return {"data": pixels, "labels": list(labels)}

    halves = [batch((0, 1, 0), 0), batch((1, 0, 0), 1)]
    monkeypatch.setattr(cifar, "train_list", [dump(f"data_batch_{i + 1}", half) for i, half in enumerate(halves)])
    monkeypatch.setattr(cifar, "test_list", [dump("test_batch", batch((1, 0), 2))])
    md5 = dump("batches.meta", {"label_names": ["airplane", "automobile"]})[1]
    monkeypatch.setattr(cifar, "meta", {"filename": "batches.meta", "key": "label_names", "md5": md5})
    return np.concatenate([half["data"] for half in halves]).reshape(-1, 3, 32, 32)


@pytest.mark.parametrize("folder", [".", "cifar10", "cifar-10"])
def test_torchvisions_own_folder_of_cifar10_is_read(root, folder, monkeypatch):
    pixels = write_torchvision_cifar10(root / folder, monkeypatch)
    data = load("cifar10", root=root)
    assert data.class_names == ("airplane", "automobile")
    assert data.class_counts.tolist() == [4, 2]
    assert data.test.labels.tolist() == [1, 0]
    assert np.array_equal(data.train.images.numpy(), pixels)
    assert load("cifar10", root=root, imbalance_factor=4).class_counts.tolist() == [4, 1]


@pytest.mark.parametrize("folder", [".", "cifar100", "cifar-100"])
def test_torchvisions_own_folder_is_read(root, folder, monkeypatch):
    pixels = write_torchvision(root / folder, monkeypatch)
    data = load("cifar100", root=root, profile="as-is")
    assert data.class_names == ("apple", "bear")
    assert data.class_counts.tolist() == [2, 1]
    assert np.array_equal(data.train.images.numpy(), pixels)
    assert "torchvision" in data.source


def test_a_damaged_torchvision_folder_is_named(root, monkeypatch):
    write_torchvision(root, monkeypatch)
    (root / "cifar-100-python" / "train").write_bytes(b"cut off")
    with pytest.raises(DataError, match="cifar-100-python"):
        load("cifar100", root=root)


# --- nothing there ---


def test_where_nothing_is_found_the_error_names_the_layouts_and_the_places(root):
    with pytest.raises(DataError) as error:
        load("cifar100", root=root)
    for part in ("cifar-100-python", "parquet", "train/<class>", str(root / "cifar100"), str(root / "cifar-100")):
        assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_where_tiny_imagenet_is_not_found_the_error_names_its_places(root):
    with pytest.raises(DataError, match="tiny-imagenet-200"):
        load("tiny-imagenet", root=root)


def test_a_download_is_read_from_where_it_was_put(root, monkeypatch):
    def unpack(_url, _root, folder, **_):
        write_tiny_imagenet(Path(folder, "tiny-imagenet-200"))

    monkeypatch.setattr("torchvision.datasets.utils.download_and_extract_archive", unpack)
    assert load("tiny-imagenet", root=root, profile="as-is").class_counts.tolist() == [3, 2]


@pytest.mark.parametrize("name", ["cifar100", "tiny-imagenet"])
def test_of_several_that_need_a_download_one_does_it_and_none_reads_a_part(root, tmp_path, monkeypatch, name):
    prepared = tmp_path / "prepared"
    write_torchvision(prepared, monkeypatch)
    write_tiny_imagenet(prepared / "tiny-imagenet-200")
    downloads, counts = [], []

    def unpack_slowly(url, _root, folder, **_):
        downloads.append(url)
        whole = "cifar-100-python" if name == "cifar100" else "tiny-imagenet-200"
        files = sorted(file for file in (prepared / whole).rglob("*") if file.is_file())
        for file in files:
            time.sleep(0.5 / len(files))
            target = Path(folder) / file.relative_to(prepared)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())

    def read():
        counts.append(load(name, root=root, profile="as-is").class_counts.tolist())

    monkeypatch.setattr("torchvision.datasets.utils.download_and_extract_archive", unpack_slowly)
    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", unpack_slowly)
    threads = [threading.Timer(0.1 * number, read) for number in range(4)]  # the later ones come amid the unpacking
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(downloads) == 1
    assert counts == [[2, 1] if name == "cifar100" else [3, 2]] * 4


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), zipfile.BadZipFile("not a zip")])
def test_a_download_that_breaks_off_is_an_error_of_its_own(root, monkeypatch, failure):
    def break_off(*_args, **_kwargs):
        raise failure

    monkeypatch.setattr("torchvision.datasets.utils.download_and_extract_archive", break_off)
    with pytest.raises(DataError, match="download"):
        load("tiny-imagenet", root=root)


# --- real data ---


def test_cifar100_at_gamma_100_has_10847_images(real_data, monkeypatch):
    if not (real_data / "cifar100").is_dir():
        pytest.skip("no CIFAR-100 among the real data")
    with tempfile.TemporaryDirectory() as cache:  # 184 MB, which tmp_path would keep
        monkeypatch.setenv("LTKD_CACHE", cache)
        data = load("cifar100", imbalance_factor=100, root=real_data, seed=1)
    assert (len(data.train), len(data.test), data.num_classes) == (10_847, 10_000, 100)
    assert data.class_counts.tolist() == class_counts("exp", 100, [500] * 100).tolist()
    assert data.class_names[:2] == ("apple", "aquarium_fish")


def test_every_source_of_a_name_is_listed():
    assert set(datasets.SOURCES) == {"digits", *registry.LAYOUTS, "imagenet-exp-lt", *large.PUBLISHED}
