"""Voters, the strength of each pair, and reward models trained on repaired labels."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Key

from experiments.secrets_rm.config import Config
from experiments.secrets_rm.worlds import (
    FEATURES,
    accuracy,
    adam,
    fit_epochs,
    gold_pairs,
    make_gold,
    tanh_reward,
    turned,
    wrong_labels,
)
from rlhf_jax.algos import reward_model
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.feedback.strengths import flipped_prefs, softened_prefs, weakest_pairs
from rlhf_jax.losses.reward import soft_margin_bradley_terry_loss
from rlhf_jax.ops.ensembles import Strengths, preference_strengths
from rlhf_jax.types import Params, PreferenceBatch

DECILES = 10
METHODS = (
    "Bradley-Terry",
    "margin",
    "soft",
    "soft + margin",
    "flip",
    "flip + margin",
    "drop",
    "flip at random",
    "h = 1 + margin",
    "true labels",
)


class World(NamedTuple):
    """pairs: labelled, wrong [N] where the label is. test: clean pairs."""

    pairs: PreferenceBatch
    wrong: Bool[Array, "N"]
    test: PreferenceBatch


def make_world(key: Key[Array, ""], config: Config) -> World:
    """Standard normal items in every pair."""
    keys = jax.random.split(key, 4)
    gold = make_gold(keys[0])
    wrong = wrong_labels(keys[1], count=config.pairs, share=config.noise)
    items = jax.random.normal(keys[2], (config.pairs, 2, FEATURES))
    test = jax.random.normal(keys[3], (config.test_pairs, 2, FEATURES))
    return World(turned(gold_pairs(gold, items), wrong), wrong, gold_pairs(gold, test))


def fit(
    key: Key[Array, ""],
    pairs: PreferenceBatch,
    config: Config,
    *,
    epochs: int,
    measure: Callable[[Params], Array] = lambda params: jnp.zeros(()),
) -> tuple[Params, Array]:
    """A reward model from a fresh start, and what is measured of it after each pass."""
    reward, optimizer = tanh_reward(config.width), adam(config.rate)
    update = reward_model.make_update(reward, optimizer, loss=soft_margin_bradley_terry_loss)
    init_key, fit_key = jax.random.split(key)
    state, measured = fit_epochs(
        fit_key,
        update,
        init_state(reward.init(init_key), optimizer),
        len(pairs.chosen.mask),
        lambda rows, _: jax.tree.map(lambda x: x[rows], pairs),
        lambda state: measure(state.params),
        epochs=epochs,
        batch=config.batch,
    )
    return state.params, measured


def with_columns(
    pairs: PreferenceBatch, prefs: Array, gaps: Array, weights: Array
) -> PreferenceBatch:
    """The pairs with what the loss reads."""
    columns = {"prefs": prefs, "gaps": gaps}
    return PreferenceBatch(pairs.chosen, pairs.rejected, weights=weights, columns=columns)


def plain(pairs: PreferenceBatch) -> PreferenceBatch:
    """Labels as they are, no margins."""
    ones = jnp.ones(len(pairs.chosen.mask))
    return with_columns(pairs, ones, 0.0 * ones, ones)


def vote(key: Key[Array, ""], world: World, config: Config) -> Strengths:
    """Strength of every pair by reward models with starts and orders of their own."""
    reward, pairs = tanh_reward(config.width), plain(world.pairs)

    def voter(key: Array) -> tuple[Array, Array]:
        params, _ = fit(key, pairs, config, epochs=config.voter_epochs)
        return reward.scores(params, pairs.chosen), reward.scores(params, pairs.rejected)

    return preference_strengths(*jax.vmap(voter)(jax.random.split(key, config.voters)))


def repaired(
    key: Key[Array, ""], world: World, strengths: Array, config: Config
) -> tuple[Array, Array, Array]:
    """prefs, gaps and weights, [methods, N] each, in the order of METHODS."""
    ones = jnp.ones_like(strengths)
    zeros, mu = 0.0 * ones, strengths
    soft = softened_prefs(mu, label_smoothing=config.label_smoothing)
    flip = flipped_prefs(mu, share=config.share)
    chance = flipped_prefs(jax.random.normal(key, mu.shape), share=config.share)
    kept = 1.0 - weakest_pairs(mu, share=config.share)
    rows = (
        (ones, zeros, ones),
        (ones, mu, ones),
        (soft, zeros, ones),
        (soft, mu, ones),
        (flip, zeros, ones),
        (flip, mu, ones),
        (ones, zeros, kept),
        (chance, zeros, ones),
        (softened_prefs(mu, label_smoothing=1.0), mu, ones),
        (1.0 - world.wrong, zeros, ones),
    )
    prefs, gaps, weights = (jnp.stack(column) for column in zip(*rows, strict=True))
    return prefs, gaps, weights


def one_world(key: Key[Array, ""], config: Config) -> dict[str, Array]:
    """All of it in one world."""
    keys = jax.random.split(key, 5)
    world = make_world(keys[0], config)
    strengths = vote(keys[1], world, config)
    order = jnp.argsort(strengths.means)
    tenths = order.reshape(DECILES, -1)

    def right(params: Params) -> Array:
        return accuracy(tanh_reward(config.width), params, world.test)

    def method(*columns: Array) -> Array:
        pairs = with_columns(world.pairs, *columns)
        return fit(keys[2], pairs, config, epochs=config.epochs, measure=right)[1]

    def decile(rows: Array) -> Array:
        pairs = jax.tree.map(lambda x: x[rows], plain(world.pairs))
        return right(fit(keys[3], pairs, config, epochs=config.epochs)[0])

    found = jnp.stack([strengths.means, strengths.stds, ~world.wrong])
    by_tenth, chance = found[:, tenths].mean(-1), jax.random.permutation(keys[4], order)
    return {
        "curves": jax.vmap(method)(*repaired(keys[4], world, strengths.means, config)),
        "deciles": jax.vmap(decile)(tenths),
        "strength": by_tenth[0],
        "spread": by_tenth[1],
        "right": by_tenth[2],
        "right at random": jnp.mean(~world.wrong[chance.reshape(DECILES, -1)], axis=-1),
        "doubted": jnp.mean(strengths.means < 0),
    }


def repair_study(config: Config) -> dict[str, np.ndarray]:
    """Accuracy curves [seeds, methods, epochs] on clean pairs; by strength decile, [seeds, 10]:
    accuracy of a model trained on it alone, strength, spread of the voters, share of right labels,
    and that of a random tenth; doubted: share of pairs with strength below 0 [seeds]."""
    keys = jax.random.split(jax.random.key(config.seed), config.num_seeds)
    found = jax.jit(partial(jax.lax.map, partial(one_world, config=config)))(keys)
    return jax.tree.map(np.asarray, found)
