import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from ltkd.training.sampling import SAMPLERS, hold_out

COUNTS = (37, 16, 0, 5, 3, 1)  # one class is not there
PRESENT = [0, 1, 3, 4, 5]
every_sampler = pytest.mark.parametrize("name", SAMPLERS)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def labels_of(counts):
    """Labels in a random order, so that an image's place says nothing of its class."""
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return labels[torch.randperm(len(labels), generator=generator(99))]


LABELS = labels_of(COUNTS)


def draw(name, seed=0, labels=LABELS):
    return SAMPLERS[name](labels, generator(seed))


# --- all ---


@every_sampler
def test_an_epoch_shows_as_many_images_as_there_are(name):
    order = draw(name)
    assert (order.shape, order.dtype) == (LABELS.shape, torch.int64)
    assert 0 <= order.min() <= order.max() < len(LABELS)


@every_sampler
def test_the_generator_alone_decides(name):
    before = torch.get_rng_state()
    assert torch.equal(draw(name), draw(name))
    assert not torch.equal(draw(name), draw(name, seed=1))
    assert torch.equal(torch.get_rng_state(), before)


# --- images, or classes, at random ---


def test_instance_shows_every_image_once():
    assert sorted(draw("instance").tolist()) == list(range(len(LABELS)))


def wanted(name):
    """The share of each class that is there."""
    counts = np.array([COUNTS[c] for c in PRESENT])
    shares = {"instance": counts, "reversed": 1 / counts}[name]
    return shares / shares.sum()


@pytest.mark.parametrize("expected", ["instance", "reversed"])
def test_classes_are_drawn_by_their_shares(expected):
    """The chi-square test of 6200 draws holds for the sampler's own shares and fails for the others'."""
    drawn = torch.cat([LABELS[draw("reversed", seed)] for seed in range(100)]).bincount(minlength=6)[PRESENT]
    p = chisquare(drawn, wanted(expected) * drawn.sum().item()).pvalue
    assert (p > 0.01) if expected == "reversed" else (p < 1e-9)


def test_the_images_of_a_class_are_drawn_alike_and_with_replacement():
    drawn = torch.cat([draw("reversed", seed) for seed in range(100)]).bincount(minlength=len(LABELS))
    for c in (0, 1, 3, 4):
        assert chisquare(drawn[c == LABELS]).pvalue > 0.01
    assert draw("reversed").bincount().max() > 1


# --- class by class ---


def visits(labels, seed=0):
    """The images of each visit to a class, but for a last one that was cut."""
    order = draw("class-aware", seed, labels)
    return order[: len(order) // 4 * 4].view(-1, 4)


@pytest.mark.parametrize("seed", range(5))
def test_every_cycle_visits_each_class_once_for_four_images(seed):
    own = LABELS[visits(LABELS, seed)]
    assert (own == own[:, :1]).all()
    cycles = own[:, 0].split(len(PRESENT))
    assert all(sorted(cycle.tolist()) == PRESENT for cycle in cycles[:-1])
    assert len(set(cycles[-1].tolist())) == len(cycles[-1])
    assert len({tuple(cycle.tolist()) for cycle in cycles[:-1]}) > 1  # in an order of its own


@pytest.mark.parametrize("seed", range(5))
def test_a_class_shows_each_of_its_images_before_it_repeats_one(seed):
    labels = labels_of((400, 16, 5, 3, 1))
    order = visits(labels, seed).flatten()
    for c, n in enumerate((400, 16, 5, 3, 1)):
        rounds = order[labels[order] == c].split(n)
        assert all(len(set(images.tolist())) == len(images) for images in rounds)
        assert len(rounds) > 1 or c == 0
        assert len({tuple(images.tolist()) for images in rounds[:-1]}) > 1 or c in (0, 4)  # each round in its own order


def test_a_class_of_fewer_than_four_images_repeats_some_within_its_visit():
    own = [visit.tolist() for visit in visits(LABELS) if LABELS[visit[0]] in (4, 5)]
    assert {(int(LABELS[visit[0]]), len(set(visit))) for visit in own} == {(4, 3), (5, 1)}


def test_more_classes_than_an_epoch_can_visit_are_no_trouble():
    labels = torch.arange(10)
    shown = visits(labels)
    assert (len(shown), len(shown[:, 0].unique())) == (2, 2)
    assert (shown == shown[:, :1]).all()


# --- images held out ---


def split(labels, share, counts, classes=None):
    return hold_out(labels, share, [generator(100 + c) for c in classes or range(len(counts))])


@pytest.mark.parametrize(
    ("share", "held"),
    [(0.1, (10, 2, 1, 1, 1, 0, 0)), (0.5, (50, 8, 2, 2, 1, 0, 0)), (0.001, (1, 1, 1, 1, 1, 0, 0))],
)
def test_a_share_of_each_class_is_held_out_at_least_one_and_never_the_only_one(share, held):
    counts = (100, 16, 4, 3, 2, 1, 0)
    labels = labels_of(counts)
    kept, out = split(labels, share, counts)
    assert labels[out].bincount(minlength=7).tolist() == list(held)
    assert sorted([*kept.tolist(), *out.tolist()]) == list(range(len(labels)))
    assert all(part.diff().gt(0).all() for part in (kept, out))


def test_the_images_held_out_are_drawn_at_random():
    labels = torch.zeros(200, dtype=torch.long)
    held = [set(hold_out(labels, 0.5, [generator(seed)])[1].tolist()) for seed in (0, 1)]
    assert 20 < len(held[0] & held[1]) < 80  # half of either, at random


def test_the_images_of_a_class_are_split_alike_whatever_other_classes_are_there():
    counts = (100, 16, 30, 3, 2, 9)
    labels = labels_of(counts)
    _, of_all = split(labels, 0.3, counts)
    some = (5, 0, 2)
    present = torch.isin(labels, torch.tensor(some)).nonzero().squeeze(1)
    numbered = torch.tensor([some.index(c) for c in labels[present].tolist()])
    _, of_some = split(numbered, 0.3, counts, some)
    expected = of_all[torch.isin(labels[of_all], torch.tensor(some))]
    assert torch.equal(present[of_some], expected)
