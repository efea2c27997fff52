"""Every figure shows the numbers it was given, in the colour of their group, and names as they are."""

import html
import inspect

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from helpers import HOSTILE, texts

from ltkd import METHODS, ClassGroups, metrics
from ltkd.errors import visible
from ltkd.explore import batch_terms, loss_probe, plots

COUNTS = np.array([100, 60, 30, 20, 10, 5])
GROUPS = ClassGroups.by_rank(COUNTS)
NAMES = GROUPS.names


def logits():
    generator = np.random.default_rng(0)
    return generator.normal(size=(60, 6)) + np.log(COUNTS), np.arange(60) % 6


def test_counts_are_coloured_by_group():
    figure = plots.counts(COUNTS, GROUPS)
    assert [trace.name for trace in figure.data] == list(NAMES)
    assert [trace.marker.color for trace in figure.data] == list(plots.PALETTE[:3])
    assert np.concatenate([trace.y for trace in figure.data]).tolist() == COUNTS.tolist()


def test_counts_twice_has_one_logarithmic_axis():
    figure = plots.counts_twice(COUNTS, GROUPS)
    assert figure.layout.yaxis.type is None and figure.layout.yaxis2.type == "log"


def test_the_contact_sheet_shows_every_pixel():
    images = np.random.default_rng(0).integers(0, 255, (7, 3, 4, 4), dtype=np.uint8)
    sheet = np.asarray(plots.contact_sheet(images, columns=5).data[0].z)
    assert (sheet[:4, 5:9] == images[1].transpose(1, 2, 0)).all()
    assert (sheet[5:9, 5:9] == images[6].transpose(1, 2, 0)).all()


def test_grey_images_are_drawn_with_three_equal_channels():
    sheet = np.asarray(plots.contact_sheet(np.full((1, 1, 2, 2), 7, dtype=np.uint8)).data[0].z)
    assert (sheet[:2, :2] == 7).all() and sheet.shape[2] == 3


def test_mass_per_batch_has_one_line_style_per_set_and_one_colour_per_group():
    figure = plots.mass_per_batch({"a": np.ones((4, 3)), "b": np.zeros((4, 3))}, NAMES)
    assert [trace.line.dash for trace in figure.data] == ["solid"] * 3 + ["dot"] * 3
    assert [trace.line.color for trace in figure.data] == list(plots.PALETTE[:3]) * 2


def test_the_fair_share_of_a_group_is_its_share_of_the_classes():
    groups = ClassGroups.by_rank(np.arange(10, 0, -1))
    figure = plots.mass_by_temperature([1.0, 4.0], np.zeros((2, 3)), groups)
    assert [trace.y[0] for trace in figure.data if "share of classes" in trace.name] == [0.3, 0.4, 0.3]


def test_the_line_of_the_prior_has_the_given_slope():
    figure = plots.prior(COUNTS, COUNTS**0.5 / 100, GROUPS, 0.5)
    line = figure.data[-1]
    slope = np.log(line.y[1] / line.y[0]) / np.log(line.x[1] / line.x[0])
    assert slope == pytest.approx(0.5)


def test_decomposition_bars_add_up():
    figure = plots.decomposition({"x": (0.1, np.array([0.2, 0.3, 0.4]))}, NAMES)
    assert sum(trace.y[0] for trace in figure.data) == pytest.approx(1.0)


def test_curves_skip_missing_columns_and_values():
    history = pd.DataFrame({"epoch": [1, 2, 3], "loss": [3.0, 2.0, 1.0], "test_all": [None, 50.0, None]})
    figure = plots.curves({"a": history}, {"loss": "loss", "test_all": "test", "kl": "KL"}, y="", title="")
    assert [list(trace.y) for trace in figure.data] == [[3.0, 2.0, 1.0], [50.0]]


def test_trade_is_relative_to_the_baseline():
    rows = {
        "method": ["ce", "ltkd"],
        "head": [90.0, 88.0],
        "tail": [10.0, 30.0],
        "head_ci": [1.0] * 2,
        "tail_ci": [1.0] * 2,
    }
    figure = plots.trade(pd.DataFrame(rows), "ce")
    assert [(trace.x[0], trace.y[0]) for trace in figure.data] == [(0.0, 0.0), (-2.0, 20.0)]


def test_a_long_tail_shows_counts_and_the_share_of_each_group():
    figure = plots.longtail(COUNTS, GROUPS, ClassGroups.by_shots(COUNTS), log=True)
    counts = [trace for trace in figure.data if trace.yaxis == "y"]
    assert np.concatenate([trace.y for trace in counts]).tolist() == COUNTS.tolist()
    assert counts[0].name == "head: 71.1 % of the images"
    assert figure.layout.xaxis.matches == "x2" and figure.layout.yaxis.type == "log"


