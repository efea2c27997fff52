"""The cost of runs before they are trained: images, and the time on this machine from a few steps of each network."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from .. import datasets, models
from ..config import RunConfig
from ..datasets import ImageSet, LongTailedDataset
from ..methods import Task, method_class
from ..training.fit import train_epoch
from ..training.history import ProgressBar
from ..training.setup import load_dataset, prepare

CALLS, LONGEST = 5, 4.0  # calls of a measurement, and the seconds after which there are no more
SHORTEST = 0.2  # seconds that a measurement must take to count, unless it has a full batch

Shape = tuple[int, int, int]  # (classes, channels, side)


class Load(NamedTuple):
    """All that the speed of a network depends on."""

    network: str
    shape: Shape
    batch_size: int


Rates = dict[Load, tuple[float, float]]  # seconds an image: (training, inference)


class Work(NamedTuple):
    """The images that one run computes.

    trained, tested: images that pass through the student. taught: images that pass through the teachers, which are None
    without any.
    """

    config: RunConfig
    student: Load
    trained: int
    tested: int
    teacher: Load | None
    taught: int


def images_of(config: RunConfig, data_root: str | Path | None = None) -> int:
    """Images that pass through the student of a run in training, and through experts that are trained for it alone.

    data_root: the folder of the data sets, as in `fit`.
    """
    return _work(config, {}, data_root).trained


def works(configs: Iterable[RunConfig], data_root: str | Path | None = None) -> list[Work]:
    """The Work of each config, in this order: each student of a teacher adds fewer views to the teacher's cache."""
    shown: dict[str, int] = {}
    return [_work(config, shown, data_root) for config in configs]


def _work(config: RunConfig, shown: dict[str, int], data_root: str | Path | None) -> Work:
    """shown: {id of a teacher: images that its students before this one have been shown}; updated."""
    counts, shape, test = _data(config, data_root)
    images = round(sum(counts) * (1 - config.held_out))
    task = Task.of(dict(zip(("num_classes", "in_channels", "image_size"), shape, strict=True)), counts, None, 1)
    method = method_class(config.method)(task._replace(train_images=images), **config.options)
    schedule = method.schedule(config.schedule())
    tests = sum(schedule.tests_after(epoch, config.test_every) for epoch in range(1, schedule.epochs + 1))
    before = config.builds_on(torch.tensor(counts))
    teachers = [run for role, run in before.items() if role != "parent"]
    experts = [before[role] for role in before.keys() - config.builds_on().keys()]  # no config of a grid names them
    trained = images * schedule.epochs * len(method.streams) + sum(images_of(run, data_root) for run in experts)
    taught = sum(_taught(config, teacher.id, images, schedule.epochs, shown) for teacher in teachers)
    teacher = Load(config.teacher, shape, config.batch_size) if config.teacher and teachers else None
    return Work(config, Load(config.student, shape, config.batch_size), trained, test * tests, teacher, taught)


def _taught(config: RunConfig, teacher: str, images: int, epochs: int, shown: dict[str, int]) -> int:
    """Images that pass through one teacher: with a cache, each view of an image once."""
    earlier, now = shown.get(teacher, 0), images * epochs
    shown[teacher] = earlier + now
    if method_class(config.method).needs == "features" or config.augmentation not in datasets.NUMBERED:
        return now
    views = datasets.views(config.augmentation).count
    known = [images * views * -math.expm1(-n / images / views) for n in (earlier, earlier + now)]
    return round(known[1] - known[0])


