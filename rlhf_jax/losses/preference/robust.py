"""Robustness: to wrong pairs, to people who disagree, to the worst group, to the choice of beta.

`ropo_loss` is a loss of pairs; the other functions combine the losses or margins of any pair loss.
Results are unreduced and weights are data, without gradient. Where a weight is 0 its loss or margin
never matters, NaN included. Shapes are checked at trace time. Keyword numbers may be traced.
"""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.checks import check_entries, check_range
from rlhf_jax.losses import links
from rlhf_jax.losses.preference.ratios import pair_margins
from rlhf_jax.ops.aggregate import exponentiated_weights, soft_minimum
from rlhf_jax.ops.logprobs import above_underflow
from rlhf_jax.ops.masking import weighted_mean
from rlhf_jax.types import Scalar


def ropo_loss(
    chosen_logps: Float[Array, "*B"],
    rejected_logps: Float[Array, "*B"],
    ref_chosen_logps: Float[Array, "*B"],
    ref_rejected_logps: Float[Array, "*B"],
    *,
    beta: Scalar,
    alpha: Scalar,
) -> Float[Array, "*B"]:
    """Robust preference optimisation (ROPO), noise-tolerant DPO.

    L = 4 alpha / (1 + alpha)^2 [-log sigmoid(z) + alpha sigmoid(-z)],   z = beta D.

    The slope is -4 alpha / (1 + alpha)^2 sigmoid(-z) (1 + alpha sigmoid(z)): at most 1, largest at
    sigmoid(z) = (alpha - 1) / (2 alpha), and falling towards 4 alpha / (1 + alpha)^2 for pairs that
    the model contradicts strongly. The four arrays are those of `pairs`.

    Args:
      beta: KL weight, > 0.
      alpha: how strongly pairs that look wrong are held back, >= 1; the paper's is > 2.
    Needs: pairs, reference.
    Reduces to: 4 alpha / (1 + alpha) times `dpo_loss` as z grows.
    Reference: Liang et al. 2024, arXiv:2404.04102.
    Departs: the paper's filter of noisy pairs and its rejection sampling are left to the data.
    """
    check_range("[1, inf)", alpha=alpha)
    margins = pair_margins(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta=beta
    )
    tolerant = links.logistic(margins) + alpha * jax.nn.sigmoid(-margins)
    return 4.0 * alpha / (1.0 + alpha) ** 2 * tolerant


def mixture_loss(losses: Float[Array, "*B G"], weights: Float[Array, " G"]) -> Float[Array, "*B"]:
    """Mixture of preferences (EM-DPO): unknown groups of people, one value per person.

    L = -log sum_g q_g exp(-l_g).

    The likelihood of one person's comparisons when their group is unknown. Its gradient weighs the
    loss of a group by the responsibility q_g exp(-l_g) / sum_h q_h exp(-l_h), so a gradient step is
    that of the M-step after a fresh E-step.

    Args:
      losses: [*B, G] l_g, negative log-likelihood of a person's comparisons under the policy of
        group g, in nats: `dpo_loss` summed over them.
      weights: [G] q >= 0, sum 1, share of each group; the mean responsibility is its EM update.
    Returns:
      [*B] losses in nats, between the smallest l and the mean of l under q.
    Needs: losses of each person under each group's policy.
    Reduces to: the loss itself with one group, or where all groups agree; `dr_dpo` of the G losses
      at temperature = 1.
    Reference: Chidambaram et al. 2024, arXiv:2405.15065.
    Departs: the paper alternates E-steps with whole trainings; the objective is the same.
    """
    chex.assert_axis_dimension(losses, -1, weights.shape[0])
    check_entries("[0, inf)", weights=weights)
    return soft_minimum(losses, weights, temperature=1.0)


