"""loss_probe computes the loss that a method trains with, and finds the methods that need logits only."""

import numpy as np
import pytest
import torch
from helpers import draw

from ltkd import METHODS, ClassGroups, Method, Option, Step, losses
from ltkd.explore import loss_probe

COUNTS = [60, 30, 15, 8, 4, 2]
GROUPS = ClassGroups.by_rank(COUNTS)


@pytest.fixture
def batch():
    return draw(24, 6, seed=0), draw(24, 6, seed=1), torch.arange(24) % 6


def test_the_terms_are_those_of_the_loss(batch):
    student, teacher, labels = batch
    seen = loss_probe.look(loss_probe.make("ltkd", COUNTS, 3, alpha=2.0), student, teacher, labels, GROUPS)
    cross, within = losses.ltkd_terms(student, teacher, GROUPS, temperature=4.0)
    assert seen.terms["cross"] == pytest.approx(2 * float(cross))
    assert seen.terms["within"] == pytest.approx(6 * float(within))


def test_the_gradient_is_the_difference_of_probabilities(batch):
    student, teacher, labels = batch
    method = loss_probe.make("kd", COUNTS, 3, ce_weight=0.0, kd_weight=1.0, temperature=2.0)
    seen = loss_probe.look(method, student, teacher, labels, GROUPS)
    lengths = (2 * ((student / 2).softmax(1) - (teacher / 2).softmax(1))).norm(dim=1).numpy()
    expected = [lengths[GROUPS.index.numpy()[labels] == g].mean() for g in range(3)]
    np.testing.assert_allclose(list(seen.gradient.values()), expected)


def test_a_group_without_images_has_no_value_and_no_gradient(batch, recwarn):
    student, teacher, labels = batch
    seen = loss_probe.look(loss_probe.make("ce", COUNTS, 3), student, teacher, labels * 0, GROUPS)
    for by_group in (seen.alone, seen.gradient):
        assert np.isnan(by_group["tail"]) and by_group["head"] > 0
    assert not recwarn.list


def test_the_value_of_a_group_is_the_loss_of_its_images_alone(batch):
    student, teacher, labels = batch
    seen = loss_probe.look(loss_probe.make("ce", COUNTS, 3), student, teacher, labels, GROUPS)
    of_tail = GROUPS.index[labels] == 2
    assert seen.alone["tail"] == pytest.approx(
        float(torch.nn.functional.cross_entropy(student[of_tail], labels[of_tail]))
    )


@pytest.mark.parametrize(
    ("name", "couples"), [("ce", False), ("kd", False), ("dkd", False), ("dist", True), ("ltkd", True)]
)
def test_coupled_losses_are_detected(batch, name, couples):
    """LTKD's factors depend on the whole batch; DIST correlates over its images."""
    assert loss_probe.look(loss_probe.make(name, COUNTS, 3), *batch, GROUPS).couples == couples


def test_methods_with_features_stages_or_branches_are_left_out():
    known = loss_probe.methods_on_logits()
    assert {"ce", "kd", "bkd", "ltkd", "dkd", "dist", "balanced-softmax"} <= set(known)
    assert not {"fitnet", "reviewkd", "catkd", "crt", "bkd+crt", "bbn", "lfme", "oltr"} & set(known)


def test_a_custom_method_is_found(monkeypatch):
    class Mine(Method):
        """Mean square of the logits."""

        def forward(self, step: Step):
            return {"square": step.logits.square().mean()}

    monkeypatch.setitem(METHODS, "mine", Mine)
    assert "mine" in loss_probe.methods_on_logits()


@pytest.mark.parametrize(
    ("forward", "why"),
    [
        (lambda self, step: {"square": step.logits.sqare().mean()}, "no attribute 'sqare'"),
        (lambda self, step: step.logits.mean(), "must return a dict of named terms"),
        (lambda self, step: {"root": step.logits.mean().log()}, "term 'root' is not finite"),
    ],
)
def test_the_error_of_a_custom_method_is_kept(monkeypatch, forward, why):
    monkeypatch.setitem(METHODS, "mine", type("Mine", (Method,), {"forward": forward}))
    assert "mine" not in loss_probe.methods_on_logits()
    assert why in str(loss_probe.why_not("mine"))


def test_options_of_time_are_set_to_zero_and_not_offered(monkeypatch):
    class Late(Method):
        """A term that comes into force after some epochs."""

        patience = Option(0.5, "fraction of the epochs without the term", high=1.0, of_time=True)
        strength = Option(0.5, "weight of the term")

    monkeypatch.setitem(METHODS, "late", Late)
    assert loss_probe.make("late", COUNTS, 3).patience == 0.0
    assert set(loss_probe.options_of("late")) == {"strength"}


def test_a_term_that_starts_late_is_in_force(batch):
    student, teacher, labels = batch
    drw = loss_probe.look(loss_probe.make("bkd", COUNTS, 3), student, teacher, labels, GROUPS)
    weights = losses.effective_number_weights(COUNTS)
    assert drw.terms["bkd"] == pytest.approx(float(losses.bkd(student, teacher, weights, temperature=2.0)))
    assert not set(loss_probe.options_of("ltkd")) & {"warmup", "deferred"}
