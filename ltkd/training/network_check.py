"""The checks of what a network returns: numbers, or -inf for masked classes, but not for all classes of an image."""

import torch
from torch import Tensor, nn

from .. import models
from .._support.seeding import own_randomness
from ..decomposition import MASKED
from ..errors import ConfigError, RunError
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


@torch.no_grad()
def check_network(network: nn.Module, called: str, images: Tensor, num_classes: int, *, trained: bool = False) -> None:
    """Raise ConfigError unless the network takes the images and returns (B, num_classes), RunError unless these are
    logits. called: the network in an error message.

    In evaluation mode, the logits must depend on each image alone. A network that will be trained must return logits in
    training mode too.
    """
    with own_randomness(images.device, 0):
        with models.evaluating(network):
            logits = _logits_of(network, f"{called} (in evaluation mode)", images, num_classes)
            alone = _logits_of(network, f"{called} (in evaluation mode)", images[:1], num_classes)
        if trained:  # in a copy: BatchNorm learns from each batch
            _logits_of(models.copied(network).train(), f"{called} (in training mode)", images, num_classes)
    if wrong := int(without_softmax(logits).sum()):
        raise wrong_logits(called, wrong, len(images))
    largest = float(logits[logits.isfinite()].abs().amax())
    if not torch.allclose(alone, logits[:1], rtol=0, atol=0.01 * largest):  # rounding differs with the batch's size
        raise ConfigError(
            f"the {called} returns other logits for an image alone than for the same image in a batch, in evaluation "
            f"mode: its dropout or normalization ignores eval(); pass it training=self.training"
        )


def _logits_of(network: nn.Module, called: str, images: Tensor, num_classes: int) -> Tensor:
    """The network's logits. Raises ConfigError if it does not take the images, or returns anything else."""
    try:
        logits = network(images.clone())
    except Exception as error:  # the caller's own module may raise anything
        raise ConfigError(f"the {called} does not take images of shape {tuple(images.shape)}: {error}") from error
    found = tuple(logits.shape) if torch.is_tensor(logits) else type(logits).__name__
    if found != (len(images), num_classes):
        raise ConfigError(
            f"the {called} returns {found} for {len(images)} images, but the data have {num_classes} classes: it must "
            f"return logits of shape {(len(images), num_classes)}; wrap it in a module whose forward returns them alone"
        )
    return logits
