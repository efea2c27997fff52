from dataclasses import fields
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from helpers import about
from prepared import COUNTS, prepared, same, step_of, weights_of

from ltkd import METHODS, ConfigError, Method, Option, RunConfig, Step, losses
from ltkd.methods import TEACHER, Answer, Batch, Distillation, Task, method_class, option_names
from ltkd.models import build
from ltkd.training.sampling import SAMPLERS

TASK = Task.of({"num_classes": 7, "in_channels": 1, "image_size": 8}, COUNTS, None, epochs=8)


class Row(NamedTuple):
    """options: a value other than the default for every option; terms: what the method must return with them, in
    epoch 3 of 8."""

    options: dict
    terms: object


def cross_entropy(step):
    return F.cross_entropy(step.logits, step.labels)


def plain_terms(step, _method):
    return {"ce": cross_entropy(step)}


def kd_terms(step, _method):
    kd = losses.kd(step.logits, step.teacher_logits, temperature=3.0)
    return {"ce": 0.2 * cross_entropy(step), "kd": 0.7 * kd}


def dkd_terms(step, _method):
    target, rest = losses.dkd_terms(step.logits, step.teacher_logits, step.labels, temperature=3.0)
    return {"ce": 0.5 * cross_entropy(step), "target": 2.0 * target, "non_target": 0.3 * rest}


def dist_terms(step, _method):
    inter, intra = losses.dist_terms(step.logits, step.teacher_logits, temperature=3.0)
    return {"ce": 0.5 * cross_entropy(step), "inter": 3.0 * 0.7 * inter, "intra": 3.0 * 0.2 * intra}


def fitnet_terms(step, method):
    hint = method.regressor(step.features.stages[3])
    return {"ce": 0.5 * cross_entropy(step), "hint": 30.0 * losses.hint(hint, step.teacher_features.stages[3])}


def reviewkd_terms(step, method):
    """Their oracle in plain numpy is in test_feature_methods."""
    residual, total = None, 0.0
    own, teacher = step.features, step.teacher_features
    pairs = [(own.pooled[:, :, None, None], teacher.pooled[:, :, None, None])]
    pairs += [(own.preactivations[k], teacher.preactivations[k]) for k in (3, 2, 1)]
    for fusion, (own_map, target) in zip(method.fusions, pairs, strict=True):
        fused, residual = fusion(own_map, residual, target.shape[2:])
        total = total + losses.hierarchical_context(fused, target)
    return {"ce": 0.5 * cross_entropy(step), "review": 3.0 * total}


def catkd_terms(step, method):
    maps = [
        torch.einsum("bdhw,cd->bchw", features.last_map, weight)
        for features, weight in (
            (step.features, step.student.fc.weight),
            (step.teacher_features, method.teacher_weight),
        )
    ]
    return {"ce": 0.5 * cross_entropy(step), "cat": 8.0 * losses.class_attention(*maps, size=1, normalize=False)}


def bkd_terms(step, _method):
    """Deferred to epoch 5, hence with equal weights in epoch 3."""
    bkd = losses.bkd(step.logits, step.teacher_logits, torch.ones(7), temperature=2.5)
    return {"ce": 0.5 * cross_entropy(step), "bkd": 0.8 * bkd}


def ltkd_terms(step, _method):
    cross, within = losses.ltkd_terms(
        step.logits, step.teacher_logits, TASK.groups, temperature=3.0, rebalanced=False, reweighted=False
    )
    return {"ce": 0.5 * cross_entropy(step), "cross": 2.0 * cross, "within": 0.3 * within}


def class_weights(beta):
    return losses.effective_number_weights(COUNTS, beta=beta)


def cb_terms(step, _method):
    return {"ce": losses.class_balanced(step.logits, step.labels, class_weights(0.99), reduction="mean")}


def cb_focal_terms(step, _method):
    return {"focal": losses.focal(step.logits, step.labels, gamma=2.0, class_weights=class_weights(0.99))}


def ldam_terms(step, _method):
    """Deferred to epoch 3, the first with class weights."""
    margins = losses.ldam_margins(COUNTS, max_margin=0.4)
    weights = class_weights(0.99)
    return {"ldam": losses.ldam(step.logits, step.labels, margins, scale=20.0, class_weights=weights)}


