"""Every setting of a run, given every kind of value, by both doors: RunConfig.make and the command line."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import about

from ltkd import ConfigError, RunConfig
from ltkd.__main__ import main
from ltkd.config.run_config import SETTINGS
from ltkd.methods import option_names

OPTIONS = {name: next(iter(owners)) for name, owners in option_names().items()}  # {option: a method that has it}
PLAIN = {"text": "x", "number": 0.5, "whole": 3, "yes": True, "list": [1, 2], "dict": {"a": 1}}  # of one type each
VALUES = [
    *PLAIN.values(),
    *(None, "", " ", "a\nb", "a\0b", b"x", "ä" * 3000, object(), 1j, {1}, int, Path("nowhere")),
    *(0, -1, -0.5, 10**23, 10**400, 5e-324, 1e-40, -1e-40, 1e300, math.nan, math.inf, -math.inf),
    *((), [], {}, [None], [[1]], [math.nan], [""], ["a", 1], range(3), range(0)),
    *(np.int64(3), np.uint64(2**63), np.float32(0.5), np.float64("nan"), np.float16("inf"), np.True_, np.str_("x")),
    *(np.array(3), np.array(0.5), np.array([1, 2]), np.ones((2, 2)), np.array(["a"]), np.array([], dtype=int)),
    *(torch.tensor(3), torch.tensor(0.5), torch.tensor([1, 2]), torch.tensor(math.nan), torch.tensor([])),
]
SAME = [  # values that other libraries write in their own way, and the plain one
    *((kind(3), 3) for kind in (int, np.int64, np.uint8, np.array, torch.tensor)),
    *((kind(0.5), 0.5) for kind in (float, np.float32, np.float64, np.array, torch.tensor)),
    *((kind(True), True) for kind in (bool, np.bool_, np.array, torch.tensor)),
    *((kind([4, 9]), (4, 9)) for kind in (list, tuple, np.array, torch.tensor)),
    (range(2), (0, 1)),
]


def made(name, value):
    """The value of a setting in the config that it gives."""
    more = {"method": OPTIONS[name], "held_out": 0.1} if name in OPTIONS else {}
    config = RunConfig.make(**more | {name: value})
    return config.options[name] if name in OPTIONS else getattr(config, name)


def computable(value):
    entries = value if isinstance(value, tuple) else [value]
    return all(not isinstance(n, float) or n == 0 or 1e-30 <= abs(n) <= 1e30 for n in entries)


@pytest.mark.parametrize("name", [*SETTINGS, *OPTIONS])
def test_any_value_is_taken_as_it_is_or_refused_in_one_sentence(name):
    for value in VALUES:
        with about(name, value):
            try:
                found = made(name, value)
            except ConfigError as error:
                assert "\n" not in str(error)
                assert len(str(error)) < 1200
            else:
                assert computable(found)
                assert type(found) in (str, int, float, bool, tuple, dict, type(None))


@pytest.mark.parametrize("name", [*SETTINGS, *OPTIONS])
def test_a_value_of_another_library_is_the_plain_one(name):
    for value, plain in SAME:
        outcomes = []
        for each in (value, plain):
            try:
                outcomes.append(made(name, each))
            except ConfigError:
                outcomes.append("refused")
        with about(name, value):
            assert outcomes[0] == outcomes[1]
            assert type(outcomes[0]) is type(outcomes[1])


TEXTS = ["", " ", "x", "a\nb", "nan", "inf", "-1", "1e-40", "1e300", "1" * 23, "1" * 5000, "1,,2", ",", "3,x", "0.5.1"]


@pytest.mark.parametrize("name", [name for name in [*SETTINGS, *OPTIONS] if name not in ("options", "dataset_version")])
def test_any_text_of_the_command_line_is_taken_or_refused_in_one_line(name, capsys):
    more = ["--method", OPTIONS[name], "--held-out", "0.1"] if name in OPTIONS else []
    for text in TEXTS:
        with about(name, text):
            code = main(["train", "--dry-run", *more, f"--{name.replace('_', '-')}={text}"])
            out, err = capsys.readouterr()
            assert (code, bool(out), err.count("\n")) in [(0, True, 0), (2, False, 1)]
            assert len(err) < 1200
            assert code == 2 or text.strip()
