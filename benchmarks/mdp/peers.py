"""The same plans written by others: NumPy, in two orders, and QuantEcon's `DiscreteDP`."""

import importlib
import importlib.util

import numpy as np

from benchmarks.mdp.worlds import ACTIONS, GAMMA, Dense, Sparse


def quantecon_is_there() -> bool:
    """Whether the peer is installed (`pip install quantecon`)."""
    return importlib.util.find_spec("quantecon") is not None


def numpy_values(world: Dense, *, sweeps: int, shifted: bool = False) -> np.ndarray:
    """Value iteration on all MDPs at once: one batched product per sweep.

    Args:
      shifted: shift the values after each sweep as the library does.
    """
    flat, rewards, discounted = _prepared(world)
    start, values = np.float32(0.0), np.max(rewards, axis=-1)
    backed = np.empty((*flat.shape[:-1], 1), np.float32)
    for _ in range(sweeps):
        start = values + _shift(values - start) if shifted else values
        np.matmul(flat, start[..., None], out=backed)
        np.multiply(backed, discounted, out=backed)
        np.max(backed.reshape(rewards.shape) + rewards, axis=-1, out=values)
    return values


def numpy_values_one_by_one(world: Dense, *, sweeps: int, shifted: bool = False) -> np.ndarray:
    """One MDP after another, so that its transitions stay in the cache."""
    flat, rewards, discounted = _prepared(world)
    found = np.empty(rewards.shape[:-1], np.float32)
    backed = np.empty(flat.shape[-2], np.float32)
    for i in range(len(flat)):
        start, values = np.float32(0.0), np.max(rewards[i], axis=-1)
        for _ in range(sweeps):
            start = values + _shift(values - start) if shifted else values
            np.dot(flat[i], start, out=backed)
            np.multiply(backed, discounted, out=backed)
            np.max(backed.reshape(rewards[i].shape) + rewards[i], axis=-1, out=values)
        found[i] = values
    return found


def _shift(change: np.ndarray) -> np.ndarray:
    """What later sweeps would add to a constant change, at the middle of this one."""
    middle = (change.min(-1, keepdims=True) + change.max(-1, keepdims=True)) / 2
    return np.float32(GAMMA / (1 - GAMMA)) * middle


def _prepared(world: Dense) -> tuple[np.ndarray, np.ndarray, np.float32]:
    lead, states = world.rewards.shape[:-2], world.rewards.shape[-2]
    flat = world.transitions.reshape(*lead, states * ACTIONS, states)
    return flat, world.rewards, np.float32(GAMMA)


def numpy_policy(world: Dense) -> np.ndarray:
    """Values of the uniform policy by LAPACK, all systems in one call."""
    moves, paid = world.transitions.mean(-2), world.rewards.mean(-1)
    system = np.eye(moves.shape[-1], dtype=np.float32) - np.float32(GAMMA) * moves
    return np.linalg.solve(system, paid[..., None])[..., 0]


def numpy_sparse_values(world: Sparse, *, sweeps: int) -> np.ndarray:
    """Shifted value iteration with gathers, one MDP after another."""
    found = np.empty(world.rewards.shape[:-1], np.float32)
    for i, (places, probs, rewards) in enumerate(
        zip(world.successors, world.probs, world.rewards, strict=True)
    ):
        start, values = np.float32(0.0), np.max(rewards, axis=-1)
        for _ in range(sweeps):
            start = values + _shift(values - start)
            following = np.einsum("sak,sak->sa", probs, start[places])
            values = np.max(rewards + np.float32(GAMMA) * following, axis=-1)
        found[i] = values
    return found


def quantecon_values(world: Dense, *, tolerance: float, method: str) -> np.ndarray:
    """`DiscreteDP.solve` one MDP after another; stops by its own rule at tolerance / 2."""
    problem = importlib.import_module("quantecon.markov").DiscreteDP
    found = [
        problem(rewards, transitions, GAMMA).solve(method=method, epsilon=2 * tolerance).v
        for rewards, transitions in zip(world.rewards, world.transitions, strict=True)
    ]
    return np.stack(found)