def bbn_terms(step, _method):
    """In epoch 3 of 8 the first branch has 1 - (2 / 8)² of the weight."""
    first, second = step.batches["main"], step.batches["reversed"]
    logits = step.student.mixed(first.images, second.images, 0.9375)
    return {
        "conventional": 0.9375 * F.cross_entropy(logits, first.labels),
        "rebalancing": 0.0625 * F.cross_entropy(logits, second.labels),
    }


def lfme_terms(step, method):
    """In epoch 3 of 8 an image's ease has gone three quarters of the way to 1. Experts start at full weight."""
    ease = method.ease[step.indices]
    logits = (ease + (1 - ease) * 0.75)[:, None] * step.logits
    classes = {"many": [0, 1], "medium": [2, 3], "few": [4, 5, 6]}
    experts = {
        name: losses.expert_kd(logits, step.teachers[name].logits, torch.tensor(own), temperature=3.0)
        for name, own in classes.items()
    }
    return {"ce": F.cross_entropy(logits, step.labels), **experts}


def oltr_terms(step, _method):
    shown, memory = step.student.describe(step.images), step.student.memory
    squared = (shown[:, None] - memory).square().sum(2)
    own = F.one_hot(step.labels, 7).bool()
    return {
        "ce": F.cross_entropy(step.student.classify(shown), step.labels),
        "attract": 0.1 * squared[own].sum() / (2 * len(shown)),
        "repel": 0.1 * 0.2 * F.relu(500.0 - squared[~own].sum() / squared.numel()),
    }


BKD_OPTIONS = {
    "temperature": 2.5,
    "ce_weight": 0.5,
    "kd_weight": 0.8,
    "effective_beta": 0.99,
    "deferred": 0.5,
    "warmup": 0.25,
}
SECOND_STAGE = {"second_stage": 1.0, "frozen_statistics": False}
ROWS = {
    "ce": Row({"body_lr": 0.1}, plain_terms),
    "kd": Row({"temperature": 3.0, "ce_weight": 0.2, "kd_weight": 0.7, "warmup": 0.25}, kd_terms),
    "dkd": Row({"temperature": 3.0, "ce_weight": 0.5, "alpha": 2.0, "beta": 0.3, "warmup": 0.25}, dkd_terms),
    "dist": Row(
        {"temperature": 3.0, "ce_weight": 0.5, "kd_weight": 3.0, "beta": 0.7, "gamma": 0.2, "warmup": 0.25}, dist_terms
    ),
    "fitnet": Row({"ce_weight": 0.5, "kd_weight": 30.0, "layer": 3, "warmup": 0.25}, fitnet_terms),
    "reviewkd": Row({"ce_weight": 0.5, "kd_weight": 3.0, "warmup": 0.25, "before_activation": True}, reviewkd_terms),
    "catkd": Row({"ce_weight": 0.5, "kd_weight": 8.0, "size": 1, "normalized": False, "warmup": 0.25}, catkd_terms),
    "bkd": Row(BKD_OPTIONS, bkd_terms),
    "ltkd": Row(
        {
            "temperature": 3.0,
            "ce_weight": 0.5,
            "alpha": 2.0,
            "beta": 0.3,
            "rebalanced": False,
            "reweighted": False,
            "warmup": 0.25,
        },
        ltkd_terms,
    ),
    "cb": Row({"effective_beta": 0.99, "reduction": "mean"}, cb_terms),
    "focal": Row({"gamma": 2.0}, lambda step, _: {"focal": losses.focal(step.logits, step.labels, gamma=2.0)}),
    "cb-focal": Row({"effective_beta": 0.99, "gamma": 2.0, "activation": "softmax"}, cb_focal_terms),
    "ldam-drw": Row({"effective_beta": 0.99, "max_margin": 0.4, "scale": 20.0, "deferred": 0.25}, ldam_terms),
    "logit-adjusted": Row({"tau": 0.5, "post_hoc": True}, plain_terms),
    "balanced-softmax": Row(
        {}, lambda step, _: {"ce": losses.balanced_softmax(step.logits, step.labels, torch.tensor(COUNTS))}
    ),
    "crt": Row(SECOND_STAGE | {"body_lr": 0.1}, plain_terms),
    "bkd+crt": Row(BKD_OPTIONS | SECOND_STAGE, plain_terms),
    "bbn": Row({}, bbn_terms),
    "lfme": Row({"temperature": 3.0, "silence_from": 0.5, "curriculum": "logits"}, lfme_terms),
    "oltr": Row(
        {
            "second_stage": 1.0,
            "centroid_weight": 0.1,
            "repel_weight": 0.2,
            "margin": 500.0,
            "memory_rule": "gradient",
            "body_lr": 0.5,
            "second_body_lr": 0.2,
            "head_lr": 0.3,
            "frozen_body": True,
            "width": 5,
        },
        oltr_terms,
    ),
}
every_method = pytest.mark.parametrize("name", METHODS)
EVERY_OPTION = [(name, option, limits) for name, cls in METHODS.items() for option, limits in cls.options().items()]


