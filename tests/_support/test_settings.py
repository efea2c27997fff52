import math
from dataclasses import FrozenInstanceError, dataclass, replace
from enum import Enum
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import about

from ltkd import ConfigError, Method, Option, Task
from ltkd._support.settings import Setting, check_fields, setting, settings_of

INF, NAN = math.inf, math.nan
WHOLE = Setting(3, low=1, high=10)
NUMBER = Setting(0.5, low=0)
OPEN = Setting(0.5, low=0, high=1, above=True, below=True)
FREE = Setting(1.0)
FLAG = Setting(False)
WORD = Setting("left", choices=("left", "right"))
TEXT = Setting("any text")
MAYBE = Setting(None, kind=int | None, low=1)
NUMBERS = Setting((0.5,), kind=tuple[float, ...], low=0)
WORDS = Setting(("left",), kind=tuple[str, ...], choices=("left", "right"))
NAMED_OR_COUNTED = Setting("exp", kind=str | tuple[int, ...], choices=("exp", "step"), low=1)
DICT = Setting({}, kind=dict[str, object])


class Side(str, Enum):  # noqa: UP042 (str() of a member is not its text, unlike StrEnum's)
    """Names of a caller's own."""

    LEFT = "left"


ALLOWED = [  # (setting, value, the value that it becomes)
    (WHOLE, 3, 3),
    (WHOLE, 1, 1),
    (WHOLE, 10, 10),
    (WHOLE, np.int64(3), 3),
    (WHOLE, np.uint8(3), 3),
    (WHOLE, np.array(3), 3),
    (NUMBER, 0.5, 0.5),
    (NUMBER, 2, 2.0),
    (NUMBER, 0, 0.0),
    (NUMBER, np.float32(0.5), 0.5),
    (NUMBER, np.float64(0.5), 0.5),
    (NUMBER, np.int8(2), 2.0),
    (NUMBER, 1e30, 1e30),
    (NUMBER, 10**30, 1e30),
    (OPEN, 1e-30, 1e-30),
    (WHOLE, torch.tensor(3), 3),
    (NUMBER, torch.tensor(0.5), 0.5),
    (FLAG, torch.tensor(True), True),
    (NUMBERS, torch.tensor([1.0, 0.5]), (1.0, 0.5)),
    (NUMBERS, [torch.tensor(1.0), np.array(0.5)], (1.0, 0.5)),
    (TEXT, Path("a") / "b", "a/b"),
    (replace(WHOLE, high=INF), 2**63 - 1, 2**63 - 1),
    (OPEN, math.nextafter(1, 0), math.nextafter(1, 0)),
    (replace(OPEN, above=False, below=False), 1, 1.0),
    (replace(OPEN, above=False, below=False), 0, 0.0),
    (FREE, -1e9, -1e9),
    (FLAG, True, True),
    (FLAG, np.True_, True),
    (WORD, "right", "right"),
    (WORD, np.str_("right"), "right"),
    (WORD, Side.LEFT, "left"),
    (TEXT, "", ""),
    (MAYBE, None, None),
    (MAYBE, 2, 2),
    (NUMBERS, (), ()),
    (NUMBERS, [1, 0.5], (1.0, 0.5)),
    (NUMBERS, range(3), (0.0, 1.0, 2.0)),
    (NUMBERS, np.array([1, 2]), (1.0, 2.0)),
    (NUMBERS, [np.float32(0.5), np.int64(2)], (0.5, 2.0)),
    (WORDS, ["left", "right"], ("left", "right")),
    (NAMED_OR_COUNTED, "step", "step"),
    (NAMED_OR_COUNTED, [5, np.int32(2)], (5, 2)),
    (DICT, {"a": 1}, {"a": 1}),
]
NOT_WHOLE = [3.0, 1.5, np.float64(3.0), "3", True, np.True_, None, [3], b"3", 3j, INF, NAN, torch.tensor(3.0), {}]
NOT_A_NUMBER = ["6", "", True, False, np.True_, None, [1.0], NAN, INF, -INF, np.float32("nan"), 10**400, 1j, object()]
REFUSED = [  # (setting, values, a part of the message)
    (WHOLE, NOT_WHOLE, "must be a whole number from 1 to 10"),
    (WHOLE, [0, 11, -3, 10**23, np.int64(0)], "must be a whole number from 1 to 10"),
    (replace(WHOLE, high=INF), [0, 10**400], "must be a whole number of at least 1"),
    (replace(WHOLE, high=INF), [2**63, 10**23, np.uint64(2**63)], "must be a whole number of at least 1, below 2**63"),
    (NUMBER, NOT_A_NUMBER, "must be a number of at least 0"),
    (NUMBER, [-1, -1e-300, np.float32(-1)], "must be a number of at least 0"),
    (NUMBER, [1e-40, 5e-324, 1e31, 1e300, np.float64(1e-31)], "of at least 0, 0 or from 1e-30 to 1e+30 in size"),
    (FREE, [-1e31, -1e-31], "must be a number, 0 or from 1e-30 to 1e+30 in size"),
    (NUMBERS, [[0.5, 1e-40], [1e300]], "each entry a number of at least 0, 0 or from 1e-30 to 1e+30 in size"),
    (OPEN, [0, 1, 0.0, 1.0, -0.0, np.float64(1), *NOT_A_NUMBER], "must be a number above 0 and below 1"),
    (replace(OPEN, below=False), [0, 1.5], "must be a number above 0 and of at most 1"),
    (replace(OPEN, above=False), [1, -0.5], "must be a number of at least 0 and below 1"),
    (Setting(0.0, high=1), [1.5], "must be a number of at most 1"),
    (FREE, NOT_A_NUMBER, "must be a number"),
    (FLAG, ["yes", "true", 1, 0, 0.0, None, [True], np.int64(1)], "must be true or false"),
    (WORD, [None, True, 1, ["left", 3], b"left"], "must be one of left, right"),
    (WORD, ["lft", "Left", "", "left\n"], "known are left, right"),
    (TEXT, [None, 3, b"text", ["text"]], "must be text"),
    (MAYBE, [0, "None", 1.5], "must be a whole number of at least 1"),
    (NUMBERS, [0.5, "0.5", None, {0.5}, [[0.5]], np.ones((2, 2))], "a list, each entry a number of at least 0"),
    (
        NUMBERS,
        [[NAN], [-1], [True], ["0.5"], [None], range(-1, 1)],
        "a list, each entry a number of at least 0",
    ),
    (WORDS, [["left", "rihgt"]], "did you mean 'right'"),
    (WORDS, [3, [3]], "must be a list, each entry one of left, right"),
    (NAMED_OR_COUNTED, ["stepp"], "did you mean 'step'"),
    (
        NAMED_OR_COUNTED,
        [7, (3, 0), (3.5, 1), None],
        "one of exp, step or a list, each entry a whole number",
    ),
    (DICT, ["a", None, [("a", 1)]], "must be a dict"),
]


