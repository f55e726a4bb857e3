"""Pairwise objectives with one more number per pair: a score gap, a length, a divergence.

The four arrays and the results are those of `pairs` unless a function says otherwise; the fifth
array is the extra number. Shared argument:
  beta: KL weight, > 0.
"""

import chex
import jax
from jaxtyping import Array, Bool, Float

from rlhf_jax.checks import check_mask, check_range
from rlhf_jax.losses import links
from rlhf_jax.losses.preference.ratios import pair_log_ratios, pair_margins
from rlhf_jax.ops.masking import masked_sum
from rlhf_jax.types import Scalar


def odpo_loss(
    chosen_logps: Float[Array, "*B"],
    rejected_logps: Float[Array, "*B"],
    ref_chosen_logps: Float[Array, "*B"],
    ref_rejected_logps: Float[Array, "*B"],
    gaps: Float[Array, "*B"],
    *,
    beta: Scalar,
) -> Float[Array, "*B"]:
    """DPO with an offset (ODPO), margin DPO.

    L = -log sigmoid(z - gap),   z = beta D.

    Args:
      gaps: [*B] the margin by which the chosen answer must win, in nats, e.g. a scale times
        log(score_w - score_l); no gradient.
    Needs: pairs, reference, score gaps.
    Reduces to: `dpo_loss` at gaps = 0; MODPO (arXiv:2310.03708) for weights w_k, w_-k at
      beta / w_k and gaps = w_-k . (r_-k(y_w) - r_-k(y_l)) / w_k.
    Reference: Amini et al. 2024, arXiv:2402.10571.
    """
    chex.assert_equal_shape([chosen_logps, gaps])
    margins = pair_margins(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta=beta
    )
    return links.logistic(margins - jax.lax.stop_gradient(gaps))


def mallows_dpo_loss(
    chosen_logps: Float[Array, "*B"],
    rejected_logps: Float[Array, "*B"],
    ref_chosen_logps: Float[Array, "*B"],
    ref_rejected_logps: Float[Array, "*B"],
    concentrations: Float[Array, "*B"],
    *,
    beta: Scalar,
) -> Float[Array, "*B"]:
    """MallowsPO: DPO with its own scale for each prompt.

    L = -log sigmoid(c z),   z = beta D.

    Where people agree about a prompt (c large), a given gap of rewards decides more comparisons.

    Args:
      concentrations: [*B] c >= 0 of the pair's prompt; in the paper a decreasing function of its
        dispersion index; no gradient.
    Needs: pairs, reference, a dispersion per prompt.
    Reduces to: `dpo_loss` at concentrations = 1; `geometric_dpo_loss` at 2 p - 1.
    Reference: Chen et al. 2024, arXiv:2405.14953 (MallowsPO-theta).
    Departs: the caller estimates c; the paper uses entropies of the policy's tokens.
    """
    chex.assert_equal_shape([chosen_logps, concentrations])
    margins = pair_margins(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta=beta
    )
    return links.logistic(jax.lax.stop_gradient(concentrations) * margins)


def r_dpo_loss(
    chosen_logps: Float[Array, "*B"],
    rejected_logps: Float[Array, "*B"],
    ref_chosen_logps: Float[Array, "*B"],
    ref_rejected_logps: Float[Array, "*B"],
    length_gaps: Float[Array, "*B"],
    *,
    beta: Scalar,
    alpha: Scalar,
) -> Float[Array, "*B"]:
    """Length-regularised DPO (R-DPO).

    L = -log sigmoid(z + alpha (|y_w| - |y_l|)),   z = beta D.

    DPO for the reward r - alpha |y|: where length explains the label, a smaller margin is enough.

    Args:
      length_gaps: [*B] |y_w| - |y_l| in tokens, as a float; no gradient.
      alpha: price of a token in reward, >= 0.
    Needs: pairs, reference, lengths.
    Reduces to: `dpo_loss` at alpha = 0 or equal lengths.
    Reference: Park et al. 2024, arXiv:2403.19159.
    """
    check_range("[0, inf)", alpha=alpha)
    chex.assert_equal_shape([chosen_logps, length_gaps])
    margins = pair_margins(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta=beta
    )
    return links.logistic(margins + alpha * jax.lax.stop_gradient(length_gaps))


