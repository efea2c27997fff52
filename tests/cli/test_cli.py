import csv
import io
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import PROJECT, SHORT_RUN, class_folders, digits_config
from sklearn.metrics import classification_report

from ltkd import METHODS, Method, Run, RunConfig, datasets, fit, models, runs
from ltkd.__main__ import main
from ltkd.cli import reports
from ltkd.config.recipes import RECIPES
from ltkd.errors import ConfigError
from ltkd.methods import option_names
from ltkd.reproduce.grids import expand, names, read_grid
from ltkd.training import fit as training

ONE_EPOCH = SHORT_RUN | {"epochs": 1}
SHORT = [part for name, value in ONE_EPOCH.items() for part in (f"--{name.replace('_', '-')}", str(value))]
SHORT += ["--quiet", "--device", "cpu"]


def call(*arguments):
    """The exit code, whether the parser or the command gives it."""
    try:
        return main([str(a) for a in arguments])
    except SystemExit as exit:
        return exit.code


def help_of(command, capsys):
    assert call(command, "--help") == 0
    return capsys.readouterr().out


# --- help ---


@pytest.mark.parametrize("command", ["train", "sweep"])
def test_options_are_the_fields_of_the_config_and_the_options_of_the_methods(command, capsys):
    flags = set(re.findall(r"^  --([a-z-]+)", help_of(command, capsys), re.MULTILINE))
    expected = {field.name for field in fields(RunConfig)} - {"options", "dataset_version"} | set(option_names())
    expected |= {"runs", "data", "device", "workers", "cache", "compile", "retrain", "quiet"} | (
        {"dry_run", "jobs", "minutes", "export"} if command == "sweep" else {"dry_run"}
    )
    assert flags == {name.replace("_", "-") for name in expected}


@pytest.mark.parametrize(
    "names", [METHODS, RECIPES, models.MODELS, datasets.SOURCES], ids=["methods", "recipes", "networks", "data"]
)
def test_the_help_of_train_lists_every_name(names, capsys):
    words = re.split(r"[\s,]+", help_of("train", capsys))
    assert set(names) <= set(words)


@pytest.mark.parametrize("command", ["train", "sweep", "table", "runs", "check-data", "pack-data"])
def test_every_command_has_help(command, capsys):
    assert f"ltkd {command}" in help_of(command, capsys)


def test_the_version_is_printed(capsys):
    assert call("--version") == 0
    assert re.fullmatch(r"ltkd \d+\.\d+\.\d+\n", capsys.readouterr().out)


# --- train ---


def test_train_trains_and_says_where_it_is(tmp_path, capsys):
    assert call("train", "--method", "kd", *SHORT, "--runs", tmp_path) == 0
    out = capsys.readouterr().out
    run = Run.open(digits_config(method="kd", epochs=1), tmp_path)
    assert run.finished
    assert str(run.folder) in out
    assert f"all {run.result['last']['all']:.2f} %" in out


