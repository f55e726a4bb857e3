"""Direct preference objectives: log-probabilities of a pair in, one loss per pair out.

Every function takes the four arrays in the same order, so that one update serves them all, and is
a link applied to the margin z = beta D, D = u_w - u_l, u = log pi - log pi_ref. Objectives that
need one more number per pair are in `offsets`.
"""

from collections.abc import Callable

import chex
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.checks import check_range, shares
from rlhf_jax.losses import links
from rlhf_jax.losses.preference.ratios import pair_log_ratios, pair_margins
from rlhf_jax.types import Scalar


def dpo_loss(
    chosen_logps: Float[Array, "*B"],
    rejected_logps: Float[Array, "*B"],
    ref_chosen_logps: Float[Array, "*B"],
    ref_rejected_logps: Float[Array, "*B"],
    *,
    beta: Scalar,
) -> Float[Array, "*B"]:
    """Direct preference optimisation (DPO), one value per pair.

    L = -log sigmoid(beta D),   D = chosen log-ratio - rejected log-ratio.

    Args:
      chosen_logps: [*B] summed log pi(y_w | x), in nats.
      rejected_logps: [*B] summed log pi(y_l | x), in nats.
      ref_chosen_logps: [*B] summed log pi_ref(y_w | x), in nats.
      ref_rejected_logps: [*B] summed log pi_ref(y_l | x), in nats.
      beta: KL weight > 0. May be traced.
    Returns:
      [*B] losses in nats, unreduced, >= 0. Gradient flows to chosen_logps and rejected_logps only.
    Raises:
      AssertionError: shapes differ (at trace time).
    Needs: pairs, reference.
    Reduces to: nothing; on `ops.logprobs.mean_logps` it is length-normalised DPO (sigmoid_norm).
    Reference: Rafailov et al. 2023, arXiv:2305.18290, Eq. 7.
    """
    margins = pair_margins(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta=beta
    )
    return links.logistic(margins)


def cdpo_loss(
    chosen_logps: Float[Array, "*B"],
    rejected_logps: Float[Array, "*B"],
    ref_chosen_logps: Float[Array, "*B"],
    ref_rejected_logps: Float[Array, "*B"],
    *,
    beta: Scalar,
    label_smoothing: Scalar,
) -> Float[Array, "*B"]:
    """Conservative DPO (cDPO), DPO with label smoothing, one value per pair.

    L = -(1 - h) log sigmoid(z) - h log sigmoid(-z),   z = beta D; least at z = logit(1 - h).

    Args:
      chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps: [*B] as in `dpo_loss`.
      label_smoothing: h in [0, 1/2), the probability that the label is wrong. May be traced.
      beta: KL weight > 0. May be traced.
    Returns:
      [*B] losses in nats, unreduced, >= 0. Gradient flows to chosen_logps and rejected_logps only.
    Raises:
      AssertionError: shapes differ (at trace time).
    Needs: pairs, reference.
    Reduces to: `dpo_loss` at label_smoothing = 0.
    Reference: Mitchell 2023, "A note on DPO with noisy preferences and relationship to IPO".
    """
    margins = pair_margins(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta=beta
    )
    return links.smoothed_logistic(margins, label_smoothing=label_smoothing)


def robust_dpo_loss(
    chosen_logps: Float[Array, "*B"],
    rejected_logps: Float[Array, "*B"],
    ref_chosen_logps: Float[Array, "*B"],
    ref_rejected_logps: Float[Array, "*B"],
    *,
    beta: Scalar,
    label_smoothing: Scalar,
) -> Float[Array, "*B"]:
    """Robust DPO (rDPO), unbiased under random label flips, one value per pair.

    L = [-(1 - h) log sigmoid(z) + h log sigmoid(-z)] / (1 - 2 h),   z = beta D.

    Args:
      chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps: [*B] as in `dpo_loss`.
      label_smoothing: h in [0, 1/2), the known share of flipped labels. May be traced.
      beta: KL weight > 0. May be traced.
    Returns:
      [*B] losses, unreduced; unbounded below as z grows. Gradient flows to chosen_logps and
        rejected_logps only.
    Raises:
      AssertionError: shapes differ (at trace time).
    Needs: pairs, reference, flip rate.
    Reduces to: `dpo_loss` at label_smoothing = 0; its mean over flips is `dpo_loss` on clean
      labels.
    Reference: Chowdhury et al. 2024, arXiv:2403.00409.
    """
    margins = pair_margins(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta=beta
    )
    return links.robust_logistic(margins, label_smoothing=label_smoothing)


