"""DKD, DIST, LFME's expert term and the losses on feature maps, beside float64 oracles written one element a time."""

import math

import numpy as np
import pytest
import torch
from helpers import draw, softmax

from ltkd import ClassGroups, ConfigError, decompose, losses

LABELS = torch.tensor([0, 3, 3, 8, 5, 1, 8, 2])
every_temperature = pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])


# --- oracles ---


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def dkd_oracle(student, teacher, labels, temperature):
    tckd = nckd = 0.0
    for p, q, y in zip(softmax(teacher, temperature), softmax(student, temperature), labels.tolist(), strict=True):
        p_rest, q_rest = np.delete(p, y), np.delete(q, y)
        tckd += kl([p[y], p_rest.sum()], [q[y], q_rest.sum()])
        nckd += kl(p_rest / p_rest.sum(), q_rest / q_rest.sum())
    return temperature**2 * tckd / len(labels), temperature**2 * nckd / len(labels)


def pearson(a, b, eps=1e-8):
    a, b = a - a.mean(), b - b.mean()
    return (a @ b) / (math.sqrt(a @ a) * math.sqrt(b @ b) + eps)


def dist_oracle(student, teacher, temperature):
    p, q = softmax(teacher, temperature), softmax(student, temperature)
    inter = np.mean([1 - pearson(p[i], q[i]) for i in range(p.shape[0])])
    intra = np.mean([1 - pearson(p[:, c], q[:, c]) for c in range(p.shape[1])])
    return temperature**2 * inter, temperature**2 * intra


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


# --- DKD ---


@every_temperature
def test_dkd_is_the_closed_form(temperature):
    student, teacher = draw(8, 9), draw(8, 9, seed=1)
    tckd, nckd = dkd_oracle(student, teacher, LABELS, temperature)
    value = losses.dkd(student, teacher, LABELS, alpha=2.0, beta=8.0, temperature=temperature)
    terms = losses.dkd_terms(student, teacher, LABELS, temperature=temperature)
    assert [term.item() for term in terms] == pytest.approx([tckd, nckd], rel=1e-12)
    assert value.item() == pytest.approx(2 * tckd + 8 * nckd, rel=1e-12)


@every_temperature
@pytest.mark.parametrize("label", [0, 4, 8])
def test_dkd_is_the_decomposition_into_the_target_and_the_rest(temperature, label):
    student, teacher = draw(8, 9), draw(8, 9, seed=1)
    groups = ClassGroups(("rest", "target"), (torch.arange(9) == label).long())
    parts = decompose(student, teacher, groups, temperature=temperature)
    tckd, nckd = losses.dkd_terms(student, teacher, torch.full((8,), label), temperature=temperature)
    torch.testing.assert_close(tckd, temperature**2 * parts.cross.mean())
    torch.testing.assert_close(nckd, temperature**2 * parts.within[:, 0].mean())


@every_temperature
def test_kd_is_the_target_term_plus_the_other_weighted_by_what_the_teacher_leaves(temperature):
    student, teacher = draw(8, 9), draw(8, 9, seed=1)
    p = softmax(teacher, temperature)
    for i, y in enumerate(LABELS.tolist()):
        row = student[[i]], teacher[[i]]
        tckd, nckd = losses.dkd_terms(*row, LABELS[[i]], temperature=temperature)
        torch.testing.assert_close(tckd + (1 - p[i, y]) * nckd, losses.kd(*row, temperature=temperature))


def test_the_target_has_no_part_in_the_other_term_of_dkd():
    student, teacher = draw(8, 9), draw(8, 9, seed=1)
    moved = student.scatter_add(1, LABELS[:, None], draw(8, 1, seed=2))
    before, after = (losses.dkd_terms(s, teacher, LABELS, temperature=2.0) for s in (student, moved))
    torch.testing.assert_close(after[1], before[1])
    assert abs(after[0] - before[0]) > 0.1


def test_dkd_learns_from_the_other_classes_when_the_teacher_is_sure():
    teacher = torch.tensor([[200.0, 1.0, 0.0, -1.0]])  # beyond what 1 - p can hold in float32
    student = torch.tensor([[200.0, -1.0, 0.0, 1.0]])
    _, nckd = losses.dkd_terms(student, teacher, torch.tensor([0]), temperature=1.0)
    others = softmax([[1.0, 0.0, -1.0]])[0]
    assert nckd.item() == pytest.approx(kl(others, others[::-1]), rel=1e-5)


# --- DIST ---


