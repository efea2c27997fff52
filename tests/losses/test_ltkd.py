"""LTKD and its rebalancing: values, gradients, cost, and what the ablations change."""

import itertools
import time
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import about, draw, random_groups, softmax
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from ltkd import ClassGroups, ConfigError, decompose, group_mass, losses, models, rebalance

GROUPS = ClassGroups(("head", "medium", "tail"), torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2]))
ONE_GROUP = ClassGroups(("all",), torch.zeros(9, dtype=torch.long))
BIAS = torch.tensor([3.0, 3, 3, 1, 1, 1, -2, -2, -2], dtype=torch.float64)  # of a teacher that favours the head

ltkd = partial(losses.ltkd, groups=GROUPS, alpha=2.0, beta=0.5, temperature=4.0)
TEMPERATURES = (0.5, 1.0, 4.0)


# --- oracles: float64, closed form, plain probabilities ---


def kl(p, q):
    return (p * np.log(p / q)).sum(-1)


def rebalance_oracle(mass, batch_mass=None):
    """Eq. 9, 10 and 11, one after the other."""
    batch = mass.sum(0) if batch_mass is None else batch_mass
    scaled = mass * (batch.mean() / batch)
    return scaled / scaled.sum(1, keepdims=True)


def ltkd_oracle(student, teacher, index, alpha, beta, temperature):
    p, q = softmax(teacher, temperature), softmax(student, temperature)
    members = [np.flatnonzero(np.asarray(index) == g) for g in range(max(index) + 1)]
    p_group, q_group = (np.stack([x[:, m].sum(1) for m in members], 1) for x in (p, q))
    within = sum(kl(p[:, m] / p_group[:, [g]], q[:, m] / q_group[:, [g]]) for g, m in enumerate(members))
    return temperature**2 * (alpha * kl(rebalance_oracle(p_group), q_group) + beta * within).mean()


# --- values ---


@pytest.mark.parametrize(("alpha", "beta"), [(6.0, 6.0), (1.0, 0.0), (0.0, 1.0)])
def test_ltkd_is_the_closed_form(alpha, beta):
    student, teacher = draw(8, 9), draw(8, 9, seed=1) + BIAS
    weights = {"alpha": alpha, "beta": beta}
    ours = [losses.ltkd(student, teacher, GROUPS, temperature=t, **weights).item() for t in TEMPERATURES]
    index = GROUPS.index.tolist()
    expected = [ltkd_oracle(student, teacher, index, temperature=t, **weights) for t in TEMPERATURES]
    assert ours == pytest.approx(expected, rel=1e-12)


def test_ltkd_is_its_two_terms_weighted():
    student, teacher = draw(8, 9), draw(8, 9, seed=1)
    cross, within = losses.ltkd_terms(student, teacher, GROUPS, temperature=2.0)
    whole = losses.ltkd(student, teacher, GROUPS, alpha=3.0, beta=5.0, temperature=2.0)
    torch.testing.assert_close(whole, 3 * cross + 5 * within)


# --- properties ---


def test_ltkd_with_one_group_is_beta_times_kd():
    student, teacher = draw(8, 9), draw(8, 9, seed=1)
    for t in TEMPERATURES:
        value = losses.ltkd(student, teacher, ONE_GROUP, alpha=7.0, beta=0.3, temperature=t)
        torch.testing.assert_close(value, 0.3 * losses.kd(student, teacher, temperature=t))


def test_ltkd_of_a_balanced_teacher_keeps_the_plain_cross_term():
    row = draw(1, 9, seed=1)[0]
    teacher, student = torch.stack([row, row.roll(3), row.roll(6)]), draw(3, 9)  # rolled by whole groups
    parts = decompose(student, teacher, GROUPS)
    value = losses.ltkd(student, teacher, GROUPS, alpha=2.0, beta=0.5, temperature=1.0)
    torch.testing.assert_close(value, (2 * parts.cross + 0.5 * parts.within.sum(1)).mean())


