"""Wide residual networks (Zagoruyko and Komodakis 2016): `wrn-D-K` has depth D and 16-16K-32K-64K channels."""

import torch.nn.functional as F
from torch import nn

from .staged import StagedNetwork


class PreactivatedBlock(nn.Module):
    """Takes and returns a map that is not activated: the shortcut passes it on as it is."""

    def __init__(self, in_channels, channels, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        same_shape = stride == 1 and in_channels == channels
        self.shortcut = None if same_shape else nn.Conv2d(in_channels, channels, 1, stride, bias=False)

    def forward(self, x):
        return self.residual(x, F.relu(self.bn1(x)))

    def residual(self, x, activated):
        out = F.relu(self.bn2(self.conv1(activated)))
        return self.conv2(out) + (x if self.shortcut is None else self.shortcut(activated))


class WideResNet(StagedNetwork):
    """Between blocks nothing is activated; a stage's map is read where the BatchNorm that follows it has seen it."""

    def __init__(self, depth, factor, *, num_classes, in_channels, image_size):
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

    def features(self, x):
        x, before, after = self.stem(x), [], []
        for first, *others in self.stages:
            before.append(first.bn1(x))
            after.append(F.relu(before[-1]))
            x = self._through(others, first.residual(x, after[-1]))
        norm, relu = self.tail
        before.append(norm(x))
        after.append(relu(before[-1]))
        return self._output(before, after, after[-1])
