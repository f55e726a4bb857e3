"""Bit strings with a quality, a bad policy, labelled pairs, and the models fitted to them."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments.pit.config import Config
from rlhf_jax.algos import gap_model, reward_model
from rlhf_jax.envs.bandit import bandit_trajectory
from rlhf_jax.losses.gaps import GAP_TERMS
from rlhf_jax.ops.newton import newton_minimum
from rlhf_jax.policies.linear import linear_reward, paired_features
from rlhf_jax.types import PreferenceBatch, Trajectory


class World(NamedTuple):
    """quality: [A]. base_logps: [A] of the policy whose answers are bad.

    u, v: [d] of the gap u . F(y) - v . F(y_ref). reward: [d] of a plain reward model. five: [2 d]
    of the gap model with a fifth comparison. random: [2 d] of one from labels at random.
    """

    quality: jax.Array
    base_logps: jax.Array
    u: jax.Array
    v: jax.Array
    reward: jax.Array
    five: jax.Array
    random: jax.Array


def bit_strings(bits: int) -> jax.Array:
    """[2^bits, bits] in {-1, 1}."""
    return 2.0 * ((jnp.arange(2**bits)[:, None] >> jnp.arange(bits)) & 1) - 1.0


def features(bits: int) -> jax.Array:
    """F [A, 2 bits - 1]: the bits and the products of neighbours."""
    strings = bit_strings(bits)
    return jnp.concatenate([strings, strings[:, 1:] * strings[:, :-1]], axis=-1)


def editor_logps(config: Config) -> jax.Array:
    """[reference, answer] log-probs of the SFT editor: bits flip independently."""
    strings = bit_strings(config.bits)
    flips = 0.5 * (config.bits - strings @ strings.T)
    kept = config.bits - flips
    return flips * jnp.log(config.flip) + kept * jnp.log1p(-config.flip)


def make_world(config: Config, key: jax.Array) -> World:
    """A quality, a policy, pairs of its answers with labels, and the fits."""
    found, size = features(config.bits), 2 * config.bits - 1
    weights_key, noise_key, pair_key, label_key, random_key = jax.random.split(key, 5)
    weights = config.spread * jax.random.normal(weights_key, (size,)) / jnp.sqrt(size)
    quality = found @ weights
    logits = -config.badness * quality + config.noise * jax.random.normal(noise_key, quality.shape)
    pairs = jax.random.categorical(pair_key, logits, shape=(2, config.pairs))
    odds = config.slope * (quality[pairs[0]] - quality[pairs[1]])
    labels = jax.random.bernoulli(label_key, jax.nn.sigmoid(odds))
    coins = jax.random.bernoulli(random_key, 0.5, labels.shape)
    batch, other = (labelled(found, pairs, x) for x in (labels, coins))
    fit = partial(fit_gap, config)
    u, v = fit(batch).reshape(2, size)
    five = fit(batch, terms=(*GAP_TERMS, ("wl", "lw")))
    plain = reward_model.make_objective(linear_reward(size))
    reward = minimum(lambda w: plain(w, batch)[0], size, ridge=config.ridge)
    return World(quality, jax.nn.log_softmax(logits), u, v, reward, five, fit(other))


def labelled(found: jax.Array, pairs: jax.Array, labels: jax.Array) -> PreferenceBatch:
    """The pairs [2, N] of answers, described by features; the first one is chosen where True."""
    winners = jnp.where(labels, pairs[0], pairs[1])
    losers = jnp.where(labels, pairs[1], pairs[0])
    return PreferenceBatch(described(found, winners), described(found, losers))


def described(found: jax.Array, answers: jax.Array) -> Trajectory:
    """Answers with their features as inputs, for `linear_reward`."""
    one = bandit_trajectory(jnp.zeros_like(answers), answers)
    return Trajectory(found[answers][:, None], one.actions, one.mask)


def fit_gap(config: Config, batch: PreferenceBatch, *, terms: Any = GAP_TERMS) -> jax.Array:
    """[2 d] (u, v) of the additive gap, by the library's objective with a ridge."""
    size = 2 * batch.chosen.inputs.shape[-1]
    objective = gap_model.make_objective(linear_reward(size), paired_features, terms=terms)
    return minimum(lambda w: objective(w, batch)[0], size, ridge=config.ridge)


def minimum(mean: Callable[[jax.Array], Any], size: int, *, ridge: float) -> jax.Array:
    """The minimum of a convex mean plus ridge |w|^2 / 2."""

    def total(w: jax.Array) -> jax.Array:
        found = mean(w)
        return found.total / found.weight + 0.5 * ridge * jnp.sum(w**2)

    return newton_minimum(total, jnp.zeros(size)).params


def gap_matrix(config: Config, u: jax.Array, v: jax.Array) -> jax.Array:
    """[reference, answer] gaps u . F(y) - v . F(y_ref)."""
    found = features(config.bits)
    return (found @ u)[None] - (found @ v)[:, None]


def make_worlds(config: Config) -> World:
    """All worlds, on the first axis."""
    keys = jax.random.split(jax.random.key(config.seed), config.num_seeds)
    return jax.jit(jax.vmap(partial(make_world, config)))(keys)
