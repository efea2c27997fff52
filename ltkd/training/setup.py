"""What `fit` trains with: the data, networks, method and optimizer of one config, on their device."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from .. import datasets, models
from .._support import distributed
from .._support.seeding import derived_seed, own_randomness
from ..config import CUSTOM, DataConfig, OptimizationConfig, RunConfig
from ..config.schedule import Schedule
from ..datasets import ImageFiles, ImageSet, LongTailedDataset
from ..datasets.normalization import NORMALIZATIONS, Normalizer
from ..errors import ConfigError
from ..groups import ClassGroups
from ..methods import Answer, Method, Scan, Step, Task, method_class
from ..runs import Run
from . import malloc
from .deadline import Deadline
from .history import EpochRecord
from .loaders import DeviceLoader, StreamingLoader, batch_sizes, make_loader
from .sampling import hold_out
from .teacher_cache import TeacherCache, cache_teachers

SAMPLED_IMAGES = 2000  # of those on disk, to compute a normalisation from

Loader = DeviceLoader | StreamingLoader


@dataclass
class Job:
    """Everything that the training of one run needs, on its device.

    student: the network that is trained; teachers: {name: frozen network}; teacher_cache: their stored logits;
    training, test: loaders of the two halves; held_out: the images kept from training (None without any);
    class_counts: training images of each class, (C,); groups: the class groups of the method; record: the sums of the
    current epoch; loss_terms: Step -> {name: 0-dim tensor}, whose gradients are averaged where several processes train
    the run; compiled: the mode of torch.compile, None without it; before: {role: name} of the runs that were trained
    first.
    """

    config: RunConfig
    device: torch.device
    student: nn.Module
    teachers: dict[str, nn.Module]
    teacher_cache: TeacherCache
    method: Method
    schedule: Schedule
    optimizer: torch.optim.Optimizer
    loss_terms: nn.Module
    normalize: Normalizer
    training: Loader
    held_out: Scan | None
    test: Loader
    class_counts: np.ndarray
    groups: ClassGroups
    record: EpochRecord
    deadline: Deadline
    compiled: str | None
    before: dict[str, str]

    def state(self) -> dict[str, Any]:
        """All that changes during training."""
        return {part: getattr(self, part).state_dict() for part in ("student", "method", "optimizer")}

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        for part in ("student", "method", "optimizer"):
            getattr(self, part).load_state_dict(state[part])

    def begin_epoch(self, lr: float) -> None:
        """Set the learning rate, empty the record, and set the layers to training."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["lr_scale"]
        self.record.clear()
        self.method.set_mode(self.student)

    def autocast(self) -> torch.autocast:
        """The precision of the student's forward pass, whatever autocast the caller is in."""
        half = self.config.precision == "bf16"
        # Autocast's cache of cast weights is emptied by the outermost context alone: after a step it would be old.
        return torch.autocast(self.device.type, torch.bfloat16, enabled=half, cache_enabled=False)

    def steps(self, epoch: int) -> Iterator[Step]:
        """The steps of an epoch, one a batch. Before the first, the teachers compute what their cache lacks."""
        draws = {
            stream: self.training.draw(sampler, self._seed(epoch, stream))
            for stream, sampler in self.method.streams.items()
        }
        batch_size, number = self.config.batch_size, torch.tensor(float(epoch), device=self.device)
        for name, table in self.teacher_cache.tables.items():
            table.fill(self.teachers[name], self.training.make, *draws["main"].shown(batch_size), self.deadline)
        streams = [self.training.batches(draw, batch_size) for draw in draws.values()]
        for batches in self.deadline.watch(zip(*streams, strict=True)):
            if self.compiled:
                torch.compiler.cudagraph_mark_step_begin()
            batch = dict(zip(draws, batches, strict=True))
            yield Step(self.student, batch, number, self._answers(batch["main"]), featured=self._featured)

    def _seed(self, epoch, stream):
        return self.config.derived_seed("epoch", epoch, *(() if stream == "main" else (stream,)))

    @property
    def _featured(self):
        return self.method.needs == "features"

    def _answers(self, batch):
        how = {"featured": self._featured, "frozen": True}
        answers = {name: Answer(each, batch.images, **how) for name, each in self.teachers.items()}
        for name, table in self.teacher_cache.tables.items():
            answers[name] = Answer.given(table.logits(batch.indices, batch.views))
        return answers


