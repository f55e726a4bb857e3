"""HG-DAgger on a table: do what the expert mostly did there while it was in control."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from rlhf_jax.ops.bellman import greedy_policy


class DaggerState(NamedTuple):
    """counts: [S, A] how often the expert took each action."""

    counts: Array


def init_dagger(num_states: int, num_actions: int) -> DaggerState:
    """Nothing seen."""
    return DaggerState(jnp.zeros((num_states, num_actions)))


def majority_policy(state: DaggerState) -> Float[Array, "S A"]:
    """log of the majority action, uniform over ties and so wherever nothing was labelled."""
    return greedy_policy(state.counts)


def majority_action(
    key: Key[Array, ""], state: DaggerState, place: Int[Array, ""]
) -> Int[Array, ""]:
    """An action of `majority_policy` in `place`."""
    return jax.random.categorical(key, greedy_policy(state.counts[place]))


def update_dagger(
    state: DaggerState, place: Int[Array, ""], action: Int[Array, ""], labelled: Bool[Array, ""]
) -> DaggerState:
    """Counts one action of the expert, if `labelled`; the learner's own steps teach nothing.

    Reference: Kelly et al. 2019 (HG-DAgger), arXiv:1810.02890; on a table the classifier of the
      aggregated data is its majority.
    """
    return DaggerState(state.counts.at[place, action].add(jnp.where(labelled, 1.0, 0.0)))
