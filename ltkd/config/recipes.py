"""Recipes: named sets of defaults for a run. `assumptions` lists the values that no paper states, with a reason."""

from dataclasses import dataclass, field, replace
from typing import Any

from ..datasets import SOURCES


@dataclass(frozen=True)
class Recipe:
    """The defaults of one training protocol.

    summary: one line for the help. defaults: {field of RunConfig: value}. methods: {method: {field or option: value}},
    where a method differs. pairs: {(teacher, student): the same as `methods`}, where a pair of networks differs. lr:
    {network: its learning rate}. assumptions: {field or method.option: why this value}, if no paper states it.
    """

    summary: str
    defaults: dict[str, Any]
    methods: dict[str, dict[str, Any]] = field(default_factory=dict)
    pairs: dict[tuple[str, str], dict[str, dict[str, Any]]] = field(default_factory=dict)
    lr: dict[str, float] = field(default_factory=dict)
    assumptions: dict[str, str] = field(default_factory=dict)

    def usual(self, method: str, student: str | None = None, teacher: str | None = None) -> dict[str, Any]:
        """The fields and options for a method and two networks: {name: value}. None: the recipe's own network."""
        student, teacher = student or self.defaults.get("student", ""), teacher or self.defaults.get("teacher", "")
        pair = self.pairs.get((teacher, student), {})
        usual = self.defaults | self.methods.get(method, {}) | pair.get(method, {})
        rates = {role: self.lr.get(network) for role, network in (("lr", student), ("teacher_lr", teacher))}
        if rates["lr"] and not rates["teacher_lr"]:
            rates["teacher_lr"] = usual["lr"]
        return usual | {name: rate for name, rate in rates.items() if rate}


LTKD_ASSUMPTIONS = {
    "ltkd.temperature": "not in the paper; the field's usual 4; its printed batch sums do not settle it (notebook 02)",
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
    "fitnet.layer": "the second stage behind the stem, as the distillation field runs it; not FitNet's own set-up",
}

SGD = {"momentum": 0.9, "nesterov": False}
CRD_SCHEDULE = {"epochs": 240, "milestones": (150 / 240, 180 / 240, 210 / 240), "lr_decay": 0.1, "lr_warmup": 0.0}
CRD = {**SGD, **CRD_SCHEDULE, "batch_size": 64, "lr": 0.05, "weight_decay": 5e-4, "test_every": 10}
CRD_LR = {"mobilenetv2": 0.01, "shufflenetv1": 0.01}

# The weights in the published code of DKD and CAT-KD, for each pair of networks.
CRD_PAIRS = {
    ("resnet32x4", "resnet8x4"): {"dkd": {"beta": 8.0}, "catkd": {"kd_weight": 15.0, "normalized": False}},
    ("vgg13", "vgg8"): {"dkd": {"beta": 6.0}, "catkd": {"kd_weight": 4.5, "normalized": False}},
    ("wrn-40-2", "shufflenetv1"): {"dkd": {"beta": 8.0}, "catkd": {"kd_weight": 80.0, "size": 4}},
    ("resnet50", "mobilenetv2"): {"dkd": {"beta": 8.0}, "catkd": {"kd_weight": 40.0}},
    ("vgg13", "mobilenetv2"): {"dkd": {"beta": 6.0}, "catkd": {"kd_weight": 15.0}},
    ("resnet32x4", "shufflenetv1"): {"dkd": {"beta": 8.0}, "catkd": {"kd_weight": 600.0, "size": 4}},
    ("wrn-40-2", "wrn-40-1"): {"dkd": {"beta": 6.0}, "catkd": {"kd_weight": 1.5, "normalized": False}},
    ("wrn-40-2", "wrn-16-2"): {"dkd": {"beta": 6.0}, "catkd": {"kd_weight": 12.0, "normalized": False}},
    ("resnet56", "resnet20"): {
        "dkd": {"beta": 2.0},
        "reviewkd": {"kd_weight": 0.6},
        "catkd": {"kd_weight": 0.7, "normalized": False},
    },
    ("resnet110", "resnet32"): {
        "dkd": {"beta": 2.0},
        "reviewkd": {"kd_weight": 1.0},
        "catkd": {"kd_weight": 1.8, "normalized": False},
    },
}

