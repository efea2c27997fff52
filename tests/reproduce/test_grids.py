"""Grids: by name, by file, out of a published table; one seed of everything before the second."""

import numpy as np
import pytest

from ltkd import ConfigError, RunConfig
from ltkd.cli import reports
from ltkd.reproduce import tables
from ltkd.reproduce.grids import expand, names, read_grid, table_of

TABLES = {f"ltkd-table{n}": f"ltkd-{n}" for n in range(1, 7)} | {f"bkd-table{n}": f"bkd-{n}" for n in range(1, 6)}
TABLES |= {"ltkd-fig5": "ltkd-fig5"}
RUNS = {"ltkd-table1": 84, "ltkd-table2": 78, "ltkd-table3": 48, "ltkd-table4": 12, "ltkd-table5": 24}
RUNS |= {"ltkd-table6": 32, "bkd-table1": 43, "bkd-table2": 8, "bkd-table3": 8, "bkd-table4": 9, "bkd-table5": 20}
RUNS |= {"ltkd-fig5": 12, "bkd-fig3": 8}


def test_a_line_of_a_dry_run_is_one_setting():
    configs = expand({"method": ["ce"], "profile": ["exp", "step"], "subset_seed": [0, 1], "seed": [0, 1]})
    lines = reports.settings(configs, {configs[0].id})
    assert [line.split("  ")[-1].strip() for line in lines] == ["0, 1 (1 finished)", "0, 1", "0, 1", "0, 1"]
    assert "subset_seed=1" in lines[-1] and "profile=step" in lines[-1]


def grid(name, **settings):
    return expand(read_grid(name) | settings)


# --- what is there ---


def test_every_table_of_the_papers_is_a_grid():
    assert set(names()) == {*RUNS, "digits", "laptop"}
    assert set(RUNS) - set(TABLES) == {"bkd-fig3"}  # whose accuracies are printed nowhere


@pytest.mark.parametrize("name", RUNS)
def test_a_grid_of_the_papers_has_three_seeds_of_every_run_one_seed_after_the_other(name):
    configs = grid(name)
    assert [config.seed for config in configs] == [s for s in (0, 1, 2) for _ in range(RUNS[name])]
    assert len({config.id for config in configs}) == len(configs)


@pytest.mark.parametrize("name", TABLES)
def test_a_grid_holds_the_run_behind_every_row_of_its_table(name):
    wanted = {tables.config_of(row).id for row in tables.read(TABLES[name]).itertuples()}
    assert wanted <= {config.id for config in grid(name, seed=0)}


@pytest.mark.parametrize(("given", "table"), [("ltkd-table1", "ltkd-1"), ("ltkd-1", "ltkd-1"), ("ltkd-fig5",) * 2])
def test_a_grid_and_its_table_are_one(given, table):
    assert table_of(given) == table


@pytest.mark.parametrize("given", ["ltkd-table7", "digits"])
def test_a_grid_without_a_table_is_refused(given):
    with pytest.raises(ConfigError, match=f"unknown published table '{given}'"):
        table_of(given)


def test_an_unknown_name_is_named():
    with pytest.raises(ConfigError, match=r"did you mean 'ltkd-table\d'.*or give the path"):
        read_grid("ltkd-tabel1")


def test_a_path_is_a_path(tmp_path):
    (tmp_path / "own.toml").write_text("method = 'ce'\nseed = [4]")
    assert read_grid(tmp_path / "own.toml") == {"method": "ce", "seed": [4]}


# --- a table's rows ---


def test_networks_methods_and_factors_choose_among_the_rows_of_a_table():
    (config,) = grid("ltkd-table1", method="ltkd", student="resnet8x4", imbalance_factor=100, seed=5)
    assert (config.method, config.student, config.imbalance_factor, config.seed) == ("ltkd", "resnet8x4", 100, 5)


def test_a_misspelt_choice_among_others_is_not_passed_over():
    with pytest.raises(ConfigError, match=r"no row of ltkd-1 has method = dkdd; there are"):
        grid("ltkd-table1", method=["ltkd", "dkdd"])


def test_a_choice_that_leaves_no_row_says_what_there_is():
    with pytest.raises(ConfigError, match=r"no row of ltkd-1 has method = bkd; there are teacher, ce, dkd"):
        grid("ltkd-table1", method=["bkd"])


def test_any_other_setting_changes_every_row():
    configs = grid("ltkd-table1", epochs=3, profile="exp-eq15", alpha=2.0, seed=0)
    assert len(configs) == 84
    assert {(config.epochs, config.profile) for config in configs} == {(3, "exp-eq15")}
    assert {c.options["alpha"] for c in configs if c.method == "ltkd"} == {2.0}