def test_train_passes_every_option_on(tmp_path, capsys):
    options = {
        "method": "ltkd",
        "profile": "124,100,80,60,40,30,20,12,8,6",
        "imbalance-factor": "1",
        "milestones": "0.5,0.9",
        "nesterov": "true",
        "alpha": "2.5",
        "warmup": "0.5",
        "subset-seed": "3",
        "n-groups": "4",
        "lr": "0.01",
    }
    given = [part for name, value in options.items() for part in (f"--{name}", value)]
    assert call("train", *SHORT, *given, "--runs", tmp_path) == 0
    expected = digits_config(
        epochs=1,
        method="ltkd",
        profile=(124, 100, 80, 60, 40, 30, 20, 12, 8, 6),
        imbalance_factor=1,
        milestones=(0.5, 0.9),
        nesterov=True,
        alpha=2.5,
        warmup=0.5,
        subset_seed=3,
        n_groups=4,
        lr=0.01,
    )
    assert Run.open(expected, tmp_path).finished


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "lktd"], "did you mean 'ltkd'"),
        (["--dataset", "cifar-100"], "did you mean 'cifar100'"),
        (["--student", "resnet8_x4"], "did you mean 'resnet8x4'"),
        (["--recipe", "cifar-crt"], "did you mean 'cifar-crd'"),
        (["--imbalance-factor", "0.5"], "imbalance_factor = 0.5"),
        (["--imbalance-factor", "nan"], "imbalance_factor = nan"),
        (["--epochs", "0"], "epochs = 0: must be a whole number from 1"),
        (["--epochs", "1.5"], "epochs = '1.5': must be a whole number"),
        (["--epochs", "three"], "epochs = 'three': must be a whole number"),
        (["--lr", "fast"], "lr = 'fast': must be a number above 0"),
        (["--nesterov", "maybe"], "nesterov = 'maybe': must be true or false"),
        (["--milestones", "a,b"], "milestones = 'a,b': must be a list"),
        (["--profile", "5,4,many"], "profile"),
        (["--alpha", "strong"], "alpha = 'strong': must be a number"),
        (["--batch-size", "-1"], "batch_size = -1"),
        (["--temperature", "0"], "temperature = 0"),
        (["--lr", "inf"], "lr = inf"),
        (["--milestones", "150,180"], "milestones"),
        (["--profile", "5,4"], "2 counts given for 10 classes"),
        (["--method", "ce", "--alpha", "1"], "alpha"),
        (["--device", "cuda:99"], "cuda:99"),
        (["--workers", "three"], "workers = 'three': must be a whole number of at least 0"),
        (["--lr", "1e30", "--method", "ce", "--epochs", "1"], "diverged"),
    ],
    ids=" ".join,
)
def test_bad_input_gives_one_line_on_stderr_and_exit_2(tmp_path, capsys, arguments, message):
    assert call("train", "--quiet", "--runs", tmp_path, *arguments) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("error: ")
    assert message in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--alfa", "1"], "--alfa"),
        (["--temp", "1"], "--temp"),  # abbreviations are not taken
    ],
    ids=" ".join,
)
def test_what_the_parser_refuses_is_named_with_exit_2(capsys, arguments, message):
    assert call("train", *arguments) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("command", ["train", "sweep"])
def test_what_the_parser_refuses_is_not_buried_under_every_option(command, capsys):
    assert call(command, "--cache", "nowhere") == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_no_command_is_an_error(capsys):
    assert call() == 2
    assert "train" in capsys.readouterr().err


NAMES_A_PLACE = [
    ["train", "--runs"],
    ["train", "--data"],
    ["train", "--device"],
    ["train", "--dataset"],
    ["sweep"],
    ["sweep", "--export"],
    ["sweep", "--method", "ce"],
    ["table", "--against"],
    ["table", "--runs", "runs"],
    ["runs", "--export"],
    ["runs", "--import"],
    ["runs", "--export", "a.zip", "--runs"],
    ["check-data", "--data"],
    ["pack-data", "--out"],
    ["benchmark", "--json"],
]


@pytest.mark.parametrize("arguments", NAMES_A_PLACE, ids=" ".join)
def test_an_empty_value_does_not_stand_for_the_default(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert call(*arguments, "") == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "is empty; give one, or leave it out" in err
    assert [*tmp_path.iterdir()] == []


WRONG = [(["--device", "cuda:99"], "no device 'cuda:99'"), (["--workers", "-1"], "workers = -1")]


@pytest.mark.parametrize("command", ["train", "sweep"])
@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=["device", "workers"])
def test_a_wrong_argument_is_refused_though_the_run_is_finished(store, capsys, command, arguments, message):
    given = [*SHORT, "--method", "kd", "--epochs", "2", "--runs", store]
    assert call(command, *given, *arguments) == 2
    assert message in capsys.readouterr().err
    assert call(command, *given) == 0


def interrupt(*_args):
    raise KeyboardInterrupt


@pytest.mark.parametrize("command", ["train", "sweep"])
def test_ctrl_c_gives_130_and_says_how_to_go_on(tmp_path, monkeypatch, capsys, command):
    monkeypatch.setattr(training, "train_epoch", interrupt)
    assert call(command, "--method", "ce", *SHORT, "--runs", tmp_path) == 130
    err = capsys.readouterr().err
    assert "to go on" in err
    assert err.count("\n") == 1


