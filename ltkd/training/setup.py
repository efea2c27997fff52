"""What a run's training needs, put together from its config: data, networks, method and optimizer on their device."""

import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import torch
from torch import nn

from .. import datasets, models
from .._support import distributed
from .._support.seeding import derived_seed, own_randomness
from ..config import CUSTOM
from ..config.schedule import Schedule
from ..datasets.normalization import NORMALIZATIONS, Normalizer
from ..errors import ConfigError
from ..methods import Answer, Scan, Step, Task, method_class
from . import malloc, stepping
from .history import EpochRecord
from .loaders import HeldFeed, StreamedFeed, batch_sizes, feed
from .sampling import hold_out
from .teacher_cache import Memory, remember

SAMPLED_IMAGES = 2000  # of those on disk, to compute a normalisation from


class Inputs(NamedTuple):
    """What a step begins with. epoch: 0-dim tensor, counted from 1; streams: what each one shows, as the
    feed's `parts` has it."""

    epoch: torch.Tensor
    streams: dict

    @property
    def size(self):
        """Images of the main stream."""
        return len(self.streams["main"].indices)


@dataclass
class Job:
    """Everything that one run's training needs, on its device. terms(step): the method's, with gradients that are
    averaged where several processes train the run; record: of the epoch that is being trained; stepper: takes the steps
    (see stepping.py)."""

    config: object
    device: torch.device
    student: nn.Module
    teachers: dict[str, nn.Module]
    memory: Memory
    method: nn.Module
    schedule: Schedule
    optimizer: torch.optim.Optimizer
    terms: nn.Module
    normalize: Normalizer
    training: HeldFeed | StreamedFeed
    held_out: Scan | None
    test: HeldFeed | StreamedFeed
    class_counts: object
    groups: object
    record: EpochRecord
    stepper: object

    def state(self):
        """All that changes during training."""
        return {part: getattr(self, part).state_dict() for part in ("student", "method", "optimizer")}

    def load(self, state):
        """Go on from a state."""
        for part in ("student", "method", "optimizer"):
            getattr(self, part).load_state_dict(state[part])

    def set_rate(self, lr):
        """The learning rate of an epoch, as numbers: a state that was stored may hold what a Stepper made of them."""
        for group in self.optimizer.param_groups:
            group |= {"lr": lr * group["lr_scale"], "fused": None}

    def inputs(self, epoch):
        """What each step of an epoch begins with; before the first, its teachers are asked what they do not
        remember."""
        drawn = {
            name: self.training.draw(sampler, self._seed(epoch, name)) for name, sampler in self.method.streams.items()
        }
        if self.memory.tables:
            parts = drawn["main"].batches(self.config.batch_size)
            indices, views = (torch.cat([getattr(part, name) for part in parts]) for name in ("indices", "views"))
            for name, table in self.memory.tables.items():
                table.fill(self.teachers[name], self.training.make, indices, views)
        epoch = torch.tensor(float(epoch), device=self.device)
        streams = [self.training.parts(each, self.config.batch_size) for each in drawn.values()]
        for parts in zip(*streams, strict=True):
            yield Inputs(epoch, dict(zip(drawn, parts, strict=True)))

    def step(self, inputs):
        """The Step that begins with these inputs, its images made on the device."""
        batches = {name: self.training.batch(part) for name, part in inputs.streams.items()}
        return Step(self.student, batches, inputs.epoch, self._answers(batches["main"]), featured=self._featured)

    def steps(self, epoch):
        """The steps of an epoch, one a batch."""
        return map(self.step, self.inputs(epoch))

    def _seed(self, epoch, stream):
        return self.config.derived_seed("epoch", epoch, *(() if stream == "main" else (stream,)))

    @property
    def _featured(self):
        return self.method.needs == "features"

    def _answers(self, batch):
        answers = {name: Answer(each, batch.images, featured=self._featured) for name, each in self.teachers.items()}
        for name, table in self.memory.tables.items():
            answers[name] = Answer.given(table.logits(batch.indices, batch.views))
        return answers


