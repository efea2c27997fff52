import errno
import os

import pytest

from ltkd.errors import RunError
from ltkd.files import cache_folder, write_bytes

NO_SPACE = OSError(errno.ENOSPC, "No space left on device")


def fail(*_args, **_kwargs):
    raise NO_SPACE


def test_a_file_is_written_with_the_folders_above_it(tmp_path):
    write_bytes(tmp_path / "a" / "b" / "file", b"data")
    assert (tmp_path / "a" / "b" / "file").read_bytes() == b"data"


def test_writing_replaces_and_leaves_nothing_else(tmp_path):
    write_bytes(tmp_path / "file", b"old")
    write_bytes(tmp_path / "file", b"new")
    assert [(f.name, f.read_bytes()) for f in tmp_path.iterdir()] == [("file", b"new")]


@pytest.mark.parametrize("function", ["os.fsync", "os.replace", "tempfile.mkstemp"])
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


def test_a_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(RunError, match="taken"):
        write_bytes(tmp_path / "taken" / "file", b"data")


def test_ltkd_cache_names_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LTKD_CACHE", os.fspath(tmp_path))
    assert cache_folder() == tmp_path