def test_ctrl_c_before_training_gives_130(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(training, "load_dataset", interrupt)
    assert call("train", "--method", "ce", *SHORT, "--runs", tmp_path) == 130
    assert capsys.readouterr().err.count("\n") == 1


# --- sweep ---


def test_sweep_trains_every_combination(tmp_path, capsys):
    assert call("sweep", "--method", "ce", "kd", "--seed", "0", "1", *SHORT, "--runs", tmp_path) == 0
    runs = {(r.method, r.seed, r.student) for r in (Run.load(f).config for f in tmp_path.iterdir())}
    assert runs >= {(method, seed, SHORT_RUN["student"]) for method in ("ce", "kd") for seed in (0, 1)}
    assert "4 of 4 runs finished" in capsys.readouterr().out


def test_a_failed_run_is_reported_and_the_others_are_finished(tmp_path, capsys):
    assert call("sweep", *SHORT, "--method", "ce", "--lr", "0.01", "1e30", "0.02", "--runs", tmp_path) == 1
    out, err = capsys.readouterr()
    assert "2 of 3 runs finished, 1 failed" in out
    assert re.search(r"FAILED: .*diverged", out)
    assert "Traceback" not in out + err


def test_runs_on_a_folder_are_found_again_by_the_same_command(tmp_path, capsys, monkeypatch):
    """By a sweep's export, by its dry run, by train, and from another folder: by all that asks for a run by name."""
    class_folders(tmp_path / "photos", counts=(6, 4, 3))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LTKD_RUNS", str(tmp_path / "runs"))
    settings = ["--method", "ce", "--epochs", "1", "--image-size", "8", "--student", "resnet8x0.5", "--device", "cpu"]
    assert call("train", "--dataset", "photos", *settings, "--dry-run") == 0
    foretold = capsys.readouterr().out.splitlines()[0]
    assert call("sweep", "--dataset", "photos", *settings, "--quiet", "--export", "x.zip") == 0
    assert "exported 1 runs to x.zip" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [foretold]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert call("sweep", "--dataset", "../photos", *settings, "--dry-run") == 0
    assert "1 runs, 1 of them finished; 0 more" in capsys.readouterr().out
    assert call("train", "--dataset", "../photos/", *settings, "--quiet") == 0
    assert "not trained again" in capsys.readouterr().out


def test_a_grid_file_says_the_same_as_options(tmp_path, capsys):
    grid = tmp_path / "grid.toml"
    grid.write_text("\n".join(f"{k} = {v!r}" for k, v in {"method": ["ce", "kd"], "seed": [0, 1], **ONE_EPOCH}.items()))
    here = ("--dry-run", "--runs", tmp_path / "runs")
    assert call("sweep", grid, *here) == 0
    from_file = capsys.readouterr().out
    assert call("sweep", "--method", "ce", "kd", "--seed", "0", "1", *SHORT, *here) == 0
    assert capsys.readouterr().out.splitlines()[:3] == from_file.splitlines()[:3]
    assert re.search(r"digits +digits 20 +resnet8 -> resnet8x0.5 +kd epochs=1 .* 0, 1\n", from_file)
    assert "4 runs, 0 of them finished; 2 more that they build on\n" in from_file


def test_the_help_of_sweep_lists_every_grid(capsys):
    assert set(names()) <= set(re.split(r"[\s,]+", help_of("sweep", capsys)))


def test_a_dry_run_counts_what_is_left_and_says_what_it_costs(store, capsys):
    assert call("sweep", "--method", "kd", "ltkd", "--seed", "0", "1", "2", *SHORT, "--dry-run", "--runs", store) == 0
    out = capsys.readouterr().out
    assert "6 runs, 0 of them finished; 3 more" in out  # the store's runs have two epochs
    two = [*SHORT, "--epochs", "2"]
    assert call("sweep", "--method", "kd", "ltkd", "--seed", "0", "1", "2", *two, "--dry-run", "--runs", store) == 0
    out = capsys.readouterr().out
    assert "6 runs, 4 of them finished; 1 more" in out
    assert "2.5 k images to be trained" in out  # three runs of 417 images twice
    assert re.search(r"resnet8x0\.5 +8 +10 +2 +1\.67 k +\d+ +[\d.]+ seconds", out)


@pytest.mark.slow
def test_a_sitting_that_is_over_gives_3_and_what_is_finished_is_packed(tmp_path, capsys):
    runs_folder, file = tmp_path / "runs", tmp_path / "done.zip"
    assert call("sweep", "--method", "kd", *SHORT, "--runs", runs_folder) == 0
    capsys.readouterr()
    quick = ["--method", "kd", *SHORT, "--epochs", "1", "9999", "--minutes", "0.05", "--export", file]
    assert call("sweep", *quick, "--runs", runs_folder) == 3
    out = capsys.readouterr().out
    assert "1 of 2 runs finished\ntime is up, 1 runs are left; repeat the command to continue\n" in out
    assert "exported 2 runs to" in out  # and its teacher
    assert call("runs", "--import", file, "--runs", tmp_path / "there") == 0
    assert set(runs.table(tmp_path / "there").method) == {"kd", "ce"}


@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "inf", "soon"])
def test_minutes_must_be_a_time(minutes, capsys):
    assert call("sweep", "--minutes", minutes) == 2
    assert "--minutes" in capsys.readouterr().err


