"""What is printed acts on no terminal, whatever the names in it."""

import os
import sys

import pandas as pd
import pytest
from helpers import HOSTILE

from ltkd import LtkdError
from ltkd.__main__ import main
from ltkd._support.terminal import say, say_csv, say_table
from ltkd.errors import visible

every_name = pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
in_tables = {what: name for what, name in HOSTILE.items() if what != "broken"}  # pandas refuses that one
every_name_in_tables = pytest.mark.parametrize("name", in_tables.values(), ids=in_tables)


def acts(text):
    """The characters of printed text that are more than marks in a line."""
    return [c for c in text if not c.isprintable() and c != "\n"]


def as_folder(name):
    return name.replace("/", "_")[:200] or "empty"


@every_name
def test_a_line_stays_one_line_of_marks(name, capsys):
    say(f"a class {name}", "another line")
    first, second, end = capsys.readouterr().out.split("\n")
    assert (first, second, end) == (f"a class {visible(name)}", "another line", "")
    assert not acts(first) and first.encode()
    assert visible(first) == first  # so that what passes twice is not changed twice


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\tc\\d", "a\\nb\\tc\\d"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\u202egnp", "\\u202egnp"),
        ("\udcff", "\\udcff"),
        ("Müller, 猫, 50 % ±", "Müller, 猫, 50 % ±"),
    ],
)
def test_what_is_visible_stays(text, shown):
    assert visible(text) == shown


@every_name
def test_an_error_is_one_line(name):
    error = LtkdError(f"unknown class {name}")
    assert str(error) == visible(" ".join(f"unknown class {name}".split()))
    assert not acts(str(error)) and "\n" not in str(error)
    assert error._render_traceback_() == [f"LtkdError: {error}"]


@every_name_in_tables
def test_a_row_of_a_table_is_one_line(name, capsys):
    say_table(pd.DataFrame({"run": [name, "kd"], "all": [61.234, None]}))
    lines = capsys.readouterr().out.removesuffix("\n").split("\n")
    assert len(lines) == 3 and not acts("".join(lines))
    assert [line.split()[-1] for line in lines] == ["all", "61.23", "-"]
    assert len({len(line) for line in lines}) == 1


@every_name_in_tables
def test_values_are_as_they_are_in_a_file_and_visible_on_a_terminal(name, capsys, monkeypatch, tmp_path):
    frame = pd.DataFrame({"run": [name, "kd"], "all": [1.0, 2.0]})
    coding = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
    with open(tmp_path / "table.csv", "w", **coding) as file, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", file)
        say_csv(frame)
    with open(tmp_path / "table.csv", **coding) as file:
        assert pd.read_csv(file, keep_default_na=False)["run"].tolist() == [name, "kd"]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    say_csv(frame)
    assert not acts(capsys.readouterr().out)


COMMANDS = {  # {what the name is: the arguments}
    "a folder of runs": lambda place: ["table", "--runs", place],
    "a data set": lambda place: ["check-data", "--dataset", place],
    "a file of runs": lambda place: ["runs", "--import", place],
    "a file for no runs": lambda place: ["runs", "--runs", os.path.dirname(place), "--export", place],
    "a grid": lambda place: ["sweep", place],
    "a network": lambda place: ["train", "--student", place],
    "an unknown argument": lambda place: ["train", f"--{place}"],
    "a value": lambda place: ["train", "--epochs", place],
}


@pytest.mark.parametrize("command", COMMANDS)
@every_name
def test_no_command_passes_a_name_on_to_the_terminal(command, name, tmp_path, capsys):
    try:
        main(COMMANDS[command](os.path.join(tmp_path, as_folder(name))))
    except SystemExit as stop:  # argparse's
        assert stop.code == 2
    printed = capsys.readouterr()
    assert printed.out + printed.err and not acts(printed.out + printed.err)
    assert "\nerror: b" not in printed.out + printed.err


def test_folders_that_are_no_runs_are_named_in_one_line_each(tmp_path, capsys):
    for name in HOSTILE.values():
        folder = tmp_path / as_folder(name)
        folder.mkdir()
        (folder / "config.json").write_text("{")
    assert main(["table", "--runs", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert printed.err.count("\n") == printed.err.count("skipped ") == len(HOSTILE)
    assert not acts(printed.out + printed.err)