@pytest.mark.parametrize(
    "loss", [partial(losses.kd, temperature=3.0), partial(ltkd, alpha=0.0)], ids=["kd", "the within-group term"]
)
def test_a_student_like_its_teacher_has_no_loss(loss):
    logits = draw(8, 9)
    assert abs(loss(logits, logits).item()) < 1e-12


# --- ablations of LTKD ---


def test_without_rebalancing_and_reweighting_ltkd_is_kd():
    student, teacher = draw(8, 9), draw(8, 9, seed=1) + BIAS
    settings = {"alpha": 1.0, "beta": 1.0, "rebalanced": False, "reweighted": False}
    for t in TEMPERATURES:
        value = losses.ltkd(student, teacher, GROUPS, temperature=t, **settings)
        torch.testing.assert_close(value, losses.kd(student, teacher, temperature=t), rtol=1e-13, atol=0)


@pytest.mark.parametrize("reweighted", [True, False])
@pytest.mark.parametrize("rebalanced", [True, False])
def test_each_ablation_changes_its_own_term_alone(rebalanced, reweighted):
    student, teacher = draw(8, 9), draw(8, 9, seed=1) + BIAS
    settings = {"temperature": 2.0, "rebalanced": rebalanced, "reweighted": reweighted}
    parts = decompose(student, teacher, GROUPS, temperature=2.0)
    target = rebalance_oracle(parts.teacher_mass.numpy()) if rebalanced else parts.teacher_mass.numpy()
    weight = 1.0 if reweighted else parts.teacher_mass.numpy()
    cross, within = losses.ltkd_terms(student, teacher, GROUPS, **settings)
    assert cross.item() == pytest.approx(4 * kl(target, parts.student_mass.numpy()).mean(), rel=1e-12)
    assert within.item() == pytest.approx(4 * (weight * parts.within.numpy()).sum(1).mean(), rel=1e-12)
    torch.testing.assert_close(
        losses.ltkd(student, teacher, GROUPS, alpha=3.0, beta=5.0, **settings), 3 * cross + 5 * within
    )


def test_a_batch_mass_has_no_part_in_a_target_that_is_not_rebalanced():
    student, teacher = draw(8, 9), draw(8, 9, seed=1) + BIAS
    value = ltkd(student, teacher, rebalanced=False, batch_mass=torch.tensor([9.0, 4.0, 2.0]))
    torch.testing.assert_close(value, ltkd(student, teacher, rebalanced=False))


# --- the gradient of LTKD, and what it costs ---

PARTITIONS = {
    "a third each": ClassGroups.by_rank(range(35, 0, -1)),
    "mixed": ClassGroups.by_rank(torch.randperm(35, generator=torch.Generator().manual_seed(0))),
    "uneven": ClassGroups(tuple("abcd"), torch.tensor([0] * 30 + [1] + [2] * 2 + [3] * 2)),
    "uneven and mixed": ClassGroups(tuple("abcd"), torch.tensor(([0] * 6 + [1]) * 2 + [0] * 18 + [2] * 2 + [3])),
    "many": random_groups(35, 12),
    "one": ClassGroups(("all",), torch.zeros(35, dtype=torch.long)),
    "one class each": ClassGroups(tuple(map(str, range(35))), torch.arange(35)),
}
every_partition = pytest.mark.parametrize("groups", PARTITIONS.values(), ids=PARTITIONS)


def plain_terms(student, teacher, groups, temperature, batch_mass=None, rebalanced=True, reweighted=True):
    """Eq. 3 to 13 as they are printed, from plain probabilities, for autograd to follow."""
    p, q = (teacher / temperature).softmax(1), (student / temperature).softmax(1)
    members = [groups.index == g for g in range(groups.n_groups)]
    p_group, q_group = (torch.stack([x[:, m].sum(1) for m in members], 1) for x in (p, q))
    inside = [(p[:, m] / p_group[:, [g]], q[:, m] / q_group[:, [g]]) for g, m in enumerate(members)]
    within = torch.stack([(a * (a / b).log()).sum(1) for a, b in inside], 1)
    target = rebalance(p_group, batch_mass) if rebalanced else p_group
    within = within if reweighted else p_group * within
    cross = (target * (target / q_group).log()).sum(1)
    return cross.mean() * temperature**2, within.sum(1).mean() * temperature**2


