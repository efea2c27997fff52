"""Tables of results for the command line, as DataFrames of text."""

from collections.abc import Container, Sequence
from typing import TYPE_CHECKING

from ..config import RunConfig
from ..config.recipes import RECIPES
from ..reproduce.compare import NOT_RUN
from ..reproduce.cost import number
from ..runs import Run, shared_subsets

if TYPE_CHECKING:
    import pandas as pd

ACCURACIES = ("all", "balanced", "head", "medium", "tail")
MOST_ROWS = 20
NAMED = ("dataset", "imbalance_factor", "teacher", "student", "seed")
PLACE = {"imbalance_factor": "factor", "teacher": "teacher", "student": "student"}


def summary(frame: "pd.DataFrame") -> "pd.DataFrame":
    """A result of `runs.summarise`, shortened: the settings in which its rows differ, and mean ± interval."""
    key = ["protocol"] if "protocol" in frame else []
    key += ["dataset", "imbalance_factor", "teacher", "student", "method"]
    settings = [c for c in frame.columns[: list(frame.columns).index("seeds")] if c not in key]
    alike = frame.groupby(key, dropna=False)
    key += [c for c in settings if (alike[c].nunique(dropna=False) > 1).any()]
    readable = frame[[*(name for name in key if name not in ("teaches", "classes")), "seeds"]].copy()
    readable["method"] += [_role(*role) for role in zip(frame["teaches"], frame["classes"], strict=True)]
    for name in ACCURACIES:
        pairs = zip(frame[name], frame[f"{name}_ci"], strict=True)
        readable[name] = [with_interval(mean, half_width) for mean, half_width in pairs]
    return readable


def _role(teaches: bool, classes: object) -> str:
    """The role of a run, to follow its method: teacher, expert or none."""
    if isinstance(classes, str):
        return f" (expert, {len(classes.split(','))} classes)"
    return " (teacher)" if teaches else ""


def classes(run: Run) -> "tuple[str, pd.DataFrame]":
    """A title, and a table of the test images of each class after the last epoch: number, precision, recall and F1 in
    per cent. With more than MOST_ROWS classes, those with the lowest F1."""
    import pandas as pd

    scores = run.result["per_class"]
    frame = pd.DataFrame({name: scores[name] for name in ("images", "precision", "recall", "f1")})
    frame.insert(0, "class", run.result["class_names"])
    frame.insert(1, "training", run.class_counts)
    if len(frame) <= MOST_ROWS:
        return "each class, in per cent of its test images:", frame
    lowest = frame.sort_values("f1", kind="stable").head(MOST_ROWS)
    return f"the {MOST_ROWS} of {len(frame)} classes with the lowest F1, in per cent of their test images:", lowest


def settings(configs: Sequence[RunConfig], finished: Container[str]) -> list[str]:
    """One line for each setting of a grid: recipe, data, networks, method, changes to the recipe, seeds.

    finished: ids of finished runs.
    """
    by_setting: dict[tuple[str, ...], list[RunConfig]] = {}
    shared = shared_subsets(config.seeds for config in configs)
    for config in configs:
        changed = {k: v for k, v in config.overrides().items() if k not in NAMED}
        if config.subset_seed in shared and "subset_seed" not in RECIPES[config.recipe].defaults:
            changed["subset_seed"] = config.subset_seed
        method = " ".join([config.method, *(f"{name}={value}" for name, value in changed.items())])
        networks = f"{config.teacher} -> {config.student}" if config.teacher else config.student
        data = f"{config.dataset} {config.imbalance_factor:g}"
        by_setting.setdefault((config.recipe, data, networks, method), []).append(config)
    widths = [max(map(len, column)) for column in zip(*by_setting, strict=True)]
    lines = []
    for setting, same in by_setting.items():
        done = sum(config.id in finished for config in same)
        seeds = ", ".join(str(config.seed) for config in same) + (f" ({done} finished)" if done else "")
        lines.append("  ".join([*(text.ljust(width) for text, width in zip(setting, widths, strict=True)), seeds]))
    return lines


def compared(frame: "pd.DataFrame") -> "pd.DataFrame":
    """A result of `compare.against`: the published number, ours with its interval, and the verdict."""
    readable = frame[["dataset", *PLACE]].rename(columns=PLACE)
    readable["method"] = frame.method + frame.options.map(lambda text: f" {text}" if text else "")
    readable["group"] = frame.group
    readable["published"] = frame.published.map("{:.2f}".format)
    readable["seeds"] = frame.seeds
    for prefix, title in (("", "last"), ("best_", "best")):
        pairs = zip(frame[f"{prefix}mean"], frame[f"{prefix}ci"], strict=True)
        readable[f"{title} epoch"] = [with_interval(mean, half) for mean, half in pairs]
        readable[f"{title}: verdict"] = frame[f"{prefix}verdict"]
    not_run = frame.verdict == NOT_RUN
    readable.loc[not_run, "last: verdict"] = [
        f"{NOT_RUN} ({number(images)} images a seed)" for images in frame.images[not_run]
    ]
    return readable.replace("", "-")


def claims(frame: "pd.DataFrame") -> "pd.DataFrame":
    """A result of `claims.check`: the comparison, the difference with its interval, and the verdict."""
    readable = frame[["claim", "protocol", "dataset", *PLACE]].rename(columns=PLACE)
    readable["comparison"] = [f"{better} > {worse}" for better, worse in zip(frame.better, frame.worse, strict=True)]
    readable["group"], readable["seeds"] = frame.group, frame.seeds
    readable["papers"] = frame.published.map(_signed)
    readable["difference"] = frame.difference.map(_signed)
    readable["95 % interval"] = [
        f"{low:+z.2f} to {high:+z.2f}" if low == low else "-" for low, high in zip(frame.low, frame.high, strict=True)
    ]
    readable["verdict"] = frame.verdict
    return readable


def _signed(value: float) -> str:
    return f"{value:+z.2f}" if value == value else "-"


def with_interval(mean: float, half_width: float) -> str:
    """ "61.20 ± 0.45"; "61.20" if the interval is NaN; "-" if the mean is NaN."""
    if mean != mean:
        return "-"
    return f"{mean:.2f}" if half_width != half_width else f"{mean:.2f} ± {half_width:.2f}"
