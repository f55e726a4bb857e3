"""Pairwise objectives that see more than the gap of a pair.

DPO does not change when the same number is added to both log-ratios. These losses do: they anchor
each answer to the reference (NCA, BCO, SPPO, APO, DPOP, Cal-DPO) or compare whole batches (AOT).
The four arrays and the results are those of `pairs`. Shared argument:
  beta: scale of the log-ratios u = log pi - log pi_ref, > 0.
Needs: pairs, reference.
"""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from rlhf_jax.checks import check_mask, check_range
from rlhf_jax.losses import links
from rlhf_jax.losses.preference.ratios import pair_log_ratios
from rlhf_jax.types import Scalar


def nca_loss(
    chosen_logps: Float[Array, "*B"],
    rejected_logps: Float[Array, "*B"],
    ref_chosen_logps: Float[Array, "*B"],
    ref_rejected_logps: Float[Array, "*B"],
    *,
    beta: Scalar,
) -> Float[Array, "*B"]:
    """NCA, noise contrastive alignment, in its form for pairs.

    L = -log sigmoid(beta u_w) - 1/2 log sigmoid(-beta u_w) - 1/2 log sigmoid(-beta u_l).

    One pair has its minimum in beta u_w at log 2. The population has it at beta u = log(2 P), with
    P the probability that an answer is the chosen one of its pair.

    Reference: Chen et al. 2024, arXiv:2402.05369.
    """
    check_range("(0, inf)", beta=beta)
    chosen, rejected = pair_log_ratios(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
    )
    noise = links.logistic(-beta * chosen) + links.logistic(-beta * rejected)
    return links.logistic(beta * chosen) + 0.5 * noise


def bco_pair_loss(
    chosen_logps: Float[Array, "*B"],
    rejected_logps: Float[Array, "*B"],
    ref_chosen_logps: Float[Array, "*B"],
    ref_rejected_logps: Float[Array, "*B"],
    *,
    beta: Scalar,
    shift: Scalar = 0.0,
) -> Float[Array, "*B"]:
    """BCO, binary classifier optimisation, on pairs.

    L = -log sigmoid(beta u_w - d) - log sigmoid(d - beta u_l), d the shift; never below DPO's.

    Args:
      shift: d, a running mean of beta u over all answers (`bco_shift`); no gradient.
    Reduces to: `bco_loss` of the chosen answer, desirable, plus that of the rejected one.
    Reference: Jung et al. 2024, arXiv:2404.04656.
    """
    check_range("(0, inf)", beta=beta)
    check_range("(-inf, inf)", shift=shift)
    chosen, rejected = pair_log_ratios(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
    )
    shift = jax.lax.stop_gradient(shift)
    return links.logistic(beta * chosen - shift) + links.logistic(shift - beta * rejected)


def sppo_hard_loss(
    chosen_logps: Float[Array, "*B"],
    rejected_logps: Float[Array, "*B"],
    ref_chosen_logps: Float[Array, "*B"],
    ref_rejected_logps: Float[Array, "*B"],
    *,
    beta: Scalar,
) -> Float[Array, "*B"]:
    """SPPO, self-play preference optimisation with hard labels.

    L = (u_w - 1 / (2 beta))^2 + (u_l + 1 / (2 beta))^2.

    The population minimum is at u = (P - 1/2) / beta, with P the probability to win.

    Args:
      ref_chosen_logps, ref_rejected_logps: [*B] log-probs under the policy of the last round.
      beta: inverse step, > 0; the paper's 1 / eta.
    Reduces to: its own soft form, (u - (P - 1/2) / beta)^2 per answer, in the mean over labels and
      up to a constant.
    Reference: Wu et al. 2024, arXiv:2405.00675, Eq. 4.7 with P in {0, 1}.
    """
    chosen, rejected = pair_log_ratios(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
    )
    return _calibration(chosen, rejected, beta)


def _calibration(
    chosen: Float[Array, "*B"], rejected: Float[Array, "*B"], beta: Scalar
) -> Float[Array, "*B"]:
    """(u_w - 1 / (2 beta))^2 + (u_l + 1 / (2 beta))^2."""
    check_range("(0, inf)", beta=beta)
    targets = jnp.full_like(chosen, 0.5 / beta)
    return links.squared(chosen, targets) + links.squared(rejected, -targets)


