"""A notebook, as it is stored, as a page in one file: its figures and equations need no network."""

import copy
import json
import posixpath
import re
from functools import cache
from pathlib import Path

import equations
import nbformat
from jinja2 import Template, pass_context
from nbconvert.exporters import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from plotly.offline import get_plotlyjs
from pygments.formatters import HtmlFormatter

HERE = Path(__file__).resolve().parent
FIGURE = "application/vnd.plotly.v1+json"
FIGURE_MARK = 'class="figure"'
WIDGET = "application/vnd.jupyter.widget-view+json"
# What a widget leaves in a notebook that is stored without widgets: the beginning of its repr.
WIDGETS = re.compile(r"\w+\(children=|FigureWidget\(")
NOTE = (
    '<p class="note">Here are sliders or live curves in JupyterLab (<code>make lab</code>): they need Python. Some '
    'that need none are in <a href="{explorer}">explorer.html</a>.</p>'
)


def page(notebook, path, *, links, pages):
    """The HTML page of a notebook.

    path: where the page goes, in the folder of all pages; links: (text, target) of the navigation; pages: all paths.
    """
    prepared = prepare(copy.deepcopy(notebook), explorer=posixpath.relpath("explorer.html", posixpath.dirname(path)))
    exporter = Cells(template_file=str(HERE / "cells.html.j2"))
    exporter.path, exporter.pages = path, pages
    body, _ = exporter.from_notebook_node(prepared)
    scripts = [get_plotlyjs(), asset("figures.js")] if FIGURE_MARK in body else []
    return frame(title(notebook), body, links=links, scripts=scripts)


def title(notebook):
    """The notebook's first heading."""
    return re.search("^# (.+)$", notebook.cells[0].source, re.MULTILINE)[1]


def frame(title, body, *, links, scripts=(), kind="notebook"):
    """A whole page around `body`."""
    template = Template(asset("page.html.j2"))
    return template.render(
        title=title, body=body, links=links, scripts=scripts, kind=kind, css=asset("page.css") + code_css()
    )


@cache
def asset(name):
    """The text of a file beside this one."""
    return (HERE / name).read_text("utf-8")


@cache
def code_css():
    """Colours of code, on a light and on a dark page."""
    light, dark = (HtmlFormatter(style=style).get_style_defs(".highlight") for style in ("default", "github-dark"))
    return f"{light}\n@media screen and (prefers-color-scheme: dark) {{\n{dark}\n}}\n.highlight {{ background: none; }}"


def figure(plotly_json, **attributes):
    """The element that figures.js draws a figure into."""
    height = plotly_json.get("layout", {}).get("height", 380)
    # In a script nothing but the end tag has a meaning.
    text = json.dumps(plotly_json, separators=(",", ":")).replace("</", "<\\/")
    names = "".join(f' {name}="{value}"' for name, value in attributes.items())
    script = f'<script type="application/json">{text}</script>'
    return f'<div {FIGURE_MARK} style="height: {height}px"{names}>{script}</div>'


def prepare(notebook, explorer):
    """Outputs as HTML that needs nothing else: figures for figures.js, a line where a widget was."""
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if output.output_type == "execute_result":
                output.output_type = "display_data"
            data = output.get("data", {})
            if FIGURE in data:
                output.data = nbformat.from_dict({"text/html": figure(data[FIGURE])})
            elif WIDGET in data or WIDGETS.match(data.get("text/plain", "")):
                output.data = nbformat.from_dict({"text/html": NOTE.format(explorer=explorer)})
    return notebook


class Cells(HTMLExporter):
    """nbconvert's HTML of the cells, with equations as MathML and links to pages instead of notebooks."""

    path, pages = "", frozenset()

    @pass_context
    def markdown2html(self, _context, source):
        renderer = Renderer(escape=False)
        renderer.path, renderer.pages = self.path, self.pages
        return MarkdownWithMath(renderer=renderer).render(source)


class Renderer(IPythonRenderer):
    """Markdown as HTML."""

    path, pages = "", frozenset()

    def inline_math(self, body):
        return equations.inline(body)

    def block_math(self, body):
        return equations.display(body)

    def latex_environment(self, name, body):
        return equations.display(f"\\begin{{{name}}}{body}\\end{{{name}}}")

    def link(self, text, url, title=None):
        """To another notebook: to its page. To a file of the project that is not among the pages: the text alone."""
        if re.match("[a-z]+:|#", url):
            return super().link(text, url, title)
        target, _, place = url.partition("#")
        target = re.sub(r"\.ipynb$", ".html", target)
        whole = posixpath.normpath(posixpath.join(posixpath.dirname(self.path), target))
        return super().link(text, f"{target}#{place}" if place else target, title) if whole in self.pages else text