def test_a_sitting_too_short_for_an_epoch_does_not_ask_for_another(tmp_path, capsys):
    short = ("--method", "ce", "--epochs", "50", "--minutes", "0.0001", "--quiet", "--runs", str(tmp_path))
    assert call("sweep", *short) == 1
    assert "no epoch was finished in it; give more than --minutes 0.0001" in capsys.readouterr().out


def test_a_finished_run_is_trained_anew_on_demand(tmp_path, capsys):
    arguments = ("train", "--method", "ce", *SHORT, "--runs", tmp_path)
    words = []
    for extra in ([], [], ["--retrain"]):
        assert call(*arguments, *extra) == 0
        words.append("not trained again" in capsys.readouterr().out)
    assert words == [False, True, False]


def test_a_sweep_that_is_to_train_all_anew_counts_all_as_to_do_and_takes_no_time_limit(tmp_path, capsys):
    arguments = ("--method", "kd", *SHORT, "--runs", tmp_path)
    assert call("train", *arguments) == 0
    for extra, done in ([], 1), (["--retrain"], 0):
        assert call("sweep", *arguments, "--dry-run", *extra) == 0
        assert f"1 runs, {done} of them finished; 0 more" in capsys.readouterr().out
    assert call("sweep", *arguments, "--retrain", "--minutes", "1") == 2
    assert "leave one of them out" in capsys.readouterr().err


# --- runs from machine to machine ---


def test_runs_are_exported_and_added_elsewhere(store, tmp_path, capsys):
    assert call("runs", "--export", tmp_path / "a.zip", "--runs", store) == 0
    assert "exported 6 runs to" in capsys.readouterr().out
    assert call("runs", "--export", tmp_path / "a.zip", "--runs", store) == 0
    assert "exported 0 runs to" in (out := capsys.readouterr().out)
    assert "6 more were in that file already and did not change" in out
    assert call("runs", "--import", tmp_path / "a.zip", "--runs", tmp_path / "there") == 0
    assert "added 6 runs to" in capsys.readouterr().out
    assert call("runs", "--import", tmp_path / "a.zip", "--runs", store) == 0
    assert "added 0 runs to" in (out := capsys.readouterr().out)
    assert "6 more were in" in out
    assert call("table", "--runs", store, "--csv") == 0
    ours = capsys.readouterr().out
    assert call("table", "--runs", tmp_path / "there", "--csv") == 0
    assert sorted(capsys.readouterr().out.splitlines()) == sorted(ours.splitlines())


@pytest.mark.parametrize("arguments", [[], ["--export", "a.zip", "--import", "b.zip"]], ids=["none", "both"])
def test_runs_go_one_way_at_a_time(arguments, capsys):
    assert call("runs", *arguments) == 2
    assert "either --export FILE or --import FILE" in capsys.readouterr().err


