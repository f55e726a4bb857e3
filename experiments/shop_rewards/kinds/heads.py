"""Bradley-Terry with a scalar head: the baseline, and what other kinds are made of."""

from functools import partial

import numpy as np

from experiments.shop_rewards.kinds.scoring import Fitted, Scored, scored, trained
from experiments.shop_rewards.world import Part, Tools
from rlhf_jax.losses.reward import soft_margin_bradley_terry_loss
from rlhf_jax.recipes import (
    LanguageLab,
    Reward,
    model_reward,
    on_trunk,
    pair_rows,
    reward_model,
    stage_key,
)
from rlhf_jax.recipes.offline import ScoreScale
from rlhf_jax.recipes.rows import Rows
from rlhf_jax.training import Run, Stage, StageResult
from rlhf_jax.types import Params

PLAIN = ScoreScale(0.0, 1.0)  # GRPO divides by the deviation within a group anyway


def rows_of(
    tools: Tools,
    part: Part,
    pairs: list[dict],
    *,
    seed: int = 0,
    **given: dict[str, np.ndarray] | None,
) -> Rows:
    """Batches of pairs of similar length.

    Args:
      pairs: those of the part, or what was made of them. seed: of the order, beside the part's.
      given: reference or columns, as in `pair_rows`.
    """
    size, lab = tools.config.training.batch_size, seeded(part, seed)
    return pair_rows(lab, pairs, batch_size=size, buckets=part.buckets, **given)


def seeded(part: Part, seed: int) -> LanguageLab:
    """The part's lab with another head and order for each seed."""
    return part.lab._replace(seed=part.lab.seed + seed)


def fit_head(
    stage: Stage,
    tools: Tools,
    part: Part,
    pairs: list[dict],
    *,
    seed: int = 0,
    columns: dict[str, np.ndarray] | None = None,
) -> Params:
    """A new head on the SFT trunk, by Bradley-Terry, or on the repaired labels in columns."""
    rows, lab = rows_of(tools, part, pairs, seed=seed, columns=columns), seeded(part, seed)
    first = on_trunk(lab, tools.sft, stage_key(lab, "reward"))
    options = {} if columns is None else {"loss": soft_margin_bradley_terry_loss}
    return reward_model(stage, lab, rows, first, tools.heads, **options)


def head(job: Run, tools: Tools, part: Part, number: int = 0) -> StageResult:
    """A reward model with a head and an order of its own; number 0 is the single one."""
    return trained(
        *(job, tools, f"{part.name}_head_{number}"),
        lambda stage: (fit_head(stage, tools, part, part.pairs, seed=number), {}),
        tools.lab.reward.init,
    )


def head_scores(tools: Tools, params: Params, records: list[dict]) -> np.ndarray:
    """[R] of a scalar head."""
    return scored(lambda lab, answers: lab.scores(params, answers), tools.lab, records)


def head_reward(tools: Tools, params: Params) -> Reward:
    """A scalar head as a reward of policies."""
    return model_reward(tools.lab, params, PLAIN)


def fitted_head(tools: Tools, name: str, params: Params, seconds: float, **info: object) -> Fitted:
    """A kind with one scalar head at the end."""
    return Fitted(
        lambda records: Scored({name: head_scores(tools, params, records)}),
        {name: partial(head_reward, tools, params)},
        seconds,
        info,
    )


def fit_scalar(job: Run, tools: Tools, part: Part) -> Fitted:
    """Bradley-Terry with a scalar head."""
    found = head(job, tools, part)
    return fitted_head(tools, "scalar", found.arrays, found.seconds)
