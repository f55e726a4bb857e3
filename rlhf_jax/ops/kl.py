"""Kullback-Leibler divergences, exact and estimated.

Direction throughout: KL(pi || pi_ref), with samples from pi. In `logps` and `ref_logps` the sample
is the same; only the distribution that scores it differs.
"""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.ops.logprobs import MAX_LOG_RATIO


def exact_kl(logits: Float[Array, "*B A"], ref_logits: Float[Array, "*B A"]) -> Float[Array, "*B"]:
    """KL(pi || pi_ref) = sum_a pi(a) (log pi(a) - log pi_ref(a)), in nats.

    Args:
      logits, ref_logits: [*B, A] unnormalised.
    Returns:
      [*B] float32 >= 0 up to rounding; infinite where pi has mass and pi_ref has none.
    Raises:
      AssertionError: shapes differ (at trace time).
    """
    chex.assert_equal_shape([logits, ref_logits])
    logps = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    ref_logps = jax.nn.log_softmax(ref_logits.astype(jnp.float32), axis=-1)
    probs = jnp.exp(logps)
    gap = jnp.where(probs > 0, logps - ref_logps, 0.0)
    return jnp.sum(probs * gap, axis=-1)


def k1(logps: Float[Array, "*S"], ref_logps: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """k1 = log pi - log pi_ref at samples from pi: unbiased for KL(pi || pi_ref), may be negative.

    As a reward penalty (no gradient through it) it gives the exact gradient of KL(pi || pi_ref);
    differentiated as a loss, its expected gradient is 0.

    Args:
      logps, ref_logps: [*S] nats, of one step or of a whole sequence.
    Returns:
      [*S].
    Raises:
      AssertionError: shapes differ (at trace time).
    Reference: Schulman 2020, "Approximating KL divergence".
    """
    chex.assert_equal_shape([logps, ref_logps])
    return logps - ref_logps


def k2(logps: Float[Array, "*S"], ref_logps: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """k2 = (log pi - log pi_ref)^2 / 2 at samples from pi: biased, small variance.

    Differentiated as a loss, its expected gradient is exactly that of KL(pi || pi_ref).
    Arguments, shapes and reference as in `k1`.
    """
    return 0.5 * k1(logps, ref_logps) ** 2


def k3(logps: Float[Array, "*S"], ref_logps: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """k3 = pi_ref / pi - 1 + log(pi / pi_ref) at samples from pi: unbiased, >= 0.

    Differentiated as a loss, its expected gradient is that of the *forward* KL(pi_ref || pi).
    Arguments, shapes and reference as in `k1`. The exponent stops at 40, so the result is finite.
    """
    gap = k1(ref_logps, logps)
    return jnp.expm1(jnp.minimum(gap, MAX_LOG_RATIO)) - gap
