"""Execute the notebooks with papermill: begun in reading order, two at a time, with one store of runs.

python notebooks/run.py              into workbook/, which git ignores
python notebooks/run.py --in-place   and store them here with clean outputs, as they are committed
python notebooks/run.py 02 03        only those whose name begins so
python notebooks/run.py --jobs 1     one after the other
"""

import argparse
import logging
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import papermill

HERE = Path(__file__).resolve().parent
WORKBOOK = HERE.parent / "workbook"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="*", help="beginnings of names, such as 02 (default: all)")
    parser.add_argument("--in-place", action="store_true", help="store the executed notebooks with clean outputs")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="how many at a time (2)")
    given = parser.parse_args()
    if given.jobs < 1:
        parser.error(f"--jobs {given.jobs}: must be a whole number of at least 1")
    logging.getLogger("papermill").setLevel(logging.ERROR)
    started = time.monotonic()
    with ThreadPoolExecutor(given.jobs) as pool:
        running = [pool.submit(execute, notebook, given.in_place) for notebook in notebooks(given.only)]
        try:
            for each in running:
                print(each.result(), flush=True)
        except BaseException:
            pool.shutdown(cancel_futures=True)  # what failed comes up now, and nothing more is begun
            raise
    print(f"done in {time.monotonic() - started:.0f} s. Look at them: .venv/bin/jupyter lab {WORKBOOK.name}")


def notebooks(only):
    """The notebooks to run, in reading order, each followed by its solutions."""
    found = sorted([*HERE.glob("[0-9]*.ipynb"), *HERE.glob("solutions/*.ipynb")], key=lambda path: path.name)
    chosen = [path for path in found if not only or path.name.startswith(tuple(only))]
    if not chosen:
        sys.exit(f"no notebook begins with {' or '.join(only)}; there are {', '.join(path.name for path in found)}")
    return chosen


def execute(notebook, in_place):
    """Run one notebook into WORKBOOK; with `in_place` store the result, cleaned, where it came from. Returns a line
    that says how long it took."""
    output = WORKBOOK / notebook.relative_to(HERE)
    output.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    quiet = {"progress_bar": False, "extra_arguments": ["--IPKernelApp.log_level=CRITICAL"]}
    papermill.execute_notebook(notebook, output, cwd=notebook.parent, kernel_name="python3", **quiet)
    seconds = time.monotonic() - started
    if in_place:
        nbformat.write(clean(nbformat.read(output, as_version=4)), notebook)
    return f"{notebook.relative_to(HERE)}: {seconds:.0f} s"


def clean(notebook):
    """Drop what papermill and widgets add to a notebook and what differs from run to run."""
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    for cell in notebook.cells:
        cell.metadata = {key: value for key, value in cell.metadata.items() if key == "tags" and value}
        for output in cell.get("outputs", ()):
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
    return notebook


if __name__ == "__main__":
    os.environ.setdefault(
        "OMP_NUM_THREADS", "1"
    )  # more threads do not help networks this small, and hurt a busy machine
    os.environ["PLOTLY_RENDERER"] = "plotly_mimetype"  # figures as data: a few kB each, not plotly.js in every one
    main()
