import pytest
import torch

from ltkd import ConfigError
from ltkd.explore.parameters import check_parameters

ALLOWED = {
    "epochs": (1, 100),
    "lr": (0.001, 1.0),
    "method": ["ce", "kd", "ltkd"],
    "methods": [["ce", "kd", "ltkd"]],
    "folder": str,
    "fast": bool,
    "side": (0, (8, 512)),
}
VALID = {
    "epochs": 3,
    "lr": 0.1,
    "method": "kd",
    "methods": ["ce", "ltkd"],
    "folder": "runs",
    "fast": True,
    "side": 0,
}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"epochs": 1},
        {"epochs": 100},
        {"lr": 1},
        {"lr": 0.001},
        {"folder": ""},
        {"methods": ["kd"]},
        {"fast": False},
        {"side": 8},
        {"side": 512},
    ],
    ids=str,
)
def test_values_in_range_pass(change):
    check_parameters(VALID | change, **ALLOWED)


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 0},
        {"epochs": 101},
        {"epochs": True},
        {"lr": 0.0},
        {"lr": 1.1},
        {"lr": "0.1"},
        {"method": "dkd"},
        {"method": None},
        {"methods": []},
        {"methods": "ce"},
        {"methods": ["ce", "dkd"]},
        {"folder": 3},
        {"fast": 1},
        {"side": 4},
        {"side": 513},
        {"side": False},
        {"side": "8"},
        {"methods": "[ce,ltkd]"},
    ],
    ids=str,
)
def test_other_values_raise_one_sentence_that_names_the_parameter(change):
    with pytest.raises(ConfigError, match=next(iter(change))) as error:
        check_parameters(VALID | change, **ALLOWED)
    assert "\n" not in str(error.value)


def test_the_error_for_an_unknown_name_suggests_the_nearest():
    with pytest.raises(ConfigError, match="unknown parameter 'epoch': did you mean 'epochs'"):
        check_parameters(VALID | {"epoch": 3}, **ALLOWED)


def test_the_error_for_an_unknown_choice_suggests_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'ltkd'"):
        check_parameters(VALID | {"method": "lktd"}, **ALLOWED)


@pytest.mark.parametrize("name", VALID)
def test_a_missing_name_raises(name):
    with pytest.raises(ConfigError, match=f"{name} is missing"):
        check_parameters({k: v for k, v in VALID.items() if k != name}, **ALLOWED)


def test_names_that_are_not_parameters_are_ignored():
    besides = {"_": 1, "__name__": "__main__", "_i1": "", "In": [], "Out": {}, "torch": torch, "fit": len, "Net": dict}
    check_parameters(VALID | besides, **ALLOWED)


def test_a_second_check_ignores_the_names_of_later_cells():
    namespace = dict(VALID)
    check_parameters(namespace, **ALLOWED)
    check_parameters(namespace | {"figure": 3}, **ALLOWED)
    with pytest.raises(ConfigError, match="epochs"):
        check_parameters(namespace | {"epochs": 0}, **ALLOWED)


def test_each_number_of_a_list_is_checked():
    check_parameters({"alphas": [0.0, 2.5]}, alphas=[(0.0, 100.0)])
    with pytest.raises(ConfigError, match=r"alphas = \[2\.0, -1\.0\]: must be a list, each entry a number from 0"):
        check_parameters({"alphas": [2.0, -1.0]}, alphas=[(0.0, 100.0)])
    with pytest.raises(ConfigError, match=r"alphas = 2\.0: must be a list, each entry a number"):
        check_parameters({"alphas": 2.0}, alphas=[(0.0, 100.0)])
    with pytest.raises(ConfigError, match=r"alphas = \[\]: must be a list of at least one value"):
        check_parameters({"alphas": []}, alphas=[(0.0, 100.0)])


def test_a_list_that_papermill_passed_as_a_text_says_how_to_pass_it():
    for text in ("[ce,ltkd]", "ce", ""):
        with pytest.raises(ConfigError, match=r"must be a list, not a text; papermill takes a list with -y 'methods: "):
            check_parameters(VALID | {"methods": text}, **ALLOWED)
