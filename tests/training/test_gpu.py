"""What only a GPU can show: the CPU's numbers within rounding, no wait for the device in the loop, resuming."""

import numpy as np
import pytest
import torch
from helpers import digits_config
from prepared import prepared, train

from ltkd import METHODS, Interrupted, fit
from ltkd.reproduce.device_check import check_device

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]


def run_on(device, folder, **settings):
    how = {name: settings.pop(name) for name in ("cache", "callbacks") if name in settings}
    return fit(digits_config(**{"epochs": 1} | settings), runs=folder / device, device=device, progress=False, **how)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_trains_as_on_the_cpu(tmp_path, method):
    settings = {"held_out": 0.1} if "held_out" in METHODS[method].settings else {}
    on_gpu, on_cpu = (run_on(device, tmp_path, method=method, **settings) for device in ("cuda", "cpu"))
    assert on_gpu.history["loss"][0] == pytest.approx(on_cpu.history["loss"][0], rel=0.05)


@pytest.mark.parametrize("method", [name for name, cls in METHODS.items() if cls.parent is None])
def test_the_loop_never_waits_for_the_gpu(method):
    job = prepared(method, device="cuda")
    train(job, [1])  # what is made at the first step is there
    steps = job.steps(2)
    step = next(steps)
    torch.cuda.set_sync_debug_mode("error")
    try:
        terms = job.loss_terms(step)
        job.optimizer.zero_grad()
        sum(terms.values()).backward()
        job.optimizer.step()
        job.record.add(step, terms)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_the_cache_gives_the_teachers_logits(tmp_path, cache, monkeypatch):
    monkeypatch.setenv("LTKD_CACHE", str(tmp_path / "cache"))
    with_cache, without = (run_on("cuda", tmp_path / c, method="ltkd", cache=c) for c in (cache, "off"))
    assert with_cache.result["teacher_cache"].startswith(cache)
    np.testing.assert_allclose(with_cache.history["loss"], without.history["loss"], rtol=2e-2)


def test_a_run_that_was_stopped_goes_on(tmp_path):
    def stop(config, history):
        if config.method == "ltkd" and len(history) == 1:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        run_on("cuda", tmp_path, method="ltkd", epochs=3, callbacks=[stop])
    assert len(run_on("cuda", tmp_path, method="ltkd", epochs=3).history) == 3


def test_compiled_and_bf16_runs_are_near_the_eager_one():
    checks = check_device(torch.device("cuda"), report=print)
    assert {check.how for check in checks if check.data == "digits"} == {"compiled", "bf16", "bf16 compiled", "cpu"}
    assert not [check for check in checks if check.failed]
