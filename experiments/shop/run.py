"""The whole job on the shipped SFT policy: pairs, a reward model, and ways to use them."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import jax
import numpy as np

from experiments.shop.claims import (
    accuracy_claim,
    axis_claims,
    fall_claim,
    gate_claims,
    greedy_claims,
    way_claims,
)
from experiments.shop.config import Config
from experiments.shop.evaluate import COOLER, best_of, gold_path, judge, skills_of
from experiments.shop.fit import (
    fit_direct,
    fit_free,
    fit_head,
    fit_online_dpo,
    fit_ppo,
    pair_quality,
)
from experiments.shop.report import write_report
from experiments.shop.table import NAMES, Method, table_rows
from experiments.shop.tools import Tools, Trained, make_tools
from rlhf_jax import dpo_loss, ipo_loss
from rlhf_jax.labs.shop_models import shipped
from rlhf_jax.labs.train_shop import train_models
from rlhf_jax.recipes import (
    at_temperature,
    critic_of,
    implicit_lab,
    reference_logps,
    sample_pairs,
    task_reward,
    weighted_reward,
)
from rlhf_jax.recipes.offline import ScoreScale
from rlhf_jax.recipes.pairs import open_pairs
from rlhf_jax.recipes.rows import Records
from rlhf_jax.reports.claims import Claim, Outcome
from rlhf_jax.training import Run, Stage, StageResult, run_stage
from rlhf_jax.types import Params

StageFit = Callable[[Stage], tuple[Params, dict]]
CLAIMED = ("dpo", "online_dpo", "ppo")


def run(config: Config, job: Run) -> Outcome:
    """Trains every method and checks which of them come nearer to ideal answers."""
    tools = make_tools(config, job.out / "data")
    like_policy = shapes(tools.lab.policy.init)
    sft, base = starting_models(job, tools)
    skills = run_stage(job, "competence", lambda _: (skills_of(tools, sft, base), {}))

    run_stage(job, "pairs", lambda stage: label(stage.run, tools, sft))
    train, heldout = (
        list(open_pairs(job.out / "data", f"shop_pairs_{split}", split))
        for split in ("train", "heldout")
    )
    reference = run_stage(job, "reference", lambda stage: (refer(tools, sft, train), {}))
    pairs = {"pairs": train, "reference": reference.arrays}
    direct = partial(fit_direct, tools=tools, sft=sft, **pairs)
    fits: dict[str, StageFit] = {
        "dpo": partial(direct, config=config.dpo, loss=dpo_loss),
        "ipo": partial(direct, config=config.ipo, loss=ipo_loss),
    }
    results = {name: run_stage(job, name, fit, like=like_policy) for name, fit in fits.items()}

    head = run_stage(
        job,
        "scalar_head",
        lambda stage: fit_head(stage, tools, sft, train, heldout),
        like=shapes(tools.lab.reward.init),
    )
    implied = {"policy": results["dpo"].arrays, "reference": sft}
    dpo_tools = tools._replace(judged=implicit_lab(tools.lab, beta=config.dpo.beta))
    quality = partial(reward_stage, job, implied=implied, heldout=heldout)
    reward, dpo_reward = quality("reward_model", tools), quality("dpo_reward", dpo_tools)
    critic = critic_of(head.arrays, scale_of(head.info))
    trained = Trained(sft, implied, scale_of(reward.info), critic)
    free = partial(fit_free, tools=dpo_tools, trained=trained, scale=scale_of(dpo_reward.info))
    fits = {**online_fits(tools, trained, reward.info["gold_std"]), "ppo_no_kl": free}
    results |= {name: run_stage(job, name, fit, like=like_policy) for name, fit in fits.items()}

    params = {"sft": sft} | {name: result.arrays for name, result in results.items()}
    measured = run_stage(job, "evaluation", lambda stage: judge(stage.run, tools, trained, params))
    best = run_stage(job, "best_of_n", lambda stage: best_of(stage, tools, trained))

    seconds = {name: result.seconds for name, result in results.items()}
    methods = table_rows(config, measured, best, trained, seconds)
    claims = [
        *gate_claims(skills.arrays["sft"], skills.arrays["base"], config.evaluation.gate_prompts),
        accuracy_claim(reward.info["margins"], head.info["margins"]),
        *method_claims(job, config, methods, best.arrays["all_gold"][:, 0]),
    ]
    models = {
        "reward_model": reward.info,
        "dpo_reward": dpo_reward.info,
        "scalar_head": head.info,
    }
    return write_report(job, tools, methods, claims, models, best.arrays)


def reward_stage(
    job: Run, name: str, tools: Tools, *, implied: Params, heldout: Records
) -> StageResult:
    """Accuracy and scale of the reward of these tools on held-out pairs."""
    size = tools.config.dpo.batch_size
    work = partial(pair_quality, name, tools.judged, implied, heldout, size)
    return run_stage(job, name, lambda _: ({}, work()))


def starting_models(job: Run, tools: Tools) -> tuple[Params, Params]:
    """The SFT policy and the base model it came from: those of the package, or trained here."""
    if tools.config.from_scratch:
        found = train_models(job, tools.lab, tools.config.pretraining)
        return found["sft"], found["base"]
    return shipped(tools.lab, "sft"), shipped(tools.lab, "base")


def method_claims(
    job: Run, config: Config, methods: Mapping[str, Method], again: np.ndarray
) -> list[Claim]:
    """What the methods claim, and the over-optimisation of PPO without its penalty.

    Args:
      again: [N] gold of another answer of SFT to each prompt.
    """
    names = (f"best of {config.evaluation.best_of}", *(NAMES[name] for name in CLAIMED))
    weak = {
        "helpful": ("a policy that always declines", methods["declining"].axes[:, 0]),
        "honest": ("good answers with one lie", methods["lying"].axes[:, 1]),
    }
    paths = [gold_path(job, stage, methods["SFT"].gold) for stage in ("ppo_no_kl", "ppo")]
    return [
        *way_claims(methods, names, again, methods["ideal"].gold),
        *axis_claims(methods, names, weak),
        *greedy_claims(methods, names[1:], methods[f"SFT at {COOLER}"]),
        fall_claim(*paths),
    ]


def online_fits(tools: Tools, trained: Trained, gold_std: float) -> dict[str, StageFit]:
    """The methods on fresh answers.

    Args:
      gold_std: standard deviation of gold, which makes it a reward of variance 1, not centred.
    """
    config = tools.config.ppo
    fit = partial(fit_ppo, tools=tools, trained=trained)
    fits: dict[str, StageFit] = {
        "online_dpo": partial(fit_online_dpo, tools=tools, trained=trained),
        "ppo": partial(fit, beta=config.beta, steps=config.steps),
    }
    if tools.config.bound:
        gold = weighted_reward({"gold": (1.0 / gold_std, task_reward(tools.lab, tools.task))})
        fits["ppo_gold"] = partial(fit, beta=config.beta, steps=config.steps, reward=gold)
    return fits


def scale_of(info: Mapping[str, Any]) -> ScoreScale:
    """The scale of a reward model's scores, from what `pair_quality` found."""
    return ScoreScale(info["mean"], info["std"])


def shapes(init) -> Params:
    """The structure and shapes of a model's params, nothing computed."""
    return jax.eval_shape(init, jax.random.key(0))


def label(job: Run, tools: Tools, params: Params) -> tuple[Any, dict]:
    """Samples and labels the pairs of both splits, those to train on at their temperature."""
    config, splits = tools.config.pairs, tools.task.splits
    numbers = {
        "train": splits["pairs"][: config.train],
        "heldout": splits["heldout_pairs"][: config.heldout],
    }
    labs = {"train": at_temperature(tools.lab, config.temperature), "heldout": tools.lab}

    def sample(split: str) -> Records:
        about = {"facts": asdict(config), "remedy": "lower tie_gap"}
        given = (labs[split], tools.task, params, np.array(numbers[split]))
        return sample_pairs(job, *given, name=f"shop_pairs_{split}", split=split, **about)

    return {}, {split: len(sample(split)) for split in numbers}


def refer(tools: Tools, sft: Params, pairs: Records) -> dict[str, np.ndarray]:
    """Log-probs of the training pairs under SFT, the reference of DPO and IPO."""
    return reference_logps(tools.lab, sft, pairs, batch_size=tools.config.dpo.batch_size)
