import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pictures import parquet_table, picture, png, save, write_folder, write_parquet
from PIL import Image

from ltkd import ConfigError, DataError, RunConfig, datasets
from ltkd.datasets import ImageFiles, LongTailedDataset, load, parquet

pytestmark = pytest.mark.usefixtures("own_cache_no_network")


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
    place = write_parquet(root / "cifar100" / "data")
    (place / "train-00000-of-00001.parquet").rename(place / "train-00000-of-00002.parquet")
    pq.write_table(parquet_table([1, 1]), place / "train-00001-of-00002.parquet")
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


def test_labels_far_beyond_the_images_are_refused_before_they_take_memory(root):
    write_parquet(root / "cifar100", train=(0, 1, 10**12))
    with pytest.raises(DataError, match="cifar100 is 1000000000000, but 3 training images"):
        load("cifar100", root=root)


def test_parquet_files_without_a_test_half_say_so(root):
    next(write_parquet(root / "cifar100").glob("test*")).unlink()
    with pytest.raises(DataError, match="test-"):
        load("cifar100", root=root)


def rewritten(file, change, column="img", kind=None):
    """The file with the values of one column changed."""
    table = pq.read_table(file)
    values = pa.array(change(table[column].to_pylist()), kind)
    pq.write_table(table.set_column(table.column_names.index(column), column, values), file)


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()], ids=str)
@pytest.mark.parametrize("image_size", [None, 16])
def test_images_may_be_plain_bytes(root, kind, image_size):
    place = write_parquet(root / "pets")
    expected = load(place, image_size=image_size)
    for file in place.iterdir():
        rewritten(file, lambda rows: [row["bytes"] for row in rows], kind=kind)
    assert torch.equal(load(place, image_size=image_size).train.images, expected.train.images)


NO_IMAGES = {
    "null": (lambda rows: [None, rows[1], None, *rows[3:]], r"2 images of .*train.* are null, first image 0; remove"),
    "null bytes": (lambda rows: [*rows[:4], {"bytes": None, "path": "4.png"}], "1 images of .* null, first image 4"),
    "plain null": (lambda rows: [row["bytes"] for row in rows[:4]] + [None], "1 images of .* null, first image 4"),
    "all null": (lambda rows: [None] * 5, "images of the type null; needed are the bytes of image files"),
    "paths": (lambda rows: [row["path"] for row in rows], "images of the type string; needed are the bytes"),
    "pixels": (lambda rows: [[0, 255]] * 5, "images of the type list.*; needed are the bytes"),
}


@pytest.mark.parametrize("image_size", [None, 16])
@pytest.mark.parametrize("case", NO_IMAGES)
def test_rows_without_an_image_are_told_in_one_sentence(root, case, image_size):
    change, message = NO_IMAGES[case]
    rewritten(next(write_parquet(root / "pets").glob("train*")), change)
    with pytest.raises(DataError, match=message):
        load(root / "pets", image_size=image_size)


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


# --- a folder of one's own ---


def test_a_folder_of_parquet_files_is_a_data_set(root):
    place = write_parquet(root / "pets", names=("cat", "dog"))
    data = load(place)
    assert (data.class_names, data.class_counts.tolist()) == (("cat", "dog"), [3, 2])
    assert load(place, imbalance_factor=3).class_counts.tolist() == [3, 1]
    assert load(place, image_size=16).image_size == 16


def test_a_run_notices_that_its_parquet_files_have_changed(root):
    place = write_parquet(root / "pets")
    before = RunConfig.make(dataset=str(place), method="ce")
    pq.write_table(parquet_table([0, 1, 1]), place / "test-00000-of-00001.parquet")
    assert RunConfig.make(dataset=str(place), method="ce").id != before.id


def test_class_folders_count_before_parquet_files(root):
    place = write_parquet(write_folder(root / "pets", counts=(4, 4)))
    assert load(place).class_counts.tolist() == [4, 4]


def test_several_data_sets_in_one_folder_are_not_mixed(root):
    for name in ("cats", "dogs"):
        write_parquet(root / name)
    with pytest.raises(DataError, match=r"several data sets, in .*cats and .*dogs; choose one"):
        load(root)


@pytest.mark.parametrize("image_size", [16, None])
def test_more_images_than_can_be_held_are_an_error(root, monkeypatch, image_size):
    place = write_parquet(root / "pets")
    size = 7 * 3 * load(place, image_size=image_size).image_size ** 2
    monkeypatch.setattr(parquet, "MEMORY", size)
    assert len(load(place, image_size=image_size).train) == 5
    monkeypatch.setattr(parquet, "MEMORY", size - 1)
    with pytest.raises(ConfigError, match=r"too many to keep in memory; .*train/<class>"):
        load(place, image_size=image_size)


