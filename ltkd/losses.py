"""Published losses as pure functions on logits and feature maps.

One convention for all: mean over the batch, sum over the classes, times temperature squared where there is one (which
keeps the size of the gradient independent of it), a scalar out, float32 or better inside, no device and no state.
The exceptions are in the docstrings: losses on feature maps are means over all that a map holds, and LFME has no T².
Labels are int64 and below C; that is not checked, since a look at the values would stall a GPU at every step.
"""

import torch
import torch.nn.functional as F

from .decomposition import at_temperature, check_same_shape, kl_from_logs, log_split, within_group_kl
from .errors import ConfigError, unknown

DIST_EPS = 1e-8  # the authors' own; it damps the correlation of columns that hold next to no probability

# --- distillation of logits -------------------------------------------------------------------------------------------


def kd(student_logits, teacher_logits, *, temperature):
    """Knowledge distillation (Hinton et al. 2015; BKD, Eq. 6): T² KL(p_teacher || p_student).

    Both logits (B, C) -> scalar.
    """
    student, teacher = _log_softmax_of_both(student_logits, teacher_logits, temperature)
    return kl_from_logs(teacher, student).mean() * temperature**2


def bkd(student_logits, teacher_logits, class_weights, *, temperature):
    """Balanced knowledge distillation (Zhang et al. 2023, Eq. 8): T² KL(q || p_student), q ∝ weight_c p_teacher,c.

    Both logits (B, C), class_weights (C,), positive; only their ratios matter, since q sums to one -> scalar.
    """
    student, teacher = _log_softmax_of_both(student_logits, teacher_logits, temperature)
    _check_length("class_weights", class_weights, student.shape[1], "class")
    target = (teacher + class_weights.to(teacher).log()).log_softmax(1)
    return kl_from_logs(target, student).mean() * temperature**2


def dkd(student_logits, teacher_logits, labels, *, alpha, beta, temperature):
    """Decoupled knowledge distillation (Zhao et al. 2022): T² [alpha TCKD + beta NCKD].

    Both logits (B, C), labels (B,) -> scalar. Plain KD is alpha = 1 and beta = 1 - p_teacher,y of each image.
    """
    tckd, nckd = dkd_terms(student_logits, teacher_logits, labels, temperature=temperature)
    return alpha * tckd + beta * nckd


def dkd_terms(student_logits, teacher_logits, labels, *, temperature):
    """The two terms of DKD before alpha and beta, each times T²: (tckd, nckd), two scalars.

    tckd: KL between the (target, all other classes) probabilities; nckd: KL of the softmax over the other classes.
    """
    check_same_shape(student_logits, teacher_logits)
    _labelled(student_logits, labels)
    teacher, teacher_others = _split_at_target(at_temperature(teacher_logits, temperature), labels)
    student, student_others = _split_at_target(at_temperature(student_logits, temperature), labels)
    tckd = kl_from_logs(teacher, student)
    nckd = kl_from_logs(teacher_others.log_softmax(1), student_others.log_softmax(1))
    return tckd.mean() * temperature**2, nckd.mean() * temperature**2


def dist(student_logits, teacher_logits, *, beta, gamma, temperature):
    """DIST, distillation from a stronger teacher (Huang et al. 2022): T² [beta inter + gamma intra].

    Both logits (B, C) -> scalar.
    """
    inter, intra = dist_terms(student_logits, teacher_logits, temperature=temperature)
    return beta * inter + gamma * intra


def dist_terms(student_logits, teacher_logits, *, temperature):
    """The two terms of DIST before beta and gamma, each times T²: (inter, intra), two scalars.

    inter: 1 - Pearson's correlation of the two softmax rows of an image, mean over the images; intra: the same of the
    two columns of a class over the batch, mean over the classes. In a batch of one image a column has no
    correlation: intra is then 0, without a gradient.
    """
    check_same_shape(student_logits, teacher_logits)
    teacher = at_temperature(teacher_logits, temperature).softmax(1)
    student = at_temperature(student_logits, temperature).softmax(1)
    inter = _correlation_distance(student, teacher)
    intra = _correlation_distance(student.T, teacher.T) if len(student) > 1 else torch.zeros_like(inter)
    return inter * temperature**2, intra * temperature**2


