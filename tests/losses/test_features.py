"""The losses on feature maps, compared with float64 oracles written one element at a time."""

import math

import numpy as np
import pytest
import torch
from helpers import draw

from ltkd import ConfigError, losses

# --- oracles ---


def pool_oracle(maps, size):
    """Averages of windows that together cover a map; where it cannot be cut evenly they overlap."""
    h, w = maps.shape[2:]
    pooled = np.zeros((*maps.shape[:2], size, size))
    for i in range(size):
        for j in range(size):
            rows = slice(i * h // size, -(-(i + 1) * h // size))
            columns = slice(j * w // size, -(-(j + 1) * w // size))
            pooled[:, :, i, j] = maps[:, :, rows, columns].mean((2, 3))
    return pooled


def hierarchical_oracle(student, teacher):
    total, weights, weight = ((student - teacher) ** 2).mean(), 1.0, 1.0
    for size in (4, 2, 1):
        if size < student.shape[2]:
            weight /= 2
            total += weight * ((pool_oracle(student, size) - pool_oracle(teacher, size)) ** 2).mean()
            weights += weight
    return total / weights


def attention_oracle(student, teacher, size, normalize):
    total = 0.0
    for s, t in zip(pool_oracle(student, size), pool_oracle(teacher, size), strict=True):
        for a, b in zip(s, t, strict=True):  # one class of one image
            if normalize:
                a, b = a / math.sqrt((a**2).sum()), b / math.sqrt((b**2).sum())
            total += ((a - b) ** 2).sum()
    return total / (student.shape[0] * student.shape[1] * size**2)


# --- values ---


def test_the_hint_is_the_mean_squared_difference():
    student, teacher = draw(2, 3, 4, 5), draw(2, 3, 4, 5, seed=1)
    expected = sum((a - b) ** 2 for a, b in zip(student.flatten().tolist(), teacher.flatten().tolist(), strict=True))
    assert losses.hint(student, teacher).item() == pytest.approx(expected / 120, rel=1e-12)


@pytest.mark.parametrize("height", [1, 2, 3, 4, 5, 8, 16])
def test_the_hierarchical_context_is_the_closed_form(height):
    student, teacher = draw(2, 3, height, height), draw(2, 3, height, height, seed=1)
    expected = hierarchical_oracle(student.numpy(), teacher.numpy())
    assert losses.hierarchical_context(student, teacher).item() == pytest.approx(expected, rel=1e-12)


def test_the_hierarchical_context_of_one_pixel_is_the_mean_squared_difference():
    student, teacher = draw(4, 64, 1, 1), draw(4, 64, 1, 1, seed=1)
    torch.testing.assert_close(losses.hierarchical_context(student, teacher), (student - teacher).square().mean())


def test_a_difference_that_the_pools_keep_costs_as_much_at_every_size():
    teacher = draw(2, 3, 8, 8)
    assert losses.hierarchical_context(teacher + 0.5, teacher).item() == pytest.approx(0.25)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize(("student", "teacher"), [((8, 8), (8, 8)), ((4, 4), (8, 8)), ((7, 5), (4, 6))])
def test_class_attention_is_the_closed_form(student, teacher, size, normalize):
    student, teacher = draw(2, 5, *student), draw(2, 5, *teacher, seed=1)
    expected = attention_oracle(student.numpy(), teacher.numpy(), size, normalize)
    value = losses.class_attention(student, teacher, size=size, normalize=normalize)
    assert value.item() == pytest.approx(expected, rel=1e-12)


def test_normalized_class_attention_sees_where_and_not_how_much():
    student, teacher = draw(2, 5, 4, 4), draw(2, 5, 8, 8, seed=1)
    scaled = student * torch.rand(2, 5, 1, 1, generator=torch.Generator().manual_seed(0)).add(0.1)
    for normalize in (True, False):
        values = [losses.class_attention(s, teacher, size=2, normalize=normalize) for s in (student, scaled)]
        assert torch.isclose(*values) == normalize


@pytest.mark.parametrize("shape", [(2, 5), (2, 4, 8, 8), (3, 5, 8, 8)])
def test_class_attention_needs_the_same_images_and_classes(shape):
    with pytest.raises(ConfigError, match="maps"):
        losses.class_attention(draw(2, 5, 8, 8), draw(*shape), size=2, normalize=True)


@pytest.mark.parametrize("loss", [losses.hint, losses.hierarchical_context])
@pytest.mark.parametrize("shape", [(2, 5), (2, 5, 4, 4), (2, 4, 8, 8), (3, 5, 8, 8), (1, 5, 8, 8)])
def test_maps_that_are_compared_pixel_by_pixel_must_have_one_shape(loss, shape):
    with pytest.raises(ConfigError, match="maps"):
        loss(draw(2, 5, 8, 8), draw(*shape))
