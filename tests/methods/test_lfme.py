"""LFME: who the experts are, what they say, when they fall silent, and which images count how much."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import draw, softmax
from prepared import COUNTS, SETTINGS, prepared, seven_classes, step_of

from ltkd import METHODS, ConfigError, RunConfig, Step, fit, losses
from ltkd.methods import Answer, Batch, Scan, Task
from ltkd.training import fit as training

GROUPS = {"many": (0, 1), "medium": (2, 3), "few": (4, 5, 6)}
FLOOR = {"many": (12 + 6 + 4) / 3 / 107.5, "medium": (12 + 6 + 4) / 3 / 42.5, "few": 1.0}
LABELS = torch.arange(7)


def lfme(counts=COUNTS, **options):
    shape = {"num_classes": len(counts), "in_channels": 1, "image_size": 8}
    return METHODS["lfme"](Task.of(shape, counts, None, epochs=8, train_images=len(LABELS)), **options)


def step_on(logits, expert_logits, epoch=1):
    """A step on logits at hand. expert_logits: {expert: (B, K)}."""
    experts = {name: Answer.given(values) for name, values in expert_logits.items()}
    batch = Batch(torch.empty(len(LABELS), 0), LABELS, torch.arange(len(LABELS)))
    return Step(lambda _: logits, {"main": batch}, torch.tensor(float(epoch)), experts)


EXPERT_LOGITS = {name: draw(7, len(classes), seed=len(name)) for name, classes in GROUPS.items()}


# --- the experts ---


def test_there_is_an_expert_for_classes_of_many_a_medium_number_and_few_images():
    specs = METHODS["lfme"].teachers(torch.tensor(COUNTS))
    assert {name: spec.classes for name, spec in specs.items()} == GROUPS
    settings = {name: RunConfig.make(method="lfme").for_teacher(spec) for name, spec in specs.items()}
    assert {name: config.batch_size for name, config in settings.items()} == {"many": 128, "medium": 64, "few": 32}
    assert {spec.settings["lr_schedule"] for spec in specs.values()} == {"cosine"}


def test_a_group_of_one_class_has_no_expert():
    assert set(METHODS["lfme"].teachers(torch.tensor((200, 50, 40, 3)))) == {"medium"}


def test_without_a_single_expert_there_is_nothing_to_learn_from():
    with pytest.raises(ConfigError, match=r"needs a group of at least two classes.*: many, medium;"):
        lfme((200, 50))


def fitted(folder, **settings):
    """All that one fit trains: the Jobs of the experts and of the student, in that order; and the finished run."""
    trained, real = [], training.train_epoch

    def remember(job, epoch, bar):
        trained.append(job)
        return real(job, epoch, bar)

    short = {"method": "lfme", "epochs": 1, "augmentation": "none", "test_every": 1}
    config = RunConfig.make(**SETTINGS | short | settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "train_epoch", remember)
        run = fit(config, dataset=seven_classes(), runs=folder, device="cpu", progress=False)
    return trained, run


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    """All that one fit trains: {"student" or an expert: its Job}, and the student's finished run as "run"."""
    trained, run = fitted(tmp_path_factory.mktemp("runs"))
    return dict(zip((*GROUPS, "student"), trained, strict=True)) | {"run": run}


def pixels(job, images):
    """The raw pixels of normalised images: one tuple an image."""
    mean, std = job.normalize.mean[0], job.normalize.std[0]
    return [tuple(image) for image in (255 * (images * std + mean)).round().int().flatten(1).tolist()]


def trained_on(job):
    """{pixels: label} of every image of an epoch's steps."""
    seen = {}
    for step in job.steps(1):
        seen |= dict(zip(pixels(job, step.images), step.labels.tolist(), strict=True))
    return seen


@pytest.mark.parametrize("name", GROUPS)
def test_an_expert_sees_its_own_classes_alone_numbered_anew(jobs, name):
    images = seven_classes().train
    classes = {tuple(x): c for x, c in zip(images.images.flatten(1).tolist(), images.labels.tolist(), strict=True)}
    seen = trained_on(jobs[name])
    assert {classes[image] for image in seen} == set(GROUPS[name])
    assert all(GROUPS[name][label] == classes[image] for image, label in seen.items())


@pytest.mark.parametrize("name", GROUPS)
def test_an_experts_run_carries_its_classes(jobs, name):
    config = jobs[name].config
    assert (config.classes, config.method, config.student) == (GROUPS[name], "ce", "resnet8")
    assert jobs["run"].result[f"{name}_run"] == config.name
    assert jobs[name].student(next(jobs[name].test.plain(2))).shape == (2, len(GROUPS[name]))


