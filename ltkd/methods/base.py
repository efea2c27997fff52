"""What all methods share: options, the task, the step, the teachers, and the class Method with its hooks."""

from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from .._support.settings import Setting, T
from ..errors import ConfigError, unknown
from ..groups import ClassGroups
from ..models import FeatureOutput, evaluating, features_of

if TYPE_CHECKING:
    from ..config.schedule import Schedule

R = TypeVar("R")
TEACHER = "teacher"  # the name of the teacher of a method with one teacher
NEEDS = ("nothing", "logits", "features")


@dataclass(frozen=True)
class Option(Setting[T]):
    """A hyper-parameter of a method: a Setting whose numbers are at least 0, unless `low` sets another bound.

    of_time: True if the option delays or ramps up a term; at 0 the term has its full weight from the start.
    """

    _: KW_ONLY
    low: float = 0.0
    of_time: bool = field(default=False, repr=False)


class Task(NamedTuple):
    """The facts of a run that a method may use.

    class_counts: LongTensor (C,), training images per class. groups: the class groups. epochs: length of the method's
    own training. image_shape: (channels, side, side). train_images: number of images to learn from; smaller than the
    sum of class_counts if some images are held out.
    """

    class_counts: Tensor
    groups: ClassGroups
    epochs: int
    image_shape: tuple[int, int, int] = (3, 32, 32)
    train_images: int = 0

    @classmethod
    def of_counts(cls, class_counts: ArrayLike | Tensor, n_groups: int | None = None, epochs: int = 1) -> "Task":
        """A task for trying a method without a run.

        class_counts: (C,), training images per class. n_groups, errors: as in `ClassGroups.by_rank`.
        """
        counts = torch.as_tensor(class_counts)
        shape = {"num_classes": len(counts), "in_channels": 3, "image_size": 32}
        return cls.of(shape, counts, n_groups, epochs)

    @classmethod
    def of(
        cls,
        shape: dict[str, int],
        class_counts: ArrayLike | Tensor,
        n_groups: int | None,
        epochs: int,
        train_images: int = 0,
    ) -> "Task":
        """The task of a run.

        shape: {"num_classes", "in_channels", "image_size"}. class_counts: (C,), training images per class. n_groups,
        errors: as in `ClassGroups.by_rank`. epochs, train_images: as in Task.
        """
        groups = ClassGroups.by_rank(class_counts, n_groups)
        image_shape = (shape["in_channels"], shape["image_size"], shape["image_size"])
        return cls(torch.as_tensor(class_counts), groups, epochs, image_shape, train_images)


class Batch(NamedTuple):
    """One batch of training images.

    images: (B, channels, H, W), augmented and normalised. labels: LongTensor (B,). indices: LongTensor (B,), positions
    of the images in the training set. views: LongTensor (B,), the numbered view (crop and flip) of each image; None
    for images on disk.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    views: Tensor | None = None


class Answer:
    """The outputs of a network on a batch: `logits` (B, C) and `features` (FeatureOutput). Both are computed on first
    access, and once.

    network: maps images to logits; a method `features` is needed for `features`. images: (B, channels, H, W).
    featured: True if `features` will be read too: one pass then computes both. frozen: True means no gradient, and
    float32 even under autocast; a Step sets it for its teachers.
    """

    def __init__(
        self,
        network: nn.Module | None = None,
        images: Tensor | None = None,
        *,
        featured: bool = False,
    ) -> None:
        self._network, self._images, self._featured = network, images, featured
        self.frozen = False
        self._logits: Tensor | None = None
        self._features: FeatureOutput | None = None

    @classmethod
    def given(cls, logits: Tensor) -> "Answer":
        """An answer with known logits (B, C) and without features."""
        answer = cls()
        answer.logits = logits
        return answer

    @property
    def features(self) -> FeatureOutput:
        """The logits and feature maps. Raises ConfigError if the network returns none, or if only logits are known."""
        if self._features is None:  # not cached_property: on Python 3.11 its lock splits what torch.compile compiles
            self._features = self._computed(features_of)
        return self._features

    @property
    def has_logits(self) -> bool:
        """True if the logits are known, without a pass of the network."""
        return self._logits is not None

    @property
    def logits(self) -> Tensor:
        """The logits, (B, C)."""
        if self._logits is None:
            plain = not self._featured
            self._logits = self._computed(lambda net, images: net(images)) if plain else self.features.logits
        return self._logits

    @logits.setter
    def logits(self, value: Tensor) -> None:
        self._logits = value

    def _computed(self, function: Callable[[nn.Module, Tensor], R]) -> R:
        if self._network is None or self._images is None:
            raise ConfigError(
                "only the logits of this network are known; set needs = 'features' in the class of the method"
            )
        images = self._images.clone()  # other networks see the same images, and this one may change its input in place
        if not self.frozen:
            return function(self._network, images)
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            return function(self._network, images)


class Step:
    """One training step: a batch, and the outputs of the student and the teachers on it.

    images, labels, indices: the batch of the stream "main". batches: {stream: Batch}, for methods with several
    streams. epoch: 0-dim float tensor, counted from 1. student: the network that `wrap` returned. teachers:
    {name: Answer}.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    batches: dict[str, Batch]
    epoch: Tensor
    student: Any
    teachers: dict[str, Answer]

    def __init__(
        self,
        student: Any,
        batches: dict[str, Batch],
        epoch: Tensor,
        teachers: dict[str, Answer] | None = None,
        *,
        featured: bool = False,
    ) -> None:
        """featured: True if the method will read `features`, see Answer."""
        self.student, self.batches, self.epoch = student, batches, epoch
        self.images, self.labels, self.indices, _ = batches["main"]
        self.teachers = teachers or {}
        for teacher in self.teachers.values():
            teacher.frozen = True
        self._answer = Answer(student, self.images, featured=featured)

    @classmethod
    def of_logits(
        cls, logits: Tensor, labels: Tensor, teacher_logits: Tensor | None = None, *, epoch: float = 1.0
    ) -> "Step":
        """A step on known logits, for trying a loss without networks.

        logits, teacher_logits: (B, C). labels: LongTensor (B,).
        """
        images, indices = logits.new_empty(len(labels), 0), torch.arange(len(labels))
        teachers = {} if teacher_logits is None else {TEACHER: Answer.given(teacher_logits)}
        batches = {"main": Batch(images, labels, indices)}
        return cls(lambda _: logits, batches, torch.tensor(float(epoch)), teachers)

    @property
    def logits(self) -> Tensor:
        """The student's logits, (B, C). A method that calls the student itself must set them: the training accuracy is
        computed from them."""
        return self._answer.logits

    @logits.setter
    def logits(self, value: Tensor) -> None:
        self._answer.logits = value

    @property
    def features(self) -> FeatureOutput:
        """The student's feature maps. Raises ConfigError if the student returns none."""
        return self._answer.features

    @property
    def teacher_logits(self) -> Tensor:
        """The logits of the method's one teacher, (B, C). Raises ConfigError without a teacher."""
        return self._teacher().logits

    @property
    def teacher_features(self) -> FeatureOutput:
        """The feature maps of the method's one teacher. Raises ConfigError without a teacher or its features."""
        return self._teacher().features

    def _teacher(self) -> Answer:
        if TEACHER not in self.teachers:
            raise ConfigError(
                "this step has no teacher; set needs = 'logits' or needs = 'features' in the class of the method"
            )
        return self.teachers[TEACHER]


