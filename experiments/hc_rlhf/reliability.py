"""The safety test without any training: simulated costs of a fixed policy, and what controls it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from experiments.hc_rlhf.config import Config
from experiments.hc_rlhf.studies import KINDS
from rlhf_jax.exact.safety_test import t_doubts
from rlhf_jax.exact.upper_bounds import mean_upper_bound, t_upper_bound
from rlhf_jax.ops.constraints import pid_multipliers, pid_start

LAWS = {"Beta(.05, .95)": 0.05, "uniform": 0.5, "Bernoulli .05": 0.05}  # and their means
LIMIT = 0.3  # of the policy with two actions
RULES = ("I", "PI", "PID")
Arrays = dict[str, np.ndarray]


def draw_costs(random: np.random.Generator, law: str, shape: tuple[int, ...]) -> np.ndarray:
    """Costs in [0, 1]."""
    if law == "uniform":
        return random.uniform(size=shape)
    if law == "Bernoulli .05":
        return (random.uniform(size=shape) < LAWS[law]).astype(float)
    return random.beta(0.05, 0.95, size=shape)


def simulated_tests(config: Config) -> Arrays:
    """Counts [laws, sizes, bounds] of tests that pass on the boundary, and of those that pass where
    the mean is `margin` below the limit; -1 where a bound is not for a law.

    "warned": counts [laws, sizes] of those t bounds below the mean that come with a warning, and
    "warned at all" of all t bounds.
    """
    random = np.random.default_rng(config.seed)
    shape = (len(LAWS), len(config.test_sizes), len(KINDS))
    unsafe, safe = np.full(shape, -1), np.full(shape, -1)
    warned = np.zeros((2, *shape[:2]), int)
    for i, (law, mean) in enumerate(LAWS.items()):
        for j, size in enumerate(config.test_sizes):
            costs = draw_costs(random, law, (config.tests, size))
            for k, kind in enumerate(KINDS):
                if kind == "clopper_pearson" and law != "Bernoulli .05":
                    continue
                uppers = mean_upper_bound(costs, delta=config.delta, kind=kind, bounds=(0.0, 1.0))
                unsafe[i, j, k] = np.sum(uppers < mean)
                safe[i, j, k] = np.sum(uppers <= mean + config.margin)
                if kind == "t":
                    told = t_doubts(costs, delta=config.delta) > 0.0
                    warned[:, i, j] = np.sum(told & (uppers < mean)), np.sum(told)
    return {"unsafe": unsafe, "safe": safe, "warned": warned[0], "warned at all": warned[1]}


def repeated_looks(config: Config) -> Arrays:
    """[2, tests, looks] whether a look has passed by then: each at delta, and at delta / looks.

    The costs of every look are fresh and normal, their mean `look_gap` above the limit 0.
    """
    random = np.random.default_rng(config.seed + 1)
    passed = np.zeros((2, config.tests, config.looks), bool)
    for look in range(config.looks):
        costs = random.normal(config.look_gap, 1.0, (config.tests, config.look_size))
        for i, delta in enumerate((config.delta, config.delta / config.looks)):
            passed[i, :, look] = t_upper_bound(costs, delta=delta) <= 0.0
    return {"passed": np.logical_or.accumulate(passed, axis=-1)}


def controllers(config: Config) -> Arrays:
    """[rules, steps] P(the paid and costly action) as its multiplier is controlled."""
    gains = {"I": (0.0, 0.0), "PI": (config.control_gain, 0.0)}
    gains["PID"] = (config.control_gain, config.control_gain)
    paths = [two_actions(config, *map(jnp.asarray, gains[rule])) for rule in RULES]
    return {"costs": np.stack(paths)}


@partial(jax.jit, static_argnames="config")
def two_actions(
    config: Config, proportional: Float[Array, ""], derivative: Float[Array, ""]
) -> Float[Array, " T"]:
    """p = sigmoid(theta) with reward = cost = p and gradients of rate 0.3; p <= 0.3 is asked."""

    def step(carry: tuple, _: None) -> tuple:
        theta, state = carry
        probs = jax.nn.sigmoid(theta)
        multipliers, state = pid_multipliers(
            state,
            probs[None] - LIMIT,
            proportional=proportional,
            rate=config.control_rate,
            derivative=derivative,
        )
        slope = (1.0 - multipliers[0]) * probs * (1.0 - probs)
        return (theta + 0.3 * slope, state), probs

    first = (jnp.zeros(()), pid_start(jnp.zeros(1)))
    return jax.lax.scan(step, first, length=config.control_steps)[1]
