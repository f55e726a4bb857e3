"""A slippery grid with a goal to stay at, hazards that do not end it, and coins."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from rlhf_jax.envs.hazard_grid import grid_successors, slippery_transitions
from rlhf_jax.envs.tabular_mdp import FiniteMDP

HAZARD_COST, STEP_COST, MOVE_COST = 0.3, 0.01, 0.3
STAY = 4  # the last of five actions


class CoinGrid(NamedTuple):
    """mdp: S = size^2, A = 5 (up, down, left, right, stay); its return is the task's score.

    features: name -> [S, A] of a next state and the action that led there.
    """

    mdp: FiniteMDP
    features: dict[str, Float[Array, "S A"]]


def coin_grid(
    key: Key[Array, ""],
    *,
    size: int = 6,
    hazards: int = 7,
    coins: int = 3,
    slip: float | int = 0.1,
    horizon: int = 24,
) -> CoinGrid:
    """A start in one corner, an absorbing goal in the opposite one.

    score = P(at the goal after H actions) - 0.3 E[steps on hazards] - 0.01 E[steps off the goal],
    both counted over the states after each action. Hazards do not end the episode; coins do not
    count: they only look like something.

    Features: "dist", moves to the goal over their largest number; "goal", "hazard", "coin", 1 on
    such a cell; "near_hazard", share of its four neighbours that are hazards; "energy", 0.3 for a
    move and 0 for staying.

    Args:
      key: draws the cells of hazards and coins, neither the start nor the goal.
      slip: probability that a uniform action (possibly the same) replaces the chosen one.
    Raises:
      ValueError: a size below 2, more things than cells, a slip outside [0, 1], a horizon below 1.
    """
    states = size * size
    if size < 2 or not 0 <= hazards + coins <= states - 2 or min(hazards, coins) < 0:
        raise ValueError(f"{hazards} hazards and {coins} coins do not fit {size} x {size} cells")
    if horizon < 1:
        raise ValueError(f"horizon must be >= 1, got {horizon}")
    things = jax.random.permutation(key, jnp.arange(1, states - 1))[: hazards + coins]
    hazard = jnp.zeros(states).at[things[:hazards]].set(1.0)
    goal = jnp.zeros(states).at[-1].set(1.0)
    moves = grid_successors(size, size)
    successors = np.concatenate([moves, np.arange(states)[:, None]], axis=1)
    transitions = slippery_transitions(successors, slip=slip)
    transitions = transitions.at[-1].set(goal)
    columns = {
        "dist": jnp.asarray(2 * size - 2 - np.indices((size, size)).sum(0).ravel())
        / (2 * size - 2),
        "goal": goal,
        "hazard": hazard,
        "coin": jnp.zeros(states).at[things[hazards:]].set(1.0),
        "near_hazard": _neighbours(moves, hazard),
    }
    wide = {name: jnp.broadcast_to(x[:, None], (states, STAY + 1)) for name, x in columns.items()}
    wide["energy"] = jnp.full((states, STAY + 1), MOVE_COST).at[:, STAY].set(0.0)
    step = -HAZARD_COST * hazard - STEP_COST * (1.0 - goal)
    rewards = jnp.broadcast_to(transitions @ step, (horizon, states, STAY + 1))
    rewards = rewards.at[-1].add(transitions @ goal)
    mdp = FiniteMDP(
        transitions=jnp.broadcast_to(transitions, (horizon, *transitions.shape)),
        rewards=rewards,
        initial=jnp.zeros(states).at[0].set(1.0),
    )
    return CoinGrid(mdp, wide)


def next_state_rewards(grid: CoinGrid, values: Float[Array, "*B S A"]) -> Float[Array, "*B H S A"]:
    """r(s, a) = sum_s' P(s' | s, a) R(s', a), the same at every step.

    Args:
      values: [*B, S, A] R(s', a).
    """
    transitions = grid.mdp.transitions
    steps = transitions.shape[0]
    found = jnp.einsum("sat,...ta->...sa", transitions[0], values)
    return jnp.broadcast_to(found[..., None, :, :], (*found.shape[:-2], steps, *found.shape[-2:]))


def _neighbours(moves: np.ndarray, cells: Float[Array, " S"]) -> Float[Array, " S"]:
    """Share of the four neighbours that are such cells; beyond the edge there is none."""
    there = moves != np.arange(len(moves))[:, None]
    return jnp.sum(jnp.where(there, cells[moves], 0.0), axis=1) / 4
