"""Bellman backups: one step of dynamic programming, for exact planners and sampled algorithms.

Soft backups follow V = beta log sum_a ref(a) exp(Q(a) / beta), the value of the best policy when
every step costs beta KL(pi || ref). With ref_logps = 0 in place of log-probs the cost is minus
beta times the entropy (max-ent); that differs from a uniform reference by beta log A per step.

Shared arguments and results, unless a function says otherwise:
  action_values: [*B, A] Q.
  logps: [*B, A] log pi, -inf where it never acts.
  ref_logps: [*B, A] log ref, -inf where it never acts; zeros for max-ent.
  beta: KL weight, > 0, in the unit of Q. May be traced.
Policies are log-probs [*B, A] in nats, normalised. Shapes are checked at trace time.
"""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.checks import check_entries, check_range
from rlhf_jax.ops.linear_systems import einsum
from rlhf_jax.ops.logprobs import above_underflow, tempered
from rlhf_jax.types import Scalar


def expected_values(
    transitions: Float[Array, "*B S A S"], values: Float[Array, "*B S"]
) -> Float[Array, "*B S A"]:
    """E[V(s') | s, a] = sum_s' P(s' | s, a) V(s'), at full precision on every device.

    Args:
      transitions: [*B, S, A, S] P, rows sum to 1.
      values: [*B, S] V of the next states.
    """
    return einsum("...ijk,...k->...ij", transitions, values)


def backup_rounding(values: Float[Array, "*B S"]) -> Float[Array, "*B"]:
    """2 eps max_s |V|: bounds the rounding of a backup r + gamma P V; a term of certificates."""
    return 2 * jnp.finfo(values.dtype).eps * jnp.max(jnp.abs(values), axis=-1)


def soft_values(
    action_values: Float[Array, "*B A"], ref_logps: Float[Array, "*B A"], *, beta: Scalar
) -> Float[Array, "*B"]:
    """V = beta log sum_a ref(a) exp(Q(a) / beta) = max_pi E_pi[Q] - beta KL(pi || ref).

    The gradient in Q is the soft-optimal policy.
    """
    check_range("(0, inf)", beta=beta)
    chex.assert_equal_shape([action_values, ref_logps])
    beta = above_underflow(beta, action_values.dtype)
    # `tempered` subtracts the peak and the last line adds it, both without gradient: it cancels.
    highest = jax.lax.stop_gradient(jnp.max(action_values, axis=-1))
    relative = ref_logps + tempered(action_values, temperature=beta)
    return highest + beta * jax.nn.logsumexp(relative, axis=-1)


def soft_policy(
    action_values: Float[Array, "*B A"], ref_logps: Float[Array, "*B A"], *, beta: Scalar
) -> Float[Array, "*B A"]:
    """log pi(a), pi(a) = ref(a) exp((Q(a) - V) / beta), V = soft_values(Q)."""
    check_range("(0, inf)", beta=beta)
    chex.assert_equal_shape([action_values, ref_logps])
    return jax.nn.log_softmax(ref_logps + tempered(action_values, temperature=beta), axis=-1)


def greedy_policy(
    action_values: Float[Array, "*B A"], *, tolerance: Scalar | Float[Array, "..."] = 0.0
) -> Float[Array, "*B A"]:
    """Log-probs of the policy that is uniform over the best actions, -inf for the others.

    Args:
      tolerance: actions within this of the maximum count as best, in the unit of Q; >= 0.
    """
    check_entries("[0, inf)", tolerance=tolerance)
    best = action_values >= jnp.max(action_values, axis=-1, keepdims=True) - tolerance
    count = jnp.sum(best, axis=-1, keepdims=True).astype(action_values.dtype)
    return jnp.where(best, -jnp.log(count), -jnp.inf)


def policy_values(
    action_values: Float[Array, "*B A"],
    logps: Float[Array, "*B A"],
    ref_logps: Float[Array, "*B A"] | None = None,
    *,
    beta: Scalar = 0.0,
) -> Float[Array, "*B"]:
    """V = sum_a pi(a) Q(a) - beta KL(pi || ref); -inf where pi acts and ref never does.

    Args:
      ref_logps: [*B, A] log ref; None leaves the KL out.
      beta: KL weight, >= 0.
    """
    check_range("[0, inf)", beta=beta)
    chex.assert_equal_shape([action_values, logps])
    probs = jnp.exp(logps)
    payoff = jnp.sum(probs * action_values, axis=-1)
    if ref_logps is None:
        return payoff
    chex.assert_equal_shape([logps, ref_logps])
    acts = logps > -jnp.inf
    # Before the product: 0 times -inf would be NaN.
    gaps = jnp.where(acts, jnp.where(acts, logps, 0.0) - jnp.where(acts, ref_logps, 0.0), 0.0)
    return payoff - beta * jnp.sum(probs * gaps, axis=-1)
