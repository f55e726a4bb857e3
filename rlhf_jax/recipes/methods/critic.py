"""PPO with a critic."""

from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.algos import ppo as ppo_update
from rlhf_jax.algos.ppo import ActorCritic, PPOBatch, PPOConfig
from rlhf_jax.checks import check_range
from rlhf_jax.ops.groups import informative_groups
from rlhf_jax.ops.kl import k1
from rlhf_jax.ops.masking import keep_weighted, token_weights, whiten
from rlhf_jax.ops.returns import answer_discounts, gae, penalised_rewards
from rlhf_jax.recipes.lab import LanguageLab
from rlhf_jax.recipes.methods.answers import AnswerFilter, filtered_weights
from rlhf_jax.recipes.offline import ScoreScale
from rlhf_jax.recipes.online_method import OnlineMethod, Scored, flat
from rlhf_jax.types import Params


@runtime_checkable
class CriticCredit(Protocol):
    """Advantages and the critic's targets, [B, K, T] each, from values [B, K, T]."""

    def __call__(
        self, scored: Scored, values: Float[Array, "B K T"], config: PPOConfig, /
    ) -> tuple[Float[Array, "B K T"], Float[Array, "B K T"]]: ...


def ppo(
    lab: LanguageLab,
    config: PPOConfig,
    critic: Params,
    *,
    samples: int = 1,
    keep: AnswerFilter | None = None,
    whiten_first: bool = False,
    credit: CriticCredit | None = None,
    epochs: int = 1,
    minibatches: int = 1,
) -> OnlineMethod:
    """PPO with a critic, the KL penalty in the reward of each token.

    With a filter it is PF-PPO: the policy and the critic learn from the answers that it keeps.

    Args:
      critic: first parameters of the value model, e.g. `critic_of` a reward model.
      samples: answers to each prompt; a filter needs 2.
      keep: a filter on the scores of each prompt's answers, of `ops.filtration`; None keeps all.
      whiten_first: advantages are whitened over all answers, before the filter, and not over the
        kept ones in each minibatch; for a config that whitens.
      credit: `gae_of_turns` of episodes, `gae_of_steps` of a reward of steps; None is GAE over
        tokens, the score at the last of them.
      epochs, minibatches: as in `algos.epochs.make_epochs`; the order is shuffled even at 1 and 1.
    Reference: Zhang et al. 2024, arXiv:2409.06957, for the filter.
    Departs: weights in place of answers drawn with replacement by them, which is their mean.
    """
    check_range("[1, inf)" if keep is None else "[2, inf)", samples=samples)
    if whiten_first and not config.whiten_advantages:
        raise ValueError("whiten_first is an order of whitening: it needs whiten_advantages")
    own = replace(config, whiten_advantages=config.whiten_advantages and not whiten_first)

    def prepare(params: ActorCritic, scored: Scored) -> tuple[PPOBatch, dict[str, Any]]:
        batch = _batch_of(lab, config, params, scored, credit)
        if whiten_first:
            mask = batch.trajectory.mask
            weights = token_weights(mask, batch.weights)
            advantages = whiten(keep_weighted(batch.advantages, weights), mask, weights=weights)
            batch = replace(batch, advantages=advantages)
        if keep is None:
            return batch, {}
        weights, kept = filtered_weights(scored, keep)
        kept["groups/informative"] = informative_groups(scored.scores).mean()
        return replace(batch, weights=flat(weights)), kept

    return OnlineMethod(
        samples=samples,
        start=lambda params: ActorCritic(params, critic),
        policy=lambda params: params.policy,
        axes=ActorCritic(lab.axes["policy"], lab.axes["value"]),
        prepare=prepare,
        objective=ppo_update.make_objective(lab.policy, lab.value, own),
        beta=config.beta,
        passes=(epochs, minibatches),
        divisible=not own.whiten_advantages,
    )


def _batch_of(
    lab: LanguageLab,
    config: PPOConfig,
    params: ActorCritic,
    scored: Scored,
    credit: CriticCredit | None,
) -> PPOBatch:
    """All scored answers, with the advantages of GAE or of `credit`."""
    rollout = scored.rollout
    trajectory = flat(rollout.trajectory)
    now = replace(config, beta=scored.beta)
    batch = ppo_update.make_batch(
        trajectory,
        flat(scored.scores),
        old_logps=flat(rollout.token_logps),
        ref_logps=flat(scored.ref_token_logps),
        old_values=lab.value.values(params.value, trajectory.inputs),
        config=now,
        weights=flat(scored.weights),
    )
    if credit is None:
        return batch
    values = batch.old_values.reshape(rollout.token_logps.shape)
    advantages, returns = flat(credit(scored, values, now))
    return replace(batch, advantages=advantages, returns=returns)


def gae_of_steps(
    scored: Scored, values: Float[Array, "B K T"], config: PPOConfig
) -> tuple[Float[Array, "B K T"], Float[Array, "B K T"]]:
    """GAE over tokens with the rewards of steps in place of one score, for `ppo`.

    r_t = (reward of the step that ends at t, 0 elsewhere) - beta kl_t.

    Raises:
      ValueError: the reward has no steps, see `recipes.process.process_reward`.
    """
    if scored.step_rewards is None:
        raise ValueError("credit for steps needs a reward of steps, e.g. process_reward")
    mask = scored.rollout.trajectory.mask
    known = jnp.where(jnp.isfinite(scored.scores)[..., None], scored.step_rewards, 0.0)
    kl = k1(scored.rollout.token_logps, scored.ref_token_logps)
    rewards = penalised_rewards(known, kl, mask, beta=config.beta)
    advantages = gae(
        rewards,
        values,
        answer_discounts(mask, gamma=config.gamma),
        jnp.zeros_like(scored.scores),
        gae_lambda=config.gae_lambda,
        mask=mask,
    )
    return advantages, advantages + values


def critic_of(reward_params: Params, scale: ScoreScale) -> Params:
    """A critic that starts as the reward model, its head rescaled to predict scaled scores."""
    head = reward_params["head"]
    return {
        **reward_params,
        "head": {
            "weight": head["weight"] / scale.std,
            "bias": (head["bias"] - scale.mean) / scale.std,
        },
    }
