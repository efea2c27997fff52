"""Record notebook 05's experiment: train the grid `digits`, write digits.csv and digits.png beside this file.

The picture needs kaleido and a Chromium: pip install kaleido. One thread: OMP_NUM_THREADS=1.
"""

import json
import tempfile
from pathlib import Path

import pandas as pd

from ltkd import runs
from ltkd.explore import plots
from ltkd.reproduce.grids import expand, read_grid
from ltkd.reproduce.sweep import sweep

HERE = Path(__file__).resolve().parent


def main():
    configs = expand(read_grid("digits"))
    with tempfile.TemporaryDirectory() as folder:
        students = sweep(configs, runs=folder, progress=False)
        teachers = {run.config.for_teacher().id: run.config.for_teacher() for run in students if run.config.teacher}
        teachers = sweep(list(teachers.values()), runs=folder, progress=False)
        rows = pd.concat([runs.tabulate(teachers).assign(method="teacher"), runs.tabulate(students)])
        result = students[-1].result
    summary = runs.summarise(rows, by=("method",)).set_index("method").loc[["teacher", "ce", "kd", "bkd", "ltkd"]]
    summary.round(2).to_csv(HERE / "digits.csv")
    record = {
        "command": "python data/recorded/make_digits.py",
        "grid": "digits",
        "configs": [config.to_dict() for config in configs if config.seed == 0],
        "seeds": sorted({config.seed for config in configs}),
        "hardware": result["hardware"],
        "commit": result["commit"],
    }
    (HERE / "digits.json").write_text(json.dumps(record, indent=2) + "\n")
    picture(summary)


def picture(summary):
    groups = ("head", "medium", "tail")
    values = {label: {g: row[g] for g in groups} for label, row in summary.iterrows()}
    errors = {label: {g: row[f"{g}_ci"] for g in groups} for label, row in summary.iterrows()}
    title = "8 × 8 digits, imbalance factor 20: accuracy by group, 5 seeds, 95 % intervals"
    figure = plots.grouped_bars(values, errors=errors, y="test accuracy, %", title=title)
    figure.update_layout(paper_bgcolor="white", plot_bgcolor="white", font_color="#333333")
    figure.write_image(HERE / "digits.png", width=900, height=380, scale=1.5)


if __name__ == "__main__":
    main()
