"""Exact solutions of discounted MDPs: policies by linear solves, optima by policy iteration.

Policies are log-probs [*B, S, A], -inf for actions that are never taken. Linear solves cost S^3 for
every discount, also 0.999; for larger tables see `exact.value_iteration`. All functions work with
free leading axes, jit and vmap, and in float64 under `jax.enable_x64(True)`. gamma outside [0, 1)
is a ValueError; a traced gamma is not checked.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from rlhf_jax.checks import check_entries
from rlhf_jax.envs.tabular_mdp import DiscountedMDP
from rlhf_jax.ops.bellman import (
    backup_rounding,
    expected_values,
    greedy_policy,
    policy_values,
    soft_policy,
    soft_values,
)
from rlhf_jax.ops.linear_systems import einsum, solve
from rlhf_jax.types import Scalar


class Solution(NamedTuple):
    """logps: [*B, S, A] a policy; values: [*B, S] and action_values: [*B, S, A] of that policy."""

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
    moves = einsum("...ij,...ijk->...ik", jnp.exp(logps), mdp.transitions)
    return solve(eye - _gamma(mdp, 2) * moves, right)


def _gamma(mdp: DiscountedMDP, axes: int) -> Array:
    """gamma [*B] with `axes` more axes of length 1 at the end."""
    check_entries("[0, 1)", gamma=mdp.gamma)
    return jnp.expand_dims(jnp.asarray(mdp.gamma), tuple(range(-axes, 0)))


def _action_values(mdp: DiscountedMDP, values: Float[Array, "*B S"]) -> Float[Array, "*B S A"]:
    return mdp.rewards + _gamma(mdp, 2) * expected_values(mdp.transitions, values)


def optimal(mdp: DiscountedMDP, start_logps: Float[Array, "*B S A"] | None = None) -> Solution:
    """V = max_a Q, by policy iteration: evaluate exactly, then change actions that can be improved.

    An action is better than another only if its gain exceeds 4 eps max_a (|r| + gamma P |V|), the
    rounding error of V in that state; smaller differences are ties.

    Args:
      start_logps: [*B, S, A] policy to begin with, e.g. the optimum for other rewards: a good one
        saves sweeps. None begins with the largest reward of each state.
    Returns:
      Solution with the policy that is uniform over the best actions; its values are those of
      `evaluate`, certified by `bellman_residual`.
    """

    plain = _levelled(mdp)

    def improve(found):
        # The current action (log-prob 0) is kept unless another is better by more than rounding;
        # otherwise equally good actions could alternate.
        values = found.values
        held = _gains(plain, values) + jnp.where(found.logps == 0, _ties(plain, values), 0)
        return _always(jnp.argmax(held, axis=-1), like=mdp.rewards)

    start = start_logps
    if start is None:
        start = _always(jnp.argmax(mdp.rewards, axis=-1), like=mdp.rewards)
    values = evaluate(plain, _climb(lambda logps: evaluate(plain, logps), improve, start)).values
    return evaluate(mdp, greedy_policy(_gains(plain, values), tolerance=_ties(plain, values)))


def _levelled(mdp: DiscountedMDP) -> DiscountedMDP:
    """The MDP with rewards centred at 0. A constant reward c changes no policy, but it adds
    c / (1 - gamma) to V, which would round the gains away."""
    low, high = (f(mdp.rewards, axis=(-2, -1), keepdims=True) for f in (jnp.min, jnp.max))
    return replace(mdp, rewards=mdp.rewards - (low + high) / 2)


def _always(actions: Int[Array, "*B S"], *, like: Float[Array, "*B S A"]) -> Float[Array, "*B S A"]:
    """Log-probs of the deterministic policy with these actions."""
    taken = jax.nn.one_hot(actions, like.shape[-1], dtype=bool)
    return jnp.where(taken, 0.0, -jnp.inf).astype(like.dtype)


def _gains(mdp: DiscountedMDP, values: Float[Array, "*B S"]) -> Float[Array, "*B S A"]:
    """Q - V = r - (1 - gamma) V(s) + gamma sum_s' P(s' | s, a) (V(s') - V(s)).

    Near gamma = 1 all values are about r / (1 - gamma) and nearly equal, while gains have the size
    of r. So values are subtracted before the sum; after it, rounding would hide the gains.
    """
    gaps = values[..., None, :] - values[..., None]
    ahead = einsum("...ijk,...ik->...ij", mdp.transitions, gaps)
    kept = (1 - _gamma(mdp, 1)) * values
    return mdp.rewards - kept[..., None] + _gamma(mdp, 2) * ahead


def _ties(mdp: DiscountedMDP, values: Float[Array, "*B S"]) -> Float[Array, "*B S 1"]:
    """Largest gain that rounding can produce between equally good actions."""
    ahead = _gamma(mdp, 2) * expected_values(mdp.transitions, jnp.abs(values))
    sizes = jnp.max(jnp.abs(mdp.rewards) + ahead, axis=-1, keepdims=True)
    return 4 * jnp.finfo(values.dtype).eps * sizes


def soft_optimal(
    mdp: DiscountedMDP, ref_logps: Float[Array, "*B S A"], *, beta: Scalar
) -> Solution:
    """The policy that maximises return - beta KL to a reference, by soft policy iteration.

    V = beta log sum_a ref exp(Q / beta),   pi = ref exp((Q - V) / beta),   Q = r + gamma P V.
    Each sweep evaluates the policy exactly, which is Newton's method on the soft Bellman equation.

    Args:
      ref_logps: [*B, S, A] log ref; zeros give the maximum-entropy optimum, A* = Q - V = beta log
        pi.
      beta: KL weight > 0. May be traced, and then is not checked.
    Returns:
      Solution with the policy and its soft values, as in `evaluate`.
    """

    plain = _levelled(mdp)

    def evaluated(logps):
        return evaluate(plain, logps, ref_logps=ref_logps, beta=beta)

    def improve(found):
        return soft_policy(_gains(plain, found.values), ref_logps, beta=beta)

    logps = _climb(evaluated, improve, jax.nn.log_softmax(ref_logps, axis=-1))
    return evaluate(mdp, logps, ref_logps=ref_logps, beta=beta)


def _climb(
    evaluated: Callable[[Array], Solution],
    improve: Callable[[Solution], Array],
    logps: Float[Array, "*B S A"],
) -> Float[Array, "*B S A"]:
    """logps after repeated `improve`, until no value exceeds its highest value so far.

    In exact arithmetic values never fall, so the policy is optimal when none rises. With rounding,
    equally good policies could alternate; this rule still ends, because floats are finitely many.
    """

    def step(carry):
        logps, highest, _ = carry
        found = evaluated(logps)
        rising = jnp.any(found.values > highest)
        return improve(found), jnp.maximum(highest, found.values), rising

    lowest = jnp.full(logps.shape[:-1], -jnp.inf, logps.dtype)
    return jax.lax.while_loop(lambda carry: carry[-1], step, (logps, lowest, jnp.array(True)))[0]


def differentiable_optimal(mdp: DiscountedMDP) -> Solution:
    """`optimal`, differentiable by the envelope theorem.

    dV*/dw = dV^pi*/dw with pi* fixed, so for rewards <w, phi> the gradient of V*(s) is the
    `successor_features` of pi*.
    """
    return evaluate(mdp, jax.lax.stop_gradient(optimal(jax.lax.stop_gradient(mdp)).logps))


def advantages(solution: Solution) -> Float[Array, "*B S A"]:
    """A(s, a) = Q(s, a) - V(s); for an optimum, minus the regret of taking a in s."""
    return solution.action_values - solution.values[..., None]


def occupancy(mdp: DiscountedMDP, logps: Float[Array, "*B S A"]) -> Float[Array, "*B S"]:
    """d(s) = (1 - gamma) sum_t gamma^t P(s_t = s), by a linear solve; sums to 1."""
    eye = jnp.eye(logps.shape[-2], dtype=mdp.initial.dtype)
    moves = einsum("...ij,...ijk->...ki", jnp.exp(logps), mdp.transitions)
    right = (1 - _gamma(mdp, 1)) * mdp.initial
    return solve(eye - _gamma(mdp, 2) * moves, right[..., None])[..., 0]


def policy_return(mdp: DiscountedMDP, logps: Float[Array, "*B S A"]) -> Float[Array, "*B"]:
    """J(pi) = E[sum_t gamma^t r_t] from the initial distribution."""
    return jnp.sum(mdp.initial * evaluate(mdp, logps).values, axis=-1)


def regret(mdp: DiscountedMDP, logps: Float[Array, "*B S A"]) -> Float[Array, "*B"]:
    """J(pi*) - J(pi), >= 0 up to rounding."""
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
    return _resolve(mdp, logps, einsum("...ij,...ijd->...id", jnp.exp(logps), features))


def bellman_residual(
    mdp: DiscountedMDP,
    values: Float[Array, "*B S"],
    *,
    ref_logps: Float[Array, "*B S A"] | None = None,
    beta: Scalar = 0.0,
) -> Float[Array, "*B"]:
    """A certificate c = max_s |V - T V| + 2 eps max_s |V|: |V - V*| <= c / (1 - gamma) everywhere.

    The second term bounds the rounding error of T V.

    Args:
      values: [*B, S] claimed optimal values.
      ref_logps, beta: of the soft problem; None for the hard one.
    Returns:
      [*B] in the unit of rewards; slightly above 2 eps max |V| for an exact solution.
    """
    action_values = _action_values(mdp, values)
    if ref_logps is None:
        backed_up = jnp.max(action_values, axis=-1)
    else:
        backed_up = soft_values(action_values, ref_logps, beta=beta)
    return jnp.max(jnp.abs(values - backed_up), axis=-1) + backup_rounding(values)
