"""A grid with a block of forbidden cells between the start and a goal of several cells."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from rlhf_jax.envs.hazard_grid import grid_successors, slippery_transitions
from rlhf_jax.envs.tabular_mdp import DiscountedMDP

SIDE = 14
START = (7, 0)
WALL_ROWS, WALL_COLUMNS = (4, 9), (5, 8)  # first and last
GOAL_ROWS, GOAL_COLUMN = (2, 11), SIDE - 1
NUM_STATES = SIDE * SIDE


class WalledGrid(NamedTuple):
    """mdp: -1 per step until an end, S = 196 (row * 14 + column), A = 4 (up, down, left, right).
    goal, walls: [S] bool; both end the episode, and the rewards do not tell them apart."""

    mdp: DiscountedMDP
    goal: Bool[Array, " S"]
    walls: Bool[Array, " S"]


def walled_grid(*, slip: float | int = 0.05, gamma: float | int = 0.99) -> WalledGrid:
    """14 x 14 cells, start (7, 0), walls in rows 4-9 of columns 5-8, goal in rows 2-11 of the last.

    r(s, a) = -1 until the episode ends, 0 in the goal and in the walls, which absorb. Entering a
    wall is a violation of the constraint, not a cost.

    Args:
      slip: probability that a uniform move replaces the chosen one.
      gamma: discount in [0, 1).
    Raises:
      ValueError: slip outside [0, 1].
    """
    rows, columns = np.divmod(np.arange(NUM_STATES), SIDE)
    walls = _between(rows, WALL_ROWS) & _between(columns, WALL_COLUMNS)
    goal = _between(rows, GOAL_ROWS) & (columns == GOAL_COLUMN)
    ends = walls | goal
    moves = slippery_transitions(grid_successors(SIDE, SIDE), slip=slip)
    mdp = DiscountedMDP(
        transitions=jnp.where(ends[:, None, None], jnp.eye(NUM_STATES)[:, None], moves),
        rewards=-jnp.ones((NUM_STATES, 4)) * ~ends[:, None],
        initial=jnp.zeros(NUM_STATES).at[START[0] * SIDE + START[1]].set(1.0),
        gamma=jnp.asarray(gamma, float),
    )
    return WalledGrid(mdp, jnp.asarray(goal), jnp.asarray(walls))


def border_demonstrator(*, random_share: float | int = 0.3) -> Float[Array, "2 S A"]:
    """Log-probs of a safe demonstrator: to the border, along it, and down (or up) into the goal.

    Index 0 takes the top border, 1 the bottom one. With probability `random_share` a move is
    uniform.

    Raises:
      ValueError: random_share outside [0, 1].
    """
    rows, columns = np.divmod(np.arange(NUM_STATES), SIDE)
    last = columns == GOAL_COLUMN
    up, down, right = 0, 1, 3
    top = np.where(last, down, np.where(rows > 0, up, right))
    bottom = np.where(last, up, np.where(rows < SIDE - 1, down, right))
    wanted = np.eye(4)[np.stack([top, bottom])]
    return _clumsy(wanted, random_share, "random_share")


def directed_walk(*, rho: float | int) -> Float[Array, "S S A"]:
    """Log-probs [target, state, action] of reward-free data collectors that walk towards a target.

    With probability rho they take a uniform one of the moves that reduce the distance to the target
    in rows and columns, ignoring walls (on the target: any move); else any move. rho = 0 is a
    random walk, rho = 1 goes straight.

    Raises:
      ValueError: rho outside [0, 1].
    """
    rows, columns = np.divmod(np.arange(NUM_STATES), SIDE)
    away_down, away_right = rows[:, None] - rows, columns[:, None] - columns
    nearer = np.stack([away_down < 0, away_down > 0, away_right < 0, away_right > 0], -1)
    nearer = nearer | ~nearer.any(-1, keepdims=True)
    return _clumsy(nearer / nearer.sum(-1, keepdims=True), 1 - rho, "1 - rho")


def _clumsy(probs: np.ndarray, share: float | int, name: str) -> Array:
    """Log-probs of the policy that takes a uniform action with probability `share`."""
    if not 0 <= share <= 1:
        raise ValueError(f"{name} must be in [0, 1], got {share}")
    return jnp.log((1 - share) * jnp.asarray(probs) + share / probs.shape[-1])


def _between(values: np.ndarray, edges: tuple[int, int]) -> np.ndarray:
    return (values >= edges[0]) & (values <= edges[1])
