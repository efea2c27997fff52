"""A notebook, as it is stored, as a page in one file: its figures and equations need no network."""

import base64
import copy
import hashlib
import posixpath
import re
from functools import cache
from pathlib import Path

import equations
import nbformat
from jinja2 import Environment, FileSystemLoader, pass_context
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup
from nbconvert.exporters import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from plotly.offline import get_plotlyjs
from pygments.formatters import HtmlFormatter

from ltkd.errors import visible

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
    css = asset("page.css") + code_css()
    return render(
        "page.html.j2",
        title=title,
        body=Markup(body),
        links=links,
        kind=kind,
        css=Markup(css),
        scripts=[Markup(script) for script in scripts],
        hashes=[policy_hash(script) for script in scripts],
    )


def render(template, **values):
    """A template beside this file with its values: text is escaped, HTML of ours comes as Markup."""
    return TEMPLATES.get_template(template).render(values)


def policy_hash(script):
    """The name of a script in the page's policy: the browser runs no other."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


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
    names = Markup("").join(Markup(' {}="{}"').format(*pair) for pair in attributes.items())
    script = Markup('<script type="application/json">{}</script>').format(json_text(plotly_json))
    return Markup('<div {} style="height: {}px"{}>{}</div>').format(Markup(FIGURE_MARK), height, names, script)


def json_text(value):
    """A value as JSON for a script of a page: no text in it can end or open anything there."""
    return htmlsafe_json_dumps(value, separators=(",", ":"))


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


def text(value):
    """What stands for a value in a page: names show all of their characters, HTML of ours stays."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


TEMPLATES = Environment(loader=FileSystemLoader(HERE), autoescape=True, finalize=text)


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
