"""Rewards of several groups of people, of which the worst-off counts (MaxMin-RLHF).

    reward = grouped_reward(lab, task, worst_group_scores)   # the objective: several rewards
    params = online(stage, lab, task, grpo(lab, samples=8), reward, sft, rows, fit, key=key)

Every step takes the answers of its own batch: they are paid by the reward of the group that they
serve worst. The KL to the reference is the same for all groups and stays out of it.
A minimum needs one zero and one unit for all rewards: win rates and checks have them, scores of
reward models need `ops.ensembles.standardised_scores` over answers of the reference policy.

Reference: Chakraborty et al. 2024, arXiv:2402.08925, Algorithm 1.
"""

from typing import Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rlhf_jax.checks import check_range
from rlhf_jax.ops.aggregate import (
    group_values,
    known_values,
    soft_minimum_weights,
    weighted_rewards,
    worst_group_weights,
)
from rlhf_jax.recipes.episodes import Transcripts, score_transcripts
from rlhf_jax.recipes.lab import LanguageLab
from rlhf_jax.recipes.rewards import Reward
from rlhf_jax.recipes.task import Scores, Task, overall
from rlhf_jax.sharding import on_host
from rlhf_jax.training import UserError
from rlhf_jax.types import Params, Prompts, Scalar, Trajectory


@runtime_checkable
class GroupRule(Protocol):
    """One score for each answer of a batch; pure. `ops.aggregate.minimum_rewards` is one."""

    def __call__(self, rewards: Float[Array, "*B k"], /) -> Float[Array, "*B"]: ...


def worst_group_scores(rewards: Float[Array, "*B k"]) -> Float[Array, "*B"]:
    """The reward of the group that is lowest on average over all answers; NaN where it is."""
    return weighted_rewards(rewards, worst_group_weights(known_values(group_values(rewards))))


def soft_group_scores(rewards: Float[Array, "*B k"], *, temperature: Scalar) -> Float[Array, "*B"]:
    """sum_u w_u r_u,   w = softmax(-mean r / T): between the worst group and the mean of all.

    It does not chatter between groups whose means are within T of each other.

    Args:
      temperature: T > 0, in units of the rewards.
    """
    check_range("(0, inf)", temperature=temperature)
    values = known_values(group_values(rewards))
    prior = jnp.full(values.shape, 1.0 / len(values), values.dtype)
    weights = soft_minimum_weights(values, prior, temperature=temperature)
    return weighted_rewards(rewards, weights)


def grouped_reward(lab: LanguageLab, task: Task, rule: GroupRule) -> Reward:
    """The rewards of the task's objective, each times its weight, made one by a rule.

    An answer that lacks the reward of a group with weight is left out of the update, and it counts
    for the means of the groups that it has. All scores are logged by name.

    Raises:
      UserError: an objective of one score.
    """
    if isinstance(task.objective, str) or len(task.objective) < 2:
        raise UserError(f"groups need an objective of several scores, got {task.objective!r}")
    factors = dict(task.objective)

    def host(prompts: Prompts, found: Transcripts) -> tuple[np.ndarray, Scores]:
        indices = np.asarray(prompts.indices)
        _, named = score_transcripts(lab, task, indices, on_host(found))
        overall(task, named)  # names a reward that the task does not give
        rewards = [factor * named[name] for name, factor in factors.items()]
        return np.stack(rewards, axis=-1).astype(np.float32), named

    def scores(params: Params, given: Array, trajectory: Trajectory) -> Array:
        return rule(given)

    return Reward((), host, scores)
