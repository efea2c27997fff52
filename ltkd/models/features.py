"""What `features(x)` of every network of this package returns."""

from typing import NamedTuple

from torch import Tensor


class FeatureOutput(NamedTuple):
    """logits (B, C); stages: feature maps (B, c, h, w) from the stem to the last stage; pooled (B, D)."""

    logits: Tensor
    stages: tuple[Tensor, ...]
    pooled: Tensor
