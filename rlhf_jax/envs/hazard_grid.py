"""A slippery grid with one goal and absorbing hazards, for a teacher who intervenes."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from rlhf_jax.envs.tabular_mdp import DiscountedMDP

MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))  # up, down, left, right


def grid_successors(height: int, width: int) -> np.ndarray:
    """The cell that each of the four moves leads to; a move off the board stays in place.

    Returns:
      [S, 4] int, S = height * width, state = row * width + column.
    Raises:
      ValueError: a side below 1.
    """
    if min(height, width) < 1:
        raise ValueError(f"height and width must be >= 1, got {height} x {width}")
    cells = np.indices((height, width)).reshape(2, -1, 1) + np.asarray(MOVES).T[:, None]
    rows, columns = np.clip(cells[0], 0, height - 1), np.clip(cells[1], 0, width - 1)
    return rows * width + columns


def slippery_transitions(successors: np.ndarray, *, slip: float | int) -> Float[Array, "S A S"]:
    """P(s' | s, a) = (1 - slip) [s' = next(s, a)] + slip mean_b [s' = next(s, b)].

    Args:
      successors: [S, A] cells that the moves lead to.
      slip: probability in [0, 1] that a uniform move (possibly the same) replaces the chosen one.
    Raises:
      ValueError: slip outside [0, 1].
    """
    if not 0 <= slip <= 1:
        raise ValueError(f"slip must be in [0, 1], got {slip}")
    sure = jax.nn.one_hot(successors, len(successors), dtype=float)
    return (1 - slip) * sure + slip * jnp.mean(sure, axis=1, keepdims=True)


def hazard_grid(
    key: Key[Array, ""],
    *,
    size: int = 8,
    num_hazards: int = 8,
    slip: float | int = 0.1,
    gamma: float | int = 0.95,
) -> DiscountedMDP:
    """A size x size grid: the last cell is the goal, and hazards end the episode without reward.

    r(s, a) = P(goal | s, a), so V*(s) <= 1 is the discounted probability of reaching the goal. Goal
    and hazards absorb and pay 0; the first state is uniform over the other cells. Hazards are never
    on the first cell, the goal, or its two neighbours. They may enclose a cell, with V* = 0.

    Args:
      key: draws the hazards; use `jax.vmap` over keys for a batch of grids.
      size: side >= 2.
      num_hazards: >= 0.
      slip: as in `slippery_transitions`.
      gamma: discount in [0, 1).
    Returns:
      DiscountedMDP with S = size^2 and A = 4 (up, down, left, right).
    Raises:
      ValueError: a size below 2, more hazards than cells for them, slip outside [0, 1].
    """
    states = size * size
    allowed = np.setdiff1d(np.arange(1, states), [states - 1, states - 2, states - 1 - size])
    if size < 2 or not 0 <= num_hazards <= len(allowed):
        raise ValueError(
            f"size must be >= 2 with 0 to {len(allowed)} hazards, got {size} and {num_hazards}"
        )
    goal = states - 1
    hazards = jax.random.choice(key, jnp.asarray(allowed), (num_hazards,), replace=False)
    ends = jnp.zeros(states, bool).at[hazards].set(True).at[goal].set(True)
    moves = slippery_transitions(grid_successors(size, size), slip=slip)
    transitions = jnp.where(ends[:, None, None], jnp.eye(states)[:, None], moves)
    return DiscountedMDP(
        transitions=transitions,
        rewards=jnp.where(ends[:, None], 0.0, transitions[..., goal]),
        initial=jnp.where(ends, 0.0, 1.0) / jnp.sum(~ends),
        gamma=jnp.asarray(gamma, float),
    )
