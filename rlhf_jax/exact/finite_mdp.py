"""Exact solutions of MDPs with a finite horizon, by backward induction.

Policies are log-probs [*B, H, S, A], -inf for actions that are never taken. All functions work with
free leading axes, jit and vmap, and in float64 under `jax.enable_x64(True)`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.envs.tabular_mdp import FiniteMDP
from rlhf_jax.ops.bellman import (
    backup_rounding,
    expected_values,
    greedy_policy,
    policy_values,
    soft_policy,
    soft_values,
)
from rlhf_jax.ops.linear_systems import einsum
from rlhf_jax.types import Scalar


class Solution(NamedTuple):
    """logps: [*B, H, S, A] a policy; values: [*B, H + 1, S] V_h, the last row 0, and action_values:
    [*B, H, S, A] Q_h of that policy."""

    values: Array
    action_values: Array
    logps: Array


def evaluate(
    mdp: FiniteMDP,
    logps: Float[Array, "*B H S A"],
    *,
    ref_logps: Float[Array, "*B H S A"] | None = None,
    beta: Scalar = 0.0,
) -> Solution:
    """Values of a policy.

    Q_h = r_h + P_h V_{h+1},   V_h = sum_a pi_h Q_h - beta KL(pi_h || ref_h),   V_{H+1} = 0.

    Args:
      logps: [*B, H, S, A] log pi.
      ref_logps: [*B, H, S, A] log ref; None leaves the KL term out.
      beta: KL weight >= 0. May be traced.
    Returns:
      Solution, differentiable in rewards, transitions and policy.
    """
    extras = (logps,) if ref_logps is None else (logps, ref_logps)

    def choose(action_values, extras):
        return policy_values(action_values, *extras, beta=beta), extras[0]

    return _backwards(mdp, choose, extras)


def optimal(mdp: FiniteMDP) -> Solution:
    """Value iteration: V_h = max_a Q_h, Q_h = r_h + P_h V_{h+1}.

    Returns:
      Solution; its policy is uniform over the best actions.
    """

    def choose(action_values, _):
        return jnp.max(action_values, axis=-1), greedy_policy(action_values)

    return _backwards(mdp, choose, ())


def soft_optimal(mdp: FiniteMDP, ref_logps: Float[Array, "*B H S A"], *, beta: Scalar) -> Solution:
    """The policy that maximises return - beta KL to a reference, at every step.

    V_h = beta log sum_a ref_h exp(Q_h / beta),   pi_h = ref_h exp((Q_h - V_h) / beta).

    Args:
      ref_logps: [*B, H, S, A] log ref; zeros give the maximum-entropy optimum (weight beta).
      beta: KL weight > 0. May be traced, and then is not checked.
    Returns:
      Solution. H = 1 is `exact.bandit.regularised_optimum`; beta to 0 is `optimal`, beta to
      infinity the reference.
    Reference: KL-regularised dynamic programming, e.g. Tiapkin et al. 2023, arXiv:2310.17303.
    """

    def choose(action_values, extras):
        (ref,) = extras
        logps = soft_policy(action_values, ref, beta=beta)
        return soft_values(action_values, ref, beta=beta), logps

    return _backwards(mdp, choose, (ref_logps,))


def _backwards(
    mdp: FiniteMDP, choose: Callable[..., tuple[Array, Array]], extras: tuple[Array, ...]
) -> Solution:
    """One scan from the last step to the first; `choose(Q_h, extras_h) -> (V_h, log pi_h)`."""

    def step(values, now):
        transitions, rewards, extras = now
        action_values = rewards + expected_values(transitions, values)
        values, logps = choose(action_values, extras)
        return values, (values, action_values, logps)

    tables = tuple(jnp.moveaxis(x, -3, 0) for x in extras)
    now = (jnp.moveaxis(mdp.transitions, -4, 0), jnp.moveaxis(mdp.rewards, -3, 0), tables)
    last = jnp.zeros_like(mdp.rewards[..., 0, :, 0])
    _, (values, action_values, logps) = jax.lax.scan(step, last, now, reverse=True)
    values = jnp.concatenate([values, last[None]])
    return Solution(
        jnp.moveaxis(values, 0, -2), jnp.moveaxis(action_values, 0, -3), jnp.moveaxis(logps, 0, -3)
    )


def advantages(solution: Solution) -> Float[Array, "*B H S A"]:
    """A_h(s, a) = Q_h(s, a) - V_h(s); for an optimum, minus the regret of taking a in s."""
    return solution.action_values - solution.values[..., :-1, :, None]


def occupancy(mdp: FiniteMDP, logps: Float[Array, "*B H S A"]) -> Float[Array, "*B H S"]:
    """d_h(s) = P(s_h = s), forwards from the initial distribution.

    d_{h+1}(s') = sum_{s,a} d_h(s) pi_h(a | s) P_h(s' | s, a).

    Returns:
      [*B, H, S], each row sums to 1. sum_h <d_h pi_h, r_h> is the return.
    """

    def step(law, now):
        transitions, logps = now
        joint = law[..., None] * jnp.exp(logps)
        return einsum("...ij,...ijk->...k", joint, transitions), law

    now = (jnp.moveaxis(mdp.transitions, -4, 0), jnp.moveaxis(logps, -3, 0))
    _, laws = jax.lax.scan(step, mdp.initial, now)
    return jnp.moveaxis(laws, 0, -2)


def policy_return(mdp: FiniteMDP, logps: Float[Array, "*B H S A"]) -> Float[Array, "*B"]:
    """J(pi) = E[sum_h r_h] from the initial distribution."""
    return _at_start(mdp, evaluate(mdp, logps))


def regret(mdp: FiniteMDP, logps: Float[Array, "*B H S A"]) -> Float[Array, "*B"]:
    """J(pi*) - J(pi), >= 0 up to rounding."""
    return _at_start(mdp, optimal(mdp)) - policy_return(mdp, logps)


def _at_start(mdp: FiniteMDP, solution: Solution) -> Float[Array, "*B"]:
    return jnp.sum(mdp.initial * solution.values[..., 0, :], axis=-1)


def trajectory_kl(
    mdp: FiniteMDP, logps: Float[Array, "*B H S A"], ref_logps: Float[Array, "*B H S A"]
) -> Float[Array, "*B"]:
    """KL between the distributions of whole episodes.

    sum_h E_{s ~ d_h^pi} KL(pi_h(. | s) || ref_h(. | s)).

    Args:
      logps: [*B, H, S, A] log pi.
      ref_logps: [*B, H, S, A] log ref.
    Returns:
      [*B] nats, >= 0; inf if pi takes an action that ref never takes. States that pi never visits
      do not count.
    Reference: Tiapkin et al. 2023, arXiv:2310.17303.
    """
    kls = -policy_values(jnp.zeros_like(logps), logps, ref_logps, beta=1.0)
    laws = occupancy(mdp, logps)
    return jnp.sum(laws * jnp.where(laws > 0, kls, 0.0), axis=(-2, -1))


def bellman_residual(
    mdp: FiniteMDP,
    values: Float[Array, "*B G S"],
    *,
    ref_logps: Float[Array, "*B H S A"] | None = None,
    beta: Scalar = 0.0,
) -> Float[Array, "*B"]:
    """A certificate c = max |V_h - (T V)_h| + 2 eps max |V|: |V_h - V*_h| <= (H - h + 1) c.

    The second term bounds the rounding error of T V.

    Args:
      values: [*B, H + 1, S] claimed optimal values.
      ref_logps, beta: of the soft problem; None for the hard one.
    Returns:
      [*B] in the unit of rewards; slightly above 2 eps max |V| for an exact solution.
    """
    action_values = mdp.rewards + expected_values(mdp.transitions, values[..., 1:, :])
    if ref_logps is None:
        backed_up = jnp.max(action_values, axis=-1)
    else:
        backed_up = soft_values(action_values, ref_logps, beta=beta)
    inner = jnp.max(jnp.abs(values[..., :-1, :] - backed_up), axis=(-2, -1))
    residual = jnp.maximum(inner, jnp.max(jnp.abs(values[..., -1, :]), axis=-1))
    return residual + jnp.max(backup_rounding(values), axis=-1)
