"""Policy gradients from differences of scores between answers to one prompt: P3O and pairwise PPO.

A loss is a mean over the K (K - 1) / 2 pairs of a prompt's answers. Only differences of scores
enter, so a shift per prompt changes nothing. A KL penalty belongs in the scores: subtract
beta (log pi_old - log pi_ref) of each answer.

Shared arguments and results, unless a function says otherwise:
  logps: [*B, K] summed log pi(y_i | x) of K >= 2 answers, in nats; K < 2 raises ValueError.
  old_logps: [*B, K] the same under the policy that sampled; data, no gradient.
  scores: [*B, K] r; data. An answer without a finite score is in no pair, and its log-probs never
    matter, NaN included.
  clip_eps: eps > 0; infinity switches the clip off.
Losses are [*B], unreduced. Gradient flows to logps only. Shapes are checked at trace time. Keyword
numbers may be traced.
"""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from rlhf_jax.checks import check_range
from rlhf_jax.losses.policy_gradient import ppo_clip_loss
from rlhf_jax.ops.logprobs import MAX_LOG_RATIO
from rlhf_jax.ops.masking import masked_mean
from rlhf_jax.types import Scalar


def pairwise_gradient_loss(
    logps: Float[Array, "*B K"], scores: Float[Array, "*B K"]
) -> Float[Array, "*B"]:
    """Pairwise policy gradient (PPG), one value per prompt.

    L = -mean_{i<j} (r_i - r_j) (log pi(y_i) - log pi(y_j)) / 2.

    Only the gradient has a meaning: at samples from pi it is minus the policy gradient.

    Needs: groups of scored answers.
    Reduces to: the mean over answers of `reinforce_loss` with leave-one-out advantages in value and
      gradient, sample by sample, at any K.
    Reference: Wu et al. 2023, arXiv:2310.00212.
    Departs: the paper has K = 2; the mean over pairs is the extension to more.
    """
    chex.assert_equal_shape([logps, scores])
    first, second = _pairs(jnp.where(jnp.isfinite(scores), logps, 0.0))
    return -0.5 * _mean_over_pairs(_score_gaps(scores) * (first - second), scores)


def p3o_v1_loss(
    logps: Float[Array, "*B K"],
    old_logps: Float[Array, "*B K"],
    scores: Float[Array, "*B K"],
    *,
    clip_eps: Scalar,
) -> Float[Array, "*B"]:
    """P3O-V1, pairwise proximal policy optimisation with separate clipping, one value per prompt.

    L = -mean_{i<j} [C(rho_i, sg(d rho_j)) + C(rho_j, -sg(d rho_i))] / 2,   d = r_i - r_j,
    C(rho, a) = min(a rho, a clip(rho, 1 - eps, 1 + eps)),   rho = pi / pi_old of a whole answer.

    The value is no measure of progress: unclipped it is 0. The exponent of each rho stops at 20,
    because a product of two enters.

    Needs: groups of scored answers, old policy.
    Reduces to: `pairwise_gradient_loss` in gradient at rho = 1; `p3o_v2_loss` in gradient with both
      clips at inf.
    Reference: Wu et al. 2023, arXiv:2310.00212.
    Departs: the surrogate was not re-read in the paper; enumeration shows that its unclipped
      gradient is the exact off-policy gradient. The mean over more than one pair is an extension.
    """
    check_range("(0, inf]", clip_eps=clip_eps)
    chex.assert_equal_shape([logps, old_logps, scores])
    log_ratios = jnp.minimum(_log_ratios(logps, old_logps, scores), MAX_LOG_RATIO / 2)
    first, second = _pairs(log_ratios)
    gaps = _score_gaps(scores)
    none = jnp.zeros_like(first)
    # `ppo_clip_loss` stops the gradient of its advantages: the sg of the formula.
    own = ppo_clip_loss(first, none, gaps * jnp.exp(second), clip_eps=clip_eps)
    other = ppo_clip_loss(second, none, -gaps * jnp.exp(first), clip_eps=clip_eps)
    return 0.5 * _mean_over_pairs(own + other, scores)


