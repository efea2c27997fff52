"""What all networks share: their outputs, the forward pass of every family here, initial weights, and checks."""

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..errors import ConfigError


class FeatureOutput(NamedTuple):
    """What `features(x)` of every network returns.

    logits: (B, C). stages: the maps (B, c, h, w) from the stem to the last stage, activated, or as the next block takes
    them (wide ResNets, MobileNetV2). pooled: (B, D). Only some methods need the rest, so a network of your own may
    leave it out. preactivations: the maps of `stages` before an activation. last_map: the map (B, D, h, w) whose mean
    over h and w is `pooled`.
    """

    logits: Tensor
    stages: tuple[Tensor, ...]
    pooled: Tensor
    preactivations: tuple[Tensor, ...] | None = None
    last_map: Tensor | None = None


class InitialWeights(NamedTuple):
    """How the public code of a family draws its initial weights.

    he: convolutions by He's rule (fan out) with zero biases; False: by PyTorch's default. classifier: deviation of the
    linear layers' weights, whose biases are then zero; None: PyTorch's default. zero_bias: zero biases of linear layers
    all the same.
    """

    he: bool = True
    classifier: float | None = None
    zero_bias: bool = False


class StagedNetwork(nn.Module):
    """stem -> stages -> tail -> global average pooling -> fc.

    stem, and each block of each stage: a module that returns a map before its last activation; `activation` (default:
    ReLU) follows, so that the next block takes an activated map. tail: what follows the last stage's activation
    (default: nothing). width: channels of the last map. `fc` may be replaced by any module that takes (B, width).
    """

    stages: Any  # an nn.ModuleList of the blocks of each stage
    fc: nn.Module
    initial_weights = InitialWeights()
    revision = 0  # increase it if a change to the network changes its results: its runs then get new ids

    def __init__(
        self,
        stem: nn.Module,
        stages: Sequence[Iterable[nn.Module]],
        width: int,
        num_classes: int,
        *,
        activation: nn.Module | None = None,
        tail: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.stem = stem
        self.stages = nn.ModuleList(nn.ModuleList(blocks) for blocks in stages)
        self.activation = activation or nn.ReLU()
        self.tail = tail or nn.Identity()
        self.fc = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, in_channels, side, side) -> logits (B, num_classes)."""
        return self.features(x).logits

    def features(self, x: Tensor) -> FeatureOutput:
        """Logits, and the maps on the way to them, of images (B, in_channels, side, side)."""
        before = [self.stem(x)]
        after = [self.activation(before[0])]
        for *blocks, last in self.stages:
            before.append(last(self._through(blocks, after[-1])))
            after.append(self.activation(before[-1]))
        return self._output(before, after, self.tail(after[-1]))

    @property
    def last_block(self) -> nn.Module:
        """The last block of the last stage, which `finish` applies unless it is given another."""
        return self.stages[-1][-1]

    def trunk(self, x: Tensor) -> Tensor:
        """The input of the last block of the last stage, for images (B, in_channels, side, side)."""
        *blocks, _ = chain.from_iterable(self.stages)
        return self._through(blocks, self.activation(self.stem(x)))

    def finish(self, x: Tensor, block: nn.Module | None = None) -> Tensor:
        """The pooled features (B, width) for the output of `trunk`. block: replaces the last block."""
        block = self.last_block if block is None else block
        return _pool(self.tail(self.activation(block(x))))

    def _through(self, blocks: Iterable[nn.Module], x: Tensor) -> Tensor:
        for block in blocks:
            x = self.activation(block(x))
        return x

    def _output(self, before: Sequence[Tensor], after: Sequence[Tensor], last_map: Tensor) -> FeatureOutput:
        pooled = _pool(last_map)
        return FeatureOutput(self.fc(pooled), tuple(after), pooled, tuple(before), last_map)


def _pool(last_map: Tensor) -> Tensor:
    return last_map.mean((2, 3))


def initialise(network: nn.Module, generator: torch.Generator) -> None:
    """Draw all weights of a network as its `initial_weights` says, by default by He's rule (fan out) for convolutions
    and PyTorch's default for linear layers. BatchNorm becomes the identity.

    Raises TypeError for another layer that has weights.
    """
    how = getattr(network, "initial_weights", InitialWeights())
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and how.he:
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear) and how.classifier is not None:
            nn.init.normal_(module.weight, 0.0, how.classifier, generator=generator)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear | nn.Conv2d):
            bound = module.weight[0].numel() ** -0.5
            for values in module.parameters(recurse=False):
                nn.init.uniform_(values, -bound, bound, generator=generator)
            if how.zero_bias and module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
        elif [*module.parameters(recurse=False), *module.buffers(recurse=False)]:
            raise TypeError(f"initialise() does not know {type(module).__name__}: teach it, or its weights are noise")


def features_of(network: nn.Module, x: Tensor) -> FeatureOutput:
    """network.features(x). Raises ConfigError if the network (one of your own) has no such method."""
    features = getattr(network, "features", None)
    out = features(x) if callable(features) else None
    if not isinstance(out, FeatureOutput):
        raise ConfigError(
            f"{type(network).__name__} has no method features(x) that returns ltkd.FeatureOutput(logits, stages, "
            "pooled), and this method of training needs it: give the network one"
        )
    return out


def classifier(network: nn.Module, *, bias: bool = False) -> nn.Linear:
    """The linear layer `fc` from pooled features to logits. Raises ConfigError if there is none, or (bias=True) none
    with a bias."""
    layer = getattr(network, "fc", None)
    if not isinstance(layer, nn.Linear) or (bias and layer.bias is None):
        raise ConfigError(
            f"{type(network).__name__} has no nn.Linear {'with a bias ' if bias else ''}called fc, and a method that "
            "reads or changes the classifier needs one: so call its last layer, whose input is features(x).pooled"
        )
    return layer


def last_map_of(features: FeatureOutput) -> Tensor:
    """The map (B, D, h, w) whose mean is the pooled vector. Raises ConfigError if the network does not return it."""
    if features.last_map is None:
        raise ConfigError(
            "this method of training reads the map that is averaged into `pooled`, and the features of this network "
            "have none: return it from features(x) as FeatureOutput(..., last_map=...)"
        )
    return features.last_map


def copied(network: nn.Module) -> nn.Module:
    """A copy of a network with all its hooks: deepcopy leaves out those of parameters. Raises ConfigError if an
    attribute cannot be copied."""
    try:
        new = copy.deepcopy(network)
    except Exception as error:  # locks, open files, and tensors that were computed with a gradient
        raise ConfigError(
            f"a {type(network).__name__} cannot be copied ({error}); remove such attributes, or leave them out in "
            f"__deepcopy__"
        ) from error
    for own, original in zip(new.parameters(), network.parameters(), strict=True):
        for hook in (original._backward_hooks or {}).values():
            own.register_hook(hook)
        for hook in (getattr(original, "_post_accumulate_grad_hooks", None) or {}).values():
            own.register_post_accumulate_grad_hook(hook)
    return new


@contextmanager
def evaluating(network: nn.Module) -> Iterator[nn.Module]:
    """Context manager: the network in evaluation mode; afterwards, each of its layers has its own mode again."""
    modes = [(layer, layer.training) for layer in network.modules()]
    try:
        yield network.eval()
    finally:
        for layer, training in modes:
            layer.training = training


def count_parameters(network: nn.Module) -> int:
    """The number of a network's parameters, frozen ones too."""
    return sum(p.numel() for p in network.parameters())
