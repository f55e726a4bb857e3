"""The trade-off of the theorem: regret and queries against T, where eps falls as T^-b."""

from collections.abc import Mapping
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from experiments.randomized_pbrl.config import Config
from experiments.randomized_pbrl.curves import NEVER, Method, regret_curves
from rlhf_jax.algos.planning import preference_lsvi as pr
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import bootstrap_claim

Arrays = Mapping[str, np.ndarray]
COINS = "questions at random"


def rates_study(config: Config) -> dict[str, np.ndarray]:
    """Final regret and queries on tables, a run of its own for every T.

    Returns:
      "regret", "queries" [seeds, exponents, horizons] with eps = T^-b; "greedy/regret", the same of
      the greedy fit without truncation, which asks by the same rule; "coins/queries" [seeds,
      horizons] of questions at random.
    Raises:
      ValueError: a run asked more than there was room for.
    """
    ends = [ends_at(config, rounds) for rounds in config.horizons]
    regrets, queries = (np.stack(each, axis=-1) for each in zip(*ends, strict=True))
    if queries.max() > config.room:
        raise ValueError(f"room must be at least {queries.max()}, the queries, got {config.room}")
    regrets, queries = (np.moveaxis(each, 0, 1) for each in (regrets, queries))
    count = len(config.exponents)
    return {
        "regret": regrets[:, :count],
        "queries": queries[:, :count],
        "greedy/regret": regrets[:, count:-1],
        "coins/queries": queries[:, -1],
    }


def ends_at(config: Config, rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """Regret and queries [methods, seeds] after so many rounds."""
    config = replace(config, rounds=rounds)
    keys = jax.random.split(jax.random.key(config.seed + 1), config.rate_seeds)
    with jax.enable_x64(True):
        stacked = jax.tree.map(lambda *each: jnp.stack(each), *rate_methods(config, rounds))

        def run(method):
            curves = regret_curves(config, config.table, keys, method, room=config.room)
            return jax.tree.map(lambda curve: curve[:, -1], curves)

        return jax.tree.map(np.asarray, jax.jit(jax.vmap(run))(stacked))


def rate_methods(config: Config, rounds: int) -> list[Method]:
    """The rule at eps = T^-b for every b, greedy under each rule, and coins at the highest rate."""
    thresholds = [
        pr.norm_threshold(float(rounds) ** -b, sigma=config.sigma_reward) for b in config.exponents
    ]
    sigmas = config.sigma_reward, config.sigma_values
    rules = [(*sigmas, each, 1.0, 1.0) for each in thresholds]
    greedy = [(0.0, 0.0, each, 1.0, NEVER) for each in thresholds]
    coins = (*sigmas, 0.0, config.rates[-1], 1.0)
    return [Method(*map(jnp.asarray, each)) for each in (*rules, *greedy, coins)]


def log_slope(horizons: tuple[int, ...], values: np.ndarray) -> float:
    """Of the log of the mean over seeds [seeds, horizons] in log T."""
    return float(np.polyfit(np.log(horizons), np.log(np.maximum(values.mean(0), 1e-9)), 1)[0])


def rate_claims(config: Config, found: Arrays) -> list[Claim]:
    """Exponents of the theorem as upper bounds, and that they move against each other."""

    def slope(values: np.ndarray) -> float:
        return log_slope(config.horizons, values)

    def rise(values: np.ndarray) -> float:
        return slope(values[:, -1]) - slope(values[:, 0])

    theorem = {"kind": "theorem", "source": "Theorem 4.2 at eps = T^-b"}
    claims = []
    for i, b in enumerate(config.exponents):
        claims += [
            bootstrap_claim(
                f"table, eps = T^-{b:g}: slope of log mean regret in log T",
                slope,
                [found["regret"][:, i]],
                "<=",
                1 - b,
                baseline=("greedy, no truncation", slope(found["greedy/regret"][:, i])),
                **theorem,
            ),
            bootstrap_claim(
                f"table, eps = T^-{b:g}: slope of log mean queries in log T",
                slope,
                [found["queries"][:, i]],
                "<=",
                2 * b,
                baseline=(COINS, slope(found["coins/queries"])),
                **theorem,
            ),
        ]
    most, least = config.exponents[-1], config.exponents[0]
    return [
        *claims,
        bootstrap_claim(
            f"table: slope of regret at b = {most:g} less that at b = {least:g}",
            rise,
            [found["regret"]],
            "<",
            0.0,
            baseline=("greedy, no truncation", rise(found["greedy/regret"])),
            **theorem,
        ),
    ]
