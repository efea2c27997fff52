"""A check of a device fails where a run differs or should have been possible, and only there."""

import numpy as np
import pytest
import torch

from ltkd import ConfigError, DataError
from ltkd.reproduce import device_check
from ltkd.reproduce.device_check import check_device

CPU, GPU = torch.device("cpu"), torch.device("cuda")


class Trained:
    """Stands for a finished run with these losses."""

    def __init__(self, loss):
        self.history = {"loss": self}
        self.loss = loss

    def to_numpy(self):
        return np.array([self.loss, self.loss])

    def model(self):
        return torch.nn.Identity()


def checked(monkeypatch, device, outcome):
    """The checks on digits where the compiled run ends in `outcome`, a loss or an error; all other losses are 1."""

    def fit(config, *, compile=False, **_where):
        if compile and isinstance(outcome, Exception):
            raise outcome
        return Trained(outcome if compile else 1.0)

    monkeypatch.setattr(device_check, "fit", fit)
    monkeypatch.setattr(device_check, "SETTINGS", {"digits": {"recipe": "digits"}})
    return {check.how: check for check in check_device(device, report=lambda line: None)}


@pytest.mark.parametrize(
    ("device", "outcome", "failed"),
    [
        (CPU, 1.005, False),
        (CPU, 1.02, True),
        (CPU, float("nan"), True),
        (CPU, ConfigError("no compiler"), False),
        (CPU, RuntimeError("of the compiler"), True),
        (GPU, 1.005, False),
        (GPU, ConfigError("no compiler"), True),
        (GPU, RuntimeError("of the compiler"), True),
    ],
)
def test_a_compiled_run_fails_where_it_should(monkeypatch, device, outcome, failed):
    checks = checked(monkeypatch, device, outcome)
    assert checks["compiled"].failed == failed
    assert not checks["bf16"].failed
    assert "FAILED" in device_check.line(checks["compiled"]) or not failed
    assert ("bf16 compiled" in checks) == (device == GPU)


def test_data_that_are_not_there_are_no_failure(monkeypatch):
    def fit(config, **_where):
        raise DataError("not there")

    monkeypatch.setattr(device_check, "fit", fit)
    assert not any(check.failed for check in check_device(CPU, report=lambda line: None))
