"""The notebooks' contract, and their runs with other parameters than the stored ones."""

import re
import statistics

import nbformat
import papermill
import pytest
import yaml
from notebook_parameters import ALL, NAMES, NOTEBOOKS, OTHER
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from ltkd import ConfigError


def read(path):
    return nbformat.read(path, as_version=4)


def code_cells(path):
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


@pytest.fixture(params=NAMES)
def notebook(request):
    return NOTEBOOKS / f"{request.param}.ipynb"


def test_every_notebook_is_run_with_another_parameter_set():
    assert set(OTHER) == set(NAMES)


def test_every_notebook_has_solutions(notebook):
    assert (NOTEBOOKS / "solutions" / notebook.name).is_file()


def test_the_first_cell_says_what_is_shown_needed_and_how_long_it_takes(notebook):
    opening = read(notebook).cells[0].source
    assert all(words in opening for words in ("You will see", "You need", "It takes"))


def test_the_second_cell_holds_annotated_and_commented_literals(notebook):
    cell = read(notebook).cells[1]
    assert cell.metadata.tags == ["parameters"]
    for line in cell.source.splitlines():
        declaration, comment = line.split("  # ")
        assert ": " in declaration and " = " in declaration and comment


def test_the_third_cell_checks_the_parameters(notebook):
    assert "check_parameters(" in read(notebook).cells[2].source


def test_cells_are_few_and_short(notebook):
    lengths = [sum(bool(line.strip()) for line in cell.source.splitlines()) for cell in code_cells(notebook)]
    assert 20 <= len(read(notebook).cells) <= 45
    assert max(lengths) <= 20 and statistics.median(lengths) <= 5


def test_few_cells_define_anything(notebook):
    defining = [cell for cell in code_cells(notebook) if re.search("^def ", cell.source, re.MULTILINE)]
    assert len(defining) <= 0.25 * len(code_cells(notebook))
    classes = [cell for cell in code_cells(notebook) if re.search("^class ", cell.source, re.MULTILINE)]
    assert len(classes) == (notebook.stem == "10_add_your_method")  # there the class is the lesson


def test_it_ends_with_a_summary_and_three_to_five_exercises(notebook):
    ending = read(notebook).cells[-1].source
    assert "## Summary" in ending and "## Exercises" in ending
    exercises = [line for line in ending.splitlines() if line[:2] in {"1.", "2.", "3.", "4.", "5.", "6."}]
    assert 3 <= len(exercises) <= 5


@pytest.mark.parametrize("path", ALL, ids=lambda path: str(path.relative_to(NOTEBOOKS)))
def test_stored_outputs_come_from_one_clean_run(path):
    notebook = read(path)
    counts = [cell.execution_count for cell in code_cells(path)]
    assert counts == list(range(1, len(counts) + 1))
    assert "widgets" not in notebook.metadata
    assert path.stat().st_size <= 150_000
    outputs = [output for cell in code_cells(path) for output in cell.outputs]
    said = "".join(output.text for output in outputs if output.get("name") == "stderr")
    assert all(": ResultWarning: " in line for line in said.splitlines())  # of a network that answers few classes
    assert not any(output.output_type == "error" for output in outputs)


@pytest.mark.parametrize("path", ALL, ids=lambda path: str(path.relative_to(NOTEBOOKS)))
def test_some_outputs_are_checked_to_the_letter(path):
    if path.stem == "05_distillation_runs":
        pytest.skip("its outputs are trained, so they differ from machine to machine")
    assert any("nbval-check-output" in cell.metadata.get("tags", ()) for cell in code_cells(path))


def run(notebook, tmp_path, **parameters):
    output = tmp_path / "out.ipynb"
    papermill.execute_notebook(
        notebook, output, parameters, cwd=notebook.parent, kernel_name="python3", progress_bar=False
    )
    return output


@pytest.mark.slow
def test_it_runs_with_other_parameters(notebook, tmp_path):
    output = run(notebook, tmp_path, **OTHER[notebook.stem])
    assert all(cell.execution_count for cell in code_cells(output))


@pytest.mark.slow
def test_the_explorer_takes_a_folder_of_runs(store, tmp_path):
    output = run(NOTEBOOKS / "07_explorer.ipynb", tmp_path, source=str(store), baseline="kd")
    assert "teacher seed 1" in str(code_cells(output)[3].outputs)  # after the parameters given


@pytest.mark.slow
def test_a_source_that_is_not_there_is_refused_by_the_explorer(tmp_path):
    with pytest.raises(papermill.PapermillExecutionError, match="neither a folder of runs nor a recording"):
        run(NOTEBOOKS / "07_explorer.ipynb", tmp_path, source="cifar100")


@pytest.mark.slow
def test_an_unknown_parameter_stops_the_run_with_one_sentence(tmp_path):
    with pytest.raises(papermill.PapermillExecutionError) as caught:
        run(NOTEBOOKS / "01_long_tailed_data.ipynb", tmp_path, profil="step")
    executed = [cell for cell in code_cells(tmp_path / "out.ipynb") if cell.execution_count]
    assert "check_parameters(" in executed[-1].source
    assert "unknown parameter 'profil': did you mean 'profile'" in str(caught.value)
    assert len(str(caught.value.traceback).strip().splitlines()) == 1


def checked(notebook, **parameters):
    """Run a notebook's cells up to the one that checks its parameters, as papermill has put them in."""
    names = {}
    for cell in parameterize_notebook(load_notebook_node(str(notebook)), parameters).cells:
        if cell.cell_type == "code":
            exec(cell.source, names)
            if "check_parameters(" in cell.source:
                return


def test_every_notebook_refuses_a_parameter_that_it_does_not_have(notebook):
    checked(notebook)
    meant = list(papermill.inspect_notebook(notebook))[-1]
    with pytest.raises(ConfigError, match=f"unknown parameter '{meant[:-1]}': did you mean '{meant}'"):
        checked(notebook, **{meant[:-1]: 1})


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("01_long_tailed_data", {"imbalance_factor": 0.5}, "must be a number from 1 to 1000"),
        ("02_teacher_bias", {"temperature": "hot"}, "must be a number from 0.1 to 20"),
        ("05_distillation_runs", {"methods": ["ltdk"]}, "did you mean 'ltkd'"),
        ("10_add_your_method", {"tau": -1.0}, "must be a number from 0 to 8"),
    ],
)
def test_a_bad_value_is_refused(name, parameters, words):
    with pytest.raises(ConfigError, match=words):
        checked(NOTEBOOKS / f"{name}.ipynb", **parameters)


def test_the_parameter_files_fit_their_notebooks():
    for path in NOTEBOOKS.glob("parameters/*.yaml"):
        (notebook,) = NOTEBOOKS.glob(f"{path.stem.split('_')[0]}_*.ipynb")
        assert set(yaml.safe_load(path.read_text())) <= set(papermill.inspect_notebook(notebook))