CIFAR_BKD = Recipe(
    "CIFAR-100 in BKD's published code: 200 epochs, batch 128, teacher and student alike",
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
    {
        "kd": {"temperature": 2.0, "ce_weight": 1.0, "kd_weight": 1.0},
        "bbn": {"nesterov": True, "milestones": (120 / 200, 160 / 200)},
        "crt": {"second_stage": 30 / 200},
        "bkd+crt": {"second_stage": 30 / 200},
        "oltr": {"second_stage": 0.5},
    },
    assumptions={
        "kd.temperature": "BKD states T = 2 for its own loss; taken for plain KD too, as its code does",
        "student": "convolutions are drawn by fan-out and the last layer by PyTorch's default, unlike BKD's code",
        "crt.second_stage": "no paper has cRT on CIFAR; 30 epochs, as in a later collection of long-tailed methods",
        "bkd+crt.second_stage": "the paper has BKD+cRT on ImageNet-LT alone",
        "oltr.second_stage": "no paper has OLTR on CIFAR; half the epochs instead of twice as many",
        "lfme.held_out": "CIFAR has no validation images: a tenth of each class's training images instead",
        "focal.gamma": "1, as in the code that BKD builds on",
        "cb.reduction": "the mean divides by the sum of the weights, as in the code that BKD builds on",
        "bbn.lr_warmup": "the rate begins at a fifth of its height, as for all methods here; BBN's begins at a third",
        "bbn.batch_size": "the last, smaller batch is used; BBN's code leaves it out",
    },
)

IMAGENET = {**SGD, "augmentation": "imagenet-crop", "normalization": "imagenet", "test_every": 10}
STREAMED_BKD = {
    **IMAGENET,
    "profile": "as-is",
    "imbalance_factor": 1.0,
    "epochs": 90,
    "lr": 0.2,
    "lr_schedule": "cosine",
    "lr_warmup": 0.0,
    "weight_decay": 5e-4,
    "augmentation": "imagenet-crop-jitter",
}
STEPS = {"lr": 0.1, "lr_schedule": "steps", "lr_decay": 0.1}
STREAMED_BKD_METHODS: dict[str, dict[str, Any]] = {
    "kd": {"temperature": 2.0, "ce_weight": 1.0, "kd_weight": 1.0},
    "crt": {"second_stage": 10 / 90},
    "bkd+crt": {"second_stage": 10 / 90},
    "oltr": STEPS | {"epochs": 30, "batch_size": 128, "milestones": (1 / 3, 2 / 3), "second_stage": 2.0},
    "lfme": STEPS | {"batch_size": 256, "milestones": (50 / 90, 80 / 90), "teacher_epochs": 120},
}
STREAMED_BKD_ASSUMPTIONS = {
    "kd.temperature": "BKD states T = 2 for its own loss; taken for plain KD too",
    "augmentation": "not in the paper; that of cRT's published code for this data set",
    "weight_decay": "not in the paper; that of cRT's published code for this data set",
    "normalization": "not in the paper; that of cRT's published code for this data set",
    "bkd+crt.second_stage": "not in the paper; as for cRT",
    "cb.reduction": "the mean divides by the sum of the weights, as in the code that BKD builds on, unlike Cui et al.",
    "lfme.held_out": "a tenth of each class's training images, for all three sets alike",
}

