import json
import os

import pytest
import torch
from PIL import Image

from ltkd import ConfigError, DataError
from ltkd.datasets import AS_IS, load, version

WNIDS = ("n01440764", "n01443537", "n01484850")


pytestmark = pytest.mark.usefixtures("own_cache_no_network")


def write(path, shade, size=(24, 18), mode="RGB"):
    """An image of one shade of grey, which tells it from others after it is decoded."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade,) * 3).convert(mode).save(path)


def shades(files):
    """The shade of each image, decoded."""
    images = torch.cat(list(files.batches(torch.arange(len(files)).split(4))))
    return [round(float(image.float().mean())) for image in images]


def write_imagenet(place, counts=(8, 8, 8), train="train", val="val"):
    """ImageNet as everybody unpacks it; image i of class c has the shade 60c + 5i, those of val/ 3 more."""
    for c, (wnid, n) in enumerate(zip(WNIDS, counts, strict=True)):
        for i in range(n):
            write(place / train / wnid / f"{wnid}_{i}.JPEG", 60 * c + 5 * i, mode=("RGB", "L", "CMYK")[i % 3])
        for i in range(2):
            write(place / val / wnid / f"ILSVRC2012_val_{c}{i}.JPEG", 60 * c + 5 * i + 3)
    return place


def write_list(file, rows):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{path} {label}\n" for path, label in rows))


def write_imagenet_lt(lists):
    """Three, two and one image of the classes, in no order."""
    picked = [(2, 0), (0, 4), (1, 1), (0, 2), (1, 7), (0, 7)]
    write_list(lists / "ImageNet_LT_train.txt", [(f"train/{WNIDS[c]}/{WNIDS[c]}_{i}.JPEG", c) for c, i in picked])
    tests = [(f"val/{wnid}/ILSVRC2012_val_{c}{i}.JPEG", c) for c, wnid in enumerate(WNIDS) for i in range(2)]
    write_list(lists / "ImageNet_LT_test.txt", tests)
    return picked


# --- imagenet-exp-lt ---


@pytest.mark.parametrize("folder", ["imagenet", "ILSVRC2012", "ILSVRC/Data/CLS-LOC"])
def test_a_long_tail_is_cut_from_imagenets_folders(root, folder):
    write_imagenet(root / folder)
    data = load("imagenet-exp-lt", imbalance_factor=4, root=root)
    assert data.class_counts.tolist() == [8, 4, 2]
    assert data.class_names == WNIDS
    assert data.test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert data.streamed
    assert data.image_size == 224
    assert str(root / folder) in data.source


def test_imagenets_images_go_with_their_classes(root):
    write_imagenet(root / "imagenet")
    data = load("imagenet-exp-lt", imbalance_factor=4, root=root, image_size=16)
    assert data.image_size == 16
    for half in (data.train, data.test):
        assert [shade // 60 for shade in shades(half)] == half.labels.tolist()
    assert shades(data.test) == [3, 8, 63, 68, 123, 128]


def test_the_halves_may_be_named_as_their_archives(root):
    write_imagenet(root / "ILSVRC2012", train="ILSVRC2012_img_train", val="ILSVRC2012_img_val")
    assert load("imagenet-exp-lt", root=root).class_counts.tolist() == [8, 8, 8]


def test_classes_of_imagenet_that_are_too_small_give_all_they_have(root):
    write_imagenet(root / "imagenet", counts=(8, 3, 8))
    assert load("imagenet-exp-lt", imbalance_factor=4, root=root).class_counts.tolist() == [8, 3, 2]


def test_the_seed_draws_the_images_of_imagenet_exp_lt(root):
    write_imagenet(root / "imagenet")
    first, again, other = (load("imagenet-exp-lt", imbalance_factor=4, root=root, seed=seed) for seed in (1, 1, 2))
    assert first.train.paths.tolist() == again.train.paths.tolist()
    assert first.train.paths.tolist() != other.train.paths.tolist()
    assert first.test.paths.tolist() == other.test.paths.tolist()


def test_without_imagenet_the_error_says_what_to_put_where(root):
    with pytest.raises(DataError) as error:
        load("imagenet-exp-lt", root=root)
    for part in (str(root / "imagenet"), str(root / "ILSVRC2012"), "train/<wnid>", "image-net.org", "data/README.md"):
        assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unsorted_val_says_how_to_sort_it(root):
    place = write_imagenet(root / "imagenet")
    for file in sorted((place / "val").rglob("*.JPEG")):
        file.rename(place / "val" / file.name)
    for folder in [entry for entry in (place / "val").iterdir() if entry.is_dir()]:
        folder.rmdir()
    with pytest.raises(DataError, match=r"no class folders.*must be sorted"):
        load("imagenet-exp-lt", root=root)


@pytest.mark.parametrize("half", ["train", "val"])
def test_a_half_of_imagenet_without_images_is_named(root, half):
    place = write_imagenet(root / "imagenet")
    for file in (place / half).rglob("*.JPEG"):
        file.unlink()
    with pytest.raises(DataError, match=rf"imagenet.{half} has no image"):
        load("imagenet-exp-lt", root=root)


# --- the published lists ---


@pytest.mark.parametrize("lists", ["imagenet-lt", "ImageNet_LT", "imagenet", "."])
def test_imagenet_lt_is_what_its_lists_name(root, lists):
    write_imagenet(root / "imagenet")
    picked = write_imagenet_lt(root / lists)
    data = load("imagenet-lt", root=root, image_size=16)
    assert data.class_counts.tolist() == [3, 2, 1]
    assert data.train.labels.tolist() == [c for c, _ in picked]
    assert shades(data.train) == pytest.approx([60 * c + 5 * i for c, i in picked], abs=1)
    assert shades(data.test) == [3, 8, 63, 68, 123, 128]
    assert data.class_names == WNIDS
    assert data.streamed
    assert "ImageNet_LT_train.txt" in data.source


def test_the_images_may_lie_beside_the_lists(root):
    write_imagenet(root / "imagenet-lt")
    write_imagenet_lt(root / "imagenet-lt")
    assert load("imagenet-lt", root=root).image_size == 224


@pytest.mark.parametrize(
    ("train", "val", "images"),
    [
        ("data_256/a/airfield", "val_256", "places-lt"),  # OLTR's lists, the archives of small images
        ("/data_256/a/airfield", "/val_256", "places365_standard"),
        ("train/airfield", "val/airfield", "places365_standard"),  # classifier-balancing's, the easy format
    ],
)
def test_places_lt_is_found_in_either_layout(root, train, val, images):
    bank = train.replace("a/airfield", "b/bank/indoor").replace("airfield", "bank")
    rows = [(f"{train}/0.jpg", 0), (f"{train}/1.jpg", 0), (f"{bank}/0.jpg", 1)]
    tests = [(f"{val}/Places365_val_0.jpg", 1), (f"{val}/Places365_val_1.jpg", 0)]
    for i, (path, _) in enumerate(rows + tests):
        write(root / images / path.lstrip("/"), 20 * i)
    write_list(root / "places-lt" / "Places_LT_train.txt", rows)
    write_list(root / "places-lt" / "Places_LT_test.txt", tests)
    data = load("places-lt", root=root, image_size=16)
    assert data.class_counts.tolist() == [2, 1]
    assert (data.test.labels.tolist(), shades(data.test)) == ([1, 0], [60, 80])
    assert "airfield" in data.class_names[0]


def inaturalist_rows(root):
    rows = [(f"train_val2018/Plantae/{c}/{i}.jpg", c) for c, n in enumerate((3, 2)) for i in range(n)]
    tests = [(f"train_val2018/Plantae/{c}/val.jpg", c) for c in range(2)]
    for i, (path, _) in enumerate(rows + tests):
        write(root / "inaturalist2018" / path, 20 * i)
    return rows, tests


def test_inaturalist_2018_is_read_from_lists(root):
    for half, rows in zip(("train", "val"), inaturalist_rows(root), strict=True):
        write_list(root / "inaturalist2018" / f"iNaturalist18_{half}.txt", rows)
    data = load("inaturalist2018", root=root, image_size=16)
    assert data.class_counts.tolist() == [3, 2]
    assert shades(data.train) == [0, 20, 40, 60, 80]
    assert shades(data.test) == [100, 120]


def annotations(rows, names):
    """iNaturalist's own JSON; the annotations stand in another order than the images."""
    images = [{"id": 7 + i, "file_name": path} for i, (path, _) in enumerate(rows)]
    labels = [{"id": i, "image_id": 7 + i, "category_id": label} for i, (_, label) in enumerate(rows)]
    categories = [{"id": c, "name": name} for c, name in enumerate(names)]
    return json.dumps({"images": images, "annotations": labels[::-1], "categories": categories})