def soft_preference_loss(
    chosen_logps: Float[Array, "*B"],
    rejected_logps: Float[Array, "*B"],
    ref_chosen_logps: Float[Array, "*B"],
    ref_rejected_logps: Float[Array, "*B"],
    prefs: Float[Array, "*B"],
    *,
    beta: Scalar,
) -> Float[Array, "*B"]:
    """Soft-preference cross-entropy (OSP), DPO with soft labels, one value per pair.

    L = -p log sigmoid(z) - (1 - p) log sigmoid(-z),   z = beta D; least at z = logit p.

    Its slope in z is sigmoid(z) - p: the pair stops pulling once the policy's odds are the label's.

    Args:
      chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps: [*B] as in `dpo_loss`.
      prefs: [*B] p in [0, 1], probability that the first ("chosen") answer is preferred; no
        gradient. At 0 or 1 the optimum is at infinity.
      beta: KL weight > 0. May be traced.
    Returns:
      [*B] losses in nats, unreduced, >= 0. Gradient flows to chosen_logps and rejected_logps only.
    Raises:
      AssertionError: shapes differ (at trace time).
    Needs: pairs, reference, soft labels.
    Reduces to: `dpo_loss` at p = 1, with the pair swapped at p = 0; `cdpo_loss` at
      p = 1 - label_smoothing.
    Reference: Zhai et al. 2024, arXiv:2405.14103.
    """
    margins = pair_margins(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta=beta
    )
    return links.soft_logistic(margins, prefs)


def geometric_dpo_loss(
    chosen_logps: Float[Array, "*B"],
    rejected_logps: Float[Array, "*B"],
    ref_chosen_logps: Float[Array, "*B"],
    ref_rejected_logps: Float[Array, "*B"],
    prefs: Float[Array, "*B"],
    *,
    beta: Scalar,
) -> Float[Array, "*B"]:
    """Geometric-averaged DPO (GDPO), soft labels that shrink the margin, one value per pair.

    L = -log sigmoid((2 p - 1) z),   z = beta D.

    DPO between the two geometric means of the answers' likelihoods, weighted p : 1 - p and
    1 - p : p. Unlike the cross-entropy, its optimum is at infinity for every p but 1/2.

    Args:
      chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps: [*B] as in `dpo_loss`.
      prefs: [*B] p in [0, 1], probability that the first ("chosen") answer is preferred; no
        gradient. At 1/2 the pair has no gradient.
      beta: KL weight > 0. May be traced.
    Returns:
      [*B] losses in nats, unreduced, >= 0. Gradient flows to chosen_logps and rejected_logps only.
    Raises:
      AssertionError: shapes differ (at trace time).
    Needs: pairs, reference, soft labels.
    Reduces to: `dpo_loss` at p = 1, with the pair swapped at p = 0.
    Reference: Furuta et al. 2024, arXiv:2409.06691.
    """
    chex.assert_equal_shape([chosen_logps, prefs])
    margins = pair_margins(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta=beta
    )
    return links.logistic((2.0 * shares(prefs) - 1.0) * margins)


