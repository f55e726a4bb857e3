"""The optimum of a table under a limit on its mean cost, by bisection on the multiplier."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.checks import check_range
from rlhf_jax.exact.bandit import regularised_optimum
from rlhf_jax.types import Scalar

LOG_MULTIPLIERS, BISECTIONS = 16.0, 40  # lambda times spread of costs / beta, up to e^16


class ConstrainedOptimum(NamedTuple):
    """multiplier: lambda*, 0 where the limit does not bind, NaN where no policy meets it.
    logps: [S, A] of the policy. cost: its mean."""

    multiplier: Float[Array, ""]
    logps: Float[Array, "S A"]
    cost: Float[Array, ""]


def constrained_optimum(
    rewards: Float[Array, "S A"],
    costs: Float[Array, "S A"],
    ref_logits: Float[Array, "S A"],
    state_probs: Float[Array, " S"],
    *,
    beta: Scalar,
    threshold: Scalar,
) -> ConstrainedOptimum:
    """argmax of E r - beta KL(pi || pi_ref) over policies with E c <= tau.

    pi_lambda(a | x) = pi_ref(a | x) exp((r - lambda c) / beta) / Z,   and lambda* >= 0 solves
    E_{pi_lambda} c = tau; the left side falls in lambda, at rate E_x Var_{pi_lambda}(c | x) / beta.

    Args:
      state_probs: [S] of the prompts, sums to 1.
      beta: > 0. threshold: tau. Both may be traced.
    Reference: HC-RLHF, arXiv:2506.08266, for the constraint; derived.
    """
    check_range("(0, inf)", beta=beta)
    chex.assert_equal_shape([rewards, costs, ref_logits])
    spread = jnp.maximum(jnp.max(costs) - jnp.min(costs), jnp.finfo(costs.dtype).tiny)

    def solved(multiplier: Array) -> tuple[Array, Array]:
        logps = regularised_optimum(rewards - multiplier * costs, ref_logits, beta=beta)
        return logps, state_probs @ jnp.sum(jnp.exp(logps) * costs, axis=-1)

    def unit(log: Array) -> Array:
        return jnp.exp(log) * beta / spread

    def halve(_: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = 0.5 * (low + high)
        above = solved(unit(middle))[1] > threshold
        return jnp.where(above, middle, low), jnp.where(above, high, middle)

    ends = (jnp.asarray(-LOG_MULTIPLIERS), jnp.asarray(LOG_MULTIPLIERS))
    found = unit(jax.lax.fori_loop(0, BISECTIONS, halve, ends)[1])
    possible = solved(unit(ends[1]))[1] <= threshold
    binding = solved(jnp.zeros(()))[1] > threshold
    multiplier = jnp.where(binding, jnp.where(possible, found, jnp.nan), 0.0)
    return ConstrainedOptimum(multiplier, *solved(multiplier))
