"""What `make html` does where no browser is needed; tests/browser looks at the pages."""

import json
import subprocess
import sys
from html.parser import HTMLParser

import nbformat
import pytest
from helpers import HOSTILE, PROJECT, hostile_recording
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from ltkd.errors import visible
from ltkd.explore.recorded import read_recording

HANDOUTS = PROJECT / "notebooks" / "handouts"


@pytest.fixture(autouse=True)
def path(monkeypatch):
    monkeypatch.syspath_prepend(HANDOUTS)


@pytest.fixture
def equations():
    import equations

    return equations


class Elements(HTMLParser):
    """The elements of a page, as a browser parses it: [(tag, attributes)], and the text of each script."""

    def __init__(self, page):
        super().__init__()
        self.found, self.scripts = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.cdata_elem == "script":
            self.scripts[-1] += data

    def data(self):
        """What the scripts of JSON hold."""
        scripts = [attributes for tag, attributes in self.found if tag == "script"]
        return [json.loads(text) for of, text in zip(scripts, self.scripts, strict=True) if of.get("type")]


@pytest.mark.parametrize(
    ("latex", "part"),
    [
        (r"\mathcal H", "<mi>ℋ</mi>"),  # in Unicode before the other script letters
        (r"\mathcal G", "<mi>𝒢</mi>"),
        (r"\boldsymbol\pi", "<mi>𝝅</mi>"),
        (r"\mathbb 1", "<mn>𝟙</mn>"),
        (r"\tilde p", '<mover accent="true">'),
        (r"a < b", "<mo>&lt;</mo>"),
        (r"n_\max", "<mo>max</mo>"),
    ],
)
def test_alphabets_are_characters_and_accents_accents(latex, part, equations):
    assert part in equations.inline(latex)


def test_functions_stand_apart_from_what_is_beside_them_but_not_from_brackets(equations):
    assert equations.inline(r"p\log n").count("<mspace") == 2
    assert equations.inline(r"p=\log(n)").count("<mspace") == 0


@pytest.mark.parametrize("name", ["align", "align*", "aligned", "split"])
def test_equations_over_several_lines_are_tables(name, equations):
    markup = equations.display(rf"\begin{{{name}}}a&=b\\&=c\end{{{name}}}")
    assert markup.count("<mtr>") == 2 and "text-align: right" in markup


def test_the_number_of_an_equation_stands_beside_it(equations):
    assert equations.display(r"a=b\tag{7}").endswith('</math><span class="number">(7)</span></div>')


def test_what_cannot_be_shown_is_refused_with_its_equation(equations):
    with pytest.raises(SystemExit, match=r"a=\\nonsense b has \\nonsense"):
        equations.inline(r"a=\nonsense b")


@pytest.mark.slow
def test_without_a_recording_there_are_notebooks_but_no_explorer(tmp_path):
    command = [sys.executable, HANDOUTS / "make.py", "--out", tmp_path / "out", "--recording", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.startswith("The notebooks are written, the explorer is not:")
    assert (tmp_path / "out" / "01_long_tailed_data.html").is_file()
    assert 'href="explorer.html"' not in (tmp_path / "out" / "index.html").read_text()


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_a_figure_of_a_page_holds_its_names_and_nothing_else(name):
    import pages

    figure = {"data": [{"name": name}], "layout": {"title": {"text": name}}}
    parsed = Elements(pages.figure(figure, id=name))
    assert parsed.data() == [figure]
    assert [tag for tag, _ in parsed.found] == ["div", "script"]
    assert parsed.found[0][1]["id"] == name


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_names_add_no_element_to_the_explorer(name, tmp_path):
    import explorer

    def page(kind, name):
        recording = read_recording(hostile_recording(tmp_path / kind, name))
        return Elements(explorer.page(recording, links=[("Contents", "index.html")]))

    plain, hostile = page("plain", "a name"), page("hostile", name)
    assert [tag for tag, _ in hostile.found] == [tag for tag, _ in plain.found]
    data = hostile.data()[0]
    assert data["classNames"][0] == visible(name)
    assert name in data["histories"] and f"{name}, balanced" in data["logits"]
    assert len(hostile.data()) == 1 + 5  # a figure in each panel


@pytest.mark.parametrize("name", [name for name in HOSTILE.values() if name and "\n" not in name])
def test_names_add_no_element_to_a_notebooks_page(name):
    import pages

    def page(name):
        figure = {"data": [{"name": name}], "layout": {}}
        outputs = [
            new_output("stream", text=name),
            new_output("display_data", data={"text/plain": name}),
            new_output("display_data", data={pages.FIGURE: figure}),
        ]
        cells = [new_markdown_cell("# A title"), new_code_cell("1", outputs=outputs)]
        return Elements(pages.page(new_notebook(cells=cells), "a.html", links=[(name, name)], pages=set()))

    assert [tag for tag, _ in page(name).found if tag != "span"] == [tag for tag, _ in page("a").found if tag != "span"]
    assert page(name).data()[0]["data"] == [{"name": name}]


def test_the_titles_of_notebooks_add_no_element_to_the_contents():
    import make

    def contents(name):
        cell = new_markdown_cell(f"# {name}\n\n**You will see** {name}")
        return Elements(make.contents({"a.html": nbformat.v4.new_notebook(cells=[cell])}))

    for name in HOSTILE.values():
        if name and "\n" not in name:
            assert [tag for tag, _ in contents(name).found] == [tag for tag, _ in contents("a").found], name
