"""Exact solutions of discounted MDPs: policies by linear solves, optima by policy iteration.

Policies are log-probs [*B, S, A], -inf where they never act. Linear solves cost S^3 and do not mind
a discount of 0.999; for tables too large for them see `exact.value_iteration`. All functions take
free leading axes, jit and vmap; in float64 under `jax.enable_x64(True)`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.envs.tabular_mdp import DiscountedMDP
from rlhf_jax.ops.bellman import (
    expected_values,
    greedy_policy,
    policy_values,
    soft_policy,
    soft_values,
)
from rlhf_jax.ops.linear_systems import solve

Scalar = float | int | Float[Array, ""]
MAX_SWEEPS = 200  # of policy iteration, which needs about ten


class Solution(NamedTuple):
    """values: [*B, S]; action_values: [*B, S, A]; logps: [*B, S, A] the policy they belong to."""

    values: Array
    action_values: Array
    logps: Array


def evaluate(
    mdp: DiscountedMDP,
    logps: Float[Array, "*B S A"],
    *,
    ref_logps: Float[Array, "*B S A"] | None = None,
    beta: Scalar = 0.0,
) -> Solution:
    """Values of a policy, by a linear solve.

    V = (I - gamma P_pi)^{-1} (r_pi - beta KL(pi || ref)),   Q = r + gamma P V.

    Args:
      logps: [*B, S, A] log pi.
      ref_logps: [*B, S, A] log ref; None leaves the KL term out.
      beta: KL weight >= 0. May be traced.
    Returns:
      Solution, differentiable in rewards, transitions, gamma and policy.
    """
    rewards = policy_values(mdp.rewards, logps, ref_logps, beta=beta)
    values = _resolve(mdp, logps, rewards[..., None])[..., 0]
    return Solution(values, _action_values(mdp, values), logps)


def _resolve(
    mdp: DiscountedMDP, logps: Float[Array, "*B S A"], right: Float[Array, "*B S d"]
) -> Float[Array, "*B S d"]:
    """(I - gamma P_pi)^{-1} right."""
    eye = jnp.eye(logps.shape[-2], dtype=right.dtype)
    moves = jnp.einsum("...ij,...ijk->...ik", jnp.exp(logps), mdp.transitions)
    return solve(eye - _gamma(mdp, 2) * moves, right)


def _gamma(mdp: DiscountedMDP, axes: int) -> Array:
    """gamma [*B] with `axes` axes of one behind."""
    return jnp.expand_dims(jnp.asarray(mdp.gamma), tuple(range(-axes, 0)))


def _action_values(mdp: DiscountedMDP, values: Float[Array, "*B S"]) -> Float[Array, "*B S A"]:
    return mdp.rewards + _gamma(mdp, 2) * expected_values(mdp.transitions, values)


def optimal(mdp: DiscountedMDP) -> Solution:
    """V = max_a Q, by policy iteration: evaluate exactly, change an action where another is better.

    An action counts as better, and in the end as no tie, from 8 eps max|Q| / (1 - gamma) on, about
    the error of the linear solve.

    Returns:
      Solution; its policy is uniform over the best actions, its values are those of one of them.
      `bellman_residual` certifies it.
    """

    def tolerance(action_values):
        eps = jnp.finfo(action_values.dtype).eps
        size = jnp.max(jnp.abs(action_values), axis=(-2, -1), keepdims=True)
        return 8 * eps * size / (1 - _gamma(mdp, 2))

    def improve(logps):
        action_values = evaluate(mdp, logps).action_values
        # Only one action has log-prob 0; the current one stays unless another is clearly better.
        held = action_values + jnp.where(logps == 0, tolerance(action_values), 0.0)
        best = jnp.argmax(held, axis=-1)
        return jnp.where(jax.nn.one_hot(best, logps.shape[-1], dtype=bool), 0.0, -jnp.inf)

    first = jnp.argmax(mdp.rewards, axis=-1)
    start = jnp.where(jax.nn.one_hot(first, mdp.rewards.shape[-1], dtype=bool), 0.0, -jnp.inf)
    start = start.astype(mdp.rewards.dtype)
    found = evaluate(mdp, _until_still(improve, start, tolerance=0.0))
    logps = greedy_policy(found.action_values, tolerance=tolerance(found.action_values))
    return found._replace(logps=logps)


def soft_optimal(
    mdp: DiscountedMDP, ref_logps: Float[Array, "*B S A"], *, beta: Scalar
) -> Solution:
    """The policy that maximises return - beta KL to a reference, by soft policy iteration.

    V = beta log sum_a ref exp(Q / beta),   pi = ref exp((Q - V) / beta),   Q = r + gamma P V.
    Each sweep evaluates the policy exactly, which is Newton's method on the soft Bellman equation.

    Args:
      ref_logps: [*B, S, A] log ref; zeros give max-ent, where A* = Q - V = beta log pi.
      beta: KL weight > 0. May be traced.
    Returns:
      Solution with V the soft value of its Q.
    """

    def improve(logps):
        found = evaluate(mdp, logps, ref_logps=ref_logps, beta=beta)
        return soft_policy(found.action_values, ref_logps, beta=beta)

    eps = float(jnp.finfo(mdp.rewards.dtype).eps)
    last = _until_still(improve, jax.nn.log_softmax(ref_logps, axis=-1), tolerance=64 * eps)
    found = evaluate(mdp, last, ref_logps=ref_logps, beta=beta)
    return Solution(
        soft_values(found.action_values, ref_logps, beta=beta),
        found.action_values,
        soft_policy(found.action_values, ref_logps, beta=beta),
    )


def _until_still(improve: Callable[[Array], Array], start: Array, *, tolerance: Scalar) -> Array:
    """logps after repeated `improve`, until no probability moves by more than the tolerance."""

    def going(carry):
        sweeps, moved, _ = carry
        return (moved > tolerance) & (sweeps < MAX_SWEEPS)

    def step(carry):
        sweeps, _, logps = carry
        new = improve(logps)
        return sweeps + 1, jnp.max(jnp.abs(jnp.exp(new) - jnp.exp(logps))), new

    moved = jnp.full((), jnp.inf, start.dtype)
    return jax.lax.while_loop(going, step, (0, moved, start))[-1]


def differentiable_optimal(mdp: DiscountedMDP) -> Solution:
    """`optimal` with the gradient of the envelope theorem: V* moves as its policy's value does.

    dV*/dw = dV^pi*/dw with pi* held still, so for rewards <w, phi> the gradient of V*(s) is
    `successor_features` of pi*.
    """
    return evaluate(mdp, jax.lax.stop_gradient(optimal(jax.lax.stop_gradient(mdp)).logps))


def advantages(solution: Solution) -> Float[Array, "*B S A"]:
    """A(s, a) = Q(s, a) - V(s); of an optimum <= 0, minus the regret of taking a in s."""
    return solution.action_values - solution.values[..., None]


def occupancy(mdp: DiscountedMDP, logps: Float[Array, "*B S A"]) -> Float[Array, "*B S"]:
    """d(s) = (1 - gamma) sum_t gamma^t P(s_t = s), by a linear solve; sums to 1."""
    eye = jnp.eye(logps.shape[-2], dtype=mdp.initial.dtype)
    moves = jnp.einsum("...ij,...ijk->...ki", jnp.exp(logps), mdp.transitions)
    right = (1 - _gamma(mdp, 1)) * mdp.initial
    return solve(eye - _gamma(mdp, 2) * moves, right[..., None])[..., 0]


def policy_return(mdp: DiscountedMDP, logps: Float[Array, "*B S A"]) -> Float[Array, "*B"]:
    """J(pi) = E[sum_t gamma^t r_t] from the initial law."""
    return jnp.sum(mdp.initial * evaluate(mdp, logps).values, axis=-1)


def regret(mdp: DiscountedMDP, logps: Float[Array, "*B S A"]) -> Float[Array, "*B"]:
    """J(pi*) - J(pi) >= 0: how far a policy is from a best response to these rewards."""
    best = jnp.sum(mdp.initial * optimal(mdp).values, axis=-1)
    return best - policy_return(mdp, logps)


def successor_features(
    mdp: DiscountedMDP, logps: Float[Array, "*B S A"], features: Float[Array, "*B S A d"]
) -> Float[Array, "*B S d"]:
    """psi(s) = E_pi[sum_t gamma^t phi(s_t, a_t) | s_0 = s] = (I - gamma P_pi)^{-1} phi_pi.

    Args:
      logps: [*B, S, A] log pi.
      features: [*B, S, A, d] phi.
    Returns:
      [*B, S, d]; for rewards <phi, w>, V = <psi, w>.
    """
    return _resolve(mdp, logps, jnp.einsum("...ij,...ijd->...id", jnp.exp(logps), features))


def bellman_residual(
    mdp: DiscountedMDP,
    values: Float[Array, "*B S"],
    *,
    ref_logps: Float[Array, "*B S A"] | None = None,
    beta: Scalar = 0.0,
) -> Float[Array, "*B"]:
    """max_s |V - T V|, a certificate: |V - V*| <= residual / (1 - gamma), everywhere.

    Args:
      values: [*B, S] claimed optimal values.
      ref_logps, beta: of the soft problem; None for the hard one.
    Returns:
      [*B] in the unit of rewards, 0 for an exact solution.
    """
    action_values = _action_values(mdp, values)
    if ref_logps is None:
        backed_up = jnp.max(action_values, axis=-1)
    else:
        backed_up = soft_values(action_values, ref_logps, beta=beta)
    return jnp.max(jnp.abs(values - backed_up), axis=-1)
