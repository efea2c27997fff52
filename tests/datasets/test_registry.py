import hashlib
import io
import pickle
import tempfile
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torchvision
from PIL import Image

from ltkd import ConfigError, DataError, datasets
from ltkd.datasets import class_counts, large, load, sources

pytestmark = pytest.mark.usefixtures("own_cache_no_network")


def picture(colour, size=(8, 8), mode="RGB"):
    """One colour, told apart from others even after JPEG compression."""
    rgb = Image.new("RGB", size, (colour % 256, 40, 200 - colour % 200))
    return rgb.convert(mode)


def png(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def write_folder(place, counts=(3, 2), test="test", classes=("cat", "dog"), suffix="png", **how):
    """train/<class>/* and test/<class>/*, each image of a colour of its own."""
    for split, n_images in (("train", counts), (test, [2] * len(counts))):
        for c, name in enumerate(classes):
            for i in range(n_images[c]):
                colour = 100 * c + 10 * i + (5 if split != "train" else 0)
                save(place / split / name / f"{i}.{suffix}", picture(colour, **how))
    return place


def parquet_table(labels, image_column="img", label_column="fine_label", names=None):
    """A table in the schema of the Hugging Face hub; image k has colour k."""
    rows = [{"bytes": png(picture(10 * k)), "path": f"{k}.png"} for k in range(len(labels))]
    table = pa.table({image_column: rows, label_column: labels})
    if names:
        features = f'{{"info": {{"features": {{"{label_column}": {{"names": {list(names)}}}}}}}}}'.replace("'", '"')
        table = table.replace_schema_metadata({"huggingface": features})
    return table


def write_parquet(place, train=(0, 0, 0, 1, 1), test=(0, 1), test_name="test", **columns):
    place.mkdir(parents=True, exist_ok=True)
    pq.write_table(parquet_table(list(train), **columns), place / "train-00000-of-00001.parquet")
    pq.write_table(parquet_table(list(test), **columns), place / f"{test_name}-00000-of-00001.parquet")
    return place


# --- digits ---


def test_digits_hold_124_training_and_50_test_images_a_class():
    data = load("digits")
    assert len(data.train) == 1240
    assert data.class_counts.tolist() == [124] * 10
    assert data.test.counts(10).tolist() == [50] * 10


def test_digits_are_grey_8_by_8_in_the_whole_range():
    images = load("digits").train.images
    assert (tuple(images.shape[1:]), images.dtype) == ((1, 8, 8), torch.uint8)
    assert (int(images.min()), int(images.max())) == (0, 255)


def test_digits_are_the_same_every_time():
    first, second = (load("digits", imbalance_factor=20, seed=3) for _ in range(2))
    assert torch.equal(first.train.images, second.train.images)
    assert torch.equal(first.test.images, second.test.images)


def test_the_seed_draws_training_images_and_leaves_the_test_alone():
    first, second = (load("digits", imbalance_factor=20, seed=seed) for seed in (0, 1))
    assert torch.equal(first.class_counts, second.class_counts)
    assert not torch.equal(first.train.images, second.train.images)
    assert torch.equal(first.test.images, second.test.images)


def test_no_digit_is_in_training_and_test():
    data = load("digits")
    train, test = ({x.numpy().tobytes() for x in half.images} for half in (data.train, data.test))
    assert not train & test


def test_digits_can_be_resized():
    assert load("digits", image_size=16).image_size == 16


@pytest.mark.parametrize("factor", [0.5, 0, -1, float("nan"), float("inf"), "5", None])
def test_the_imbalance_factor_must_be_a_finite_number_of_at_least_one(factor):
    with pytest.raises(ConfigError, match="imbalance_factor"):
        load("digits", imbalance_factor=factor)


def test_an_unknown_data_set_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'cifar100'"):
        load("cifar1000")


def test_a_folder_that_is_named_is_not_made(root):
    with pytest.raises(DataError, match="there is no folder"):
        load("cifar10", root=root / "mistyped")
    assert not (root / "mistyped").exists()


def test_what_is_missing_is_told_every_place(root):
    with pytest.raises(DataError) as error:
        load("cifar10", root=root)
    for part in ("cifar-10-batches-py", "train-*.parquet", "train/<class>", f"pack-data` wrote into {root}"):
        assert part in str(error.value)


# --- parquet ---


@pytest.mark.parametrize(
    ("name", "folder", "image_column", "label_column", "test_name"),
    [
        ("cifar100", "cifar100", "img", "fine_label", "test"),
        ("cifar10", "cifar-10", "img", "label", "test"),
        ("tiny-imagenet", "tiny-imagenet", "image", "label", "valid"),
        ("tiny-imagenet", "tiny_imagenet", "image", "label", "validation"),
    ],
)
def test_parquet_files_are_found_in_either_naming(root, name, folder, image_column, label_column, test_name):
    write_parquet(root / folder, image_column=image_column, label_column=label_column, test_name=test_name)
    data = load(name, root=root, profile="as-is")
    assert data.class_counts.tolist() == [3, 2]
    assert len(data.test) == 2
    assert "parquet" in data.source


def test_of_parquet_files_for_validation_and_test_the_test_counts(root):
    place = write_parquet(root / "cifar100", test=(0, 1, 1))
    write_parquet(place, test=(0, 1), test_name="validation")
    assert load("cifar100", root=root, profile="as-is").test.labels.tolist() == [0, 1, 1]


def test_parquet_pixels_come_through_unchanged(root):
    write_parquet(root / "cifar100")
    images = load("cifar100", root=root, profile="as-is").train.images
    expected = np.stack([np.asarray(picture(10 * k)) for k in range(5)]).transpose(0, 3, 1, 2)
    assert np.array_equal(images.numpy(), expected)


def test_parquet_files_may_lie_in_a_subfolder_and_in_parts(root):
    write_parquet(root / "cifar100" / "data")
    pq.write_table(parquet_table([1, 1]), root / "cifar100" / "data" / "train-00001-of-00002.parquet")
    assert load("cifar100", root=root, profile="as-is").class_counts.tolist() == [3, 4]


def test_fine_labels_are_taken_where_coarse_ones_lie_beside_them(root):
    place = write_parquet(root / "cifar100")
    for file in place.iterdir():
        table = pq.read_table(file)
        pq.write_table(table.append_column("coarse_label", pa.array([0] * len(table))), file)
    assert load("cifar100", root=root, profile="as-is").num_classes == 2


@pytest.mark.parametrize(("names", "expected"), [(("apple", "bear"), ("apple", "bear")), (None, ("0", "1"))])
def test_class_names_come_from_the_metadata_or_are_numbers(root, names, expected):
    write_parquet(root / "cifar100", names=names)
    assert load("cifar100", root=root, profile="as-is").class_names == expected


def test_ltkd_data_names_the_root(root, monkeypatch):
    write_parquet(root / "cifar100")
    monkeypatch.setenv("LTKD_DATA", str(root))
    assert load("cifar100", profile="as-is").class_counts.tolist() == [3, 2]


# --- folders of images ---


@pytest.mark.parametrize("test", ["test", "val"])
def test_a_folder_of_ones_own_is_a_data_set(root, test):
    data = load(str(write_folder(root / "pets", test=test)), profile="as-is")
    assert data.class_names == ("cat", "dog")
    assert data.class_counts.tolist() == [3, 2]
    assert data.test.labels.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("name", "folder"), [("cifar10", "cifar10"), ("cifar100", "cifar-100"), ("tiny-imagenet", "tiny_imagenet")]
)
def test_a_named_data_set_may_lie_as_image_folders(root, name, folder):
    write_folder(root / folder)
    assert load(name, root=root, profile="as-is").class_counts.tolist() == [3, 2]


