"""Published losses as pure functions on logits.

One convention for all: mean over the batch, sum over the classes, times temperature squared (which keeps the size
of the gradient independent of the temperature), a scalar out, float32 or better inside, no device and no state.
"""

import torch

from .decomposition import at_temperature, check_same_shape, kl_from_logs, log_split, within_group_kl
from .errors import ConfigError


def kd(student_logits, teacher_logits, *, temperature):
    """Knowledge distillation (Hinton et al. 2015; BKD, Eq. 6): T² KL(p_teacher || p_student).

    Both logits (B, C) -> scalar.
    """
    check_same_shape(student_logits, teacher_logits)
    teacher = at_temperature(teacher_logits, temperature).log_softmax(1)
    student = at_temperature(student_logits, temperature).log_softmax(1)
    return kl_from_logs(teacher, student).mean() * temperature**2


def bkd(student_logits, teacher_logits, class_weights, *, temperature):
    """Balanced knowledge distillation (Zhang et al. 2023, Eq. 8): T² KL(q || p_student), q ∝ weight_c p_teacher,c.

    Both logits (B, C), class_weights (C,), positive; only their ratios matter, since q sums to one -> scalar.
    """
    check_same_shape(student_logits, teacher_logits)
    _check_length("class_weights", class_weights, student_logits.shape[1], "class")
    teacher = at_temperature(teacher_logits, temperature).log_softmax(1)
    target = (teacher + class_weights.to(teacher).log()).log_softmax(1)
    student = at_temperature(student_logits, temperature).log_softmax(1)
    return kl_from_logs(target, student).mean() * temperature**2


def effective_number_weights(class_counts, *, beta=0.9999):
    """Class weights by the effective number of images (Cui et al. 2019; BKD, Eq. 2), scaled to sum to C.

    class_counts (C,), each at least 1; 0 <= beta < 1 (0: equal weights, towards 1: inverse frequency) -> (C,) float32.
    """
    counts = torch.as_tensor(class_counts, dtype=torch.float64)
    if not 0 <= beta < 1:
        raise ConfigError(f"beta = {beta}: must be at least 0 and below 1")
    if (counts < 1).any():
        raise ConfigError("every class needs at least one image; drop the classes that have none")
    weights = (1 - beta) / (1 - beta**counts)
    return (weights * len(counts) / weights.sum()).float()


def log_rebalance(log_mass, log_batch_mass=None):
    """LTKD's Eq. 9 to 11 on logarithms: (B, G) log group mass -> (B, G) log of the rebalanced mass.

    log_batch_mass (G,): log of the batch's summed mass, where it does not come from these rows.
    """
    if log_batch_mass is None:
        log_batch_mass = log_mass.logsumexp(0)
    # The target average of Eq. 9 scales every group alike, so the normalisation of Eq. 11 cancels it.
    return (log_mass - log_batch_mass).log_softmax(1)


def rebalance(teacher_mass, batch_mass=None):
    """Rebalance the teacher's group probabilities over a batch (LTKD, Eq. 9 to 11): (B, G) -> (B, G).

    Each group is scaled by (average batch mass) / (its batch mass), then every row is normalised to sum to one;
    after that the batch sums are nearer to each other, but equal only where the rows are alike.
    batch_mass (G,): the batch's summed mass when it must come from outside (several processes, a running mean).
    """
    teacher_mass = teacher_mass if teacher_mass.dtype == torch.float64 else teacher_mass.float()
    tiny = torch.finfo(teacher_mass.dtype).tiny
    return log_rebalance(teacher_mass.clamp_min(tiny).log(), _log_mass(batch_mass, teacher_mass)).exp()


def ltkd(student_logits, teacher_logits, groups, *, alpha, beta, temperature, batch_mass=None):
    """Long-tailed knowledge distillation (LTKD, Eq. 14), times T².

    T² [alpha KL(rebalanced teacher group mass || student group mass) + beta sum over groups of KL within the group].
    Both logits (B, C); groups: ClassGroups; batch_mass (G,): see `rebalance` -> scalar.
    """
    cross, within = ltkd_terms(student_logits, teacher_logits, groups, temperature=temperature, batch_mass=batch_mass)
    return alpha * cross + beta * within


def ltkd_terms(student_logits, teacher_logits, groups, *, temperature, batch_mass=None):
    """The two terms of LTKD before alpha and beta (Eq. 11 and 13), each times T²: (cross, within), two scalars."""
    check_same_shape(student_logits, teacher_logits)
    teacher = log_split(teacher_logits, groups, temperature=temperature)
    student = log_split(student_logits, groups, temperature=temperature)
    target = log_rebalance(teacher.group, _log_mass(batch_mass, teacher.group))
    cross = kl_from_logs(target, student.group)
    within = within_group_kl(teacher.inside, student.inside, groups).sum(1)
    return cross.mean() * temperature**2, within.mean() * temperature**2


def _log_mass(batch_mass, like):
    """Log of a batch mass (G,) given from outside, in the type of `like` (B, G); finite where a mass is zero."""
    if batch_mass is None:
        return None
    _check_length("batch_mass", batch_mass, like.shape[1], "group")
    return batch_mass.to(like).clamp_min(torch.finfo(like.dtype).tiny).log()


def _check_length(name, values, n, unit):
    if values.shape != (n,):
        raise ConfigError(f"{name} has shape {tuple(values.shape)}: must be ({n},), one value a {unit}")
