"""RunConfig: all that determines a run, as one immutable, checked record with a stable id."""

from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar, Unpack, cast

from torch import Tensor

from .. import datasets, methods, models
from .._support.fingerprint import class_code, digest, of_a_library
from .._support.seeding import derived_seed
from .._support.settings import check_fields, setting, settings_of
from ..datasets.normalization import NORMALIZATIONS
from ..errors import ConfigError, unknown
from .arguments import Arguments
from .recipes import OWN, RECIPES, recipe_for
from .schedule import SCHEDULES, Schedule

CUSTOM = "custom:"  # prefix of the name of a data set or network that the caller passed as an object
FOLLOWS = {"subset_seed": "seed", "teacher_epochs": "epochs", "teacher_lr": "lr"}  # {field: source of its default}
PRECISIONS = ("fp32", "bf16")
N_GROUPS = 3  # the default of n_groups, for methods that use class groups


class DataConfig(NamedTuple):
    """The fields of a RunConfig that determine the images."""

    dataset: str
    imbalance_factor: float
    profile: str | tuple[int, ...]
    subset_seed: int
    image_size: int | None
    held_out: float
    classes: tuple[int, ...] | None
    augmentation: str
    normalization: str


class OptimizationConfig(NamedTuple):
    """The fields of a RunConfig that determine the optimizer."""

    lr: float
    momentum: float
    nesterov: bool
    weight_decay: float


