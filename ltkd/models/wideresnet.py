"""Wide residual networks (Zagoruyko and Komodakis 2016): `wrn-D-K` has depth D and 16-16K-32K-64K channels."""

import torch.nn.functional as F
from torch import Tensor, nn

from .base import FeatureOutput, StagedNetwork


class PreactivatedBlock(nn.Module):
    """Takes and returns a map that is not activated, which the shortcut adds unchanged."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        same_shape = stride == 1 and in_channels == channels
        self.shortcut = None if same_shape else nn.Conv2d(in_channels, channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.residual(x, F.relu(self.bn1(x)))

    def residual(self, x: Tensor, activated: Tensor) -> Tensor:
        """The block's output, from its input x and from x after BatchNorm and ReLU."""
        out = F.relu(self.bn2(self.conv1(activated)))
        return self.conv2(out) + (x if self.shortcut is None else self.shortcut(activated))


class WideResNet(StagedNetwork):
    """Maps between blocks are not activated. The map of a stage is read after the BatchNorm and ReLU that follow it."""

    def __init__(self, depth: int, factor: int, *, num_classes: int, in_channels: int, image_size: int) -> None:
        del image_size  # the pooling is global: any size fits
        blocks = (depth - 4) // 6
        widths = (16, 16 * factor, 32 * factor, 64 * factor)
        stages = [
            [PreactivatedBlock(width_in, width, stride)]
            + [PreactivatedBlock(width, width, 1) for _ in range(blocks - 1)]
            for width_in, width, stride in zip(widths[:3], widths[1:], (1, 2, 2), strict=True)
        ]
        stem = nn.Conv2d(in_channels, widths[0], 3, 1, 1, bias=False)
        tail = nn.Sequential(nn.BatchNorm2d(widths[3]), nn.ReLU())
        super().__init__(stem, stages, widths[3], num_classes, activation=nn.Identity(), tail=tail)

    def features(self, x: Tensor) -> FeatureOutput:
        x, before, after = self.stem(x), list[Tensor](), list[Tensor]()
        for first, *others in self.stages:
            before.append(first.bn1(x))
            after.append(F.relu(before[-1]))
            x = self._through(others, first.residual(x, after[-1]))
        norm, relu = self.tail.children()
        before.append(norm(x))
        after.append(relu(before[-1]))
        return self._output(before, after, after[-1])