def test_without_a_factor_every_image_is_taken_and_with_one_a_long_tail(root):
    place = str(write_folder(root / "pets", counts=(6, 5)))
    assert load(place).class_counts.tolist() == [6, 5]
    assert load(place, imbalance_factor=3).class_counts.tolist() == [6, 2]


def test_a_class_folder_may_be_a_link(root):
    place = write_folder(root / "pets")
    (place / "train" / "dog").rename(root / "elsewhere")
    (place / "train" / "dog").symlink_to(root / "elsewhere")
    assert load(str(place)).class_counts.tolist() == [3, 2]


def test_images_may_lie_in_subfolders_of_their_class(root):
    place = write_folder(root / "pets")
    save(place / "train" / "dog" / "brown" / "small" / "9.png", picture(7))
    assert load(str(place), profile="as-is").class_counts.tolist() == [3, 3]


def test_files_that_are_no_images_are_passed_over(root):
    place = write_folder(root / "pets")
    (place / "train" / "dog" / "notes.txt").write_text("a good dog")
    (place / "train" / "README.md").write_text("dogs and cats")
    assert load(str(place), profile="as-is").class_counts.tolist() == [3, 2]


def test_a_class_without_test_images_is_named(root):
    place = write_folder(root / "pets")
    for file in (place / "test" / "dog").iterdir():
        file.unlink()
    with pytest.raises(DataError, match="class 'dog' has no test images"):
        load(str(place), profile="as-is")


