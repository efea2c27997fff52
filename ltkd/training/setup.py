"""The set-up of a run: the data, networks, method and optimizer of a config, on their device."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import datasets, models
from .._support import distributed
from .._support.seeding import derived_seed, own_randomness
from ..config import CUSTOM, DataConfig, OptimizationConfig, RunConfig
from ..config.schedule import Schedule
from ..datasets import ImageFiles, ImageSet, LongTailedDataset
from ..datasets.normalization import NORMALIZATIONS, Normalizer
from ..errors import ConfigError
from ..groups import ClassGroups
from ..methods import Answer, Batch, Method, Scan, Step, Task, method_class
from ..models import Teacher
from ..runs import Run
from . import malloc
from .deadline import Deadline
from .history import EpochRecord
from .loaders import DeviceLoader, StreamingLoader, batch_sizes, make_loader
from .network_check import check_network, teacher_called
from .sampling import hold_out
from .teacher_cache import TeacherCache, cache_teachers
from .teacher_check import scored

SAMPLED_IMAGES = 2000  # images on disk from which a normalisation is computed

Loader = DeviceLoader | StreamingLoader
Images = ImageSet | ImageFiles


@dataclass
class Job:
    """All that the training of a run needs, on its device.

    student: the network that is trained. teachers: {name: frozen network}. teacher_cache: their stored logits.
    loss_terms: Step -> {name: 0-dim tensor}; with several processes, their gradients are averaged. training, test:
    loaders of the two halves. held_out: training images that are not trained on (None without any). class_counts: (C,),
    training images of each class. groups: the class groups of the method. record: the sums of the current epoch.
    compiled: the mode of torch.compile, None without it. modes: the modes since the first epoch, before a resume too.
    before: {role: name} of the runs that were trained first. teacher_scores: see `teacher_check.scored`.
    in_evaluation: layers that the caller set to evaluation mode.
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
    modes: list[str | None]
    before: dict[str, str]
    teacher_scores: dict[str, dict[str, Any]]
    in_evaluation: list[nn.Module]

    def state(self) -> dict[str, Any]:
        """The state of student, method and optimizer, for a checkpoint."""
        state = {part: getattr(self, part).state_dict() for part in ("student", "method", "optimizer")}
        return state | {"compiled": self.modes}

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        for part in ("student", "method", "optimizer"):
            getattr(self, part).load_state_dict(state[part])
        self.modes = list(dict.fromkeys([*state.get("compiled", [None]), self.compiled]))

    def begin_epoch(self, lr: float) -> None:
        """Set the learning rate, clear the record, and put the layers in training mode."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["lr_scale"]
        self.record.clear()
        self.method.set_mode(self.student)
        for layer in self.in_evaluation:
            layer.training = False

    def autocast(self) -> torch.autocast:
        """The precision of the student's forward pass, independent of the caller's autocast."""
        half = self.config.precision == "bf16"
        # Only the outermost autocast clears the cache of cast weights, so that it would be out of date after a step.
        return torch.autocast(self.device.type, torch.bfloat16, enabled=half, cache_enabled=False)

    def steps(self, epoch: int) -> Iterator[Step]:
        """The steps of an epoch, one for each batch. First, the teachers compute the logits missing in their cache."""
        draws = {
            stream: self.training.draw(sampler, self._seed(epoch, stream))
            for stream, sampler in self.method.streams.items()
        }
        batch_size, number = self.config.batch_size, torch.tensor(float(epoch), device=self.device)
        for name, table in self.teacher_cache.tables.items():
            assert isinstance(self.training, DeviceLoader)  # images on disk have no cache
            shown, called = draws["main"].shown(batch_size), teacher_called(name, self.config.teacher)
            table.fill(self.teachers[name], self.training.make, *shown, self.deadline, called)
        streams = [self.training.batches(draw, batch_size) for draw in draws.values()]
        for batches in self.deadline.watch(zip(*streams, strict=True)):
            if self.compiled:
                torch.compiler.cudagraph_mark_step_begin()
            batch = dict(zip(draws, batches, strict=True))
            yield Step(self.student, batch, number, self._teacher_outputs(batch["main"]), featured=self._featured)

    def _seed(self, epoch: int, stream: str) -> int:
        return self.config.derived_seed("epoch", epoch, *(() if stream == "main" else (stream,)))

    @property
    def _featured(self) -> bool:
        return self.method.needs == "features"

    def _teacher_outputs(self, batch: Batch) -> dict[str, Answer]:
        outputs = {name: Answer(each, batch.images, featured=self._featured) for name, each in self.teachers.items()}
        for name, table in self.teacher_cache.tables.items():
            assert batch.views is not None
            outputs[name] = Answer.given(table.logits(batch.indices, batch.views))
        return outputs


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

    before: {role: finished run}, the runs that the config builds on. teacher, student: the caller's own modules. The
    other arguments are those of `fit`. Raises ConfigError for settings or modules that do not fit the data.
    """
    if device.type == "cpu":
        malloc.keep_freed_memory()
    normalize = _normalizer(config.data.normalization, data)
    loader = partial(make_loader, normalize=normalize, device=device, workers=workers)
    learned, kept_back = _hold_out(config.data, data)
    training, test = loader(learned, config.data.augmentation), loader(data.test, "none")
    held_out = loader(kept_back, "none") if kept_back else None
    method, schedule = _method(config, data, len(training), device)
    images = next(test.plain(2))
    # The order matters: all steps draw from one generator, `connect` needs the network that `wrap` returned, `begin`
    # needs all layers on the device, and the optimizer needs the parameters of all of them.
    with own_randomness(device, config.derived_seed("method")):
        network = _network(config, data, method, images, student, before or {})
        in_evaluation = [layer for layer in network.modules() if not layer.training]
        teachers = _teachers(config, data, method, images, teacher, before or {})
        method.connect(network, teachers)
        method.to(device)
        teacher_cache = cache_teachers(teachers if method.needs == "logits" else {}, training, cache)
        held = Scan(held_out.plain, held_out.labels) if held_out else None
        method.begin(network.eval(), teachers, Scan(training.plain, training.labels), held)
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
        held_out=held,
        test=test,
        class_counts=data.class_counts.cpu().numpy(),
        groups=method.task.groups,
        record=_record(config, method, data.class_counts, len(training), device),
        deadline=deadline or Deadline(),
        compiled=compiled,
        modes=[compiled],
        before={role: run.config.name for role, run in (before or {}).items()},
        teacher_scores=scored(teachers, before or {}, data, partial(loader, augmentation="none"), config.teacher),
        in_evaluation=in_evaluation,
    )


