"""Long-tailed distillation (LTKD): the rebalanced cross-group and the reweighted within-group term."""

import torch
from torch.autograd.function import once_differentiable

from ..decomposition import as_float, check_same_shape, rows_for, split
from ..errors import ConfigError
from .parts import check_length


def log_rebalance(log_mass, log_batch_mass=None):
    """LTKD's Eq. 9 to 11 on logarithms: (..., B, G) log group mass -> (..., B, G) log of the rebalanced mass.

    log_batch_mass (G,): log of the batch's summed mass, where it does not come from these rows.
    """
    # The target average of Eq. 9 scales every group alike, so the normalisation of Eq. 11 cancels it.
    share = log_mass.log_softmax(-2) if log_batch_mass is None else log_mass - log_batch_mass
    return share.log_softmax(-1)


def rebalance(teacher_mass, batch_mass=None):
    """Rebalance the teacher's group probabilities over a batch (LTKD, Eq. 9 to 11): (B, G) -> (B, G).

    Each group is scaled by (average batch mass) / (its batch mass), then every row is normalised to sum to one;
    after that the batch sums are nearer to each other, but equal only where the rows are alike.
    batch_mass (G,): the batch's summed mass when it must come from outside (several processes, a running mean).
    """
    teacher_mass = as_float(teacher_mass)
    tiny = torch.finfo(teacher_mass.dtype).tiny
    return log_rebalance(
        teacher_mass.clamp_min(tiny).log(), _log_mass(batch_mass, teacher_mass.shape[1], teacher_mass)
    ).exp()


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
    Both logits (B, C); groups: ClassGroups; alpha, beta: numbers; batch_mass (G,): see `rebalance`; rebalanced,
    reweighted: see `ltkd_terms` -> scalar.
    """
    weights = alpha, beta  # applied to the terms from inside: two products more would cost autograd a tenth of all
    cross, within = _weighted_terms(
        student_logits, teacher_logits, groups, weights, temperature, batch_mass, rebalanced, reweighted
    )
    return cross + within


def ltkd_terms(
    student_logits, teacher_logits, groups, *, temperature, batch_mass=None, rebalanced=True, reweighted=True
):
    """The two terms of LTKD before alpha and beta (Eq. 11 and 13), each times T²: (cross, within), two scalars.

    For the ablations: rebalanced=False keeps the teacher's own group mass as the cross-group target (Eq. 6; Tab. 4's
    "biased"; batch_mass then has no part in it), reweighted=False weighs each group's KL by it (Eq. 12). With both
    False the terms sum to plain KD (Eq. 8). The gradient goes to the student alone, and has no gradient of its own.
    """
    return _weighted_terms(
        student_logits, teacher_logits, groups, (1.0, 1.0), temperature, batch_mass, rebalanced, reweighted
    )


def _weighted_terms(student_logits, teacher_logits, groups, weights, temperature, batch_mass, rebalanced, reweighted):
    if teacher_logits.requires_grad and torch.is_grad_enabled():
        raise ConfigError("the teacher's logits ask for a gradient: LTKD takes the teacher as given, detach them")
    check_same_shape(student_logits, teacher_logits)
    student, teacher = as_float(student_logits), as_float(teacher_logits)
    log_batch_mass = _log_mass(batch_mass, groups.n_groups, teacher) if rebalanced else None
    rows = rows_for(student, groups)
    return _Terms.apply(student, teacher, rows, weights, temperature, log_batch_mass, rebalanced, reweighted)


class _Terms(torch.autograd.Function):
    """alpha T² cross and beta T² within, averaged over the batch, with their gradient in closed form.

    With p_g and r_g the group mass of the student and of the target, s~_i and t~_i the student's and the teacher's
    probability of class i inside its group g, and w_g the weight of the group's KL (1 or the teacher's mass):
    d log p_g / d z_i = (s~_i - p_i) / T for i in g, which makes (p_g - r_g) s~_i / T of the cross-group term, and
    d KL_g / d z_i = (s~_i - t~_i) / T. Together, for one image:
    T [(alpha (p_g - r_g) + beta w_g) s~_i - beta w_g t~_i].
    """

    @staticmethod
    def forward(
        ctx, student_logits, teacher_logits, rows, weights, temperature, log_batch_mass, rebalanced, reweighted
    ):
        teacher, student, within = split(teacher_logits, student_logits, rows, temperature)
        target = log_rebalance(teacher.log_mass, log_batch_mass) if rebalanced else teacher.log_mass
        target_mass = target.exp()
        excess = student.log_mass.exp() - target_mass
        share = None if reweighted else teacher.log_mass.exp()
        ctx.save_for_backward(teacher.parts, teacher.whole, student.parts, student.whole, excess, share)
        ctx.rows = rows
        ctx.cross_scale, ctx.within_scale = [weight * temperature / len(within) for weight in weights]
        cross = (target - student.log_mass).mul_(target_mass).sum()
        within = (within if reweighted else within * share).sum()
        return cross.mul_(ctx.cross_scale * temperature), within.mul_(ctx.within_scale * temperature)

    @staticmethod
    @once_differentiable
    def backward(ctx, cross_gradient, within_gradient):
        teacher, teacher_whole, student, student_whole, excess, share = ctx.saved_tensors
        pull = within_gradient * ctx.within_scale
        pull = pull if share is None else pull * share
        push = torch.addcmul(pull, excess, cross_gradient, value=ctx.cross_scale)
        gradient = student * ctx.rows.spread(push / student_whole)
        gradient.addcmul_(teacher, ctx.rows.spread(pull / teacher_whole), value=-1)
        return ctx.rows.to_classes(gradient), *[None] * 7


def _log_mass(batch_mass, n_groups, like):
    """Log of a batch mass (G,) given from outside, in the type of `like`; finite where a mass is zero."""
    if batch_mass is None:
        return None
    check_length("batch_mass", batch_mass, n_groups, "group")
    return batch_mass.to(like).clamp_min(torch.finfo(like.dtype).tiny).log()
