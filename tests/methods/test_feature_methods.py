"""FitNet, ReviewKD and CAT-KD: adapters between any two networks, and the maps that are compared. The losses on two
maps are in test_features."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import draw
from prepared import prepared, same, step_of, train, weights_of
from torch import nn

from ltkd import METHODS, ConfigError, FeatureOutput
from ltkd.methods import TEACHER, FeatureDistillation, Task
from ltkd.methods.features import class_maps, regressor
from ltkd.models import MODELS

FEATURE_METHODS = [name for name, cls in METHODS.items() if issubclass(cls, FeatureDistillation)]
feature_methods = pytest.mark.parametrize("name", FEATURE_METHODS)
adapting = pytest.mark.parametrize("name", ["fitnet", "reviewkd"])


def task_of(side, channels=3):
    shape = {"num_classes": 7, "in_channels": channels, "image_size": side}
    return Task.of(shape, (9, 8, 7, 6, 5, 4, 3), None, epochs=8)


class Shows(nn.Module):
    """A network that shows the same maps whatever it sees."""

    def __init__(self, stages, pooled, preactivations=None):
        super().__init__()
        self.fc = nn.Linear(pooled.shape[1], 7).to(pooled.dtype)
        self.output = FeatureOutput(self.fc(pooled), tuple(stages), pooled, preactivations, last_map=stages[-1])

    def features(self, _images):
        return self.output


def shown(student, teacher):
    """A step in which these networks, or these features, are the student's and the teacher's."""
    features = [each.output if isinstance(each, Shows) else each for each in (student, teacher)]
    return SimpleNamespace(student=student, features=features[0], teacher_features=features[1])


# --- all three ---


class LogitsFirst(FeatureDistillation):
    """A method of one's own that asks for the logits before the features."""

    def distill(self, step):
        return {"own": step.logits.mean() + step.features.pooled.mean()}


@pytest.mark.parametrize("name", [*FEATURE_METHODS, "one's own"])
def test_the_images_go_through_the_student_once_a_step(name):
    job = prepared(name if name in METHODS else FEATURE_METHODS[0])
    method, passes = job.method if name in METHODS else LogitsFirst(task_of(8)), []
    job.student.stem.register_forward_hook(lambda *_: passes.append(1))
    method(step_of(job))
    assert passes == [1]


@adapting
def test_adapters_are_trained_with_the_student_and_not_stored_with_it(name):
    job, plain = prepared(name), prepared("ce")
    before = weights_of(job.method)
    after = weights_of(train(job, [1]).method)
    learned = {n for n, _ in job.method.named_parameters()}
    assert learned
    assert not any(torch.equal(after[n], before[n]) for n in learned)
    assert set(weights_of(job.student)) == set(weights_of(plain.student))


@feature_methods
def test_the_teacher_stays_as_it_is(name):
    job = prepared(name)
    before = weights_of(job.teachers[TEACHER])
    assert same(weights_of(train(job, [1]).teachers[TEACHER]), before)
    assert all(p.grad is None for p in job.teachers[TEACHER].parameters())