@pytest.mark.parametrize(
    ("names", "expected"),
    [(("Abies alba", "Acer rubrum"), ("Abies alba", "Acer rubrum")), ((), ("0", "1")), (("same", "same"), ("0", "1"))],
)
def test_inaturalist_2018_is_read_from_its_own_annotations(root, names, expected):
    for half, rows in zip(("train", "val"), inaturalist_rows(root), strict=True):
        (root / "inaturalist2018" / f"{half}2018.json").write_text(annotations(rows, names))
    data = load("inaturalist2018", root=root, image_size=16)
    assert data.class_counts.tolist() == [3, 2]
    assert data.class_names == expected
    assert sorted(zip(shades(data.train), data.train.labels.tolist(), strict=True))[2:4] == [(40, 0), (60, 1)]


def test_test_annotations_follow_their_own_categories(root):
    (rows, tests), place = inaturalist_rows(root), root / "inaturalist2018"
    (place / "train2018.json").write_text(annotations(rows, ("Abies alba", "Acer rubrum")))
    swapped = [(path, 1 - label) for path, label in tests]
    (place / "val2018.json").write_text(annotations(swapped, ("Acer rubrum", "Abies alba")))
    test = load("inaturalist2018", root=root, image_size=16).test
    assert sorted(zip(shades(test), test.labels.tolist(), strict=True)) == [(100, 0), (120, 1)]
    (place / "val2018.json").write_text(annotations(tests, ("Acer rubrum", "Alnus incana")))
    with pytest.raises(DataError, match=r"val2018.json has images of a class 'Alnus incana', which is not among"):
        load("inaturalist2018", root=root, image_size=16)


