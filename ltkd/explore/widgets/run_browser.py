"""The runs browser: a table of runs to filter and choose from, above figures of the chosen runs."""

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ipywidgets
import numpy as np
import pandas as pd

from ... import metrics, runs
from ...errors import LtkdError, RunError, unknown
from ...runs import Run
from .. import plots
from .controls import Drawing, Explorer
from .run_list import RunList, texts
from .training_monitor import CHOOSE_HELP, CURVES, MOST_PANELS, chooser, curve_figure, show_options

FILTERS = {"dataset": "data", "imbalance_factor": "γ", "role": "method", "teacher": "teacher"}
FILTERS |= {"student": "network", "epochs": "epochs", "seed": "seed"}
ANY = "any"
MOST_CHOSEN = 12  # rows that are chosen at first
BINS = 10  # of classes, in the figure of accuracy and class size
ACCURACY, TRADE, BY_SIZE = "accuracy of groups", "tail gain and head cost", "accuracy and class size"
GROUPS, CLASSES, HISTORY = "confusion of groups", "confusion of classes", "history"
GROUP_NAMES = ("head", "medium", "tail")


class RunBrowser(Explorer):
    """A table of runs with filters, and figures of the chosen rows: means over the seeds of each setting.

    source: see RunList; show: the first view, one of VIEWS; baseline: the setting that others are compared with in the
    view "tail gain and head cost", by default ce, or else the first. Runs that cannot be read are left out, and the
    note names them. Raises ConfigError for an unknown view or baseline, RunError or DataError if there are no runs.
    """

    def __init__(
        self,
        source: str | Path | Mapping[str, Run] | Sequence[Run] | None = None,
        show: str = ACCURACY,
        baseline: str | None = None,
    ):
        if show not in VIEWS:
            raise unknown("view of the browser", show, VIEWS)
        self.run_list = RunList(source)
        self._computed: dict[tuple[str, Hashable], Any] = {}
        self._problems: dict[str, str] = {}
        table = self.run_list.table
        settings = list(dict.fromkeys(table["setting"]))
        if baseline is not None and baseline not in settings:
            raise unknown("baseline", baseline, settings)
        self._row_texts = _row_texts(table)
        self.filters = {name: _filter(name, table[name]) for name in FILTERS if len(set(texts(table[name]))) > 1}
        self.rows = chooser(self.run_list.runs)
        self.rows.layout.width = "100%"
        self._list_rows(self.run_list.runs, [*self.run_list.runs][:MOST_CHOSEN])
        controls = {
            "show": {"options": list(VIEWS), "value": show, "kind": "buttons", "label": ""},
            "baseline": {"options": settings, "value": baseline or ("ce" if "ce" in settings else settings[0])},
            "curves": {"options": list(CURVES), "value": "test accuracy"},
        }
        super().__init__(self._figure, controls, _adapt)
        self.rows.observe(self._moved, names="value")
        for widget in self.filters.values():
            widget.observe(self._filtered, names="value")
        self.children = [*self._table(), *self.children]

    @property
    def values(self) -> dict[str, Any]:
        """The values of the controls, by name, and the names of the chosen runs."""
        return super().values | {"chosen": self.rows.value}

    def _table(self) -> tuple[ipywidgets.DOMWidget, ...]:
        """The widgets above the controls: filters, a help text, and the table's head and rows."""
        filters = ipywidgets.Box([*self.filters.values()], layout={"flex_flow": "row wrap", "overflow": "visible"})
        # Aligned columns need a monospaced font. No style of ipywidgets sets the font of a list's rows, but CSS does.
        css = "<style>.ltkd-rows select, .ltkd-head {font-family: var(--jp-code-font-family, monospace)}</style>"
        head = ipywidgets.HTML(f'{css}<pre class="ltkd-head" style="margin:0 0 0 8px">{self._row_texts[None]}</pre>')
        self.rows.add_class("ltkd-rows")
        help_text = ipywidgets.HTML(f"<small>{CHOOSE_HELP}. Accuracies in %, last epoch.</small>")
        return filters, help_text, head, self.rows

    def _filtered(self, _change: Any) -> None:
        table = self.run_list.table
        for name, widget in self.filters.items():
            if widget.value != ANY:
                table = table[[text == widget.value for text in texts(table[name])]]
        kept = [name for name in table["name"] if name in self.rows.value] or list(table["name"])[:MOST_CHOSEN]
        with self._without_drawing():
            self._list_rows(table["name"], kept)
        self.redraw()

    def _list_rows(self, names: Collection[str], chosen: Collection[str]) -> None:
        show_options(self.rows, [(self._row_texts[name], name) for name in names], chosen)

    def _figure(self, show: str, chosen: Sequence[str], **_others: Any) -> Drawing:
        self._problems = {}
        figure, note = VIEWS[show](self, list(chosen))
        by_problem: dict[str, list[str]] = {}
        for name, problem in self._problems.items():
            by_problem.setdefault(problem, []).append(name)
        left_out = [f"Left out: {', '.join(names)}; {problem}." for problem, names in by_problem.items()]
        return figure, " ".join(filter(None, [note, *left_out, self.run_list.left_out]))

    def _of_each(self, names: Sequence[str], compute: Callable[[Run], Any], key: Hashable = None) -> dict[str, Any]:
        """{name: compute(run)}, cached under `key` if there is one. Runs with damaged files are left out."""
        computed = {}
        for name in names:
            if name in self._problems:
                continue
            try:
                if (name, key) not in self._computed or key is None:
                    self._computed[name, key] = compute(self.run_list.runs[name])
                computed[name] = self._computed[name, key]
            except LtkdError as error:
                self._problems[name] = f"{error}"
        return computed

    def _by_setting(self, names: Sequence[str], compute: Callable[[Run], Any], key: Hashable) -> dict[str, np.ndarray]:
        """{setting: compute(run) of its runs, stacked (n_seeds, ...)}, cached under `key`."""
        stacks: dict[str, list[Any]] = {}
        for name, numbers in self._of_each(names, compute, key).items():
            stacks.setdefault(self.run_list.setting(name), []).append(numbers)
        return {setting: np.stack(numbers) for setting, numbers in stacks.items()}

    def _summary(self, names: Sequence[str]) -> pd.DataFrame:
        table = self.run_list.table
        return runs.summarise(table[table["name"].isin(names)], by=("setting",))

    def _accuracy(self, chosen: list[str]) -> Drawing:
        summary = self._summary(chosen)
        values = {r["setting"]: {g: r[g] for g in GROUP_NAMES} for _, r in summary.iterrows()}
        half = {r["setting"]: {g: r[f"{g}_ci"] for g in GROUP_NAMES} for _, r in summary.iterrows()}
        errors = {name: {g: h if np.isfinite(h) else None for g, h in by.items()} for name, by in half.items()}
        figure = plots.grouped_bars(
            values,
            errors=errors if len(summary) and summary["seeds"].max() > 1 else None,
            y="test accuracy, %",
            title=f"Accuracy on balanced test images, last epoch{_seeds(summary)}",
            colours=[*plots.colours_of(values).values()],
        )
        return figure.update_yaxes(minallowed=0, maxallowed=105), ""  # the interval of two seeds may be very long

    def _trade(self, chosen: list[str]) -> Drawing:
        baseline = self.panel["baseline"].value
        of_baseline = self.run_list.table.query("setting == @baseline")["name"]
        summary = self._summary([*chosen, *of_baseline])
        title = f"What the tail gained, what the head paid{_seeds(summary)}"
        return plots.trade(summary, baseline, by="setting", title=title), ""

    def _accuracy_by_size(self, chosen: list[str]) -> Drawing:
        counts, note = self._class_counts(chosen)

        def binned(run: Run) -> np.ndarray:
            return np.stack(metrics.accuracy_by_size(*_logits_and_labels(run), counts, BINS))

        stacks = self._by_setting(chosen, binned, (BY_SIZE, tuple(counts)))
        curves = {name: (*stack.mean(0), _intervals(stack[:, 1])) for name, stack in stacks.items()}
        dots = {}
        if len(chosen) == 1 and curves:  # for one run, its single classes can be drawn too
            dots = {next(iter(curves)): metrics.per_class_accuracy(*_logits_and_labels(self.run_list.runs[chosen[0]]))}
        each = -(-len(counts) // BINS)
        of_bins = f": a point is the mean of {each} classes of neighbouring size" if each > 1 else ""
        title = f"Accuracy against the size of a class{of_bins}"
        return plots.accuracy_by_size(curves, metrics.thirds(counts), counts, dots=dots, title=title), note

    def _group_confusions(self, chosen: list[str]) -> Drawing:
        counts, note = self._class_counts(chosen)
        groups = metrics.thirds(counts)

        def confusion(run: Run) -> np.ndarray:
            return metrics.group_confusion(*_logits_and_labels(run), groups)

        shown, more = _first_means(self._by_setting(chosen, confusion, (GROUPS, tuple(counts))))
        return plots.group_confusions(shown, groups.names), f"{more} {note}".strip()

    def _class_confusions(self, chosen: list[str]) -> Drawing:
        counts, note = self._class_counts(chosen)

        def confusion(run: Run) -> np.ndarray:
            return metrics.sorted_confusion(*_logits_and_labels(run), counts)

        shown, more = _first_means(self._by_setting(chosen, confusion, (CLASSES, tuple(counts))))
        return plots.class_confusions(shown, metrics.thirds(counts)), f"{more} {note}".strip()

    def _history(self, chosen: list[str]) -> Drawing:
        return curve_figure(self._of_each(chosen, lambda run: run.history), self.panel["curves"].value), ""

    def _class_counts(self, chosen: list[str]) -> tuple[np.ndarray, str]:
        """The training images of each class (C,) that define the groups, and a note if they differ between runs.

        They are those of the most long-tailed run. Runs with another number of classes than the first are left out.
        """
        counts = self._of_each(chosen, lambda run: run.class_counts, "class counts")
        if not counts:
            raise RunError("no run to draw: choose a row of the table")
        first, n_classes = next((name, len(of_run)) for name, of_run in counts.items())
        for name in [name for name, of_run in counts.items() if len(of_run) != n_classes]:
            self._problems[name] = f"it has {len(counts.pop(name))} classes, and {first} has {n_classes}"
        most = max(counts, key=lambda name: counts[name].max() / max(1, counts[name].min()))
        others = [name for name, of_run in counts.items() if not np.array_equal(of_run, counts[most])]
        note = f"Class sizes are those of {most}: {', '.join(others)} had other numbers of images." if others else ""
        return counts[most], note


VIEWS: dict[str, Callable[[RunBrowser, list[str]], Drawing]] = {
    ACCURACY: RunBrowser._accuracy,
    TRADE: RunBrowser._trade,
    BY_SIZE: RunBrowser._accuracy_by_size,
    GROUPS: RunBrowser._group_confusions,
    CLASSES: RunBrowser._class_confusions,
    HISTORY: RunBrowser._history,
}


def _adapt(values: Mapping[str, Any]) -> dict[str, dict[str, bool]]:
    return {"baseline": {"hidden": values["show"] != TRADE}, "curves": {"hidden": values["show"] != HISTORY}}


def _logits_and_labels(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, C) and labels (N,) of the test images.

    An imported run has a confusion matrix only. Then the logits are True for the predicted class, and the order of the
    images is arbitrary.
    """
    if run.has_logits:
        return run.logits, run.labels
    n_classes = len(run.confusion)
    true, predicted = (classes.repeat(run.confusion.ravel()) for classes in np.indices((n_classes,) * 2).reshape(2, -1))
    return np.eye(n_classes, dtype=bool)[predicted], true


def _first_means(stacks: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], str]:
    """Means over seeds of the first MOST_PANELS settings, and a note if there are more."""
    shown = {name: stack.mean(0) for name, stack in list(stacks.items())[:MOST_PANELS]}
    note = f"The first {MOST_PANELS} of {len(stacks)} settings are drawn: choose fewer rows."
    return shown, note if len(stacks) > len(shown) else ""


def _intervals(stack: np.ndarray) -> np.ndarray:
    """Half-widths of the 95 % intervals of the columns' means: (n_seeds, n) -> (n,)."""
    return np.array([runs.interval(column) for column in stack.T])


def _seeds(summary: pd.DataFrame) -> str:
    """The end of a title: over how many seeds the means are."""
    most = summary["seeds"].max() if len(summary) else 1
    return f": mean of {most} seeds, 95 % intervals" if most > 1 else ""


def _filter(name: str, column: pd.Series) -> ipywidgets.Dropdown:
    options = [ANY, *dict.fromkeys(texts(column))]
    label = {"description": FILTERS[name], "style": {"description_width": "initial"}}
    return ipywidgets.Dropdown(options=options, value=ANY, layout={"width": "auto"}, **label)


def _row_texts(table: pd.DataFrame) -> dict[str | None, str]:
    """The text of each row, with aligned columns: {name of the run: text}, and the column titles under None."""
    columns = {"run": "name", "data": "dataset", "network": "student", "epochs": "epochs", "seed": "seed"}
    cells = {head: [head, *texts(table[column])] for head, column in columns.items()}
    for score in ("all", "balanced", *GROUP_NAMES):  # NaN: a group without test images, or a run of version 0.1
        cells[score] = [score, *("-" if v != v else f"{v:.1f}" for v in table[score].astype(float))]
    width = {head: max(map(len, column)) for head, column in cells.items()}
    left = {"run", "data", "network"}
    padded = [[t.ljust(width[h]) if h in left else t.rjust(width[h]) for t in cells[h]] for h in cells]
    lines = ["  ".join(row).replace(" ", "\u00a0") for row in zip(*padded, strict=True)]  # HTML joins plain spaces
    return dict(zip([None, *table["name"]], lines, strict=True))