def hinge_dpo_loss(
    chosen_logps: Float[Array, "*B"],
    rejected_logps: Float[Array, "*B"],
    ref_chosen_logps: Float[Array, "*B"],
    ref_rejected_logps: Float[Array, "*B"],
    *,
    beta: Scalar,
) -> Float[Array, "*B"]:
    """Hinge loss on log-ratios (SLiC hinge, hinge-norm), one value per pair.

    L = max(0, 1 - z),   z = beta D.

    Args:
      chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps: [*B] as in `dpo_loss`.
      beta: KL weight > 0. May be traced.
    Returns:
      [*B] losses, unreduced, >= 0. Gradient flows to chosen_logps and rejected_logps only,
        and none where z >= 1.
    Raises:
      AssertionError: shapes differ (at trace time).
    Needs: pairs, reference.
    Reduces to: nothing.
    Reference: Liu et al. 2023, arXiv:2309.06657 (hinge-norm); after SLiC, arXiv:2305.10425.
    """
    margins = pair_margins(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta=beta
    )
    return links.hinge(margins)


def ipo_loss(
    chosen_logps: Float[Array, "*B"],
    rejected_logps: Float[Array, "*B"],
    ref_chosen_logps: Float[Array, "*B"],
    ref_rejected_logps: Float[Array, "*B"],
    *,
    beta: Scalar,
) -> Float[Array, "*B"]:
    """Identity preference optimisation (IPO), one value per pair.

    L = (D - 1 / (2 beta))^2,   D = chosen log-ratio - rejected log-ratio.

    Args:
      chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps: [*B] as in `dpo_loss`.
      beta: KL weight > 0; the paper's tau. May be traced.
    Returns:
      [*B] losses, unreduced, >= 0. Gradient flows to chosen_logps and rejected_logps only.
    Raises:
      AssertionError: shapes differ (at trace time).
    Needs: pairs, reference.
    Reduces to: nothing; it is `rebel_loss` / beta^2 at score_gaps = 1/2.
    Reference: Azar et al. 2023, arXiv:2310.12036, Eq. 17.
    Departs: log-probs are sums; the authors' later advice is per-token means (pass mean_logps).
    """
    check_range("(0, inf)", beta=beta)
    chosen_log_ratios, rejected_log_ratios = pair_log_ratios(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
    )
    gaps = chosen_log_ratios - rejected_log_ratios
    return links.squared(gaps, jnp.full_like(gaps, 1.0 / (2.0 * beta)))


def exo_loss(
    chosen_logps: Float[Array, "*B"],
    rejected_logps: Float[Array, "*B"],
    ref_chosen_logps: Float[Array, "*B"],
    ref_rejected_logps: Float[Array, "*B"],
    *,
    beta: Scalar,
    label_smoothing: Scalar,
) -> Float[Array, "*B"]:
    """Efficient exact optimisation (EXO), one value per pair.

    L = sigmoid(z) [log sigmoid(z) - log(1 - h)] + sigmoid(-z) [log sigmoid(-z) - log h],
    z = beta D; 0 at z = logit(1 - h).

    The divergence KL((sigmoid(z), sigmoid(-z)) || (1 - h, h)) of the policy's law over the pair
    from the smoothed label's; `cdpo_loss` is the other direction, up to a constant.

    Args:
      chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps: [*B] as in `dpo_loss`.
      label_smoothing: h in (0, 1/2); the loss is infinite at 0 (1e-3 is usual). May be traced.
      beta: KL weight > 0. May be traced.
    Returns:
      [*B] losses in nats, unreduced, >= 0; flat far from z = 0. Gradient flows to chosen_logps
        and rejected_logps only.
    Raises:
      AssertionError: shapes differ (at trace time).
    Needs: pairs, reference.
    Reduces to: nothing.
    Reference: Ji et al. 2024, arXiv:2402.00856.
    """
    margins = pair_margins(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta=beta
    )
    return links.exo(margins, label_smoothing=label_smoothing)


