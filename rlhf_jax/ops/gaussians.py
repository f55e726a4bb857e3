"""Gaussians with a diagonal covariance, by means and log-variances: of an encoder, or of the head
of a policy.

Shared arguments, unless a function says otherwise:
  means, log_variances: [*B, k] m and lv of N(m, diag exp(lv)).
  prior_means, prior_log_variances: [*B, k] m_p and lv_p of the prior.
Divergences are [*B], in nats, >= 0 up to rounding. Exponents stop at 40, so results are finite.
Shapes are checked at trace time.
"""

import chex
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.checks import ROUNDING, check_range
from rlhf_jax.ops.logprobs import MAX_LOG_RATIO
from rlhf_jax.types import Scalar

LOG_TWO_PI = 1.8378770664093453


def diagonal_normal_kl(
    means: Float[Array, "*B k"],
    log_variances: Float[Array, "*B k"],
    prior_means: Float[Array, "*B k"],
    prior_log_variances: Float[Array, "*B k"],
) -> Float[Array, "*B"]:
    """KL of a diagonal Gaussian to another one.

    KL = 1/2 sum_j [ lv_p - lv - 1 + exp(lv - lv_p) + (m - m_p)^2 exp(-lv_p) ].

    Needs: means and log-variances of both.
    Reduces to: `standard_normal_kl` at m_p = lv_p = 0.
    Reference: Poddar et al. 2024, arXiv:2408.10075, for a learned prior.
    """
    chex.assert_equal_shape([means, log_variances, prior_means, prior_log_variances])
    gap = log_variances - prior_log_variances
    # expm1 keeps the digits where the variances are close.
    spread = jnp.expm1(jnp.minimum(gap, MAX_LOG_RATIO)) - gap
    away = (means - prior_means) ** 2 * jnp.exp(jnp.minimum(-prior_log_variances, MAX_LOG_RATIO))
    return 0.5 * jnp.sum(spread + away, axis=-1)


def standard_normal_kl(
    means: Float[Array, "*B k"], log_variances: Float[Array, "*B k"]
) -> Float[Array, "*B"]:
    """KL of a diagonal Gaussian to N(0, I).

    KL = -1/2 sum_j [ 1 + lv - m^2 - exp(lv) ].

    Needs: means and log-variances.
    Reference: Kingma and Welling 2013, arXiv:1312.6114, Appendix B.
    """
    zeros = jnp.zeros_like(means)
    return diagonal_normal_kl(means, log_variances, zeros, zeros)


def gaussian_draws(
    means: Float[Array, "*B k"], log_variances: Float[Array, "*B k"], noise: Float[Array, "*B k"]
) -> Float[Array, "*B k"]:
    """Draws from a diagonal Gaussian whose gradient reaches its means and log-variances.

    z = m + exp(lv / 2) e,   e ~ N(0, I).

    Args:
      noise: [*B, k] e.
    Returns:
      [*B, k].
    Needs: means, log-variances, noise.
    Reference: Kingma and Welling 2013, arXiv:1312.6114, Section 2.4.
    """
    chex.assert_equal_shape([means, log_variances, noise])
    return means + jnp.exp(jnp.minimum(0.5 * log_variances, MAX_LOG_RATIO)) * noise


def diagonal_normal_logps(
    means: Float[Array, "*B k"], log_variances: Float[Array, "*B k"], points: Float[Array, "*B k"]
) -> Float[Array, "*B"]:
    """Log-density of a diagonal Gaussian.

    log N(x) = -1/2 sum_j [ lv + (x - m)^2 exp(-lv) + log 2 pi ].

    Args:
      points: [*B, k] x.
    Returns:
      [*B] nats, of any sign; not bounded below.
    Needs: means, log-variances, points.
    Reference: Bishop 2006, "Pattern Recognition and Machine Learning", Eq. 2.43.
    """
    chex.assert_equal_shape([means, log_variances, points])
    away = (points - means) ** 2 * jnp.exp(jnp.minimum(-log_variances, MAX_LOG_RATIO))
    return -0.5 * jnp.sum(log_variances + away + LOG_TWO_PI, axis=-1)


def tanh_normal_logps(
    means: Float[Array, "*B k"],
    log_variances: Float[Array, "*B k"],
    actions: Float[Array, "*B k"],
    *,
    limit: Scalar = 1.0,
    edge: Scalar = 1e-5,
) -> Float[Array, "*B"]:
    """Log-density of a Gaussian squashed into a box: a = limit tanh u, u ~ N(m, diag exp(lv)).

    log pi(a) = log N(u) - sum_j log(limit (1 - b_j^2)),   b = a / limit, u = atanh b.

    Args:
      actions: [*B, k] a. One beyond the limit gives NaN, without gradient.
      limit: largest |a|, > 0.
      edge: in (0, 1); |b| counts as at most 1 - edge, so that the log-density of an action at the
        limit is finite.
    Returns:
      [*B] nats, of any sign; exact where |b| <= 1 - edge. Gradient flows to all three, and to an
      action inside the edge only.
    Needs: means, log-variances, actions.
    Reduces to: `diagonal_normal_logps` of a as limit grows, with m / limit and lv - 2 log limit.
    Reference: Haarnoja et al. 2018, arXiv:1801.01290, Appendix C.
    Departs: the edge; the authors' code adds 1e-6 to 1 - b^2 instead, at every action.
    """
    check_range("(0, inf)", limit=limit)
    check_range("(0, 1)", edge=edge)
    chex.assert_equal_shape([means, log_variances, actions])
    shares = actions / limit
    inside = jnp.abs(shares) <= 1.0 + ROUNDING  # False for NaN
    highest = 1.0 - jnp.maximum(edge, jnp.finfo(shares.dtype).eps)
    shares = jnp.clip(jnp.where(inside, shares, 0.0), -highest, highest)
    # Both sums of the same two logarithms: atanh b and log(1 - b^2), with all their digits.
    above, below = jnp.log1p(shares), jnp.log1p(-shares)
    squeezed = jnp.sum(above + below + jnp.log(limit), axis=-1)
    logps = diagonal_normal_logps(means, log_variances, 0.5 * (above - below)) - squeezed
    return jnp.where(jnp.all(inside, axis=-1), logps, jnp.nan)
