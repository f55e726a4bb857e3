"""PPO on the shop world, against a reward model of normalised scores."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rlhf_jax.algos import ppo
from rlhf_jax.labs.shop import (
    ShopLab,
    adamw_cosine,
    answer,
    make_prompts,
    stage_key,
    start_training,
)
from rlhf_jax.ops.masking import weighted_mean
from rlhf_jax.training import Stage, train_stage
from rlhf_jax.types import Params


class Trained(NamedTuple):
    """What later methods start from: the SFT policy and the reward model, score = (raw - mean) /
    std having mean 0 and variance 1 on SFT answers."""

    sft: Params
    reward: Params
    mean: float
    std: float


def fit_ppo(
    stage: Stage,
    lab: ShopLab,
    trained: Trained,
    settings: ppo.PPOConfig,
    *,
    numbers: Any,
    steps: int,
    epochs: int,
    minibatches: int,
    rate: float,
    measure: Callable[[Params, int], dict] = lambda params, step: {},
) -> Params:
    """PPO with a critic that starts as the reward model, from the SFT policy.

    Args:
      numbers: indexed by step, the prompts of its rollout [B].
      steps: rollouts, each reused for `epochs` passes in `minibatches`.
      measure: `(params, step) -> metrics` to be logged with the step's own.
    """
    optimizer = adamw_cosine(rate, steps * epochs * minibatches)
    params = ppo.ActorCritic(trained.sft, critic_params(trained))
    axes = ppo.ActorCritic(lab.axes["policy"], lab.axes["value"])
    one_update = ppo.make_update(lab.policy, lab.value, optimizer, settings)
    update = ppo.make_epochs(one_update, epochs=epochs, minibatches=minibatches)
    state, step = start_training(lab, params, axes, optimizer, update)
    prepare = jax.jit(partial(rollout_batch, lab, settings))
    key = stage_key(lab, stage.name)

    def one(state, i):
        prompts = make_prompts(lab, numbers[i])
        draw_key, order_key = jax.random.split(jax.random.fold_in(key, i))
        rollout = answer(lab, state.params.policy, prompts, draw_key, np.arange(1))
        batch, measured = prepare(state.params.value, trained, rollout)
        state, metrics = step(state, batch, order_key)
        return state, metrics | measured | measure(state.params.policy, i)

    return train_stage(stage, one, state, steps=steps, save_every=20).params.policy


def rollout_batch(
    lab: ShopLab, settings: ppo.PPOConfig, value_params: Params, trained: Trained, rollout
) -> tuple[ppo.PPOBatch, dict]:
    """Rewards, KL, values and advantages of one rollout [B, 1], as a batch [B]."""
    rollout = jax.tree.map(lambda x: x[:, 0], rollout)
    trajectory = rollout.trajectory
    scores = (lab.reward.scores(trained.reward, trajectory) - trained.mean) / trained.std
    ref = lab.policy.logps(trained.sft, trajectory.inputs, trajectory.actions)
    batch = ppo.make_batch(
        trajectory,
        scores,
        old_logps=rollout.token_logps,
        ref_logps=jnp.where(trajectory.mask, ref, 0.0),
        old_values=lab.value.values(value_params, trajectory.inputs),
        config=settings,
    )
    gap = jnp.where(trajectory.mask, rollout.token_logps - ref, 0.0)
    return batch, {
        "scores/mean": weighted_mean(scores, batch.weights),
        "scores/finite": batch.weights.mean(),
        "kl/ref": jnp.sum(gap, -1).mean(),
        "answers/length": jnp.sum(trajectory.mask, -1).mean(),
        "answers/finished": rollout.finished.mean(),
    }


def critic_params(trained: Trained) -> Params:
    """The reward model, its head rescaled to predict the normalised score."""
    head = trained.reward["head"]
    return {
        **trained.reward,
        "head": {
            "weight": head["weight"] / trained.std,
            "bias": (head["bias"] - trained.mean) / trained.std,
        },
    }
