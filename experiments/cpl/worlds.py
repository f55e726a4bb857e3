"""The worlds of the control panel: what is seen, what may be done, and what counts as success."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from rlhf_jax.envs.control import gymnax_env, playground_env
from rlhf_jax.envs.pendulum import MAX_TORQUE, pendulum_env
from rlhf_jax.sampling.episodes import Episode
from rlhf_jax.types import Env, TimeStep


class World(NamedTuple):
    """A task whose observations are of about unit size.

    env: observations [num_inputs]. Its action is one number in [-1, 1], [1] float, or an int below
      num_actions.
    num_actions: 0 where actions are continuous.
    steps: of an episode.
    success: `episode -> bool`.
    """

    env: Env
    num_inputs: int
    num_actions: int
    steps: int
    success: Callable[[Episode], Bool[Array, ""]]


def make_world(name: str) -> World:
    """One of `config.WORLDS`; all but the pendulum need the packages of the extra `control`."""
    return {"pendulum": _pendulum, "cartpole": _cartpole, "balance": _balance}[name]()


def _pendulum() -> World:
    """Pendulum-v1. Success: within 18 degrees of upright in all of the last 50 of 200 steps."""

    def success(episode: Episode) -> Bool[Array, ""]:
        return jnp.min(episode.trajectory.inputs[-50:, 0]) > 0.95

    env = _scaled(pendulum_env(), jnp.array([1.0, 1.0, 0.125]), MAX_TORQUE)
    return World(env, 3, 0, 200, success)


def _cartpole() -> World:
    """CartPole-v1, cut after 200 steps as the first version was. Success: it stands then."""

    def success(episode: Episode) -> Bool[Array, ""]:
        return episode.discounts[-1] > 0

    env = _scaled(gymnax_env("CartPole-v1"), jnp.array([0.5, 0.5, 5.0, 0.5]), None)
    return World(env, 4, 2, 200, success)


def _balance() -> World:
    """CartpoleBalance. Success: a mean reward above 0.8 in the last 100 of 500 steps."""

    def success(episode: Episode) -> Bool[Array, ""]:
        return jnp.mean(episode.rewards[-100:]) > 0.8

    env = _scaled(playground_env("CartpoleBalance"), jnp.ones(5), 1.0)
    return World(env, 5, 0, 500, success)


def _scaled(env: Env, scale: Float[Array, "d"], limit: float | None) -> Env:
    """The world with scaled observations, and with actions in [-1, 1] where they have a limit."""

    def reset(key):
        state, observation = env.reset(key)
        return state, observation * scale

    def step(key, state, action):
        state, seen = env.step(key, state, action if limit is None else limit * action)
        return state, TimeStep(seen.observation * scale, seen.reward, seen.discount)

    return Env(reset, step)
