"""LFME: learning from multiple experts (Xiang et al. 2020)."""

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import losses
from ..errors import ConfigError
from ..groups import ClassGroups
from .base import Method, Option, Scan, Step, Task, TeacherSpec
from .distillation import SOFTENED

EXPERT_BATCH = {"many": 128, "medium": 64, "few": 32}  # images, as in the published code


class LFME(Method):
    """Learning from multiple experts (Xiang et al. 2020): one expert per class group, switched off once matched."""

    needs = "logits"
    revision = 1
    streams = {"main": "class-aware"}
    settings = {"held_out": 0.1}
    temperature = replace(SOFTENED, default=2.0)
    silence_from = Option(
        0.3, "share of an expert's accuracy; above it the weight of the expert decreases", high=1.0, below=True
    )
    curriculum = Option("loss", "quantity that is multiplied by the easiness of an image", choices=("loss", "logits"))
    experts: tuple[str, ...]  # the group of each expert
    expert_weights: Tensor  # (E,), from 1 to 0
    expert_accuracies: Tensor  # (E,), on the held-out images
    ease: Tensor  # (train_images,), from 0 (hard) to 1 (easy)

    def __init__(self, task: Task, **options: Any) -> None:
        super().__init__(task, **options)
        by_group = _classes_of_experts(task.class_counts)
        self.experts = tuple(by_group)
        for name, classes in by_group.items():
            self.register_buffer(f"classes_{name}", classes)
        self.register_buffer("expert_weights", torch.ones(len(self.experts)))
        self.register_buffer("expert_accuracies", torch.ones(len(self.experts)))
        self.register_buffer("ease", torch.ones(task.train_images))

    def _classes(self) -> dict[str, Tensor]:
        return {name: getattr(self, f"classes_{name}") for name in self.experts}

    @classmethod
    def teachers(cls, class_counts: Tensor | None = None) -> dict[str, TeacherSpec]:
        """One expert per group of at least two classes; none if class_counts is None. Raises ConfigError if there is no
        such group."""
        if class_counts is None:
            return {}
        return {
            name: TeacherSpec(
                tuple(classes.tolist()), settings={"lr_schedule": "cosine", "batch_size": EXPERT_BATCH[name]}
            )
            for name, classes in _classes_of_experts(class_counts).items()
        }

    def begin(self, student: Any, teachers: dict[str, nn.Module], training: Scan, held_out: Scan | None) -> None:
        """Computes the easiness of each image, from its expert's probability of its class, and the accuracy of each
        expert on the held-out images."""
        assert held_out is not None  # RunConfig requires it
        images = self.task.class_counts.float()
        rarest = min(images[classes].mean() for classes in self._classes().values())
        for g, (name, classes) in enumerate(self._classes().items()):
            probabilities = training(teachers[name]).softmax(1)
            floor = rarest / images[classes].mean()
            for own, c in enumerate(classes.tolist()):
                at = (training.labels == c).to(self.ease.device)
                self.ease[at] = floor + (1 - floor) * _between_extremes(probabilities[at, own])
            predicted, labels = classes[held_out(teachers[name]).argmax(1)], held_out.labels.to(classes.device)
            self.expert_accuracies[g] = _mean_class_accuracy(predicted, labels, classes)

    def end_epoch(self, student: Any, held_out: Scan | None) -> None:
        """Lowers the weight of each expert as the student approaches its accuracy (self-paced expert selection)."""
        assert held_out is not None  # RunConfig requires it
        predicted = held_out(student).argmax(1)
        labels = held_out.labels.to(predicted.device)
        own = torch.stack([_mean_class_accuracy(predicted, labels, classes) for classes in self._classes().values()])
        self.expert_weights.copy_(self.weight(own / self.expert_accuracies.clamp_min(1e-6)))

    def weight(self, ratio: Tensor) -> Tensor:
        """The weights of experts, (E,), from 1 to 0. ratio: (E,), the student's accuracy over the expert's."""
        falling = ((1 - ratio) / (1 - self.silence_from)).clamp_min(0)
        return torch.where(ratio < self.silence_from, torch.ones_like(ratio), falling)

    def forward(self, step: Step) -> dict[str, Tensor]:
        ease = self.ease[step.indices]
        ease = ease + (1 - ease) * step.epoch / (self.task.epochs / 2)
        by_logits = self.curriculum == "logits"
        logits = ease[:, None] * step.logits if by_logits else step.logits
        per_image = F.cross_entropy(logits, step.labels, reduction="none")
        terms = {"ce": (per_image if by_logits else ease.clamp(max=1) * per_image).mean()}
        for g, (name, classes) in enumerate(self._classes().items()):
            term = losses.expert_kd(logits, step.teachers[name].logits, classes, temperature=self.temperature)
            terms[name] = self.expert_weights[g] * term
        return terms


def _classes_of_experts(class_counts: Tensor) -> dict[str, Tensor]:
    """The classes of each expert: {name of a group: LongTensor}. Raises ConfigError if there would be no expert."""
    shots = ClassGroups.by_shots(class_counts.cpu())
    by_group = {name: (shots.index == g).nonzero().squeeze(1) for g, name in enumerate(shots.names)}
    # An expert on one class has nothing to learn.
    found = {name: classes for name, classes in by_group.items() if len(classes) > 1}
    if not found:
        raise ConfigError(
            f"method 'lfme' needs a group of at least two classes to train an expert, but these groups have one class "
            f"each: {', '.join(shots.names)}; choose another method"
        )
    return found


def _between_extremes(values: Tensor) -> Tensor:
    """The values scaled to the range from 0 to 1; all 1 if they are equal."""
    span = values.max() - values.min()
    return torch.where(span > 0, (values - values.min()) / span.clamp_min(1e-12), torch.ones_like(values))


def _mean_class_accuracy(predicted: Tensor, labels: Tensor, classes: Tensor) -> Tensor:
    """Mean of the accuracies of these classes, 0-dim; classes without images are left out."""
    shares = [(predicted[labels == c] == c).float().mean() for c in classes.tolist()]
    return torch.stack(shares).nanmean().nan_to_num(0.0)
