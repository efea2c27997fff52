"""The papers' large data sets, which lie in folders of their own and are read from disk as needed.

A published long-tailed set is two lists of images; a new one is a row of PUBLISHED. Nothing is downloaded here: each
asks for an agreement with its owner, or is too large to be fetched unasked.
"""

from dataclasses import dataclass

from ..errors import DataError
from .decoding import IMAGE_SUFFIXES
from .image_folders import streamed
from .images import Size
from .listing import class_folders
from .lists import listed
from .sources import data_root

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
    """A long-tailed set as its lists define it.

    folders: where its lists or images may lie under the root; lists: names of the two, the first that is there counts;
    needs: in words, what to put there and where it is to be had; hint: on images that are missing; recipe, size: as in
    sources.Layout.
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


def imagenet(*, root=None, image_size=None):
    """The whole of ImageNet-1k, from which LTKD cuts a long tail; the classes have 732 to 1,300 training images."""
    places = [data_root(root) / folder for folder in IMAGENET]
    for place in places:
        train, val = (next((place / n for n in names if (place / n).is_dir()), None) for names in IMAGENET_HALVES)
        if train and val:
            _check_sorted(val)
            return streamed(class_folders(train, val), image_size or IMAGE_SIZE, uneven=True)
    raise DataError(
        f"data set 'imagenet-exp-lt' not found: looked for train/ and val/ in {_shown(places)}. Needed are "
        f"{IMAGENET_IMAGES}; more in data/README.md. Or name another root with --data or LTKD_DATA"
    )


def published(name, *, root=None, image_size=None):
    """The published long-tailed set called `name`, a key of PUBLISHED, every image that its lists name."""
    known, root = PUBLISHED[name], data_root(root)
    places = [*(root / folder for folder in known.folders), root]
    for place in places:
        for lists in known.lists:
            train, test = (place / each for each in lists)
            if train.is_file() and test.is_file():
                listing = listed(train, test, [place, *places], known.hint)
                return streamed(listing, image_size or IMAGE_SIZE)
    wanted = ", or ".join(" and ".join(lists) for lists in known.lists)
    raise DataError(
        f"data set {name!r} not found: looked for {wanted} in {_shown(places)}. Needed are {known.needs}; more in "
        f"data/README.md. Or name another root with --data or LTKD_DATA"
    )


def _check_sorted(val):
    inside = list(val.iterdir())
    if not any(entry.is_dir() for entry in inside) and any(entry.suffix.lower() in IMAGE_SUFFIXES for entry in inside):
        raise DataError(f"{val} has its images in no class folders; {SORT_VAL}")


def _shown(places):
    return ", ".join(map(str, places))