@pytest.mark.parametrize("damage", ["{", "[]", '{"images": []}'])
def test_damaged_annotations_are_named(root, damage):
    for half, rows in zip(("train", "val"), inaturalist_rows(root), strict=True):
        (root / "inaturalist2018" / f"{half}2018.json").write_text(annotations(rows, ()))
    (root / "inaturalist2018" / "val2018.json").write_text(damage)
    with pytest.raises(DataError, match=r"val2018\.json cannot be read"):
        load("inaturalist2018", root=root)


def test_published_lists_are_taken_as_they_are_unless_they_allow_a_cut(root):
    write_imagenet(root / "imagenet")
    write_imagenet_lt(root)
    assert load("imagenet-lt", root=root, profile=AS_IS).class_counts.tolist() == [3, 2, 1]
    with pytest.raises(DataError, match="'as-is'"):
        load("imagenet-lt", root=root, imbalance_factor=1.1)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("imagenet-lt", ("ImageNet_LT_train.txt and ImageNet_LT_test.txt", "liuziwei7.github.io", "image-net.org")),
        ("places-lt", ("Places_LT_train.txt and Places_LT_test.txt", "liuziwei7.github.io", "places2.csail.mit.edu")),
        ("inaturalist2018", ("iNaturalist18_train.txt", "train2018.json", "github.com/visipedia/inat_comp")),
    ],
)
@pytest.mark.parametrize("half_there", [False, True], ids=["no list", "one list"])
def test_without_lists_the_error_says_which_and_where_to_have_them(root, name, parts, half_there):
    if half_there:
        write_list(root / name / parts[0].split(" and ")[0], [("a.jpg", 0)])
    with pytest.raises(DataError) as error:
        load(name, root=root)
    for part in (*parts, str(root / name), "data/README.md"):
        assert part in str(error.value)


def test_listed_images_that_are_missing_are_counted(root):
    place = write_imagenet(root / "imagenet")
    write_imagenet_lt(root)
    for i in (2, 7):
        (place / "train" / WNIDS[0] / f"{WNIDS[0]}_{i}.JPEG").unlink()
    with pytest.raises(DataError, match=rf"^2 of the 6 images in .*ImageNet_LT_train\.txt.*first .*{WNIDS[0]}_2\.JPEG"):
        load("imagenet-lt", root=root)


def test_an_unsorted_val_of_imagenet_lt_says_how_to_sort_it(root):
    place = write_imagenet(root / "imagenet")
    write_imagenet_lt(root)
    for file in sorted((place / "val").rglob("*.JPEG")):
        file.rename(place / "val" / file.name)
    with pytest.raises(DataError, match=r"6 of the 6 .*must be sorted into class folders"):
        load("imagenet-lt", root=root)


def test_nothing_is_decoded_before_it_is_needed(root, monkeypatch):
    write_imagenet(root / "imagenet")
    write_imagenet_lt(root)

    def refuse(*_args, **_kwargs):
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.Image.open", refuse)
    assert len(load("imagenet-lt", root=root).train) == 6
    assert len(load("imagenet-exp-lt", root=root).train) == 24


# --- lists of one's own ---


def write_pets(place, train, test, test_name="test", images="."):
    """A folder with two lists, and the images that they name, each of a shade of its own."""
    write_list(place / "train.txt", train)
    write_list(place / f"{test_name}.txt", test)
    for i, (path, _) in enumerate(train + test):
        write(place / images / path.lstrip("/"), 10 * i, size=(8, 8))
    return place


BY_NAME = [("a/1.png", "dog"), ("b/my cat.png", "cat"), ("2.png", "dog")], [("c/3.png", "cat"), ("4.png", "dog")]
BY_NUMBER = [("a/1.png", 1), ("b/my cat.png", 0), ("2.png", 1)], [("c/3.png", 0), ("4.png", 1)]


