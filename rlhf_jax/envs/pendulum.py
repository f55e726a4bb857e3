"""The pendulum swing-up task of classic control, without a package."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.checks import check_range
from rlhf_jax.types import Env, TimeStep

GRAVITY, STEP = 10.0, 0.05  # m / s^2 and s; the length is 1
MAX_TORQUE, MAX_SPEED = 2.0, 8.0  # N m and rad / s
# Weights of the factors in the reward of the benchmark.
REWARD_WEIGHTS = (1.0, 0.1, 0.001)


class PendulumState(NamedTuple):
    """angle: [] rad, 0 upright, grows without wrapping; velocity: [] rad / s."""

    angle: Float[Array, ""]
    velocity: Float[Array, ""]


def pendulum_env(*, mass: float = 1.0, friction: float = 0.0) -> Env:
    """Pendulum-v1 as a pure environment that never ends.

    theta'' = 3 g / (2 l) sin theta + 3 u / (m l^2) - friction theta'; velocity first, then the
    angle; |theta'| <= 8; observation (cos theta, sin theta, theta'), action [1] u, clipped at 2;
    reward = `pendulum_factors` @ REWARD_WEIGHTS of the state before the step. An episode starts at
    an angle in [-pi, pi] and a velocity in [-1, 1], uniformly; 200 steps are usual.

    Args:
      mass: m > 0, in kg. friction: >= 0, in 1 / s. Both are as in the benchmark by default.
    Raises:
      ValueError: mass or friction out of range.
    Reference: Brockman et al. 2016, arXiv:1606.01540 (OpenAI Gym).
    """
    check_range("(0, inf)", mass=mass)
    check_range("[0, inf)", friction=friction)

    def reset(key):
        angle, velocity = jax.random.uniform(key, (2,), minval=-1.0)
        state = PendulumState(jnp.pi * angle, velocity)
        return state, _observe(state)

    def step(key, state, action):
        torque = jnp.clip(action[0], -MAX_TORQUE, MAX_TORQUE)
        reward = pendulum_factors(_observe(state), action) @ jnp.asarray(REWARD_WEIGHTS)
        pull = 1.5 * GRAVITY * jnp.sin(state.angle) + 3.0 * torque / mass
        pull -= friction * state.velocity
        velocity = jnp.clip(state.velocity + STEP * pull, -MAX_SPEED, MAX_SPEED)
        state = PendulumState(state.angle + STEP * velocity, velocity)
        return state, TimeStep(_observe(state), reward, jnp.ones(()))

    return Env(reset, step)


def pendulum_factors(
    observations: Float[Array, "*B 3"], actions: Float[Array, "*B 1"]
) -> Float[Array, "*B 3"]:
    """(-theta^2, -theta'^2, -u^2) of a state and the action taken in it; larger is better.

    Args:
      observations: [*B, 3] (cos theta, sin theta, theta').
      actions: [*B, 1] torques, clipped here as in the environment.
    """
    angles = jnp.arctan2(observations[..., 1], observations[..., 0])
    torques = jnp.clip(actions[..., 0], -MAX_TORQUE, MAX_TORQUE)
    return -(jnp.stack([angles, observations[..., 2], torques], axis=-1) ** 2)


def _observe(state: PendulumState) -> Float[Array, "3"]:
    return jnp.stack([jnp.cos(state.angle), jnp.sin(state.angle), state.velocity])
