"""KD, BKD, DKD, DIST and LFME's expert term, compared with float64 oracles in plain probabilities."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import about, draw, softmax

from ltkd import ClassGroups, ConfigError, decompose, losses

LABELS = torch.tensor([0, 3, 3, 8, 5, 1, 8, 2])
WEIGHTS = torch.tensor([0.1, 0.2, 0.4, 0.6, 0.9, 1.2, 1.5, 2.0, 2.1])
TEMPERATURES = (0.5, 1.0, 4.0)
every_temperature = pytest.mark.parametrize("temperature", TEMPERATURES)


# --- oracles ---


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def kl_of_rows(p, q):
    return (p * np.log(p / q)).sum(-1)


def kd_oracle(student, teacher, temperature):
    return temperature**2 * kl_of_rows(softmax(teacher, temperature), softmax(student, temperature)).mean()


def bkd_oracle(student, teacher, weights, temperature):
    target = np.asarray(weights, dtype=np.float64) * softmax(teacher, temperature)
    target /= target.sum(1, keepdims=True)
    return temperature**2 * kl_of_rows(target, softmax(student, temperature)).mean()


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


# --- KD and BKD ---


def test_kd_is_the_closed_form():
    student, teacher = draw(8, 9), draw(8, 9, seed=1)
    ours = [losses.kd(student, teacher, temperature=t).item() for t in TEMPERATURES]
    assert ours == pytest.approx([kd_oracle(student, teacher, t) for t in TEMPERATURES], rel=1e-12)


def test_kd_is_pytorchs_divergence_times_temperature_squared():
    student, teacher = draw(8, 9), draw(8, 9, seed=1)
    for t in TEMPERATURES:
        expected = F.kl_div(F.log_softmax(student / t, 1), F.softmax(teacher / t, 1), reduction="batchmean") * t**2
        torch.testing.assert_close(losses.kd(student, teacher, temperature=t), expected)


def test_bkd_is_the_closed_form():
    student, teacher = draw(8, 9), draw(8, 9, seed=1)
    ours = [losses.bkd(student, teacher, WEIGHTS, temperature=t).item() for t in TEMPERATURES]
    assert ours == pytest.approx([bkd_oracle(student, teacher, WEIGHTS, t) for t in TEMPERATURES], rel=1e-12)


def test_bkd_with_equal_counts_is_kd():
    student, teacher = draw(8, 9), draw(8, 9, seed=1)
    weights = losses.effective_number_weights([70] * 9)
    torch.testing.assert_close(
        losses.bkd(student, teacher, weights, temperature=2.0), losses.kd(student, teacher, temperature=2.0)
    )


def test_bkd_depends_on_the_ratios_of_the_weights_alone():
    student, teacher = draw(8, 9), draw(8, 9, seed=1)
    value, scaled = (losses.bkd(student, teacher, w, temperature=2.0) for w in (WEIGHTS, 64 * WEIGHTS))
    torch.testing.assert_close(value, scaled)


def test_bkd_moves_the_target_towards_rare_classes():
    teacher = draw(8, 9, seed=1)
    student = draw(8, 9).requires_grad_()
    plain, balanced = (
        torch.autograd.grad(losses.bkd(student, teacher, w, temperature=1.0), student)[0]
        for w in (torch.ones(9), WEIGHTS)
    )
    assert (balanced[:, -1] < plain[:, -1]).all()  # a smaller gradient raises the rarest class's logit more
    assert (balanced[:, 0] > plain[:, 0]).all()


def test_bkd_needs_one_weight_a_class():
    for n in (1, 8, 10):
        with about(n), pytest.raises(ConfigError):
            losses.bkd(draw(4, 9), draw(4, 9), torch.ones(n), temperature=2.0)


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
