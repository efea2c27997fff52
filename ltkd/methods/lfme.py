"""LFME: learning from multiple experts (Xiang et al. 2020)."""

import torch
import torch.nn.functional as F

from .. import losses
from ..errors import ConfigError
from ..groups import ClassGroups
from .base import Method, Option, TeacherSpec

EXPERT_BATCH = {"many": 1.0, "medium": 0.5, "few": 0.25}  # of the student's: fewer images, smaller batches


class LFME(Method):
    """Learning from multiple experts (Xiang et al. 2020): one a group of classes, each silent once it is matched."""

    needs = "logits"
    streams = {"main": "class-aware"}
    settings = {"held_out": 0.1}
    temperature = Option(2.0, "divides the logits of experts and student before the softmax", above=True)
    silence_from = Option(0.3, "share of an expert's accuracy at which its weight begins to fall", high=1.0, below=True)
    curriculum = Option("loss", "what the ease of an image multiplies", choices=("loss", "logits"))

    def __init__(self, task, **options):
        super().__init__(task, **options)
        by_group = _classes_of_experts(task.class_counts)
        self.experts = tuple(by_group)
        for name, classes in by_group.items():
            self.register_buffer(f"classes_{name}", classes)
        self.register_buffer("expert_weights", torch.ones(len(self.experts)))
        self.register_buffer("expert_accuracies", torch.ones(len(self.experts)))
        self.register_buffer("ease", torch.ones(task.train_images))

    def _classes(self):
        return {name: getattr(self, f"classes_{name}") for name in self.experts}

    @classmethod
    def teachers(cls, class_counts=None):
        if class_counts is None:
            return {}
        return {
            name: TeacherSpec(tuple(classes.tolist()), EXPERT_BATCH[name], {"lr_schedule": "cosine"})
            for name, classes in _classes_of_experts(class_counts).items()
        }

    def begin(self, student, teachers, training, held_out):
        """How easy each image is to its expert, and how good each expert is on the images held out."""
        images = self.task.class_counts.float()
        rarest = min(images[classes].mean() for classes in self._classes().values())
        for g, (name, classes) in enumerate(self._classes().items()):
            probabilities = training(teachers[name]).softmax(1)
            floor = rarest / images[classes].mean()
            for own, c in enumerate(classes.tolist()):
                at = (training.labels == c).to(self.ease.device)
                self.ease[at] = floor + (1 - floor) * _between_extremes(probabilities[at, own])
            answers, labels = held_out(teachers[name]), held_out.labels.to(classes.device)
            self.expert_accuracies[g] = _mean_class_accuracy(classes[answers.argmax(1)], labels, classes)

    def end_epoch(self, student, held_out):
        """An expert's weight falls to nothing as the student reaches its accuracy (self-paced expert selection)."""
        answers = held_out(student).argmax(1)
        labels = held_out.labels.to(answers.device)
        own = torch.stack([_mean_class_accuracy(answers, labels, classes) for classes in self._classes().values()])
        self.expert_weights.copy_(self.weight(own / self.expert_accuracies.clamp_min(1e-6)))

    def weight(self, ratio):
        """The weight of an expert by the student's accuracy over its own."""
        falling = ((1 - ratio) / (1 - self.silence_from)).clamp_min(0)
        return torch.where(ratio < self.silence_from, torch.ones_like(ratio), falling)

    def forward(self, step):
        ease = self.ease[step.indices]
        ease = ease + (1 - ease) * step.epoch / (self.task.epochs / 2)
        logits, per_image = step.logits, 1.0
        if self.curriculum == "logits":
            logits = ease[:, None] * logits
        else:
            per_image = ease.clamp(max=1)
        terms = {"ce": (per_image * F.cross_entropy(logits, step.labels, reduction="none")).mean()}
        for g, (name, classes) in enumerate(self._classes().items()):
            term = losses.expert_kd(logits, step.teachers[name].logits, classes, temperature=self.temperature)
            terms[name] = self.expert_weights[g] * term
        return terms


def _classes_of_experts(class_counts):
    """The classes of each expert: {name of a group: LongTensor}. Raises ConfigError where there would be no expert."""
    shots = ClassGroups.by_shots(class_counts.cpu())
    by_group = {name: (shots.index == g).nonzero().squeeze(1) for g, name in enumerate(shots.names)}
    # In a group of one class there is nothing to learn.
    found = {name: classes for name, classes in by_group.items() if len(classes) > 1}
    if not found:
        raise ConfigError(
            f"method 'lfme' needs two classes in one group to train an expert on, but each of these is alone in "
            f"its group: {', '.join(shots.names)}; choose another method"
        )
    return found


def _between_extremes(values):
    """0 for the smallest, 1 for the largest; all 1 where they are equal."""
    span = values.max() - values.min()
    return torch.where(span > 0, (values - values.min()) / span.clamp_min(1e-12), torch.ones_like(values))


def _mean_class_accuracy(answers, labels, classes):
    """Mean over these classes of the share of right answers; classes without an image are left out."""
    shares = [(answers[labels == c] == c).float().mean() for c in classes.tolist()]
    return torch.stack(shares).nanmean().nan_to_num(0.0)
