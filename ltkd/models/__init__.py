"""Networks by name. A new family is one file beside this one and its rows in MODELS."""

from functools import partial

import torch
from torch import nn

from ..errors import unknown
from .features import FeatureOutput
from .resnet import ResNet

__all__ = ["MODELS", "FeatureOutput", "build", "count_parameters"]

HALF, NARROW, WIDE = (8, 8, 16, 32), (16, 16, 32, 64), (32, 64, 128, 256)

MODELS = {
    "resnet8x0.5": partial(ResNet, 8, HALF),  # for 8 x 8 digits
    "resnet8": partial(ResNet, 8, NARROW),
    "resnet14": partial(ResNet, 14, NARROW),
    "resnet20": partial(ResNet, 20, NARROW),
    "resnet32": partial(ResNet, 32, NARROW),
    "resnet32a": partial(ResNet, 32, NARROW, option_a=True),
    "resnet44": partial(ResNet, 44, NARROW),
    "resnet56": partial(ResNet, 56, NARROW),
    "resnet110": partial(ResNet, 110, NARROW),
    "resnet8x4": partial(ResNet, 8, WIDE),
    "resnet32x4": partial(ResNet, 32, WIDE),
}


def build(name, *, num_classes, in_channels=3, image_size=32, generator=None):
    """A freshly initialised network: a module with `forward(x) -> logits` and `features(x) -> FeatureOutput`.

    name: a key of MODELS. x: (B, in_channels, image_size, image_size). generator: the source of the initial weights
    (default: one seeded with 0); the global generator is neither read nor seeded.
    """
    if name not in MODELS:
        raise unknown("model", name, MODELS)
    with torch.device("meta"):  # no memory, no random draws: the weights are drawn below
        network = MODELS[name](num_classes=num_classes, in_channels=in_channels, image_size=image_size)
    network = network.to_empty(device="cpu")
    initialise(network, generator or torch.Generator().manual_seed(0))
    return network


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


def count_parameters(network):
    """The number of trainable values."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)
