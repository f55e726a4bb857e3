"""Measuring a policy on held-out prompts: gold scores, reward-model scores, KL, length."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.shop.tools import HELDOUT_PROMPTS, Tools
from rlhf_jax.labs.shop import (
    CHUNK,
    answer,
    check_scores,
    gold_scores,
    make_prompts,
    stage_key,
    texts_of,
    wrapped,
)
from rlhf_jax.ops.logprobs import sequence_logps
from rlhf_jax.training import Run, check_stop, progress_bar
from rlhf_jax.types import Params


class Measured(NamedTuple):
    """One answer to each of N prompts.

    texts: the answers. axes: [N, 6] in the order of shop.AXES. gold: [N] overall. scores: [N]
    reward model. log_ratios: [N] log pi - log pi_ref of the answer, whose mean estimates
    KL(pi || pi_ref) in nats per answer. lengths: [N] tokens, <eos> included.
    """

    texts: list[str]
    axes: np.ndarray
    gold: np.ndarray
    scores: np.ndarray
    log_ratios: np.ndarray
    lengths: np.ndarray


def heldout_indices(tools: Tools, count: int) -> np.ndarray:
    """The first `count` held-out prompts."""
    return np.arange(HELDOUT_PROMPTS, HELDOUT_PROMPTS + count)


def measure(
    tools: Tools,
    params: Params,
    ref_params: Params,
    reward_params: Params,
    indices: np.ndarray,
    *,
    sample: int = 0,
) -> Measured:
    """Draws answer number `sample` to each prompt and scores it; the draws are the same for all."""
    parts = []
    for start in range(0, len(indices), CHUNK):
        prompts = make_prompts(tools.lab, wrapped(indices, start, CHUNK))
        key = stage_key(tools.lab, "evaluation")
        rollout = answer(tools.lab, params, prompts, key, np.array([sample]))
        trajectory = jax.tree.map(lambda x: x[:, 0], rollout.trajectory)
        ref = sequence_logps(tools.lab.token_logps(ref_params, trajectory), trajectory.mask)
        logps = sequence_logps(rollout.token_logps[:, 0], trajectory.mask)
        parts.append(
            (
                trajectory.actions,
                tools.lab.scores(reward_params, trajectory),
                logps - ref,
                jnp.sum(trajectory.mask, -1),
            )
        )
    columns = jax.device_get(parts)
    actions, scores, log_ratios, lengths = (
        np.concatenate(column)[: len(indices)] for column in zip(*columns, strict=True)
    )
    check_scores(indices, scores)
    texts = texts_of(tools.lab, actions)
    axes, gold = gold_scores(tools.lab, indices, texts)
    return Measured(texts, axes, gold, scores, log_ratios, lengths)


def curve_point(tools: Tools, params, ref_params, reward_params) -> dict[str, float]:
    """What a training curve records: means over the first held-out prompts."""
    indices = heldout_indices(tools, tools.config.evaluation.curve_prompts)
    found = measure(tools, params, ref_params, reward_params, indices)
    return {
        "heldout/gold": float(found.gold.mean()),
        "heldout/score": float(found.scores.mean()),
        "heldout/kl": float(found.log_ratios.mean()),
        "heldout/length": float(found.lengths.mean()),
    }


class BestOf(NamedTuple):
    """n answers of the SFT policy to each prompt: texts, gold and scores [N, n], lengths [N, n]."""

    texts: list[list[str]]
    gold: np.ndarray
    scores: np.ndarray
    lengths: np.ndarray


def draw_many(
    job: Run, tools: Tools, params: Params, reward_params: Params, indices: np.ndarray
) -> BestOf:
    """The answers that best-of-n chooses from, two at a time."""
    n = tools.config.evaluation.best_of
    columns = []
    with progress_bar("best of n", n, show=job.progress) as advance:
        for first in range(0, n, 2):
            check_stop(job, "drawing for best-of-n")
            columns.append(_two(tools, params, reward_params, indices, first))
            advance(first + 2)
    actions, scores, lengths = (
        np.concatenate(column, 1)[:, :n] for column in zip(*columns, strict=True)
    )
    check_scores(indices, scores)
    rows = [texts_of(tools.lab, row) for row in actions]
    gold = np.stack(
        [gold_scores(tools.lab, indices, list(t))[1] for t in zip(*rows, strict=True)], 1
    )
    return BestOf(rows, gold, scores, lengths)


def _two(tools: Tools, params, reward_params, indices: np.ndarray, first: int):
    """Answers `first` and `first + 1`: actions [N, 2, T], scores [N, 2], lengths [N, 2]."""
    parts = []
    for start in range(0, len(indices), CHUNK):
        prompts = make_prompts(tools.lab, wrapped(indices, start, CHUNK))
        key = stage_key(tools.lab, "best of n")
        rollout = answer(tools.lab, params, prompts, key, np.arange(first, first + 2))
        trajectory = rollout.trajectory
        scores = tools.lab.scores(reward_params, trajectory)
        parts.append((trajectory.actions, scores, jnp.sum(trajectory.mask, -1)))
    columns = jax.device_get(parts)
    return tuple(np.concatenate(column)[: len(indices)] for column in zip(*columns, strict=True))
