"""Weights that torchvision publishes for ImageNet, for the networks of the same shape here."""

import re

import torch
from torch import Tensor, nn

from ..errors import ConfigError, LtkdError

# The first published weights of each network: what the long-tailed literature calls pretrained.
WEIGHTS = {
    "imagenet-resnet18": "ResNet18_Weights.IMAGENET1K_V1",
    "imagenet-resnet34": "ResNet34_Weights.IMAGENET1K_V1",
    "imagenet-resnet50": "ResNet50_Weights.IMAGENET1K_V1",
    "imagenet-resnet152": "ResNet152_Weights.IMAGENET1K_V1",
}


def load_published(network: nn.Module, name: str) -> None:
    """Load the weights of `name`, a key of WEIGHTS, downloaded if need be. A head with another number of classes stays
    as it is. Raises ConfigError for a network without 3 input channels, LtkdError if the download fails."""
    ours = network.state_dict()
    if (channels := ours["stem.0.weight"].shape[1]) != 3:
        raise ConfigError(f"the published weights of {name} are for 3 channels, not {channels}")
    state = {_our_key(key): value for key, value in _download(WEIGHTS[name]).items()}
    if state["fc.bias"].shape != ours["fc.bias"].shape:
        state |= {"fc.weight": ours["fc.weight"], "fc.bias": ours["fc.bias"]}
    network.load_state_dict(state)


def _download(name: str) -> dict[str, Tensor]:
    from torchvision.models import get_weight  # costs seconds, and few runs need it

    weights = get_weight(name)
    try:
        return dict(weights.get_state_dict(progress=False, check_hash=True, weights_only=True))
    except (OSError, RuntimeError) as error:  # no network; a damaged file
        raise LtkdError(
            f"cannot load {weights.url} ({error}): go online, or put that file into {torch.hub.get_dir()}/checkpoints"
        ) from error


def _our_key(key: str) -> str:
    """layer1.0.downsample.1.weight -> stages.0.0.shortcut.1.weight"""
    key = re.sub(r"^conv1\.", "stem.0.", key)
    key = re.sub(r"^bn1\.", "stem.1.", key)
    key = re.sub(r"^layer(\d)", lambda match: f"stages.{int(match[1]) - 1}", key)
    return key.replace("downsample", "shortcut")
