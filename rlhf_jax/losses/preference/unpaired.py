"""Preference objectives on single answers: a label, a score, or only answers to avoid."""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from rlhf_jax.checks import check_mask, check_range
from rlhf_jax.losses import links
from rlhf_jax.ops.masking import Mean, weighted_mean
from rlhf_jax.types import Scalar


def _log_ratios(logps: Float[Array, "*B"], ref_logps: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """u = log pi - log pi_ref of each answer; the reference is data."""
    chex.assert_equal_shape([logps, ref_logps])
    return logps - jax.lax.stop_gradient(ref_logps)


def _towards(margins: Float[Array, "*B"], desirable: Bool[Array, "*B"]) -> Float[Array, "*B"]:
    """The margin with the sign of the label: larger is better."""
    check_mask(desirable=desirable)
    chex.assert_equal_shape([margins, desirable])
    return jnp.where(desirable, margins, -margins)


def kto_loss(
    logps: Float[Array, "*B"],
    ref_logps: Float[Array, "*B"],
    desirable: Bool[Array, "*B"],
    *,
    kl: Scalar,
    beta: Scalar,
    desirable_weight: Scalar = 1.0,
    undesirable_weight: Scalar = 1.0,
) -> Float[Array, "*B"]:
    """KTO, Kahneman-Tversky optimisation, one value per answer.

    L = w_D (1 - sigmoid(beta (u - z0))) if desirable, else w_U (1 - sigmoid(beta (z0 - u))),
    with u = log pi - log pi_ref.

    Args:
      logps: [*B] summed log pi(y | x), in nats.
      ref_logps: [*B] summed log pi_ref(y | x), in nats.
      desirable: [*B] True where the answer is a good one.
      kl: z0 >= 0, the KL to the reference in nats, one number for the batch: `kto_kl`; no gradient.
      beta: risk aversion > 0. May be traced.
      desirable_weight: w_D > 0, the paper's lambda_D; it advises w_D n_D : w_U n_U between 1 : 1
        and 4 : 3, with n the numbers of answers. May be traced.
      undesirable_weight: w_U > 0, the paper's lambda_U. May be traced.
    Returns:
      [*B] losses in [0, w], unreduced: saturated on both sides of z0, steepest at it. Gradient
      flows to logps only.
    Raises:
      AssertionError: shapes differ (at trace time).
    Needs: labelled answers, reference, mismatched answers for kl.
    Reduces to: `apo_zero_unpaired_loss` at kl = 0 with weights 1.
    Reference: Ethayarajh et al. 2024, arXiv:2402.01306, Section 4.
    """
    check_range("[0, inf)", kl=kl)
    check_range(
        "(0, inf)",
        beta=beta,
        desirable_weight=desirable_weight,
        undesirable_weight=undesirable_weight,
    )
    check_mask(desirable=desirable)
    margins = beta * (_log_ratios(logps, ref_logps) - jax.lax.stop_gradient(kl))
    weights = jnp.where(desirable, desirable_weight, undesirable_weight)
    return weights * jax.nn.sigmoid(-_towards(margins, desirable))


def kto_kl(
    mismatched_logps: Float[Array, "*B"],
    ref_mismatched_logps: Float[Array, "*B"],
    weights: Float[Array, "*B"] | None = None,
) -> Float[Array, ""]:
    """KTO's reference point, an estimate of the KL to the reference from mismatched answers.

    z0 = max(0, sum_i w_i u_i / sum_i w_i),   u_i = log pi(y_j | x_i) - log pi_ref(y_j | x_i),
    with j != i.

    Args:
      mismatched_logps: [*B] summed log pi(y_j | x_i), in nats: each prompt with the answer to
        another one, e.g. the batch's answers rolled by one.
      ref_mismatched_logps: [*B] the same under the reference.
      weights: [*B] >= 0, None for ones. Where a weight is 0 nothing matters, NaN included.
    Returns:
      One number >= 0 in nats, 0 for a batch without weight. No gradient flows through it. The mean
      is over the whole array: in a jitted program over sharded arrays, over all devices.
    Raises:
      AssertionError: shapes differ (at trace time).
    Needs: mismatched answers, reference.
    Reduces to: nothing.
    Reference: Ethayarajh et al. 2024, arXiv:2402.01306, Section 4.
    """
    log_ratios = _log_ratios(mismatched_logps, ref_mismatched_logps)
    return jax.lax.stop_gradient(jax.nn.relu(weighted_mean(log_ratios, weights).value()))


def apo_zero_unpaired_loss(
    logps: Float[Array, "*B"],
    ref_logps: Float[Array, "*B"],
    desirable: Bool[Array, "*B"],
    *,
    beta: Scalar,
) -> Float[Array, "*B"]:
    """APO-zero, anchored preference optimisation, on single answers, one value per answer.

    L = 1 - sigmoid(beta u) if desirable, else sigmoid(beta u),   u = log pi - log pi_ref.

    Args:
      logps: [*B] summed log pi(y | x), in nats.
      ref_logps: [*B] summed log pi_ref(y | x), in nats.
      desirable: [*B] True where the answer is a good one.
      beta: scale > 0. May be traced.
    Returns:
      [*B] losses in [0, 1], unreduced. Gradient flows to logps only.
    Raises:
      AssertionError: shapes differ (at trace time).
    Needs: labelled answers, reference.
    Reduces to: `apo_zero_loss`, its sum over the two answers of a pair.
    Reference: D'Oosterlinck et al. 2024, arXiv:2408.06266.
    """
    return kto_loss(logps, ref_logps, desirable, kl=0.0, beta=beta)


def bco_loss(
    logps: Float[Array, "*B"],
    ref_logps: Float[Array, "*B"],
    desirable: Bool[Array, "*B"],
    *,
    beta: Scalar,
    shift: Scalar,
) -> Float[Array, "*B"]:
    """BCO, binary classifier optimisation, one value per answer.

    L = -log sigmoid(beta u - d) if desirable, else -log sigmoid(d - beta u),
    with u = log pi - log pi_ref and d the shift.

    Args:
      logps: [*B] summed log pi(y | x), in nats.
      ref_logps: [*B] summed log pi_ref(y | x), in nats.
      desirable: [*B] True where the answer is a good one.
      beta: scale > 0. May be traced.
      shift: d, a running mean of beta u: `bco_shift`; no gradient. May be traced.
    Returns:
      [*B] losses in nats, unreduced, >= 0. Gradient flows to logps only.
    Raises:
      AssertionError: shapes differ (at trace time).
    Needs: labelled answers, reference, running mean of rewards.
    Reduces to: `bco_pair_loss`, its sum over the two answers of a pair.
    Reference: Jung et al. 2024, arXiv:2404.04656.
    Departs: the paper's density-ratio weights on undesirable answers, for prompts of another law,
      are the caller's: multiply the losses.
    """
    check_range("(0, inf)", beta=beta)
    check_range("(-inf, inf)", shift=shift)
    margins = beta * _log_ratios(logps, ref_logps) - jax.lax.stop_gradient(shift)
    return links.logistic(_towards(margins, desirable))


def pointwise_dpo_loss(
    logps: Float[Array, "*B"],
    ref_logps: Float[Array, "*B"],
    desirable: Bool[Array, "*B"],
    *,
    beta: Scalar,
) -> Float[Array, "*B"]:
    """Point-wise DPO, the preference part of ULMA, one value per answer.

    L = -log sigmoid(beta u) if desirable, else -log sigmoid(-beta u),   u = log pi - log pi_ref.

    Args:
      logps: [*B] summed log pi(y | x), in nats.
      ref_logps: [*B] summed log pi_ref(y | x), in nats.
      desirable: [*B] True where the answer is a good one.
      beta: scale > 0. May be traced.
    Returns:
      [*B] losses in nats, unreduced, >= 0. Gradient flows to logps only. The population is least at
      beta u = the log-odds of being desirable.
    Raises:
      AssertionError: shapes differ (at trace time).
    Needs: labelled answers, reference.
    Reduces to: `bco_loss` at shift = 0; `bco_pair_loss`, its sum over the two answers of a pair.
    Reference: Cai et al. 2023, arXiv:2312.02554.
    Departs: ULMA takes `sft_loss` instead on answers that are demonstrations; that is the caller's.
    """
    return bco_loss(logps, ref_logps, desirable, beta=beta, shift=0.0)


def pmpo_loss(
    logps: Float[Array, "*B"],
    ref_kl: Float[Array, "*B"],
    desirable: Bool[Array, "*B"],
    *,
    alpha: Scalar,
    beta: Scalar,
) -> Float[Array, "*B"]:
    """PMPO, preference optimisation as probabilistic inference, one value per answer.

    L = -alpha log pi(y | x) if desirable, else (1 - alpha) log pi(y | x),
    plus beta KL(pi_ref || pi).

    Works with answers of one kind only: alpha = 1 imitates, alpha = 0 cuts what is rejected out of
    the reference.

    Args:
      logps: [*B] summed log pi(y | x), in nats.
      ref_kl: [*B] KL(pi_ref || pi) at this prompt, in nats, e.g. the sum over the steps of an
        answer from the reference of `ops.kl.exact_kl` with the reference's logits first.
      desirable: [*B] True where the answer is accepted.
      alpha: in [0, 1], the weight of accepted answers. May be traced.
      beta: KL weight >= 0; with rejected answers only, > 1 - alpha keeps the optimum inside. May
        be traced.
    Returns:
      [*B] losses, unreduced, unbounded below. Gradient flows to logps and ref_kl. Where half the
      answers are accepted, of law d_a, and half rejected, of law d_r, the population is stationary
      at pi proportional to alpha d_a - (1 - alpha) d_r + 2 beta pi_ref.
    Raises:
      AssertionError: shapes differ (at trace time).
    Needs: labelled answers, full-vocabulary KL to the reference.
    Reduces to: `sft_loss` at alpha = 1 and beta = 0, of accepted answers.
    Reference: Abdolmaleki et al. 2024, arXiv:2410.04166, Eq. 10.
    Departs: the paper has a mean over each kind apart; here a kind counts by how often it comes.
    """
    check_range("[0, 1]", alpha=alpha)
    check_range("[0, inf)", beta=beta)
    check_mask(desirable=desirable)
    chex.assert_equal_shape([logps, ref_kl, desirable])
    return jnp.where(desirable, -alpha, 1.0 - alpha) * logps + beta * ref_kl


def bco_shift(
    shift: Mean,
    logps: Float[Array, "*B"],
    ref_logps: Float[Array, "*B"],
    weights: Float[Array, "*B"] | None = None,
    *,
    beta: Scalar,
) -> Mean:
    """BCO's shift, the running mean of the rewards beta u over all answers seen.

    total <- total + sum_i w_i beta u_i,   weight <- weight + sum_i w_i,   d = total / weight.

    Args:
      shift: the mean so far; `Mean(jnp.zeros(()), jnp.zeros(()))` at the start.
      logps: [*B] summed log pi(y | x), in nats, of desirable and undesirable answers together.
      ref_logps: [*B] summed log pi_ref(y | x), in nats.
      weights: [*B] >= 0, None for ones. Where a weight is 0 nothing matters, NaN included.
      beta: scale > 0, as in `bco_loss`. May be traced.
    Returns:
      `Mean` of two numbers; `.value()` is the shift of `bco_loss`, 0 before any answer. No
      gradient flows through it. Sums are over whole arrays: over all devices if sharded.
    Raises:
      AssertionError: shapes differ (at trace time).
    Needs: answers, reference.
    Reduces to: nothing.
    Reference: Jung et al. 2024, arXiv:2404.04656.
    """
    check_range("(0, inf)", beta=beta)
    seen = weighted_mean(beta * _log_ratios(logps, ref_logps), weights)
    return jax.lax.stop_gradient(Mean(shift.total + seen.total, shift.weight + seen.weight))


def dro_loss(
    logps: Float[Array, "*B"],
    ref_logps: Float[Array, "*B"],
    scores: Float[Array, "*B"],
    values: Float[Array, "*B"],
    *,
    beta: Scalar,
) -> Float[Array, "*B"]:
    """DRO, direct reward optimisation: offline regression of scores, one value per answer.

    L = (r - V(x) - beta u)^2 / 2,   u = log pi - log pi_ref.

    Args:
      logps: [*B] summed log pi(y | x), in nats.
      ref_logps: [*B] summed log pi_ref(y | x), in nats.
      scores: [*B] r(x, y), any real; no gradient.
      values: [*B] V(x), learnt with the policy.
      beta: KL weight > 0; the paper's tau. May be traced.
    Returns:
      [*B] losses, unreduced, >= 0. Gradient flows to logps, beta times the one to values. All are
      0, whatever law the answers came from, where pi = pi_ref exp(r / beta) / Z, V = beta log Z.
    Raises:
      AssertionError: shapes differ (at trace time).
    Needs: scored answers, reference, values.
    Reduces to: nothing.
    Reference: Richemond et al. 2024, arXiv:2405.19107.
    """
    check_range("(0, inf)", beta=beta)
    chex.assert_equal_shape([logps, ref_logps, scores, values])
    advantages = jax.lax.stop_gradient(scores) - values
    return 0.5 * (advantages - beta * _log_ratios(logps, ref_logps)) ** 2


def npo_loss(
    logps: Float[Array, "*B"], ref_logps: Float[Array, "*B"], *, beta: Scalar
) -> Float[Array, "*B"]:
    """NPO, negative preference optimisation: unlearning from answers to avoid, one value each.

    L = -(2 / beta) log sigmoid(-beta u) = (2 / beta) log(1 + (pi / pi_ref)^beta),
    with u = log pi - log pi_ref.

    Args:
      logps: [*B] summed log pi(y | x) of answers to avoid, in nats.
      ref_logps: [*B] summed log pi_ref(y | x), in nats.
      beta: scale > 0. May be traced.
    Returns:
      [*B] losses, unreduced, >= 0. Gradient, 2 sigmoid(beta u) in (0, 2), flows to logps only.
    Raises:
      AssertionError: shapes differ (at trace time).
    Needs: answers to avoid, reference.
    Reduces to: `sft_loss` with its sign changed (gradient ascent), in its gradient, as beta -> 0.
    Reference: Zhang et al. 2024, arXiv:2404.05868.
    """
    check_range("(0, inf)", beta=beta)
    return 2.0 / beta * links.logistic(-beta * _log_ratios(logps, ref_logps))
