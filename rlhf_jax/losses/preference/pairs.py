"""Direct preference objectives: the log-probabilities of a pair in, one loss per pair out.

Every loss takes the same four arrays in the same order, so one update serves them all, and most are
a link applied to the margin z = beta D, with D = u_w - u_l and u = log pi - log pi_ref. Losses that
need one more number per pair are in `offsets`.

Shared arguments and results, unless a function says otherwise:
  chosen_logps, rejected_logps: [*B] log pi(y_w | x), log pi(y_l | x), summed over tokens, in nats.
  ref_chosen_logps, ref_rejected_logps: [*B] the same under the reference; data, no gradient.
  beta: KL weight, > 0.
  label_smoothing: h, the probability that a label is wrong, in [0, 1/2).
  prefs: [*B] p in [0, 1], probability that the first ("chosen") answer is preferred; no gradient.
Losses are [*B], unreduced, >= 0; logistic ones are in nats. Gradient flows to chosen_logps and
rejected_logps only. Shapes are checked at trace time. Keyword numbers may be traced.
Needs: pairs, reference.
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
    """Direct preference optimisation (DPO).

    L = -log sigmoid(beta D),   D = chosen log-ratio - rejected log-ratio.

    On `ops.logprobs.mean_logps` it is length-normalised DPO (TRL's sigmoid_norm).

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
    """Conservative DPO (cDPO): DPO with label smoothing.

    L = -(1 - h) log sigmoid(z) - h log sigmoid(-z),   z = beta D.   Minimum at z = logit(1 - h).

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
    """Robust DPO (rDPO): unbiased under random label flips.

    L = [-(1 - h) log sigmoid(z) + h log sigmoid(-z)] / (1 - 2 h),   z = beta D.

    The loss is unbounded below as z grows; h must be the true share of flipped labels.

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
    """Soft-preference cross-entropy (OSP): DPO with soft labels.

    L = -p log sigmoid(z) - (1 - p) log sigmoid(-z),   z = beta D.   Minimum at z = logit p.

    The slope in z is sigmoid(z) - p: the gradient vanishes when the policy's odds equal the
    label's. The optimum is at infinity for p = 0 and p = 1.

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
    """Geometric-averaged DPO (GDPO): soft labels shrink the margin.

    L = -log sigmoid((2 p - 1) z),   z = beta D.

    This is DPO between the two geometric means of the answers' likelihoods, with weights p : 1 - p
    and 1 - p : p. Unlike the cross-entropy, its optimum is at infinity for every p except 1/2,
    where the pair has no gradient.

    Needs: pairs, reference, soft labels.
    Reduces to: `dpo_loss` at p = 1, with the pair swapped at p = 0.
    Reference: Furuta et al. 2024, arXiv:2409.06691.
    """
    chex.assert_equal_shape([chosen_logps, prefs])
    margins = pair_margins(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta=beta
    )
    # `shares` turns a label that is no probability, such as -1 for a tie, into NaN.
    return links.logistic((2.0 * shares(prefs) - 1.0) * margins)


def hinge_dpo_loss(
    chosen_logps: Float[Array, "*B"],
    rejected_logps: Float[Array, "*B"],
    ref_chosen_logps: Float[Array, "*B"],
    ref_rejected_logps: Float[Array, "*B"],
    *,
    beta: Scalar,
) -> Float[Array, "*B"]:
    """Hinge loss on log-ratios (SLiC hinge, hinge-norm).

    L = max(0, 1 - z),   z = beta D.

    A pair with z >= 1 has no gradient.

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
    """Identity preference optimisation (IPO).

    L = (D - 1 / (2 beta))^2,   D = chosen log-ratio - rejected log-ratio.

    Args:
      beta: KL weight, > 0; the paper's tau.
    Reduces to: `rebel_loss` / beta^2 at score_gaps = 1/2.
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
    """Efficient exact optimisation (EXO).

    L = sigmoid(z) [log sigmoid(z) - log(1 - h)] + sigmoid(-z) [log sigmoid(-z) - log h],
    z = beta D; 0 at z = logit(1 - h).

    L = KL((sigmoid(z), sigmoid(-z)) || (1 - h, h)), from the policy's distribution over the pair to
    the smoothed label's; `cdpo_loss` is the opposite direction, up to a constant. It is flat far
    from z = 0.

    Args:
      label_smoothing: h in (0, 1/2); 1e-3 is usual, and the loss is infinite at 0.
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
    """DiscoPOP, the discovered log-ratio modulated loss.

    L = (1 - g) (-log sigmoid(z)) + g exp(-z),   g = sigmoid(z / temperature),   z = beta D.

    The loss is not convex.

    Args:
      temperature: the paper's tau, > 0; small values switch sharply at z = 0.
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
    """Generalised preference optimisation (GPO): any link.

    L = f(z),   z = beta D.

    Args:
      link: f, margins [*B] -> losses [*B]; convex and decreasing at 0 in the paper. See `links`.
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
    """DPO under an f-divergence (f-DPO, chi-squared PO).

    L = -log sigmoid(beta [S(u_w) - S(u_l)]),   S(u) = f'(exp u) up to a constant, for the
    regulariser D_f(pi || pi_ref) = E_ref[f(pi / pi_ref)].

    Args:
      score: S, log-ratios [*B] -> [*B]. See `scores`: forward KL, JS, alpha, chi-squared.
    Reduces to: `dpo_loss` with S(u) = u (reverse KL), or `scores.alpha_score` at alpha = 1.
    Reference: Wang et al. 2023, arXiv:2309.16240; chi-squared: Huang et al. 2024, arXiv:2407.13399.
    """
    check_range("(0, inf)", beta=beta)
    chosen_log_ratios, rejected_log_ratios = pair_log_ratios(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
    )
    return links.logistic(beta * (score(chosen_log_ratios) - score(rejected_log_ratios)))
