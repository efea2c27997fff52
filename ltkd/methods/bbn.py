"""BBN: a bilateral-branch network, with one branch per sampling of the data (Zhou et al. 2020)."""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError
from ..models import classifier, initialise
from .base import Method, Step


class TwoBranches(nn.Module):
    """A network with two copies of its last block, and a classifier on the features of both.

    network: has `trunk`, `finish` and `last_block`, as StagedNetwork. `forward` is for testing: each image goes through
    both branches. `mixed` is for training.
    """

    def __init__(self, network: Any, num_classes: int) -> None:
        super().__init__()
        self.network, self.second_block = network, copy.deepcopy(network.last_block)
        initialise(self.second_block, torch.default_generator)  # new weights, as in the published code
        self.second_block.train().requires_grad_()  # also if the first block is frozen
        self.fc = nn.Linear(2 * classifier(network).in_features, num_classes)
        network.fc = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, channels, side, side) -> logits (B, C)."""
        shared = self.network.trunk(images)
        return self.fc(torch.cat([self.network.finish(shared), self.network.finish(shared, self.second_block)], 1))

    def mixed(self, images: Tensor, reversed_images: Tensor, share: Tensor | float) -> Tensor:
        """Logits (B, C) of pairs of images, one per branch: fc(2 [share * first, (1 - share) * second]).

        images, reversed_images: (B, channels, side, side). share: weight of the first branch, from 0 to 1.
        """
        first = self.network.finish(self.network.trunk(images))
        second = self.network.finish(self.network.trunk(reversed_images), self.second_block)
        return self.fc(2 * torch.cat([share * first, (1 - share) * second], 1))


class BBN(Method):
    """Bilateral-branch network (Zhou et al. 2020): training shifts from the original data to a reversed sampling."""

    streams = {"main": "instance", "reversed": "reversed"}

    def wrap(self, student: nn.Module) -> TwoBranches:
        """Raises ConfigError if the student does not have the parts of a StagedNetwork."""
        if not hasattr(student, "finish"):
            raise ConfigError(
                f"method 'bbn' needs a network with `trunk`, `finish` and `last_block`, such as a StagedNetwork; "
                f"{type(student).__name__} does not have them: choose another network or method"
            )
        return TwoBranches(student, len(self.task.class_counts))

    def forward(self, step: Step) -> dict[str, Tensor]:
        """The cross-entropy of each branch; its weight depends on the epoch: 1 - ((epoch - 1) / epochs)²."""
        first, second = step.batches["main"], step.batches["reversed"]
        share = 1 - ((step.epoch - 1) / self.task.epochs) ** 2
        step.logits = step.student.mixed(first.images, second.images, share)
        return {
            "conventional": share * F.cross_entropy(step.logits, first.labels),
            "rebalancing": (1 - share) * F.cross_entropy(step.logits, second.labels),
        }
