"""Part D: the lights of two junctions, searched on the travel time, on weighted sums of six
factors, and on HERON's reward.

The search is the same for all: the cross-entropy method on the weights of the lights.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key

from experiments.heron.config import Config, Traffic
from experiments.heron.junctions import FACTORS, FEATURES, Demand, drive
from experiments.heron.pairs import winners_first
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.algos.reward_model import make_update
from rlhf_jax.feedback.hierarchical import factor_margins, lexicographic_prefs
from rlhf_jax.models.mlp import make_mlp
from rlhf_jax.types import PyTree, RewardFn, TrainState

USUAL = Demand(jnp.array([0.30, 0.20, 0.20]), jnp.ones(()))
WORLDS = {
    "as trained": USUAL,
    "demand x 1.2": USUAL._replace(arrivals=1.2 * USUAL.arrivals),
    "side roads busy": USUAL._replace(arrivals=jnp.array([0.20, 0.30, 0.30])),
    "wet road, service x 0.85": USUAL._replace(service=jnp.asarray(0.85)),
}
RANKING = (0, 1, 2, 3, 4, 5)  # as the factors are listed: queue first
NETWORK = make_mlp((len(FACTORS), 32, 1))
UPDATES, ITEMS = 16, 32  # of the reward network in each round, and items of a batch
OPTIMIZER = optax.adam(1e-2)
SCORER = RewardFn(NETWORK.init, lambda params, moved: NETWORK.apply(params, moved.inputs)[..., 0])


# `(key, train, factors [P, E, 6], travel [P, E]) -> (train, scores [P])`, of P policies and E
# episodes of each.
Score = Callable[..., tuple[TrainState, Array]]


class Search(NamedTuple):
    """mean, std: [FEATURES] of the weights of the lights. reward: HERON's network."""

    mean: Array
    std: Array
    reward: TrainState


def trees(size: Traffic) -> dict[str, tuple[tuple[int, ...], float]]:
    """Ranking and margin multiplier of each HERON, and of those that must fail."""
    orders = {"HERON": RANKING, "HERON reversed": RANKING[::-1]}
    return {
        f"{name}, sigma {sigma:g}": (order, sigma)
        for name, order in orders.items()
        for sigma in size.sigmas
    }


def sums(size: Traffic) -> dict[str, tuple[float, float, float]]:
    """beta, 1 for standardised factors, and the unit of the switches, of each weighted sum."""
    kinds = {
        "standardised sum": (1.0, 1.0),
        "raw sum": (0.0, 1.0),
        f"raw sum, switches x {size.unit:g}": (0.0, size.unit),
    }
    return {
        f"{kind}, beta {beta:g}": (beta, *how) for kind, how in kinds.items() for beta in size.betas
    }


def methods(size: Traffic) -> tuple[str, ...]:
    """In the order of the arrays."""
    return ("travel time", *sums(size), *trees(size), "random search", "fixed cycle")


def traffic_runs(config: Config) -> dict[str, np.ndarray]:
    """ "travel" [methods, seeds, worlds]: mean travel time after the search, on fresh episodes that
    all methods share; "curve" [searched methods, seeds, rounds] in the world of training."""
    size = config.traffic
    keys = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), 7), size.num_seeds)
    alone = jnp.zeros(1)
    orders, sigmas = zip(*trees(size).values(), strict=True)
    ranked = (jnp.asarray(orders), jnp.asarray(sigmas))
    parts = [
        _over(keys, alone, lambda _: score_travel, size),
        _over(keys, jnp.asarray(list(sums(size).values())), lambda w: score_sum(*w), size),
        _over(keys, ranked, lambda tree: score_heron(*tree), size),
        _over(keys, alone, lambda _: score_nothing, size),
    ]
    travel, curves = (np.concatenate([np.asarray(part[i]) for part in parts]) for i in (0, 1))
    # A fixed cycle: the light switches after so many steps, whatever is there; the best of them.
    cycles = jnp.array([[-n / 10 + 0.05, 0, 0, 0, 1.0, 0] for n in size.cycles])
    timed = jax.vmap(jax.vmap(lambda key, w: judged(key, w, size), (0, None)), (None, 0))
    timed = np.asarray(jax.jit(timed)(keys, cycles))
    best = timed[timed[..., 0].mean(1).argmin()]
    return {"travel": np.concatenate([travel, best[None]]), "curve": curves}


