"""Classifier retraining: a second stage trains a new classifier on class-balanced batches (Kang et al. 2020)."""

from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torch import Tensor, nn

from ..models import classifier
from .base import Method, Option, Step
from .distillation import BKD, CrossEntropy

if TYPE_CHECKING:
    from ..config.schedule import Schedule


class CRT(Method):
    """Classifier retraining, cRT (Kang et al. 2020): cross-entropy first, then a new classifier on balanced batches."""

    parent: type[Method] = CrossEntropy
    streams = {"main": "class-aware"}
    second_stage = Option(1 / 9, "epochs of the second stage, as a multiple of --epochs", above=True, high=100)
    frozen_statistics = Option(True, "freeze BatchNorm's statistics in the second stage, unlike the published code")

    def schedule(self, schedule: "Schedule") -> "Schedule":
        """Half a cosine from the full learning rate to 0, over the epochs of the second stage."""
        epochs = max(1, round(self.second_stage * schedule.epochs))
        return schedule._replace(kind="cosine", epochs=epochs, warmup=0.0)

    def wrap(self, student: nn.Module) -> nn.Module:
        """Replaces the classifier by a new one. Raises ConfigError if the student has no nn.Linear called fc."""
        head = classifier(student)
        student.fc = nn.Linear(head.in_features, head.out_features)
        return student

    def parameter_groups(self, student: nn.Module) -> list[dict[str, Any]]:
        return [{"params": [*classifier(student).parameters()]}]

    def set_mode(self, student: nn.Module) -> None:
        if self.frozen_statistics:
            super().set_mode(student)
        else:
            student.train()

    def forward(self, step: Step) -> dict[str, Tensor]:
        return {"ce": F.cross_entropy(step.logits, step.labels)}


class BKDThenCRT(CRT):
    """BKD, then classifier retraining without the teacher (Zhang et al. 2023, Tab. 4)."""

    parent = BKD
