"""Training: `fit` turns a RunConfig into a Run on disk, in one visible loop."""

import copy
import hashlib
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import nn

from . import datasets, evaluation, models
from .config import CUSTOM
from .errors import ConfigError, Interrupted
from .groups import ClassGroups
from .methods import Step, Task, method_class
from .normalization import Normalizer
from .provenance import commit, hardware
from .recording import EpochRecord, ProgressBar, prefixed
from .runs import Run, packed, predict

CHECKPOINT_SECONDS = 5  # a kill costs at most this much training, or one epoch where that is longer


def fit(
    config,
    *,
    teacher=None,
    student=None,
    dataset=None,
    runs=None,
    data_root=None,
    device="auto",
    progress=True,
    callbacks=(),
):
    """Train the run that `config` describes, or load it if it is finished, or go on where it stopped.

    A teacher that the method needs and nobody hands over is trained first, as a run of its own. teacher, student:
    modules of your own, `forward(images) -> logits (B, C)`, used in place of the named ones (the student is copied).
    dataset: a LongTailedDataset of your own. runs: the folder of all runs. data_root: where data are looked for.
    device: 'auto', 'cpu', 'cuda', 'cuda:1', ... progress: show bars. callbacks: called after every epoch as
    `callback(config, history)`, history being the list of rows so far.

    Returns the finished Run. Raises an LtkdError that says what is wrong; whatever was stored stays usable.
    """
    config = _with_objects(config, teacher, student, dataset)
    run = Run.open(config, runs)
    if run.finished:
        return run
    device = pick_device(device)
    data = load_dataset(config, data_root) if dataset is None else dataset
    if config.teacher is not None and teacher is None:
        where = {"runs": runs, "data_root": data_root, "device": device, "progress": progress, "callbacks": callbacks}
        teacher = fit(config.for_teacher(), dataset=dataset, **where).model()
    job = _prepare(config, data, teacher, student, device)
    run.start()
    history, seconds = _resume(run, job)
    state, stored_at, started = None, time.monotonic(), time.monotonic() - seconds
    bar = ProgressBar(config, len(data.train), len(history), progress)
    try:
        for epoch in range(len(history) + 1, config.epochs + 1):
            with own_randomness(job.device, derived_seed(config.seed, "layers", epoch)):
                row = train_epoch(job, epoch, bar)
            if tests_after(config, epoch):
                logits = test_logits(job)
                row |= prefixed("test_", evaluation.report(logits, job.test_labels, job.class_counts))
            history.append(row)
            bar.show(row)
            if epoch < config.epochs:
                state = packed(job.state() | {"history": history, "seconds": time.monotonic() - started})
                if time.monotonic() - stored_at >= CHECKPOINT_SECONDS:
                    run.save_checkpoint(state)
                    stored_at = time.monotonic()
            for callback in callbacks:
                callback(config, history)
    except KeyboardInterrupt:
        if state is not None:
            run.save_checkpoint(state)
        raise _interrupted(run, min(len(history) + 1, config.epochs)) from None
    finally:
        bar.close()
    _finish(run, job, data, history, logits, time.monotonic() - started)
    return run


def _finish(run, job, data, history, logits, seconds):
    result = _result(job, data, history, seconds)
    run.finish(job.student, logits, job.test_labels, job.class_counts, history, result)


def _interrupted(run, epoch):
    stored = f"the state after epoch {epoch - 1} is stored in {run.folder}" if epoch > 1 else "no epoch was stored yet"
    return Interrupted(
        f"stopped in epoch {epoch} of {run.config.epochs}; {stored}. Give the same command again to go on"
    )


