"""Policies trained in many trials and put to the safety test, on prompts that each trial draws."""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from experiments.hc_rlhf.config import Config
from experiments.hc_rlhf.training import exact_training, sampled_training
from experiments.hc_rlhf.world import Prompts, World, answer_costs, draw_prompts, draw_world, means
from rlhf_jax.exact.safety_test import Limit, Looks, NoSolution, release, safety_test
from rlhf_jax.exact.upper_bounds import BoundKind, cost_inflation

ACTIVE = 0.05  # a world is taken if training ends as near to its limit
INFLATIONS = {
    "Lagrangian + test": (0.0, 0.0),
    "HC (0,1)": (0.0, 1.0),
    "HC (0,2)": (0.0, 2.0),
    "HC (4,2)": (4.0, 2.0),
}
UNTESTED = "Lagrangian, no test"
KINDS: tuple[BoundKind, ...] = ("t", "hoeffding", "bernstein", "clopper_pearson")
Arrays = dict[str, np.ndarray]


class Trials(NamedTuple):
    """costs: [T, n] of the safety test. means: [T, 2] true reward and cost of the policies."""

    costs: np.ndarray
    means: np.ndarray


def keys_of(config: Config) -> Mapping[str, Key[Array, ""]]:
    """One for each use."""
    names = ("worlds", "fresh", "exact", "whole", "sampled", "rare")
    return dict(zip(names, jax.random.split(jax.random.key(config.seed), len(names)), strict=True))


def active_world(config: Config) -> Arrays:
    """True mean costs of Lagrangian policies in all worlds, and the first that ends at its limit.

    Raises:
      ValueError: none does.
    """
    keys = jax.random.split(keys_of(config)["worlds"], config.worlds)

    @jax.jit
    def cost(key: Array) -> Array:
        world = draw_world(key, config)
        train, fresh = jax.random.split(key)
        prompts = draw_prompts(train, world, 1000)
        weights = exact_training(config, prompts, jnp.zeros(()), tau=config.tau)
        return means(weights, draw_prompts(fresh, world, config.fresh))[1]

    costs = np.array([cost(key) for key in keys])
    active = np.abs(costs - config.tau) <= ACTIVE
    if not active.any():
        raise ValueError(f"worlds must have one with an active limit, got mean costs {costs}")
    return {"costs": costs, "taken": np.array(np.argmax(active))}


def world_of(config: Config, taken: np.ndarray, *, rare: bool = False) -> World:
    """The world that `active_world` took."""
    key = jax.random.split(keys_of(config)["worlds"], config.worlds)[int(taken)]
    return draw_world(key, config)._replace(rare=rare)


@partial(jax.jit, static_argnames=("config", "rare", "train", "test", "sampled"))
def all_trials(
    keys: Key[Array, " T"],
    world: World,
    fresh: Prompts,
    inflation: Array,
    *,
    config: Config,
    rare: bool,
    train: int,
    test: int,
    sampled: bool,
) -> tuple[Array, Array]:
    """The arrays of `Trials`; each trial draws its own prompts."""
    world, tau = world._replace(rare=rare), config.rare_tau if rare else config.tau

    def one(key: Array) -> tuple[Array, Array]:
        train_key, step_key, test_key, answer_key = jax.random.split(key, 4)
        prompts = draw_prompts(train_key, world, train)
        if sampled:
            weights = sampled_training(config, step_key, prompts, inflation, tau=tau)
        else:
            weights = exact_training(config, prompts, inflation, tau=tau)
        held = draw_prompts(test_key, world, test)
        return answer_costs(answer_key, weights, held), means(weights, fresh)

    # One after the other: many at once leave the processor's cache, and take longer to compile.
    return jax.lax.map(one, keys)