def dr_dpo(
    losses: Float[Array, "*B"], weights: Float[Array, "*B"] | None = None, *, temperature: Scalar
) -> Float[Array, ""]:
    """Distributionally robustified DPO (Dr. DPO): one number for a whole batch.

    L = -b' log E exp(-l / b').

    A soft minimum: its gradient weighs a pair by exp(-l / b'), so pairs that the model contradicts,
    the mislabelled ones among them, count less. It is not a sum over examples: the mean over
    micro-batches differs from the value of the whole batch.

    Args:
      losses: [*B] l, of `dpo_loss` or any other pairwise loss.
      weights: [*B] >= 0, None for ones.
      temperature: b' > 0.
    Returns:
      [] between the smallest loss (b' -> 0) and the mean (b' -> infinity); 0 if all weights are 0.
    Needs: losses of a batch.
    Reduces to: the mean as temperature grows, the smallest loss as it vanishes.
    Reference: Wu et al. 2024, arXiv:2407.07880.
    """
    check_range("(0, inf)", temperature=temperature)
    if weights is None:
        weights = jnp.ones_like(losses)
    chex.assert_equal_shape([losses, weights])
    check_entries("[0, inf)", weights=weights)
    weights = jax.lax.stop_gradient(weights)
    counted = weights > 0
    # Relative to the smallest loss nothing overflows, and expm1 keeps the digits of a large b'.
    least = jnp.min(jnp.where(counted, losses, jnp.inf))
    least = jax.lax.stop_gradient(jnp.where(jnp.any(counted), least, 0.0))
    excess = jnp.where(counted, losses - least, 0.0)
    temperature = above_underflow(temperature, losses.dtype)
    mean = weighted_mean(jnp.expm1(-excess / temperature), weights).value()
    # 1 + mean is at least the share of weight on the smallest loss, which may round to 0.
    mean = jnp.maximum(mean, -1.0 + jnp.finfo(losses.dtype).epsneg)
    return least - temperature * jnp.log1p(mean)


def group_weights(
    weights: Float[Array, " G"], group_losses: Float[Array, " G"], *, eta: Scalar
) -> Float[Array, " G"]:
    """Group-robust weights: one step of exponentiated gradient ascent on the simplex.

    q_g <- q_g exp(eta L_g) / sum_h q_h exp(eta L_h); the policy then minimises sum_g q_g L_g.

    Args:
      weights: [G] q >= 0, sum 1. A group of weight 0 keeps it.
      group_losses: [G] L, mean loss of each group.
      eta: step size, >= 0.
    Returns:
      [G] new weights, sum 1, without gradient.
    Needs: mean losses of groups.
    Reduces to: the given weights at eta = 0 or where all losses are equal.
    Reference: Sagawa et al. 2019, arXiv:1911.08731, Algorithm 1; for preferences, Ramesh et al.
      2024, arXiv:2405.20304.
    """
    check_range("[0, inf)", eta=eta)
    check_entries("[0, inf)", weights=weights)
    chex.assert_equal_shape([weights, group_losses])
    return exponentiated_weights(weights, -group_losses, eta=eta)


def batch_beta(
    margins: Float[Array, "*B"],
    weights: Float[Array, "*B"] | None = None,
    *,
    beta: Scalar,
    alpha: Scalar,
    target: Scalar,
    floor: Scalar = 1e-3,
) -> Float[Array, ""]:
    """Batch-level beta of beta-DPO: one number for a whole batch.

    beta_batch = max(floor, beta [1 + alpha (E M - M_0)]).

    Clear pairs (a large mean margin) get a large beta: a small step away from the reference.

    Args:
      margins: [*B] M, beta times the gap of log-ratios; no gradient.
      weights: [*B] >= 0, None for ones.
      beta: the KL weight of an average batch, > 0.
      alpha: how strongly beta follows the margins, >= 0.
      target: M_0, a running mean of the margins of earlier batches.
      floor: lowest beta, > 0; a negative beta would reverse every label.
    Returns:
      [] beta for this batch, without gradient: pass it to `dpo_loss`.
    Needs: margins of a batch.
    Reduces to: beta at alpha = 0.
    Reference: Wu et al. 2024, arXiv:2407.08639.
    Departs: the paper's filter of outlying pairs is left to the data.
    """
    check_range("(0, inf)", beta=beta, floor=floor)
    check_range("[0, inf)", alpha=alpha)
    check_range("(-inf, inf)", target=target)
    drift = weighted_mean(margins, weights).value() - target
    # Data: the batch sets beta, and the policy must not learn to raise it.
    return jax.lax.stop_gradient(jnp.maximum(floor, beta * (1.0 + alpha * drift)))
