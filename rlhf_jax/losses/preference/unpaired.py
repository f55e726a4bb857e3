"""Preference objectives on single answers: a label, a score, or only answers to avoid.

Shared arguments and results, unless a function says otherwise:
  logps, ref_logps: [*B] summed log pi(y | x) and log pi_ref(y | x), in nats; the reference is data.
  desirable: [*B] True where the answer is a good one.
  beta: scale of the log-ratio u = log pi - log pi_ref, > 0.
  weights: [*B] >= 0, None for ones. Where a weight is 0 nothing matters, NaN included.
Losses are [*B], unreduced, >= 0; logistic ones are in nats. Gradient flows to logps only. Shapes
are checked at trace time. Keyword numbers may be traced.
"""

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
    """KTO, Kahneman-Tversky optimisation.

    L = w_D (1 - sigmoid(beta (u - z0))) if desirable, else w_U (1 - sigmoid(beta (z0 - u))),
    with u = log pi - log pi_ref.

    The loss lies in [0, w], saturated on both sides of z0 and steepest at it.

    Args:
      kl: z0 >= 0, the KL to the reference in nats, one number for the batch: `kto_kl`; no gradient.
      beta: risk aversion, > 0.
      desirable_weight: w_D > 0, the paper's lambda_D. The paper advises w_D n_D : w_U n_U between
        1 : 1 and 4 : 3, with n the numbers of answers.
      undesirable_weight: w_U > 0, the paper's lambda_U.
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
    # The reference point is data: KTO does not differentiate its estimate of the KL.
    margins = beta * (_log_ratios(logps, ref_logps) - jax.lax.stop_gradient(kl))
    weights = jnp.where(desirable, desirable_weight, undesirable_weight)
    return weights * jax.nn.sigmoid(-_towards(margins, desirable))


def kto_kl(
    mismatched_logps: Float[Array, "*B"],
    ref_mismatched_logps: Float[Array, "*B"],
    weights: Float[Array, "*B"] | None = None,
) -> Float[Array, ""]:
    """KTO's reference point: an estimate of the KL to the reference from mismatched answers.

    z0 = max(0, sum_i w_i u_i / sum_i w_i),   u_i = log pi(y_j | x_i) - log pi_ref(y_j | x_i),
    with j != i.

    Args:
      mismatched_logps: [*B] summed log pi(y_j | x_i), in nats: each prompt with the answer to
        another one, e.g. the batch's answers rolled by one.
      ref_mismatched_logps: [*B] the same under the reference.
    Returns:
      One number >= 0 in nats, without gradient; 0 for a batch without weight. The mean is over the
      whole array: in a jitted program over sharded arrays, over all devices.
    Needs: mismatched answers, reference.
    Reference: Ethayarajh et al. 2024, arXiv:2402.01306, Section 4.
    """
    log_ratios = _log_ratios(mismatched_logps, ref_mismatched_logps)
    # A KL is never negative, its estimate from a few answers may be.
    return jax.lax.stop_gradient(jax.nn.relu(weighted_mean(log_ratios, weights).value()))


def apo_zero_unpaired_loss(
    logps: Float[Array, "*B"],
    ref_logps: Float[Array, "*B"],
    desirable: Bool[Array, "*B"],
    *,
    beta: Scalar,
) -> Float[Array, "*B"]:
    """APO-zero, anchored preference optimisation, on single answers.

    L = 1 - sigmoid(beta u) if desirable, else sigmoid(beta u),   u = log pi - log pi_ref.

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
    """BCO, binary classifier optimisation.

    L = -log sigmoid(beta u - d) if desirable, else -log sigmoid(d - beta u),
    with u = log pi - log pi_ref and d the shift.

    Args:
      shift: d, a running mean of beta u: `bco_shift`; no gradient.
    Needs: labelled answers, reference, running mean of rewards.
    Reduces to: `bco_pair_loss`, its sum over the two answers of a pair.
    Reference: Jung et al. 2024, arXiv:2404.04656.
    Departs: the caller multiplies in the paper's density-ratio weights on undesirable answers, for
      prompts from another distribution.
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
    """Point-wise DPO, the preference part of ULMA.

    L = -log sigmoid(beta u) if desirable, else -log sigmoid(-beta u),   u = log pi - log pi_ref.

    The population minimum is at beta u = the log-odds of being desirable.

    Needs: labelled answers, reference.
    Reduces to: `bco_loss` at shift = 0; `bco_pair_loss`, its sum over the two answers of a pair.
    Reference: Cai et al. 2023, arXiv:2312.02554.
    Departs: ULMA takes `sft_loss` instead on answers that are demonstrations; the caller does that.
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
    """PMPO, preference optimisation as probabilistic inference.

    L = -alpha log pi(y | x) if desirable, else (1 - alpha) log pi(y | x),
    plus beta KL(pi_ref || pi).

    Works with answers of one kind only: alpha = 1 imitates, alpha = 0 removes rejected answers from
    the reference. If half the answers are accepted, with distribution d_a, and half rejected, with
    distribution d_r, the population is stationary at pi proportional to
    alpha d_a - (1 - alpha) d_r + 2 beta pi_ref. The loss is unbounded below.

    Args:
      ref_kl: [*B] KL(pi_ref || pi) at this prompt, in nats, e.g. the sum over the steps of an
        answer from the reference of `ops.kl.exact_kl` with the reference's logits first; gets a
        gradient.
      desirable: [*B] True where the answer is accepted.
      alpha: the weight of accepted answers, in [0, 1].
      beta: KL weight, >= 0; with rejected answers only, > 1 - alpha keeps the optimum inside.
    Needs: labelled answers, full-vocabulary KL to the reference.
    Reduces to: `sft_loss` at alpha = 1 and beta = 0, of accepted answers.
    Reference: Abdolmaleki et al. 2024, arXiv:2410.04166, Eq. 10.
    Departs: the paper takes a mean over each kind; here a kind counts as often as it occurs.
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
      logps, ref_logps: [*B] of desirable and undesirable answers together.
    Returns:
      `Mean` of two numbers, without gradient; `.value()` is the shift of `bco_loss`, 0 before any
      answer. Sums are over whole arrays: over all devices if sharded.
    Needs: answers, reference.
    Reference: Jung et al. 2024, arXiv:2404.04656.
    """
    check_range("(0, inf)", beta=beta)
    seen = weighted_mean(beta * _log_ratios(logps, ref_logps), weights)
    # Totals add up over batches of any weight; means would not.
    return jax.lax.stop_gradient(Mean(shift.total + seen.total, shift.weight + seen.weight))


