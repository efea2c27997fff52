"""Data sets that the caller makes of arrays, tensors and other objects."""

import pickle

import numpy as np
import pytest
import torch
from helpers import random_dataset
from PIL import Image
from torch.utils.data import Subset, TensorDataset

from ltkd import ConfigError, DataError, RunConfig, fit
from ltkd.datasets import ImageFiles, ImageSet, LongTailedDataset, load
from ltkd.training.custom_objects import with_objects

# In most of these, both halves are the same images.
pytestmark = pytest.mark.filterwarnings("ignore:.*(training images too|more than once|two classes)")

NHWC = np.random.default_rng(0).integers(256, size=(6, 8, 8, 3), dtype=np.uint8)
NCHW = torch.from_numpy(NHWC).permute(0, 3, 1, 2)
LABELS = np.array([0, 0, 0, 1, 1, 2])
GREY = NHWC[..., 0]


def made(images=NHWC, labels=LABELS, **how):
    return LongTailedDataset.from_arrays(images, labels, images, labels, **how)


# --- what can be converted ---

IMAGES = {
    "channels last": NHWC,
    "channels first": NCHW.numpy(),
    "a tensor": NCHW,
    "a list of arrays of both layouts": [*NHWC[:3], *NCHW[3:].numpy()],
    "PIL images": [Image.fromarray(x) for x in NHWC],
    "floats up to 1": NCHW / 255,
    "floats up to 1 in bfloat16 of black and white": (NCHW > 127).bfloat16(),
    "floats up to 255": NHWC.astype(np.float64),
    "floats a little beyond 1": np.where(NHWC == 255, 1.000001, NHWC / 255),
    "int64": NHWC.astype(np.int64),
    "12 bits": (NHWC * (4095 / 255)).round().astype(np.uint16),
    "16 bits": NHWC.astype(np.uint16) * 257,
}


@pytest.mark.parametrize("kind", IMAGES)
def test_images_of_every_kind_become_the_same_pixels(kind):
    expected = (NCHW > 127).to(torch.uint8) * 255 if "bfloat16" in kind else NCHW
    data = made(IMAGES[kind])
    assert (data.train.images.int() - expected.int()).abs().max() <= (1 if kind == "12 bits" else 0)
    assert torch.equal(data.test.images, data.train.images)


@pytest.mark.parametrize(
    "grey", [GREY, GREY[:, None], GREY[..., None], [Image.fromarray(x) for x in GREY], GREY.astype(np.uint16) * 257]
)
def test_grey_images_have_one_channel(grey):
    assert torch.equal(made(grey).train.images, torch.from_numpy(GREY)[:, None])


def test_black_and_white_images_are_black_and_white():
    assert torch.equal(made(GREY > 127).train.images, 255 * torch.from_numpy(GREY > 127)[:, None].to(torch.uint8))


def test_grey_images_among_those_in_colour_become_colour():
    data = LongTailedDataset.from_arrays(NHWC, LABELS, GREY, LABELS)
    assert torch.equal(data.test.images, torch.from_numpy(GREY)[:, None].expand(-1, 3, -1, -1))


def test_both_halves_have_one_range():
    data = LongTailedDataset.from_arrays(NHWC / 255, LABELS, NHWC / 510, LABELS)
    assert (data.test.images.int() - (NCHW / 2).int()).abs().max() <= 1
    assert "0 became black, 1 white" in data.notes[0]


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (NHWC / 255, NHWC / 1.0, r"0 to 1 \(white: 1\), the test images from 0 to 255 \(white: 255\)"),
        (NHWC, NHWC.astype(np.int64) // 2, r"0 to 255 \(white: 255\), the test images from 0 to 127 \(white: 127\)"),
        (NHWC.astype(np.uint16) * 257, NHWC.astype(np.uint16), r"\(white: 65535\), the test .*\(white: 255\)"),
        (NHWC > 127, NHWC, r"0 to 1 \(white: 1\), the test images from 0 to 255"),
    ],
    ids=["floats", "uint8 and int64", "16 bits and 8", "black and white"],
)
def test_halves_of_two_ranges_are_refused(train, test, message):
    with pytest.raises(ConfigError, match=message):
        LongTailedDataset.from_arrays(train, LABELS, test, LABELS)


