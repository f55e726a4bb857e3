"""Policy-gradient objectives: log-probabilities and advantages in, one loss per step out."""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.ops.logprobs import ratios

Scalar = float | Float[Array, ""]


def reinforce_loss(logps: Float[Array, "*S"], advantages: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """Score-function surrogate, one value per step (or per sequence, on summed log-probs).

    L = -A log pi, whose gradient at samples from pi is minus the policy gradient.

    Args:
      logps: [*S] log-probs of the actions taken, in nats.
      advantages: [*S] A; no gradient flows through it.
    Returns:
      [*S] losses, unreduced. Its value means nothing; its gradient does.
    Raises:
      AssertionError: shapes differ (at trace time).
    Reference: Williams 1992, "Simple statistical gradient-following algorithms".
    """
    chex.assert_equal_shape([logps, advantages])
    return -jax.lax.stop_gradient(advantages) * logps


def ppo_clip_loss(
    logps: Float[Array, "*S"],
    old_logps: Float[Array, "*S"],
    advantages: Float[Array, "*S"],
    *,
    clip_eps: Scalar,
) -> Float[Array, "*S"]:
    """Proximal policy optimisation, the clipped surrogate, one value per step.

    L = max(-A rho, -A clip(rho, 1 - eps, 1 + eps)),   rho = exp(log pi - log pi_old).

    Args:
      logps: [*S] log-probs of the actions under the policy being trained, in nats.
      old_logps: [*S] the same under the policy that sampled; data, no gradient.
      advantages: [*S] A; data, no gradient.
      clip_eps: eps > 0; infinity switches the clip off. May be traced.
    Returns:
      [*S] losses, unreduced. At rho = 1 the gradient is REINFORCE's. Finite for finite log-probs:
      the exponent of rho stops at 40.
    Raises:
      AssertionError: shapes differ (at trace time).
    Reference: Schulman et al. 2017, arXiv:1707.06347, Eq. 7 (negated: something to minimise).
    """
    chex.assert_equal_shape([logps, old_logps, advantages])
    advantages = jax.lax.stop_gradient(advantages)
    rho = ratios(logps, jax.lax.stop_gradient(old_logps))
    clipped = jnp.clip(rho, 1.0 - clip_eps, 1.0 + clip_eps)
    return jnp.maximum(-advantages * rho, -advantages * clipped)


def clipped_value_loss(
    values: Float[Array, "*S"],
    old_values: Float[Array, "*S"],
    returns: Float[Array, "*S"],
    *,
    clip_eps: Scalar,
) -> Float[Array, "*S"]:
    """Squared error of the critic, pessimistic about steps larger than the clip.

    L = max((V - G)^2, (clip(V, V_old - c, V_old + c) - G)^2) / 2.

    Args:
      values: [*S] V under the critic being trained.
      old_values: [*S] V at sampling time; data, no gradient.
      returns: [*S] G, regression targets; data, no gradient.
      clip_eps: c > 0, in units of value; infinity switches the clip off. May be traced.
    Returns:
      [*S] losses, unreduced, >= 0.
    Raises:
      AssertionError: shapes differ (at trace time).
    Reference: the critic loss of the OpenAI baselines PPO2, kept by Ziegler et al. 2019.
    """
    chex.assert_equal_shape([values, old_values, returns])
    old_values, returns = jax.lax.stop_gradient((old_values, returns))
    clipped = jnp.clip(values, old_values - clip_eps, old_values + clip_eps)
    return 0.5 * jnp.maximum((values - returns) ** 2, (clipped - returns) ** 2)
