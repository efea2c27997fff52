"""The speed of training on this machine, beside the usual loop; both are measured in turn, in one run.

The usual loop: PIL images, cropped, mirrored and normalised by torchvision in the workers of a DataLoader, the teacher
computed at every step. It runs in its own process, with torch's default settings. The images are random: their content
does not change the speed.
"""

import functools
import json
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from .. import losses, models
from .._support.provenance import commit, hardware
from .._support.settings import check_fields, setting, settings_of
from ..config import RunConfig
from ..datasets import ImageSet, LongTailedDataset, class_counts
from ..groups import ClassGroups
from ..training import teacher_cache
from ..training.fit import pick_device, train_epoch
from ..training.history import ProgressBar
from ..training.setup import Job, prepare

NUM_CLASSES, SIDE, IMBALANCE = 100, 32, 100
LOSS_CLASSES = (100, 1000, 8142)  # CIFAR-100, ImageNet, iNaturalist 2018
PLAIN, COMPUTED, CACHED = "plain loop", "teacher computed at every step", "teacher cached"  # names of rows


@dataclass(frozen=True)
class Setup:
    """The settings of a benchmark."""

    teacher: str = setting("resnet20", "network that teaches")
    student: str = setting("resnet8", "network that is trained")
    batch_size: int = setting(64, "images a step", low=1)
    images: int = setting(10847, "images an epoch; CIFAR-100-LT at imbalance factor 100 has 10847", low=1)
    rounds: int = setting(5, "how often each loop is measured", low=1)
    jobs: int = setting(2, "runs side by side", low=1)
    workers: int = setting(2, "processes of the plain loop's DataLoader", low=1)
    device: str = setting("auto", "auto, cpu, cuda, cuda:1, ...")
    compiled: bool = setting(True, "measure compiled losses too")

    def __post_init__(self) -> None:
        check_fields(self, SETTINGS)


SETTINGS = settings_of(Setup)
QUICK = {"images": 1280, "rounds": 3, "compiled": False}


def benchmark(setup: Setup) -> dict[str, Any]:
    """Measure everything: {"rows", "losses", "memory", "setup", "hardware", "commit"}.

    rows: {name of a loop: images a second of each measurement}. losses: {number of classes: result of `loss_cost`}.
    memory: result of `memory`. Raises ConfigError for an unknown network or device.
    """
    device = pick_device(setup.device)
    teacher_cache.forget()
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        loops: dict[str, Callable[[], object]] = {
            PLAIN: lambda: process.submit(plain_epoch, setup).result(),
            COMPUTED: our_loop(setup, device, "off"),
            CACHED: our_loop(setup, device, "memory"),
        }
        if device.type == "cuda":
            loops[f"{CACHED}, compiled"] = our_loop(setup, device, "memory", compile=True)
        first = {name: _rate(loop, setup.images) for name, loop in loops.items()}  # warms up and fills the cache
        rates: dict[str, list[float]] = {name: [] for name in loops}
        for _ in range(setup.rounds):
            for name, loop in loops.items():
                rates[name].append(_rate(loop, setup.images))
    rows = {PLAIN: rates[PLAIN], COMPUTED: rates[COMPUTED], f"{CACHED}, first epoch": [first[CACHED]]} | rates
    if setup.jobs > 1:
        rows[f"{CACHED}, {setup.jobs} students side by side"] = [side_by_side(setup)]
    return {
        "rows": rows,
        "losses": {str(n): loss_cost(n, setup, device) for n in LOSS_CLASSES},
        "memory": memory(device),
        "setup": vars(setup),
        "hardware": hardware(device),
        "commit": commit(),
    }


def _rate(loop: Callable[[], object], images: int) -> float:
    """Images a second of one epoch."""
    started = time.perf_counter()
    loop()
    _synchronise()
    return images / (time.perf_counter() - started)


