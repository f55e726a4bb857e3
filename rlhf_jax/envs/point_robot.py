"""A point robot in a room with a forbidden block, with continuous states and actions."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from rlhf_jax.types import Env, TimeStep

ROOM = (180.0, 150.0)
WALL_LOW, WALL_HIGH = (75.0, 55.0), (100.0, 95.0)
START, GOAL = (30.0, 75.0), (150.0, 75.0)
LARGEST_PUSH = 3.0
NOISE = 0.125  # standard deviation of a step


class PointState(NamedTuple):
    """position: [2] in the room, time: [] steps taken."""

    position: Array
    time: Array


def in_wall(position: Float[Array, "*B 2"]) -> Bool[Array, "*B"]:
    """Whether the constraint is violated: inside [75, 100] x [55, 95], edges included."""
    low, high = jnp.asarray(WALL_LOW), jnp.asarray(WALL_HIGH)
    return jnp.all((position >= low) & (position <= high), axis=-1)


def in_goal(position: Float[Array, "*B 2"], *, radius: float | int = 3.0) -> Bool[Array, "*B"]:
    """Whether |position - (150, 75)| <= radius."""
    return jnp.linalg.norm(position - jnp.asarray(GOAL), axis=-1) <= radius


def point_robot(*, goal_radius: float | int = 3.0, horizon: int = 100) -> Env:
    """x' = clip(x + clip(a, -3, 3) + 0.125 N(0, I)) to the room [0, 180] x [0, 150].

    The robot starts at (30, 75) + N(0, I). Inside the wall it cannot move any more. The reward of a
    step is 0 if it started in the goal, else -1; only the horizon ends an episode. The observation
    is the position; `in_wall` of it is the constraint.

    Args:
      goal_radius: > 0.
      horizon: steps of an episode, >= 1.
    Raises:
      ValueError: radius or horizon out of range.
    Reference: Wilcox et al. 2021 (LS3), arXiv:2107.04775, its point-robot task.
    """
    if goal_radius <= 0 or horizon < 1:
        raise ValueError(
            f"goal_radius must be > 0 and horizon >= 1, got {goal_radius} and {horizon}"
        )
    room = jnp.asarray(ROOM)

    def reset(key):
        start = jnp.clip(jnp.asarray(START) + jax.random.normal(key, (2,)), 0.0, room)
        return PointState(start, jnp.zeros((), int)), start

    def step(key, state, action):
        push = jnp.clip(action, -LARGEST_PUSH, LARGEST_PUSH)
        moved = state.position + push + NOISE * jax.random.normal(key, (2,))
        stuck = in_wall(state.position)
        position = jnp.where(stuck, state.position, jnp.clip(moved, 0.0, room))
        reward = jnp.where(in_goal(state.position, radius=goal_radius), 0.0, -1.0)
        time = state.time + 1
        discount = jnp.where(time < horizon, 1.0, 0.0)
        return PointState(position, time), TimeStep(position, reward, discount)

    return Env(reset, step)
