import itertools
import json
import shutil
from dataclasses import fields, replace

import numpy as np
import pytest
from helpers import about
from pictures import write_folder

from ltkd import METHODS, ConfigError, Method, Option, RunConfig
from ltkd.config.recipes import RECIPES, recipe_for
from ltkd.datasets import SOURCES
from ltkd.methods import TeacherSpec
from ltkd.models import MODELS

make = RunConfig.make


# --- identity ---


EVERY_FIELD = {
    "recipe": "digits",
    "dataset": "digits",
    "dataset_version": None,
    "imbalance_factor": 20.0,
    "profile": "exp",
    "subset_seed": None,
    "image_size": None,
    "n_groups": 3,
    "teacher": "resnet14",
    "student": "resnet8x0.5",
    "method": "ltkd",
    "options": {"temperature": 4.0, "ce_weight": 1.0, "warmup": 0, "alpha": 1.0, "beta": 1.0},
    "epochs": 24,
    "teacher_epochs": None,
    "batch_size": 64,
    "lr": 0.05,
    "lr_warmup": 0,
    "milestones": [0.75, 0.9],
    "lr_decay": 0.1,
    "momentum": 0.9,
    "nesterov": False,
    "weight_decay": 0.0005,
    "augmentation": "crop1",
    "normalization": "data",
    "test_every": 5,
    "seed": 0,
}
PLAIN_DEFAULTS = {
    "dataset": "digits",
    "imbalance_factor": 20.0,
    "profile": "exp",
    "teacher": "resnet8",
    "student": "resnet8x0.5",
    "method": "ltkd",
    "epochs": 24,
    "batch_size": 64,
    "lr": 0.05,
    "lr_schedule": "steps",
    "lr_warmup": 0.0,
    "milestones": [0.75, 0.9],
    "lr_decay": 0.1,
    "momentum": 0.9,
    "nesterov": False,
    "weight_decay": 5e-4,
    "augmentation": "crop1",
    "normalization": "data",
    "test_every": 5,
    "seed": 0,
    "held_out": 0.0,
}


def test_a_config_keeps_its_id():
    """Whoever changes this literal makes every stored run a stranger."""
    assert RunConfig.from_dict(EVERY_FIELD).id == "835368cba9"


def test_the_plain_defaults_keep_their_values():
    """An id is made of what differs from them: to change one is to rename the runs that have it. New ones may join."""
    defaults = RunConfig().to_dict()
    assert {name: defaults[name] for name in PLAIN_DEFAULTS} == PLAIN_DEFAULTS


def test_a_setting_that_an_earlier_version_did_not_know_leaves_its_runs_their_ids():
    old = {name: value for name, value in EVERY_FIELD.items() if name not in ("held_out", "teacher_lr", "classes")}
    assert RunConfig.from_dict(old).id == RunConfig.from_dict(EVERY_FIELD).id


def test_the_name_of_a_run_is_readable_and_ends_in_its_id():
    config = make(method="kd", student="resnet8", imbalance_factor=20, seed=3)
    assert config.name == f"digits-exp20-resnet8-kd-s3-{config.id}"


def test_a_profile_and_its_factor_stay_apart_in_the_name():
    config = RunConfig.make(dataset="cifar100", profile="exp-eq15", imbalance_factor=10.0)
    assert config.name.startswith("cifar100-exp-eq15-10-")


def test_the_id_does_not_depend_on_the_recipes_name():
    assert replace(make(), recipe="folder").id == make().id


# --- one normal form: two configs of one id are interchangeable ---

SAME_RUN = [  # (settings, settings that mean the same, and the values that both configs have)
    ({"seed": 3}, {"seed": 3, "subset_seed": 3}, {"subset_seed": 3}),
    ({"epochs": 9}, {"epochs": 9, "teacher_epochs": 9}, {"teacher_epochs": 9}),
    ({"lr": 0.2}, {"lr": 0.2, "teacher_lr": 0.2}, {"teacher_lr": 0.2}),
    ({}, {"n_groups": 3}, {"n_groups": 3}),
    ({"method": "ce"}, {"method": "ce", "teacher": "resnet20", "teacher_epochs": 7}, {"teacher_epochs": None}),
    ({"method": "ce"}, {"method": "ce", "n_groups": 5}, {"n_groups": None, "teacher": None}),
    ({"profile": [9, 3]}, {"profile": (9, 3)}, {"profile": (9, 3)}),
]


