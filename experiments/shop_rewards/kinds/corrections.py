"""Rewards of tokens by a model that writes the better answer (seq2seq_rm), over an answer."""

from functools import partial

import jax
import jax.numpy as jnp

from experiments.shop_rewards.kinds.heads import rows_of
from experiments.shop_rewards.kinds.scoring import Fitted, Scored, scored, trained
from experiments.shop_rewards.world import Part, Tools
from rlhf_jax.ops.corrections import seq2seq_token_rewards
from rlhf_jax.recipes import correction_model, correction_reward
from rlhf_jax.recipes.corrections import correction_token_rewards
from rlhf_jax.training import Run, Stage
from rlhf_jax.types import Params, Trajectory

SUMS = partial(seq2seq_token_rewards, by_length=False)
READINGS = ("corrections", "corrections, unnormalised")


def fit_corrections(job: Run, tools: Tools, part: Part) -> Fitted:
    """One training, read as the mean reward of a token and, unnormalised, as the sum."""

    def work(stage: Stage) -> tuple[Params, dict]:
        rows = rows_of(tools, part, part.pairs)
        return correction_model(stage, part.lab, rows, tools.sft, tools.direct), {}

    found = trained(job, tools, f"{part.name}_corrections", work, tools.lab.policy.init)
    paid = correction_token_rewards(tools.lab, SUMS)

    @jax.jit
    def both(params: Params, answers: Trajectory) -> jax.Array:
        total, length = paid(params, answers).sum(-1), answers.mask.sum(-1)
        return jnp.stack([total / jnp.maximum(length, 1), total], axis=-1)

    def scores(records: list[dict]) -> Scored:
        each = scored(lambda _, x: both(found.arrays, x), tools.lab, records)
        return Scored(dict(zip(READINGS, each.T, strict=True)))

    rewards = {"corrections": partial(correction_reward, tools.lab, found.arrays)}
    return Fitted(scores, rewards, found.seconds)
