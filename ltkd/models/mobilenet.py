"""MobileNet for ImageNet (Howard et al. 2017), and MobileNetV2 for small images (Sandler et al. 2018) in half width."""

from torch import Tensor, nn

from .base import InitialWeights, StagedNetwork

# Per stage, the channels and the stride of each block.
V1_STAGES = (
    ((64, 1), (128, 2), (128, 1)),
    ((256, 2), (256, 1)),
    ((512, 2), (512, 1), (512, 1), (512, 1), (512, 1), (512, 1)),
    ((1024, 2), (1024, 1)),
)
# Per stage, for each run of blocks: expansion, channels at full width, number of blocks, stride of the first.
V2_STAGES = (
    ((1, 16, 1, 1), (6, 24, 2, 1)),
    ((6, 32, 3, 2),),
    ((6, 64, 4, 2), (6, 96, 3, 1)),
    ((6, 160, 3, 2), (6, 320, 1, 1)),
)
V2_LAST = 1280


def _conv(in_channels: int, channels: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(channels)]


class MobileNetV1(StagedNetwork):
    """Depthwise and 1 x 1 convolutions by turns. Any size of image fits, since the pooling is global."""

    initial_weights = InitialWeights(he=False)
    revision = 1

    def __init__(self, *, num_classes: int, in_channels: int, image_size: int) -> None:
        del image_size
        width, stages = 32, list[list[nn.Module]]()
        for settings in V1_STAGES:
            stages.append([])
            for channels, stride in settings:
                depthwise = _conv(width, width, 3, stride, groups=width)
                stages[-1].append(nn.Sequential(*depthwise, nn.ReLU(), *_conv(width, channels)))
                width = channels
        super().__init__(nn.Sequential(*_conv(in_channels, 32, 3, 2)), stages, width, num_classes)


class InvertedResidual(nn.Module):
    """Widens, convolves each channel by itself and narrows again, without an activation at its narrow end."""

    def __init__(self, in_channels: int, channels: int, expansion: int, stride: int) -> None:
        super().__init__()
        middle = in_channels * expansion
        self.layers = nn.Sequential(
            *_conv(in_channels, middle),
            nn.ReLU(),
            *_conv(middle, middle, 3, stride, groups=middle),
            nn.ReLU(),
            *_conv(middle, channels),
        )
        self.adds = stride == 1 and in_channels == channels

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.adds else self.layers(x)


class MobileNetV2(StagedNetwork):
    """The stem has stride 2, and the map is halved three times more. Any size of image fits, since the pooling is
    global. Maps between blocks are not activated, so `stages` and `preactivations` are the same."""

    initial_weights = InitialWeights(classifier=0.01)
    revision = 1

    def __init__(self, factor: float, *, num_classes: int, in_channels: int, image_size: int) -> None:
        del image_size
        width, stages = int(32 * factor), list[list[nn.Module]]()
        stem = nn.Sequential(*_conv(in_channels, width, 3, 2), nn.ReLU())
        for settings in V2_STAGES:
            stages.append([])
            for expansion, channels, repeats, first_stride in settings:
                for stride in (first_stride,) + (1,) * (repeats - 1):
                    stages[-1].append(InvertedResidual(width, int(channels * factor), expansion, stride))
                    width = int(channels * factor)
        tail = nn.Sequential(*_conv(width, V2_LAST), nn.ReLU())
        super().__init__(stem, stages, V2_LAST, num_classes, activation=nn.Identity(), tail=tail)