@pytest.mark.parametrize("name", GROUPS)
def test_an_expert_has_learned_from_images_that_are_normalised_as_its_students_are(jobs, name):
    normalizers = [jobs[role].normalize for role in (name, "student")]
    assert len({(*each.mean, *each.std) for each in normalizers}) == 1


def test_the_experts_of_a_student_of_some_classes_learn_those_of_them_that_are_in_their_group(tmp_path):
    (medium, few, student), _ = fitted(tmp_path, classes=(6, 2, 5, 3))
    assert (medium.config.classes, few.config.classes) == ((2, 3), (6, 5))
    held = set(pixels(student, student.held_out(lambda images: images)))
    assert not held & {*trained_on(medium), *trained_on(few)}


def test_nobody_is_trained_on_the_images_held_out(jobs):
    student = jobs["student"]
    held = pixels(student, student.held_out(lambda images: images))
    assert student.held_out.labels.bincount().tolist() == [11, 10, 6, 2, 1, 1, 1]  # a tenth of each class
    assert len(set(held)) == len(held)
    for name in (*GROUPS, "student"):
        assert not set(held) & set(trained_on(jobs[name]))


def test_what_is_not_held_out_is_trained_on(jobs):
    drawn = torch.cat([step.indices for step in jobs["many"].steps(1)])
    assert sorted(drawn.tolist()) == list(range(99 + 95))  # many's classes of 110 and 105, less 11 and 10
    assert len(jobs["student"].training) == sum(COUNTS) - 32


# --- what an expert says ---


def test_an_expert_does_not_judge_the_logits_of_other_classes():
    method, logits = lfme(), draw(7, 7)
    other = logits.clone()
    other[:, [0, 1]] += draw(7, 2, seed=5)
    terms, moved = (method(step_on(z, EXPERT_LOGITS)) for z in (logits, other))
    assert moved["many"] != terms["many"]
    assert (moved["medium"], moved["few"]) == (terms["medium"], terms["few"])


def test_one_expert_of_all_classes_is_a_teacher_but_for_temperature_squared():
    method, logits = lfme((50,) * 7, temperature=3.0), draw(7, 7)
    teacher_logits = draw(7, 7, seed=1)
    terms = method(step_on(logits, {"medium": teacher_logits}))
    expected = F.cross_entropy(logits, LABELS) + losses.kd(logits, teacher_logits, temperature=3.0) / 9
    torch.testing.assert_close(sum(terms.values()), expected)


def test_every_expert_speaks_as_loud_as_its_weight():
    method, step = lfme(), step_on(draw(7, 7), EXPERT_LOGITS)
    full = method(step)
    method.expert_weights = torch.tensor([1.0, 0.25, 0.0])
    terms = method(step)
    torch.testing.assert_close(terms, full | {"medium": 0.25 * full["medium"], "few": 0.0 * full["few"]})


# --- when an expert falls silent ---


def test_an_experts_weight_falls_from_one_to_nothing_as_it_is_matched():
    weights = lfme().weight(torch.tensor([0.0, 0.29, 0.3, 0.65, 1.0, 1.2]))
    torch.testing.assert_close(weights, torch.tensor([1.0, 1.0, 1.0, 0.5, 0.0, 0.0]))


def test_the_point_from_which_it_falls_can_be_set():
    weights = lfme(silence_from=0.5).weight(torch.tensor([0.49, 0.5, 0.75, 1.0]))
    torch.testing.assert_close(weights, torch.tensor([1.0, 1.0, 0.5, 0.0]))


def accuracy_on(answers, labels, classes):
    return np.mean([np.mean(answers[labels == c] == c) for c in classes])


def test_an_experts_own_accuracy_is_the_mean_over_its_classes_on_the_images_held_out():
    job = prepared("lfme")
    images, labels = job.held_out(lambda images: images), job.held_out.labels.numpy()
    expected = []
    for name, classes in GROUPS.items():
        answers = np.array(classes)[job.teachers[name](images).argmax(1).numpy()]
        expected.append(accuracy_on(answers, labels, classes))
    assert 0 < sum(expected) < 3
    np.testing.assert_allclose(job.method.expert_accuracies, expected, rtol=1e-6)


