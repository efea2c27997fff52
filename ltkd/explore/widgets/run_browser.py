"""The runs browser: a table of runs to filter and choose from, and what the chosen ones say of heads and tails."""

import ipywidgets
import numpy as np

from ... import metrics, runs
from ...errors import LtkdError, RunError, unknown
from .. import plots
from .controls import Explorer
from .run_list import RunList, texts
from .training_monitor import CURVES, MOST_PANELS, chooser, curve_figure, show_options

FILTERS = {"dataset": "data", "imbalance_factor": "γ", "role": "method", "teacher": "teacher"}
FILTERS |= {"student": "network", "epochs": "epochs", "seed": "seed"}
ANY = "any"
MOST_CHOSEN = 12  # of all runs, to begin with
HELP = "Ctrl-click (on a Mac ⌘-click) a row for several, Shift-click for all between. Accuracies in %, last epoch."
BINS = 10  # of classes, for accuracy against size: ten classes each where there are a hundred
ACCURACY, TRADE, BY_SIZE = "accuracy of groups", "tail gain and head cost", "accuracy and class size"
GROUPS, CLASSES, HISTORY = "confusion of groups", "confusion of classes", "history"
GROUP_NAMES = ("head", "medium", "tail")


class RunBrowser(Explorer):
    """A table of runs: filter it, choose rows, and see what they say, means over seeds where a setting has several.

    source: see RunList. show: one of VIEWS, to begin with; baseline: what the trade is measured against, the name of a
    setting (default: ce, else the first). Finished runs that cannot be read are left out, and a sentence says so.
    """

    def __init__(self, source=None, show=ACCURACY, baseline=None):
        if show not in VIEWS:
            raise unknown("view of the browser", show, VIEWS)
        self.run_list, self._computed, self._trouble = RunList(source), {}, {}
        settings = list(dict.fromkeys(self.run_list.table["setting"]))
        if baseline is not None and baseline not in settings:
            raise unknown("baseline", baseline, settings)
        self._lines = _lines(self.run_list.table)
        self.filters = {name: _filter(name, self.run_list.table[name]) for name in _differing(self.run_list.table)}
        self.rows = chooser(self.run_list.runs)
        self.rows.layout.width = "100%"
        self._list([*self.run_list.runs][:MOST_CHOSEN])
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
    def values(self):
        return super().values | {"chosen": self.rows.value}

    def _table(self):
        """The widgets above the figure's own: filters, the head of the table, its rows."""
        filters = ipywidgets.Box([*self.filters.values()], layout={"flex_flow": "row wrap", "overflow": "visible"})
        # The rows are those of a list, whose text no style of ipywidgets reaches; columns need letters of one width.
        look = "<style>.ltkd-rows select, .ltkd-head {font-family: var(--jp-code-font-family, monospace)}</style>"
        head = ipywidgets.HTML(f'{look}<pre class="ltkd-head" style="margin:0 0 0 8px">{self._lines[None]}</pre>')
        self.rows.add_class("ltkd-rows")
        return filters, ipywidgets.HTML(f"<small>{HELP}</small>"), head, self.rows

    def _filtered(self, _change):
        wanted = {name: widget.value for name, widget in self.filters.items() if widget.value != ANY}
        table = self.run_list.table
        for name, value in wanted.items():
            table = table[[text == value for text in texts(table[name])]]
        kept = [name for name in table["name"] if name in self.rows.value] or list(table["name"])[:MOST_CHOSEN]
        self._adapting = True  # one drawing for all that changes here
        self._list(kept, table["name"])
        self._adapting = False
        self.redraw()

    def _list(self, chosen, names=None):
        names = list(self.run_list.runs if names is None else names)
        show_options(self.rows, [(self._lines[name], name) for name in names], chosen)

    def _figure(self, show, baseline, curves, chosen):
        self._trouble = {}
        if show == HISTORY:
            histories = self._of_each(chosen, lambda run: run.history)
            figure, note = curve_figure(histories, curves), ""
        else:
            figure, note = VIEWS[show](self, list(chosen), baseline)
        reasons = {}
        for name, why in self._trouble.items():
            reasons.setdefault(f"{why}", []).append(name)
        failed = [f"Left out: {', '.join(names)}; {why}." for why, names in reasons.items()]
        return figure, " ".join(filter(None, [note, *failed, self.run_list.left_out]))

    def _of_each(self, names, compute, key=None):
        """{name: compute(run)} of these runs, remembered under `key`; those whose files are damaged are left out."""
        computed = {}
        for name in names:
            if name in self._trouble:
                continue
            try:
                if (name, key) not in self._computed or key is None:
                    self._computed[name, key] = compute(self.run_list.runs[name])
                computed[name] = self._computed[name, key]
            except LtkdError as error:
                self._trouble[name] = error
        return computed

    def _by_setting(self, names, compute, key):
        """{setting: its runs' numbers, stacked (n_seeds, ...)} of what `compute(run)` gives."""
        stacks = {}
        for name, numbers in self._of_each(names, compute, key).items():
            stacks.setdefault(self.run_list.setting(name), []).append(numbers)
        return {setting: np.stack(numbers) for setting, numbers in stacks.items()}

    def _summary(self, names):
        table = self.run_list.table
        return runs.summarise(table[table["name"].isin(names)], by=("setting",))

    def _accuracy(self, chosen, _baseline):
        summary = self._summary(chosen)
        values = {r["setting"]: {g: r[g] for g in GROUP_NAMES} for _, r in summary.iterrows()}
        half = {r["setting"]: {g: r[f"{g}_ci"] for g in GROUP_NAMES} for _, r in summary.iterrows()}
        errors = {name: {g: h if np.isfinite(h) else None for g, h in by.items()} for name, by in half.items()}
        title = f"Accuracy on balanced test images, last epoch{_seeds(summary)}"
        several = len(summary) and summary["seeds"].max() > 1
        looks = {"y": "test accuracy, %", "title": title, "colours": [*plots.colours_of(values).values()]}
        figure = plots.grouped_bars(values, errors=errors if several else None, **looks)
        return figure.update_yaxes(minallowed=0, maxallowed=105), ""  # an interval of two seeds may end anywhere

    def _trade(self, chosen, baseline):
        of_baseline = self.run_list.table.query("setting == @baseline")["name"]
        summary = self._summary([*chosen, *of_baseline])
        title = f"What the tail gained, what the head paid{_seeds(summary)}"
        return plots.trade(summary, baseline, by="setting", title=title), ""

    def _accuracy_by_size(self, chosen, _baseline):
        counts, note = self._sizes(chosen)

        def binned(run):
            return np.stack(metrics.accuracy_by_size(*_told(run), counts, BINS))

        stacks = self._by_setting(chosen, binned, (BY_SIZE, tuple(counts)))
        curves = {name: (*stack.mean(0), _intervals(stack[:, 1])) for name, stack in stacks.items()}
        dots = {}
        if len(chosen) == 1 and curves:  # one run has room for its single classes
            dots = {next(iter(curves)): metrics.per_class_accuracy(*_told(self.run_list.runs[chosen[0]]))}
        each = -(-len(counts) // BINS)
        of_bins = f": a point is the mean of {each} classes of neighbouring size" if each > 1 else ""
        title = f"Accuracy against the size of a class{of_bins}"
        return plots.accuracy_by_size(curves, metrics.thirds(counts), counts, dots=dots, title=title), note

    def _group_confusions(self, chosen, _baseline):
        counts, note = self._sizes(chosen)
        groups = metrics.thirds(counts)

        def folded(run):
            return metrics.group_confusion(*_told(run), groups)

        shown, few = _few(self._by_setting(chosen, folded, (GROUPS, tuple(counts))))
        return plots.group_confusions(shown, groups.names), f"{few} {note}".strip()

    def _class_confusions(self, chosen, _baseline):
        counts, note = self._sizes(chosen)

        def whole(run):
            return metrics.sorted_confusion(*_told(run), counts)

        shown, few = _few(self._by_setting(chosen, whole, (CLASSES, tuple(counts))))
        return plots.class_confusions(shown, metrics.thirds(counts)), f"{few} {note}".strip()

    def _sizes(self, chosen):
        """The training images of each class that heads and tails go by, and a sentence if those of a run differ: of the
        chosen runs with as many classes as the first, the most long-tailed one's."""
        counts = self._of_each(chosen, lambda run: run.class_counts, "class counts")
        if not counts:
            raise RunError("no run to draw: choose a row of the table")
        classes = len(next(iter(counts.values())))
        for name in [name for name, of_run in counts.items() if len(of_run) != classes]:
            self._trouble[name] = f"it has {len(counts.pop(name))} classes, and {next(iter(counts))} has {classes}"
        most = max(counts, key=lambda name: counts[name].max() / max(1, counts[name].min()))
        others = [name for name, of_run in counts.items() if not np.array_equal(of_run, counts[most])]
        note = f"Classes are those of {most}: {', '.join(others)} had other numbers of images." if others else ""
        return counts[most], note


VIEWS = {
    ACCURACY: RunBrowser._accuracy,
    TRADE: RunBrowser._trade,
    BY_SIZE: RunBrowser._accuracy_by_size,
    GROUPS: RunBrowser._group_confusions,
    CLASSES: RunBrowser._class_confusions,
    HISTORY: None,
}


def _adapt(values):
    return {"baseline": {"hidden": values["show"] != TRADE}, "curves": {"hidden": values["show"] != HISTORY}}


def _told(run):
    """Logits (N, C) and labels (N,) of the test images. Of an imported run the confusion is known, but not the logits:
    then they are True for the predicted class, and the images are in no order."""
    if run.has_logits:
        return run.logits, run.labels
    labels, told = (classes.repeat(run.confusion.ravel()) for classes in np.indices(run.confusion.shape).reshape(2, -1))
    return np.eye(len(run.confusion), dtype=bool)[told], labels


def _few(stacks):
    """Means over seeds of the first settings, as many as are readable side by side, and a sentence on the others."""
    shown = {name: stack.mean(0) for name, stack in list(stacks.items())[:MOST_PANELS]}
    rest = len(stacks) - len(shown)
    return shown, f"The first {MOST_PANELS} of {len(stacks)} settings are drawn: choose fewer rows." if rest else ""


def _intervals(stack):
    """Half-widths of the 95 % intervals of the columns' means: (n_seeds, n) -> (n,)."""
    return np.array([runs.interval(column) for column in stack.T])


def _seeds(summary):
    most = summary["seeds"].max() if len(summary) else 1
    return f": mean of {most} seeds, 95 % intervals" if most > 1 else ""


def _differing(table):
    return [name for name in FILTERS if len(set(texts(table[name]))) > 1]


def _filter(name, column):
    options = [ANY, *dict.fromkeys(texts(column))]
    label = {"description": FILTERS[name], "style": {"description_width": "initial"}}
    return ipywidgets.Dropdown(options=options, value=ANY, layout={"width": "auto"}, **label)


def _lines(table):
    """The text of each row of the table, columns aligned: {name: text}, and the columns' heads under None."""
    columns = {"run": "name", "data": "dataset", "network": "student", "epochs": "epochs", "seed": "seed"}
    cells = {head: [head, *texts(table[column])] for head, column in columns.items()}
    cells |= {g: [g, *(f"{value:.1f}" for value in table[g].astype(float))] for g in ("all", *GROUP_NAMES)}
    width = {head: max(map(len, column)) for head, column in cells.items()}
    left = {"run", "data", "network"}
    padded = [[t.ljust(width[h]) if h in left else t.rjust(width[h]) for t in cells[h]] for h in cells]
    lines = ["  ".join(row).replace(" ", "\u00a0") for row in zip(*padded, strict=True)]  # a list drops plain gaps
    return dict(zip([None, *table["name"]], lines, strict=True))
