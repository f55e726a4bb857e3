"""A win rate without the advantage of length, and scores of reward models on benchmarks."""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import scipy
from jaxtyping import Float

from rlhf_jax.data.reward_bench import BenchItem

RIDGE = 1e-3  # keeps the regression finite where one side always wins
TIES = "Ties"  # the subset of RewardBench 2 with several right answers


def length_controlled_win_rate(prefs: np.ndarray, length_gaps: np.ndarray) -> list[float]:
    """The win rate at equal lengths: sigmoid(theta) of a logistic regression of the wins.

    P(win) = sigmoid(theta + phi tanh(g / s)),   g the difference of lengths, s its deviation.

    A judge that likes long answers moves phi, and not theta.

    Args:
      prefs: [N, K] P(win) of K comparisons for each of N prompts, in [0, 1]; NaN leaves one out.
      length_gaps: [N, K] length of the answer minus that of its opponent.
    Returns:
      [rate, low, high], the interval being sigmoid(theta -+ 1.96 standard errors), which are robust
      to dependence within a prompt.
    Raises:
      ValueError: fewer than two prompts with a verdict.
    Reference: Dubois et al. 2024, arXiv:2404.04475, Eq. 2.
    Departs: without its term for the difficulty of a prompt, which takes many models to estimate;
      a ridge of 1e-3 in place of a cross-validated one.
    """
    known = np.isfinite(prefs)
    prompts = np.nonzero(known)[0]
    if len(np.unique(prompts)) < 2:
        raise ValueError("a length-controlled win rate needs verdicts on two prompts at least")
    wins, gaps = prefs[known], length_gaps[known].astype(float)
    spread = gaps.std()
    features = np.stack([np.ones_like(gaps), np.tanh(gaps / spread) if spread else 0 * gaps], -1)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        logits = features @ weights
        value = np.logaddexp(0, logits).sum() - wins @ logits + 0.5 * RIDGE * weights @ weights
        return value, features.T @ (scipy.special.expit(logits) - wins) + RIDGE * weights

    weights = scipy.optimize.minimize(loss, np.zeros(2), jac=True, method="BFGS").x
    probs = scipy.special.expit(features @ weights)
    slopes = np.zeros((len(prefs), 2))
    np.add.at(slopes, prompts, features * (wins - probs)[:, None])
    curvature = (features * (probs * (1 - probs))[:, None]).T @ features + RIDGE * np.eye(2)
    inverse = np.linalg.inv(curvature)
    error = np.sqrt((inverse @ slopes.T @ slopes @ inverse)[0, 0])
    return scipy.special.expit(weights[0] + 1.96 * error * np.array([0, -1, 1])).tolist()


def bench_credits(items: Sequence[BenchItem], scores: Sequence[np.ndarray]) -> np.ndarray:
    """[N] the share of right answers among those with the highest score of their item.

    Args:
      scores: for each item those of its chosen answers, then of its rejected ones.
    """
    found = []
    for item, row in zip(items, scores, strict=True):
        best = row == row.max()
        found.append(best[: len(item.chosen)].sum() / best.sum())
    return np.array(found)


class BenchPairs(NamedTuple):
    """Every two answers of each of several items: M comparisons.

    items: the numbers of their items. first, second: the answers.
    """

    items: list[int]
    first: list[str]
    second: list[str]


def bench_pairs(items: Sequence[BenchItem]) -> BenchPairs:
    """What a judge of two answers is asked of a benchmark, item by item."""
    found = BenchPairs([], [], [])
    for number, item in enumerate(items):
        for first, second in combinations((*item.chosen, *item.rejected), 2):
            found.items.append(number)
            found.first.append(first)
            found.second.append(second)
    return found


def pairwise_scores(
    items: Sequence[BenchItem], margins: Float[np.ndarray, " M"]
) -> list[np.ndarray]:
    """Scores of the answers of each item, right ones first: the mean margin over the others.

    s_i = sum_{j != i} m_ij / (n - 1),   m_ji = -m_ij.

    With two answers the comparison decides, with more of them a count like Borda's.

    Args:
      margins: [M] of the first answers over the second ones of `bench_pairs`; 0 is a tie.
    """
    scores, start = [], 0
    for item in items:
        size = len(item.chosen) + len(item.rejected)
        table = np.zeros((size, size))
        above = np.triu_indices(size, 1)  # the order of `combinations`
        table[above] = margins[start : start + len(above[0])]
        scores.append((table - table.T).sum(1) / (size - 1))
        start += len(above[0])
    return scores


class _Gaps(NamedTuple):
    """Of one item: the worst right answer above the best wrong one, and the spread of the right."""

    above: float
    spread: float


def ties_score(items: Sequence[BenchItem], scores: Sequence[np.ndarray]) -> float:
    """The score of RewardBench 2's subset of items with several right answers, in [0, 1.01].

    0.3 mean[a_tied > 0] + 0.3 mean[a_ref > 0] + 0.2 mean[a_tied > d] + 0.2 mean[min(a) > d]
      + 0.01 mean tanh(min(a) / d - 1),

    a = worst right - best wrong score of an item "tied:N" and of the item "ref:N" with one right
    answer, d = best right - worst right score of the former.

    Reference: Malik et al. 2025, arXiv:2506.01937, and its code.
    """
    groups: dict[str, dict[str, _Gaps]] = {"ref": {}, "tied": {}}
    for item, row in zip(items, scores, strict=True):
        kind, _, number = item.name.partition(":")
        if kind not in groups or not number:
            raise ValueError(f"an item of the subset {TIES} has the id {item.name!r}, not tied:N")
        right, wrong = row[: len(item.chosen)], row[len(item.chosen) :]
        groups[kind][number] = _Gaps(right.min() - wrong.max(), right.max() - right.min())
    shared = sorted(groups["ref"].keys() & groups["tied"].keys())
    if not shared:
        raise ValueError(f"the subset {TIES} has no item tied:N with its ref:N")
    accuracies = [np.mean([gaps.above > 0 for gaps in found.values()]) for found in groups.values()]
    tied = np.array([groups["tied"][number] for number in shared])
    least = np.minimum(tied[:, 0], [groups["ref"][number].above for number in shared])
    with np.errstate(divide="ignore", invalid="ignore"):
        margins = np.nan_to_num(np.tanh(least / tied[:, 1] - 1))
    preferred = np.mean(tied[:, 0] > tied[:, 1]) + np.mean(least > tied[:, 1])
    return float(0.3 * sum(accuracies) + 0.2 * preferred + 0.01 * margins.mean())
