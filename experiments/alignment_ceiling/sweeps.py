"""The first run: exact optima of each score on the pool, from weak to strong optimisation."""

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from experiments.alignment_ceiling.config import Config
from experiments.alignment_ceiling.world import (
    Labels,
    Pool,
    accuracy,
    draw_labels,
    draw_pool,
    fit,
    standardise,
)
from rlhf_jax.exact.bandit import budget_optimum, regularised_optimum
from rlhf_jax.ops.ensembles import mean_scores, worst_case_scores
from rlhf_jax.ops.kl import exact_kl
from rlhf_jax.ops.mismatch import order_accuracy
from rlhf_jax.ops.statistics import best_of_n_curve, best_of_n_kl

Arrays = dict[str, np.ndarray]
SCORES = ("reward model", "ensemble mean", "ensemble minimum", "length-blind", "gold")
MEASURES = ("kl", "score", "gold", "downstream", "length")
TAILS = ("Gaussian length", "larger pool")


class Models(NamedTuple):
    """weights, blind: [d] of the reward model, and of the one that does not see the length.
    scores: [5, M] of SCORES, standardised over the pool.
    labels, validation: what they were fitted to, and held-out labels."""

    weights: Array
    blind: Array
    scores: Array
    labels: Labels
    validation: Labels


def world_keys(config: Config) -> Key[Array, "S"]:
    """One key for each world."""
    return jax.random.split(jax.random.key(config.seed), config.num_seeds)


def reward_models(config: Config, pool: Pool, key: Key[Array, ""]) -> Models:
    """The reward model and its rivals, all from the same labelled pairs; and gold itself."""
    label_key, held_key, member_key = jax.random.split(key, 3)
    labels = draw_labels(config, pool, label_key, config.pairs)
    validation = draw_labels(config, pool, held_key, config.validation)
    rows = jax.random.randint(member_key, (config.members, config.pairs), 0, config.pairs)
    resampled = jax.vmap(partial(jnp.bincount, length=config.pairs))(rows)
    # Once each for the reward model and the length-blind one, then the members.
    counts = jnp.concatenate([jnp.ones((2, config.pairs)), resampled.astype(jnp.float32)])
    visible = jnp.ones(len(counts)).at[1].set(0.0)
    fits = jax.vmap(lambda c, v: fit(config, labels.pairs, counts=c, visible=v))(counts, visible)
    alone = fits @ pool.features.T
    members = standardise(alone[2:])
    scores = [alone[0], mean_scores(members), worst_case_scores(members), alone[1], pool.gold]
    return Models(fits[0], fits[1], standardise(jnp.stack(scores)), labels, validation)


def measured(pool: Pool, scores: Float[Array, "M"], logps: Float[Array, "N M"]) -> dict[str, Array]:
    """MEASURES of N policies on the pool, [N] each, exact."""
    probs = jnp.exp(logps)
    values = jnp.stack([scores, pool.gold, pool.downstream, pool.features[:, -1]])
    ref_logits = jnp.broadcast_to(pool.ref_logits, logps.shape)
    means = probs @ values.T
    return {"kl": exact_kl(logps, ref_logits)} | dict(zip(MEASURES[1:], means.T, strict=True))


def sweep(config: Config, pool: Pool, scores: Float[Array, "M"]) -> tuple[Array, dict[str, Array]]:
    """log-probs [N, M] of the optimum at each beta, its measures, and its effective support."""
    betas = jnp.geomspace(*config.betas, config.points)
    logps = jax.vmap(lambda b: regularised_optimum(scores, pool.ref_logits, beta=b))(betas)
    support = 1.0 / jnp.sum(jnp.exp(2.0 * logps), axis=-1)
    return logps, measured(pool, scores, logps) | {"support": support}


def best_of_n(config: Config, pool: Pool, scores: Float[Array, "M"]) -> dict[str, Array]:
    """MEASURES of the best of n by a score, for n = 1, 2, 4, ..."""
    ns = 2 ** jnp.arange(int(np.log2(config.largest)) + 1)
    values = jnp.stack([scores, pool.gold, pool.downstream, pool.features[:, -1]])
    curves = best_of_n_curve(jnp.broadcast_to(scores, values.shape), values, ns)
    return {"kl": best_of_n_kl(ns)} | dict(zip(MEASURES[1:], curves, strict=True))


