"""Many runs: one by one or side by side, the same; a failure or Ctrl-C costs nothing of the others."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers import digits_config, hears_ctrl_c

from ltkd import ConfigError, Method
from ltkd.methods import METHODS
from ltkd.sweep import expand, stages, sweep


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LTKD_CACHE", str(tmp_path / "cache"))


def test_runs_side_by_side_are_the_runs_one_by_one(tmp_path):
    grid = {**digits_config().to_dict(), "method": ["kd", "crt"], "seed": [0, 1]}
    wanted = ("epochs", "teacher", "student", "imbalance_factor", "batch_size", "lr", "method", "seed")
    configs = expand({name: grid[name] for name in wanted})
    where = {"device": "cpu", "progress": False, "report": lambda line: None}
    (alone, _), (together, failed) = (sweep(configs, jobs=jobs, runs=tmp_path / str(jobs), **where) for jobs in (1, 2))
    assert failed == {}
    by_name = {run.config.name: run for run in together}
    assert set(by_name) == {run.config.name for run in alone}
    for each in alone:
        assert np.array_equal(by_name[each.config.name].logits, each.logits)


def test_a_run_that_fails_side_by_side_does_not_stop_the_others(tmp_path):
    good, bad = digits_config(method="ce", epochs=1), digits_config(method="ce", epochs=1, lr=1e30)
    finished, failed = sweep([bad, good], jobs=2, runs=tmp_path, device="cpu", progress=False, report=lambda line: None)
    assert [run.config.id for run in finished] == [good.id]
    assert "diverged" in str(failed[bad.name])


def test_what_runs_build_on_is_trained_once_and_before_them():
    configs = expand({"method": ["kd", "ltkd", "bkd+crt", "lfme"], "seed": [0]})
    names = [[config.method for config in stage] for stage in stages(configs)]
    assert sorted(names[0]) == ["ce", "lfme"]
    assert sorted(names[1]) == ["bkd", "kd", "ltkd"]
    assert names[2] == ["bkd+crt"]


def test_a_method_of_ones_own_is_not_for_other_processes(tmp_path, monkeypatch):
    class Own(Method):
        """A method."""

        def forward(self, step):
            return {"ce": step.logits.mean()}

    monkeypatch.setitem(METHODS, "own", Own)
    with pytest.raises(ConfigError, match="jobs=1"):
        sweep([digits_config(method="own")], jobs=2, runs=tmp_path)


def test_no_runs_are_none_whatever_the_jobs(tmp_path):
    assert [sweep([], jobs=jobs, runs=tmp_path) for jobs in (1, 2)] == [([], {})] * 2


def test_ctrl_c_side_by_side_begins_no_further_run(tmp_path):
    script = (
        "import sys; from ltkd.__main__ import main; "
        "sys.exit(main(['sweep', '--method', 'ce', '--seed', *map(str, range(8)), '--epochs', '1000', '--jobs', '2', "
        "'--quiet', '--runs', sys.argv[1]])) if __name__ == '__main__' else None"
    )
    (tmp_path / "script.py").write_text(script)
    command = [sys.executable, tmp_path / "script.py", tmp_path / "runs"]
    child = subprocess.Popen(command, start_new_session=True, preexec_fn=hears_ctrl_c)
    started = time.monotonic()
    while len([*tmp_path.glob("runs/*/config.json")]) < 2 and time.monotonic() - started < 120:
        time.sleep(0.1)
    time.sleep(3)  # an epoch or more
    os.killpg(child.pid, signal.SIGINT)
    assert child.wait(60) == 130
    assert len([*tmp_path.glob("runs/*/config.json")]) == 2
    assert len([*tmp_path.glob("runs/*/checkpoint.pt")]) == 2