class OnlyLogits(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(64, 7)

    def forward(self, images):
        return self.fc(images.flatten(1))


class WithoutLastMap(OnlyLogits):
    def features(self, images):
        return FeatureOutput(self(images), (images,) * 4, images.flatten(1))


class WithoutClassifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(1, 7)

    def forward(self, images):
        return self.features(images).logits

    def features(self, images):
        pooled = images.mean((2, 3))
        return FeatureOutput(self.head(pooled), (images,), pooled, last_map=images)


@pytest.mark.parametrize("role", ["student", "teacher"])
@pytest.mark.parametrize(
    ("name", "network", "missing"),
    [
        ("fitnet", OnlyLogits, r"OnlyLogits has no method features\(x\)"),
        ("reviewkd", OnlyLogits, r"OnlyLogits has no method features\(x\)"),
        ("catkd", OnlyLogits, r"OnlyLogits has no method features\(x\)"),
        ("catkd", WithoutLastMap, "last_map="),
        ("catkd", WithoutClassifier, "WithoutClassifier has no nn.Linear called fc"),
    ],
)
def test_a_network_of_ones_own_is_told_what_it_lacks(name, network, missing, role):
    with pytest.raises(ConfigError, match=missing):
        prepared(name, **{role: network()})


def test_a_network_of_ones_own_may_leave_out_what_a_method_does_not_ask_for():
    for name in ("fitnet", "reviewkd"):
        job = prepared(name, teacher=WithoutLastMap(), student=WithoutLastMap())
        assert all(term.isfinite() for term in job.method(step_of(job)).values())


# --- FitNet ---


@pytest.mark.parametrize(
    ("student_side", "teacher_side", "layer"),
    [
        (8, 4, nn.Conv2d(3, 5, 3, stride=2, padding=1)),
        (4, 8, nn.ConvTranspose2d(3, 5, 4, stride=2, padding=1)),
        (6, 6, nn.Conv2d(3, 5, 1)),
        (9, 6, nn.Conv2d(3, 5, 4)),
        (6, 9, nn.Sequential(nn.Upsample(size=9), nn.Conv2d(3, 5, 1))),
    ],
)
def test_the_regressor_brings_any_map_to_the_teachers_shape(student_side, teacher_side, layer):
    own, target = torch.rand(4, 3, student_side, student_side), torch.rand(4, 5, teacher_side, teacher_side)
    network = regressor(own, target)
    assert [str(part) for part in network] == [str(layer), str(nn.BatchNorm2d(5)), str(nn.ReLU())]
    assert network(own).shape == target.shape


def test_fitnets_hint_is_the_closed_form():
    own, target = draw(4, 3, 5, 5), draw(4, 2, 5, 5, seed=1)
    student, teacher = (Shows([maps] * 3, draw(4, 8)) for maps in (own, target))
    method = METHODS["fitnet"](task_of(5), kd_weight=30.0)
    method.connect(student, {TEACHER: teacher})
    term = method.double().distill(shown(student, teacher))["hint"]
    layer = method.regressor[0]
    mapped = np.einsum("bchw,oc->bohw", own.numpy(), array(layer.weight)[:, :, 0, 0])
    mapped = normed(mapped + array(layer.bias)[:, None, None])
    expected = 30.0 * ((np.maximum(mapped, 0) - target.numpy()) ** 2).mean()
    assert term.item() == pytest.approx(expected, rel=1e-12)


def test_a_stage_that_a_network_does_not_have_is_answered_with_those_it_has():
    with pytest.raises(ConfigError, match="layer = 4: must be from 0 to 3"):
        prepared("fitnet", layer=4)


# --- ReviewKD ---

# The maps that the teacher's networks give for images of 32 and of 64 pixels, deepest first, as channels@side.
REVIEWED = {
    ("resnet20", "resnet8"): ("64@1 64@8 32@16 16@32", "64@1 64@16 32@32 16@64"),
    ("wrn-40-2", "shufflenetv1"): ("128@1 128@8 64@16 32@32", "128@1 128@16 64@32 32@64"),
    ("vgg13", "mobilenetv2"): ("512@1 512@4 512@4 256@8 128@16", "512@1 512@4 512@8 256@16 128@32"),
    ("resnet50", "mobilenetv2"): (
        "2048@1 2048@4 1024@8 512@16 256@32",
        "2048@1 2048@8 1024@16 512@32 256@64",
    ),
    ("vgg13", "resnet8"): ("512@1 512@4 512@4 256@8", "512@1 512@4 512@8 256@16"),  # as many levels as both have
}


@pytest.mark.parametrize("pair", REVIEWED)
@pytest.mark.parametrize("side", [32, 64])
def test_every_fused_map_has_the_shape_of_the_teachers(pair, side):
    method = METHODS["reviewkd"](task_of(side))
    with torch.device("meta"):  # shapes alone
        teacher, student = (MODELS[name](num_classes=7, in_channels=3, image_size=side) for name in pair)
        method.connect(student, {TEACHER: teacher})
        fused = []
        for fusion in method.fusions:
            fusion.register_forward_hook(lambda _module, _inputs, outputs: fused.append(outputs[0].shape))
        images = torch.empty(4, 3, side, side)
        method.distill(shown(student.features(images), teacher.features(images)))
    assert all(shape[0] == 4 and shape[2] == shape[3] for shape in fused)
    assert " ".join(f"{shape[1]}@{shape[2]}" for shape in fused) == REVIEWED[pair][side == 64]


def array(tensor):
    return tensor.detach().double().numpy()


def normed(x):
    """BatchNorm as it begins, in training."""
    axes = (0, 2, 3)
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)


def convolved(x, weight):
    """A 3 x 3 convolution with a margin of zeros, pixel by pixel."""
    padded, out = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))), np.zeros((len(x), len(weight), *x.shape[2:]))
    for i in range(x.shape[2]):
        for j in range(x.shape[3]):
            out[:, :, i, j] = np.einsum("bcij,ocij->bo", padded[:, :, i : i + 3, j : j + 3], weight)
    return out


def resized(x, side):
    """To the nearest pixel."""
    at = np.arange(side) * x.shape[2] // side
    return x[:, :, at][:, :, :, at]


