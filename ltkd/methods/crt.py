"""Classifier retraining: a second stage that learns a new classifier on balanced batches (Kang et al. 2020)."""

import torch.nn.functional as F
from torch import nn

from ..models import classifier
from .base import Method, Option
from .distillation import BKD, CrossEntropy


class CRT(Method):
    """Classifier retraining, cRT (Kang et al. 2020): cross-entropy first, then a new classifier on balanced batches."""

    parent = CrossEntropy
    streams = {"main": "class-aware"}
    second_stage = Option(1 / 9, "epochs of the second stage, as a fraction of --epochs", above=True)
    frozen_statistics = Option(True, "keep BatchNorm's statistics in the second stage; the published code does not")

    def schedule(self, schedule):
        epochs = max(1, round(self.second_stage * schedule.epochs))
        return schedule._replace(kind="cosine", epochs=epochs, warmup=0.0)

    def wrap(self, student):
        head = classifier(student)
        student.fc = nn.Linear(head.in_features, head.out_features)
        return student

    def parameter_groups(self, student):
        return [{"params": [*student.fc.parameters()]}]

    def set_mode(self, student):
        if self.frozen_statistics:
            super().set_mode(student)
        else:
            student.train()

    def forward(self, step):
        return {"ce": F.cross_entropy(step.logits, step.labels)}


class BKDThenCRT(CRT):
    """BKD, then classifier retraining without the teacher (Zhang et al. 2023, Tab. 4)."""

    parent = BKD
