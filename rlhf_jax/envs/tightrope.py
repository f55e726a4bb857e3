"""The tightrope: one action keeps the balance, all others lead away from it; actions may slip.

It separates imitation from planning. A cloned policy has never seen how to come back, so a small
rate of slips costs it the square of the horizon; a planner comes back at once.
"""

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from rlhf_jax.envs.tabular_mdp import FiniteMDP
from rlhf_jax.types import Scalar


class Tightrope(NamedTuple):
    """mdp: `FiniteMDP` over offsets 0..S - 1, reward -offset / (S - 1) at every step, start at 0.
    expert: [H, S, A] log-probs, 0 at the one action that leads back and -inf elsewhere."""

    mdp: FiniteMDP
    expert: Array


def tightrope(
    key: Key[Array, ""], *, horizon: int, num_offsets: int = 9, num_actions: int = 4
) -> Tightrope:
    """At offset o one random action leads to max(o - 1, 0), every other to min(o + 1, S - 1).

    Args:
      key: draws the right action of each offset.
      horizon: H >= 1 steps.
      num_offsets: S >= 2.
      num_actions: A >= 2.
    Returns:
      Tightrope with deterministic moves; `with_slips` adds slips.
    Raises:
      ValueError: a size that is too small.
    """
    if horizon < 1 or num_offsets < 2 or num_actions < 2:
        raise ValueError(
            "horizon must be >= 1, num_offsets and num_actions >= 2, got "
            f"{horizon}, {num_offsets}, {num_actions}"
        )
    offsets = jnp.arange(num_offsets)
    right = jax.random.randint(key, (num_offsets, 1), 0, num_actions) == jnp.arange(num_actions)
    back, away = jnp.maximum(offsets - 1, 0), jnp.minimum(offsets + 1, num_offsets - 1)
    following = jnp.where(right, back[:, None], away[:, None])
    transitions = jax.nn.one_hot(following, num_offsets)
    rewards = jnp.broadcast_to(-offsets[:, None] / (num_offsets - 1), right.shape)

    def every_step(table):
        return jnp.broadcast_to(table, (horizon, *table.shape))

    mdp = FiniteMDP(every_step(transitions), every_step(rewards), jax.nn.one_hot(0, num_offsets))
    return Tightrope(mdp, every_step(jnp.where(right, 0.0, -jnp.inf)))


def with_slips(mdp: FiniteMDP, slip: Scalar) -> FiniteMDP:
    """The MDP in which every action is replaced by a uniform one with probability `slip`.

    P'(s' | s, a) = (1 - slip) P(s' | s, a) + slip mean_b P(s' | s, b), and r' likewise.

    A policy has the same return here as `slipping(policy)` in the old MDP, but episodes record the
    intended actions.

    Args:
      slip: in [0, 1]. May be traced.
    """

    def mixed(table, axis):
        return (1.0 - slip) * table + slip * jnp.mean(table, axis=axis, keepdims=True)

    return replace(mdp, transitions=mixed(mdp.transitions, -2), rewards=mixed(mdp.rewards, -1))


def slipping(logps: Float[Array, "*B A"], slip: Scalar) -> Float[Array, "*B A"]:
    """The policy that acts uniformly with probability `slip`: pi' = (1 - slip) pi + slip / A.

    Args:
      logps: [*B, A] log pi, -inf allowed.
      slip: in [0, 1]. May be traced.
    Returns:
      [*B, A] log pi'; finite for slip > 0.
    """
    return jnp.log((1.0 - slip) * jnp.exp(logps) + slip / logps.shape[-1])