@dataclass(frozen=True)
class TeacherSpec:
    """How to train one teacher, in a run of its own before the student's.

    classes: the classes that it learns, renumbered from 0 (None: all). batch: its batch size, as a multiple of the
    student's. settings: {field of RunConfig: value} that differ from the student's.
    """

    classes: tuple[int, ...] | None = None
    batch: float = 1.0
    settings: dict[str, Any] = field(default_factory=dict)


class Scan:
    """A pass over images in a fixed order, without augmentation.

    batches: returns an iterator over normalised images (B, channels, H, W). labels: LongTensor (N,).
    """

    labels: Tensor

    def __init__(self, batches: Callable[[], Iterable[Tensor]], labels: Tensor) -> None:
        self._batches, self.labels = batches, labels

    @torch.no_grad()
    def __call__(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """The results of `function` on all images, (N, ...), computed without gradients."""
        return torch.cat([function(images).clone() for images in self._batches()])  # a network may reuse its output


class Method(nn.Module):
    """A training objective: the loss of the student, and optional hooks around its training.

    A subclass declares its hyper-parameters as class attributes of type Option, states in `needs` which outputs of a
    teacher it uses ("nothing", "logits" or "features"), and returns the terms of the loss from `forward`. All else has
    a default. The first line of its docstring appears in the command line's help: name the method and the paper.
    Keep what the method learns or counts in parameters and buffers, because a resumed run restores only these. The
    history of a run decomposes the teacher's KL divergence at the option `temperature`, or at 1 without this option.

    Arguments: task: Task. options: {name: value} for some of the options. Raises ConfigError for an unknown option or
    a value that is not allowed.

    Hooks take the student as `Any`, because `wrap` may return a network of another class.

    >>> from ltkd import Method, Option, Step, Task
    >>> class Smoothed(Method):
    ...     "Cross-entropy with smoothed labels."
    ...     smoothing = Option(0.1, "share of the label that is spread over all classes", high=1.0)
    ...
    ...     def forward(self, step):
    ...         loss = nn.functional.cross_entropy(step.logits, step.labels, label_smoothing=self.smoothing)
    ...         return {"ce": loss}
    >>> method = Smoothed(Task.of_counts([30, 10]), smoothing=0.5)
    >>> method(Step.of_logits(torch.zeros(4, 2), torch.tensor([0, 1, 0, 1])))
    {'ce': tensor(0.6931)}
    """

    needs: str = "nothing"
    streams: dict[str, str] = {"main": "instance"}  # the batches of a step: {stream: a key of SAMPLERS}
    parent: "type[Method] | None" = None  # the method that trains the student first, in a run of its own
    settings: dict[str, Any] = {}  # {field of RunConfig: its default for this method}
    revision: int = 0  # increase it if a change to the method changes its results: its runs then get new ids
    task: Task

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.needs not in NEEDS:
            raise unknown(f"needs of {cls.__name__}", cls.needs, NEEDS)
        for name, value in vars(cls).items():
            if isinstance(value, Option) and (name == "task" or hasattr(Method, name)):
                raise ConfigError(f"{cls.__name__} has an option {name!r}, a name that every method uses: rename it")

    def __init__(self, task: Task, **options: Any) -> None:
        super().__init__()
        for name, value in self.complete(options).items():
            setattr(self, name, value)
        self.task = task

    @classmethod
    @cache
    def options(cls) -> dict[str, Option[Any]]:
        """The options of this method and of its parent: {name: Option}."""
        ours = [c for c in reversed(cls.__mro__) if not issubclass(nn.Module, c)]
        own = {k: v for c in ours for k, v in vars(c).items() if isinstance(v, Option)}
        return (cls.parent.options() if cls.parent else {}) | own

    @classmethod
    def complete(cls, options: dict[str, Any]) -> dict[str, Any]:
        """All options, checked, with defaults for those that `options` leaves out: {name: value}.

        Raises ConfigError for an unknown option or a value that is not allowed.
        """
        known = cls.options()
        for name in options:
            if name not in known:
                raise unknown(f"option of {cls.__name__}", name, known or ["(none)"])
        return {name: option.check(name, options.get(name, option.default)) for name, option in known.items()}

    @classmethod
    def without_defaults(cls, options: dict[str, Any]) -> dict[str, Any]:
        """The options that differ from their defaults: {name: value}."""
        known = cls.options()
        return {name: value for name, value in options.items() if value != known[name].default}

    @classmethod
    def has_teacher(cls) -> bool:
        """True if this method or its parent uses a teacher."""
        return cls.needs != "nothing" or (cls.parent is not None and cls.parent.has_teacher())

    @classmethod
    def teachers(cls, class_counts: Tensor | None = None) -> dict[str, TeacherSpec]:
        """The teachers to train before the student: {name: TeacherSpec}.

        class_counts: (C,), training images per class; None if they are unknown: teachers that depend on them are then
        left out.
        """
        return {} if cls.needs == "nothing" else {TEACHER: TeacherSpec()}

    def schedule(self, schedule: "Schedule") -> "Schedule":
        """The learning rate schedule of this method. schedule: the one of the config."""
        return schedule

    def wrap(self, student: Any) -> Any:
        """The network to train, test and store. It may be a modified `student` or a new module around it."""
        return student

    def connect(self, student: Any, teachers: dict[str, nn.Module]) -> None:
        """Create the layers whose shapes depend on both networks, such as adapters. teachers: {name: network}."""

    def parameter_groups(self, student: Any) -> list[dict[str, Any]]:
        """What the optimizer trains: [{"params": ..., "lr_scale": 1.0, "weight_decay": ...}], the last two optional.
        Parameters of the student in no group are frozen."""
        return [{"params": [*student.parameters(), *self.parameters()]}]

    def set_mode(self, student: Any) -> None:
        """Set the student to training mode. Frozen layers stay in evaluation mode, so that the BatchNorm statistics in
        them do not change."""
        student.train()
        for module in student.modules():
            parameters = [*module.parameters()]
            if parameters and not any(p.requires_grad for p in parameters):
                module.eval()

    def begin(self, student: Any, teachers: dict[str, nn.Module], training: Scan, held_out: Scan | None) -> None:
        """Called once before the first step, and before a checkpoint is loaded. teachers: {name: network}. training,
        held_out: the images to learn from, and those kept from training (None if there are none)."""

    def end_epoch(self, student: Any, held_out: Scan | None) -> None:
        """Called after every epoch but the last. held_out: as in `begin`."""

    def forward(self, step: Step) -> dict[str, Tensor]:
        """The terms of the loss: {name: 0-dim tensor}. The loss is their sum."""
        raise NotImplementedError

    @torch.no_grad()
    def probe(self, network: nn.Module) -> FeatureOutput:
        """The output of a network on two black images, which shows the shapes of its features.

        Raises ConfigError if the network has no method `features`.
        """
        weight = next(network.parameters())
        with evaluating(network):
            return features_of(network, torch.zeros(2, *self.task.image_shape, device=weight.device))


def check_terms(method: Method, terms: Any) -> None:
    """Raise ConfigError unless `terms`, the result of the method's `forward`, is a dict {name: 0-dim tensor}."""
    if isinstance(terms, dict):
        if terms and all(isinstance(t, Tensor) and t.shape == () for t in terms.values()):
            return
        found = str({name: tuple(t.shape) if isinstance(t, Tensor) else t for name, t in terms.items()})
    else:
        found = type(terms).__name__
    raise ConfigError(
        f"forward of {type(method).__name__} returned {found}: it must return a dict of named terms, each a tensor of "
        f"one number, such as {{'ce': loss}}; the loss is their sum"
    )