def _synchronise() -> None:
    """Wait until the GPU has finished."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


# --- our loop ----------------------------------------------------------------------------------------------------


def our_loop(setup: Setup, device: torch.device, cache: str, compile: bool = False) -> Callable[[], object]:
    """One epoch of the loop of `fit`, as a function. cache, compile: as in `fit`."""
    job = _job(setup, device, cache, compile)
    bar = ProgressBar(job.config, 1, setup.images, 0, show=False)
    return lambda: train_epoch(job, 1, bar)  # the same views each time, so that the second call finds a full cache


def _job(setup: Setup, device: torch.device, cache: str, compile: bool) -> Job:
    config = RunConfig.make(
        "cifar-crd",
        teacher=setup.teacher,
        student=setup.student,
        method="ltkd",
        batch_size=setup.batch_size,
        imbalance_factor=IMBALANCE,
    )
    teacher = _network(setup.teacher)
    return prepare(config, _data(setup), device, teacher=teacher, workers=0, cache=cache, compile=compile)


def _network(name: str) -> nn.Module:
    return models.build(name, num_classes=NUM_CLASSES, image_size=SIDE)


def _data(setup: Setup) -> LongTailedDataset:
    train, names = _images(setup), tuple(map(str, range(NUM_CLASSES)))
    return LongTailedDataset("random", train, train.subset(torch.arange(2)), names, "random numbers")


def _images(setup: Setup) -> ImageSet:
    """Random images with the labels of CIFAR-100-LT."""
    counts = class_counts("exp", IMBALANCE, np.full(NUM_CLASSES, 500))
    shares = np.cumsum(counts) / counts.sum()
    labels = torch.from_numpy(np.searchsorted(shares, (np.arange(setup.images) + 0.5) / setup.images))
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(256, (setup.images, 3, SIDE, SIDE), dtype=torch.uint8, generator=generator)
    return ImageSet(pictures, labels)


def side_by_side(setup: Setup) -> float:
    """Images a second of `jobs` students together: processes that share the threads and the teacher's cached logits."""
    threads = max(1, torch.get_num_threads() // setup.jobs)
    context = get_context("spawn")
    with teacher_cache.shared_folder(), context.Manager() as manager:
        start = manager.Barrier(setup.jobs)
        with ProcessPoolExecutor(setup.jobs, context, torch.set_num_threads, (threads,)) as pool:
            spans = list(pool.map(_student, [setup] * setup.jobs, [start] * setup.jobs))
    seconds = max(end for _, end in spans) - min(begin for begin, _ in spans)
    return setup.jobs * setup.rounds * setup.images / seconds


def _student(setup: Setup, start: Barrier) -> tuple[float, float]:
    """Train one student when all are ready; returns the times of the begin and the end, in seconds."""
    loop = our_loop(setup, pick_device(setup.device), "disk")
    loop()
    start.wait()
    begin = time.monotonic()
    for _ in range(setup.rounds):
        loop()
    return begin, time.monotonic()


# --- the usual loop ----------------------------------------------------------------------------------------------


class Pictures(Dataset):
    """Images as in torchvision's CIFAR classes: one PIL image at a time, transformed."""

    def __init__(self, images: ImageSet, transform: Callable[[Image.Image], Tensor]) -> None:
        self.pixels = images.images.permute(0, 2, 3, 1).numpy()
        self.labels, self.transform = images.labels.tolist(), transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[index])), self.labels[index]


def plain_epoch(setup: Setup) -> None:
    """Run one epoch of the usual loop, which is set up at the first call in a process."""
    plain_loop(setup)()


@functools.cache
def plain_loop(setup: Setup) -> Callable[[], None]:
    """One epoch of the same training in the usual loop, as a function."""
    from torchvision import transforms

    device, train = pick_device(setup.device), _images(setup)
    transform = transforms.Compose(
        [
            transforms.RandomCrop(SIDE, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize((0.5,) * 3, (0.25,) * 3),
        ]
    )
    loader = DataLoader(
        Pictures(train, transform),
        setup.batch_size,
        shuffle=True,
        num_workers=setup.workers,
        persistent_workers=setup.workers > 0,
    )
    teacher, student = _network(setup.teacher).to(device).eval(), _network(setup.student).to(device)
    groups = ClassGroups.by_rank(train.counts(NUM_CLASSES)).to(device)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)

    def epoch() -> None:
        student.train()
        for images, labels in loader:
            images, labels = images.to(device), labels.to(device)
            with torch.no_grad():
                teacher_logits = teacher(images)
            logits = student(images)
            loss = torch.nn.functional.cross_entropy(logits, labels)
            loss = loss + losses.ltkd(logits, teacher_logits, groups, alpha=6.0, beta=6.0, temperature=4.0)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        _synchronise()

    return epoch


