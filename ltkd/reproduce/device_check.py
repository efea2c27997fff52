"""Does training on this device give what it should: compiled and bf16 runs beside eager fp32 ones, on short runs."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from ..config import RunConfig
from ..errors import ConfigError, DataError
from ..training.fit import fit

# The same data, weights and batches: the losses of the first epochs differ by rounding alone, which grows with time.
TOLERANCES = {"compiled": 0.01, "bf16": 0.05, "bf16 compiled": 0.05, "cpu": 0.01}
SHORT = {"epochs": 2, "teacher_epochs": 2, "method": "ltkd", "warmup": 0.0, "test_every": 1}
SETTINGS = {
    "digits": {"recipe": "digits"},
    "CIFAR-100-LT": {"recipe": "cifar-crd", "teacher": "resnet20", "student": "resnet8"},
}


class Check(NamedTuple):
    """One run beside the eager fp32 run on the same data.

    difference: the largest relative difference of the loss over the epochs; allowed: its bound. problem: why there is
    no such run, in words, else None.
    """

    data: str
    how: str
    difference: float | None
    allowed: float
    problem: str | None

    @property
    def failed(self) -> bool:
        """True if the run was made and differs by more than is allowed."""
        return self.difference is not None and not self.difference <= self.allowed


def check_device(
    device: torch.device, data_root: str | Path | None = None, report: Callable[[str], object] = print
) -> list[Check]:
    """Train short runs on the device, each way beside the plain one: `report` is called with a line a run."""
    found = []
    for data, settings in SETTINGS.items():
        with tempfile.TemporaryDirectory() as folder:
            for check in _checks(data, settings, device, data_root, Path(folder)):
                found.append(check)
                report(line(check))
    return found


def _checks(data, settings, device, data_root, folder):
    where = {"data_root": data_root, "progress": False}
    plain = RunConfig.make(**SHORT | settings)
    try:
        teacher = fit(plain.for_teacher(), runs=folder, device=device, **where).model()
    except DataError as error:
        yield Check(data, "eager", None, 0.0, str(error))
        return

    def losses(how, device, precision="fp32", compile=False):
        config = RunConfig.make(**SHORT | settings, precision=precision)
        run = fit(config, runs=folder / how, teacher=teacher, device=device, compile=compile, **where)
        return run.history["loss"].to_numpy()

    expected = losses("eager", device)
    for how, given in _ways(device).items():
        try:
            found = losses(how, **{"device": device} | given)
        except ConfigError as error:
            yield Check(data, how, None, TOLERANCES[how], str(error))
            continue
        yield Check(data, how, float(abs(found / expected - 1).max()), TOLERANCES[how], None)


def _ways(device):
    ways = {"compiled": {"compile": True}, "bf16": {"precision": "bf16"}}
    if device.type == "cpu":
        return ways
    return ways | {"bf16 compiled": {"compile": True, "precision": "bf16"}, "cpu": {"device": "cpu"}}


def line(check: Check) -> str:
    """A check in words."""
    name = f"{check.data}, {check.how} beside eager fp32"
    if check.problem is not None:
        return f"{name}: not checked: {check.problem}"
    verdict = "FAILED" if check.failed else "ok"
    return f"{name}: the loss differs by {check.difference:.2%} at most ({check.allowed:.0%} allowed): {verdict}"
