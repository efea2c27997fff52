"""The runs browser lists all readable runs, and its figures show the numbers of the chosen rows."""

import shutil

import numpy as np
import pytest
from helpers import fastest, other_config

from ltkd import LtkdError, Run, metrics, runs
from ltkd.explore import recorded, widgets
from ltkd.explore.plots import accuracy_by_size, class_confusions, group_confusions, trade
from ltkd.explore.widgets.run_browser import ACCURACY, BY_SIZE, CLASSES, GROUPS, HISTORY, TRADE, VIEWS
from ltkd.explore.widgets.run_list import RunList
from ltkd.runs import archive

REDRAW = 0.3  # CPU seconds: three times the limit, for slow machines


@pytest.fixture
def recording():
    return recorded.recording("cifar100-lt")


@pytest.fixture
def browser(store):
    return widgets.RunBrowser(store, baseline="kd")


def of(browser, setting):
    """The runs of one setting."""
    return [run for name, run in browser.run_list.runs.items() if browser.run_list.setting(name) == setting]


def show(browser, view, *chosen):
    """The figure of a view."""
    browser.panel["show"].value = view
    if chosen:
        browser.rows.value = chosen
    return browser.figure


def test_the_table_lists_every_run_with_its_accuracies(browser, store):
    names = [name for _, name in browser.rows.options]
    assert sorted(names) == [f"{kind} seed {seed}" for kind in ("kd", "ltkd", "teacher") for seed in (0, 1)]
    assert browser.rows.value == tuple(names)
    run = browser.run_list.runs["ltkd seed 1"]
    line = {name: text for text, name in browser.rows.options}["ltkd seed 1"].split("\u00a0")
    accuracies = [f"{run.result['last'][group]:.1f}" for group in ("all", "head", "medium", "tail")]
    assert [cell for cell in line if cell][-4:] == accuracies
    assert len({len(text) for text, _ in browser.rows.options}) == 1  # the columns are aligned


def test_a_filter_keeps_matching_rows(browser):
    assert set(browser.filters) == {"role", "teacher", "student", "seed"}
    browser.filters["seed"].value = "1"
    assert {name for _, name in browser.rows.options} == {"kd seed 1", "ltkd seed 1", "teacher seed 1"}
    browser.filters["role"].value = "ltkd"
    assert browser.rows.value == ("ltkd seed 1",)
    assert [trace.name for trace in browser.figure.data] == ["ltkd"]
    browser.filters["seed"].value = browser.filters["role"].value = "any"
    assert len(browser.rows.options) == 6 and browser.rows.value == ("ltkd seed 1",)


def test_a_filter_redraws_once(browser, monkeypatch):
    drawings = []
    monkeypatch.setattr(browser, "redraw", lambda: drawings.append(1))
    browser.filters["seed"].value = "1"
    assert len(drawings) == 1


def test_bars_are_means_over_seeds_with_intervals(browser):
    bars = {bar.name: bar for bar in show(browser, ACCURACY).data}
    tails = [run.result["last"]["tail"] for run in of(browser, "ltkd")]
    assert bars["ltkd"].y[2] == pytest.approx(np.mean(tails))
    assert bars["ltkd"].error_y.array[2] == pytest.approx(runs.interval(tails))
    figure = show(browser, ACCURACY, "ltkd seed 0")
    assert figure.data[0].y[2] == pytest.approx(tails[0]) and figure.data[0].error_y.array is None


def test_the_trade_is_relative_to_the_chosen_baseline(browser):
    figure = show(browser, TRADE, "ltkd seed 0", "ltkd seed 1")
    lasts = {s: [[run.result["last"][g] for g in ("head", "tail")] for run in of(browser, s)] for s in ("kd", "ltkd")}
    mean = {setting: np.mean(last, 0) for setting, last in lasts.items()}
    points = {trace.name: (trace.x[0], trace.y[0]) for trace in figure.data}
    np.testing.assert_allclose(points["ltkd"], mean["ltkd"] - mean["kd"])
    assert points["kd"] == (0, 0)
    browser.panel["baseline"].value = "ltkd"
    assert browser.figure.data[0].x[0] == 0 and "minus ltkd's" in browser.figure.layout.xaxis.title.text


