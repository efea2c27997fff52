"""The cost of runs before they are trained: images, and the time on this machine from a few steps of each network."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

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
Key = tuple[str, Shape, int]  # (network, shape, batch size): what the speed depends on
Rates = dict[Key, tuple[float, float]]  # seconds an image: (training, inference)


class Work(NamedTuple):
    """The images that one run computes.

    network: the student, for images of `shape`. trained, tested: images that pass through it. teacher: the network of
    its teachers, None without any. taught: images that pass through the teachers.
    """

    config: RunConfig
    network: str
    shape: Shape
    trained: int
    tested: int
    teacher: str | None
    taught: int

    @property
    def key(self) -> Key:
        """The key of the student in Rates."""
        return self.network, self.shape, self.config.batch_size

    @property
    def teacher_key(self) -> Key | None:
        """The key of the teachers in Rates, None without any."""
        return None if self.teacher is None else (self.teacher, self.shape, self.config.batch_size)


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
    teacher = config.teacher if teachers else None
    return Work(config, config.student, shape, trained, test * tests, teacher, taught)


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
    """Measure each network on this device: {(network, shape, batch size): seconds an image (training, inference)}."""
    configs: dict[Key, RunConfig] = {}
    for work in all_works:
        configs.setdefault(work.key, work.config)
        if work.teacher and work.teacher_key:
            configs.setdefault(work.teacher_key, replace(work.config, student=work.teacher))
    return {key: _measure(config, key[1], device) for key, config in configs.items()}


def seconds(work: Work, rates: Rates) -> float:
    """Seconds of a run, without the method's losses and adapters and without decoding images on disk."""
    training, inference = rates[work.key]
    total = work.trained * training + work.tested * inference
    return total + (work.taught * rates[work.teacher_key][1] if work.teacher_key else 0.0)


def _measure(config: RunConfig, shape: Shape, device: torch.device) -> tuple[float, float]:
    """Seconds an image in the loop of `fit`, and in a forward pass without gradients.

    A CPU computes one step, with a smaller batch for a slow network; a GPU several, to average out single delays.
    """
    if device.type == "cuda":
        return _steps(config, shape, config.batch_size, 20 if shape[2] <= 64 else 4, device)
    batch = min(4, config.batch_size)
    while True:
        training, inference = _steps(config, shape, batch, 1, device)
        if batch * training >= SHORTEST or batch == config.batch_size:
            return training, inference
        batch = min(config.batch_size, batch * max(2, min(8, int(SHORTEST / (batch * training)))))


def _steps(config: RunConfig, shape: Shape, batch: int, steps: int, device: torch.device) -> tuple[float, float]:
    """Seconds an image in training steps on random images, and in a forward pass without gradients."""
    classes, channels, side = shape
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (batch * steps, channels, side, side), dtype=torch.uint8, generator=generator)
    train = ImageSet(pixels, torch.arange(batch * steps) % classes)
    data = LongTailedDataset("random", train, train.subset(torch.arange(2)), tuple(map(str, range(classes))))
    network = config.student.removesuffix(models.PRETRAINED)
    own: dict[str, Any] = {
        "student": network,
        "teacher": None,
        "method": "ce",
        "options": {},
        "held_out": 0.0,
        "classes": None,
    }
    if config.augmentation not in datasets.NUMBERED:
        own["augmentation"] = "none"
    config = replace(config, **own, batch_size=batch)
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
    for key in dict.fromkeys(work.key for work in all_works):
        own = [work for work in all_works if work.key == key]
        time_needed = sum(seconds(work, rates) for work in own)
        images = number(sum(work.trained for work in own))
        rate = f"{1 / rates[key][0]:9.0f}"
        size = f"{key[1][2]:4} {key[1][0]:7}"
        lines.append(f"{key[0]:30} {size} {len(own):5} {images:>8} {rate} {duration(time_needed):>12}")
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
