"""Published beside ours: only the run that a row prints counts, and what is said of it follows from numbers."""

from dataclasses import replace

import pytest
from stand_ins import finished

from ltkd import RunConfig, runs
from ltkd.reproduce import compare, tables

PLACE = {"imbalance_factor": 100, "student": "resnet8x4", "method": "ltkd", "group": "all"}  # 51.08 in ltkd-1


def config(seed=0, **settings):
    return RunConfig.make(
        **{"recipe": "cifar-crd", "method": "ltkd", "imbalance_factor": 100.0, "seed": seed} | settings
    )


def row_of(frame, **wanted):
    for name, value in (PLACE | wanted).items():
        frame = frame[frame[name] == value]
    (row,) = frame.itertuples()
    return row


def test_every_number_of_the_table_is_there_and_not_run_without_runs():
    frame = compare.against([], "ltkd-1")
    assert len(frame) == 168
    assert set(frame.verdict) == set(frame.best_verdict) == {"not run"}
    assert row_of(frame).images == 10_847 * 240
    assert compare.counts(frame)["last epoch"].to_dict() == {
        "reproduced": 0,
        "near": 0,
        "within the interval": 0,
        "off": 0,
        "not run": 168,
    }


def test_ours_is_mean_and_interval_over_seeds_for_the_last_and_the_best_epoch():
    values = [50.6, 51.0, 51.9]
    done = [finished(config(seed), value, best=value + 3) for seed, value in enumerate(values)]
    row = row_of(compare.against(done, "ltkd-1"))
    assert (row.published, row.seeds, row.mean) == (51.08, 3, pytest.approx(51.1667, abs=1e-4))
    assert row.ci == pytest.approx(runs.interval(values))
    assert row.difference == pytest.approx(51.1667 - 51.08, abs=1e-4)
    assert (row.verdict, row.best_mean) == ("reproduced", pytest.approx(54.1667, abs=1e-4))
    assert row.best_verdict == "off by +3.09"


@pytest.mark.parametrize(
    ("mean", "half", "said"),
    [
        (50.08, 0.1, "reproduced"),
        (50.0, 0.1, "off by -1.08"),
        (50.0, 1.1, "within the interval"),
        (53.0, float("nan"), "off by +1.92"),  # one seed has no interval
        (52.0, float("nan"), "near"),
        (52.0, 2.1, "near"),  # by chance, perhaps
        (52.0, 2.0, "reproduced"),
        (51.08, 1e-14, "near"),  # seeds that agree to the image
    ],
)
def test_the_verdict(mean, half, said):
    assert compare.verdict(51.08, mean, half) == said


def test_a_run_under_another_protocol_never_stands_beside_a_published_number():
    changes = [
        {"recipe": "laptop", "teacher": "resnet32x4", "student": "resnet8x4"},
        {"epochs": 239},
        {"image_size": 16},
        {"profile": "exp-eq15"},
        {"alpha": 5.0},
        {"batch_size": 128},
        {"teacher_epochs": 10},
        {"subset_seed": 3},
    ]
    done = [finished(config(**change), 51.08) for change in changes]
    frame = compare.against(done, "ltkd-1")
    assert (row_of(frame).verdict, row_of(frame).seeds) == ("not run", 0)  # else a change that was not seen
    assert set(frame.verdict) == {"not run"}
    own = compare.own_protocols(done)
    assert sorted(name.split(",")[0] for name in own.protocol) == ["cifar-crd"] * 7 + ["laptop"]


def test_runs_of_a_table_are_not_among_the_protocols_of_ones_own():
    done = [finished(config(), 51.08), finished(config(epochs=20), 40.0), finished(config().for_teacher(), 45.0)]
    (own,) = compare.own_protocols(done).itertuples()
    assert (own.protocol, own.seeds) == ("cifar-crd, epochs = 20", 1)


def test_a_teachers_row_is_the_run_that_teaches():
    done = [finished(config().for_teacher(), 45.0)]
    row = row_of(compare.against(done, "ltkd-1"), method="teacher", student="", teacher="resnet32x4")
    assert (row.published, row.verdict) == (45.35, "near")


def test_the_protocol_is_what_a_run_shares_with_its_peers():
    ltkd, ce = config(epochs=20, alpha=1.0), config(epochs=20, method="ce", student="vgg8")
    assert {compare.protocol(each) for each in (ltkd, ce, ltkd.for_teacher())} == {"cifar-crd, epochs = 20"}
    assert compare.changes(ltkd) == {"alpha": 1.0}


def test_some_classes_are_a_protocol_of_their_own_but_for_an_expert():
    some = config(epochs=20, classes=(0, 1, 2))
    assert compare.protocol(some) == "cifar-crd, classes = [0, 1, 2], epochs = 20"
    assert compare.protocol(some.for_teacher()) == "cifar-crd, epochs = 20"


def test_profiles_of_as_many_counts_are_protocols_apart():
    one, other = (compare.protocol(config(imbalance_factor=1.0, profile=(500,) * 99 + (last,))) for last in (5, 7))
    assert one.startswith("cifar-crd, profile = 100 counts (") and one != other


def test_a_group_that_no_run_has_is_not_run():
    done = [finished(replace(RunConfig.make("cifar-bkd", method="ce")), 38.0)]
    row = row_of(compare.against(done, "bkd-1"), dataset="cifar100", method="ce", student="resnet32a")
    assert (row.published, row.verdict) == (38.32, "near")


# --- rows and configs ---


@pytest.mark.parametrize("table", [name for name in tables.names() if name != "ltkd-fig3"])
def test_the_config_of_a_row_is_what_the_row_says_under_the_papers_recipe(table):
    for row in tables.read(table).itertuples():
        made = tables.config_of(row)
        teaches = row.method == "teacher"
        assert (made.dataset, made.imbalance_factor) == (row.dataset, row.imbalance_factor)
        assert made.profile == ("exp" if row.profile == "exp-eq15" else row.profile)  # the recipe's, an assumption
        assert made.method == ("ce" if teaches else row.method)
        assert made.student == (row.teacher if teaches else row.student)
        assert made.teaches == teaches
        assert made.recipe == tables.recipe_of(row)
        rest = set(made.overrides()) - {"student", "teacher", "teaches", "imbalance_factor"}
        assert rest <= set(tables.options(row.options))


@pytest.mark.parametrize("table", ["ltkd-1", "ltkd-2", "ltkd-3"])
def test_the_teachers_of_a_table_teach_its_students(table):
    configs = [tables.config_of(row) for row in tables.read(table).itertuples()]
    teachers = {config.id for config in configs if config.teaches}
    assert {config.for_teacher().id for config in configs if config.teacher} == teachers


def test_the_recipes_are_the_papers():
    rows = [row for table in tables.names() for row in tables.read(table).itertuples()]
    found = {(row.table.split("-")[0], row.dataset): tables.recipe_of(row) for row in rows}
    assert found["ltkd", "cifar100"] == "cifar-crd"
    assert found["bkd", "cifar100"] == "cifar-bkd"
    assert found["bkd", "cifar10"] == "cifar10-bkd"


def test_masses_in_a_batch_are_no_runs():
    assert {tables.config_of(row) for row in tables.read("ltkd-fig3").itertuples()} == {None}
    assert compare.against([], "ltkd-fig3").empty
