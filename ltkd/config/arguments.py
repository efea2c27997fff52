"""The arguments of RunConfig.make, for editors and type checkers."""

from collections.abc import Sequence
from typing import Any, TypedDict


class Arguments(TypedDict, total=False):
    """All fields of RunConfig except `recipe`, and all options of the package's methods.

    A type checker rejects other names. Options of your own method go into `options`:
    make(method="mine", options={"smoothing": 0.2}).
    """

    dataset: str
    imbalance_factor: float
    dataset_version: str | None
    profile: str | Sequence[int]
    subset_seed: int | None
    image_size: int | None
    held_out: float
    classes: Sequence[int] | None
    teaches: bool
    n_groups: int | None
    teacher: str | None
    student: str
    method: str
    options: dict[str, Any]
    epochs: int
    teacher_epochs: int | None
    batch_size: int
    lr: float
    teacher_lr: float | None
    lr_schedule: str
    lr_warmup: float
    milestones: Sequence[float]
    lr_decay: float
    momentum: float
    nesterov: bool
    weight_decay: float
    precision: str
    augmentation: str
    normalization: str
    test_every: int
    seed: int
    # options of the methods
    ce_weight: float
    warmup: float
    temperature: float
    kd_weight: float
    effective_beta: float
    deferred: float
    alpha: float
    beta: float
    rebalanced: bool
    reweighted: bool
    gamma: float
    before_activation: bool
    size: int
    normalized: bool
    layer: int
    reduction: str
    activation: str
    max_margin: float
    scale: float
    tau: float
    post_hoc: bool
    second_stage: float
    frozen_statistics: bool
    body_lr: float
    second_body_lr: float
    head_lr: float
    frozen_body: bool
    width: int
    silence_from: float
    curriculum: str
    centroid_weight: float
    repel_weight: float
    margin: float
    memory_rule: str
