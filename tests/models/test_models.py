import copy
import importlib.util
import sys

import pytest
import torch
import torch.nn.functional as F
from helpers import draw
from torch import nn

from ltkd import ConfigError, FeatureOutput, LtkdError, models
from ltkd.models import MODELS, build, count_parameters
from ltkd.models.pretrained import WEIGHTS

# Parameters at 100 classes, and channels@side of each stage for images of 32 and of 64 pixels.
SMALL = {
    "resnet8x0.5": (22_924, "8@32 8@32 16@16 32@8", "8@64 8@64 16@32 32@16"),
    "resnet8": (83_892, "16@32 16@32 32@16 64@8", "16@64 16@64 32@32 64@16"),
    "resnet14": (181_108, "16@32 16@32 32@16 64@8", "16@64 16@64 32@32 64@16"),
    "resnet20": (278_324, "16@32 16@32 32@16 64@8", "16@64 16@64 32@32 64@16"),
    "resnet32": (472_756, "16@32 16@32 32@16 64@8", "16@64 16@64 32@32 64@16"),
    "resnet32a": (470_004, "16@32 16@32 32@16 64@8", "16@64 16@64 32@32 64@16"),
    "resnet44": (667_188, "16@32 16@32 32@16 64@8", "16@64 16@64 32@32 64@16"),
    "resnet56": (861_620, "16@32 16@32 32@16 64@8", "16@64 16@64 32@32 64@16"),
    "resnet110": (1_736_564, "16@32 16@32 32@16 64@8", "16@64 16@64 32@32 64@16"),
    "resnet8x4": (1_233_540, "32@32 64@32 128@16 256@8", "32@64 64@64 128@32 256@16"),
    "resnet32x4": (7_433_860, "32@32 64@32 128@16 256@8", "32@64 64@64 128@32 256@16"),
    "resnet50": (23_705_252, "64@32 256@32 512@16 1024@8 2048@4", "64@64 256@64 512@32 1024@16 2048@8"),
    "wrn-16-2": (703_284, "16@32 32@32 64@16 128@8", "16@64 32@64 64@32 128@16"),
    "wrn-40-1": (569_780, "16@32 16@32 32@16 64@8", "16@64 16@64 32@32 64@16"),
    "wrn-40-2": (2_255_156, "16@32 32@32 64@16 128@8", "16@64 32@64 64@32 128@16"),
    "vgg8": (3_965_028, "64@32 128@16 256@8 512@4 512@4", "64@64 128@32 256@16 512@8 512@4"),
    "vgg13": (9_462_180, "64@32 128@16 256@8 512@4 512@4", "64@64 128@32 256@16 512@8 512@4"),
    "shufflenetv1": (949_258, "24@32 240@16 480@8 960@4", "24@64 240@32 480@16 960@8"),
    "mobilenetv2": (812_836, "16@16 12@16 16@8 48@4 160@2", "16@32 12@32 16@16 48@8 160@4"),
}
# Parameters at 1000 classes, and channels@side of each stage for images of 224 pixels.
LARGE = {
    "imagenet-resnet10": (5_418_792, "64@56 64@56 128@28 256@14 512@7"),
    "imagenet-resnet18": (11_689_512, "64@56 64@56 128@28 256@14 512@7"),
    "imagenet-resnet34": (21_797_672, "64@56 64@56 128@28 256@14 512@7"),
    "imagenet-resnet50": (25_557_032, "64@56 256@56 512@28 1024@14 2048@7"),
    "imagenet-resnet152": (60_192_808, "64@56 256@56 512@28 1024@14 2048@7"),
    "imagenet-mobilenetv1": (4_231_976, "32@112 128@56 256@28 512@14 1024@7"),
}
# The others of ImageNet are these with more blocks, and only cost time here.
every_model = pytest.mark.parametrize("name", [*SMALL, "imagenet-resnet10", "imagenet-mobilenetv1"])


def images(count=4, channels=3, side=16):
    return draw(count, channels, side, side, dtype=torch.float32)


def outline(name, *, num_classes, side, in_channels=3):
    """The network and its features without memory and computation."""
    with torch.device("meta"):
        network = MODELS[name](num_classes=num_classes, in_channels=in_channels, image_size=side)
        return network, network.features(torch.empty(2, in_channels, side, side))


def written(maps):
    assert all(m.shape[2] == m.shape[3] for m in maps)
    return " ".join(f"{m.shape[1]}@{m.shape[2]}" for m in maps)


