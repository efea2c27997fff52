"""What holds for every loss, whatever it computes: one table of the losses, one body a test."""

import pickle
import shutil
import subprocess
import sys
import warnings
from functools import partial
from importlib import import_module

import pytest
import torch
from helpers import about, draw, extreme_logits
from hypothesis import given
from hypothesis import strategies as st

from ltkd import ClassGroups, ConfigError, losses

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
    return lambda student, teacher: loss(student, labels=labels_of(student), **settings)


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
def test_a_temperature_that_is_not_positive_raises(loss):
    for temperature in (0, -2.0, float("nan")):
        with about(temperature), pytest.raises(ConfigError, match="temperature"):
            loss(draw(4, 9), draw(4, 9), temperature=temperature)


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


@over(LABELLED)
def test_logits_that_are_not_one_row_an_image_raise(loss):
    for shape in ((9,), (9, 9, 9)):
        with about(shape), pytest.raises(ConfigError, match="logits"):
            loss(draw(*shape), torch.zeros(9).long())


@over({name: loss for name, loss in OF_MAPS.items() if "attention" not in name})
def test_maps_that_differ_raise(loss):
    with pytest.raises(ConfigError, match="maps"):
        loss(draw(4, 9), draw(5, 9))