def pooled_to(x, side):
    blocks = x.reshape(*x.shape[:2], side, x.shape[2] // side, side, x.shape[3] // side)
    return blocks.mean((3, 5))


def hierarchical_context(own, target):
    height, total, weights = own.shape[2], ((own - target) ** 2).mean(), 1.0
    for k, side in enumerate(side for side in (4, 2, 1) if side < height):
        weight = 0.5 ** (k + 1)
        total += weight * ((pooled_to(own, side) - pooled_to(target, side)) ** 2).mean()
        weights += weight
    return total / weights


def reviewed(fusions, own, targets):
    """ReviewKD's sum over the levels, deepest first, in plain numpy; also every gate's values."""
    residual, total, all_gates = None, 0.0, []
    for fusion, x, target in zip(fusions, own, targets, strict=True):
        x = normed(np.einsum("bchw,oc->bohw", x, array(fusion.reduce[0].weight)[:, :, 0, 0]))
        if residual is not None:
            residual = resized(residual, x.shape[2])
            both, weight = np.concatenate([x, residual], 1), array(fusion.gates.weight)[:, :, 0, 0]
            scores = np.einsum("bchw,oc->bohw", both, weight) + array(fusion.gates.bias)[:, None, None]
            gates = 1 / (1 + np.exp(-scores))
            x = gates[:, :1] * x + gates[:, 1:] * residual
            all_gates.append(gates)
        residual = resized(x, target.shape[2])
        total += hierarchical_context(normed(convolved(residual, array(fusion.expand[0].weight))), target)
    return total, np.concatenate([gates.ravel() for gates in all_gates])


def review_of_two():
    """ReviewKD between networks with three stages of other widths and sides: (method, student, teacher)."""
    shapes = {"own": ((6, 8), (5, 8), (4, 4), (3, 2)), "teacher": ((6, 8), (4, 8), (2, 8), (5, 4))}
    maps = {
        who: [draw(4, channels, side, side, seed=k, scale=1.0) for k, (channels, side) in enumerate(stages)]
        for who, stages in shapes.items()
    }
    student = Shows(maps["own"], draw(4, 8, seed=8))
    teacher = Shows([x.relu() for x in maps["teacher"]], draw(4, 9, seed=9), tuple(maps["teacher"]))
    method = METHODS["reviewkd"](task_of(8), kd_weight=5.0)
    method.connect(student, {TEACHER: teacher})
    return method.double(), student.output, teacher.output


def test_the_review_is_the_closed_form_on_maps_before_the_teachers_activation():
    method, student, teacher = review_of_two()
    own = [student.pooled[:, :, None, None], *student.stages[:0:-1]]
    targets = [teacher.pooled[:, :, None, None], *teacher.preactivations[:0:-1]]
    expected, gates = reviewed(method.fusions, *([array(x) for x in maps] for maps in (own, targets)))
    assert method.distill(shown(student, teacher))["review"].item() == pytest.approx(5.0 * expected, rel=1e-9)
    assert (gates.min() > 0, gates.max() < 1, gates.std() > 0.01) == (True, True, True)


def test_a_teacher_that_shows_what_the_fusions_make_leaves_nothing_to_review():
    method, student, teacher = review_of_two()
    fused = []
    for fusion in method.fusions:
        fusion.register_forward_hook(lambda _module, _inputs, outputs: fused.append(outputs[0].detach()))
    assert method.distill(shown(student, teacher))["review"] > 1
    alike = FeatureOutput(teacher.logits, (teacher.stages[0], *fused[:0:-1]), fused[0].flatten(1))
    assert method.distill(shown(student, alike))["review"] == 0


def test_fused_maps_are_no_wider_than_512_channels():
    student = Shows([torch.zeros(2, 3, 4, 4), torch.zeros(2, 600, 4, 4)], torch.zeros(2, 600))
    method = METHODS["reviewkd"](task_of(4))
    method.connect(student, {TEACHER: student})
    assert [fusion.reduce[0].out_channels for fusion in method.fusions] == [512, 512]


# --- CAT-KD ---


def test_the_mean_of_the_class_maps_is_the_logits_of_a_student_without_a_bias():
    job, plain = prepared("catkd"), prepared("ce")
    step = step_of(job)
    assert job.student.fc.bias is None
    assert torch.equal(job.student.fc.weight, plain.student.fc.weight)
    torch.testing.assert_close(class_maps(step.features, job.student.fc.weight).mean((2, 3)), step.logits)


def test_the_teachers_class_maps_leave_its_bias_out():
    job = prepared("catkd")
    step, teacher = step_of(job), job.teachers[TEACHER]
    maps = class_maps(step.teacher_features, job.method.teacher_weight)
    torch.testing.assert_close(maps.mean((2, 3)) + teacher.fc.bias, step.teacher_logits)


@pytest.mark.parametrize("normalized", [False, True])
def test_class_attention_is_the_closed_form_on_maps_of_unequal_sides(normalized):
    student, teacher = (Shows([draw(4, width, side, side)], draw(4, width)) for width, side in ((5, 8), (6, 4)))
    method = METHODS["catkd"](task_of(8), size=2, normalized=normalized, kd_weight=7.0)
    method.connect(student, {TEACHER: teacher})
    term = method.double().distill(shown(student, teacher))["cat"]
    maps = []
    for network in (student, teacher):
        of_classes = np.einsum("bdhw,cd->bchw", array(network.output.last_map), array(network.fc.weight))
        pooled = pooled_to(of_classes, 2).reshape(4, 7, 4)
        maps.append(pooled / np.linalg.norm(pooled, axis=2, keepdims=True) if normalized else pooled)
    assert term.item() == pytest.approx(7.0 * ((maps[0] - maps[1]) ** 2).mean(), rel=1e-6)