def test_accuracy_by_size_is_the_mean_over_seeds(browser):
    figure = show(browser, BY_SIZE, "kd seed 0", "kd seed 1")
    expected = np.mean([metrics.per_class_accuracy(run.logits, run.labels) for run in of(browser, "kd")], 0)
    np.testing.assert_allclose(figure.data[0].y, expected)  # ten classes, so each is a bin of its own
    np.testing.assert_allclose(figure.data[0].x, of(browser, "kd")[0].class_counts)


def test_a_single_run_shows_its_classes_as_dots(recording):
    browser = widgets.RunBrowser(recording.runs, show=BY_SIZE)
    browser.rows.value = ("ltkd",)
    dots, line = browser.figure.data
    logits, labels = recording.test("ltkd")
    np.testing.assert_allclose(dots.y, metrics.per_class_accuracy(logits, labels))
    assert len(line.y) == 10 and dots.mode == "markers"


def test_bins_join_classes_of_neighbouring_size():
    counts = np.array([5, 400, 20, 90])
    labels = np.repeat(np.arange(4), 2)
    logits = np.eye(4)[[0, 1, 1, 1, 2, 2, 0, 3]]  # right: 1 of 2, 2 of 2, 2 of 2, 1 of 2
    sizes, accuracy = metrics.accuracy_by_size(logits, labels, counts, n_bins=2)
    np.testing.assert_allclose(sizes, [np.sqrt(400 * 90), np.sqrt(5 * 20)])
    assert accuracy.tolist() == [75.0, 75.0]
    assert metrics.accuracy_by_size(logits[2:], labels[2:], counts, n_bins=4)[1].tolist() == [100.0, 50.0, 100.0]


def test_confusion_of_groups_is_the_mean_over_seeds(browser):
    figure = show(browser, GROUPS)
    kept = of(browser, "ltkd")
    groups = metrics.thirds(kept[0].class_counts)
    expected = 100 * np.mean([metrics.group_confusion(run.logits, run.labels, groups) for run in kept], 0)
    place = [note.text for note in figure.layout.annotations].index("ltkd")
    np.testing.assert_allclose(np.asarray(figure.data[place].z), expected)


def test_confusion_of_classes_is_sorted_from_most_to_fewest_images(recording):
    browser = widgets.RunBrowser(recording.runs, show=CLASSES)
    browser.rows.value = ("teacher",)
    logits, labels = recording.test("teacher")
    order = np.argsort(-recording.class_counts, kind="stable")
    shown = np.asarray(browser.figure.data[0].z)
    for row, c in enumerate(order[:5]):
        taken = logits[labels == c].argmax(1)
        np.testing.assert_allclose(shown[row], [100 * np.mean(taken == other) for other in order], atol=0.51)


def test_a_note_says_that_not_all_settings_are_drawn(recording):
    browser = widgets.RunBrowser(recording.runs, show=GROUPS)
    assert sum(trace.type == "heatmap" for trace in browser.figure.data) == 4
    assert "first 4 of 6 settings" in browser.note.value


def test_class_sizes_are_those_of_the_long_tailed_runs(recording):
    browser = widgets.RunBrowser(recording.runs, show=BY_SIZE)
    assert "balanced teacher had other numbers of images" in browser.note.value
    sizes = [trace.x for trace in browser.figure.data]
    assert all(np.array_equal(sizes[0], other) for other in sizes)


def test_history_overlays_the_chosen_curves(browser):
    figure = show(browser, HISTORY, "kd seed 0", "ltkd seed 0")
    browser.panel["curves"].value = "loss terms"
    history = browser.run_list.runs["ltkd seed 0"].history
    drawn = [tuple(trace.y) for trace in figure.data if trace.name == "ltkd"]
    assert tuple(history["loss_within"]) in drawn and {trace.name for trace in figure.data} == {"kd", "ltkd"}


