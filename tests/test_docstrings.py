"""The examples in docstrings print what they say."""

import doctest
from importlib import import_module

import pytest

WITH_EXAMPLES = [
    "ltkd.groups",
    "ltkd.decomposition",
    "ltkd.metrics",
    "ltkd.losses.ltkd",
    "ltkd.datasets.registry",
    "ltkd.models",
    "ltkd.methods.base",
    "ltkd.config.run_config",
    "ltkd.training.fit",
    "ltkd.reproduce.sweep",
]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_print_what_they_say(name):
    result = doctest.testmod(import_module(name))
    assert result.attempted > 0
    assert result.failed == 0
