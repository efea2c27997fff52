import itertools
import math
import shutil
import warnings

import numpy as np
import pytest
import torch
from helpers import about, draw, extreme_logits, random_groups
from hypothesis import given
from hypothesis import strategies as st

from ltkd import ClassGroups, ConfigError, decompose, group_mass
from ltkd.decomposition import decompose_parts

GROUPS = ClassGroups(("head", "medium", "tail"), torch.tensor([2, 0, 0, 1, 1, 2, 0, 1, 2]))
COMPILER = shutil.which("g++") or shutil.which("clang++") or shutil.which("c++")
UNEVEN = ClassGroups(("many", "one", "two"), torch.tensor([0] * 30 + [1] + [2] * 2).roll(7))
needs_compiler = pytest.mark.skipif(not COMPILER, reason="torch.compile needs a C++ compiler")


def probabilities(logits, temperature):
    """Eq. 1, for one row."""
    exponentials = [math.exp(z / temperature) for z in logits]
    return [e / sum(exponentials) for e in exponentials]


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def decompose_row(teacher_logits, student_logits, members, temperature):
    """Eq. 2, 3, 6 and 7 for one row, from plain probabilities; members: the classes of each group."""
    p, q = probabilities(teacher_logits, temperature), probabilities(student_logits, temperature)
    p_group = [sum(p[i] for i in classes) for classes in members]
    q_group = [sum(q[i] for i in classes) for classes in members]
    within = [
        kl([p[i] / p_group[g] for i in classes], [q[i] / q_group[g] for i in classes])
        for g, classes in enumerate(members)
    ]
    return {
        "kl": kl(p, q),
        "cross": kl(p_group, q_group),
        "within": within,
        "teacher_mass": p_group,
        "student_mass": q_group,
    }


partitions = st.integers(2, 12).flatmap(
    lambda c: st.builds(random_groups, st.just(c), st.integers(1, c), st.integers(0, 10**6))
)
seeds = st.integers(0, 10**6)
temperatures = st.sampled_from([0.5, 1.0, 2.0, 4.0])


@given(groups=partitions, seed=seeds, temperature=temperatures)
def test_every_part_equals_the_papers_equations(groups, seed, temperature):
    teacher, student = draw(4, groups.n_classes, seed=seed), draw(4, groups.n_classes, seed=seed + 1)
    members = [[i for i, group in enumerate(groups.index.tolist()) if group == g] for g in range(groups.n_groups)]
    parts = decompose(student, teacher, groups, temperature=temperature)
    for b in range(4):
        expected = decompose_row(teacher[b].tolist(), student[b].tolist(), members, temperature)
        for name, value in expected.items():
            np.testing.assert_allclose(getattr(parts, name)[b], value, rtol=1e-9, atol=1e-12, err_msg=name)


@given(groups=partitions, seed=seeds, temperature=temperatures, scale=st.sampled_from([0.1, 3.0, 50.0]))
def test_the_parts_add_up_to_the_divergence(groups, seed, temperature, scale):
    teacher, student = (draw(5, groups.n_classes, seed=seed + k, scale=scale) for k in (0, 1))
    parts = decompose(student, teacher, groups, temperature=temperature)
    total = parts.cross + (parts.teacher_mass * parts.within).sum(1)
    torch.testing.assert_close(total, parts.kl, rtol=1e-10, atol=1e-10)


@given(groups=partitions, seed=seeds, temperature=temperatures, scale=st.sampled_from([0.1, 3.0, 50.0]))
def test_the_divergence_is_that_of_the_whole_softmax(groups, seed, temperature, scale):
    teacher, student = (draw(5, groups.n_classes, seed=seed + k, scale=scale) for k in (0, 1))
    parts = decompose(student, teacher, groups, temperature=temperature)
    teacher, student = ((logits / temperature).log_softmax(1) for logits in (teacher, student))
    torch.testing.assert_close(parts.kl, (teacher.exp() * (teacher - student)).sum(1), rtol=1e-10, atol=1e-10)


@given(groups=partitions, seed=seeds, shift=st.floats(-100, 100))
def test_a_constant_added_to_the_logits_changes_nothing(groups, seed, shift):
    teacher, student = draw(3, groups.n_classes, seed=seed), draw(3, groups.n_classes, seed=seed + 1)
    parts, shifted = decompose(student, teacher, groups), decompose(student - shift, teacher + shift, groups)
    torch.testing.assert_close(tuple(shifted), tuple(parts), rtol=1e-9, atol=1e-9)


@given(groups=partitions, seed=seeds)
def test_the_order_of_the_groups_changes_the_order_of_the_parts_alone(groups, seed):
    teacher, student = draw(3, groups.n_classes, seed=seed), draw(3, groups.n_classes, seed=seed + 1)
    order = torch.randperm(groups.n_groups, generator=torch.Generator().manual_seed(seed))
    renamed = ClassGroups(groups.names, order.argsort()[groups.index])
    parts, permuted = decompose(student, teacher, groups), decompose(student, teacher, renamed)
    torch.testing.assert_close(permuted.cross, parts.cross)
    torch.testing.assert_close(permuted.within, parts.within[:, order])
    torch.testing.assert_close(permuted.teacher_mass, parts.teacher_mass[:, order])


