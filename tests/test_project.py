import re
import subprocess
import sys
import tomllib

import pytest
import yaml
from helpers import PROJECT

CONDA_NAMES = {"torch": "pytorch", "playwright": "playwright-python"}
NOT_FOR_IMPORT = ("IPython", "ipywidgets", "jupyterlab", "pandas", "papermill", "plotly", "sklearn", "scipy")


def split(requirement):
    name = re.match(r"[A-Za-z0-9_.-]+", requirement).group()
    return CONDA_NAMES.get(name, name), requirement.removeprefix(name).strip()


def test_pip_and_conda_have_the_same_requirements():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    extras = [r for group in ("notebooks", "test") for r in project["optional-dependencies"][group]]
    pip = dict(map(split, [*project["dependencies"], *extras, f"python{project['requires-python']}"]))
    conda = dict(map(split, yaml.safe_load((PROJECT / "environment.yml").read_text())["dependencies"]))
    assert conda == pip | {"pip": ""}


def test_every_package_of_the_code_is_installed():
    packages = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {folder.parent for folder in (PROJECT / "ltkd").rglob("__init__.py")}
    assert set(packages) == {".".join(folder.relative_to(PROJECT).parts) for folder in folders}


@pytest.mark.slow
def test_importing_ltkd_imports_nothing_of_the_notebooks():
    code = f"import sys, ltkd; print([name for name in {NOT_FOR_IMPORT!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there():
    import ltkd

    assert [name for name in ltkd.__all__ if not hasattr(ltkd, name)] == []
    assert ltkd.__version__ == tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]
