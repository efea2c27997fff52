"""The training monitor draws histories, live and from stored runs, and waits between two drawings."""

import shutil
import time

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import fastest

from ltkd import LtkdError, Run, RunConfig, fit, runs
from ltkd.explore import plots, recorded, widgets
from ltkd.explore.widgets import training_monitor as module
from ltkd.explore.widgets.training_monitor import GROUP_MASS, SHOWN
from ltkd.runs import archive

REDRAW = 0.3  # CPU seconds: three times the limit, for slow machines


def rows(epochs, *, masses=True):
    """A history as `fit` passes it to a callback."""
    made = []
    for epoch in range(1, epochs + 1):
        row = {"epoch": epoch, "loss": 2.0 / epoch, "loss_ce": 1.0 / epoch, "train_all": 10.0 * epoch}
        row |= {"train_head": 11.0 * epoch, "train_tail": 5.0 * epoch, "test_all": None if epoch % 2 else 7.0 * epoch}
        if masses:
            row |= {"cross_kl": 0.1, "within_kl_head": 0.2, "within_kl_tail": 0.3 * epoch}
            row |= {"teacher_mass": torch.tensor([[40.0, 24.0], [20.0, 12.0]]) + epoch}
            row |= {"rebalanced_mass": torch.tensor([[32.0, 32.0], [16.0, 16.0]])}
        made.append(row)
    return made


def trained(monitor, epochs=3, method="ltkd", **settings):
    """Call the monitor after each epoch of a run, as `fit` does."""
    config, history = RunConfig.make(method=method, **settings), []
    for row in rows(epochs, masses=method != "ce"):
        history.append(row)
        monitor(config, history)
    return monitor


@pytest.fixture
def recording():
    return recorded.recording(recorded.recordings()[0])


@pytest.fixture
def stored(store):
    return widgets.TrainingMonitor(store)


def test_draw_redraws_before_the_waiting_time_is_over(monkeypatch):
    monkeypatch.setattr(module, "REDRAW_SECONDS", 1e9)
    monitor = trained(widgets.TrainingMonitor())
    assert len(monitor.figure.data[0].y) == 1
    monitor.draw()
    assert monitor.figure.data[0].y.tolist() == [2.0, 1.0, 2 / 3]


def test_a_hundred_epochs_redraw_only_when_the_waiting_time_is_over(monkeypatch):
    drawings, monitor = [], widgets.TrainingMonitor()
    monkeypatch.setattr(monitor, "redraw", lambda: drawings.append(1))
    started = time.monotonic()
    trained(monitor, 100)
    assert 1 <= len(drawings) <= 1 + (time.monotonic() - started) / module.REDRAW_SECONDS


def test_the_latest_run_of_a_method_and_network_is_shown():
    monitor = trained(trained(widgets.TrainingMonitor(), seed=0), 2, seed=1)
    trained(monitor, method="ce")
    monitor.draw()
    assert monitor.chosen.options == ("ltkd resnet8x0.5", "ce resnet8x0.5") == monitor.chosen.value
    assert [len(trace.y) for trace in monitor.figure.data if trace.xaxis == "x"] == [2, 3]


def test_draw_adds_loaded_runs(store):
    config = Run.load(next(store.glob("*-kd-s0-*"))).config
    monitor = widgets.TrainingMonitor()
    run = fit(config, runs=store, progress=False, callbacks=[monitor])
    assert not monitor.figure.data
    monitor.draw([run])
    assert monitor.figure.data[0].y.tolist() == run.history["loss"].tolist()


def test_the_monitor_is_a_callback_of_fit(tmp_path):
    monitor = widgets.TrainingMonitor()
    config = RunConfig.make(method="kd", epochs=2, teacher_epochs=1)
    run = fit(config, runs=tmp_path, device="cpu", progress=False, callbacks=[monitor])
    monitor.draw([run])
    monitor.panel["show"].value = GROUP_MASS
    assert monitor.chosen.options == ("teacher resnet8", "kd resnet8x0.5")
    first = np.stack(run.history.iloc[-1]["teacher_mass"])[:, 0]
    np.testing.assert_allclose(monitor.figure.data[0].y, first)


@pytest.mark.parametrize("show", [name for name in SHOWN if name != GROUP_MASS])
def test_every_line_is_a_column_of_the_history(stored, store, show):
    stored.panel["show"].value = show
    of_runs = {name: run.history for name, run in widgets.RunList(store).runs.items()}
    columns = {tuple(h[c].dropna()) for h in of_runs.values() for c in h if h[c].dtype.kind in "if"}
    assert stored.figure.data and all(tuple(trace.y) in columns for trace in stored.figure.data)


def test_distillation_losses_are_shown_for_runs_with_a_teacher(stored):
    stored.panel["show"].value = "distillation loss by group"
    headings = [note.text for note in stored.figure.layout.annotations]
    assert headings == ["across groups", "within head", "within medium", "within tail"]
    assert {trace.name for trace in stored.figure.data} == {"kd", "ltkd"}


def test_only_chosen_runs_are_drawn(stored):
    stored.chosen.value = ("ltkd seed 1",)
    assert {trace.name for trace in stored.figure.data} == {"ltkd"}
    stored.chosen.value = ()
    assert not stored.figure.data


