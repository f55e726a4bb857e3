"""Active queries, a comparison of an item with itself, and kinds of feedback."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.feedback_types.config import Config
from experiments.feedback_types.kinds import (
    MIXED,
    PARTS,
    demonstrations,
    part_records,
    rankings,
)
from experiments.feedback_types.learner import (
    RULES,
    ask,
    believe,
    draw_theta,
    estimate,
)
from rlhf_jax.feedback import posteriors

COPIES, OTHERS = 0.05, 0.7  # spread of feature differences: near-copies, and the other half


def for_all(run: Callable, *inputs: jax.Array) -> Any:
    """run over the leading axis of the inputs, one after another in one program: alone, a run skips
    the Metropolis steps wherever its posterior does not need them."""
    found = jax.jit(lambda *each: jax.lax.map(lambda one: run(*one), each))(*inputs)
    return jax.tree.map(np.asarray, found)


def run_rules(config: Config, num_rules: int, run: Callable) -> dict[str, np.ndarray]:
    """run(key, rule) for every rule and seed, [rules, seeds, ...] each."""
    keys = jax.random.split(jax.random.key(config.seed), config.num_seeds)
    which = jnp.repeat(jnp.arange(num_rules), config.num_seeds)
    found = for_all(run, jnp.tile(keys, num_rules), which)
    return {name: x.reshape(num_rules, config.num_seeds, -1) for name, x in found.items()}


def active_queries(config: Config) -> dict[str, np.ndarray]:
    """ "cosine" to the hidden reward [rules, seeds, queries + 1], and "copies" [rules, seeds,
    queries]: 1 where a near-copy was asked about."""
    half = config.pool // 2
    spread = jnp.where(jnp.arange(config.pool) < half, COPIES, OTHERS)[:, None]

    def pool(key, _):
        x = spread * jax.random.normal(key, (config.pool, config.num_features))
        return jnp.stack([jnp.zeros_like(x), x], axis=1)

    def run(key, rule):
        theta_key, key = jax.random.split(key)
        theta = draw_theta(config, theta_key)

        def cosine(particles):
            return estimate(particles) @ theta

        cosines, asked = ask(config, key, theta, rule, RULES, pool=pool, measure=cosine)
        return {"cosine": cosines, "copies": (asked < half).astype(jnp.float32)}

    return run_rules(config, len(RULES), run)


def feedback_types(config: Config) -> dict[str, np.ndarray]:
    """Cosine after each record [seeds, records], for each type and for the mixture of some."""
    keys = jax.random.split(jax.random.key(config.seed), config.num_seeds)

    def learner(make):
        def run(key, *which):
            theta_key, record_key, start_key, key = jax.random.split(key, 4)
            theta = draw_theta(config, theta_key)
            records = make(config, record_key, theta, *which)
            size, d = config.particles, config.num_features
            particles = posteriors.uniform_particles(start_key, size, d)

            def step(particles, t):
                moved = believe(config, jax.random.fold_in(key, t), particles, records, t)
                return moved, estimate(moved) @ theta

            return jax.lax.scan(step, particles, jnp.arange(config.records))[1]

        return run

    found = {
        "ranking": for_all(learner(rankings), keys),
        "demonstration": for_all(learner(demonstrations), keys),
    }
    names = (*PARTS, MIXED)
    which = jnp.repeat(jnp.arange(len(names)), config.num_seeds)
    parts = for_all(learner(part_records), jnp.tile(keys, len(names)), which)
    return found | dict(zip(names, np.split(parts, len(names)), strict=True))