def _data(config: RunConfig, data_root: str | Path | None) -> tuple[list[int], Shape, int]:
    """Training images of each class, (classes, channels, side), and the number of test images."""
    known = datasets.SOURCES.get(config.dataset)
    size = known and known.size
    if size is None:
        data = load_dataset(config.data, data_root)
        return data.class_counts.tolist(), (data.num_classes, data.in_channels, data.image_size), len(data.test)
    if size.listed:
        counts = [size.images // size.classes] * size.classes
        counts[0] += size.images - sum(counts)
    else:
        counts = datasets.class_counts(config.profile, config.imbalance_factor, [size.images] * size.classes).tolist()
    test, classes = size.test, size.classes
    if config.classes is not None:
        counts, test, classes = [counts[c] for c in config.classes], test * len(config.classes) // classes, len(counts)
    return counts, (len(counts), size.channels, config.image_size or size.side), test


# --- the time on this machine ------------------------------------------------------------------------------------


def measured(all_works: Iterable[Work], device: torch.device) -> Rates:
    """Measure each network on this device."""
    configs = {load: work.config for work in all_works for load in (work.student, work.teacher) if load}
    return {load: _measure(config, load, device) for load, config in configs.items()}


def seconds(work: Work, rates: Rates) -> float:
    """Seconds of a run, without the method's losses and adapters and without decoding images on disk."""
    training, inference = rates[work.student]
    total = work.trained * training + work.tested * inference
    return total + (work.taught * rates[work.teacher][1] if work.teacher else 0.0)


def _measure(config: RunConfig, load: Load, device: torch.device) -> tuple[float, float]:
    """Seconds an image in the loop of `fit`, and in a forward pass without gradients.

    A CPU computes one step, with a smaller batch for a slow network; a GPU several, to average out single delays.
    """
    if device.type == "cuda":
        return _steps(config, load, load.batch_size, 20 if load.shape[2] <= 64 else 4, device)
    batch = min(4, load.batch_size)
    while True:
        training, inference = _steps(config, load, batch, 1, device)
        if batch * training >= SHORTEST or batch == load.batch_size:
            return training, inference
        batch = min(load.batch_size, batch * max(2, min(8, int(SHORTEST / (batch * training)))))


def _steps(config: RunConfig, load: Load, batch: int, steps: int, device: torch.device) -> tuple[float, float]:
    """Seconds an image in training steps on random images, and in a forward pass without gradients."""
    classes, channels, side = load.shape
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (batch * steps, channels, side, side), dtype=torch.uint8, generator=generator)
    train = ImageSet(pixels, torch.arange(batch * steps) % classes)
    data = LongTailedDataset("random", train, train.subset(torch.arange(2)), tuple(map(str, range(classes))))
    network = load.network.removesuffix(models.PRETRAINED)
    config = replace(config, student=network, teacher=None, method="ce", options={}, batch_size=batch)
    augmentation = config.augmentation if config.augmentation in datasets.NUMBERED else "none"
    config = replace(config, held_out=0.0, classes=None, augmentation=augmentation)
    job = prepare(config, data, device, workers=0, cache="off")
    bar = ProgressBar(config, 1, batch * steps, 0, show=False)
    trained = _seconds(lambda: train_epoch(job, 1, bar), device) / (batch * steps)
    with torch.no_grad():
        images = next(job.test.plain()).repeat(batch, 1, 1, 1)[:batch]
        job.student.eval()
        return trained, _seconds(lambda: job.student(images), device) / batch


def _seconds(function: Callable[[], object], device: torch.device) -> float:
    """The shortest time of several calls after a first one: other programs can only slow a call down."""
    times: list[float] = []
    while len(times) < 2 or (len(times) <= CALLS and sum(times) < LONGEST):
        started = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    return min(times[1:])


# --- as text -----------------------------------------------------------------------------------------------------


def report(all_works: Sequence[Work], rates: Rates, device: torch.device) -> list[str]:
    """Lines of text: one for each network, and the sum."""
    columns = f"{'side':>4} {'classes':>7} {'runs':>5} {'images':>8} {'images/s':>9} {'time':>12}"
    lines = [f"{'network':30} {columns}"]
    for load in dict.fromkeys(work.student for work in all_works):
        own = [work for work in all_works if work.student == load]
        time_needed = sum(seconds(work, rates) for work in own)
        images = number(sum(work.trained for work in own))
        rate, (classes, _, side) = 1 / rates[load][0], load.shape
        counts = f"{side:4} {classes:7} {len(own):5} {images:>8}"
        lines.append(f"{load.network:30} {counts} {rate:9.0f} {duration(time_needed):>12}")
    total = sum(seconds(work, rates) for work in all_works)
    images = number(sum(work.trained for work in all_works))
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"
    return [
        *lines,
        f"{images} images to be trained: about {duration(total)} here ({where}), one run at a time and no other "
        "program; extrapolated from a few steps of each network on random images, with the published class sizes, "
        "without the methods' own losses and the decoding of images on disk",
    ]


def number(n: float) -> str:
    """1234567 -> '1.2 M'."""
    for unit, name in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if n >= unit:
            return f"{n / unit:.3g}{name}"
    return str(n)


def duration(seconds: float) -> str:
    """Seconds as text, in the unit that fits, with two digits: 7380 -> '2 hours'."""
    for unit, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 1.5 * unit:
            return f"{float(f'{seconds / unit:.2g}'):g} {name}"
    return f"{float(f'{seconds:.2g}'):g} seconds"
