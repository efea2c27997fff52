"""Freed memory is kept, so that the next step need not ask the system for it."""

import subprocess
import sys

import pytest

FAULTS = """
import resource
import torch
from ltkd.training.malloc import keep_freed_memory
if {keep} and not keep_freed_memory():
    raise SystemExit(3)
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    maps = [torch.ones(2**20) for _ in range(50)]  # as a network's, which live until its gradients are there
    del maps
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_maps_of_sizes_seen_before_need_no_new_pages():
    pages = {}
    for keep in (False, True):
        answer = subprocess.run([sys.executable, "-c", FAULTS.format(keep=keep)], capture_output=True, text=True)
        if answer.returncode == 3:
            pytest.skip("this C library is not glibc")
        pages[keep] = int(answer.stdout)
    assert pages[True] < pages[False] / 10
