"""What the game methods are compared with: RLHF on Bradley-Terry models, and a learned judge."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from experiments.shop_nash.bits import BitCounter, bit_teacher
from experiments.shop_nash.config import Config
from experiments.shop_nash.config import Fit as Size
from experiments.shop_nash.methods import counter_of, plain_adam
from experiments.shop_nash.world import VoiceShares, game_prompts, game_task
from rlhf_jax.algos.ppo import PPOConfig
from rlhf_jax.recipes import (
    Fit,
    LanguageLab,
    Penalty,
    adamw_cosine,
    critic_of,
    model_reward,
    on_trunk,
    online,
    pair_rows,
    ppo,
    preference_model,
    reward_model,
    rloo,
    sample_pairs,
    stage_key,
)
from rlhf_jax.recipes.lab import wrapped
from rlhf_jax.recipes.offline import ScoreScale, pair_scores, score_scale
from rlhf_jax.recipes.pairs import open_pairs
from rlhf_jax.training import Run, Stage, StageResult, run_stage
from rlhf_jax.types import Params


def online_rlhf(
    job: Run, lab: LanguageLab, config: Config, sft: Params, shares: VoiceShares, *, name: str
) -> tuple[dict[str, Any], int]:
    """Phases of labels, a Bradley-Terry model of all labels so far, and RLOO with KL to SFT.

    Returns:
      {"params": of the last policy, "shares": [phases, N, 4]} and the bits asked for.
    """
    counter, policy = counter_of(config, name), sft
    records, seen = [], []
    for phase in range(config.control.phases):
        size = config.game.bits // config.control.phases
        here = f"{name}_{phase}"
        records += labelled(job, lab, config, policy, counter, f"{here}_pairs", size)
        fit = partial(fit_reward, lab=lab, config=config.control.model, sft=sft, pairs=records)
        reward = run_stage(job, f"{here}_reward", fit)
        improve = partial(improve_online, lab=lab, config=config, sft=sft, before=policy)
        done = run_stage(job, f"{here}_policy", partial(improve, reward=reward))
        policy = done.arrays
        seen.append(np.asarray(shares(policy)))
    return {"params": policy, "shares": np.stack(seen)}, counter.spent


def labelled(
    job: Run,
    lab: LanguageLab,
    config: Config,
    policy: Params,
    counter: BitCounter,
    name: str,
    size: int,
) -> list[dict[str, Any]]:
    """`size` pairs of the policy's answers to the prompts of the game, one bit each."""
    teacher = bit_teacher(counter, lab.seed, beta=config.game.judge_beta)
    task = game_task(lab.seed, teacher=teacher)
    indices = wrapped(game_prompts(config), 0, size)

    def work(stage: Stage) -> tuple[dict, dict[str, Any]]:
        sample_pairs(
            stage.run,
            lab,
            task,
            policy,
            indices,
            name=name,
            split="train",
            facts={"judge_beta": config.game.judge_beta, "bits": counter.spent},
            remedy="raise start.fit.steps",
        )
        return {}, {"bits": counter.spent}

    counter.restore(run_stage(job, name, work).info["bits"])
    return list(open_pairs(job.out / "data", name, "train"))


def fit_reward(
    stage: Stage, *, lab: LanguageLab, config: Size, sft: Params, pairs: Sequence[dict]
) -> tuple[Params, dict[str, Any]]:
    """Bradley-Terry scores from SFT's trunk; mean and deviation of the pairs' scores."""
    start = on_trunk(lab, sft, stage_key(lab, "reward"))
    rows = pair_rows(lab, pairs, batch_size=config.batch_size)
    params = reward_model(stage, lab, rows, start, fit_of(config))
    scores = pair_scores(lab, params, pairs, batch_size=config.batch_size)
    return params, dict(score_scale(stage.name, scores)._asdict())


def fit_pairwise(
    stage: Stage, *, lab: LanguageLab, config: Size, sft: Params, pairs: Sequence[dict]
) -> tuple[Params, dict[str, Any]]:
    """The pairwise model from SFT's trunk."""
    start = on_trunk(lab, sft, stage_key(lab, "pairwise"))
    rows = pair_rows(lab, pairs, batch_size=config.batch_size)
    return preference_model(stage, lab, rows, start, fit_of(config)), {}


def fit_of(config: Size) -> Fit:
    """AdamW on a cosine for the steps of a config."""
    return Fit(adamw_cosine(config.rate, config.steps), config.steps, save_every=500)


def improve_online(
    stage: Stage,
    *,
    lab: LanguageLab,
    config: Config,
    sft: Params,
    before: Params,
    reward: StageResult,
) -> tuple[Params, dict[str, Any]]:
    """RLOO from the policy of the phase before, with KL to SFT."""
    size = config.control
    method = rloo(lab, samples=size.samples, kl=Penalty(size.beta))
    params = online(
        stage,
        lab,
        game_task(lab.seed),
        method._replace(start=lambda _: before),
        model_reward(lab, reward.arrays, scale_of(reward.info)),
        sft,
        rows_of_prompts(config, size.steps, size.batch_size),
        Fit(plain_adam(size.rate), size.steps, save_every=500),
        key=stage_key(lab, stage.name),
    )
    return params, {}


def improve_offline(
    stage: Stage,
    lab: LanguageLab,
    config: Config,
    sft: Params,
    shares: VoiceShares,
    *,
    reward: StageResult,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """PPO on a Bradley-Terry model of SFT's answers; as `fit_method`, with one point."""
    size, scale = config.control, scale_of(reward.info)
    method = ppo(
        lab, PPOConfig(beta=size.ppo_beta), critic_of(reward.arrays, scale), epochs=size.epochs
    )
    params = online(
        stage,
        lab,
        game_task(lab.seed),
        method,
        model_reward(lab, reward.arrays, scale),
        sft,
        rows_of_prompts(config, size.ppo_steps, size.ppo_batch),
        Fit(plain_adam(size.ppo_rate), size.ppo_steps, save_every=500),
        key=stage_key(lab, stage.name),
    )
    return {"params": params, "shares": np.asarray(shares(params))[None]}, {
        "bits": config.game.bits
    }


def rows_of_prompts(config: Config, steps: int, count: int) -> list[np.ndarray]:
    """The prompts of each step, in turn."""
    prompts = game_prompts(config)
    return [wrapped(prompts, i * count, count) for i in range(steps)]


def scale_of(info: Mapping[str, Any]) -> ScoreScale:
    """What `fit_reward` measured."""
    return ScoreScale(info["mean"], info["std"])
