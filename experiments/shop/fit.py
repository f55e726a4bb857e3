"""The training stages of the shop job, each from arrays to params and a few numbers."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.shop.evaluate import curve_point
from experiments.shop.tools import RL_PROMPT_COUNT, RL_PROMPTS, Tools
from rlhf_jax import PreferenceBatch, dpo_loss
from rlhf_jax.algos import ppo, preference
from rlhf_jax.data.loader import batches
from rlhf_jax.data.store import Records
from rlhf_jax.labs import shop_stages
from rlhf_jax.labs.shop import adam, answer, begin, make_prompts, stage_key
from rlhf_jax.labs.shop_stages import halves, pair_batch, pair_batches
from rlhf_jax.ops.statistics import wins
from rlhf_jax.training import Stage, train_stage
from rlhf_jax.types import Params


class Trained(NamedTuple):
    """What later methods start from: the SFT policy and the reward model, score = shift + scale *
    raw having mean 0 and variance 1 on SFT answers."""

    sft: Params
    reward: Params
    mean: float
    std: float


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
        "gold_accuracy": float(np.mean(np.sign(found @ [1, -1]) == np.sign(gold @ [1, -1]))),
        "teacher_accuracy": float(np.mean((gold @ [1, -1]) >= 0)),
        "margins": (found @ [1.0, -1.0]).tolist(),
        "mean": float(found.mean()),
        "std": float(found.std()),
    }


def fit_direct(
    stage: Stage, tools: Tools, trained: Trained, pairs: Records, config, loss: Callable
) -> tuple[Params, dict]:
    """DPO or IPO on the pairs that the reward model was fitted to."""
    optimizer = adam(config.learning_rate, config.steps)
    state, step = begin_preference(tools, trained.sft, optimizer, partial(loss, beta=config.beta))
    rows = pair_batches(tools.lab, pairs, config.batch_size)

    def one(state, i):
        state, metrics = step(state, rows[i], trained.sft)
        return state, metrics | at_points(tools, trained, state.params, i, config.steps)

    state = train_stage(stage, one, state, steps=config.steps, save_every=50)
    return state.params, {}


def fit_online(stage: Stage, tools: Tools, trained: Trained) -> tuple[Params, dict]:
    """DPO on two fresh answers to each prompt, the better one by the reward model chosen."""
    config = tools.config.online_dpo
    optimizer = adam(config.learning_rate, config.steps)
    state, step = begin_preference(
        tools, trained.sft, optimizer, partial(dpo_loss, beta=config.beta)
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
    updates = config.epochs * config.minibatches
    optimizer = adam(config.learning_rate, steps * updates)
    params = ppo.ActorCritic(trained.sft, critic_params(trained))
    axes = ppo.ActorCritic(tools.lab.axes["policy"], tools.lab.axes["value"])
    one_update = ppo.make_update(tools.lab.policy, tools.lab.value, optimizer, settings)
    update = ppo.make_epochs(one_update, epochs=config.epochs, minibatches=config.minibatches)
    state, step = begin(tools.lab, params, axes, optimizer, update)
    prepare = jax.jit(partial(rollout_batch, tools, settings))
    key = stage_key(tools.lab, stage.name)
    numbers = prompt_numbers(tools, config.batch_size)

    def one(state, i):
        prompts = make_prompts(tools.lab, numbers[i])
        draw_key, order_key = jax.random.split(jax.random.fold_in(key, i))
        rollout = answer(tools.lab, state.params.policy, prompts, draw_key, np.arange(1))
        batch, measured = prepare(state.params.value, trained, rollout)
        state, metrics = step(state, batch, order_key)
        return state, metrics | measured | at_points(tools, trained, state.params.policy, i, steps)

    state = train_stage(stage, one, state, steps=steps, save_every=20)
    return state.params.policy, {}


def rollout_batch(
    tools: Tools, settings: ppo.PPOConfig, value_params: Params, trained: Trained, rollout
) -> tuple[ppo.PPOBatch, dict]:
    """Rewards, KL, values and advantages of one rollout [B, 1], as a batch [B]."""
    rollout = jax.tree.map(lambda x: x[:, 0], rollout)
    trajectory = rollout.trajectory
    raw = tools.lab.reward.scores(trained.reward, trajectory)
    scores = (raw - trained.mean) / trained.std
    ref = tools.lab.policy.logps(trained.sft, trajectory.inputs, trajectory.actions)
    batch = ppo.make_batch(
        trajectory,
        scores,
        old_logps=rollout.token_logps,
        ref_logps=jnp.where(trajectory.mask, ref, 0.0),
        old_values=tools.lab.value.values(value_params, trajectory.inputs),
        config=settings,
    )
    gap = jnp.where(trajectory.mask, rollout.token_logps - ref, 0.0)
    return batch, {
        "scores/mean": scores.mean(),
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


def begin_preference(tools: Tools, params: Params, optimizer, loss: Callable):
    """First state and compiled `(state, batch, ref_params) -> (state, metrics)`."""
    update = preference.make_update(tools.lab.policy, optimizer, loss)

    def with_reference(state, batch: PreferenceBatch, ref_params: Params):
        return update(state, preference.attach_reference(tools.lab.policy, ref_params, batch))

    return begin(tools.lab, params, tools.lab.axes["policy"], optimizer, with_reference)


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
