"""Parts A and B: linear factors, a reward learnt from the tree's labels, and what it chooses."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key

from experiments.heron.config import Config
from experiments.heron.pairs import winners_first
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.algos.reward_model import make_update
from rlhf_jax.feedback.hierarchical import deciding_levels, factor_margins, lexicographic_prefs
from rlhf_jax.types import RewardFn

FEATURES = 8
CONFLICT = 0.5  # how much of the first direction is taken out of the second
SUM_BETA = 0.5  # the weighted sum has weights 1, beta, beta^2
RANKINGS = {"1, 2, 3": (0, 1, 2), "2, 1, 3": (1, 0, 2)}
ODD_UNITS = (1.0, 100.0, 0.01)
LINEAR = RewardFn(lambda key: jnp.zeros(FEATURES), lambda params, moved: moved.inputs @ params)


class Problem(NamedTuple):
    """directions: [3, d] unit, of the factors. first, second: [P, d] items of each comparison.

    items: [N, d], all of them. offers: [C, K, d] to choose from.
    """

    directions: Array
    items: Array
    first: Array
    second: Array
    offers: Array


def make_problem(key: Key[Array, ""], config: Config) -> Problem:
    """Standard normal items, and three factors of which the second is against the first."""
    keys = jax.random.split(key, 4)
    directions = _unit(jax.random.normal(keys[0], (3, FEATURES)))
    directions = directions.at[1].set(_unit(directions[1] - CONFLICT * directions[0]))
    items = jax.random.normal(keys[1], (config.points, FEATURES))
    rows = jax.random.randint(keys[2], (2, config.pairs), 0, config.points)
    offers = jax.random.normal(keys[3], (config.contexts, config.candidates, FEATURES))
    return Problem(directions, items, items[rows[0]], items[rows[1]], offers)


def judge(problem: Problem, units: Array, ranking: Array, sigma: Array) -> tuple[Array, Array]:
    """The tree's verdicts and deciding levels [P] on factors measured in `units` [3]."""

    def ranked(items):
        return (items @ (units[:, None] * problem.directions).T)[..., ranking]

    margins = factor_margins(ranked(problem.items), sigma)
    pair = ranked(problem.first), ranked(problem.second)
    return lexicographic_prefs(*pair, margins), deciding_levels(*pair, margins)


def chosen(problem: Problem, weights: Float[Array, "d"]) -> Float[Array, "3"]:
    """Mean factors, in their own units, of the best offer of each context by a linear reward."""
    best = jnp.argmax(problem.offers @ weights, axis=-1)[:, None, None]
    items = jnp.take_along_axis(problem.offers, best, axis=1)[:, 0]
    return (items @ problem.directions.T).mean(0)


def fit(problem: Problem, prefs: Array, config: Config) -> Float[Array, "d"]:
    """Logistic regression without a constant, on the decided pairs."""
    pairs = winners_first(prefs, problem.first, problem.second)
    optimizer = optax.adam(config.rate)
    update = make_update(LINEAR, optimizer)
    state = init_state(jnp.zeros(FEATURES), optimizer)
    state, _ = jax.lax.scan(lambda s, _: (update(s, pairs)[0], None), state, length=config.steps)
    return state.params


def scale_study(config: Config) -> dict[str, np.ndarray]:
    """Part A. Factors chosen [scales, seeds, 3] by each method; flipped: share of labels that are
    other than at scale 1 [scales, seeds]."""
    ranking = jnp.asarray(RANKINGS["1, 2, 3"])

    def one(problem: Problem, scale: Array) -> dict[str, Array]:
        units = jnp.ones(3).at[1].set(scale)
        prefs, _ = judge(problem, units, ranking, jnp.ones(()))
        plain, _ = judge(problem, jnp.ones(3), ranking, jnp.ones(()))
        weights = units * SUM_BETA ** jnp.arange(3)
        spread = jnp.std(problem.items @ (units[:, None] * problem.directions).T, axis=0)
        return {
            "HERON": chosen(problem, fit(problem, prefs, config)),
            "weighted sum": chosen(problem, weights @ problem.directions),
            "standardised sum": chosen(problem, weights / spread @ problem.directions),
            "flipped": jnp.mean(prefs != plain),
        }

    return _over_seeds(config, one, jnp.asarray(config.scales))


def ranking_study(config: Config) -> dict[str, np.ndarray]:
    """Part B. chosen: [rankings, sigmas, seeds, 3]; levels: share of pairs decided at each level,
    and of those undecided [..., 4]; same: share of labels that odd units leave as they are."""
    rankings = jnp.asarray(list(RANKINGS.values()))
    sigmas = jnp.asarray(config.sigmas)

    def one(problem: Problem, setting: tuple[Array, Array]) -> dict[str, Array]:
        prefs, levels = judge(problem, jnp.ones(3), *setting)
        odd, _ = judge(problem, jnp.asarray(ODD_UNITS), *setting)
        return {
            "chosen": chosen(problem, fit(problem, prefs, config)),
            "levels": jnp.mean(levels[:, None] == jnp.arange(4), axis=0),
            "same": jnp.mean(odd == prefs),
        }

    settings = (jnp.repeat(rankings, len(sigmas), axis=0), jnp.tile(sigmas, len(rankings)))
    flat = _over_seeds(config, one, settings)
    return {k: v.reshape(len(rankings), len(sigmas), *v.shape[1:]) for k, v in flat.items()}


def _over_seeds(config: Config, one, settings) -> dict[str, np.ndarray]:
    """`one(problem, setting)` for each setting and seed, [settings, seeds, ...]."""
    keys = jax.random.split(jax.random.key(config.seed), config.num_seeds)
    problems = jax.vmap(lambda key: make_problem(key, config))(keys)
    each = jax.vmap(one, in_axes=(0, None))
    found = jax.jit(lambda problems: jax.lax.map(lambda one: each(problems, one), settings))
    return jax.tree.map(np.asarray, found(problems))


def _unit(x: Float[Array, "*B d"]) -> Float[Array, "*B d"]:
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)
