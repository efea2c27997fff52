"""All notebooks from the last to the first, with nothing stored before: none needs what an earlier one leaves, and none
is led astray by what a later one has left. `make workbook` is the other direction."""

import os
from pathlib import Path

import papermill
import pytest
from notebook_parameters import ALL, NOTEBOOKS

pytestmark = pytest.mark.slow
BACKWARDS = sorted(ALL, key=lambda path: (path.name, path.parent != NOTEBOOKS), reverse=True)


def test_nothing_is_stored_at_the_start():
    assert not Path(os.environ["LTKD_RUNS"]).exists()


@pytest.mark.parametrize("path", BACKWARDS, ids=lambda path: str(path.relative_to(NOTEBOOKS)))
def test_a_notebook_runs_before_all_that_come_before_it(path, tmp_path):
    papermill.execute_notebook(path, tmp_path / "out.ipynb", cwd=path.parent, kernel_name="python3", progress_bar=False)
