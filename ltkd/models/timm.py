"""Networks of timm (https://github.com/huggingface/pytorch-image-models), where it is installed."""

from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError, LtkdError
from .base import FeatureOutput

PREFIX = "timm:"


class TimmNetwork(nn.Module):
    """A network of timm with its classifier taken out as `fc`.

    pools_last_map: True if the pooled features are the mean of the last map; else (transformers, and networks with
    layers after the pooling) there is no `last_map`. Raises ValueError if the classifier is not linear.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.fc = network.get_classifier()
        if not isinstance(self.fc, nn.Linear):
            raise ValueError("its classifier is not an nn.Linear")
        network.reset_classifier(0)
        self.network = network
        self.pools_last_map = False

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, in_channels, side, side) -> logits (B, num_classes)."""
        return self.fc(self.network(x))

    def features(self, x: Tensor) -> FeatureOutput:
        """Logits, and the maps on the way to them, of images (B, in_channels, side, side)."""
        last, stages = self.network.forward_intermediates(x)
        pooled = self.network.forward_head(last)
        return FeatureOutput(self.fc(pooled), tuple(stages), pooled, last_map=last if self.pools_last_map else None)


def check_name(name: str) -> None:
    """Raise ConfigError unless timm is installed and has the network `timm:...`."""
    timm, known = _timm(name), name.removeprefix(PREFIX)
    if not timm.is_model(known):
        close = get_close_matches(known, timm.list_models(), n=1)
        hint = f"did you mean '{PREFIX}{close[0]}'? " if close else ""
        raise ConfigError(f"timm has no network {known!r}: {hint}timm.list_models() lists those it has")


def build(
    name: str, *, pretrained: bool, num_classes: int, in_channels: int, image_size: int, generator: torch.Generator
) -> nn.Module:
    """The network `timm:...`, with weights drawn from `generator` alone, or those that timm publishes.

    Raises LtkdError if timm cannot build it, ConfigError if its features cannot be read for images of this size.
    """
    timm, known = _timm(name), name.removeprefix(PREFIX)
    published = timm.models.get_pretrained_cfg(known)
    shape = {"num_classes": num_classes, "in_chans": in_channels}
    if published and published.fixed_input_size:
        shape["img_size"] = image_size
    seed = int(torch.randint(2**62, (), generator=generator))
    with torch.random.fork_rng(devices=[]):  # timm draws from the global generator
        torch.default_generator.manual_seed(seed)
        try:
            network = timm.create_model(known, pretrained=pretrained, **shape)
        except Exception as error:  # timm's networks, and downloads, may raise anything
            raise LtkdError(f"timm cannot build {known!r} with {shape}: {error}") from error
        try:
            return _with_features(network, _two_images(in_channels, image_size))
        except Exception as error:
            size = f"{in_channels} x {image_size} x {image_size}"
            raise ConfigError(f"{name!r} cannot be used here for images of {size}: {error}") from error


@torch.no_grad()
def _with_features(network: Any, images: Tensor) -> TimmNetwork:
    """The network as a TimmNetwork. Raises ValueError unless that gives the same logits."""
    logits = network.eval()(images)
    wrapped = TimmNetwork(network).eval()
    out, last_map = wrapped.features(images), network.forward_features(images)
    if not (_close(out.logits, logits) and _close(out.pooled, network(images))):
        raise ValueError("its features do not lead to its logits")
    if last_map.dim() == 4 and last_map.shape[:2] == out.pooled.shape:
        wrapped.pools_last_map = _close(last_map.mean((2, 3)), out.pooled)
    return wrapped.train()


def _close(values: Tensor, expected: Tensor) -> bool:
    """Equal to rounding, relative to the largest value: a fresh network's values may all be tiny."""
    return bool((values - expected).abs().max() <= 1e-3 * expected.abs().max())


def _two_images(channels: int, side: int) -> Tensor:
    return torch.linspace(-1, 1, 2 * channels * side**2).view(2, channels, side, side)


def _timm(name: str) -> Any:
    try:
        import timm  # costs seconds, and few runs need it
    except ImportError as error:
        raise ConfigError(f"{name!r} needs timm: pip install timm") from error
    return timm
