"""The losses with labels for long-tailed data, beside float64 oracles written one image at a time."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import about, draw, softmax

from ltkd import ConfigError, losses
from ltkd.datasets import class_counts

COUNTS = torch.tensor([500, 300, 200, 100, 60, 40, 20, 10, 5])
WEIGHTS = torch.tensor([0.1, 0.2, 0.4, 0.6, 0.9, 1.2, 1.5, 2.0, 2.1], dtype=torch.float64)
LABELS = torch.tensor([0, 3, 3, 8, 5, 1, 8, 2])
LOGITS = draw(8, 9)
GAMMAS = pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
weighted_or_not = pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["no weights", "weights"])


# --- oracles ---


def cross_entropies(logits, labels):
    return np.array([-math.log(p[y]) for p, y in zip(softmax(logits), labels.tolist(), strict=True)])


def weights_of(labels, weights):
    return np.ones(len(labels)) if weights is None else np.array([weights[y].item() for y in labels])


def focal_oracle(logits, labels, gamma, weights):
    p = [row[y] for row, y in zip(softmax(logits), labels.tolist(), strict=True)]
    terms = [-w * (1 - q) ** gamma * math.log(q) for q, w in zip(p, weights_of(labels, weights), strict=True)]
    return sum(terms) / len(terms)


def sigmoid_focal_oracle(logits, labels, gamma, weights):
    total = 0.0
    for row, y, w in zip(logits.tolist(), labels.tolist(), weights_of(labels, weights), strict=True):
        for c, z in enumerate(row):
            p = 1 / (1 + math.exp(-z))
            p_t = p if c == y else 1 - p
            total -= w * (1 - p_t) ** gamma * math.log(p_t)
    return total / len(labels)


def adjusted_oracle(logits, labels, counts, tau):
    total = 0.0
    for row, y in zip(logits.tolist(), labels.tolist(), strict=True):
        terms = [math.exp(z) * (n / sum(counts)) ** tau for z, n in zip(row, counts, strict=True)]
        total -= math.log(terms[y] / sum(terms))
    return total / len(labels)


# --- class-balanced cross-entropy ---


def test_class_balanced_is_the_weighted_sum_over_the_images():
    expected = (weights_of(LABELS, WEIGHTS) * cross_entropies(LOGITS, LABELS)).sum() / 8
    assert losses.class_balanced(LOGITS, LABELS, WEIGHTS).item() == pytest.approx(expected, rel=1e-12)


def test_class_balanced_can_divide_by_the_weights():
    w = weights_of(LABELS, WEIGHTS)
    expected = (w * cross_entropies(LOGITS, LABELS)).sum() / w.sum()
    value = losses.class_balanced(LOGITS, LABELS, WEIGHTS, reduction="weighted")
    assert value.item() == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(value, F.cross_entropy(LOGITS, LABELS, WEIGHTS))


def test_the_two_reductions_differ_by_the_mean_weight():
    mean, weighted = (losses.class_balanced(LOGITS, LABELS, WEIGHTS, reduction=r) for r in ("mean", "weighted"))
    torch.testing.assert_close(mean / WEIGHTS[LABELS].mean(), weighted)


def test_a_factor_on_the_weights_scales_one_reduction_and_not_the_other():
    for reduction, factor in (("mean", 64.0), ("weighted", 1.0)):
        value, scaled = (losses.class_balanced(LOGITS, LABELS, w, reduction=reduction) for w in (WEIGHTS, 64 * WEIGHTS))
        torch.testing.assert_close(scaled, factor * value)


@pytest.mark.parametrize("reduction", ["mean", "weighted"])
def test_with_equal_counts_class_balanced_is_cross_entropy(reduction):
    weights = losses.effective_number_weights([70] * 9)
    value = losses.class_balanced(LOGITS, LABELS, weights, reduction=reduction)
    torch.testing.assert_close(value, F.cross_entropy(LOGITS, LABELS), rtol=1e-6, atol=0)


def test_an_unknown_reduction_raises():
    with pytest.raises(ConfigError, match="did you mean 'mean'"):
        losses.class_balanced(LOGITS, LABELS, WEIGHTS, reduction="means")


# --- focal losses ---


@GAMMAS
@weighted_or_not
def test_focal_is_the_closed_form(gamma, weights):
    value = losses.focal(LOGITS, LABELS, gamma=gamma, class_weights=weights)
    assert value.item() == pytest.approx(focal_oracle(LOGITS, LABELS, gamma, weights), rel=1e-12)


@GAMMAS
@weighted_or_not
def test_sigmoid_focal_is_the_closed_form(gamma, weights):
    value = losses.sigmoid_focal(LOGITS, LABELS, gamma=gamma, class_weights=weights)
    assert value.item() == pytest.approx(sigmoid_focal_oracle(LOGITS, LABELS, gamma, weights), rel=1e-12)


def test_with_gamma_0_focal_is_the_class_balanced_cross_entropy():
    torch.testing.assert_close(losses.focal(LOGITS, LABELS, gamma=0.0), F.cross_entropy(LOGITS, LABELS))
    torch.testing.assert_close(
        losses.focal(LOGITS, LABELS, gamma=0.0, class_weights=WEIGHTS), losses.class_balanced(LOGITS, LABELS, WEIGHTS)
    )


def test_with_gamma_0_sigmoid_focal_is_the_binary_cross_entropy_of_every_class():
    expected = F.binary_cross_entropy_with_logits(LOGITS, F.one_hot(LABELS, 9).double(), reduction="sum") / 8
    torch.testing.assert_close(losses.sigmoid_focal(LOGITS, LABELS, gamma=0.0), expected)


@pytest.mark.parametrize("loss", [losses.focal, losses.sigmoid_focal])
def test_equal_class_weights_change_nothing(loss):
    weights = losses.effective_number_weights([70] * 9)
    torch.testing.assert_close(loss(LOGITS, LABELS, gamma=1.0, class_weights=weights), loss(LOGITS, LABELS, gamma=1.0))


def test_focal_takes_more_from_an_easy_image_than_from_a_hard_one():
    easy, hard = torch.tensor([[4.0, 0.0, 0.0]]), torch.tensor([[-4.0, 0.0, 0.0]])
    label = torch.tensor([0])
    kept = [losses.focal(z, label, gamma=2.0) / losses.focal(z, label, gamma=0.0) for z in (easy, hard)]
    assert kept[0] < 0.01
    assert kept[1] > 0.95


@pytest.mark.parametrize(("bias", "expected"), [(-math.log(99), 5.60), (0.0, 69.3)])
def test_the_last_bias_sets_the_first_value_of_the_sigmoid_loss(bias, expected):
    value = losses.sigmoid_focal(torch.full((4, 100), bias), LABELS[:4], gamma=0.0)
    assert value.item() == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("loss", [losses.focal, losses.sigmoid_focal])
@pytest.mark.parametrize("gamma", [-0.5, math.nan])
def test_gamma_must_not_be_negative(loss, gamma):
    with pytest.raises(ConfigError, match="gamma"):
        loss(LOGITS, LABELS, gamma=gamma)


# --- LDAM ---


def test_the_margins_fall_with_the_fourth_root_of_the_counts():
    expected = [0.5 * (5 / n) ** 0.25 for n in COUNTS.tolist()]
    np.testing.assert_allclose(losses.ldam_margins(COUNTS), expected, rtol=1e-6)


def test_the_margins_of_cifar100_lt_span_the_published_range():
    margins = losses.ldam_margins(class_counts("exp", 100, [500] * 100), max_margin=0.5)
    assert margins.min().item() == pytest.approx(0.158, abs=5e-4)
    assert margins.max().item() == 0.5


@pytest.mark.parametrize("max_margin", [-0.1, math.nan])
def test_the_largest_margin_must_not_be_negative(max_margin):
    with pytest.raises(ConfigError, match="max_margin"):
        losses.ldam_margins(COUNTS, max_margin=max_margin)


@weighted_or_not
def test_ldam_is_softplus_of_how_far_the_others_come_within_the_margin(weights):
    margins, cosines, scale = losses.ldam_margins(COUNTS), draw(8, 9, scale=0.4).clamp(-1, 1), 30.0
    terms = []
    for row, y in zip(cosines.tolist(), LABELS.tolist(), strict=True):
        others = [math.exp(scale * (c - row[y])) for j, c in enumerate(row) if j != y]
        terms.append(math.log1p(math.exp(scale * margins[y].item()) * sum(others)))
    w = weights_of(LABELS, weights)
    value = losses.ldam(scale * cosines, LABELS, margins, scale=scale, class_weights=weights)
    assert value.item() == pytest.approx((w * terms).sum() / w.sum(), rel=1e-12)


def test_ldam_without_margins_is_cross_entropy():
    torch.testing.assert_close(losses.ldam(LOGITS, LABELS, torch.zeros(9), scale=30.0), F.cross_entropy(LOGITS, LABELS))


def test_ldam_rises_with_the_margin_of_a_label_and_of_no_other_class():
    margins = torch.full((9,), 0.2)
    base = losses.ldam(LOGITS, LABELS, margins, scale=3.0)
    for c in range(9):
        raised = losses.ldam(LOGITS, LABELS, margins.index_fill(0, torch.tensor([c]), 0.3), scale=3.0)
        assert (raised > base) == (c in LABELS)
        assert (raised == base) == (c not in LABELS)


# --- logit adjustment ---


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_logit_adjusted_is_the_closed_form(tau):
    value = losses.logit_adjusted(LOGITS, LABELS, COUNTS, tau=tau)
    assert value.item() == pytest.approx(adjusted_oracle(LOGITS, LABELS, COUNTS.tolist(), tau), rel=1e-12)


def test_logit_adjusted_is_a_margin_for_every_pair_of_classes():
    total = 0.0
    for row, y in zip(LOGITS.tolist(), LABELS.tolist(), strict=True):
        margins = [1.5 * math.log(n / COUNTS[y].item()) for n in COUNTS.tolist()]
        total += math.log(sum(math.exp(m + z - row[y]) for m, z in zip(margins, row, strict=True)))
    value = losses.logit_adjusted(LOGITS, LABELS, COUNTS, tau=1.5)
    assert value.item() == pytest.approx(total / 8, rel=1e-12)


def test_balanced_softmax_is_the_softmax_of_counts_times_exponentials():
    total = 0.0
    for row, y in zip(LOGITS.tolist(), LABELS.tolist(), strict=True):
        terms = [n * math.exp(z) for z, n in zip(row, COUNTS.tolist(), strict=True)]
        total -= math.log(terms[y] / sum(terms))
    assert losses.balanced_softmax(LOGITS, LABELS, COUNTS).item() == pytest.approx(total / 8, rel=1e-12)


def test_balanced_softmax_is_logit_adjustment_with_tau_1_in_value_and_gradient():
    logits = LOGITS.clone().requires_grad_()
    values = losses.balanced_softmax(logits, LABELS, COUNTS), losses.logit_adjusted(logits, LABELS, COUNTS, tau=1.0)
    torch.testing.assert_close(*values)
    torch.testing.assert_close(*(torch.autograd.grad(value, logits)[0] for value in values))


@pytest.mark.parametrize("tau", [0.0, 1.0, 2.0])
def test_with_equal_priors_logit_adjusted_is_cross_entropy(tau):
    value = losses.logit_adjusted(LOGITS, LABELS, [70] * 9, tau=tau)
    torch.testing.assert_close(value, F.cross_entropy(LOGITS, LABELS))


def test_a_network_of_biases_alone_is_at_rest_at_zero_under_logit_adjustment():
    labels = torch.repeat_interleave(torch.arange(9), COUNTS)  # the whole training set
    bias = torch.zeros(9, dtype=torch.float64, requires_grad=True)
    losses.logit_adjusted(bias.expand(len(labels), 9), labels, COUNTS).backward()
    torch.testing.assert_close(bias.grad, torch.zeros(9, dtype=torch.float64))


def test_post_hoc_adjustment_divides_the_probabilities_by_the_prior():
    logits = draw(200, 9, seed=5)
    prior = COUNTS.numpy() / COUNTS.sum().item()
    divided = softmax(logits) / prior
    adjusted = losses.adjust_logits(logits, COUNTS, tau=1.0)
    assert adjusted.argmax(1).tolist() == divided.argmax(1).tolist() != logits.argmax(1).tolist()
    np.testing.assert_allclose(softmax(adjusted), divided / divided.sum(1, keepdims=True), rtol=1e-12)


def test_adjusted_logits_are_in_float32_or_better():
    for dtype, expected in ((torch.bfloat16, torch.float32), (torch.float64, torch.float64)):
        assert losses.adjust_logits(LOGITS.to(dtype), COUNTS, tau=1.0).dtype == expected


# --- class weights ---


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.9999])
def test_class_weights_are_inverse_to_the_effective_number_and_sum_to_the_number_of_classes(beta):
    weights = losses.effective_number_weights(COUNTS, beta=beta).double()
    expected = (1 - beta ** COUNTS[0].double()) / (1 - beta ** COUNTS.double())
    torch.testing.assert_close(weights / weights[0], expected, rtol=1e-5, atol=0)
    assert weights.sum().item() == pytest.approx(9)


def test_class_weights_of_cifar100_lt_span_the_range_of_bkds_code():
    weights = losses.effective_number_weights(class_counts("exp", 100, [500] * 100))
    assert weights.min().item() == pytest.approx(0.045, abs=5e-4)
    assert weights.max().item() == pytest.approx(4.38, abs=5e-3)


def test_beta_of_the_class_weights_must_lie_in_0_to_1():
    for beta in (-0.1, 1.0, 1.5, math.nan):
        with about(beta), pytest.raises(ConfigError, match="beta"):
            losses.effective_number_weights(COUNTS, beta=beta)


def test_a_class_without_images_has_no_weight():
    with pytest.raises(ConfigError, match="at least one image"):
        losses.effective_number_weights([10, 0, 3])


# --- wrong input ---

OF_COUNTS = {
    "effective_number_weights": losses.effective_number_weights,
    "ldam_margins": losses.ldam_margins,
    "logit_adjusted": lambda counts: losses.logit_adjusted(LOGITS, LABELS, counts),
    "balanced_softmax": lambda counts: losses.balanced_softmax(LOGITS, LABELS, counts),
    "adjust_logits": lambda counts: losses.adjust_logits(LOGITS, counts, tau=1.0),
}
OF_WEIGHTS = {
    "class_balanced": lambda w: losses.class_balanced(LOGITS, LABELS, w),
    "class_balanced, weighted": lambda w: losses.class_balanced(LOGITS, LABELS, w, reduction="weighted"),
    "focal": lambda w: losses.focal(LOGITS, LABELS, gamma=1.0, class_weights=w),
    "sigmoid_focal": lambda w: losses.sigmoid_focal(LOGITS, LABELS, gamma=1.0, class_weights=w),
    "ldam": lambda w: losses.ldam(LOGITS, LABELS, torch.zeros(9), scale=30.0, class_weights=w),
    "ldam's margins": lambda w: losses.ldam(LOGITS, LABELS, w, scale=30.0),
}


@pytest.mark.parametrize("of_counts", OF_COUNTS.values(), ids=OF_COUNTS)
@pytest.mark.parametrize("least", [0, -3, 0.5, math.nan])
def test_a_class_without_images_raises(of_counts, least):
    with pytest.raises(ConfigError, match="at least one image"):
        of_counts([500, 300, 200, 100, 60, 40, 20, 10, least])


@pytest.mark.parametrize("of_counts", list(OF_COUNTS.values())[2:], ids=list(OF_COUNTS)[2:])
@pytest.mark.parametrize("n", [1, 8, 10])
def test_there_must_be_one_count_a_class(of_counts, n):
    with pytest.raises(ConfigError, match="class_counts"):
        of_counts([5] * n)


@pytest.mark.parametrize("of_weights", OF_WEIGHTS.values(), ids=OF_WEIGHTS)
@pytest.mark.parametrize("n", [1, 8, 10])
def test_there_must_be_one_weight_or_margin_a_class(of_weights, n):
    with pytest.raises(ConfigError, match="one value per class"):
        of_weights(torch.ones(n))