def test_a_file_that_is_no_pack_gives_one_line(tmp_path, capsys):
    (tmp_path / "a.zip").write_text("no")
    assert call("runs", "--import", tmp_path / "a.zip", "--runs", tmp_path / "there") == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "a.zip: File is not a zip file" in err


def test_without_runs_no_file_is_written(tmp_path, capsys):
    assert call("runs", "--export", tmp_path / "a.zip", "--runs", tmp_path / "none") == 0
    assert "no finished run to export" in capsys.readouterr().out
    assert not (tmp_path / "a.zip").exists()


# --- beside the papers ---


def test_the_published_table_stands_beside_ours_and_own_protocols_apart(store, capsys):
    assert call("table", "--against", "bkd-table1", "--runs", store) == 0
    beside = capsys.readouterr().out
    assert beside.count("not run (") == 43
    assert "81.72" in beside
    assert "with other protocols" not in beside  # the store's runs are on other data


def test_own_protocols_on_the_data_of_a_table_stand_apart(capsys):
    assert call("table", "--against", "bkd-table1", "--runs", PROJECT / "data" / "recorded" / "runs") == 0
    beside, own = capsys.readouterr().out.split("Runs with other protocols")
    assert "laptop" not in beside
    assert re.search(r"laptop +cifar100 .* ltkd ", own)


@pytest.mark.slow
def test_a_reader_that_goes_is_no_fault_and_no_success(store):
    table = f"{sys.executable} -m ltkd table --against ltkd-1 --csv --runs {store}"
    command = f"{table} | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=PROJECT)
    assert (done.stderr, done.returncode) == ("", 141)


def test_a_published_table_as_csv_has_a_line_a_number(store, capsys):
    assert call("table", "--against", "ltkd-1", "--runs", store, "--csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 168
    assert {row["verdict"] for row in rows} == {"not run"}


@pytest.mark.parametrize(
    ("name", "message"),
    [("ltkd-7", "unknown published table 'ltkd-7': did you mean"), ("ltkd-fig3", "no accuracies to compare with")],
)
def test_what_cannot_be_held_against_ours_is_one_line(store, capsys, name, message):
    assert call("table", "--against", name, "--runs", store) == 2
    assert message in capsys.readouterr().err


def test_the_claims_are_checked_on_the_runs_at_hand(store, capsys):
    assert call("table", "--claims", "--runs", store) == 0
    out = capsys.readouterr().out
    assert re.search(r"LTKD is above every other distillation +digits, epochs = 2 .* ltkd > kd +all +2 ", out)
    assert re.search(r"BKD beats its teacher .* not run", out)


# --- data for another machine ---


def test_a_part_of_a_data_set_is_packed_and_is_a_data_set_of_its_own(tmp_path, capsys):
    folder = tmp_path / "digits-10"
    assert call("pack-data", "--imbalance-factor", "10", "--seed", "4", "--out", folder) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{folder}: ")
    assert "500 test images of digits" in out
    assert call("check-data", "--dataset", folder) == 0
    assert f"found as parquet files in {folder}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("part", "code"), [((), 2), (("--profile", "as-is", "--image-size", "16"), 2), (("--profile", "as-is"), 0)]
)
def test_only_a_whole_data_set_is_packed_under_its_own_name(tmp_path, capsys, part, code):
    class_folders(tmp_path / "cifar10", (100, 100))
    packed = tmp_path / "elsewhere" / "cifar10"
    assert call("pack-data", "--dataset", "cifar10", *part, "--data", tmp_path, "--out", packed) == code
    assert packed.exists() == (code == 0)
    if code:
        assert "this is a part or another size of cifar10" in capsys.readouterr().err


def test_options_win_over_the_grid_file(tmp_path, capsys):
    grid = tmp_path / "grid.toml"
    grid.write_text('method = "ce"\nseed = [0, 1, 2]\n')
    assert call("sweep", grid, "--seed", "7", "--dry-run") == 0
    assert capsys.readouterr().out.splitlines()[0].split()[-2:] == ["ce", "7"]


def test_a_dry_run_trains_nothing(tmp_path, capsys):
    assert call("sweep", "--method", "ce", "--dry-run", "--runs", tmp_path / "runs") == 0
    assert not (tmp_path / "runs").exists()