def apo_zero_loss(
    chosen_logps: Float[Array, "*B"],
    rejected_logps: Float[Array, "*B"],
    ref_chosen_logps: Float[Array, "*B"],
    ref_rejected_logps: Float[Array, "*B"],
    *,
    beta: Scalar,
) -> Float[Array, "*B"]:
    """APO-zero, anchored preference optimisation for chosen answers better than the policy's.

    L = 1 - sigmoid(beta u_w) + sigmoid(beta u_l): chosen up, rejected down.

    Reduces to: `apo_zero_unpaired_loss` of the chosen answer, desirable, plus that of the other.
    Reference: D'Oosterlinck et al. 2024, arXiv:2408.06266, Eq. 7.
    """
    check_range("(0, inf)", beta=beta)
    chosen, rejected = pair_log_ratios(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
    )
    return jax.nn.sigmoid(-beta * chosen) + jax.nn.sigmoid(beta * rejected)


def apo_down_loss(
    chosen_logps: Float[Array, "*B"],
    rejected_logps: Float[Array, "*B"],
    ref_chosen_logps: Float[Array, "*B"],
    ref_rejected_logps: Float[Array, "*B"],
    *,
    beta: Scalar,
) -> Float[Array, "*B"]:
    """APO-down, anchored preference optimisation for chosen answers worse than the policy's.

    L = sigmoid(beta u_w) + 1 - sigmoid(beta (u_w - u_l)): both down, the rejected more.

    Reference: D'Oosterlinck et al. 2024, arXiv:2408.06266, Eq. 8.
    """
    check_range("(0, inf)", beta=beta)
    chosen, rejected = pair_log_ratios(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
    )
    return jax.nn.sigmoid(beta * chosen) + jax.nn.sigmoid(beta * (rejected - chosen))


def dpop_loss(
    chosen_logps: Float[Array, "*B"],
    rejected_logps: Float[Array, "*B"],
    ref_chosen_logps: Float[Array, "*B"],
    ref_rejected_logps: Float[Array, "*B"],
    *,
    beta: Scalar,
    penalty: Scalar,
) -> Float[Array, "*B"]:
    """DPO-positive, DPOP (Smaug): DPO that keeps the chosen answer likely.

    L = -log sigmoid(beta (u_w - u_l - lambda max(0, -u_w))).

    Args:
      penalty: lambda, >= 0.
    Reduces to: `dpo_loss` at penalty = 0, or where no chosen answer is less likely than under the
      reference.
    Reference: Pal et al. 2024, arXiv:2402.13228.
    """
    check_range("(0, inf)", beta=beta)
    check_range("[0, inf)", penalty=penalty)
    chosen, rejected = pair_log_ratios(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
    )
    return links.logistic(beta * (chosen - rejected - penalty * jax.nn.relu(-chosen)))


def cal_dpo_loss(
    chosen_logps: Float[Array, "*B"],
    rejected_logps: Float[Array, "*B"],
    ref_chosen_logps: Float[Array, "*B"],
    ref_rejected_logps: Float[Array, "*B"],
    *,
    beta: Scalar,
) -> Float[Array, "*B"]:
    """Cal-DPO, calibrated direct preference optimisation.

    L = -log sigmoid(u_w - u_l) + (u_w - 1 / (2 beta))^2 + (u_l + 1 / (2 beta))^2.

    Args:
      beta: KL weight, > 0; it sets the scale of the rewards only, not of the logistic term.
    Reduces to: `dpo_loss` at beta = 1 plus `sppo_hard_loss` at beta.
    Reference: Xiao et al. 2024, arXiv:2412.14516.
    Departs: the authors' code halves the squares; the paper and this function do not.
    """
    chosen, rejected = pair_log_ratios(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
    )
    return links.logistic(chosen - rejected) + _calibration(chosen, rejected, beta)


