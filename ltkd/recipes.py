"""Named sets of defaults for a run. A value that no paper states is listed under `assumptions` with its reason."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Recipe:
    """summary: one line for the help. defaults: fields of RunConfig. methods: options by method, where they differ
    from the method's own defaults. assumptions: what no paper states, as {field or method.option: why this value}."""

    summary: str
    defaults: dict
    methods: dict = field(default_factory=dict)
    assumptions: dict = field(default_factory=dict)


LTKD_ASSUMPTIONS = {
    "ltkd.temperature": "not in the paper; its printed batch sums 27.88 / 19.28 / 16.83 fit a teacher softened by 4",
    "ltkd.ce_weight": "not in the paper; 1, as in DKD's code, on whose framework its pairs and batch size point",
    "ltkd.warmup": "not in the paper; 20 of 240 epochs, as in DKD's code",
    "ltkd.alpha": "the paper gives 6 for one network pair at gamma = 20 (Fig. 5), nothing for the others",
    "ltkd.beta": "the paper gives 6 for one network pair at gamma = 20 (Fig. 5), nothing for the others",
    "epochs": "not in the paper; the distillation field's 240",
    "profile": "the field's code; LTKD's Eq. 15 to the letter is exp-eq15, with about one image a class more",
    "milestones": "not in the paper; the distillation field's, after epochs 150, 180 and 210",
    "weight_decay": "not in the paper; the distillation field's",
    "augmentation": "not in the paper; the distillation field's",
    "batch_size": "not in the paper; its printed group masses add up to 64",
    "lr": "not in the paper; the distillation field's 0.05, and 0.01 for MobileNet and ShuffleNet students",
    "subset_seed": "no paper says which images were kept; the run's own seed draws them",
}

SGD = {"momentum": 0.9, "nesterov": False}
CRD_SCHEDULE = {"epochs": 240, "milestones": (150 / 240, 180 / 240, 210 / 240), "lr_decay": 0.1, "lr_warmup": 0.0}
CRD = {**SGD, **CRD_SCHEDULE, "batch_size": 64, "lr": 0.05, "weight_decay": 5e-4, "test_every": 10}

RECIPES = {
    "digits": Recipe(
        "8 x 8 digits in seconds on a laptop",
        {
            **SGD,
            "teacher": "resnet8",
            "student": "resnet8x0.5",
            "imbalance_factor": 20.0,
            "epochs": 24,
            "milestones": (0.75, 0.9),
            "lr_decay": 0.1,
            "lr_warmup": 0.0,
            "batch_size": 64,
            "lr": 0.05,
            "weight_decay": 5e-4,
            "augmentation": "crop1",
            "test_every": 5,
        },
        {
            "kd": {"ce_weight": 1.0, "kd_weight": 1.0},
            "ltkd": {"alpha": 1.0, "beta": 1.0, "warmup": 0.0},
        },
        {
            "epochs": "this project's own protocol: no paper uses these digits",
            "ltkd.alpha": "1, not the papers' 6: over 24 short epochs 6 is too strong a pull from the labels",
        },
    ),
    "cifar-crd": Recipe(
        "CIFAR in the distillation field, LTKD's recipe by all signs: 240 epochs, batch 64",
        {
            **CRD,
            "dataset": "cifar100",
            "teacher": "resnet32x4",
            "student": "resnet8x4",
            "imbalance_factor": 100.0,
            "augmentation": "crop4-flip",
            "normalization": "cifar100",
        },
        assumptions=LTKD_ASSUMPTIONS,
    ),
    "cifar-bkd": Recipe(
        "CIFAR in BKD's published code: 200 epochs, batch 128, teacher and student alike",
        {
            **SGD,
            "dataset": "cifar100",
            "teacher": "resnet32a",
            "student": "resnet32a",
            "imbalance_factor": 100.0,
            "subset_seed": 0,
            "epochs": 200,
            "milestones": (0.8, 0.9),
            "lr_decay": 0.01,
            "lr_warmup": 5 / 200,
            "batch_size": 128,
            "lr": 0.1,
            "weight_decay": 2e-4,
            "augmentation": "crop4-flip",
            "normalization": "cifar10",
            "test_every": 10,
        },
        {"kd": {"temperature": 2.0, "ce_weight": 1.0, "kd_weight": 1.0}},
        {
            "kd.temperature": "BKD states T = 2 for its own loss; taken for plain KD too, as its code does",
            "method": "bkd is balanced from the first epoch; on CIFAR-10 BKD's code distils plainly before epoch 160",
            "student": "convolutions are drawn by fan-out and the last layer by PyTorch's default, unlike BKD's code",
        },
    ),
    "tiny-imagenet-crd": Recipe(
        "TinyImageNet at 64 x 64 in the distillation field: the CIFAR schedule, rotations and flips",
        {
            **CRD,
            "dataset": "tiny-imagenet",
            "teacher": "resnet32x4",
            "student": "resnet8x4",
            "imbalance_factor": 100.0,
            "augmentation": "rotate20-flip",
            "normalization": "tiny-imagenet",
        },
        assumptions={**LTKD_ASSUMPTIONS, "augmentation": "rotations by whole degrees, so that views can be numbered"},
    ),
    "folder": Recipe(
        "a folder of your own images: all of them as they are, a moderate schedule",
        {
            **SGD,
            "teacher": "resnet20",
            "student": "resnet8",
            "profile": "as-is",
            "imbalance_factor": 1.0,
            "epochs": 60,
            "milestones": (0.6, 0.8),
            "lr_decay": 0.1,
            "lr_warmup": 0.0,
            "batch_size": 64,
            "lr": 0.05,
            "weight_decay": 5e-4,
            "augmentation": "none",
            "test_every": 1,
        },
        {"ltkd": {"alpha": 1.0, "beta": 1.0, "warmup": 0.1}},
        {"epochs": "this project's own protocol"},
    ),
}

DEFAULT_RECIPE = {
    "digits": "digits",
    "cifar10": "cifar-bkd",
    "cifar100": "cifar-crd",
    "tiny-imagenet": "tiny-imagenet-crd",
}


def recipe_for(dataset):
    """The name of the recipe that a data set uses unless another is asked for."""
    return DEFAULT_RECIPE.get(dataset, "folder")
