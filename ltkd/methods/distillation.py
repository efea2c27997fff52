"""The distillation of logits: KD, DKD, DIST, BKD and LTKD."""

from dataclasses import replace

import torch.nn.functional as F

from .. import losses
from .._support import distributed
from ..decomposition import group_mass
from .base import Method, Option
from .long_tailed import DEFERRED, ClassWeighted


class CrossEntropy(Method):
    """Cross-entropy with the labels alone; the way a teacher is trained."""

    def forward(self, step):
        return {"ce": F.cross_entropy(step.logits, step.labels)}


class Distillation(Method):
    """Cross-entropy plus one or more distillation terms, which may grow linearly over the first epochs."""

    needs = "logits"
    ce_weight = Option(1.0, "weight of the cross-entropy with the labels")
    warmup = Option(
        0.0,
        "fraction of the epochs over which the distillation terms grow to full weight",
        high=1.0,
        below=True,
        of_time=True,
    )

    def forward(self, step):
        ramp = (step.epoch / (self.warmup * self.task.epochs)).clamp(max=1) if self.warmup else 1.0
        terms = {name: ramp * term for name, term in self.distill(step).items()}
        return {"ce": self.ce_weight * F.cross_entropy(step.logits, step.labels), **terms}

    def distill(self, step):
        """The distillation terms at full weight: Step -> {name: 0-dim tensor}."""
        raise NotImplementedError


SOFTENED = Option(4.0, "divides the logits of teacher and student before the softmax", above=True)


class KD(Distillation):
    """Knowledge distillation (Hinton et al. 2015), with the distillation field's weights 0.1 and 0.9."""

    temperature = SOFTENED
    ce_weight = Option(0.1, "weight of the cross-entropy with the labels")
    kd_weight = Option(0.9, "weight of the distillation term")

    def distill(self, step):
        return {"kd": self.kd_weight * losses.kd(step.logits, step.teacher_logits, temperature=self.temperature)}


class DKD(Distillation):
    """Decoupled knowledge distillation (Zhao et al. 2022): target class and non-target classes apart."""

    temperature = SOFTENED
    alpha = Option(1.0, "weight of the target-class term")
    beta = Option(8.0, "weight of the non-target-class term")
    warmup = replace(Distillation.warmup, default=20 / 240)

    def distill(self, step):
        target, rest = losses.dkd_terms(step.logits, step.teacher_logits, step.labels, temperature=self.temperature)
        return {"target": self.alpha * target, "non_target": self.beta * rest}


class DIST(Distillation):
    """Distillation from a stronger teacher (Huang et al. 2022): correlation over classes and over the batch."""

    temperature = SOFTENED
    kd_weight = Option(2.0, "weight of both terms together")
    beta = Option(1.0, "weight of the correlation of each image's probabilities (inter-class)")
    gamma = Option(1.0, "weight of the correlation of each class's probabilities (intra-class)")

    def distill(self, step):
        inter, intra = losses.dist_terms(step.logits, step.teacher_logits, temperature=self.temperature)
        return {"inter": self.kd_weight * self.beta * inter, "intra": self.kd_weight * self.gamma * intra}


class BKD(ClassWeighted, Distillation):
    """Balanced knowledge distillation (Zhang et al. 2023, Eq. 8): rare classes weigh more in the teacher's target."""

    temperature = Option(2.0, "divides the logits of teacher and student before the softmax", above=True)
    kd_weight = Option(1.0, "weight of the distillation term")
    deferred = replace(DEFERRED, default=0.0)

    def distill(self, step):
        weights = self.weights_from(self.deferred, step)
        term = losses.bkd(step.logits, step.teacher_logits, weights, temperature=self.temperature)
        return {"bkd": self.kd_weight * term}


class LTKD(Distillation):
    """Long-tailed knowledge distillation (Kim 2026, Eq. 14): rebalanced cross-group, equally weighted within-group."""

    temperature = SOFTENED
    alpha = Option(6.0, "weight of the cross-group term (Eq. 14); 0 leaves it out (Tab. 5)")
    beta = Option(6.0, "weight of the within-group terms (Eq. 14); 0 leaves them out (Tab. 4, 5)")
    rebalanced = Option(
        True, "rebalance the teacher's group mass over the batch (Eq. 9 to 11; false: Tab. 4's baseline)"
    )
    reweighted = Option(True, "weigh all groups alike within (Eq. 13; false: by the teacher's group mass, Eq. 12)")
    warmup = replace(Distillation.warmup, default=20 / 240)

    def distill(self, step):
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

    def _mass_of_all_processes(self, step):
        """The teacher's group mass summed over the whole batch, where this process has only a part of it."""
        if distributed.world_size() == 1:
            return None
        mass = group_mass(step.teacher_logits, self.task.groups, temperature=self.temperature)
        return distributed.total(mass.sum(0))