def train_epoch(job, epoch, bar):
    """One pass over the training set; returns the epoch's row of the history."""
    config, images, labels = job.config, job.images, job.labels
    started, lr = time.monotonic(), learning_rate(config, epoch)
    for group in job.optimizer.param_groups:
        group["lr"] = lr
    generator = torch.Generator().manual_seed(derived_seed(config.seed, "epoch", epoch))
    order = torch.randperm(len(labels), generator=generator).to(job.device)
    views = job.views.draw(len(labels), generator).to(job.device)
    epoch_tensor = torch.tensor(float(epoch), device=job.device)
    record = EpochRecord(job)
    job.student.train()
    for batch, view in zip(order.split(config.batch_size), views.split(config.batch_size), strict=True):
        inputs = job.normalize(job.views.make(images[batch], view))
        with torch.no_grad():
            teacher_logits = None if job.teacher is None else job.teacher(inputs)
        step = Step(job.student(inputs), labels[batch], epoch_tensor, batch, teacher_logits)
        terms = job.method(step)
        job.optimizer.zero_grad()
        sum(terms.values()).backward()
        job.optimizer.step()
        record.add(step, terms)
        bar.update(len(batch))
    return {"epoch": epoch, "lr": lr, "seconds": time.monotonic() - started, **record.row(epoch)}


def test_logits(job):
    """The student's logits on the test set: float32 array (N, C)."""
    return predict(job.student, job.test_images, job.normalize)


def learning_rate(config, epoch):
    """The learning rate of an epoch, counted from 1: linear warm-up, then a fall after each milestone."""
    if epoch < (warmup := config.lr_warmup * config.epochs):
        return config.lr * epoch / warmup
    falls = sum(epoch > round(fraction * config.epochs, 6) for fraction in config.milestones)
    return config.lr * config.lr_decay**falls


def tests_after(config, epoch):
    """Whether the student is tested after this epoch: at times at first, always once the learning rate has fallen."""
    late = bool(config.milestones) and epoch > config.milestones[0] * config.epochs
    return late or epoch % config.test_every == 0 or epoch == config.epochs


def derived_seed(*parts):
    """A seed that depends on all parts and on nothing else."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:7])


@contextmanager
def own_randomness(device, seed):
    """Layers that draw for themselves, such as dropout, know only the global generator: lend them a seeded one, and
    give the caller's back untouched."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.random.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


def pick_device(name):
    """The torch.device called `name`; 'auto' is the first GPU, else the CPU. Raises ConfigError if it is not there."""
    try:
        device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        raise ConfigError(f"device {str(name)!r} is not there; this machine has {', '.join(['cpu', *gpus])}") from error
    return device


def load_dataset(config, data_root=None):
    """The long-tailed data set of a config."""
    if config.dataset.startswith(CUSTOM):
        raise ConfigError(f"the data set {config.dataset} was handed over as an object: pass it again as dataset=")
    return datasets.load(
        config.dataset,
        imbalance_factor=config.imbalance_factor,
        profile=config.profile,
        root=data_root,
        image_size=config.image_size,
        seed=config.data_seed,
    )


@dataclass
class _Job:
    """Everything that one run's training needs, on its device."""

    config: object
    device: torch.device
    student: nn.Module
    teacher: nn.Module | None
    method: nn.Module
    optimizer: torch.optim.Optimizer
    normalize: Normalizer
    views: datasets.Views
    images: torch.Tensor
    labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: object
    class_counts: object
    groups: ClassGroups

    def state(self):
        parts = ("student", "method", "optimizer")
        return {part: getattr(self, part).state_dict() for part in parts}

    def load(self, state):
        for part in ("student", "method", "optimizer"):
            getattr(self, part).load_state_dict(state[part])


