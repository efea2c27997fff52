"""Long-tailed distillation (LTKD): the rebalanced cross-group and the reweighted within-group term."""

import torch

from ..decomposition import check_same_shape, kl_from_logs, log_split, within_group_kl
from .parts import as_float, check_length


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
    teacher_mass = as_float(teacher_mass)
    tiny = torch.finfo(teacher_mass.dtype).tiny
    return log_rebalance(teacher_mass.clamp_min(tiny).log(), _log_mass(batch_mass, teacher_mass)).exp()


def ltkd(
    student_logits,
    teacher_logits,
    groups,
    *,
    alpha,
    beta,
    temperature,
    batch_mass=None,
    rebalanced=True,
    reweighted=True,
):
    """Long-tailed knowledge distillation (LTKD, Eq. 14), times T².

    T² [alpha KL(rebalanced teacher group mass || student group mass) + beta sum over groups of KL within the group].
    Both logits (B, C); groups: ClassGroups; batch_mass (G,): see `rebalance`; rebalanced, reweighted: see
    `ltkd_terms` -> scalar.
    """
    cross, within = ltkd_terms(
        student_logits,
        teacher_logits,
        groups,
        temperature=temperature,
        batch_mass=batch_mass,
        rebalanced=rebalanced,
        reweighted=reweighted,
    )
    return alpha * cross + beta * within


def ltkd_terms(
    student_logits, teacher_logits, groups, *, temperature, batch_mass=None, rebalanced=True, reweighted=True
):
    """The two terms of LTKD before alpha and beta (Eq. 11 and 13), each times T²: (cross, within), two scalars.

    For the ablations: rebalanced=False keeps the teacher's own group mass as the cross-group target (Eq. 6; Tab. 4's
    "biased"; batch_mass then has no part in it), reweighted=False weighs each group's KL by it (Eq. 12). With both
    False the terms sum to plain KD (Eq. 8).
    """
    check_same_shape(student_logits, teacher_logits)
    teacher = log_split(teacher_logits, groups, temperature=temperature)
    student = log_split(student_logits, groups, temperature=temperature)
    target = log_rebalance(teacher.group, _log_mass(batch_mass, teacher.group)) if rebalanced else teacher.group
    cross = kl_from_logs(target, student.group)
    within = within_group_kl(teacher.inside, student.inside, groups)
    if not reweighted:
        within = teacher.group.exp() * within
    return cross.mean() * temperature**2, within.sum(1).mean() * temperature**2


def _log_mass(batch_mass, like):
    """Log of a batch mass (G,) given from outside, in the type of `like` (B, G); finite where a mass is zero."""
    if batch_mass is None:
        return None
    check_length("batch_mass", batch_mass, like.shape[1], "group")
    return batch_mass.to(like).clamp_min(torch.finfo(like.dtype).tiny).log()
