"""Q-learning on a table, one transition at a time."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from rlhf_jax.checks import check_range
from rlhf_jax.ops.bellman import greedy_policy
from rlhf_jax.types import Scalar


class QState(NamedTuple):
    """action_values: [S, A] Q; counts: [S, A] number of updates of each entry."""

    action_values: Array
    counts: Array


class Transition(NamedTuple):
    """One step. discount: gamma, or 0 if next_state is terminal. valid: if False, an update with it
    changes nothing."""

    state: Int[Array, ""]
    action: Int[Array, ""]
    reward: Scalar
    next_state: Int[Array, ""]
    discount: Scalar
    valid: Bool[Array, ""]


def init_q(num_states: int, num_actions: int) -> QState:
    """All zeros; optimistic if rewards are never positive."""
    zeros = jnp.zeros((num_states, num_actions))
    return QState(zeros, zeros)


def greedy_q_policy(state: QState) -> Float[Array, "S A"]:
    """Log-probs of the greedy policy, uniform over ties."""
    return greedy_policy(state.action_values)


def greedy_q_action(
    key: Key[Array, ""], state: QState, place: Int[Array, ""], *, explore: Scalar
) -> Int[Array, ""]:
    """The greedy action in state `place`, ties at random; with probability `explore` any action."""
    check_range("[0, 1]", explore=explore)
    values = state.action_values[place]
    explore_key, any_key, tie_key = jax.random.split(key, 3)
    greedy = jax.random.categorical(tie_key, greedy_policy(values))
    uniform = jax.random.randint(any_key, (), 0, values.shape[-1])
    return jnp.where(jax.random.uniform(explore_key) < explore, uniform, greedy)


def update_q(
    state: QState, seen: Transition, *, power: Scalar = 0.6, least: Scalar = 0.02
) -> QState:
    """Q(s, a) += alpha (r + discount max_b Q(s', b) - Q(s, a)), alpha = max(n(s, a)^-power, least).

    Args:
      state: one table; use `jax.vmap` for several.
      seen: one transition. n includes it, so the first one sets Q to its target.
      power: in (0, 1]; above 0.5 Q converges at least = 0. May be traced.
      least: smallest step size, >= 0. May be traced.
    Reference: Watkins and Dayan 1992.
    """
    check_range("(0, 1]", power=power)
    check_range("[0, inf)", least=least)
    at = (seen.state, seen.action)
    counts = state.counts.at[at].add(jnp.where(seen.valid, 1.0, 0.0))
    rate = jnp.maximum(jnp.maximum(counts[at], 1.0) ** -power, least)
    target = seen.reward + seen.discount * jnp.max(state.action_values[seen.next_state])
    change = jnp.where(seen.valid, rate * (target - state.action_values[at]), 0.0)
    return QState(state.action_values.at[at].add(change), counts)
