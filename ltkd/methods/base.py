"""What every method is made of: its options, its task, the step it computes and the hooks it may use."""

from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .._support.settings import Setting, T
from ..errors import ConfigError, unknown
from ..groups import ClassGroups
from ..models import FeatureOutput, features_of


@dataclass(frozen=True)
class Option(Setting[T]):
    """A hyper-parameter of a method: a Setting whose numbers are at least 0, unless `low` states another bound.

    of_time: True if the option states when a term comes into force; at 0 the term is in force from the start.
    """

    _: KW_ONLY
    low: float = 0.0
    of_time: bool = field(default=False, repr=False)


class Task(NamedTuple):
    """What a method may know of the run.

    class_counts (C,): training images of each class; epochs: the length of the method's own training; image_shape:
    (channels, side, side); train_images: images to learn from, fewer than the counts say where some are held out.
    """

    class_counts: Tensor
    groups: ClassGroups
    epochs: int
    image_shape: tuple[int, int, int] = (3, 32, 32)
    train_images: int = 0

    @classmethod
    def of_counts(cls, class_counts, n_groups=None, epochs=1):
        """A task by the training images of each class (C,), to try a method without a run."""
        return cls.of(
            {"num_classes": len(class_counts), "in_channels": 3, "image_size": 32}, class_counts, n_groups, epochs
        )

    @classmethod
    def of(cls, shape, class_counts, n_groups, epochs, train_images=0):
        """The task of a run. shape: {"num_classes", "in_channels", "image_size"}; n_groups: None for three."""
        groups = ClassGroups.by_rank(class_counts, n_groups)
        image_shape = (shape["in_channels"], shape["image_size"], shape["image_size"])
        return cls(torch.as_tensor(class_counts), groups, epochs, image_shape, train_images)


class Batch(NamedTuple):
    """images (B, channels, H, W), normalised; labels (B,); indices (B,): which training images they are; views (B,):
    which of their numbered views, None for images on disk."""

    images: Tensor
    labels: Tensor
    indices: Tensor
    views: Tensor | None = None


class Answer:
    """A network's `logits` (B, C) and `features` (FeatureOutput) on a batch, computed when first read.

    featured: the features will be read too, so both come from one pass. frozen: the network is a teacher: no gradient,
    and float32 also under autocast.
    """

    def __init__(self, network, images, *, featured=False, frozen=False):
        self._network, self._images, self._featured, self._frozen = network, images, featured, frozen

    @classmethod
    def given(cls, logits):
        """An answer from logits at hand, without features."""
        answer = cls(None, None)
        answer.logits = logits
        return answer

    @cached_property
    def features(self):
        if self._network is None:
            raise ConfigError(
                "only the logits of this network are known; a method that uses features declares needs = 'features'"
            )
        return self._computed(features_of)

    @cached_property
    def logits(self):
        return self.features.logits if self._featured else self._computed(lambda network, images: network(images))

    def _computed(self, function):
        if not self._frozen:
            return function(self._network, self._images)
        with torch.no_grad(), torch.autocast(self._images.device.type, enabled=False):
            return function(self._network, self._images)


class Step:
    """One batch on its way through a method.

    images, labels, indices: the main stream's batch; batches: {stream: Batch}, for methods with several streams.
    epoch: 0-dim tensor, counted from 1. student: the network in training, as `wrap` made it.
    logits (B, C), features: what the student says of `images`, computed once, when first asked for. A method that
    calls the student itself sets `logits`, from which the training accuracy is taken.
    teacher_logits (B, C), teacher_features: of the one teacher; teachers: {name: Answer} of all of them.
    """

    def __init__(self, student, batches, epoch, teachers=None, *, featured=False):
        self.student, self.batches, self.epoch = student, batches, epoch
        self.images, self.labels, self.indices, _ = batches["main"]
        self.teachers = teachers or {}
        self._answer = Answer(student, self.images, featured=featured)

    @classmethod
    def of_logits(cls, logits, labels, teacher_logits=None, *, epoch=1.0):
        """A step on logits at hand, to try a loss without networks: logits (B, C), labels (B,)."""
        images, indices = logits.new_empty(len(labels), 0), torch.arange(len(labels))
        teachers = {} if teacher_logits is None else {TEACHER: Answer.given(teacher_logits)}
        batches = {"main": Batch(images, labels, indices)}
        return cls(lambda _: logits, batches, torch.tensor(float(epoch)), teachers)

    @property
    def logits(self):
        return self._answer.logits

    @logits.setter
    def logits(self, value):
        self._answer.logits = value

    @property
    def features(self):
        return self._answer.features

    @property
    def teacher_logits(self):
        return self._teacher().logits

    @property
    def teacher_features(self):
        return self._teacher().features

    def _teacher(self):
        if TEACHER not in self.teachers:
            raise ConfigError("this step has no teacher; a method that wants one says needs = 'logits' or 'features'")
        return self.teachers[TEACHER]


TEACHER = "teacher"  # the name of the teacher where a method has one
NEEDS = ("nothing", "logits", "features")


@dataclass(frozen=True)
class TeacherSpec:
    """A teacher that is trained before the student, as a run of its own. classes: it learns these classes alone,
    numbered anew (None: all); batch: the size of its batches in those of the student; settings: fields of RunConfig in
    which its training differs from the student's."""

    classes: tuple[int, ...] | None = None
    batch: float = 1.0
    settings: dict = field(default_factory=dict)