def _normalizer(name, data):
    """The normalisation called `name`; 'data' is computed from the training images, or from some of those on disk. Of
    all classes: what experts learned of some is asked about the images of a student of all."""
    if NORMALIZATIONS[name] is not None:
        return Normalizer(*NORMALIZATIONS[name])
    train = data.whole or data.train
    return Normalizer.of(train.sample(SAMPLED_IMAGES) if train.streamed else train.images)


def prepare(
    config, data, device, *, teacher=None, student=None, train_first=None, workers=None, cache="auto", step="auto"
):
    """The Job of a config. teacher, student: modules of the caller's; train_first(config, **objects): the finished run
    of a config that this one builds on: the training before it, or a teacher; workers: see `feed`; cache: see
    `remember`; step: see `stepping`."""
    if device.type == "cpu":
        malloc.keep_freed_memory()
    normalize = _normalizer(config.normalization, data)
    training, held_out, test = _feeds(config, data, normalize, device, workers)
    stepper = stepping.stepper(step, training, device)
    method, schedule = _method(config, data, len(training), device)
    images = next(test.plain(2))
    # The order matters: all draw from one generator; a method connects the network that it has wrapped, by layers that
    # must be on the device when it begins; and the optimizer trains what all of them have made.
    with own_randomness(device, config.derived_seed("method")):
        network = _network(config, data, method, images, teacher, student, train_first)
        teachers = _teachers(config, data, method, images, teacher, train_first)
        method.connect(network, teachers)
        method.to(device)
        memory = remember(teachers if method.needs == "logits" else {}, training, cache)
        scans = [Scan(each.plain, each.labels) if each else None for each in (training, held_out)]
        method.begin(network.eval(), teachers, *scans)
    optimizer = _optimizer(config, method, network)
    return Job(
        config=config,
        device=device,
        student=network,
        teachers=teachers,
        memory=memory,
        method=method,
        schedule=schedule,
        optimizer=optimizer,
        terms=distributed.synchronised(network, method, device),
        normalize=normalize,
        training=training,
        held_out=scans[1],
        test=test,
        class_counts=data.class_counts.cpu().numpy(),
        groups=method.task.groups,
        record=_record(config, method, data.class_counts, len(training), device),
        stepper=stepper,
    )


def _record(config, method, class_counts, train_images, device):
    batches = len(batch_sizes(train_images, config.batch_size, least=2 * distributed.world_size()))
    temperature = getattr(method, "temperature", 1.0)
    return EpochRecord(class_counts.cpu().numpy(), method.task.groups, temperature, batches, device)


def load_dataset(config, data_root=None, dataset=None):
    """The long-tailed data set of a config; dataset: the object, where the caller handed it over."""
    if dataset is None and config.dataset.startswith(CUSTOM):
        raise ConfigError(f"the data set {config.dataset} was handed over as an object: pass it again as dataset=")
    dataset = dataset or datasets.load(
        config.dataset,
        imbalance_factor=config.imbalance_factor,
        profile=config.profile,
        root=data_root,
        image_size=config.image_size,
        seed=config.subset_seed,
    )
    return dataset if config.classes is None else _only(dataset, config.classes)


def shape_of(data):
    """What a network must know of a data set."""
    return {"num_classes": data.num_classes, "in_channels": data.in_channels, "image_size": data.image_size}


def _method(config, data, train_images, device):
    """The method and the Schedule of its own training."""
    task = Task.of(shape_of(data), data.class_counts, config.n_groups, config.epochs, train_images)
    task = task._replace(class_counts=task.class_counts.to(device), groups=task.groups.to(device))
    method = method_class(config.method)(task, **config.options)
    schedule = method.schedule(config.schedule())
    method.task = task._replace(epochs=schedule.epochs)
    return method, schedule


def _feeds(config, data, normalize, device, workers):
    """The feeds of the images to learn from, of those held out (None without any) and of the test images."""
    learn, held_out = _hold_out(config, data)
    of = partial(feed, normalize=normalize, device=device, workers=workers)
    return of(learn, config.augmentation), of(held_out, "none") if held_out else None, of(data.test, "none")


