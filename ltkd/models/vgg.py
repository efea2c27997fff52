"""VGG with BatchNorm and global pooling, as the distillation field has it (Simonyan and Zisserman 2015)."""

from torch import nn

from ..errors import ConfigError
from .base import InitialWeights, StagedNetwork

WIDTHS = (64, 128, 256, 512, 512)


class VGG(StagedNetwork):
    """convolutions: the number in the stem and in each of the four stages. The first three stages begin with a pooling
    that halves the map; so does the fourth for images of 64 pixels or more. Raises ConfigError below 8 pixels."""

    initial_weights = InitialWeights(classifier=0.01)
    revision = 1

    def __init__(self, convolutions: int, *, num_classes: int, in_channels: int, image_size: int) -> None:
        if image_size < 8:
            raise ConfigError(
                f"VGG halves an image three times: {image_size} x {image_size} is too small, it needs 8 x 8 or more"
            )
        first, *others = _blocks(in_channels, WIDTHS[0], convolutions, pool=False)
        stem = nn.Sequential(first, *(nn.Sequential(nn.ReLU(), block) for block in others))
        stages = [
            _blocks(width_in, width, convolutions, pool=pool)
            for width_in, width, pool in zip(WIDTHS[:4], WIDTHS[1:], (True, True, True, image_size >= 64), strict=True)
        ]
        super().__init__(stem, stages, WIDTHS[-1], num_classes)


def _blocks(in_channels: int, channels: int, convolutions: int, *, pool: bool) -> list[nn.Module]:
    return [_block(in_channels, channels, pool=pool)] + [
        _block(channels, channels, pool=False) for _ in range(convolutions - 1)
    ]


def _block(in_channels: int, channels: int, *, pool: bool) -> nn.Module:
    layers = [nn.Conv2d(in_channels, channels, 3, padding=1), nn.BatchNorm2d(channels)]
    return nn.Sequential(*([nn.MaxPool2d(2)] if pool else []), *layers)
