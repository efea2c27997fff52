"""Cross-entropy alone, and the distillation of logits: KD, BKD and LTKD."""

import torch.nn.functional as F

from .. import losses
from .base import Method, Option


class CrossEntropy(Method):
    """Cross-entropy with the labels alone; the way a teacher is trained."""

    def forward(self, step):
        return {"ce": F.cross_entropy(step.logits, step.labels)}


class Distillation(Method):
    """Cross-entropy plus one or more distillation terms, which may grow linearly over the first epochs."""

    needs = "logits"
    temperature = Option(4.0, "divides the logits of teacher and student before the softmax", above=True)
    ce_weight = Option(1.0, "weight of the cross-entropy with the labels")
    warmup = Option(0.0, "fraction of the epochs over which the distillation terms grow to full weight", high=1.0)

    def forward(self, step):
        ramp = (step.epoch / (self.warmup * self.task.epochs)).clamp(max=1) if self.warmup else 1.0
        terms = {name: ramp * term for name, term in self.distill(step).items()}
        return {"ce": self.ce_weight * F.cross_entropy(step.logits, step.labels), **terms}

    def distill(self, step):
        """The distillation terms at full weight: Step -> {name: 0-dim tensor}."""
        raise NotImplementedError


class KD(Distillation):
    """Knowledge distillation (Hinton et al. 2015), with the distillation field's weights 0.1 and 0.9."""

    ce_weight = Option(0.1, "weight of the cross-entropy with the labels")
    kd_weight = Option(0.9, "weight of the distillation term")

    def distill(self, step):
        return {"kd": self.kd_weight * losses.kd(step.logits, step.teacher_logits, temperature=self.temperature)}


class BKD(Distillation):
    """Balanced knowledge distillation (Zhang et al. 2023, Eq. 8): rare classes weigh more in the teacher's target."""

    temperature = Option(2.0, "divides the logits of teacher and student before the softmax", above=True)
    kd_weight = Option(1.0, "weight of the distillation term")
    effective_beta = Option(0.9999, "beta of the effective number of images (BKD, Eq. 2)", high=1.0)

    def __init__(self, task, **options):
        super().__init__(task, **options)
        weights = losses.effective_number_weights(task.class_counts.cpu(), beta=self.effective_beta)
        self.register_buffer("class_weights", weights)

    def distill(self, step):
        term = losses.bkd(step.logits, step.teacher_logits, self.class_weights, temperature=self.temperature)
        return {"bkd": self.kd_weight * term}


class LTKD(Distillation):
    """Long-tailed knowledge distillation (Kim 2026, Eq. 14): rebalanced cross-group, equally weighted within-group."""

    alpha = Option(6.0, "weight of the rebalanced cross-group term (Eq. 14)")
    beta = Option(6.0, "weight of each group's within-group term (Eq. 14)")
    warmup = Option(20 / 240, "fraction of the epochs over which the distillation terms grow to full weight", high=1.0)

    def distill(self, step):
        cross, within = losses.ltkd_terms(
            step.logits, step.teacher_logits, self.task.groups, temperature=self.temperature
        )
        return {"cross": self.alpha * cross, "within": self.beta * within}
