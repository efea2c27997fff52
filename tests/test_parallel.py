"""A run on two processes is the run on one."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import PROJECT, digits_config

from ltkd import Run, evaluation, fit, parallel

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


def run_on(processes, method, folder, cache="memory"):
    """The run of the script on so many processes."""
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    (folder / "script.py").write_text(SCRIPT)
    environment = os.environ | {"PYTHONPATH": f"{PROJECT / 'tests'}{os.pathsep}{PROJECT}"}
    done = subprocess.run(
        [*command, folder / "script.py", method, folder / "runs", cache],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    (stored,) = (folder / "runs").iterdir()
    return Run.load(stored)


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
    assert evaluation.bias_slope(two.logits, two.class_counts) == pytest.approx(
        evaluation.bias_slope(one.logits, one.class_counts), abs=1e-4
    )


def test_alone_a_process_is_a_group_of_one():
    values = torch.arange(5.0)
    with parallel.group(torch.device("cpu")):
        assert (parallel.world_size(), parallel.is_first(), parallel.weight(values)) == (1, True, 1.0)
        assert parallel.share(values) is values
        assert parallel.total(values) is values


def test_what_a_scheduler_left_in_the_environment_makes_no_group(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert fit(digits_config(method="ce", epochs=1), runs=tmp_path, device="cpu", progress=False).finished
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert parallel.own_device("cuda") == "cuda"
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert (parallel.is_first(), parallel.own_device("cuda")) == (False, "cuda:3")
