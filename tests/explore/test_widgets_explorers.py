"""The explorers: every control changes the figure, the numbers are right, and a redraw is quick."""

import html
import re

import ipywidgets
import numpy as np
import plotly.graph_objects as go
import pytest
import torch
from helpers import HOSTILE, fastest, random_dataset, softmax, texts

from ltkd import METHODS, ClassGroups, ConfigError, Method, Option
from ltkd.datasets import class_counts
from ltkd.errors import visible
from ltkd.explore import loss_probe, plots, recorded, widgets
from ltkd.explore.logits import SavedLogits

COUNTS = class_counts("exp", 100, [500] * 100)
REDRAW_SECONDS = 0.1  # CPU seconds


def networks(n_train, n_test, counts, seed=0):
    """Logits of three biased networks; the students have logits for the first half of the training images only."""
    rng = np.random.default_rng(seed)
    prior = counts / counts.sum()
    labels = {"train": rng.choice(len(counts), n_train, p=prior), "test": np.arange(n_test) % len(counts)}
    found = {}
    for name, share in (("teacher", 1), ("kd", 2), ("ltkd", 2)):
        found[name] = {}
        for split, of in labels.items():
            of = of[: len(of) // share] if split == "train" else of
            noise = rng.normal(size=(len(of), len(counts)))
            found[name][split] = 2 * noise + 4 * np.eye(len(counts))[of] + np.log(prior), of
    return SavedLogits(found, counts)


@pytest.fixture(scope="module")
def small():
    return networks(256, 90, np.array([90, 50, 30, 20, 12, 8, 5, 3, 2]))


@pytest.fixture(scope="module")
def large():
    return networks(10847, 3000, COUNTS)


EXPLORERS = {
    "group mass": lambda logits: widgets.teacher_bias(logits),
    "class prior": lambda logits: widgets.teacher_bias(logits, show="class prior"),
    "calibration": lambda logits: widgets.teacher_bias(logits, show="accuracy and calibration"),
    "decomposition": widgets.decomposition_explorer,
    "microscope": lambda logits: widgets.loss_microscope(logits, methods=["ce", "kd", "bkd", "ltkd"]),
    "longtail": lambda logits: widgets.longtail_builder(available=logits.class_counts),
}


BUSY = ("group mass", "decomposition", "microscope")  # slow tests: they have many controls


def shown(explorer):
    """The numbers of a figure."""
    return [(trace.name, np.asarray(trace.x).tolist(), np.asarray(trace.y).tolist()) for trace in explorer.figure.data]


def other_value(control):
    """Another value of the control; None if it has one only."""
    if isinstance(control, ipywidgets.Checkbox):
        return not control.value
    if hasattr(control, "options"):
        values = [option[1] if isinstance(option, tuple) else option for option in control.options]
        return next((value for value in values if value != control.value), None)
    return control.min if control.value == control.max else min(control.max, control.value + 8 * control.step)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in BUSY)) for n in EXPLORERS])
def test_every_visible_control_changes_the_figure(name, small):
    explorer = EXPLORERS[name](small)
    visible = {key: control for key, control in explorer.panel.items() if control.layout.display != "none"}
    for key, control in visible.items():
        if key == "tune":  # it chooses the visible options
            continue
        before, kept = (shown(explorer), explorer.figure.layout.to_plotly_json()), control.value
        control.value = other_value(control)
        assert (shown(explorer), explorer.figure.layout.to_plotly_json()) != before, key
        assert "D55E00" not in explorer.note.value
        control.value = kept


@pytest.mark.slow
def test_every_option_of_every_method_changes_its_loss(small):
    explorer = widgets.loss_microscope(small, methods=["ce"])
    for method in loss_probe.methods_on_logits():
        if method == "ce":
            continue
        explorer.panel["ce"].value, explorer.panel[method].value = False, True
        for option in loss_probe.options_of(method):
            control, before = explorer.panel[f"{method}: {option}"], shown(explorer)
            kept, control.value = control.value, other_value(control)
            assert shown(explorer) != before, (method, option)
            control.value = kept
        explorer.panel["ce"].value, explorer.panel[method].value = True, False