def test_a_value_becomes_the_type_of_its_setting():
    for each, value, expected in ALLOWED:
        with about(each, value):
            found = each.check("name", value)
            assert found == expected
            assert type(found) is type(expected)
            if isinstance(found, tuple):
                assert [type(entry) for entry in found] == [type(entry) for entry in expected]


def test_zero_has_no_sign():
    assert str(NUMBER.check("name", -0.0)) == "0.0"


@pytest.mark.parametrize("value", [1e-40, 1e300])
def test_the_size_of_numbers_is_named_only_where_it_is_the_reason(value):
    with pytest.raises(ConfigError, match=r"must be a number from 0\.1 to 9$"):
        replace(NUMBER, default=0.5, low=0.1, high=9.0).check("name", value)


def test_any_other_value_is_refused_by_one_sentence():
    for each, values, message in REFUSED:
        for value in values:
            with about(each, value), pytest.raises(ConfigError) as error:
                each.check("name", value)
            with about(each, value):
                assert message in str(error.value)
                assert "name" in str(error.value)
                assert "\n" not in str(error.value)


def test_the_message_of_a_huge_value_is_short():
    for value in (np.zeros((50, 50)), ["x"] * 10_000, "x" * 10_000):
        with pytest.raises(ConfigError) as error:
            WHOLE.check("epochs", value)
        assert len(str(error.value)) < 200
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("default", "more"),
    [
        (0, {"low": 1}),
        (NAN, {}),
        ("up", {"choices": ("left", "right")}),
        (None, {}),
        ([1], {}),
        ((1, 2), {}),
        (None, {"kind": int}),
    ],
    ids=str,
)
def test_a_default_that_is_not_allowed_is_refused(default, more):
    with pytest.raises(ConfigError, match=r"^default = |^unknown default "):
        Setting(default, **more)


# --- the command line ---

PARSED = [  # (setting, text, what it stands for)
    (WHOLE, "3", 3),
    (WHOLE, "1.5", "1.5"),
    (WHOLE, "three", "three"),
    (NUMBER, "1e-3", 0.001),
    (NUMBER, "fast", "fast"),
    (FLAG, "true", True),
    (FLAG, "False", False),
    (FLAG, "maybe", "maybe"),
    (WORD, "left", "left"),
    (TEXT, "5", "5"),
    (MAYBE, "5", 5),
    (NUMBERS, "0.5,0.9", (0.5, 0.9)),
    (NUMBERS, "a,b", "a,b"),
    (NAMED_OR_COUNTED, "step", "step"),
    (NAMED_OR_COUNTED, "5,4", (5, 4)),
    (NAMED_OR_COUNTED, "5", (5,)),
]


def test_a_text_of_the_command_line_becomes_a_value():
    for each, text, expected in PARSED:
        with about(each, text):
            assert each.parse(text) == expected
            assert type(each.parse(text)) is type(expected)


# --- as attributes ---


@dataclass(frozen=True)
class Record:
    """Two fields that are checked."""

    size: int | None = setting(None, "how large", low=1)
    shares: tuple[float, ...] = setting((0.5,), "how much of each", low=0)

    def __post_init__(self):
        check_fields(self, SETTINGS)


SETTINGS = settings_of(Record)


def test_the_fields_of_a_record_are_checked():
    assert Record(np.int64(3), [1, 2]) == Record(3, (1.0, 2.0))
    assert SETTINGS["size"] == Setting(None, "how large", low=1, kind=int | None)
    assert SETTINGS["size"].help == "how large"
    with pytest.raises(ConfigError, match="size = 0: must be a whole number of at least 1"):
        Record(size=0)
    with pytest.raises(FrozenInstanceError):
        Record().size = 2


class Own(Method):
    """A method of one's own."""

    weight = Option(0.5, "how strong")


def test_an_option_is_a_setting_on_the_class_and_a_value_on_an_object():
    task = Task.of_counts([3, 2, 1])
    assert Own.weight == Option(0.5, "how strong")
    assert Own(task, weight=2).weight == 2.0
    assert not hasattr(Own.__new__(Own), "weight")


def test_the_numbers_of_an_option_are_at_least_zero_unless_another_bound_is_given():
    with pytest.raises(ConfigError, match=r"weight = -0\.5: must be a number of at least 0$"):
        Own.weight.check("weight", -0.5)
    assert Option(0.0, "a shift", low=-1).check("shift", -0.5) == -0.5
