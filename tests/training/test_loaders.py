import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from prepared import prepared

from ltkd import METHODS
from ltkd.datasets import ImageSet
from ltkd.datasets.image_files import ImageFiles
from ltkd.datasets.normalization import Normalizer
from ltkd.training.loaders import batch_sizes, default_workers, make_loader

NORMALIZE = Normalizer((0.2, 0.4, 0.6), (0.5, 0.25, 0.3))
LABELS = torch.arange(23) % 5
COLOURS = [(10 * i, 250 - 5 * i, 7 * i) for i in range(23)]  # an image of one colour keeps it however it is cut


def held(_folder):
    pixels = torch.tensor(COLOURS, dtype=torch.uint8)[:, :, None, None].expand(-1, -1, 8, 8)
    return ImageSet(pixels.contiguous(), LABELS)


def streamed(folder):
    for i, colour in enumerate(COLOURS):
        Image.new("RGB", (9, 11), colour).save(folder / f"{i}.png")
    return ImageFiles([folder / f"{i}.png" for i in range(23)], LABELS, image_size=8)


@pytest.fixture(params=[(held, "crop1"), (streamed, "imagenet-crop")], ids=["held", "streamed"])
def source(request, tmp_path):
    """Images in memory and on disk: (images, an augmentation for them)."""
    make, augmentation = request.param
    return make(tmp_path), augmentation


def loader_of(source, augmentation=None):
    images, usual = source
    return make_loader(images, augmentation or usual, NORMALIZE, torch.device("cpu"), workers=0)


def epoch_of(source, batch_size=23, sampler="instance", seed=3):
    """The batches of an epoch."""
    each = loader_of(source)
    return [*each.batches(each.draw(sampler, seed), batch_size)]


def normalized(indices):
    """The colours of images as a network should see them, (B, 3)."""
    colours = torch.tensor(COLOURS)[indices] / 255
    return (colours - torch.tensor([0.2, 0.4, 0.6])) / torch.tensor([0.5, 0.25, 0.3])


# --- the sizes of batches ---


@given(st.integers(1, 500), st.integers(1, 80))
def test_batches_share_the_images_and_none_but_the_only_one_is_of_a_single_image(n, batch_size):
    sizes = batch_sizes(n, batch_size)
    assert sum(sizes) == n
    assert 1 not in sizes or batch_size == 1 or n == 1
    assert all(size == batch_size for size in sizes[:-1])
    assert sizes[-1] <= batch_size + 1


@pytest.mark.parametrize(
    ("n", "batch_size", "sizes"),
    [
        (12, 4, [4, 4, 4]),
        (14, 4, [4, 4, 4, 2]),
        (13, 4, [4, 4, 5]),
        (5, 4, [5]),
        (3, 4, [3]),
        (1, 4, [1]),
        (3, 1, [1, 1, 1]),
    ],
)
def test_a_last_image_on_its_own_joins_the_batch_before(n, batch_size, sizes):
    assert batch_sizes(n, batch_size) == sizes


# --- the batches of an epoch ---


def test_an_epoch_is_drawn_by_its_sampler_in_batches_of_the_size_asked_for(source):
    batches = epoch_of(source, 5)
    assert [len(batch.labels) for batch in batches] == [5, 5, 5, 5, 3]
    indices = torch.cat([batch.indices for batch in batches])
    assert sorted(indices.tolist()) == list(range(23))
    assert indices.tolist() != list(range(23))
    repeated = torch.cat([batch.indices for batch in epoch_of(source, 5, "reversed")])
    assert len(set(repeated.tolist())) < 23


def test_images_labels_and_indices_of_a_batch_belong_together_and_are_normalized(source):
    for batch in epoch_of(source, 5):
        assert torch.equal(batch.labels, LABELS[batch.indices])
        assert batch.images.shape == (len(batch.labels), 3, 8, 8)
        torch.testing.assert_close(batch.images[:, :, 4, 4], normalized(batch.indices))


