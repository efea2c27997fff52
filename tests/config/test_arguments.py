"""RunConfig.make and the options of a method, as a type checker sees them."""

import subprocess
import sys
from dataclasses import fields

import pytest
from helpers import PROJECT

from ltkd import RunConfig
from ltkd.config.arguments import Arguments
from ltkd.methods import option_names


def test_the_arguments_of_make_are_the_fields_and_the_options_of_the_methods():
    expected = {field.name for field in fields(RunConfig)} - {"recipe"} | set(option_names())
    assert set(Arguments.__annotations__) == expected


# mypy reads the package's sources, but not those of the large libraries.
MYPY = """
[mypy]
follow_imports = silent
ignore_missing_imports = True
[mypy-torch.*,torchvision.*,numpy.*,pandas.*,pyarrow.*,sklearn.*,scipy.*,PIL.*]
follow_imports = skip
"""
SOURCE = """
from ltkd.config import RunConfig
from ltkd.methods import Method, Option
from ltkd.methods.distillation import LTKD

RunConfig.make(epochs=3, alpha=1.0, profile=(3, 2), milestones=[0.5])
RunConfig.make("cifar-crd", options={"own": 1})
RunConfig.make(epoch=3)
RunConfig.make(epochs="3")


class Mine(Method):
    strength = Option(1.0, "how strong", high=2)
    rule = Option("mean", "how", choices=("mean", "sum"))


def values(mine: Mine, theirs: LTKD) -> None:
    reveal_type(mine.strength)
    reveal_type(mine.rule)
    reveal_type(theirs.warmup)
    reveal_type(theirs.rebalanced)
    reveal_type(Mine.strength)
"""
SAID = {
    "RunConfig.make(epoch=3)": 'error: Unexpected keyword argument "epoch" for "make"',
    'RunConfig.make(epochs="3")': 'error: Argument "epochs" to "make" of "RunConfig" has incompatible type "str"',
    "reveal_type(mine.strength)": 'Revealed type is "float"',
    "reveal_type(mine.rule)": 'Revealed type is "str"',
    "reveal_type(theirs.warmup)": 'Revealed type is "float"',
    "reveal_type(theirs.rebalanced)": 'Revealed type is "bool"',
    "reveal_type(Mine.strength)": 'Revealed type is "ltkd.methods.base.Option[float]"',
}


@pytest.mark.slow
def test_a_type_checker_knows_the_arguments_of_make_and_the_types_of_options(tmp_path):
    pytest.importorskip("mypy")
    (tmp_path / "mypy.ini").write_text(MYPY)
    (tmp_path / "used.py").write_text(SOURCE)
    command = [sys.executable, "-m", "mypy", "--config-file", tmp_path / "mypy.ini", "--cache-dir", tmp_path]
    checked = subprocess.run([*command, tmp_path / "used.py"], cwd=PROJECT, capture_output=True, text=True)
    said = {}  # {line of the source: what mypy says of it}
    for line in checked.stdout.splitlines():
        if ".py:" in line and "defined in" not in line:
            number, text = line.split(".py:")[1].split(": ", 1)
            said[SOURCE.splitlines()[int(number) - 1].strip()] = text
    assert said.keys() == SAID.keys(), checked.stdout + checked.stderr
    for line, text in SAID.items():
        assert text in said[line]
