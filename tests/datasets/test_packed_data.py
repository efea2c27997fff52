"""A packed subset gives the very pixels of the whole data set, and nothing else."""

import json
import urllib.request

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from test_sources import parquet_table, png

from ltkd import DataError, RunConfig, datasets
from ltkd.datasets import packed, sources
from ltkd.training.setup import load_dataset

pytestmark = pytest.mark.usefixtures("own_cache_no_network")


@pytest.fixture
def whole(root):
    """A small cifar100 of two classes, of noise that no lossy compression would keep."""
    rng, place = np.random.default_rng(0), root / "cifar100"
    place.mkdir()
    for half, labels in (("train", [0] * 8 + [1] * 8), ("test", [0, 1, 1, 0])):
        pictures = [png(Image.fromarray(rng.integers(256, size=(8, 8, 3), dtype=np.uint8))) for _ in labels]
        rows = [{"bytes": picture, "path": None} for picture in pictures]
        table = parquet_table(labels, names=["a", "b"])
        pq.write_table(table.set_column(0, "img", [rows]), place / f"{half}-00000-of-00001.parquet")
    return root


def config(**settings):
    return RunConfig.make(**{"dataset": "cifar100", "method": "ce", "imbalance_factor": 4.0} | settings)


def pack(whole, folder, **settings):
    made = config(**settings)
    return packed.pack(load_dataset(made, whole), folder, made)


def same(first, second):
    halves = [(getattr(first, half), getattr(second, half)) for half in ("train", "test")]
    pixels = all(torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels) for a, b in halves)
    return pixels and first.class_names == second.class_names and torch.equal(first.class_counts, second.class_counts)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"seed": 3},
        {"seed": 3, "subset_seed": 1},
        {"profile": "exp-eq15"},
        {"profile": (7, 2), "imbalance_factor": 1.0},
        {"profile": "as-is", "imbalance_factor": 1.0},
        {"image_size": 16},
    ],
    ids=str,
)
def test_the_pixels_are_those_of_the_whole_data_set(whole, tmp_path, settings):
    pack(whole, tmp_path / "there", **settings)
    made = config(**settings)
    for _ in range(2):  # decoded, then out of the cache
        found = load_dataset(made, tmp_path / "there")
        assert "packed in" in found.source
        assert same(found, load_dataset(made, whole))


@pytest.mark.parametrize("image_size", [8, 12, 16])
def test_images_packed_as_they_are_serve_any_size(whole, tmp_path, image_size):
    pack(whole, tmp_path / "there")
    made = config(image_size=image_size)
    assert same(load_dataset(made, tmp_path / "there"), load_dataset(made, whole))


def test_grey_images_stay_grey(tmp_path):
    made = RunConfig.make(method="ce")
    data = load_dataset(made)
    packed.pack(data, tmp_path, made)
    found = load_dataset(made, tmp_path)
    assert found.in_channels == 1
    assert "packed in" in found.source
    assert same(found, data)


@pytest.mark.parametrize("asked", [{"imbalance_factor": 2.0}, {"seed": 1}, {"profile": "step"}, {"image_size": 8}])
def test_another_subset_is_refused_with_what_is_there_and_never_downloaded(whole, tmp_path, monkeypatch, asked):
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: pytest.fail("downloads"))
    monkeypatch.setattr(sources, "_download", lambda *_: pytest.fail("downloads"))
    file = pack(whole, tmp_path / "there", image_size=16)
    with pytest.raises(
        DataError, match=r"only packed subsets are here: .* seed 0, 16 pixels a side; asked for was"
    ) as e:
        load_dataset(config(**{"image_size": 16} | asked), tmp_path / "there")
    assert str(file) in str(e.value)


def test_a_damaged_whole_data_set_is_named_beside_a_packed_subset_too(whole):
    pack(whole, whole)
    file = whole / "cifar100" / "train-00000-of-00001.parquet"
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(DataError, match=f"{file} cannot be read as parquet"):
        load_dataset(config(imbalance_factor=2.0), whole)


def test_beside_the_whole_data_set_every_subset_is_served(whole):
    pack(whole, whole)
    assert "parquet files" in load_dataset(config(imbalance_factor=2.0), whole).source
    assert "packed in" in load_dataset(config(), whole).source


def test_a_run_has_the_same_name_whatever_its_data_come_from(whole, tmp_path):
    """Where images lie is no part of a config."""
    pack(whole, tmp_path / "there")
    assert load_dataset(config(), tmp_path / "there").name == load_dataset(config(), whole).name == "cifar100"


def test_another_data_set_is_not_in_the_way(whole, tmp_path):
    pack(whole, tmp_path)
    assert datasets.load("digits", imbalance_factor=4, root=tmp_path).source == "scikit-learn's digits"


@pytest.mark.parametrize("damage", ["cut off", "foreign", "image"])
def test_a_damaged_file_is_one_sentence(whole, tmp_path, damage):
    file = pack(whole, tmp_path)
    if damage == "cut off":
        file.write_bytes(file.read_bytes()[:-20])
    elif damage == "foreign":
        pq.write_table(pq.read_table(file).replace_schema_metadata({}), file)
    else:
        table = pq.read_table(file)
        broken = table.set_column(2, "image", [[b"no image"] * len(table)])
        pq.write_table(broken, file)
    with pytest.raises(DataError, match=r"cifar100-exp4-s0\.packed\.parquet") as error:
        load_dataset(config(), tmp_path)
    assert "\n" not in str(error.value)


def test_the_file_says_what_is_in_it(whole, tmp_path):
    file = pack(whole, tmp_path, seed=2)
    about = json.loads(pq.read_schema(file).metadata[packed.KEY])
    assert (file.name, about["seed"], about["class_names"]) == ("cifar100-exp4-s2.packed.parquet", 2, ["a", "b"])


def test_a_folder_of_ones_own_is_not_packed(whole, tmp_path):
    (tmp_path / "own").mkdir()
    made = RunConfig.make(dataset=str(tmp_path / "own"), method="ce")
    with pytest.raises(DataError, match="carry the folder"):
        packed.pack(load_dataset(config(), whole), tmp_path, made)


def test_images_on_disk_are_too_many_to_pack(tmp_path, monkeypatch):
    data = load_dataset(RunConfig.make(method="ce"))
    monkeypatch.setattr(type(data), "streamed", True)
    with pytest.raises(DataError, match="too large to be packed"):
        packed.pack(data, tmp_path, RunConfig.make(method="ce"))


def test_packs_of_different_counts_have_different_names():
    about = {"name": "digits", "imbalance_factor": 1.0, "seed": 0, "image_size": None}
    names = {packed._stem(about | {"profile": [n] * 10}) for n in (10, 20)}
    assert len(names) == 2