def test_the_seed_decides_over_order_and_augmentation(source, tmp_path):
    """Images of noise, where every cut is another."""
    images, augmentation = noisy(source[0], tmp_path)
    first, again, other = (epoch_of((images, augmentation), seed=seed)[0] for seed in (0, 0, 1))
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.indices, again.indices)
    assert not torch.equal(first.indices, other.indices)
    by_image = [batch.images[batch.indices.argsort()] for batch in (first, other)]
    alike = (by_image[0] == by_image[1]).flatten(1).all(1)
    assert alike.sum() < 12  # of nine views, two are the same once in nine times


def noisy(images, folder):
    noise = torch.randint(256, (23, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    if not images.streamed:
        return ImageSet(noise, LABELS), "crop1"
    for i, image in enumerate(noise):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"noise{i}.png")
    return ImageFiles([folder / f"noise{i}.png" for i in range(23)], LABELS, image_size=8), "imagenet-crop"


def test_images_on_disk_are_cut_anew_though_they_come_in_the_same_order(tmp_path):
    each = loader_of(noisy(streamed(tmp_path), tmp_path))
    drawn = each.draw("instance", seed=0)
    (first,), (second,) = (each.batches(drawn._replace(seed=seed), 23) for seed in (0, 1))
    assert torch.equal(first.indices, second.indices)
    assert not (first.images == second.images).flatten(1).all(1).any()


def test_a_test_sees_all_images_in_order_and_as_they_are(source):
    batches = list(loader_of(source, "none").plain(10))
    assert [len(images) for images in batches] == [10, 10, 3]
    expected = normalized(torch.arange(23))[:, :, None, None].expand(-1, -1, 8, 8)
    torch.testing.assert_close(torch.cat(batches), expected)


def test_a_scan_of_the_training_images_is_not_augmented(source):
    (images,) = loader_of(source).plain()
    torch.testing.assert_close(images, normalized(torch.arange(23))[:, :, None, None].expand(-1, -1, 8, 8))


def test_the_views_of_images_in_memory_are_the_augmentations():
    pixels = torch.randint(256, (23, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(pixels, (1, 1, 1, 1))
    crops = torch.stack([padded[:, :, i : i + 8, j : j + 8] for i in range(3) for j in range(3)], 1)
    (batch,) = epoch_of((ImageSet(pixels, LABELS), "crop1"))
    found = (NORMALIZE(crops[batch.indices].flatten(0, 1)).unflatten(0, (23, 9)) == batch.images[:, None]).flatten(2)
    which = found.all(2)
    assert which.any(1).all()
    assert which.any(0).sum() >= 5  # and not the same one for all


def test_there_is_a_worker_for_every_core_and_not_more_than_sixteen(monkeypatch):
    for cores, workers in ((3, 3), (64, 16)):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, cores=cores: set(range(cores)), raising=False)
        assert default_workers() == workers


# --- the streams of a job ---


def batches(method, epoch, seed=0):
    """The steps' batches of an epoch: {stream: Batch} each."""
    return [step.batches for step in prepared(method, seed=seed, subset_seed=0).steps(epoch)]


def test_streams_come_in_step_and_each_is_drawn_for_itself(monkeypatch):
    """Even where both are drawn by the same sampler."""
    monkeypatch.setattr(METHODS["bbn"], "streams", {"main": "instance", "second": "instance"})
    pairs = batches("bbn", 1)
    assert all(list(pair) == ["main", "second"] for pair in pairs)
    assert all(len(pair["main"].labels) == len(pair["second"].labels) for pair in pairs)
    assert not torch.equal(pairs[0]["main"].indices, pairs[0]["second"].indices)


def test_the_main_stream_is_the_same_whatever_streams_a_method_has_beside_it():
    for alone, beside in zip(batches("ce", 2), batches("bbn", 2), strict=True):
        assert torch.equal(alone["main"].images, beside["main"].images)


@pytest.mark.parametrize("name", ["main", "reversed"])
def test_every_epoch_draws_anew_and_a_seed_draws_the_same_again(name):
    def images(epoch, seed=0):
        return torch.cat([pair[name].images for pair in batches("bbn", epoch, seed)])

    assert torch.equal(images(1), images(1))
    assert not torch.equal(images(1), images(2))
    assert not torch.equal(images(1), images(1, seed=1))
