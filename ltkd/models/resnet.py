"""ResNets for small images (He et al. 2016), in the widths of the distillation field and of BKD.

`resnetN` has 16-16-32-64 channels and `resnetNx4` 32-64-128-256, with 1 x 1 convolutions where the shape changes;
`resnetNa` has the parameter-free shortcuts (option A of the ResNet paper) of LDAM's and BKD's code.
"""

import torch.nn.functional as F
from torch import nn

from .features import FeatureOutput


class BasicBlock(nn.Module):
    def __init__(self, in_channels, channels, stride, *, option_a):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        if stride == 1 and in_channels == channels:
            self.shortcut = nn.Identity()
        elif option_a:
            self.shortcut = ZeroPadShortcut(channels - in_channels, stride)
        else:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class ZeroPadShortcut(nn.Module):
    """Every `stride`-th pixel, and new channels of zeros, half of them on either side."""

    def __init__(self, new_channels, stride):
        super().__init__()
        self.new_channels, self.stride = new_channels, stride

    def forward(self, x):
        before = self.new_channels // 2
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.new_channels - before))


class ResNet(nn.Module):
    """Three stages of basic blocks, depth = 6 blocks + 2. Any input of 4 pixels or more a side."""

    def __init__(self, depth, widths, *, num_classes, in_channels, image_size, option_a=False):
        super().__init__()
        del image_size  # the pooling is global: any size fits
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(in_channels, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.stages = nn.ModuleList(
            nn.Sequential(
                *(
                    BasicBlock(width_in if block == 0 else width, width, stride if block == 0 else 1, option_a=option_a)
                    for block in range(blocks)
                )
            )
            for width_in, width, stride in zip(widths[:3], widths[1:], (1, 2, 2), strict=True)
        )
        self.fc = nn.Linear(widths[3], num_classes)

    def features(self, x):
        stages = [F.relu(self.bn1(self.conv1(x)))]
        for stage in self.stages:
            stages.append(stage(stages[-1]))
        pooled = stages[-1].mean((2, 3))
        return FeatureOutput(self.fc(pooled), tuple(stages), pooled)

    def forward(self, x):
        return self.features(x).logits
