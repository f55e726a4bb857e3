"""PPO and its filters on a reward that is wrong in its middle, all at one rate."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.shop_methods.measure import heldout_numbers
from experiments.shop_methods.online import fit_online
from experiments.shop_methods.parts import Part
from experiments.shop_methods.world import Tools
from rlhf_jax.recipes import Reward, measure, stage_key
from rlhf_jax.recipes.task import overall
from rlhf_jax.training import Run, Stage, run_stage
from rlhf_jax.types import Params, Trajectory

PLAIN, FILTERS = "ppo", ("pf_ppo_worst", "pf_ppo_random")
AMPLITUDE, MIDDLE = 2.0, 0.7  # of what is added where |r| < MIDDLE, in deviations of r


def noisy_golds(job: Run, tools: Tools, part: Part, rate: float) -> dict[str, float]:
    """Gold on held-out prompts after PPO without and with each filter."""
    reward = noisy_middle(part.reward(tools), tools.lab.vocabulary.size, part.seed)
    return {name: noisy_gold(job, tools, part, rate, name, reward) for name in (PLAIN, *FILTERS)}


def noisy_gold(job: Run, tools: Tools, part: Part, rate: float, name: str, reward: Reward) -> float:
    """Of one training."""

    def work(stage: Stage) -> tuple[Params, dict[str, float]]:
        params = fit_online(stage, tools, part, rate, name=name, reward=reward)
        key, prompts = stage_key(part.lab, "evaluation"), heldout_numbers(tools)
        found = measure(tools.lab, tools.task, params, tools.start, prompts, key)
        return {}, {"gold": float(np.nanmean(overall(tools.task, found.named)))}

    return run_stage(job, f"noise_{name}_{part.seed}", work).info["gold"]


def noisy_middle(reward: Reward, words: int, seed: int) -> Reward:
    """r + 2 u where |r| < 0.7; u, of variance about 1, is a fixed number of each word, summed over
    an answer and divided by the root of its length: it says nothing of what the answer is worth."""
    numbers = jax.random.normal(jax.random.key(seed), (words,))

    def scores(params: Any, given: Any, trajectory: Trajectory) -> jax.Array:
        found = reward.scores(params, given, trajectory)
        counts = jnp.sum(trajectory.mask, axis=-1)
        summed = jnp.sum(jnp.where(trajectory.mask, numbers[trajectory.actions], 0.0), axis=-1)
        noise = AMPLITUDE * summed / jnp.sqrt(jnp.maximum(counts, 1))
        return found + jnp.where(jnp.abs(found) < MIDDLE, noise, 0.0)

    return reward._replace(scores=scores)