def test_settings_that_mean_the_same_are_one_config():
    for settings, same, values in SAME_RUN:
        config = make(**settings)
        with about(settings, same):
            assert config == make(**same)
            assert config.id == make(**same).id
            assert {name: getattr(config, name) for name in values} == values
            assert config.overrides() == make(**same).overrides()


def test_configs_of_one_id_are_equal():
    axes = {
        "method": ["ce", "kd", "crt", "bkd+crt", "lfme"],
        "seed": [0, 1],
        "subset_seed": [None, 0, 1],
        "epochs": [9],
        "teacher_epochs": [None, 8, 9],
        "teacher_lr": [None, 0.05],
        "n_groups": [None, 3, 4],
        "held_out": [0.1],
        "student": ["resnet8", "custom:Net-1"],
        "teacher": ["resnet20", "custom:Net-2"],
    }
    configs = [make(**dict(zip(axes, values, strict=True))) for values in itertools.product(*axes.values())]
    meanings = {json.dumps(config.to_dict()): config.id for config in configs}
    assert len(set(meanings.values())) == len(meanings) < len(configs) / 3


@pytest.fixture
def photos(tmp_path):
    """A folder of images in class folders."""
    return write_folder(tmp_path / "photos")


def test_a_folder_is_one_data_set_however_its_path_is_written(photos, monkeypatch):
    monkeypatch.chdir(photos.parent)
    (photos.parent / "link").symlink_to(photos)
    ways = [photos, "photos", "./photos/", "link", "photos/../photos"]
    configs = [RunConfig.make(dataset=str(way), method="ce") for way in ways]
    assert {config.name for config in configs} == {configs[0].name}
    assert all(config == configs[0] for config in configs)
    assert configs[0].dataset == str(photos)
    assert configs[0].dataset_version is not None


def test_a_folder_with_other_files_is_another_run(photos):
    before = RunConfig.make(dataset=str(photos), method="ce")
    shutil.copy(photos / "train" / "cat" / "0.png", photos / "train" / "cat" / "5.png")
    after = RunConfig.make(dataset=str(photos), method="ce")
    assert before.id != after.id


def test_a_stored_config_of_a_folder_that_is_gone_is_read(photos):
    config = RunConfig.make(dataset=str(photos), method="ce")
    shutil.rmtree(photos)
    assert RunConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ConfigError, match="photos is not there"):
        RunConfig.make(dataset=str(photos), method="ce")


def test_whatever_changes_a_run_changes_its_id():
    changes = [
        {},
        {"seed": 1},
        {"epochs": 25},
        {"imbalance_factor": 10},
        {"profile": "step"},
        {"image_size": 16},
        {"n_groups": 4},
        {"teacher": "resnet110"},
        {"student": "resnet56"},
        {"method": "kd"},
        {"alpha": 2.0},
        {"batch_size": 32},
        {"lr": 0.1},
        {"milestones": (0.5,)},
        {"normalization": "cifar10"},
        {"augmentation": "none"},
    ]
    ids = {make(**change).id: change for change in changes}
    assert list(ids.values()) == changes  # one of two with the same id would be missing


def test_ways_to_write_the_same_value_have_one_id():
    assert make(imbalance_factor=20, alpha=1).id == make(imbalance_factor=20.0, options={"alpha": 1.0}).id
    assert make(seed=np.int64(3), lr=np.float64(0.1)).id == make(seed=3, lr=0.1).id
    assert make(classes=range(3)).to_dict() == make(classes=np.arange(3)).to_dict() == make(classes=[0, 1, 2]).to_dict()
    assert json.loads(json.dumps(make(seed=np.int64(3)).to_dict()))["seed"] == 3


