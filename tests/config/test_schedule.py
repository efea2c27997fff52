import itertools

import numpy as np
import pytest

from ltkd.config.schedule import Schedule

COSINE_OF_FOUR = [1.0, (2 + 2**0.5) / 4, 0.5, (2 - 2**0.5) / 4]


@pytest.mark.parametrize(
    ("settings", "rates"),
    [
        ({"epochs": 4}, [1, 1, 1, 1]),
        ({"epochs": 6, "milestones": (0.5, 5 / 6)}, [1, 1, 1, 0.1, 0.1, 0.01]),
        ({"epochs": 6, "milestones": (0.5, 5 / 6), "decay": 0.5}, [1, 1, 1, 0.5, 0.5, 0.25]),
        ({"epochs": 6, "milestones": (0.6,)}, [1, 1, 1, 0.1, 0.1, 0.1]),  # after 3.6 epochs
        ({"epochs": 6, "warmup": 0.5}, [1 / 3, 2 / 3, 1, 1, 1, 1]),
        ({"epochs": 6, "warmup": 1 / 6}, [1, 1, 1, 1, 1, 1]),
        ({"epochs": 5, "warmup": 0.5}, [0.4, 0.8, 1, 1, 1]),  # over 2.5 epochs
        ({"epochs": 4, "kind": "cosine"}, COSINE_OF_FOUR),
        ({"epochs": 4, "kind": "cosine", "milestones": (0.25,)}, COSINE_OF_FOUR),
        ({"epochs": 4, "kind": "cosine", "warmup": 0.5}, [0.5, *COSINE_OF_FOUR[1:]]),
    ],
)
def test_the_learning_rate_epoch_by_epoch(settings, rates):
    schedule = Schedule(**{"kind": "steps", "lr": 0.2} | settings)
    found = [schedule.rate(epoch) for epoch in range(1, schedule.epochs + 1)]
    np.testing.assert_allclose(found, 0.2 * np.array(rates), rtol=1e-12)


def test_a_milestone_on_a_whole_epoch_is_met_in_spite_of_rounding():
    for epochs, last in itertools.combinations(range(300, 0, -1), 2):
        schedule = Schedule("steps", epochs, lr=1.0, milestones=(last / epochs,))
        assert (schedule.rate(last), schedule.rate(last + 1)) == (1.0, 0.1)


@pytest.mark.parametrize(
    ("settings", "every", "tested"),
    [
        ({"milestones": (0.7, 0.8)}, 3, [3, 6, 8, 9, 10]),
        ({"milestones": (0.9,)}, 4, [4, 8, 10]),
        ({}, 4, [4, 8, 10]),
        ({}, 20, [10]),
        ({}, 1, list(range(1, 11))),
        ({"kind": "cosine", "milestones": (0.2,)}, 20, [9, 10]),
    ],
)
def test_the_test_comes_at_times_and_after_each_epoch_once_the_rate_is_low(settings, every, tested):
    schedule = Schedule(**{"kind": "steps", "epochs": 10, "lr": 0.1} | settings)
    assert [epoch for epoch in range(1, 11) if schedule.tests_after(epoch, every)] == tested
