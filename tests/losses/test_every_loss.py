"""What holds for every loss, whatever it computes: one table of the losses, one body a test."""

import pickle
import shutil
import subprocess
import sys
import warnings
from functools import partial
from importlib import import_module

import numpy as np
import pytest
import torch
from helpers import about, draw, extreme_logits, softmax
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import rel_entr

from ltkd import ClassGroups, ConfigError, group_mass, losses

COMPILER = shutil.which("g++") or shutil.which("clang++") or shutil.which("c++")
GROUPS = ClassGroups(("head", "medium", "tail"), torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2]))
WEIGHTS = torch.tensor([0.1, 0.2, 0.4, 0.6, 0.9, 1.2, 1.5, 2.0, 2.1])
COUNTS = torch.tensor([500, 300, 200, 100, 60, 40, 20, 10, 5])
MARGINS = losses.ldam_margins(COUNTS)
CLASSES = torch.arange(9).roll(2)  # of an expert that knows all nine, in an order of its own


def labels_of(logits):
    return torch.arange(len(logits), device=logits.device) * 2 % 9


def with_labels(loss, **settings):
    """A loss of logits and labels as one of (student, teacher)."""
    return lambda student, teacher, **more: loss(student, labels=labels_of(student), **settings | more)


def of_maps(loss, **settings):
    """A loss of feature maps as one of nine logits, taken for a map of 3 x 3."""
    return lambda student, teacher: loss(student.view(-1, 1, 3, 3), teacher.view(-1, 1, 3, 3), **settings)


def of_dkd(student, teacher, **settings):
    return losses.dkd(
        student, teacher, labels_of(student), **{"alpha": 1.0, "beta": 8.0, "temperature": 4.0} | settings
    )


WITH_TEACHER = {
    "kd": partial(losses.kd, temperature=3.0),
    "bkd": partial(losses.bkd, class_weights=WEIGHTS, temperature=2.0),
    "dkd": of_dkd,
    "dist": partial(losses.dist, beta=1.0, gamma=2.0, temperature=4.0),
    "expert_kd": partial(losses.expert_kd, classes=CLASSES, temperature=2.0),
    "ltkd": partial(losses.ltkd, groups=GROUPS, alpha=2.0, beta=0.5, temperature=4.0),
    "ltkd, plain": partial(
        losses.ltkd, groups=GROUPS, alpha=2.0, beta=0.5, temperature=4.0, rebalanced=False, reweighted=False
    ),
}
WITH_LABELS = {
    "class_balanced": with_labels(losses.class_balanced, class_weights=WEIGHTS),
    "class_balanced, weighted": with_labels(losses.class_balanced, class_weights=WEIGHTS, reduction="weighted"),
    "focal": with_labels(losses.focal, gamma=0.5, class_weights=WEIGHTS),
    "ldam": with_labels(losses.ldam, margins=MARGINS, scale=30.0, class_weights=WEIGHTS),
    "logit_adjusted": with_labels(losses.logit_adjusted, class_counts=COUNTS, tau=1.5),
    "balanced_softmax": with_labels(losses.balanced_softmax, class_counts=COUNTS),
}
SIGMOID = {"sigmoid_focal": with_labels(losses.sigmoid_focal, gamma=0.5, class_weights=WEIGHTS)}
OF_MAPS = {
    "hint": of_maps(losses.hint),
    "hierarchical_context": of_maps(losses.hierarchical_context),
    "class_attention": of_maps(losses.class_attention, size=2, normalize=False),
    "class_attention, normalized": of_maps(losses.class_attention, size=2, normalize=True),
}
SOFTMAX = WITH_TEACHER | WITH_LABELS
EVERY = SOFTMAX | SIGMOID | OF_MAPS
WITHOUT_WEIGHTS = {"logit_adjusted", "balanced_softmax"}
OVER_THE_BATCH = {"ltkd", "dist", "class_balanced, weighted", "ldam"}  # rebalanced, correlated, divided by its weights


def over(table):
    return pytest.mark.parametrize("loss", table.values(), ids=table)


every_loss = over(EVERY)


def test_the_table_holds_every_published_loss():
    parts = {"effective_number_weights", "ldam_margins", "adjust_logits", "rebalance", "log_rebalance"}
    own = set(losses.__all__)
    public = {name for name in own if not name.startswith("_") and not name.endswith("_terms")}
    assert {name.split(",")[0] for name in EVERY} == public - parts


