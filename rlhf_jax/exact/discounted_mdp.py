"""Exact solutions of discounted MDPs: policies by linear solves, optima by policy iteration.

Policies are log-probs [*B, S, A], -inf where they never act. Linear solves cost S^3 and do not mind
a discount of 0.999; for tables too large for them see `exact.value_iteration`. All functions take
free leading axes, jit and vmap; in float64 under `jax.enable_x64(True)`. gamma outside [0, 1) is a
ValueError; a traced one is not checked.
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
    moves = einsum("...ij,...ijk->...ik", jnp.exp(logps), mdp.transitions)
    return solve(eye - _gamma(mdp, 2) * moves, right)


def _gamma(mdp: DiscountedMDP, axes: int) -> Array:
    """gamma [*B] with `axes` axes of one behind."""
    check_entries("[0, 1)", gamma=mdp.gamma)
    return jnp.expand_dims(jnp.asarray(mdp.gamma), tuple(range(-axes, 0)))


def _action_values(mdp: DiscountedMDP, values: Float[Array, "*B S"]) -> Float[Array, "*B S A"]:
    return mdp.rewards + _gamma(mdp, 2) * expected_values(mdp.transitions, values)


def optimal(mdp: DiscountedMDP) -> Solution:
    """V = max_a Q, by policy iteration: evaluate exactly, change an action where another is better.

    An action counts as better, and in the end as no tie, from 4 eps max_a (|r| + gamma P |V|) of
    its state on, which is the rounding of V. No digit of the gain is lost to the size of V.

    Returns:
      Solution, of the policy that is uniform over the best actions: its values are those of
      `evaluate`, and `bellman_residual` certifies them and it.
    """

    plain = _levelled(mdp)

    def improve(found):
        # Only one action has log-prob 0; the current one stays unless another is clearly better.
        values = found.values
        held = _gains(plain, values) + jnp.where(found.logps == 0, _ties(plain, values), 0)
        return _always(jnp.argmax(held, axis=-1), like=mdp.rewards)

    start = _always(jnp.argmax(mdp.rewards, axis=-1), like=mdp.rewards)
    values = evaluate(plain, _climb(lambda logps: evaluate(plain, logps), improve, start)).values
    return evaluate(mdp, greedy_policy(_gains(plain, values), tolerance=_ties(plain, values)))


def _levelled(mdp: DiscountedMDP) -> DiscountedMDP:
    """The MDP with rewards around 0. What is paid everywhere, c, changes no policy, but as a part
    of V, c / (1 - gamma), it would round the gains away."""
    low, high = (f(mdp.rewards, axis=(-2, -1), keepdims=True) for f in (jnp.min, jnp.max))
    return replace(mdp, rewards=mdp.rewards - (low + high) / 2)


def _always(actions: Int[Array, "*B S"], *, like: Float[Array, "*B S A"]) -> Float[Array, "*B S A"]:
    """log of the policy that takes one action in each state."""
    taken = jax.nn.one_hot(actions, like.shape[-1], dtype=bool)
    return jnp.where(taken, 0.0, -jnp.inf).astype(like.dtype)


def _gains(mdp: DiscountedMDP, values: Float[Array, "*B S"]) -> Float[Array, "*B S A"]:
    """Q - V = r - (1 - gamma) V(s) + gamma sum_s' P(s' | s, a) (V(s') - V(s)).

    Near gamma = 1 values are alike and as large as r / (1 - gamma), while gains are of the size of
    r: differences of values come before the sum, which would round them away.
    """
    gaps = values[..., None, :] - values[..., None]
    ahead = einsum("...ijk,...ik->...ij", mdp.transitions, gaps)
    kept = (1 - _gamma(mdp, 1)) * values
    return mdp.rewards - kept[..., None] + _gamma(mdp, 2) * ahead


def _ties(mdp: DiscountedMDP, values: Float[Array, "*B S"]) -> Float[Array, "*B S 1"]:
    """Gains that rounding may show between actions that are equally good."""
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
      ref_logps: [*B, S, A] log ref; zeros give max-ent, where A* = Q - V = beta log pi.
      beta: KL weight > 0. May be traced, and then is not checked.
    Returns:
      Solution: the policy with its own soft values, as `evaluate` gives them.
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
    """logps after repeated `improve`, until no state's value is higher than ever before.

    In exact arithmetic no value falls, so nothing changes any more once none rises. Rounding can
    make equally good policies take turns, which ends there too: floats are finitely many.
    """

    def step(carry):
        logps, highest, _ = carry
        found = evaluated(logps)
        rising = jnp.any(found.values > highest)
        return improve(found), jnp.maximum(highest, found.values), rising

    lowest = jnp.full(logps.shape[:-1], -jnp.inf, logps.dtype)
    return jax.lax.while_loop(lambda carry: carry[-1], step, (logps, lowest, jnp.array(True)))[0]


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
    moves = einsum("...ij,...ijk->...ki", jnp.exp(logps), mdp.transitions)
    right = (1 - _gamma(mdp, 1)) * mdp.initial
    return solve(eye - _gamma(mdp, 2) * moves, right[..., None])[..., 0]


def policy_return(mdp: DiscountedMDP, logps: Float[Array, "*B S A"]) -> Float[Array, "*B"]:
    """J(pi) = E[sum_t gamma^t r_t] from the initial law."""
    return jnp.sum(mdp.initial * evaluate(mdp, logps).values, axis=-1)


def regret(mdp: DiscountedMDP, logps: Float[Array, "*B S A"]) -> Float[Array, "*B"]:
    """J(pi*) - J(pi) >= 0 up to rounding: what a best response to these rewards gains."""
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
    """max_s |V - T V| + 2 eps max_s |V|, a certificate: |V - V*| <= it / (1 - gamma), everywhere.

    The second term is the rounding of T V, which hides as much of the first.

    Args:
      values: [*B, S] claimed optimal values.
      ref_logps, beta: of the soft problem; None for the hard one.
    Returns:
      [*B] in the unit of rewards, little above 2 eps max |V| for an exact solution.
    """
    action_values = _action_values(mdp, values)
    if ref_logps is None:
        backed_up = jnp.max(action_values, axis=-1)
    else:
        backed_up = soft_values(action_values, ref_logps, beta=beta)
    return jnp.max(jnp.abs(values - backed_up), axis=-1) + backup_rounding(values)
