"""Wide residual networks (Zagoruyko and Komodakis 2016): `wrn-D-K` has depth D and 16-16K-32K-64K channels."""

import torch.nn.functional as F
from torch import Tensor, nn

from .base import FeatureOutput, InitialWeights, StagedNetwork


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
    """Maps between blocks are not activated. The distillation field's code compares a student's `stages` as the blocks
    return them, and a teacher's `preactivations` after the BatchNorm that follows them."""

    initial_weights = InitialWeights(zero_bias=True)
    revision = 1

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
        raw = [self.stem(x)]
        normed = [raw[0]]  # no method compares the stem's
        for k, (first, *others) in enumerate(self.stages):
            bn = first.bn1(raw[-1])
            if k:
                normed.append(bn)
            raw.append(self._through(others, first.residual(raw[-1], F.relu(bn))))
        norm, relu = self.tail.children()
        normed.append(norm(raw[-1]))
        return self._output(normed, raw, relu(normed[-1]))
