"""The installed package, used as somebody without a checkout uses it: everything works but what cannot ship, and that
says in one sentence where it is."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from helpers import PROJECT

pytestmark = pytest.mark.slow

COMMANDS = {  # what is called after `python -m ltkd`: words that it prints
    "sweep ltkd-table1 --imbalance-factor 100 --student resnet8x4 --dry-run": [
        "-> resnet8x4  ltkd",
        "0 of them finished",
    ],
    "sweep laptop --dry-run": ["resnet20 -> resnet8  ltkd", "0 of them finished"],
    "table --against ltkd-table1": ["50.72", "not run", "skipped: the project's own runs"],
    "table --claims": ["no finished run in", "skipped: the project's own runs"],
    "benchmark --quick --images 128 --rounds 1 --jobs 1": ["images/s"],
    "check-data": ["417 training and 500 test images"],
    "train --method ce --epochs 1 --quiet": ["stored in"],
    "table": ["digits", "ce"],
}
CODE = {  # Python that is run: words that it prints
    "from ltkd.explore.widgets.wide import SharedFigure; print('the script is', len(str(SharedFigure._esm)) > 500)": [
        "the script is True"
    ],
    "import ltkd.reproduce.tables; print(len(ltkd.reproduce.tables.read()), 'numbers')": ["698 numbers"],
    "import ltkd.reproduce.grids; print(ltkd.reproduce.grids.names())": ["bkd-fig3", "laptop"],
    "import ltkd.explore.recorded; ltkd.explore.recorded.recording('cifar100-lt')": [
        "recordings come with a checkout of the project"
    ],
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The Python of an environment that has the wheel, and an empty folder. What the package requires is read from the
    environment of the tests, but not what is installed there in place of a wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    shutil.copytree(PROJECT / "ltkd", source / "ltkd", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    quiet(*pip, "wheel", "--no-deps", "--wheel-dir", folder, source)
    shutil.rmtree(source)
    quiet(sys.executable, "-m", "venv", "--without-pip", folder / "venv")
    python = folder / "venv" / "bin" / "python"
    (wheel,) = folder.glob("*.whl")
    quiet(*pip, "--python", python, "install", "--no-deps", wheel)
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    (site / "requirements.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (folder / "empty").mkdir()
    return python, folder / "empty"


def quiet(*command):
    subprocess.run(command, check=True, timeout=600)


def output(python, folder, *arguments):
    """What a command says, on stdout and stderr, in an environment that names no folder of ours."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LTKD_", "PYTHON"))}
    environment |= {"XDG_CACHE_HOME": str(folder / "cache")}
    done = subprocess.run(
        [python, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )
    return done.stdout + done.stderr


def test_the_wheel_and_no_checkout_is_what_is_imported(installed):
    python, folder = installed
    place = Path(output(python, folder, "-c", "import ltkd; print(ltkd.__file__)").strip())
    assert place.is_relative_to(python.parent.parent)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_works(installed, command):
    said = output(*installed, "-m", "ltkd", *command.split())
    assert "Traceback" not in said
    assert [words for words in COMMANDS[command] if words not in said] == [], said


@pytest.mark.parametrize("code", CODE)
def test_python_finds_what_ships_and_says_what_does_not(installed, code):
    said = output(*installed, "-c", code)
    assert [words for words in CODE[code] if words not in said] == [], said