def test_an_option_is_given_only_to_the_methods_that_have_it():
    configs = {config.method: config for config in expand({"method": ["ce", "kd", "ltkd"], "alpha": 2.5})}
    assert configs["ltkd"].options["alpha"] == 2.5
    assert "alpha" not in configs["kd"].options
    assert "alpha" not in configs["ce"].options


def test_a_method_without_the_option_that_varies_is_run_once():
    configs = expand({"method": ["ce", "ltkd"], "alpha": [1.0, 2.0, 6.0]})
    assert [config.method for config in configs] == ["ce", "ltkd", "ltkd", "ltkd"]


def test_an_option_that_no_method_of_the_sweep_has_is_an_error():
    with pytest.raises(ConfigError, match="alpha"):
        expand({"method": ["ce", "kd"], "alpha": [1.0, 2.0]})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'method = ["ce"', "not TOML"),
        (b"\xff\xfe\x00", "grid"),
        (b'method = ["lktd"]', "did you mean 'ltkd'"),
        (b"alfa = 1", "did you mean 'alpha'"),
        (b"epochs = [1, 0]", "epochs = 0"),
        (b'epochs = "1"', "epochs = '1'"),
    ],
    ids=["cut", "binary", "method", "option", "range", "type"],
)
def test_a_bad_grid_file_gives_one_line_and_exit_2(tmp_path, capsys, text, message):
    grid = tmp_path / "grid.toml"
    grid.write_bytes(text)
    assert call("sweep", grid, "--dry-run") == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_a_grid_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        read_grid(tmp_path / "nowhere.toml")


# --- table and check-data ---


def test_train_prints_each_class_as_scikit_learn_does(store, capsys):
    run = next(run for run in runs.all_runs(store) if run.config.method == "kd")
    settings = [
        f"--{name.replace('_', '-')}={value}" for name, value in (SHORT_RUN | {"seed": run.config.seed}).items()
    ]
    assert call("train", "--method", "kd", *settings, "--runs", store) == 0
    out = capsys.readouterr().out
    expected = classification_report(run.labels, run.logits.argmax(1), output_dict=True, zero_division=0)
    for c, (name, images) in enumerate(zip(run.result["class_names"], run.class_counts, strict=True)):
        scores = [f"{100 * expected[str(c)][score]:.2f}" for score in ("precision", "recall", "f1-score")]
        assert re.search(rf"^ *{name} +{images} +50 +{' +'.join(scores)}$", out, re.MULTILINE)
    assert f"balanced {100 * expected['macro avg']['recall']:.2f} %" in out


def test_of_many_classes_the_worst_are_printed():
    scores = {name: list(range(100)) for name in ("images", "precision", "recall", "f1")}
    result = {"per_class": scores, "class_names": [f"c{i}" for i in range(100)]}
    title, frame = reports.classes(SimpleNamespace(result=result, class_counts=np.arange(100)))
    assert "20 of 100 classes with the lowest F1" in title
    assert frame["class"].tolist() == [f"c{i}" for i in range(20)]