def _compiled(loss_terms: nn.Module, device: torch.device, wanted: bool) -> tuple[nn.Module, str | None]:
    """The method with the student's forward pass, through torch.compile if wanted; and the mode of torch.compile."""
    if not wanted:
        return loss_terms, None
    if distributed.world_size() > 1:
        raise ConfigError("compile = True works in one process only; remove it, or train without torchrun")
    mode = "reduce-overhead" if device.type == "cuda" else "default"
    torch.compiler.reset()  # else the runs of a process share a limit of recompilations, and later ones stay eager
    try:
        torch.compile(torch.relu)(torch.ones(2, device=device))
    except Exception as error:  # such as a machine without a C++ compiler
        why = str(error).strip().splitlines()[0]
        raise ConfigError(f"compile = True: torch.compile does not work on this machine ({why}); remove it") from error
    compiled: Any = torch.compile(loss_terms, mode=mode)
    return compiled, mode


def _record(
    config: RunConfig, method: Method, class_counts: Tensor, train_images: int, device: torch.device
) -> EpochRecord:
    batches = len(batch_sizes(train_images, config.batch_size, least=2 * distributed.world_size()))
    temperature = getattr(method, "temperature", 1.0)
    return EpochRecord(class_counts.cpu().numpy(), method.task.groups, temperature, batches, device, config.teacher)


def load_dataset(
    config: DataConfig, data_root: str | Path | None = None, dataset: LongTailedDataset | None = None
) -> LongTailedDataset:
    """The long-tailed data set of a config.

    data_root: the folder of the data sets, as in `fit`. dataset: the caller's own data set, used instead. Raises
    ConfigError for settings that do not fit the data, DataError for data that are missing or damaged.
    """
    if dataset is None and config.dataset.startswith(CUSTOM):
        raise ConfigError(f"the data set {config.dataset} is an object of your own: pass it again as dataset=")
    if dataset is not None:
        dataset = datasets.checked(dataset)
    else:
        dataset = datasets.load(
            config.dataset,
            imbalance_factor=config.imbalance_factor,
            profile=config.profile,
            root=data_root,
            image_size=config.image_size,
            seed=config.subset_seed,
        )
    return dataset if config.classes is None else _only(dataset, config.classes)


def shape_of(data: LongTailedDataset) -> dict[str, Any]:
    """The arguments of `models.build` that depend on the data: {"num_classes", "in_channels", "image_size"}."""
    return {"num_classes": data.num_classes, "in_channels": data.in_channels, "image_size": data.image_size}


def _normalizer(name: str, data: LongTailedDataset) -> Normalizer:
    """The normalisation called `name`; 'data' is computed from the training images, or from a sample of those on disk.

    An expert on some classes uses all classes: it sees the normalised images of its student later.
    """
    if (published := NORMALIZATIONS[name]) is not None:
        return Normalizer(*published)
    train = data.whole or data.train
    return Normalizer.of(train.sample(SAMPLED_IMAGES) if isinstance(train, ImageFiles) else train.images)


def _method(
    config: RunConfig, data: LongTailedDataset, train_images: int, device: torch.device
) -> tuple[Method, Schedule]:
    """The method and the Schedule of its own training."""
    task = Task.of(shape_of(data), data.class_counts, config.n_groups, config.epochs, train_images)
    task = task._replace(class_counts=task.class_counts.to(device, copy=True), groups=task.groups.to(device))
    method = method_class(config.method)(task, **config.options)
    schedule = method.schedule(config.schedule())
    method.task = task._replace(epochs=schedule.epochs)
    return method, schedule


