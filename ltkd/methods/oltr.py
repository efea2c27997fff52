"""OLTR: features enriched by a memory of class centroids (Liu et al. 2019)."""

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models import classifier, features_of, last_map_of
from .base import Method, Option, Scan, Step
from .distillation import CrossEntropy

if TYPE_CHECKING:
    from ..config.schedule import Schedule

REACHABILITY = 10.0  # divided by the distance to the nearest centroid
COSINE_SCALE = 16.0


class ModulatedAttention(nn.Module):
    """Non-local attention weighted by a spatial softmax, added to the map (Liu et al. 2019). It starts as the identity.

    channels, height, width: of the map.
    """

    def __init__(self, channels: int, height: int, width: int) -> None:
        super().__init__()
        half = max(1, channels // 2)
        self.theta, self.phi, self.g = (nn.Conv2d(channels, half, 1) for _ in range(3))
        for conv in (self.theta, self.phi, self.g):
            nn.init.kaiming_normal_(conv.weight)
            nn.init.zeros_(conv.get_parameter("bias"))
        self.back = nn.Conv2d(half, channels, 1, bias=False)
        nn.init.zeros_(self.back.weight)
        self.spatial = nn.Linear(channels * height * width, height * width)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, channels, height, width) -> the same shape."""
        theta, phi, g = (conv(x).flatten(2) for conv in (self.theta, self.phi, self.g))
        attention = (theta.transpose(1, 2) @ phi).softmax(2)
        found = self.back((g @ attention.transpose(1, 2)).unflatten(2, x.shape[2:]))
        where = self.spatial(x.flatten(1)).softmax(1).view(len(x), 1, *x.shape[2:])
        return x + where * found


class MemoryNetwork(nn.Module):
    """A network with modulated attention on its last map, a memory of class centroids and a cosine classifier.

    last_map: (B, D, h, w), an example of the network's last map. width: of the direct features; 0: D. With another
    width than D the hallucinator cannot start as the network's classifier. Raises ConfigError if the network has no
    nn.Linear with a bias called fc.
    """

    def __init__(self, network: nn.Module, last_map: Tensor, num_classes: int, width: int = 0) -> None:
        super().__init__()
        channels, *size = last_map.shape[1:]
        width = width or channels
        first = classifier(network, bias=True)
        self.network = network
        self.attention = ModulatedAttention(channels, *size)
        self.describer = nn.Linear(channels, width)
        self.memory = nn.Parameter(torch.zeros(num_classes, width))
        self.hallucinator = nn.Linear(width, num_classes)
        if width == channels:
            self.hallucinator.load_state_dict(first.state_dict())
        self.selector = nn.Linear(width, width)
        self.weight = nn.Parameter(torch.empty(num_classes, width).uniform_(-(width**-0.5), width**-0.5))
        network.fc = nn.Identity()

    def describe(self, images: Tensor) -> Tensor:
        """The direct features (B, width) of images (B, channels, side, side), without the memory."""
        last_map = last_map_of(features_of(self.network, images))
        return F.relu(self.describer(self.attention(last_map).mean((2, 3))))

    def classify(self, direct: Tensor) -> Tensor:
        """Direct features (B, width) -> logits (B, C), between -16 and 16."""
        memory = self.memory.detach()  # only the centroid terms train it
        recalled = self.hallucinator(direct).softmax(1) @ memory
        reach = REACHABILITY / torch.cdist(direct, memory).amin(1, keepdim=True).clamp_min(1e-4)
        mixed = reach * (direct + self.selector(direct).tanh() * recalled)
        length = mixed.norm(dim=1, keepdim=True).clamp_min(1e-8)
        return COSINE_SCALE * F.linear(mixed / (1 + length), F.normalize(self.weight))

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, channels, side, side) -> logits (B, C)."""
        return self.classify(self.describe(images))


