"""OLTR: a memory of class centres that enriches what an image shows (Liu et al. 2019)."""

import torch
import torch.nn.functional as F
from torch import nn

from ..models import classifier, features_of, last_map_of
from .base import Method, Option
from .distillation import CrossEntropy

REACH = 10.0  # scales the distance to the nearest centre
COSINE_SCALE = 16.0


class ModulatedAttention(nn.Module):
    """Adds to each pixel what it finds at similar pixels, as far as a spatial softmax lets it: (B, c, h, w) -> same.

    It starts as the identity.
    """

    def __init__(self, channels, height, width):
        super().__init__()
        half = max(1, channels // 2)
        self.theta, self.phi, self.g = (nn.Conv2d(channels, half, 1) for _ in range(3))
        for conv in (self.theta, self.phi, self.g):
            nn.init.kaiming_normal_(conv.weight)
            nn.init.zeros_(conv.bias)
        self.back = nn.Conv2d(half, channels, 1, bias=False)
        nn.init.zeros_(self.back.weight)
        self.spatial = nn.Linear(channels * height * width, height * width)

    def forward(self, x):
        theta, phi, g = (conv(x).flatten(2) for conv in (self.theta, self.phi, self.g))
        attention = (theta.transpose(1, 2) @ phi).softmax(2)
        found = self.back((g @ attention.transpose(1, 2)).unflatten(2, x.shape[2:]))
        where = self.spatial(x.flatten(1)).softmax(1).view(len(x), 1, *x.shape[2:])
        return x + where * found


class MemoryNetwork(nn.Module):
    """A network, modulated attention on its last map, and a cosine classifier of what it shows plus what the memory
    adds."""

    def __init__(self, network, last_map, num_classes):
        super().__init__()
        width = last_map.shape[1]
        first = classifier(network, bias=True)
        self.network = network
        self.attention = ModulatedAttention(*last_map.shape[1:])
        self.describer = nn.Linear(width, width)
        self.memory = nn.Parameter(torch.zeros(num_classes, width))
        self.hallucinator = nn.Linear(width, num_classes)
        self.hallucinator.load_state_dict(first.state_dict())
        self.selector = nn.Linear(width, width)
        self.weight = nn.Parameter(torch.empty(num_classes, width).uniform_(-(width**-0.5), width**-0.5))
        network.fc = nn.Identity()

    def describe(self, images):
        """What an image shows, before the memory: (B, D)."""
        last_map = last_map_of(features_of(self.network, images))
        return F.relu(self.describer(self.attention(last_map).mean((2, 3))))

    def classify(self, shown):
        """Logits from what images show (B, D), between -16 and 16."""
        memory = self.memory.detach()  # the classifier reads it; only the centroid terms move it
        recalled = self.hallucinator(shown).softmax(1) @ memory
        reach = REACH / torch.cdist(shown, memory).amin(1, keepdim=True).clamp_min(1e-4)
        mixed = reach * (shown + self.selector(shown).tanh() * recalled)
        length = mixed.norm(dim=1, keepdim=True).clamp_min(1e-8)
        return COSINE_SCALE * F.linear(mixed / (1 + length), F.normalize(self.weight))

    def forward(self, images):
        return self.classify(self.describe(images))


class OLTR(Method):
    """Open long-tailed recognition (Liu et al. 2019): cross-entropy first, then attention and a memory of centres."""

    parent = CrossEntropy
    streams = {"main": "class-aware"}
    second_stage = Option(2.0, "epochs of the second stage, as a multiple of --epochs", above=True)
    centroid_weight = Option(0.01, "weight of the terms that draw images to their class's centre")
    repel_weight = Option(0.01, "weight, within them, of the distance to other centres")
    margin = Option(10.0, "mean squared distance to other centres that is enough")
    memory_rule = Option(
        "published",
        "how centres move: by the published code's own rule, or by the loss's gradient",
        choices=("published", "gradient"),
    )

    def schedule(self, schedule):
        epochs = max(1, round(self.second_stage * schedule.epochs))
        return schedule._replace(kind="steps", epochs=epochs, warmup=0.0, milestones=(1 / 3, 2 / 3), decay=0.1)

    def wrap(self, student):
        return MemoryNetwork(student, last_map_of(self.probe(student)), len(self.task.class_counts))

    def parameter_groups(self, student):
        head = [*student.hallucinator.parameters(), *student.selector.parameters(), student.weight]
        in_head = {id(p) for p in [*head, student.memory]}
        body = [p for p in student.parameters() if id(p) not in in_head]
        return [
            {"params": body, "lr_scale": 0.1},
            {"params": head},
            {"params": [student.memory], "lr_scale": 0.1},
        ]

    def begin(self, student, teachers, training, held_out):
        """The memory starts as the mean of what each class's images show."""
        shown = training(student.describe)
        labels = training.labels.to(shown.device)
        sums = torch.zeros_like(student.memory).index_add_(0, labels, shown)
        counts = torch.bincount(labels, minlength=len(sums)).clamp_min(1)
        with torch.no_grad():
            student.memory.copy_(sums / counts[:, None])

    def forward(self, step):
        shown, memory = step.student.describe(step.images), step.student.memory
        step.logits = step.student.classify(shown)
        published = self.memory_rule == "published"
        attract = self.centroid_weight * attraction(shown, memory.detach() if published else memory, step.labels)
        repel = self.centroid_weight * self.repel_weight * repulsion(shown, memory, step.labels, self.margin)
        if published:
            attract = attract + memory_pull(shown.detach(), memory, step.labels)
        return {"ce": F.cross_entropy(step.logits, step.labels), "attract": attract, "repel": repel}


def attraction(shown, memory, labels):
    """Half the mean squared distance of what images show (B, D) to their class's centre: scalar. memory (C, D)."""
    return (shown - memory[labels]).square().sum() / (2 * len(shown))


def repulsion(shown, memory, labels, margin):
    """What the mean squared distance to the other classes' centres lacks of the margin: scalar."""
    squared = torch.cdist(shown, memory).square()
    others = squared.sum() - squared.gather(1, labels[:, None]).sum()
    return F.relu(margin - others / squared.numel())


def memory_pull(shown, memory, labels):
    """A term of value zero whose gradient is the published code's own rule for the centres: the sum over a class's
    images of (centre - image), over 1 + their number, over the batch; not scaled by the weight of the loss."""
    images = (labels[:, None] == labels).sum(1)  # of one's class; bincount would have a GPU's host wait for it
    pull = ((shown - memory[labels]).square().sum(1) / (1 + images)).sum() / (2 * len(shown))
    return pull - pull.detach()
