"""Keeps runs and caches of the tests in temporary folders, and holds the fixtures of several test files."""

import os
import shutil
import tempfile
import urllib.error
from pathlib import Path

import pytest
import torch
from helpers import PROJECT, digits_config, random_dataset
from hypothesis import settings

from ltkd import fit

SCRATCH = pytest.StashKey[str]()

settings.register_profile("ltkd", deadline=None, max_examples=30, print_blob=True)
settings.load_profile("ltkd")


def pytest_configure(config):
    """As environment variables, so that subprocesses and notebook kernels inherit them."""
    config.stash[SCRATCH] = tempfile.mkdtemp(prefix="ltkd-tests-")
    os.environ["LTKD_RUNS"] = str(Path(config.stash[SCRATCH], "runs"))
    os.environ["LTKD_CACHE"] = str(Path(config.stash[SCRATCH], "cache"))
    # Networks this small gain nothing by a second thread, and on a busy machine lose a hundredfold by it. A
    # subprocess must use as many, for the same bits.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)


NOTEBOOKS_FIRST = (".ipynb", "test_notebooks.py")


def pytest_collection_modifyitems(items):
    """The notebooks come first, from the last to the first, with nothing stored: none needs what an earlier one leaves,
    and none is led astray by what a later one has left. `make workbook` is the other direction."""
    backwards = sorted({item.path for item in items if item.path.suffix == ".ipynb"}, key=_place, reverse=True)
    turns = {path: turn - len(backwards) for turn, path in enumerate(backwards)}
    items.sort(key=lambda item: turns.get(item.path, int(item.path.name not in NOTEBOOKS_FIRST)))


def _place(notebook):
    """The place of a notebook in reading order: its solutions follow it."""
    return notebook.name, notebook.parent.name == "solutions"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """All tests of notebooks in one process, and so with one store of runs; all else file by file."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = Path(nodeid.split("::")[0])
            return "notebooks" if {file.name, file.suffix} & {*NOTEBOOKS_FIRST} else str(file)

    return Scheduling(config, log)


def pytest_unconfigure(config):
    shutil.rmtree(config.stash[SCRATCH], ignore_errors=True)


@pytest.fixture(scope="session")
def real_data():
    """The folder of real data sets, where there is one."""
    folder = Path(os.environ.get("LTKD_DATA") or PROJECT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("no real data: LTKD_DATA is not set and there is no shared/data beside the checkout")
    return folder


@pytest.fixture
def dataset():
    """Thirty random images in three classes of 18, 9 and 3."""
    return random_dataset()


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """A folder of short finished runs on the digits: kd and ltkd with two seeds, and their teachers."""
    folder = tmp_path_factory.mktemp("store")
    for method in ("kd", "ltkd"):
        for seed in (0, 1):
            fit(digits_config(method=method, seed=seed), runs=folder, device="cpu", progress=False)
    return folder


@pytest.fixture
def own_cache_no_network(tmp_path, monkeypatch):
    """No cache of another test, and no network."""
    monkeypatch.setenv("LTKD_CACHE", str(tmp_path / "cache"))

    def no_network(*_args, **_kwargs):
        raise urllib.error.URLError("no network here")

    monkeypatch.setattr("urllib.request.urlopen", no_network)


@pytest.fixture
def root(tmp_path):
    """An empty folder for data."""
    folder = tmp_path / "data"
    folder.mkdir()
    return folder
