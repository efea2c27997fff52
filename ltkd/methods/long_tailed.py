"""Long-tailed learning without a teacher: losses that weigh, shift or set margins by the classes' images."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from .. import losses
from ..models import classifier
from .base import Method, Option

DEFERRED = Option(0.8, "fraction of the epochs before which all classes weigh the same", high=1.0, of_time=True)
REDUCTION = Option(
    "weighted",
    "weighted mean over the batch: 'weighted' divides by the sum of the weights, 'mean' by the images",
    choices=("weighted", "mean"),
)


class ClassWeighted(Method):
    """A loss with class weights by the effective number of images."""

    effective_beta = Option(0.9999, "beta of the effective number of images (Cui et al. 2019)", high=1.0, below=True)

    def __init__(self, task, **options):
        super().__init__(task, **options)
        weights = losses.effective_number_weights(task.class_counts.cpu(), beta=self.effective_beta)
        self.register_buffer("class_weights", weights)

    def weights_from(self, fraction, step):
        """The class weights (C,), which come into force after a fraction of the epochs and are all one before."""
        deferred = step.epoch <= math.floor(fraction * self.task.epochs + 1e-6)
        return torch.where(deferred, torch.ones_like(self.class_weights), self.class_weights)


class ClassBalanced(ClassWeighted):
    """Class-balanced cross-entropy (Cui et al. 2019): classes weighted by the effective number of their images."""

    reduction = REDUCTION

    def forward(self, step):
        return {"ce": losses.class_balanced(step.logits, step.labels, self.class_weights, reduction=self.reduction)}


class Focal(Method):
    """Focal loss (Lin et al. 2017) on the softmax: images that are learned well count less."""

    gamma = Option(1.0, "how much less; 0 is cross-entropy")

    def forward(self, step):
        return {"focal": losses.focal(step.logits, step.labels, gamma=self.gamma)}


class ClassBalancedFocal(ClassWeighted):
    """Class-balanced focal loss (Cui et al. 2019), on one sigmoid a class as there, or on the softmax."""

    gamma = Option(1.0, "how much less images that are learned well count; 0 turns it off")
    activation = Option("sigmoid", "what makes probabilities of the logits", choices=("sigmoid", "softmax"))

    def wrap(self, student):
        if self.activation == "sigmoid":  # all classes at probability 1 / C, or the first step would blow up
            head = classifier(student, bias=True)
            nn.init.constant_(head.bias, -torch.tensor(head.out_features - 1.0).log().item())
        return student

    def parameter_groups(self, student):
        if self.activation == "softmax":
            return super().parameter_groups(student)
        bias = classifier(student).bias  # decay would pull it away from there
        rest = [p for p in student.parameters() if p is not bias]
        return [{"params": rest}, {"params": [bias], "weight_decay": 0.0}]

    def forward(self, step):
        loss = {"sigmoid": losses.sigmoid_focal, "softmax": losses.focal}[self.activation]
        return {"focal": loss(step.logits, step.labels, gamma=self.gamma, class_weights=self.class_weights)}


class CosineHead(nn.Module):
    """scale * cosine of the angle between the input and a vector a class: (B, D) -> (B, C)."""

    def __init__(self, in_features, out_features, scale):
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(F.normalize(torch.empty(out_features, in_features).uniform_(-1, 1)))

    def forward(self, x):
        return self.scale * F.linear(F.normalize(x), F.normalize(self.weight))


class LDAM(ClassWeighted):
    """LDAM-DRW (Cao et al. 2019): larger margins for rarer classes, on a cosine head, reweighted late."""

    max_margin = Option(0.5, "margin of the rarest class", above=True)
    scale = Option(30.0, "what the cosines are multiplied by", above=True)
    deferred = DEFERRED

    def __init__(self, task, **options):
        super().__init__(task, **options)
        self.register_buffer("margins", losses.ldam_margins(task.class_counts.cpu(), max_margin=self.max_margin))

    def wrap(self, student):
        head = classifier(student)
        student.fc = CosineHead(head.in_features, head.out_features, self.scale)
        return student

    def forward(self, step):
        weights = self.weights_from(self.deferred, step)
        loss = losses.ldam(step.logits, step.labels, self.margins, scale=self.scale, class_weights=weights)
        return {"ldam": loss}


class AdjustedInTest(nn.Module):
    """A network whose logits are adjusted by the class prior in evaluation mode."""

    def __init__(self, network, class_counts, tau):
        super().__init__()
        self.network, self.tau = network, tau
        self.register_buffer("class_counts", class_counts)

    def forward(self, images):
        logits = self.network(images)
        return logits if self.training else losses.adjust_logits(logits, self.class_counts, tau=self.tau)


class LogitAdjusted(Method):
    """Logit adjustment (Menon et al. 2021): the class prior is added in the loss, or taken off after training."""

    tau = Option(1.0, "how much of the logarithm of the prior")
    post_hoc = Option(False, "train with plain cross-entropy and adjust the logits of the test instead")

    def wrap(self, student):
        return AdjustedInTest(student, self.task.class_counts, self.tau) if self.post_hoc else student

    def forward(self, step):
        if self.post_hoc:
            return {"ce": F.cross_entropy(step.logits, step.labels)}
        return {"ce": losses.logit_adjusted(step.logits, step.labels, self.task.class_counts, tau=self.tau)}


class BalancedSoftmax(Method):
    """Balanced softmax (Ren et al. 2020): the softmax weighs every class by its images."""

    def forward(self, step):
        return {"ce": losses.balanced_softmax(step.logits, step.labels, self.task.class_counts)}