Part = TypeVar("Part", DataConfig, OptimizationConfig)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """All that determines a run. `RunConfig.make` starts from a recipe; this constructor starts from plain defaults.

    The constructor checks every field. It fills in fields that follow from others (`subset_seed`, `teacher_epochs`,
    `teacher_lr`, `n_groups`, the full path of a folder and its `dataset_version`), and sets fields without effect to
    None. Two configs with the same id have equal fields, except for `recipe`. `dataclasses.replace` keeps filled-in
    values: to change the seed, use `make` again. Raises ConfigError for a value that is not allowed.
    """

    recipe: str = setting("digits", "named set of defaults", choices=RECIPES)
    dataset: str = setting("digits", "data set, or a folder with train/<class>/* and test/<class>/*")
    imbalance_factor: float = setting(20.0, "images of the largest class divided by images of the smallest", low=1)
    dataset_version: str | None = setting(None, "fingerprint of a folder's files; filled in automatically")
    profile: str | tuple[int, ...] = setting(
        "exp", "how class counts decrease, or one count per class: 90,40,12", low=1, choices=datasets.profile_names()
    )
    subset_seed: int | None = setting(None, "seed that selects the images to keep (default: --seed)", low=0)
    image_size: int | None = setting(None, "resize images to this side length, in pixels", low=8, high=512)
    held_out: float = setting(
        0.0, "share of each class's training images to hold out, for methods that need it", low=0, high=0.5
    )
    classes: tuple[int, ...] | None = setting(None, "use only these classes, renumbered from 0: 4,9,2", low=0)
    teaches: bool = setting(
        False, "true for the run of a teacher: its initial weights and batches differ from a student's of the same seed"
    )
    n_groups: int | None = setting(None, "number of class groups for LTKD (default: 3)", low=1)
    teacher: str | None = setting("resnet8", "network of the teacher")
    student: str = setting("resnet8x0.5", "network of the student")
    method: str = setting("ltkd", "training method of the student", choices=methods.METHODS)
    options: dict[str, Any] = field(default_factory=dict, metadata={"default": {}, "help": "options of the method"})
    epochs: int = setting(24, "passes over the training set", low=1, high=10**6)
    teacher_epochs: int | None = setting(None, "epochs of the teacher (default: --epochs)", low=1, high=10**6)
    batch_size: int = setting(64, "images per step", low=1)
    lr: float = setting(0.05, "learning rate of SGD", low=0, above=True)
    teacher_lr: float | None = setting(
        None, "learning rate of the teacher (default: the recipe's, else --lr)", low=0, above=True
    )
    lr_schedule: str = setting("steps", "shape of the learning rate over the epochs", choices=SCHEDULES)
    lr_warmup: float = setting(
        0.0, "first fraction of the epochs, in which the learning rate grows linearly", low=0, high=1
    )
    milestones: tuple[float, ...] = setting(
        (0.75, 0.9),
        "fractions of the epochs after which the learning rate falls",
        low=0,
        high=1,
        above=True,
        below=True,
    )
    lr_decay: float = setting(0.1, "factor of the learning rate at each milestone", low=0, above=True, high=1)
    momentum: float = setting(0.9, "momentum of SGD", low=0, high=1)
    nesterov: bool = setting(False, "use Nesterov momentum")
    weight_decay: float = setting(5e-4, "weight decay", low=0)
    precision: str = setting("fp32", "number format of the student's layers; bf16 uses autocast", choices=PRECISIONS)
    augmentation: str = setting("crop1", "random changes of the training images", choices=datasets.AUGMENTATIONS)
    normalization: str = setting(
        "data",
        "data set whose mean and deviation normalise the images; 'data': the training images",
        choices=NORMALIZATIONS,
    )
    test_every: int = setting(5, "epochs between two tests; after the first milestone every epoch is tested", low=1)
    seed: int = setting(0, "seed of initial weights, image order and augmentation", low=0)

    def __post_init__(self) -> None:
        check_fields(self, SETTINGS)
        if self.classes is not None and len(set(self.classes)) < max(2, len(self.classes)):
            raise ConfigError(f"classes = {self.classes}: must be two or more different class numbers")
        if self.nesterov and self.momentum == 0:
            raise ConfigError("nesterov = True needs a momentum above 0: set momentum or leave nesterov out")
        method = methods.METHODS[self.method]
        object.__setattr__(self, "options", method.complete(self.options))
        if method.has_teacher() and self.teacher is None:
            raise ConfigError(f"method {self.method!r} needs a teacher: set teacher to a network, such as 'resnet20'")
        if "held_out" in method.settings and not self.held_out:
            raise ConfigError(f"method {self.method!r} needs held-out images: set held_out above 0, such as 0.1")
        for role, name in (("teacher", self.teacher), ("student", self.student)):
            if name is not None and not name.startswith(CUSTOM):
                models.check_name(name, f"model for the {role}")
        self._normalise(method)

    def _normalise(self, method: type[methods.Method]) -> None:
        """Fill in fields that follow from others, and set fields without effect to None."""
        filled = {name: getattr(self, source) for name, source in FOLLOWS.items() if getattr(self, name) is None}
        filled["milestones"] = tuple(sorted(self.milestones))
        if self.teacher is None or not method.has_teacher():
            filled |= {"teacher": None, "teacher_epochs": None, "teacher_lr": None}
        elif self.teacher.startswith(CUSTOM):  # the caller's own teacher is not trained
            filled |= {"teacher_epochs": None, "teacher_lr": None}
        if not method.has_teacher() and of_a_library(method):
            filled["n_groups"] = None  # no method of the package without a teacher uses groups
        elif self.n_groups is None:
            filled["n_groups"] = N_GROUPS
        if self.dataset_version is None and self.of_folder:
            datasets.check_name(self.dataset)
            filled |= {"dataset": str(Path(self.dataset).resolve()), "dataset_version": datasets.version(self.dataset)}
        for name, value in filled.items():
            object.__setattr__(self, name, value)

    @classmethod
    def make(cls, recipe: str | None = None, **overrides: Unpack[Arguments]) -> Self:
        """A config from a recipe, with overrides.

        recipe: a key of RECIPES (default: the recipe of the data set). overrides: fields of RunConfig, and options of
        the method by their names. Raises ConfigError for an unknown name or a value that is not allowed.

        >>> config = RunConfig.make(method="kd", temperature=2.0, seed=1)
        >>> config.dataset, config.epochs, config.options["temperature"]
        ('digits', 24, 2.0)
        >>> RunConfig.make(epoch=3)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        ltkd.errors.ConfigError: unknown parameter 'epoch': did you mean 'epochs'? known are ...
        """
        option_names = methods.option_names()
        for name in overrides:
            if name not in SETTINGS and name not in option_names:
                raise unknown("parameter", name, [*SETTINGS, *option_names])
        given = {name: SETTINGS[name].check(name, value) for name, value in overrides.items() if name in SETTINGS}
        usual_recipe, chosen = recipe_for(given.get("dataset", "digits")), recipe is not None
        recipe = SETTINGS["recipe"].check("recipe", usual_recipe if recipe is None else recipe)
        options = given.pop("options", {}) | {k: v for k, v in overrides.items() if k not in SETTINGS}
        method = methods.METHODS[given.get("method", "ltkd")]
        if clash := SETTINGS.keys() & method.options():
            raise ConfigError(
                f"{method.__name__} has an option {min(clash)!r}, but every run has a setting of this name: rename it"
            )
        networks = {"student": given.get("student"), "teacher": given.get("teacher")}
        usual = method.settings | RECIPES[recipe].usual(given.get("method", "ltkd"), **networks)
        settings = {"method": "ltkd"} | {k: v for k, v in usual.items() if k in SETTINGS} | given
        settings |= _reconcile(settings, given)
        options = {k: v for k, v in usual.items() if k not in SETTINGS} | options
        config = cls(recipe=recipe, options=options, **settings)
        if not given.keys() & {"recipe", "dataset"} and not chosen:
            vars(config)["_given"] = overrides  # no field: it identifies nothing
        return config

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Self:
        """The config of a record that `to_dict` returned. Raises ConfigError for another record."""
        if not isinstance(record, dict):
            raise ConfigError(f"a stored config must be a dict, not {type(record).__name__}")
        for name in record:
            if name not in SETTINGS:
                raise unknown("field of a stored config", name, SETTINGS)
        dataset = str(record.get("dataset", "digits"))
        named = dataset in datasets.SOURCES or dataset.startswith(CUSTOM)
        if not named and record.get("dataset_version") is None:  # else the constructor would read the whole folder
            raise ConfigError("a stored config of a folder needs its dataset_version")
        return cls(**record)

    def to_dict(self) -> dict[str, Any]:
        """The fields as values that JSON can store."""
        values = {name: getattr(self, name) for name in SETTINGS}
        values["options"] = dict(self.options)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @cached_property
    def id(self) -> str:
        """Ten hexadecimal digits that identify the run: a hash of all fields except `recipe`, of the `revision` of the
        method and the networks, and of the code of a user's own method.

        Only values that differ from the plain defaults are hashed, so that a new field or option does not change the
        ids of older runs. The code of a user's own method is hashed on first access; `fit` and `sweep` hash it again.
        """
        method, plain = methods.METHODS[self.method], _plain_defaults()
        code, revisions = class_code(method), methods.revisions(method)
        record = {k: v for k, v in self._unfilled().items() if v != plain[k] and k != "recipe"}
        record["options"] = method.without_defaults(self.options)
        record |= {"code": code} if code else {}
        record |= {"revisions": revisions} if any(revisions) else {}
        record |= {"networks": networks} if (networks := self.network_revisions) else {}
        return digest(record, 10)

    @property
    def network_revisions(self) -> dict[str, int]:
        """The revisions of the student and the teacher, of those that have one: {role: number}."""
        found = {role: models.revision(name) for role, name in (("student", self.student), ("teacher", self.teacher))}
        return {role: number for role, number in found.items() if number}

    @property
    def name(self) -> str:
        """The name of the run's folder: readable, and with the id at its end."""
        data = f"{_plain(self.dataset)}-{self._profile_name()}{self.imbalance_factor:g}"
        if self.classes is not None:
            data += f"-{len(self.classes)}classes"
        return f"{data}-{_plain(self.student)}-{self.method}-s{self.seed}-{self.id}"

    @property
    def seeds(self) -> tuple[int, int]:
        """The seeds of the subset and of the run."""
        return cast(int, self.subset_seed), self.seed

    @property
    def of_folder(self) -> bool:
        """True if the data set is a folder: neither a known name nor an object of the caller."""
        return self.dataset not in datasets.SOURCES and not self.dataset.startswith(CUSTOM)

    def _profile_name(self) -> str:
        if not isinstance(self.profile, str):
            return "counts"
        return f"{self.profile}-" if self.profile[-1].isdigit() else self.profile

    def _unfilled(self) -> dict[str, Any]:
        """The result of `to_dict`, with None for each value that equals the one that is filled in."""
        usual = {name: getattr(self, source) for name, source in FOLLOWS.items()} | {"n_groups": N_GROUPS}
        return self.to_dict() | {name: None for name, value in usual.items() if getattr(self, name) == value}

    def schedule(self) -> Schedule:
        """The learning rate schedule of the config; the method may replace it."""
        return Schedule(self.lr_schedule, self.epochs, self.lr, self.lr_warmup, self.milestones, self.lr_decay)

    def derived_seed(self, *parts: object) -> int:
        """The seed of one random draw of the run, which `parts` name.

        A teacher's seeds differ from those of a student with the same `seed`: it starts from other weights and sees
        other batches.
        """
        role = ("teacher", self.classes) if self.teaches else ()
        return derived_seed(self.seed, *role, *parts)

    def overrides(self) -> dict[str, Any]:
        """The values that differ from the recipe: {field or option: value}."""
        networks: dict[str, Any] = {"student": self.student} | ({"teacher": self.teacher} if self.teacher else {})
        same: dict[str, Any] = {"dataset": self.dataset, "dataset_version": self.dataset_version}
        same |= {"method": self.method, "seed": self.seed} | networks
        recipe = RunConfig.make(self.recipe, **same)
        expected, ours, theirs = recipe.to_dict(), self._unfilled(), recipe._unfilled()
        usual = _plain_defaults() | RECIPES[self.recipe].defaults
        followed = {k for k in ours if ours[k] is None and theirs[k] is None}
        changed = {k: v for k, v in self.to_dict().items() if v != expected[k] and k not in {"options", *followed}}
        changed |= {k: v for k, v in networks.items() if v != usual[k]}
        return changed | {k: v for k, v in self.options.items() if v != expected["options"][k]}

    def assumptions(self) -> dict[str, str]:
        """The values of this run that no paper states: {field or method.option: why the recipe has this value}."""
        recipe = RECIPES[self.recipe]
        of_pair = recipe.pairs.get((self.teacher or "", self.student), {}).get(self.method, {})
        known = {*self.overrides(), *of_pair}  # by the caller, and as published for these two networks
        return {
            key: why
            for key, why in recipe.assumptions.items()
            if key.split(".")[-1] not in known and ("." not in key or key.startswith(f"{self.method}."))
        }

    def for_teacher(self, spec: methods.TeacherSpec | None = None) -> Self:
        """The config of this run's teacher: the same data, seed and recipe, trained with cross-entropy.

        spec: how this teacher differs, for a method with several (default: not at all).
        """
        own: dict[str, Any] = {
            "student": self.teacher,
            "teacher": None,
            "method": "ce",
            "options": {},
            "n_groups": None,
            "teaches": True,
        }
        own |= {"epochs": self.teacher_epochs, "lr": self.teacher_lr}
        if spec:
            own |= {"batch_size": max(1, round(spec.batch * self.batch_size)), **spec.settings}
        if spec and spec.classes is not None:  # they index this run's classes
            own["classes"] = spec.classes if self.classes is None else tuple(self.classes[c] for c in spec.classes)
        return replace(self, **own)

    def for_own_data(self) -> Self:
        """The config for a data set that is passed as an object: of the recipe of own data, with the values given to
        `make`, unless a recipe or another data set was chosen there."""
        given: Arguments | None = vars(self).get("_given")
        return self if given is None else type(self).make(OWN, **given)

    def for_parent(self) -> Self | None:
        """The config of the first training stage; None if the method has one stage.

        Raises ConfigError if the parent of the method is not in METHODS.
        """
        parent = methods.METHODS[self.method].parent
        if parent is None:
            return None
        options = {k: v for k, v in self.options.items() if k in parent.options()}
        return replace(self, method=methods.name_of(parent), options=options)

    def builds_on(self, class_counts: Tensor | None = None) -> dict[str, Self]:
        """The runs that are trained before this one: {role: config}. The role is "parent" or the name of a teacher.

        class_counts: (C,), training images per class. Without them, teachers that depend on them (the experts of LFME)
        are left out. Raises ConfigError if the parent of the method is not in METHODS.
        """
        method = methods.METHODS[self.method]
        found: dict[str, Self] = {}
        if (parent := self.for_parent()) is not None:
            found["parent"] = parent
        if self.teacher and not self.teacher.startswith(CUSTOM):
            found |= {role: self.for_teacher(spec) for role, spec in method.teachers(class_counts).items()}
        return found

    @property
    def data(self) -> "DataConfig":
        """The fields that determine the images."""
        return self._part(DataConfig)

    @property
    def optimization(self) -> "OptimizationConfig":
        """The fields that determine the optimizer."""
        return self._part(OptimizationConfig)

    def _part(self, kind: type[Part]) -> Part:
        return kind(*(getattr(self, name) for name in kind._fields))


SETTINGS = settings_of(RunConfig)


def _reconcile(settings: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """The fields to change so that imbalance_factor and profile agree: only a decreasing profile uses the factor.

    settings: all fields so far. given: those that the caller set. Raises ConfigError if the caller's do not agree.
    """
    factor, profile = given.get("imbalance_factor", 1), settings.get("profile", "exp")
    if isinstance(profile, str) and profile != datasets.AS_IS:
        return {}
    if factor == 1:
        return {"imbalance_factor": 1.0}
    if "profile" not in given:  # the recipe's profile keeps all images
        return {"profile": "exp"}
    raise ConfigError(
        f"imbalance_factor = {factor} has no effect with profile {settings['profile']!r}; leave it out, or set profile "
        f"to one of {', '.join(datasets.PROFILES)}"
    )


def _plain(name: str) -> str:
    """The name without the characters that a folder's name must not have."""
    name = name.removeprefix(CUSTOM).rstrip("/").split("/")[-1]
    return "".join(c if c.isalnum() or c in "._" else "-" for c in name)


@cache
def _plain_defaults() -> dict[str, Any]:
    """The defaults of all fields, None for those that follow from others: {name: value}."""
    return RunConfig()._unfilled()
