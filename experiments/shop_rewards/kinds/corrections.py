"""Rewards of tokens by a model that writes the better answer (seq2seq_rm), over an answer."""

from functools import cache, partial

import jax
import jax.numpy as jnp

from experiments.shop_rewards.kinds.heads import rows_of
from experiments.shop_rewards.kinds.scoring import Fitted, Scored, scored, trained
from experiments.shop_rewards.world import Part, Tools
from rlhf_jax.algos.correction_model import Rewrite, make_token_rewards
from rlhf_jax.ops.corrections import seq2seq_token_rewards
from rlhf_jax.recipes import Reward, correction_model, correction_reward
from rlhf_jax.recipes.corrections import rewriting_of
from rlhf_jax.training import Run, Stage
from rlhf_jax.types import Params, Policy, Trajectory

SUMS = partial(seq2seq_token_rewards, by_length=False)
READINGS = ("corrections", "corrections, unnormalised")


@cache
def both_of(policy: Policy, rewrite: Rewrite):
    """`(params, answers) -> [B, 2]` the readings, compiled once."""
    rewards = make_token_rewards(policy, rewrite, rule=SUMS)

    @jax.jit
    def both(params: Params, answers: Trajectory) -> jax.Array:
        total, length = rewards(params, answers).sum(-1), answers.mask.sum(-1)
        return jnp.stack([total / jnp.maximum(length, 1), total], axis=-1)

    return both


def fit_corrections(job: Run, tools: Tools, part: Part) -> Fitted:
    """One training, read as the mean reward of a token and, unnormalised, as the sum."""

    def work(stage: Stage) -> tuple[Params, dict]:
        rows = rows_of(tools, part, part.pairs)
        return correction_model(stage, part.lab, rows, tools.sft, tools.direct), {}

    found = trained(job, tools, f"{part.name}_corrections", work, tools.lab.policy.init)
    both = both_of(tools.lab.policy, rewriting_of(tools.lab))

    def scores(records: list[dict]) -> Scored:
        each = scored(lambda _, x: both(found.arrays, x), tools.lab, records)
        return Scored(dict(zip(READINGS, each.T, strict=True)))

    rewards = {"corrections": partial(answer_reward, tools, found.arrays)}
    return Fitted(scores, rewards, found.seconds)


def answer_reward(tools: Tools, params: Params) -> Reward:
    """The mean reward of a token as the score of an answer, for policies that are paid once."""
    return correction_reward(tools.lab, params)._replace(steps=None)