def _network(config, data, method, images, teacher, student, train_first):
    """The network to be trained: the student, as the method before it leaves it, and as the method wraps it."""
    network = _student(config, data, student, images)
    if method.parent is not None:
        own = {"student": student, "teacher": teacher if method.parent.has_teacher() else None}
        network = train_first(config.for_parent(), **own).model(network)
    network = method.wrap(network).to(images.device, memory_format=torch.channels_last)
    if distributed.world_size() > 1 and images.is_cuda:  # on a CPU each process normalises by its own images
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    return network


def _student(config, data, student, images):
    """The student: new, or a copy of the caller's."""
    if student is None:
        # The seed alone draws the weights, so that students of different methods start alike and compare in pairs.
        generator = torch.Generator().manual_seed(config.derived_seed("weights"))
        student = models.build(config.student, **shape_of(data), generator=generator)
    else:
        student = copy.deepcopy(student)
    student = student.to(images.device, memory_format=torch.channels_last)
    _check_network(student, "student", config.student, images, data.num_classes)
    return student


def _teachers(config, data, method, images, teacher, train_first):
    """The frozen teachers of a method: {name: network in evaluation mode}."""
    specs = method.teachers()
    if teacher is not None and len(specs) > 1:
        raise ConfigError(
            f"method {config.method!r} trains its own teachers ({', '.join(specs)}), but one was given; leave teacher= "
            f"out"
        )
    teachers = {}
    for name, spec in specs.items():
        network = copy.deepcopy(teacher) if teacher is not None else train_first(config.for_teacher(spec)).model()
        network = network.to(images.device, memory_format=torch.channels_last).eval().requires_grad_(False)
        num_classes = data.num_classes if spec.classes is None else len(spec.classes)
        _check_network(network, name, config.teacher, images, num_classes)
        teachers[name] = network
    return teachers


def _optimizer(config, method, student):
    groups = [{"lr_scale": 1.0} | group for group in method.parameter_groups(student)]
    trained = {id(p) for group in groups for p in group["params"]}
    for parameter in student.parameters():
        parameter.requires_grad_(id(parameter) in trained)
    return torch.optim.SGD(
        groups,
        lr=config.lr,
        momentum=config.momentum,
        nesterov=config.nesterov,
        weight_decay=config.weight_decay,
    )


def _hold_out(config, data):
    """The training images, and those of them that are kept from training (None without any)."""
    if not config.held_out:
        return data.train, None
    seeds = [derived_seed(config.subset_seed, "held out", c) for c in config.classes or range(data.num_classes)]
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    kept, held = hold_out(data.train.labels, config.held_out, generators)
    return data.train.subset(kept), data.train.subset(held)


def _only(dataset, classes):
    """The data set's images of these classes, numbered anew in this order."""
    if max(classes) >= dataset.num_classes:
        raise ConfigError(f"classes names class {max(classes)}, but {dataset.name} has {dataset.num_classes} classes")
    numbers = torch.full((dataset.num_classes,), -1)
    numbers[list(classes)] = torch.arange(len(classes))
    halves = {}
    for half in ("train", "test"):
        images = getattr(dataset, half)
        chosen = images.subset((numbers[images.labels] >= 0).nonzero().squeeze(1))
        halves[half] = replace(chosen, labels=numbers[chosen.labels])
    names = tuple(dataset.class_names[c] for c in classes)
    return replace(dataset, **halves, class_names=names, whole=dataset.train)


@torch.no_grad()
def _check_network(network, role, name, images, num_classes):
    """Raise unless the network takes the images and answers with one logit a class."""
    training = network.training
    try:
        logits = network.eval()(images)
    except Exception as error:  # the caller's own module may raise anything
        raise ConfigError(f"the {role} {name} does not take images of shape {tuple(images.shape)}: {error}") from error
    network.train(training)
    answer = tuple(logits.shape) if torch.is_tensor(logits) else type(logits).__name__
    if answer != (len(images), num_classes):
        raise ConfigError(
            f"the {role} {name} answers to {len(images)} images with {answer}, but the data have {num_classes} "
            f"classes: needed are logits of shape {(len(images), num_classes)}"
        )
