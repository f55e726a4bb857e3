"""Contextual bandits with known rewards: all answers, and all pairs of them, can be enumerated."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from rlhf_jax.types import Trajectory, record


@record
class Bandit:
    """rewards: [S, A] float32 of each action in each state; ref_logits: [S, A] float32 of the
    reference policy.

    A bandit without contexts has S = 1.
    """

    rewards: Array
    ref_logits: Array


def random_bandit(key: jax.Array, *, num_states: int, num_actions: int) -> Bandit:
    """Rewards and reference logits drawn from a standard normal."""
    reward_key, ref_key = jax.random.split(key)
    shape = (num_states, num_actions)
    return Bandit(jax.random.normal(reward_key, shape), jax.random.normal(ref_key, shape))


def preference_matrix(rewards: Float[Array, "*B A"]) -> Float[Array, "*B A A"]:
    """Bradley-Terry preferences: P(a beats b) = sigmoid(r_a - r_b), row beats column."""
    return jax.nn.sigmoid(rewards[..., :, None] - rewards[..., None, :])


def all_actions(num_states: int, num_actions: int) -> tuple[Int[Array, "S A"], Int[Array, "S A"]]:
    """State id and action id of every answer, each [S, A]."""
    states, actions = jnp.meshgrid(jnp.arange(num_states), jnp.arange(num_actions), indexing="ij")
    return states, actions


def bandit_trajectory(states: Int[Array, "*B"], actions: Int[Array, "*B"]) -> Trajectory:
    """One-step trajectories: inputs and actions [*B, 1], every step counted."""
    mask = jnp.ones((*actions.shape, 1), bool)
    return Trajectory(states[..., None], actions[..., None], mask)
