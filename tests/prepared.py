"""Methods as training meets them, but on networks that learned nothing: in milliseconds, and without a folder."""

from dataclasses import dataclass, replace

import pandas as pd
import torch
from helpers import random_dataset

from ltkd import RunConfig, models
from ltkd._support.seeding import derived_seed
from ltkd.datasets import LongTailedDataset
from ltkd.training.fit import train_epoch
from ltkd.training.history import ProgressBar
from ltkd.training.setup import prepare, shape_of

COUNTS = (110, 105, 60, 25, 12, 6, 4)  # two classes of many images, two of a medium number, three of few
SETTINGS = {"teacher": "resnet8", "student": "resnet8x0.5", "imbalance_factor": 1, "epochs": 8, "batch_size": 32}


def seven_classes(counts=COUNTS):
    """Random 8 x 8 images of seven classes."""
    return replace(random_dataset(counts, test_counts=(3,) * 7), class_names=tuple("abcdefg"))


@dataclass
class Untrained:
    """Stands for the run that was to train a teacher, or the student first."""

    config: RunConfig
    data: LongTailedDataset
    class_counts = COUNTS
    result = {"last": {"all": 50.0}}
    history = pd.DataFrame([{"train_all": 50.0}])

    def model(self, network=None):
        if network is not None:
            return network
        shape = shape_of(self.data) | ({"num_classes": len(self.config.classes)} if self.config.classes else {})
        generator = torch.Generator().manual_seed(derived_seed(self.config.name))
        return models.build(self.config.student, **shape, generator=generator)

    trained = model


def prepared(method, *, data=None, teacher=None, student=None, device="cpu", **settings):
    """The Job of a method. settings: fields of RunConfig and options; teacher, student: networks of one's own."""
    data = data or seven_classes()
    config = RunConfig.make(**SETTINGS | {"method": method} | settings)
    before = {role: Untrained(first, data) for role, first in config.builds_on(data.class_counts).items()}
    where = {"device": torch.device(device), "workers": 0, "cache": "off"}
    job = prepare(config, data, **where, teacher=teacher, student=student, before=before)
    job.method.set_mode(job.student)
    return job


def step_of(job, epoch=3):
    """The first step of an epoch."""
    return next(job.steps(epoch))


def train(job, epochs):
    """Train a job for these epochs."""
    bar = ProgressBar(job.config, len(epochs), len(job.training), 0, show=False)
    for epoch in epochs:
        train_epoch(job, epoch, bar)
    return job


def weights_of(network):
    """A copy of everything that a network holds: parameters, BatchNorm's statistics and other buffers."""
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(first, second):
    """Whether two states are equal bit for bit."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
