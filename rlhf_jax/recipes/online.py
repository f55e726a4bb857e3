"""Online recipes: sample answers, score them, update; methods are data.

    method = ppo(lab, PPOConfig(beta=0.05), critic, epochs=2, minibatches=1)
    params = online(stage, lab, task, method, reward, sft, rows, fit, key=stage_key(lab, "ppo"))

A method is how many answers it wants, one function from a scored rollout to a batch, and one update
of that batch. Nothing else in a run depends on it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from rlhf_jax.data.loader import batches
from rlhf_jax.recipes.lab import LanguageLab, make_prompts, start_training
from rlhf_jax.recipes.offline import Fit
from rlhf_jax.recipes.rewards import Reward, actions_of
from rlhf_jax.recipes.rows import Rows
from rlhf_jax.recipes.task import Task
from rlhf_jax.training import Stage, train_stage
from rlhf_jax.types import Params, PyTree, Rollout, TrainState


class Scored(NamedTuple):
    """K answers to each of B prompts and what they are worth.

    rollout: [B, K]. scores: [B, K], NaN where an answer is left out.
    ref_token_logps: [B, K, T] under the reference, 0 where the mask is False.
    """

    rollout: Rollout
    scores: Float[Array, "B K"]
    ref_token_logps: Float[Array, "B K T"]


class OnlineMethod(NamedTuple):
    """A way to learn from scored rollouts.

    samples: K, answers to each prompt.
    start: policy params -> the params that are trained. policy: those -> the policy's.
    axes: logical axis names of the trained params.
    prepare: pure `(trained params, Scored) -> (batch, metrics)`.
    make_update: optimizer -> pure `update(state, batch, key) -> (state, metrics)`.
    shuffles: whether the update uses its key.
    """

    samples: int
    start: Callable[[Params], Params]
    policy: Callable[[Params], Params]
    axes: PyTree
    prepare: Callable[[Params, Scored], tuple[PyTree, dict[str, Any]]]
    make_update: Callable[[optax.GradientTransformation], Callable[..., tuple[TrainState, Any]]]
    shuffles: bool = False


def online(
    stage: Stage,
    lab: LanguageLab,
    task: Task,
    method: OnlineMethod,
    reward: Reward,
    ref_params: Params,
    numbers: Rows,
    fit: Fit,
    *,
    key: jax.Array,
) -> Params:
    """Improves the reference policy on fresh answers; returns the policy's params.

    Args:
      ref_params: of the policy, where training starts and what KL is measured to.
      numbers: the prompts of each step, `numbers[i]` [B], e.g. `prompt_rows(task, ...)`.
      fit: `measure` is given the policy's params.
      key: of this run's draws.
    """
    update = method.make_update(fit.optimizer)
    state, step = start_training(lab, method.start(ref_params), method.axes, fit.optimizer, update)
    prepare = jax.jit(make_prepare(lab, method, reward))

    def one(state: TrainState, i: int) -> tuple[TrainState, dict[str, Any]]:
        prompts = make_prompts(lab, task, numbers[i])
        here = jax.random.fold_in(key, i)
        draw_key, order_key = jax.random.split(here) if method.shuffles else (here, here)
        rollout = lab.draw(method.policy(state.params), prompts, draw_key, method.samples)
        given = reward.host(prompts, actions_of(rollout.trajectory))
        batch, measured = prepare(state.params, ref_params, reward.params, given, rollout)
        state, metrics = step(state, batch, order_key)
        return state, metrics | measured | fit.measure(method.policy(state.params), i)

    done = train_stage(stage, one, state, steps=fit.steps, save_every=fit.save_every)
    return method.policy(done.params)


def make_prepare(
    lab: LanguageLab, method: OnlineMethod, reward: Reward
) -> Callable[..., tuple[PyTree, dict[str, Any]]]:
    """From a rollout to the method's batch, with the numbers that every method logs."""

    def prepare(params, ref_params, reward_params, given, rollout: Rollout):
        trajectory = rollout.trajectory
        scores = reward.scores(reward_params, given, trajectory)
        ref = lab.policy.logps(ref_params, trajectory.inputs, trajectory.actions)
        ref = jnp.where(trajectory.mask, ref, 0.0)
        batch, metrics = method.prepare(params, Scored(rollout, scores, ref))
        gap = jnp.where(trajectory.mask, rollout.token_logps - ref, 0.0)
        finite = jnp.isfinite(scores)
        return batch, metrics | {
            "scores/mean": jnp.sum(jnp.where(finite, scores, 0.0)) / jnp.maximum(finite.sum(), 1),
            "scores/finite": finite.mean(),
            "kl/ref": jnp.sum(gap, -1).mean(),
            "answers/length": jnp.sum(trajectory.mask, -1).mean(),
            "answers/finished": rollout.finished.mean(),
        }

    return prepare


def prompt_rows(task: Task, *, batch_size: int, seed: int, split: str = "train") -> Rows:
    """Numbers of the prompts of each step, [B], each prompt once before any comes again."""
    prompts = task.splits[split]
    return batches(
        len(prompts),
        batch_size=batch_size,
        seed=seed,
        batch_fn=lambda rows: np.asarray(rows) + prompts.start,
    )


def flat(tree: PyTree) -> PyTree:
    """[B, K, ...] as [B K, ...]."""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)


def same(params: Params) -> Params:
    """A method that trains the policy and nothing else."""
    return params
