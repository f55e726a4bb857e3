"""Contrastive preference learning: comparisons of segments of behaviour, without a reward model.

If a policy is optimal under an entropy bonus alpha, its advantage is alpha log pi. A preference
model over segments can therefore read the advantages off the policy itself.

Shared arguments and results, unless a function says otherwise:
  mask: [*B, T] or [*B, K] True where a step or segment is real; values under False never matter,
    NaN included.
  bias: the paper's lambda, in (0, 1].
  beta: KL weight, > 0.
Losses are [*B], unreduced, in nats, >= 0. Gradient flows to the advantages U only, to
log-probs of the policy in `cpl_kl_loss`. Shapes are
checked at trace time. Keyword numbers may be traced.
"""

import chex
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from rlhf_jax.checks import check_mask, check_range, shares
from rlhf_jax.losses.links import logistic
from rlhf_jax.losses.preference.ratios import pair_log_ratios
from rlhf_jax.losses.reward import partial_returns
from rlhf_jax.ops.statistics import wins
from rlhf_jax.types import Scalar


def segment_advantages(
    token_logps: Float[Array, "*B T"],
    mask: Bool[Array, "*B T"],
    *,
    alpha: Scalar,
    gamma: Scalar = 1.0,
) -> Float[Array, "*B"]:
    """Advantage of a segment in contrastive preference learning.

    U = alpha sum_t gamma^t log pi(a_t | s_t), t = 0 at the first counted step; a sum, not a mean.

    Args:
      token_logps: [*B, T] log pi of each action in nats. Log-ratios to a frozen reference give
        CPL-KL; minus the squared distance to the action gives a deterministic actor.
      alpha: temperature > 0 of the policy's entropy bonus (for log-ratios, beta). Comparisons
        saturate unless alpha times the number of steps is of order 1 to 10.
      gamma: discount, in [0, 1]; 1 in the authors' code.
    Returns:
      [*B], 0 for an empty segment. Gradient flows to token_logps.
    Needs: segments.
    Reduces to: alpha times `sequence_logps` at gamma = 1.
    Reference: Hejna et al. 2023, arXiv:2310.13639.
    Departs: the paper counts from t = 1, a factor gamma that alpha can take.
    """
    check_range("(0, inf)", alpha=alpha)
    return alpha * partial_returns(token_logps, mask, gamma=gamma)


def cpl_loss(
    chosen_advantages: Float[Array, "*B"],
    rejected_advantages: Float[Array, "*B"],
    *,
    bias: Scalar = 1.0,
) -> Float[Array, "*B"]:
    """Contrastive preference learning (CPL).

    L = -log sigmoid(U_w - bias U_l).

    With bias < 1 the loss falls when both likelihoods rise together, which keeps mass on the
    actions of the data. This is a regulariser: the optimum is no longer the policy that made the
    preferences. CPL + BC is this plus `sft_loss`.

    Args:
      chosen_advantages, rejected_advantages: [*B] U, from `segment_advantages`.
    Needs: pairs of segments; no reference.
    Reduces to: `dpo_loss` with beta = alpha, at bias = 1 with log-ratios of whole answers;
      `regret_preference_loss` of -U at bias = 1.
    Reference: Hejna et al. 2023, arXiv:2310.13639.
    """
    check_range("(0, 1]", bias=bias)
    chex.assert_equal_shape([chosen_advantages, rejected_advantages])
    return logistic(chosen_advantages - bias * rejected_advantages)


def cpl_kl_loss(
    chosen_logps: Float[Array, "*B"],
    rejected_logps: Float[Array, "*B"],
    ref_chosen_logps: Float[Array, "*B"],
    ref_rejected_logps: Float[Array, "*B"],
    *,
    beta: Scalar,
    bias: Scalar = 1.0,
) -> Float[Array, "*B"]:
    """Contrastive preference learning under a KL penalty to a reference (CPL-KL).

    L = -log sigmoid(beta u_w - bias beta u_l),   u = log pi - log pi_ref.

    Args:
      chosen_logps, rejected_logps, and both of the reference: [*B] nats, (discounted) sums over a
        segment, e.g. `segment_advantages` at alpha = 1; the reference is data.
    Needs: pairs of segments, reference.
    Reduces to: `dpo_loss` at bias = 1; `cpl_loss` of beta u.
    Reference: Hejna et al. 2023, arXiv:2310.13639, with the cloned behaviour as reference.
    """
    check_range("(0, inf)", beta=beta)
    ratios = pair_log_ratios(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)
    chosen, rejected = (beta * each for each in ratios)
    return cpl_loss(chosen, rejected, bias=bias)


def soft_cpl_loss(
    first_advantages: Float[Array, "*B"],
    second_advantages: Float[Array, "*B"],
    prefs: Float[Array, "*B"],
    *,
    bias: Scalar = 1.0,
) -> Float[Array, "*B"]:
    """Contrastive preference learning with soft labels.

    L = -p log sigmoid(U_1 - bias U_2) - (1 - p) log sigmoid(U_2 - bias U_1).

    Args:
      first_advantages, second_advantages: [*B] U, from `segment_advantages`.
      prefs: [*B] p in [0, 1], probability that the first segment is preferred, 1/2 at a tie; no
        gradient.
    Needs: pairs of segments, soft labels; no reference.
    Reduces to: `cpl_loss` at p in {0, 1}; `soft_bradley_terry_loss` of U at bias = 1.
    Reference: Hejna et al. 2023, arXiv:2310.13639.
    """
    chex.assert_equal_shape([first_advantages, second_advantages, prefs])
    prefs = shares(prefs)
    first_wins = cpl_loss(first_advantages, second_advantages, bias=bias)
    second_wins = cpl_loss(second_advantages, first_advantages, bias=bias)
    return prefs * first_wins + (1.0 - prefs) * second_wins


def ranked_cpl_loss(
    advantages: Float[Array, "*B K"],
    scores: Float[Array, "*B K"],
    mask: Bool[Array, "*B K"],
    *,
    bias: Scalar = 1.0,
) -> Float[Array, "*B"]:
    """Contrastive preference learning on scored segments, one value per group of them.

    L = mean over pairs i < j of `soft_cpl_loss`(U_i, U_j, p_ij),   p_ij = 1, 1/2 or 0 as the score
    of i is above, equal to or below that of j.

    Args:
      advantages: [*B, K] U, from `segment_advantages`, in any order.
      scores: [*B, K] any numbers that order the segments; no gradient.
    Returns:
      [*B] losses; 0 with fewer than two segments.
    Needs: scored segments; no reference.
    Reduces to: `soft_cpl_loss` at K = 2.
    Reference: Hejna et al. 2023, arXiv:2310.13639.
    Departs: the authors' code compares all segments of a batch (put them on the K axis for that),
      breaks ties by the order of sorting and drops pairs with a loss of exactly 0.
    """
    check_mask(mask=mask)
    chex.assert_equal_shape([advantages, scores, mask])
    advantages, scores = jnp.where(mask, advantages, 0.0), jnp.where(mask, scores, 0.0)
    size = mask.shape[-1]
    i, j = jnp.triu_indices(size, k=1)
    real = mask[..., i] & mask[..., j]
    prefs = wins(scores[..., i], scores[..., j])
    losses = soft_cpl_loss(advantages[..., i], advantages[..., j], prefs, bias=bias)
    pairs = jnp.maximum(jnp.sum(real, axis=-1), 1)  # a group without pairs divides 0 by 1
    return jnp.sum(jnp.where(real, losses, 0.0), axis=-1) / pairs
