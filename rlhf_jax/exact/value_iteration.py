"""Planning by sweeps, for tables too large for a linear solve; dense or sparse transitions.

A dense sweep reads every transition once, a sparse one only the possible ones. Both return a bound
on the error, (gamma c + 2 eps max|V|) / (1 - gamma), where c is the change of the last sweep and
the second term its rounding error.

A sweep that adds d(s) to the values is followed by a shift of all of them, gamma / (1 - gamma)
(min d + max d) / 2, which is what later sweeps would add to a constant d. What is left of the error
shrinks as fast as the states of the MDP mix, and never slower than gamma^k. Rows of transitions
that sum to less than 1 are allowed: the shift ends once changes shrink slower than by gamma.

Reference: MacQueen 1966, "A modified dynamic programming method for Markovian decision problems",
  for the bounds of which the shift is the middle.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.checks import check_range
from rlhf_jax.ops.bellman import backup_rounding, expected_values
from rlhf_jax.ops.linear_systems import einsum
from rlhf_jax.types import Scalar


class SparseTransitions(NamedTuple):
    """successors: [*B, S, A, K] int, possible next states; probs: [*B, S, A, K] their
    probabilities, 0 if there are fewer than K."""

    successors: Array
    probs: Array


class Sweeps(NamedTuple):
    """values: [*B, S]; error: [*B] bound on max_s |V - V_true|; sweeps: number of sweeps."""

    values: Array
    error: Array
    sweeps: Array


def next_values(
    transitions: Array | SparseTransitions, values: Float[Array, "*B S"]
) -> Float[Array, "*B S A"]:
    """E[V(s') | s, a], from dense [*B, S, A, S] or sparse transitions."""
    if not isinstance(transitions, SparseTransitions):
        return expected_values(transitions, values)
    successors, probs = transitions
    lead = probs.shape[:-3]
    flat = jnp.take_along_axis(values, successors.reshape(*lead, -1), axis=-1)
    return jnp.sum(probs * flat.reshape(probs.shape), axis=-1)


def sparsify(transitions: Float[Array, "*B S A S"], *, successors: int) -> SparseTransitions:
    """The K largest transitions of every state and action, in order of probability.

    Args:
      transitions: [*B, S, A, S].
      successors: K, at least the number of possible next states of every pair; otherwise the rows
        no longer sum to 1.
    """
    probs, places = jax.lax.top_k(transitions, successors)
    return SparseTransitions(places, probs)


def value_iteration(
    transitions: Array | SparseTransitions,
    rewards: Float[Array, "*B S A"],
    *,
    gamma: Scalar,
    tolerance: Scalar,
    max_sweeps: int = 100_000,
) -> Sweeps:
    """V* of a discounted MDP: V <- max_a r + gamma P V, shifted, until the error bound is small.

    Args:
      transitions: [*B, S, A, S], or SparseTransitions.
      rewards: [*B, S, A].
      gamma: discount in [0, 1). May be traced.
      tolerance: stop when the error bound is at most this, in the unit of values; >= 0. May be
        traced.
      max_sweeps: upper limit.
    Returns:
      Sweeps. `error` exceeds the tolerance if max_sweeps was reached, or if nothing changes any
      more; rounding keeps it above 2 eps max|V| / (1 - gamma).
    """

    def backup(values):
        return jnp.max(rewards + gamma * next_values(transitions, values), axis=-1)

    first = jnp.max(rewards, axis=-1)
    return _sweep(backup, first, gamma=gamma, tolerance=tolerance, max_sweeps=max_sweeps)


def policy_evaluation(
    transitions: Array | SparseTransitions,
    rewards: Float[Array, "*B S A"],
    logps: Float[Array, "*B S A"],
    *,
    gamma: Scalar,
    tolerance: Scalar,
    max_sweeps: int = 100_000,
) -> Sweeps:
    """V^pi of a discounted MDP: V <- r_pi + gamma P_pi V, shifted, until the error bound is small.

    P_pi is computed once, so a dense sweep reads A times less than in value iteration; a sparse
    sweep reads as much.

    Args:
      logps: [*B, S, A] log pi.
      transitions, rewards, gamma, tolerance, max_sweeps: as in `value_iteration`.
    Returns:
      Sweeps.
    """
    probs = jnp.exp(logps)
    paid = jnp.sum(probs * rewards, axis=-1)
    if isinstance(transitions, SparseTransitions):
        followed = transitions._replace(probs=probs[..., None] * transitions.probs)

        def backup(values):
            return paid + gamma * jnp.sum(next_values(followed, values), axis=-1)
    else:
        moves = einsum("...ij,...ijk->...ik", probs, transitions)

        def backup(values):
            return paid + gamma * einsum("...ik,...k->...i", moves, values)

    return _sweep(backup, paid, gamma=gamma, tolerance=tolerance, max_sweeps=max_sweeps)


def _sweep(
    backup: Callable[[Array], Array],
    first: Float[Array, "*B S"],
    *,
    gamma: Scalar,
    tolerance: Scalar,
    max_sweeps: int,
) -> Sweeps:
    """Sweeps of a gamma-contraction until the error bound of every batch element is at most the
    tolerance, or none of the others changes any more. `first` is the backup of zeros."""
    check_range("[0, 1)", gamma=gamma)
    check_range("[0, inf)", tolerance=tolerance)

    def going(carry):
        _, found, moved, _ = carry
        return jnp.any((found.error > tolerance) & (moved > 0)) & (found.sweeps < max_sweeps)

    def step(carry):
        start, found, moved_before, shrinking = carry
        values = backup(start)
        change = values - start
        moved = jnp.max(jnp.abs(change), axis=-1)
        error = (gamma * moved + backup_rounding(values)) / (1 - gamma)
        shrinking &= moved <= gamma * moved_before
        shift = jnp.where(shrinking, _shift(change, gamma), 0.0)
        found = Sweeps(values, error, found.sweeps + 1)
        return values + shift[..., None], found, moved, shrinking

    many = jnp.full(first.shape[:-1], jnp.finfo(first.dtype).max)
    start = first + _shift(first, gamma)[..., None]
    found = Sweeps(first, jnp.full_like(many, jnp.inf), jnp.zeros((), jnp.int32))
    carry = (start, found, many, jnp.ones_like(many, bool))
    return jax.lax.while_loop(going, step, carry)[1]


def _shift(change: Float[Array, "*B S"], gamma: Scalar) -> Float[Array, "*B"]:
    """Half way between the least and the most that further sweeps can add to the values."""
    middle = (jnp.min(change, axis=-1) + jnp.max(change, axis=-1)) / 2
    return gamma / (1 - gamma) * middle
