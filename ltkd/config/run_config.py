"""RunConfig: everything that determines a run, in one frozen, self-checking record with a stable id."""

from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self, Unpack

from torch import Tensor

from .. import datasets, methods, models
from .._support.fingerprint import class_code, digest, of_a_library
from .._support.seeding import derived_seed
from .._support.settings import check_fields, setting, settings_of
from ..datasets.normalization import NORMALIZATIONS
from ..errors import ConfigError, unknown
from .arguments import Arguments
from .recipes import RECIPES, recipe_for
from .schedule import SCHEDULES, Schedule

CUSTOM = "custom:"  # begins the name of a data set or network that the caller handed over as an object
FOLLOWS = {"subset_seed": "seed", "teacher_epochs": "epochs", "teacher_lr": "lr"}  # where they are not set
PRECISIONS = ("fp32", "bf16")
N_GROUPS = 3  # of a method that knows groups, where it is not set


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


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """All that determines a run. `RunConfig.make` fills in a recipe; this constructor fills in plain defaults.

    Every field is checked on construction: ConfigError says which is wrong, what is allowed and what to do. Then the
    config is brought to one normal form: what follows from another setting is filled in (`subset_seed`,
    `teacher_epochs`, `teacher_lr`, `n_groups`, a folder's full path and `dataset_version`), and what has no effect is
    None. Two configs of one id have the same values, `recipe` aside. `dataclasses.replace` keeps what was filled in:
    to vary a seed, make another config.
    """

    recipe: str = setting("digits", "named set of defaults", choices=RECIPES)
    dataset: str = setting("digits", "data set, or a folder with train/<class>/* and test/<class>/*")
    imbalance_factor: float = setting(20.0, "images of the largest class over images of the smallest", low=1)
    dataset_version: str | None = setting(None, "fingerprint of a folder's files; filled in")
    profile: str | tuple[int, ...] = setting(
        "exp", "how counts fall over classes, or one count a class: 90,40,12", low=1, choices=datasets.profile_names()
    )
    subset_seed: int | None = setting(None, "draws the images that are kept (default: --seed)", low=0)
    image_size: int | None = setting(None, "resize images to this many pixels a side", low=8, high=512)
    held_out: float = setting(
        0.0, "share of each class's training images kept from training, for methods that steer by them", low=0, high=0.5
    )
    classes: tuple[int, ...] | None = setting(None, "learn these classes only, numbered anew: 0,1,2", low=0)
    teaches: bool = setting(False, "trained to teach: with initial weights and batches of a draw of its own")
    n_groups: int | None = setting(None, "groups that LTKD splits the classes into (default: 3)", low=1)
    teacher: str | None = setting("resnet8", "network that teaches")
    student: str = setting("resnet8x0.5", "network that is trained")
    method: str = setting("ltkd", "what the student minimises", choices=methods.METHODS)
    options: dict[str, Any] = field(default_factory=dict, metadata={"default": {}, "help": "the method's own options"})
    epochs: int = setting(24, "passes over the training set", low=1, high=10**6)
    teacher_epochs: int | None = setting(None, "epochs of the teacher (default: --epochs)", low=1, high=10**6)
    batch_size: int = setting(64, "images a step", low=1)
    lr: float = setting(0.05, "learning rate of SGD", low=0, above=True)
    teacher_lr: float | None = setting(
        None, "learning rate of the teacher (default: the recipe's, else --lr)", low=0, above=True
    )
    lr_schedule: str = setting("steps", "how the learning rate falls", choices=SCHEDULES)
    lr_warmup: float = setting(0.0, "fraction of the epochs over which the learning rate grows linearly", low=0, high=1)
    milestones: tuple[float, ...] = setting(
        (0.75, 0.9), "fractions of the epochs at which the learning rate falls", low=0, high=1, above=True, below=True
    )
    lr_decay: float = setting(0.1, "factor by which it falls", low=0, above=True, high=1)
    momentum: float = setting(0.9, "momentum of SGD", low=0, high=1)
    nesterov: bool = setting(False, "Nesterov's momentum")
    weight_decay: float = setting(5e-4, "weight decay", low=0)
    precision: str = setting("fp32", "of the student's layers: fp32, or bf16 by autocast", choices=PRECISIONS)
    augmentation: str = setting("crop1", "how training images are varied", choices=datasets.AUGMENTATIONS)
    normalization: str = setting(
        "data", "mean and deviation of which data set; 'data': of the training images", choices=NORMALIZATIONS
    )
    test_every: int = setting(5, "test after every so many epochs, and after each one from the first milestone", low=1)
    seed: int = setting(0, "draws initial weights, order and augmentation", low=0)

    def __post_init__(self):
        check_fields(self, SETTINGS)
        if self.classes is not None and len(set(self.classes)) < max(2, len(self.classes)):
            raise ConfigError(f"classes = {self.classes}: must be at least two class numbers, each of them once")
        if self.nesterov and self.momentum == 0:
            raise ConfigError("nesterov = True needs a momentum above 0; set one or leave nesterov out")
        method = methods.METHODS[self.method]
        object.__setattr__(self, "options", method.complete(self.options))
        if method.has_teacher() and self.teacher is None:
            raise ConfigError(f"method {self.method!r} needs a teacher: name a network, such as 'resnet20'")
        if "held_out" in method.settings and not self.held_out:
            raise ConfigError(f"method {self.method!r} steers by images held out: set held_out above 0, such as 0.1")
        for role, name in (("teacher", self.teacher), ("student", self.student)):
            if name is not None and not name.startswith(CUSTOM):
                models.check_name(name, f"model for the {role}")
        self._normalise(method)

    def _normalise(self, method):
        """Fill in what follows from other settings, and drop what has no effect."""
        filled = {name: getattr(self, source) for name, source in FOLLOWS.items() if getattr(self, name) is None}
        filled["milestones"] = tuple(sorted(self.milestones))
        if not method.has_teacher():  # then the run is the same with any teacher
            filled |= {"teacher": None, "teacher_epochs": None, "teacher_lr": None}
        elif self.teacher.startswith(CUSTOM):  # a teacher that is handed over is not trained
            filled |= {"teacher_epochs": None, "teacher_lr": None}
        if not method.has_teacher() and of_a_library(method):
            filled["n_groups"] = None  # the package's methods without a teacher know no groups
        elif self.n_groups is None:
            filled["n_groups"] = N_GROUPS
        if self.dataset_version is None and self.of_folder:
            datasets.check_name(self.dataset)
            filled |= {"dataset": str(Path(self.dataset).resolve()), "dataset_version": datasets.version(self.dataset)}
        for name, value in filled.items():
            object.__setattr__(self, name, value)

    @classmethod
    def make(cls, recipe: str | None = None, **overrides: Unpack[Arguments]) -> Self:
        """A config from a recipe (default: the data set's own) and what the caller wants otherwise.

        overrides: any field, and any option of the method by its own name: make(method="ltkd", alpha=2.0). ConfigError
        for an unknown name, and for a value that is not allowed.
        """
        option_names = methods.option_names()
        for name in overrides:
            if name not in SETTINGS and name not in option_names:
                raise unknown("parameter", name, [*SETTINGS, *option_names])
        given = {name: SETTINGS[name].check(name, value) for name, value in overrides.items() if name in SETTINGS}
        usual_recipe = recipe_for(given.get("dataset", "digits"))
        recipe = SETTINGS["recipe"].check("recipe", usual_recipe if recipe is None else recipe)
        options = given.pop("options", {}) | {k: v for k, v in overrides.items() if k not in SETTINGS}
        method = methods.METHODS[given.get("method", "ltkd")]
        if clash := SETTINGS.keys() & method.options():
            raise ConfigError(f"{method.__name__} has an option {min(clash)!r}, a setting of every run: rename it")
        networks = {"student": given.get("student"), "teacher": given.get("teacher")}
        usual = method.settings | RECIPES[recipe].usual(given.get("method", "ltkd"), **networks)
        settings = {"method": "ltkd"} | {k: v for k, v in usual.items() if k in SETTINGS} | given
        settings |= _reconcile(settings, given)
        return cls(recipe=recipe, options={k: v for k, v in usual.items() if k not in SETTINGS} | options, **settings)

    @classmethod
    def from_dict(cls, record):
        """The config that `to_dict` wrote. Raises ConfigError for anything else."""
        if not isinstance(record, dict):
            raise ConfigError(f"a stored config must be a dict, not {type(record).__name__}")
        for name in record:
            if name not in SETTINGS:
                raise unknown("field of a stored config", name, SETTINGS)
        dataset = str(record.get("dataset", "digits"))
        named = dataset in datasets.SOURCES or dataset.startswith(CUSTOM)
        if not named and record.get("dataset_version") is None:  # which would be computed from all files of the folder
            raise ConfigError("a stored config of a folder needs its dataset_version")
        return cls(**record)

    def to_dict(self):
        """The fields as plain values that JSON can hold."""
        values = {name: getattr(self, name) for name in SETTINGS}
        values["options"] = dict(self.options)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @cached_property
    def id(self) -> str:
        """Ten hexadecimal digits that depend on all that determines the run, and not on the recipe's name.

        Only what differs from the plain defaults enters, so that a setting or option of a later version does not
        rename the runs that came before it. The code of a method of the user's own is taken when the id is first asked
        for; `fit` and `sweep` look again.
        """
        method, plain = methods.METHODS[self.method], _plain_defaults()
        code, revisions = class_code(method), methods.revisions(method)
        record = {k: v for k, v in self._unfilled().items() if v != plain[k] and k != "recipe"}
        record["options"] = method.without_defaults(self.options)
        record |= {"code": code} if code else {}
        record |= {"revisions": revisions} if any(revisions) else {}
        return digest(record, 10)

    @property
    def name(self):
        """A readable name that ends in the id; the name of the run's folder."""
        data = f"{_plain(self.dataset)}-{self._profile_name()}{self.imbalance_factor:g}"
        if self.classes is not None:
            data += f"-{len(self.classes)}classes"
        return f"{data}-{_plain(self.student)}-{self.method}-s{self.seed}-{self.id}"

    @property
    def of_folder(self):
        """Whether the data set is a folder, neither a name nor an object of the caller's."""
        return self.dataset not in datasets.SOURCES and not self.dataset.startswith(CUSTOM)

    def _profile_name(self):
        if not isinstance(self.profile, str):
            return "counts"
        return f"{self.profile}-" if self.profile[-1].isdigit() else self.profile

    def _unfilled(self):
        """The fields as `to_dict` has them, but None where a value is the one that is filled in."""
        usual = {name: getattr(self, source) for name, source in FOLLOWS.items()} | {"n_groups": N_GROUPS}
        return self.to_dict() | {name: _unless(value, getattr(self, name)) for name, value in usual.items()}

    def schedule(self):
        """The learning rate over the epochs."""
        return Schedule(self.lr_schedule, self.epochs, self.lr, self.lr_warmup, self.milestones, self.lr_decay)

    def derived_seed(self, *parts):
        """A seed for one of the run's draws; a teacher's differ from those of the students of the same seed, so that
        they neither begin alike nor see the same batches."""
        role = ("teacher", self.classes) if self.teaches else ()
        return derived_seed(self.seed, *role, *parts)

    def overrides(self):
        """What differs from the recipe: {field or option: value}."""
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

    def assumptions(self):
        """What no paper states among this run's values: {field or method.option: reason}."""
        changed = self.overrides()
        return {
            key: why
            for key, why in RECIPES[self.recipe].assumptions.items()
            if key.split(".")[-1] not in changed and ("." not in key or key.startswith(f"{self.method}."))
        }

    def for_teacher(self, spec=None):
        """The run that trains this run's teacher: same data, seed and recipe, cross-entropy alone. spec: TeacherSpec
        of one of several."""
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
        if spec and spec.classes is not None:  # numbered as this run numbers its own
            own["classes"] = spec.classes if self.classes is None else tuple(self.classes[c] for c in spec.classes)
        return replace(self, **own)

    def for_parent(self):
        """The run whose student this one goes on with; None where training has one stage."""
        parent = methods.METHODS[self.method].parent
        if parent is None:
            return None
        options = {k: v for k, v in self.options.items() if k in parent.options()}
        return replace(self, method=methods.name_of(parent), options=options)

    def builds_on(self, class_counts: Tensor | None = None) -> dict[str, "RunConfig"]:
        """The runs that are trained before this one: {role: config}, the role being "parent" or a teacher's name.

        class_counts: training images of each class, (C,). Teachers that depend on them (LFME's experts) are left out
        without them.
        """
        method, found = methods.METHODS[self.method], {}
        if (parent := self.for_parent()) is not None:
            found["parent"] = parent
        if self.teacher and not self.teacher.startswith(CUSTOM):
            found |= {role: self.for_teacher(spec) for role, spec in method.teachers(class_counts).items()}
        return found

    @property
    def data(self) -> "DataConfig":
        """The part that determines the images."""
        return self._part(DataConfig)

    @property
    def optimization(self) -> "OptimizationConfig":
        """The part that determines the optimizer and its schedule."""
        return self._part(OptimizationConfig)

    def _part(self, kind):
        return kind(*(getattr(self, name) for name in kind._fields))


SETTINGS = settings_of(RunConfig)


def _reconcile(settings, given):
    """An imbalance factor shapes the data only through a profile that falls: make the two agree, or say so."""
    factor, profile = given.get("imbalance_factor", 1), settings.get("profile", "exp")
    if isinstance(profile, str) and profile != datasets.AS_IS:
        return {}
    if factor == 1:
        return {"imbalance_factor": 1.0}
    if "profile" not in given:  # asked to cut a folder that would be taken as it is
        return {"profile": "exp"}
    raise ConfigError(
        f"imbalance_factor = {factor} has no effect with profile {settings['profile']!r}; leave it out, or choose a "
        f"profile that falls: {', '.join(datasets.PROFILES)}"
    )


def _plain(name):
    """A name that can be part of a folder's name."""
    name = name.removeprefix(CUSTOM).rstrip("/").split("/")[-1]
    return "".join(c if c.isalnum() or c in "._" else "-" for c in name)


@cache
def _plain_defaults():
    """The defaults of all fields, None where a value follows from others: {name: value}."""
    return RunConfig()._unfilled()


def _unless(usual, value):
    """`value`, but None where it is the usual one."""
    return None if value == usual else value
