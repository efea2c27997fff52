"""The distillation of feature maps: FitNet, ReviewKD and CAT-KD. Adapters take their shapes from a first look at both
networks, so that any pair of networks fits."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn

from .. import losses
from ..errors import ConfigError
from ..models import classifier, last_map_of
from .base import TEACHER, Option
from .distillation import Distillation


class FeatureDistillation(Distillation):
    """Cross-entropy plus terms on feature maps."""

    needs = "features"


class FitNet(FeatureDistillation):
    """FitNet (Romero et al. 2015) as benchmarks run it: the student's middle map regressed on the teacher's."""

    kd_weight = Option(100.0, "weight of the mean squared difference")
    layer = Option(2, "which stage's map, the stem being 0")

    def connect(self, student, teachers):
        maps = [_stage(self.probe(network), self.layer, "fitnet") for network in (student, teachers[TEACHER])]
        self.regressor = regressor(*maps)

    def distill(self, step):
        hint = self.regressor(step.features.stages[self.layer])
        return {"hint": self.kd_weight * losses.hint(hint, step.teacher_features.stages[self.layer])}


def regressor(student_map, teacher_map):
    """From a student's map to the shape of a teacher's: a convolution that changes size and width, then BatchNorm and
    ReLU. Both maps (B, c, h, w)."""
    width_in, side_in = student_map.shape[1:3]
    width_out, side_out = teacher_map.shape[1:3]
    if side_in == 2 * side_out:
        resize = nn.Conv2d(width_in, width_out, 3, stride=2, padding=1)
    elif 2 * side_in == side_out:
        resize = nn.ConvTranspose2d(width_in, width_out, 4, stride=2, padding=1)
    elif side_in >= side_out:
        resize = nn.Conv2d(width_in, width_out, 1 + side_in - side_out)
    else:
        resize = nn.Sequential(nn.Upsample(size=side_out), nn.Conv2d(width_in, width_out, 1))
    return nn.Sequential(resize, nn.BatchNorm2d(width_out), nn.ReLU())


def _stage(features, layer, method):
    if layer >= len(features.stages):
        raise ConfigError(f"layer = {layer}: method {method!r} finds stages 0 to {len(features.stages) - 1} here")
    return features.stages[layer]


class ReviewKD(FeatureDistillation):
    """Knowledge review (Chen et al. 2021): early maps of the teacher taught by fused later maps of the student."""

    kd_weight = Option(5.0, "weight of the differences, summed over the levels")
    before_activation = Option(False, "take the student's maps before their activation too, as on ImageNet")
    warmup = replace(Distillation.warmup, default=20 / 240)

    def connect(self, student, teachers):
        own, target = self._own_maps(self.probe(student)), _before(self.probe(teachers[TEACHER]))
        levels = min(len(own), len(target))
        self.levels = levels
        own, target = own[:levels], target[:levels]
        width = min(512, own[0].shape[1])
        self.fusions = nn.ModuleList(
            Fusion(a.shape[1], width, b.shape[1], first=k == 0)
            for k, (a, b) in enumerate(zip(own, target, strict=True))
        )

    def distill(self, step):
        own, target = self._own_maps(step.features)[: self.levels], _before(step.teacher_features)[: self.levels]
        residual, total = None, 0.0
        for fusion, own_map, target_map in zip(self.fusions, own, target, strict=True):
            output, residual = fusion(own_map, residual, target_map.shape[2:])
            total = total + losses.hierarchical_context(output, target_map)
        return {"review": self.kd_weight * total}

    def _own_maps(self, features):
        return _before(features) if self.before_activation else _levels(features)


def _levels(features):
    """The maps that are reviewed, deepest first: the pooled vector as a map of one pixel, then the stages without the
    stem."""
    return [features.pooled[:, :, None, None], *reversed(features.stages[1:])]


def _before(features):
    """The same before the activation, where the network tells."""
    stages = features.preactivations or features.stages
    return _levels(features._replace(stages=stages))


class Fusion(nn.Module):
    """Attention-based fusion: mixes a student's map with what deeper maps left, by two learned gates a pixel."""

    def __init__(self, channels, width, out_channels, *, first):
        super().__init__()
        self.reduce = nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width))
        self.gates = None if first else nn.Conv2d(2 * width, 2, 1)
        self.expand = nn.Sequential(
            nn.Conv2d(width, out_channels, 3, padding=1, bias=False), nn.BatchNorm2d(out_channels)
        )
        for sequence in (self.reduce, self.expand):
            nn.init.kaiming_uniform_(sequence[0].weight, a=1)

    def forward(self, x, residual, size):
        """x (B, channels, h, w), residual (B, width, ...) or None, size: the teacher map's -> (output (B,
        out_channels, *size), the residual for the next level)."""
        x = self.reduce(x)
        if self.gates is not None:
            residual = F.interpolate(residual, x.shape[2:], mode="nearest")
            own, left = self.gates(torch.cat([x, residual], 1)).sigmoid().split(1, 1)
            x = own * x + left * residual
        x = F.interpolate(x, size, mode="nearest")
        return self.expand(x), x


class CATKD(FeatureDistillation):
    """Class attention transfer (Guo et al. 2023): where each class is seen, by class maps."""

    kd_weight = Option(15.0, "weight of the mean squared difference of the maps")
    size = Option(2, "pixels a side that the maps are averaged to", low=1)
    normalized = Option(True, "scale every class's map to unit length; without it the weight must fit the networks")

    def wrap(self, student):
        head = classifier(student)  # without a bias, the average of the class maps is the logits
        plain = nn.Linear(head.in_features, head.out_features, bias=False)
        with torch.no_grad():
            plain.weight.copy_(head.weight)
        student.fc = plain
        return student

    def connect(self, student, teachers):
        for network in (student, teachers[TEACHER]):
            last_map_of(self.probe(network))  # says what is wrong before the training, not in it
        self.register_buffer("teacher_weight", classifier(teachers[TEACHER]).weight.detach().clone())

    def distill(self, step):
        own = class_maps(step.features, step.student.fc.weight)
        target = class_maps(step.teacher_features, self.teacher_weight)
        return {"cat": self.kd_weight * losses.class_attention(own, target, size=self.size, normalize=self.normalized)}


def class_maps(features, weight):
    """Class activation maps: the classifier's weight (C, D) applied to every pixel of the last map, (B, C, h, w)."""
    return torch.einsum("cd,bdhw->bchw", weight, last_map_of(features))
