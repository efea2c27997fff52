"""Networks by name. A new family is one file beside this one and its rows in MODELS."""

from functools import partial

import torch
from torch import nn

from ..errors import ConfigError, unknown
from . import timm
from .features import FeatureOutput
from .mobilenet import MobileNetV1, MobileNetV2
from .pretrained import WEIGHTS, load_published
from .resnet import BasicBlock, BasicBlockA, Bottleneck, ResNet, imagenet_stem
from .shufflenet import ShuffleNetV1
from .staged import StagedNetwork
from .vgg import VGG
from .wideresnet import WideResNet

__all__ = [
    "MODELS",
    "FeatureOutput",
    "StagedNetwork",
    "build",
    "check_name",
    "classifier",
    "count_parameters",
    "features_of",
    "last_map_of",
]

HALF, NARROW, WIDE = (8, 8, 16, 32), (16, 16, 32, 64), (32, 64, 128, 256)
BASIC, BOTTLENECK = (64, 64, 128, 256, 512), (64, 256, 512, 1024, 2048)
PRETRAINED = "-pretrained"

imagenet_resnet = partial(ResNet, stem=imagenet_stem)

MODELS = {
    "resnet8x0.5": partial(ResNet, BasicBlock, (1, 1, 1), HALF),  # for 8 x 8 digits
    "resnet8": partial(ResNet, BasicBlock, (1, 1, 1), NARROW),
    "resnet14": partial(ResNet, BasicBlock, (2, 2, 2), NARROW),
    "resnet20": partial(ResNet, BasicBlock, (3, 3, 3), NARROW),
    "resnet32": partial(ResNet, BasicBlock, (5, 5, 5), NARROW),
    "resnet32a": partial(ResNet, BasicBlockA, (5, 5, 5), NARROW),
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


def build(name, *, num_classes, in_channels=3, image_size=32, generator=None, pretrained=True):
    """A network in training mode: a module with `forward(x) -> logits` and `features(x) -> FeatureOutput`.

    name: a key of MODELS, or `timm:` and a network of timm; with `-pretrained` at its end it comes with published
    weights, except for a head with another number of classes (pretrained=False: leave them out, where others are
    loaded next). x: (B, in_channels, image_size, image_size). generator: the source of the initial weights (default:
    one seeded with 0); the global generator is neither read nor seeded.
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


def check_name(name, kind="model"):
    """Raise ConfigError unless `build` knows the name. kind: what the message calls it ("model for the student")."""
    if isinstance(name, str) and name.startswith(timm.PREFIX):
        timm.check_name(name.removesuffix(PRETRAINED))
    elif name not in MODELS:
        raise unknown(kind, name, [*MODELS, f"{timm.PREFIX}<a network of timm>"])


def initialise(network, generator):
    """He initialisation (fan out) of convolutions, PyTorch's default for linear layers, BatchNorm as the identity."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            bound = module.in_features**-0.5
            for values in module.parameters(recurse=False):
                nn.init.uniform_(values, -bound, bound, generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
        elif [*module.parameters(recurse=False), *module.buffers(recurse=False)]:
            raise TypeError(f"initialise() does not know {type(module).__name__}: teach it, or its weights are noise")


def features_of(network, x):
    """The FeatureOutput network.features(x); raise ConfigError where the network (one of your own) has none."""
    features = getattr(network, "features", None)
    out = features(x) if callable(features) else None
    if not isinstance(out, FeatureOutput):
        raise ConfigError(
            f"{type(network).__name__} has no method features(x) that returns ltkd.FeatureOutput(logits, stages, "
            "pooled), and this method of training needs it: give the network one"
        )
    return out


def classifier(network, *, bias=False):
    """The linear layer that makes logits of pooled features; raise ConfigError where there is none called `fc`."""
    layer = getattr(network, "fc", None)
    if not isinstance(layer, nn.Linear) or (bias and layer.bias is None):
        raise ConfigError(
            f"{type(network).__name__} has no nn.Linear {'with a bias ' if bias else ''}called fc, and a method that "
            "reads or changes the classifier needs one: so call its last layer, whose input is features(x).pooled"
        )
    return layer


def last_map_of(features):
    """The map (B, D, h, w) whose mean is the pooled vector; raise ConfigError where the network does not give it."""
    if features.last_map is None:
        raise ConfigError(
            "this method of training reads the map that is averaged into `pooled`, and the features of this network "
            "have none: return it from features(x) as FeatureOutput(..., last_map=...)"
        )
    return features.last_map


def count_parameters(network):
    """The number of a network's parameters, frozen ones too."""
    return sum(p.numel() for p in network.parameters())
