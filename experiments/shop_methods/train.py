"""One training of one method as a stage, the sweep of its rate, and what its policy is worth."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import numpy as np

from experiments.shop_methods.config import RATES, SINGLE, SWEEP
from experiments.shop_methods.measure import (
    Numbers,
    numbers_of,
    policy_arrays,
    validation_gold,
)
from experiments.shop_methods.offline import OFFLINE
from experiments.shop_methods.online import ONLINE, fit_online, update_tokens
from experiments.shop_methods.parts import Part
from experiments.shop_methods.world import Tools
from rlhf_jax.training import Run, Stage, StageResult, read_metrics, run_stage
from rlhf_jax.types import Params

SHARED = {"osp_hard": "osp"}  # compared at the rate of another method


def train(job: Run, tools: Tools, part: Part, name: str, rate: float) -> StageResult:
    """Params of a method, with "gold" on validation prompts and "tokens" it learned from."""

    def work(stage: Stage) -> tuple[Params, dict[str, float]]:
        if name in OFFLINE:
            params = OFFLINE[name](stage, tools, part, rate)
        else:
            params = fit_online(
                stage,
                tools,
                part,
                rate,
                method=ONLINE[name].make(tools, part),
                start=tools.start_of(name),
            )
        return params, {"gold": validation_gold(tools, params), "rate": rate}

    like = jax.eval_shape(tools.lab.policy.init, jax.random.key(0))
    return run_stage(job, stage_name(part, name, rate), work, like=like)


def stage_name(part: Part, name: str, rate: float) -> str:
    """The stage of a training."""
    return f"{name}_{part.seed}_{rate:g}"


def swept(
    job: Run, tools: Tools, part: Part, name: str, chosen: Mapping[str, float]
) -> tuple[float, StageResult, dict[float, float]]:
    """The rate of a method, its training on this seed, and gold on validation prompts by rate.

    The rate is that of RATES, or with `tune` the best of SWEEP; of equal ones the lowest.
    """
    if name in SHARED and SHARED[name] in chosen:
        rate = chosen[SHARED[name]]
        return rate, train(job, tools, part, name, rate), {}
    if not tools.config.tune:
        return RATES[name], train(job, tools, part, name, RATES[name]), {}
    done = {rate: train(job, tools, part, name, rate) for rate in SWEEP[name]}
    gold = {rate: one.info["gold"] for rate, one in done.items()}
    best = max(SWEEP[name], key=lambda rate: (gold[rate], -rate))
    return best, done[best], gold


def measured(
    job: Run, tools: Tools, part: Part, name: str, done: StageResult, start: Mapping[str, Any]
) -> Numbers:
    """A trained policy on held-out prompts. start: arrays of SFT."""
    stage = stage_name(part, name, done.info["rate"])
    given = {"params": done.arrays, "ref": tools.start_of(name)}
    work = partial(policy_arrays, tools=tools, part=part, **given)
    found = run_stage(job, f"heldout_{name}_{part.seed}", work)
    tokens = tokens_of(job, tools, part, name, stage)
    about = {"seconds": job.spent[stage], "tokens": tokens}
    return numbers_of(found.arrays, found.info, start, **about)


def tokens_of(job: Run, tools: Tools, part: Part, name: str, stage: str) -> float:
    """Tokens that a training learned from, every pass counted."""
    rows = [row for row in read_metrics(job.out) if row["stage"] == stage]
    if name in OFFLINE:
        return float(sum(row["tokens"] for row in rows))
    lengths = np.array([row["answers/length"] for row in rows])
    method = ONLINE[name].make(tools, part)
    return update_tokens(lengths, name, method, tools.config.online.answers)


def update_cap(tools: Tools, name: str) -> int:
    """Tokens that a training of a method learns from at most: its answers at full length.

    All methods of a league take as many steps of as many answers; one that selects answers, or
    passes over them once, stays below, and nothing makes up for it.
    """
    offline, online = tools.config.offline, tools.config.online
    if name in OFFLINE:
        sides = 4 if name in SINGLE else 2  # with the answers to other prompts
        answers = offline.steps * sides * offline.batch_size
    else:
        answers = online.steps * online.answers * online.passes
    return answers * tools.lab.answer_length