def alpha_dpo_loss(
    chosen_mean_logps: Float[Array, "*B"],
    rejected_mean_logps: Float[Array, "*B"],
    ref_chosen_mean_logps: Float[Array, "*B"],
    ref_rejected_mean_logps: Float[Array, "*B"],
    *,
    beta: Scalar,
    gamma: Scalar,
    alpha: Scalar,
    mean: Scalar = 0.0,
    std: Scalar = 1.0,
) -> Float[Array, "*B"]:
    """AlphaDPO (alpha-DPO): SimPO with a margin that follows the pair.

    L = -log sigmoid(beta (a_w - a_l) - sg[gamma + alpha (M - m) / s]),   a = log pi(y | x) / |y|,
    M = (a_w - a_w^ref) - (a_l - a_l^ref), m and s its mean and deviation over pairs.

    A pair on which the policy has already moved further than average must win by more.

    Args:
      chosen_mean_logps, rejected_mean_logps: [*B] a_w and a_l, mean log pi per token, in nats.
      ref_chosen_mean_logps, ref_rejected_mean_logps: [*B] the same under the reference.
      beta: scale, > 0.
      gamma: target margin, >= 0, outside beta.
      alpha: how strongly the margin follows the pair, >= 0.
      mean: m, of M over a batch, or a running one; no gradient.
      std: s > 0, of the same values.
    Needs: pairs, reference, lengths, running mean and deviation.
    Reduces to: `simpo_loss` at alpha = 0.
    Reference: Wu et al. 2024, arXiv:2410.10148.
    Departs: the authors' code has gamma / beta and alpha inside beta: its alpha is alpha / beta.
    """
    check_range("(0, inf)", beta=beta, std=std)
    check_range("[0, inf)", gamma=gamma, alpha=alpha)
    check_range("(-inf, inf)", mean=mean)
    chosen_log_ratios, rejected_log_ratios = pair_log_ratios(
        chosen_mean_logps, rejected_mean_logps, ref_chosen_mean_logps, ref_rejected_mean_logps
    )
    moved = (chosen_log_ratios - rejected_log_ratios - mean) / std
    # Data, as in the paper: the margin sets the target and is not learned.
    targets = jax.lax.stop_gradient(gamma + alpha * moved)
    return links.logistic(beta * (chosen_mean_logps - rejected_mean_logps) - targets)


def tdpo_loss(
    chosen_logps: Float[Array, "*B"],
    rejected_logps: Float[Array, "*B"],
    ref_chosen_logps: Float[Array, "*B"],
    ref_rejected_logps: Float[Array, "*B"],
    kl_gaps: Float[Array, "*B"],
    *,
    beta: Scalar,
    alpha: Scalar,
) -> Float[Array, "*B"]:
    """Token-level DPO (TDPO).

    L = -log sigmoid(z - beta alpha [K(y_l) - K(y_w)]),   z = beta D,
    K(y) = sum_t KL(pi_ref || pi)(. | x, y_<t).

    beta (u(y) + K(y)) is the advantage, summed over the answer, for which pi is optimal: its mean
    under pi_ref is 0 at each step.

    Args:
      kl_gaps: [*B] K(y_l) - K(y_w) in nats, from `sequence_kl_gaps`; gradient flows to it.
      alpha: weight of the divergence gap, >= 0.
    Needs: pairs, reference, full-vocabulary KL of each step.
    Reduces to: `dpo_loss` at alpha = 0 or kl_gaps = 0; TDPO1 at alpha = 1 with a gradient through
      both K, TDPO2 with `sequence_kl_gaps`.
    Reference: Zeng et al. 2024, arXiv:2404.11999.
    """
    check_range("[0, inf)", alpha=alpha)
    chex.assert_equal_shape([chosen_logps, kl_gaps])
    margins = pair_margins(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta=beta
    )
    return links.logistic(margins - beta * alpha * kl_gaps)


