import numpy as np
import pytest
import torch
from helpers import draw, random_groups
from hypothesis import given
from hypothesis import strategies as st

from ltkd import ClassGroups, ConfigError
from ltkd.datasets import class_counts
from ltkd.groups import PAD


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


# --- rows: the same partition for sums over the groups ---


def of_sizes(sizes, shuffled=False):
    """Groups of these sizes; their classes in order, or mixed."""
    index = torch.repeat_interleave(torch.tensor(sizes))
    order = torch.randperm(len(index), generator=torch.Generator().manual_seed(0)) if shuffled else slice(None)
    return ClassGroups([f"g{g}" for g in range(len(sizes))], index[order])


PARTITIONS = {
    "equal": of_sizes([4, 4, 4]),
    "a third each": of_sizes([33, 34, 33]),
    "mixed": of_sizes([33, 34, 33], shuffled=True),
    "uneven": of_sizes([30, 1, 5, 2]),
    "uneven and mixed": of_sizes([1, 30, 2, 5], shuffled=True),
    "many": of_sizes([3, 2] * 20),
    "one": of_sizes([7]),
    "one class each": of_sizes([1] * 7),
    "one class": of_sizes([1]),
}
every_partition = pytest.mark.parametrize("groups", PARTITIONS.values(), ids=PARTITIONS)
partitions = st.integers(1, 40).flatmap(
    lambda c: st.builds(random_groups, st.just(c), st.integers(1, c), st.integers(0, 10**6))
)


def check_rows(groups):
    values = draw(3, groups.n_classes)
    rows = groups.rows
    cells = rows.of(values)
    held = rows.pads == 0
    assert ((rows.pads == 0) | (rows.pads == PAD)).all()
    np.testing.assert_array_equal(torch.sort(cells[:, held]).values, torch.sort(values).values)
    assert torch.equal(rows.to_classes(torch.add(rows.pads, cells)), values)
    of_row = torch.arange(groups.n_groups) if rows.owner is None else rows.owner
    np.testing.assert_array_equal(rows.of(groups.index[None].float())[0][held], of_row[:, None].expand_as(held)[held])


def check_sums(groups):
    values = draw(3, groups.n_classes)
    members = [values[:, groups.index == g] for g in range(groups.n_groups)]
    rows = groups.rows
    padded = rows.pads + rows.of(values)
    largest = rows.max(padded.amax(2))
    assert torch.equal(largest, torch.stack([m.amax(1) for m in members], 1))
    total = rows.sum((padded * (rows.pads == 0)).sum(2))
    torch.testing.assert_close(total, torch.stack([m.sum(1) for m in members], 1))
    assert torch.equal(rows.to_classes(rows.spread(largest).expand_as(padded)), largest[:, groups.index])


@every_partition
def test_rows_hold_every_class_once_with_its_group(groups):
    check_rows(groups)


@given(partitions)
def test_rows_hold_every_class_of_any_partition(groups):
    check_rows(groups)


@every_partition
def test_sums_over_rows_are_sums_over_groups(groups):
    check_sums(groups)


@given(partitions)
def test_sums_over_rows_are_sums_over_the_groups_of_any_partition(groups):
    check_sums(groups)


@pytest.mark.parametrize("name", ["equal", "a third each", "one", "one class each"])
def test_classes_that_are_sorted_by_group_are_not_gathered(name):
    assert PARTITIONS[name].rows.take is None


@pytest.mark.parametrize("name", ["equal", "one", "one class each"])
def test_rows_of_equal_groups_in_order_are_the_classes(name):
    assert PARTITIONS[name].rows.place is None
    assert not PARTITIONS[name].rows.pads.any()


@pytest.mark.parametrize(
    "sizes", [[8000] + [1] * 142, [1] * 142 + [8000], [8141, 1], [1, 8141], [100, 1000, 7042], [2713, 2714, 2715]]
)
@pytest.mark.parametrize("shuffled", [False, True])
def test_very_uneven_groups_need_little_memory(sizes, shuffled):
    groups = of_sizes(sizes, shuffled)
    check_rows(groups)
    parts = [part for part in groups.rows if isinstance(part, torch.Tensor)]
    assert groups.rows.pads.numel() <= 1.5 * groups.n_classes
    assert sum(part.numel() for part in parts) <= 5 * groups.n_classes


@given(partitions)
def test_at_most_half_as_many_cells_are_padded_as_there_are_classes(groups):
    assert groups.rows.pads.numel() <= 1.5 * groups.n_classes
    assert len(groups.rows.pads) <= 3 * groups.n_groups


def test_rows_move_with_their_groups():
    groups = PARTITIONS["uneven and mixed"]
    moved = groups.rows.to("meta")
    assert all(part.is_meta for part in moved if isinstance(part, torch.Tensor))
    assert moved.pads.stride() == groups.rows.pads.stride()
    assert groups.rows.to(torch.device("cpu")) is groups.rows