def expert_kd(student_logits, expert_logits, classes, *, temperature):
    """One expert's term of LFME (Xiang et al. 2020): KL(p_expert || p_student among the expert's classes).

    student_logits (B, C); expert_logits (B, K) over `classes`, a LongTensor (K,) of class numbers -> scalar. Both
    softmaxes are over these K classes alone. As the authors have it, and unlike every other loss here, without T².
    """
    classes = torch.as_tensor(classes, device=student_logits.device)
    columns = student_logits.index_select(-1, classes)
    student, expert = _log_softmax_of_both(columns, expert_logits, temperature)
    return kl_from_logs(expert, student).mean()


# --- long-tailed distillation, LTKD -----------------------------------------------------------------------------------


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
    teacher_mass = _as_float(teacher_mass)
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


# --- distillation of feature maps: the mean over all that a map holds -------------------------------------------------


def hint(student_map, teacher_map):
    """FitNet's hint (Romero et al. 2015): mean squared difference of two (B, c, h, w) maps -> scalar.

    The regressor that brings the student's map to the teacher's shape belongs to the caller.
    """
    student, teacher = _maps(student_map, teacher_map, 4)
    return (student - teacher).square().mean()


def hierarchical_context(student_map, teacher_map):
    """ReviewKD's hierarchical context loss (Chen et al. 2021) for one level: two (B, c, h, w) maps -> scalar.

    The mean squared difference of the maps, and of the maps average-pooled to 4, 2 and 1 (those below h), weighted
    1, 1/2, 1/4, 1/8 and divided by the weights' sum.
    """
    student, teacher = _maps(student_map, teacher_map, 4)
    difference = student - teacher  # pooling is linear: the difference can be pooled
    sizes = [size for size in (4, 2, 1) if size < difference.shape[2]]
    scales = [difference, *(F.adaptive_avg_pool2d(difference, size) for size in sizes)]
    weights = [0.5**k for k in range(len(scales))]
    return sum(w * scale.square().mean() for w, scale in zip(weights, scales, strict=True)) / sum(weights)


def class_attention(student_maps, teacher_maps, *, size, normalize):
    """CAT-KD (Guo et al. 2023): mean squared difference of pooled class activation maps -> scalar.

    student_maps (B, C, h, w) and teacher_maps (B, C, h', w'), both average-pooled to (size, size); normalize: each
    class's pooled map is then scaled to length one. A map smaller than size is repeated.
    """
    pooled = [F.adaptive_avg_pool2d(maps, size).flatten(2) for maps in _maps(student_maps, teacher_maps, 2)]
    student, teacher = [F.normalize(maps, dim=2) for maps in pooled] if normalize else pooled
    return (student - teacher).square().mean()


# --- losses with the labels, for long-tailed data ---------------------------------------------------------------------


def effective_number_weights(class_counts, *, beta=0.9999):
    """Class weights by the effective number of images (Cui et al. 2019; BKD, Eq. 2), scaled to sum to C.

    class_counts (C,), each at least 1; 0 <= beta < 1 (0: equal weights, towards 1: inverse frequency) -> (C,) float32.
    """
    counts = torch.as_tensor(class_counts, dtype=torch.float64)
    if not 0 <= beta < 1:
        raise ConfigError(f"beta = {beta}: must be at least 0 and below 1")
    _check_counts(counts)
    weights = (1 - beta) / (1 - beta**counts)
    return (weights * len(counts) / weights.sum()).float()


def class_balanced(logits, labels, class_weights, *, reduction="mean"):
    """Class-balanced cross-entropy (Cui et al. 2019): logits (B, C), labels (B,), class_weights (C,) -> scalar.

    reduction: "mean", the sum of w_y CE over B, as published; or "weighted", the same sum over the sum of w_y, as
    torch averages it. Of a long-tailed batch most w_y are small, so "mean" has a several times smaller gradient.
    """
    if reduction not in ("mean", "weighted"):
        raise unknown("reduction", reduction, ("mean", "weighted"))
    if reduction == "weighted":
        return _cross_entropy(logits, labels, class_weights)
    per_image = F.cross_entropy(_labelled(logits, labels), labels, reduction="none")
    return (_weights_of(labels, class_weights, logits) * per_image).mean()