def discopop_loss(
    chosen_logps: Float[Array, "*B"],
    rejected_logps: Float[Array, "*B"],
    ref_chosen_logps: Float[Array, "*B"],
    ref_rejected_logps: Float[Array, "*B"],
    *,
    beta: Scalar,
    temperature: Scalar = 0.05,
) -> Float[Array, "*B"]:
    """DiscoPOP, the discovered log-ratio modulated loss, one value per pair.

    L = (1 - g) (-log sigmoid(z)) + g exp(-z),   g = sigmoid(z / temperature),   z = beta D.

    Args:
      chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps: [*B] as in `dpo_loss`.
      temperature: > 0, the paper's tau; small values switch sharply at z = 0. May be traced.
      beta: KL weight > 0. May be traced.
    Returns:
      [*B] losses, unreduced, > 0; not convex. Gradient flows to chosen_logps and
        rejected_logps only.
    Raises:
      AssertionError: shapes differ (at trace time).
    Needs: pairs, reference.
    Reduces to: the mean of the logistic and the exponential loss as temperature grows.
    Reference: Lu et al. 2024, arXiv:2406.08414.
    """
    margins = pair_margins(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta=beta
    )
    return links.discopop(margins, temperature=temperature)


def gpo_loss(
    chosen_logps: Float[Array, "*B"],
    rejected_logps: Float[Array, "*B"],
    ref_chosen_logps: Float[Array, "*B"],
    ref_rejected_logps: Float[Array, "*B"],
    *,
    beta: Scalar,
    link: Callable[[Float[Array, "*B"]], Float[Array, "*B"]],
) -> Float[Array, "*B"]:
    """Generalised preference optimisation (GPO), one value per pair.

    L = f(z),   z = beta D.

    Args:
      chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps: [*B] as in `dpo_loss`.
      link: f, margins [*B] -> losses [*B]; convex and decreasing at 0 in the paper. See `links`.
      beta: KL weight > 0. May be traced.
    Returns:
      [*B] losses, unreduced, with f's range. Gradient flows to chosen_logps and
        rejected_logps only.
    Raises:
      AssertionError: shapes differ (at trace time).
    Needs: pairs, reference.
    Reduces to: `dpo_loss` with `links.logistic`; `hinge_dpo_loss` with `links.hinge`; `exo_loss`,
      `cdpo_loss`, `robust_dpo_loss`, `discopop_loss` with the link of that name.
    Reference: Tang et al. 2024, arXiv:2402.05749.
    """
    margins = pair_margins(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta=beta
    )
    return link(margins)


def f_dpo_loss(
    chosen_logps: Float[Array, "*B"],
    rejected_logps: Float[Array, "*B"],
    ref_chosen_logps: Float[Array, "*B"],
    ref_rejected_logps: Float[Array, "*B"],
    *,
    beta: Scalar,
    score: Callable[[Float[Array, "*B"]], Float[Array, "*B"]],
) -> Float[Array, "*B"]:
    """DPO under an f-divergence (f-DPO, chi-squared PO), one value per pair.

    L = -log sigmoid(beta [S(u_w) - S(u_l)]),   S(u) = f'(exp u) up to a constant, for the
    regulariser D_f(pi || pi_ref) = E_ref[f(pi / pi_ref)].

    Args:
      chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps: [*B] as in `dpo_loss`.
      score: S, log-ratios [*B] -> [*B]. See `scores`: forward KL, JS, alpha, chi-squared.
      beta: weight of the divergence > 0. May be traced.
    Returns:
      [*B] losses in nats, unreduced, >= 0. Gradient flows to chosen_logps and rejected_logps only.
    Raises:
      AssertionError: shapes differ (at trace time).
    Needs: pairs, reference.
    Reduces to: `dpo_loss` with S(u) = u (reverse KL), or `scores.alpha_score` at alpha = 1.
    Reference: Wang et al. 2023, arXiv:2309.16240; chi-squared: Huang et al. 2024, arXiv:2407.13399.
    """
    check_range("(0, inf)", beta=beta)
    chosen_log_ratios, rejected_log_ratios = pair_log_ratios(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
    )
    return links.logistic(beta * (score(chosen_log_ratios) - score(rejected_log_ratios)))
