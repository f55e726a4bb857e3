"""Random MDPs in NumPy, float32, so that no peer starts from the library's arrays."""

from typing import NamedTuple

import numpy as np

ACTIONS = 10
GAMMA = 0.95


class Dense(NamedTuple):
    """transitions: [*B, S, A, S]; rewards: [*B, S, A] in [0, 2]."""

    transitions: np.ndarray
    rewards: np.ndarray


class Sparse(NamedTuple):
    """successors, probs: [*B, S, A, K]; rewards: [*B, S, A] in [0, 2]."""

    successors: np.ndarray
    probs: np.ndarray
    rewards: np.ndarray


def dense(lead: tuple[int, ...], states: int, *, apart: bool = False) -> Dense:
    """Every next state can follow.

    Args:
      apart: only within each half of the states, and the second half earns 1 more: the shifts of
        value iteration save no sweep, so that any number of sweeps has something left to do.
    """
    rng = np.random.default_rng(0)
    shape = (*lead, states, ACTIONS)
    transitions = rng.random((*shape, states), dtype=np.float32)
    rewards = rng.random(shape, dtype=np.float32)
    if apart:
        half = states // 2
        transitions[..., :half, :, half:] = 0.0
        transitions[..., half:, :, :half] = 0.0
        rewards[..., half:, :] += 1.0
    transitions /= transitions.sum(-1, keepdims=True)
    return Dense(transitions, rewards)


def sparse(lead: tuple[int, ...], states: int, successors: int) -> Sparse:
    """Few next states can follow, anywhere in the same half of the states, as in `dense(apart)`."""
    rng = np.random.default_rng(0)
    shape, half = (*lead, states, ACTIONS), states // 2
    probs = rng.random((*shape, successors), dtype=np.float32)
    probs /= probs.sum(-1, keepdims=True)
    places = rng.integers(0, half, (*shape, successors), dtype=np.int32)
    rewards = rng.random(shape, dtype=np.float32)
    places[..., half:, :, :] += half
    rewards[..., half:, :] += 1.0
    return Sparse(places, probs, rewards)


def uniform_logps(rewards: np.ndarray) -> np.ndarray:
    """The policy that is evaluated."""
    return np.full_like(rewards, -np.log(ACTIONS))
