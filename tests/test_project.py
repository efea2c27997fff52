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


@pytest.mark.parametrize("build", ["cpu", ""])
def test_who_asks_for_the_cpu_build_of_torch_gets_it_before_all_else(tmp_path, build):
    """It is there when the package is installed, so that its requirement of any torch fetches no other."""
    (tmp_path / "pyproject.toml").touch()
    command = ["make", "--dry-run", "--file", PROJECT / "Makefile", "workbook", f"TORCH={build}"]
    lines = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.splitlines()
    installed = [line.split("check ")[1] for line in lines if " pip install " in line]
    package = "--editable '.[notebooks,test,zoo,oracles]'"
    cpu = "--index-url https://download.pytorch.org/whl/cpu torch torchvision"
    assert installed == ([cpu, package] if build else [package])


@pytest.mark.slow
def test_importing_ltkd_imports_nothing_of_the_notebooks():
    code = f"import sys, ltkd; print([name for name in {NOT_FOR_IMPORT!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_one_module_alone_knows_that_there_are_other_processes():
    """import-linter cannot tell a part of another package from the whole."""
    files = [file for file in (PROJECT / "ltkd").rglob("*.py") if "torch.distributed" in file.read_text()]
    assert [file.name for file in files] == ["distributed.py"]


def test_every_public_name_is_there():
    import ltkd

    assert [name for name in ltkd.__all__ if not hasattr(ltkd, name)] == []
    assert ltkd.__version__ == tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]
