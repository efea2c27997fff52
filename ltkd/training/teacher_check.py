"""What a teacher is worth: its scores, and what is wrong with it, before it teaches."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from .. import metrics
from .._support import distributed
from ..datasets import ImageFiles, ImageSet, LongTailedDataset
from ..errors import TeacherWarning, warn
from ..runs import Run, predict
from .loaders import DeviceLoader, StreamingLoader
from .network_check import teacher_called, without_softmax, wrong_logits

SAMPLED_IMAGES = 2000  # of each half, so that a large teacher does not take longer than its student
NEAR_CHANCE = 0.05  # of the way from chance to 100 %
FAR_BETTER = 10.0  # percentage points, and twice as good

Images = ImageSet | ImageFiles
Scores = dict[str, Any]


def scored(
    teachers: Mapping[str, nn.Module],
    before: Mapping[str, Run],
    data: LongTailedDataset,
    loader: Callable[[Images], DeviceLoader | StreamingLoader],
    given: str | None,
) -> dict[str, Scores]:
    """The scores of each teacher of all classes: {name: {"train": scores, "test": scores, "remarks": [sentence]}}.

    A teacher that was trained here has the scores of its run. One that was handed over is tested on at most
    SAMPLED_IMAGES training and test images, without augmentation. loader: of images, without augmentation. given: the
    config's `teacher`. Each remark is a TeacherWarning too. Raises RunError for a teacher that returns no logits.
    """
    found = {}
    for name, network in teachers.items():
        if name in before:
            if before[name].config.classes is not None:  # an expert
                continue
            found[name] = _of_run(before[name])
        else:
            found[name] = _of_module(network, teacher_called(name, given), data, loader)
        for remark in found[name]["remarks"] if distributed.is_first() else ():
            warn(f"the {name}: {remark}", TeacherWarning)
    return found


def _of_run(run: Run) -> Scores:
    last = run.history.iloc[-1].to_dict()
    scores = {key.removeprefix("train_"): value for key, value in last.items() if key.startswith("train_")}
    train = {name: None if score is None or score != score else float(score) for name, score in scores.items()}
    test = {key: value for key, value in run.result["last"].items() if key != "epoch"}
    return {"train": train, "test": test, "remarks": _weak(test.get("balanced", test["all"]), len(run.class_counts))}


def _of_module(
    network: nn.Module, called: str, data: LongTailedDataset, loader: Callable[[Images], DeviceLoader | StreamingLoader]
) -> Scores:
    class_counts = data.class_counts.cpu().numpy()
    halves: dict[str, Any] = {}
    answers = []
    for half in ("train", "test"):
        images = sampled(getattr(data, half))
        logits, labels = predict(network, loader(images).plain()), images.labels.numpy()
        if wrong := int(without_softmax(torch.from_numpy(logits)).sum()):
            raise wrong_logits(called, wrong, len(labels))
        halves[half] = {"images": len(labels), **metrics.scores(metrics.count(logits, labels), class_counts)}
        answers.append((logits.argmax(1), labels))
    balanced: float = halves["test"]["balanced"]
    remarks = _weak(balanced, data.num_classes)
    if len(np.unique(answers[1][0])) == 1 < data.num_classes:
        remarks.append("it answers one class only")
    renamed = renamed_accuracy(*answers)
    if renamed > max(2 * balanced, balanced + FAR_BETTER):
        remarks.append(
            f"its outputs seem to be in another order than the classes: with each output renamed to the class that it "
            f"stands for on the training images, its balanced accuracy would be {renamed:.1f} % instead of "
            f"{balanced:.1f} %; give it as ltkd.Teacher(network, class_names=[...])"
        )
    return {**halves, "remarks": remarks}


def _weak(balanced: float, classes: int) -> list[str]:
    """A remark if the balanced accuracy (per cent) is near chance."""
    chance = 100 / classes
    if classes == 1 or balanced > chance + NEAR_CHANCE * (100 - chance):
        return []
    return [f"its balanced accuracy on test images is {balanced:.1f} %, near chance ({chance:.1f} %)"]


def sampled(images: Images, most: int = SAMPLED_IMAGES) -> Images:
    """At most `most` images: the first of each class, then the second of each class, and so on."""
    labels = images.labels.numpy()
    order = np.argsort(labels, kind="stable")
    rank = np.empty(len(labels), dtype=int)  # of an image among those of its class
    rank[order] = np.arange(len(labels)) - np.searchsorted(labels[order], labels[order])
    return images.subset(torch.as_tensor(np.sort(np.argsort(rank, kind="stable")[:most])))


def renamed_accuracy(train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]) -> float:
    """Balanced accuracy on `test`, in per cent, if each output stands for the class whose training images it is most
    often predicted for. train, test: predictions and labels, (N,) each."""
    pairs, times = np.unique(np.stack(train), axis=1, return_counts=True)
    classes = 1 + max(map(np.max, (*train, *test)))
    stands_for = np.arange(classes)
    rising = np.argsort(times, kind="stable")  # of two classes for one output, the more frequent is written last
    stands_for[pairs[0, rising]] = pairs[1, rising]
    predicted, labels = test
    return float(np.mean([100 * (stands_for[predicted[labels == c]] == c).mean() for c in np.unique(labels)]))