# --- what holds for every method ---


def test_every_method_has_its_row_here():
    assert set(ROWS) == set(METHODS)


def test_the_rows_here_set_every_option_to_something_else():
    for name, row in ROWS.items():
        defaults = {option: limits.default for option, limits in METHODS[name].options().items()}
        with about(name):
            assert set(row.options) == set(defaults)
            assert [option for option, value in row.options.items() if value == defaults[option]] == []


@every_method
def test_the_terms_are_the_published_losses(name):
    job = prepared(name, **ROWS[name].options)
    step = step_of(job)
    torch.testing.assert_close(job.method(step), ROWS[name].terms(step, job.method))


@every_method
def test_a_step_moves_all_that_is_trained_and_nothing_else(name):
    job = prepared(name)
    teachers = {teacher: weights_of(network) for teacher, network in job.teachers.items()}
    terms = job.method(step_of(job))
    assert all(term.shape == () and term.isfinite() for term in terms.values())
    sum(terms.values()).backward()
    trained = [p for group in job.optimizer.param_groups for p in group["params"]]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)
    assert any(p.grad.any() for p in trained)
    assert {id(p) for p in job.method.parameters()} <= {id(p) for p in trained}
    others = [p for network in (job.student, *job.teachers.values()) for p in network.parameters()]
    moved = {id(p) for p in others if p.grad is not None}
    assert moved <= {id(p) for p in trained}
    assert all(same(weights_of(job.teachers[teacher]), before) for teacher, before in teachers.items())


def test_what_a_method_declares_exists():
    for name, cls in METHODS.items():
        with about(name):
            assert cls.needs in ("nothing", "logits", "features")
            assert "main" in cls.streams
            assert set(cls.streams.values()) <= set(SAMPLERS)
            assert cls.parent is None or cls.parent in METHODS.values()
            assert set(cls.settings) <= {field.name for field in fields(RunConfig)}
            assert cls.__doc__.splitlines()[0].endswith(".")  # a line for the help


@pytest.mark.parametrize("name", [name for name, cls in METHODS.items() if issubclass(cls, Distillation)])
def test_the_distillation_terms_grow_linearly_over_the_warm_up(name):
    at_once, growing = (prepared(name, warmup=warmup) for warmup in (0.0, 0.5))
    for epoch, share in ((1, 0.25), (2, 0.5), (4, 1.0), (8, 1.0)):
        full = at_once.method(step_of(at_once, epoch))
        expected = {k: v if k == "ce" else share * v for k, v in full.items()}
        with about(epoch):
            torch.testing.assert_close(growing.method(step_of(growing, epoch)), expected)


@pytest.mark.parametrize("name", ["ce", "kd", "ltkd", "balanced-softmax"])
def test_a_loss_on_logits_can_be_tried_without_networks(name):
    job = prepared(name)
    step = step_of(job)
    teacher_logits = step.teacher_logits if job.teachers else None
    alone = Step.of_logits(step.logits, step.labels, teacher_logits, epoch=3)
    torch.testing.assert_close(job.method(alone), job.method(step))


# --- options ---


