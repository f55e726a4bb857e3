"""What is measured of a policy on held-out prompts."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.shop_methods.parts import Part
from experiments.shop_methods.world import Tools, wide_lab
from rlhf_jax.recipes import LanguageLab, best_of_n, corpus_loss, measure, stage_key
from rlhf_jax.recipes.evaluation import prompt_win_rates
from rlhf_jax.recipes.task import overall
from rlhf_jax.training import Stage
from rlhf_jax.types import Params

SAMPLES = 2  # answers to a held-out prompt
OBJECTIVE = "objective"
BATCH = 32  # texts of the corpus at a time


class Numbers(NamedTuple):
    """Of a policy. gold: [N, 2] objective. axes: its parts, name -> [N, 2].

    win_rate: [N] against SFT. kl: nats per answer, to what it was trained from. entropy: the same,
    of the policy itself. length: tokens. distinct: how often two answers to a prompt differ. score:
    of the reward model. forgetting: loss on the base corpus, nats per token, NaN without one.
    seconds, tokens: of the training.
    """

    gold: np.ndarray
    axes: dict[str, np.ndarray]
    win_rate: np.ndarray
    kl: float
    entropy: float
    length: float
    distinct: float
    score: float
    forgetting: float
    seconds: float
    tokens: float


def heldout_numbers(tools: Tools) -> np.ndarray:
    """Prompts that no policy has seen."""
    return np.array(tools.task.splits["heldout"][: tools.config.evaluation.prompts])


def policy_arrays(
    stage: Stage, tools: Tools, part: Part, params: Params, ref: Params
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two answers to each held-out prompt; the draws are the same for all policies of a seed.

    ref: what the policy was trained from.
    """
    key = stage_key(part.lab, "evaluation")
    prompts = heldout_numbers(tools)
    given = (tools.judged, tools.task, params, ref, prompts, key)
    found = measure(*given, samples=SAMPLES, reward=part.model)
    arrays = {
        "named": {**found.named, OBJECTIVE: overall(tools.task, found.named)},
        "log_ratios": found.log_ratios,
        "logps": found.log_ratios + found.ref_logps,
        "lengths": found.lengths,
        "scores": (np.asarray(found.scores) - part.scale.mean) / part.scale.std,
        "distinct": np.array([float(len(set(texts)) > 1) for texts in found.texts]),
    }
    return arrays, {"forgetting": forgetting(tools, params)}


def forgetting(tools: Tools, params: Params) -> float | None:
    """Loss of a token of texts like those that the base model has read; None without such."""
    if not tools.corpus:
        return None
    lab = wide_lab(tools.lab, tools.corpus)
    return corpus_loss(lab, params, tools.corpus, batch_size=BATCH)


def numbers_of(
    arrays: Mapping[str, Any],
    info: Mapping[str, Any],
    start: Mapping[str, Any],
    *,
    seconds: float = 0.0,
    tokens: float = 0.0,
) -> Numbers:
    """From what `policy_arrays` keeps. start: the same of SFT."""
    named = {name: np.asarray(x) for name, x in arrays["named"].items()}
    gold = named.pop(OBJECTIVE)
    rates = prompt_win_rates(gold, start["named"][OBJECTIVE])
    return Numbers(
        gold=gold,
        axes={k: x for k, x in named.items() if not np.array_equal(x, gold, equal_nan=True)},
        win_rate=rates,
        kl=float(np.mean(arrays["log_ratios"])),
        entropy=float(-np.mean(arrays["logps"])),
        length=float(np.mean(arrays["lengths"])),
        distinct=float(np.mean(arrays["distinct"])),
        score=float(np.mean(arrays["scores"])),
        forgetting=np.nan if info["forgetting"] is None else float(info["forgetting"]),
        seconds=seconds,
        tokens=tokens,
    )


def validation_gold(tools: Tools, params: Params) -> float:
    """Mean objective on validation prompts, by which rates are chosen."""
    config = tools.config.evaluation
    prompts = np.array(tools.task.splits["validation"][: config.validation])
    key = stage_key(tools.lab, "validation")
    return objective_of(tools, params, prompts, key)


def mean_objective(tools: Tools, lab: LanguageLab, params: Params) -> float:
    """Mean objective on held-out prompts, two answers each; lab: with its draws."""
    key = stage_key(lab, "evaluation")
    return objective_of(tools, params, heldout_numbers(tools), key, samples=SAMPLES)


def objective_of(
    tools: Tools, params: Params, prompts: np.ndarray, key: jax.Array, *, samples: int = 1
) -> float:
    """Mean objective of answers to these prompts."""
    found = measure(tools.lab, tools.task, params, tools.start, prompts, key, samples=samples)
    return float(np.nanmean(overall(tools.task, found.named)))


def best_of_arrays(stage: Stage, tools: Tools, part: Part) -> tuple[dict[str, Any], dict[str, Any]]:
    """Best-of-n of SFT at inference, on the held-out prompts."""
    key, prompts = stage_key(part.lab, "best of n"), heldout_numbers(tools)
    given = (tools.judged, tools.task, tools.start, part.model, prompts, key)
    found = best_of_n(stage.run, *given, n=tools.config.evaluation.best_of)
    picked = (np.arange(len(prompts)), found.chosen)
    named = {**found.named, OBJECTIVE: overall(tools.task, found.named)}
    return {
        "named": {name: np.asarray(x)[picked][:, None] for name, x in named.items()},
        "lengths": found.lengths[picked],
        "scores": (found.scores[picked] - part.scale.mean) / part.scale.std,
    }, {}
