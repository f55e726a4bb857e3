"""Directions in the space of several rewards (directional preference alignment, DPA).

A user is a unit vector v [k], and an answer with the reward vector r [k] is worth v . r to that
user. With k = 2 a direction is an angle from the first reward: v = (cos a, sin a).

    directions = unit_directions(angles)                         # [*B, 2]
    best = jnp.argmax(scalarise(rewards, directions), axis=-1)   # rewards [*B, K, 2]

A policy reads v as a part of its state: `policies.latent.latent_policy` of any policy, with v as
the latent, is linear in v; `directed_features` are the same for a log-linear policy, in one
product. Rewards of different scales bend a direction: divide by their spread first. What is added
to a reward does not matter, since answers to one prompt are compared.
"""

import jax
import jax.core
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.checks import Numbers, check_entries, check_range
from rlhf_jax.types import Scalar

NORM = 1e-3  # a direction may be so much longer or shorter than 1


def unit_directions(angles: Float[Array, "*B"]) -> Float[Array, "*B 2"]:
    """v = (cos a, sin a) of angles in radians."""
    return jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=-1)


def draw_directions(
    key: jax.Array, shape: tuple[int, ...], *, low: Scalar, high: Scalar
) -> Float[Array, "*B 2"]:
    """Directions with angles uniform in [low, high], radians; the paper's are -pi/4 and pi/4."""
    check_range("(-inf, inf)", low=low, high=high)
    return unit_directions(jax.random.uniform(key, shape, minval=low, maxval=high))


def check_directions(directions: Numbers, *, rewards: int) -> None:
    """Directions are unit vectors with one entry for each of so many rewards.

    Args:
      directions: [*B, k]. Traced ones are checked by their shape alone.
      rewards: k.

    Raises:
      ValueError: another number of entries, or a length that is not 1 within 0.001.
    """
    shape = jnp.shape(directions)
    if shape[-1:] != (rewards,):
        got = shape[-1] if shape else "a number"
        raise ValueError(f"directions must have one entry for each of {rewards} rewards, got {got}")
    if isinstance(directions, jax.core.Tracer):
        return
    lengths = jnp.linalg.norm(jnp.asarray(directions), axis=-1)
    check_entries(f"[{1 - NORM}, {1 + NORM}]", **{"the length of directions": lengths})


def scalarise(
    rewards: Float[Array, "*B K k"], directions: Float[Array, "*B k"]
) -> Float[Array, "*B K"]:
    """v . r of K answers to each prompt; NaN where one of an answer's rewards is NaN.

    Args:
      rewards: [*B, K, k], of every answer.
      directions: [*B, k], of every prompt.
    Raises:
      ValueError: see `check_directions`.
    Reference: Wang et al. 2024, arXiv:2402.18571.
    """
    check_directions(directions, rewards=rewards.shape[-1])
    if rewards.shape[:-2] != directions.shape[:-1]:
        raise ValueError(
            f"rewards {rewards.shape} must be K vectors for each of the directions "
            f"{directions.shape}"
        )
    return jnp.einsum("...ni,...i->...n", rewards, directions)


def directed_features(
    features: Float[Array, "*B A d"], directions: Float[Array, "*B k"]
) -> Float[Array, "*B A e"]:
    """phi x (1, v): the features of a log-linear policy that is given a direction.

    phi . (theta_0 + sum_i v_i theta_i) is their product with [theta_0, ..., theta_k]. The
    optimum of E[v . r] - beta KL has such logits if each reward and the reference have them.

    Args:
      features: [*B, A, d] of every answer in every state; a table's are the identity.
      directions: [*B, k] of every state.
    Returns:
      [*B, A, (1 + k) d].
    """
    check_directions(directions, rewards=directions.shape[-1])
    one = jnp.ones((*directions.shape[:-1], 1), features.dtype)
    weights = jnp.concatenate([one, directions.astype(features.dtype)], axis=-1)
    found = jnp.einsum("...i,...ad->...aid", weights, features)
    return found.reshape(*features.shape[:-1], -1)