def test_every_network_is_tested():
    assert {*SMALL, *LARGE} == {name for name in MODELS if not name.endswith("-pretrained")}
    assert {name.removesuffix("-pretrained") for name in MODELS if name.endswith("-pretrained")} == set(WEIGHTS)


def assert_shapes_belong_together(network, out):
    classes, width = network.fc.weight.shape
    assert [m.shape for m in out.preactivations] == [m.shape for m in out.stages]
    assert [tuple(x.shape[:2]) for x in (out.logits, out.pooled, out.last_map)] == [
        (2, classes),
        (2, width),
        (2, width),
    ]
    assert (out.logits.dim(), out.pooled.dim()) == (2, 2)


@pytest.mark.parametrize("name", SMALL)
def test_parameters_and_shapes(name):
    parameters, at_32, at_64 = SMALL[name]
    network, out = outline(name, num_classes=100, side=32)
    assert (count_parameters(network), written(out.stages)) == (parameters, at_32)
    assert_shapes_belong_together(network, out)
    network, out = outline(name, num_classes=7, side=64, in_channels=1)
    assert written(out.stages) == at_64
    assert_shapes_belong_together(network, out)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * ("152" in n)) for n in LARGE])
def test_parameters_and_shapes_for_imagenet(name):
    network, out = outline(name, num_classes=1000, side=224)
    assert (count_parameters(network), written(out.stages)) == LARGE[name]
    assert_shapes_belong_together(network, out)
    assert_shapes_belong_together(*outline(name, num_classes=7, side=32, in_channels=1))


def test_frozen_parameters_are_counted_too():
    network = build("resnet8", num_classes=100)
    network.fc.requires_grad_(False)
    assert count_parameters(network) == 83_892


def test_a_last_convolution_has_a_map_of_its_own():
    out = build("mobilenetv2", num_classes=5).features(images(side=32))
    assert (written(out.stages[-1:]), written([out.last_map])) == ("160@2", "1280@2")


@every_model
def test_features_and_their_parts_agree(name):
    network = build(name, num_classes=5, image_size=16).eval()
    out = network.features(images())
    assert torch.equal(network(images()), out.logits)
    assert torch.equal(network.fc(out.pooled), out.logits)
    assert torch.equal(out.last_map.mean((2, 3)), out.pooled)
    for before, after in zip(out.preactivations, out.stages, strict=True):
        if name == "mobilenetv2":  # its maps are linear
            assert torch.equal(before, after)
        elif not name.startswith("wrn"):
            assert torch.equal(F.relu(before), after)
    assert_the_last_block_can_be_replaced(network, out.pooled)
    assert_the_classifier_can_be_replaced(network, out.pooled)


def assert_the_last_block_can_be_replaced(network, pooled):
    """Trunk and last block lead to the pooled features."""
    trunk, other = network.trunk(images()), copy.deepcopy(network.last_block)
    assert torch.equal(network.finish(trunk), pooled)
    assert torch.equal(network.finish(trunk, other), pooled)
    nn.init.zeros_(next(other.parameters()))
    assert not torch.equal(network.finish(trunk, other), pooled)


def assert_the_classifier_can_be_replaced(network, pooled):
    network.fc = nn.Linear(pooled.shape[1], 3, bias=False)
    assert torch.equal(network(images()), pooled @ network.fc.weight.T)
    assert models.classifier(network) is network.fc


