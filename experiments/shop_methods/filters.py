"""PPO and its filters (PF-PPO) where the middle of the reward is noise: does a filter help?

Outside the middle half of the labelled answers the reward is the objective; within, it is a taste
for words that has nothing to do with it, between the same two values.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.shop_methods.config import Config
from experiments.shop_methods.controls import RATE
from experiments.shop_methods.measure import mean_objective
from experiments.shop_methods.online import fit_online, with_critic
from experiments.shop_methods.parts import Part
from experiments.shop_methods.world import Tools
from rlhf_jax.ops.filtration import best_random_weights, best_worst_weights, uniform_weights
from rlhf_jax.recipes import Reward, task_reward
from rlhf_jax.training import Run, Stage, run_stage
from rlhf_jax.types import Trajectory

REPLICATIONS = 4  # draws of answers and of the taste
LONGER = 2  # times the steps of the other controls


def middle_weights(scores: jax.Array) -> jax.Array:
    """Of four answers the two that `best_worst_weights` leaves out: what must not help."""
    return 2 * uniform_weights(scores) - best_worst_weights(scores)


NONE, WORST, RANDOM, MIDDLE = "none", "best and worst", "best and random", "middle"
FILTERS: dict[str, Any] = {
    NONE: None,
    WORST: best_worst_weights,
    RANDOM: best_random_weights,
    MIDDLE: middle_weights,
}
OF_METHODS = {"pf_ppo_worst": WORST, "pf_ppo_random": RANDOM}


def stage_name(name: str, replication: int) -> str:
    """The stage of a training."""
    return f"control_filter_{name.replace(' ', '_')}_{replication}"


def filters_of(config: Config) -> tuple[str, ...]:
    """The filters of the run's methods between none and the one that must not help; () without a
    method that filters, or without controls."""
    mine = tuple(name for method, name in OF_METHODS.items() if method in config.chosen())
    return (NONE, *mine, MIDDLE) if mine and config.controls.steps and not config.model else ()


def last_filtered(config: Config) -> str | None:
    """The last stage of `filter_golds`, with which all are there; None without any."""
    names = filters_of(config)
    return stage_name(names[-1], REPLICATIONS - 1) if names else None


def filter_golds(job: Run, tools: Tools, part: Part) -> dict[str, list[float]]:
    """Filter -> objective on held-out prompts after a training with it, for each replication."""
    golds: dict[str, list[float]] = {name: [] for name in filters_of(tools.config)}
    for i in range(REPLICATIONS):
        for name, found in golds.items():
            found.append(filtered(job, tools, part, name, i))
    return golds


def filtered(job: Run, tools: Tools, part: Part, name: str, replication: int) -> float:
    """A training with one of FILTERS on one draw."""
    lab = part.lab._replace(seed=part.lab.seed + replication)
    here = part._replace(lab=lab)

    def work(stage: Stage) -> tuple[dict, dict[str, float]]:
        method = with_critic(tools, here, keep=FILTERS[name])
        reward = noisy_middle(tools, here, replication)
        steps = LONGER * tools.config.controls.steps
        options: dict[str, Any] = {"method": method, "reward": reward, "steps": steps}
        params = fit_online(stage, tools, here, RATE, **options)
        return {}, {"gold": mean_objective(tools, lab, params)}

    return run_stage(job, stage_name(name, replication), work).info["gold"]


def noisy_middle(tools: Tools, part: Part, replication: int) -> Reward:
    """The objective with a noisy middle, in deviations of the labelled answers."""
    gold = np.array([[row["gold_chosen"], row["gold_rejected"]] for row in part.pairs])
    low, high = np.quantile(gold, (0.25, 0.75))
    rng = np.random.default_rng([part.seed, replication])
    taste = rng.normal(size=tools.lab.vocabulary.size)
    return with_noise(
        task_reward(tools.lab, tools.task),
        jnp.asarray(taste, jnp.float32),
        low=float(low),
        high=float(high),
        mean=float(gold.mean()),
        std=float(gold.std()),
    )


def with_noise(
    reward: Reward, taste: jax.Array, *, low: float, high: float, mean: float, std: float
) -> Reward:
    """r outside (low, high), else the middle plus half the width times tanh(2 u), over `std`.

    u: the sum of the tastes of an answer's tokens over the root of their number.
    """

    def scores(params: Any, given: Any, trajectory: Trajectory) -> jax.Array:
        found = reward.scores((), given, trajectory)
        mask = trajectory.mask
        liked = jnp.sum(jnp.where(mask, params[trajectory.actions], 0.0), axis=-1)
        liked = liked / jnp.sqrt(jnp.maximum(jnp.sum(mask, axis=-1), 1))
        noise = 0.5 * (low + high) + 0.5 * (high - low) * jnp.tanh(2.0 * liked)
        return (jnp.where((found > low) & (found < high), noise, found) - mean) / std

    return reward._replace(params=taste, scores=scores)
