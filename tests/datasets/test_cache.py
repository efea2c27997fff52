import numpy as np
import pytest
import torch
from pictures import picture, save, write_folder, write_parquet

from ltkd.datasets import load

pytestmark = pytest.mark.usefixtures("own_cache_no_network")


def as_arrays(data):
    return [getattr(half, part).numpy() for half in (data.train, data.test) for part in ("images", "labels")]


def refuse_to_decode(*_args, **_kwargs):
    raise AssertionError("decoded again")


@pytest.fixture(params=["parquet", "folder"])
def stored(request, root):
    """A function that loads a small data set of one kind."""
    if request.param == "parquet":
        write_parquet(root / "cifar100")
    else:
        write_folder(root / "cifar100")
    return lambda **how: load("cifar100", root=root, profile="as-is", **how)


def test_the_second_time_the_same_images_come_from_the_cache(stored, monkeypatch):
    first = stored()
    monkeypatch.setattr("PIL.Image.open", refuse_to_decode)
    second = stored()
    assert all(np.array_equal(a, b) for a, b in zip(as_arrays(first), as_arrays(second), strict=True))
    assert (second.class_names, second.source) == (first.class_names, first.source)


@pytest.mark.parametrize("damage", [b"", b"damaged", None], ids=["empty", "garbage", "cut"])
def test_a_damaged_cache_is_made_anew(stored, tmp_path, monkeypatch, damage):
    first = stored()
    (cache,) = (tmp_path / "cache").glob("*.safetensors")
    cache.write_bytes(cache.read_bytes()[:-50] if damage is None else damage)
    second = stored()
    assert all(np.array_equal(a, b) for a, b in zip(as_arrays(first), as_arrays(second), strict=True))
    monkeypatch.setattr("PIL.Image.open", refuse_to_decode)
    stored()


def test_a_changed_file_renews_the_cache(root):
    place = write_folder(root / "pets")
    before = load(str(place), profile="as-is")
    save(place / "train" / "cat" / "0.png", picture(250, mode="L"))
    after = load(str(place), profile="as-is")
    assert not torch.equal(after.train.images[0], before.train.images[0])
    assert torch.equal(after.train.images[1:], before.train.images[1:])


def test_what_another_version_decoded_is_not_taken(stored, monkeypatch):
    stored()
    monkeypatch.setattr("ltkd.datasets.cache.FORMAT", 0)
    monkeypatch.setattr("PIL.Image.open", refuse_to_decode)
    with pytest.raises(AssertionError, match="decoded again"):
        stored()


def test_another_image_size_has_its_own_cache(stored):
    assert (stored().image_size, stored(image_size=16).image_size, stored().image_size) == (8, 16, 8)


def test_a_cache_that_cannot_be_written_is_only_a_warning(stored, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="not kept"):
        assert len(stored().train) == 5
