"""One value per class, or per group, may be any sequence of numbers, as the class counts may."""

import numpy as np
import pytest
import torch
from helpers import about, draw

from ltkd import ClassGroups, ConfigError, decompose, group_mass, losses

STUDENT, TEACHER, LABELS = draw(4, 3), draw(4, 3, seed=1), torch.tensor([0, 1, 2, 0])
PER_CLASS = {
    "bkd": lambda values: losses.bkd(STUDENT, TEACHER, values, temperature=2.0),
    "class_balanced": lambda values: losses.class_balanced(STUDENT, LABELS, values),
    "class_balanced, weighted": lambda values: losses.class_balanced(STUDENT, LABELS, values, reduction="weighted"),
    "focal": lambda values: losses.focal(STUDENT, LABELS, gamma=1.0, class_weights=values),
    "sigmoid_focal": lambda values: losses.sigmoid_focal(STUDENT, LABELS, gamma=1.0, class_weights=values),
    "ldam": lambda values: losses.ldam(STUDENT, LABELS, values, scale=30.0),
    "ldam, weighted": lambda values: losses.ldam(STUDENT, LABELS, [1, 1, 1], scale=30.0, class_weights=values),
    "logit_adjusted": lambda values: losses.logit_adjusted(STUDENT, LABELS, values),
    "balanced_softmax": lambda values: losses.balanced_softmax(STUDENT, LABELS, values),
    "adjust_logits": lambda values: losses.adjust_logits(STUDENT, values, tau=1.0),
    "rebalance": lambda values: losses.rebalance(TEACHER.softmax(1), values),
}


@pytest.mark.parametrize("loss", PER_CLASS.values(), ids=PER_CLASS)
def test_any_sequence_of_numbers_is_taken(loss):
    expected = loss(torch.tensor([1.0, 2.0, 4.0]))
    for values in ([1, 2, 4], (1.0, 2.0, 4.0), np.array([1, 2, 4]), [torch.tensor(1), np.float32(2), 4.0]):
        with about(values):
            torch.testing.assert_close(loss(values), expected)


@pytest.mark.parametrize("loss", PER_CLASS.values(), ids=PER_CLASS)
def test_anything_else_is_refused_in_one_sentence(loss):
    for values in ([1, 2], [[1, 2, 4]], 3, torch.ones(2), "abc", ["a", "b", "c"], {}, [1, None, 2], [[1], [2, 3], [4]]):
        with about(values), pytest.raises(ConfigError, match=r"must be \(3,\), one value per|must be 3 numbers, one"):
            loss(values)


OF_GROUPS = {
    "ltkd": lambda groups: losses.ltkd(STUDENT, TEACHER, groups, alpha=1.0, beta=1.0, temperature=2.0),
    "decompose": lambda groups: decompose(STUDENT, TEACHER, groups),
    "group_mass": lambda groups: group_mass(STUDENT, groups),
}


@pytest.mark.parametrize("function", OF_GROUPS.values(), ids=OF_GROUPS)
def test_groups_are_class_groups(function):
    function(ClassGroups.by_rank([3, 2, 1]))
    for groups in ([0, 0, 1], torch.tensor([0, 0, 1]), ("head", "tail"), 3, None, {}):
        with about(groups), pytest.raises(ConfigError, match=r"groups = .*: must be ClassGroups, such as"):
            function(groups)
