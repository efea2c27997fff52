"""ResNets (He et al. 2016): for small images in the widths of the distillation field and of BKD, and for ImageNet.

`resnetN` has 16-16-32-64 channels and `resnetNx4` 32-64-128-256, with 1 x 1 convolutions where the shape changes;
`resnetNa` has the parameter-free shortcuts (option A of the ResNet paper) of LDAM's and BKD's code.
"""

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from .base import StagedNetwork

Block = Callable[[int, int, int], nn.Module]  # (input channels, channels, stride) -> a block, or a shortcut


def projection(in_channels: int, channels: int, stride: int) -> nn.Module:
    """A shortcut to another shape, a 1 x 1 convolution."""
    return nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))


class ZeroPadShortcut(nn.Module):
    """A shortcut without parameters: every `stride`-th pixel, and new channels of zeros, half on either side."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.new_channels, self.stride = channels - in_channels, stride

    def forward(self, x: Tensor) -> Tensor:
        before = self.new_channels // 2
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.new_channels - before))


class BasicBlock(nn.Module):
    """Two convolutions, the first with the stride. shortcut: makes the shortcut to another shape."""

    def __init__(self, in_channels: int, channels: int, stride: int, shortcut: Block = projection) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        same_shape = stride == 1 and in_channels == channels
        self.shortcut = nn.Identity() if same_shape else shortcut(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        return self.bn2(self.conv2(out)) + self.shortcut(x)


class Bottleneck(nn.Module):
    """Three convolutions, the middle one with a quarter of the channels and the stride."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        middle = channels // 4
        self.conv1 = nn.Conv2d(in_channels, middle, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(middle)
        self.conv2 = nn.Conv2d(middle, middle, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv3 = nn.Conv2d(middle, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        same_shape = stride == 1 and in_channels == channels
        self.shortcut = nn.Identity() if same_shape else projection(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        return self.bn3(self.conv3(out)) + self.shortcut(x)


def small_stem(in_channels: int, channels: int) -> nn.Module:
    """A stem that keeps the size of the image."""
    return nn.Sequential(nn.Conv2d(in_channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels))


def imagenet_stem(in_channels: int, channels: int) -> nn.Module:
    """A stem that divides the side by four. Pooling before the ReLU that follows is the same as after it."""
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, 7, 2, 3, bias=False), nn.BatchNorm2d(channels), nn.MaxPool2d(3, 2, 1)
    )


class ResNet(StagedNetwork):
    """block, stem: functions that make one. depths: blocks of each stage. widths: channels of the stem and of each
    stage. Stages halve the map from the second one on. Any size of image fits, since the pooling is global."""

    def __init__(
        self,
        block: Block,
        depths: Sequence[int],
        widths: Sequence[int],
        *,
        num_classes: int,
        in_channels: int,
        image_size: int,
        stem: Callable[[int, int], nn.Module] = small_stem,
    ) -> None:
        del image_size
        strides = (1,) + (2,) * (len(depths) - 1)
        stages = [
            [block(width_in, width, stride)] + [block(width, width, 1) for _ in range(depth - 1)]
            for depth, width_in, width, stride in zip(depths, widths[:-1], widths[1:], strides, strict=True)
        ]
        super().__init__(stem(in_channels, widths[0]), stages, widths[-1], num_classes)