def sequence_kl_gaps(
    chosen_token_kl: Float[Array, "*B T"],
    rejected_token_kl: Float[Array, "*B S"],
    chosen_mask: Bool[Array, "*B T"],
    rejected_mask: Bool[Array, "*B S"],
) -> Float[Array, "*B"]:
    """Gap of the sequence-wise forward KL of a pair (TDPO2).

    gap = K(y_l) - stop_gradient(K(y_w)),   K(y) = sum_t m_t KL(pi_ref || pi)(. | x, y_<t).

    Args:
      chosen_token_kl: [*B, T] KL(pi_ref || pi) at each step, in nats: `ops.kl.exact_kl` with the
        reference's logits first.
      rejected_token_kl: [*B, S] the same; the two answers may be padded to different lengths.
      chosen_mask, rejected_mask: [*B, T] and [*B, S] True where the step counts.
    Returns:
      [*B] nats. Gradient flows to rejected_token_kl only.
    Needs: pairs, full-vocabulary KL of each step.
    Reference: Zeng et al. 2024, arXiv:2404.11999 (TDPO2).
    """
    check_mask(chosen_mask=chosen_mask, rejected_mask=rejected_mask)
    chosen_kl = masked_sum(chosen_token_kl, chosen_mask, axis=-1)
    rejected_kl = masked_sum(rejected_token_kl, rejected_mask, axis=-1)
    chex.assert_equal_shape([chosen_kl, rejected_kl])
    # A gradient through K(y_w) would reward leaving the reference on the chosen answer.
    return rejected_kl - jax.lax.stop_gradient(chosen_kl)


def rebel_loss(
    chosen_logps: Float[Array, "*B"],
    rejected_logps: Float[Array, "*B"],
    ref_chosen_logps: Float[Array, "*B"],
    ref_rejected_logps: Float[Array, "*B"],
    score_gaps: Float[Array, "*B"],
    *,
    beta: Scalar,
) -> Float[Array, "*B"]:
    """Regression to relative rewards (REBEL, reward distillation).

    L = (z - gap)^2,   z = beta D.

    Args:
      score_gaps: [*B] score of the chosen minus score of the rejected answer; no gradient. Either
        answer may come first.
      beta: KL weight, > 0; REBEL's 1 / eta, with the last round's policy as reference.
    Needs: pairs, reference, score gaps.
    Reduces to: beta^2 times `ipo_loss` at score_gaps = 1/2.
    Reference: Gao et al. 2024, arXiv:2404.16767; as distillation, Fisch et al. 2024,
      arXiv:2405.19316.
    """
    margins = pair_margins(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta=beta
    )
    return links.squared(margins, score_gaps)


def xpo_loss(
    chosen_logps: Float[Array, "*B"],
    rejected_logps: Float[Array, "*B"],
    ref_chosen_logps: Float[Array, "*B"],
    ref_rejected_logps: Float[Array, "*B"],
    explored_logps: Float[Array, "*B"],
    *,
    beta: Scalar,
    alpha: Scalar,
) -> Float[Array, "*B"]:
    """Exploratory preference optimisation (XPO).

    L = -log sigmoid(z) + alpha log pi(y' | x),   z = beta D,   y' ~ pi_ref.

    Optimism: answers that the reference would give anyway become less likely. Unbounded below.

    Args:
      explored_logps: [*B] summed log pi(y' | x) of a sample from the reference, in nats; gradient
        flows to it.
      alpha: weight of the optimism, >= 0.
    Needs: online pairs, reference, its samples.
    Reduces to: `dpo_loss` at alpha = 0.
    Reference: Xie et al. 2024, arXiv:2405.21046.
    """
    check_range("[0, inf)", alpha=alpha)
    chex.assert_equal_shape([chosen_logps, explored_logps])
    margins = pair_margins(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta=beta
    )
    return links.logistic(margins) + alpha * explored_logps
