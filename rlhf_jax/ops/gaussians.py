"""Gaussians with a diagonal covariance, by means and log-variances: what an encoder puts out.

Shared arguments, unless a function says otherwise:
  means, log_variances: [*B, k] m and lv of N(m, diag exp(lv)).
  prior_means, prior_log_variances: [*B, k] m_p and lv_p of the prior.
Divergences are [*B], in nats, >= 0 up to rounding. Exponents stop at 40, so results are finite.
Shapes are checked at trace time.
"""

import chex
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.ops.logprobs import MAX_LOG_RATIO


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