@given(groups=partitions, seed=seeds, temperature=temperatures)
def test_group_masses_sum_to_one(groups, seed, temperature):
    mass = group_mass(draw(3, groups.n_classes, seed=seed), groups, temperature=temperature)
    torch.testing.assert_close(mass.sum(1), torch.ones(3, dtype=mass.dtype))


def test_one_group_leaves_all_to_the_within_term():
    parts = decompose(draw(6, 9), draw(6, 9, seed=1), ClassGroups(("all",), torch.zeros(9, dtype=torch.long)))
    torch.testing.assert_close(parts.within[:, 0], parts.kl)
    torch.testing.assert_close(parts.cross, torch.zeros(6, dtype=torch.float64))


def test_one_class_a_group_leaves_all_to_the_cross_term():
    parts = decompose(draw(6, 9), draw(6, 9, seed=1), ClassGroups("abcdefghi", torch.arange(9)))
    torch.testing.assert_close(parts.cross, parts.kl)
    assert (parts.within == 0).all()


def test_equal_logits_have_no_divergence_anywhere():
    parts = decompose(draw(6, 9), draw(6, 9), GROUPS)
    assert parts.kl.abs().max() == parts.cross.abs().max() == parts.within.abs().max() == 0


def test_the_8142_classes_of_inaturalist_add_up_in_float32():
    groups = random_groups(8142, 3)
    parts = decompose(draw(16, 8142, dtype=torch.float32), draw(16, 8142, seed=1, dtype=torch.float32), groups)
    torch.testing.assert_close(parts.cross + (parts.teacher_mass * parts.within).sum(1), parts.kl)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_values_and_gradients_are_finite_at_extreme_logits(dtype):
    student, teacher = extreme_logits(dtype)
    student.requires_grad_()
    parts = decompose(student, teacher, GROUPS)
    sum(part.sum() for part in parts).backward()
    assert all(part.isfinite().all() for part in parts)
    assert student.grad.isfinite().all()


def exact_parts(teacher, student, groups):
    """Every part from a log-sum-exp over each group alone, in float64."""
    teacher, student = teacher.double(), student.double()
    members = [groups.index == g for g in range(groups.n_groups)]
    mass = [torch.stack([x[:, m].logsumexp(1) for m in members], 1).log_softmax(1) for x in (teacher, student)]
    inside = [[x[:, m].log_softmax(1) for m in members] for x in (teacher, student)]
    within = torch.stack([(p.exp() * (p - q)).sum(1) for p, q in zip(*inside, strict=True)], 1)
    cross = (mass[0].exp() * (mass[0] - mass[1])).sum(1)
    return cross + (mass[0].exp() * within).sum(1), cross, within, mass[0].exp(), mass[1].exp()