class OLTR(Method):
    """Open long-tailed recognition (Liu et al. 2019): cross-entropy first, then attention and a centroid memory."""

    parent: type[Method] = CrossEntropy
    streams = {"main": "class-aware"}
    second_body_lr = Option(
        0.1,
        "learning rate of all layers but the classifier in the second stage, as a multiple of --lr",
        above=True,
    )
    head_lr = Option(1.0, "learning rate of the new classifier in the second stage, as a multiple of --lr", above=True)
    frozen_body = Option(False, "freeze the network in the second stage, but for the attention and the layer after it")
    width = Option(0, "number of direct features; 0: the channels of the last map", low=0)
    second_stage = Option(2.0, "epochs of the second stage, as a multiple of --epochs", above=True, high=100)
    centroid_weight = Option(0.01, "weight of the terms that pull features to the centroid of their class")
    repel_weight = Option(0.01, "weight of the distance to other centroids, relative to centroid_weight")
    margin = Option(10.0, "mean squared distance to other centroids above which they do not repel")
    memory_rule = Option(
        "published",
        "how centroids are updated: by the rule in the published code, or by the gradient of the loss",
        choices=("published", "gradient"),
    )

    def schedule(self, schedule: "Schedule") -> "Schedule":
        """Divides the learning rate by 10 after each third of the second stage's epochs."""
        epochs = max(1, round(self.second_stage * schedule.epochs))
        return schedule._replace(kind="steps", epochs=epochs, warmup=0.0, milestones=(1 / 3, 2 / 3), decay=0.1)

    def wrap(self, student: nn.Module) -> MemoryNetwork:
        """Raises ConfigError if the student returns no last map, or has no nn.Linear with a bias called fc."""
        return MemoryNetwork(student, last_map_of(self.probe(student)), len(self.task.class_counts), self.width)

    def parameter_groups(self, student: MemoryNetwork) -> list[dict[str, Any]]:
        head = [*student.hallucinator.parameters(), *student.selector.parameters(), student.weight]
        excluded = {id(p) for p in [*head, student.memory, *(student.network.parameters() if self.frozen_body else ())]}
        body = [p for p in student.parameters() if id(p) not in excluded]
        return [
            {"params": body, "lr_scale": self.second_body_lr},
            {"params": head, "lr_scale": self.head_lr},
            {"params": [student.memory], "lr_scale": 0.1},
        ]

    def begin(
        self, student: MemoryNetwork, teachers: dict[str, nn.Module], training: Scan, held_out: Scan | None
    ) -> None:
        """Sets the memory to the mean direct features of each class."""
        direct = training(student.describe)
        labels = training.labels.to(direct.device)
        sums = torch.zeros_like(student.memory).index_add_(0, labels, direct)
        counts = torch.bincount(labels, minlength=len(sums)).clamp_min(1)
        with torch.no_grad():
            student.memory.copy_(sums / counts[:, None])

    def forward(self, step: Step) -> dict[str, Tensor]:
        direct, memory = step.student.describe(step.images), step.student.memory
        step.logits = step.student.classify(direct)
        published = self.memory_rule == "published"
        attract = self.centroid_weight * attraction(direct, memory.detach() if published else memory, step.labels)
        repel = self.centroid_weight * self.repel_weight * repulsion(direct, memory, step.labels, self.margin)
        if published:
            attract = attract + memory_pull(direct.detach(), memory, step.labels)
        return {"ce": F.cross_entropy(step.logits, step.labels), "attract": attract, "repel": repel}


def attraction(direct: Tensor, memory: Tensor, labels: Tensor) -> Tensor:
    """Half the mean squared distance of features to the centroid of their class (Liu et al. 2019).

    direct: (B, D). memory: (C, D), the centroids. labels: LongTensor (B,). Returns a 0-dim tensor, as do the next two
    functions, whose arguments have the same shapes.
    """
    return (direct - memory[labels]).square().sum() / (2 * len(direct))


def repulsion(direct: Tensor, memory: Tensor, labels: Tensor, margin: float) -> Tensor:
    """max(0, margin - the mean squared distance of features to the centroids of other classes) (Liu et al. 2019)."""
    squared = torch.cdist(direct, memory).square()
    others = squared.sum() - squared.gather(1, labels[:, None]).sum()
    return F.relu(margin - others / squared.numel())


def memory_pull(direct: Tensor, memory: Tensor, labels: Tensor) -> Tensor:
    """A term of value 0 whose gradient is the centroid update of the published code.

    The gradient of a centroid is the sum of (centroid - features) over the images of its class, divided by 1 + their
    number and by the batch size. The weight of the loss does not scale it.
    """
    images = (labels[:, None] == labels).sum(1)  # per class; unlike this, bincount makes the CPU wait for the GPU
    pull = ((direct - memory[labels]).square().sum(1) / (1 + images)).sum() / (2 * len(direct))
    return pull - pull.detach()