# --- the loss alone ----------------------------------------------------------------------------------------------


def loss_cost(num_classes: int, setup: Setup, device: torch.device) -> dict[str, float]:
    """Milliseconds of KD and of LTKD on the same logits, forward and backward: {"kd": ..., "ltkd": ...}, and "kd
    compiled", "ltkd compiled" if `setup.compiled`."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(setup.batch_size, num_classes, generator=generator).to(device) for _ in range(2))
    student.requires_grad_()
    groups = ClassGroups.by_rank(torch.arange(num_classes, 0, -1)).to(device)

    def kd(student: Tensor) -> Tensor:
        return losses.kd(student, teacher, temperature=4.0)

    def ltkd(student: Tensor) -> Tensor:
        return losses.ltkd(student, teacher, groups, alpha=6.0, beta=6.0, temperature=4.0)

    functions: dict[str, Callable[[Tensor], Tensor]] = {"kd": kd, "ltkd": ltkd}
    if setup.compiled:
        functions |= {f"{name} compiled": torch.compile(f, fullgraph=True) for name, f in [*functions.items()]}
    for function in functions.values():
        _milliseconds(function, student, 3)
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(15):
        for name, function in functions.items():
            times[name].append(_milliseconds(function, student, max(1, 20_000 // num_classes)))
    return {name: min(values) for name, values in times.items()}


def _milliseconds(loss: Callable[[Tensor], Tensor], student: Tensor, times: int) -> float:
    """Milliseconds of one call of the loss, forward and backward, on average of `times` calls."""
    started = time.perf_counter()
    for _ in range(times):
        student.grad = None
        loss(student).backward()
    _synchronise()
    return 1000 * (time.perf_counter() - started) / times


def memory(device: torch.device) -> dict[str, int]:
    """Peak memory in bytes: {"process": ..., "gpu": ...}, without those that the system does not report."""
    try:
        import resource
    except ImportError:  # on Windows
        peak = {}
    else:
        unit = 1 if sys.platform == "darwin" else 1024
        peak = {"process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    return peak | ({"gpu": torch.cuda.max_memory_allocated(device)} if device.type == "cuda" else {})


# --- the report --------------------------------------------------------------------------------------------------


def report(result: dict[str, Any]) -> str:
    """The result of `benchmark` as text."""
    setup = result["setup"]
    lines = [
        f"{setup['teacher']} -> {setup['student']}, ltkd, {setup['images']} images of {SIDE} x {SIDE}, "
        f"batch {setup['batch_size']}; {result['hardware']['device']}, {result['hardware']['threads']} threads, torch "
        f"{result['hardware']['torch']}",
        "",
        f"{'one epoch':48} {'images/s':>9} {'from':>8} {'to':>8} {'times plain':>12}",
    ]
    plain = statistics.median(result["rows"][PLAIN])
    for name, rates in result["rows"].items():
        middle = statistics.median(rates)
        lines.append(f"{name:48} {middle:9.0f} {min(rates):8.0f} {max(rates):8.0f} {middle / plain:12.2f}")
    lines += ["", "the loss alone, forward and backward, milliseconds"]
    for classes, times in result["losses"].items():
        eager = f"kd {times['kd']:.3f}, ltkd {times['ltkd']:.3f}, ratio {times['ltkd'] / times['kd']:.2f}"
        if "kd compiled" in times:
            kd, ltkd = times["kd compiled"], times["ltkd compiled"]
            eager += f"; compiled: kd {kd:.3f}, ltkd {ltkd:.3f}, ratio {ltkd / kd:.2f}"
        lines.append(f"{classes:>5} classes: {eager}")
    peaks = ", ".join(f"{name} {size / 2**20:.0f} MiB" for name, size in result["memory"].items())
    return "\n".join([*lines, "", f"memory at the peak: {peaks}"])


def store(result: dict[str, Any], path: str | Path) -> None:
    """Write the result of `benchmark` as JSON."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(result, indent=1) + "\n")
