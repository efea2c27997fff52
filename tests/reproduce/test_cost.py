"""The cost of runs: exact numbers of images, each view once through a teacher, time from a short measurement."""

import math

import pytest
import torch
from helpers import class_folders, digits_config

from ltkd import RunConfig, datasets, fit
from ltkd.reproduce import cost
from ltkd.reproduce.sweep import in_order

CPU = torch.device("cpu")


def cifar(method="ltkd", **settings):
    return RunConfig.make(**{"recipe": "cifar-crd", "method": method} | settings)


@pytest.mark.parametrize(
    ("settings", "images"),
    [
        ({"method": "ce"}, 10_847 * 240),  # the field's count, recipes.md
        ({"profile": "exp-eq15"}, 10_948 * 240),
        ({"dataset": "tiny-imagenet", "recipe": "tiny-imagenet-crd"}, 21_549 * 240),
        ({"dataset": "imagenet-lt", "recipe": "imagenet-lt-bkd", "method": "bkd"}, 115_846 * 90),
        ({"dataset": "places-lt", "recipe": "places-lt-bkd", "method": "crt"}, 62_500 * 10),  # its second stage
        ({"recipe": "cifar-bkd", "method": "bbn"}, 2 * 10_847 * 200),  # two streams
        ({"method": "ce", "epochs": 3, "classes": (0, 1)}, 977 * 3),
    ],
    ids=str,
)
def test_images_are_counted_without_the_data(settings, images):
    assert cost.images_of(cifar(**settings)) == images


def test_the_count_is_that_of_the_run(tmp_path):
    run = fit(digits_config(method="ce"), runs=tmp_path, device="cpu", progress=False)
    assert cost.images_of(run.config) == run.result["train_images"] * run.config.epochs


def test_a_data_set_without_a_known_size_is_loaded_and_counted(monkeypatch):
    config = digits_config(method="ce")
    known = cost.images_of(config)
    monkeypatch.setitem(datasets.SOURCES, "digits", datasets.SOURCES["digits"]._replace(size=None))
    assert cost.images_of(config) == known


def test_an_own_folder_is_loaded_and_counted(tmp_path):
    class_folders(tmp_path / "own", counts=(3, 2))
    config = RunConfig.make(dataset=str(tmp_path / "own"), method="ce", epochs=4)
    assert cost.images_of(config) == 5 * 4


def test_experts_share_the_images_of_a_teacher_and_each_computes_all_of_them():
    lfme, ce = cifar("lfme", recipe="cifar-bkd"), cifar("ce", recipe="cifar-bkd")
    assert cost.images_of(lfme) == pytest.approx(2 * 0.9 * cost.images_of(ce), rel=1e-3)
    work, one_teacher = cost.works([lfme])[0], cost.works([cifar("bkd", recipe="cifar-bkd")])[0]
    assert work.taught == pytest.approx(3 * 0.9 * one_teacher.taught, rel=0.01)


def test_each_further_student_adds_fewer_views_to_the_cache_and_all_together_at_most_every_view():
    works = cost.works([cifar("ltkd"), cifar("kd"), *(cifar("ltkd", alpha=float(a)) for a in range(1, 20))])
    taught = [work.taught for work in works]
    assert taught[0] == pytest.approx(10_847 * 162 * (1 - math.exp(-240 / 162)), abs=1)
    assert taught == sorted(taught, reverse=True)
    assert sum(taught) <= 10_847 * 162


def test_features_are_computed_at_every_step():
    (work,) = cost.works([cifar("reviewkd")])
    assert (work.teacher.network, work.taught) == ("resnet32x4", work.trained)


def test_a_student_without_a_teacher_costs_no_teacher():
    (work,) = cost.works([cifar("ce")])
    assert (work.teacher, work.taught) == (None, 0)
    assert work.tested == 10_000 * (15 + 90)  # every tenth epoch to 150, then each one


def test_the_time_is_that_of_training_teacher_and_tests():
    (work,) = cost.works([cifar("kd", epochs=2)])
    rates = {
        cost.Load("resnet8x4", (100, 3, 32), 64): (0.5, 0.1),
        cost.Load("resnet32x4", (100, 3, 32), 64): (9.0, 0.25),
    }
    assert cost.seconds(work, rates) == pytest.approx(work.trained / 2 + work.tested / 10 + work.taught / 4)


def test_the_measurement_names_every_network_and_the_report_its_time():
    works = cost.works(in_order([digits_config(method="kd"), digits_config(method="ce")]))
    rates = cost.measured(works, CPU)
    assert {load.network for load in rates} == {"resnet8", "resnet8x0.5"}
    assert all(0 < inference < training < 0.1 for training, inference in rates.values())
    text = "\n".join(cost.report(works, rates, CPU))
    assert "2.5 k images to be trained" in text
    assert "extrapolated" in text


def test_a_pretrained_network_is_measured_without_its_weights(monkeypatch):
    monkeypatch.setattr("ltkd.models.load_published", lambda *_: pytest.fail("downloads"))
    monkeypatch.setattr(cost, "SHORTEST", 0)  # of a single small batch
    config = RunConfig.make("places-lt-bkd", method="ce", student="imagenet-resnet18-pretrained", image_size=32)
    ((training, _),) = cost.measured(cost.works([config]), CPU).values()
    assert training > 0


@pytest.mark.parametrize(
    ("n", "text"), [(999, "999"), (1500, "1.5 k"), (2_603_280, "2.6 M"), (1.23e9, "1.23 G")], ids=str
)
def test_numbers_are_short(n, text):
    assert cost.number(n) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3, "3 seconds"), (600, "10 minutes"), (7380, "2 hours"), (864000, "10 days"), (38_223_360, "440 days")],
)
def test_durations_are_in_the_unit_that_fits(seconds, text):
    assert cost.duration(seconds) == text
