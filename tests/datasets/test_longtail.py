import numpy as np
import pytest

from ltkd import ConfigError, DataError
from ltkd.datasets import class_counts, longtail_indices

LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 50))


@pytest.mark.parametrize(
    ("profile", "n_classes", "factor", "total"),
    [
        ("exp", 100, 10, 19_573),
        ("exp", 100, 20, 15_907),
        ("exp", 100, 100, 10_847),
        ("exp-eq15", 100, 10, 19_718),
        ("exp-eq15", 100, 20, 16_046),
        ("exp-eq15", 100, 100, 10_948),
        ("exp", 200, 10, 39_072),
        ("exp", 200, 20, 31_711),
        ("exp", 200, 100, 21_549),
        ("exp-eq15", 200, 10, 39_211),
        ("exp-eq15", 200, 20, 31_851),
        ("exp-eq15", 200, 100, 21_644),
    ],
)
def test_totals_of_cifar100_and_tiny_imagenet(profile, n_classes, factor, total):
    assert class_counts(profile, factor, [500] * n_classes).sum() == total


every_profile = pytest.mark.parametrize("profile", ["exp", "exp-eq15", "step", "pareto"])


@every_profile
@pytest.mark.parametrize("factor", [1, 7.3, 100])
def test_counts_never_rise(profile, factor):
    assert (np.diff(class_counts(profile, factor, [500] * 30)) <= 0).all()


@every_profile
def test_factor_one_keeps_every_image(profile):
    assert class_counts(profile, 1, [40] * 7).tolist() == [40] * 7


@every_profile
def test_a_single_class_keeps_its_images(profile):
    assert class_counts(profile, 10, [40]).tolist() == [40]


@pytest.mark.parametrize("profile", ["exp", "step", "pareto"])
@pytest.mark.parametrize("factor", [2, 10, 20, 50, 100, 500])
def test_the_last_class_has_the_factors_share_of_the_first(profile, factor):
    counts = class_counts(profile, factor, [500] * 100)
    assert (counts[0], counts[-1]) == (500, 500 // factor)


def test_equation_15_ends_one_class_short_of_the_factors_share():
    assert class_counts("exp-eq15", 10, [1000] * 4)[-1] == int(1000 * 10**-0.75)


def test_a_step_halves_the_classes():
    assert class_counts("step", 10, [50] * 6).tolist() == [50, 50, 50, 5, 5, 5]


def test_pareto_falls_faster_than_exp_at_first():
    pareto, exp = (class_counts(profile, 100, [5000] * 100) for profile in ("pareto", "exp"))
    assert (pareto[1:-1] < exp[1:-1]).all()


def test_counts_may_be_given_one_by_one():
    assert class_counts((9, 4, 7), 1, [10, 10, 10]).tolist() == [9, 4, 7]


def test_as_is_keeps_what_is_there():
    assert class_counts("as-is", 100, [3, 90, 14]).tolist() == [3, 90, 14]


def test_where_counts_are_capped_a_small_class_gives_all_it_has():
    assert class_counts("exp", 4, [8, 3, 8], capped=True).tolist() == [8, 3, 2]
    assert class_counts("exp", 4, [8, 4, 2], capped=True).tolist() == [8, 4, 2]


def test_counts_given_one_by_one_are_never_capped():
    with pytest.raises(DataError, match="class 1 has 3 images"):
        class_counts([8, 4, 2], 1, [8, 3, 8], capped=True)


@pytest.mark.parametrize(
    ("profile", "factor", "available", "error", "message"),
    [
        ("exp", 501, [500] * 10, DataError, "too large"),
        ("exp", 2, [500, 10, 500], DataError, "class 1 has 10 images"),
        ((9, 4), 1, [10, 10, 10], ConfigError, "2 counts given for 3 classes"),
        ((9, 4, 11), 1, [10, 10, 10], DataError, "class 2 has 10 images"),
        ((9, 0, 3), 1, [10, 10, 10], DataError, "class 1"),
        ("expp", 10, [10, 10], ConfigError, "'exp'"),
    ],
)
def test_a_profile_that_does_not_fit_the_data_raises(profile, factor, available, error, message):
    with pytest.raises(error, match=message):
        class_counts(profile, factor, available)


def test_a_subset_has_the_counts_asked_for():
    counts = np.array([50, 30, 20, 10, 9, 8, 7, 6, 2, 1])
    indices = longtail_indices(LABELS, counts, seed=3)
    assert np.bincount(LABELS[indices]).tolist() == counts.tolist()


def test_a_subset_names_each_image_once_in_ascending_order():
    indices = longtail_indices(LABELS, [20] * 10, seed=3)
    assert (np.diff(indices) > 0).all()


@pytest.mark.parametrize("profile", ["exp", "exp-eq15", "pareto"])
def test_the_subset_for_a_larger_factor_lies_inside_that_for_a_smaller_one(profile):
    small, middle, large = (
        set(longtail_indices(LABELS, class_counts(profile, factor, [50] * 10), seed=5)) for factor in (2, 10, 50)
    )
    assert large < middle < small


def test_one_seed_gives_one_subset():
    assert np.array_equal(longtail_indices(LABELS, [20] * 10, seed=3), longtail_indices(LABELS, [20] * 10, seed=3))


def test_another_seed_gives_another_subset():
    assert not np.array_equal(longtail_indices(LABELS, [20] * 10, 3), longtail_indices(LABELS, [20] * 10, 4))
