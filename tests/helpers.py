"""Small things that more than one test file needs."""

import json
import shutil
import signal
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ltkd import ClassGroups, RunConfig
from ltkd.datasets import ImageSet, LongTailedDataset
from ltkd.runs.result_file import sealed

PROJECT = Path(__file__).resolve().parent.parent

# Fixed here, so that tests with numbers in them do not follow the recipe: 417 images, 7 batches an epoch.
SHORT_RUN = {
    "epochs": 2,
    "teacher": "resnet8",
    "student": "resnet8x0.5",
    "imbalance_factor": 20,
    "batch_size": 64,
    "lr": 0.05,
}


# Names that a page, a figure, a table and a terminal must show as they are.
HOSTILE = {
    "script": "</script><script>window.hacked=1</script>",
    "comment": "<!--<script>",
    "image": "<img src=x onerror=window.hacked=1>",
    "link": '<a href="javascript:window.hacked=1">kd</a>',
    "bold": "<b>cat</b> &lt; dog",
    "escape": "\x1b[31mred\x1b]0;title\x07",
    "newline": "a\nerror: b\r\tc",
    "separator": "a\u2028b\x85c",
    "bidi": "\u202egnp",
    "table": "a|b, 50% & more_",
    "latex": "$x$ \\(y\\)",
    "template": "%{x} {{ x }}",
    "quotes": "\"a\" 'b' `c`",
    "broken": "\udcff",  # what Python makes of a byte in a folder's name that is no UTF-8
    "long": "w" * 2000,
    "empty": "",
}


def hostile_recording(folder, name):
    """A copy of the recording in which a class and a network have this name, and its title ends in it."""
    shutil.copytree(PROJECT / "data" / "recorded" / "cifar100-lt", folder)
    index = json.loads((folder / "index.json").read_text())
    index["networks"][name] = index["networks"].pop("ltkd")
    index["class_names"][0] = name
    index["title"] += name
    (folder / "index.json").write_text(json.dumps(index))
    return folder


def texts(part, key=""):
    """All texts of a figure, with the names of their properties."""
    if isinstance(part, dict):
        return [found for name, value in part.items() for found in texts(value, name)]
    if isinstance(part, list | tuple | np.ndarray):
        return [found for value in part for found in texts(value, key)]
    return [(key, part)] if isinstance(part, str) else []


@contextmanager
def about(*entry):
    """For one test of many entries: names the entry in whatever fails."""
    try:
        yield
    except BaseException as error:  # pytest's own "did not raise" is no Exception
        error.add_note(f"at {entry}")
        raise


def hears_ctrl_c():
    """For a child process: a shell that starts the tests in the background has them ignore SIGINT, and theirs too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def digits_config(**settings):
    """A short run on the digits with the smallest networks, unless `settings` say otherwise."""
    return RunConfig.make(**SHORT_RUN | settings)


def random_dataset(counts=(18, 9, 3), test_counts=(4, 4, 4), seed=0, test_seed=1):
    """A data set of random 8 x 8 images with so many in each class."""
    halves = [_random_images(counts, seed), _random_images(test_counts, test_seed)]
    return LongTailedDataset("noise", *halves, tuple("abcdefgh"[: len(counts)]))


def _random_images(counts, seed):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (sum(counts), 1, 8, 8), dtype=torch.uint8, generator=generator)
    return ImageSet(images, torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts)))


def other_result(folder, **changes):
    """Store another result of a run, as if it had come out differently. changes: {key: function of its value}."""
    result = json.loads((folder / "result.json").read_text())
    result |= {key: change(result[key]) for key, change in changes.items()}
    names = result["digests"].keys() - {"result.json"}
    files = {name: (folder / name).read_bytes() for name in names if (folder / name).exists()}
    (folder / "result.json").write_text(json.dumps(sealed(result, files)))


def other_config(folder, **fields):
    """Store a run with other fields of its config."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | fields))
    other_result(folder)  # stored together with this config


def class_folders(folder, counts):
    """Random images of 8 x 8 pixels: so many training images of each class, and two for testing."""
    rng = np.random.default_rng(0)
    for half, numbers in (("train", counts), ("test", [2] * len(counts))):
        for name, number in zip("abcdefgh", numbers, strict=False):
            place = folder / half / name
            place.mkdir(parents=True)
            for i in range(number):
                Image.fromarray(rng.integers(256, size=(8, 8, 3), dtype=np.uint8)).save(place / f"{i}.png")


def fastest(function, times=8):
    """CPU seconds of the fastest of several calls: the others also count what else the process and the machine do."""
    seconds = []
    for _ in range(times):
        started = time.process_time()
        function()
        seconds.append(time.process_time() - started)
    return min(seconds)


def draw(*shape, seed=0, scale=3.0, dtype=torch.float64):
    """Normal random numbers from a generator of their own."""
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def random_groups(n_classes, n_groups, seed=0):
    """A random partition in which every group has a class."""
    rng = np.random.default_rng(seed)
    index = np.concatenate([np.arange(n_groups), rng.integers(n_groups, size=n_classes - n_groups)])
    return ClassGroups([f"g{g}" for g in range(n_groups)], torch.as_tensor(rng.permutation(index)))


def softmax(logits, temperature=1.0):
    """Plain probabilities in float64, row by row."""
    rows = np.asarray(logits, dtype=np.float64) / temperature
    return np.stack([np.exp(row - row.max()) / np.exp(row - row.max()).sum() for row in rows])


def extreme_logits(dtype, n_classes=9):
    """Student's and teacher's logits of -1e4, 0 and 1e4, at odds with each other in every row."""
    row = torch.tensor([-1e4, 0.0, 1e4]).repeat(n_classes)[:n_classes]
    teacher = torch.stack([row.roll(k) for k in range(n_classes)])
    return teacher.roll(1, 0).to(dtype), teacher.to(dtype)
