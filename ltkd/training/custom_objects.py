"""The caller's own teachers, students and data sets: names that identify them in the config."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from .. import datasets
from .._support.fingerprint import network_fingerprint, tensors_fingerprint, unwrapped
from ..config import CUSTOM, RunConfig
from ..errors import ConfigError, shown

# The settings of a data set that is passed as dataset=
AS_IT_IS: dict[str, Any] = {"profile": datasets.AS_IS, "imbalance_factor": 1.0, "image_size": None, "subset_seed": 0}


def with_objects(
    config: RunConfig,
    teacher: nn.Module | None,
    student: nn.Module | None,
    dataset: datasets.LongTailedDataset | None,
) -> RunConfig:
    """The config with names that identify the caller's own objects, and with the present version of a folder. If a
    data set is passed and no recipe was chosen, the recipe is `folder`.

    Raises ConfigError for a config or an object of the wrong type, a teacher that the method does not use, or settings
    that would change `dataset`.
    """
    if not isinstance(config, RunConfig):
        raise ConfigError(f"the config is {shown(config)}: must be a RunConfig, such as RunConfig.make(method='kd')")
    for role, value, kind in (
        ("teacher", teacher, nn.Module),
        ("student", student, nn.Module),
        ("dataset", dataset, datasets.LongTailedDataset),
    ):
        if value is not None and not isinstance(value, kind):
            name = f"; a name belongs in the config: RunConfig.make({role}={shown(value)})"
            raise ConfigError(
                f"{role}= must be your own {kind.__name__}, an object and not its class, got {shown(value)}"
                + (name if isinstance(value, str) else "")
            )
    for role, module in (("teacher", teacher), ("student", student)):
        if module is not None:
            _check_module(role, unwrapped(module))
    config = config if dataset is None else config.for_own_data()
    names: dict[str, Any] = {}
    if teacher is not None:
        if config.teacher is None:
            raise ConfigError(f"method {config.method!r} needs no teacher, but one was given; remove teacher=")
        names["teacher"] = _module_name(teacher)
    if student is not None:
        names["student"] = _module_name(student)
    if dataset is not None:
        label = Path(dataset.name).name
        content = [t for part in (dataset.train, dataset.test, dataset.whole) if part for t in part.identity()]
        names["dataset"] = f"{CUSTOM}{label}-{tensors_fingerprint(content)}"
        _check_as_it_is(config)
        names |= AS_IT_IS
    elif config.of_folder:  # its files may have changed since the config was made
        datasets.check_name(config.dataset)
        names["dataset_version"] = datasets.version(config.dataset)
    return replace(config, **names)  # a new config: its id sees the method's code as it is now


def _check_as_it_is(config: RunConfig) -> None:
    """Raise ConfigError for settings that would change the caller's own data set."""
    for name, value in config.overrides().items():
        if name in AS_IT_IS and value != AS_IT_IS[name]:
            raise ConfigError(
                f"{name} = {value!r} has no effect on dataset=, which is used as it is; remove it, and make the data "
                f"set with it: datasets.load(..., imbalance_factor=, profile=, image_size=, seed=)"
            )


def _check_module(role: str, module: nn.Module) -> None:
    """Raise ConfigError for a module without values, and for one of TorchScript, which cannot be frozen or trained."""
    if isinstance(module, torch.jit.ScriptModule):
        raise ConfigError(f"the {role} is a TorchScript module; pass the module that it was made from")
    for name, value in (*module.named_parameters(), *module.named_buffers()):
        if is_lazy(value):
            raise ConfigError(f"{name} of the {role} has no shape yet; call the {role} on a batch of images first")
        if value.is_meta:
            raise ConfigError(f"{name} of the {role} has no values (device meta); load its weights first")


def _module_name(module: nn.Module) -> str:
    return f"{CUSTOM}{type(unwrapped(module)).__name__}-{network_fingerprint(module)}"
