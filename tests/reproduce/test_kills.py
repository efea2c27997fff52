"""Kills at random moments lose nothing and leave nothing behind: the runs come out bit for bit, no process lives on.

LTKD_KILLS sets the number of kills of each kind (default: 1): `LTKD_KILLS=30 pytest -n0 tests/reproduce/test_kills.py`.
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from helpers import PROJECT, digits_config

from ltkd import Run
from ltkd._support.storage import alone
from ltkd.reproduce.sweep import sweep

KILLS = int(os.environ.get("LTKD_KILLS", 1))
FILES = ("logits.npz", "student.safetensors")
CONFIGS = [digits_config(method=method, epochs=6) for method in ("kd", "ltkd")]
SCRIPT = """
import sys, time
from helpers import digits_config
from ltkd.reproduce.sweep import sweep

def slowly(config, history):  # and with a state after every epoch
    from ltkd.training import fit as training
    training.CHECKPOINT_SECONDS = 0
    time.sleep(0.3)

if __name__ == "__main__":
    configs = [digits_config(method=method, epochs=6) for method in ("kd", "ltkd")]
    how = {"device": "cpu", "progress": False, "callbacks": [slowly], "report": None}
    sweep(configs, runs=sys.argv[1], jobs=int(sys.argv[2]), **how)
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="reads Linux's /proc"),
]


def start(folder, jobs):
    """A sweep in a session of its own, by which its processes are found."""
    script = folder / "script.py"
    script.write_text(SCRIPT)
    environment = os.environ | {
        "LTKD_CACHE": str(folder / "cache"),
        "PYTHONPATH": os.pathsep.join([str(PROJECT / "tests"), os.environ.get("PYTHONPATH", "")]),
    }
    command = [sys.executable, script, folder / "runs", str(jobs)]
    return subprocess.Popen(command, env=environment, start_new_session=True, stderr=subprocess.PIPE, text=True)


def living(session):
    """The numbers of the processes of a session that are there, and not only their exit code."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, own = stat.read_text().rsplit(") ")[-1].split()[:4]
        except OSError:  # it ended
            continue
        if int(own) == session and state != "Z":
            found.append(int(stat.parent.name))
    return found


def wait_until(happened, seconds=60):
    started = time.monotonic()
    while not happened() and time.monotonic() - started < seconds:
        time.sleep(0.05)
    assert happened()


def written(runs):
    """The files of a folder of runs, with the times at which they were written."""
    return {(file, file.stat().st_mtime_ns) for name in ("*.json", "*.pt") for file in runs.glob(f"*/{name}")}


def killed(folder, jobs, whom, moment):
    """Start a sweep and kill the process that was started, one that it started, or all; wait until none is left.

    moment: seconds after the start if they are negative, else after the first file that it writes.
    """
    before, child = written(folder / "runs"), start(folder, jobs)
    if moment > 0:
        wait_until(lambda: child.poll() is not None or written(folder / "runs") - before)
    time.sleep(abs(moment))
    workers = [pid for pid in living(child.pid) if pid != child.pid]
    for pid in {"parent": [child.pid], "worker": workers[-1:], "both": [*workers, child.pid]}[whom]:
        with suppress(ProcessLookupError):  # it has ended by itself
            os.kill(pid, signal.SIGKILL)
    child.communicate(timeout=120)
    wait_until(lambda: not living(child.pid))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The runs, trained without a stop."""
    return sweep(CONFIGS, runs=tmp_path_factory.mktemp("whole"), device="cpu", progress=False, report=None)


@pytest.mark.parametrize(("jobs", "whom"), [(1, "parent"), (2, "parent"), (2, "worker"), (2, "both")])
def test_what_is_killed_goes_on_to_the_same_bytes_and_leaves_no_process(tmp_path, whole, jobs, whom):
    for moment in np.random.default_rng().uniform(-6, 3, size=KILLS):
        killed(tmp_path, jobs, whom, moment)
    last = start(tmp_path, jobs)
    errors = last.communicate(timeout=240)[1]
    assert last.returncode == 0, errors
    for run in whole:
        resumed = Run.open(run.config, tmp_path / "runs")
        for name in FILES:
            assert (resumed.folder / name).read_bytes() == (run.folder / name).read_bytes()
    assert not [*(tmp_path / "cache").glob("teachers-*")]


def test_workers_that_wait_for_a_lock_end_with_the_process_that_started_them(tmp_path):
    teacher = CONFIGS[0].for_teacher()
    with alone(tmp_path / "runs" / teacher.name / ".claim", "waits"):
        child = start(tmp_path, 2)
        assert "waiting for another process that trains" in child.stderr.readline()
        assert len(living(child.pid)) > 1
        child.kill()
        wait_until(lambda: not living(child.pid))
        child.communicate()