def test_a_class_without_training_images_is_named(root):
    place = write_folder(root / "pets")
    (place / "train" / "eel").mkdir()
    with pytest.raises(DataError, match="class 'eel' has no training images"):
        load(str(place), profile="as-is")


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_half_without_a_single_image_is_an_error(root, split):
    place = write_folder(root / "pets")
    for file in (place / split).rglob("*.png"):
        file.unlink()
    with pytest.raises(DataError):
        load(str(place), profile="as-is")


def test_a_class_that_only_the_test_has_is_named(root):
    place = write_folder(root / "pets")
    save(place / "test" / "eel" / "0.png", picture(3))
    with pytest.raises(DataError, match="eel"):
        load(str(place), profile="as-is")


@pytest.mark.parametrize("missing", ["train", "test"])
def test_a_folder_needs_both_halves(root, missing):
    place = write_folder(root / "pets")
    (place / missing).rename(place / "elsewhere")
    with pytest.raises(DataError, match=missing):
        load(str(place), profile="as-is")


def test_jpeg_and_png_of_any_size_and_kind_are_brought_to_one(root):
    place = write_folder(root / "pets")
    save(place / "train" / "cat" / "wide.jpg", picture(0, (40, 20)))
    save(place / "train" / "cat" / "high.jpeg", picture(0, (9, 31)))
    save(place / "train" / "cat" / "grey.png", picture(0, (16, 16), "L"))
    save(place / "train" / "dog" / "print.JPG", picture(0, (12, 12), "CMYK"))
    save(place / "train" / "dog" / "palette.png", picture(0, (12, 12), "P"))
    save(place / "train" / "dog" / "clear.png", picture(0, (12, 12), "RGBA"))
    images = load(str(place), profile="as-is", image_size=16).train.images
    assert tuple(images.shape) == (11, 3, 16, 16)


def test_a_grey_image_becomes_three_equal_channels(root):
    data = load(str(write_folder(root / "pets", mode="L")), profile="as-is")
    channels = data.train.images.unbind(1)
    assert len(channels) == 3
    assert torch.equal(channels[0], channels[1])
    assert torch.equal(channels[0], channels[2])


def test_sixteen_bit_grey_images_keep_their_shades(root):
    place = write_folder(root / "pets")
    shades = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    save(place / "train" / "cat" / "0.png", Image.fromarray(shades))
    image = load(str(place), profile="as-is").train.images[0]
    torch.testing.assert_close(image[0].int(), torch.from_numpy((shades >> 8).astype(np.int32)), rtol=0, atol=1)


