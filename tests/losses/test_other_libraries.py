"""The losses beside other people's implementations of the same papers."""

import pytest
import torch
import torch.nn.functional as F
from helpers import draw
from torchvision.ops import sigmoid_focal_loss

from ltkd import losses

LABELS = torch.tensor([0, 3, 3, 8, 5, 1, 8, 2])
PATHS = {
    "student_module_path": ".",
    "student_module_io": "output",
    "teacher_module_path": ".",
    "teacher_module_io": "output",
}


@pytest.fixture(scope="module")
def torchdistill():
    return pytest.importorskip("torchdistill.losses.mid_level", reason="torchdistill is not installed")


def output(value):
    return {".": {"output": value}}


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_kd_is_torchdistills(torchdistill, temperature):
    student, teacher = draw(8, 9), draw(8, 9, seed=1)
    theirs = torchdistill.KDLoss(**PATHS, temperature=temperature, alpha=0.1, beta=0.9)
    ours = 0.1 * F.cross_entropy(student, LABELS) + 0.9 * losses.kd(student, teacher, temperature=temperature)
    torch.testing.assert_close(ours, theirs(output(student), output(teacher), LABELS), rtol=1e-12, atol=0)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_dist_is_torchdistills_but_for_its_other_rule_for_eps(torchdistill, temperature):
    student, teacher = draw(8, 9), draw(8, 9, seed=1)
    theirs = torchdistill.DISTLoss(**PATHS, beta=2.0, gamma=0.5, tau=temperature)
    ours = losses.dist(student, teacher, beta=2.0, gamma=0.5, temperature=temperature)
    torch.testing.assert_close(ours, theirs(output(student), output(teacher)), rtol=1e-5, atol=0)


@pytest.mark.parametrize("height", [1, 2, 4, 7, 8, 16])
def test_the_hierarchical_context_is_torchdistills(torchdistill, height):
    student, teacher = draw(2, 3, height, height), draw(2, 3, height, height, seed=1)
    theirs = torchdistill.HierarchicalContextLoss(**PATHS, output_sizes=[4, 2, 1])
    expected = theirs(output((student, None)), output(teacher))
    torch.testing.assert_close(losses.hierarchical_context(student, teacher), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_sigmoid_focal_is_torchvisions(gamma):
    logits = draw(8, 9)
    theirs = sigmoid_focal_loss(logits, F.one_hot(LABELS, 9).double(), alpha=-1, gamma=gamma, reduction="sum")
    torch.testing.assert_close(losses.sigmoid_focal(logits, LABELS, gamma=gamma), theirs / 8)