def test_the_loss_and_not_its_file_is_called_losses_ltkd():
    assert import_module("ltkd.losses.ltkd").ltkd is losses.ltkd
    assert pickle.loads(pickle.dumps(losses.ltkd)) is losses.ltkd


@pytest.mark.slow
@pytest.mark.parametrize("first", ["import ltkd.losses.ltkd", "from ltkd.losses.ltkd import rebalance"])
def test_it_is_the_loss_even_if_its_file_is_imported_first(first):
    code = f"{first}; from ltkd import losses; import ltkd.losses.ltkd; assert callable(losses.ltkd), losses.ltkd"
    subprocess.run([sys.executable, "-c", code], check=True)


@every_loss
def test_a_loss_is_one_number_in_float32_or_better(loss):
    for dtype, expected in ((torch.float16, torch.float32), (torch.float64, torch.float64)):
        value = loss(draw(4, 9).to(dtype), draw(4, 9, seed=1).to(dtype))
        assert (value.shape, value.dtype) == ((), expected)


@every_loss
def test_gradients_are_those_of_finite_differences(loss):
    teacher = draw(3, 9, seed=1)
    assert torch.autograd.gradcheck(lambda student: loss(student, teacher), draw(3, 9).requires_grad_())


@over(SOFTMAX)
def test_the_gradient_of_each_row_sums_to_zero(loss):
    student = draw(8, 9).requires_grad_()
    (gradient,) = torch.autograd.grad(loss(student, draw(8, 9, seed=1)), student)
    torch.testing.assert_close(gradient.sum(1), torch.zeros(8, dtype=torch.float64))
    assert gradient.any()


@over(SOFTMAX)
@given(seed=st.integers(0, 10**6), shift=st.floats(-50, 50))
def test_a_constant_added_to_the_logits_does_not_change_a_loss(loss, seed, shift):
    student, teacher = draw(4, 9, seed=seed), draw(4, 9, seed=seed + 1)
    torch.testing.assert_close(loss(student + shift, teacher - shift), loss(student, teacher), rtol=1e-8, atol=1e-8)


@over({name: loss for name, loss in EVERY.items() if name not in OVER_THE_BATCH})
def test_a_batch_costs_the_mean_of_its_halves(loss):
    student, teacher = draw(18, 9), draw(18, 9, seed=1)
    halves = [loss(s, t) for s, t in zip(student.split(9), teacher.split(9), strict=True)]
    torch.testing.assert_close(loss(student, teacher), sum(halves) / 2)


# --- numbers at the edge, and other ways to run ---


def one_class_has_all(peak, right):
    """Logits of a network that is sure of each image's label, or of the class after it."""
    return torch.full((4, 9), -peak).scatter(1, (labels_of(torch.zeros(4)) + (not right))[:, None], peak)


AT_THE_EDGE = {
    "half": extreme_logits(torch.float16),
    "bfloat16": extreme_logits(torch.bfloat16),
    **{(peak, right): [one_class_has_all(peak, right)] * 2 for peak in (30.0, 1e4) for right in (True, False)},
    "a student that says nothing yet": (torch.zeros(4, 9), draw(4, 9, seed=1, dtype=torch.float32)),
}


@every_loss
def test_values_and_gradients_are_finite_at_the_edge(loss):
    for name, (student, teacher) in AT_THE_EDGE.items():
        student = student.clone().requires_grad_()
        value = loss(student, teacher)
        value.backward()
        with about(name):
            assert value.isfinite()
            assert student.grad.isfinite().all()
            # Equal logits of 1e4 share a row alike, and no change of them correlates better.
            if name in ("half", "bfloat16") and loss is not WITH_TEACHER["dist"]:
                assert student.grad.any()


@every_loss
def test_autocast_changes_nothing_and_does_not_warn(loss):
    student, teacher = draw(4, 9, dtype=torch.float32), draw(4, 9, seed=1, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16), warnings.catch_warnings():
        warnings.simplefilter("error")
        value = loss(student, teacher)
    torch.testing.assert_close(value, loss(student, teacher))


@every_loss
def test_it_stays_on_the_device_of_its_input_and_looks_at_no_value(loss):
    student, teacher = torch.empty(4, 9, device="meta"), torch.empty(4, 9, device="meta")  # a device without values
    assert loss(student, teacher).device.type == "meta"


# --- masked classes ---