@pytest.mark.parametrize("name", EXPLORERS)
def test_a_redraw_is_quick(name, large):
    explorer = EXPLORERS[name](large)
    assert fastest(explorer.redraw) < REDRAW_SECONDS


@pytest.mark.parametrize("name", EXPLORERS)
def test_an_explorer_has_one_figure(name, small):
    assert sum(isinstance(child, go.FigureWidget) for child in EXPLORERS[name](small).children) == 1


def bars(figure, column=2):
    """The bars of a panel: {name: y}."""
    axis = f"x{column}"
    return {trace.name: list(trace.y) for trace in figure.data if trace.type == "bar" and trace.xaxis == axis}


def test_the_group_mass_of_a_batch_is_right(small):
    explorer = widgets.teacher_bias(small, temperature=2.0, batch_size=32)
    explorer.panel["batch"].value = 3
    logits, labels = small.train("teacher")
    groups = small.groups(3)
    p = softmax(logits[64:96], 2.0)
    mass = np.stack([p[:, groups.index.numpy() == g].sum(1) for g in range(3)], 1)
    scaled = mass / mass.sum(0)
    after = (scaled / scaled.sum(1, keepdims=True)).sum(0)
    images = np.bincount(groups.index.numpy()[labels[64:96]], minlength=3)
    for g, name in enumerate(groups.names):
        np.testing.assert_allclose(bars(explorer.figure)[name], [images[g], mass[:, g].sum(), after[g]], rtol=1e-5)
    assert f"{mass.sum(0).mean() / mass.sum(0)[2]:.2f}" in explorer.note.value


def test_the_number_of_batches_follows_the_data(small):
    explorer = widgets.teacher_bias(small, batch_size=64)
    assert explorer.panel["batch"].max == 4
    explorer.panel["batch"].value = 4
    explorer.panel["data"].value = "test"
    assert explorer.panel["batch"].value == 1 and list(explorer.panel["batch_size"].options) == [8, 16, 32, 64]


def test_controls_of_batches_are_shown_with_the_group_mass_only(small):
    explorer = widgets.teacher_bias(small)
    explorer.panel["show"].value = "class prior"
    assert explorer.panel["batch"].layout.display == "none"
    explorer.panel["show"].value = "group mass"
    assert explorer.panel["batch"].layout.display is None


def test_the_decomposition_adds_up_to_the_divergence(small):
    explorer = widgets.decomposition_explorer(small, temperature=2.0, batch_size=32)
    teacher, student, _ = small.pair("train", "teacher", "kd")
    p, q = softmax(teacher[:32], 2.0), softmax(student[:32], 2.0)
    kl = (p * np.log(p / q)).sum(1)
    assert sum(y[0] for y in bars(explorer.figure).values()) == pytest.approx(kl.mean())
    explorer.panel["image"].value = 5
    assert sum(y[0] for y in bars(explorer.figure).values()) == pytest.approx(kl[4])
    label = small.pair("train", "teacher", "kd")[2][4]
    group = small.groups(3).names[small.groups(3).index[label]]
    assert {x for trace in explorer.figure.data if trace.x is not None for x in trace.x} & {
        f"image 5: {small.class_names[label]} ({group})"
    }
    assert sum(y[0] for y in bars(explorer.figure, 3).values()) == pytest.approx(100)


def test_beta_is_the_weight_of_every_group(small):
    explorer = widgets.decomposition_explorer(small)
    explorer.panel["beta"].value = 2.5
    assert all(y[0] == 2.5 for y in bars(explorer.figure, 4).values())


def test_the_microscope_shows_what_the_loss_is(small):
    explorer = widgets.loss_microscope(small, methods=["kd", "ltkd"], batch_size=32)
    explorer.panel["ltkd: alpha"].value = 3.0
    teacher, student, labels = (values[:32] for values in small.pair("train", "teacher", "kd"))
    method = loss_probe.make("ltkd", small.class_counts, 3, alpha=3.0)
    seen = loss_probe.look(method, student, teacher, labels, small.groups(3))
    for axis, by_group in ((2, seen.alone), (3, seen.gradient)):
        for name, size in by_group.items():
            assert bars(explorer.figure, axis)[f"{name} images"][1] == pytest.approx(size)
    assert "coupled in ltkd:" in explorer.note.value
    stack = [trace.y[1] for trace in explorer.figure.data if trace.xaxis == "x" and trace.y[1] is not None]
    assert stack == pytest.approx(list(seen.terms.values()))