def _network(
    config: RunConfig,
    data: LongTailedDataset,
    method: Method,
    images: Tensor,
    student: nn.Module | None,
    before: Mapping[str, Run],
) -> nn.Module:
    """The network to train: the student, with the weights of the stage before it, wrapped by the method."""
    network = _student(config, data, student, images)
    if "parent" in before:
        network = before["parent"].trained(network)
    network = _on(images.device, method.wrap(network))
    if distributed.world_size() > 1 and images.is_cuda:  # on a CPU each process normalises by its own images
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    return network


def _student(config: RunConfig, data: LongTailedDataset, student: nn.Module | None, images: Tensor) -> nn.Module:
    """The student: new, or a copy of the caller's. In training mode, but for layers that the caller set apart."""
    if student is None:
        # The weights depend on the seed only: students of different methods start equal and compare in pairs.
        generator = torch.Generator().manual_seed(config.derived_seed("weights"))
        student = models.build(config.student, **shape_of(data), generator=generator)
    else:
        student = models.copied(student)
        if not student.training:
            student.train()
    student = _on(images.device, student)
    check_network(student, f"student {config.student}", images, data.num_classes, trained=True)
    return student


def _teachers(
    config: RunConfig,
    data: LongTailedDataset,
    method: Method,
    images: Tensor,
    teacher: nn.Module | None,
    before: Mapping[str, Run],
) -> dict[str, nn.Module]:
    """The frozen teachers of a method: {name: network in evaluation mode}."""
    specs = method.teachers(data.class_counts)
    if teacher is not None and len(specs) > 1:
        raise ConfigError(
            f"method {config.method!r} trains its own teachers ({', '.join(specs)}), but one was given; remove teacher="
        )
    teachers = {}
    for name, spec in specs.items():
        network = models.copied(teacher) if teacher is not None else before[name].model()
        if isinstance(network, Teacher):
            network = network.in_order_of(data.class_names)
        network = _on(images.device, network).eval().requires_grad_(False)
        num_classes = data.num_classes if spec.classes is None else len(spec.classes)
        check_network(network, teacher_called(name, config.teacher), images, num_classes)
        teachers[name] = network
    return teachers


def _on(device: torch.device, network: nn.Module) -> nn.Module:
    return network.to(device).to(memory_format=torch.channels_last)


def make_optimizer(
    config: OptimizationConfig, student: nn.Module, groups: list[dict[str, Any]]
) -> torch.optim.Optimizer:
    """The optimizer of the parameter groups of a method. Parameters of the student in no group are frozen, and frozen
    ones stay so.

    groups: [{"params": [...], "lr_scale": 1.0, "weight_decay": ...}], the last two optional. Raises ConfigError if the
    student has nothing to train.
    """
    groups = [
        {"lr_scale": 1.0} | group | {"params": [p for p in group["params"] if p.requires_grad]} for group in groups
    ]
    trained = {id(p) for group in groups for p in group["params"]}
    for parameter in student.parameters():
        parameter.requires_grad_(id(parameter) in trained)
    if not any(parameter.requires_grad for parameter in student.parameters()):
        raise ConfigError(
            "the student has nothing to train: all parameters that this method trains have requires_grad = False; set "
            "it to True for some layers"
        )
    return torch.optim.SGD(
        groups,
        lr=config.lr,
        momentum=config.momentum,
        nesterov=config.nesterov,
        weight_decay=config.weight_decay,
    )


def _hold_out(config: DataConfig, data: LongTailedDataset) -> tuple[Images, Images | None]:
    """The images to train on, and the training images that are held out (None without any)."""
    if not config.held_out:
        return data.train, None
    seeds = [derived_seed(config.subset_seed, "held out", c) for c in config.classes or range(data.num_classes)]
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    kept, held = hold_out(data.train.labels, config.held_out, generators)
    return data.train.subset(kept), data.train.subset(held)


def _only(dataset: LongTailedDataset, classes: Sequence[int]) -> LongTailedDataset:
    """The images of these classes, with the labels 0, 1, ... in this order."""
    if max(classes) >= dataset.num_classes:
        raise ConfigError(
            f"classes = {tuple(classes)}: must be at most {dataset.num_classes - 1}, the last class of {dataset.name}"
        )
    numbers = torch.full((dataset.num_classes,), -1)
    numbers[list(classes)] = torch.arange(len(classes))
    halves: dict[str, Any] = {}
    for half in ("train", "test"):
        images = getattr(dataset, half)
        chosen = images.subset((numbers[images.labels] >= 0).nonzero().squeeze(1))
        halves[half] = chosen.with_labels(numbers[chosen.labels])
    names = tuple(dataset.class_names[c] for c in classes)
    return replace(dataset, **halves, class_names=names, whole=dataset.train)