def p3o_v2_loss(
    logps: Float[Array, "*B K"],
    old_logps: Float[Array, "*B K"],
    scores: Float[Array, "*B K"],
    *,
    clip_eps: Scalar,
    weight_clip_eps: Scalar = jnp.inf,
) -> Float[Array, "*B"]:
    """P3O-V2, pairwise proximal policy optimisation with joint clipping, one value per prompt.

    L = -mean_{i<j} min(a log g, a clip(log g, log(1 - eps), log(1 + eps))) / 2,
    g = rho_i / rho_j,   a = sg((r_i - r_j) clip(rho_i rho_j, 1 - eps', 1 + eps')).

    The bounds on log g are not symmetric, so a clipped loss depends on which answer of a pair comes
    first. The exponent of each rho in the weight stops at 20; log g is not bounded.

    Args:
      clip_eps: eps > 0, of the joint ratio; no lower clip from 1 on, no clip at infinity.
      weight_clip_eps: eps' > 0, of the weight rho_i rho_j; infinity switches it off.
    Needs: groups of scored answers, old policy.
    Reduces to: `pairwise_gradient_loss` in gradient at rho = 1; `p3o_v1_loss` in gradient with both
      clips at inf.
    Reference: Wu et al. 2023, arXiv:2310.00212.
    Departs: as `p3o_v1_loss`.
    """
    check_range("(0, inf]", clip_eps=clip_eps, weight_clip_eps=weight_clip_eps)
    chex.assert_equal_shape([logps, old_logps, scores])
    log_ratios = _log_ratios(logps, old_logps, scores)
    first, second = _pairs(jax.lax.stop_gradient(jnp.minimum(log_ratios, MAX_LOG_RATIO / 2)))
    weights = jnp.clip(jnp.exp(first + second), 1.0 - weight_clip_eps, 1.0 + weight_clip_eps)
    weights = _score_gaps(scores) * weights
    own, other = _pairs(log_ratios)
    # log 0 = -inf for clip_eps >= 1: no lower clip.
    lowest, highest = jnp.log(jnp.maximum(1.0 - clip_eps, 0.0)), jnp.log1p(clip_eps)
    clipped = jnp.clip(own - other, lowest, highest)
    return -0.5 * _mean_over_pairs(jnp.minimum(weights * (own - other), weights * clipped), scores)


def pairwise_rewards(margins: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """Pairwise reward (Pairwise-RL): the verdict of a pairwise judge as the score of an answer.

    R = sigmoid(s) - 1/2.

    Give it to `ops.returns.answer_rewards` and GAE for pairwise PPO, or to `ops.groups` for a
    baseline of K answers. The margin s itself is the unbounded form of the same reward.

    Args:
      margins: [*B] s, log-odds that the answer beats its opponent (a reference answer, or another
        sample), in nats; antisymmetric if the judge was asked in both orders.
    Returns:
      [*B] in [-1/2, 1/2], exactly the negative for swapped opponents; data, no gradient.
    Needs: pairwise margins.
    Reduces to: s / 4 as s -> 0.
    Reference: Xu et al. 2025, arXiv:2504.04950.
    Departs: the paper's formula was not read; this is the natural form of its relative judgement.
    """
    # tanh(s / 2) / 2 = sigmoid(s) - 1/2, but exactly odd and without cancellation near 0.
    return 0.5 * jnp.tanh(0.5 * jax.lax.stop_gradient(margins))


def binary_pairwise_rewards(margins: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """Pairwise reward of a judge that gives a verdict without a probability (Pairwise-RL).

    R = sign(s) / 2.

    Args:
      margins: as in `pairwise_rewards`.
    Returns:
      [*B] 1/2, -1/2, or 0 at a tie; data, no gradient.
    Needs: pairwise margins.
    Reduces to: `pairwise_rewards` as |s| -> infinity.
    Reference: Xu et al. 2025, arXiv:2504.04950.
    Departs: as `pairwise_rewards`.
    """
    return 0.5 * jnp.sign(jax.lax.stop_gradient(margins))


def _pairs(x: Float[Array, "*B K"]) -> tuple[Float[Array, "*B K K"], Float[Array, "*B K K"]]:
    """x_i and x_j of every ordered pair: two [*B, K, K]."""
    shape = (*x.shape, x.shape[-1])
    return jnp.broadcast_to(x[..., :, None], shape), jnp.broadcast_to(x[..., None, :], shape)


def _score_gaps(scores: Float[Array, "*B K"]) -> Float[Array, "*B K K"]:
    """[*B, K, K] r_i - r_j, 0 where one is not finite; data."""
    first, second = _pairs(jax.lax.stop_gradient(scores))
    return jnp.where(_scored_pairs(scores), first - second, 0.0)


def _scored_pairs(scores: Float[Array, "*B K"]) -> Bool[Array, "*B K K"]:
    """True where both scores are finite."""
    first, second = _pairs(scores)
    return jnp.isfinite(first) & jnp.isfinite(second)


def _log_ratios(
    logps: Float[Array, "*B K"], old_logps: Float[Array, "*B K"], scores: Float[Array, "*B K"]
) -> Float[Array, "*B K"]:
    """log pi - log pi_old, 0 for answers without a score; not limited.

    Where ratios of two answers are multiplied, MAX_LOG_RATIO / 2 limits each exponent.
    """
    gap = logps - jax.lax.stop_gradient(old_logps)
    return jnp.where(jnp.isfinite(scores), gap, 0.0)


def _mean_over_pairs(x: Float[Array, "*B K K"], scores: Float[Array, "*B K"]) -> Float[Array, "*B"]:
    """Mean of x_ij over i < j with two finite scores; 0 where there is no such pair."""
    size = x.shape[-1]
    if size < 2:
        raise ValueError(f"pairs need at least 2 answers on the last axis, got {size}")
    return masked_mean(x, jnp.triu(_scored_pairs(scores), 1), axis=(-2, -1))