def prepare(
    config: RunConfig,
    data: LongTailedDataset,
    device: torch.device,
    *,
    before: Mapping[str, Run] | None = None,
    teacher: nn.Module | None = None,
    student: nn.Module | None = None,
    workers: int | None = None,
    cache: str = "auto",
    compile: bool = False,
    deadline: Deadline | None = None,
) -> Job:
    """The Job of a config.

    before: {role: finished run} of what the config builds on; teacher, student: the caller's own modules; all else as
    in `fit`.
    """
    if device.type == "cpu":
        malloc.keep_freed_memory()
    normalize = _normalizer(config.data.normalization, data)
    loader = partial(make_loader, normalize=normalize, device=device, workers=workers)
    learned, held = _hold_out(config.data, data)
    training, test = loader(learned, config.data.augmentation), loader(data.test, "none")
    held_out = loader(held, "none") if held else None
    method, schedule = _method(config, data, len(training), device)
    images = next(test.plain(2))
    # The order matters: all draw from one generator; a method connects the network that it has wrapped, by layers that
    # must be on the device when it begins; and the optimizer trains what all of them have made.
    with own_randomness(device, config.derived_seed("method")):
        network = _network(config, data, method, images, student, before or {})
        teachers = _teachers(config, data, method, images, teacher, before or {})
        method.connect(network, teachers)
        method.to(device)
        teacher_cache = cache_teachers(teachers if method.needs == "logits" else {}, training, cache)
        scans = [Scan(each.plain, each.labels) if each else None for each in (training, held_out)]
        method.begin(network.eval(), teachers, *scans)
    loss_terms, compiled = _compiled(distributed.synchronised(network, method, device), device, compile)
    return Job(
        config=config,
        device=device,
        student=network,
        teachers=teachers,
        teacher_cache=teacher_cache,
        method=method,
        schedule=schedule,
        optimizer=make_optimizer(config.optimization, network, method.parameter_groups(network)),
        loss_terms=loss_terms,
        normalize=normalize,
        training=training,
        held_out=scans[1],
        test=test,
        class_counts=data.class_counts.cpu().numpy(),
        groups=method.task.groups,
        record=_record(config, method, data.class_counts, len(training), device),
        deadline=deadline or Deadline(),
        compiled=compiled,
        before={role: run.config.name for role, run in (before or {}).items()},
    )


def _compiled(loss_terms, device, wanted):
    """The method, and with it the student's forward pass, through torch.compile if wanted; the mode of that."""
    if not wanted:
        return loss_terms, None
    if distributed.world_size() > 1:
        raise ConfigError("compile = True works in one process; leave it out, or train without torchrun")
    mode = "reduce-overhead" if device.type == "cuda" else "default"
    try:
        torch.compile(torch.relu)(torch.ones(2, device=device))
    except Exception as error:  # such as a machine without a C++ compiler
        why = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"compile = True: torch.compile does not work on this machine ({why}); leave it out"
        ) from error
    return torch.compile(loss_terms, mode=mode), mode


def _record(config, method, class_counts, train_images, device):
    batches = len(batch_sizes(train_images, config.batch_size, least=2 * distributed.world_size()))
    temperature = getattr(method, "temperature", 1.0)
    return EpochRecord(class_counts.cpu().numpy(), method.task.groups, temperature, batches, device)


def load_dataset(
    config: DataConfig, data_root: str | Path | None = None, dataset: LongTailedDataset | None = None
) -> LongTailedDataset:
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


def shape_of(data: LongTailedDataset) -> dict[str, int]:
    """What a network must know of a data set: {"num_classes", "in_channels", "image_size"}."""
    return {"num_classes": data.num_classes, "in_channels": data.in_channels, "image_size": data.image_size}


def _normalizer(name, data):
    """The normalisation called `name`; 'data' is computed from the training images, or from some of those on disk.

    An expert on some classes uses all classes, like the student whose images it sees later."""
    if NORMALIZATIONS[name] is not None:
        return Normalizer(*NORMALIZATIONS[name])
    train = data.whole or data.train
    return Normalizer.of(train.sample(SAMPLED_IMAGES) if train.streamed else train.images)


def _method(config, data, train_images, device):
    """The method and the Schedule of its own training."""
    task = Task.of(shape_of(data), data.class_counts, config.n_groups, config.epochs, train_images)
    task = task._replace(class_counts=task.class_counts.to(device), groups=task.groups.to(device))
    method = method_class(config.method)(task, **config.options)
    schedule = method.schedule(config.schedule())
    method.task = task._replace(epochs=schedule.epochs)
    return method, schedule


def _network(config, data, method, images, student, before):
    """The network to train: the student, after the stage before it if there is one, as the method wraps it."""
    network = _student(config, data, student, images)
    if "parent" in before:
        network = before["parent"].model(network)
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


def _teachers(config, data, method, images, teacher, before):
    """The frozen teachers of a method: {name: network in evaluation mode}."""
    specs = method.teachers(data.class_counts)
    if teacher is not None and len(specs) > 1:
        raise ConfigError(
            f"method {config.method!r} trains its own teachers ({', '.join(specs)}), but one was given; leave teacher= "
            f"out"
        )
    teachers = {}
    for name, spec in specs.items():
        network = copy.deepcopy(teacher) if teacher is not None else before[name].model()
        network = network.to(images.device, memory_format=torch.channels_last).eval().requires_grad_(False)
        num_classes = data.num_classes if spec.classes is None else len(spec.classes)
        _check_network(network, name, config.teacher, images, num_classes)
        teachers[name] = network
    return teachers


def make_optimizer(
    config: OptimizationConfig, student: nn.Module, groups: list[dict[str, Any]]
) -> torch.optim.Optimizer:
    """The optimizer of the parameter groups of a method; parameters of the student in no group are frozen."""
    groups = [{"lr_scale": 1.0} | group for group in groups]
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


def _hold_out(config: DataConfig, data) -> tuple[ImageSet | ImageFiles, ImageSet | ImageFiles | None]:
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