def _prepare(config, data, teacher, student, device):
    if student is None:
        # The seed alone draws the weights, so that students of different methods start alike and compare in pairs.
        generator = torch.Generator().manual_seed(derived_seed(config.seed, "weights"))
        student = models.build(config.student, **_shape(data), generator=generator)
    else:
        student = copy.deepcopy(student)
    student = student.to(device, memory_format=torch.channels_last)
    if teacher is not None:
        teacher = copy.deepcopy(teacher).to(device, memory_format=torch.channels_last).eval().requires_grad_(False)
    n_groups = config.n_groups or min(3, data.num_classes)
    groups = ClassGroups.by_rank(data.class_counts, n_groups).to(device)
    task = Task(data.class_counts.to(device), groups, config.epochs)
    method = method_class(config.method)(task, **config.options).to(device)
    train, test = data.train.to(device), data.test.to(device)
    normalize = Normalizer.named(config.normalization, data.train.images)
    _check_network(student, "student", config.student, normalize(test.images[:2]), data.num_classes)
    if teacher is not None:
        _check_network(teacher, "teacher", config.teacher, normalize(test.images[:2]), data.num_classes)
    return _Job(
        config=config,
        device=device,
        student=student,
        teacher=teacher,
        method=method,
        optimizer=torch.optim.SGD(
            [*student.parameters(), *method.parameters()],
            lr=config.lr,
            momentum=config.momentum,
            nesterov=config.nesterov,
            weight_decay=config.weight_decay,
        ),
        normalize=normalize,
        views=datasets.views(config.augmentation),
        images=train.images,
        labels=train.labels,
        test_images=test.images,
        test_labels=data.test.labels.cpu().numpy(),
        class_counts=data.class_counts.cpu().numpy(),
        groups=groups,
    )


def _shape(data):
    return {"num_classes": data.num_classes, "in_channels": data.in_channels, "image_size": data.image_size}


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


def _resume(run, job):
    """Load what was stored; returns the history so far and the seconds it took."""
    state = run.load_checkpoint()
    if state is None:
        return [], 0.0
    job.load(state)
    return state["history"], state["seconds"]


def _result(job, data, history, seconds):
    tested = [row for row in history if row.get("test_all") is not None]
    best = max(tested, key=lambda row: row["test_all"])
    config = job.config
    return {
        "name": config.name,
        "last": _reported(history[-1]),
        "best": _reported(best),
        "tested_epochs": len(tested),
        "recipe": config.recipe,
        "overrides": config.overrides(),
        "assumptions": config.assumptions(),
        "shape": _shape(data),
        "class_names": list(data.class_names),
        "groups": list(job.groups.names),
        "train_images": len(job.labels),
        "source": data.source,
        "normalization": {"mean": job.normalize.mean, "std": job.normalize.std},
        "parameters": models.count_parameters(job.student),
        "seconds": round(seconds, 2),
        "teacher_run": config.for_teacher().name if config.teacher and not config.teacher.startswith(CUSTOM) else None,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": hardware(job.device),
        "commit": commit(),
    }


def _reported(row):
    accuracies = {key.removeprefix("test_"): value for key, value in row.items() if key.startswith("test_")}
    return {"epoch": row["epoch"], **accuracies}


def _with_objects(config, teacher, student, dataset):
    """The config with names that identify the objects that the caller hands over."""
    for role, value, kind in (
        ("teacher", teacher, nn.Module),
        ("student", student, nn.Module),
        ("dataset", dataset, datasets.LongTailedDataset),
    ):
        _check_kind(role, value, kind)
    names = {}
    if teacher is not None:
        if config.teacher is None:
            raise ConfigError(f"method {config.method!r} needs no teacher, but one was given; leave teacher= out")
        names["teacher"] = _module_name(teacher)
    if student is not None:
        names["student"] = _module_name(student)
    if dataset is not None:
        halves = (dataset.train, dataset.test)
        label = Path(dataset.name).name
        names["dataset"] = f"{CUSTOM}{label}-{_fingerprint(t for h in halves for t in (h.images, h.labels))}"
        names |= {"profile": datasets.AS_IS, "imbalance_factor": 1.0, "image_size": None, "subset_seed": 0}
    elif not config.dataset.startswith(CUSTOM) and config.dataset not in datasets.SOURCES:
        names |= {"dataset": str(Path(config.dataset).resolve()), "dataset_version": datasets.version(config.dataset)}
    return replace(config, **names) if names else config


def _check_kind(role, value, kind):
    if value is not None and not isinstance(value, kind):
        raise ConfigError(
            f"{role}= takes a {kind.__name__} of your own, got {value!r}; a name goes into the config: "
            f"RunConfig.make({role}={value!r})"
        )


def _module_name(module):
    return f"{CUSTOM}{type(module).__name__}-{_fingerprint(module.state_dict().values())}"


def _fingerprint(tensors):
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:8]
