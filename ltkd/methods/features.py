"""Distillation of feature maps: FitNet, ReviewKD and CAT-KD. The shapes of adapter layers are read from the outputs of
both networks, so that any pair of networks works."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import losses
from ..errors import ConfigError
from ..models import FeatureOutput, classifier, last_map_of
from .base import TEACHER, Option, Step
from .distillation import Distillation


class FeatureDistillation(Distillation):
    """Cross-entropy plus distillation terms on feature maps."""

    needs = "features"


class FitNet(FeatureDistillation):
    """FitNet (Romero et al. 2015), as in benchmarks: one map of the student is regressed on the teacher's map."""

    kd_weight = Option(100.0, "weight of the mean squared difference")
    layer = Option(2, "number of the stage that gives the maps; 0 is the stem")

    def connect(self, student: Any, teachers: dict[str, nn.Module]) -> None:
        """Raises ConfigError if a network has no such stage."""
        maps = [_stage(self.probe(network), self.layer) for network in (student, teachers[TEACHER])]
        self.regressor = regressor(*maps)

    def distill(self, step: Step) -> dict[str, Tensor]:
        hint = self.regressor(step.features.stages[self.layer])
        return {"hint": self.kd_weight * losses.hint(hint, step.teacher_features.stages[self.layer])}


def regressor(student_map: Tensor, teacher_map: Tensor) -> nn.Sequential:
    """Layers from the shape of a student's map to that of a teacher's: a convolution, BatchNorm and ReLU.

    Both maps: (B, channels, side, side). Where the teacher's map is larger and not twice as large, the student's map is
    upsampled first.
    """
    resize: nn.Module
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


def _stage(features: FeatureOutput, layer: int) -> Tensor:
    if layer >= len(features.stages):
        raise ConfigError(f"layer = {layer}: must be from 0 to {len(features.stages) - 1}, the stages of this network")
    return features.stages[layer]


class ReviewKD(FeatureDistillation):
    """ReviewKD (Chen et al. 2021): the student fuses its later maps to match the teacher's earlier maps."""

    kd_weight = Option(5.0, "weight of the distance between the maps, summed over the levels")
    before_activation = Option(False, "use the student's maps before activation too, as for ImageNet")
    warmup = replace(Distillation.warmup, default=20 / 240)

    def connect(self, student: Any, teachers: dict[str, nn.Module]) -> None:
        own, target = self._own_maps(self.probe(student)), _before(self.probe(teachers[TEACHER]))
        levels = min(len(own), len(target))
        self.levels = levels
        own, target = own[:levels], target[:levels]
        width = min(512, own[0].shape[1])
        self.fusions = nn.ModuleList(
            Fusion(a.shape[1], width, b.shape[1], first=k == 0)
            for k, (a, b) in enumerate(zip(own, target, strict=True))
        )

    def distill(self, step: Step) -> dict[str, Tensor]:
        own, target = self._own_maps(step.features)[: self.levels], _before(step.teacher_features)[: self.levels]
        residual: Tensor | None = None
        total: Any = 0.0
        for fusion, own_map, target_map in zip(self.fusions, own, target, strict=True):
            output, residual = fusion(own_map, residual, target_map.shape[2:])
            total = total + losses.hierarchical_context(output, target_map)
        return {"review": self.kd_weight * total}

    def _own_maps(self, features: FeatureOutput) -> list[Tensor]:
        return _before(features) if self.before_activation else _levels(features)


def _levels(features: FeatureOutput) -> list[Tensor]:
    """The maps to compare, deepest first: the pooled vector as a map of one pixel, then the stages without the stem."""
    return [features.pooled[:, :, None, None], *reversed(features.stages[1:])]


def _before(features: FeatureOutput) -> list[Tensor]:
    """The same maps before their activation, if the network returns them."""
    stages = features.preactivations or features.stages
    return _levels(features._replace(stages=stages))


class Fusion(nn.Module):
    """Attention-based fusion (Chen et al. 2021): two learned gates per pixel mix a map with the fused deeper maps.

    channels: of the student's map. width: of the fused maps. out_channels: of the teacher's map. first: True for the
    deepest level, which has no deeper map to mix.
    """

    def __init__(self, channels: int, width: int, out_channels: int, *, first: bool) -> None:
        super().__init__()
        self.reduce = nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width))
        self.gates = None if first else nn.Conv2d(2 * width, 2, 1)
        self.expand = nn.Sequential(
            nn.Conv2d(width, out_channels, 3, padding=1, bias=False), nn.BatchNorm2d(out_channels)
        )
        for sequence in (self.reduce, self.expand):
            nn.init.kaiming_uniform_(next(sequence.parameters()), a=1)  # the convolution

    def forward(self, x: Tensor, residual: Tensor | None, size: Sequence[int]) -> tuple[Tensor, Tensor]:
        """x: (B, channels, h, w). residual: (B, width, ...), the fused map of the deeper level, None at the deepest.
        size: (h, w) of the teacher's map. Returns the output (B, out_channels, *size), and the fused map."""
        x = self.reduce(x)
        if self.gates is not None and residual is not None:
            residual = F.interpolate(residual, x.shape[2:], mode="nearest")
            own, left = self.gates(torch.cat([x, residual], 1)).sigmoid().split(1, 1)
            x = own * x + left * residual
        x = F.interpolate(x, size, mode="nearest")
        return self.expand(x), x


class CATKD(FeatureDistillation):
    """CAT-KD, class attention transfer (Guo et al. 2023): distills the class activation maps."""

    kd_weight = Option(15.0, "weight of the mean squared difference of the maps")
    teacher_weight: Tensor
    size = Option(2, "side in pixels to which the maps are average-pooled", low=1, high=512)
    normalized = Option(
        True, "scale the map of each class to unit length; false: the weight must be chosen for the pair of networks"
    )

    def wrap(self, student: nn.Module) -> nn.Module:
        """Removes the bias of the classifier. Raises ConfigError if the student has no nn.Linear called fc."""
        head = classifier(student)  # without a bias, the mean of a class's map is its logit
        plain = nn.Linear(head.in_features, head.out_features, bias=False)
        with torch.no_grad():
            plain.weight.copy_(head.weight)
        plain.weight.requires_grad_(head.weight.requires_grad)
        student.fc = plain
        return student

    def connect(self, student: Any, teachers: dict[str, nn.Module]) -> None:
        """Raises ConfigError if a network returns no last map, or if the teacher has no nn.Linear called fc."""
        for network in (student, teachers[TEACHER]):
            last_map_of(self.probe(network))  # fails before the training, not in its first step
        self.register_buffer("teacher_weight", classifier(teachers[TEACHER]).weight.detach().clone())

    def distill(self, step: Step) -> dict[str, Tensor]:
        own = class_maps(step.features, step.student.fc.weight)
        target = class_maps(step.teacher_features, self.teacher_weight)
        return {"cat": self.kd_weight * losses.class_attention(own, target, size=self.size, normalize=self.normalized)}


def class_maps(features: FeatureOutput, weight: Tensor) -> Tensor:
    """Class activation maps (B, C, h, w): the classifier's weight (C, D) applied to each pixel of the last map.

    Raises ConfigError if the network returns no last map.
    """
    return torch.einsum("cd,bdhw->bchw", weight, last_map_of(features))