def order_accuracies(
    config: Config, pool: Pool, scores: Float[Array, "M"], logps: Float[Array, "N M"], key: Array
) -> dict[str, Array]:
    """Accuracy against the order of gold on drawn answers: of the reference ("off"), of the policy
    at the judged beta ("on"), and of the N policies ("along"), where infinity stands for a policy
    that drew one answer only."""

    def one(key: Key[Array, ""], logits: Float[Array, "M"], draws: int) -> Array:
        # By the inverse of the distribution function: `categorical` would need draws x M numbers.
        drawn = jax.random.choice(key, len(logits), (draws,), p=jax.nn.softmax(logits))
        return order_accuracy(scores[drawn], pool.gold[drawn])

    near_key, along_key = jax.random.split(key)
    ends = jnp.stack([pool.ref_logits, scores / config.judged])
    off, on = jax.lax.map(
        lambda x: one(*x, config.draws), (jax.random.split(near_key, len(ends)), ends)
    )
    fewer = partial(one, draws=max(2, config.draws // 4))
    along = jax.lax.map(lambda x: fewer(*x), (jax.random.split(along_key, len(logps)), logps))
    return {"off": off, "on": on, "along": jnp.where(jnp.isnan(along), jnp.inf, along)}


def pool_study(config: Config) -> Arrays:
    """Every world: "<policy>/<measure>" [S, points], best-of-n [S, n] and accuracies [S]."""

    def one(key: Key[Array, ""]) -> dict[str, Array]:
        pool_key, model_key, draw_key = jax.random.split(key, 3)
        pool = draw_pool(config, pool_key)
        models = reward_models(config, pool, model_key)

        def optimised(scores: Float[Array, "M"]) -> dict[str, Array]:
            logps, curves = sweep(config, pool, scores)
            return curves | order_accuracies(config, pool, scores, logps, draw_key)

        curves = jax.lax.map(optimised, models.scores)
        chosen = best_of_n(config, pool, models.scores[0])
        judged = jax.nn.softmax(models.scores[0] / config.judged)
        return {
            **{
                f"{name}/{x}": curve[i]
                for i, name in enumerate(SCORES)
                for x, curve in curves.items()
            },
            **{f"best of n/{measure}": curve for measure, curve in chosen.items()},
            "weights": models.weights,
            "train": accuracy(models.weights, models.labels.pairs),
            "validation": accuracy(models.weights, models.validation.pairs),
            "blind": accuracy(models.blind, models.validation.pairs),
            "ceiling": models.validation.ceiling,
            "support": 1.0 / jnp.sum(judged**2),
        }

    return _each_world(one, world_keys(config))


def tail_study(config: Config) -> Arrays:
    """The reward model's sweep on other tails of the length: "<tail>/<measure>" [S, points].

    "Gaussian length" has no heavy tail; in a "larger pool" every world has very long answers.
    """

    def one(config: Config, heavy: bool, key: Key[Array, ""]) -> dict[str, Array]:
        pool_key, model_key, _ = jax.random.split(key, 3)
        pool = draw_pool(config, pool_key, heavy=heavy)
        models = reward_models(config, pool, model_key)
        return sweep(config, pool, models.scores[0])[1]

    larger = replace(config, answers=config.many_answers)
    works = partial(one, config, False), partial(one, larger, True)
    found = [_each_world(work, world_keys(config)) for work in works]
    return {
        f"{name}/{x}": v for name, each in zip(TAILS, found, strict=True) for x, v in each.items()
    }


def population_study(config: Config) -> Arrays:
    """Reward models of several qualities in every world: accuracy, and gold at two KLs.

    Returns:
      "accuracy": [S, R]. "gold": [S, budgets, R]. "size", "flip", "visible": [R].
    """
    size, flip, visible = (
        x.ravel() for x in jnp.meshgrid(*map(jnp.asarray, (config.sizes, config.flips, (1.0, 0.0))))
    )
    largest, budgets = max(config.sizes), jnp.asarray(config.budgets)

    def one(key: Key[Array, ""]) -> dict[str, Array]:
        pool_key, model_key, fit_key = jax.random.split(key, 3)
        pool = draw_pool(config, pool_key)
        held = draw_labels(config, pool, model_key, config.validation).pairs

        def model(given: tuple[Array, ...]) -> tuple[Array, Array]:
            key, count, share, seen = given
            pairs = draw_labels(config, pool, key, largest, flip=share).pairs
            counts = (jnp.arange(largest) < count).astype(jnp.float32)
            weights = fit(config, pairs, counts=counts, visible=seen)
            scores = standardise(pool.features @ weights)
            both = jnp.broadcast_to(scores, (len(budgets), config.answers))
            ref_logits = jnp.broadcast_to(pool.ref_logits, both.shape)
            logps = budget_optimum(both, ref_logits, kl=budgets)
            return accuracy(weights, held), jnp.exp(logps) @ pool.gold

        keys = jax.random.split(fit_key, len(size))
        accuracies, gold = jax.lax.map(model, (keys, size, flip, visible))
        return {"accuracy": accuracies, "gold": gold.T}

    found = _each_world(one, world_keys(config)[: config.compared])
    return found | {
        "size": np.asarray(size),
        "flip": np.asarray(flip),
        "visible": np.asarray(visible),
    }


def _each_world(one, keys: Key[Array, "S"]) -> Arrays:
    """One world after another, so that memory is that of one."""
    return jax.tree.map(np.asarray, jax.jit(partial(jax.lax.map, one))(keys))