def test_a_config_comes_back_from_json():
    config = make(profile=(9,) * 10, alpha=2, milestones=[0.5, 0.25], subset_seed=4, teacher_epochs=3)
    stored = RunConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert (stored, stored.id) == (config, config.id)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_and_method_comes_back_from_json(recipe):
    for method in METHODS:
        config = make(recipe, method=method)
        with about(method):
            assert RunConfig.from_dict(json.loads(json.dumps(config.to_dict()))).id == config.id


# --- recipes ---


def test_every_data_set_has_a_recipe_of_its_own():
    for dataset, source in SOURCES.items():
        with about(dataset):
            assert make(dataset=dataset).recipe == recipe_for(dataset) == source.recipe != "folder"
            assert RECIPES[source.recipe].defaults.get("dataset", "digits") == dataset
            assert source.size.classes > 1


def test_a_folder_uses_the_recipe_for_folders(photos):
    config = make(dataset=str(photos))
    assert (config.recipe, config.profile) == ("folder", "as-is")


def test_a_recipe_names_only_what_exists():
    """Fields and options that it sets or marks as assumed, and networks."""
    names = {field.name for field in fields(RunConfig)}
    known = names | {f"{name}.{option}" for name, cls in METHODS.items() for option in {*cls.options(), *names}}
    for name, recipe in RECIPES.items():
        with about(name):
            assert set(recipe.defaults) <= names
            of_methods = [*recipe.methods.items(), *(m for pair in recipe.pairs.values() for m in pair.items())]
            for method, settings in of_methods:
                assert set(settings) <= names | set(METHODS[method].options()), method
            for teacher, student in recipe.pairs:
                assert {teacher, student} <= set(MODELS)
            assert set(recipe.lr) <= set(MODELS)
            assert set(recipe.assumptions) <= known


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_a_recipe_sets_for_a_method_leaves_the_teacher_alone(recipe):
    """Then all methods of a comparison share one."""
    teachers = {
        make(recipe, method=name).for_teacher().id
        for name, cls in METHODS.items()
        if cls.needs != "nothing" and not cls.settings
    }
    assert len(teachers) == 1


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        (
            "cifar-crd",
            {
                "epochs": 240,
                "batch_size": 64,
                "lr": 0.05,
                "weight_decay": 5e-4,
                "momentum": 0.9,
                "nesterov": False,
                "teacher": "resnet32x4",
                "student": "resnet8x4",
                "augmentation": "crop4-flip",
                "normalization": "cifar100",
            },
        ),
        (
            "cifar-bkd",
            {
                "epochs": 200,
                "batch_size": 128,
                "lr": 0.1,
                "lr_warmup": 5 / 200,
                "weight_decay": 2e-4,
                "momentum": 0.9,
                "nesterov": False,
                "teacher": "resnet32a",
                "student": "resnet32a",
                "subset_seed": 0,
                "augmentation": "crop4-flip",
                "normalization": "cifar10",
            },
        ),
    ],
)
def test_a_recipe_carries_the_published_values(recipe, expected):
    config = make(recipe, dataset="cifar100")
    assert {name: getattr(config, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("recipe", "method", "expected"),
    [
        (
            "cifar-crd",
            "ltkd",
            {
                "temperature": 4,
                "ce_weight": 1,
                "warmup": 20 / 240,
                "alpha": 6,
                "beta": 6,
                "rebalanced": True,
                "reweighted": True,
            },
        ),
        ("cifar-crd", "kd", {"temperature": 4, "ce_weight": 0.1, "warmup": 0, "kd_weight": 0.9}),
        ("cifar-crd", "ce", {"body_lr": 1}),
        (
            "cifar-bkd",
            "bkd",
            {"temperature": 2, "ce_weight": 1, "warmup": 0, "kd_weight": 1, "effective_beta": 0.9999, "deferred": 0},
        ),
        (
            "cifar10-bkd",
            "bkd",
            {"temperature": 2, "ce_weight": 1, "warmup": 0, "kd_weight": 1, "effective_beta": 0.9999, "deferred": 0.8},
        ),
        ("cifar-crd", "dkd", {"temperature": 4, "ce_weight": 1, "warmup": 20 / 240, "alpha": 1, "beta": 8}),
        ("cifar-crd", "dist", {"temperature": 4, "ce_weight": 1, "warmup": 0, "kd_weight": 2, "beta": 1, "gamma": 1}),
        ("cifar-crd", "reviewkd", {"ce_weight": 1, "warmup": 20 / 240, "kd_weight": 5, "before_activation": False}),
        ("cifar-crd", "fitnet", {"ce_weight": 1, "warmup": 0, "kd_weight": 100, "layer": 2}),
        ("cifar-crd", "catkd", {"ce_weight": 1, "warmup": 0, "kd_weight": 15, "size": 2, "normalized": False}),
        ("imagenet-crd", "dkd", {"temperature": 1, "ce_weight": 1, "warmup": 0.01, "alpha": 1, "beta": 0.5}),
        ("cifar-bkd", "ldam-drw", {"effective_beta": 0.9999, "max_margin": 0.5, "scale": 30, "deferred": 0.8}),
        ("cifar-bkd", "kd", {"temperature": 2, "ce_weight": 1, "warmup": 0, "kd_weight": 1}),
    ],
)
def test_a_recipe_carries_the_methods_published_options(recipe, method, expected):
    assert make(recipe, method=method).options == expected


CRT_CODE = "facebookresearch/classifier-balancing"
OLTR_CODE = "zhmiao/OpenLongTailRecognition-OLTR config/Places_LT"
DISTILLERS = "megvii-research/mdistiller configs"
CAT_CODE = "GzyAftermath/CAT-KD configs/imagenet/CAT-KD"
R34_R18 = {"teacher": "imagenet-resnet34", "student": "imagenet-resnet18"}
R50_MV1 = {"teacher": "imagenet-resnet50", "student": "imagenet-mobilenetv1"}


@pytest.mark.parametrize(
    ("recipe", "settings", "expected", "source"),
    [
        (
            "imagenet-crd",
            {"method": "reviewkd"} | R34_R18,
            {"kd_weight": 1},
            f"{DISTILLERS}/imagenet/r34_r18/reviewkd.yaml",
        ),
        (
            "imagenet-crd",
            {"method": "reviewkd"} | R50_MV1,
            {"kd_weight": 8},
            f"{DISTILLERS}/imagenet/r50_mv1/reviewkd.yaml",
        ),
        (
            "imagenet-crd",
            {"method": "catkd"} | R34_R18,
            {"kd_weight": 0.5, "size": 4, "normalized": False},
            f"{CAT_CODE}/r34_r18.yaml",
        ),
        (
            "imagenet-crd",
            {"method": "catkd"} | R50_MV1,
            {"kd_weight": 10, "size": 2, "normalized": True},
            f"{CAT_CODE}/r50_mv2.yaml, the nearest pair",
        ),
        (
            "inaturalist-bkd",
            {"method": "crt"},
            {
                "second_stage": 30 / 90,
                "weight_decay": 1e-4,
                "augmentation": "imagenet-crop",
                "normalization": "inaturalist",
            },
            f"{CRT_CODE} config/iNaturalist18/cls_crt.yaml, data/dataloader.py",
        ),
        (
            "imagenet-lt-bkd",
            {"method": "crt"},
            {"second_stage": 10 / 90, "weight_decay": 5e-4, "augmentation": "imagenet-crop-jitter", "lr": 0.2},
            f"{CRT_CODE} config/ImageNet_LT/cls_crt.yaml",
        ),
        (
            "places-lt-bkd",
            {"method": "crt"},
            {"lr": 0.1, "batch_size": 256, "second_stage": 10 / 90},
            f"{CRT_CODE} config/Places_LT/cls_crt.yaml",
        ),
        (
            "places-lt-bkd",
            {"method": "oltr"},
            {
                "epochs": 30,
                "second_stage": 1,
                "batch_size": 128,
                "lr": 0.1,
                "body_lr": 0.01,
                "second_body_lr": 0.001,
                "head_lr": 0.1,
                "frozen_body": True,
                "width": 512,
                "milestones": (1 / 3, 2 / 3),
            },
            f"{OLTR_CODE}/stage_1.py, stage_2_meta_embedding.py",
        ),
        (
            "tiny-imagenet-dot",
            {"method": "kd"},
            {
                "epochs": 200,
                "batch_size": 256,
                "lr": 0.2,
                "milestones": (0.3, 0.6, 0.8),
                "lr_decay": 0.1,
                "weight_decay": 5e-4,
                "temperature": 4,
            },
            f"{DISTILLERS}/tiny_imagenet/dot/r18_mv2.yaml",
        ),
    ],
)
def test_what_public_code_has_is_in_the_recipe(recipe, settings, expected, source):
    config = make(recipe, **settings)
    found = {name: config.options[name] if name in config.options else getattr(config, name) for name in expected}
    assert found == expected, source


def test_the_first_stage_of_oltr_has_the_rates_of_its_own_code():
    config = make("places-lt-bkd", method="oltr")
    assert config.for_parent().options == {"body_lr": 0.01}


@pytest.mark.parametrize(
    ("recipe", "settings", "assumed"),
    [
        ("imagenet-crd", {"method": "reviewkd"} | R34_R18, {"reviewkd.batch_size"}),
        ("imagenet-crd", {"method": "reviewkd"} | R50_MV1, {"reviewkd.batch_size"}),
        ("imagenet-crd", {"method": "catkd"} | R34_R18, set()),
        ("imagenet-crd", {"method": "catkd"} | R50_MV1, {"catkd.kd_weight"}),
        ("places-lt-bkd", {"method": "crt"}, {"crt.lr"}),
        ("places-lt-bkd", {"method": "oltr"}, {"oltr.width", "oltr.frozen_body"}),
        ("tiny-imagenet-dot", {"method": "dkd"}, set()),
        ("tiny-imagenet-dot", {"method": "dist"}, {"dist.kd_weight"}),
    ],
)
def test_what_stays_an_assumption_of_a_method_says_so(recipe, settings, assumed):
    of_method = {key for key in make(recipe, **settings).assumptions() if "." in key}
    assert of_method == assumed


def test_a_network_with_other_weights_than_before_has_other_ids(monkeypatch):
    assert make(method="kd", teacher="resnet20", student="resnet8").network_revisions == {}
    for name in ("vgg8", "vgg13", "mobilenetv2", "shufflenetv1", "wrn-40-2", "wrn-16-2", "imagenet-mobilenetv1"):
        assert make(method="ce", student=name).network_revisions == {"student": 1}
        assert make(method="kd", teacher=name).network_revisions == {"teacher": 1}
        kept = make(method="ce", student=name).id
        with monkeypatch.context() as patched:
            patched.setattr("ltkd.models.revision", lambda name: 0)
            assert make(method="ce", student=name).id != kept
    assert make(method="ce", student="timm:resnet18").network_revisions == {}


@pytest.mark.parametrize(
    ("teacher", "student", "method", "expected"),
    [
        ("vgg13", "vgg8", "dkd", {"beta": 6.0}),
        ("wrn-40-2", "shufflenetv1", "dkd", {"beta": 8.0}),
        ("wrn-40-2", "shufflenetv1", "catkd", {"kd_weight": 80.0, "size": 4, "normalized": True}),
        ("resnet50", "mobilenetv2", "catkd", {"kd_weight": 40.0, "size": 2, "normalized": True}),
        ("resnet56", "resnet20", "reviewkd", {"kd_weight": 0.6}),
    ],
)
def test_a_pair_of_networks_has_its_published_weights(teacher, student, method, expected):
    options = make("cifar-crd", teacher=teacher, student=student, method=method).options
    assert {name: options[name] for name in expected} == expected
    own = make("cifar-crd", teacher=teacher, student=student, method=method, **{next(iter(expected)): 1.25})
    assert own.options[next(iter(expected))] == 1.25


def test_small_students_learn_more_slowly_and_their_teachers_do_not():
    config = make("cifar-crd", teacher="wrn-40-2", student="shufflenetv1", method="kd")
    assert (config.lr, config.for_teacher().lr) == (0.01, 0.05)
    assert config.for_teacher().id == make("cifar-crd", student="wrn-40-2", method="ce", teaches=True).id
    assert "lr" not in config.overrides()
    assert make("cifar-crd", teacher="wrn-40-2", student="shufflenetv1", lr=0.02).for_teacher().lr == 0.05
    assert make("cifar-crd", lr=0.02).for_teacher().lr == 0.02
    assert make("cifar-crd", teacher="vgg13", student="mobilenetv2", teacher_lr=0.1).for_teacher().lr == 0.1


def test_the_training_before_is_the_plain_run_of_its_method():
    assert make(method="crt", epochs=9).for_parent().id == make(method="ce", epochs=9).id
    assert make(method="bkd+crt", temperature=3.0).for_parent().id == make(method="bkd", temperature=3.0).id
    assert make(method="kd").for_parent() is None


def test_an_expert_learns_its_classes_alone():
    spec = TeacherSpec((2, 5, 7), batch=0.5, settings={"lr_schedule": "cosine"})
    expert = make(method="lfme", batch_size=64).for_teacher(spec)
    assert (expert.classes, expert.batch_size, expert.lr_schedule, expert.method) == ((2, 5, 7), 32, "cosine", "ce")
    assert "-3classes-" in expert.name


def test_the_teacher_of_a_student_of_some_classes_learns_those():
    config = make(method="kd", classes=(4, 9, 2))
    assert config.for_teacher(TeacherSpec()) == config.for_teacher() == config.builds_on()["teacher"]
    assert config.for_teacher().classes == (4, 9, 2)


def test_the_classes_of_an_expert_are_counted_among_those_of_its_student():
    config = make(method="lfme", classes=(4, 9, 2))
    assert config.for_teacher(TeacherSpec((2, 0))).classes == (2, 4)


def test_a_method_that_steers_by_held_out_images_needs_some():
    assert make(method="lfme").held_out == 0.1
    with pytest.raises(ConfigError, match="held_out above 0"):
        make(method="lfme", held_out=0.0)


def test_classes_are_two_or_more_different_numbers():
    for classes in ((1,), (1, 1), (-1, 2), (0.5, 1), 3, "0,1"):
        with about(classes), pytest.raises(ConfigError, match="classes = "):
            make(classes=classes)


STEPS = {1: 0.05, 150: 0.05, 151: 0.005, 180: 0.005, 181: 0.0005, 210: 0.0005, 211: 0.00005, 240: 0.00005}
WARMED_UP = {1: 0.02, 4: 0.08, 5: 0.1, 6: 0.1, 160: 0.1, 161: 0.001, 180: 0.001, 181: 0.00001, 200: 0.00001}


@pytest.mark.parametrize(("recipe", "rates"), [("cifar-crd", STEPS), ("cifar-bkd", WARMED_UP)], ids=str)
def test_the_learning_rate_warms_up_and_falls_where_the_recipe_says(recipe, rates):
    schedule = make(recipe, dataset="cifar100").schedule()
    assert {epoch: schedule.rate(epoch) for epoch in rates} == pytest.approx(rates, rel=1e-9)


def test_what_the_caller_gives_wins_over_the_recipe():
    config = make("cifar-crd", dataset="cifar100", lr=0.01, alpha=2)
    assert (config.lr, config.options["alpha"], config.options["beta"]) == (0.01, 2.0, 6.0)


def test_overrides_are_what_differs_from_the_recipe():
    config = make("cifar-crd", dataset="cifar100", method="ltkd", seed=4, lr=0.1, epochs=240, temperature=2, alpha=6)
    assert config.overrides() == {"lr": 0.1, "temperature": 2.0}


def test_a_run_after_its_recipe_overrides_nothing():
    assert make().overrides() == {}


ASSUMED_OF_ALL = {"profile", "epochs", "lr", "milestones", "weight_decay", "augmentation", "batch_size", "subset_seed"}


def test_assumptions_are_those_of_the_recipe_for_this_method():
    assert set(make("cifar-crd", dataset="cifar100", method="ltkd").assumptions()) == {
        "ltkd.temperature",
        "ltkd.ce_weight",
        "ltkd.warmup",
        "ltkd.alpha",
        "ltkd.beta",
        *ASSUMED_OF_ALL,
    }
    assert set(make("cifar-crd", dataset="cifar100", method="kd").assumptions()) == ASSUMED_OF_ALL


def test_what_the_caller_overrides_is_no_longer_assumed():
    config = make("cifar-crd", dataset="cifar100", method="ltkd", temperature=2, lr=0.1)
    assert not {"ltkd.temperature", "lr"} & set(config.assumptions())


# --- the teacher's run ---


def test_the_teachers_run_is_cross_entropy_on_the_same_data():
    config = make(method="ltkd", teacher="resnet20", seed=2, lr=0.1, imbalance_factor=10, teacher_epochs=5)
    teacher = config.for_teacher()
    assert (teacher.method, teacher.student, teacher.teacher, teacher.epochs) == ("ce", "resnet20", None, 5)
    for name in ("dataset", "imbalance_factor", "profile", "seed", "lr", "batch_size", "augmentation"):
        assert getattr(teacher, name) == getattr(config, name)


def test_students_of_one_teacher_share_its_run():
    for change in ({"alpha": 3.0}, {"method": "kd"}, {"student": "resnet56"}, {"n_groups": 5}):
        with about(change):
            assert make(**change).for_teacher().id == make().for_teacher().id


# --- bad input ---


def test_a_bad_setting_raises_one_sentence():
    bad = [
        *({"imbalance_factor": value} for value in (0.5, "twenty", None)),
        *({"epochs": value} for value in (0, 1.5, None, 10**23)),
        *({"teacher_epochs": value} for value in (0, 1.5, 10**23)),
        *({"batch_size": value} for value in (0, -64)),
        *({"temperature": value} for value in (0, "4")),
        *({"warmup": value} for value in (-1, 1.0)),
        *({"lr": value} for value in (0, float("nan"), "fast")),
        {"teacher_lr": 0},
        *({"milestones": value} for value in ((0.5, 1.0), (0,), (150, 180), 0.5, "0.5")),
        *({"lr_decay": value} for value in (0, 1.5)),
        *({"momentum": value} for value in (-0.1, 1.1)),
        *({"lr_warmup": value} for value in (-1, 1.1)),
        *({"held_out": value} for value in (-0.1, 0.6)),
        {"nesterov": 1},
        {"nesterov": True, "momentum": 0.0},
        {"weight_decay": -1e-4},
        {"seed": -1},
        {"seed": 1.0},
        {"subset_seed": -1},
        {"image_size": 4},
        {"image_size": 1000},
        {"n_groups": 0},
        {"test_every": 0},
        {"dataset": ""},
        {"dataset": None},
        {"dataset": "digit"},
        {"dataset": ["digits"]},
        {"teacher": None},
        {"teacher": ["resnet8"]},
        {"student": None},
        {"student": 8},
        {"profile": (3, 0, 1)},
        {"profile": 7},
        {"recipe": ""},
        {"recipe": [["digits"]]},
        {"method": ["kd"]},
        {"augmentation": ["none"]},
        {"options": "alpha"},
        {"options": {"alpha": "6"}},
        {"method": "ce", "alpha": 1.0},
    ]
    for settings in bad:
        with about(settings):
            with pytest.raises(ConfigError) as error:
                make(**settings)
            assert "\n" not in str(error.value)


def test_an_unknown_name_is_answered_with_the_nearest():
    unknown = [
        ({"dataset": "cifar-100"}, "cifar100"),
        ({"teacher": "resnet32_x4"}, "resnet32x4"),
        ({"student": "resnet8_x4"}, "resnet8x4"),
        ({"method": "lktd"}, "ltkd"),
        ({"recipe": "cifar-crt"}, "cifar-crd"),
        ({"profile": "expo"}, "exp"),
        ({"augmentation": "crop4flip"}, "crop4-flip"),
        ({"normalization": "cifar-100"}, "cifar100"),
        ({"batchsize": 64}, "batch_size"),
        ({"alfa": 1.0}, "alpha"),
        ({"options": {"alfa": 1.0}}, "alpha"),
    ]
    for settings, nearest in unknown:
        with about(settings):
            with pytest.raises(ConfigError, match=f"did you mean '{nearest}'") as error:
                make(**settings)
            assert "\n" not in str(error.value)


def test_an_unknown_field_of_a_stored_config_raises():
    with pytest.raises(ConfigError, match="temperatures"):
        RunConfig.from_dict(make().to_dict() | {"temperatures": 4.0})


def test_networks_of_ones_own_need_no_known_name():
    assert replace(make(), student="custom:Net-12345678").student == "custom:Net-12345678"


def test_a_config_cannot_be_changed():
    with pytest.raises(AttributeError):
        make().lr = 1.0


def test_every_network_can_be_named():
    assert {make(student=name).student for name in MODELS} == set(MODELS)


def test_an_imbalance_factor_that_would_have_no_effect_is_refused():
    with pytest.raises(ConfigError, match="no effect"):
        make(profile="as-is", imbalance_factor=50)


def test_an_imbalance_factor_cuts_a_folder_that_would_be_taken_as_it_is(photos):
    assert make(dataset=str(photos)).profile == "as-is"
    assert make(dataset=str(photos), imbalance_factor=50).profile == "exp"


def test_counts_may_be_a_list_and_then_no_imbalance_factor_is_claimed():
    config = make(profile=[20, 10, 5, 5, 5, 5, 5, 5, 5, 5])
    assert (config.profile[0], config.imbalance_factor) == (20, 1.0)


# --- methods of one's own ---


@pytest.fixture
def own():
    """Registers methods for a test: own(name, class)."""
    before = set(METHODS)
    yield METHODS.__setitem__
    for name in set(METHODS) - before:
        del METHODS[name]


def test_an_edited_class_has_another_id(own):
    class First(Method):
        """A method."""

        def forward(self, step):
            return {"ce": step.logits.mean()}

    class Second(Method):
        """A method."""

        def forward(self, step):
            return {"ce": 2 * step.logits.mean()}

    own("own", First)
    first = make(method="own").id
    assert make(method="own").id == first
    own("own", Second)
    assert make(method="own").id != first


def own_method(default=0.5, before=None):
    class Own(Method):
        """A method."""

        parent = before
        strength = Option(default, "how strong")

    return Own


def test_another_default_of_an_own_option_is_another_id(own):
    own("own", own_method(0.5))
    first = make(method="own").id
    own("own", own_method(0.6))
    assert make(method="own").id != first


def test_a_method_of_ones_own_may_use_groups_without_a_teacher(own):
    own("own", own_method())
    assert make(method="own", n_groups=5).id != make(method="own").id == make(method="own", n_groups=3).id
    assert make(method="ce", n_groups=5).id == make(method="ce").id


def test_the_id_of_a_second_stage_depends_on_the_code_of_the_first(own):
    ids = set()
    for default in (0.5, 0.6):
        own("first", own_method(default))
        own("second", own_method(before=METHODS["first"]))
        ids.add(make(method="second", strength=0.7).id)
    assert len(ids) == 2


def test_a_parent_that_has_no_name_is_asked_for(own):
    own("second", own_method(before=own_method()))
    with pytest.raises(ConfigError, match="register it under a name of its own"):
        make(method="second").for_parent()


@pytest.mark.parametrize(
    ("method", "revised"), [("kd", "kd"), ("bkd+crt", "bkd"), ("crt", "ce"), ("kd", "ce"), ("bkd+crt", "ce")]
)
def test_a_revised_method_has_other_ids_and_so_has_what_builds_on_it(method, revised, monkeypatch):
    before, other = make(method=method).id, make(method="cb").id
    monkeypatch.setattr(METHODS[revised], "revision", 1)
    assert make(method=method).id != before
    assert make(method="cb").id == other


def test_an_option_that_every_run_has_already_says_so(own):
    class Own(Method):
        """A method."""

        lr = Option(0.1, "a rate")

    own("own", Own)
    with pytest.raises(ConfigError, match="option 'lr', but every run has a setting"):
        make(method="own")


def test_a_teacher_draws_for_itself_and_so_does_each_expert():
    config = make(method="kd")
    draws = {c.derived_seed("weights") for c in (config, config.for_teacher())}
    draws |= {config.for_teacher(TeacherSpec(classes)).derived_seed("weights") for classes in ((0, 1), (2, 3))}
    assert len(draws) == 4
    assert make(method="ce").derived_seed("weights") == config.derived_seed("weights")