BOUNDS = [  # (option, values that are allowed, values that are not)
    ("warmup", [0, 0.999], [-0.1, 1]),
    ("deferred", [0, 1], [-0.1, 1.005]),
    ("effective_beta", [0, 0.9999], [1]),
    ("silence_from", [0, 0.9], [1]),
    ("temperature", [0.1, 100], [0, -1]),
    ("second_stage", [0.1, 2], [0]),
    ("max_margin", [0.1], [0]),
    ("scale", [0.1], [0]),
    ("kd_weight", [0, 1000], [-1]),
    ("alpha", [0, 6], [-1, "6"]),
    ("size", [1], [0, 1.5]),
    ("layer", [0], [-1]),
    ("rebalanced", [False], [0]),
    ("reduction", ["mean"], ["sum"]),
    ("memory_rule", ["gradient"], ["published "]),
]


def test_an_option_takes_the_values_that_its_method_can_use():
    for option, allowed, refused in BOUNDS:
        for name in option_names()[option]:
            for value in allowed:
                with about(name, option, value):
                    assert METHODS[name].complete({option: value})[option] == value
            for value in refused:
                with about(name, option, value), pytest.raises(ConfigError, match=f"{option} = |unknown {option} "):
                    METHODS[name].complete({option: value})


@pytest.mark.parametrize(
    ("name", "option", "nearest"),
    [
        ("ltkd", "alfa", "alpha"),
        ("kd", "kd_wieght", "kd_weight"),
        ("bkd", "temprature", "temperature"),
        ("bkd+crt", "temprature", "temperature"),
        ("crt", "second_stag", "second_stage"),
    ],
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
    """Overrides one option and adds three."""

    strength = Option(0.7, "what it is")
    steps = Option(3, "a whole one")
    loud = Option(False, "yes or no")
    side = Option("left", "a word", choices=("left", "right"))


class OwnSecond(Method):
    """Goes on from OwnChild's student."""

    parent = OwnChild
    strength = Option(0.9, "what it is here")


def test_options_are_found_on_the_class_and_its_bases():
    found = {name: option.default for name, option in OwnChild.options().items()}
    assert found == {"strength": 0.7, "steps": 3, "loud": False, "side": "left"}
    assert Own.options()["strength"].default == 0.5


def test_options_of_the_training_before_are_options_too():
    assert set(OwnSecond.options()) == set(OwnChild.options())
    assert OwnSecond.options()["strength"].default == 0.9


def test_options_are_set_on_the_method_with_their_type():
    method = OwnChild(TASK, strength=2, steps=4, loud=True, side="right")
    values = (method.strength, method.steps, method.loud, method.side)
    assert values == (2.0, 4, True, "right")
    assert [type(value) for value in values] == [float, int, bool, str]


def test_every_option_of_any_method_is_listed_with_its_owners():
    owners = option_names()
    assert {(name, option) for option, found in owners.items() for name in found} == {
        (name, option) for name, option, _ in EVERY_OPTION
    }


# --- what a method is told of the run ---


def test_a_task_groups_the_classes_by_rank():
    assert TASK.class_counts.tolist() == list(COUNTS)
    assert TASK.groups.index.tolist() == [0, 0, 1, 1, 1, 2, 2]
    two = Task.of({"num_classes": 2, "in_channels": 3, "image_size": 32}, (9, 3), None, epochs=1)
    assert (two.groups.index.tolist(), two.image_shape) == ([0, 1], (3, 32, 32))


def test_what_a_method_counts_moves_with_it():
    assert METHODS["bkd"](TASK).to(torch.float64).class_weights.dtype == torch.float64


@pytest.mark.parametrize("read", ["teacher_logits", "teacher_features"])
def test_the_teachers_of_a_step_are_frozen_whoever_makes_the_step(read):
    """A step by hand, with a teacher whose parameters ask for gradients, under autocast."""
    teacher = build("resnet8", num_classes=3, in_channels=1, image_size=8)
    images = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    batch = Batch(images, torch.tensor([0, 1, 2, 0]), torch.arange(4))
    step = Step(teacher, {"main": batch}, torch.tensor(1.0), {TEACHER: Answer(teacher, images)})
    with torch.autocast("cpu", torch.bfloat16):
        output = getattr(step, read)
    logits = output if read == "teacher_logits" else output.logits
    assert logits.dtype == torch.float32
    assert not logits.requires_grad
    assert step.student(images).requires_grad