class Scan:
    """Images seen once, as they are: `scan(function)` applies it to all normalised images without gradients and
    returns the answers, (N, ...). labels (N,)."""

    def __init__(self, batches, labels):
        self._batches, self.labels = batches, labels

    @torch.no_grad()
    def __call__(self, function):
        return torch.cat([function(images) for images in self._batches()])


class Method(nn.Module):
    """What a student is trained to minimise.

    A subclass lists its hyper-parameters as class attributes of type Option, says in `needs` what it wants of the
    teacher ("nothing", "logits" or "features") and returns named terms, whose sum is the loss, from `forward(step)`.
    The first line of its docstring is its entry in the command line's help: what it is, and the paper. All else has
    a default. What it learns or counts is a parameter or a buffer, so that a stopped run goes on exactly. An option
    called `temperature` is also the one at which the records of a run split the teacher's divergence into its parts.
    """

    needs = "nothing"
    streams = {"main": "instance"}  # the batches of a step: {name: a key of SAMPLERS}
    parent = None  # the method that trains the student first, as a run of its own; this one goes on from its end
    settings = {}  # fields of RunConfig whose defaults are others for this method
    revision = 0  # raised when the numbers of a method change, so that older runs are not taken for its own

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if cls.needs not in NEEDS:
            raise unknown(f"needs of {cls.__name__}", cls.needs, NEEDS)
        for name, value in vars(cls).items():
            if isinstance(value, Option) and (name == "task" or hasattr(Method, name)):
                raise ConfigError(f"{cls.__name__} has an option {name!r}, which every method has already: rename it")

    def __init__(self, task, **options):
        super().__init__()
        for name, value in self.complete(options).items():
            setattr(self, name, value)
        self.task = task

    @classmethod
    def options(cls) -> dict[str, Option]:
        """The options of this method, and of the one before it: {name: Option}."""
        ours = [c for c in reversed(cls.__mro__) if not issubclass(nn.Module, c)]
        own = {k: v for c in ours for k, v in vars(c).items() if isinstance(v, Option)}
        return (cls.parent.options() if cls.parent else {}) | own

    @classmethod
    def complete(cls, options: dict[str, Any]) -> dict[str, Any]:
        """`options` with defaults filled in and every value checked. ConfigError for an unknown option, or for a value
        that is not allowed."""
        known = cls.options()
        for name in options:
            if name not in known:
                raise unknown(f"option of {cls.__name__}", name, known or ["(none)"])
        return {name: option.check(name, options.get(name, option.default)) for name, option in known.items()}

    @classmethod
    def without_defaults(cls, options: dict[str, Any]) -> dict[str, Any]:
        """Those of the options that differ from the defaults."""
        known = cls.options()
        return {name: value for name, value in options.items() if value != known[name].default}

    @classmethod
    def has_teacher(cls):
        """Whether a teacher has a say, here or in the training before."""
        return cls.needs != "nothing" or (cls.parent is not None and cls.parent.has_teacher())

    def schedule(self, schedule):
        """The Schedule of this method's training, from the config's."""
        return schedule

    @classmethod
    def teachers(cls, class_counts=None) -> dict[str, TeacherSpec]:
        """The teachers that are trained first: {name: TeacherSpec}.

        class_counts: training images of each class, (C,); None where the data are not known yet: teachers that depend
        on them are left out then.
        """
        return {} if cls.needs == "nothing" else {TEACHER: TeacherSpec()}

    def wrap(self, student):
        """The network that is trained, tested and stored, made of the student (which may be changed)."""
        return student

    def connect(self, student, teachers):
        """Make what depends on the shapes of both, such as adapters. teachers: {name: network}."""

    def parameter_groups(self, student):
        """What is trained: [{"params": ..., "lr_scale": 1.0, "weight_decay": ...}], the last two optional. A
        parameter of the student in no group is frozen."""
        return [{"params": [*student.parameters(), *self.parameters()]}]

    def set_mode(self, student):
        """Set the student to training, but for its frozen parts, whose BatchNorm keeps the statistics it has."""
        student.train()
        for module in student.modules():
            parameters = [*module.parameters()]
            if parameters and not any(p.requires_grad for p in parameters):
                module.eval()

    def begin(self, student, teachers, training, held_out):
        """Called before the first step, and before a stored state is loaded. training, held_out: Scan of the images
        to learn from, and of those kept from training (None without any)."""

    def end_epoch(self, student, held_out):
        """Called after every epoch but the last."""

    def forward(self, step):
        """The loss as named terms: Step -> {name: 0-dim tensor}."""
        raise NotImplementedError

    @torch.no_grad()
    def probe(self, network) -> FeatureOutput:
        """What a network says of two black images: the shapes of its features."""
        weight = next(network.parameters())
        training = network.training
        output = features_of(network.eval(), torch.zeros(2, *self.task.image_shape, device=weight.device))
        network.train(training)
        return output


def check_terms(method, terms):
    """Raise ConfigError unless `terms` is what a method has to return: {name: 0-dim tensor}."""
    if isinstance(terms, dict) and terms and all(isinstance(t, Tensor) and t.shape == () for t in terms.values()):
        return
    found = (
        {name: tuple(t.shape) if isinstance(t, Tensor) else t for name, t in terms.items()}
        if (isinstance(terms, dict))
        else type(terms).__name__
    )
    raise ConfigError(
        f"forward of {type(method).__name__} returned {found}: it must return a dict of named terms, each a tensor of "
        f"one number, whose sum is the loss, such as {{'ce': loss}}"
    )