def focal(logits, labels, *, gamma, class_weights=None):
    """Softmax focal loss (Lin et al. 2017, with a softmax): mean of w_y (1 - p_y)^gamma CE.

    logits (B, C), labels (B,), class_weights (C,) or None for ones; p_y is that of the unweighted softmax -> scalar.
    """
    pair, _ = _split_at_target(_labelled(logits, labels), labels)
    return (_weights_of(labels, class_weights, logits) * _focal_terms(pair[:, 0], pair[:, 1], gamma)).mean()


def sigmoid_focal(logits, labels, *, gamma, class_weights=None):
    """Sigmoid focal loss (Lin et al. 2017; Cui et al. 2019): mean of w_y times the sum over C of (1 - p_t)^gamma BCE.

    logits (B, C), each the score of a binary classifier; labels (B,); class_weights (C,) or None for ones: the weight
    of the label holds for all C terms of an image -> scalar. A last bias that starts at -log(C - 1) keeps the C - 1
    wrong classes from dominating the first steps.
    """
    scores = _labelled(logits, labels)
    signed = scores * torch.full_like(scores, -1).scatter(1, labels[:, None], 1)
    terms = _focal_terms(F.logsigmoid(signed), F.logsigmoid(-signed), gamma)
    return (_weights_of(labels, class_weights, logits) * terms.sum(1)).mean()


def ldam_margins(class_counts, *, max_margin=0.5):
    """LDAM's margins (Cao et al. 2019): proportional to n_c^(-1/4), the largest `max_margin`.

    class_counts (C,), each at least 1 -> (C,) float32.
    """
    counts = torch.as_tensor(class_counts, dtype=torch.float64)
    if not max_margin >= 0:
        raise ConfigError(f"max_margin = {max_margin}: must be at least 0")
    _check_counts(counts)
    return (max_margin * (counts.min() / counts) ** 0.25).float()


def ldam(logits, labels, margins, *, scale, class_weights=None):
    """Label-distribution-aware margin loss (Cao et al. 2019): CE after the target has lost scale * margin_y.

    logits (B, C): scale * cosine, what the network returns; labels (B,); margins (C,), in units of the cosine;
    class_weights (C,) or None: weighted as torch does, sum of w_y CE over the sum of w_y -> scalar.
    """
    scores = _labelled(logits, labels)
    _check_length("margins", margins, scores.shape[1], "class")
    shift = scale * margins.to(scores)[labels]
    return _cross_entropy(scores.scatter_add(1, labels[:, None], -shift[:, None]), labels, class_weights)


def logit_adjusted(logits, labels, class_counts, *, tau=1.0):
    """Logit adjusted cross-entropy (Menon et al. 2021): CE(z + tau log prior, y); test on z as it is.

    logits (B, C), labels (B,), class_counts (C,) of the training set, each at least 1 -> scalar.
    """
    return _cross_entropy(adjust_logits(logits, class_counts, tau=-tau), labels)


def balanced_softmax(logits, labels, class_counts):
    """Balanced softmax (Ren et al. 2020): -log(n_y e^z_y / sum of n_c e^z_c); logit adjustment with tau = 1.

    logits (B, C), labels (B,), class_counts (C,), each at least 1 -> scalar.
    """
    return logit_adjusted(logits, labels, class_counts, tau=1.0)


def adjust_logits(logits, class_counts, *, tau):
    """Post-hoc logit adjustment (Menon et al. 2021): z - tau log prior, in float32 or better: (B, C) -> (B, C).

    For the logits of a network trained with plain cross-entropy; never on top of `logit_adjusted`.
    """
    scores, counts = _as_float(logits), torch.as_tensor(class_counts)
    _check_length("class_counts", counts, scores.shape[-1], "class")
    if counts.device.type == "cpu" and not torch.compiler.is_compiling():  # elsewhere the look would stall each step
        _check_counts(counts)
    counts = counts.to(scores)
    return scores - tau * (counts / counts.sum()).log()


