"""Pairs with biased labels, and reward models fitted to what each recipe makes of them."""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.skywork_reward_v2.config import Config
from rlhf_jax.algos.planning.reward_newton import fit_rewards
from rlhf_jax.data.curation import (
    Curation,
    agreement_precision,
    consistency_filter,
    judge_relabel,
    pair_confidences,
)

# Recipes that curate with a gold model and the model of their own last round.
CURATED = ("filter", "filter + flip", "filter + all flipped", "judge relabels", "random gold model")
UNCURATED = ("raw", "judge labels all", "clean labels")
RECIPES = (*UNCURATED, *CURATED)


class World(NamedTuple):
    """Features are differences of a pair, first minus second answer; labels 1 if the first won.

    weights: [d] true reward. verified, verified_labels: [n, d], [n].
    features: [N, d] pool, with labels true, wild and by the judge, each [N], 1 or -1.
    test: [M, d].
    """

    weights: np.ndarray
    verified: np.ndarray
    verified_labels: np.ndarray
    features: np.ndarray
    true: np.ndarray
    wild: np.ndarray
    judged: np.ndarray
    test: np.ndarray


def draw_world(config: Config, draws: np.random.Generator) -> World:
    """A true reward and all pairs."""
    size = config.sizes[-1]
    weights = draws.normal(size=config.features)
    weights[0] = 0.0
    weights *= config.scale / np.linalg.norm(weights)

    def pairs(count: int) -> tuple[np.ndarray, np.ndarray]:
        features = draws.normal(size=(count, config.features))
        return features, np.sign(features @ weights + config.noise * draws.logistic(size=count))

    verified, features = pairs(config.verified), pairs(size)
    true = features[1]
    styled = draws.random(size) < config.style
    wild = np.where(styled, np.sign(features[0][:, 0]), true)
    judged = np.where(draws.random(size) < config.judge, true, -true)
    test = draws.normal(size=(config.test, config.features))
    return World(weights, *verified, *features, wild, judged, test)


@partial(jax.jit, static_argnames="ridge")
def fit_signs(features: np.ndarray, signs: np.ndarray, *, ridge: float) -> jax.Array:
    """[d] Bradley-Terry weights; a pair has the label 1 or -1, 0 leaves it out."""
    chosen = jnp.asarray(features * signs[:, None])
    used = jnp.abs(signs).astype(chosen.dtype)
    return fit_rewards(chosen, jnp.zeros_like(chosen), used, beta=1.0, ridge=ridge).params


def run_unit(config: Config, unit: int) -> dict:
    """Accuracies and counts of every recipe at every size, for one true reward."""
    draws = np.random.default_rng([config.seed, unit])
    world = draw_world(config, draws)
    gold = fit(config, world.verified, world.verified_labels)
    chance = draws.normal(size=config.features)
    found = {f"{kind}/gold only": x for kind, x in accuracies(world, gold).items()}
    for recipe in RECIPES:
        first = chance if recipe == "random gold model" else gold
        rounds = list(run_rounds(config, world, recipe, first))
        found |= {f"{kind}/{recipe}": np.array([x[kind] for x in rounds]) for kind in rounds[0]}
    return found


def run_rounds(config: Config, world: World, recipe: str, gold: np.ndarray) -> Iterator[dict]:
    """Round by round the pool grows, and is curated by the gold model and the last round's."""
    best = gold
    for size in config.sizes:
        part = world._replace(
            **{name: getattr(world, name)[:size] for name in ("features", "true", "wild", "judged")}
        )
        if recipe in UNCURATED:
            labels = dict(zip(UNCURATED, (part.wild, part.judged, part.true), strict=True))[recipe]
            counted = {}
        else:
            curation = curate_round(part, recipe, gold, best)
            labels = curation.signs * part.wild
            counted = precisions(part, curation, gold, best)
        best = fit(config, part.features, labels)
        yield accuracies(world, best) | counted


def curate_round(part: World, recipe: str, gold: np.ndarray, best: np.ndarray) -> Curation:
    """What a recipe does with each pair of the pool."""
    verdicts = (part.judged == part.wild).astype(float)
    if recipe == "judge relabels":
        return judge_relabel(sureness(part, best), verdicts)
    curation = consistency_filter(
        sureness(part, gold),
        sureness(part, best),
        verdicts,
        flip_discarded=recipe == "filter + all flipped",
    )
    if recipe == "filter":
        return curation._replace(flip=np.zeros_like(curation.flip))
    return curation


def sureness(part: World, weights: np.ndarray) -> np.ndarray:
    """[N] confidence of a reward model in the pool's labels."""
    gaps = part.wild * (part.features @ weights)
    return pair_confidences(gaps, np.zeros_like(gaps))


def precisions(part: World, curation: Curation, gold: np.ndarray, best: np.ndarray) -> dict:
    """Shares of the pool kept, flipped and among them right; agreement of both models with a label,
    and how often it would be right if their errors were independent."""
    right = part.wild == part.true
    models = [sureness(part, weights) > 0.5 for weights in (gold, best)]
    both = models[0] & models[1]
    checks = [float((agrees == right).mean()) for agrees in models]
    return {
        "kept": curation.keep.mean(),
        "flipped": curation.flip.mean(),
        "asked": curation.relabel.mean(),
        "rightly kept": (right & curation.keep).mean(),
        "rightly flipped": (~right & curation.flip).mean(),
        "both agree right": share(right, both),
        "both agree if independent": agreement_precision(float(right.mean()), *checks),
    }


def accuracies(world: World, weights: np.ndarray) -> dict:
    """On all test pairs and on those where style points to the worse answer."""
    truth = np.sign(world.test @ world.weights)
    correct = np.sign(world.test @ weights) == truth
    hard = np.sign(world.test[:, 0]) != truth
    return {"all": correct.mean(), "hard": share(correct, hard)}


def share(hits: np.ndarray, among: np.ndarray) -> float:
    """Mean of hits among some; NaN if there are none."""
    return float(hits[among].mean()) if among.any() else float("nan")


def fit(config: Config, features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Weights [d] on the host."""
    return np.asarray(fit_signs(features, labels.astype(float), ridge=config.ridge))
