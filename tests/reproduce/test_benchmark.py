"""The benchmark runs, and its table shows all that it measured. No test depends on the speed of the machine."""

import json

import pytest

from ltkd.__main__ import main
from ltkd.reproduce.benchmark import LOSS_CLASSES, report

pytestmark = pytest.mark.slow

SMALL = ["--teacher", "resnet8x0.5", "--student", "resnet8x0.5", "--images", "192", "--rounds", "1", "--workers", "1"]


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_table_shows_every_loop_and_every_loss(tmp_path, capsys, jobs):
    stored = tmp_path / "figures.json"
    assert main(["benchmark", "--quick", *SMALL, "--jobs", str(jobs), "--device", "cpu", "--json", str(stored)]) == 0
    result, out = json.loads(stored.read_text()), capsys.readouterr().out
    assert out.strip() == report(result)
    rows = ["plain loop", "teacher computed at every step", "teacher cached, first epoch", "teacher cached"]
    assert list(result["rows"]) == rows + ["teacher cached, 2 students side by side"] * (jobs - 1)
    assert all(rate > 0 for rates in result["rows"].values() for rate in rates)
    assert set(result["losses"]) == {str(n) for n in LOSS_CLASSES}
    assert all(set(times) == {"kd", "ltkd"} for times in result["losses"].values())
    for part in (*result["rows"], "times plain", "8142 classes", "memory at the peak"):
        assert part in out
