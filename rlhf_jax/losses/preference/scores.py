"""Inputs of a pairwise loss: scores of log-ratios, log-probs of answers, weights of pairs.

A score S replaces the log-ratio u in `f_dpo_loss`; a constant added to it cancels in a pair. The
log-probs replace the plain sum over tokens, both of the policy and of the reference.

Shared arguments and results, unless a function says otherwise:
  log_ratios: [*B] u = log pi - log pi_ref, in nats.
  token_logps: [*B, T] l_t = log pi(y_t | x, y_<t) in nats, of the policy or of the reference.
  mask: [*B, T] True where the step counts; values under False never matter, NaN included.
Scores and log-probs are [*B]; scores increase in u. Gradient flows to log_ratios or token_logps
only. Shapes are checked at trace time. Keyword numbers may be traced.
Needs: log-ratios.
"""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from rlhf_jax.checks import check_ids, check_mask, check_range
from rlhf_jax.ops.logprobs import MAX_LOG_RATIO, mean_logps
from rlhf_jax.ops.masking import masked_sum
from rlhf_jax.ops.returns import discounted_sum
from rlhf_jax.types import Scalar


def forward_kl_score(log_ratios: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """Forward-KL score, f'(exp u) for f(x) = -log x.

    S(u) = -exp(-u).

    The exponent stops at 40, beyond which there is no gradient.

    Reduces to: `alpha_score` at alpha = 0, up to the constant 1.
    Reference: Wang et al. 2023, arXiv:2309.16240.
    """
    return -jnp.exp(jnp.minimum(-log_ratios, MAX_LOG_RATIO))


def js_score(log_ratios: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """Jensen-Shannon score, f'(exp u) - log 2 for f(x) = x log x - (x + 1) log((x + 1) / 2).

    S(u) = log sigmoid(u).

    Reduces to: the log-ratio u as u falls.
    Reference: Wang et al. 2023, arXiv:2309.16240.
    """
    return jax.nn.log_sigmoid(log_ratios)


def alpha_score(log_ratios: Float[Array, "*B"], *, alpha: Scalar) -> Float[Array, "*B"]:
    """Alpha-divergence score.

    S(u) = [exp((alpha - 1) u) - 1] / (alpha - 1),   and u at alpha = 1.

    The exponent stops at 40, beyond which there is no gradient.

    Args:
      alpha: any real; the paper's is 1 - alpha.
    Reduces to: the log-ratio u (reverse KL) at alpha = 1; `forward_kl_score` + 1 at alpha = 0.
    Reference: Wang et al. 2023, arXiv:2309.16240.
    Departs: TRL's exp((alpha - 1) u) / (alpha - 1) is larger by the constant 1 / (alpha - 1), which
      cancels in a pair but not in float32 near alpha = 1.
    """
    check_range("(-inf, inf)", alpha=alpha)
    power = jnp.asarray(alpha - 1.0, log_ratios.dtype)
    exponents = jnp.minimum(power * log_ratios, MAX_LOG_RATIO)
    # expm1 keeps the digits near alpha = 1; two `where`s keep 0 / 0 out of the gradient, see
    # https://docs.jax.dev/en/latest/faq.html#gradients-contain-nan-where-using-where
    at_one = power == 0
    return jnp.where(at_one, log_ratios, jnp.expm1(exponents) / jnp.where(at_one, 1.0, power))


def chi_squared_score(log_ratios: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """Chi-squared score with KL (chi-squared PO), f'(exp u) for f(x) = (x - 1)^2 / 2 + x log x.

    S(u) = exp(u) + u.

    The exponent stops at 40, beyond which the gradient is that of u.

    Reduces to: the log-ratio u as u falls.
    Reference: Huang et al. 2024, arXiv:2407.13399.
    Departs: the paper also clips beta times the gap of two scores to twice the reward's range.
    """
    return jnp.exp(jnp.minimum(log_ratios, MAX_LOG_RATIO)) + log_ratios


def ld_logps(
    token_logps: Float[Array, "*B T"],
    mask: Bool[Array, "*B T"],
    shared_lengths: Int[Array, "*B"],
    *,
    alpha: Scalar,
) -> Float[Array, "*B"]:
    """Length-desensitised log-probs (LD-DPO).

    L(y) = sum_{t <= n} l_t + alpha sum_{t > n} l_t,   n = min(|y_w|, |y_l|).

    Args:
      shared_lengths: [*B] n, in counted steps from the first.
      alpha: weight of the steps that only the longer answer has, in [0, 1].
    Needs: tokens, lengths of both answers.
    Reduces to: `ops.logprobs.sequence_logps` at alpha = 1 or equal lengths.
    Reference: Liu et al. 2024, arXiv:2409.06411.
    """
    check_range("[0, 1]", alpha=alpha)
    check_mask(mask=mask)
    check_ids(shared_lengths=shared_lengths)
    chex.assert_equal_shape([token_logps, mask])
    chex.assert_equal_shape([token_logps[..., 0], shared_lengths])
    # Counted steps so far: 1 at the first one, on whichever side the padding is.
    positions = jnp.cumsum(mask, axis=-1, dtype=jnp.int32)
    weights = jnp.where(positions <= shared_lengths[..., None], 1.0, alpha)
    return jnp.sum(weights * jnp.where(mask, token_logps, 0.0), axis=-1)


def discounted_logps(
    token_logps: Float[Array, "*B T"], mask: Bool[Array, "*B T"], *, gamma: Scalar
) -> Float[Array, "*B"]:
    """Temporally decayed log-probs (D2PO).

    L(y) = sum_t gamma^t l_t,   t = 0 at the first counted step.

    Args:
      gamma: discount per counted step, in (0, 1].
    Needs: tokens.
    Reduces to: `ops.logprobs.sequence_logps` at gamma = 1.
    Reference: Shao et al. 2025, arXiv:2502.14340.
    """
    check_range("(0, 1]", gamma=gamma)
    return discounted_sum(token_logps, mask, gamma=gamma)


def weighted_logps(
    token_logps: Float[Array, "*B T"],
    mask: Bool[Array, "*B T"],
    token_weights: Float[Array, "*B T"],
) -> Float[Array, "*B"]:
    """Token-weighted log-probs (token-level DPO with importance weights).

    L(y) = sum_t w_t l_t.

    Args:
      token_weights: [*B, T] w_t; no gradient.
    Needs: tokens, a weight for each.
    Reduces to: `ops.logprobs.sequence_logps` at token_weights = 1; `discounted_logps` at gamma^t.
    Reference: Liu et al. 2024, arXiv:2410.04350 (TIS-DPO).
    Departs: TIS-DPO estimates the weights with two contrastive policies and adds the gap of the
      weighted `sequence_kl_gaps`; the caller does both.
    """
    check_mask(mask=mask)
    chex.assert_equal_shape([token_logps, mask, token_weights])
    # Both factors are masked before the product: 0 times NaN is NaN.
    weights = jnp.where(mask, jax.lax.stop_gradient(token_weights), 0.0)
    return jnp.sum(weights * jnp.where(mask, token_logps, 0.0), axis=-1)


def sampled_logps(
    key: jax.Array,
    token_logps: Float[Array, "*B T"],
    mask: Bool[Array, "*B T"],
    counts: Int[Array, "*B"],
) -> Float[Array, "*B"]:
    """Down-sampled log-probs (SamPO).

    L(y) = sum of l_t over n counted steps drawn uniformly without replacement.

    The mean over keys is n / |y| times the sum.

    Args:
      key: typed random key. Use the same key for policy and reference, so that both lose the same
        steps, and another one for the other answer of the pair.
      counts: [*B] n = min(|y_w|, |y_l|); every step stays where n >= |y|.
    Needs: tokens, lengths of both answers, randomness.
    Reduces to: `ops.logprobs.sequence_logps` where counts >= |y|.
    Reference: Lu et al. 2024, arXiv:2406.10957.
    """
    check_mask(mask=mask)
    check_ids(counts=counts)
    chex.assert_equal_shape([token_logps, mask])
    chex.assert_equal_shape([token_logps[..., 0], counts])
    # The n smallest of uniform numbers are a draw without replacement; inf ranks padding last.
    lots = jnp.where(mask, jax.random.uniform(key, mask.shape), jnp.inf)
    places = jnp.argsort(jnp.argsort(lots, axis=-1), axis=-1)
    return masked_sum(token_logps, mask & (places < counts[..., None]), axis=-1)


def wpo_weights(
    token_logps: Float[Array, "*B T"],
    log_collisions: Float[Array, "*B T"],
    mask: Bool[Array, "*B T"],
) -> Float[Array, "*B"]:
    """Weighted preference optimisation (WPO): the weight of one answer.

    w(y) = exp( (1 / |y|) sum_t [l_t - log sum_v pi(v | x, y_<t)^2] ).

    The loss of a pair is multiplied by w(y_w) w(y_l): off-policy answers count less. At each step
    the weight pi(a) / sum_v pi(v)^2 has mean 1 under pi itself.

    Args:
      log_collisions: [*B, T] log sum_v pi(v)^2 at each step: `ops.logprobs.log_collision`.
    Returns:
      [*B] > 0, without gradient; 1 for a uniform or a certain policy and for an empty answer. The
      exponent stops at 40.
    Needs: tokens, full-vocabulary logits.
    Reference: Zhou et al. 2024, arXiv:2406.11827.
    Departs: TRL caps the product of a pair's two weights at 1; here the caller does, if wanted.
    """
    chex.assert_equal_shape([token_logps, log_collisions, mask])
    logs = jax.lax.stop_gradient(mean_logps(token_logps - log_collisions, mask))
    return jnp.exp(jnp.minimum(logs, MAX_LOG_RATIO))
