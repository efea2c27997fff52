"""A long-tailed subset and its test set as one small file, for a machine that has neither the data nor a network.

The file is parquet: an image a row, losslessly compressed, with its half and label, and in the metadata what was asked
for. `datasets.load` finds it in the data root and answers as from the whole data set, to the same pixel.
"""

import hashlib
import io
import json
from functools import partial
from pathlib import Path

from PIL import Image

from .._support.storage import write_bytes
from ..errors import DataError
from .cache import SPLITS, cached
from .decoding import decode, opened, resize
from .images import Source, image_set
from .longtail import AS_IS
from .sources import data_root

SUFFIX = ".packed.parquet"
KEY = b"ltkd"  # of the metadata
REQUEST = ("profile", "imbalance_factor", "seed", "image_size")


def pack(data, folder, config):
    """Write the data set `data` of a config into a folder; returns the file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if data.streamed:
        raise DataError(f"{data.name} stays on disk and is too large to be packed; carry its folder instead")
    if Path(config.dataset).is_dir():
        raise DataError(f"{config.dataset} is a folder of your own, known by its path: carry the folder itself")
    about = _request(config.profile, config.imbalance_factor, config.subset_seed, config.image_size)
    about |= {"name": config.dataset, "class_names": list(data.class_names), "source": data.source}
    halves = [getattr(data, split) for split in SPLITS]
    columns = {
        "split": [split for split, half in zip(SPLITS, halves, strict=True) for _ in range(len(half))],
        "label": pa.array([int(label) for half in halves for label in half.labels], pa.int32()),
        "image": [_compressed(image) for half in halves for image in half.images],
    }
    table = pa.table(columns).replace_schema_metadata({KEY: json.dumps(about)})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="none", use_dictionary=["split", "label"])
    file = Path(folder) / f"{_stem(about)}{SUFFIX}"
    write_bytes(file, buffer.getvalue())
    return file


def find(name, root, profile, imbalance_factor, seed, image_size):
    """The Source that was packed for this request, or None; and in words what else of this data set is packed there.

    The training half is the subset itself. Images packed as they are serve any image size.
    """
    wanted, others = _request(profile, imbalance_factor, seed, image_size), []
    for file in sorted(data_root(root).glob(f"{Path(name).name}-*{SUFFIX}")):
        about = _about(file)
        if about["name"] != name:
            continue
        if _fits(about, wanted):
            read = partial(_read, file, about, image_size if about["image_size"] is None else None)
            return cached(file.name.removesuffix(SUFFIX), [file], image_size, read), ""
        others.append(f"{file} with {_shown(about)}")
    return None, "; ".join(others)


def refusal(name, others, profile, imbalance_factor, seed, image_size):
    """The error where only other subsets of a data set are there."""
    asked = _shown(_request(profile, imbalance_factor, seed, image_size))
    return DataError(
        f"of {name} only packed subsets are here: {others}; asked for was {asked}. Pack that one where the whole data "
        f"set is (python -m ltkd pack-data), or put the whole data set there"
    )


def _request(profile, imbalance_factor, seed, image_size):
    profile = profile if isinstance(profile, str) else list(profile)
    request = dict(zip(REQUEST, (profile, float(imbalance_factor), seed, image_size), strict=True))
    return request | ({"seed": None} if profile == AS_IS else {})  # then nothing is drawn


def _fits(about, wanted):
    sizes = (None, wanted["image_size"])
    return about["image_size"] in sizes and all(about[part] == wanted[part] for part in REQUEST[:-1])


def _shown(about):
    profile = about["profile"] if isinstance(about["profile"], str) else "counts"
    size = "" if about["image_size"] is None else f", {about['image_size']} pixels a side"
    return f"profile {profile}, imbalance factor {about['imbalance_factor']:g}, seed {about['seed']}{size}"


def _stem(about):
    profile = about["profile"]
    if not isinstance(profile, str):
        profile = "counts" + hashlib.sha256(repr(tuple(profile)).encode()).hexdigest()[:6] + "-"
    size = "" if about["image_size"] is None else f"-{about['image_size']}px"
    seed = "" if about["seed"] is None else f"-s{about['seed']}"
    return f"{Path(about['name']).name}-{profile}{about['imbalance_factor']:g}{seed}{size}"


def _compressed(pixels):
    """uint8 (channels, side, side) -> a lossless WebP; PNG for grey, which WebP would store as colour."""
    grey = len(pixels) == 1
    image = Image.fromarray(pixels[0].numpy() if grey else pixels.permute(1, 2, 0).contiguous().numpy())
    buffer = io.BytesIO()
    if grey:
        image.save(buffer, "PNG", optimize=True)
    else:
        image.save(buffer, "WEBP", lossless=True, quality=100, method=4)
    return buffer.getvalue()


def _about(file):
    import pyarrow.parquet as pq
    from pyarrow import ArrowException

    try:
        return json.loads(pq.read_schema(file).metadata[KEY])
    except (ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file} is not a whole file of `pack-data`; remove it or bring it again") from error


def _read(file, about, image_size):
    import pyarrow.parquet as pq
    from pyarrow import ArrowException

    try:
        rows = pq.read_table(file).to_pylist()
    except (ArrowException, OSError) as error:
        raise DataError(f"{file} is not a whole file of `pack-data`; remove it or bring it again") from error
    halves = []
    for split in SPLITS:
        half = [(i, row) for i, row in enumerate(rows) if row["split"] == split]
        images = [_image(row["image"], f"image {i} of {file}", image_size) for i, row in half]
        halves.append(image_set(images, [row["label"] for _, row in half]))
    return Source(*halves, tuple(about["class_names"]), f"packed in {file} ({about['source']})")


def _image(data, description, image_size):
    with opened(io.BytesIO(data), description) as image:
        grey = image.mode == "L"
        if grey:
            image.load()
            return resize(image, image_size)
    return decode(io.BytesIO(data), description, image_size)
