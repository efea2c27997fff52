"""Runs on images that stay on disk, from real JPEG files to a stored student."""

import numpy as np
import pytest
from PIL import Image

from ltkd import ConfigError, RunConfig, fit
from ltkd.reproduce.sweep import sweep

SIZES = ((40, 30), (30, 52), (64, 64), (20, 24))
CLASSES, TRAINING, TEST = ("ant", "bee", "cat"), (9, 5, 3), 3


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A stand-in for Places-LT: noise of a colour of its own for each class, grey and CMYK files among them."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    lists = {"train": [], "test": []}
    for label, name in enumerate(CLASSES):
        for half, n in (("train", TRAINING[label]), ("test", TEST)):
            for i in range(n):
                path = f"data_256/{name}/{half}{i}.jpg"
                pixels = rng.integers(0, 90, (*SIZES[i % 4][::-1], 3)) + 80 * (np.arange(3) == label)
                image = Image.fromarray(pixels.astype(np.uint8)).convert(("RGB", "RGB", "CMYK", "L")[i % 4])
                (folder / "places-lt" / path).parent.mkdir(parents=True, exist_ok=True)
                image.save(folder / "places-lt" / path)
                lists[half].append(f"{path} {label}\n")
    for half, lines in lists.items():
        (folder / "places-lt" / f"Places_LT_{half}.txt").write_text("".join(lines))
    return folder


def train(root, runs, workers=0, **settings):
    small = {
        "method": "bkd",
        "teacher": "resnet8x0.5",
        "student": "resnet8x0.5",
        "image_size": 16,
        "epochs": 2,
        "batch_size": 6,
    }
    config = RunConfig.make(dataset="places-lt", **small | settings)
    return fit(config, runs=runs, data_root=root, workers=workers, device="cpu", progress=False)


@pytest.mark.slow
def test_side_by_side_too_processes_decode_the_images(root, tmp_path):
    alone = train(root, tmp_path / "alone")
    where = {"runs": tmp_path / "together", "data_root": root, "device": "cpu", "report": None}
    (together,) = sweep([alone.config], jobs=2, workers=2, **where)
    assert np.array_equal(alone.logits, together.logits)


def test_an_expert_on_some_classes_learns_from_images_on_disk(root, tmp_path):
    run = train(root, tmp_path, method="ce", teacher=None, classes=(2, 0), epochs=1)
    assert run.class_counts.tolist() == [TRAINING[2], TRAINING[0]]
    assert run.result["class_names"] == ["cat", "ant"] and run.labels.tolist() == [1] * TEST + [0] * TEST


@pytest.mark.slow
def test_a_run_on_images_on_disk_is_the_same_whoever_decodes_them(root, tmp_path):
    alone, helped = (train(root, tmp_path / str(workers), workers) for workers in (0, 2))
    assert alone.class_counts.tolist() == list(TRAINING)
    assert alone.logits.shape == (len(CLASSES) * TEST, len(CLASSES))
    assert np.array_equal(alone.logits, helped.logits)
    assert alone.result["teacher_cache"] == "off: images on disk have no numbered views"


def test_two_streams_of_images_on_disk_run_side_by_side(root, tmp_path):
    assert np.isfinite(train(root, tmp_path, method="bbn").logits).all()


def test_a_normalisation_can_be_computed_from_images_on_disk(root, tmp_path):
    result = train(root, tmp_path, method="ce", normalization="data", epochs=1).result
    assert all(0.1 < mean < 0.5 for mean in result["normalization"]["mean"])


def test_numbered_views_are_not_for_images_on_disk(root, tmp_path):
    with pytest.raises(ConfigError, match="imagenet-crop"):
        train(root, tmp_path, augmentation="crop4-flip")


def test_answers_about_images_on_disk_cannot_be_remembered_on_demand(root, tmp_path):
    config = RunConfig.make(
        dataset="places-lt", method="kd", teacher="resnet8x0.5", student="resnet8x0.5", image_size=16, epochs=1
    )
    with pytest.raises(ConfigError, match="no numbered views"):
        fit(config, runs=tmp_path, data_root=root, workers=0, cache="memory", device="cpu", progress=False)
