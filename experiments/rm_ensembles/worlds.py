"""Answers with twelve features, and two gold scores of them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from experiments.rm_ensembles.config import Config
from rlhf_jax.types import PreferenceBatch, Scalar, Trajectory

CORE, OFF, UNITS = 6, 6, 8
FEATURES = CORE + OFF
RADIUS, SLOPE = 6.0, 1.5  # of the cliff


class World(NamedTuple):
    """direction: [12] unit vector, 0 off the core unless the world has a cliff. mix, gains: [6, 8],
    [8] of a smooth bend. cliff: whether the score is linear up to a radius, and falls there."""

    direction: Float[Array, "12"]
    mix: Float[Array, "6 8"]
    gains: Float[Array, "8"]
    cliff: bool


def draw_world(key: Key[Array, ""], *, cliff: bool) -> World:
    """A gold score."""
    keys = jax.random.split(key, 3)
    direction = jax.random.normal(keys[0], (FEATURES,))
    direction = direction if cliff else direction.at[CORE:].set(0.0)
    mix = jax.random.normal(keys[1], (CORE, UNITS)) / jnp.sqrt(CORE)
    gains = jax.random.normal(keys[2], (UNITS,)) / 2
    return World(direction / jnp.linalg.norm(direction), mix, gains, cliff)


def draw_answers(
    key: Key[Array, ""], config: Config, shape: tuple[int, ...], *, cliff: bool
) -> Float[Array, "*B 12"]:
    """Answers of the base policy: (z, u), z standard normal, u small but for a rare few. With a
    cliff both are standard normal, but for the rare few."""
    keys = jax.random.split(key, 3)
    core = jax.random.normal(keys[0], (*shape, CORE))
    far = jax.random.bernoulli(keys[1], config.far_share, shape)
    off = jax.random.normal(keys[2], (*shape, OFF))
    near = (1.0, 1.0) if cliff else (1.0, config.near)
    wide = (config.far, config.far) if cliff else (1.0, config.far)
    scales = (jnp.where(far, *each)[..., None] for each in zip(wide, near, strict=True))
    return jnp.concatenate([scale * x for scale, x in zip(scales, (core, off), strict=True)], -1)


def gold_score(world: World, x: Float[Array, "*B 12"]) -> Float[Array, "*B"]:
    """w z + a tanh(2 A^T z) - 0.6 |u|; with a cliff, w x - 1.5 max(0, |x| - 6)."""
    linear = x @ world.direction
    if world.cliff:
        return linear - SLOPE * jnp.maximum(jnp.linalg.norm(x, axis=-1) - RADIUS, 0.0)
    bend = jnp.tanh(2 * x[..., :CORE] @ world.mix) @ world.gains
    return linear + bend - 0.6 * jnp.linalg.norm(x[..., CORE:], axis=-1)


def draw_pairs(
    key: Key[Array, ""], config: Config, world: World, *, noise: Scalar
) -> Float[Array, "P 2 12"]:
    """Pairs of answers, the chosen one first: the better one by gold, swapped with P = noise."""
    answer_key, swap_key = jax.random.split(key)
    x = draw_answers(answer_key, config, (config.pairs, 2), cliff=world.cliff)
    scores = gold_score(world, x)
    swapped = jax.random.bernoulli(swap_key, noise, (config.pairs,))
    first = (scores[:, 0] > scores[:, 1]) ^ swapped
    return jnp.where(first[:, None, None], x, x[:, ::-1])


def answers(x: Float[Array, "*B 12"]) -> Trajectory:
    """Answers of one step each."""
    mask = jnp.ones((*x.shape[:-1], 1), bool)
    return Trajectory(x, jnp.zeros(mask.shape, int), mask)


def preferences(pairs: Float[Array, "*B 2 12"]) -> PreferenceBatch:
    """The pairs as a batch."""
    return PreferenceBatch(answers(pairs[..., 0, :]), answers(pairs[..., 1, :]))