def gradients(terms, student):
    return [torch.autograd.grad(term, student, retain_graph=True)[0] for term in terms]


@every_partition
def test_the_gradient_of_each_term_is_autograds_of_the_definition(groups):
    student, teacher = draw(5, 35).requires_grad_(), draw(5, 35, seed=1)
    outside = torch.linspace(1, 4, groups.n_groups, dtype=torch.float64)
    for batch_mass, rebalanced, reweighted in itertools.product((None, outside), (True, False), (True, False)):
        settings = {"batch_mass": batch_mass, "rebalanced": rebalanced, "reweighted": reweighted}
        ours = losses.ltkd_terms(student, teacher, groups, temperature=3.0, **settings)
        plain = plain_terms(student, teacher, groups, 3.0, **settings)
        with about(settings):
            torch.testing.assert_close(ours, plain)
            torch.testing.assert_close(gradients(ours, student), gradients(plain, student))


@given(seed=st.integers(0, 10**6), n_classes=st.integers(1, 30), data=st.data())
def test_the_gradient_is_autograds_for_any_partition(seed, n_classes, data):
    groups = random_groups(n_classes, data.draw(st.integers(1, n_classes)), seed)
    student, teacher = draw(3, n_classes, seed=seed).requires_grad_(), draw(3, n_classes, seed=seed + 1)
    value = losses.ltkd(student, teacher, groups, alpha=2.0, beta=0.5, temperature=2.0)
    cross, within = plain_terms(student, teacher, groups, 2.0)
    torch.testing.assert_close(value, 2 * cross + 0.5 * within)
    torch.testing.assert_close(gradients([value], student), gradients([2 * cross + 0.5 * within], student))


@every_partition
def test_the_gradient_is_autograds_of_the_decomposition(groups):
    student, teacher = draw(5, 35).requires_grad_(), draw(5, 35, seed=1)
    value = losses.ltkd(
        student, teacher, groups, alpha=2.0, beta=0.5, temperature=2.0, rebalanced=False, reweighted=True
    )
    parts = decompose(student, teacher, groups, temperature=2.0)
    same = 4 * (2 * parts.cross + 0.5 * parts.within.sum(1)).mean()
    torch.testing.assert_close(value, same)
    torch.testing.assert_close(gradients([value], student), gradients([same], student))


@every_partition
def test_values_and_gradients_are_right_at_extreme_logits(groups):
    for scale in (1e2, 1e4):
        student, teacher = (scale * draw(16, 35, seed=seed, scale=1.0, dtype=torch.float32) for seed in (0, 1))
        student.requires_grad_()
        parts = decompose(student.double(), teacher.double(), groups)  # itself beside an oracle in its own tests
        log_mass = group_log_mass(teacher.double(), groups)
        target = losses.log_rebalance(log_mass)
        mass = group_log_mass(student.double(), groups)
        expected = (target.exp() * (target - mass)).sum(1).mean(), parts.within.sum(1).mean()
        ours = losses.ltkd_terms(student, teacher, groups, temperature=1.0)
        with about(scale):
            torch.testing.assert_close([x.double() for x in ours], list(expected), rtol=1e-5, atol=1e-4)
            for got, exact in zip(gradients(ours, student), gradients(expected, student), strict=True):
                torch.testing.assert_close(got, exact.float(), rtol=1e-3, atol=1e-5)


def group_log_mass(logits, groups):
    members = [groups.index == g for g in range(groups.n_groups)]
    return torch.stack([logits[:, m].logsumexp(1) for m in members], 1).log_softmax(1)


@every_partition
def test_half_precision_has_the_gradient_of_float32(groups):
    for dtype in (torch.float16, torch.bfloat16):
        student, teacher = draw(5, 35).to(dtype).requires_grad_(), draw(5, 35, seed=1).to(dtype)
        values = [ltkd(s, teacher, groups=groups) for s in (student, student.float())]
        (half,), (full,) = (gradients([value], student) for value in values)
        with about(dtype):
            assert torch.equal(*values)
            assert half.dtype == dtype
            assert torch.equal(half, full)