def test_the_table_of_means_has_a_row_a_method(store, capsys):
    assert call("table", "--runs", store, "--csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {row["method"]: row["seeds"] for row in rows} == {"ce": "2", "kd": "2", "ltkd": "2"}


def test_the_table_shows_the_interval(store, capsys):
    assert call("table", "--runs", store) == 0
    assert re.search(r"ltkd\b.* 2 .*\d+\.\d\d ± \d+\.\d\d", capsys.readouterr().out)


def test_the_table_by_run_names_every_run_and_how_many_classes_it_answers(store, capsys):
    assert call("table", "--runs", store, "--by-run", "--csv") == 0
    rows = {row["run"]: row for row in csv.DictReader(io.StringIO(capsys.readouterr().out))}
    for run in runs.all_runs(store):
        assert int(rows[run.config.name]["answered"]) == len(np.unique(run.logits.argmax(1)))


def test_the_table_says_how_many_runs_never_predict_some_class(store, capsys):
    silent = sum(len(np.unique(run.logits.argmax(1))) < 10 for run in runs.all_runs(store))
    assert silent  # of one or two epochs
    assert call("table", "--runs", store) == 0
    assert f"{silent} of 6 runs never predict some of their classes" in capsys.readouterr().out


def test_an_empty_table_says_how_to_begin(tmp_path, capsys):
    assert call("table", "--runs", tmp_path) == 0
    assert "python -m ltkd train" in capsys.readouterr().out


def test_runs_that_are_not_there_are_named(store, tmp_path, capsys):
    assert call("table", "--runs", store, tmp_path / "nowhere") == 2
    assert "nowhere: there is no such folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["table"], ["sweep", "--seed", "0", "--method", "kd", "--dry-run"]], ids=" ".join
)
def test_a_run_that_cannot_be_read_is_passed_over_with_one_line(store, tmp_path, capsys, arguments):
    shutil.copytree(store, tmp_path, dirs_exist_ok=True)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "config.json").write_text("{")
    assert call(*arguments, "--runs", tmp_path) == 0
    out, err = capsys.readouterr()
    assert "kd" in out
    assert err.count("\n") == 1
    assert "skipped damaged" in err


def test_a_draft_of_a_method_that_is_gone_does_not_hide_the_other_runs(store, tmp_path):
    class Draft(Method):
        """A draft."""

        def forward(self, step):
            return {"ce": step.logits.logsumexp(1).mean()}

    shutil.copytree(store, tmp_path, dirs_exist_ok=True)
    METHODS["draft"] = Draft
    try:
        fit(digits_config(method="draft", epochs=1), runs=tmp_path, device="cpu", progress=False)
    finally:
        del METHODS["draft"]
    assert set(runs.table(tmp_path).method) == {"ce", "kd", "ltkd"}
    assert "draft" in str(*runs.read_store(tmp_path).strangers.values())


def test_check_data_says_what_is_there(capsys):
    assert call("check-data", "--imbalance-factor", "20") == 0
    out = capsys.readouterr().out
    for part in (
        "417 training and 500 test images",
        "10 classes",
        "124 to 6",
        "head 3, medium 4, tail 3",
        "many 1, medium 5, few 4",
    ):
        assert part in out


def test_check_data_names_what_is_missing(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("ltkd.datasets.registry._download", lambda *_: False)
    assert call("check-data", "--dataset", "cifar100", "--data", tmp_path) == 2
    err = capsys.readouterr().err
    assert str(tmp_path) in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("held", [True, False], ids=["held", "streamed"])
def test_check_data_decodes_every_image_and_tells_what_is_odd(tmp_path, capsys, monkeypatch, held):
    monkeypatch.setattr(datasets.image_folders, "MEMORY", 4e9 if held else 0)
    class_folders(tmp_path / "pets", (6, 4))
    place = tmp_path / "pets" / "train" / "a"
    shutil.copy(place / "0.png", tmp_path / "pets" / "test" / "a" / "9.png")
    (place / "note.txt").write_text("a")
    assert call("check-data", "--dataset", tmp_path / "pets", "--image-size", "8") == 0
    out = capsys.readouterr().out
    assert f"note: 1 files are passed over, first {place / 'note.txt'}" in out
    assert "warning: 1 test images are training images too" in out
    for name in ("0.png", "1.png", "2.png"):  # their beginning is whole: only who decodes them sees it
        (place / name).write_bytes((place / name).read_bytes()[:-40])
    assert call("check-data", "--dataset", tmp_path / "pets", "--image-size", "8") == 2
    err = capsys.readouterr().err
    assert "3 of 1" in err
    assert all(str(place / name) in err for name in ("0.png", "1.png", "2.png"))


def test_a_warning_is_one_line(tmp_path):
    class_folders(tmp_path / "pets", (6, 4))
    shutil.copy(tmp_path / "pets" / "train" / "a" / "0.png", tmp_path / "pets" / "test" / "a" / "9.png")
    command = [sys.executable, "-m", "ltkd", "pack-data", "--dataset", tmp_path / "pets", "--out", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"warning: .*pets: 1 test images are training images too.*\n", done.stderr)