def test_resizing_scales_the_shorter_side_and_keeps_the_middle(root):
    place = write_folder(root / "pets", size=(8, 8))
    wide = np.zeros((8, 24, 3), dtype=np.uint8)
    wide[:, 8:16] = 255
    save(place / "train" / "cat" / "0.png", Image.fromarray(wide))
    assert (load(str(place), profile="as-is", image_size=8).train.images[0] == 255).all()


def test_mixed_sizes_without_image_size_say_how_to_choose_one(root):
    place = write_folder(root / "pets")
    save(place / "train" / "cat" / "big.png", picture(0, (20, 20)))
    with pytest.raises(DataError, match="image-size"):
        load(str(place), profile="as-is")


def test_oblong_images_without_image_size_say_how_to_choose_one(root):
    place = write_folder(root / "pets", size=(12, 8))
    with pytest.raises(DataError, match="image-size"):
        load(str(place), profile="as-is")


def write_tiny_imagenet(place):
    """As the archive of TinyImageNet unpacks: the classes of val/ in a list, and a test/ without labels."""
    for wnid, colours in (("n01443537", (0, 1, 2)), ("n01629819", (100, 110))):
        for i, colour in enumerate(colours):
            save(place / "train" / wnid / "images" / f"{wnid}_{i}.JPEG", picture(colour))
        (place / "train" / wnid / f"{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t0\t0\t7\t7\n")
    rows = ["val_0.JPEG\tn01629819\t0\t0\t7\t7", "val_1.JPEG\tn01443537\t0\t0\t7\t7"]
    for i in (0, 1):
        save(place / "val" / "images" / f"val_{i}.JPEG", picture((100, 0)[i]))
    (place / "val" / "val_annotations.txt").write_text("\n".join(rows) + "\n")
    (place / "wnids.txt").write_text("n01629819\nn01443537\n")
    (place / "words.txt").write_text("n01443537\tgoldfish\nn01629819\tsalamander\n")


@pytest.mark.parametrize("unlabelled_test", [False, True], ids=["without test/", "with its unlabelled test/"])
def test_tiny_imagenets_own_layout_is_read(root, unlabelled_test):
    place = root / "tiny-imagenet-200"
    write_tiny_imagenet(place)
    if unlabelled_test:
        save(place / "test" / "images" / "test_0.JPEG", picture(50))
    data = load("tiny-imagenet", root=root, profile="as-is")
    assert data.class_names == ("n01443537", "n01629819")
    assert data.class_counts.tolist() == [3, 2]
    assert data.test.labels.tolist() == [0, 1]
    assert data.test.images[0, 0].float().mean() < data.test.images[1, 0].float().mean()  # each with its own label


@pytest.mark.parametrize(("line", "ends_well"), [("", True), ("  ", True), ("val_0.JPEG", False)], ids=repr)
def test_a_line_of_tiny_imagenets_list_without_a_class_is_named_unless_it_is_blank(root, line, ends_well):
    write_tiny_imagenet(root / "tiny-imagenet-200")
    file = root / "tiny-imagenet-200" / "val" / "val_annotations.txt"
    file.write_text(f"{line}\n{file.read_text()}")
    if ends_well:
        assert load("tiny-imagenet", root=root, profile="as-is").test.labels.tolist() == [0, 1]
    else:
        with pytest.raises(DataError, match=f"{file}: the line 'val_0.JPEG' is not an image"):
            load("tiny-imagenet", root=root, profile="as-is")


# --- torchvision's folder ---


