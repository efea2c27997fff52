import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ltkd import ClassGroups, ConfigError
from ltkd.datasets import class_counts


@pytest.mark.parametrize(
    ("n_classes", "sizes"), [(100, (33, 34, 33)), (10, (3, 4, 3)), (200, (66, 68, 66)), (3, (1, 1, 1))]
)
def test_three_groups_hold_33_34_and_33_per_cent(n_classes, sizes):
    assert ClassGroups.by_rank(range(n_classes, 0, -1)).sizes == sizes


@pytest.mark.parametrize("n_classes", [1, 2])
def test_fewer_classes_than_three_are_groups_of_their_own(n_classes):
    assert ClassGroups.by_rank(range(n_classes)).sizes == (1,) * n_classes


@given(n_classes=st.integers(1, 60), data=st.data())
def test_any_other_number_of_groups_has_sizes_that_differ_by_one_at_most(n_classes, data):
    n_groups = data.draw(st.integers(1, n_classes).filter(lambda n: n != 3))
    sizes = ClassGroups.by_rank(range(n_classes), n_groups).sizes
    assert sum(sizes) == n_classes
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("n_groups", "names"),
    [
        (1, ("all",)),
        (2, ("head", "tail")),
        (3, ("head", "medium", "tail")),
        (4, ("group 1", "group 2", "group 3", "group 4")),
    ],
)
def test_groups_by_rank_are_named(n_groups, names):
    assert ClassGroups.by_rank(range(8), n_groups).names == names


def test_ties_go_by_class_index():
    assert ClassGroups.by_rank([5] * 1000, 2).index.tolist() == [0] * 500 + [1] * 500


def test_counts_need_not_be_sorted():
    assert ClassGroups.by_rank([1, 90, 7, 50, 3, 80]).index.tolist() == [2, 0, 1, 1, 2, 0]


@given(st.lists(st.integers(1, 50), min_size=3, max_size=40))
def test_no_class_has_fewer_images_than_one_of_a_later_group(counts):
    index = ClassGroups.by_rank(counts).index.numpy()
    for g in (0, 1):
        assert np.array(counts)[index == g].min() >= np.array(counts)[index == g + 1].max()


@pytest.mark.parametrize("n_groups", [0, -1, 11])
def test_the_number_of_groups_must_fit_the_classes(n_groups):
    with pytest.raises(ConfigError, match="n_groups"):
        ClassGroups.by_rank(range(10), n_groups)


# --- by gaps ---


def test_the_cuts_are_where_the_counts_fall_most_on_a_log_scale():
    groups = ClassGroups.by_gaps([1000, 9, 900, 100, 8, 110], 3)
    assert groups.index.tolist() == [0, 2, 0, 1, 2, 1]
    assert groups.names == ("head", "medium", "tail")
    assert ClassGroups.by_gaps([1000, 500, 20, 1], 2).index.tolist() == [0, 0, 1, 1]  # 500 to 20 is a factor of 25


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.data())
def test_classes_of_one_size_stay_in_one_group(counts, data):
    groups = ClassGroups.by_gaps(counts, data.draw(st.integers(1, len(set(counts)))))
    assert len({(count, group) for count, group in zip(counts, groups.index.tolist(), strict=True)}) == len(set(counts))


@pytest.mark.parametrize(("counts", "n_groups"), [([5, 5, 3], 3), ([5, 3], 0), ([5, 0], 1)])
def test_there_are_as_many_groups_as_different_counts_at_most(counts, n_groups):
    with pytest.raises(ConfigError, match="count"):
        ClassGroups.by_gaps(counts, n_groups)


@pytest.mark.parametrize(("images", "name"), [(101, "many"), (100, "medium"), (20, "medium"), (19, "few"), (1, "few")])
def test_shots_are_many_above_100_and_few_below_20(images, name):
    assert ClassGroups.by_shots([images]).names == (name,)


def test_groups_by_shots_follow_the_counts_of_their_classes():
    groups = ClassGroups.by_shots([5, 300, 50, 200])
    assert groups.names == ("many", "medium", "few")
    assert groups.index.tolist() == [2, 0, 1, 0]


@pytest.mark.parametrize(
    ("factor", "expected"),
    [
        (10, {"many": 69, "medium": 31}),
        (20, {"many": 53, "medium": 47}),
        (100, {"many": 35, "medium": 35, "few": 30}),
    ],
)
def test_shots_of_cifar100_and_empty_groups_are_dropped(factor, expected):
    groups = ClassGroups.by_shots(class_counts("exp", factor, [500] * 100))
    assert dict(zip(groups.names, groups.sizes, strict=True)) == expected


@pytest.mark.parametrize(
    "index",
    [
        [0, 0, 0],  # group 1 has no class
        [0, 1, 2],  # group 2 has no name
        [0, -1, 1],
        [0.0, 1.0, 1.0],
        [[0, 1], [1, 0]],
    ],
)
def test_a_partition_must_use_every_group_and_no_other(index):
    with pytest.raises(ConfigError):
        ClassGroups(("a", "b"), torch.tensor(index))


def test_a_partition_of_ones_own_knows_its_sizes():
    groups = ClassGroups(["x", "y"], torch.tensor([1, 0, 1, 1], dtype=torch.int32))
    assert (groups.names, groups.sizes, groups.n_classes, groups.n_groups) == (("x", "y"), (1, 3), 4, 2)
    assert groups.index.dtype == torch.int64


@pytest.mark.parametrize("names", [("a", "a"), ("all", "tail")])
def test_names_that_would_hide_a_score_are_refused(names):
    with pytest.raises(ConfigError, match="must all differ, and 'all' may only name"):
        ClassGroups(names, torch.tensor([0, 0, 1]))


@pytest.mark.parametrize("counts", [[[1, 2], [3, 4]], [1, float("nan"), 2], [1, -1], "abc", [], [1j, 2], 3])
@pytest.mark.parametrize("groups", [ClassGroups.by_rank, ClassGroups.by_shots, lambda c: ClassGroups.by_gaps(c, 1)])
def test_what_are_no_counts_is_refused(groups, counts):
    with pytest.raises(ConfigError, match="class_counts = "):
        groups(counts)