def test_long_lines_are_thinned():
    ones = np.ones((1355, 3))
    figure = plots.rebalancing(batch_terms.Rebalancing(ones, ones, ones, ones), NAMES, batch=0)
    assert max(len(trace.x) for trace in figure.data) <= 400
    assert [trace.line.dash for trace in figure.data[:6]] == ["solid"] * 3 + ["dot"] * 3


def test_calibration_is_in_per_cent_and_all_images_are_grey():
    z, labels = logits()
    by_group = metrics.calibration_by_group(z, labels, GROUPS)
    figure = plots.calibration(by_group)
    accuracy = [trace.y[0] for trace in figure.data if trace.type == "bar" and trace.offsetgroup == "accuracy"]
    assert accuracy == [group.accuracy for group in by_group.values()]
    lines = [trace.line.color for trace in figure.data if trace.type == "scatter"]
    assert lines == [plots.TEXT, plots.TEXT, *plots.PALETTE[:3]]


def weighted():
    z, _ = logits()
    terms = batch_terms.kl_terms(z, z[::-1].copy(), GROUPS)
    return {"p": {"all": batch_terms.weigh(terms)}, "beta": {"all": batch_terms.weigh(terms, beta=2.0)}}


def test_shares_of_the_gradient_sum_to_a_hundred():
    figure = plots.weighted_terms(weighted(), NAMES)
    for axis in ("x3", "x6"):
        assert sum(trace.y[0] for trace in figure.data if trace.xaxis == axis) == pytest.approx(100)


ONE_TO_THREE, NO_TAIL = {"head": 1.0, "medium": 2.0, "tail": 3.0}, {"head": 4.0, "medium": 4.0, "tail": np.nan}
LOOKS = {
    "kd": loss_probe.Look({"ce": 1.0, "kd": 3.0}, ONE_TO_THREE, ONE_TO_THREE, couples=False),
    "ce": loss_probe.Look({"ce": 2.0}, NO_TAIL, NO_TAIL, couples=True),
}


def test_looks_are_absolute_or_relative():
    plain, relative = plots.looks(LOOKS, NAMES), plots.looks(LOOKS, NAMES, relative=True)
    of_head = (0, 1, 2, 5)  # two terms, the value on the head's images and the gradient on them
    assert [list(plain.data[i].y) for i in of_head] == [[1.0, 2.0], [3.0, None], [1.0, 4.0], [1.0, 4.0]]
    assert [list(relative.data[i].y) for i in of_head] == [[25.0, 100.0], [75.0, None], [0.5, 1.0], [0.5, 1.0]]


def figures():
    z, labels = logits()
    yield plots.profiles({"a": COUNTS})
    yield plots.partitions({"rank": GROUPS, "shots": ClassGroups.by_shots(COUNTS)})
    yield plots.group_bars({"head": 1.0, "tail": 2.0}, y="y", title="t")
    yield plots.grouped_bars({"a": {"head": 1.0}}, errors={"a": {"head": 0.1}}, y="y", title="t")
    yield plots.group_confusions({"a": metrics.group_confusion(z, labels, GROUPS)}, NAMES)
    yield plots.spread([16, 64], [np.ones((5, 3)), np.ones((5, 3))], NAMES, x="x", y="y", title="t")
    yield plots.class_probabilities({"a": metrics.softmax(z)[0]}, GROUPS, class_names=list("abcdef"), title="t")
    ones = np.ones((3, 3))
    yield plots.longtail(COUNTS, GROUPS, ClassGroups.by_shots(COUNTS), title="t")
    yield plots.rebalancing(batch_terms.Rebalancing(ones, ones, ones, ones), NAMES, batch=1)
    yield plots.calibration(metrics.calibration_by_group(z, labels, GROUPS))
    yield plots.weighted_terms(weighted(), NAMES)
    yield plots.looks(LOOKS, NAMES)
    yield plots.lines([1, 2], {"a": [1, 2]}, x_title="x", y_title="y", title="t", marked=1.5)


@pytest.mark.parametrize("figure", list(figures()))
def test_every_figure_has_data_a_title_and_can_be_stored(figure):
    assert figure.data and figure.layout.title.text
    assert len(figure.to_json()) < 40_000


def test_no_two_methods_share_a_colour():
    colours = [plots.label_colour(name, 0) for name in ("teacher", *METHODS)]
    assert len(set(colours)) == len(colours)
    assert plots.label_colour("own", len(colours)) != plots.label_colour("teacher", 0)


def named(name):
    """Three groups, and six classes, of which the first has this name."""
    return ClassGroups((name, "b", "c"), GROUPS.index), [name, *"bcdef"]


def history():
    return pd.DataFrame({"epoch": [1, 2], "loss": [2.0, 1.0]})


def summary(name):
    numbers = {"head": [9.0, 8.0], "tail": [1.0, 3.0], "head_ci": [1.0, 1.0], "tail_ci": [1.0, 1.0]}
    return pd.DataFrame({"method": pd.Series([name, "kd"], dtype=object), **numbers})


