"""Curricula: items in bins from easy to hard, a stage for each, and the batch of any step.

    bins = difficulty_bins([1, 2, 2, 5, 8], stages=2)
    numbers = curriculum_batch(bins, step, steps=100, batch_size=8, seed=0, replay=0.2)

A batch depends on its arguments only, so that a resumed run needs no state of the sampler. The
optimizer and the reference go on from stage to stage; evaluate on a fixed mixture.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from rlhf_jax.checks import check_entries, check_range


def difficulty_bins(difficulty: ArrayLike, *, stages: int) -> list[Int[np.ndarray, "_"]]:
    """Numbers of the items from the easiest to the hardest, in `stages` bins of about equal size.

    Items of equal difficulty share a bin, so there may be fewer.

    Args:
      difficulty: [N] finite, e.g. the horizon of a task, or 1 - the success of the first policy.
    """
    values = np.asarray(difficulty, float).ravel()
    check_range("[1, inf)", stages=stages, items=len(values))
    check_entries("(-inf, inf)", difficulty=values)
    edges = np.quantile(values, np.arange(1, stages) / stages, method="inverted_cdf")
    places = np.searchsorted(edges, values, side="left")
    bins = [np.flatnonzero(places == place) for place in range(stages)]
    return [each for each in bins if len(each)]


def stage_of(step: int, *, steps: int, stages: int) -> int:
    """The stage of a step, from 0; stages have equal shares of `steps`, and the last goes on."""
    check_range("[0, inf)", step=step)
    check_range("[1, inf)", steps=steps, stages=stages)
    return min(step * stages // steps, stages - 1)


def stage_weights(stages: int, *, replay: float = 0.0) -> Float[np.ndarray, "K K"]:
    """Share of each bin (column) in each stage (row): 1 - rho of its own, rho of all earlier ones.

    >>> stage_weights(3, replay=0.25).tolist()
    [[1.0, 0.0, 0.0], [0.25, 0.75, 0.0], [0.125, 0.125, 0.75]]

    Args:
      replay: rho in [0, 1].
    """
    check_range("[1, inf)", stages=stages)
    check_range("[0, 1]", replay=replay)
    earlier = np.tril(np.ones((stages, stages)), -1)
    weights = replay * earlier / np.maximum(earlier.sum(1, keepdims=True), 1.0)
    return weights + np.diag(1.0 - weights.sum(1))


def curriculum_batch(
    bins: Sequence[Int[np.ndarray, "_"]],
    step: int,
    *,
    steps: int,
    batch_size: int,
    seed: int,
    replay: float = 0.2,
) -> Int[np.ndarray, "B"]:
    """Numbers of the items of this step, drawn with replacement.

    Args:
      bins: of `difficulty_bins`. steps: of the whole run. replay: share of earlier bins.
    """
    check_range("[1, inf)", batch_size=batch_size, bins=len(bins))
    rng = np.random.default_rng([seed, step])
    stage = stage_of(step, steps=steps, stages=len(bins))
    shares = stage_weights(len(bins), replay=replay)[stage]
    chosen = rng.choice(len(bins), size=batch_size, p=shares)
    return np.array([rng.choice(bins[i]) for i in chosen], np.int64)
