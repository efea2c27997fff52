"""The papers' numbers: each is checked against other numbers that the papers print, for they were copied."""

import pytest
from helpers import PROJECT

from ltkd import METHODS, LtkdError, RunConfig, datasets
from ltkd.models import MODELS
from ltkd.reproduce import tables
from ltkd.runs import REPORTED

ROWS = {"ltkd-1": 168, "ltkd-2": 168, "ltkd-3": 96, "ltkd-4": 24, "ltkd-5": 48, "ltkd-6": 32}
FIGURES = {"ltkd-fig3": 6, "ltkd-fig5": 5}
ROWS |= FIGURES | {"bkd-1": 43, "bkd-2": 20, "bkd-3": 32, "bkd-4": 36, "bkd-5": 20}

# The sum of all numbers of a table but its Δ, taken from the papers' text and not from the files.
SUMS = {"ltkd-1": 7207.24, "ltkd-2": 5206.74, "ltkd-3": 5486.53, "ltkd-4": 997.32, "ltkd-5": 2244.80, "ltkd-6": 1526.61}
SUMS |= {"ltkd-fig3": 127.99, "ltkd-fig5": 273.00}
SUMS |= {"bkd-1": 2753.07, "bkd-2": 1250.7, "bkd-3": 1029.3, "bkd-4": 1213.8, "bkd-5": 968.8}
# The rows called Δ, as printed: by pair of networks, imbalance factor, and tail before all.
DELTAS = {
    "ltkd-1": "6.58 2.02 9.58 3.37 12.12 4.97 5.42 1.03 7.82 2.08 8.54 3.33 "
    "6.16 1.52 7.98 2.31 8.18 3.20 5.14 0.56 7.59 1.50 8.59 3.24",
    "ltkd-2": "5.85 1.19 4.75 1.53 1.39 1.60 4.51 1.42 4.46 1.78 2.12 1.60 "
    "5.29 1.42 5.97 1.69 4.36 1.86 5.97 1.92 5.51 2.35 2.50 2.33",
    "ltkd-3": "1.06 0.27 1.75 0.57 2.40 0.65 1.58 0.38 1.34 0.21 3.20 0.38",
    "ltkd-4": "2.21 0.78 0.67 -0.01 1.71 0.40 0.55 0.01 0.59 0.38 2.21 0.60",
}
# Classes with many, medium and few training images, counted in the published lists.
CLASSES_BY_SHOTS = {"bkd-2": (842, 3701, 3599), "bkd-3": (131, 163, 71), "bkd-4": (385, 479, 136)}
# Rows whose overall accuracy is not the mean over all classes of what stands beside it, and by how much.
AT_ODDS = {
    ("bkd-2", "ce"): 0.28,
    ("bkd-2", "kd"): 0.32,
    ("bkd-3", "lfme"): -0.26,
    ("bkd-3", "oltr"): -1.59,
    ("bkd-4", "oltr"): -0.36,
}
NOT_METHODS = {"teacher", "teacher-group-mass"}
CELL = ["dataset", "imbalance_factor", "teacher", "student", "group"]
SETTING = ["dataset", "profile", "imbalance_factor", "teacher", "student", "method", "options"]

papers_tables = pytest.mark.parametrize("name", ROWS)


@pytest.fixture(scope="module")
def everything():
    return tables.read()


def accuracies(table, keys=CELL, **wanted):
    """The accuracies of the rows with the wanted values, by the other columns named: a Series."""
    frame = tables.read(table)
    for column, value in wanted.items():
        frame = frame[frame[column] == value]
    return indexed(frame, keys)


def indexed(frame, keys):
    series = frame.set_index(keys).accuracy
    assert len(series)
    assert series.index.is_unique
    return series


def assert_same(part, whole, tolerance=0.001):
    """Every value of one table stands in the other, too."""
    assert set(part.index) <= set(whole.index)
    assert ((part - whole.reindex(part.index)).abs() <= tolerance).all()


# --- what is there ---


def test_the_tables_are_those_of_the_papers(everything):
    assert tables.names() == list(ROWS) == list(everything.table.unique())
    files = {path.stem for path in (PROJECT / "ltkd" / "reproduce" / "data" / "published").glob("*.csv")}
    assert files == {*ROWS, "tables"}


@papers_tables
def test_every_number_of_a_table_is_a_row(name):
    frame = tables.read(name)
    assert (set(frame.table), len(frame)) == ({name}, ROWS[name])
    assert frame.accuracy.sum() == pytest.approx(SUMS[name], abs=0.001)
    assert tables.title(name)


def test_the_tables_hold_687_numbers(everything):
    assert len(everything) == sum(ROWS.values())
    assert (~everything.table.isin(FIGURES)).sum() == 687


def test_every_value_is_a_percentage(everything):
    assert everything.accuracy.between(0, 100, inclusive="right").all()
    assert set(everything.group) <= set(REPORTED)


def test_no_number_is_there_twice(everything):
    keys = [column for column in everything if column not in ("source", "accuracy")]
    repeated = everything[everything.duplicated(keys)]
    assert (set(repeated.table), set(repeated.method), len(repeated)) == ({"ltkd-2"}, {"teacher"}, 12)
    assert len(everything.drop_duplicates([*keys, "accuracy"])) == len(everything) - 12  # printed twice, alike


