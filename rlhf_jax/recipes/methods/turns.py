"""Credit for the turns of an episode, as functions that methods are given.

    method = reinforce_turns(lab, samples=8, gamma=0.9)
    method = ppo(lab, PPOConfig(), critic, credit=gae_of_turns)

The rewards of an episode's turns are made to sum to its score: the last turn gets the difference,
so that a reward model or a penalty of whole answers counts there. Both need a task with a step.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.algos.ppo import PPOConfig
from rlhf_jax.checks import check_range
from rlhf_jax.ops.groups import leave_one_out_advantages
from rlhf_jax.ops.kl import k1
from rlhf_jax.ops.masking import sequence_mean
from rlhf_jax.ops.turns import per_step, turn_credit, turn_gae, turn_starts
from rlhf_jax.recipes.lab import LanguageLab
from rlhf_jax.recipes.methods.answers import (
    GroupAdvantages,
    answer_method,
    per_token,
    reinforce_steps,
)
from rlhf_jax.recipes.online_method import OnlineMethod, Scored
from rlhf_jax.types import Scalar


def reinforce_turns(
    lab: LanguageLab, *, samples: int, gamma: Scalar = 1.0, **options: Any
) -> OnlineMethod:
    """REINFORCE with turn credit; `rloo` where every episode has one turn.

    Args:
      samples, gamma: K and the discount of one turn, see `turn_advantages`.
      options: those of `answer_method`: kl, epochs, minibatches, rounds.
    """
    check_range("[2, inf)", samples=samples)
    return answer_method(
        lab,
        per_token(reinforce_steps),
        samples=samples,
        advantages=leave_one_out_advantages,
        credit=partial(turn_advantages, gamma=gamma),
        reduction=sequence_mean,
        **options,
    )


def turn_advantages(
    scored: Scored, advantages: GroupAdvantages, *, gamma: Scalar = 1.0
) -> Float[Array, "B K T"]:
    """f(G_n) for the tokens of turn n, G_n the discounted return from it on.

    f compares the episodes of a prompt that took turn n; the only one of them has none to be
    compared with, and gets 0 from `leave_one_out_advantages` and its relatives.

    Args:
      advantages: f, from [B, K] with NaN for the episodes without this turn.
      gamma: discount of one turn, in [0, 1].
    """
    mask, (turn_ids, rewards) = scored.rollout.trajectory.mask, turns_of(scored)
    numbers = jnp.broadcast_to(jnp.arange(rewards.shape[-1]), rewards.shape)
    taken = numbers <= jnp.max(turn_ids, axis=-1, keepdims=True)
    returns = turn_credit(rewards, numbers, taken, gamma=gamma)
    known = taken & jnp.isfinite(scored.scores)[..., None]
    compared = jax.vmap(advantages, in_axes=-1, out_axes=-1)(jnp.where(known, returns, jnp.nan))
    return per_step(compared, turn_ids, mask)


def gae_of_turns(
    scored: Scored, values: Float[Array, "B K T"], config: PPOConfig
) -> tuple[Float[Array, "B K T"], Float[Array, "B K T"]]:
    """`turn_gae`, the KL penalty of a turn's tokens in its reward, for `ppo`.

    gamma and gae_lambda of the config are those of turns. Every token of a turn has the critic's
    target of its first one, the only value that is read.
    """
    mask, (turn_ids, rewards) = scored.rollout.trajectory.mask, turns_of(scored)
    kl = jnp.where(mask, k1(scored.rollout.token_logps, scored.ref_token_logps), 0.0)
    numbers = jax.nn.one_hot(turn_ids, rewards.shape[-1])
    rewards = rewards - config.beta * jnp.sum(numbers * kl[..., None], axis=-2)
    points = {"gamma": config.gamma, "gae_lambda": config.gae_lambda}
    advantages = turn_gae(rewards, values, turn_ids, mask, **points)
    at = jnp.where(turn_starts(turn_ids, mask), jnp.arange(mask.shape[-1]), 0)
    at = jax.lax.cummax(at, axis=at.ndim - 1)
    return advantages, advantages + jnp.take_along_axis(values, at, axis=-1)


def turns_of(scored: Scored) -> tuple[Array, Float[Array, "B K N"]]:
    """turn_ids, and the rewards of turns that sum to the score; 0 for an episode without a score.

    Raises:
      ValueError: the answers are single ones.
    """
    if scored.turn_ids is None or scored.turn_rewards is None:
        raise ValueError("credit for turns needs a task with a step, and this one has none")
    known = jnp.isfinite(scored.scores)[..., None]
    rewards = jnp.where(known, scored.turn_rewards, 0.0)
    scores = jnp.where(known, scored.scores[..., None], 0.0)
    last = jax.nn.one_hot(jnp.max(scored.turn_ids, axis=-1), rewards.shape[-1])
    return scored.turn_ids, rewards + last * (scores - jnp.sum(rewards, axis=-1, keepdims=True))
