"""Write the notebooks, as they are stored, and the explorer as HTML files that need neither Python nor network.

python notebooks/handouts/make.py              into workbook/html/, which git ignores
python notebooks/handouts/make.py --out pages
"""

import argparse
import re
import sys
from pathlib import Path

import nbformat
from markupsafe import Markup

from ltkd._support.storage import write_bytes
from ltkd._support.terminal import say
from ltkd.errors import LtkdError, visible
from ltkd.explore.recorded import read_recording, recording

try:
    import explorer
    import pages
except ImportError as error:
    sys.exit(f"the package {error.name} is missing: pip install 'ltkd[notebooks]', or make html, which does it")

NOTEBOOKS = Path(__file__).resolve().parent.parent
EXPLORER = "explorer.html"
WHAT = (
    "A workbook on long-tailed data and knowledge distillation. Every page is one file and needs no network; to run "
    "the cells and move the sliders of the notebooks, open them in JupyterLab."
)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=NOTEBOOKS.parent / "workbook" / "html")
    parser.add_argument(
        "--recording", type=Path, help="folder of the explorer's data (default: data/recorded/cifar100-lt)"
    )
    given = parser.parse_args()
    notebooks = {page_of(path): nbformat.read(path, as_version=4) for path in found()}
    for path, notebook in notebooks.items():
        store(given.out / path, pages.page(notebook, path, links=links(path, notebooks), pages={*notebooks, EXPLORER}))
    try:
        data = read_recording(given.recording) if given.recording else recording("cifar100-lt")
        store(given.out / EXPLORER, explorer.page(data, links=[("Contents", "index.html")]))
    except (LtkdError, OSError) as error:
        store(given.out / "index.html", contents(notebooks, with_explorer=False))
        sys.exit(f"The notebooks are written, the explorer is not: {visible(error)}")
    store(given.out / "index.html", contents(notebooks))
    say(f"Open {given.out / 'index.html'}")


def found():
    """The notebooks in reading order, then the solutions."""
    return [*sorted(NOTEBOOKS.glob("[0-9]*.ipynb")), *sorted(NOTEBOOKS.glob("solutions/*.ipynb"))]


def page_of(path):
    return path.relative_to(NOTEBOOKS).with_suffix(".html").as_posix()


def store(path, text):
    write_bytes(path, text.encode())
    say(f"{path}  {path.stat().st_size / 1e6:.1f} MB")


def links(path, notebooks):
    """The navigation of a notebook's page: contents, its neighbours, its solutions."""
    if path.startswith("solutions/"):
        return [("Contents", "../index.html"), ("The notebook", f"../{path.removeprefix('solutions/')}")]
    chapters = [other for other in notebooks if "/" not in other]
    place = chapters.index(path)
    shown = [("Contents", "index.html")]
    if place:
        shown.append((f"← {pages.title(notebooks[chapters[place - 1]])}", chapters[place - 1]))
    if place + 1 < len(chapters):
        shown.append((f"{pages.title(notebooks[chapters[place + 1]])} →", chapters[place + 1]))
    if f"solutions/{path}" in notebooks:
        shown.append(("Solutions", f"solutions/{path}"))
    return shown


def contents(notebooks, with_explorer=True):
    """The page that lists the others, each with one line."""
    rows = [row(EXPLORER, explorer.TITLE, explorer.SHOWS)] if with_explorer else []
    for path, notebook in notebooks.items():
        if not path.startswith("solutions/"):
            rows.append(row(path, pages.title(notebook), shows(notebook), f"solutions/{path}" in notebooks))
    heading = Markup("<h1>Distil balanced knowledge from a biased teacher</h1>")
    body = Markup("{}\n<p>{}</p>\n<dl>{}</dl>").format(heading, WHAT, Markup("").join(rows))
    return pages.frame("ltkd: the workbook", body, links=[], kind="contents")


def row(path, title, line, solved=False):
    solutions = Markup(' · <a href="solutions/{}">solutions</a>').format(path) if solved else ""
    return Markup('<dt><a href="{}">{}</a></dt><dd>{}{}</dd>\n').format(path, title, line, solutions)


def shows(notebook):
    """What a notebook shows, from its first cell, in one line without marks."""
    line = re.search(r"\*\*You will see\*\* (.+)", notebook.cells[0].source)
    plain = re.sub(r"\[([^]]*)\]\([^)]*\)|[*`$]", r"\1", line[1]) if line else ""
    return plain[:1].upper() + plain[1:]


if __name__ == "__main__":
    main()
