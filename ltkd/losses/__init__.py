"""Published losses as pure functions on logits and feature maps.

One convention for all: mean over the batch, sum over the classes, times temperature squared where there is one (which
keeps the size of the gradient independent of it), a scalar out, float32 or better inside, no device and no state.
The exceptions are in the docstrings: losses on feature maps are means over all that a map holds, and LFME has no T².

The teacher is a constant: no loss sends a gradient into teacher logits or maps, detached or not. For mutual learning,
where two networks teach each other, call a loss once for each of them as the student. Student, temperature and class
weights have gradients. (`ltkd.decompose` and `rebalance` are functions of mathematics: a gradient in every argument.)

A class with a logit of -65504 or less, such as -inf, is masked: see `ltkd/decomposition.py`. Where a teacher masks a
class, the loss is the limit of a probability that falls to zero, the label's class not excepted; where a student alone
masks it, KL is inf. nan and +inf are not logits: the loss is then nan.

Values of tensors (labels from 0 to C - 1, a temperature in range) are checked on the CPU alone, since a look at them
would stall a GPU at every step.
"""

from .distillation import bkd, dist, dist_terms, dkd, dkd_terms, expert_kd, kd
from .features import class_attention, hierarchical_context, hint
from .long_tailed import (
    adjust_logits,
    balanced_softmax,
    class_balanced,
    effective_number_weights,
    focal,
    ldam,
    ldam_margins,
    logit_adjusted,
    sigmoid_focal,
)
from .ltkd import log_rebalance, ltkd, ltkd_terms, rebalance

__all__ = [
    "adjust_logits",
    "balanced_softmax",
    "bkd",
    "class_attention",
    "class_balanced",
    "dist",
    "dist_terms",
    "dkd",
    "dkd_terms",
    "effective_number_weights",
    "expert_kd",
    "focal",
    "hierarchical_context",
    "hint",
    "kd",
    "ldam",
    "ldam_margins",
    "log_rebalance",
    "logit_adjusted",
    "ltkd",
    "ltkd_terms",
    "rebalance",
    "sigmoid_focal",
]