def write_torchvision(place, monkeypatch, labels=(0, 0, 1), test_labels=(0, 1)):
    """A tiny cifar-100-python/, whose check sums torchvision is made to expect."""
    cifar, folder = torchvision.datasets.CIFAR100, place / "cifar-100-python"
    folder.mkdir(parents=True)

    def dump(name, record):
        (folder / name).write_bytes(pickle.dumps(record))
        return hashlib.md5((folder / name).read_bytes()).hexdigest()

    def half(labels, seed):
        pixels = np.random.default_rng(seed).integers(256, size=(len(labels), 3072), dtype=np.uint8)
        return {"data": pixels, "fine_labels": list(labels)}

    train, test = half(labels, 0), half(test_labels, 1)
    monkeypatch.setattr(cifar, "train_list", [["train", dump("train", train)]])
    monkeypatch.setattr(cifar, "test_list", [["test", dump("test", test)]])
    md5 = dump("meta", {"fine_label_names": ["apple", "bear"]})
    monkeypatch.setattr(cifar, "meta", {"filename": "meta", "key": "fine_label_names", "md5": md5})
    return train["data"].reshape(-1, 3, 32, 32)


def write_torchvision_cifar10(place, monkeypatch):
    """As `write_torchvision`: two training batches of three images each."""
    cifar, folder = torchvision.datasets.CIFAR10, place / "cifar-10-batches-py"
    folder.mkdir(parents=True)

    def dump(name, record):
        (folder / name).write_bytes(pickle.dumps(record))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    def batch(labels, seed):
        pixels = np.random.default_rng(seed).integers(256, size=(len(labels), 3072), dtype=np.uint8)
        return {"data": pixels, "labels": list(labels)}

    halves = [batch((0, 1, 0), 0), batch((1, 0, 0), 1)]
    monkeypatch.setattr(cifar, "train_list", [dump(f"data_batch_{i + 1}", half) for i, half in enumerate(halves)])
    monkeypatch.setattr(cifar, "test_list", [dump("test_batch", batch((1, 0), 2))])
    md5 = dump("batches.meta", {"label_names": ["airplane", "automobile"]})[1]
    monkeypatch.setattr(cifar, "meta", {"filename": "batches.meta", "key": "label_names", "md5": md5})
    return np.concatenate([half["data"] for half in halves]).reshape(-1, 3, 32, 32)


@pytest.mark.parametrize("folder", [".", "cifar10", "cifar-10"])
def test_torchvisions_own_folder_of_cifar10_is_read(root, folder, monkeypatch):
    pixels = write_torchvision_cifar10(root / folder, monkeypatch)
    data = load("cifar10", root=root)
    assert data.class_names == ("airplane", "automobile")
    assert data.class_counts.tolist() == [4, 2]
    assert data.test.labels.tolist() == [1, 0]
    assert np.array_equal(data.train.images.numpy(), pixels)
    assert load("cifar10", root=root, imbalance_factor=4).class_counts.tolist() == [4, 1]


@pytest.mark.parametrize("folder", [".", "cifar100", "cifar-100"])
def test_torchvisions_own_folder_is_read(root, folder, monkeypatch):
    pixels = write_torchvision(root / folder, monkeypatch)
    data = load("cifar100", root=root, profile="as-is")
    assert data.class_names == ("apple", "bear")
    assert data.class_counts.tolist() == [2, 1]
    assert np.array_equal(data.train.images.numpy(), pixels)
    assert "torchvision" in data.source


def test_a_damaged_torchvision_folder_is_named(root, monkeypatch):
    write_torchvision(root, monkeypatch)
    (root / "cifar-100-python" / "train").write_bytes(b"cut off")
    with pytest.raises(DataError, match="cifar-100-python"):
        load("cifar100", root=root)


# --- nothing there ---


def test_where_nothing_is_found_the_error_names_the_layouts_and_the_places(root):
    with pytest.raises(DataError) as error:
        load("cifar100", root=root)
    for part in ("cifar-100-python", "parquet", "train/<class>", str(root / "cifar100"), str(root / "cifar-100")):
        assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_where_tiny_imagenet_is_not_found_the_error_names_its_places(root):
    with pytest.raises(DataError, match="tiny-imagenet-200"):
        load("tiny-imagenet", root=root)


