"""The explorer: a page with sliders that need no Python. Python draws each figure once, by the functions of `plots`;
explorer.js computes the numbers anew from the recorded logits at every move, and puts them into the same traces."""

import base64
import json

import equations
import numpy as np
from markupsafe import Markup
from pages import asset, figure, frame, json_text, render
from plotly.offline import get_plotlyjs

from ltkd import ClassGroups
from ltkd.datasets import class_counts, profile_names
from ltkd.errors import visible
from ltkd.explore import batch_terms, plots
from ltkd.explore.widgets.batches import MOST_GROUPS

TITLE = "Sliders without Python"
SHOWS = "Five figures with sliders: the long tail, the teacher's bias, rebalancing, the parts of the KL, training."
TEMPERATURES = [0.5, 0.75, 1, 1.5, 2, 3, 4, 5, 6, 8, 10]
FACTORS = [1, 2, 5, 10, 20, 50, 100, 150, 200, 250]
BATCHES = [16, 32, 64, 128, 256]
STRENGTHS = [round(0.1 * step, 1) for step in range(26)]
MOST_IMAGES = 1024  # of a network and set: 0.3 MB in the page
MEASURES = {"test": "test accuracy, %", "train": "training accuracy, %", "within_kl": "KL within the group, nats"}


def page(recording, *, links):
    """The HTML page on a recording."""
    sets = logits_of(recording)
    panels = [counts(recording), mass(recording, sets), decomposition(recording), prior(recording), training(recording)]
    numbers = {
        "controls": {panel["name"]: {c["name"]: c["values"] for c in panel["controls"]} for panel in panels},
        **facts(recording),
        "logits": {name: packed(logits) for name, (logits, _) in sets.items()},
        "labels": {name: labels.tolist() for name, (_, labels) in sets.items()},
    }
    body = render("explorer.html.j2", heading=TITLE, title=recording.title, panels=panels, data=json_text(numbers))
    scripts = [get_plotlyjs(), asset("figures.js"), asset("explorer.js")]
    return frame(TITLE, body, links=links, scripts=scripts, kind="explorer")


def logits_of(recording):
    """Logits and labels of each network on balanced test images, and of teachers on long-tailed training images too:
    {"teacher, balanced": (logits, labels)}."""
    sets = {}
    for name in recording.names:
        logits, labels = recording.test(name)
        shown = few_of_each_class(labels)
        sets[f"{name}, balanced"] = logits[shown], labels[shown]
        if "teacher" in name:
            logits, labels = recording.train(name)
            sets[f"{name}, long-tailed"] = logits[:MOST_IMAGES], labels[:MOST_IMAGES]
    return sets


