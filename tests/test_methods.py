from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from helpers import draw

from ltkd import METHODS, ClassGroups, ConfigError, Method, Option, Step, losses
from ltkd.methods import Task, method_class, option_names

COUNTS = torch.tensor([90, 60, 40, 25, 15, 8, 4])
TASK = Task(COUNTS, ClassGroups.by_rank(COUNTS), epochs=8)
LABELS = torch.tensor([0, 1, 2, 3, 4, 5, 6, 0])


class Row(NamedTuple):
    """options: values that differ from the defaults; terms: what the method must return at full weight."""

    options: dict
    terms: object


def cross_entropy(step):
    return F.cross_entropy(step.logits, step.labels)


def kd_terms(step):
    kd = losses.kd(step.logits, step.teacher_logits, temperature=3.0)
    return {"ce": 0.2 * cross_entropy(step), "kd": 0.7 * kd}


def bkd_terms(step):
    weights = losses.effective_number_weights(COUNTS, beta=0.99)
    bkd = losses.bkd(step.logits, step.teacher_logits, weights, temperature=2.5)
    return {"ce": 0.5 * cross_entropy(step), "bkd": 0.8 * bkd}


def ltkd_terms(step):
    cross, within = losses.ltkd_terms(step.logits, step.teacher_logits, TASK.groups, temperature=3.0)
    return {"ce": 0.5 * cross_entropy(step), "cross": 2.0 * cross, "within": 0.3 * within}


ROWS = {
    "ce": Row({}, lambda step: {"ce": cross_entropy(step)}),
    "kd": Row({"temperature": 3.0, "ce_weight": 0.2, "kd_weight": 0.7, "warmup": 0}, kd_terms),
    "bkd": Row(
        {"temperature": 2.5, "ce_weight": 0.5, "kd_weight": 0.8, "effective_beta": 0.99, "warmup": 0}, bkd_terms
    ),
    "ltkd": Row({"temperature": 3.0, "ce_weight": 0.5, "alpha": 2.0, "beta": 0.3, "warmup": 0}, ltkd_terms),
}
every_method = pytest.mark.parametrize("name", METHODS)
every_option = pytest.mark.parametrize(
    ("name", "option"), [(name, option) for name, cls in METHODS.items() for option in cls.options()]
)


def make_step(name, epoch=1):
    logits = draw(8, 7, dtype=torch.float32).requires_grad_()
    teacher_logits = None if METHODS[name].needs == "nothing" else draw(8, 7, seed=1, dtype=torch.float32)
    return Step(logits, LABELS, torch.tensor(float(epoch)), torch.arange(8), teacher_logits)


def test_every_method_has_its_row_here():
    assert set(ROWS) == set(METHODS)


@every_method
def test_a_step_gives_finite_named_terms_with_a_gradient(name):
    step = make_step(name)
    terms = METHODS[name](TASK)(step)
    assert all(term.shape == () and term.isfinite() for term in terms.values())
    sum(terms.values()).backward()
    assert step.logits.grad.isfinite().all()
    assert step.logits.grad.any()


@every_method
def test_the_terms_are_the_published_losses(name):
    step, row = make_step(name), ROWS[name]
    torch.testing.assert_close(METHODS[name](TASK, **row.options)(step), row.terms(step))


@every_method
def test_the_row_here_sets_every_option(name):
    assert set(ROWS[name].options) == set(METHODS[name].options())


@every_method
def test_the_docstring_begins_with_a_line_for_the_help(name):
    assert METHODS[name].__doc__.splitlines()[0].endswith(".")


@pytest.mark.parametrize("name", [name for name, cls in METHODS.items() if "warmup" in cls.options()])
@pytest.mark.parametrize(("epoch", "share"), [(1, 0.25), (2, 0.5), (4, 1.0), (9, 1.0)])
def test_the_distillation_terms_grow_linearly_over_the_warm_up(name, epoch, share):
    step = make_step(name, epoch)
    terms = METHODS[name](TASK, **ROWS[name].options | {"warmup": 0.5})(step)
    expected = {k: v if k == "ce" else share * v for k, v in ROWS[name].terms(step).items()}
    torch.testing.assert_close(terms, expected)


@every_option
def test_an_option_below_its_range_raises(name, option):
    limits = METHODS[name].options()[option]
    with pytest.raises(ConfigError, match=f"{option} = "):
        METHODS[name](TASK, **{option: limits.low if limits.above else type(limits.default)(limits.low - 1)})


@every_option
@pytest.mark.parametrize("value", ["6", True, None, [1.0], float("nan"), float("inf")])
def test_an_option_that_is_no_finite_number_raises(name, option, value):
    with pytest.raises(ConfigError, match=f"{option} = "):
        METHODS[name](TASK, **{option: value})


@pytest.mark.parametrize("value", [1.0, 2.0])
def test_beta_of_the_effective_number_stays_below_one(value):
    with pytest.raises(ConfigError, match=r"below 1"):
        METHODS["bkd"](TASK, effective_beta=value)


def test_a_whole_option_takes_no_fraction():
    with pytest.raises(ConfigError, match="whole number"):
        Option(3, "steps").check("steps", 1.5)


@pytest.mark.parametrize(
    ("name", "option", "nearest"),
    [("ltkd", "alfa", "alpha"), ("kd", "kd_wieght", "kd_weight"), ("bkd", "temprature", "temperature")],
)
def test_an_unknown_option_names_the_nearest(name, option, nearest):
    with pytest.raises(ConfigError, match=f"did you mean '{nearest}'"):
        METHODS[name](TASK, **{option: 1.0})


def test_a_method_without_options_takes_none():
    with pytest.raises(ConfigError, match="alpha"):
        METHODS["ce"](TASK, alpha=1.0)


def test_an_unknown_method_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'ltkd'"):
        method_class("lktd")


class Own(Method):
    """A method of one's own."""

    strength = Option(0.5, "what it is")


class OwnChild(Own):
    """Overrides one option and adds another."""

    strength = Option(0.7, "what it is")
    steps = Option(3, "a whole one")


def test_options_are_found_on_the_class_and_its_bases():
    assert {name: option.default for name, option in OwnChild.options().items()} == {"strength": 0.7, "steps": 3}
    assert Own.options()["strength"].default == 0.5


def test_options_are_set_on_the_method_with_their_type():
    method = OwnChild(TASK, strength=2, steps=4.0)
    assert (method.strength, method.steps) == (2.0, 4)
    assert (type(method.strength), type(method.steps)) == (float, int)


def test_every_option_of_any_method_is_listed_with_its_owners():
    owners = option_names()
    assert {(name, option) for option, found in owners.items() for name in found} == {
        (name, option) for name, cls in METHODS.items() for option in cls.options()
    }


def test_bkds_class_weights_move_with_the_method():
    assert METHODS["bkd"](TASK).to(torch.float64).class_weights.dtype == torch.float64