LABELS = labels_of(torch.zeros(4))
MASKS = {  # of four images, nine classes in three groups
    "one class": torch.zeros(4, 9).index_fill(1, torch.tensor([8]), 1),
    "several classes": torch.zeros(4, 9).index_fill(1, torch.tensor([1, 2, 5, 8]), 1),
    "a group": torch.zeros(4, 9).index_fill(1, torch.tensor([6, 7, 8]), 1),
    "a class of one image": torch.zeros(4, 9).index_put((torch.tensor(1), torch.tensor(7)), torch.tensor(1.0)),
    "a group of one image": torch.zeros(4, 9).index_put((torch.tensor(1), torch.tensor([0, 1, 2])), torch.tensor(1.0)),
    "the label": torch.zeros(4, 9).scatter(1, LABELS[:, None], 1),
    "all but the label": torch.ones(4, 9).scatter(1, LABELS[:, None], 0),
}
LOWEST = (-torch.inf, *(torch.finfo(dtype).min for dtype in (torch.float32, torch.float16, torch.bfloat16)))
every_mask = pytest.mark.parametrize("mask", [mask.bool() for mask in MASKS.values()], ids=MASKS)


def kl(p, q):
    """Of each row, from plain probabilities; rel_entr is 0 where p is 0, and inf where q alone is 0."""
    return rel_entr(p, q).sum(-1)


def within(p, q, members):
    """KL inside some classes, after their probabilities are scaled to sum to one; 0 where p has none."""
    with np.errstate(invalid="ignore"):
        p, q = (np.nan_to_num(x[:, members] / x[:, members].sum(1, keepdims=True)) for x in (p, q))
    return kl(p, q)


def ltkd_oracle(p, q, rebalanced=True):
    members = [np.flatnonzero(GROUPS.index == g) for g in range(3)]
    p_group, q_group = (np.stack([x[:, of].sum(1) for of in members], 1) for x in (p, q))
    inside = np.stack([within(p, q, of) for of in members], 1)
    if not rebalanced:
        return 2 * kl(p_group, q_group) + 0.5 * np.where(p_group > 0, p_group * inside, 0).sum(1)
    share = np.divide(p_group, p_group.sum(0), out=np.zeros_like(p_group), where=p_group > 0)
    return 2 * kl(share / share.sum(1, keepdims=True), q_group) + 0.5 * inside.sum(1)


def dkd_oracle(p, q):
    rows = [(p[[i]], q[[i]], y, np.delete(np.arange(9), y)) for i, y in enumerate(LABELS.tolist())]
    pairs = [[np.stack([x[:, y], x[:, rest].sum(1)], 1) for x in (a, b)] for a, b, y, rest in rows]
    return np.array([kl(*pair) + 8 * within(a, b, rest) for pair, (a, b, _, rest) in zip(pairs, rows, strict=True)])


def bkd_oracle(p, q):
    target = WEIGHTS.double().numpy() * p
    return kl(target / target.sum(1, keepdims=True), q)


def dist_oracle(p, q):
    def distance(a, b):
        a, b = (x - x.mean(1, keepdims=True) for x in (a, b))
        return (
            1 - (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1) + losses.distillation.DIST_EPS)
        ).mean()

    return distance(p, q) + 2 * distance(p.T, q.T)


ORACLES = {  # from the teacher's and the student's probabilities, in float64
    "kd": kl,
    "bkd": bkd_oracle,
    "dkd": dkd_oracle,
    "dist": dist_oracle,
    "expert_kd": kl,
    "ltkd": ltkd_oracle,
    "ltkd, plain": partial(ltkd_oracle, rebalanced=False),
}
every_masked_loss = pytest.mark.parametrize("name", WITH_TEACHER)


def masked_pair(mask, who, name, lowest=-torch.inf, dtype=torch.float64):
    """Student and teacher, the one or both of them masked; and what the loss called `name` takes for the teacher."""
    student, teacher = draw(4, 9, dtype=dtype), draw(4, 9, seed=1, dtype=dtype)
    student = student.masked_fill(mask & ("student" in who), lowest)
    teacher = teacher.masked_fill(mask & ("teacher" in who), lowest)
    return student, teacher, teacher[:, CLASSES] if name == "expert_kd" else teacher


