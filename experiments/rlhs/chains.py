"""Random Markov reward processes: what a teacher knows after the first steps of what follows."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from experiments.rlhs.config import Config
from rlhf_jax.feedback.values import partly_seen_values
from rlhf_jax.ops.returns import discounted_sum

TAIL = 60  # steps of a path beyond the longest horizon; 0.8^60 = 1.5e-6


class Chain(NamedTuple):
    """logits: [S, S] of the next state; utilities: [S] in [0, 1]; values: [S] expected utility."""

    logits: Array
    utilities: Array
    values: Array


def draw_chain(config: Config, key: Key[Array, ""]) -> Chain:
    """Logits 2 N(0, 1), utilities uniform."""
    logit_key, utility_key = jax.random.split(key)
    logits = 2.0 * jax.random.normal(logit_key, (config.states, config.states))
    utilities = jax.random.uniform(utility_key, (config.states,))
    system = jnp.eye(config.states) - config.gamma * jax.nn.softmax(logits)
    return Chain(logits, utilities, jnp.linalg.solve(system, utilities))


def judge_chain(config: Config, key: Key[Array, ""]) -> dict[str, Array]:
    """Of pairs of paths, by steps seen: mean and largest |error of the utility gap|, and the share
    of pairs in which the higher judgement has the higher expected utility, each [horizons]. "blind
    accuracy": that of a teacher who sees as many steps of the next pair's paths.

    What the teacher believes of the steps that it does not see is uniform in [0, 1 / (1 - gamma)],
    set by persuasion and not by the truth.
    """
    chain_key, start_key, path_key, belief_key = jax.random.split(key, 4)
    chain = draw_chain(config, chain_key)
    shape = (config.chain_pairs, 2)
    starts = jax.random.randint(start_key, shape, 0, config.states)

    def step(states: Array, key: Array) -> tuple[Array, Array]:
        return jax.random.categorical(key, chain.logits[states]), states

    keys = jax.random.split(path_key, config.horizons[-1] + TAIL)
    paths = jnp.moveaxis(jax.lax.scan(step, starts, keys)[1], 0, -1)
    utilities = chain.utilities[paths]
    everything = jnp.ones(utilities.shape, bool)
    truth = discounted_sum(utilities, everything, gamma=config.gamma)
    beliefs = jax.random.uniform(belief_key, shape) / (1 - config.gamma)

    def accuracy(judged: Array) -> Array:
        right = jnp.sign(gaps(judged)) == jnp.sign(gaps(chain.values[starts]))
        differ = starts[:, 0] != starts[:, 1]
        return jnp.sum(right & differ) / jnp.sum(differ)

    def judge(seen: int) -> dict[str, Array]:
        mask = jnp.broadcast_to(jnp.arange(utilities.shape[-1]) < seen, utilities.shape)
        judged, blind = (
            partly_seen_values(x, mask, beliefs, gamma=config.gamma)
            for x in (utilities, jnp.roll(utilities, 1, axis=0))
        )
        errors = jnp.abs(gaps(judged) - gaps(truth))
        found = {"mean": errors.mean(), "largest": errors.max(), "accuracy": accuracy(judged)}
        return found | {"blind accuracy": accuracy(blind)}

    found = [judge(seen) for seen in config.horizons]
    return {name: jnp.stack([each[name] for each in found]) for name in found[0]}


def gaps(values: Float[Array, "B 2"]) -> Float[Array, " B"]:
    """Second minus first."""
    return values[:, 1] - values[:, 0]


def gap_bound(config: Config) -> np.ndarray:
    """2 gamma^n / (1 - gamma) after n steps seen, [horizons]: utilities are in [0, 1]."""
    return 2.0 * config.gamma ** np.array(config.horizons) / (1 - config.gamma)


def chain_study(config: Config) -> dict[str, np.ndarray]:
    """mean, largest, accuracy, blind accuracy [chains, horizons]."""
    keys = jax.random.split(jax.random.key(config.seed), config.chains)
    found = jax.jit(lambda keys: jax.lax.map(lambda key: judge_chain(config, key), keys))(keys)
    return jax.tree.map(np.asarray, found)