def test_controls_of_a_view_are_hidden_in_the_others(browser):
    for view in VIEWS:
        show(browser, view)
        shown = {name for name in ("baseline", "curves") if browser.panel[name].layout.display is None}
        assert shown == {TRADE: {"baseline"}, HISTORY: {"curves"}}.get(view, set())


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_without_chosen_rows_does_not_fail(browser, view):
    show(browser, view)
    browser.rows.value = ()
    assert "Error" not in browser.note.value.replace("RunError", "")


def test_sources_are_runs_a_dict_and_the_name_of_a_recording(store, recording):
    given = [run for run in runs.all_runs(store) if run.finished]
    assert set(RunList(given).runs) == set(RunList(store).runs)
    assert set(RunList({"a": given[0], "b": given[1]}).runs) == {"a", "b"}
    assert tuple(RunList("cifar100-lt").runs) == recording.names == tuple(RunList(recording.runs).runs)


@pytest.mark.parametrize(("field", "value"), [("n_groups", 2), ("epochs", 9), ("student", "resnet8")])
def test_different_settings_have_different_names_and_are_not_averaged(store, tmp_path, field, value):
    run = Run.load(next(store.glob("*-ltkd-s0-*")))
    folder = shutil.copytree(run.folder, tmp_path / "other")
    other_config(folder, **{field: value})
    settings = list(RunList([run, Run.load(folder)]).table["setting"])
    assert len(set(settings)) == 2 and str(value) in settings[1]


@pytest.fixture
def crossed(store, tmp_path):
    """Four runs of ltkd: two seeds on each of two subsets."""
    for run in (Run.load(folder) for folder in store.glob("*-ltkd-s?-*")):
        for subset in (0, 1):
            folder = shutil.copytree(run.folder, tmp_path / f"{run.config.seed}{subset}")
            other_config(folder, subset_seed=subset)
    return tmp_path


def test_runs_on_different_subsets_are_averaged(crossed):
    browser = widgets.RunBrowser(crossed)
    assert set(browser.run_list.runs) == {f"ltkd subset {subset} seed {seed}" for subset in (0, 1) for seed in (0, 1)}
    assert "mean of 4 seeds" in show(browser, ACCURACY).layout.title.text
    stacks = browser._by_setting(list(browser.run_list.runs), lambda run: run.result["last"]["all"], "all")
    assert {name: len(stack) for name, stack in stacks.items()} == {"ltkd": 4}


def test_copies_of_a_run_have_their_folder_in_the_name(store, tmp_path):
    run = Run.load(next(store.glob("*-kd-s0-*")))
    copy = Run.load(shutil.copytree(run.folder, tmp_path / "copy"))
    names = list(RunList([run, copy]).runs)
    assert len(names) == 2 and names[1].endswith(f"{run.config.id} in {tmp_path} seed 0")


def test_long_profiles_are_short_in_names_but_stay_different(store, tmp_path):
    run, found = Run.load(next(store.glob("*-kd-s0-*"))), []
    for counts in ([90] * 10, [80] * 10, [80] * 9 + [70]):
        folder = shutil.copytree(run.folder, tmp_path / f"{sum(counts)}")
        other_config(folder, profile=counts)
        found.append(Run.load(folder))
    assert list(RunList([run, found[0]]).runs) == ["kd exp", "kd 90, 90, 90, …"]
    assert len(set(RunList(found).table["setting"])) == 3


def carried(found, folder):
    """The folder that these runs were exported from and imported into."""
    archive.pack(found, folder / "a.zip")
    archive.unpack([folder / "a.zip"], folder / "imported")
    return folder / "imported"


@pytest.fixture(scope="module")
def own_and_imported(store, tmp_path_factory):
    """Browsers of the same runs, trained here and imported."""
    imported = carried(runs.all_runs(store), tmp_path_factory.mktemp("elsewhere"))
    return [widgets.RunBrowser(source, baseline="kd") for source in (store, imported)]


@pytest.mark.parametrize("view", VIEWS)
def test_imported_runs_have_the_same_figures(own_and_imported, view):
    numbers = []
    for browser in own_and_imported:
        everything = show(browser, view, *sorted(browser.run_list.runs)).to_plotly_json()["data"]
        assert len(browser.rows.options) == 6 and "Left out" not in browser.note.value
        figures = [everything, show(browser, view, "kd seed 0").to_plotly_json()["data"]]
        numbers.append([[(t["type"], t.get("x"), t.get("y"), t.get("z")) for t in traces] for traces in figures])
    np.testing.assert_equal(numbers[1], numbers[0])


