"""Every notebook in JupyterLab as a reader has it: Run All, then each slider and menu moves the figure below it."""

import re
import time
from collections import defaultdict
from functools import partial

import nbformat
import pytest
from helpers import PROJECT
from notebook_parameters import NAMES, OTHER
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

NOTEBOOKS = PROJECT / "notebooks"
pytestmark = pytest.mark.slow
BUSY = 12  # times slower
SECONDS = 240  # that a notebook may take, and for the slowest of machines far more than it does

PROMPTS = "() => [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(prompt => prompt.textContent)"
RED = """() => [...document.querySelectorAll(
  '[data-mime-type="application/vnd.jupyter.stderr"], .jupyter-widgets-error-widget'
)].map(output => output.textContent)"""
# What an output shows: the data of its figures, titles, axes and marks, its texts, and which controls there are, but
# not what they say, which changes whenever one is moved.
SHOWN = """output => JSON.stringify([
  [...output.querySelectorAll('.js-plotly-plot')].map(plot => [plot.layout, plot._fullData.map(
    ({type, name, visible, x, y, z, text, marker, line, error_y, base}) =>
      [type, name, visible, x, y, z, text, marker?.color, line?.dash, error_y?.array, base])]),
  [...output.querySelectorAll('.widget-html, .jp-RenderedHTMLCommon, pre')].map(part => part.textContent),
  [...output.querySelectorAll('.widget-label, .widget-label-basic')]
    .filter(label => label.offsetParent).map(label => label.textContent),
  [...output.querySelectorAll('option')].map(option => option.textContent)])"""
# What is chosen in a menu, and another choice; in a list of several one alone.
CHOICE = """menu => [[...menu.selectedOptions].map(option => option.index),
  menu.multiple ? menu.options.length - 1 : (menu.selectedIndex + 1) % menu.options.length]"""
EMPTY = "() => [...document.querySelectorAll('.js-plotly-plot')].filter(plot => !plot._fullData?.length).length"


@pytest.fixture
def opened(lab, open_page):
    """A function that opens a notebook of the lab's folder by its name, and waits for its kernel: its page, and the
    list of what goes wrong there."""
    (url, token, _), (page, wrong), kernels = lab, open_page(), []
    session, how = f"{url}api/sessions", {"headers": {"Authorization": f"token {token}"}}

    def sessions_of(name):
        return [s for s in page.request.get(session, **how).json() if s["name"] == f"{name}.ipynb"]

    def open_notebook(name):
        page.goto(f"{url}lab/workspaces/{name}/tree/{name}.ipynb?token={token}")
        kernels.append(started(page, lambda: sessions_of(name)))
        return page, wrong

    yield open_notebook
    for kernel in kernels:
        page.request.delete(f"{session}/{kernel}", **how)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_and_its_controls_move_its_figures(name, lab, opened):
    copy_of(name, lab[2])
    page, wrong = opened(name)
    run_all(page)
    wait_until_drawn(page, wrong)
    for output in page.locator(".jp-OutputArea-output:has(.widget-slider, .jupyter-widgets select)").all():
        output.locator(".js-plotly-plot").first.wait_for(timeout=1000 * SECONDS)
        moved = move_controls(page, output)
        assert [name for name, moves in moved.items() if not any(moves)] == []
    assert not ours(wrong)


def test_explorers_hear_the_kernel_in_a_busy_browser(lab, opened):
    """Six figures, on a slow processor: anywidget gives up a widget that has not loaded in two seconds."""
    begin = "from ltkd.explore import recorded, widgets\nlogits = recorded.recording('cifar100-lt')"
    cells = [nbformat.v4.new_code_cell(source) for source in [begin, *["widgets.teacher_bias(logits)"] * 6]]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}  # else JupyterLab asks which
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), lab[2] / "busy.ipynb")
    page, wrong = opened("busy")
    page.context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": BUSY})
    run_all(page)
    wait_until_drawn(page, wrong)
    outputs = page.locator(".jp-OutputArea-output:has(.widget-slider)").all()
    for output in outputs:
        output.locator(".js-plotly-plot").first.wait_for(timeout=1000 * SECONDS)
        handle = output.locator(".widget-slider .noUi-handle:visible").first
        assert changes(page, output.element_handle(), partial(handle.press, "ArrowRight"), seconds=60)
    assert len(outputs) == 6
    assert not ours(wrong)