def test_only_the_options_of_one_method_are_visible(small):
    panel = widgets.loss_microscope(small, tune="dkd").panel
    visible = {key.split(":")[0] for key, control in panel.items() if ":" in key and control.layout.display != "none"}
    assert visible == {"dkd"}


def test_an_integer_option_has_an_integer_slider(small, monkeypatch):
    class Powered(Method):
        """Cross-entropy to a power."""

        power = Option(2, "the power", low=1, high=5)

        def forward(self, step):
            return {"ce": torch.nn.functional.cross_entropy(step.logits, step.labels) ** self.power}

    monkeypatch.setitem(METHODS, "powered", Powered)
    explorer = widgets.loss_microscope(small, methods=["powered"], tune="powered")
    control, before = explorer.panel["powered: power"], shown(explorer)
    assert (control.min, control.max, control.value) == (1, 5, 2)
    control.value = 3
    assert shown(explorer) != before
    assert "D55E00" not in explorer.note.value


def test_a_note_asks_for_a_method(small):
    explorer = widgets.loss_microscope(small, methods=["kd"])
    explorer.panel["kd"].value = False
    assert "select at least one" in explorer.note.value


def test_the_long_tail_has_the_counts_of_the_profile():
    explorer = widgets.longtail_builder(imbalance_factor=10.0)
    explorer.panel["profile"].value = "step"
    heights = np.concatenate([trace.y for trace in explorer.figure.data[:3]])
    assert sorted(heights) == sorted(class_counts("step", 10, [500] * 100))
    assert f"{heights.sum():,}" in explorer.figure.layout.title.text and f"{heights.sum():,}" in explorer.note.value


def test_the_strips_show_both_definitions_of_groups():
    explorer = widgets.longtail_builder(imbalance_factor=100.0)
    strips = [(trace.name, len(trace.x)) for trace in explorer.figure.data if trace.yaxis == "y2"]
    shots = ClassGroups.by_shots(COUNTS)
    assert strips == [*zip(shots.names, shots.sizes, strict=True), ("head", 33), ("medium", 34), ("tail", 33)]


def test_images_of_head_and_tail_are_shown():
    explorer = widgets.longtail_builder(random_dataset((18, 18, 18)), imbalance_factor=6.0)
    pictures = [trace.source for trace in explorer.figure.data if trace.type == "image"]
    headings = [note.text for note in explorer.figure.layout.annotations]
    assert len(pictures) == 2 and all(source.startswith("data:image/png") for source in pictures)
    assert "class 0, 'a': 12 of 18 images" in headings and "class 2, 'c': 3 of 3 images" in headings


def test_a_single_network_has_no_student(small):
    alone = SavedLogits({"teacher": {"train": small.train("teacher")}}, small.class_counts)
    widgets.teacher_bias(alone)
    with pytest.raises(ConfigError, match="add another network"):
        widgets.decomposition_explorer(alone)


def test_a_method_that_needs_more_than_logits_raises(small):
    with pytest.raises(ConfigError, match="'fitnet' cannot be computed from logits alone"):
        widgets.loss_microscope(small, methods=["fitnet"])


@pytest.mark.parametrize("how", [{"methods": ["mine"]}, {"tune": "mine"}])
def test_the_error_of_a_custom_method_is_shown(small, monkeypatch, how):
    class Mine(Method):
        """With a slip of the pen."""

        def forward(self, step):
            return {"square": step.logits.sqare().mean()}

    monkeypatch.setitem(METHODS, "mine", Mine)
    with pytest.raises(ConfigError, match=r"'mine' cannot.*AttributeError: .*no attribute 'sqare'") as caught:
        widgets.loss_microscope(small, **how)
    assert isinstance(caught.value.__cause__, AttributeError)


