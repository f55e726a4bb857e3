"""How many labels are wrong, by confident learning, from probabilities of a model that did not
see them."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int


class ConfidentLabels(NamedTuple):
    """confident: rows that count. flipped: those of them with another label than they seem to have.

    The estimate of the share of wrong labels is the mean of `flipped[confident]`.
    """

    confident: Bool[np.ndarray, " N"]
    flipped: Bool[np.ndarray, " N"]


def confident_labels(
    probs: Float[np.ndarray, " N"], labels: Int[np.ndarray, " N"]
) -> ConfidentLabels:
    """Confident learning of two classes.

    The threshold of class k is t_k = mean of P(k) over rows labelled k. A row counts as of class k
    if P(k) >= t_k, the likelier one if that holds of both, and not at all if of neither.

    Args:
      probs: P(the row's own label), by a model fitted to other rows.
      labels: 0 or 1; all 0 where the classes mirror one another, as those of a pair do.
    Departs: the counts are not scaled to the numbers of labels of each class.
    Reference: Northcutt, Jiang and Chuang 2021, "Confident learning", JAIR 70, equation 1.
    """
    mirrored = len(np.unique(labels)) < 2
    means = [probs[labels == k].mean() if (labels == k).any() else np.inf for k in (0, 1)]
    own = np.take(means, labels)
    other = own if mirrored else np.take(means, 1 - labels)
    as_own, as_other = probs >= own, 1 - probs >= other
    flipped = as_other & (~as_own | (probs < 0.5))
    return ConfidentLabels(as_own | as_other, flipped)
