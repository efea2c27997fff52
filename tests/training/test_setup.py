"""What the caller set on a network stays as it is, with every method; networks that see the same images do not meet."""

import copy

import pytest
import torch
from prepared import prepared, train, weights_of
from torch import nn

from ltkd import METHODS, ConfigError, RunConfig
from ltkd.methods import TEACHER, Answer, Batch, Scan, Step
from ltkd.models import FeatureOutput, build
from ltkd.runs import predict
from ltkd.training.custom_objects import with_objects

every_method = pytest.mark.parametrize("name", METHODS)


def network(seed=0):
    return build("resnet8", num_classes=7, in_channels=1, image_size=8, generator=torch.Generator().manual_seed(seed))


def changed(job, student, names):
    """Of the tensors of the caller's student whose name begins so: the names of those that the job changed."""
    now = weights_of(job.student)
    before = {key: value for key, value in student.state_dict().items() if key.startswith(names)}
    found = {key: [value for name, value in now.items() if name.endswith(key)] for key in before}
    assert all(len(values) == 1 for values in found.values())
    return {key for key, (value,) in found.items() if not torch.equal(value, before[key])}


@every_method
def test_layers_that_the_caller_froze_stay_bit_for_bit(name):
    student = network()
    for layer in (student.stem, student.stages[0]):
        layer.requires_grad_(False)
    job = train(prepared(name, student=student), [1, 2])
    assert changed(job, student, ("stem", "stages.0")) == set()
    assert any(p.grad is not None and p.grad.any() for p in job.student.parameters())


@pytest.mark.parametrize("name", ["ce", "kd", "catkd", "cb-focal", "balanced-softmax"])
def test_a_classifier_that_the_caller_froze_stays_bit_for_bit(name):
    student = network()
    student.fc.requires_grad_(False)
    job = train(prepared(name, student=student), [1, 2])
    assert changed(job, student, ("fc.weight",)) == set()
    assert changed(job, student, ("stem",))


@pytest.mark.parametrize("name", ["ce", "bbn", "bkd+crt"])
def test_a_student_with_a_single_layer_to_train_trains_it(name):
    """bbn and crt have new layers of their own."""
    student = network().requires_grad_(False)
    student.fc.requires_grad_()
    job = train(prepared(name, student=student), [1])
    assert {p.requires_grad for p in job.student.fc.parameters()} == {True}
    assert changed(job, student, ("stem", "stages.0")) == set()


def test_a_student_without_anything_to_train_is_told():
    with pytest.raises(ConfigError, match=r"nothing to train: all parameters .* have requires_grad = False"):
        prepared("ce", student=network().requires_grad_(False))


@every_method
def test_batchnorm_that_the_caller_set_to_evaluation_keeps_its_statistics(name):
    student = network()
    for layer in student.stages[0].modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eval()
    job = train(prepared(name, student=student), [1, 2])
    statistics = {key for key in student.state_dict() if "running" in key}
    assert not statistics & changed(job, student, ("stages.0",))
    second_stage = METHODS[name].parent is not None and name.endswith("crt")  # it trains the classifier only
    assert second_stage or any("running" in key for key in changed(job, student, ("stages.1",)))


@pytest.mark.parametrize("mode", [True, False])
def test_the_mode_of_the_whole_student_is_not_one_that_the_caller_set_for_a_layer(mode):
    student = network().train(mode)
    assert prepared("ce", student=student).in_evaluation == []
    assert all(layer.training == mode for layer in student.modules())


@every_method
def test_hooks_of_the_caller_are_called(name):
    student, calls = network(), []
    student.stem.register_forward_hook(lambda *_: calls.append("forward"))
    weight = next(student.stem.parameters())
    weight.register_hook(lambda gradient: calls.append("gradient"))
    weight.register_post_accumulate_grad_hook(lambda _: calls.append("accumulated"))
    job = prepared(name, student=student)
    calls.clear()
    train(job, [1])
    assert set(calls) == ({"forward"} if name.endswith("crt") else {"forward", "gradient", "accumulated"})


@pytest.mark.parametrize("edit", [
    lambda student: student.stem.requires_grad_(False),
    lambda student: student.stages[0].eval(),
    lambda student: student.stem.register_forward_hook(lambda *_: None),
    lambda student: student.fc.weight.register_hook(lambda gradient: 0.5 * gradient),
])  # fmt: skip
def test_what_the_caller_set_is_in_the_name_of_the_run(edit):
    plain, other = network(), network()
    edit(other)
    config = RunConfig.make(method="ce")
    ids = [with_objects(config, None, each, None).id for each in (plain, copy.deepcopy(plain), other)]
    assert ids[0] == ids[1] != ids[2]


# --- the same tensors for several networks ---


class Shifted(nn.Module):
    """A network on shifted images. in_place: it writes them over its input."""

    def __init__(self, seed, in_place):
        super().__init__()
        self.inner, self.in_place = network(seed), in_place

    def shifted(self, images):
        return images.sub_(0.5).div_(0.2) if self.in_place else (images - 0.5) / 0.2

    def forward(self, images):
        return self.inner(self.shifted(images))

    def features(self, images) -> FeatureOutput:
        return self.inner.features(self.shifted(images))


@pytest.mark.parametrize("method", ["kd", "ltkd", "fitnet", "catkd"])
@pytest.mark.parametrize("who", [("student",), ("teacher",), ("student", "teacher")])
def test_a_network_that_changes_its_input_changes_no_other_ones(method, who):
    weights = []
    for in_place in (False, True):
        networks = {role: Shifted(seed, in_place and role in who) for seed, role in enumerate(("student", "teacher"))}
        if method == "catkd":
            networks["student"].fc, networks["teacher"].fc = (networks[r].inner.fc for r in ("student", "teacher"))
        weights.append(weights_of(train(prepared(method, **networks), [1, 2]).student))
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())


def test_several_teachers_that_change_their_input_each_see_the_images_themselves():
    images = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    batch, kept = Batch(images, torch.tensor([0, 1, 2, 0]), torch.arange(4)), images.clone()
    networks = [Shifted(seed, in_place=True).eval() for seed in range(3)]
    teachers = {name: Answer(each, images) for name, each in zip((TEACHER, "few"), networks[1:], strict=True)}
    step = Step(networks[0], {"main": batch}, torch.tensor(1.0), teachers)
    for found, each in zip((step.logits, step.teacher_logits, step.teachers["few"].logits), networks, strict=True):
        assert torch.equal(found, each(kept.clone()))
    assert torch.equal(step.images, kept)


class OneOutput(nn.Module):
    """A network that writes all its answers into the same tensor."""

    def __init__(self):
        super().__init__()
        self.register_buffer("answer", torch.zeros(2, 1))

    def forward(self, images):
        return self.answer.copy_(images.mean((1, 2, 3))[:, None])


def test_a_network_that_reuses_its_output_gives_each_batch_its_own():
    images = torch.arange(4.0)[:, None, None, None].expand(4, 1, 2, 2)
    assert predict(OneOutput(), images.split(2))[:, 0].tolist() == [0, 1, 2, 3]
    scan = Scan(lambda: images.split(2), torch.zeros(4))
    assert scan(OneOutput())[:, 0].tolist() == [0, 1, 2, 3]


def test_a_method_that_writes_into_its_task_changes_no_data(monkeypatch):
    class Writes(METHODS["ce"]):
        def __init__(self, task, **options):
            super().__init__(task, **options)
            task.class_counts.zero_()

    monkeypatch.setitem(METHODS, "ce", Writes)
    assert prepared("ce").class_counts.all()
