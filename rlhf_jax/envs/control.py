"""Control tasks of other packages as `Env`: one pure episode, for scan and vmap.

The packages are in the extra `control` and are imported when an environment is made. Environments
do not restart by themselves and have no time limit: the discount is 0 only when the task ends (a
goal, a fall). The caller limits the number of steps.
"""

from importlib import import_module
from types import ModuleType

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.types import Env, TimeStep

MOUNTAIN_CAR_GOAL = 0.45  # position


def gymnax_env(name: str) -> Env:
    """A task of gymnax with its default parameters, e.g. "Pendulum-v1".

    Args:
      name: one of `gymnax.registered_envs`.
    Raises:
      ImportError: gymnax is not installed; the message names the extra.
      ValueError: gymnax has no such task.
    Reference: Lange 2022, gymnax.
    Departs: a step does not start a new episode, and there is no time limit.
    """
    world, params = _package("gymnax").make(name)

    def reset(key):
        observation, state = world.reset_env(key, params)
        # gymnax has the time as a Python number, which a scan cannot carry.
        return jax.tree.map(jnp.asarray, state), observation

    def step(key, state, action):
        observation, state, reward, terminated, _ = world.step_env(key, state, action, params)
        return state, _time_step(observation, reward, terminated)

    return Env(reset, step)


def playground_env(name: str) -> Env:
    """A task of MuJoCo Playground with its default configuration, e.g. "CartpoleBalance".

    The physics is MJX in JAX. Tasks of the DeepMind Control Suite come with the package; robot
    tasks download their models on first use.

    Args:
      name: one of `mujoco_playground.registry.ALL_ENVS`. Actions lie in [-1, 1].
    Raises:
      ImportError: playground is not installed; the message names the extra.
      ValueError: playground has no such task.
    Reference: Zakka et al. 2025, arXiv:2502.08844.
    Departs: no end at the time limit, no repeated actions.
    """
    # The default is Warp, which needs a GPU.
    world = _package("mujoco_playground").registry.load(name, config_overrides={"impl": "jax"})

    def reset(key):
        state = world.reset(key)
        return state, state.obs

    def step(key, state, action):
        state = world.step(state, action)
        return state, _time_step(state.obs, state.reward, state.done)

    return Env(reset, step)


def mountain_car_factors(
    next_observations: Float[Array, "*B 2"], actions: Float[Array, "*B 1"]
) -> Float[Array, "*B 2"]:
    """(goal reached, -action^2) of a step of MountainCarContinuous-v0: larger is better.

    Args:
      next_observations: [*B, 2] (position, velocity) after the step.
      actions: [*B, 1].
    Reference: factors of HERON's classic control, Bukharin et al. 2023, arXiv:2309.02632.
    """
    there = (next_observations[..., 0] >= MOUNTAIN_CAR_GOAL) & (next_observations[..., 1] >= 0)
    return jnp.stack([there.astype(actions.dtype), -(actions[..., 0] ** 2)], axis=-1)


def _time_step(observation, reward, over) -> TimeStep:
    """reward and discount as float32."""
    left = 1.0 - jnp.asarray(over, jnp.float32)
    return TimeStep(observation, jnp.asarray(reward, jnp.float32), left)


def _package(name: str) -> ModuleType:
    """The module, or an error that says how to install it."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ImportError(f"{name} is not installed: pip install -e '.[control]'") from error
