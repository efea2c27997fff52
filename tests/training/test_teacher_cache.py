"""Each view of an image passes through a teacher once, and the cache gives the same logits."""

import errno
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import digits_config, random_dataset
from torch import nn

from ltkd import ConfigError, RunError, fit
from ltkd.datasets import Views
from ltkd.datasets.normalization import Normalizer
from ltkd.decomposition import MASKED
from ltkd.methods import METHODS
from ltkd.models import build
from ltkd.training import teacher_cache
from ltkd.training.loaders import make_loader
from ltkd.training.teacher_cache import TeacherCache, cache_teachers

CPU = torch.device("cpu")
INF, NAN = float("inf"), float("nan")
N_IMAGES, N_VIEWS, N_CLASSES = 30, 9, 3


class Counted(nn.Module):
    """A network that counts the images it is shown; `scale` multiplies what it says."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.inner = build("resnet8x0.5", num_classes=N_CLASSES, in_channels=1, image_size=8)
        self.register_buffer("scale", torch.tensor(scale))
        self.shown = 0

    def forward(self, images):
        self.shown += len(images)
        return self.scale * self.inner(images)


@pytest.fixture(autouse=True)
def no_tables(tmp_path, monkeypatch):
    monkeypatch.setenv("LTKD_CACHE", str(tmp_path / "cache"))
    teacher_cache.forget()
    yield
    teacher_cache.forget()


@pytest.fixture
def pictures():
    return make_loader(random_dataset().train, "crop1", Normalizer([0.5], [0.25]), CPU)


def cached(network, pictures, cache="memory"):
    """The table of a network, and a function that asks it for (image, view) pairs."""
    table = cache_teachers({"teacher": network.eval()}, pictures, cache).tables["teacher"]

    def ask(pairs):
        indices, views = torch.tensor(pairs).T
        table.fill(network, pictures.make, indices, views)
        return table.logits(indices, views)

    return ask


ALL_PAIRS = [(image, view) for image in range(N_IMAGES) for view in range(N_VIEWS)]


@pytest.mark.parametrize("cache", ["memory", "disk"])
@torch.no_grad()
def test_what_is_remembered_is_what_the_network_says_in_float16(pictures, cache):
    network = Counted()
    indices, views = torch.tensor(ALL_PAIRS).T
    said = network.eval()(pictures.make(indices, views))
    torch.testing.assert_close(cached(network, pictures, cache)(ALL_PAIRS), said, rtol=1e-3, atol=1e-4)


def test_the_network_is_asked_once_about_each_view(pictures):
    network = Counted()
    ask = cached(network, pictures)
    first = ask(ALL_PAIRS[:40])
    network.shown = 0
    assert torch.equal(ask(ALL_PAIRS[:40]), first)
    assert network.shown == 0
    ask([*ALL_PAIRS[:40], (20, 3)])
    assert network.shown == teacher_cache.CHUNK  # one pass, of always as many images


def test_an_answer_does_not_depend_on_which_others_are_asked_with_it(pictures):
    together = cached(Counted(), pictures)(ALL_PAIRS)
    teacher_cache.forget()
    ask = cached(Counted(), pictures)
    alone = torch.cat([ask([pair]) for pair in ALL_PAIRS[::17]])
    assert torch.equal(alone, together[::17])


def test_students_of_one_teacher_share_a_table_and_those_of_another_do_not(pictures):
    assert cached(Counted(), pictures)(ALL_PAIRS[:9]).shape == (9, N_CLASSES)
    same, other = Counted(), Counted(scale=2.0)
    same.shown = other.shown = 0
    cached(same, pictures)(ALL_PAIRS[:9])
    cached(other, pictures)(ALL_PAIRS[:9])
    assert same.shown < teacher_cache.CHUNK <= other.shown


def test_other_images_are_other_answers(pictures):
    network = Counted()
    first = cached(network, pictures)(ALL_PAIRS[:9])
    others = make_loader(random_dataset(seed=5).train, "crop1", Normalizer([0.5], [0.25]), CPU)
    assert not torch.equal(cached(network, others)(ALL_PAIRS[:9]), first)


def test_answers_on_disk_outlive_the_process(pictures):
    first = cached(Counted(), pictures, "disk")(ALL_PAIRS)
    teacher_cache.forget()
    network = Counted()
    ask = cached(network, pictures, "disk")
    network.shown = 0
    assert torch.equal(ask(ALL_PAIRS), first)
    assert network.shown == 0


def flipped(share):
    return lambda data: data[: (at := int(share * (len(data) - 1)))] + bytes([data[at] ^ 1]) + data[at + 1 :]


DAMAGES = {
    "emptied": lambda data: b"",
    "cut off": lambda data: data[: len(data) // 2],
    "zeros": lambda data: bytes(len(data)),
    "turned round": lambda data: data[::-1],
    **{f"a bit at {share:.0%}": flipped(share) for share in np.linspace(0, 1, 5)},
}


@pytest.mark.parametrize("part", ["logits", "sums"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_answers_on_disk_are_computed_again(pictures, tmp_path, part, damage):
    first = cached(Counted(), pictures, "disk")(ALL_PAIRS)
    teacher_cache.forget()
    (stored,) = (tmp_path / "cache").rglob(f"*.{part}")
    stored.write_bytes(DAMAGES[damage](stored.read_bytes()))
    network = Counted()
    ask = cached(network, pictures, "disk")
    network.shown = 0
    assert torch.equal(ask(ALL_PAIRS), first)
    assert network.shown >= teacher_cache.CHUNK


def test_answers_of_another_teacher_are_not_taken_for_this_ones(pictures, tmp_path):
    tables = []
    for scale in (1.0, 2.0):
        first = cached(Counted(scale=scale), pictures, "disk")(ALL_PAIRS)
        tables.append(set((tmp_path / "cache").rglob("*.*s")) - {file for t in tables for file in t})
    for one, other in zip(*map(sorted, tables), strict=True):
        other.write_bytes(one.read_bytes())
    teacher_cache.forget()
    assert torch.equal(cached(Counted(scale=2.0), pictures, "disk")(ALL_PAIRS), first)


def full(*_args):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("function", ["posix_fallocate", "truncate"])
def test_the_space_of_a_table_is_taken_at_once_and_a_full_disk_is_told_or_avoided(pictures, monkeypatch, function):
    with teacher_cache.shared_folder():
        monkeypatch.setattr(os, function, full)
        with pytest.raises(ConfigError, match=r"cannot write a table .*No space left on device.*cache = 'auto'"):
            cache_teachers({"teacher": Counted()}, pictures, "disk")
        assert cache_teachers({"teacher": Counted()}, pictures, "auto").note.startswith("memory")


def test_the_blocks_of_a_table_are_on_the_disk_before_it_is_filled(pictures, tmp_path):
    cache_teachers({"teacher": Counted()}, pictures, "disk")
    files = [file.stat() for file in (tmp_path / "cache").rglob("*.*s")]
    assert len(files) == 2 and all(512 * file.st_blocks >= file.st_size > 0 for file in files)


def test_a_cache_that_cannot_be_written_is_told_in_one_sentence(pictures, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LTKD_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ConfigError, match=r"cannot write a table .*Not a directory"):
        cache_teachers({"teacher": Counted()}, pictures, "disk")
    with pytest.raises(RunError, match=r"cannot write .*Not a directory; set LTKD_CACHE"):
        teacher_cache.shared_folder().__enter__()


def test_a_shared_folder_of_a_killed_process_is_removed_and_that_of_a_living_one_is_not(tmp_path):
    folders = lambda: sorted((tmp_path / "cache").glob("teachers-*"))  # noqa: E731
    script = "import time; from ltkd.training.teacher_cache import *\nwith shared_folder(): print(flush=True); input()"
    child = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    child.stdout.readline()
    (of_child,) = folders()
    with teacher_cache.shared_folder():
        assert of_child in folders() and len(folders()) == 2
    child.kill()
    child.communicate()
    assert folders() == [of_child]
    with teacher_cache.shared_folder():
        assert of_child not in folders() and len(folders()) == 1
    assert folders() == []


def test_within_a_shared_folder_answers_are_removed_at_the_end(pictures, tmp_path):
    with teacher_cache.shared_folder():
        cached(Counted(), pictures, "disk")(ALL_PAIRS)
        assert list((tmp_path / "cache").rglob("*.logits"))
    assert not list((tmp_path / "cache").rglob("*.logits"))


def test_over_the_bound_the_teacher_computes_and_the_note_says_so(pictures, monkeypatch):
    monkeypatch.setattr(teacher_cache, "SHARE_OF_MEMORY", 0.0)
    memory = cache_teachers({"teacher": Counted()}, pictures, "auto")
    assert memory.tables == {}
    assert "the bound is 0 MiB" in memory.note
    with pytest.raises(ConfigError, match=r"the bound is 0 MiB; use cache = 'auto' or 'off'"):
        cache_teachers({"teacher": Counted()}, pictures, "memory")


def test_the_note_says_what_the_table_takes(pictures, monkeypatch):
    monkeypatch.setattr(teacher_cache, "_readable", lambda size: f"{size} bytes")
    size = N_IMAGES * N_VIEWS * (2 * N_CLASSES + 8)
    assert cache_teachers({"teacher": Counted()}, pictures, "memory").note == f"memory: {size} bytes when full"


def test_a_teacher_with_the_same_weights_that_says_something_else_has_a_table_of_its_own(pictures):
    class Scaled(Counted):
        def __init__(self, factor):
            super().__init__()
            self.factor = factor

        def forward(self, images):
            return self.factor * super().forward(images)

    first, second = (cached(Scaled(factor), pictures)(ALL_PAIRS[:9]) for factor in (1.0, 3.0))
    torch.testing.assert_close(second, 3 * first, rtol=1e-2, atol=1e-3)


def test_other_views_of_as_many_are_other_answers(pictures):
    network = Counted()
    assert cached(network, pictures)(ALL_PAIRS[:9]).shape == (9, N_CLASSES)
    rotated = make_loader(random_dataset().train, "crop1", Normalizer([0.5], [0.25]), CPU)
    rotated.views = Views(degrees=4)
    network.shown = 0
    cached(network, rotated)(ALL_PAIRS[:9])
    assert network.shown >= teacher_cache.CHUNK


def test_tables_used_longest_ago_make_room_and_the_note_says_so(pictures, monkeypatch):
    size = N_IMAGES * N_VIEWS * (2 * N_CLASSES + 8)
    monkeypatch.setattr(teacher_cache, "_memory", lambda device: 2.5 * size / teacher_cache.SHARE_OF_MEMORY)
    notes = [cache_teachers({"teacher": Counted(scale=s).eval()}, pictures, "memory").note for s in (1.0, 2.0, 3.0)]
    assert [note.endswith("freed 1 earlier tables") for note in notes] == [False, False, True]


def test_tables_of_another_device_make_no_room_and_take_none(pictures, monkeypatch):
    size = N_IMAGES * N_VIEWS * (2 * N_CLASSES + 8)
    monkeypatch.setattr(teacher_cache, "_memory", lambda device: 2.5 * size / teacher_cache.SHARE_OF_MEMORY)
    shape = (N_IMAGES, 100 * N_VIEWS, N_CLASSES)
    elsewhere = teacher_cache.Table(torch.empty(shape, dtype=torch.float16), torch.empty(shape[:2], dtype=torch.int64))
    monkeypatch.setitem(teacher_cache._tables, ("key", "memory", "cuda:0"), elsewhere)
    notes = [cache_teachers({"teacher": Counted(scale=s).eval()}, pictures, "memory").note for s in (1.0, 2.0, 3.0)]
    assert [note.endswith("freed 1 earlier tables") for note in notes] == [False, False, True]
    assert elsewhere in teacher_cache._tables.values()


def test_in_a_shared_folder_a_table_is_shared_where_it_fits_and_else_each_process_remembers(pictures, monkeypatch):
    with teacher_cache.shared_folder():
        assert cache_teachers({"teacher": Counted()}, pictures, "auto").note.startswith("disk")
        monkeypatch.setattr(teacher_cache, "_free_disk", lambda: 0)
        assert cache_teachers({"teacher": Counted()}, pictures, "auto").note.startswith("disk")  # it is there
        other = {"teacher": Counted(scale=2.0)}
        assert cache_teachers(other, pictures, "auto").note.startswith("memory")
        with pytest.raises(ConfigError, match="make room there, or use cache = 'auto'"):
            cache_teachers(other, pictures, "disk")


def test_whether_a_teacher_is_remembered_does_not_depend_on_where(pictures, monkeypatch):
    monkeypatch.setattr(teacher_cache, "SHARE_OF_MEMORY", 0.0)
    alone = cache_teachers({"teacher": Counted()}, pictures, "auto").note
    with teacher_cache.shared_folder():
        assert cache_teachers({"teacher": Counted()}, pictures, "auto").note == alone
    assert alone.startswith("off")


def test_an_unknown_cache_names_the_nearest(pictures):
    with pytest.raises(ConfigError, match="did you mean 'memory'"):
        cache_teachers({}, pictures, "memry")


def test_without_a_teacher_nothing_is_cached(pictures):
    assert cache_teachers({}, pictures, "memory") == TeacherCache({}, "off")


class Says(Counted):
    """A network that says the same for the first class of every image."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, images):
        return super().forward(images).index_fill(1, torch.tensor([0]), self.value)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [(7e4, r"too large.*--cache off"), *((value, r"NaN, inf or only -inf for \d+ of") for value in (NAN, INF))],
)
def test_logits_that_no_table_holds_are_an_error_that_names_their_teacher(pictures, value, sentence):
    network = Says(value).eval()
    table = cache_teachers({"few": network}, pictures, "memory").tables["few"]
    with pytest.raises(RunError, match=rf"teacher 'few'.* {sentence}") as raised:
        table.fill(network, pictures.make, *torch.tensor(ALL_PAIRS).T, called="teacher 'few' (resnet8)")
    assert ("--cache" in str(raised.value)) == (value == 7e4)


