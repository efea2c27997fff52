"""Images that stay on disk: worker processes decode them batch by batch, and a seed determines their random crops."""

import hashlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from ..errors import ConfigError, DataError, LtkdError, RunError
from . import decoding
from .augmentation import Crop, streamed_crop
from .inspection import inspect, refuse_faults
from .repeats import Contents

Indices = Tensor | np.ndarray | Sequence[int]
Task = tuple[int, np.ndarray]  # of a decoder: where in the epoch a batch begins, and the indices of its images


class ImageFiles:
    """Image files and their classes. The files may be of any size; decoded images are RGB squares.

    paths: the N files, kept as one array of bytes (N,), which worker processes share. labels: LongTensor (N,).
    image_size: pixels a side of a decoded image. white: the value of white in images of more than 8 bits. Raises
    ConfigError unless there is one label a path.
    """

    streamed: ClassVar[bool] = True
    in_channels: ClassVar[int] = 3

    def __init__(
        self,
        paths: np.ndarray | Sequence[str | os.PathLike[str]],
        labels: Indices,
        image_size: int,
        white: float | None = None,
    ) -> None:
        if not (isinstance(paths, np.ndarray) and paths.dtype.kind == "S"):
            paths = np.array([os.fsencode(path) for path in paths], dtype=np.bytes_)
        self.paths, self.labels, self.image_size = paths, class_numbers(labels, len(paths)), image_size
        self.white = white

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: Indices) -> "ImageFiles":
        """The files at `indices` (n,), in that order."""
        indices = torch.as_tensor(indices).cpu()
        return ImageFiles(self.paths[indices.numpy()], self.labels[indices], self.image_size, self.white)

    def with_labels(self, labels: Tensor) -> "ImageFiles":
        """The same files with other labels (N,)."""
        return ImageFiles(self.paths, labels, self.image_size, self.white)

    def counts(self, num_classes: int) -> Tensor:
        """Images of each class: LongTensor (num_classes,)."""
        return torch.bincount(self.labels, minlength=num_classes)

    def identity(self) -> tuple[Tensor, ...]:
        """Tensors that differ between any two different sets: the contents, the labels, the image size, white."""
        contents = torch.frombuffer(bytearray("".join(self.contents().keys), "ascii"), dtype=torch.uint8)  # type: ignore[arg-type]
        return contents, self.labels, torch.tensor(self.image_size), torch.tensor(self.white or 0.0)

    def contents(self) -> Contents:
        """The content of each file. Raises DataError for files that are no images."""
        files = [os.fsdecode(path) for path in self.paths.tolist()]
        facts = inspect(files)
        refuse_faults(files, facts)
        return Contents([each.content for each in facts], self.labels.tolist(), files.__getitem__)

    def check(self) -> None:
        """Decode every image. Raises DataError about all that are damaged."""
        with ThreadPoolExecutor() as pool:
            files = tqdm(map(os.fsdecode, self.paths.tolist()), "decoding", len(self), leave=False, disable=None)
            faults = list(filter(None, pool.map(decoding.fault, files)))
        decoding.refuse(faults, len(self))

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits of the files' names, without their folders, and their labels, in any order: the
        same for the same images in another folder."""
        names = (path.rpartition(b"/")[2] for path in self.paths.tolist())
        return unordered(zip(names, self.labels.tolist(), strict=True))

    def batches(
        self,
        batches: Iterable[Indices],
        *,
        starts: Sequence[int] | None = None,
        seed: int = 0,
        augment: str = "none",
        workers: int = 0,
    ) -> Iterator[Tensor]:
        """Decoded images: an iterator over uint8 tensors (B, 3, image_size, image_size).

        batches: the indices (B,) of the images of each tensor, in their order. starts: the position in the epoch of the
        first image of each batch (default: each batch follows the one before). seed: draws the crops; the crop of an
        image depends on the seed and on its position in the epoch only. augment: the name of an augmentation of images
        on disk; 'none' scales and cuts out the middle. workers: number of processes that decode; 0: this process.

        Raises ConfigError for an augmentation that does not fit, DataError with the name of a file that is damaged,
        RunError if a worker process dies.
        """
        indices = [torch.as_tensor(batch).cpu().numpy() for batch in batches]
        if starts is None:
            starts = np.cumsum([0, *map(len, indices)])[:-1].tolist()
        crop, tasks = streamed_crop(augment), list(zip(starts, indices, strict=True))
        return _decoded(_Decoder(self, crop, seed), tasks, workers)

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """Up to n images drawn at random, without augmentation: uint8 (n, 3, image_size, image_size).

        Raises DataError with the name of a file that is damaged.
        """
        drawn = np.random.default_rng(seed).permutation(len(self))[:n]
        return next(self.batches([torch.from_numpy(np.sort(drawn))]))


def class_numbers(labels: Indices, images: int) -> Tensor:
    """Labels as a LongTensor (N,). images: N. Raises ConfigError unless they are whole numbers from 0 on, one each."""
    try:
        numbers = torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"labels {labels!r:.60} are no numbers; give each image the number of its class") from error
    if numbers.ndim != 1 or len(numbers) != images:
        raise ConfigError(
            f"{images} images with labels of shape {tuple(numbers.shape)}: give one label an image, a whole number; "
            f"LongTailedDataset.from_arrays also takes one-hot rows"
        )
    if images and (numbers.is_floating_point() or numbers.is_complex() or int(numbers.min()) < 0):
        raise ConfigError(
            f"labels must be whole numbers from 0 on, but these are {numbers.dtype} from {numbers.real.min():g} to "
            f"{numbers.real.max():g}; remove images without a class"
        )
    return numbers.long()


def numbered(halves: Sequence[np.ndarray], found: object) -> tuple[str, ...]:
    """The names of classes that have none: "0", "1", ... up to the largest label.

    halves: the labels (N,) of the training images, and of the test images. found: in words, where. Raises DataError for
    more classes than training images, before any memory is taken for them.
    """
    largest, images = max(int(labels.max(initial=0)) for labels in halves), len(halves[0])
    if largest >= max(images, 1):
        raise DataError(
            f"the largest label in {found} is {largest}, but {images} training images have at most {images} "
            f"classes; number the classes from 0 on without a gap"
        )
    return tuple(map(str, range(largest + 1)))


def unordered(images: Iterable[tuple[Any, int]]) -> str:
    """Sixteen hexadecimal digits of images, each given as its bytes and its label, in any order."""
    each = sorted(hashlib.sha256(data).digest() + label.to_bytes(4) for data, label in images)
    return hashlib.sha256(b"".join(each)).hexdigest()[:16]


def _decoded(decoder: "_Decoder", tasks: Sequence[Task], workers: int) -> Iterator[Tensor]:
    decoding.functional()  # torchvision, which each worker would otherwise import anew
    loader = DataLoader(
        decoder,
        sampler=tasks,
        batch_size=None,
        num_workers=workers,
        worker_init_fn=_start_worker,
        generator=torch.Generator(),  # else it takes a number from the global one
    )
    batches = iter(loader)
    for _ in tasks:
        images = _received(batches)
        if isinstance(images, LtkdError):
            del batches  # ends its workers, and with them torch's watch over them, which would interrupt the error
            raise images
        yield images


def _received(batches: Iterator[Tensor | LtkdError]) -> Tensor | LtkdError:
    """The next batch, or the error that came in its place."""
    try:
        return next(batches)
    except (RuntimeError, OSError, EOFError) as error:
        if isinstance(error, RuntimeError) and not any(sign in str(error) for sign in ("(pid", "shared memory")):
            raise  # a fault of this program
        what = f"{type(error).__name__} {error}".strip().splitlines()[-1]
        return RunError(
            f"a process that decodes images died ({what}); choose fewer workers or smaller batches, or give more "
            f"shared memory (in a container: --shm-size)"
        )


def _start_worker(_: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer, and it ends its workers
    sys.excepthook = _report
    warnings.filterwarnings("ignore", module="PIL")  # about odd metadata, once for each worker and epoch
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """torch's own watch over the parent begins late: a worker whose parent is killed before would live for ever."""
    parent = multiprocessing.parent_process()
    while parent and os.getppid() == parent.pid:
        time.sleep(1)
    os._exit(1)


def _report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, ConnectionError | EOFError):  # the parent left while it was handed a batch
        sys.__excepthook__(kind, error, trace)


@dataclass(frozen=True)
class _Decoder(Dataset):
    files: ImageFiles
    crop: Crop
    seed: int

    def __getitem__(self, task: Task) -> Tensor | LtkdError:
        """The batch of a task. An error is returned as a value, because a worker would wrap it in its traceback."""
        first, indices = task
        side = self.files.image_size
        images = torch.empty(len(indices), 3, side, side, dtype=torch.uint8)
        try:
            for i, path in enumerate(self.files.paths[indices]):
                draw = np.random.default_rng((self.seed, first + i))
                images[i] = decoding.decode_crop(os.fsdecode(path), self.crop, side, draw, self.files.white)
        except LtkdError as error:
            return error
        return images
