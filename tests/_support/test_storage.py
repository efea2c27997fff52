import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ltkd._support.storage import alone, cache_folder, chosen_folder, seal, unseal, write_bytes
from ltkd.datasets.registry import data_root
from ltkd.errors import ConfigError, RunError
from ltkd.runs import runs_folder

NO_SPACE = OSError(errno.ENOSPC, "No space left on device")


def fail(*_args, **_kwargs):
    raise NO_SPACE


def test_a_file_is_written_with_the_folders_above_it(tmp_path):
    write_bytes(tmp_path / "a" / "b" / "file", b"data")
    assert (tmp_path / "a" / "b" / "file").read_bytes() == b"data"


def test_a_folder_is_the_given_one_then_that_of_the_variable_then_the_default(tmp_path, monkeypatch):
    monkeypatch.delenv("LTKD_X", raising=False)
    assert chosen_folder("runs", None, "LTKD_X", tmp_path) == tmp_path
    monkeypatch.setenv("LTKD_X", "elsewhere")
    assert chosen_folder("runs", None, "LTKD_X", tmp_path) == Path("elsewhere")
    for given in ("~/here", Path("~/here")):
        assert chosen_folder("runs", given, "LTKD_X", tmp_path) == Path.home() / "here"
    monkeypatch.setenv("LTKD_X", "")
    assert chosen_folder("runs", None, "LTKD_X", tmp_path) == tmp_path
    for wrong in ("", 3, True, b"runs", ["runs"]):
        with pytest.raises(ConfigError, match=r"runs = .*: must be the path of a folder; leave it out for LTKD_X or"):
            chosen_folder("runs", wrong, "LTKD_X", tmp_path)


def test_writing_replaces_and_leaves_nothing_else(tmp_path):
    write_bytes(tmp_path / "file", b"old")
    write_bytes(tmp_path / "file", b"new")
    assert [(f.name, f.read_bytes()) for f in tmp_path.iterdir()] == [("file", b"new")]


@pytest.mark.parametrize("function", ["os.fsync", "os.replace"])
def test_where_writing_fails_the_old_file_stays_and_no_other_appears(tmp_path, monkeypatch, function):
    write_bytes(tmp_path / "file", b"old")
    monkeypatch.setattr(function, fail)
    with pytest.raises(RunError, match="No space left on device"):
        write_bytes(tmp_path / "file", b"new")
    assert [(f.name, f.read_bytes()) for f in tmp_path.iterdir()] == [("file", b"old")]


def test_ctrl_c_while_writing_leaves_the_old_file_alone(tmp_path, monkeypatch):
    def interrupt(*_args):
        raise KeyboardInterrupt

    write_bytes(tmp_path / "file", b"old")
    monkeypatch.setattr("os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(tmp_path / "file", b"new")
    assert [(f.name, f.read_bytes()) for f in tmp_path.iterdir()] == [("file", b"old")]


def test_others_may_read_it_as_they_may_any_file(tmp_path):
    (tmp_path / "usual").write_bytes(b"data")
    write_bytes(tmp_path / "file", b"data")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(RunError, match="taken"):
        write_bytes(tmp_path / "taken" / "file", b"data")


def test_ltkd_cache_names_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LTKD_CACHE", os.fspath(tmp_path))
    assert cache_folder() == tmp_path


PLACES = {"LTKD_CACHE": cache_folder, "LTKD_RUNS": runs_folder, "LTKD_DATA": data_root}


@pytest.mark.parametrize("variable", PLACES)
def test_a_folder_may_lie_in_a_home_folder_and_an_unknown_one_is_told(monkeypatch, tmp_path, variable):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(variable, "~/here")
    assert PLACES[variable]() == tmp_path / "here"
    monkeypatch.setenv(variable, "~nobody-of-this-name/here")
    with pytest.raises(RunError, match=r"~nobody-of-this-name/here lies in a home folder.*name another folder"):
        PLACES[variable]()


def test_a_user_without_a_home_folder_is_asked_for_another_folder(monkeypatch):
    for name in ("LTKD_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # what it does where the system knows no home
    with pytest.raises(RunError, match=r"~/\.cache/ltkd lies in a home folder"):
        cache_folder()


@pytest.mark.parametrize("damage", [b"", b"a", b"\n", b"state", b"\xff" * 80])
def test_what_was_not_sealed_is_not_unsealed(damage):
    sealed = seal(b"state", "run")
    assert unseal(sealed, "run") == b"state"
    for data, owner in ((damage, "run"), (sealed + damage + b" ", "run"), (sealed, "other"), (sealed[:-1], "run")):
        with pytest.raises(ValueError, match="not what was stored"):
            unseal(data, owner)


# --- one process at a time ---


@pytest.mark.slow
def test_one_at_a_time_is_alone_and_the_others_say_once_that_they_wait(tmp_path, capsys):
    within, most = [], []

    def work(number):
        with alone(tmp_path / "folder" / "lock", f"number {number} waits"):
            within.append(number)
            most.append(len(within))
            time.sleep(0.7)  # longer than from one try to the next
            within.remove(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert most == [1, 1, 1]
    said = capsys.readouterr().err.splitlines()
    assert len(said) == len(set(said)) == 2


@pytest.mark.slow
def test_a_process_that_is_killed_leaves_no_lock(tmp_path, capsys):
    code = (
        "import sys, time; from ltkd._support.storage import alone\n"
        "with alone(sys.argv[1], ''): print('alone', flush=True); time.sleep(600)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, tmp_path / "lock"], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout.readline() == "alone\n"
        threading.Timer(0.3, child.send_signal, [signal.SIGKILL]).start()
        with alone(tmp_path / "lock", "waits"):
            assert child.wait() == -signal.SIGKILL
    finally:
        child.kill()
    assert capsys.readouterr().err == "waits\n"
    with alone(tmp_path / "lock", "waits"):
        assert capsys.readouterr().err == ""


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP], ids=errno.errorcode.get)
def test_on_a_file_system_without_locks_work_goes_on(tmp_path, monkeypatch, number):
    def no_locks(*_args):
        raise OSError(number, "no locks here")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with alone(tmp_path / "lock", "waits"), alone(tmp_path / "lock", "waits"):
        pass