# --- written ---


@pytest.fixture
def noise(root):
    """A small cifar100 of three classes, of noise that no lossy compression would keep."""
    rng = np.random.default_rng(0)
    for half, number in (("train", 8), ("test", 2)):
        for name in ("apple", "bear's", 'the "é"'):
            for i in range(number):
                pixels = rng.integers(256, size=(8, 8, 3), dtype=np.uint8)
                save(root / "cifar100" / half / name / f"{i}.png", Image.fromarray(pixels))
    return root


def assert_same(found, expected):
    for half in ("train", "test"):
        assert torch.equal(getattr(found, half).images, getattr(expected, half).images)
        assert torch.equal(getattr(found, half).labels, getattr(expected, half).labels)
    assert found.class_names == expected.class_names


@pytest.mark.parametrize(
    "how", [{}, {"imbalance_factor": 4, "seed": 3}, {"profile": (7, 2, 5), "image_size": 12}], ids=str
)
def test_a_whole_data_set_that_was_written_serves_every_request_to_the_same_pixel(noise, tmp_path, how):
    datasets.write_parquet(load("cifar100", root=noise), tmp_path / "there" / "cifar100")
    for _ in range(2):  # decoded, then from the cache
        found = load("cifar100", root=tmp_path / "there", **how)
        assert "parquet files" in found.source
        assert_same(found, load("cifar100", root=noise, **how))


def test_a_part_that_was_written_is_a_data_set_of_its_own(noise, tmp_path):
    part = load("cifar100", root=noise, imbalance_factor=4, seed=3)
    datasets.write_parquet(part, tmp_path / "part")
    assert_same(load(tmp_path / "part"), part)


def test_grey_images_are_written_in_three_equal_channels(tmp_path):
    digits = load("digits", imbalance_factor=20)
    datasets.write_parquet(digits, tmp_path / "digits")
    images = load(tmp_path / "digits").train.images
    assert torch.equal(images, digits.train.images.expand(-1, 3, -1, -1))


def test_the_files_have_the_schema_of_the_hugging_face_hub(noise, tmp_path):
    files = datasets.write_parquet(load("cifar100", root=noise), tmp_path / "there")
    assert [file.name for file in files] == ["train-00000-of-00001.parquet", "test-00000-of-00001.parquet"]
    schema = pq.read_schema(files[0])
    assert schema.field("image").type == pa.struct({"bytes": pa.binary(), "path": pa.string()})
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert features["label"] == {"names": ["apple", "bear's", 'the "é"'], "_type": "ClassLabel"}


def test_nothing_is_written_beside_other_parquet_files(noise, tmp_path):
    place = write_parquet(tmp_path / "there")
    before = {file: file.read_bytes() for file in place.iterdir()}
    with pytest.raises(ConfigError, match="already holds test-00000"):
        datasets.write_parquet(load("cifar100", root=noise), place)
    assert {file: file.read_bytes() for file in place.iterdir()} == before


def test_images_on_disk_are_too_many_to_write(tmp_path):
    files = ImageFiles([tmp_path / "0.png"], [0], 8)
    with pytest.raises(ConfigError, match="too large to be packed"):
        datasets.write_parquet(LongTailedDataset("big", files, files, ("a", "b")), tmp_path / "there")


# --- what is not what it seems ---


def test_a_missing_part_of_the_files_is_told(root):
    place = write_parquet(root / "pets")
    (place / "train-00000-of-00001.parquet").rename(place / "train-00001-of-00003.parquet")
    with pytest.raises(DataError, match=r"2 of the 3 parts .*are missing, first part 0"):
        load(place)


def test_parts_of_two_data_sets_are_not_joined(root):
    place = write_parquet(root / "pets")
    pq.write_table(parquet_table([1, 1]), place / "train-00001-of-00002.parquet")
    with pytest.raises(DataError, match="parts of different data sets"):
        load(place)


def test_the_halves_of_two_data_sets_are_not_joined(root):
    write_parquet(root / "pets" / "a", test_name="validation")
    write_parquet(root / "pets" / "b")
    (root / "pets" / "b" / "train-00000-of-00001.parquet").unlink()
    with pytest.raises(DataError, match="several data sets"):
        load(root / "pets")