@pytest.mark.parametrize("name", ["group mass", "decomposition", "microscope"])
def test_controls_of_one_value_are_hidden(name):
    few = networks(10, 90, np.array([90, 2]))  # two classes; ten training images are one batch of eight
    panel = EXPLORERS[name](few).panel
    single = {"batch", "batch_size"} | ({"n_groups"} if name == "group mass" else set())

    def hidden():
        return {key for key in ("n_groups", "batch_size", "batch") if panel[key].layout.display == "none"}

    def broken():
        sliders = [c for c in panel.values() if isinstance(c, ipywidgets.IntSlider | ipywidgets.FloatSlider)]
        steps = [c for c in panel.values() if isinstance(c, ipywidgets.SelectionSlider)]
        return [c for c in sliders if c.min >= c.max] + [c for c in steps if len(c.options) < 2]

    panel["teacher" if name != "group mass" else "network"].value = "teacher"
    if name != "group mass":
        panel["student"].value = "teacher"
    panel["data"].value = "train"
    assert hidden() == single and not broken()
    assert (panel["batch"].value, panel["batch_size"].value, panel["n_groups"].value) == (1, 8, 2)
    panel["data"].value = "test"
    assert hidden() == single - {"batch", "batch_size"} and not broken()


def test_one_batch_of_all_images_is_drawn(small):
    explorer = widgets.decomposition_explorer(small, batch_size=64)
    explorer.panel["batch"].value = 2
    explorer.panel["data"].value = "test"  # ninety images
    batch = explorer.panel["batch"]
    assert (batch.value, batch.min < batch.max, batch.layout.display) == (1, True, "none")
    assert "D55E00" not in explorer.note.value


def test_the_error_for_an_unknown_network_suggests_the_nearest(small):
    with pytest.raises(ConfigError, match="did you mean 'teacher'"):
        widgets.teacher_bias(small, network="teachr")


def outside(widget):
    """All widgets in a widget, itself too."""
    return [widget, *(inner for child in getattr(widget, "children", ()) for inner in outside(child))]


SHOWING_NAMES = {
    "group mass": lambda logits: widgets.teacher_bias(logits, network=logits.names[1]),
    "class prior": lambda logits: widgets.teacher_bias(logits, network=logits.names[1], show="class prior"),
    "decomposition": lambda logits: widgets.decomposition_explorer(logits, student=logits.names[1]),
    "microscope": lambda logits: widgets.loss_microscope(logits, student=logits.names[1], methods=["ce", "ltkd"]),
    "runs": lambda logits: widgets.RunBrowser(logits.runs, show="tail gain and head cost"),
    "training": lambda logits: widgets.TrainingMonitor(logits.runs),
    "an error": lambda logits: widgets.explore(failing(logits.names[1]), which=["a", "b"]),
}


def failing(name):
    def draw(which):
        if which == "b":
            raise ConfigError(f"a failure with {name}")
        return plots.lines([1], {name: [1]}, x_title="", y_title="", title=name)

    return draw


@pytest.mark.parametrize("explorer", SHOWING_NAMES)
@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_names_in_an_explorer_are_text(explorer, name):
    if explorer in ("runs", "training") and name == HOSTILE["broken"]:
        pytest.skip("pandas refuses it")
    record = recorded.recording("cifar100-lt")
    sets = {key: {"test": record.test(kept)} for key, kept in (("teacher", "teacher"), (name, "kd"))}
    runs = {"teacher": record.runs["teacher"], name: record.runs["kd"]}
    logits = SavedLogits(sets, record.class_counts, [name, *record.class_names[1:]], runs=runs)
    shown = SHOWING_NAMES[explorer](logits)
    if explorer == "an error":
        shown.panel["which"].value = "b"
        assert html.escape(visible(" ".join(name.split()))) in shown.note.value
    for widget in outside(shown):
        if isinstance(widget, ipywidgets.HTML):
            tags = re.findall("<([^>]*)>", widget.value)
            assert all(re.fullmatch("/?(div|pre|small|style)( (style|class)=[^<]*)?", tag) for tag in tags), tags
            assert not set(widget.value) & set("\x1b\u202e")
        assert not getattr(widget, "description_allow_html", False)
    for _, text in texts(shown.figure.to_plotly_json()):
        assert not re.search(r"<(?!br>|extra>|/extra>)|\$", text), text