def test_a_note_says_what_imported_runs_lack(store, tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MOST_CLASSES", 9)
    browser = widgets.RunBrowser(carried(runs.all_runs(store), tmp_path), show=GROUPS)
    assert browser.note.value.count("holds no confusion of so many classes") == 6
    assert "ltkd seed 0" in browser.note.value
    with pytest.raises(LtkdError, match="these runs hold no logits"):
        browser.run_list.answers()


def test_answers_skip_runs_without_logits(store, tmp_path):
    folder = next(store.glob("*-kd-s0-*"))
    imported = carried([run for run in runs.all_runs(store) if run.folder != folder], tmp_path)
    shutil.copytree(folder, imported / folder.name)
    listed = RunList(imported)
    assert len(listed.runs) == 6 and listed.answers().names == ("kd seed 0",)


def test_a_note_counts_unfinished_and_damaged_runs(store, tmp_path):
    folder = shutil.copytree(store, tmp_path / "runs")
    next(folder.glob("*-kd-s0-*")).joinpath("result.json").unlink()
    next(folder.glob("*-kd-s1-*")).joinpath("result.json").write_text("{")
    (folder / "stranger").mkdir()
    (folder / "stranger" / "config.json").write_text('{"method": "unheard-of"}')
    browser = widgets.RunBrowser(folder)
    assert not any("kd seed" in name and "ltkd" not in name for name in browser.run_list.runs)
    assert "Left out: 1 run and 2 folders;" in browser.note.value and "\n" not in browser.note.value


def test_a_run_with_damaged_logits_is_left_out(store, tmp_path):
    folder = shutil.copytree(store, tmp_path / "runs")
    next(folder.glob("*-kd-s0-*")).joinpath("logits.npz").write_bytes(b"cut off")
    browser = widgets.RunBrowser(folder, show=BY_SIZE)
    assert "Left out: kd seed 0; " in browser.note.value
    assert {trace.name for trace in browser.figure.data} == {"teacher", "kd", "ltkd"}
    show(browser, ACCURACY)
    assert "Left out" not in browser.note.value


def test_unknown_views_baselines_and_sources_raise(store, tmp_path):
    with pytest.raises(LtkdError, match="there is no finished run in"):
        widgets.RunBrowser(tmp_path)
    with pytest.raises(LtkdError, match="unknown baseline 'ce'"):
        widgets.RunBrowser(store, baseline="ce")
    with pytest.raises(LtkdError, match="did you mean 'history'"):
        widgets.RunBrowser(store, show="histories")
    with pytest.raises(LtkdError, match="nowhere"):
        widgets.RunBrowser("nowhere")


def test_answers_of_a_folder_are_its_test_logits(store):
    listed = RunList(store)
    answers = listed.answers(seed=1)
    assert answers.names[:2] == ("teacher seed 0", "teacher seed 1") and len(answers.names) == 6
    logits, labels = answers.test("kd seed 1")
    run = listed.runs["kd seed 1"]
    assert metrics.group_accuracy(logits, labels, answers.groups())["all"] == pytest.approx(run.result["last"]["all"])
    assert not np.array_equal(labels, run.labels)  # shuffled, as batches are


@pytest.mark.parametrize("view", VIEWS)
def test_a_recording_is_redrawn_in_time(recording, view):
    browser = widgets.RunBrowser(recording.runs)
    show(browser, view)
    assert fastest(browser.redraw) < REDRAW


def test_empty_figures_can_be_drawn():
    groups = metrics.thirds(np.array([5, 4, 3]))
    assert group_confusions({}, groups.names).layout.title.text
    assert class_confusions({}, groups).layout.title.text
    assert accuracy_by_size({}, groups, np.array([5, 4, 3])).layout.title.text


def test_one_seed_has_no_interval(store):
    table = RunList(store).table
    summary = runs.summarise(table[table["seed"] == 0], by=("setting",))
    assert all(trace.error_x.array is None for trace in trade(summary, "kd", by="setting").data)
