import pytest
import torch
import torch.nn.functional as F
from helpers import draw

from ltkd import ConfigError, models
from ltkd.models import MODELS, build, count_parameters

every_model = pytest.mark.parametrize("name", MODELS)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("resnet8", 83_892),
        ("resnet20", 278_324),
        ("resnet32", 472_756),
        ("resnet8x4", 1_233_540),
        ("resnet32x4", 7_433_860),
        ("resnet32a", 470_004),
    ],
)
def test_parameters_at_100_classes(name, parameters):
    assert count_parameters(build(name, num_classes=100)) == parameters


def test_frozen_parameters_are_not_counted():
    network = build("resnet8", num_classes=100)
    network.fc.requires_grad_(False)
    assert count_parameters(network) == 83_892 - 6_500


@pytest.mark.parametrize("in_channels", [1, 3])
@pytest.mark.parametrize("size", [8, 32])
@pytest.mark.parametrize(
    ("name", "widths"),
    [("resnet8", (16, 16, 32, 64)), ("resnet8x4", (32, 64, 128, 256)), ("resnet32a", (16, 16, 32, 64))],
)
def test_shapes_of_the_features(name, widths, size, in_channels):
    network = build(name, num_classes=7, in_channels=in_channels, image_size=size)
    out = network.features(draw(2, in_channels, size, size, dtype=torch.float32))
    sides = (size, size, size // 2, size // 4)
    assert [tuple(s.shape) for s in out.stages] == [(2, w, s, s) for w, s in zip(widths, sides, strict=True)]
    assert (tuple(out.logits.shape), tuple(out.pooled.shape)) == ((2, 7), (2, widths[-1]))


@every_model
def test_forward_gives_the_logits_of_the_features(name):
    network = build(name, num_classes=5, image_size=8).eval()
    images = draw(3, 3, 8, 8, dtype=torch.float32)
    assert torch.equal(network(images), network.features(images).logits)


@every_model
def test_a_gradient_reaches_every_parameter(name):
    network = build(name, num_classes=5, image_size=16)
    F.cross_entropy(network(draw(8, 3, 16, 16, dtype=torch.float32)), torch.arange(8) % 5).backward()
    assert [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


@every_model
def test_fresh_networks_answer_differently_to_different_images(name):
    logits = build(name, num_classes=5, image_size=16)(draw(4, 3, 16, 16, dtype=torch.float32))
    assert logits.isfinite().all()
    assert logits.std(0).min() > 1e-3


def weights(seed):
    state = build("resnet8", num_classes=10, generator=torch.Generator().manual_seed(seed)).state_dict()
    return torch.cat([value.flatten().double() for value in state.values()])


def test_one_seed_gives_one_set_of_weights():
    assert torch.equal(weights(3), weights(3))


def test_another_seed_gives_other_weights():
    assert not torch.equal(weights(3), weights(4))


def test_the_global_generator_is_neither_read_nor_changed():
    first = weights(0)
    torch.rand(7)  # moves the global generator on
    state = torch.get_rng_state()
    assert torch.equal(weights(0), first)
    assert torch.equal(torch.get_rng_state(), state)


def test_networks_without_a_generator_are_alike():
    first, second = (build("resnet8", num_classes=10).state_dict() for _ in range(2))
    assert all(torch.equal(first[k], second[k]) for k in first)


def test_an_unknown_network_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'resnet8x4'"):
        models.build("resnet8x5x4", num_classes=10)
