"""Margins, deferral, logit adjustment, classifier retraining and BBN. Their losses are in test_long_tailed."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import digits_config, draw
from prepared import COUNTS, prepared, same, seven_classes, step_of, train, weights_of
from torch import nn

from ltkd import METHODS, ConfigError, RunConfig, Step, fit, losses, models
from ltkd.datasets import load
from ltkd.methods import Batch, Task
from ltkd.methods.bbn import TwoBranches
from ltkd.methods.long_tailed import CosineHead


def task_of(counts, epochs):
    return Task.of({"num_classes": len(counts), "in_channels": 3, "image_size": 32}, counts, None, epochs)


# --- LDAM's head ---


def test_the_vectors_of_the_cosine_head_start_at_unit_length_and_without_a_bias():
    head = CosineHead(40, 7, scale=30.0)
    assert [name for name, _ in head.named_parameters()] == ["weight"]
    torch.testing.assert_close(head.weight.norm(dim=1), torch.ones(7))


def test_ldams_network_answers_with_scale_times_cosine():
    job = prepared("ldam-drw", scale=20.0)
    images = next(job.test.plain())
    features = job.student.eval().features(images)
    pooled, vectors = (x.detach().double().numpy() for x in (features.pooled, 5.0 * job.student.fc.weight))
    cosine = pooled @ vectors.T / np.outer(np.linalg.norm(pooled, axis=1), np.linalg.norm(vectors, axis=1))
    np.testing.assert_allclose(job.student(images).detach().numpy(), 20.0 * cosine, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("factor", [0.01, 70.0])
def test_the_cosine_head_knows_directions_alone(factor):
    head, inputs = CosineHead(40, 7, scale=30.0), draw(5, 40, dtype=torch.float32)
    logits = head(inputs)
    torch.testing.assert_close(head(factor * inputs), logits)
    with torch.no_grad():
        head.weight[3] *= factor
    torch.testing.assert_close(head(inputs), logits)


# --- class weights that come late ---

DEFERRED = [name for name, cls in METHODS.items() if "deferred" in cls.options() and cls.parent is None]
deferred_methods = pytest.mark.parametrize("name", DEFERRED)


def test_the_methods_with_late_class_weights_are_tested():
    assert DEFERRED == ["bkd", "ldam-drw"]


def weighted_and_not(name, deferred):
    """Jobs of four epochs. With effective_beta=0 all classes weigh one."""
    return [prepared(name, epochs=4, **options) for options in ({"deferred": deferred}, {"effective_beta": 0.0})]


def same_after(jobs, epochs):
    """Whether jobs that train so many epochs more have the same weights then."""
    return same(*(weights_of(train(job, epochs).student) for job in jobs))


@deferred_methods
def test_before_they_come_the_run_is_the_unweighted_one_bit_for_bit(name):
    jobs = weighted_and_not(name, deferred=0.5)
    assert same_after(jobs, range(1, 3))
    assert not same_after(jobs, range(3, 4))


@deferred_methods
def test_put_off_to_the_end_they_never_come(name):
    assert same_after(weighted_and_not(name, deferred=1.0), range(1, 5))


@deferred_methods
def test_with_equal_counts_it_does_not_matter_when_they_come(name):
    at_once, never = (prepared(name, data=seven_classes((20,) * 7), deferred=d) for d in (0.0, 1.0))
    torch.testing.assert_close(at_once.method(step_of(at_once)), never.method(step_of(never)))


def test_bkds_weights_on_cifar10_are_one_through_epoch_160_and_the_published_ones_from_161():
    config = RunConfig.make("cifar10-bkd", method="bkd")
    counts = np.array([5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50])
    method = METHODS["bkd"](task_of(counts, config.epochs), **config.options)
    published = 0.0001 / (1 - 0.9999**counts)
    logits, teacher_logits = draw(6, 10), draw(6, 10, seed=1)
    for epoch, weights in ((1, np.ones(10)), (160, np.ones(10)), (161, published), (200, published)):
        step = Step.of_logits(logits, torch.arange(6), teacher_logits, epoch=epoch)
        expected = losses.bkd(logits, teacher_logits, torch.as_tensor(weights), temperature=2.0)
        torch.testing.assert_close(method(step)["bkd"], expected, rtol=1e-6, atol=0)


# --- weights of the classes, and the sigmoid ---


def test_the_sigmoid_starts_at_equal_odds_and_its_bias_is_not_decayed():
    job = prepared("cb-focal", weight_decay=0.01)
    bias = job.student.fc.bias
    torch.testing.assert_close(bias.detach().sigmoid(), torch.full((7,), 1 / 7))
    decays = {id(p): group["weight_decay"] for group in job.optimizer.param_groups for p in group["params"]}
    assert decays == {id(p): 0.0 if p is bias else 0.01 for p in job.student.parameters()}


def test_the_softmax_leaves_the_bias_as_it_is():
    job, plain = prepared("cb-focal", activation="softmax", weight_decay=0.01), prepared("ce")
    assert torch.equal(job.student.fc.bias, plain.student.fc.bias)
    assert [group["weight_decay"] for group in job.optimizer.param_groups] == [0.01]


# --- logit adjustment after training ---


def test_post_hoc_adjustment_trains_on_plain_cross_entropy():
    adjusted, plain = train(prepared("logit-adjusted", post_hoc=True), [1]), train(prepared("ce"), [1])
    assert same(weights_of(adjusted.student.network), weights_of(plain.student))


def test_post_hoc_adjustment_takes_the_prior_off_in_the_test_alone(tmp_path):
    where = {"runs": tmp_path, "device": "cpu", "progress": False}
    plain = fit(digits_config(method="ce"), **where)
    adjusted = fit(digits_config(method="logit-adjusted", post_hoc=True, tau=1.5), **where)
    prior = plain.class_counts / plain.class_counts.sum()
    np.testing.assert_allclose(adjusted.logits, plain.logits - 1.5 * np.log(prior), rtol=1e-5, atol=1e-5)
    assert adjusted.history.loss_ce.tolist() == plain.history.loss_ce.tolist()
    assert adjusted.history.train_all.tolist() == plain.history.train_all.tolist()
    np.testing.assert_allclose(adjusted.predict(load("digits").test.images), adjusted.logits, rtol=1e-4, atol=1e-4)


# --- cRT ---

retrained = pytest.mark.parametrize("name", ["crt", "bkd+crt"])


def but_for_the_head(state):
    return {name: value for name, value in state.items() if not name.startswith("fc.")}


@retrained
def test_retraining_leaves_the_backbone_and_its_statistics_as_they_are_bit_for_bit(name):
    job = prepared(name)
    images = next(job.test.plain())
    before, shown = weights_of(job.student), job.student.eval().features(images).pooled
    after = weights_of(train(job, [1]).student)
    assert same(but_for_the_head(after), but_for_the_head(before))
    assert not torch.equal(after["fc.weight"], before["fc.weight"])
    assert not torch.equal(after["fc.bias"], before["fc.bias"])
    assert torch.equal(job.student.eval().features(images).pooled, shown)


def test_the_published_way_moves_batchnorms_statistics_and_nothing_else_of_the_backbone():
    job = prepared("crt", frozen_statistics=False)
    before = but_for_the_head(weights_of(job.student))
    after = weights_of(train(job, [1]).student)
    moved = {name for name, value in before.items() if not torch.equal(after[name], value)}
    assert moved == {name for name in before if "running_" in name or "num_batches" in name}


@retrained
def test_the_classifier_begins_anew_and_the_backbone_goes_on(name):
    job, plain = prepared(name), prepared("ce")
    assert same(but_for_the_head(weights_of(job.student)), but_for_the_head(weights_of(plain.student)))
    new, old = job.student.fc, plain.student.fc
    assert (new.weight.shape, new.bias.shape) == (old.weight.shape, old.bias.shape)
    assert not torch.equal(new.weight, old.weight)
    assert new.weight.abs().max() <= new.in_features**-0.5


@retrained
def test_the_second_stage_is_a_short_cosine_on_balanced_batches(name):
    job = prepared(name, epochs=90, lr=0.2, milestones=(0.5,), lr_warmup=0.1)
    assert job.schedule.epochs == 10
    rates = [job.schedule.rate(epoch) for epoch in range(1, 11)]
    np.testing.assert_allclose(rates, [0.1 * (1 + math.cos(math.pi * e / 10)) for e in range(10)])
    seen = torch.cat([step.labels for step in job.steps(1)]).bincount()
    assert seen.max() - seen.min() <= 4  # one visit of four images


class Small(nn.Module):
    """A network of one's own, with no more than a method that changes the classifier asks for."""

    def __init__(self):
        super().__init__()
        self.body, self.fc = nn.Linear(64, 16), nn.Linear(16, 10)

    def forward(self, images):
        return self.fc(self.body(images.flatten(1)).relu())


