"""How many labels values without structure cost, in closed form.

A population of groups compares the two answers of each of S contexts; each group has a sign table,
the answer that it prefers in every context. A share alpha of the labels is the smallest group's,
contexts are uniform, and a label is wrong with probability f. Then no learner has error eps with
fewer than about S / alpha labels, and S = 2^d for contexts of d bits. Where signs follow from a few
features this does not apply, and a fit of those features costs as many labels as it has weights.

Shared arguments:
  contexts: S, in [1, inf).
  share: alpha, in (0, 1].
  flip_rate: f, in [0, 1/2].
  entropy: in (0, 1]; bits of a context's sign that nothing else tells, 1 for a table of its own.
Floats on the host.

Reference: derived after Sahoo et al. 2025, arXiv:2511.19504, whose bound is Omega(2^d).
"""

import math
from collections.abc import Sequence

import numpy as np
import scipy
from numpy.typing import ArrayLike

from rlhf_jax.checks import check_range


def binary_entropy(p: float | int) -> float:
    """h(p) = -p log2 p - (1 - p) log2 (1 - p), bits.

    Args:
      p: in [0, 1].
    """
    check_range("[0, 1]", p=p)
    return float(scipy.special.entr(p) + scipy.special.entr(1.0 - p)) / math.log(2.0)


def table_labels(
    *,
    contexts: float | int,
    share: float | int,
    error: float | int,
    flip_rate: float | int,
    entropy: float | int = 1.0,
) -> float:
    """Labels without which no learner knows the smallest group's table.

    n >= (S / alpha) (H - h(eps)) / (1 - h(f)),   0 where eps is that of guessing.

    Fano's inequality: a table to distortion eps is S (H - h(eps)) bits, and a label carries at most
    the capacity of its channel. The error counts contexts alike and is an expectation over tables.

    Args:
      error: eps, in [0, 1/2], share of the contexts with the wrong sign.
    Returns:
      Infinite at f = 1/2.
    """
    check_range("[0, 1/2]", error=error)
    check_range("(0, 1]", entropy=entropy)
    missing = max(entropy - binary_entropy(error), 0.0)
    told = _label_bits(contexts, share, flip_rate)
    if not missing:
        return 0.0
    return missing / told if told else math.inf


def table_error(
    *,
    labels: float | int,
    contexts: float | int,
    share: float | int,
    flip_rate: float | int,
    entropy: float | int = 1.0,
) -> float:
    """The least error of any learner with n labels: `table_labels` solved for eps.

    h(eps) = H - n (1 - h(f)) alpha / S,   0 where the right side is not positive.

    Args:
      labels: n, in [0, inf).
    """
    check_range("[0, inf)", labels=labels)
    check_range("(0, 1]", entropy=entropy)
    left = entropy - labels * _label_bits(contexts, share, flip_rate)
    if left <= 0:
        return 0.0
    return float(scipy.optimize.brentq(lambda p: binary_entropy(p) - left, 0.0, 0.5))


def coverage_labels(*, contexts: int, share: float | int, error: float | int = 0.0) -> float:
    """Labels until the smallest group has met so many contexts that guesses on the rest are eps.

    n = (S / alpha) (H_S - H_m),   m = floor(2 eps S), harmonic numbers H; expected.

    At eps = 0 this is the coupon collector, S ln S: what it takes that every context is right, as a
    shift of the contexts may demand. For eps > 0 it is about S ln(1 / (2 eps)).

    Args:
      error: eps, in [0, 1/2].
    """
    check_range("[1, inf)", contexts=contexts)
    check_range("(0, 1]", share=share)
    check_range("[0, 1/2]", error=error)
    unmet = math.floor(2.0 * error * contexts)
    return contexts / share * sum(1.0 / k for k in range(unmet + 1, contexts + 1))


def flip_inflation(flip_rate: float | int, *, total: float | int) -> float:
    """By what further flips multiply the labels of a vote: ((1 - 2 f) / (1 - 2 t))^2.

    Args:
      total: t, in [0, 1/2], rate of both kinds of flips, of `feedback.populations.total_flip_rate`;
        infinite at 1/2.
    """
    check_range("[0, 1/2]", flip_rate=flip_rate, total=total)
    left = 1.0 - 2.0 * total
    return ((1.0 - 2.0 * flip_rate) / left) ** 2 if left else math.inf


def cell_labels(*, error: float | int, delta: float | int) -> float:
    """Labels of one cell (group and context) that pin its rate down: Hoeffding, both sides.

    n = ln(2 / delta) / (2 eps^2);   38,005 at eps = 0.01 and delta = 0.001.

    Args:
      error: eps, in (0, 1]. delta: in (0, 1).
    """
    check_range("(0, 1]", error=error)
    check_range("(0, 1)", delta=delta)
    return math.log(2.0 / delta) / (2.0 * error**2)


def label_sizes(*, first: int, most: int, growth: float | int) -> np.ndarray:
    """Sizes at which a curve is measured: from `first`, each `growth` times the last, to `most`.

    Args:
      first: in [1, inf). most: in [first, inf). growth: in (1, 10]; at least one label is added.
    """
    check_range("[1, inf)", first=first)
    check_range("(1, 10]", growth=growth)
    if most < first:
        raise ValueError(f"most must be at least first = {first}, got {most}")
    sizes = [first]
    while sizes[-1] < most:
        sizes.append(min(max(sizes[-1] + 1, int(sizes[-1] * growth)), most))
    return np.array(sizes)


def labels_to_reach(
    sizes: Sequence[int] | np.ndarray, errors: ArrayLike, *, target: float | int
) -> np.ndarray:
    """The first size at which a curve is not above the target, infinite if none: [*B].

    Args:
      sizes: [N]. errors: [*B, N] at these sizes; NaN is above.
      target: in [0, 1].
    """
    check_range("[0, 1]", target=target)
    errors = np.asarray(errors, float)
    if errors.shape[-1:] != np.shape(sizes):
        raise ValueError(f"errors must be [*B, {len(sizes)}], one a size, got {errors.shape}")
    reached = errors <= target
    return np.where(reached.any(-1), np.asarray(sizes, float)[reached.argmax(-1)], np.inf)


def _label_bits(contexts: float | int, share: float | int, flip_rate: float | int) -> float:
    """Bits that a label tells of each context of the smallest group."""
    check_range("[1, inf)", contexts=contexts)
    check_range("(0, 1]", share=share)
    check_range("[0, 1/2]", flip_rate=flip_rate)
    return (1.0 - binary_entropy(flip_rate)) * share / contexts
