"""Tables in other layouts as a `DiscountedMDP`, on the host: from NumPy to checked JAX arrays."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rlhf_jax.envs.tabular_mdp import DiscountedMDP, check_mdp


def expected_rewards(transitions: ArrayLike, rewards: ArrayLike) -> np.ndarray:
    """r(s, a) = sum_s' P(s' | s, a) r(s, a, s'): [*B, S, A] of two arrays [*B, S, A, S].

    Rewards of impossible steps do not count, even if NaN.

    Raises:
      ValueError: shapes differ.
    """
    probs, values = np.asarray(transitions), np.asarray(rewards)
    if probs.shape != values.shape:
        raise ValueError(
            f"transitions and rewards must have one shape, got {probs.shape} and {values.shape}"
        )
    return np.sum(probs * np.where(probs == 0, 0, values), axis=-1)


def from_mdptoolbox(
    transitions: ArrayLike, rewards: ArrayLike, *, initial: ArrayLike, gamma: float
) -> DiscountedMDP:
    """An MDP from tables with the action first, as in pymdptoolbox.

    Args:
      transitions: [A, S, S] P(s' | s, a) at [a, s, s'].
      rewards: [A, S, S] r(s, a, s') at [a, s, s'], [S, A] r(s, a), or [S] r(s).
      initial: [S] distribution of the first state.
      gamma: discount in [0, 1).
    Raises:
      ValueError: shapes that do not fit, or what `check_mdp` refuses.
    """
    probs, values = np.asarray(transitions), np.asarray(rewards)
    if probs.ndim != 3 or probs.shape[1] != probs.shape[2]:
        raise ValueError(f"transitions must have shape [A, S, S], got {probs.shape}")
    actions, states = probs.shape[:2]
    if values.shape not in (probs.shape, (states, actions), (states,)):
        raise ValueError(
            f"rewards must have shape {probs.shape}, {(states, actions)} or {(states,)}, "
            f"got {values.shape}"
        )
    probs = np.moveaxis(probs, 0, 1)
    if values.ndim == 3:
        values = expected_rewards(probs, np.moveaxis(values, 0, 1))
    elif values.ndim == 1:
        values = np.repeat(values[:, None], actions, axis=1)
    mdp = DiscountedMDP(probs, values, initial, gamma)  # ty: ignore[invalid-argument-type]
    return check_mdp(mdp)


def from_gymnasium(env: Any, *, gamma: float) -> DiscountedMDP:
    """A toy-text world of Gymnasium (FrozenLake, CliffWalking, Taxi) as tables of S + 1 states.

    The last state is the end: every step that terminates leads to it, and it absorbs and pays 0.
    (In Gymnasium's table a terminal state has moves of its own, so it cannot be the absorbing
    state.)

    Args:
      env: an environment from `gymnasium.make`.
      gamma: discount in [0, 1).
    Raises:
      ValueError: a world without a table, or what `check_mdp` refuses.
    Departs: no end at the time limit.
    """
    world = env.unwrapped
    if not hasattr(world, "P") or not hasattr(world, "initial_state_distrib"):
        raise ValueError(
            f"{type(world).__name__} must have its table as P[state][action] and its first state "
            "as initial_state_distrib, like FrozenLake, CliffWalking and Taxi"
        )
    table = world.P  # [state][action]: a list of (probability, next state, reward, terminated)
    end, actions = len(table), max(map(len, table.values()))
    transitions = np.zeros((end + 1, actions, end + 1))
    rewards = np.zeros((end + 1, actions))
    transitions[end, :, end] = 1.0
    for state, action in np.ndindex(end, actions):
        for prob, following, reward, terminated in table[state][action]:
            transitions[state, action, end if terminated else following] += prob
            rewards[state, action] += prob * reward
    initial = np.append(world.initial_state_distrib, 0.0)
    mdp = DiscountedMDP(transitions, rewards, initial, gamma)  # ty: ignore[invalid-argument-type]
    return check_mdp(mdp)