def test_the_strides_of_the_logits_do_not_matter():
    for groups in PARTITIONS.values():
        student, teacher = draw(5, 35), draw(5, 35, seed=1)
        plain, turned = student.clone().requires_grad_(), student.T.contiguous().T.requires_grad_()
        values = [
            ltkd(s, t, groups=groups) for s, t in ((plain, teacher), (turned, torch.cat([teacher] * 2, 1)[:, :35]))
        ]
        torch.testing.assert_close(*values)
        torch.testing.assert_close(gradients([values[0]], plain), gradients([values[1]], turned))


def test_teacher_and_student_may_differ_in_precision():
    student, teacher = draw(5, 35, dtype=torch.float32).requires_grad_(), draw(5, 35, seed=1)
    groups = PARTITIONS["uneven"]
    values = [ltkd(student, t, groups=groups) for t in (teacher, teacher.float(), teacher.half())]
    torch.testing.assert_close(values[0].float(), values[1])
    torch.testing.assert_close(values[2], values[1], rtol=1e-2, atol=0)
    torch.testing.assert_close(gradients(values[:1], student), gradients(values[1:2], student))


@every_partition
def test_the_temperature_has_a_gradient_and_the_gradient_one_of_its_own(groups):
    teacher = draw(3, 35, seed=1)

    def loss(student, temperature):
        return losses.ltkd(student, teacher, groups, alpha=2.0, beta=0.5, temperature=temperature)

    inputs = [draw(3, 35).requires_grad_(), torch.tensor(3.0, dtype=torch.float64, requires_grad=True)]
    assert torch.autograd.gradcheck(loss, inputs)
    assert torch.autograd.gradgradcheck(loss, inputs)


class Work(TorchDispatchMode):
    """Counts the operators that run and remembers the largest tensor that comes out of one."""

    def __init__(self):
        super().__init__()
        self.operators, self.largest = 0, 0

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        out = operator(*args, **(kwargs or {}))
        self.operators += 1
        self.largest = max([self.largest, *(x.numel() for x in [out] if isinstance(x, torch.Tensor))])
        return out


def work(groups, batch=4):
    student, teacher = draw(batch, groups.n_classes).requires_grad_(), draw(batch, groups.n_classes, seed=1)
    with Work() as done:
        ltkd(student, teacher, groups=groups).backward()
    return done


def test_more_groups_are_not_more_operators():
    counts = range(300, 0, -1)
    few, *more = (work(ClassGroups.by_rank(counts, n)).operators for n in (3, 10, 100, 300))
    assert max(more) == few


def test_no_partition_takes_more_memory_than_the_logits():
    for sizes in ([8000] + [1] * 142, [1] * 142 + [8000], [1, 8141], [2000, 6000, 142], [1] * 8142):
        index = torch.repeat_interleave(torch.tensor(sizes))
        done = work(ClassGroups([f"g{g}" for g in range(len(sizes))], index))
        with about(sizes[0], sizes[-1]):
            assert done.largest == 4 * 8142


@pytest.mark.slow
def test_it_costs_under_3_per_cent_of_the_step_of_the_smallest_student():
    """Forward and backward of the loss beside a training step of resnet8 on 64 images of 32 x 32; 100 classes."""
    network = models.build("resnet8", num_classes=100, image_size=32)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    groups = ClassGroups.by_rank(range(100, 0, -1))
    images, labels = draw(64, 3, 32, 32, dtype=torch.float32), torch.arange(64)
    student, teacher = draw(64, 100, dtype=torch.float32).requires_grad_(), draw(64, 100, seed=1, dtype=torch.float32)

    def step():
        optimizer.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        optimizer.step()

    def loss():
        student.grad = None
        ltkd(student, teacher, groups=groups).backward()

    times = [(seconds(step), seconds(loss)) for _ in range(25)]
    of_step, of_loss = (min(column) for column in zip(*times, strict=True))  # the least disturbed by other work
    assert of_loss < 0.03 * of_step


def seconds(function):
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


