"""The two halves of a data set, held in memory as tensors, and their long-tailed version."""

import hashlib
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import ConfigError, DataError
from . import arrays
from .decoding import resize
from .image_files import ImageFiles, Indices, class_numbers, unordered
from .repeats import Contents, repeats

Dataset = TypeVar("Dataset", bound="LongTailedDataset")

MEMORY = 4e9  # bytes of decoded images that are held


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images in memory and their classes.

    images: uint8 (N, channels, side, side). labels: LongTensor (N,), or whole numbers that become one. Raises
    ConfigError for others; `LongTailedDataset.from_arrays` converts what can be converted.
    """

    streamed: ClassVar[bool] = False
    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        _check_images(self.images)
        object.__setattr__(self, "labels", class_numbers(self.labels, len(self.images)))

    def __repr__(self) -> str:
        return f"ImageSet({len(self)} images of {self.in_channels} x {self.image_size} x {self.image_size})"

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_size(self) -> int:
        """Pixels a side."""
        return self.images.shape[-1]

    @property
    def in_channels(self) -> int:
        """1 for grey images, 3 for RGB."""
        return self.images.shape[1]

    def subset(self, indices: Indices) -> "ImageSet":
        """The images at `indices` (n,), in that order."""
        indices = torch.as_tensor(indices)
        return ImageSet(self.images[indices], self.labels[indices])

    def with_labels(self, labels: Tensor) -> "ImageSet":
        """The same images with other labels (N,)."""
        return ImageSet(self.images, labels)

    def to(self, device: torch.device | str) -> "ImageSet":
        """The same images and labels on `device`."""
        return ImageSet(self.images.to(device), self.labels.to(device))

    def counts(self, num_classes: int) -> Tensor:
        """Images of each class: LongTensor (num_classes,)."""
        return torch.bincount(self.labels, minlength=num_classes)

    def identity(self) -> tuple[Tensor, ...]:
        """Tensors that differ between any two different sets: the images and the labels."""
        return self.images, self.labels

    def contents(self, half: str) -> Contents:
        """The content of each image. half: what an image is called, before its number."""
        keys = [hashlib.sha256(image).digest() for image in self.images.cpu().contiguous().numpy()]
        return Contents(keys, self.labels.tolist(), lambda i: f"{half} image {i}")

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits of the images and their labels, in any order."""
        return unordered(zip(self.images.cpu().contiguous().numpy(), self.labels.tolist(), strict=True))


def image_set(images: Sequence[Image.Image], labels: np.ndarray | Sequence[int]) -> ImageSet:
    """An ImageSet of PIL images and their labels.

    Raises DataError unless there is an image, and all are squares of one size.
    """
    if not images:
        raise DataError("there is not a single image in one half of the data; needed are images to train and to test")
    if len(sizes := {image.size for image in images}) > 1 or any(w != h for w, h in sizes):
        shown = " and ".join(f"{w} x {h}" for w, h in sorted({min(sizes), max(sizes)}))
        raise DataError(
            f"the images must be squares of one size, but some are {shown} pixels; choose a side length with "
            f"--image-size (image_size=): the shorter side is scaled to it and the middle is cut out"
        )
    side = images[0].width
    pixels = torch.empty(len(images), len(images[0].getbands()), side, side, dtype=torch.uint8)
    for out, image in zip(pixels.numpy(), images, strict=True):
        out[:] = np.asarray(image).reshape(side, side, -1).transpose(2, 0, 1)
    return ImageSet(pixels, torch.as_tensor(labels).long())


def _check_images(images: object) -> None:
    """Raise ConfigError unless these are 8-bit square images, (N, channels, side, side)."""
    found = f"{tuple(images.shape)} {images.dtype}" if isinstance(images, Tensor) else type(images).__name__
    fits = isinstance(images, Tensor) and images.dtype == torch.uint8 and images.ndim == 4
    if not (fits and images.shape[2] == images.shape[3] and min(images.shape[1:]) > 0):  # type: ignore[attr-defined]
        raise ConfigError(
            f"images must be a uint8 tensor (N, channels, side, side), got {found}; LongTailedDataset.from_arrays "
            f"converts floats, arrays, channels at the end, and other sizes"
        )


