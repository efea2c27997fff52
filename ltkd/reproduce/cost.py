"""What runs will cost before they are trained: images, and the time here out of a few steps of each network."""

import math
import time
from dataclasses import replace
from typing import NamedTuple

import torch

from .. import datasets, models
from ..datasets import ImageSet, LongTailedDataset
from ..methods import Task, method_class
from ..training.fit import train_epoch
from ..training.history import ProgressBar
from ..training.setup import load_dataset, prepare

CALLS, LONGEST = 5, 4.0  # how often something is timed, and the seconds after which it is timed no more
SHORTEST = 0.2  # seconds that a measurement must take to count, unless a batch is full


class Work(NamedTuple):
    """What one run computes. network: trained on `shape` (classes, channels, side) in batches of batch_size; trained,
    tested: images that pass through it; teacher, asked: who answers to how many images."""

    config: object
    network: str
    shape: tuple
    trained: int
    tested: int
    teacher: str | None
    asked: int

    @property
    def batch_size(self):
        return self.config.batch_size


def images_of(config, data_root=None):
    """Images that pass through the student of a run while it is trained."""
    return _work(config, {}, data_root).trained


def works(configs, data_root=None):
    """The Work of each config, in this order: a remembered teacher is asked less by every further student."""
    asked = {}
    return [_work(config, asked, data_root) for config in configs]


def _work(config, asked_before, data_root):
    counts, shape, test = _data(config, data_root)
    images = round(int(sum(counts)) * (1 - config.held_out))
    task = Task.of(dict(zip(("num_classes", "in_channels", "image_size"), shape, strict=True)), counts, None, 1)
    method = method_class(config.method)(task._replace(train_images=images), **config.options)
    schedule = method.schedule(config.schedule())
    tests = sum(schedule.tests_after(epoch, config.test_every) for epoch in range(1, schedule.epochs + 1))
    trained = images * schedule.epochs * len(method.streams)
    teacher, asked = None, 0
    if method.needs != "nothing":
        teacher = config.teacher
        asked = _asked(config, method, images * schedule.epochs, images, asked_before)
    if method.needs != "nothing" and not method.teachers():  # experts that share the classes: a teacher's work together
        trained += images * config.teacher_epochs
    return Work(config, config.student, shape, trained, test * tests, teacher, asked)


def _asked(config, method, shown, images, before):
    """Images that a run's teacher is asked about: each view once, where its answers are remembered."""
    if method.needs == "features" or config.augmentation not in datasets.NUMBERED:
        return shown
    views, key = datasets.views(config.augmentation).count, config.for_teacher().id
    before[key], earlier = before.get(key, 0) + shown, before.get(key, 0)
    known = [images * views * -math.expm1(-n / images / views) for n in (earlier, before[key])]
    return round(known[1] - known[0])


def _data(config, data_root):
    """Training images of each class, (classes, channels, side), test images."""
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


# --- the time here -----------------------------------------------------------------------------------------------


def measured(all_works, device):
    """Seconds an image on this device: {(network, shape, batch size): (training, answering)}."""
    keys = {}
    for work in all_works:
        keys.setdefault((work.network, work.shape, work.batch_size), work.config)
        if work.teacher:
            keys.setdefault((work.teacher, work.shape, work.batch_size), replace(work.config, student=work.teacher))
    return {key: _measure(config, key[1], device) for key, config in keys.items()}


def seconds(work, rates):
    """What a run takes, without the methods' own losses and adapters and the decoding of images on disk."""
    training, answering = rates[work.network, work.shape, work.batch_size]
    total = work.trained * training + work.tested * answering
    if work.teacher:
        total += work.asked * rates[work.teacher, work.shape, work.batch_size][1]
    return total


def _measure(config, shape, device):
    """Seconds an image in `fit`'s own loop, and in a pass without gradients. On a CPU of a single step, with a smaller
    batch where one is slow; on a GPU of several, so that what happens once does not count."""
    if device.type == "cuda":
        return _steps(config, shape, config.batch_size, 20 if shape[2] <= 64 else 4, device)
    batch = min(4, config.batch_size)
    while True:
        training, answering = _steps(config, shape, batch, 1, device)
        if batch * training >= SHORTEST or batch == config.batch_size:
            return training, answering
        batch = min(config.batch_size, batch * max(2, min(8, int(SHORTEST / (batch * training)))))


def _steps(config, shape, batch, steps, device):
    """Seconds an image of so many steps on random images, after as many that warm up, and of a pass without
    gradients."""
    classes, channels, side = shape
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (batch * steps, channels, side, side), dtype=torch.uint8, generator=generator)
    train = ImageSet(pixels, torch.arange(batch * steps) % classes)
    data = LongTailedDataset("random", train, train.subset(torch.arange(2)), tuple(map(str, range(classes))))
    network = config.student.removesuffix(models.PRETRAINED)
    own = {"student": network, "teacher": None, "method": "ce", "options": {}, "held_out": 0.0, "classes": None}
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


def _seconds(function, device):
    """The shortest of several calls, after one that warms up: other work on the machine can only add."""
    times = []
    while len(times) < 2 or (len(times) <= CALLS and sum(times) < LONGEST):
        started = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    return min(times[1:])


# --- in words ----------------------------------------------------------------------------------------------------


def report(all_works, rates, device):
    """A line a network, and the sum, in words."""
    columns = f"{'side':>4} {'classes':>7} {'runs':>5} {'images':>8} {'images/s':>9} {'time':>12}"
    lines = [f"{'network':30} {columns}"]
    for key in dict.fromkeys((work.network, work.shape, work.batch_size) for work in all_works):
        own = [work for work in all_works if (work.network, work.shape, work.batch_size) == key]
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
        f"{images} images to be trained: about {duration(total)} here ({where}), one run at a time and nothing "
        "beside it; extrapolated from a few steps of each network on random images, with the classes' sizes as "
        "published, without the methods' own losses and the decoding of images on disk",
    ]


def number(n):
    """1234567 -> '1.2 M'."""
    for unit, name in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if n >= unit:
            return f"{n / unit:.3g}{name}"
    return str(n)


def duration(seconds):
    """Seconds in the unit that fits, to two digits: such estimates are no better."""
    for unit, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 1.5 * unit:
            return f"{float(f'{seconds / unit:.2g}'):g} {name}"
    return f"{float(f'{seconds:.2g}'):g} seconds"
