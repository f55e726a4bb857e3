"""Prompts with one answer that the proxy overrates, and what is measured of a policy."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from experiments.superhf.config import Config
from rlhf_jax.ops.kl import forward_kl
from rlhf_jax.ops.statistics import choice_calibration_error, cross_prompt_collision

HACKED = 0  # the answer
BONUS, BAD_GOLD, NOISE, SPREAD = 1.0, -1.5, 0.3, 0.7


class World(NamedTuple):
    """gold, proxy, ref_logps, each [S, A]."""

    gold: Array
    proxy: Array
    ref_logps: Array


def draw_world(config: Config, key: jax.Array, *, hack: float) -> World:
    """gold ~ N(0, 1), proxy = gold + 0.3 N(0, 1), pi_0 = softmax(0.7 N(0, 1)).

    Answer 0 of every prompt has the highest proxy of the prompt plus 1, gold -1.5, and mass `hack`.
    """
    shape = (config.prompts, config.answers)
    gold, noise, logits = (jax.random.normal(k, shape) for k in jax.random.split(key, 3))
    proxy = gold + NOISE * noise
    others = jax.nn.log_softmax(SPREAD * logits[:, 1:]) + jnp.log1p(-hack)
    first = jnp.full((config.prompts, 1), jnp.log(hack))
    return World(
        gold.at[:, HACKED].set(BAD_GOLD),
        proxy.at[:, HACKED].set(proxy[:, 1:].max(-1) + BONUS),
        jnp.concatenate([first, others], axis=-1),
    )


def measure(world: World, logits: Array) -> dict[str, Array]:
    """Exact numbers of a policy [S, A]: means over prompts of proxy, gold, mass on the overrated
    answer and KL(pi_0 || pi); collision across prompts; calibration error as a forecast of pi_0's
    answers, which is 0 for pi_0."""
    probs = jax.nn.softmax(logits)
    return {
        "proxy": jnp.sum(probs * world.proxy, -1).mean(),
        "gold": jnp.sum(probs * world.gold, -1).mean(),
        "hack": probs[:, HACKED].mean(),
        "kl": forward_kl(logits, world.ref_logps).mean(),
        "collision": cross_prompt_collision(probs),
        "calibration": choice_calibration_error(probs, jnp.exp(world.ref_logps))[0],
    }


def world_keys(config: Config, stream: int) -> tuple[jax.Array, jax.Array]:
    """Keys of the worlds and of what is drawn in them, [seeds] each."""
    key = jax.random.fold_in(jax.random.key(config.seed), stream)
    keys = jax.random.split(key, 2 * config.num_seeds)
    return keys[: config.num_seeds], keys[config.num_seeds :]