def test_only_figure_3_lacks_an_imbalance_factor(everything):
    assert set(everything[everything.imbalance_factor.isna()].table) == {"ltkd-fig3"}
    assert tables.read("ltkd-fig3").groupby("profile").accuracy.sum().tolist() == pytest.approx([64, 64], abs=0.02)


# --- the numbers, against others that are printed ---


@pytest.mark.parametrize("name", ["ltkd-1", "ltkd-2", "ltkd-3"])
def test_the_gap_to_the_second_best_is_as_printed(name):
    frame = tables.read(name).query("method not in ('teacher', 'ce')")
    others = frame[frame.method != "ltkd"].groupby(CELL, sort=False).accuracy.max()
    gaps = accuracies(name, method="ltkd") - others
    order = frame[frame.method == "ltkd"].set_index(CELL).index
    assert gaps[order].round(2).tolist() == [float(gap) for gap in DELTAS[name].split()]


def test_the_gain_by_rebalancing_is_as_printed():
    ours = accuracies("ltkd-4", options="beta=0")
    gains = ours - accuracies("ltkd-4", options="beta=0;rebalanced=false")
    assert gains[ours.index].round(2).tolist() == [float(gain) for gain in DELTAS["ltkd-4"].split()]


def test_ltkds_ablations_repeat_its_other_tables():
    main, ablation = accuracies("ltkd-1", method="ltkd"), accuracies("ltkd-5", method="ltkd", options="")
    shared = ablation[ablation.index.isin(main.index)]
    assert len(shared) == 6  # the three pairs of networks that both tables have
    assert_same(shared, main)
    assert_same(accuracies("ltkd-4", options="beta=0"), accuracies("ltkd-5", options="beta=0"))
    assert_same(accuracies("ltkd-6", options="n_groups=3"), main)
    assert_same(accuracies("ltkd-fig5", options="alpha=6;beta=6"), main)
    assert_same(accuracies("ltkd-fig5", method="reviewkd"), accuracies("ltkd-1", method="reviewkd"))


@pytest.mark.parametrize("name", ["ltkd-1", "ltkd-2", "ltkd-3", "bkd-1"])
def test_a_longer_tail_is_harder(name):
    frame = tables.read(name).drop_duplicates().sort_values("imbalance_factor")
    for _, part in frame.groupby(["dataset", "teacher", "student", "method", "group"]):
        assert part.accuracy.is_monotonic_decreasing, part


def test_bkds_summary_repeats_its_tables_rounded(everything):
    keys = ["dataset", "imbalance_factor", "method", "source", "teacher", "student", "group"]
    detailed = everything[everything.table.isin(["bkd-1", "bkd-2", "bkd-3", "bkd-4"])]
    assert_same(accuracies("bkd-5", keys), indexed(detailed, keys), tolerance=0.0501)


@pytest.mark.parametrize("name", CLASSES_BY_SHOTS)
def test_overall_accuracy_is_the_mean_over_classes(name):
    frame = tables.read(name).pivot(index="method", columns="group", values="accuracy").dropna()
    counts = CLASSES_BY_SHOTS[name]
    mean = frame[["many_shot", "medium_shot", "few_shot"]].to_numpy() @ counts / sum(counts)
    known = [AT_ODDS.get((name, method), 0) for method in frame.index]
    assert (frame["all"] - mean).tolist() == pytest.approx(known, abs=0.1)


# --- the names are the package's ---


def test_every_name_is_the_packages(everything):
    assert set(everything.method) - set(METHODS) == NOT_METHODS
    assert set(everything.dataset) <= set(datasets.SOURCES)
    assert set(everything.profile) <= set(datasets.profile_names())
    assert {*everything.teacher, *everything.student} - set(MODELS) == {""}


def test_every_row_of_a_method_is_a_run(everything):
    for row in everything[everything.method.isin(METHODS)].drop_duplicates(SETTING).itertuples():
        networks = {"student": row.student} | ({"teacher": row.teacher} if row.teacher else {})
        options = tables.options(row.options)
        config = RunConfig.make(
            dataset=row.dataset,
            profile=row.profile,
            imbalance_factor=row.imbalance_factor,
            method=row.method,
            **networks,
            **options,
        )
        assert (config.teacher or "") == row.teacher  # empty where the method has none, and only there
        assert {name: config.options.get(name, config.n_groups) for name in options} == options


def test_a_teachers_row_has_no_student(everything):
    teachers = everything[everything.method == "teacher"]
    assert set(teachers.student) == {""}
    assert "" not in set(teachers.teacher)


def test_quoted_numbers_name_another_paper(everything):
    assert set(everything[everything.table.str.startswith("ltkd")].source) == {"ltkd"}
    quoted = everything[~everything.source.isin(["ltkd", "bkd"])].groupby("table").source.agg(set).to_dict()
    assert quoted == {
        "bkd-1": {"bbn", "lfme"},
        "bkd-2": {"bbn", "cb", "crt"},
        "bkd-3": {"crt", "lfme"},
        "bkd-4": {"lfme"},
        "bkd-5": {"crt"},
    }


# --- reading ---


def test_options_are_read_as_a_run_takes_them():
    assert tables.options("") == {}
    assert tables.options("beta=0;rebalanced=false") == {"beta": 0, "rebalanced": False}


@pytest.mark.parametrize("ask", [tables.read, tables.title])
def test_an_unknown_table_is_named(ask):
    with pytest.raises(LtkdError, match=r"unknown table 'ltkd-7': did you mean 'ltkd-\d'.*known are bkd-1"):
        ask("ltkd-7")