def test_after_an_epoch_the_weights_follow_the_students_accuracy_on_the_images_held_out():
    job = prepared("lfme")
    method, labels = job.method, job.held_out.labels
    answers = torch.where(torch.arange(len(labels)) % 2 == 0, labels, (labels + 1) % 7)  # every other one is right
    method.expert_accuracies = torch.tensor([0.9, 0.6, 0.5])
    method.end_epoch(lambda images: F.one_hot(answers, 7).float(), job.held_out)
    own = [accuracy_on(answers.numpy(), labels.numpy(), classes) for classes in GROUPS.values()]
    ratios = np.array(own) / [0.9, 0.6, 0.5]
    expected = np.where(ratios < 0.3, 1, np.maximum(0, (1 - ratios) / 0.7))
    assert 0 < min(expected) < max(expected) < 1
    np.testing.assert_allclose(method.expert_weights, expected, rtol=1e-5)


def test_an_expert_that_was_matched_may_speak_again():
    job = prepared("lfme")
    job.method.expert_accuracies = torch.full((3,), 0.5)
    labels = job.held_out.labels
    for answers, weight in ((labels, 0.0), ((labels + 1) % 7, 1.0)):
        job.method.end_epoch(lambda images, answers=answers: F.one_hot(answers, 7).float(), job.held_out)
        assert job.method.expert_weights.tolist() == [weight] * 3


# --- which images count how much ---


def test_the_ease_of_an_image_is_how_sure_its_expert_is_between_the_groups_floor_and_one():
    job = prepared("lfme")
    images, labels = torch.cat(list(job.training.plain())), job.training.labels.numpy()
    expected = np.empty(len(labels))
    for name, classes in GROUPS.items():
        probabilities = softmax(job.teachers[name](images))
        for own, c in enumerate(classes):
            p = probabilities[labels == c, own]
            expected[labels == c] = FLOOR[name] + (1 - FLOOR[name]) * (p - p.min()) / (p.max() - p.min())
    np.testing.assert_allclose(job.method.ease, expected, rtol=1e-3)
    assert job.method.ease[torch.as_tensor(labels >= 4)].eq(1).all()
    assert [expected[labels == c].min() for c in (0, 3)] == [FLOOR["many"], FLOOR["medium"]]


def test_images_that_are_alike_to_their_expert_all_count_in_full():
    job = prepared("lfme")
    job.method.ease.fill_(0.5)
    alike = {name: lambda images, own=own: torch.zeros(len(images), len(own)) for name, own in GROUPS.items()}
    job.method.begin(job.student, alike, Scan(job.training.plain, job.training.labels), job.held_out)
    assert job.method.ease.eq(1).all()


EASE = torch.tensor([1.0, 0.8, 0.6, 0.4, 0.2, 0.1, 0.05], dtype=torch.float64)


@pytest.mark.parametrize(("epoch", "gone"), [(1, 0.25), (2, 0.5), (4, 1.0), (6, 1.5), (8, 2.0)])
@pytest.mark.parametrize("curriculum", ["loss", "logits"])
def test_every_image_counts_in_full_from_half_the_epochs_on(curriculum, epoch, gone):
    """In the published form, which scales the logits, it goes on growing beyond one."""
    method, logits = lfme(curriculum=curriculum).double(), draw(7, 7)
    method.ease = EASE.clone()
    terms = method(step_on(logits, EXPERT_LOGITS, epoch))
    grown = (EASE + (1 - EASE) * gone).numpy()
    if curriculum == "logits":
        scaled, per_image = logits * torch.as_tensor(grown)[:, None], 1.0
    else:
        scaled, per_image = logits, np.minimum(grown, 1)
    truth = -np.log(softmax(scaled)[np.arange(7), LABELS])
    assert terms["ce"].item() == pytest.approx((per_image * truth).mean(), rel=1e-9)
    for name, classes in GROUPS.items():
        expected = losses.expert_kd(scaled, EXPERT_LOGITS[name], torch.tensor(classes), temperature=2.0)
        torch.testing.assert_close(terms[name], expected)


def test_the_ease_belongs_to_the_image_wherever_it_comes_in_the_epoch():
    job = prepared("lfme")
    job.method.ease = torch.rand(len(job.training), generator=torch.Generator().manual_seed(0))
    step = step_of(job, epoch=1)
    per_image = F.cross_entropy(step.logits, step.labels, reduction="none")
    ease = job.method.ease[step.indices]
    torch.testing.assert_close(job.method(step)["ce"], ((ease + (1 - ease) / 4).clamp(max=1) * per_image).mean())
    assert step.labels.tolist() == job.training.labels[step.indices].tolist()


def test_batches_show_every_class_as_often():
    seen = torch.cat([step.labels for step in prepared("lfme").steps(1)]).bincount()
    assert seen.max() - seen.min() <= 4  # one visit of four images