@every_model
def test_a_gradient_reaches_every_parameter_and_fresh_networks_tell_images_apart(name):
    network = build(name, num_classes=5, in_channels=1, image_size=8)
    logits = network(images(8, channels=1, side=8))
    assert logits.isfinite().all()
    assert logits.std(0).min() > 1e-3
    F.cross_entropy(logits, torch.arange(8) % 5).backward()
    assert [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []
    seen = [m.num_batches_tracked.item() for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert set(seen) == {1}


def test_maps_of_wide_networks_are_read_as_blocks_return_them_and_after_the_next_normalization():
    network = build("wrn-16-2", num_classes=5).eval()
    norms = [network.stages[1][0].bn1, network.stages[2][0].bn1, network.tail[0]]
    for norm in norms:
        nn.init.uniform_(norm.weight)
    raw = [network.stem(images())]
    for blocks in network.stages:
        raw.append(nn.Sequential(*blocks)(raw[-1]))
    normed = [raw[0], *(norm(x) for norm, x in zip(norms, raw[1:], strict=True))]
    out = network.features(images())
    for ours, expected in zip((*out.stages, *out.preactivations), (*raw, *normed), strict=True):
        torch.testing.assert_close(ours, expected)
    assert min(x.min() for x in out.stages) < 0  # so they are not activated


# How the field's public code draws weights (its models/cifar and models/imagenet, read in 2026): {network: (layer, the
# deviation of its weights, that of its biases)}. A uniform draw between -b and b has deviation b / sqrt(3).
HE, DEFAULT = (lambda fan_out: (2 / fan_out) ** 0.5), (lambda fan_in: (3 * fan_in) ** -0.5)
DRAWN = [
    ("resnet56", "stages.2.0.conv1", HE(64 * 9), None),
    ("resnet56", "fc", DEFAULT(64), DEFAULT(64)),
    ("vgg8", "stages.3.0.0", HE(512 * 9), 0.0),
    ("vgg13", "fc", 0.01, 0.0),
    ("mobilenetv2", "stages.3.0.layers.3", HE(288 * 9), None),
    ("mobilenetv2", "fc", 0.01, 0.0),
    ("wrn-40-2", "stages.2.1.conv1", HE(128 * 9), None),
    ("wrn-40-2", "fc", DEFAULT(128), 0.0),
    ("shufflenetv1", "stages.1.1.conv2", DEFAULT(9), None),
    ("shufflenetv1", "stages.1.1.conv1", DEFAULT(480 / 3), None),
    ("shufflenetv1", "fc", DEFAULT(960), DEFAULT(960)),
    ("imagenet-mobilenetv1", "stages.2.1.0", DEFAULT(9), None),
    ("imagenet-mobilenetv1", "stages.2.1.3", DEFAULT(512), None),
    ("imagenet-mobilenetv1", "fc", DEFAULT(1024), DEFAULT(1024)),
    ("imagenet-resnet18", "stages.2.0.conv1", HE(256 * 9), None),
    ("imagenet-resnet18", "fc", DEFAULT(512), DEFAULT(512)),
]


@pytest.mark.parametrize(("name", "layer", "weight", "bias"), DRAWN)
def test_initial_weights_are_drawn_as_in_the_public_code(name, layer, weight, bias):
    drawn = dict(build(name, num_classes=100).named_parameters())
    assert drawn[f"{layer}.weight"].std().item() == pytest.approx(weight, rel=0.06)
    if bias is None:
        assert f"{layer}.bias" not in drawn
    else:
        assert drawn[f"{layer}.bias"].std().item() == pytest.approx(bias, rel=0.25)


def test_vgg_refuses_images_that_it_cannot_halve():
    with pytest.raises(ConfigError, match="4 x 4 is too small, it needs 8 x 8"):
        build("vgg8", num_classes=10, image_size=4)


def weights(seed, name="resnet8"):
    state = build(name, num_classes=10, generator=torch.Generator().manual_seed(seed)).state_dict()
    return torch.cat([value.flatten().double() for value in state.values()])


@pytest.mark.parametrize("name", ["resnet8", "wrn-16-2", "vgg8", "shufflenetv1", "mobilenetv2"])
def test_one_seed_gives_one_set_of_weights(name):
    assert torch.equal(weights(3, name), weights(3, name))
    assert not torch.equal(weights(3, name), weights(4, name))


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
    with pytest.raises(ConfigError, match="unknown model 'resnet8x5x4': did you mean 'resnet8x4'"):
        build("resnet8x5x4", num_classes=10)
    with pytest.raises(ConfigError, match="unknown model for the student 'vgg9'"):
        models.check_name("vgg9", "model for the student")


# ---- a network of one's own


class Bare(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))


class WithFeatures(Bare):
    def features(self, x):
        return FeatureOutput(self(x), (), self(x))


class WithFeatureLayers(Bare):
    """As torchvision's VGG and others: `features` is there, but means something else."""

    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(3, 4, 1)


def test_a_network_of_ones_own_may_leave_out_what_few_methods_need():
    out = models.features_of(WithFeatures(), images())
    assert (out.preactivations, out.last_map) == (None, None)


@pytest.mark.parametrize("network", [Bare(), WithFeatureLayers()], ids=["none", "a layer"])
def test_a_network_without_features_is_told_what_to_return(network):
    with pytest.raises(ConfigError, match=r"has no method features\(x\) that returns ltkd.FeatureOutput\(logits"):
        models.features_of(network, images())


def test_a_network_without_a_classifier_is_told_what_to_have():
    with pytest.raises(ConfigError, match=r"Bare has no nn.Linear called fc.* whose input is features\(x\).pooled"):
        models.classifier(Bare())


# ---- published weights


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A function that puts torchvision's network, with weights drawn here, where its published weights would lie."""
    import torchvision

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody answers there
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)

    def publish(name):
        with torch.device("meta"):
            network = torchvision.models.get_model(name.removeprefix("imagenet-"))
        network = network.to_empty(device="cpu")
        models.initialise(network, torch.Generator().manual_seed(1))
        network(images(side=32))  # so that the running means differ
        file = torchvision.models.get_weight(WEIGHTS[name]).url.rpartition("/")[2]
        torch.save(network.state_dict(), tmp_path / "hub" / "checkpoints" / file)
        return network.eval()

    return publish