def _over(keys: Array, settings: PyTree, scored: Callable[..., Score], size: Traffic):
    """Travel times and curves [settings, seeds, ...]."""
    one = jax.vmap(lambda key, setting: searched(key, scored(setting), size), (0, None))
    return jax.jit(jax.vmap(one, (None, 0)))(keys, settings)


def score_travel(key, train, factors, travel):
    """The measure itself."""
    return train, -travel.mean(1)


def score_nothing(key, train, factors, travel):
    """Chooses at random."""
    return train, jax.random.normal(key, travel.shape[:1])


def score_sum(beta: Array, standardise: Array, unit: Array) -> Score:
    """sum_l beta^l z_l in the order of the ranking, each over its spread or not, with the switches
    in this unit."""

    def score(key, train, factors, travel):
        spread = jnp.std(factors.reshape(-1, len(FACTORS)), axis=0)
        measured = jnp.ones(len(FACTORS)).at[FACTORS.index("switches")].set(1 / unit)
        units = jnp.where(standardise > 0, nonzero(spread), measured)
        return train, factors.mean(1) / units @ beta ** jnp.arange(len(FACTORS))

    return score


def score_heron(ranking: Array, sigma: Array) -> Score:
    """A network of the standardised factors, fitted to the tree's labels of the round's episodes,
    all pairs of a batch; nothing of the scale of a factor is left."""
    update = make_update(SCORER, OPTIMIZER)

    def score(key, train, factors, travel):
        sample = factors.reshape(-1, len(FACTORS))
        ranked = sample[:, ranking]
        margins = factor_margins(ranked, sigma)
        inputs = (sample - sample.mean(0)) / nonzero(jnp.std(sample, axis=0))

        def fit(train, key):
            rows = jax.random.permutation(key, len(sample))[:ITEMS]
            one, other = (rows[each] for each in jnp.triu_indices(ITEMS, 1))
            prefs = lexicographic_prefs(ranked[one], ranked[other], margins)
            return update(train, winners_first(prefs, inputs[one], inputs[other]))[0], None

        train, _ = jax.lax.scan(fit, train, jax.random.split(key, UPDATES))
        scores = NETWORK.apply(train.params, inputs)[..., 0]
        return train, scores.reshape(travel.shape).mean(1)

    return score


def searched(key: Key[Array, ""], score: Score, size: Traffic) -> tuple[Array, Array]:
    """Travel time of the lights that are found in each world, and of those tried [rounds]."""
    play_key, init_key = jax.random.split(key)

    def one(weights, key):
        return drive(key, weights, USUAL, steps=size.steps)

    def turn(now: Search, key):
        draw, worlds, choose = jax.random.split(key, 3)
        tried = now.mean + now.std * jax.random.normal(draw, (size.population, FEATURES))
        starts = jax.random.split(worlds, size.episodes)
        factors, travel = jax.vmap(jax.vmap(one, (None, 0)), (0, None))(tried, starts)
        reward, scores = score(choose, now.reward, factors, travel)
        elite = tried[jax.lax.top_k(scores, size.elite)[1]]
        return Search(elite.mean(0), elite.std(0) + size.least, reward), travel.mean()

    reward = init_state(SCORER.init(init_key), OPTIMIZER)
    start = Search(jnp.zeros(FEATURES), jnp.ones(FEATURES), reward)
    end, curve = jax.lax.scan(turn, start, jax.random.split(play_key, size.rounds))
    return judged(key, end.mean, size), curve


def judged(key: Key[Array, ""], weights: Float[Array, "6"], size: Traffic) -> Float[Array, "W"]:
    """Travel time in each world, on episodes that depend on the seed alone."""
    starts = jax.random.split(jax.random.fold_in(key, 1), size.starts)

    def mean(demand):
        return jax.vmap(lambda k: drive(k, weights, demand, steps=size.steps)[1])(starts).mean()

    return jnp.stack([mean(demand) for demand in WORLDS.values()])


def nonzero(spread: Array) -> Array:
    """A deviation to divide by: 1 where nothing changes."""
    return jnp.where(spread > 0, spread, 1.0)