def test_whole_numbers_of_8_bits_have_one_range():
    data = LongTailedDataset.from_arrays(NHWC, LABELS, (NHWC // 2).astype(np.int8), LABELS)
    assert torch.equal(data.test.images, NCHW // 2)


def test_images_of_several_sizes_are_brought_to_one():
    images = [Image.new("RGB", size) for size in ((9, 5), (8, 8), (20, 31), (8, 9), (8, 8), (8, 8))]
    assert made(images, image_size=8).train.images.shape == (6, 3, 8, 8)


NUMBERS = {
    "a list": LABELS.tolist(),
    "int32": LABELS.astype(np.int32),
    "uint8": LABELS.astype(np.uint8),
    "a tensor": torch.from_numpy(LABELS),
    "a list of tensors": list(torch.from_numpy(LABELS)),
    "whole floats": LABELS.astype(float),
    "a column": LABELS[:, None],
    "one-hot": np.eye(3)[LABELS],
    "one-hot in a tensor": torch.nn.functional.one_hot(torch.from_numpy(LABELS)),
    "numbers in an object array": np.array(LABELS.tolist(), dtype=object),
    "whole numbers and whole floats": [0, 0.0, np.int8(0), 1, 1.0, torch.tensor(2)],
    "bytes": [b"0", b"0", b"0", b"1", b"1", b"2"],
    "names": ["ant", "ant", "ant", "bee", "bee", "cat"],
    "names in an object array": np.array(["ant", "ant", "ant", "bee", "bee", "cat"], dtype=object),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_labels_of_every_kind_become_the_same_numbers(kind):
    data = made(labels=NUMBERS[kind])
    assert data.train.labels.tolist() == LABELS.tolist()
    assert data.train.labels.dtype == torch.int64
    assert data.class_names == (("ant", "bee", "cat") if "names" in kind else ("0", "1", "2"))


MANY = [n for n in range(12) for _ in range(2)]


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (np.array(MANY, dtype=object), [str(n) for n in range(12)]),
        ([str(n) for n in MANY], [str(n) for n in range(12)]),
        ([f"{n}.0" for n in MANY], [f"{n}.0" for n in range(12)]),
        ([str(n).encode() for n in MANY], [str(n) for n in range(12)]),
        ([n if n % 2 else str(n) for n in MANY], [str(n) for n in range(12)]),
        ([f"n{n}" for n in MANY], sorted(f"n{n}" for n in range(12))),
        ([f"é{n}".encode() for n in MANY], sorted(f"é{n}" for n in range(12))),
    ],
    ids=["objects", "texts", "texts of floats", "bytes", "texts and numbers", "words", "bytes beyond ASCII"],
)
def test_classes_called_by_numbers_are_in_the_order_of_these(labels, names):
    data = made(np.repeat(NHWC, 4, axis=0), labels)
    assert list(data.class_names) == names
    assert sorted(data.train.labels.tolist()) == MANY


def test_given_names_order_the_labels():
    data = made(labels=["bee", "bee", "bee", "cat", "cat", "ant"], class_names=["bee", "cat", "ant"])
    assert (data.class_names, data.train.labels.tolist()) == (("bee", "cat", "ant"), LABELS.tolist())


class Pairs:
    """A data set of (image, label) as torchvision's are."""

    classes = ("ant", "bee", "cat")

    def __init__(self, images, labels=LABELS, classes=classes):
        self.images, self.labels, self.classes = images, labels, classes

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.images[i], self.labels[i]


@pytest.mark.parametrize("images", [IMAGES["PIL images"], IMAGES["floats up to 1"]], ids=["PIL", "ToTensor"])
def test_a_torch_data_set_is_taken_with_its_class_names(images):
    data = LongTailedDataset.from_torch(Pairs(images), Subset(Pairs(images), range(6)))
    assert torch.equal(data.train.images, NCHW)
    assert torch.equal(data.test.images, NCHW)
    assert (data.class_names, data.class_counts.tolist()) == (("ant", "bee", "cat"), [3, 2, 1])


def test_a_tensor_dataset_is_taken():
    tensors = TensorDataset(NCHW, torch.from_numpy(LABELS))
    assert torch.equal(LongTailedDataset.from_torch(tensors, tensors).train.images, NCHW)


IN_ANOTHER_ORDER = {  # of the test half: labels and classes
    "numbers": ((LABELS + 1) % 3, ["cat", "ant", "bee"]),
    "one-hot": (np.eye(3)[(LABELS + 1) % 3], ["cat", "ant", "bee"]),
    "a name more, without images": (LABELS + 1, ["eel", "ant", "bee", "cat"]),
    "names": (np.array(["ant", "bee", "cat"])[LABELS], ["cat", "ant", "bee"]),
    "no order of its own": (LABELS, None),
}


@pytest.mark.parametrize("wrapped", [False, True], ids=["itself", "Subset"])
@pytest.mark.parametrize("case", IN_ANOTHER_ORDER)
def test_the_labels_of_a_torch_data_set_follow_its_own_class_names(case, wrapped):
    test = Pairs(NCHW, *IN_ANOTHER_ORDER[case])
    labels = LABELS if case != "names" else IN_ANOTHER_ORDER[case][0]
    data = LongTailedDataset.from_torch(Pairs(NCHW, labels), Subset(test, range(6)) if wrapped else test)
    assert (data.class_names, data.test.labels.tolist()) == (("ant", "bee", "cat"), LABELS.tolist())


class Broken(Pairs):
    """A data set whose items cannot be had."""

    def __init__(self, error):
        super().__init__(NCHW)
        self.error = error

    def __getitem__(self, i):
        raise self.error


BROKEN = [
    RuntimeError("no\ndecoder"),
    OSError("no file"),
    ValueError("odd"),
    AttributeError("x"),
    NotImplementedError(),
]


@pytest.mark.parametrize("error", BROKEN, ids=lambda error: type(error).__name__)
def test_an_error_of_a_torch_data_set_is_one_sentence(error):
    with pytest.raises(ConfigError, match=rf"a Broken cannot be read .*{type(error).__name__}.*needed are") as raised:
        LongTailedDataset.from_torch(Pairs(NCHW), Broken(error))
    assert "\n" not in str(raised.value)


def test_an_error_of_this_package_in_a_torch_data_set_stays_what_it_is():
    with pytest.raises(DataError, match=r"^a.png is damaged$"):
        LongTailedDataset.from_torch(Broken(DataError("a.png is damaged")), Pairs(NCHW))


# --- what cannot ---

REFUSED = {
    "normalised": (lambda: made(NCHW / 127.5 - 1), "values from -1 to 1.*before they are normalised"),
    "NaN": (lambda: made(np.where(NHWC > 250, np.nan, NHWC)), "nan"),
    "all 0": (lambda: made(np.zeros((6, 8, 8))), "from 0 to 0"),
    "two channels": (lambda: made(NHWC[..., :2]), r"shape \(8, 8, 2\)"),
    "either layout": (lambda: made(np.ones((6, 3, 3, 3))), r"shape \(3, 3, 3\)"),
    "complex": (lambda: made(NHWC.astype(complex)), "complex"),
    "no array": (lambda: made(7), "got int"),
    "several sizes": (lambda: made([*NHWC[:5], NHWC[5, :5, :5]]), "squares of one size.*image_size"),
    "oblong": (lambda: made(NHWC[:, :5]), "squares of one size"),
    "halves of two sizes": (
        lambda: LongTailedDataset.from_arrays(NHWC, LABELS, NHWC[:, :5, :5], LABELS),
        "training images are 8 x 8 .*test images 5 x 5",
    ),
    "an empty half": (lambda: LongTailedDataset.from_arrays(NHWC, LABELS, NHWC[:0], LABELS[:0]), "not a single image"),
    "soft labels": (lambda: made(labels=np.full((6, 3), 1 / 3)), "not one-hot"),
    "halves of labels": (lambda: made(labels=LABELS + 0.5), "whole numbers"),
    "a label of -1": (lambda: made(labels=LABELS - 1), "from -1 to 1"),
    "no label: None": (lambda: made(labels=["a", "a", None, None, "b", "b"]), "^2 images have no label"),
    "no label: NaN": (lambda: made(labels=np.where(LABELS == 2, np.nan, LABELS)), "^1 images have no label"),
    "no label: NaN among names": (lambda: made(labels=["a", "a", "b", "b", "b", np.nan]), "^1 images have no label"),
    "no label: masked": (lambda: made(labels=np.ma.masked_equal(LABELS, 1)), "^2 images have no label"),
    "no label: masked in a list": (lambda: made(labels=list(np.ma.masked_equal(LABELS, 1))), "^2 images have no label"),
    "no label: an empty text": (lambda: made(labels=["a", "a", "", " ", "b", "b"]), "^2 images have no label"),
    "bytes that are no text": (lambda: made(labels=[b"a", b"\xff", b"a", b"b", b"b", b"b"]), "not in UTF-8"),
    "an infinite label": (lambda: made(labels=np.where(LABELS == 2, np.inf, LABELS)), "such as inf"),
    "too few labels": (lambda: made(labels=LABELS[:5]), "6 images with labels"),
    "more labels than names": (lambda: made(class_names=["a", "b"]), "label 2, but 2 classes"),
    "a label far beyond the images": (lambda: made(labels=LABELS * 10**12), "arrays is 2000000000000, but 6 training"),
    "a test label far beyond the images": (
        lambda: LongTailedDataset.from_arrays(NHWC, LABELS, NHWC, LABELS * 10**12),
        "arrays is 2000000000000, but 6 training",
    ),
    "two classes of one name": (lambda: made(class_names=["a", "b", "a"]), "two classes are called 'a'"),
    "one class": (lambda: made(labels=LABELS * 0), "two classes or more"),
    "an empty class": (lambda: made(class_names="abcd"), "one text a class"),
    "a class without images": (lambda: made(class_names=[*"abcd"]), "class 'd' has no training images"),
    "a class without test images": (
        lambda: LongTailedDataset.from_arrays(NHWC, LABELS, NHWC[:5], LABELS[:5]),
        "class '2' has no test images",
    ),
    "a name unknown in training": (
        lambda: LongTailedDataset.from_arrays(NHWC, NUMBERS["names"], NHWC[:2], ["ant", "eel"]),
        "class 'eel'",
    ),
    "names and numbers": (lambda: LongTailedDataset.from_arrays(NHWC, NUMBERS["names"], NHWC, LABELS), "in one way"),
    "a class unknown in training": (
        lambda: LongTailedDataset.from_torch(Pairs(NCHW), Pairs(NCHW, classes=["cat", "eel", "ant"])),
        "the test half has images of a class 'eel', which is not among the class names of the training images",
    ),
    "a class that the test half does not name": (
        lambda: LongTailedDataset.from_torch(Pairs(NCHW), Pairs(NCHW, LABELS % 2, ["bee", "ant"])),
        "class 'cat' has no test images",
    ),
    "a label without a name": (
        lambda: LongTailedDataset.from_torch(Pairs(NCHW), Pairs(NCHW, LABELS - 1, ["cat", "ant", "bee"])),
        "the test half has names for the labels 0 to 2, but other labels too",
    ),
    "an endless data set": (lambda: LongTailedDataset.from_torch(iter(NHWC), iter(NHWC)), "cannot be read"),
    "items that are dicts": (
        lambda: LongTailedDataset.from_torch([{"image": x, "label": 0} for x in NHWC], Pairs(NCHW)),
        r"an item is a dict of 'image', 'label'; needed are a length, and items `\(image, label\)`",
    ),
    "items that are images": (lambda: LongTailedDataset.from_torch(NCHW, NCHW), "an item is a Tensor; needed"),
    "tuples of one": (lambda: LongTailedDataset.from_torch([(x,) for x in NCHW], [1]), "an item is a tuple of 1;"),
    "items of one": (lambda: LongTailedDataset.from_torch(list(NCHW[:, :1, 0, 0]), [1]), "cannot be read"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_converted_is_refused_in_one_sentence(case):
    make, message = REFUSED[case]
    with pytest.raises((ConfigError, DataError), match=message) as error:
        make()
    assert "\n" not in str(error.value)


def test_the_names_of_many_classes_are_checked_at_once():
    class Name(str):
        compared = 0
        __hash__ = str.__hash__

        def __eq__(self, other):
            Name.compared += 1
            return str.__eq__(self, other)

    names = [Name(c) for c in range(500)]
    with pytest.raises(ConfigError, match="two classes are called '7'"):
        made(class_names=[*names, Name(7)])
    assert Name.compared < 1000


def image_set(images=NCHW, labels=LABELS):
    return ImageSet(images, labels)


PARTS = {
    "channels last": (lambda: image_set(NCHW.permute(0, 2, 3, 1)), r"\(6, 8, 8, 3\).*from_arrays"),
    "oblong": (lambda: image_set(NCHW[:, :, :5]), r"\(6, 3, 5, 8\)"),
    "floats": (lambda: image_set(NCHW / 255), "float32"),
    "numpy": (lambda: image_set(NHWC), "got ndarray"),
    "one-hot": (lambda: image_set(labels=torch.eye(3)[LABELS]), r"labels of shape \(6, 3\)"),
    "-1": (lambda: image_set(labels=LABELS - 1), "from -1 to 1"),
    "floats as labels": (lambda: image_set(labels=LABELS / 2), "float64"),
    "names": (lambda: image_set(labels=NUMBERS["names"]), "no numbers"),
    "-1 on disk": (lambda: ImageFiles(["a", "b"], [0, -1], 8), "from -1 to 0"),
    "label of C": (lambda: LongTailedDataset("own", image_set(), image_set(), ("a", "b")), "label 2"),
    "a torch data set": (lambda: LongTailedDataset("own", Pairs(NHWC), image_set(), ("a", "b", "c")), "from_torch"),
    "grey and colour": (
        lambda: LongTailedDataset("own", image_set(), image_set(NCHW[:, :1]), ("a", "b", "c")),
        "in 3 channels.*in 1 channels",
    ),
}


@pytest.mark.parametrize("case", PARTS)
def test_the_parts_of_a_data_set_are_checked_when_they_are_made(case):
    make, message = PARTS[case]
    with pytest.raises(ConfigError, match=message):
        make()


def test_a_data_set_shows_its_sizes_and_not_its_pixels():
    data = load("digits", imbalance_factor=20)
    assert repr(data.test) == "ImageSet(500 images of 1 x 8 x 8)"
    assert "417 training and 500 test images of 10 classes, 124 to 6 training images per class" in repr(data)


@pytest.mark.parametrize("kind", ["a list", "int32", "uint8", "a tensor"])
def test_whole_numbers_of_any_kind_are_labels(kind):
    assert image_set(labels=NUMBERS[kind]).labels.dtype == torch.int64


@pytest.mark.parametrize(("counts", "test_counts"), [((5, 4, 0), (2, 2, 2)), ((5, 4, 3), (2, 0, 2))])
def test_fit_wants_images_of_each_class(tmp_path, counts, test_counts):
    with pytest.raises(DataError, match=r"class '[bc]' has no (training|test) images"):
        fit(RunConfig.make(method="ce"), runs=tmp_path, dataset=random_dataset(counts, test_counts))


@pytest.mark.parametrize(
    ("chosen", "recipe", "epochs"),
    [
        ({}, "folder", 60),
        ({"epochs": 24}, "folder", 24),  # as many as in the recipe of the digits, but chosen
        ({"recipe": "digits"}, "digits", 24),
        ({"dataset": "digits"}, "digits", 24),
    ],
    ids=str,
)
def test_the_recipe_of_own_data_is_folder_unless_another_is_chosen(chosen, recipe, epochs):
    config = with_objects(pickle.loads(pickle.dumps(RunConfig.make(**chosen, method="kd"))), None, None, made())
    assert (config.recipe, config.epochs) == (recipe, epochs)
    assert config.profile == "as-is"
    assert with_objects(config.for_teacher(), None, None, made()).recipe == recipe