def test_a_download_is_read_from_where_it_was_put(root, monkeypatch):
    def unpack(_url, _root, folder, **_):
        write_tiny_imagenet(Path(folder, "tiny-imagenet-200"))

    monkeypatch.setattr("torchvision.datasets.utils.download_and_extract_archive", unpack)
    assert load("tiny-imagenet", root=root, profile="as-is").class_counts.tolist() == [3, 2]


@pytest.mark.parametrize("name", ["cifar100", "tiny-imagenet"])
def test_of_several_that_need_a_download_one_does_it_and_none_reads_a_part(root, tmp_path, monkeypatch, name):
    prepared = tmp_path / "prepared"
    write_torchvision(prepared, monkeypatch)
    write_tiny_imagenet(prepared / "tiny-imagenet-200")
    downloads, counts = [], []

    def unpack_slowly(url, _root, folder, **_):
        downloads.append(url)
        whole = "cifar-100-python" if name == "cifar100" else "tiny-imagenet-200"
        files = sorted(file for file in (prepared / whole).rglob("*") if file.is_file())
        for file in files:
            time.sleep(0.5 / len(files))
            target = Path(folder) / file.relative_to(prepared)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())

    def read():
        counts.append(load(name, root=root, profile="as-is").class_counts.tolist())

    monkeypatch.setattr("torchvision.datasets.utils.download_and_extract_archive", unpack_slowly)
    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", unpack_slowly)
    threads = [threading.Timer(0.1 * number, read) for number in range(4)]  # the later ones come amid the unpacking
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(downloads) == 1
    assert counts == [[2, 1] if name == "cifar100" else [3, 2]] * 4


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), zipfile.BadZipFile("not a zip")])
def test_a_download_that_breaks_off_is_an_error_of_its_own(root, monkeypatch, failure):
    def break_off(*_args, **_kwargs):
        raise failure

    monkeypatch.setattr("torchvision.datasets.utils.download_and_extract_archive", break_off)
    with pytest.raises(DataError, match="download"):
        load("tiny-imagenet", root=root)


# --- damage ---


def test_a_truncated_parquet_file_is_named(root):
    file = next(write_parquet(root / "cifar100").glob("train*"))
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(DataError, match=file.name):
        load("cifar100", root=root)


@pytest.mark.parametrize("data", [b"", b"not an image", png(picture(0, (64, 64)))[:60]], ids=["empty", "text", "cut"])
def test_a_corrupt_image_in_a_parquet_file_is_named(root, data):
    file = next(write_parquet(root / "cifar100").glob("train*"))
    rows = pq.read_table(file).to_pylist()
    rows[2]["img"]["bytes"] = data
    pq.write_table(pa.Table.from_pylist(rows), file)
    with pytest.raises(DataError, match=r"image 2 of .*train"):
        load("cifar100", root=root)


@pytest.mark.parametrize("data", [b"", b"not an image", png(picture(0, (64, 64)))[:60]], ids=["empty", "text", "cut"])
def test_a_corrupt_image_in_a_folder_is_named(root, data):
    place = write_folder(root / "pets")
    (place / "train" / "dog" / "1.png").write_bytes(data)
    with pytest.raises(DataError, match=r"dog.1\.png"):
        load(str(place), profile="as-is")


def test_parquet_files_without_a_test_half_say_so(root):
    next(write_parquet(root / "cifar100").glob("test*")).unlink()
    with pytest.raises(DataError, match="test-"):
        load("cifar100", root=root)


@pytest.mark.parametrize("columns", [{"image_column": "pixels"}, {"label_column": "klass"}])
def test_parquet_files_with_other_columns_say_which_are_needed(root, columns):
    write_parquet(root / "cifar100", **columns)
    with pytest.raises(DataError, match="'img' or 'image'"):
        load("cifar100", root=root)