@pytest.mark.parametrize("scale", [1.0, 1e2, 1e4])
@pytest.mark.parametrize("groups", [GROUPS, UNEVEN], ids=["equal", "uneven"])
def test_values_are_right_at_extreme_logits(groups, scale):
    teacher, student = (
        scale * draw(16, groups.n_classes, seed=seed, scale=1.0, dtype=torch.float32) for seed in (0, 1)
    )
    expected = exact_parts(teacher, student, groups)
    for part, value in zip(decompose(student, teacher, groups), expected, strict=True):
        torch.testing.assert_close(part.double(), value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("groups", [GROUPS, UNEVEN], ids=["equal", "uneven"])
def test_gradients_are_those_of_finite_differences(groups):
    def parts(student, teacher, temperature):
        return tuple(decompose(student, teacher, groups, temperature=temperature))

    inputs = [draw(2, groups.n_classes, seed=seed).requires_grad_() for seed in (0, 1)]
    inputs.append(torch.tensor(2.0, dtype=torch.float64, requires_grad=True))
    assert torch.autograd.gradcheck(parts, inputs)
    assert torch.autograd.gradgradcheck(parts, inputs)


@pytest.mark.parametrize("groups", [GROUPS, UNEVEN], ids=["equal", "uneven"])
def test_the_strides_of_the_logits_do_not_matter(groups):
    teacher, student = draw(4, groups.n_classes), draw(4, groups.n_classes, seed=1)
    wide = torch.cat([student, student], 1)
    for a, b in ((teacher.T.contiguous().T, student), (teacher, wide[:, : groups.n_classes])):
        torch.testing.assert_close(tuple(decompose(b, a, groups)), tuple(decompose(student, teacher, groups)))


# --- masked classes ---


def rows(*classes):
    """A mask (3, 9) of these classes in two rows of three."""
    return (
        torch.zeros(3, 9, dtype=torch.bool).index_fill(1, torch.tensor(classes), True) & (torch.arange(3) < 2)[:, None]
    )


MASKS = {"one class": rows(3), "several": rows(0, 1, 3), "a group": rows(3, 4, 7), "all but one": rows(*range(8))}
LOWEST = (-math.inf, *(torch.finfo(dtype).min for dtype in (torch.float32, torch.float16, torch.bfloat16)))


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("both", [False, True], ids=["teacher", "student and teacher"])
def test_masked_classes_have_the_parts_of_probability_zero(mask, both):
    for temperature, lowest in itertools.product((1.0, 4.0), LOWEST):
        student, teacher = draw(3, 9).masked_fill(mask & both, lowest), draw(3, 9, seed=1).masked_fill(mask, lowest)
        parts = decompose(student, teacher, GROUPS, temperature=temperature)
        with about(temperature, lowest):
            np.testing.assert_allclose(parts.kl, masked_kl(student, teacher, mask, both, temperature), rtol=1e-9)
            # A group that is masked whole has no mass, and inside it no divergence.
            alone = torch.stack([mask[:, GROUPS.index == g].all(1) for g in range(3)], 1)
            assert not parts.within[alone].any()
            assert not parts.teacher_mass[alone].any()
            torch.testing.assert_close(parts.cross + (parts.teacher_mass * parts.within).sum(1), parts.kl)


def masked_kl(student, teacher, mask, both, temperature):
    """Of each row, from the classes that are left alone."""
    values = []
    for own, target, masked in zip(student, teacher, mask, strict=True):
        p = (target[~masked] / temperature).softmax(0)
        q = (own[~masked] / temperature).softmax(0) if both else (own / temperature).softmax(0)[~masked]
        values.append((p * (p / q).log()).sum())
    return torch.stack(values)


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_masked_classes_have_gradients_those_of_finite_differences(mask):
    def parts(student, teacher, temperature):
        masked = (logits.masked_fill(mask, -math.inf) for logits in (student, teacher))
        return tuple(decompose(*masked, GROUPS, temperature=temperature))

    inputs = [draw(3, 9, seed=seed).requires_grad_() for seed in (0, 1)]
    inputs.append(torch.tensor(2.0, dtype=torch.float64, requires_grad=True))
    assert torch.autograd.gradcheck(parts, inputs)
    assert torch.autograd.gradgradcheck(parts, inputs)


def test_a_student_that_masks_what_its_teacher_does_not_is_infinitely_far_from_it():
    student, teacher = draw(3, 9).masked_fill(rows(3), -math.inf).requires_grad_(), draw(3, 9, seed=1)
    parts = decompose(student, teacher, GROUPS)
    assert (parts.kl == math.inf).tolist() == (parts.within[:, 1] == math.inf).tolist() == [True, True, False]
    assert parts.cross.isfinite().all()
    assert torch.autograd.grad(parts.kl.sum(), student)[0].isfinite().all()


def test_the_student_comes_first():
    student, teacher = torch.tensor([[0.0, 0.0, 0.0]]), torch.tensor([[math.log(2.0), 0.0, 0.0]])
    p, q = [1 / 2, 1 / 4, 1 / 4], [1 / 3, 1 / 3, 1 / 3]
    halves = ClassGroups(("one", "rest"), torch.tensor([0, 1, 1]))
    assert decompose(student, teacher, halves).kl.item() == pytest.approx(kl(p, q))
    assert decompose_parts(student, teacher, halves).cross.item() == pytest.approx(kl([1 / 2, 1 / 2], [1 / 3, 2 / 3]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_computed_in_float32(dtype):
    teacher, student = draw(4, 9).to(dtype), draw(4, 9, seed=1).to(dtype)
    parts, expected = decompose(student, teacher, GROUPS), decompose(student.float(), teacher.float(), GROUPS)
    assert all(torch.equal(a, b) for a, b in zip(parts, expected, strict=True))


def test_autocast_changes_nothing_and_does_not_warn():
    teacher, student = draw(4, 9, dtype=torch.float32), draw(4, 9, seed=1, dtype=torch.float32)
    expected = decompose(student, teacher, GROUPS)
    with torch.autocast("cpu", torch.bfloat16), warnings.catch_warnings():
        warnings.simplefilter("error")
        parts = decompose(student, teacher, GROUPS)
    torch.testing.assert_close(tuple(parts), tuple(expected))


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("groups", [GROUPS, UNEVEN], ids=["equal", "uneven"])
def test_it_compiles_as_one_graph(groups):
    torch.compiler.reset()
    teacher, student = (draw(4, groups.n_classes, seed=seed, dtype=torch.float32) for seed in (0, 1))
    parts = torch.compile(decompose, fullgraph=True)(student, teacher, groups)
    torch.testing.assert_close(tuple(parts), tuple(decompose(student, teacher, groups)))


@pytest.mark.parametrize(
    ("student", "teacher"),
    [((4, 9), (4, 8)), ((4, 9), (3, 9)), ((9,), (9,)), ((4, 8), (4, 8)), ((2, 4, 9), (2, 4, 9))],
)
def test_wrong_shapes_raise(student, teacher):
    with pytest.raises(ConfigError):
        decompose(draw(*student), draw(*teacher), GROUPS)


@pytest.mark.parametrize("temperature", [0, -1.0, math.nan, 1e-40, math.inf])
def test_a_temperature_out_of_range_raises(temperature):
    with pytest.raises(ConfigError, match="temperature"):
        decompose(draw(4, 9), draw(4, 9), GROUPS, temperature=temperature)
