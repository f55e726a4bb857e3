"""Measuring a policy on held-out prompts: gold scores, reward-model scores, KL, length."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from experiments.shop.tools import Tools, Trained
from rlhf_jax.envs import shop
from rlhf_jax.recipes import evaluation, stage_key
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
    lab, key = tools.lab, stage_key(tools.lab, "evaluation")
    found = evaluation.measure(
        lab, tools.task, params, trained.sft, indices, key, reward=trained.reward
    )
    scores = np.asarray(found.scores)
    columns = (axes_of(found.named), found.named["gold"], scores, found.log_ratios, found.lengths)
    return Measured([row[0] for row in found.texts], *(x[:, 0] for x in columns))


def axes_of(named: Mapping[str, np.ndarray]) -> np.ndarray:
    """The six axes [..., 6] of answers, in the order of shop.AXES."""
    return np.stack([named[axis] for axis in shop.AXES], axis=-1).astype(np.float32)


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
