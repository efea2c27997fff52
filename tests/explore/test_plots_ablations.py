"""Figures of ablations show the numbers they are given."""

from ltkd.explore import plots

CELLS = {("as it is", "p"): (34.0, 1.0), ("as it is", "1"): (35.0, 2.0), ("rebalanced", "p"): (54.0, 3.0)}
CELLS["rebalanced", "1"] = (52.0, float("nan"))


def test_two_by_two_keeps_the_order_of_its_cells():
    (square,) = plots.two_by_two(CELLS, y="cross", x="within", title="tail").data
    assert list(square.y) == ["as it is", "rebalanced"] and list(square.x) == ["p", "1"]
    assert square.z.tolist() == [[34.0, 35.0], [54.0, 52.0]]
    assert square.text[1][0] == "54.0 ± 3.0 %"
    assert square.text[1][1] == "52.0 %"  # one seed has no interval


def test_each_name_has_a_line_and_known_intervals_are_drawn():
    lines = {"tail": ([1, 2], [30.0, 40.0], [3.0, 4.0]), "published": ([1, 2], [50.0, 51.0], None)}
    ours, published = plots.against_setting(lines, x="alpha", y="%", title="", marked=2, log=True).data
    assert ours.error_y.array.tolist() == [3.0, 4.0] and published.error_y.array is None
    assert published.y.tolist() == [50.0, 51.0]
    assert ours.line.color != published.line.color


def test_differences_are_coloured_by_verdict():
    labels, verdicts = ["ltkd > kd", "ltkd > bkd", "kd > ce"], ["holds", "does not hold", "undecided"]
    figure = plots.differences(labels, [4.0, -1.5, 0.1], [1.0, 0.3, float("nan")], verdicts, title="")
    assert [trace.name for trace in figure.data] == verdicts
    assert [trace.x[0] for trace in figure.data] == [4.0, -1.5, 0.1]
    assert len({trace.marker.color for trace in figure.data}) == 3
    assert list(figure.layout.yaxis.categoryarray) == labels[::-1]  # plotly starts at the bottom