def test_a_network_of_ones_own_goes_through_both_stages(tmp_path):
    student, where = Small(), {"runs": tmp_path, "device": "cpu", "progress": False}
    run = fit(digits_config(method="crt", epochs=3), student=student, **where)
    parent = fit(digits_config(method="ce", epochs=3), student=student, **where)
    assert run.result["parent_run"] == parent.config.name
    own, before = run.model(Small()), parent.model(Small())
    assert same(weights_of(own.body), weights_of(before.body))
    assert not same(weights_of(own.fc), weights_of(before.fc))


# --- BBN ---


def test_at_the_start_the_rebalancing_branch_learns_nothing():
    job = prepared("bbn")
    terms = job.method(step_of(job, epoch=1))
    sum(terms.values()).backward()
    assert terms["rebalancing"] == 0
    assert not any(p.grad.any() for p in job.student.second_block.parameters())
    assert all(p.grad.any() for p in job.student.network.last_block.parameters())
    first, second = job.student.fc.weight.grad.split(32, 1)
    assert first.any()
    assert not second.any()


def test_at_equal_shares_one_image_through_both_branches_is_the_test():
    job = train(prepared("bbn"), [1, 2])  # in the second epoch the branches part
    network, images = job.student.eval(), next(job.test.plain())
    assert not torch.equal(network.second_block.conv1.weight, network.network.last_block.conv1.weight)
    torch.testing.assert_close(network.mixed(images, images, 0.5), network(images))


