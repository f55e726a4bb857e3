"""Judges: customer groups, an intransitive population, and feedback on single words."""

from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import ArrayLike

from rlhf_jax.envs.shop.answers import split_words
from rlhf_jax.envs.shop.scorer import AXES, Score


class Group(NamedTuple):
    """A group of customers: its name and its weight of each axis, in the order of AXES."""

    name: str
    weights: tuple[float, ...]


# helpful, honest, harmless, polite, concise, fluent. The last group is the minority: it likes long
# friendly answers, which the others dislike.
GROUPS = (
    Group("practical", (0.5, 0.1, 0.1, 0.0, 0.2, 0.1)),
    Group("careful", (0.2, 0.4, 0.3, 0.0, 0.0, 0.1)),
    Group("talkative", (0.2, 0.1, 0.1, 0.7, -0.4, 0.3)),
)
# Three judges, each with weights 2 and 1 on two axes, rotated by one place.
CYCLE_AXES = ("helpful", "polite", "concise")
CYCLE = ((2.0, 1.0, 0.0), (0.0, 2.0, 1.0), (1.0, 0.0, 2.0))


def group_shares(minority: float = 0.2) -> np.ndarray:
    """Population shares of GROUPS: `minority` for the last, equal parts of the rest for the others.

    Args:
      minority: share of the last group, 0 <= minority <= 1.
    Returns:
      [G] float64, sum 1.
    Raises:
      ValueError: minority out of range.
    """
    if not 0.0 <= minority <= 1.0:
        raise ValueError(f"minority share {minority} is out of range; use 0 <= minority <= 1")
    others = len(GROUPS) - 1
    return np.array([(1.0 - minority) / others] * others + [minority])


def group_utilities(scores: ArrayLike) -> np.ndarray:
    """Utility of each answer for each group: u_g = sum over axes of w_g[axis] * score[axis].

    Args:
      scores: [*B, 6] in the order of AXES.
    Returns:
      [*B, G] float64.
    """
    weights = np.array([group.weights for group in GROUPS])
    return np.asarray(scores, np.float64) @ weights.T


def cycle_utilities(scores: ArrayLike) -> np.ndarray:
    """Utilities of three judges with a cyclic majority.

    On the axes (helpful, polite, concise) the judges' weights are (2, 1, 0), (0, 2, 1), (1, 0, 2):
    of three answers, each good at one of the axes, each loses to another by 2 : 1.

    Args:
      scores: [*B, 6] in the order of AXES.
    Returns:
      [*B, 3] float64.
    """
    columns = [AXES.index(axis) for axis in CYCLE_AXES]
    return np.asarray(scores, np.float64)[..., columns] @ np.array(CYCLE).T


def majority_prefs(utilities: ArrayLike, shares: ArrayLike | None = None) -> np.ndarray:
    """Share of judges who rank the row answer above the column answer; ties count one half.

    P[i, j] = sum over judges g of share_g * ([u_g(i) > u_g(j)] + [u_g(i) = u_g(j)] / 2).

    Args:
      utilities: [*B, K, G] of K answers to each prompt.
      shares: [G] shares of the judges, sum 1; None for equal shares.
    Returns:
      [*B, K, K] prefs, P + P^T = 1.
    """
    return _weighed(0.5 + 0.5 * np.sign(_differences(utilities)), shares)


def group_prefs(
    utilities: ArrayLike, shares: ArrayLike | None = None, *, beta: float
) -> np.ndarray:
    """P(row answer beats column answer) for a judge drawn from a population.

    P[i, j] = sum over judges g of share_g * sigmoid(beta * (u_g(i) - u_g(j))).

    The judge is Bradley-Terry in its own utility. This is `feedback.teachers.population_prefs` for
    all pairs at once; `majority_prefs` is its limit at beta = inf. For N pairs, give utilities
    [N, 2, G] and read [:, 0, 1].

    Args:
      utilities: [*B, K, G] of K answers to each prompt, from `cycle_utilities` (a cyclic majority)
        or `group_utilities`.
      shares: [G] shares of the judges, sum 1, e.g. `group_shares()`; None for equal shares.
      beta: rationality >= 0 of every judge, in units of 1 / utility; inf allowed.
    Returns:
      [*B, K, K] prefs, P + P^T = 1.
    Raises:
      ValueError: beta is negative or NaN.
    """
    if not beta >= 0:
        raise ValueError(f"beta must be >= 0, got {beta}")
    if np.isinf(beta):
        return majority_prefs(utilities, shares)
    return _weighed(scipy.special.expit(beta * _differences(utilities)), shares)


def _differences(utilities: ArrayLike) -> np.ndarray:
    """[*B, K, K, G] utility of the row answer minus that of the column answer, 0 if equal."""
    values = np.asarray(utilities, np.float64)
    row, column = np.broadcast_arrays(values[..., :, None, :], values[..., None, :, :])
    # Also for equal infinities, for which the difference would be NaN.
    return np.subtract(row, column, out=np.zeros(row.shape), where=row != column)


def _weighed(votes: np.ndarray, shares: ArrayLike | None) -> np.ndarray:
    """Mean over the judges, the last axis."""
    return votes.mean(-1) if shares is None else votes @ np.asarray(shares, np.float64)


def word_feedback(text: str, score: Score) -> np.ndarray:
    """Feedback on each word: -1 in a false or unknown claim and in a rude, harmful or filler
    sentence, +1 in a true claim, 0 elsewhere. If both apply, -1.

    Args:
      text: the answer that was scored.
      score: its score.
    Returns:
      [T] int8 for the T words of split_words(text).
    """
    praise = [(c.start, c.end) for c in score.claims if c.status == "true"]
    blame = [(c.start, c.end) for c in score.claims if c.status != "true"]
    blame += [(r.start, r.end) for r in score.remarks if r.kind in ("rude", "harm", "filler")]
    labels, start = [], 0
    for word in split_words(text):
        start = text.index(word, start)
        end = start + len(word)
        hit = [any(a < end and start < b for a, b in spans) for spans in (praise, blame)]
        labels.append(-1 if hit[1] else int(hit[0]))
        start = end
    return np.array(labels, np.int8)
