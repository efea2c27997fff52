"""OLTR: attention, the memory of class centres and the head that reads it, each beside plain numpy."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import draw
from prepared import prepared, step_of

from ltkd.methods.oltr import ModulatedAttention, attraction, memory_pull, repulsion

CLASSES, WIDTH = 7, 32


@pytest.fixture
def job():
    return prepared("oltr")


def array(tensor):
    return tensor.detach().double().numpy()


def softmax(scores, axis):
    scores = np.exp(scores - scores.max(axis, keepdims=True))
    return scores / scores.sum(axis, keepdims=True)


def linear(layer, x):
    return x @ array(layer.weight).T + (0 if layer.bias is None else array(layer.bias))


def groups_of(job):
    """{how many of --lr a weight has: the names of the weights}, of the student."""
    names = {id(p): name for name, p in job.student.named_parameters()}
    found = {}
    for group in job.optimizer.param_groups:
        found.setdefault(group["lr_scale"], set()).update(names[id(p)] for p in group["params"])
    return found


def test_every_part_has_its_own_learning_rate():
    head = {"hallucinator.weight", "hallucinator.bias", "selector.weight", "selector.bias", "weight"}
    usual = groups_of(prepared("oltr"))
    assert usual[1.0] == head and "memory" in usual[0.1] and "network.stem.0.weight" in usual[0.1]
    own = groups_of(prepared("oltr", body_lr=0.5, second_body_lr=0.001, head_lr=0.2, frozen_body=True))
    assert own[0.2] == head and own[0.1] == {"memory"}
    assert all(name.startswith(("attention.", "describer.")) for name in own[0.001])


def test_the_first_stage_may_have_a_lower_rate_below_the_classifier():
    assert set(groups_of(prepared("ce"))) == {1.0}
    own = groups_of(prepared("ce", body_lr=0.01))
    assert own[1.0] == {"fc.weight", "fc.bias"} and "stem.0.weight" in own[0.01]


def test_direct_features_may_have_a_width_of_their_own():
    student = prepared("oltr", width=5).student
    assert student.describe(draw(2, 1, 8, 8, dtype=torch.float32)).shape == (2, 5)
    assert (student.memory.shape, student.weight.shape) == ((CLASSES, 5), (CLASSES, 5))


# --- attention ---


def attention():
    """One that learned something: drawn weights."""
    module = ModulatedAttention(6, 3, 4).double()
    with torch.no_grad():
        for seed, parameter in enumerate(module.parameters()):
            parameter.copy_(draw(*parameter.shape, seed=seed, scale=0.5))
    return module


def test_attention_begins_as_the_identity(job):
    maps = draw(3, WIDTH, 2, 2, dtype=torch.float32)
    assert torch.equal(job.student.attention(maps), maps)


def test_attention_adds_what_similar_pixels_hold_as_far_as_the_place_lets_it():
    module, maps = attention(), draw(3, 6, 3, 4, seed=20, scale=1.0)
    for image, out in zip(array(maps), array(module(maps)), strict=True):
        columns = image.reshape(6, 12)
        theta, phi, g = (
            array(conv.weight)[:, :, 0, 0] @ columns + array(conv.bias)[:, None]
            for conv in (module.theta, module.phi, module.g)
        )
        found = np.zeros((6, 12))
        for pixel in range(12):
            alike = softmax(np.array([theta[:, pixel] @ phi[:, other] for other in range(12)]), 0)
            found[:, pixel] = array(module.back.weight)[:, :, 0, 0] @ (g @ alike)
        place = softmax(linear(module.spatial, image.ravel()), 0)
        np.testing.assert_allclose(out.reshape(6, 12), columns + place * found, rtol=1e-10)


# --- the head ---


def filled(job):
    """The network with a memory and weights that are none of its first ones."""
    with torch.no_grad():
        job.student.memory.copy_(draw(CLASSES, WIDTH, seed=3, scale=1.0))
    return job.student.double()


def test_the_head_is_the_closed_form(job):
    network, shown = filled(job), draw(5, WIDTH, seed=4, scale=1.0)
    v, memory = array(shown), array(network.memory)
    recalled = softmax(linear(network.hallucinator, v), 1) @ memory
    distances = np.array([[np.linalg.norm(row - centre) for centre in memory] for row in v])
    u = 10 / distances.min(1, keepdims=True) * (v + np.tanh(linear(network.selector, v)) * recalled)
    length = np.linalg.norm(u, axis=1, keepdims=True)
    vectors = array(network.weight) / np.linalg.norm(array(network.weight), axis=1, keepdims=True)
    expected = 16 * (length / (1 + length) * u / length) @ vectors.T
    np.testing.assert_allclose(array(network.classify(shown)), expected, rtol=1e-9)


def test_with_the_selector_shut_the_answer_is_that_of_a_plain_cosine_head(job):
    network, shown = filled(job), draw(40, WIDTH, seed=4, scale=1.0)
    opened = network.classify(shown).argmax(1)
    torch.nn.init.zeros_(network.selector.weight)
    torch.nn.init.zeros_(network.selector.bias)
    plain = F.linear(F.normalize(shown), F.normalize(network.weight)).argmax(1)
    assert torch.equal(network.classify(shown).argmax(1), plain)
    assert not torch.equal(opened, plain)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_logits_lie_between_minus_16_and_16(job, scale):
    network = filled(job)
    logits = network.classify(scale * draw(200, WIDTH, seed=4))
    assert logits.isfinite().all()
    assert logits.abs().max() < 16


def test_an_image_right_on_a_centre_has_finite_logits_and_gradients(job):
    network = filled(job)
    shown = network.memory[2:4].detach().clone().requires_grad_()
    network.classify(shown).sum().backward()
    assert shown.grad.isfinite().all()


def test_the_classifier_of_the_first_stage_becomes_the_one_that_recalls(job):
    first = prepared("ce").student.fc
    assert torch.equal(job.student.hallucinator.weight, first.weight)
    assert torch.equal(job.student.hallucinator.bias, first.bias)


# --- the memory ---


def test_the_memory_starts_as_the_mean_of_what_each_classs_images_show(job):
    network = job.student.eval()
    shown = np.concatenate([array(network.describe(images)) for images in job.training.plain()])
    labels = job.training.labels.numpy()
    expected = [shown[labels == c].mean(0) for c in range(CLASSES)]
    np.testing.assert_allclose(array(network.memory), expected, rtol=1e-4, atol=1e-6)
    assert (shown >= 0).all()


def test_the_classifier_sends_no_gradient_into_the_memory(job):
    job.method(step_of(job))["ce"].backward()
    assert job.student.memory.grad is None
    assert job.student.selector.weight.grad.any()


def pull_by_hand(shown, memory, labels):
    """The published rule for the centres, class by class: sum of (centre - image) / (1 + images) / batch."""
    gradient = np.zeros_like(memory)
    for c in range(CLASSES):
        own = shown[labels == c]
        gradient[c] = (memory[c] - own).sum(0) / (1 + len(own)) / len(shown)
    return gradient


SHOWN, MEMORY = draw(9, WIDTH, seed=1), draw(CLASSES, WIDTH, seed=2)
LABELS = torch.tensor([0, 0, 0, 0, 1, 1, 2, 5, 5])


def test_the_published_pull_on_the_centres_has_no_value_and_the_gradient_by_hand():
    memory = MEMORY.clone().requires_grad_()
    pull = memory_pull(SHOWN, memory, LABELS)
    pull.backward()
    assert pull == 0
    expected = pull_by_hand(SHOWN.numpy(), MEMORY.numpy(), LABELS.numpy())
    np.testing.assert_allclose(memory.grad, expected, rtol=1e-12, atol=1e-15)


def test_attraction_is_half_the_mean_squared_distance_to_the_own_centre():
    expected = sum(np.sum((SHOWN[i] - MEMORY[c]).numpy() ** 2) for i, c in enumerate(LABELS)) / 18
    assert attraction(SHOWN, MEMORY, LABELS).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("margin", [10.0, 10_000.0])
def test_repulsion_is_what_the_mean_distance_to_other_centres_lacks_of_the_margin(margin):
    others = [np.sum((SHOWN[i] - MEMORY[c]).numpy() ** 2) for i in range(9) for c in range(7) if c != LABELS[i]]
    expected = max(0, margin - sum(others) / 63)
    assert repulsion(SHOWN, MEMORY, LABELS, margin).item() == pytest.approx(expected, rel=1e-12)
    assert (expected > 0) == (margin > 10)


@pytest.mark.parametrize("rule", ["published", "gradient"])
def test_the_rule_decides_how_the_centres_move_and_not_how_the_images_do(rule):
    """With a margin that is reached nothing repels."""
    job = prepared("oltr", memory_rule=rule, margin=0.0, centroid_weight=0.01)
    network = filled(job)
    step = step_of(job)
    step.images = step.images.double()
    shown = network.describe(step.images)
    shown.retain_grad()
    network.describe = lambda _images: shown
    terms = job.method(step)
    (terms["attract"] + terms["repel"]).backward()
    v, memory, labels = array(shown), array(network.memory), step.labels.numpy()
    if rule == "published":
        expected = pull_by_hand(v, memory, labels)
    else:
        expected = 0.01 * np.stack([(memory[c] - v[labels == c]).sum(0) for c in range(CLASSES)]) / len(v)
    np.testing.assert_allclose(network.memory.grad, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(shown.grad, 0.01 * (v - memory[labels]) / len(v), rtol=1e-9, atol=1e-12)


# --- the second stage ---


def test_the_head_learns_ten_times_as_fast_as_the_rest(job):
    network = job.student
    rates = {id(p): group["lr_scale"] for group in job.optimizer.param_groups for p in group["params"]}
    head = {"hallucinator.weight", "hallucinator.bias", "selector.weight", "selector.bias", "weight"}
    named = dict(network.named_parameters())
    assert rates == {id(p): 1.0 if name in head else 0.1 for name, p in named.items()}
    assert {"memory", "describer.weight", "attention.back.weight", "network.stem.0.weight"} <= set(named)


def test_the_second_stage_is_twice_as_long_and_falls_tenfold_every_third():
    schedule = prepared("oltr", epochs=30, lr=0.1, lr_warmup=0.1, lr_schedule="cosine").schedule
    assert schedule.epochs == 60
    expected = [0.1] * 20 + [0.01] * 20 + [0.001] * 20
    np.testing.assert_allclose([schedule.rate(epoch) for epoch in range(1, 61)], expected)