ONES, SQUARE = np.ones((4, 3)), np.eye(3)
TERMS = batch_terms.WeightedTerms(np.ones(3), np.ones(4), np.ones(4))
FIGURES = {  # {function: its figure with a name wherever a name can stand}
    "accuracy_by_size": lambda n: plots.accuracy_by_size({n: ([1, 9], [1, 2], [0, 0])}, named(n)[0], COUNTS, title=n),
    "against_setting": lambda n: plots.against_setting({n: ([1, 2], [1, 2], [1, 2])}, x=n, y=n, title=n),
    "calibration": lambda n: plots.calibration({n: metrics.calibration_by_group(*logits(), GROUPS)["head"]}),
    "class_confusions": lambda n: plots.class_confusions({n: np.eye(6)}, named(n)[0]),
    "class_probabilities": lambda n: plots.class_probabilities(
        {n: np.ones(30) / 30}, ClassGroups.by_rank(range(30)), class_names=[n, *map(str, range(1, 30))], title=n, true=0
    ),
    "contact_sheet": lambda n: plots.contact_sheet(np.zeros((2, 1, 4, 4), np.uint8), title=n),
    "counts": lambda n: plots.counts(COUNTS, named(n)[0], class_names=named(n)[1], title=n),
    "counts_twice": lambda n: plots.counts_twice(COUNTS, named(n)[0]),
    "curves": lambda n: plots.curves({n: history()}, {"loss": n}, y=n, title=n),
    "decomposition": lambda n: plots.decomposition({n: (0.1, np.ones(3))}, [n, "b", "c"]),
    "differences": lambda n: plots.differences([n, "b"], [1.0, 2.0], [1.0, 1.0], [n, "holds"], title=n),
    "group_bars": lambda n: plots.group_bars({n: 1.0, "b": 2.0}, y=n, title=n),
    "group_confusions": lambda n: plots.group_confusions({n: SQUARE}, [n, "b", "c"]),
    "grouped_bars": lambda n: plots.grouped_bars({n: {n: 1.0, "b": 2.0}}, y=n, title=n),
    "lines": lambda n: plots.lines([1, 2], {n: [1, 2]}, x_title=n, y_title=n, title=n),
    "longtail": lambda n: plots.longtail(
        COUNTS,
        named(n)[0],
        named(n)[0],
        class_names=named(n)[1],
        samples={n: np.zeros((2, 1, 4, 4), np.uint8), "b": np.zeros((2, 1, 4, 4), np.uint8)},
    ),
    "looks": lambda n: plots.looks({n: loss_probe.Look({n: 1.0}, {n: 1.0}, {n: 1.0}, False)}, [n]),
    "mass_before_after": lambda n: plots.mass_before_after({n: (ONES, ONES)}, [n, "b", "c"], title=n),
    "mass_by_temperature": lambda n: plots.mass_by_temperature([1.0, 2.0], ONES[:2], named(n)[0]),
    "mass_per_batch": lambda n: plots.mass_per_batch({n: ONES}, [n, "b", "c"]),
    "partitions": lambda n: plots.partitions({n: named(n)[0]}),
    "prior": lambda n: plots.prior(COUNTS, np.ones(6) / 6, named(n)[0], 0.5, title=n),
    "profiles": lambda n: plots.profiles({n: COUNTS}),
    "rebalancing": lambda n: plots.rebalancing(batch_terms.Rebalancing(ONES, ONES, ONES, ONES), [n, "b", "c"], batch=0),
    "spread": lambda n: plots.spread([1, 2], [ONES, ONES], [n, "b", "c"], x=n, y=n, title=n),
    "trade": lambda n: plots.trade(summary(n), n),
    "two_by_two": lambda n: plots.two_by_two({(n, n): (1.0, 1.0)}, y=n, x=n, title=n),
    "weighted_terms": lambda n: plots.weighted_terms({n: {n: TERMS}}, [n, "b", "c"]),
}


def texts_and_templates(figure):
    found = texts(figure.to_plotly_json())
    templates = [text for key, text in found if key in ("hovertemplate", "texttemplate")]
    shown = [text for key, text in found if key not in ("hovertemplate", "texttemplate")]
    return [text.replace("<br>", "\n") for text in shown], templates


def test_every_figure_has_its_names_tested():
    functions = {name: getattr(plots, name) for name in plots.__all__ if inspect.isfunction(getattr(plots, name))}
    figures = [name for name, of in functions.items() if inspect.signature(of).return_annotation is go.Figure]
    assert sorted(FIGURES) == sorted(set(figures) - {"style"})


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_a_name_is_shown_as_it_is(figure, name):
    shown, templates = texts_and_templates(FIGURES[figure](name))
    assert not any(set("<$") & set(text) for text in shown)  # nothing that plotly takes for a tag or an equation
    assert any("\n".join(map(visible, name.split("\n"))) in html.unescape(text) for text in shown)
    assert templates == texts_and_templates(FIGURES[figure]("a"))[1]  # plotly reads them, so no name may stand in one
