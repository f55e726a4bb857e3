"""Objective mismatch along a run: do score, gold and downstream metrics of its checkpoints agree?

    found = [measure(lab, task, params, sft, indices, key, samples=8, reward=reward)
             for params in (sft, *checkpoints)]
    report = mismatch_report(found, gold="gold", metrics=("exact",))

The statistics are those of `ops.mismatch`. Prompts are the units of every interval.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rlhf_jax.ops.mismatch import correlations_around_peak, order_accuracy
from rlhf_jax.recipes.evaluation import Measured

RESAMPLES = 1000  # of the prompts
AROUND = ("up to the peak", "from the peak on")


class MismatchReport(NamedTuple):
    """What C checkpoints measure, and how it hangs together. Intervals are [value, low, high].

    means: name -> [C] over prompts: "kl" in nats per answer, "score", gold and the metrics by their
      names, "length" in tokens, and "accuracy": how often two answers of the checkpoint to a prompt
      are in gold's order, NaN where no two differ.
    correlations: "score, <gold or metric>, <part of AROUND>" -> rank correlation over checkpoints.
      NaN where that part of the run has one checkpoint.
    mismatch: accuracy of the first checkpoint, the reference, minus that of the last.
    """

    means: dict[str, np.ndarray]
    correlations: dict[str, np.ndarray]
    mismatch: np.ndarray


def mismatch_report(
    checkpoints: Sequence[Measured],
    *,
    gold: str,
    metrics: Sequence[str] = (),
    score: str | None = None,
) -> MismatchReport:
    """Of checkpoints in the order of training, the reference first, all on the same prompts.

    Args:
      gold: name of the task's score that stands for what is wanted, e.g. of a second reward model.
      metrics: names of further scores, the downstream tasks.
      score: name of the score that was optimised; None for the reward model of `measure`.
    Raises:
      ValueError: fewer than two checkpoints or prompts, fewer than two answers to a prompt,
        unequal numbers of prompts, or a score that was not measured.
    """
    wanted = (gold, *metrics)
    columns = _columns(checkpoints, wanted, gold, score)
    size = columns["kl"].shape[1]
    rows = np.random.default_rng(0).integers(size, size=(RESAMPLES, size))
    draws = np.concatenate([np.arange(size)[None], rows])  # first the prompts as they are
    means = {name: _mean(column[:, draws]).T for name, column in columns.items()}
    correlations = {}
    for name in wanted:
        # Given scores in order of training, [1 + RESAMPLES, C].
        found = jax.jit(correlations_around_peak)(
            *(jnp.asarray(means[x], jnp.float32) for x in ("score", name))
        )
        for part, values in zip(AROUND, found, strict=True):
            correlations[f"score, {name}, {part}"] = _with_interval(np.asarray(values))
    accuracy = means["accuracy"]
    return MismatchReport(
        means={name: values[0] for name, values in means.items()},
        correlations=correlations,
        mismatch=_with_interval(accuracy[:, 0] - accuracy[:, -1]),
    )


def _columns(
    checkpoints: Sequence[Measured], wanted: Sequence[str], gold: str, score: str | None
) -> dict[str, np.ndarray]:
    """[C, N] means over the answers to each prompt."""
    if len(checkpoints) < 2:
        raise ValueError(f"a mismatch needs at least two checkpoints, got {len(checkpoints)}")
    shapes = {found.log_ratios.shape for found in checkpoints}
    if len({shape[0] for shape in shapes}) > 1:
        raise ValueError(f"checkpoints answered different prompts: shapes {sorted(shapes)}")
    if min(min(shape) for shape in shapes) < 2:
        raise ValueError(
            f"a mismatch needs at least two prompts with two answers each, got {sorted(shapes)}"
        )
    found = {"kl": [], "score": [], "length": [], "accuracy": []} | {x: [] for x in wanted}
    for each in checkpoints:
        scores = each.scores if score is None else _named(each, score)
        if scores is None:
            raise ValueError("measure was given no reward model: name the score, or give it one")
        scores, target = scores.astype(float), _named(each, gold)
        found["kl"].append(_mean(each.log_ratios))
        found["score"].append(_mean(scores))
        found["length"].append(each.lengths.astype(float).mean(-1))
        there = np.isfinite(scores) & np.isfinite(target)
        given = (jnp.asarray(x, jnp.float32) for x in (scores, target, there))
        found["accuracy"].append(np.asarray(order_accuracy(*given)))
        for name in wanted:
            found[name].append(_mean(_named(each, name)))
    return {name: np.stack(values) for name, values in found.items()}


def _named(found: Measured, name: str) -> np.ndarray:
    """A score of the task, [N, K]."""
    if name not in found.named:
        raise ValueError(f"{name!r} was not measured; the task's scores are {sorted(found.named)}")
    return np.asarray(found.named[name], float)


def _mean(x: np.ndarray) -> np.ndarray:
    """Over the last axis, of the entries that are there; NaN of none."""
    there = ~np.isnan(x)
    counts = there.sum(-1)
    total = np.where(there, x, 0.0).sum(-1)
    return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)


def _with_interval(values: np.ndarray) -> np.ndarray:
    """[value, low, high] from the value and its resamples, of those that have one."""
    value, resamples = values[0], values[1:][~np.isnan(values[1:])]
    if np.isnan(value) or not resamples.size:
        return np.full(3, np.nan)
    return np.array([value, *np.quantile(resamples, [0.025, 0.975])])