@every_temperature
def test_dist_is_the_closed_form(temperature):
    student, teacher = draw(8, 9), draw(8, 9, seed=1)
    inter, intra = dist_oracle(student, teacher, temperature)
    value = losses.dist(student, teacher, beta=3.0, gamma=0.5, temperature=temperature)
    terms = losses.dist_terms(student, teacher, temperature=temperature)
    assert [term.item() for term in terms] == pytest.approx([inter, intra], rel=1e-12)
    assert value.item() == pytest.approx(3 * inter + 0.5 * intra, rel=1e-12)


def test_dist_is_one_minus_numpys_correlation_times_temperature_squared():
    student, teacher = draw(8, 9), draw(8, 9, seed=1)
    p, q = softmax(teacher, 2.0), softmax(student, 2.0)
    inter = 4 * np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p, q, strict=True)])
    intra = 4 * np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p.T, q.T, strict=True)])
    terms = losses.dist_terms(student, teacher, temperature=2.0)
    assert [term.item() for term in terms] == pytest.approx([inter, intra], rel=1e-5)  # but for the authors' eps


def test_dist_asks_for_no_more_than_a_linear_relation():
    teacher = draw(8, 9, seed=1)
    student = (0.3 * teacher.softmax(1) + 0.7 / 9).log()  # probabilities a line away from the teacher's
    assert losses.dist(student, teacher, beta=1.0, gamma=1.0, temperature=1.0).item() == pytest.approx(0, abs=1e-4)
    assert losses.kd(student, teacher, temperature=1.0) > 0.1


def test_a_column_that_holds_next_to_no_probability_counts_as_uncorrelated():
    student, teacher = draw(8, 9), draw(8, 9)
    dead = [logits.index_fill(1, torch.tensor([8]), -60.0) for logits in (student, teacher)]
    _, intra = losses.dist_terms(*dead, temperature=1.0)
    assert intra.item() == pytest.approx(1 / 9, abs=1e-5)


def test_a_batch_of_one_image_has_no_term_between_images():
    student, teacher = draw(1, 9).requires_grad_(), draw(1, 9, seed=1)
    inter, intra = losses.dist_terms(student, teacher, temperature=4.0)
    p, q = softmax(teacher, 4.0)[0], softmax(student.detach(), 4.0)[0]
    assert inter.item() == pytest.approx(16 * (1 - pearson(p, q)), rel=1e-12)
    assert intra == 0
    (gradient,) = torch.autograd.grad(
        losses.dist(student, teacher, beta=1.0, gamma=5.0, temperature=4.0), student, retain_graph=True
    )
    torch.testing.assert_close(gradient, torch.autograd.grad(inter, student)[0])


# --- LFME ---


@every_temperature
def test_the_experts_term_is_the_closed_form_without_temperature_squared(temperature):
    student, expert, classes = draw(8, 9), draw(8, 3, seed=1), [7, 2, 4]
    p, q = softmax(expert, temperature), softmax(student[:, classes], temperature)
    expected = sum(kl(p[i], q[i]) for i in range(8)) / 8
    value = losses.expert_kd(student, expert, torch.tensor(classes), temperature=temperature)
    assert value.item() == pytest.approx(expected, rel=1e-12)


def test_an_expert_does_not_see_the_logits_of_other_classes():
    student, expert, classes = draw(8, 9).requires_grad_(), draw(8, 3, seed=1), torch.tensor([7, 2, 4])
    value = losses.expert_kd(student, expert, classes, temperature=2.0)
    (gradient,) = torch.autograd.grad(value, student)
    own = torch.zeros(9, dtype=torch.bool).index_fill(0, classes, True)
    assert not gradient[:, ~own].any()
    assert gradient[:, own].all()


def test_an_expert_of_all_classes_is_a_teacher_but_for_temperature_squared():
    student, teacher, order = draw(8, 9), draw(8, 9, seed=1), torch.arange(9).roll(4)
    value = losses.expert_kd(student, teacher[:, order], order, temperature=2.0)
    torch.testing.assert_close(value, losses.kd(student, teacher, temperature=2.0) / 4)


@pytest.mark.parametrize(("rows", "columns"), [(8, 2), (8, 4), (7, 3)])
def test_an_experts_logits_must_fit_its_classes_and_the_batch(rows, columns):
    with pytest.raises(ConfigError, match="must both be"):
        losses.expert_kd(draw(8, 9), draw(rows, columns), torch.tensor([7, 2, 4]), temperature=2.0)


# --- feature maps ---


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
