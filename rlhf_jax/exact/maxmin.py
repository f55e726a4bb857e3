"""The policy that is best for the worst-off group, on a table.

Shared arguments:
  rewards: [S, A, k] r_u(x, y) of every answer to each of k groups; prompts count alike.
  ref_logits: [S, A] of pi_ref, unnormalised.
  beta: KL weight > 0, in the unit of the rewards. May be traced.

Group u is served by F_u(pi) = E_x[E_pi r_u - beta KL(pi || pi_ref)]. The KL is the same for all
groups, so with r_w = w . r and w in the simplex

    max_pi min_u F_u = min_w g(w),   g(w) = beta E_x log sum_y pi_ref exp(r_w / beta),

and the policy is pi_ref exp(r_w* / beta) / Z at the least favourable w*: a linear scalarisation
with the right weights. Groups that have weight are served alike, the others better.
"""

from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.checks import check_range
from rlhf_jax.exact.bandit import regularised_optimum
from rlhf_jax.ops.aggregate import exponentiated_weights, weighted_rewards
from rlhf_jax.ops.kl import exact_kl
from rlhf_jax.types import Scalar


class MaxMin(NamedTuple):
    """logps [S, A] of the policy, its weights [k], values [k] F_u, and gaps [steps + 1] >= 0 of
    the primal and the dual value before each step and at the end, the certificate."""

    logps: Float[Array, "S A"]
    weights: Float[Array, " k"]
    values: Float[Array, " k"]
    gaps: Float[Array, " n"]


def group_objectives(
    logps: Float[Array, "S A"],
    rewards: Float[Array, "S A k"],
    ref_logits: Float[Array, "S A"],
    *,
    beta: Scalar,
) -> Float[Array, " k"]:
    """F_u(pi) = E_x[E_pi r_u - beta KL(pi || pi_ref)] of each group, [k]."""
    chex.assert_equal_shape([logps, ref_logits, rewards[..., 0]])
    found = jnp.einsum("sa,sak->k", jnp.exp(logps), rewards) / logps.shape[0]
    return found - beta * jnp.mean(exact_kl(logps, jax.nn.log_softmax(ref_logits)))


def weighted_optimum(
    weights: Float[Array, " k"],
    rewards: Float[Array, "S A k"],
    ref_logits: Float[Array, "S A"],
    *,
    beta: Scalar,
) -> Float[Array, "S A"]:
    """log of the policy that maximises sum_u w_u F_u: `regularised_optimum` of w . r."""
    return regularised_optimum(weighted_rewards(rewards, weights), ref_logits, beta=beta)


def maxmin_optimum(
    rewards: Float[Array, "S A k"],
    ref_logits: Float[Array, "S A"],
    *,
    beta: Scalar,
    eta: Scalar,
    steps: int,
) -> MaxMin:
    """argmax_pi min_u F_u, by exponentiated gradient on the dual from uniform weights.

    w_u <- w_u exp(-eta F_u(pi_w)) / Z,   gap = g(w) - min_u F_u(pi_w) = sum_u w_u F_u - min_u F_u.

    Args:
      eta: step > 0. The dual falls at every step if eta max |r_u - r_v|^2 is at most 4 beta; a
        larger one may cycle, and the gaps show it.
      steps: of the weights.
    Reference: Chakraborty et al. 2024, arXiv:2402.08925, Eq. 8, whose Algorithm 1 takes
      subgradients of the policy's parameters.
    """
    check_range("(0, inf)", beta=beta, eta=eta)
    check_range("[1, inf)", steps=steps)
    policy = partial(weighted_optimum, rewards=rewards, ref_logits=ref_logits, beta=beta)
    values = partial(group_objectives, rewards=rewards, ref_logits=ref_logits, beta=beta)

    def gap(weights: Array, found: Array) -> Array:
        return weights @ (found - jnp.min(found))

    def step(weights: Array, _: None) -> tuple[Array, Array]:
        found = values(policy(weights))
        return exponentiated_weights(weights, found, eta=eta), gap(weights, found)

    start = jnp.full(rewards.shape[-1], 1.0 / rewards.shape[-1], rewards.dtype)
    weights, gaps = jax.lax.scan(step, start, None, length=steps)
    logps = policy(weights)
    found = values(logps)
    return MaxMin(logps, weights, found, jnp.append(gaps, gap(weights, found)))
