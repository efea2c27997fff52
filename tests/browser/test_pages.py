"""The pages of `make html`, opened from disk: figures and equations are there, nothing is asked of any host, and the
explorer computes what the package does."""

import re
import subprocess
import sys

import nbformat
import numpy as np
import pytest
import torch
from helpers import HOSTILE, PROJECT, hostile_recording

from ltkd import ClassGroups, decompose, metrics
from ltkd.errors import visible
from ltkd.explore import batch_terms
from ltkd.explore.recorded import recording
from ltkd.losses import rebalance

pytestmark = pytest.mark.slow
NOTEBOOKS = PROJECT / "notebooks"
STORED = [*sorted(NOTEBOOKS.glob("[0-9]*.ipynb")), *sorted(NOTEBOOKS.glob("solutions/*.ipynb"))]
PAGES = [path.relative_to(NOTEBOOKS).with_suffix(".html").as_posix() for path in STORED]
PLOTS = """() => [...document.querySelectorAll('.js-plotly-plot')].map(plot => ({
  traces: plot._fullData.length, drawn: plot.querySelectorAll('.trace, image, .hm').length}))"""
EQUATIONS = "() => [...document.querySelectorAll('math')].map(math => math.getBoundingClientRect().width)"
DATA = "name => document.getElementById(name)._fullData.map(t => [t.visible, t.name, Array.from(t.y ?? [])])"


def visit(open_page, pages, name, **options):
    page, wrong = open_page(**options)
    page.goto((pages / name).as_uri())
    return page, wrong