def copy_of(name, folder):
    """A copy of the notebook, without outputs, whose parameters are small."""
    notebook = load_notebook_node(str(NOTEBOOKS / f"{name}.ipynb"))
    parameters = {key: True if key == "live" else value for key, value in OTHER.get(name, {}).items()}
    notebook = parameterize_notebook(notebook, parameters)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.write(notebook, folder / f"{name}.ipynb")


def started(page, sessions):
    """Wait for the page's kernel; the id of its session. The page's own sign says "idle" before there is a kernel."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        for session in sessions():
            if session["kernel"]["connections"] and session["kernel"]["execution_state"] == "idle":
                return session["id"]
        page.wait_for_timeout(200)  # and not time.sleep, which would hold up the answers to requests
    raise AssertionError("no kernel has started in 60 seconds")


def run_all(page):
    """Run all cells by the menu, and wait until the last has a number."""
    page.locator(".jp-CodeCell .jp-InputPrompt").first.wait_for()
    page.locator(".lm-MenuBar-item:has-text('Run')").click()
    page.locator("li.lm-Menu-item[data-command='runmenu:run-all']").click()
    until = time.monotonic() + SECONDS
    while not all(re.search(r"\d", prompt) for prompt in page.evaluate(PROMPTS)):
        assert not errors(page)
        assert time.monotonic() < until, f"not all cells have run: {page.evaluate(PROMPTS)}"
        page.wait_for_timeout(200)
    assert not errors(page)


def wait_until_drawn(page, wrong):
    """Wait until every figure on the page shows its data."""
    until = time.monotonic() + SECONDS
    while empty := page.evaluate(EMPTY):
        assert time.monotonic() < until, f"{empty} figures are empty; what the page said: {wrong}"
        page.wait_for_timeout(200)


def errors(page):
    """Errors of cells and widgets. JupyterLab shows warnings in the same way: those are no errors."""
    begins = r"-{20}|\w*(Error|Interrupted): |Error displaying widget|Failed to"
    return [text for text in page.evaluate(RED) if re.match(begins, text.strip())]


def move_controls(page, output):
    """Move every control of an output, under each of its tabs: {its label: of each move, did the output change?}.

    Each is set back afterwards: in one group, or between two networks that are one, the next has nothing to move.
    """
    place, moved = output.element_handle(), defaultdict(list)

    def there_and_back(control, move, back):
        moved[label_of(control)].append(changes(page, place, move) and changes(page, place, back))

    for tab in output.locator(".widget-toggle-buttons button:visible").all() or [None]:
        if tab is not None and "mod-active" not in tab.get_attribute("class"):
            moved[tab.inner_text()].append(changes(page, place, tab.click))
        for handle in output.locator(".widget-slider .noUi-handle:visible").all():
            low, high, now = (float(handle.get_attribute(f"aria-value{name}")) for name in ("min", "max", "now"))
            keys = ("ArrowRight", "ArrowLeft") if now < (low + high) / 2 else ("ArrowLeft", "ArrowRight")
            there_and_back(handle, *(partial(handle.press, key) for key in keys))
        for menu in output.locator("select:visible").all():
            chosen, other = menu.evaluate(CHOICE)
            if [other] != chosen:
                there_and_back(menu, *(partial(menu.select_option, index=index) for index in (other, chosen)))
        for box in output.locator(".widget-checkbox input:visible").all():
            there_and_back(box, box.click, box.click)
    return moved


def label_of(control):
    return control.evaluate("""control => {
      const widget = control.closest('.widget-inline-hbox, .widget-checkbox');
      return (widget.querySelector('.widget-label, .widget-label-basic') ?? widget).innerText.trim(); }""")


def changes(page, output, move, seconds=10):
    """Does the output show something else after the move?"""
    before = page.evaluate(SHOWN, output)
    move()
    until = time.monotonic() + seconds
    while page.evaluate(SHOWN, output) == before:
        if time.monotonic() > until:
            return False
        page.wait_for_timeout(50)
    return True


def ours(wrong):
    """Faults that are not JupyterLab's own."""
    return [fault for fault in wrong if not re.search("favicon|service worker|Failed to load resource.*40[34]", fault)]
