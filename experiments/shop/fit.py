"""The training stages of the shop job, each from arrays to params and a few numbers."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from experiments.shop.evaluate import curve_point
from experiments.shop.tools import RL_PROMPT_COUNT, RL_PROMPTS, Tools
from rlhf_jax import dpo_loss
from rlhf_jax.algos import ppo, preference
from rlhf_jax.data.loader import batches
from rlhf_jax.data.store import Records
from rlhf_jax.labs import shop_ppo, shop_stages
from rlhf_jax.labs.shop import adamw_cosine, answer, make_prompts, stage_key
from rlhf_jax.labs.shop_ppo import Trained
from rlhf_jax.labs.shop_stages import (
    begin_preference,
    halves,
    pair_batch,
    pair_batches,
    score_moments,
)
from rlhf_jax.ops.statistics import wins
from rlhf_jax.training import Stage, train_stage
from rlhf_jax.types import Params


def fit_sft(stage: Stage, tools: Tools, corpus: Records) -> tuple[Params, dict]:
    """Maximum likelihood on the base corpus, from random weights."""
    config = tools.config.sft
    sizes = {"steps": config.steps, "batch_size": config.batch_size, "rate": config.learning_rate}
    return shop_stages.fit_sft(stage, tools.lab, corpus, **sizes), {"rows": len(corpus)}


def fit_reward(
    stage: Stage, tools: Tools, start: Params, pairs: Records, heldout: Records
) -> tuple[Params, dict]:
    """Bradley-Terry on the pairs, from the SFT trunk; held-out accuracy and the scores' scale."""
    config = tools.config.reward
    sizes = {"steps": config.steps, "batch_size": config.batch_size, "rate": config.learning_rate}
    params = shop_stages.fit_reward(stage, tools.lab, start, pairs, **sizes)
    scores = [
        tools.lab.scores(params, halves(pair_batch(tools.lab.tokenizer, part)))
        for part in parts_of(heldout, config.batch_size)
    ]
    found = np.concatenate(jax.device_get(scores))[: len(heldout)]
    gold = np.array([[row["gold_chosen"], row["gold_rejected"]] for row in heldout])
    return params, {
        "accuracy": float(wins(*jnp.asarray(found).T).mean()),
        "gold_accuracy": float(np.mean(wins(*jnp.asarray(found).T) == wins(*jnp.asarray(gold).T))),
        "teacher_accuracy": float(np.mean((gold @ [1, -1]) >= 0)),
        "margins": (found @ [1.0, -1.0]).tolist(),
        **score_moments(stage.name, found),
    }


def fit_direct(
    stage: Stage, tools: Tools, trained: Trained, pairs: Records, config, loss: Callable
) -> tuple[Params, dict]:
    """DPO or IPO on the pairs that the reward model was fitted to."""
    optimizer = adamw_cosine(config.learning_rate, config.steps)
    state, step = begin_preference(
        tools.lab, trained.sft, optimizer, partial(loss, beta=config.beta)
    )
    rows = pair_batches(tools.lab, pairs, config.batch_size)

    def one(state, i):
        state, metrics = step(state, rows[i], trained.sft)
        return state, metrics | at_points(tools, trained, state.params, i, config.steps)

    state = train_stage(stage, one, state, steps=config.steps, save_every=50)
    return state.params, {}


def fit_online(stage: Stage, tools: Tools, trained: Trained) -> tuple[Params, dict]:
    """DPO on two fresh answers to each prompt, the better one by the reward model chosen."""
    config = tools.config.online_dpo
    optimizer = adamw_cosine(config.learning_rate, config.steps)
    state, step = begin_preference(
        tools.lab, trained.sft, optimizer, partial(dpo_loss, beta=config.beta)
    )
    rank = jax.jit(preference.rank_pairs)
    key = stage_key(tools.lab, "online dpo")
    numbers = prompt_numbers(tools, config.batch_size)

    def one(state, i):
        prompts = make_prompts(tools.lab, numbers[i])
        here = jax.random.fold_in(key, i)
        rollout = answer(tools.lab, state.params, prompts, here, np.arange(2))
        scores = tools.lab.scores(trained.reward, rollout.trajectory)
        batch = rank(rollout.trajectory, scores)
        state, metrics = step(state, batch, trained.sft)
        metrics["scores/mean"] = (scores.mean() - trained.mean) / trained.std
        metrics["pairs/decided"] = batch.weights.mean()
        return state, metrics | at_points(tools, trained, state.params, i, config.steps)

    state = train_stage(stage, one, state, steps=config.steps, save_every=25)
    return state.params, {}


def fit_ppo(
    stage: Stage, tools: Tools, trained: Trained, *, beta: float, steps: int
) -> tuple[Params, dict]:
    """PPO against the reward model, with a critic that starts as the reward model."""
    config = tools.config.ppo
    settings = ppo.PPOConfig(
        beta=beta,
        clip_eps=config.clip_eps,
        value_clip_eps=config.clip_eps,
        gae_lambda=config.gae_lambda,
    )
    params = shop_ppo.fit_ppo(
        stage,
        tools.lab,
        trained,
        settings,
        numbers=prompt_numbers(tools, config.batch_size),
        steps=steps,
        epochs=config.epochs,
        minibatches=config.minibatches,
        rate=config.learning_rate,
        measure=lambda params, i: at_points(tools, trained, params, i, steps),
    )
    return params, {}


def prompt_numbers(tools: Tools, batch_size: int):
    """Numbers of the training prompts of each step."""
    return batches(
        RL_PROMPT_COUNT,
        batch_size=batch_size,
        seed=tools.config.seed,
        batch_fn=lambda numbers: np.asarray(numbers) + RL_PROMPTS,
    )


def parts_of(records: Records, size: int):
    """Lists of `size` records, the last one filled up from the front."""
    for start in range(0, len(records), size):
        yield [records[i % len(records)] for i in range(start, start + size)]


def at_points(tools: Tools, trained: Trained, params: Params, step: int, steps: int) -> dict:
    """Held-out means at the last step of each of `curve_points` equal parts of the training."""
    points = tools.config.evaluation.curve_points
    marks = {round(steps * (j + 1) / points) for j in range(points)}
    if step + 1 not in marks:
        return {}
    return curve_point(tools, params, trained.sft, trained.reward)