def aot_loss(
    chosen_logps: Float[Array, "*B N"],
    rejected_logps: Float[Array, "*B N"],
    ref_chosen_logps: Float[Array, "*B N"],
    ref_rejected_logps: Float[Array, "*B N"],
    mask: Bool[Array, "*B N"] | None = None,
    *,
    beta: Scalar,
    label_smoothing: Scalar = 0.0,
) -> Float[Array, "*B N"]:
    """AOT, alignment via optimal transport, paired: one value per quantile of a batch of N pairs.

    L_i = -(1 - h) log sigmoid(z_i) - h log sigmoid(-z_i),
    z = beta (sort(l_w - l_l) - sort(ref_w - ref_l)), l = log pi, both sorted over the N pairs.

    Args:
      chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps: [*B, N] as in this module.
      mask: [*B, N] True for the pairs that count, None for all. The pairs of a batch see each
        other, so a pair of weight 0 must be masked here.
      label_smoothing: h in [0, 1/2).
    Returns:
      [*B, N] losses of the i-th smallest gap, not of the i-th pair; zeros follow the counted pairs.
      No gradient flows through the order.
    Reduces to: `cdpo_loss` at N = 1.
    Reference: Melnyk et al. 2024, arXiv:2406.05882.
    """
    arrays = [chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps]
    chex.assert_equal_shape(arrays if mask is None else [*arrays, mask])
    # Policy and reference are sorted apart, so this is no sort of log-ratios.
    ref_gaps = jax.lax.stop_gradient(ref_chosen_logps - ref_rejected_logps)
    gaps = chosen_logps - rejected_logps
    return _quantile_loss(gaps, ref_gaps, mask, beta, label_smoothing)


def aot_unpaired_loss(
    chosen_logps: Float[Array, "*B N"],
    rejected_logps: Float[Array, "*B N"],
    ref_chosen_logps: Float[Array, "*B N"],
    ref_rejected_logps: Float[Array, "*B N"],
    mask: Bool[Array, "*B N"] | None = None,
    *,
    beta: Scalar,
    label_smoothing: Scalar = 0.0,
) -> Float[Array, "*B N"]:
    """AOT, alignment via optimal transport, unpaired: one value per quantile of N answers each.

    L_i = -(1 - h) log sigmoid(z_i) - h log sigmoid(-z_i),   z = beta (sort(u_w) - sort(u_l)).

    The link is convex, so pairing equal quantiles has the smallest sum of losses of all couplings.

    Args:
      chosen_logps, rejected_logps: [*B, N] summed log pi of N good and of N other answers, not
        necessarily to the same prompts, in nats.
      ref_chosen_logps, ref_rejected_logps: [*B, N] the same under the reference.
      mask: [*B, N] True for the entries that count, None for all; as in `aot_loss`.
      label_smoothing: h in [0, 1/2).
    Returns:
      [*B, N] losses of the i-th quantiles. No gradient flows through the order.
    Needs: good and other answers, reference.
    Reduces to: `cdpo_loss` at N = 1.
    Reference: Melnyk et al. 2024, arXiv:2406.05882.
    """
    arrays = [chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps]
    chex.assert_equal_shape(arrays if mask is None else [*arrays, mask])
    chosen, rejected = pair_log_ratios(*arrays)
    return _quantile_loss(chosen, rejected, mask, beta, label_smoothing)


def _quantile_loss(
    upper: Float[Array, "*B N"],
    lower: Float[Array, "*B N"],
    mask: Bool[Array, "*B N"] | None,
    beta: Scalar,
    label_smoothing: Scalar,
) -> Float[Array, "*B N"]:
    """Smoothed logistic loss between the sorted entries of two batches."""
    check_range("(0, inf)", beta=beta)
    if mask is None:
        mask = jnp.ones(upper.shape, bool)
    check_mask(mask=mask)
    # inf sorts masked entries to the end of both; 0 replaces it there before inf - inf gives NaN.
    kept = jnp.arange(mask.shape[-1]) < jnp.sum(mask, axis=-1, keepdims=True)
    above, below = (
        jnp.where(kept, jnp.sort(jnp.where(mask, x, jnp.inf), axis=-1), 0.0) for x in (upper, lower)
    )
    losses = links.smoothed_logistic(beta * (above - below), label_smoothing=label_smoothing)
    return jnp.where(kept, losses, 0.0)
