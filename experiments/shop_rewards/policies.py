"""GRPO on the rewards of the flipped pairs: gold against KL, and how far gold falls."""

from typing import Any, NamedTuple

import numpy as np

from experiments.shop_rewards.world import ROOM, Part, Tools
from rlhf_jax.recipes import (
    Fit,
    LanguageLab,
    Penalty,
    Reward,
    adamw_cosine,
    at_points,
    grpo,
    online,
    prompt_rows,
    stage_key,
)
from rlhf_jax.recipes.evaluation import measure
from rlhf_jax.training import Run, Stage, read_metrics, run_stage
from rlhf_jax.types import Params

# Readings that a policy is trained on.
POLICIES = (
    *("scalar", "another scalar", "WCO", "UWO", "implicit", "repaired labels"),
    *("corrections", "features"),
)
HALVES = ("even", "odd")


class Path(NamedTuple):
    """Along a training, SFT first. kl: [1 + points] nats per answer. gold: [1 + points, 2] means
    of either half of the held-out prompts."""

    kl: np.ndarray
    gold: np.ndarray


def stage_name(part: Part, reading: str) -> str:
    """The stage of a policy."""
    return f"{part.name}_policy_{reading.replace(' ', '_')}"


def train_policy(job: Run, tools: Tools, part: Part, reading: str, reward: Reward) -> None:
    """GRPO from SFT; all rewards of a seed get the same prompts and draws."""
    config = tools.config.policy
    short = tools.lab._replace(seed=part.lab.seed, answer_length=tools.lab.answer_length - ROOM)

    def work(stage: Stage) -> tuple[Params, dict]:
        kl = Penalty(config.beta)
        method = grpo(short, samples=config.samples, kl=kl)
        fit = Fit(
            adamw_cosine(config.learning_rate, config.steps),
            config.steps,
            measure=at_points(
                lambda params, _: heldout_numbers(tools, short, params),
                steps=config.steps,
                points=config.points,
            ),
        )
        rows = prompt_rows(tools.task, batch_size=config.prompts, seed=part.seed)
        key = stage_key(short, "policy")
        online(stage, short, tools.task, method, reward, tools.sft, rows, fit, key=key)
        return {}, {}

    run_stage(job, stage_name(part, reading), work)


def heldout_numbers(tools: Tools, lab: LanguageLab, params: Params) -> dict[str, float]:
    """KL and gold of the halves on held-out prompts; the draws are the same for all policies."""
    indices = np.array(tools.task.splits["validation"][: tools.config.policy.measured])
    key = stage_key(tools.lab, "validation")
    found = measure(lab, tools.task, params, tools.sft, indices, key)
    gold = found.named["gold"][:, 0]
    halves = {f"heldout/gold/{half}": float(gold[i::2].mean()) for i, half in enumerate(HALVES)}
    return {**halves, "heldout/kl": float(found.log_ratios.mean())}


def start_numbers(job: Run, tools: Tools) -> dict[str, Any]:
    """Those of SFT."""
    short = tools.lab._replace(answer_length=tools.lab.answer_length - ROOM)
    name = "policy_start"
    if name not in tools.kept:
        tools.kept[name] = run_stage(
            job, name, lambda _: ({}, heldout_numbers(tools, short, tools.sft))
        )
    return tools.kept[name].info


def path_of(job: Run, stage: str, start: dict[str, Any]) -> Path:
    """What a finished training recorded."""
    rows = [start] + [
        row for row in read_metrics(job.out) if row["stage"] == stage and "heldout/kl" in row
    ]
    gold = [[row[f"heldout/gold/{half}"] for half in HALVES] for row in rows]
    return Path(np.array([row["heldout/kl"] for row in rows]), np.array(gold))


def fall(gold: np.ndarray) -> float:
    """How far gold is at the end below its peak, from [points, 2].

    The peak is where the other half of the prompts has it: a maximum over points of the same
    prompts would be a fall by chance alone.
    """
    peaks = gold.argmax(0)[::-1]
    return float(np.mean([gold[at, half] - gold[-1, half] for half, at in enumerate(peaks)]))
