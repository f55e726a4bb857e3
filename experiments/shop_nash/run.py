"""SFT, judges' pairs, PPO on Bradley-Terry, iterative DPO, eight Nash methods, and a tournament."""

from functools import partial
from typing import Any

import jax
import numpy as np

from experiments.shop_nash.claims import BASELINES, accuracy_claim, method_claims
from experiments.shop_nash.config import Config
from experiments.shop_nash.evaluate import (
    Sampled,
    play,
    sample_answers,
    standings,
)
from experiments.shop_nash.methods import entries, fit_method, prompt_numbers
from experiments.shop_nash.pairs import (
    fit_bradley_terry,
    fit_of,
    fit_preference_model,
    population_teacher,
)
from experiments.shop_nash.population import population_judge
from experiments.shop_nash.report import write_report
from rlhf_jax.algos.ppo import PPOConfig
from rlhf_jax.labs.shop import SPLITS, base_corpus, shop_lab, shop_task
from rlhf_jax.recipes import (
    Fit,
    LanguageLab,
    adamw_cosine,
    answer_rows,
    critic_of,
    model_reward,
    online,
    ppo,
    sample_pairs,
    stage_key,
    supervised,
)
from rlhf_jax.recipes.lab import check_batches
from rlhf_jax.recipes.offline import ScoreScale, preference_of
from rlhf_jax.recipes.pairs import open_pairs
from rlhf_jax.reports.claims import Outcome
from rlhf_jax.rewards import preference_judge
from rlhf_jax.training import Run, Stage, check_stop, progress_bar, run_stage
from rlhf_jax.types import Params


def run(config: Config, job: Run) -> Outcome:
    """Trains every method and lets them all play each other."""
    lab = shop_lab(config.size, job.out / "data", seed=config.seed)
    check_batches(lab, config)
    like_policy, like_reward = shapes(lab.policy.init), shapes(lab.reward.init)
    sft = run_stage(job, "sft", lambda stage: learn(stage, lab, config), like=like_policy)
    run_stage(job, "pairs", lambda stage: label(stage.run, lab, config, sft.arrays))
    train, heldout = (
        open_pairs(job.out / "data", f"shop_nash_pairs_{split}", split)
        for split in ("train", "heldout")
    )
    given = {"lab": lab, "sft": sft.arrays, "pairs": train, "heldout": heldout}
    reward = run_stage(
        job,
        "bradley_terry",
        partial(fit_bradley_terry, config=config.reward, **given),
        like=like_reward,
    )
    preference = run_stage(
        job,
        "preference_model",
        partial(fit_preference_model, config=config.preference, **given),
        like=like_reward,
    )

    scale = ScoreScale(reward.info["mean"], reward.info["std"])
    start = {"sft": sft.arrays, "reward": reward.arrays, "scale": scale}
    work = partial(improve, lab=lab, config=config, **start)
    results = {BASELINES[0]: run_stage(job, "ppo", work, like=like_policy)}
    world = population_judge(lab, beta=config.judge_beta)
    learned = preference_judge(preference_of(lab), preference.arrays)
    for stage_name, entry in entries(lab, config).items():
        judge = learned if stage_name.endswith("learned") else world
        given = {"lab": lab, "config": config, "judge": judge, "sft": sft.arrays}
        fit = partial(fit_method, entry=entry, **given)
        results[entry.name] = run_stage(job, stage_name, fit, like=like_policy)

    params = {"SFT": sft.arrays} | {name: result.arrays for name, result in results.items()}
    drawn = run_stage(job, "evaluation", lambda stage: draw(stage.run, lab, config, params))
    sampled = {
        name: Sampled(texts=drawn.info["texts"][name], **arrays)
        for name, arrays in drawn.arrays.items()
    }
    utilities = {name: one.utilities for name, one in sampled.items()}
    games = play(utilities, beta=config.judge_beta)
    table = standings(games, seed=config.seed)
    claims = [
        accuracy_claim(preference.info["correct"], reward.info["correct"]),
        *method_claims(games),
    ]
    return write_report(job, games, table, sampled, results, claims, (reward.info, preference.info))


def shapes(init) -> Params:
    """The structure and shapes of a model's params, nothing computed."""
    return jax.eval_shape(init, jax.random.key(0))


def learn(stage: Stage, lab: LanguageLab, config: Config) -> tuple[Params, dict]:
    """SFT on the base corpus."""
    corpus = base_corpus(config.seed, config.rows, stage.run.out / "data")
    rows = answer_rows(lab, corpus, batch_size=config.sft.batch_size)
    start = lab.policy.init(stage_key(lab, "sft"))
    fit = fit_of(config.sft, save_every=250)
    return supervised(stage, lab, rows, start, fit), {"rows": len(corpus)}


def label(job: Run, lab: LanguageLab, config: Config, sft: Params) -> tuple[Any, dict]:
    """Pairs of both splits; the records are their own result."""
    numbers = {
        "train": SPLITS["pairs"][: config.pairs],
        "heldout": SPLITS["heldout_pairs"][: config.heldout_pairs],
    }
    teacher = population_teacher(config.seed, beta=config.judge_beta)
    task = shop_task(config.seed, teacher=teacher)
    more = {"facts": {"judge_beta": config.judge_beta}, "remedy": "raise sft.steps"}
    sample = partial(sample_pairs, job, lab, task, sft, **more)
    return {}, {
        split: len(sample(np.array(indices), name=f"shop_nash_pairs_{split}", split=split))
        for split, indices in numbers.items()
    }


def improve(
    stage: Stage,
    *,
    lab: LanguageLab,
    config: Config,
    sft: Params,
    reward: Params,
    scale: ScoreScale,
) -> tuple[Params, dict[str, Any]]:
    """PPO on the Bradley-Terry model of the population."""
    size = config.ppo
    method = ppo(lab, PPOConfig(beta=size.beta), critic_of(reward, scale), epochs=size.epochs)
    params = online(
        stage,
        lab,
        shop_task(config.seed),
        method,
        model_reward(lab, reward, scale),
        sft,
        [prompt_numbers(i, size.batch_size) for i in range(size.steps)],
        Fit(adamw_cosine(size.rate, size.steps * size.epochs), size.steps, save_every=20),
        key=stage_key(lab, stage.name),
    )
    return params, {"rounds": size.steps, "answers": size.steps * size.batch_size}


def draw(
    job: Run, lab: LanguageLab, config: Config, params: dict[str, Params]
) -> tuple[dict[str, dict[str, np.ndarray]], dict]:
    """Answers of every policy to the held-out prompts."""
    indices = np.array(SPLITS["heldout"][: config.evaluation.prompts])
    arrays, texts = {}, {}
    with progress_bar("evaluation", len(params), show=job.progress) as advance:
        for name, one in params.items():
            check_stop(job, f"drawing answers of {name}")
            found = sample_answers(
                lab, name, one, params["SFT"], indices, config.evaluation.samples
            )
            texts[name] = found.texts
            arrays[name] = {k: v for k, v in found._asdict().items() if k != "texts"}
            advance(len(texts))
    return arrays, {"texts": texts}
