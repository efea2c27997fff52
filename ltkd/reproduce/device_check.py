"""A check of training on a device: short compiled and bf16 runs beside eager fp32 runs."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ..config import RunConfig
from ..errors import ConfigError, DataError
from ..training.fit import fit

# Data, weights and batches are the same: the losses of the first epochs differ by rounding only, which grows with time.
TOLERANCES = {"compiled": 0.01, "bf16": 0.05, "bf16 compiled": 0.05, "cpu": 0.01}
SHORT: dict[str, Any] = {"epochs": 2, "teacher_epochs": 2, "method": "ltkd", "warmup": 0.0, "test_every": 1}
SETTINGS: dict[str, dict[str, Any]] = {
    "digits": {"recipe": "digits"},
    "CIFAR-100-LT": {"recipe": "cifar-crd", "teacher": "resnet20", "student": "resnet8"},
}


class Check(NamedTuple):
    """One run beside the eager fp32 run on the same data.

    difference: the largest relative difference of the loss over the epochs, None without a run. allowed: its bound.
    problem: why there is no run, else None. failed: True if the run differs by more, or should have been possible.
    """

    data: str
    how: str
    difference: float | None
    allowed: float
    problem: str | None
    failed: bool


def check_device(
    device: torch.device, data_root: str | Path | None = None, report: Callable[[str], object] = print
) -> list[Check]:
    """Train short runs on the device in every way, beside the eager fp32 run.

    data_root: the folder of the data sets, as in `fit`. report: called with one line for each run.
    """
    found = []
    for data, settings in SETTINGS.items():
        with tempfile.TemporaryDirectory() as folder:
            for check in _checks(data, settings, device, data_root, Path(folder)):
                found.append(check)
                report(line(check))
    return found


def _checks(
    data: str, settings: dict[str, Any], device: torch.device, data_root: str | Path | None, folder: Path
) -> Iterator[Check]:
    where: dict[str, Any] = {"data_root": data_root, "progress": False}
    plain = RunConfig.make(**SHORT | settings)
    try:
        teacher = fit(plain.for_teacher(), runs=folder, device=device, **where).model()
    except DataError as error:
        yield Check(data, "eager", None, 0.0, str(error), failed=False)
        return

    def losses(how: str, device: torch.device | str, precision: str = "fp32", compile: bool = False) -> np.ndarray:
        config = RunConfig.make(**SHORT | settings, precision=precision)
        run = fit(config, runs=folder / how, teacher=teacher, device=device, compile=compile, **where)
        return run.history["loss"].to_numpy()

    expected = losses("eager", device)
    for how, given in _ways(device).items():
        try:
            found = losses(how, **{"device": device} | given)
        except Exception as error:  # the compiler raises many types of errors
            missing = device.type == "cpu" and isinstance(error, ConfigError)  # a machine may have no compiler
            why = f"{type(error).__name__}: {error}".splitlines()[0]
            yield Check(data, how, None, TOLERANCES[how], why, failed=not missing)
            continue
        difference = float(abs(found / expected - 1).max())
        yield Check(data, how, difference, TOLERANCES[how], None, failed=not difference <= TOLERANCES[how])


def _ways(device: torch.device) -> dict[str, dict[str, Any]]:
    """The ways of training: {name: arguments of `losses`}."""
    ways: dict[str, dict[str, Any]] = {"compiled": {"compile": True}, "bf16": {"precision": "bf16"}}
    if device.type == "cpu":
        return ways
    return ways | {"bf16 compiled": {"compile": True, "precision": "bf16"}, "cpu": {"device": "cpu"}}


def line(check: Check) -> str:
    """A check as one line of text."""
    name = f"{check.data}, {check.how} beside eager fp32"
    verdict = "FAILED" if check.failed else "ok"
    if check.problem is not None:
        return f"{name}: {verdict if check.failed else 'not checked'}: {check.problem}"
    return f"{name}: the loss differs by {check.difference:.2%} at most ({check.allowed:.0%} allowed): {verdict}"
