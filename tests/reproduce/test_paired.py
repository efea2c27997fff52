"""Paired differences and where the spread comes from, against closed forms and simulated truth."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from ltkd import ConfigError
from ltkd.reproduce.paired import bootstrap, paired, variance_components


def series(*values):
    return pd.Series(values, dtype=float)


def test_the_paired_interval_is_students():
    first, second = series(3, 5, 9, 4), series(1, 4, 5, 3.5)
    found = paired(first, second)
    differences = first - second
    low, high = scipy.stats.t.interval(0.95, 3, differences.mean(), scipy.stats.sem(differences))
    assert (found.n, found.mean) == (4, differences.mean())
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_what_has_no_partner_is_left_out():
    found = paired(pd.Series({0: 5.0, 1: 6.0, 7: 99.0}), pd.Series({1: 4.0, 0: 4.0, 3: 0.0}))
    assert (found.n, found.mean) == (2, 1.5)


def test_a_single_pair_has_no_interval_and_none_has_no_mean():
    assert np.isnan(paired(series(2), series(1))[2:]).all()
    assert paired(pd.Series({0: 1.0}), pd.Series({1: 1.0})).n == 0


def test_two_runs_of_one_key_cannot_be_paired():
    with pytest.raises(ConfigError, match="without duplicates"):
        paired(pd.Series([1.0, 2.0], index=[0, 0]), series(1, 2))


def test_the_bootstrap_interval_is_near_the_normal_one_and_the_same_every_time():
    values = np.random.default_rng(1).normal(2, 1, 400)
    low, high = scipy.stats.norm.interval(0.95, values.mean(), scipy.stats.sem(values))
    assert bootstrap(values) == pytest.approx((low, high), abs=0.02)
    assert bootstrap(values) == bootstrap(values)
    assert bootstrap(values) != bootstrap(values, seed=1)


def crossed(subset, initial, rest, shape=(60, 50), seed=0):
    rng = np.random.default_rng(seed)
    values = 50 + subset * rng.normal(size=(shape[0], 1)) + initial * rng.normal(size=shape[1])
    values = values + rest * rng.normal(size=shape)
    return pd.DataFrame(
        [{"subset_seed": s, "seed": i, "all": values[s, i]} for s in range(shape[0]) for i in range(shape[1])]
    )


@pytest.mark.parametrize("truth", [(2.0, 0.5, 0.3), (0.2, 1.5, 0.5), (0.0, 1.0, 0.2)])
def test_the_components_are_those_that_were_put_in(truth):
    found = variance_components(crossed(*truth))
    assert found[:3] == pytest.approx(truth, rel=0.25, abs=0.06)
    assert found[3:] == (60, 50)


def test_without_enough_crossed_runs_nothing_is_said():
    frame = crossed(1, 1, 1, (2, 2))
    assert variance_components(frame).subsets == 2
    empty_cell, two_runs_a_cell = frame[:3], pd.concat([frame, frame])
    for wrong in (empty_cell, frame[frame.seed == 0], frame[:0], two_runs_a_cell):
        with pytest.raises(ConfigError, match="train every subset_seed"):
            variance_components(wrong)
