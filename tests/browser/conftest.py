"""One browser, one JupyterLab and one set of HTML pages for all tests here; without Chromium they are skipped."""

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager

import pytest
from helpers import PROJECT

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium: the one that LTKD_CHROMIUM names, else the system's."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is missing: pip install 'ltkd[test]'")
    program = os.environ.get("LTKD_CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUM)), None)
    if program is None:
        pytest.skip("no Chromium: install one (Debian: apt install chromium), or name it by LTKD_CHROMIUM")
    if shutil.which(program) is None:
        pytest.fail(f"LTKD_CHROMIUM is {program}, which is no program: name a Chromium, or unset it")
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=program)
        yield running
        running.close()


@contextmanager
def watched(browser, **options):
    """An empty page, and the list in which everything that goes wrong on it will stand."""
    context = browser.new_context(viewport={"width": 1400, "height": 1000}, **options)
    page, wrong = context.new_page(), []
    page.on("pageerror", lambda error: wrong.append(f"error on the page: {error}"))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    context.route("**/*", lambda route: _answer(route, wrong))
    yield page, wrong
    context.close()


@pytest.fixture
def open_page(browser):
    """A function that opens a page as `watched` does, until the test ends."""
    with ExitStack() as opened:
        yield lambda **options: opened.enter_context(watched(browser, **options))


@pytest.fixture(scope="session")
def explorer(browser, pages):
    """The explorer, open in one page for all tests of its numbers."""
    with watched(browser) as (page, wrong):
        page.goto((pages / "explorer.html").as_uri())
        yield page
    assert not wrong


def _answer(route, wrong):
    """Let requests to this machine through; any other is a fault, and gets no answer."""
    if route.request.url.startswith(("file:", "data:", "blob:", "http://127.0.0.1:")):
        route.continue_()
    else:
        wrong.append(f"asked for {route.request.url}")
        route.abort()


@pytest.fixture(scope="session")
def pages(tmp_path_factory):
    """The folder of `make html`, made anew."""
    folder = tmp_path_factory.mktemp("html")
    command = [sys.executable, PROJECT / "notebooks" / "handouts" / "make.py", "--out", folder]
    subprocess.run(command, check=True, timeout=120)
    return folder


@pytest.fixture(scope="session")
def lab(browser, tmp_path_factory):
    """A JupyterLab with nobody's settings on an empty folder: (url, token, folder)."""
    folder = tmp_path_factory.mktemp("lab")
    names = ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR")
    places = {f"JUPYTER_{name}": str(folder / name) for name in names} | {"IPYTHONDIR": str(folder / "ipython")}
    places |= {f"JUPYTERLAB_{name}_DIR": str(folder / name) for name in ("SETTINGS", "WORKSPACES")}
    settings = {
        "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
        "notebook-extension/tracker": {"windowingMode": "none"},  # else cells out of sight are not on the page
    }
    for name, values in settings.items():
        file = folder / "SETTINGS" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    root = folder / "root"
    root.mkdir()
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", "--port=0", "--allow-root"]
    command += ["--IdentityProvider.token=tests", f"--ServerApp.root_dir={root}"]
    with open(folder / "log", "w") as log:
        server = subprocess.Popen(command, env=os.environ | places, cwd=root, stdout=log, stderr=log)
    try:
        yield _address(server, folder), "tests", root
    finally:
        server.terminate()
        server.wait(timeout=30)


def _address(server, folder):
    """Where the server answers, once it does."""
    until = time.monotonic() + 60
    while time.monotonic() < until and server.poll() is None:
        for record in (folder / "RUNTIME_DIR").glob("jpserver-*.json"):
            try:
                found = json.loads(record.read_text())
            except ValueError:  # it is being written
                continue
            return f"http://127.0.0.1:{found['port']}/"
        time.sleep(0.2)
    pytest.fail(f"JupyterLab did not start: {(folder / 'log').read_text()[-2000:]}")