# --- rebalancing ---


@given(seed=st.integers(0, 10**6), n_groups=st.integers(1, 6))
def test_rebalance_is_equations_9_to_11(seed, n_groups):
    mass = draw(7, n_groups, seed=seed, scale=2.0).softmax(1)
    np.testing.assert_allclose(rebalance(mass), rebalance_oracle(mass.numpy()), rtol=1e-10)


@given(seed=st.integers(0, 10**6))
def test_rebalanced_rows_sum_to_one(seed):
    mass = draw(7, 3, seed=seed, scale=5.0).softmax(1)
    torch.testing.assert_close(rebalance(mass).sum(1), torch.ones(7, dtype=torch.float64))


def test_masses_that_are_balanced_in_the_batch_stay_as_they_are():
    mass = torch.tensor([[0.5, 0.3, 0.2], [0.2, 0.5, 0.3], [0.3, 0.2, 0.5]])
    torch.testing.assert_close(rebalance(mass), mass)


def test_batch_sums_are_nearer_to_each_other_after_rebalancing():
    """Eq. 11's normalisation leaves a rest: they need not be equal."""
    for seed, temperature in itertools.product(range(3), (1.0, 2.0, 4.0)):
        mass = group_mass(draw(64, 9, seed=seed) + BIAS, GROUPS, temperature=temperature)
        before, after = mass.sum(0), rebalance(mass).sum(0)
        with about(seed, temperature):
            assert after.max() - after.min() < before.max() - before.min()


def test_a_batch_mass_from_outside_takes_the_place_of_the_rows_own():
    mass, outside = draw(7, 3).softmax(1), torch.tensor([9.0, 4.0, 2.0], dtype=torch.float64)
    np.testing.assert_allclose(rebalance(mass, outside), rebalance_oracle(mass.numpy(), outside.numpy()), rtol=1e-10)


def test_the_same_sum_given_from_outside_changes_nothing():
    student, teacher = draw(8, 9), draw(8, 9, seed=1) + BIAS
    loss = partial(ltkd, student, teacher)
    torch.testing.assert_close(loss(batch_mass=group_mass(teacher, GROUPS, temperature=4.0).sum(0)), loss())


def test_half_batches_with_the_whole_batchs_mass_average_to_its_loss():
    student, teacher = draw(8, 9), draw(8, 9, seed=1) + BIAS
    mass = group_mass(teacher, GROUPS, temperature=4.0).sum(0)
    halves = [ltkd(s, t, batch_mass=mass) for s, t in zip(student.split(4), teacher.split(4), strict=True)]
    torch.testing.assert_close(sum(halves) / 2, ltkd(student, teacher))


def test_a_group_without_mass_keeps_none_and_the_gradient_is_finite():
    mass = torch.tensor([[0.75, 0.25, 0.0], [0.5, 0.5, 0.0]], requires_grad=True)
    for outside in (None, mass.detach().sum(0)):
        rebalanced = rebalance(mass, outside)
        with about(outside):
            torch.testing.assert_close(rebalanced[:, :2], rebalance(mass[:, :2]))
            assert not rebalanced[:, 2].any()
            assert torch.autograd.grad(rebalanced[:, 0].sum(), mass)[0].isfinite().all()


@pytest.mark.parametrize("outside", [False, True], ids=["own batch mass", "batch mass from outside"])
def test_a_group_without_mass_leaves_ltkd_finite(outside):
    teacher = torch.zeros(4, 9).index_fill(1, torch.tensor([6, 7, 8]), -1e4)  # the tail's probability underflows to 0
    batch_mass = group_mass(teacher, GROUPS, temperature=4.0).sum(0) if outside else None
    student = draw(4, 9, dtype=torch.float32).requires_grad_()
    value = ltkd(student, teacher, batch_mass=batch_mass)
    value.backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()


# --- wrong input ---


def test_ltkd_needs_one_batch_mass_a_group():
    for n in (1, 2, 4):
        with about(n), pytest.raises(ConfigError):
            ltkd(draw(4, 9), draw(4, 9), batch_mass=torch.ones(n))
