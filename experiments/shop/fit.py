"""The training stages of the shop job, each from arrays to params and a few numbers."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments.shop.config import Direct
from experiments.shop.evaluate import curve_point
from experiments.shop.tools import Tools, Trained
from rlhf_jax.algos.ppo import PPOConfig
from rlhf_jax.losses.preference import dpo_loss
from rlhf_jax.ops.statistics import wins
from rlhf_jax.recipes import (
    Fit,
    LanguageLab,
    OnlineMethod,
    Reward,
    adamw_cosine,
    at_points,
    gae_of_steps,
    implied_reward,
    model_reward,
    on_trunk,
    online,
    online_pairs,
    pair_rows,
    ppo,
    preference,
    prompt_rows,
    reward_model,
    stage_key,
)
from rlhf_jax.recipes.buckets import training_buckets
from rlhf_jax.recipes.offline import Measure, ScoreScale, pair_scores, score_scale
from rlhf_jax.recipes.rows import Records
from rlhf_jax.training import Stage
from rlhf_jax.types import Params


def fit_head(
    stage: Stage, tools: Tools, sft: Params, pairs: Records, heldout: Records
) -> tuple[Params, dict]:
    """Bradley-Terry on the pairs with a scalar head on the SFT trunk, and what it reaches."""
    config, lab = tools.config.head, tools.lab
    fit = Fit(adamw_cosine(config.learning_rate, config.steps), config.steps)
    buckets = training_buckets(lab, pairs, batch_size=config.batch_size)
    rows = pair_rows(lab, pairs, batch_size=config.batch_size, buckets=buckets)
    params = reward_model(stage, lab, rows, on_trunk(lab, sft, stage_key(lab, "reward")), fit)
    return params, pair_quality(stage.name, lab, params, heldout, config.batch_size)


def pair_quality(
    name: str, lab: LanguageLab, reward: Params, heldout: Records, batch_size: int
) -> dict[str, Any]:
    """Accuracy and scale of a reward model on held-out pairs."""
    found = pair_scores(lab, reward, heldout, batch_size=batch_size)
    gold = np.array([[row["gold_chosen"], row["gold_rejected"]] for row in heldout])
    return {
        "accuracy": float(wins(*jnp.asarray(found).T).mean()),
        "gold_accuracy": float(np.mean(wins(*jnp.asarray(found).T) == wins(*jnp.asarray(gold).T))),
        "teacher_accuracy": float(np.mean((gold @ [1, -1]) >= 0)),
        "gold_std": float(gold.std()),
        "margins": (found @ [1.0, -1.0]).tolist(),
        **score_scale(name, found)._asdict(),
    }


def fit_direct(
    stage: Stage,
    tools: Tools,
    sft: Params,
    pairs: Records,
    reference: Mapping[str, np.ndarray],
    config: Direct,
    loss: Callable,
) -> tuple[Params, dict]:
    """DPO or IPO on the pairs.

    Args:
      reference: their log-probs under SFT.
    """
    lab = tools.lab
    fit = Fit(
        adamw_cosine(config.learning_rate, config.steps),
        config.steps,
        save_every=50,
        measure=curve(stage, tools, config.steps, sft=sft),
    )
    buckets = training_buckets(lab, pairs, batch_size=config.batch_size)
    rows = pair_rows(lab, pairs, batch_size=config.batch_size, reference=reference, buckets=buckets)
    loss = partial(loss, beta=config.beta)
    return preference(stage, lab, rows, sft, fit, loss=loss), {}


def fit_online(
    stage: Stage,
    tools: Tools,
    trained: Trained,
    method: OnlineMethod,
    *,
    draws: str,
    config,
    steps: int,
    updates: int,
    save_every: int,
    reward: Reward | None = None,
) -> tuple[Params, dict]:
    """A method on fresh answers, scored by the reward model or `reward`; `draws` names its key."""
    lab = tools.judged
    fit = Fit(
        adamw_cosine(config.learning_rate, updates),
        steps,
        save_every=save_every,
        measure=curve(stage, tools, steps, sft=trained.sft, reward=trained.reward),
    )
    numbers = prompt_rows(tools.task, batch_size=config.batch_size, seed=lab.seed)
    reward = learned_reward(tools, trained) if reward is None else reward
    key = stage_key(lab, draws)
    return online(stage, lab, tools.task, method, reward, trained.sft, numbers, fit, key=key), {}


def learned_reward(tools: Tools, trained: Trained) -> Reward:
    """The reward model, and what each token adds to it."""
    config = tools.config
    about = {"beta": config.dpo.beta, "ref_weight": config.reward.ref_weight}
    return implied_reward(tools.judged, trained.reward, trained.scale, **about)


def fit_online_dpo(stage: Stage, tools: Tools, trained: Trained) -> tuple[Params, dict]:
    """DPO on fresh answers: of each prompt's, the best by the reward model against the worst."""
    config = tools.config.online_dpo
    method = online_pairs(tools.lab, partial(dpo_loss, beta=config.beta), samples=config.samples)
    return fit_online(
        stage,
        tools,
        trained,
        method,
        draws="online dpo",
        config=config,
        steps=config.steps,
        updates=config.steps,
        save_every=25,
    )


def fit_ppo(
    stage: Stage,
    tools: Tools,
    trained: Trained,
    *,
    beta: float,
    steps: int,
    reward: Reward | None = None,
) -> tuple[Params, dict]:
    """PPO against the reward model, paid token by token, or against `reward`, at the last token."""
    config = tools.config.ppo
    settings = PPOConfig(
        beta=beta,
        clip_eps=config.clip_eps,
        value_clip_eps=config.clip_eps,
        gae_lambda=config.gae_lambda,
    )
    return fit_online(
        stage,
        tools,
        trained,
        ppo(
            tools.lab,
            settings,
            trained.critic,
            credit=gae_of_steps if reward is None else None,
            epochs=config.epochs,
            minibatches=config.minibatches,
        ),
        draws=stage.name,
        config=config,
        steps=steps,
        updates=steps * config.epochs * config.minibatches,
        save_every=20,
        reward=reward,
    )


def fit_free(
    stage: Stage, tools: Tools, trained: Trained, *, scale: ScoreScale
) -> tuple[Params, dict]:
    """PPO without a penalty against the reward that DPO implies, which it is expected to
    over-optimise.

    tools: judged by that reward. scale: its own.
    """
    reward = model_reward(tools.judged, trained.reward, scale)
    steps = tools.config.ppo.free_steps
    return fit_ppo(stage, tools, trained, beta=0.0, steps=steps, reward=reward)


def curve(
    stage: Stage, tools: Tools, steps: int, *, sft: Params, reward: Params | None = None
) -> Measure:
    """Held-out means at `curve_points` steps of the training; the gold of each prompt is kept."""
    points = tools.config.evaluation.curve_points
    return at_points(
        lambda params, step: curve_point(stage, tools, params, step, sft=sft, reward=reward),
        steps=steps,
        points=points,
    )
