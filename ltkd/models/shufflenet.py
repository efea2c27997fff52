"""ShuffleNet (Zhang et al. 2018) with three groups, for small images, as the distillation field has it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import InitialWeights, StagedNetwork

WIDTHS, DEPTHS, GROUPS = (24, 240, 480, 960), (4, 8, 4), 3


class ShuffleBlock(nn.Module):
    """Grouped 1 x 1 convolutions around a depthwise one. With stride 2 the pooled input is concatenated to the result,
    else it is added."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        new = channels - in_channels if stride == 2 else channels
        middle = new // 4
        first_groups = 1 if in_channels == WIDTHS[0] else GROUPS  # too few channels to group
        self.stride = stride
        self.conv1 = nn.Conv2d(in_channels, middle, 1, groups=first_groups, bias=False)
        self.bn1 = nn.BatchNorm2d(middle)
        self.shuffle = nn.ChannelShuffle(first_groups)
        self.conv2 = nn.Conv2d(middle, middle, 3, stride, 1, groups=middle, bias=False)
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv3 = nn.Conv2d(middle, new, 1, groups=GROUPS, bias=False)
        self.bn3 = nn.BatchNorm2d(new)

    def forward(self, x: Tensor) -> Tensor:
        out = self.shuffle(F.relu(self.bn1(self.conv1(x))))
        out = F.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        if self.stride == 2:
            return torch.cat([out, F.avg_pool2d(x, 3, 2, 1)], 1)
        return out + x


class ShuffleNetV1(StagedNetwork):
    """Each of the three stages halves the map. Any size of image fits, since the pooling is global."""

    initial_weights = InitialWeights(he=False)
    revision = 1

    def __init__(self, *, num_classes: int, in_channels: int, image_size: int) -> None:
        del image_size
        stem = nn.Sequential(nn.Conv2d(in_channels, WIDTHS[0], 1, bias=False), nn.BatchNorm2d(WIDTHS[0]))
        stages = [
            [ShuffleBlock(width_in, width, 2)] + [ShuffleBlock(width, width, 1) for _ in range(depth - 1)]
            for depth, width_in, width in zip(DEPTHS, WIDTHS[:3], WIDTHS[1:], strict=True)
        ]
        super().__init__(stem, stages, WIDTHS[3], num_classes)
