"""HG-DAgger on a table: in each state, the action the expert took most often while in control."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from rlhf_jax.ops.bellman import greedy_policy


class DaggerState(NamedTuple):
    """counts: [S, A] how often the expert took each action."""

    counts: Array


def init_dagger(num_states: int, num_actions: int) -> DaggerState:
    """All counts 0."""
    return DaggerState(jnp.zeros((num_states, num_actions)))


def majority_policy(state: DaggerState) -> Float[Array, "S A"]:
    """Log-probs of the majority action; ties are uniform, and so are states without labels."""
    return greedy_policy(state.counts)


def majority_action(
    key: Key[Array, ""], state: DaggerState, place: Int[Array, ""]
) -> Int[Array, ""]:
    """An action of `majority_policy` in state `place`."""
    return jax.random.categorical(key, greedy_policy(state.counts[place]))


def update_dagger(
    state: DaggerState, place: Int[Array, ""], action: Int[Array, ""], labelled: Bool[Array, ""]
) -> DaggerState:
    """Counts the action if it is the expert's (`labelled`); the learner's own steps are ignored.

    Reference: Kelly et al. 2019 (HG-DAgger), arXiv:1810.02890; on a table, the classifier fitted to
      the aggregated data is the majority vote.
    """
    return DaggerState(state.counts.at[place, action].add(jnp.where(labelled, 1.0, 0.0)))
