"""Several heads, on trunks of their own or on a shared one, read as mean, worst or penalised mean.

The first member with a trunk of its own is the single model of `heads`.
"""

from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from experiments.shop_rewards.kinds.heads import head, head_reward, head_scores, rows_of
from experiments.shop_rewards.kinds.scoring import Fitted, Scored, answers_of, scored, trained
from experiments.shop_rewards.world import Part, Tools
from rlhf_jax.algos.reward_ensemble import Combine, stack_members
from rlhf_jax.ops.ensembles import (
    MemberScale,
    mean_scores,
    member_scale,
    standardised_scores,
    uncertainty_penalised_scores,
    worst_case_scores,
)
from rlhf_jax.recipes import Reward, ensemble_reward, first_heads, shared_reward_model
from rlhf_jax.recipes.ensembles import ensemble_of
from rlhf_jax.training import Run, Stage
from rlhf_jax.types import Params

REFERENCE = 256  # training pairs whose answers give members their zero and unit


def readings(tools: Tools) -> dict[str, Combine]:
    """The consumers of an ensemble by name."""
    penalised = partial(uncertainty_penalised_scores, penalty=tools.config.kind.penalty)
    return {"mean": mean_scores, "WCO": worst_case_scores, "UWO": penalised}


def combined(tools: Tools, raw: np.ndarray, scale: MemberScale) -> dict[str, np.ndarray]:
    """Each reading [R] of members [N, R], in the mean unit of the members, that is in log-odds."""
    scores = standardised_scores(jnp.asarray(raw), scale)
    unit = float(scale.std.mean())
    return {name: unit * np.asarray(one(scores)) for name, one in readings(tools).items()}


def fit_separate(job: Run, tools: Tools, part: Part) -> Fitted:
    """Members with trunks of their own.

    "another scalar" is the second member alone: by how much two single models differ.
    """
    found = [head(job, tools, part, number) for number in range(tools.config.kind.members)]
    each = [one.arrays for one in found]

    def members(records: list[dict]) -> np.ndarray:
        return np.stack([head_scores(tools, params, records) for params in each])

    scale = member_scale(jnp.asarray(members(answers_of(part.pairs[:REFERENCE]))))

    def scores(records: list[dict]) -> Scored:
        raw = members(records)
        return Scored({"another scalar": raw[1], **combined(tools, raw, scale)}, raw)

    def reward(name: str) -> Reward:
        combine = readings(tools)[name]
        return ensemble_reward(tools.lab, stack_members(each), scale, combine=combine)

    rewards: Mapping = {name: partial(reward, name) for name in readings(tools)}
    rewards = {**rewards, "another scalar": partial(head_reward, tools, each[1])}
    return Fitted(scores, rewards, sum(one.seconds for one in found))


def fit_shared(job: Run, tools: Tools, part: Part) -> Fitted:
    """As many heads on one trunk, in one pass."""
    first = first_heads(part.lab, tools.sft, members=tools.config.kind.members)
    ensemble = ensemble_of(tools.lab, first, shared=True)

    def work(stage: Stage) -> tuple[Params, dict]:
        rows = rows_of(tools, part, part.pairs)
        return shared_reward_model(stage, part.lab, rows, first, tools.heads), {}

    found = trained(job, tools, f"{part.name}_shared", work, ensemble.init)
    score = jax.jit(ensemble.scores)

    def members(records: list[dict]) -> np.ndarray:
        return scored(lambda _, answers: score(found.arrays, answers).T, tools.lab, records).T

    scale = member_scale(jnp.asarray(members(answers_of(part.pairs[:REFERENCE]))))

    def scores(records: list[dict]) -> Scored:
        raw = members(records)
        each = combined(tools, raw, scale)
        return Scored({f"{name}, shared trunk": x for name, x in each.items()}, raw)

    return Fitted(scores, {}, found.seconds)