def test_labels_follow_the_names_of_their_own_file(root):
    place = write_parquet(root / "pets", names=("cat", "dog"))
    table = parquet_table([0, 1, 1], names=("dog", "cat"), first=15)
    pq.write_table(table, place / "test-00000-of-00001.parquet")
    assert load(place).test.labels.tolist() == [1, 0, 0]
    pq.write_table(parquet_table([0, 1], names=("dog", "cat", "eel"), first=15), place / "test-00000-of-00001.parquet")
    assert load(place).test.labels.tolist() == [1, 0]
    pq.write_table(parquet_table([0, 1], names=("dog", "eel")), place / "test-00000-of-00001.parquet")
    with pytest.raises(DataError, match="class 'eel', which is not among the class names"):
        load(place)


NO_LABELS = {
    "below 0": ([0, 1, -1], r"a label -1; labels run from 0 on"),
    "null": ([0, None, None], r"2 labels of .*train.* are null, first label 1; remove"),
    "null text": (["cat", "dog", None], r"1 labels of .*train.* are null, first label 2; remove"),
    "halves": ([0, 1, 0.5], r"labels of the type double; needed are whole numbers .*astype\(int\)"),
    "truth": ([True, False], r"labels of the type bool; needed are whole numbers"),
    "lists": ([[0], [1]], r"labels of the type list.*; needed are whole numbers"),
    "texts in one half only": (["cat", "dog"], "labels by number and by name"),
}


@pytest.mark.parametrize("case", NO_LABELS)
def test_labels_that_are_no_classes_are_told(root, case):
    place, (labels, message) = write_parquet(root / "pets"), NO_LABELS[case]
    pq.write_table(parquet_table(labels), place / "train-00000-of-00001.parquet")
    with pytest.raises(DataError, match=message):
        load(place)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())], ids=str)
def test_labels_that_are_texts_name_the_classes(root, kind):
    place = write_parquet(root / "pets", train=["dog", "cat", "dog"], test=["dog", "eel", "cat"])
    (place / "train-00000-of-00001.parquet").rename(place / "train-00000-of-00002.parquet")
    pq.write_table(parquet_table(["eel", "bat", "eel"], first=10), place / "train-00001-of-00002.parquet")
    pq.write_table(parquet_table(["bat", "eel", "dog", "cat"], first=20), place / "test-00000-of-00001.parquet")
    for file in place.iterdir():
        rewritten(file, lambda labels: labels, "fine_label", kind)
    data = load(place, profile="as-is")
    assert data.class_names == ("bat", "cat", "dog", "eel")
    assert (data.train.labels.tolist(), data.test.labels.tolist()) == ([2, 1, 2, 3, 0, 3], [0, 3, 2, 1])
    pq.write_table(parquet_table(["bat", "emu"], first=20), place / "test-00000-of-00001.parquet")
    with pytest.raises(DataError, match="class 'emu', which is not among the class names"):
        load(place)


def test_all_damaged_rows_are_told_at_once(root):
    file = next(write_parquet(root / "pets").glob("train*"))
    rows = pq.read_table(file).to_pylist()
    rows[1]["img"]["bytes"], rows[3]["img"]["bytes"] = b"", b"?"
    pq.write_table(pa.Table.from_pylist(rows), file)
    with pytest.raises(DataError, match=r"2 of 7 images are damaged: image 1 of .*image 3 of "):
        load(root / "pets")


def test_rows_that_come_more_than_once_are_told_also_from_the_cache(root):
    place = write_parquet(root / "pets")
    pq.write_table(parquet_table([0, 1]), place / "test-00000-of-00001.parquet")
    for _ in range(2):
        with pytest.warns(UserWarning, match="2 images lie under|2 test images are training images too"):
            assert len(load(place).doubts) == 2


def test_pixels_of_more_than_8_bits_are_scaled_by_the_range_of_the_data_set(root):
    file = next(write_parquet(root / "pets").glob("train*"))
    rows, ramp = pq.read_table(file).to_pylist(), np.arange(64).reshape(8, 8) * 4
    rows[0]["img"]["bytes"] = png(Image.fromarray((ramp * 4095 // 255).astype(np.uint16)))
    pq.write_table(pa.Table.from_pylist(rows), file)
    for _ in range(2):  # decoded, then from the cache
        data = load(root / "pets")
        assert (data.train.images[0].int() - torch.from_numpy(ramp)).abs().max() <= 1
        assert "0 becomes black, 4095 white" in data.notes[0]
