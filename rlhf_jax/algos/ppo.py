"""Proximal policy optimisation with a critic, GAE and a KL penalty to a reference."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from rlhf_jax.algos.gradient import Diagnostics, accumulate
from rlhf_jax.checks import check_range
from rlhf_jax.losses.policy_gradient import clipped_value_loss, ppo_clip_loss
from rlhf_jax.ops.kl import k1
from rlhf_jax.ops.masking import Mean, keep_weighted, token_weights, weighted_mean, whiten
from rlhf_jax.ops.returns import answer_discounts, gae, last_step, penalised_rewards
from rlhf_jax.types import Params, Policy, Scalar, TrainState, Trajectory, Update, ValueFn, record


@dataclass(frozen=True, kw_only=True)
class PPOConfig:
    """Hyper-parameters of PPO for answers with one score each. Only beta may be traced.

    beta: weight of the per-token KL penalty to the reference, >= 0.
    clip_eps: limit on |ratio - 1| in the policy loss, > 0.
    value_clip_eps: limit on the change of a value in the critic loss, in units of value, > 0.
    value_coef: weight of the critic loss, >= 0.
    gamma, gae_lambda: discount and lambda of GAE, in [0, 1].
    whiten_advantages: scale the advantages of the policy loss to zero mean and unit variance.
    """

    beta: Scalar = 0.05
    clip_eps: float = 0.2
    value_clip_eps: float = 0.2
    value_coef: float = 0.1
    gamma: float = 1.0
    gae_lambda: float = 0.95
    whiten_advantages: bool = True

    def __post_init__(self):
        check_range("[0, inf)", beta=self.beta, value_coef=self.value_coef)
        check_range("(0, inf]", clip_eps=self.clip_eps, value_clip_eps=self.value_clip_eps)
        check_range("[0, 1]", gamma=self.gamma, gae_lambda=self.gae_lambda)


class ActorCritic(NamedTuple):
    """The params that PPO trains; policy and critic share none."""

    policy: Params
    value: Params


@record
class PPOBatch:
    """Sampled answers and the other inputs of the losses. All of it is data, without gradient.

    trajectory: the sampled answers.
    old_logps, old_values: [*B, T] float32 under the params that sampled.
    advantages, returns: [*B, T] float32, before whitening.
    weights: [*B] float32 weight of each answer in the mean; None means 1.
    """

    trajectory: Trajectory
    old_logps: Array
    old_values: Array
    advantages: Array
    returns: Array
    weights: Array | None = None


def make_batch(
    trajectory: Trajectory,
    scores: Float[Array, "*B"],
    *,
    old_logps: Float[Array, "*B T"],
    ref_logps: Float[Array, "*B T"],
    old_values: Float[Array, "*B T"],
    config: PPOConfig,
    weights: Float[Array, "*B"] | None = None,
) -> PPOBatch:
    """Advantages and returns of sampled answers.

    r_t = -beta (log pi_old - log pi_ref) + 1[t last] R, then GAE; returns = advantages + values.

    Only the steps that count are used, as if the others were cut out.

    Args:
      trajectory: [*B, T] sampled under pi_old.
      scores: [*B] one number per answer; an answer with a score that is not finite gets weight 0.
      old_logps, ref_logps: [*B, T] token log-probs under the sampling and the reference policy.
      old_values: [*B, T] critic at sampling time, value before each step.
      config: beta, gamma and gae_lambda are used.
      weights: [*B] weight of each answer in the mean; None means 1.
    Returns:
      PPOBatch; without `weights`, the mean of its weights is the share of answers with a score.
    Reference: Ziegler et al. 2019, arXiv:1909.08593; Schulman et al. 2015, arXiv:1506.02438.
    """
    finite = jnp.isfinite(scores).astype(jnp.float32)
    final = jnp.where(last_step(trajectory.mask), keep_weighted(scores, finite)[..., None], 0.0)
    return make_token_batch(
        trajectory,
        final,
        old_logps=old_logps,
        ref_logps=ref_logps,
        old_values=old_values,
        config=config,
        weights=finite if weights is None else keep_weighted(weights, finite),
    )


def make_token_batch(
    trajectory: Trajectory,
    rewards: Float[Array, "*B T"],
    *,
    old_logps: Float[Array, "*B T"],
    ref_logps: Float[Array, "*B T"],
    old_values: Float[Array, "*B T"],
    config: PPOConfig,
    weights: Float[Array, "*B"] | None = None,
) -> PPOBatch:
    """Advantages and returns of answers that are paid at any of their tokens.

    r_t = R_t - beta (log pi_old - log pi_ref), then GAE; returns = advantages + values.

    Args:
      rewards: [*B, T] R, before the KL penalty, e.g. from `ops.segments.token_rewards`; an answer
        with a counted reward that is not finite gets weight 0.
      The others are those of `make_batch`, which is this with the score at the last counted token.
    Reference: Wu et al. 2023, arXiv:2306.01693.
    """
    mask = trajectory.mask
    finite = jnp.all(jnp.isfinite(rewards) | ~mask, axis=-1).astype(jnp.float32)
    known = jnp.where((finite > 0)[..., None], rewards, 0.0)
    weights = finite if weights is None else keep_weighted(weights, finite)
    paid = penalised_rewards(known, k1(old_logps, ref_logps), mask, beta=config.beta)
    values = jnp.where(mask, old_values, 0.0)
    advantages = gae(
        paid,
        values,
        answer_discounts(mask, gamma=config.gamma),
        jnp.zeros_like(paid[..., 0]),
        gae_lambda=config.gae_lambda,
        mask=mask,
    )
    return PPOBatch(trajectory, old_logps, values, advantages, advantages + values, weights)


def make_objective(
    policy: Policy, value_fn: ValueFn, config: PPOConfig
) -> Callable[[ActorCritic, PPOBatch], tuple[Mean, Diagnostics]]:
    """ppo_clip_loss + value_coef * clipped_value_loss: `(params, batch) -> (Mean, diagnostics)`.

    For the diagnostics see `make_update`.
    """

    def objective(params: ActorCritic, batch: PPOBatch) -> tuple[Mean, Diagnostics]:
        trajectory = batch.trajectory
        weights = token_weights(trajectory.mask, batch.weights)
        # Masked before the losses: after them, 0 times NaN would be a NaN gradient.
        old_logps, old_values, advantages, returns = (
            keep_weighted(x, weights)
            for x in (batch.old_logps, batch.old_values, batch.advantages, batch.returns)
        )
        if config.whiten_advantages:
            advantages = whiten(advantages, trajectory.mask, weights=weights)
        logps = policy.logps(params.policy, trajectory.inputs, trajectory.actions)
        logps = keep_weighted(logps, weights)
        values = keep_weighted(value_fn.values(params.value, trajectory.inputs), weights)
        gap = logps - old_logps
        policy_losses = ppo_clip_loss(logps, old_logps, advantages, clip_eps=config.clip_eps)
        value_losses = clipped_value_loss(
            values, old_values, returns, clip_eps=config.value_clip_eps
        )
        policy_loss = weighted_mean(policy_losses, weights)
        value_loss = weighted_mean(value_losses, weights)
        clipped = jnp.abs(jnp.expm1(gap)) > config.clip_eps
        diagnostics = {
            "loss/policy": policy_loss,
            "loss/value": value_loss,
            "ratios/clipped": weighted_mean(clipped.astype(jnp.float32), weights),
            "kl/old": weighted_mean(0.5 * gap**2, weights),
        }
        total = policy_loss.total + config.value_coef * value_loss.total
        return Mean(total, policy_loss.weight), diagnostics

    return objective


def make_update(
    policy: Policy,
    value_fn: ValueFn,
    optimizer: optax.GradientTransformation,
    config: PPOConfig,
    *,
    parts: int = 1,
) -> Update[TrainState, PPOBatch]:
    """Update on ppo_clip_loss + value_coef * clipped_value_loss, both token means.

    Whitening runs over the batch given to `update`: the whole rollout, or each minibatch.

    Args:
      parts: micro-batches, as in `gradient.accumulate`; advantages are whitened before the split.
    Returns:
      Pure `update(state, batch) -> (state, metrics)`; state.params is an `ActorCritic`. Metrics:
      "loss", "grad_norm", "loss/policy", "loss/value", "ratios/clipped" (share of steps outside
      the clip) and "kl/old" (0.5 (log pi - log pi_old)^2 per step, nats).
    """
    if parts == 1 or not config.whiten_advantages:
        return accumulate(make_objective(policy, value_fn, config), optimizer, parts=parts)
    plain = replace(config, whiten_advantages=False)
    step = accumulate(make_objective(policy, value_fn, plain), optimizer, parts=parts)

    def update(state: TrainState, batch: PPOBatch) -> tuple[TrainState, Diagnostics]:
        weights = token_weights(batch.trajectory.mask, batch.weights)
        known = keep_weighted(batch.advantages, weights)
        whitened = whiten(known, batch.trajectory.mask, weights=weights)
        return step(state, replace(batch, advantages=whitened))

    return update
