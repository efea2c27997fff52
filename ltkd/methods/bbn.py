"""BBN: two branches, one on the data as they are, one on a reversed sample (Zhou et al. 2020)."""

import copy

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import ConfigError
from ..models import classifier, initialise
from .base import Method


class TwoBranches(nn.Module):
    """A network whose last block is doubled, and whose classifier reads both branches.

    In the test an image goes through both. `mixed` weighs the branches for two batches.
    """

    def __init__(self, network, num_classes):
        super().__init__()
        self.network, self.second_block = network, copy.deepcopy(network.last_block)
        initialise(self.second_block, torch.default_generator)  # weights of its own, as in the published code
        self.fc = nn.Linear(2 * classifier(network).in_features, num_classes)
        network.fc = nn.Identity()

    def forward(self, images):
        shared = self.network.trunk(images)
        return self.fc(torch.cat([self.network.finish(shared), self.network.finish(shared, self.second_block)], 1))

    def mixed(self, images, reversed_images, share):
        """Logits of the pairs of images: 2 [share * first branch, (1 - share) * second] through the classifier."""
        first = self.network.finish(self.network.trunk(images))
        second = self.network.finish(self.network.trunk(reversed_images), self.second_block)
        return self.fc(2 * torch.cat([share * first, (1 - share) * second], 1))


class BBN(Method):
    """Bilateral-branch network (Zhou et al. 2020): from the data as they are to a reversed sample, along the epochs."""

    streams = {"main": "instance", "reversed": "reversed"}

    def wrap(self, student):
        if not hasattr(student, "finish"):
            raise ConfigError(
                f"method 'bbn' doubles the last block of a network, and {type(student).__name__} shows none: it needs "
                f"`trunk`, `finish` and `last_block`, as StagedNetwork has them"
            )
        return TwoBranches(student, len(self.task.class_counts))

    def forward(self, step):
        first, second = step.batches["main"], step.batches["reversed"]
        share = 1 - ((step.epoch - 1) / self.task.epochs) ** 2
        step.logits = step.student.mixed(first.images, second.images, share)
        return {
            "conventional": share * F.cross_entropy(step.logits, first.labels),
            "rebalancing": (1 - share) * F.cross_entropy(step.logits, second.labels),
        }