def test_each_branch_sees_its_own_batch():
    network = prepared("bbn").student.eval()
    a, b, c, d = (draw(3, 1, 8, 8, seed=seed, dtype=torch.float32) for seed in range(4))
    assert torch.equal(network.mixed(a, b, 1.0), network.mixed(a, d, 1.0))
    assert torch.equal(network.mixed(a, b, 0.0), network.mixed(c, b, 0.0))
    assert not torch.isclose(network.mixed(a, b, 0.5), network.mixed(c, b, 0.5)).any()
    assert not torch.isclose(network.mixed(a, b, 0.5), network.mixed(a, d, 0.5)).any()


def test_bbn_on_resnet32_has_the_published_number_of_parameters():
    """With the shortcuts without parameters that BBN's code has too."""
    network = models.build("resnet32a", num_classes=100)
    assert models.count_parameters(network) == 470_004
    assert models.count_parameters(TwoBranches(network, 100)) == 550_388


class Recorder:
    """Stands for the network with two branches, and keeps what it was asked."""

    def __init__(self, logits):
        self.logits = logits

    def mixed(self, *asked):
        self.asked = asked
        return self.logits


@pytest.mark.parametrize(("epoch", "share"), [(1, 1.0), (2, 0.999975), (142, 0.502975), (200, 0.009975)])
def test_the_share_of_the_data_as_they_are_falls_with_the_square_of_the_epochs(epoch, share):
    logits, labels, other_labels = draw(6, 7), torch.arange(6), 6 - torch.arange(6)
    batches = {
        "main": Batch(draw(6, 1), labels, torch.arange(6)),
        "reversed": Batch(draw(6, 1, seed=1), other_labels, torch.arange(6)),
    }
    step = Step(Recorder(logits), batches, torch.tensor(epoch, dtype=torch.float64))
    terms = METHODS["bbn"](task_of(COUNTS, epochs=200))(step)
    first, second, asked = step.student.asked
    assert (first is batches["main"].images, second is batches["reversed"].images) == (True, True)
    assert float(asked) == pytest.approx(share, rel=1e-9)
    assert float(terms["conventional"]) == pytest.approx(share * float(F.cross_entropy(logits, labels)))
    assert float(terms["rebalancing"]) == pytest.approx((1 - share) * float(F.cross_entropy(logits, other_labels)))


def test_the_second_batch_is_drawn_from_the_rare_classes_for_itself():
    job = prepared("bbn")
    pairs = [step.batches for step in job.steps(1)]
    labels = {name: torch.cat([pair[name].labels for pair in pairs]) for name in ("main", "reversed")}
    assert labels["main"].bincount().tolist() == list(COUNTS)
    assert labels["reversed"].bincount(minlength=7).argsort().tolist()[-1] == 6
    assert all(len(pair["main"].labels) == len(pair["reversed"].labels) for pair in pairs)


def test_bbn_needs_a_network_whose_last_block_it_can_double():
    with pytest.raises(ConfigError, match=r"StagedNetwork; Linear does not have them"):
        METHODS["bbn"](task_of(COUNTS, epochs=2)).wrap(nn.Linear(4, 7))