def test_an_option_of_no_method_of_the_table_is_an_error():
    with pytest.raises(ConfigError, match="curriculum is an option of lfme, but the methods here are"):
        grid("ltkd-table1", curriculum="loss")


# --- parts and order ---


def test_parts_share_what_stands_beside_them():
    configs = expand({"seed": [0, 1], "part": [{"method": "ce"}, {"method": ["kd", "ltkd"]}]})
    assert [(c.method, c.seed) for c in configs] == [(m, s) for s in (0, 1) for m in ("ce", "kd", "ltkd")]


def test_seeds_come_in_the_order_in_which_they_are_given():
    configs = expand({"seed": [7, 2], "method": ["ce", "kd"]})
    assert [(c.seed, c.method) for c in configs] == [(7, "ce"), (7, "kd"), (2, "ce"), (2, "kd")]


def test_a_run_of_two_parts_is_there_once():
    assert len(expand({"part": [{"method": "ce"}, {"method": ["ce", "kd"]}]})) == 2


def test_the_grid_is_what_the_configs_would_be_by_hand():
    (config,) = expand({"recipe": "cifar-crd", "method": "ltkd", "alpha": 2.0})
    assert config == RunConfig.make("cifar-crd", method="ltkd", alpha=2.0)


# --- values of all kinds ---

SAME = [  # (a grid, the values of one setting in its configs)
    ({"seed": range(2)}, [0, 1]),
    ({"seed": (0, 1)}, [0, 1]),
    ({"seed": np.arange(2)}, [0, 1]),
    ({"seed": [np.int64(3)]}, [3]),
    ({"seed": np.array(3)}, [3]),
    ({"lr": np.array([0.1, 0.2])}, [0.1, 0.2]),
    ({"milestones": [0.5, 0.9]}, [(0.5, 0.9)]),
    ({"milestones": [[0.5, 0.9], [0.7]]}, [(0.5, 0.9), (0.7,)]),
    ({"milestones": [(0.5, 0.9)]}, [(0.5, 0.9)]),
    ({"classes": [4, 9]}, [(4, 9)]),
    ({"classes": np.array([[4, 9], [1, 2]])}, [(4, 9), (1, 2)]),
    ({"profile": ["exp", "step"]}, ["exp", "step"]),
    ({"profile": [5] * 10}, [(5,) * 10]),
    ({"profile": [[5] * 10, "exp"]}, [(5,) * 10, "exp"]),
]


@pytest.mark.parametrize(("grid", "values"), SAME, ids=str)
def test_a_list_holds_values_unless_it_is_one(grid, values):
    (name,) = grid
    assert [getattr(config, name) for config in expand({"method": "ce", **grid})] == values


NO_GRIDS = [
    ({"part": 3}, r"part = 3: must be a list of grids"),
    ({"part": "ce"}, r"part = 'ce': must be a list of grids"),
    ({"part": {"method": "ce"}}, r"part = .*: must be a list of grids"),
    ({"part": [3]}, r"a grid is 3: must be settings"),
    ({"part": [{"part": [{}]}]}, r"unknown parameter 'part'"),
    ({"recipe": [["a"]]}, r"recipe = \['a'\]: must be one value|unknown recipe 'a'"),
    ({"method": [["ce"]], "alpha": 1}, r"method = \['ce'\]: must be one value"),
    ({"table": "ltkd-1", "method": [["ce"]]}, r"method = \['ce'\]: must be one value"),
    ({"table": [["ltkd-1"]]}, r"table = \['ltkd-1'\]: must be one value"),
    ({"table": {"a": 1}}, r"table = \{'a': 1\}: must be one value"),
    ({"table": 3}, r"unknown table 3"),
    ({"milestones": []}, r"milestones has no value"),
    ({"milestones": 0.5}, r"milestones = 0.5: must be a list"),
    ({"milestones": [0.5, 1.5]}, r"milestones = 0.5: must be a list"),
    ({"": 1}, r"unknown parameter ''"),
    (3, r"a grid is 3"),
    (None, r"a grid is None"),
    ([{"method": "ce"}], r"a grid is \[\{'method': 'ce'\}\]"),
]


@pytest.mark.parametrize(("grid", "message"), NO_GRIDS, ids=str)
def test_what_is_no_grid_is_refused_in_one_sentence(grid, message):
    with pytest.raises(ConfigError, match=message) as error:
        expand(grid)
    assert "\n" not in str(error.value)


def test_a_grid_file_whose_parts_are_none_has_no_table(tmp_path):
    (tmp_path / "own.toml").write_text("part = 3")
    with pytest.raises(ConfigError, match=r"part = 3: must be a list of grids, in TOML each under a line \[\[part\]\]"):
        expand(read_grid(tmp_path / "own.toml"))