@pytest.mark.parametrize("name", ["imagenet-resnet18", "imagenet-resnet50"])
def test_published_weights_make_torchvisions_network(name, published):
    theirs, ours = published(name), build(f"{name}-pretrained", num_classes=1000).eval()
    with torch.no_grad():
        torch.testing.assert_close(ours(images(side=64)), theirs(images(side=64)), rtol=1e-4, atol=1e-4)


def test_another_number_of_classes_keeps_its_own_head(published):
    theirs, fresh = published("imagenet-resnet18"), build("imagenet-resnet18", num_classes=5)
    ours = build("imagenet-resnet18-pretrained", num_classes=5)
    assert torch.equal(ours.fc.weight, fresh.fc.weight)
    assert torch.equal(ours.stages[3][1].conv2.weight, theirs.layer4[1].conv2.weight)


def test_published_weights_that_cannot_be_had_name_the_file_and_its_place(published):
    with pytest.raises(LtkdError, match=r"cannot load https://\S+/resnet18-\w+.pth .*put that file into .*checkpoints"):
        build("imagenet-resnet18-pretrained", num_classes=5)
    assert build("imagenet-resnet18-pretrained", num_classes=5, pretrained=False).fc.out_features == 5


def test_published_weights_are_for_colour_images(published):
    with pytest.raises(ConfigError, match="for 3 channels, not 1"):
        build("imagenet-resnet18-pretrained", num_classes=5, in_channels=1)


# ---- timm

needs_timm = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")


@needs_timm
@pytest.mark.parametrize(
    ("name", "width", "has_last_map"),
    [
        ("timm:test_resnet.r160_in1k", 96, True),
        ("timm:test_efficientnet", 256, True),
        ("timm:test_convnext", 64, False),  # normalised after the pooling
        ("timm:test_vit", 64, False),  # tokens
    ],
)
def test_networks_of_timm(name, width, has_last_map):
    network = build(name, num_classes=5, in_channels=1, image_size=64).eval()
    out, logits = network.features(images(3, 1, 64)), network(images(3, 1, 64))
    assert (tuple(logits.shape), tuple(out.pooled.shape)) == ((3, 5), (3, width))
    torch.testing.assert_close(out.logits, logits)
    torch.testing.assert_close(network.fc(out.pooled), logits)
    assert len(out.stages) > 1
    assert all(m.dim() == 4 for m in out.stages)
    if has_last_map:
        torch.testing.assert_close(out.last_map.mean((2, 3)), out.pooled)
    assert (out.last_map is not None) == has_last_map
    network.fc = nn.Linear(width, 3)
    assert network(images(3, 1, 64)).shape == (3, 3)


@needs_timm
def test_networks_of_timm_are_drawn_from_the_generator_alone():
    first = weights(0, "timm:test_resnet")
    torch.rand(7)
    state = torch.get_rng_state()
    assert torch.equal(weights(0, "timm:test_resnet"), first)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(weights(1, "timm:test_resnet"), first)


@needs_timm
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm:resnet19", "timm has no network 'resnet19': did you mean 'timm:resnet1"),
        (
            "timm:deit_tiny_distilled_patch16_224",
            "cannot be used here for images of 3 x 32 x 32: its classifier is not",
        ),
        ("timm:test_vit2-pretrained", "timm cannot build 'test_vit2'"),
    ],
)
def test_networks_of_timm_that_cannot_be_used(name, message, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(LtkdError, match=message):
        build(name, num_classes=5)


def test_without_timm_its_networks_say_how_to_have_them(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match="'timm:resnet18' needs timm: pip install timm"):
        models.check_name("timm:resnet18")
