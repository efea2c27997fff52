"""What `make html` does where no browser is needed; tests/browser looks at the pages."""

import subprocess
import sys

import pytest
from helpers import PROJECT

HANDOUTS = PROJECT / "notebooks" / "handouts"


@pytest.fixture
def equations(monkeypatch):
    monkeypatch.syspath_prepend(HANDOUTS)
    import equations

    return equations


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