@every_masked_loss
@every_mask
@pytest.mark.parametrize("who", ["teacher", "student and teacher"])
def test_a_masked_class_has_the_probability_zero(name, mask, who):
    for temperature in (1.0, 4.0):
        student, teacher, given = masked_pair(mask, who, name)
        p, q = softmax(teacher, temperature), softmax(student, temperature)
        factor = 1 if name == "expert_kd" else temperature**2
        value = WITH_TEACHER[name](student, given, temperature=temperature)
        with about(temperature):
            assert value.item() == pytest.approx(factor * ORACLES[name](p, q).mean(), rel=1e-9)


@every_masked_loss
@every_mask
@pytest.mark.parametrize("who", ["teacher", "student and teacher"])
def test_masks_have_finite_gradients_those_of_finite_differences(name, mask, who):
    _, _, teacher = masked_pair(mask, who, name)

    def loss(free, temperature):
        student = free.masked_fill(mask & ("student" in who), -torch.inf)
        return WITH_TEACHER[name](student, teacher, temperature=temperature)

    inputs = [draw(4, 9).requires_grad_(), torch.tensor(2.0, dtype=torch.float64, requires_grad=True)]
    assert torch.autograd.gradcheck(loss, inputs)


@every_masked_loss
@every_mask
def test_the_lowest_number_of_a_type_masks_as_inf_does(name, mask):
    for who in ("teacher", "student and teacher"):
        results = []
        for lowest in LOWEST:
            student, _, teacher = masked_pair(mask, who, name, lowest, torch.float32)
            value = WITH_TEACHER[name](student.requires_grad_(), teacher)
            results.append((value, *torch.autograd.grad(value, student)))
        with about(who):
            assert all(torch.equal(a, b) for result in results for a, b in zip(result, results[0], strict=True))
            assert all(x.isfinite().all() for x in results[0])


@every_masked_loss
def test_a_class_that_the_student_alone_masks_costs_infinitely_much(name):
    student, _, teacher = masked_pair(MASKS["one class"].bool(), "student", name, dtype=torch.float32)
    value = WITH_TEACHER[name](student.requires_grad_(), teacher)
    assert value.isfinite() if name == "dist" else value == torch.inf  # correlations have bounds
    assert torch.autograd.grad(value, student)[0].isfinite().all()


def test_a_group_that_the_teacher_masks_has_no_part_in_a_batch_mass_from_outside():
    for name in ("a group", "a group of one image"):
        student, teacher, _ = masked_pair(MASKS[name].bool(), "teacher", "ltkd")
        mass = group_mass(teacher, GROUPS, temperature=4.0).sum(0)
        with about(name):
            loss = WITH_TEACHER["ltkd"]
            torch.testing.assert_close(loss(student, teacher, batch_mass=mass), loss(student, teacher))


@over(WITH_TEACHER)
def test_a_number_that_is_no_logit_is_not_taken_for_a_mask(loss):
    for wrong in (torch.nan, torch.inf):
        for k in (0, 1):
            pair = [draw(4, 9), draw(4, 9, seed=1)]
            pair[k] = pair[k].index_fill(1, torch.tensor([3]), wrong)
            with about(wrong, k):
                assert loss(*pair).isnan()


# --- the teacher is a constant ---


@over(WITH_TEACHER | OF_MAPS)
def test_the_teacher_gets_no_gradient_detached_or_not(loss):
    student, teacher = draw(4, 9).requires_grad_(), draw(4, 9, seed=1).requires_grad_()
    value = loss(student, teacher)
    of_student, of_teacher = torch.autograd.grad(value, (student, teacher), allow_unused=True)
    assert of_teacher is None
    assert torch.equal(value, loss(student, teacher.detach()))
    assert torch.equal(of_student, torch.autograd.grad(loss(student, teacher.detach()), student)[0])


@over(WITH_TEACHER)
def test_the_temperature_gets_its_gradient(loss):
    student, teacher = draw(4, 9), draw(4, 9, seed=1)
    temperature = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: loss(student, teacher, temperature=t), temperature)
    assert torch.autograd.grad(loss(student, teacher, temperature=temperature), temperature)[0] != 0


@over({name: EVERY[name] for name in ("bkd", *WITH_LABELS, *SIGMOID) if name not in WITHOUT_WEIGHTS})
def test_class_weights_get_their_gradient(loss):
    student, teacher = draw(4, 9), draw(4, 9, seed=1)
    weights = WEIGHTS.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda w: loss(student, teacher, class_weights=w), weights)
    assert torch.autograd.grad(loss(student, teacher, class_weights=weights), weights)[0].any()


