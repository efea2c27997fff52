"""Teacher: a network trained elsewhere, with what must be known to use it on other data."""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from ..errors import ConfigError, shown
from .base import FeatureOutput, features_of


class Teacher(nn.Module):
    """A network with the names of its outputs, for `fit(teacher=...)`: they are put in the order of the data's classes.

    network: images (B, channels, side, side) -> logits (B, C). class_names: C names, in the order of the logits; they
    must be those of the data set.

    >>> teacher = Teacher(nn.Flatten(), class_names=["dog", "cat"]).in_order_of(["cat", "dog"])
    >>> teacher(torch.tensor([[1.0, 5.0]]))
    tensor([[5., 1.]])
    """

    order: Tensor

    def __init__(self, network: nn.Module, *, class_names: Sequence[str]) -> None:
        super().__init__()
        if not isinstance(network, nn.Module):
            raise ConfigError(f"Teacher({shown(network)}): must be a torch module: images -> logits")
        if isinstance(class_names, str) or not isinstance(class_names, Sequence):
            raise ConfigError(
                f"class_names = {shown(class_names)}: must be a list of names, one per output of the teacher"
            )
        self.network, self.class_names = network, tuple(map(str, class_names))
        if twice := sorted({name for name in self.class_names if self.class_names.count(name) > 1}):
            raise ConfigError(f"class_names of the teacher: {twice[0]!r} is there twice; give one name per output")
        self.register_buffer("order", torch.arange(len(self.class_names)), persistent=False)

    def in_order_of(self, class_names: Sequence[str]) -> Self:
        """This teacher, whose logits now have the order of `class_names`. Raises ConfigError unless both name the same
        classes."""
        missing = [name for name in class_names if name not in self.class_names]
        unknown = [name for name in self.class_names if name not in class_names]
        if missing or unknown:
            raise ConfigError(
                f"the teacher's class_names are not those of the data: the teacher lacks {_some(missing)} and the data "
                f"lack {_some(unknown)}; both must name the same classes"
            )
        own = {name: number for number, name in enumerate(self.class_names)}
        self.order = torch.tensor([own[name] for name in class_names], device=self.order.device)
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, channels, side, side) -> logits (B, C)."""
        return self._ordered(self.network(x))

    def features(self, x: Tensor) -> FeatureOutput:
        """The features of the network, with the logits of `forward`."""
        output = features_of(self.network, x)
        return output._replace(logits=self._ordered(output.logits))

    def _ordered(self, logits: Tensor) -> Tensor:
        if logits.shape[1:] != self.order.shape:
            raise ConfigError(
                f"the teacher returns {tuple(logits.shape)} for {len(logits)} images, but has {len(self.order)} "
                f"class_names; name each output, in its order"
            )
        return logits[:, self.order]


def _some(names: Sequence[str], n: int = 3) -> str:
    """The first n names, and how many more there are; 'none' without any."""
    if not names:
        return "none"
    return ", ".join(map(repr, names[:n])) + (f" and {len(names) - n} more" if len(names) > n else "")
