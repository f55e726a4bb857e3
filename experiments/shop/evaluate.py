"""Measuring a policy on held-out prompts: gold scores, reward-model scores, KL, length."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.shop.tools import Tools, Trained
from rlhf_jax.envs import shop
from rlhf_jax.ops.logprobs import sequence_logps
from rlhf_jax.recipes import make_prompts, score_answers, stage_key
from rlhf_jax.recipes.lab import CHUNK, decode_texts, wrapped
from rlhf_jax.recipes.rewards import check_scores
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
    return np.array(tools.task.splits["heldout"][:count])


def measure(tools: Tools, params: Params, trained: Trained, indices: np.ndarray) -> Measured:
    """Draws an answer to each prompt and scores it; the draws are the same for all policies."""
    parts = []
    for start in range(0, len(indices), CHUNK):
        prompts = make_prompts(tools.lab, tools.task, wrapped(indices, start, CHUNK))
        rollout = tools.lab.draw(params, prompts, stage_key(tools.lab, "evaluation"), 1)
        trajectory = jax.tree.map(lambda x: x[:, 0], rollout.trajectory)
        ref = sequence_logps(tools.lab.token_logps(trained.sft, trajectory), trajectory.mask)
        logps = sequence_logps(rollout.token_logps[:, 0], trajectory.mask)
        parts.append(
            (
                trajectory.actions,
                tools.lab.scores(trained.reward, trajectory),
                logps - ref,
                jnp.sum(trajectory.mask, -1),
            )
        )
    columns = jax.device_get(parts)
    actions, scores, log_ratios, lengths = (
        np.concatenate(column)[: len(indices)] for column in zip(*columns, strict=True)
    )
    check_scores(indices, scores)
    texts = decode_texts(tools.lab, actions)
    axes, gold = gold_scores(tools, indices, texts)
    return Measured(texts, axes, gold, scores, log_ratios, lengths)


def gold_scores(
    tools: Tools, indices: np.ndarray, texts: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """The six axes [N, 6] and the overall gold score [N] of each text."""
    found = score_answers(tools.task, indices, texts)
    axes = np.stack([found[axis] for axis in shop.AXES], axis=-1).astype(np.float32)
    return axes, found["gold"]


def curve_point(tools: Tools, params: Params, trained: Trained) -> dict[str, float]:
    """What a training curve records: means over the first held-out prompts."""
    indices = heldout_indices(tools, tools.config.evaluation.curve_prompts)
    found = measure(tools, params, trained, indices)
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


def draw_many(job: Run, tools: Tools, trained: Trained, indices: np.ndarray) -> BestOf:
    """The answers that best-of-n chooses from, two at a time."""
    n = tools.config.evaluation.best_of
    columns = []
    with progress_bar("best of n", n, show=job.progress) as advance:
        for first in range(0, n, 2):
            check_stop(job, "drawing for best-of-n")
            columns.append(_two(tools, trained, indices, first))
            advance(first + 2)
    actions, scores, lengths = (
        np.concatenate(column, 1)[:, :n] for column in zip(*columns, strict=True)
    )
    check_scores(indices, scores)
    rows = [decode_texts(tools.lab, row) for row in actions]
    gold = np.stack([gold_scores(tools, indices, list(t))[1] for t in zip(*rows, strict=True)], 1)
    return BestOf(rows, gold, scores, lengths)


def _two(tools: Tools, trained: Trained, indices: np.ndarray, first: int):
    """Answers `first` and `first + 1`: actions [N, 2, T], scores [N, 2], lengths [N, 2]."""
    parts = []
    for start in range(0, len(indices), CHUNK):
        prompts = make_prompts(tools.lab, tools.task, wrapped(indices, start, CHUNK))
        rollout = tools.lab.draw(trained.sft, prompts, stage_key(tools.lab, "best of n"), 2, first)
        trajectory = rollout.trajectory
        scores = tools.lab.scores(trained.reward, trajectory)
        parts.append((trajectory.actions, scores, jnp.sum(trajectory.mask, -1)))
    columns = jax.device_get(parts)
    return tuple(np.concatenate(column)[: len(indices)] for column in zip(*columns, strict=True))
