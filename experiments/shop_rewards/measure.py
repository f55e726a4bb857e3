"""What is measured of every reading of a kind: held-out pairs, shifted pairs and the pool."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from experiments.shop_rewards.kinds.scoring import Fitted, answers_of, margins
from experiments.shop_rewards.sets import Sets
from experiments.shop_rewards.world import FEATURES, Part
from rlhf_jax.ops.ensembles import error_correlation, mean_off_diagonal
from rlhf_jax.ops.mismatch import order_accuracy, rank_correlation
from rlhf_jax.ops.statistics import best_of_n_curve, calibration_error
from rlhf_jax.training import Stage

MISMATCH_N = 16  # the best of so many answers stands for an optimised policy
GROUPS = 4  # of the answers to a prompt by length, for the figure


class Numbers(NamedTuple):
    """Of one reading after one training.

    accuracy: on held-out pairs with clean labels. shifted: where marks point the wrong way, NaN but
    for the form "spurious"; by_mark: [F] the same of each of FEATURES. calibration: expected
    calibration error. best_of: [M] gold of the best of n answers, for n of `sizes`; NaN where the
    pool was not scored. mismatch: order accuracy on the pool minus that among answers of
    best-of-16. length: rank correlation with the length of an answer within prompts of the pool,
    less that of gold; by_length: [GROUPS] as in `scores_by_length`.
    """

    accuracy: float
    shifted: float
    by_mark: np.ndarray
    calibration: float
    best_of: np.ndarray
    mismatch: float
    length: float
    by_length: np.ndarray


def sizes(gold: np.ndarray) -> np.ndarray:
    """[M] n = 1, 2, 4, ... up to the answers of a prompt."""
    return 2 ** np.arange(int(np.log2(gold.shape[1])) + 1)


def score_sets(stage: Stage, fitted: Fitted, part: Part, sets: Sets) -> tuple[Any, dict]:
    """Margins [H] and scores of the pool [P, K] of every reading, and of the members [N, P, K].

    The pool is for flipped pairs alone, the shifted pairs for spurious ones.
    """
    found: dict[str, dict[str, np.ndarray]] = {}
    given = fitted.scores(answers_of(sets.heldout))
    for name, scores in given.readings.items():
        found[name] = {"heldout": margins(scores)}
    if part.form == "spurious":
        for name, scores in fitted.scores(answers_of(sets.shifted)).readings.items():
            found[name]["shifted"] = margins(scores)
    if part.form != "flipped":
        return {"readings": found}, dict(fitted.info)
    pool = fitted.scores(sets.pool)
    for name, scores in pool.readings.items():
        found[name]["pool"] = scores.reshape(sets.gold.shape)
    members = {}
    if pool.members is not None:
        members = {"members": pool.members.reshape(-1, *sets.gold.shape)}
    return {"readings": found, **members}, dict(fitted.info)


def numbers_of(scores: Mapping[str, np.ndarray], gold: np.ndarray, lengths: np.ndarray) -> Numbers:
    """From what `score_sets` keeps of a reading."""
    heldout = np.asarray(scores["heldout"])
    probs = jnp.asarray(1.0 / (1.0 + np.exp(-heldout)), jnp.float32)
    calibration = float(calibration_error(probs, jnp.ones_like(probs))[0])
    shifted = np.asarray(scores.get("shifted", np.full(len(FEATURES), np.nan)))
    marks = [accuracy(shifted[i :: len(FEATURES)]) for i in range(len(FEATURES))]
    pairs = (accuracy(heldout), accuracy(shifted), np.array(marks), calibration)
    ns = sizes(gold)
    if "pool" not in scores:
        lost, none = (np.full(size, np.nan) for size in (len(ns), GROUPS))
        return Numbers(*pairs, lost, np.nan, np.nan, none)
    pool, truth, words = (jnp.asarray(x, jnp.float32) for x in (scores["pool"], gold, lengths))
    curve = np.asarray(best_of_n_curve(pool, truth, jnp.asarray(ns))).mean(0)
    paid = jnp.nanmean(rank_correlation(pool, words) - rank_correlation(truth, words))
    groups = scores_by_length(scores["pool"], lengths)
    return Numbers(*pairs, curve, mismatch(pool, truth), float(paid), groups)


def scores_by_length(pool: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """[GROUPS] mean score of the shortest answers to a prompt, the next, ..., from [P, K] each.

    Scores of a prompt have mean 0 and deviation 1, or are 0 where they are all alike.
    """
    deviation = pool.std(1, keepdims=True)
    unit = (pool - pool.mean(1, keepdims=True)) / np.where(deviation > 0.0, deviation, 1.0)
    return group_means(unit, lengths)


def group_means(values: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """[GROUPS] means of values [P, K] over groups of about equally many answers by length; NaN of
    a group without any, with fewer answers than groups."""
    order = np.argsort(lengths, axis=1, kind="stable")
    ranked = np.take_along_axis(values, order, axis=1)
    groups = np.array_split(ranked, GROUPS, axis=1)
    return np.array([group.mean() if group.size else np.nan for group in groups])


def accuracy(found: np.ndarray) -> float:
    """How often the chosen answer has the higher score; a tie counts one half, NaN is NaN."""
    return float(np.heaviside(np.asarray(found, np.float32), np.float32(0.5)).mean())


def mismatch(pool: Any, gold: Any) -> float:
    """Order accuracy on all answers minus that weighted as best-of-16 draws them; [P, K] each."""
    pool, gold = (jnp.asarray(x, jnp.float32) for x in (pool, gold))
    size = pool.shape[1]
    ranks = jnp.argsort(jnp.argsort(pool, axis=1), axis=1) + 1.0
    n = min(MISMATCH_N, size)
    weights = (ranks / size) ** n - ((ranks - 1.0) / size) ** n
    before, after = order_accuracy(pool, gold), order_accuracy(pool, gold, weights)
    return float(jnp.nanmean(before) - jnp.nanmean(after))


def shared_errors(members: np.ndarray, gold: np.ndarray) -> float:
    """Mean correlation of the errors of two members within prompts, from [N, P, K] and [P, K]."""
    scores = members - members.mean(-1, keepdims=True)
    truth = gold - gold.mean(-1, keepdims=True)
    flat = jnp.asarray(scores.reshape(len(scores), -1), jnp.float32)
    found = error_correlation(flat, jnp.asarray(truth.ravel(), jnp.float32))
    return float(mean_off_diagonal(found))