class Size(NamedTuple):
    """The size of a data set before any subset is taken.

    images: training images of the largest class; of a published list (listed=True), of all classes together. test: test
    images. side: pixels a side.
    """

    classes: int
    images: int
    test: int
    channels: int = 3
    side: int = 32
    listed: bool = False


class Source(NamedTuple):
    """All images of a data set before any subset is taken.

    found: in words, where the images are. uneven: the classes differ in size, so that one may have fewer images than a
    profile asks for. notes, doubts: as in LongTailedDataset.
    """

    train: ImageSet | ImageFiles
    test: ImageSet | ImageFiles
    class_names: tuple[str, ...]
    found: str
    uneven: bool = False
    notes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class LongTailedDataset:
    """A long-tailed training set with a test set that keeps the source's own (balanced) distribution.

    train, test: an ImageSet each, or ImageFiles if the images stay on disk. class_names: the C names, by label. source:
    in words, where the images were found. whole: the training images of all classes, if `train` has only some of them.
    notes: sentences on what was read, which `check-data` prints. doubts: sentences on images that come more than once,
    which `load` and `fit` warn of; None: not looked for yet. class_counts: LongTensor (C,), training images of each
    class.

    Raises ConfigError for halves that are empty or of different sizes, for labels of C or more, and for two classes of
    one name. `load`, `fit` and the constructors from_arrays and from_torch also need each class in both halves.
    """

    name: str
    train: ImageSet | ImageFiles
    test: ImageSet | ImageFiles
    class_names: tuple[str, ...]
    source: str = ""
    whole: ImageSet | ImageFiles | None = None
    notes: tuple[str, ...] = ()
    doubts: tuple[str, ...] | None = None
    class_counts: Tensor = field(init=False)

    def __post_init__(self) -> None:
        _check_names(self.class_names)
        for half, images in (("training", self.train), ("test", self.test)):
            _check_half(half, images, self.num_classes)
        shapes = [f"{x.image_size} x {x.image_size} in {x.in_channels} channels" for x in (self.train, self.test)]
        if shapes[0] != shapes[1]:
            raise ConfigError(
                f"the training images are {shapes[0]}, but the test images {shapes[1]}; bring all to one size, as "
                f"--image-size (image_size=) does, and to as many channels"
            )
        object.__setattr__(self, "class_counts", self.train.counts(self.num_classes))

    def __repr__(self) -> str:
        sizes = f"{len(self.train)} training and {len(self.test)} test images of {self.num_classes} classes"
        counts = f"{int(self.class_counts.max())} to {int(self.class_counts.min())} training images per class"
        return f"LongTailedDataset({self.name!r}: {sizes}, {counts}, {self.image_size} x {self.image_size} pixels)"

    @classmethod
    def from_arrays(
        cls,
        images: Any,
        labels: Any,
        test_images: Any,
        test_labels: Any,
        *,
        class_names: Sequence[str] | None = None,
        name: str = "own",
        image_size: int | None = None,
    ) -> Self:
        """A data set of arrays, tensors, or lists of arrays or PIL images.

        images, test_images: N images (side, side), (channels, side, side) or (side, side, channels), with 1 or 3
        channels. Whole numbers of 8 bits are taken as they are. All other numbers are scaled by the range of their
        half: 0 is black, and white is 1 for numbers up to 1 (0.001 more is cut off), else the largest number of as many
        bits as the largest of them needs. Both halves must have one white.
        labels, test_labels: N whole numbers from 0 on, one-hot rows (N, C), or names. class_names: the names by label
        (default: the labels). name: begins the name of the runs. image_size: scale the shorter side of each image to
        it and cut out the middle.

        Raises ConfigError or DataError for images or labels that cannot be converted: normalised images (negative
        values), NaN, soft labels, a class without training or test images.

        >>> images, labels = np.random.default_rng(0).random((6, 8, 8, 3)), [0, 0, 0, 1, 1, 2]
        >>> data = LongTailedDataset.from_arrays(images, labels, images, labels, class_names=["a", "b", "c"])
        >>> tuple(data.train.images.shape), data.class_counts.tolist()
        ((6, 3, 8, 8), [3, 2, 1])
        """
        if class_names is not None:
            _check_names(class_names)
        pictures, notes = arrays.pictures([images, test_images])
        numbers, names = arrays.class_numbers([labels, test_labels], class_names)
        train, test = (
            image_set([resize(x, image_size) for x in each], number)
            for each, number in zip(pictures, numbers, strict=True)
        )
        return checked(cls(name, train, test, names, "arrays", notes=notes))

    @classmethod
    def from_torch(
        cls,
        train: Any,
        test: Any,
        *,
        class_names: Sequence[str] | None = None,
        name: str = "own",
        image_size: int | None = None,
    ) -> Self:
        """A data set from two torch datasets. Each item is an image and its label, as in torchvision.

        Each item is read once, so random transforms are not repeated: leave them out, and also a normalisation.
        class_names: default: `train.classes` if there, else the labels. Where `test.classes` has the names in another
        order, the test labels are renumbered. All else as in from_arrays.
        """
        items = [arrays.items(dataset) for dataset in (train, test)]
        (images, labels), (test_images, test_labels) = items
        test_labels = arrays.renumbered_test(train, test, test_labels)
        names = class_names if class_names is not None else getattr(train, "classes", None)
        return cls.from_arrays(
            images, labels, test_images, test_labels, class_names=names, name=name, image_size=image_size
        )

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.class_names)

    @property
    def image_size(self) -> int:
        """Pixels a side."""
        return self.train.image_size

    @property
    def in_channels(self) -> int:
        """1 for grey images, 3 for RGB."""
        return self.train.in_channels

    @property
    def streamed(self) -> bool:
        """True if the images stay on disk and are decoded as they are needed."""
        return self.train.streamed