def few_of_each_class(labels):
    """Equally many images of each class, MOST_IMAGES at most, in the order they have."""
    each = max(1, MOST_IMAGES // (labels.max() + 1))
    return np.sort(np.concatenate([np.flatnonzero(labels == c)[:each] for c in np.unique(labels)]))


def packed(logits):
    """An array as float16 in base64: what was recorded, to the bit."""
    return base64.b64encode(np.ascontiguousarray(logits, dtype="<f2").tobytes()).decode()


def facts(recording):
    """What explorer.js needs beside logits."""
    n_classes = len(recording.class_counts)
    largest = [int(max(recording.class_counts))] * n_classes
    profiles = {
        name: {str(factor): np.asarray(class_counts(name, factor, largest)).tolist() for factor in FACTORS}
        for name in profile_names()
        if name != "as-is"
    }
    return {
        "classNames": [visible(name) for name in recording.class_names],
        "classCounts": np.asarray(recording.class_counts).tolist(),
        "partitions": partitions(recording.class_counts),
        "profiles": profiles,
        "profilePartitions": partitions(range(n_classes, 0, -1)),
        "histories": {name: columns(run.history) for name, run in recording.runs.items()},
        "measures": MEASURES,
    }


def partitions(counts):
    """The groups by rank for every number of groups that can be chosen."""
    chosen = [ClassGroups.by_rank(counts, n) for n in range(1, MOST_GROUPS + 1)]
    return [{"names": groups.names, "index": groups.index.tolist()} for groups in chosen]


def columns(history):
    """Epochs and values of each column that is drawn, where it has values."""
    names = [f"{measure}_{group}" for measure in MEASURES for group in ("head", "medium", "tail")]
    known = {name: history[["epoch", name]].dropna() for name in names if name in history}
    return {name: {"x": part["epoch"].tolist(), "y": part[name].tolist()} for name, part in known.items()}


def slider(name, label, values, start):
    return {"name": name, "label": label, "values": values, "start": values.index(start), "kind": "slider"}


def menu(name, label, values, start=None):
    return {"name": name, "label": label, "values": values, "start": start or values[0], "kind": "menu"}


def panel(name, heading, text, controls, drawn):
    """What the template needs of a section: its figure stands under a heading of its own, so it has no title."""
    drawn.update_layout(title_text="", margin_t=30).update_yaxes(automargin=True)
    return {
        "name": name,
        "heading": heading,
        "text": Markup(text),
        "controls": controls,
        "figure": figure(json.loads(drawn.to_json()), id=name),
    }


def counts(recording):
    drawn = plots.counts(recording.class_counts, ClassGroups.by_rank(recording.class_counts, MOST_GROUPS), log=True)
    text = (
        "Of a balanced set each class keeps fewer images than the one before; the imbalance factor is the ratio of the "
        "first to the last. When does the last class fall under the 20 images of <em>few-shot</em>?"
    )
    names = [name for name in profile_names() if name != "as-is"]
    controls = [
        menu("profile", "profile", names),
        slider("factor", "imbalance factor", FACTORS, 100),
        slider("groups", "groups", list(range(1, MOST_GROUPS + 1)), 3),
    ]
    return panel("counts", "1. The long tail", text, controls, drawn)


def mass(recording, sets):
    groups = ClassGroups.by_rank(recording.class_counts, MOST_GROUPS)
    logits, _ = sets["teacher, long-tailed"]
    before = batch_terms.batch_mass(logits, groups, batch_size=64, temperature=4.0)
    drawn = plots.mass_per_batch({"teacher's own": before, "rebalanced": before}, groups.names)
    equation = equations.display(
        r"\hat p_{\mathcal G}=\frac{s_{\mathcal G}\,p_{\mathcal G}}{\sum_{\mathcal K} s_{\mathcal K}\,p_{\mathcal K}}"
        r"\qquad s_{\mathcal G}=\frac{p^B_{\mathrm{avg}}}{p^B_{\mathcal G}}\tag{9–11}"
    )
    text = (
        "What the teacher gives to each group of classes, summed over a batch; solid as it is, dotted after LTKD's "
        f"rebalancing, which scales each group by its sum over the batch:{equation}Are the sums equal afterwards? At "
        "which temperatures? And where does the bias go when the images are balanced, or the teacher is?"
    )
    teachers = [name for name in recording.names if "teacher" in name]
    controls = [
        menu("network", "network", teachers),
        menu("images", "images", ["long-tailed", "balanced"]),
        slider("temperature", "temperature", TEMPERATURES, 4),
        slider("batch", "batch size", BATCHES, 64),
        slider("groups", "groups", list(range(1, MOST_GROUPS + 1)), 3),
    ]
    return panel("mass", "2. The teacher's bias, before and after rebalancing", text, controls, drawn)


def decomposition(recording):
    groups = ClassGroups.by_rank(recording.class_counts)
    labels = ["this image", *(f"mean of {name} images" for name in groups.names)]
    drawn = plots.decomposition({label: (0.0, np.zeros(groups.n_groups)) for label in labels}, groups.names)
    text = (
        "The KL divergence from teacher to student is exactly one term across the groups and one within each, weighted "
        "by the teacher's group mass (LTKD, Eq. 8). Which part does the head dominate? Images run from the most "
        "frequent class to the rarest."
    )
    students = [name for name in recording.names if "teacher" not in name]
    n_images = len(few_of_each_class(recording.test("teacher")[1]))
    controls = [
        menu("student", "student", students, "kd" if "kd" in students else None),
        slider("temperature", "temperature", TEMPERATURES, 4),
        slider("image", "image", list(range(1, n_images + 1)), n_images - 5),
    ]
    return panel("decomposition", "3. Where the KL divergence sits", text, controls, drawn)


def prior(recording):
    long_tailed = [name for name, run in recording.runs.items() if run.config.imbalance_factor > 1]
    names = ClassGroups.by_rank(recording.class_counts).names
    drawn = plots.group_bars(dict.fromkeys(names, 0.0), y="test accuracy, %", title="")
    text = (
        "A network trained on a long tail learns how often each class comes. Take that off its logits afterwards, "
        "z − τ log (share of the class in training): no training, and τ = 0 is the network as it is. What does the "
        "head pay? (Do not choose τ here: these are test images.)"
    )
    controls = [
        menu("network", "network", long_tailed),
        slider("tau", "τ", STRENGTHS, 0.0),
    ]
    highest = max(recording.runs[name].result["last"]["head"] for name in long_tailed)
    drawn.update_yaxes(range=[0, min(100, 1.3 * highest)])  # one scale for all τ, with room above the head
    return panel("prior", "4. Without the class prior", text, controls, drawn)


def training(recording):
    histories = {name: run.history for name, run in recording.runs.items()}
    panels = {f"test_{group}": group for group in ("head", "medium", "tail")}
    drawn = plots.curves(histories, panels, y=MEASURES["test"], title="")
    runs = [name for name, history in histories.items() for column in panels if column in history]
    for trace, run in zip(drawn.data, runs, strict=True):
        trace.meta = run  # the name of a trace is a text for plotly
    text = "The recorded runs, epoch by epoch. Where do the methods part, and for whom?"
    return panel("training", "5. Training", text, [menu("measure", "shown", list(MEASURES.values()))], drawn)