def dro_loss(
    logps: Float[Array, "*B"],
    ref_logps: Float[Array, "*B"],
    scores: Float[Array, "*B"],
    values: Float[Array, "*B"],
    *,
    beta: Scalar,
) -> Float[Array, "*B"]:
    """DRO, direct reward optimisation: offline regression of scores.

    L = (r - V(x) - beta u)^2 / 2,   u = log pi - log pi_ref.

    Whatever distribution the answers came from, every loss is 0 where pi = pi_ref exp(r / beta) / Z
    and V = beta log Z.

    Args:
      scores: [*B] r(x, y), any real; no gradient.
      values: [*B] V(x), trained too: the gradient in logps is beta times the gradient in values.
      beta: KL weight, > 0; the paper's tau.
    Needs: scored answers, reference, values.
    Reference: Richemond et al. 2024, arXiv:2405.19107.
    """
    check_range("(0, inf)", beta=beta)
    chex.assert_equal_shape([logps, ref_logps, scores, values])
    advantages = jax.lax.stop_gradient(scores) - values
    return 0.5 * (advantages - beta * _log_ratios(logps, ref_logps)) ** 2


def npo_loss(
    logps: Float[Array, "*B"], ref_logps: Float[Array, "*B"], *, beta: Scalar
) -> Float[Array, "*B"]:
    """NPO, negative preference optimisation: unlearning from answers to avoid.

    L = -(2 / beta) log sigmoid(-beta u) = (2 / beta) log(1 + (pi / pi_ref)^beta),
    with u = log pi - log pi_ref.

    The gradient in logps is 2 sigmoid(beta u), in (0, 2).

    Needs: answers to avoid, reference.
    Reduces to: `sft_loss` with its sign changed (gradient ascent), in its gradient, as beta -> 0.
    Reference: Zhang et al. 2024, arXiv:2404.05868.
    """
    check_range("(0, inf)", beta=beta)
    return 2.0 / beta * links.logistic(-beta * _log_ratios(logps, ref_logps))