@pytest.mark.parametrize("stranger", [2, -1])
def test_a_test_label_that_training_has_not_is_an_error(root, stranger):
    write_parquet(root / "cifar100", test=(0, 1, stranger))
    with pytest.raises(DataError):
        load("cifar100", root=root, profile="as-is")


# --- the cache ---


def as_arrays(data):
    return [getattr(half, part).numpy() for half in (data.train, data.test) for part in ("images", "labels")]


def refuse_to_decode(*_args, **_kwargs):
    raise AssertionError("decoded again")


@pytest.fixture(params=["parquet", "folder"])
def stored(request, root):
    """A function that loads a small data set of one kind."""
    if request.param == "parquet":
        write_parquet(root / "cifar100")
    else:
        write_folder(root / "cifar100")
    return lambda **how: load("cifar100", root=root, profile="as-is", **how)


def test_the_second_time_the_same_images_come_from_the_cache(stored, monkeypatch):
    first = stored()
    monkeypatch.setattr("PIL.Image.open", refuse_to_decode)
    second = stored()
    assert all(np.array_equal(a, b) for a, b in zip(as_arrays(first), as_arrays(second), strict=True))
    assert (second.class_names, second.source) == (first.class_names, first.source)


@pytest.mark.parametrize("damage", [b"", b"damaged", None], ids=["empty", "garbage", "cut"])
def test_a_damaged_cache_is_made_anew(stored, tmp_path, monkeypatch, damage):
    first = stored()
    (cache,) = (tmp_path / "cache").iterdir()
    cache.write_bytes(cache.read_bytes()[:-50] if damage is None else damage)
    second = stored()
    assert all(np.array_equal(a, b) for a, b in zip(as_arrays(first), as_arrays(second), strict=True))
    monkeypatch.setattr("PIL.Image.open", refuse_to_decode)
    stored()


def test_a_changed_file_renews_the_cache(root):
    place = write_folder(root / "pets")
    before = load(str(place), profile="as-is")
    save(place / "train" / "cat" / "0.png", picture(250, mode="L"))
    after = load(str(place), profile="as-is")
    assert not torch.equal(after.train.images[0], before.train.images[0])
    assert torch.equal(after.train.images[1:], before.train.images[1:])


def test_what_another_version_decoded_is_not_taken(stored, monkeypatch):
    stored()
    monkeypatch.setattr("ltkd.datasets.cache.FORMAT", 0)
    monkeypatch.setattr("PIL.Image.open", refuse_to_decode)
    with pytest.raises(AssertionError, match="decoded again"):
        stored()


def test_another_image_size_has_its_own_cache(stored):
    assert (stored().image_size, stored(image_size=16).image_size, stored().image_size) == (8, 16, 8)


def test_a_cache_that_cannot_be_written_is_only_a_warning(stored, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="not kept"):
        assert len(stored().train) == 5


# --- real data ---


def test_cifar100_at_gamma_100_has_10847_images(real_data, monkeypatch):
    if not (real_data / "cifar100").is_dir():
        pytest.skip("no CIFAR-100 among the real data")
    with tempfile.TemporaryDirectory() as cache:  # 184 MB, which tmp_path would keep
        monkeypatch.setenv("LTKD_CACHE", cache)
        data = load("cifar100", imbalance_factor=100, root=real_data, seed=1)
    assert (len(data.train), len(data.test), data.num_classes) == (10_847, 10_000, 100)
    assert data.class_counts.tolist() == class_counts("exp", 100, [500] * 100).tolist()
    assert data.class_names[:2] == ("apple", "aquarium_fish")


def test_every_source_of_a_name_is_listed():
    assert set(datasets.SOURCES) == {"digits", *sources.LAYOUTS, "imagenet-exp-lt", *large.PUBLISHED}
