"""Teachers, students and data sets of the caller's own: names that tell them apart, put into the config."""

from dataclasses import replace
from pathlib import Path

from torch import nn

from .. import datasets
from .._support.fingerprint import network_fingerprint, tensors_fingerprint
from ..config import CUSTOM
from ..errors import ConfigError

AS_IT_IS = {"profile": datasets.AS_IS, "imbalance_factor": 1.0, "image_size": None, "subset_seed": 0}  # of dataset=


def with_objects(config, teacher, student, dataset):
    """The config with names that identify the objects that the caller hands over, and a folder as it is now."""
    for role, value, kind in (
        ("teacher", teacher, nn.Module),
        ("student", student, nn.Module),
        ("dataset", dataset, datasets.LongTailedDataset),
    ):
        _check_kind(role, value, kind)
    names = {}
    if teacher is not None:
        if config.teacher is None:
            raise ConfigError(f"method {config.method!r} needs no teacher, but one was given; leave teacher= out")
        names["teacher"] = _module_name(teacher)
    if student is not None:
        names["student"] = _module_name(student)
    if dataset is not None:
        label = Path(dataset.name).name
        content = [t for part in (dataset.train, dataset.test, dataset.whole) if part for t in part.identity()]
        names["dataset"] = f"{CUSTOM}{label}-{tensors_fingerprint(content)}"
        _check_as_it_is(config)
        names |= AS_IT_IS
    elif config.of_folder:  # which may have changed since the config was made
        datasets.check_name(config.dataset)
        names["dataset_version"] = datasets.version(config.dataset)
    return replace(config, **names)  # a new config: its id sees the method's code as it is now


def _check_as_it_is(config):
    """Raise where the caller asks to shape a data set that is handed over."""
    for name, value in config.overrides().items():
        if name in AS_IT_IS and value != AS_IT_IS[name]:
            raise ConfigError(
                f"{name} = {value!r} has no effect on dataset=, whose images are taken as they are; leave it out, and "
                f"shape the data set itself: datasets.load(..., imbalance_factor=, profile=, image_size=, seed=)"
            )


def _check_kind(role, value, kind):
    if value is not None and not isinstance(value, kind):
        raise ConfigError(
            f"{role}= takes a {kind.__name__} of your own, got {value!r}; a name goes into the config: "
            f"RunConfig.make({role}={value!r})"
        )


def _module_name(module):
    return f"{CUSTOM}{type(module).__name__}-{network_fingerprint(module)}"