RECIPES: dict[str, Recipe] = {
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
            "dkd": {"alpha": 1.0, "beta": 1.0, "warmup": 0.0},
        },
        assumptions={
            "epochs": "this project's own protocol: no paper uses these digits",
            "ltkd.alpha": "1, not the papers' 6: over 24 short epochs 6 is too strong a pull from the labels",
        },
    ),
    "laptop": Recipe(
        "CIFAR-100 at 16 x 16 in minutes on a laptop: our own protocol, not comparable with the papers' numbers",
        {
            **CRD,
            "dataset": "cifar100",
            "teacher": "resnet20",
            "student": "resnet8",
            "imbalance_factor": 100.0,
            "image_size": 16,
            "epochs": 25,
            "augmentation": "crop2-flip",
            "normalization": "cifar100",
            "test_every": 5,
        },
        assumptions={
            "epochs": "this project's own protocol: the distillation field's schedule at about a tenth of its length",
            "image_size": "this project's own protocol: a quarter of the pixels, crops with half the padding",
            **{name: why for name, why in LTKD_ASSUMPTIONS.items() if name.startswith("ltkd.")},
            "subset_seed": LTKD_ASSUMPTIONS["subset_seed"],
        },
    ),
    "cifar-crd": Recipe(
        "CIFAR in the distillation field, probably LTKD's recipe: 240 epochs, batch 64",
        {
            **CRD,
            "dataset": "cifar100",
            "teacher": "resnet32x4",
            "student": "resnet8x4",
            "imbalance_factor": 100.0,
            "augmentation": "crop4-flip",
            "normalization": "cifar100",
        },
        pairs=CRD_PAIRS,
        lr=CRD_LR,
        assumptions=LTKD_ASSUMPTIONS,
    ),
    "cifar-bkd": CIFAR_BKD,
    "cifar10-bkd": replace(
        CIFAR_BKD,
        summary="CIFAR-10 in BKD's published code: as cifar-bkd, plain distillation before epoch 160",
        defaults=CIFAR_BKD.defaults | {"dataset": "cifar10"},
        methods=CIFAR_BKD.methods | {"bkd": {"deferred": 0.8}, "bkd+crt": {"deferred": 0.8, "second_stage": 30 / 200}},
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
        pairs=CRD_PAIRS,
        lr=CRD_LR,
        assumptions={**LTKD_ASSUMPTIONS, "augmentation": "rotations by whole degrees, so that views can be numbered"},
    ),
    "tiny-imagenet-dot": Recipe(
        "TinyImageNet at 64 x 64 in the distillation field's own published configs: 200 epochs, batch 256",
        {
            **CRD,
            "dataset": "tiny-imagenet",
            "teacher": "resnet32x4",
            "student": "resnet8x4",
            "imbalance_factor": 100.0,
            "epochs": 200,
            "milestones": (60 / 200, 120 / 200, 160 / 200),
            "batch_size": 256,
            "lr": 0.2,
            "augmentation": "rotate20-flip",
            "normalization": "tiny-imagenet",
        },
        pairs=CRD_PAIRS,
        assumptions={
            **{
                name: why for name, why in LTKD_ASSUMPTIONS.items() if "." in name or name in ("profile", "subset_seed")
            },
            "student": "published for ResNet-18 to MobileNetV2 or ShuffleNetV2, with plain KD and DOT alone",
            "epochs": "of the published configs for balanced TinyImageNet; LTKD names no recipe",
            "augmentation": "rotations by whole degrees, so that views can be numbered",
            **{
                f"{method}.{name}": "published for CIFAR-100 alone"
                for method, name in (
                    ("dkd", "beta"),
                    ("catkd", "kd_weight"),
                    ("reviewkd", "kd_weight"),
                    ("dist", "kd_weight"),
                )
            },
        },
    ),
    "imagenet-crd": Recipe(
        "exponential subset of ImageNet in the distillation field, probably LTKD's recipe: 100 epochs, batch 512",
        {
            **IMAGENET,
            "dataset": "imagenet-exp-lt",
            "teacher": "imagenet-resnet34",
            "student": "imagenet-resnet18",
            "imbalance_factor": 10.0,
            "epochs": 100,
            "milestones": (0.3, 0.6, 0.9),
            "lr_decay": 0.1,
            "lr_warmup": 0.0,
            "batch_size": 512,
            "lr": 0.2,
            "weight_decay": 1e-4,
        },
        {
            "kd": {"temperature": 1.0, "ce_weight": 0.5, "kd_weight": 0.5},
            "dkd": {"temperature": 1.0, "beta": 0.5, "warmup": 1 / 100},
            "dist": {"temperature": 1.0},
            "reviewkd": {"kd_weight": 1.0, "warmup": 1 / 100, "before_activation": True},
            "catkd": {"kd_weight": 10.0},
            "ltkd": {"temperature": 1.0, "warmup": 1 / 100},
        },
        pairs={
            ("imagenet-resnet34", "imagenet-resnet18"): {
                "reviewkd": {"kd_weight": 1.0},
                "catkd": {"kd_weight": 0.5, "size": 4, "normalized": False},
            },
            ("imagenet-resnet50", "imagenet-mobilenetv1"): {"dkd": {"beta": 2.0}, "reviewkd": {"kd_weight": 8.0}},
        },
        assumptions={
            **{k: v for k, v in LTKD_ASSUMPTIONS.items() if k.startswith("ltkd.") and k != "ltkd.temperature"},
            "ltkd.temperature": "not in the paper; 1, as the other methods have it on ImageNet",
            "epochs": "not in the paper; the distillation field's 100",
            "profile": "classes in the order of their WordNet numbers; one with too few images gives all it has",
            "reviewkd.kd_weight": "published for two pairs of networks alone; 1 for others",
            "reviewkd.batch_size": "512 with lr 0.2 as for all methods here; the published configs have 256 and 0.1",
            "catkd.kd_weight": "10, published for ResNet-50 and MobileNetV2; nothing for MobileNetV1 or other pairs",
        },
    ),
    "imagenet-lt-bkd": Recipe(
        "ImageNet-LT in BKD: ResNet-10 from scratch, 90 epochs, batch 512, cosine",
        {
            **STREAMED_BKD,
            "dataset": "imagenet-lt",
            "teacher": "imagenet-resnet10",
            "student": "imagenet-resnet10",
            "batch_size": 512,
        },
        STREAMED_BKD_METHODS,
        assumptions=STREAMED_BKD_ASSUMPTIONS,
    ),
    "places-lt-bkd": Recipe(
        "Places-LT in BKD: ResNet-152 from ImageNet's weights, 90 epochs, batch 128, cosine",
        {
            **STREAMED_BKD,
            "dataset": "places-lt",
            "teacher": "imagenet-resnet152-pretrained",
            "student": "imagenet-resnet152-pretrained",
            "batch_size": 128,
        },
        STREAMED_BKD_METHODS
        | {
            "crt": {"lr": 0.1, "batch_size": 256, "second_stage": 10 / 90},
            "oltr": STREAMED_BKD_METHODS["oltr"]
            | {
                "second_stage": 1.0,
                "body_lr": 0.01,
                "second_body_lr": 0.001,
                "head_lr": 0.1,
                "frozen_body": True,
                "width": 512,
            },
        },
        assumptions=STREAMED_BKD_ASSUMPTIONS
        | {
            "crt.lr": "published for the second stage, as its batches of 256; taken for the first too",
            "oltr.width": "512 from the second stage on; the published code has this layer in the first stage already",
            "oltr.frozen_body": "the frozen layers keep their BatchNorm statistics, unlike in the published code",
        },
    ),
    "inaturalist-bkd": Recipe(
        "iNaturalist 2018 in BKD: ResNet-50, 90 epochs, batch 256, cosine",
        {
            **STREAMED_BKD,
            "dataset": "inaturalist2018",
            "teacher": "imagenet-resnet50",
            "student": "imagenet-resnet50",
            "batch_size": 256,
            "weight_decay": 1e-4,
            "augmentation": "imagenet-crop",
            "normalization": "inaturalist",
        },
        STREAMED_BKD_METHODS | {"crt": {"second_stage": 30 / 90}, "bkd+crt": {"second_stage": 30 / 90}},
        assumptions=STREAMED_BKD_ASSUMPTIONS,
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
        {
            "kd": {"ce_weight": 1.0, "kd_weight": 1.0},  # labels weigh as much as in bkd and ltkd
            "ltkd": {"alpha": 1.0, "beta": 1.0, "warmup": 0.1},
        },
        assumptions={"epochs": "this project's own protocol"},
    ),
}


OWN = "folder"  # the recipe of all data of one's own, in a folder or not


def recipe_for(dataset: str) -> str:
    """The default recipe of a data set, a key of RECIPES; OWN if the data set is not in SOURCES."""
    known = SOURCES.get(dataset)
    return known.recipe if known else OWN
