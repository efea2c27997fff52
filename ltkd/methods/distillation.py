"""Distillation of logits: KD, DKD, DIST, BKD and LTKD."""

from dataclasses import replace
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from .. import losses
from .._support import distributed
from ..decomposition import TEMPERATURES, group_mass
from ..models import classifier
from .base import Method, Option, Step
from .long_tailed import DEFERRED, ClassWeighted


class CrossEntropy(Method):
    """Cross-entropy with the labels. Teachers are trained with it too."""

    body_lr = Option(
        1.0, "learning rate of all layers but the classifier in plain training, as a multiple of --lr", above=True
    )

    def parameter_groups(self, student: Any) -> list[dict[str, Any]]:
        """Raises ConfigError if body_lr is not 1 and the student has no nn.Linear called fc."""
        if self.body_lr == 1:
            return super().parameter_groups(student)
        head = [*classifier(student).parameters()]
        of_head = {id(p) for p in head}
        body = [p for p in student.parameters() if id(p) not in of_head]
        return [{"params": body, "lr_scale": self.body_lr}, {"params": head}]

    def forward(self, step: Step) -> dict[str, Tensor]:
        return {"ce": F.cross_entropy(step.logits, step.labels)}


class Distillation(Method):
    """Cross-entropy plus the terms of `distill`, whose weight grows linearly from 0 to 1 over the warm-up epochs."""

    needs = "logits"
    ce_weight = Option(1.0, "weight of the cross-entropy with the labels")
    warmup = Option(
        0.0,
        "fraction of the epochs over which the distillation terms grow to full weight",
        high=1.0,
        below=True,
        of_time=True,
    )

    def forward(self, step: Step) -> dict[str, Tensor]:
        ramp = (step.epoch / (self.warmup * self.task.epochs)).clamp(max=1) if self.warmup else 1.0
        terms = {name: ramp * term for name, term in self.distill(step).items()}
        return {"ce": self.ce_weight * F.cross_entropy(step.logits, step.labels), **terms}

    def distill(self, step: Step) -> dict[str, Tensor]:
        """The distillation terms at full weight: {name: 0-dim tensor}."""
        raise NotImplementedError


SOFTENED = Option(
    4.0,
    "divides the logits of teacher and student before the softmax",
    low=TEMPERATURES[0],
    high=TEMPERATURES[1],
)


class KD(Distillation):
    """Knowledge distillation (Hinton et al. 2015), with the weights 0.1 and 0.9 that are usual in distillation code."""

    temperature = SOFTENED
    ce_weight = Option(0.1, "weight of the cross-entropy with the labels")
    kd_weight = Option(0.9, "weight of the distillation term")

    def distill(self, step: Step) -> dict[str, Tensor]:
        return {"kd": self.kd_weight * losses.kd(step.logits, step.teacher_logits, temperature=self.temperature)}


class DKD(Distillation):
    """Decoupled knowledge distillation (Zhao et al. 2022): separate terms for target and non-target classes."""

    temperature = SOFTENED
    alpha = Option(1.0, "weight of the target-class term")
    beta = Option(8.0, "weight of the non-target-class term")
    warmup = replace(Distillation.warmup, default=20 / 240)

    def distill(self, step: Step) -> dict[str, Tensor]:
        target, rest = losses.dkd_terms(step.logits, step.teacher_logits, step.labels, temperature=self.temperature)
        return {"target": self.alpha * target, "non_target": self.beta * rest}


class DIST(Distillation):
    """Distillation from a stronger teacher (Huang et al. 2022): correlation over the classes and over the batch."""

    temperature = SOFTENED
    kd_weight = Option(2.0, "weight of the sum of both terms")
    beta = Option(1.0, "weight of the correlation over the classes of each image (inter-class)")
    gamma = Option(1.0, "weight of the correlation over the images for each class (intra-class)")

    def distill(self, step: Step) -> dict[str, Tensor]:
        inter, intra = losses.dist_terms(step.logits, step.teacher_logits, temperature=self.temperature)
        return {"inter": self.kd_weight * self.beta * inter, "intra": self.kd_weight * self.gamma * intra}


class BKD(ClassWeighted, Distillation):
    """Balanced knowledge distillation (Zhang et al. 2023, Eq. 8): rare classes weigh more in the teacher's target."""

    temperature = replace(SOFTENED, default=2.0)
    kd_weight = Option(1.0, "weight of the distillation term")
    deferred = replace(DEFERRED, default=0.0)

    def distill(self, step: Step) -> dict[str, Tensor]:
        weights = self.weights_from(self.deferred, step)
        term = losses.bkd(step.logits, step.teacher_logits, weights, temperature=self.temperature)
        return {"bkd": self.kd_weight * term}


class LTKD(Distillation):
    """Long-tailed knowledge distillation (Kim 2026, Eq. 14): rebalanced cross-group, equally weighted within-group."""

    temperature = SOFTENED
    alpha = Option(6.0, "weight of the cross-group term (Eq. 14); 0 removes it (Tab. 5)")
    beta = Option(6.0, "weight of the within-group terms (Eq. 14); 0 removes them (Tab. 4, 5)")
    rebalanced = Option(
        True, "rebalance the teacher's group mass over the batch (Eq. 9 to 11); false: the baseline of Tab. 4"
    )
    reweighted = Option(
        True, "give all groups the same weight in the within-group terms (Eq. 13); false: the teacher's mass (Eq. 12)"
    )
    warmup = replace(Distillation.warmup, default=20 / 240)

    def distill(self, step: Step) -> dict[str, Tensor]:
        cross, within = losses.ltkd_terms(
            step.logits,
            step.teacher_logits,
            self.task.groups,
            temperature=self.temperature,
            batch_mass=self._mass_of_all_processes(step),
            rebalanced=self.rebalanced,
            reweighted=self.reweighted,
        )
        return {"cross": self.alpha * cross, "within": self.beta * within}

    def _mass_of_all_processes(self, step: Step) -> Tensor | None:
        """The teacher's group mass, (G,), summed over the parts of the batch in all processes; None in a single
        process, where the loss computes it."""
        if distributed.world_size() == 1:
            return None
        mass = group_mass(step.teacher_logits, self.task.groups, temperature=self.temperature)
        return distributed.total(mass.sum(0))
