"""Networks by name. A new family is one file beside this one and its rows in MODELS."""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from ..errors import unknown
from . import timm
from .base import (
    FeatureOutput,
    StagedNetwork,
    classifier,
    copied,
    count_parameters,
    evaluating,
    features_of,
    initialise,
    last_map_of,
)
from .mobilenet import MobileNetV1, MobileNetV2
from .pretrained import WEIGHTS, load_published
from .resnet import BasicBlock, Bottleneck, ResNet, ZeroPadShortcut, imagenet_stem
from .shufflenet import ShuffleNetV1
from .teacher import Teacher
from .vgg import VGG
from .wideresnet import WideResNet

__all__ = [
    "MODELS",
    "FeatureOutput",
    "StagedNetwork",
    "Teacher",
    "build",
    "check_name",
    "classifier",
    "copied",
    "count_parameters",
    "evaluating",
    "features_of",
    "initialise",
    "last_map_of",
    "revision",
]

HALF, NARROW, WIDE = (8, 8, 16, 32), (16, 16, 32, 64), (32, 64, 128, 256)
BASIC, BOTTLENECK = (64, 64, 128, 256, 512), (64, 256, 512, 1024, 2048)
PRETRAINED = "-pretrained"

imagenet_resnet = partial(ResNet, stem=imagenet_stem)

MODELS: dict[str, Callable[..., nn.Module]] = {
    "resnet8x0.5": partial(ResNet, BasicBlock, (1, 1, 1), HALF),  # for 8 x 8 digits
    "resnet8": partial(ResNet, BasicBlock, (1, 1, 1), NARROW),
    "resnet14": partial(ResNet, BasicBlock, (2, 2, 2), NARROW),
    "resnet20": partial(ResNet, BasicBlock, (3, 3, 3), NARROW),
    "resnet32": partial(ResNet, BasicBlock, (5, 5, 5), NARROW),
    "resnet32a": partial(ResNet, partial(BasicBlock, shortcut=ZeroPadShortcut), (5, 5, 5), NARROW),
    "resnet44": partial(ResNet, BasicBlock, (7, 7, 7), NARROW),
    "resnet56": partial(ResNet, BasicBlock, (9, 9, 9), NARROW),
    "resnet110": partial(ResNet, BasicBlock, (18, 18, 18), NARROW),
    "resnet8x4": partial(ResNet, BasicBlock, (1, 1, 1), WIDE),
    "resnet32x4": partial(ResNet, BasicBlock, (5, 5, 5), WIDE),
    "resnet50": partial(ResNet, Bottleneck, (3, 4, 6, 3), BOTTLENECK),
    "wrn-16-2": partial(WideResNet, 16, 2),
    "wrn-40-1": partial(WideResNet, 40, 1),
    "wrn-40-2": partial(WideResNet, 40, 2),
    "vgg8": partial(VGG, 1),
    "vgg13": partial(VGG, 2),
    "shufflenetv1": ShuffleNetV1,
    "mobilenetv2": partial(MobileNetV2, 0.5),
    "imagenet-resnet10": partial(imagenet_resnet, BasicBlock, (1, 1, 1, 1), BASIC),
    "imagenet-resnet18": partial(imagenet_resnet, BasicBlock, (2, 2, 2, 2), BASIC),
    "imagenet-resnet34": partial(imagenet_resnet, BasicBlock, (3, 4, 6, 3), BASIC),
    "imagenet-resnet50": partial(imagenet_resnet, Bottleneck, (3, 4, 6, 3), BOTTLENECK),
    "imagenet-resnet152": partial(imagenet_resnet, Bottleneck, (3, 8, 36, 3), BOTTLENECK),
    "imagenet-mobilenetv1": MobileNetV1,
}
MODELS |= {name + PRETRAINED: MODELS[name] for name in WEIGHTS}


def build(
    name: str,
    *,
    num_classes: int,
    in_channels: int = 3,
    image_size: int = 32,
    generator: torch.Generator | None = None,
    pretrained: bool = True,
) -> nn.Module:
    """A network in training mode: a module with `forward(x) -> logits` and `features(x) -> FeatureOutput`.

    name: a key of MODELS, or `timm:` and a network of timm. With `-pretrained` at its end it has published weights,
    except for a head with another number of classes. x: float (B, in_channels, image_size, image_size). generator: the
    source of the initial weights (default: one seeded with 0); the global generator is neither read nor seeded.
    pretrained: False leaves the published weights out, because others are loaded next.

    Raises ConfigError for an unknown name or an unfit shape, LtkdError if a download fails.

    >>> network = build("resnet8", num_classes=10)
    >>> network(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    check_name(name)
    base = name.removesuffix(PRETRAINED)
    published = pretrained and base != name
    generator = generator or torch.Generator().manual_seed(0)
    shape = {"num_classes": num_classes, "in_channels": in_channels, "image_size": image_size}
    if name.startswith(timm.PREFIX):
        return timm.build(base, pretrained=published, generator=generator, **shape)
    with torch.device("meta"):  # no memory, no random draws: the weights are drawn below
        network = MODELS[name](**shape)
    network = network.to_empty(device="cpu")
    initialise(network, generator)
    if published:
        load_published(network, base)
    return network


def revision(name: str | None) -> int:
    """How often the weights or features of the network called `name` have changed; 0 for one of timm or of your own."""
    network = MODELS.get((name or "").removesuffix(PRETRAINED))
    return getattr(getattr(network, "func", network), "revision", 0)


def check_name(name: str, kind: str = "model") -> None:
    """Raise ConfigError unless `build` knows the name. kind: its role, for the message ("model for the student")."""
    if isinstance(name, str) and name.startswith(timm.PREFIX):
        timm.check_name(name.removesuffix(PRETRAINED))
    elif name not in MODELS:
        raise unknown(kind, name, [*MODELS, f"{timm.PREFIX}<a network of timm>"])
