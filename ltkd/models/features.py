"""What `features(x)` of every network of this package returns."""

from typing import NamedTuple

from torch import Tensor


class FeatureOutput(NamedTuple):
    """logits (B, C); stages: feature maps (B, c, h, w) from the stem to the last stage; pooled (B, D).

    A network of your own may leave out the rest, which only some methods ask for. preactivations: the same maps as
    `stages`, before their activation. last_map (B, D, h, w): the map whose mean over h and w is `pooled`.
    """

    logits: Tensor
    stages: tuple[Tensor, ...]
    pooled: Tensor
    preactivations: tuple[Tensor, ...] | None = None
    last_map: Tensor | None = None