@pytest.mark.parametrize("test_name", ["test", "val"])
@pytest.mark.parametrize(("rows", "names"), [(BY_NAME, ("cat", "dog")), (BY_NUMBER, ("0", "1"))])
def test_a_folder_with_lists_is_a_data_set(root, rows, names, test_name):
    data = load(str(write_pets(root / "pets", *rows, test_name)))
    assert not data.streamed
    assert data.class_names == names
    assert data.class_counts.tolist() == [1, 2]
    assert data.train.images[:, 0, 0, 0].tolist() == [0, 10, 20]
    assert (data.train.labels.tolist(), data.test.labels.tolist()) == ([1, 0, 1], [0, 1])


@pytest.mark.parametrize("above", ["images/", "./images/", "", "./", "images//pets/./"])
def test_numbered_classes_are_named_after_folders_of_their_own(root, above):
    rows = [(f"{above}cat/1.png", 1), (f"{above}dog/2.png", 0), (f"{above}cat/3.png", 1)]
    data = load(str(write_pets(root / "pets", rows, [("images/x/4.png", 0), ("images/x/5.png", 1)])))
    assert data.class_names == ("dog", "cat")


@pytest.mark.parametrize("where", ["..", "absolute"])
def test_paths_may_begin_one_level_up_or_at_the_root(root, where):
    train, test = BY_NAME
    place = write_pets(root / "pets" / "lists", train, test, images="..")
    if where == "absolute":
        for name, rows in (("train", train), ("test", test)):
            write_list(place / f"{name}.txt", [(root / "pets" / path, label) for path, label in rows])
    assert load(str(place)).class_counts.tolist() == [1, 2]


def test_a_tab_may_part_path_and_class_so_that_its_name_has_spaces(root):
    place = write_pets(root / "pets", *BY_NAME)
    for file in (place / "train.txt", place / "test.txt"):
        file.write_text(file.read_text().replace(" dog", "\tbig dog").replace(" cat\n", "\tsmall cat\n\n"))
    assert load(str(place)).class_names == ("big dog", "small cat")


def test_lists_go_before_class_folders(root):
    rows = [("train/dog/1.png", "dog"), ("train/cat/2.png", "cat")], [("train/cat/3.png", "cat"), ("4.png", "dog")]
    data = load(str(write_pets(root / "pets", *rows)))
    assert (len(data.train), len(data.test)) == (2, 2)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("5.png", r"train\.txt, line 4: '5\.png' is not a path and a class"),
        ("a/1.png 3", "class 3 comes where class 2 should"),
        ("a/1.png -1", "class -1 comes where class 0 should"),
        ("a/1.png cat", r"by number and by name \('cat'\)"),
        ("gone.png 0", r"^1 of the 4 images in .*train\.txt are missing, first .*gone\.png"),
    ],
)
def test_a_bad_line_says_what_is_wrong(root, line, message):
    place = write_pets(root / "pets", *BY_NUMBER)
    with open(place / "train.txt", "a") as file:
        file.write(line + "\n")
    with pytest.raises(DataError, match=message):
        load(str(place))


@pytest.mark.parametrize("stranger", ["2", "cat", "1.5"])
def test_a_test_image_of_a_class_unknown_in_training_is_named(root, stranger):
    place = write_pets(root / "pets", *BY_NUMBER)
    write_list(place / "test.txt", [("4.png", 1), ("c/3.png", stranger)])
    with pytest.raises(DataError, match=rf"c/3\.png is of class '{stranger}'"):
        load(str(place))


@pytest.mark.parametrize("half", ["train", "test"])
def test_an_empty_list_is_an_error(root, half):
    place = write_pets(root / "pets", *BY_NAME)
    (place / f"{half}.txt").write_text("\n")
    with pytest.raises(DataError, match=rf"{half}\.txt names not a single image"):
        load(str(place))


def test_a_folder_with_one_list_alone_says_what_is_needed(root):
    place = write_pets(root / "pets", *BY_NAME)
    (place / "test.txt").unlink()
    with pytest.raises(DataError, match=r"lists train\.txt and test\.txt"):
        load(str(place))


def test_a_changed_list_is_noticed(root):
    place = write_pets(root / "pets", *BY_NUMBER)
    before, seen = load(str(place)), version(place)
    swapped = (place / "train.txt").read_text().replace("2.png 1", "2.png 0")
    (place / "train.txt").write_text(swapped)
    os.utime(place / "train.txt", ns=(0, 1))
    assert load(str(place)).class_counts.tolist() == [2, 1] != before.class_counts.tolist()
    assert version(place) != seen


def test_an_unknown_name_says_what_a_folder_needs(root):
    with pytest.raises(ConfigError, match=r"did you mean 'imagenet-lt'.*lists"):
        load("imagenet_lt", root=root)
