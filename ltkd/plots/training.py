"""Figures of runs: curves over epochs, and what a method gains and pays."""

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from .looks import TEXT, label_colour, style


def curves(histories, columns, *, y, title, shared=True):
    """Curves over epochs, one panel a column. histories: {label: DataFrame, as Run.history}; columns: {column: panel
    title}; runs without a column, and epochs without a value, are passed over. shared: one scale for all panels."""
    figure = make_subplots(
        1, len(columns), subplot_titles=list(columns.values()), shared_yaxes="all" if shared else None
    )
    for i, (label, history) in enumerate(histories.items()):
        for position, column in enumerate(columns, start=1):
            if column not in history:
                continue
            known = history[["epoch", column]].dropna()
            figure.add_scatter(
                x=known["epoch"],
                y=known[column],
                name=label,
                legendgroup=label,
                showlegend=position == 1,
                mode="lines",
                line={"color": label_colour(label, i)},
                row=1,
                col=position,
            )
    style(figure, title=title, x="epoch")
    return figure.update_yaxes(title=y, col=1)


def trade(summary, baseline, *, title="What the tail gained, what the head paid"):
    """Each method's mean head and tail accuracy against a baseline method's. summary: rows of `runs.summarise`."""
    base = summary[summary["method"] == baseline].iloc[0]
    figure = go.Figure()
    for i, row in enumerate(summary.itertuples()):
        figure.add_scatter(
            x=[row.head - base["head"]],
            y=[row.tail - base["tail"]],
            error_x={"array": [row.head_ci], "color": TEXT, "thickness": 1},
            error_y={"array": [row.tail_ci], "color": TEXT, "thickness": 1},
            mode="markers+text",
            text=[row.method],
            textposition="top right",
            marker={"size": 12, "color": label_colour(row.method, i)},
            name=row.method,
            showlegend=False,
        )
    figure.add_hline(y=0, line_color=TEXT, line_width=1).add_vline(x=0, line_color=TEXT, line_width=1)
    x = f"head accuracy minus {baseline}'s, points"
    return style(figure, title=title, x=x, y=f"tail accuracy minus {baseline}'s, points", height=430)