@pytest.mark.parametrize("name", PAGES)
def test_a_page_shows_every_figure_and_equation_without_a_network(name, open_page, pages):
    page, wrong = visit(open_page, pages, name)
    notebook = nbformat.read(NOTEBOOKS / name.replace(".html", ".ipynb"), as_version=4)
    outputs = [output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", ())]
    plots = page.evaluate(PLOTS)
    assert len(plots) == sum("application/vnd.plotly.v1+json" in data for data in outputs)
    assert all(plot["traces"] and plot["drawn"] for plot in plots)
    assert all(width > 1 for width in page.evaluate(EQUATIONS))
    prose = " ".join(page.locator("section.text").all_inner_texts())
    assert "$" not in prose and not re.search(r"\\[a-z]", prose)
    assert not re.search(r"\w\(children=|FigureWidget\(", page.inner_text("body"))
    assert not wrong


def test_all_equations_are_there(open_page, pages):
    page, _ = visit(open_page, pages, "03_decomposition.html")
    numbers = page.locator(".equation .number").all_inner_texts()
    assert [number for number in numbers if number in {"(1)", "(2)", "(5)", "(6)", "(7)", "(8)"}] == numbers
    assert "𝐳" in page.locator("math").all_text_contents()  # a bold z, which browsers know as a character alone


@pytest.mark.parametrize("name", ["index.html", *PAGES])
def test_links_lead_to_pages(name, pages):
    content, _scripts = (pages / name).read_text("utf-8").split("</main>")
    for target in re.findall('<a href="([^"]*)"', content):
        if not re.match("[a-z]+:", target):
            file, _, heading = target.partition("#")
            text = ((pages / name).parent / file if file else pages / name).read_text("utf-8")
            assert not heading or f'id="{heading}"' in text, target


def test_the_contents_list_every_page(open_page, pages):
    page, wrong = visit(open_page, pages, "index.html")
    listed = page.evaluate("() => [...document.links].map(link => link.getAttribute('href'))")
    assert sorted(listed) == sorted(["explorer.html", *PAGES])
    assert all(page.locator("dd").all_inner_texts())
    assert not wrong


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_follow_the_readers_light(scheme, open_page, pages):
    page, _ = visit(open_page, pages, "index.html", color_scheme=scheme)
    colour = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert (int(re.search(r"\d+", colour)[0]) > 128) == (scheme == "light")


def test_the_explorer_can_be_sent_by_mail(pages):
    assert (pages / "explorer.html").stat().st_size <= 8_000_000


def move_every_control(explorer):
    for panel in explorer.locator(".panel").all():
        name = panel.get_attribute("data-panel")
        for slider in panel.locator("input").all():
            before = explorer.evaluate(DATA, name)
            slider.focus()
            slider.press("ArrowLeft" if slider.input_value() == slider.get_attribute("max") else "ArrowRight")
            assert explorer.evaluate(DATA, name) != before, f"{name}: {slider.get_attribute('data-name')}"
        for menu in panel.locator("select").all():
            before = explorer.evaluate(DATA, name)
            n_options = menu.locator("option").count()
            if n_options > 1:
                menu.select_option(index=(int(menu.input_value()) + 1) % n_options)
                assert explorer.evaluate(DATA, name) != before, f"{name}: {menu.get_attribute('data-name')}"


def test_every_control_of_the_explorer_changes_its_figure(explorer):
    move_every_control(explorer)


@pytest.mark.parametrize("what", ["script", "comment", "image", "link", "newline", "bidi", "latex", "broken", "empty"])
def test_a_recording_of_somebody_else_runs_nothing_in_the_explorer(what, open_page, tmp_path):
    """Its names stand in the page as they are, and every control of them still works."""
    folder = hostile_recording(tmp_path / "recording", HOSTILE[what])
    command = [sys.executable, NOTEBOOKS / "handouts" / "make.py", "--out", tmp_path, "--recording", folder]
    subprocess.run(command, check=True, timeout=120)
    page, wrong = visit(open_page, tmp_path, "explorer.html")
    move_every_control(page)
    assert visible(HOSTILE[what]) in page.locator("[data-name=student] option").all_text_contents()
    assert page.locator("main img, main svg a[href]").count() == 0
    assert not page.evaluate("() => 'hacked' in window") and not wrong


def test_a_page_runs_no_script_but_its_own(open_page, pages, tmp_path):
    """Even where a stored output of a notebook holds one."""
    text = (pages / "01_long_tailed_data.html").read_text("utf-8")
    bad = "<script>window.hacked=1</script><img src=x onerror=window.hacked=1>"
    (tmp_path / "page.html").write_text(text.replace("<main>", f"<main>{bad}"), "utf-8")
    page, wrong = visit(open_page, tmp_path, "page.html")
    assert not page.evaluate("() => 'hacked' in window")
    assert page.evaluate(PLOTS) and len(wrong) >= 2 and all("Content Security Policy" in line for line in wrong)


def turn(page, panel, **values):
    """Set controls of a panel of the explorer to these values."""
    known = page.evaluate("() => DATA.controls")[panel]
    for name, value in values.items():
        control = page.locator(f"#panel-{panel} [data-name={name}]")
        if control.get_attribute("type") == "range":
            control.fill(str(known[name].index(value)))
        else:
            control.select_option(label=str(value))
    return [y for visible, _, y in page.evaluate(DATA, panel) if visible]


def shown(of="teacher"):
    """The recorded balanced test images that are in the page: logits and labels."""
    logits, labels = recording("cifar100-lt").test(of)
    each = 1024 // (labels.max() + 1)
    kept = np.sort(np.concatenate([np.flatnonzero(labels == c)[:each] for c in range(labels.max() + 1)]))
    return logits[kept], labels[kept]


@pytest.mark.parametrize(("temperature", "batch", "n_groups"), [(4, 64, 3), (0.5, 16, 2), (1.5, 256, 8)])
def test_the_explorers_group_mass_is_the_packages(temperature, batch, n_groups, explorer):
    record = recording("cifar100-lt")
    groups = record.groups(n_groups)
    chosen = {"temperature": temperature, "batch": batch, "groups": n_groups}
    sets = {"long-tailed": record.train("teacher")[0][:1024], "balanced": shown()[0]}
    for images, logits in sets.items():
        drawn = turn(explorer, "mass", network="teacher", images=images, **chosen)
        own = batch_terms.batch_mass(logits, groups, batch_size=batch, temperature=temperature)
        np.testing.assert_allclose(np.array(drawn[:n_groups]).T, own, rtol=1e-4)
        rows = batch_terms.batch_mass(logits, groups, batch_size=1, temperature=temperature)[: len(own) * batch]
        after = [rebalance(torch.tensor(part)).sum(0) for part in rows.reshape(len(own), batch, -1)]
        np.testing.assert_allclose(np.array(drawn[n_groups:]).T, torch.stack(after), rtol=1e-4)


def test_the_explorers_parts_of_the_kl_are_the_packages(explorer):
    groups = recording("cifar100-lt").groups()
    (teacher, labels), (student, _) = shown(), shown("ltkd")
    parts = decompose(*(torch.tensor(z, dtype=torch.float64) for z in (student, teacher)), groups, temperature=2.0)
    parts = torch.cat([parts.cross[:, None], parts.teacher_mass * parts.within], 1).numpy()
    of_group = groups.index.numpy()[labels]
    first = np.argmax(labels == np.argmax(recording("cifar100-lt").class_counts))
    expected = [parts[first], *(parts[of_group == g].mean(0) for g in range(3))]
    drawn = turn(explorer, "decomposition", student="ltkd", temperature=2, image=1)
    np.testing.assert_allclose(np.array(drawn).T, expected, rtol=1e-6, atol=1e-9)


def test_the_explorers_accuracies_are_the_packages(explorer):
    record = recording("cifar100-lt")
    logits, labels = shown("kd")
    adjusted = logits.astype(float) - 1.5 * np.log(record.class_counts / record.class_counts.sum())
    expected = metrics.group_accuracy(adjusted, labels, ClassGroups.by_rank(record.class_counts))
    drawn = turn(explorer, "prior", network="kd", tau=1.5)
    assert [y[0] for y in drawn] == pytest.approx([expected[name] for name in ("head", "medium", "tail")])


def test_the_explorer_counts_as_the_package_does(explorer):
    counts = recording("cifar100-lt").class_counts  # its profile: exp, imbalance factor 100
    drawn = turn(explorer, "counts", profile="exp", factor=100, groups=4)
    assert [n for y in drawn for n in y] == counts.tolist()
    assert len(drawn) == 4


def test_curves_are_those_of_the_recorded_runs(explorer):
    runs = recording("cifar100-lt").runs
    turn(explorer, "training", measure="KL within the group, nats")
    drawn = explorer.evaluate(DATA, "training")
    assert {name for _, name, _ in drawn} == set(runs)
    for name, run in runs.items():
        columns = [run.history.get(f"within_kl_{g}") for g in ("head", "medium", "tail")]
        expected = [[] if column is None else column.dropna().tolist() for column in columns]
        assert [y for _, of, y in drawn if of == name] == expected


def test_figures_fit_on_paper_while_they_are_printed(explorer):
    widths = "() => [...document.querySelectorAll('.js-plotly-plot')].map(plot => plot._fullLayout.width)"
    before = explorer.evaluate(widths)
    explorer.evaluate("() => dispatchEvent(new Event('beforeprint'))")
    assert max(explorer.evaluate(widths)) < 700
    explorer.evaluate("() => dispatchEvent(new Event('afterprint'))")
    assert explorer.evaluate(widths) == before