def trained(
    config: Config, use: str, world: World, inflation: float, *, train: int, test: int
) -> Trials:
    """Every trial of one method. use: a name of `keys_of`."""
    keys = jax.random.split(jax.random.fold_in(keys_of(config)[use], train + test), config.trials)
    sizes = {"config": config, "train": train, "test": test}
    kinds = {"rare": use == "rare", "sampled": use == "sampled"}
    # Not drawn inside: the compiler would fold what depends on no argument.
    fresh = draw_prompts(keys_of(config)["fresh"], world._replace(rare=kinds["rare"]), config.fresh)
    found = all_trials(keys, world, fresh, jnp.asarray(inflation), **sizes, **kinds)
    return Trials(*(np.asarray(x) for x in found))


def returned(trials: Trials, limit: Limit, delta: float) -> np.ndarray:
    """[T] whether each trial's policy passed its only look."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the t bound: `reliability` counts them
        results = [
            safety_test(Looks(delta), {"cost": costs}, {"cost": limit})[0] for costs in trials.costs
        ]
    found = [release(weights, each) for weights, each in zip(trials.means, results, strict=True)]
    return np.array([not isinstance(each, NoSolution) for each in found])


def inflation_of(config: Config, method: str, train: int, test: int) -> float:
    """k of a method."""
    own, ahead = INFLATIONS[method]
    return cost_inflation(train, test, delta=config.delta, own=own, test=ahead)


def exact_study(config: Config, taken: np.ndarray) -> Arrays:
    """[sizes, methods, T] returned and true cost and reward; half of the prompts train."""
    world, limit = world_of(config, taken), Limit(config.tau)
    rows = []
    for size in config.sizes:
        half = size // 2
        whole = trained(config, "whole", world, 0.0, train=size, test=size)
        found = [(np.ones(config.trials, bool), whole)]
        for method in INFLATIONS:
            k = inflation_of(config, method, half, size - half)
            each = trained(config, "exact", world, k, train=half, test=size - half)
            found.append((returned(each, limit, config.delta), each))
        rows.append(found)
    return gathered(rows)


def longer_study(config: Config, taken: np.ndarray) -> Arrays:
    """[1, 1, T] Lagrangian policies on the most prompts of `exact_study`, after more steps."""
    longer, size = replace(config, steps=config.long_steps), config.sizes[-1]
    whole = trained(longer, "whole", world_of(config, taken), 0.0, train=size, test=size)
    return gathered([[(np.ones(config.trials, bool), whole)]])


def sampled_study(config: Config, taken: np.ndarray) -> Arrays:
    """The same at one size with sampled gradients, [1, methods, T], those with a test."""
    world, half = world_of(config, taken), config.sampled_size // 2
    test, found = config.sampled_size - half, []
    for method in INFLATIONS:
        k = inflation_of(config, method, half, test)
        each = trained(config, "sampled", world, k, train=half, test=test)
        found.append((returned(each, Limit(config.tau), config.delta), each))
    return gathered([found])


def rare_study(config: Config, taken: np.ndarray) -> Arrays:
    """Costs of 0 and 1: [tests, bounds, T] returned by each bound; names begin with the method.

    A smaller test of a Lagrangian policy reads the first costs of the largest one.
    """
    world, found = world_of(config, taken, rare=True), {}
    train, largest = config.rare_train, config.rare_tests[-1]
    limits = [Limit(config.rare_tau, kind, (0.0, 1.0)) for kind in KINDS]
    plain = trained(config, "rare", world, 0.0, train=train, test=largest)
    for method in ("Lagrangian + test", "HC (0,2)"):
        rows = []
        for test in config.rare_tests:
            each = plain._replace(costs=plain.costs[:, :test])
            if method != "Lagrangian + test":
                k = inflation_of(config, method, train, test)
                each = trained(config, "rare", world, k, train=train, test=largest)
                each = each._replace(costs=each.costs[:, :test])
            rows.append([(returned(each, limit, config.delta), each) for limit in limits])
        found |= {f"{method} {name}": x for name, x in gathered(rows).items()}
    return found


def gathered(rows: list) -> Arrays:
    """[R, C, T] of rows and columns of (returned, trials)."""
    return {
        "returned": np.array([[kept for kept, _ in row] for row in rows]),
        "reward": np.array([[each.means[:, 0] for _, each in row] for row in rows]),
        "cost": np.array([[each.means[:, 1] for _, each in row] for row in rows]),
    }
