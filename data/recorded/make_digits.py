"""Record notebook 05's experiment: train data/grids/digits.toml, write digits.csv and digits.png beside this file.

The picture needs kaleido and a Chromium: pip install kaleido. Without them only the table is written.
"""

import json
import tempfile
from pathlib import Path

from ltkd import plots, runs
from ltkd.provenance import commit, hardware
from ltkd.sweep import expand, read_grid, sweep
from ltkd.training import pick_device

HERE = Path(__file__).resolve().parent


def main():
    configs = expand(read_grid(HERE.parent / "grids" / "digits.toml"))
    with tempfile.TemporaryDirectory() as folder:
        sweep(configs, runs=folder, progress=False)
        rows = runs.table(folder)
    rows["method"] = rows["method"].where(rows["student"] == configs[0].student, "teacher")
    summary = runs.summarise(rows, by=("method",)).set_index("method").loc[["teacher", "ce", "kd", "bkd", "ltkd"]]
    summary.round(2).to_csv(HERE / "digits.csv")
    record = {"command": "python data/recorded/make_digits.py", "config": configs[0].to_dict()}
    record |= {
        "hardware": hardware(pick_device("cpu")),
        "commit": commit(),
        "seeds": len(summary) and int(summary.seeds.iloc[0]),
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