# --- parts ------------------------------------------------------------------------------------------------------------


def _as_float(x):
    """`x` in float32 or better."""
    return x if x.dtype == torch.float64 else x.float()


def _labelled(logits, labels):
    """The logits in float32 or better; raise unless they are (B, C) and the labels (B,) of type int64."""
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or labels.dtype != torch.int64:
        raise ConfigError(
            f"logits must be (batch, classes) and labels (batch,) of type int64: the logits are "
            f"{tuple(logits.shape)}, the labels {tuple(labels.shape)} of type {labels.dtype}"
        )
    return _as_float(logits)


def _log_softmax_of_both(student_logits, teacher_logits, temperature):
    check_same_shape(student_logits, teacher_logits)
    return [at_temperature(logits, temperature).log_softmax(1) for logits in (student_logits, teacher_logits)]


def _maps(student_map, teacher_map, n_equal):
    """Both maps in float32 or better; raise unless they are (B, c, h, w) and agree in their first `n_equal` sizes."""
    if student_map.ndim != 4 or teacher_map.ndim != 4 or student_map.shape[:n_equal] != teacher_map.shape[:n_equal]:
        raise ConfigError(
            f"student and teacher maps must be (batch, channels, height, width) and agree in the first {n_equal} of "
            f"these: the student's are {tuple(student_map.shape)}, the teacher's {tuple(teacher_map.shape)}"
        )
    return _as_float(student_map), _as_float(teacher_map)


def _split_at_target(logits, labels):
    """Log-probabilities of the target and of all others together (B, 2), and the others' logits (B, C - 1)."""
    column = torch.arange(logits.shape[1] - 1, device=logits.device)
    others = logits.gather(1, column + (column >= labels[:, None]))
    pair = torch.cat([logits.gather(1, labels[:, None]), others.logsumexp(1, keepdim=True)], 1)
    return pair.log_softmax(1), others


def _correlation_distance(student, teacher):
    """1 - Pearson's correlation of the rows of two (N, M) tensors, mean over the rows."""
    student, teacher = (x - x.mean(1, keepdim=True) for x in (student, teacher))
    lengths = torch.linalg.vector_norm(student, dim=1) * torch.linalg.vector_norm(teacher, dim=1)
    return (1 - (student * teacher).sum(1) / (lengths + DIST_EPS)).mean()


def _focal_terms(log_p, log_rest, gamma):
    """-(1 - p)^gamma log p, from log p and log(1 - p): the gradient stays finite where p rounds to one."""
    if not gamma >= 0:
        raise ConfigError(f"gamma = {gamma}: must be at least 0")
    return -(gamma * log_rest).exp() * log_p


def _cross_entropy(logits, labels, class_weights=None):
    """Cross-entropy; with class weights (C,) the sum of w_y CE over the sum of w_y."""
    scores = _labelled(logits, labels)
    if class_weights is not None:
        _check_length("class_weights", class_weights, scores.shape[1], "class")
        class_weights = class_weights.to(scores)
    return F.cross_entropy(scores, labels, class_weights)


def _weights_of(labels, class_weights, logits):
    """The weight of each image's class, (B,); 1 where there are no class weights."""
    if class_weights is None:
        return 1.0
    _check_length("class_weights", class_weights, logits.shape[1], "class")
    return class_weights.to(_as_float(logits))[labels]


def _log_mass(batch_mass, like):
    """Log of a batch mass (G,) given from outside, in the type of `like` (B, G); finite where a mass is zero."""
    if batch_mass is None:
        return None
    _check_length("batch_mass", batch_mass, like.shape[1], "group")
    return batch_mass.to(like).clamp_min(torch.finfo(like.dtype).tiny).log()


def _check_length(name, values, n, unit):
    if values.shape != (n,):
        raise ConfigError(f"{name} has shape {tuple(values.shape)}: must be ({n},), one value a {unit}")


def _check_counts(counts):
    if not (counts >= 1).all():
        raise ConfigError("every class needs at least one image; drop the classes that have none")