@over({name: loss for name, loss in EVERY.items() if name not in OVER_THE_BATCH})
def test_torch_func_gives_the_gradient_of_each_image(loss):
    student, teacher = draw(3, 9), draw(3, 9, seed=1)
    each = torch.func.vmap(torch.func.grad(lambda s, t: loss(s[None], t[None])))(student, teacher)
    for i in range(3):
        torch.testing.assert_close(each[i], torch.func.grad(loss)(student[[i]], teacher[[i]])[0])


@over(WITH_TEACHER)
def test_torch_func_gives_the_loss_at_each_temperature(loss):
    student, teacher, temperatures = draw(3, 9), draw(3, 9, seed=1), torch.tensor([1.0, 2.0, 4.0])
    values = torch.func.vmap(lambda t: loss(student, teacher, temperature=t))(temperatures)
    expected = [loss(student, teacher, temperature=t) for t in temperatures]
    torch.testing.assert_close(values, torch.stack(expected))


# --- compiled ---


def check_compiled(loss, **settings):
    torch.compiler.reset()  # else the partials, which are one function to the compiler, exceed its recompile limit
    student, teacher = draw(4, 9, dtype=torch.float32).requires_grad_(), draw(4, 9, seed=1, dtype=torch.float32)
    values = [f(student, teacher) for f in (torch.compile(loss, fullgraph=True, **settings), loss)]
    torch.testing.assert_close(*values)
    torch.testing.assert_close(*(torch.autograd.grad(value, student)[0] for value in values))


def ltkd_over(index):
    """LTKD with the groups that an index of nine classes gives."""
    groups = ClassGroups([f"g{g}" for g in range(max(index) + 1)], torch.tensor(index))
    return partial(WITH_TEACHER["ltkd"], groups=groups)


PARTITIONS = {
    "in order": ltkd_over([0, 0, 0, 1, 1, 1, 1, 2, 2]),
    "mixed": ltkd_over([2, 0, 1, 1, 0, 1, 2, 0, 1]),
    "uneven": ltkd_over([1, 0, 0, 0, 2, 0, 0, 3, 0]),
    "one class each": ltkd_over([*range(9)]),
}


@pytest.mark.slow
@over(EVERY | PARTITIONS)
def test_it_is_one_graph_with_its_gradient(loss):
    check_compiled(loss, backend="aot_eager")


@pytest.mark.slow
@pytest.mark.skipif(not COMPILER, reason="torch.compile needs a C++ compiler")
@over(PARTITIONS)  # the one loss that handles memory itself; a compiler's start takes seconds
def test_it_compiles_to_machine_code(loss):
    check_compiled(loss)


@pytest.mark.slow
@over({"kd": WITH_TEACHER["kd"]} | PARTITIONS)
def test_a_smaller_last_batch_is_the_same_graph(loss):
    torch.compiler.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager", dynamic=True)
    for size in (8, 5, 3):
        student, teacher = draw(size, 9).requires_grad_(), draw(size, 9, seed=1)
        with torch.compiler.set_stance("default" if size == 8 else "fail_on_recompile"):
            values = [f(student, teacher) for f in (compiled, loss)]
        torch.testing.assert_close(*values)
        torch.testing.assert_close(*(torch.autograd.grad(value, student)[0] for value in values))


def test_ltkd_looks_at_no_value_whatever_the_partition():
    for name, loss in PARTITIONS.items():
        student, teacher = (torch.empty(4, 9, device="meta", requires_grad=grad) for grad in (True, False))
        with about(name):
            loss(student, teacher).backward()
            assert student.grad.shape == (4, 9)


# --- wrong input ---


@over(WITH_TEACHER)
def test_shapes_of_student_and_teacher_that_differ_raise(loss):
    for student, teacher in [((4, 9), (4, 8)), ((4, 9), (3, 9)), ((9,), (9,))]:
        with about(student, teacher), pytest.raises(ConfigError, match="must"):
            loss(draw(*student), draw(*teacher))


@over(WITH_TEACHER)
def test_a_temperature_out_of_range_raises(loss):
    wrong = (0, -2.0, float("nan"), float("inf"), 1e-40, 1e30, "4", None)
    for temperature in (*wrong, *map(torch.tensor, wrong[:6]), torch.ones(1), torch.ones(4, 1)):
        with about(temperature), pytest.raises(ConfigError, match=r"temperature = .*from 0\.0001 to 10000"):
            loss(draw(4, 9), draw(4, 9), temperature=temperature)


