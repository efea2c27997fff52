"""Images that stay on disk: decoded batch by batch, by worker processes, with random crops that a seed determines."""

import hashlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..errors import ConfigError, LtkdError, RunError
from .augmentation import Crop, streamed_crop


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Image files and their classes; the files may be of any size, and what comes out is RGB and square.

    paths: the N files, kept as one array of bytes, which worker processes share; labels: LongTensor (N,); image_size:
    pixels a side of what comes out.
    """

    streamed: ClassVar[bool] = True
    in_channels: ClassVar[int] = 3
    paths: np.ndarray
    labels: Tensor
    image_size: int

    def __post_init__(self):
        if getattr(self.paths, "dtype", None) is None or self.paths.dtype.kind != "S":
            object.__setattr__(self, "paths", np.array([os.fsencode(path) for path in self.paths], dtype=np.bytes_))
        object.__setattr__(self, "labels", torch.as_tensor(self.labels).long())
        if len(self.paths) != len(self.labels):
            raise ConfigError(f"{len(self.paths)} paths with {len(self.labels)} labels; give one label a path")

    def __len__(self):
        return len(self.labels)

    def subset(self, indices):
        """The files at `indices`, in that order."""
        indices = torch.as_tensor(indices).cpu()
        return ImageFiles(self.paths[indices.numpy()], self.labels[indices], self.image_size)

    def counts(self, num_classes):
        """Images of each class: LongTensor (num_classes,)."""
        return torch.bincount(self.labels, minlength=num_classes)

    def identity(self):
        """The tensors that tell this set from every other."""
        return torch.from_numpy(self.paths.view(np.uint8)), self.labels, torch.tensor(self.image_size)

    def fingerprint(self):
        """Sixteen hexadecimal digits of the files' names, without their folders, and their labels, in whatever order
        they are: the same for the same images in another folder."""
        names = (path.rpartition(b"/")[2] for path in self.paths.tolist())
        return unordered(zip(names, self.labels.tolist(), strict=True))

    def batches(self, batches, *, starts=None, seed=0, augment="none", workers=0):
        """Decoded images: an iterator over uint8 tensors (B, 3, image_size, image_size).

        batches: index tensors (B,), one for each tensor that comes out, in that order; starts: where in the epoch each
        begins (default: after the one before). seed: draws the crops; an
        image's crop depends on the seed and on its position in the epoch, and on nothing else. augment: the name of an
        augmentation for streamed images; 'none' scales and cuts out the middle. workers: processes that decode; 0: this
        one does. Raises DataError that names the file where one cannot be decoded.
        """
        batches = [torch.as_tensor(indices).cpu().numpy() for indices in batches]
        if starts is None:
            starts = np.cumsum([0, *map(len, batches)])[:-1].tolist()
        crop, tasks = streamed_crop(augment), list(zip(starts, batches, strict=True))
        return _decoded(_Decoder(self, crop, seed), tasks, workers)

    def sample(self, n, seed=0):
        """Up to n images drawn at random, without augmentation: uint8 (n, 3, image_size, image_size)."""
        drawn = np.random.default_rng(seed).permutation(len(self))[:n]
        return next(self.batches([torch.from_numpy(np.sort(drawn))]))


def unordered(images):
    """Sixteen hexadecimal digits of images, each its bytes and its label, in whatever order they come."""
    each = sorted(hashlib.sha256(data).digest() + label.to_bytes(4) for data, label in images)
    return hashlib.sha256(b"".join(each)).hexdigest()[:16]


def _decoded(decoder, tasks, workers):
    from . import crops  # noqa: F401  brings torchvision, which each worker would otherwise import anew

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


def _received(batches):
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


def _start_worker(_):
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer, and it ends its workers
    sys.excepthook = _report
    warnings.filterwarnings("ignore", module="PIL")  # about odd metadata, once for each worker and epoch
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent():
    """torch's own watch over the parent begins late: a worker whose parent is killed before would live for ever."""
    parent = multiprocessing.parent_process().pid
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _report(kind, error, trace):
    if not issubclass(kind, ConnectionError | EOFError):  # the parent left while it was handed a batch
        sys.__excepthook__(kind, error, trace)


@dataclass(frozen=True)
class _Decoder(Dataset):
    files: ImageFiles
    crop: Crop
    seed: int

    def __getitem__(self, task):
        """The batch of a task; an error is handed over as a value, for a worker would wrap it in its traceback."""
        from . import crops

        first, indices = task
        side = self.files.image_size
        images = torch.empty(len(indices), 3, side, side, dtype=torch.uint8)
        try:
            for i, path in enumerate(self.files.paths[indices]):
                draw = np.random.default_rng((self.seed, first + i))
                images[i] = crops.read(os.fsdecode(path), self.crop, side, draw)
        except LtkdError as error:
            return error
        return images
