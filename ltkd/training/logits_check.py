"""The check of what a network returns: numbers, or -inf for masked classes, but not for all classes of an image."""

import torch
from torch import Tensor

from ..decomposition import MASKED
from ..errors import RunError
from ..methods import TEACHER


def without_softmax(logits: Tensor) -> Tensor:
    """True for each row that holds NaN or inf, or nothing but masked classes: (B, C) -> bool (B,)."""
    peak = logits.detach().amax(1)  # NaN if a logit is NaN
    return ~((peak > MASKED) & (peak < torch.inf))


def wrong_logits(network: str, wrong: int, images: int) -> RunError:
    """The error for a network that returned such rows for `wrong` of the images."""
    return RunError(
        f"the {network} returned NaN, inf or only -inf for {wrong} of {images} images: each logit must be a number, or "
        f"-inf where a class is masked; check the weights of the {network} and the normalization of the images"
    )


def teacher_called(name: str, network: str | None) -> str:
    """A teacher in a message. name: of the teacher in its method. network: the config's `teacher`."""
    return f"teacher {network}" if name == TEACHER else f"teacher {name!r} ({network})"
