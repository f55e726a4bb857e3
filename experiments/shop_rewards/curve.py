"""Accuracy against the number of pairs: a scalar head that reads the text, and named features.

The head is trained in as many steps on few pairs as on many, and the untrained mean of the features
is beside them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.shop_rewards.kinds.features import axes_rater, fit_weights, score_rows
from experiments.shop_rewards.kinds.heads import fit_head, head_scores
from experiments.shop_rewards.kinds.scoring import answers_of, margins, trained
from experiments.shop_rewards.measure import accuracy
from experiments.shop_rewards.sets import Sets
from experiments.shop_rewards.world import Part, Tools, first_share
from rlhf_jax.policies.features import mean_weights
from rlhf_jax.training import Run, Stage, run_stage
from rlhf_jax.types import Params

TEXT, NAMED, UNTRAINED = "scalar head", "named features", "equal weights, untrained"
# One pair of so many, fewest pairs first. Features are cheap, and the head with all is "scalar".
SHARES: dict[str, tuple[int, ...]] = {TEXT: (32, 10, 1), NAMED: (384, 96, 32, 10, 3, 1)}


class Curve(NamedTuple):
    """Of one seed, on clean pairs. sizes, accuracies: model -> [M] numbers of pairs, and held-out
    accuracy after them. untrained: accuracy of the features' mean."""

    sizes: Mapping[str, np.ndarray]
    accuracies: Mapping[str, np.ndarray]
    untrained: float


def fit_curve(job: Run, tools: Tools, part: Part, sets: Sets) -> Curve:
    """Both models from each number of pairs."""
    records = answers_of(sets.heldout)
    rater = axes_rater(tools)

    def head_of(share: int) -> Params:
        pairs = first_share(part.pairs, share)
        stage = f"{part.name}_head_0" + (f"_of_{share}" if share > 1 else "")
        init = tools.lab.reward.init
        return trained(
            *(job, tools, stage, lambda own: (fit_head(own, tools, part, pairs), {}), init)
        ).arrays

    found: dict[str, Any] = {TEXT: [head_of(share) for share in SHARES[TEXT]]}
    found[NAMED] = [
        fit_weights(job, tools, part, rater, share=share).arrays for share in SHARES[NAMED]
    ]

    def score(_: Stage) -> tuple[Any, dict]:
        rated = rater.rows(records)
        scores = {
            TEXT: [head_scores(tools, params, records) for params in found[TEXT]],
            NAMED: [score_rows(params, rated) for params in found[NAMED]],
            UNTRAINED: [score_rows(mean_weights(rated.shape[-1]), rated)],
        }
        return {}, {name: [accuracy(margins(x)) for x in each] for name, each in scores.items()}

    info = run_stage(job, f"{part.name}_curve", score).info
    sizes = {
        name: np.array([len(first_share(part.pairs, share)) for share in shares])
        for name, shares in SHARES.items()
    }
    return Curve(sizes, {name: np.array(info[name]) for name in SHARES}, info[UNTRAINED][0])


def crossing(sizes: Sequence[int] | np.ndarray, values: np.ndarray, level: float) -> float | None:
    """The number of pairs from which values [M] are at the level, log-linear between two sizes; the
    first size where they start there, None where they never get there."""
    above = np.flatnonzero(values >= level)
    if not len(above):
        return None
    i = int(above[0])
    if i == 0:
        return float(sizes[0])
    part = (level - values[i - 1]) / (values[i] - values[i - 1])
    low, high = np.log(sizes[i - 1]), np.log(sizes[i])
    return float(np.exp(low + part * (high - low)))