def checked(data: Dataset) -> Dataset:
    """The same data set. Warns of images that come more than once; raises DataError for a class without training or
    test images."""
    check_classes(data.train, data.test, data.class_names, data.source or data.name)
    if data.doubts is None:
        train, test = _contents(data.train, "training"), _contents(data.test, "test")
        object.__setattr__(data, "doubts", repeats(train, test, data.class_names))
    for doubt in data.doubts or ():
        warnings.warn(f"{data.name}: {doubt}", stacklevel=1)  # one place for all, so that Python says each once
    return data


def _contents(images: ImageSet | ImageFiles, half: str) -> Contents:
    return images.contents() if isinstance(images, ImageFiles) else images.contents(half)


def check_classes(
    train: ImageSet | ImageFiles,
    test: ImageSet | ImageFiles,
    class_names: Sequence[str],
    found: str,
    notes: Sequence[str] = (),
) -> None:
    """Raise DataError for a class without training or test images; `notes` may tell why it has none."""
    for half, images in (("training", train), ("test", test)):
        if empty := (images.counts(len(class_names)) == 0).nonzero().flatten().tolist():
            more = f", and so have {len(empty) - 1} more classes" if len(empty) > 1 else ""
            raise DataError(
                f"class {class_names[empty[0]]!r} has no {half} images in {found}{more}; add some or remove the class"
                + "".join(f" ({note})" for note in notes)
            )


def _check_names(names: Sequence[str]) -> None:
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"class_names = {names!r:.60}: must be one text a class")
    if len(names) < 2:
        raise ConfigError(f"class_names = {tuple(names)}: a data set needs two classes or more")
    double = next((name for name, classes in Counter(names).items() if classes > 1), None)
    if double is not None:
        raise ConfigError(f"two classes are called {double!r}; give each class a name of its own")


def _check_half(half: str, images: object, num_classes: int) -> None:
    if not isinstance(images, ImageSet | ImageFiles):
        raise ConfigError(
            f"the {half} half must be an ImageSet or ImageFiles, got {type(images).__name__}; "
            f"LongTailedDataset.from_arrays and .from_torch convert others"
        )
    if not len(images):
        raise ConfigError(f"there is not a single image in the {half} half; needed are images to train and to test")
    if (largest := int(images.labels.max())) >= num_classes:
        raise ConfigError(
            f"a {half} image has the label {largest}, but {num_classes} classes have names: labels run from 0 to "
            f"{num_classes - 1}"
        )
