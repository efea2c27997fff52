"""Long-tailed learning without a teacher: losses with weights, shifts or margins by the images per class."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import losses
from ..models import classifier
from .base import Method, Option, Step, Task

DEFERRED = Option(
    0.8, "first fraction of the epochs, in which all classes have the same weight", high=1.0, of_time=True
)
GAMMA = Option(1.0, "exponent that lowers the weight of well-classified images; 0 has no effect")


class ClassWeighted(Method):
    """A loss with class weights from the effective number of images per class (Cui et al. 2019)."""

    effective_beta = Option(0.9999, "beta of the effective number of images (Cui et al. 2019)", high=1.0, below=True)
    class_weights: Tensor

    def __init__(self, task: Task, **options: Any) -> None:
        super().__init__(task, **options)
        weights = losses.effective_number_weights(task.class_counts.cpu(), beta=self.effective_beta)
        self.register_buffer("class_weights", weights)

    def weights_from(self, fraction: float, step: Step) -> Tensor:
        """The class weights, (C,): all ones in the first `fraction` of the epochs."""
        deferred = step.epoch <= math.floor(fraction * self.task.epochs + 1e-6)
        return torch.where(deferred, torch.ones_like(self.class_weights), self.class_weights)


class ClassBalanced(ClassWeighted):
    """Class-balanced cross-entropy (Cui et al. 2019): classes weighted by the effective number of their images."""

    reduction = Option(
        "weighted",
        "weighted mean over the batch: 'weighted' divides by the sum of the weights, 'mean' by the number of images",
        choices=("weighted", "mean"),
    )

    def forward(self, step: Step) -> dict[str, Tensor]:
        return {"ce": losses.class_balanced(step.logits, step.labels, self.class_weights, reduction=self.reduction)}


class Focal(Method):
    """Focal loss (Lin et al. 2017) on the softmax: well-classified images have less weight."""

    gamma = GAMMA

    def forward(self, step: Step) -> dict[str, Tensor]:
        return {"focal": losses.focal(step.logits, step.labels, gamma=self.gamma)}


class ClassBalancedFocal(ClassWeighted):
    """Class-balanced focal loss (Cui et al. 2019), on one sigmoid per class as in the paper, or on the softmax."""

    gamma = GAMMA
    activation = Option("sigmoid", "function that maps the logits to probabilities", choices=("sigmoid", "softmax"))

    def wrap(self, student: nn.Module) -> nn.Module:
        """Raises ConfigError if a sigmoid needs the bias of a classifier that has none."""
        if self.activation == "sigmoid":  # start at probability 1 / C: from 1 / 2 the first step may diverge
            head = classifier(student, bias=True)
            if head.bias.requires_grad:
                nn.init.constant_(head.bias, -torch.tensor(head.out_features - 1.0).log().item())
        return student

    def parameter_groups(self, student: nn.Module) -> list[dict[str, Any]]:
        if self.activation == "softmax":
            return super().parameter_groups(student)
        bias = classifier(student).bias  # weight decay would move it away from its initial value
        rest = [p for p in student.parameters() if p is not bias]
        return [{"params": rest}, {"params": [bias], "weight_decay": 0.0}]

    def forward(self, step: Step) -> dict[str, Tensor]:
        loss = {"sigmoid": losses.sigmoid_focal, "softmax": losses.focal}[self.activation]
        return {"focal": loss(step.logits, step.labels, gamma=self.gamma, class_weights=self.class_weights)}


class CosineHead(nn.Module):
    """scale * cosine of the angle between the input and one weight vector per class: (B, D) -> (B, C)."""

    def __init__(self, in_features: int, out_features: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(F.normalize(torch.empty(out_features, in_features).uniform_(-1, 1)))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * F.linear(F.normalize(x), F.normalize(self.weight))


class LDAM(ClassWeighted):
    """LDAM-DRW (Cao et al. 2019): larger margins for rarer classes, a cosine head, and late class weights."""

    max_margin = Option(0.5, "margin of the rarest class", above=True)
    scale = Option(30.0, "factor of the cosines", above=True)
    deferred = DEFERRED
    margins: Tensor

    def __init__(self, task: Task, **options: Any) -> None:
        super().__init__(task, **options)
        self.register_buffer("margins", losses.ldam_margins(task.class_counts.cpu(), max_margin=self.max_margin))

    def wrap(self, student: nn.Module) -> nn.Module:
        """Replaces the classifier by a CosineHead. Raises ConfigError if the student has no nn.Linear called fc."""
        head = classifier(student)
        student.fc = CosineHead(head.in_features, head.out_features, self.scale)
        return student

    def forward(self, step: Step) -> dict[str, Tensor]:
        weights = self.weights_from(self.deferred, step)
        loss = losses.ldam(step.logits, step.labels, self.margins, scale=self.scale, class_weights=weights)
        return {"ldam": loss}


class AdjustedInTest(nn.Module):
    """A network that subtracts tau * log prior from its logits in evaluation mode.

    class_counts: (C,), training images per class.
    """

    class_counts: Tensor

    def __init__(self, network: nn.Module, class_counts: Tensor, tau: float) -> None:
        super().__init__()
        self.network, self.tau = network, tau
        self.register_buffer("class_counts", class_counts)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, channels, side, side) -> logits (B, C)."""
        logits = self.network(images)
        return logits if self.training else losses.adjust_logits(logits, self.class_counts, tau=self.tau)


class LogitAdjusted(Method):
    """Logit adjustment (Menon et al. 2021): the class prior is added in the loss, or subtracted in the test."""

    tau = Option(1.0, "factor of the log prior")
    post_hoc = Option(False, "train with plain cross-entropy, and subtract the log prior from the logits in the test")

    def wrap(self, student: nn.Module) -> nn.Module:
        return AdjustedInTest(student, self.task.class_counts, self.tau) if self.post_hoc else student

    def forward(self, step: Step) -> dict[str, Tensor]:
        if self.post_hoc:
            return {"ce": F.cross_entropy(step.logits, step.labels)}
        return {"ce": losses.logit_adjusted(step.logits, step.labels, self.task.class_counts, tau=self.tau)}


class BalancedSoftmax(Method):
    """Balanced softmax (Ren et al. 2020): the softmax weights each class by its training images."""

    def forward(self, step: Step) -> dict[str, Tensor]:
        return {"ce": losses.balanced_softmax(step.logits, step.labels, self.task.class_counts)}