def test_the_slider_chooses_the_epoch_of_the_masses(stored, store):
    stored.panel["show"].value = GROUP_MASS
    assert stored.panel["epoch"].max == stored.panel["epoch"].value == 2
    stored.chosen.value = ("ltkd seed 0",)
    history = widgets.RunList(store).runs["ltkd seed 0"].history
    for epoch in (1, 2):
        stored.panel["epoch"].value = epoch
        row = history[history["epoch"] == epoch].iloc[0]
        masses = [np.stack(row[column])[:, g] for column in ("teacher_mass", "rebalanced_mass") for g in range(3)]
        np.testing.assert_allclose([trace.y for trace in stored.figure.data], masses)
    assert f"epoch {epoch}" in stored.figure.layout.title.text


def test_the_slider_of_epochs_is_shown_with_the_masses_only(stored):
    assert stored.panel["epoch"].layout.display == "none"
    stored.panel["show"].value = GROUP_MASS
    assert stored.panel["epoch"].layout.display is None


def test_runs_with_the_same_masses_share_a_panel():
    monitor = trained(trained(widgets.TrainingMonitor(show=GROUP_MASS), method="kd"), method="ltkd")
    monitor.draw()
    assert [note.text for note in monitor.figure.layout.annotations] == ["kd resnet8x0.5,<br>ltkd resnet8x0.5"]
    assert "last batch holds fewer images" in monitor.note.value


def test_the_slider_follows_training_until_it_is_moved():
    monitor = trained(widgets.TrainingMonitor(show=GROUP_MASS), 3)
    monitor.draw()
    assert (monitor.panel["epoch"].value, monitor.panel["epoch"].max) == (3, 3)
    monitor.panel["epoch"].value = 1
    trained(monitor, 5)
    monitor.draw()
    assert (monitor.panel["epoch"].value, monitor.panel["epoch"].max) == (1, 5)


def test_the_slider_appears_with_the_second_epoch():
    monitor = trained(widgets.TrainingMonitor(show=GROUP_MASS), 1)
    monitor.draw()
    assert monitor.panel["epoch"].layout.display == "none" and "epoch 1" in monitor.figure.layout.title.text
    trained(monitor, 2)
    monitor.draw()
    assert monitor.panel["epoch"].layout.display is None and monitor.panel["epoch"].value == 2


def test_a_note_says_that_runs_without_a_teacher_have_no_mass():
    monitor = trained(widgets.TrainingMonitor(show=GROUP_MASS), method="ce")
    monitor.draw()
    assert not monitor.figure.data and "choose kd, bkd or ltkd" in monitor.note.value


def test_imported_runs_have_curves_and_no_masses(store, tmp_path):
    archive.pack(runs.all_runs(store), tmp_path / "a.zip")
    archive.unpack([tmp_path / "a.zip"], tmp_path / "imported")
    monitor = widgets.TrainingMonitor(tmp_path / "imported")
    assert {trace.name for trace in monitor.figure.data} == {"teacher", "kd", "ltkd"}
    monitor.panel["show"].value = GROUP_MASS
    assert not monitor.figure.data and ">Imported runs hold no group mass of batches.<" in monitor.note.value


def test_a_damaged_history_is_left_out_and_named(store, tmp_path):
    folder = shutil.copytree(store, tmp_path / "runs")
    next(folder.glob("*-kd-s0-*")).joinpath("history.parquet").write_bytes(b"cut off")
    monitor = widgets.TrainingMonitor(folder)
    assert "Left out: kd seed 0" in monitor.note.value
    assert {trace.name for trace in monitor.figure.data} == {"teacher", "kd", "ltkd"}


def test_unknown_figures_and_sources_raise():
    with pytest.raises(LtkdError, match="did you mean 'loss terms'"):
        widgets.TrainingMonitor(show="loss term")
    with pytest.raises(LtkdError, match="neither a folder of runs nor a recording"):
        widgets.TrainingMonitor("nowhere")
    with pytest.raises(LtkdError, match="int is not a source of runs"):
        widgets.TrainingMonitor(3)


@pytest.mark.parametrize("show", SHOWN)
def test_a_recording_is_redrawn_in_time(recording, show):
    monitor = widgets.TrainingMonitor(recording.runs)
    monitor.panel["show"].value = show
    assert fastest(monitor.redraw) < REDRAW


def test_teachers_are_solid_and_students_dashed():
    looks = plots.lines_of(["teacher", "kd seed 0", "kd seed 1", "kd temperature 8", "balanced teacher", "ltkd"])
    assert looks["kd seed 0"] == looks["kd seed 1"]
    assert [look["dash"] for look in looks.values()] == ["solid", "dash", "dash", "dot", "solid", "dash"]
    assert len({look["color"] for look in looks.values()}) == 4


def test_more_than_four_panels_need_a_second_row():
    history = pd.DataFrame({"epoch": [1], **{f"c{i}": [1.0] for i in range(6)}})
    figure = plots.curves({"a": history}, {f"c{i}": f"c{i}" for i in range(6)}, y="", title="")
    assert len({axis.domain for axis in figure.select_yaxes()}) == 2


def test_many_batches_are_thinned():
    figure = plots.mass_before_after({"kd": (np.ones((5000, 2)), np.ones((5000, 2)))}, ("head", "tail"), title="")
    assert all(len(trace.y) <= 1000 for trace in figure.data)
