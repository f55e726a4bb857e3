"""Sequence-to-sequence reward models: pairs to a model that rewrites, and the model to a reward.

    rows = pair_rows(lab, pairs, batch_size=16)
    params = correction_model(stage, lab, rows, params, fit)
    reward = correction_reward(lab, params)
    method = ppo(lab, PPOConfig(), critic, credit=gae_of_steps)      # each token paid

The rows that it reads have the prompt, two answers and a separator: P + 2 T + 1 tokens.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.algos import correction_model as correction_update
from rlhf_jax.algos.correction_model import Rewrite, TokenRule, correction_maps, make_token_rewards
from rlhf_jax.data.tokenizer import separator_id
from rlhf_jax.ops.corrections import seq2seq_token_rewards
from rlhf_jax.policies.rewriting import language_rewriting
from rlhf_jax.recipes.lab import LanguageLab, hold_params
from rlhf_jax.recipes.offline import Fit, built, fit_rows, step_options
from rlhf_jax.recipes.rewards import Reward, not_on_host
from rlhf_jax.recipes.rows import Rows
from rlhf_jax.training import Stage, UserError
from rlhf_jax.types import Params, PreferenceBatch, Scalar, Trajectory

MapLosses = Callable[[Params, PreferenceBatch], Float[Array, "B 3"]]
# One function of a separator, so that its update compiles once.
rewriting = cache(language_rewriting)


def correction_model(
    stage: Stage,
    lab: LanguageLab,
    rows: Rows,
    params: Params,
    fit: Fit,
    *,
    identity_weight: Scalar = 1.0,
) -> Params:
    """A model that writes the chosen answer where it has read either, from pairs.

    Args:
      rows: pairs, without a reference. params: of a policy, as in `supervised`.
      identity_weight: as in `algos.correction_model.make_update`.
    """
    options = {"identity_weight": identity_weight} | step_options(lab, fit)
    rewrite = rewriting_of(lab)
    make = correction_update.make_update
    update = built(make, lab.policy, rewrite, fit.optimizer, **options)
    return fit_rows(stage, lab, update, rows, params, fit, part="policy")


def correction_reward(
    lab: LanguageLab, params: Params, *, rule: TokenRule = seq2seq_token_rewards
) -> Reward:
    """Rewards of tokens by the rewriting model, and their sum as the answer's score.

    One pass over both copies of the answer, and the logits of all of its tokens in memory.

    Args:
      rule: as in `algos.correction_model.make_token_rewards`; by the default a score is in [-1, 1].
    """
    rewards = correction_token_rewards(lab, rule)

    def scores(params: Params, _: Any, trajectory: Trajectory) -> jax.Array:
        return rewards(params, trajectory).sum(-1)

    def steps(params: Params, _: Any, trajectory: Trajectory) -> jax.Array:
        return rewards(params, trajectory)

    return Reward(hold_params(lab, params, lab.axes["policy"]), not_on_host, scores, steps)


def correction_token_rewards(
    lab: LanguageLab, rule: TokenRule = seq2seq_token_rewards
) -> Callable[[Params, Trajectory], Float[Array, "*B T"]]:
    """`make_token_rewards` of the lab's policy."""
    return make_token_rewards(lab.policy, rewriting_of(lab), rule=rule)


def map_losses(lab: LanguageLab) -> MapLosses:
    """`(params, pairs) -> [B, 3]`, compiled: nats of the chosen answer where the rejected one was
    read, and where itself was, and its number of tokens."""
    rewrite = rewriting_of(lab)

    def losses(params: Params, pairs: PreferenceBatch) -> Array:
        maps = correction_maps(pairs, rewrite)
        logps = lab.policy.logps(params, maps.inputs, maps.actions)
        nats = -jnp.sum(jnp.where(maps.mask, logps, 0.0), axis=-1)
        return jnp.concatenate([nats, pairs.chosen.mask.sum(-1, keepdims=True)], axis=-1)

    return jax.jit(losses)


def rewriting_of(lab: LanguageLab) -> Rewrite:
    """Rows in which a model of the lab reads one answer and writes, or scores, another.

    Raises:
      UserError: no token can stand between the answers (`data.tokenizer.separator_id`).
    """
    separator = separator_id(lab.vocabulary)
    if separator is None:
        raise UserError(
            "a model that reads two answers needs a vocabulary with a bos_id, or with another "
            "special token that ends no answer"
        )
    return rewriting(separator=separator)
