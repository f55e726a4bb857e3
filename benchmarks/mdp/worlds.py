"""Random MDPs in NumPy, float32, so that no peer starts from the library's arrays."""

from typing import NamedTuple

import numpy as np

ACTIONS = 10
GAMMA = 0.95


class Dense(NamedTuple):
    """transitions: [*B, S, A, S]; rewards: [*B, S, A] in [0, 1]."""

    transitions: np.ndarray
    rewards: np.ndarray


class Sparse(NamedTuple):
    """successors, probs: [*B, S, A, K]; rewards: [*B, S, A] in [0, 1]."""

    successors: np.ndarray
    probs: np.ndarray
    rewards: np.ndarray


def dense(lead: tuple[int, ...], states: int) -> Dense:
    """Every next state can follow."""
    rng = np.random.default_rng(0)
    shape = (*lead, states, ACTIONS)
    transitions = rng.random((*shape, states), dtype=np.float32)
    transitions /= transitions.sum(-1, keepdims=True)
    return Dense(transitions, rng.random(shape, dtype=np.float32))


def sparse(lead: tuple[int, ...], states: int, successors: int) -> Sparse:
    """Few next states can follow, anywhere in the table."""
    rng = np.random.default_rng(0)
    shape = (*lead, states, ACTIONS)
    probs = rng.random((*shape, successors), dtype=np.float32)
    probs /= probs.sum(-1, keepdims=True)
    places = rng.integers(0, states, (*shape, successors), dtype=np.int32)
    return Sparse(places, probs, rng.random(shape, dtype=np.float32))


def uniform_logps(rewards: np.ndarray) -> np.ndarray:
    """The policy that is evaluated."""
    return np.full_like(rewards, -np.log(ACTIONS))
