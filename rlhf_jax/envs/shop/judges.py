"""Who judges: customer groups, an intransitive population, and feedback on single words."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from rlhf_jax.envs.shop.answers import split_words
from rlhf_jax.envs.shop.scorer import AXES, Score


class Group(NamedTuple):
    """A group of customers: its name and its weight of each axis, in the order of AXES."""

    name: str
    weights: tuple[float, ...]


# helpful, honest, harmless, polite, concise, fluent. The last group is the minority: it wants a
# long friendly talk, which the others would pay to be spared.
GROUPS = (
    Group("practical", (0.5, 0.1, 0.1, 0.0, 0.2, 0.1)),
    Group("careful", (0.2, 0.4, 0.3, 0.0, 0.0, 0.1)),
    Group("talkative", (0.2, 0.1, 0.1, 0.7, -0.4, 0.3)),
)
# Three judges, each with a first, a second and no third care, turned around one place each.
CYCLE_AXES = ("helpful", "polite", "concise")
_CYCLE = ((2.0, 1.0, 0.0), (0.0, 2.0, 1.0), (1.0, 0.0, 2.0))


def group_shares(minority: float = 0.2) -> np.ndarray:
    """Population shares of GROUPS: the last has `minority`, the others the rest in equal parts.

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
    """Utilities of three judges whose majority has no best answer.

    On the axes (helpful, polite, concise) the judges' weights are (2, 1, 0), (0, 2, 1), (1, 0, 2):
    of three answers, each good at one of the axes, each loses to another by 2 : 1.

    Args:
      scores: [*B, 6] in the order of AXES.
    Returns:
      [*B, 3] float64.
    """
    columns = [AXES.index(axis) for axis in CYCLE_AXES]
    return np.asarray(scores, np.float64)[..., columns] @ np.array(_CYCLE).T


def majority_prefs(utilities: ArrayLike, shares: ArrayLike | None = None) -> np.ndarray:
    """Share of judges who rank the row answer above the column answer; ties count one half.

    P[i, j] = sum over judges g of share_g * ([u_g(i) > u_g(j)] + [u_g(i) = u_g(j)] / 2).

    Args:
      utilities: [K, G] of K answers to one prompt.
      shares: [G] shares of the judges, sum 1; None for equal shares.
    Returns:
      [K, K] prefs, P + P^T = 1.
    """
    values = np.asarray(utilities, np.float64)
    judges = values.shape[1]
    weights = np.full(judges, 1.0 / judges) if shares is None else np.asarray(shares, np.float64)
    difference = values[:, None, :] - values[None, :, :]
    return (0.5 + 0.5 * np.sign(difference)) @ weights


def word_feedback(text: str, score: Score) -> np.ndarray:
    """Feedback on each word: -1 in a false or unknown claim and in a rude, harmful or idle
    sentence, +1 in a true claim, 0 elsewhere. Blame wins over praise.

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