@every_loss
def test_an_empty_batch_raises(loss):
    with pytest.raises(ConfigError, match="at least one"):
        loss(draw(0, 9), draw(0, 9))


@every_loss
def test_a_batch_may_be_one_image(loss):
    student = draw(1, 9).requires_grad_()
    value = loss(student, draw(1, 9, seed=1))
    assert value.isfinite()
    assert torch.autograd.grad(value, student)[0].isfinite().all()


OF_FEW_CLASSES = {  # logits (B, C), for any C
    "kd": partial(losses.kd, temperature=2.0),
    "bkd": lambda s, t: losses.bkd(s, t, torch.rand(s.shape[1]) + 1, temperature=2.0),
    "dkd": lambda s, t: losses.dkd(s, t, torch.zeros(len(s)).long(), alpha=1.0, beta=8.0, temperature=2.0),
    "dist": partial(losses.dist, beta=1.0, gamma=1.0, temperature=2.0),
    "expert_kd": lambda s, t: losses.expert_kd(s, t, torch.arange(s.shape[1]), temperature=2.0),
    "ltkd": lambda s, t: losses.ltkd(
        s, t, ClassGroups.by_rank(range(s.shape[1], 0, -1)), alpha=1.0, beta=1.0, temperature=2.0
    ),
    **{
        f"focal, {gamma}": partial(lambda s, t, g: losses.focal(s, torch.zeros(len(s)).long(), gamma=g), g=gamma)
        for gamma in (0.0, 0.5, 2.0)
    },
    "sigmoid_focal": lambda s, t: losses.sigmoid_focal(s, torch.zeros(len(s)).long(), gamma=0.5),
    "balanced_softmax": lambda s, t: losses.balanced_softmax(s, torch.zeros(len(s)).long(), [9] * s.shape[1]),
    "ldam": lambda s, t: losses.ldam(s, torch.zeros(len(s)).long(), torch.ones(s.shape[1]), scale=2.0),
}


@over(OF_FEW_CLASSES)
def test_one_class_or_two_are_enough(loss):
    for n_classes in (1, 2):
        student = draw(4, n_classes).requires_grad_()
        value = loss(student, draw(4, n_classes, seed=1))
        with about(n_classes):
            assert value.isfinite()
            assert torch.autograd.grad(value, student)[0].isfinite().all()


LABELLED = {
    "dkd": lambda z, y: losses.dkd(z, z, y, alpha=1.0, beta=8.0, temperature=4.0),
    "class_balanced": partial(losses.class_balanced, class_weights=WEIGHTS),
    "class_balanced, weighted": partial(losses.class_balanced, class_weights=WEIGHTS, reduction="weighted"),
    "focal": partial(losses.focal, gamma=1.0),
    "sigmoid_focal": partial(losses.sigmoid_focal, gamma=1.0),
    "ldam": partial(losses.ldam, margins=MARGINS, scale=30.0),
    "logit_adjusted": partial(losses.logit_adjusted, class_counts=COUNTS),
    "balanced_softmax": partial(losses.balanced_softmax, class_counts=COUNTS),
}


@over(LABELLED)
def test_labels_that_are_not_one_class_a_row_raise(loss):
    for labels in (torch.zeros(5).long(), torch.zeros(4, 1).long(), torch.zeros(4), torch.full((4, 9), 1 / 9)):
        with about(labels), pytest.raises(ConfigError, match="labels"):
            loss(draw(4, 9), labels)


@over(LABELLED | {"expert_kd": lambda z, y: losses.expert_kd(z, z, y, temperature=1.0)})
def test_class_numbers_that_no_logit_has_raise(loss):
    for wrong in (-1, -100, 9):
        with about(wrong), pytest.raises(ConfigError, match=rf"hold {wrong}: must be from 0 to 8"):
            loss(draw(4, 9), torch.tensor([0, 8, wrong, 2]))


@over(LABELLED)
def test_logits_that_are_not_one_row_an_image_raise(loss):
    for shape in ((9,), (9, 9, 9)):
        with about(shape), pytest.raises(ConfigError, match="logits"):
            loss(draw(*shape), torch.zeros(9).long())


@over({name: loss for name, loss in OF_MAPS.items() if "attention" not in name})
def test_maps_that_differ_raise(loss):
    with pytest.raises(ConfigError, match="maps"):
        loss(draw(4, 9), draw(5, 9))