@pytest.mark.parametrize("cache", ["memory", "disk"])
@pytest.mark.parametrize("value", [-INF, torch.finfo(torch.float32).min, -1e9, torch.finfo(torch.float16).min])
def test_a_masked_class_stays_masked(pictures, cache, value):
    logits = cached(Says(value), pictures, cache)(ALL_PAIRS)
    assert (logits[:, 0] <= MASKED).all()
    assert logits[:, 1:].isfinite().all()


# --- runs ---


def run(folder, **settings):
    cache = settings.pop("cache", "auto")
    return fit(digits_config(**settings), runs=folder, cache=cache, device="cpu", progress=False)


@pytest.mark.parametrize(
    "method", ["ltkd", *(pytest.param(name, marks=pytest.mark.slow) for name in ("kd", "bkd", "dkd", "lfme"))]
)
def test_training_with_a_memory_is_training_without_within_rounding(tmp_path, method):
    with_memory, without = (run(tmp_path / c, method=method, epochs=1, cache=c) for c in ("memory", "off"))
    assert with_memory.result["teacher_cache"].startswith("memory")
    assert without.result["teacher_cache"] == "off"
    terms = [c for c in without.history if c.startswith(("loss", "cross", "within"))]
    np.testing.assert_allclose(with_memory.history[terms], without.history[terms], rtol=2e-2)


@pytest.mark.slow
def test_a_second_student_finds_the_answers_of_the_first_and_learns_the_same(tmp_path):
    first, second = (run(tmp_path / name, method="ltkd") for name in "ab")
    assert np.array_equal(first.logits, second.logits)
    run(tmp_path / "a", method="kd", temperature=2.0)  # fills more of the table, and changes nothing
    assert np.array_equal(run(tmp_path / "c", method="ltkd").logits, first.logits)


@pytest.mark.parametrize("method", [name for name, cls in METHODS.items() if cls.needs == "features"])
def test_methods_that_need_features_go_without(tmp_path, method):
    assert run(tmp_path, method=method, epochs=1).result["teacher_cache"] == "off"
