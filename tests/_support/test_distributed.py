"""A run on two processes is the run on one."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from helpers import PROJECT, digits_config

from ltkd import Run, fit, metrics
from ltkd._support import distributed

SCRIPT = """
import sys
import torch
from torch import nn
from helpers import digits_config
from ltkd import fit

# No BatchNorm: on a CPU every process would normalise by its own part of the batch.
def network(width, seed):
    layers = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))
    generator = torch.Generator().manual_seed(seed)
    for parameter in layers.parameters():
        nn.init.normal_(parameter, std=0.2, generator=generator)
    return layers

torch.set_num_threads(1)
method, runs, cache = sys.argv[1:]
config = digits_config(method=method, epochs=2, batch_size=60)  # 417 images: the last batch has 57, an uneven number
fit(config, teacher=network(24, 1), student=network(16, 2), runs=runs, cache=cache, device="cpu", progress=False)
"""


def start(processes, *script):
    """A script and what it is given, begun on so many processes."""
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    environment = os.environ | {"PYTHONPATH": f"{PROJECT / 'tests'}{os.pathsep}{PROJECT}"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([*command, *script], text=True, env=environment, **pipes)


def run_on(processes, method, folder, cache="memory"):
    """The run of the script on so many processes."""
    (folder / "script.py").write_text(SCRIPT)
    started = start(processes, folder / "script.py", method, folder / "runs", cache)
    _, errors = started.communicate(timeout=300)
    assert started.returncode == 0, errors
    (stored,) = (folder / "runs").iterdir()
    return Run.load(stored)


@pytest.mark.slow
@pytest.mark.parametrize("cache", ["off", "memory"])
def test_two_processes_with_half_a_batch_each_learn_what_one_learns(tmp_path, cache):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one, two = run_on(1, "ltkd", tmp_path / "one", cache), run_on(2, "ltkd", tmp_path / "two", cache)
    np.testing.assert_allclose(two.logits, one.logits, rtol=1e-4, atol=1e-4)
    columns = [c for c in one.history if c.startswith(("loss", "train_", "cross", "within"))]
    np.testing.assert_allclose(two.history[columns], one.history[columns], rtol=1e-4)
    for column in ("teacher_mass", "rebalanced_mass"):
        for first, second in zip(one.history[column], two.history[column], strict=True):
            np.testing.assert_allclose(np.stack(second), np.stack(first), rtol=1e-4)
    assert metrics.bias_slope(two.logits, two.labels, two.class_counts) == pytest.approx(
        metrics.bias_slope(one.logits, one.labels, one.class_counts), abs=1e-4
    )


WAITS = """
import datetime
import sys
import torch
import torch.distributed as dist
from helpers import digits_config
from ltkd import Run, fit
from ltkd._support import distributed, storage

init = dist.init_process_group
dist.init_process_group = lambda *args, **kwargs: init(*args, timeout=datetime.timedelta(seconds=6), **kwargs)
storage.TURN = 0.5
torch.set_num_threads(1)
if not distributed.is_first():
    Run.finished = property(lambda self: True)  # as where another program finishes it while this process looks
fit(digits_config(method="ce", epochs=1), runs=sys.argv[1], device="cpu", progress=False)
"""


@pytest.mark.slow
def test_processes_wait_together_and_agree_on_what_is_finished(tmp_path):
    (tmp_path / "script.py").write_text(WAITS)
    run = Run.open(digits_config(method="ce", epochs=1), tmp_path)
    with run.claimed():
        started = start(2, tmp_path / "script.py", tmp_path)
        while "waiting for another process" not in (line := started.stderr.readline()):
            assert line, "it did not wait"
        time.sleep(8)  # longer than processes may be silent
        assert not run.finished
    _, errors = started.communicate(timeout=120)
    assert (started.returncode, run.finished) == (0, True), errors


def test_alone_a_process_is_a_group_of_one():
    values = torch.arange(5.0)
    with distributed.group(torch.device("cpu")):
        assert (distributed.world_size(), distributed.is_first(), distributed.weight(values)) == (1, True, 1.0)
        assert distributed.share(values) is values
        assert distributed.total(values) is values


def test_what_a_scheduler_left_in_the_environment_makes_no_group(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert fit(digits_config(method="ce", epochs=1), runs=tmp_path, device="cpu", progress=False).finished
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert distributed.own_device("cuda") == "cuda"
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert (distributed.is_first(), distributed.own_device("cuda")) == (False, "cuda:3")
