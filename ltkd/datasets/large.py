"""The papers' large data sets, which lie in folders of their own and are read from disk as needed.

A published long-tailed set is two lists of images; a new one is a row of PUBLISHED. Nothing is downloaded here: each
needs an agreement with its owner, or is too large to be downloaded without being asked for.
"""

from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError
from .decoding import is_image
from .image_folders import class_folders, streamed
from .image_lists import listed
from .images import Size, Source

IMAGE_SIZE = 224
IMAGENET = ("imagenet", "ImageNet", "imagenet-1k", "ILSVRC2012", "ILSVRC/Data/CLS-LOC")
IMAGENET_HALVES = (("train", "ILSVRC2012_img_train"), ("val", "ILSVRC2012_img_val"))
IMAGENET_IMAGES = "ImageNet's images (image-net.org) as imagenet/train/<wnid>/*.JPEG and imagenet/val/<wnid>/*.JPEG"
SORT_VAL = (
    "ImageNet's val/ must be sorted into class folders val/<wnid>/*, as "
    "torchvision.datasets.ImageNet(folder, split='val') does with ILSVRC2012_img_val.tar and the development kit"
)
OLTR_LISTS = "liuziwei7.github.io/projects/LongTail.html, or data/ of github.com/facebookresearch/classifier-balancing"


@dataclass(frozen=True)
class Published:
    """A long-tailed set that two lists of images define.

    folders: names of folders under the root for its lists or images. lists: pairs of names, to train and to test; the
    first pair that is there counts. needs: in words, what to put there and where to find it. hint: for the error about
    missing images. recipe, size: as in registry.Layout.
    """

    folders: tuple[str, ...]
    lists: tuple[tuple[str, str], ...]
    needs: str
    hint: str
    recipe: str
    size: Size | None = None


PUBLISHED = {
    "imagenet-lt": Published(
        ("imagenet-lt", "ImageNet_LT", "ImageNet-LT", *IMAGENET),
        (("ImageNet_LT_train.txt", "ImageNet_LT_test.txt"),),
        f"the lists ({OLTR_LISTS}) in imagenet-lt/, and {IMAGENET_IMAGES}",
        f"the lists name {IMAGENET_IMAGES}; {SORT_VAL}",
        "imagenet-lt-bkd",
        Size(1000, 115_846, 50_000, side=IMAGE_SIZE, listed=True),
    ),
    "places-lt": Published(
        ("places-lt", "Places_LT", "Places_LT_v2", "Places-LT", "places365_standard", "places365", "Places365"),
        (("Places_LT_train.txt", "Places_LT_test.txt"),),
        f"the lists ({OLTR_LISTS}) in places-lt/, and beside them the small images of Places365-Standard "
        f"(places2.csail.mit.edu/download.html)",
        "the lists of OLTR name images as in the archives of small images (data_256/, val_256/), those of "
        "classifier-balancing as in places365standard_easyformat (train/, val/)",
        "places-lt-bkd",
        Size(365, 62_500, 36_500, side=IMAGE_SIZE, listed=True),
    ),
    "inaturalist2018": Published(
        ("inaturalist2018", "iNaturalist18", "iNaturalist2018", "inat2018"),
        (("iNaturalist18_train.txt", "iNaturalist18_val.txt"), ("train2018.json", "val2018.json")),
        "the images train_val2018/ and train2018.json and val2018.json (github.com/visipedia/inat_comp, 2018), or the "
        "lists of github.com/facebookresearch/classifier-balancing, in inaturalist2018/",
        "the lists name them as train_val2018/<group>/<class>/*.jpg",
        "inaturalist-bkd",
        Size(8142, 437_513, 24_426, side=IMAGE_SIZE, listed=True),
    ),
}


def imagenet(root: Path, image_size: int | None) -> Source:
    """The whole of ImageNet-1k, from which LTKD cuts a long tail; the classes have 732 to 1,300 training images.

    Raises DataError if it is not under the root folder, or if its validation images are in no class folders.
    """
    places = [root / folder for folder in IMAGENET]
    for place in places:
        train, val = (next((place / n for n in names if (place / n).is_dir()), None) for names in IMAGENET_HALVES)
        if train and val:
            _check_sorted(val)
            return streamed(class_folders(train, val), image_size or IMAGE_SIZE, uneven=True)
    raise DataError(
        f"data set 'imagenet-exp-lt' not found: looked for train/ and val/ in {', '.join(map(str, places))}. Needed "
        f"are {IMAGENET_IMAGES}; more in data/README.md. Or name another root with --data or LTKD_DATA"
    )


def published(name: str, root: Path, image_size: int | None) -> Source:
    """The published long-tailed set called `name`, a key of PUBLISHED: every image that its lists name.

    Raises DataError if its lists, or images that they name, are not under the root folder.
    """
    known = PUBLISHED[name]
    places = [*(root / folder for folder in known.folders), root]
    for place in places:
        for lists in known.lists:
            train, test = (place / each for each in lists)
            if train.is_file() and test.is_file():
                listing = listed(train, test, [place, *places], known.hint)
                return streamed(listing, image_size or IMAGE_SIZE)
    wanted = ", or ".join(" and ".join(lists) for lists in known.lists)
    raise DataError(
        f"data set {name!r} not found: looked for {wanted} in {', '.join(map(str, places))}. Needed are "
        f"{known.needs}; more in data/README.md. Or name another root with --data or LTKD_DATA"
    )


def _check_sorted(val: Path) -> None:
    inside = list(val.iterdir())
    if not any(entry.is_dir() for entry in inside) and any(is_image(entry.name) for entry in inside):
        raise DataError(f"{val} has its images in no class folders; {SORT_VAL}")
