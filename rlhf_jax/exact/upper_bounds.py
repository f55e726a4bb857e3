"""Upper confidence bounds on a mean: with probability 1 - delta the mean is not above the bound.

    P( U(C_1 .. C_n) >= E C ) >= 1 - delta   for n independent costs.

NumPy in float64, on the host. Costs are [*B, N], each row a sample of its own; the bound is [*B].

| kind | costs | holds |
|---|---|---|
| `t` | any | as N grows; below delta for small N and skewed costs, see `t_failure` |
| `hoeffding` | in [a, b] | for every N |
| `bernstein` | in [a, b] | for every N; narrower than `hoeffding` where the variance is small |
| `clopper_pearson` | 0 or 1 | for every N, exactly |
"""

from typing import Literal

import numpy as np
import scipy
from numpy.typing import ArrayLike

from rlhf_jax.checks import check_range

BoundKind = Literal["t", "hoeffding", "bernstein", "clopper_pearson"]
Bounds = tuple[float, float]


def mean_upper_bound(
    costs: ArrayLike, *, delta: float, kind: BoundKind, bounds: Bounds | None = None
) -> np.ndarray:
    """The bound of this kind.

    Args:
      delta: probability that the mean is above the bound, in (0, 1/2].
      bounds: (a, b) of all possible costs; for hoeffding and bernstein.
    Raises:
      ValueError: a cost is not finite or out of range, too few of them, or bounds are missing.
    """
    if kind == "t":
        return t_upper_bound(costs, delta=delta)
    if kind == "clopper_pearson":
        return clopper_pearson_upper_bound(costs, delta=delta)
    if kind not in ("hoeffding", "bernstein"):
        raise ValueError(f"kind must be t, hoeffding, bernstein or clopper_pearson, got {kind!r}")
    if bounds is None:
        raise ValueError(f"the {kind} bound needs the bounds (a, b) of all possible costs")
    bound = hoeffding_upper_bound if kind == "hoeffding" else bernstein_upper_bound
    return bound(costs, delta=delta, bounds=bounds)


def t_upper_bound(costs: ArrayLike, *, delta: float) -> np.ndarray:
    """Student's t: U = mean + t_{1 - delta, n - 1} s / sqrt(n), s with n - 1.

    Exact for normal costs. Costs that are all equal give their mean, which is no bound.
    """
    costs = _costs(costs, delta, least=2)
    factor = t_factor(costs.shape[-1], delta=delta)
    return np.asarray(costs.mean(-1) + factor * costs.std(-1, ddof=1))


def t_factor(size: int, *, delta: float) -> float:
    """t_{1 - delta, n - 1} / sqrt(n): standard deviations from the mean to the bound."""
    check_range("[2, inf)", size=size)
    check_range("(0, 1/2]", delta=delta)
    return float(scipy.stats.t.ppf(1.0 - delta, size - 1) / np.sqrt(size))


def t_failure(skewness: float | ArrayLike, size: int, *, delta: float) -> np.ndarray:
    """About how often the t bound of skewed costs fails, where delta is asked.

    delta + gamma (2 z^2 + 1) phi(z) / (6 sqrt n),   z = Phi^{-1}(1 - delta), in [0, 1].

    The first term of the Edgeworth series of the t statistic; for small n it says too little.

    Args:
      skewness: [*B] gamma = E (c - m)^3 / s^3; positive if rare costs are large.
    Reference: Hall 1987, Annals of Probability 15, "Edgeworth expansion for Student's t statistic".
    """
    check_range("[1, inf)", size=size)
    check_range("(0, 1/2]", delta=delta)
    z = scipy.stats.norm.isf(delta)
    slope = (2.0 * z**2 + 1.0) * scipy.stats.norm.pdf(z) / (6.0 * np.sqrt(size))
    return np.asarray(np.clip(delta + slope * np.asarray(skewness), 0.0, 1.0))


def hoeffding_upper_bound(costs: ArrayLike, *, delta: float, bounds: Bounds) -> np.ndarray:
    """Hoeffding: U = mean + (b - a) sqrt(log(1 / delta) / (2 n)).

    Reference: Hoeffding 1963, Theorem 2.
    """
    costs = _costs(costs, delta, least=1, bounds=bounds)
    width = bounds[1] - bounds[0]
    half = width * np.sqrt(np.log(1.0 / delta) / (2.0 * costs.shape[-1]))
    return np.asarray(costs.mean(-1) + half)


def bernstein_upper_bound(costs: ArrayLike, *, delta: float, bounds: Bounds) -> np.ndarray:
    """Empirical Bernstein: U = mean + sqrt(2 v l / n) + 7 (b - a) l / (3 (n - 1)).

    l = log(2 / delta), and v is the variance with n - 1.

    Reference: Maurer and Pontil 2009, arXiv:0907.3740, Theorem 4.
    """
    costs = _costs(costs, delta, least=2, bounds=bounds)
    size, log = costs.shape[-1], np.log(2.0 / delta)
    spread = np.sqrt(2.0 * costs.var(-1, ddof=1) * log / size)
    rest = 7.0 * (bounds[1] - bounds[0]) * log / (3.0 * (size - 1))
    return np.asarray(costs.mean(-1) + spread + rest)


def clopper_pearson_upper_bound(costs: ArrayLike, *, delta: float) -> np.ndarray:
    """Clopper-Pearson, k ones among n: U = BetaInv(1 - delta; k + 1, n - k), 1 at k = n.

    U = 1 - delta^(1 / n) at k = 0, about 2.3 / n for delta = 0.1.

    Reference: Clopper and Pearson 1934, Biometrika 26.
    """
    costs = _costs(costs, delta, least=1)
    if not np.isin(costs, (0.0, 1.0)).all():
        odd = costs[~np.isin(costs, (0.0, 1.0))][0]
        raise ValueError(f"the clopper_pearson bound is of costs that are 0 or 1, got {odd}")
    ones, size = costs.sum(-1), costs.shape[-1]
    found = scipy.stats.beta.ppf(1.0 - delta, ones + 1.0, np.maximum(size - ones, 1.0))
    return np.asarray(np.where(ones == size, 1.0, found))


def cost_inflation(
    size: int, test_size: int, *, delta: float, own: float = 0.0, test: float = 2.0
) -> float:
    """How many standard deviations a policy in training must stay below its limit.

    k = C_1 t_{1 - delta, N - 1} / sqrt(N) + C_2 t_{1 - delta, n - 1} / sqrt(n).

    With (C_1, C_2) = (0, 1) the constraint m + k s <= tau says that the test's bound would pass at
    these moments; 2 leaves room for an optimiser that fits its own data.

    Args:
      size: N, costs that the moments are taken of. test_size: n, costs of the safety test.
      own, test: C_1 and C_2, >= 0.
    Reduces to: 0, an ordinary Lagrangian, at C_1 = C_2 = 0.
    Reference: HC-RLHF, arXiv:2506.08266, official code.
    Departs: one N for policy and multiplier, where the code has two.
    """
    check_range("[0, inf)", own=own, test=test)
    parts = ((own, size), (test, test_size))
    return sum((weight * t_factor(count, delta=delta) for weight, count in parts if weight), 0.0)


def _costs(
    costs: ArrayLike, delta: float, *, least: int, bounds: Bounds | None = None
) -> np.ndarray:
    """The costs in float64, finite and in range, at least so many in a row."""
    check_range("(0, 1/2]", delta=delta)
    costs = np.asarray(costs, np.float64)
    if costs.ndim < 1 or costs.shape[-1] < least:
        raise ValueError(f"costs must be [*B, N] with N >= {least}, got shape {costs.shape}")
    if not np.isfinite(costs).all():
        wrong = int((~np.isfinite(costs)).sum())
        raise ValueError(f"costs must be finite, got {wrong} of {costs.size} that are not")
    if bounds is not None:
        low, high = bounds
        if not (np.isfinite([low, high]).all() and low < high):
            raise ValueError(f"bounds must be (a, b), finite with a < b, got {bounds}")
        if costs.min() < low or costs.max() > high:
            raise ValueError(
                f"costs must be in bounds [{low}, {high}], got [{costs.min()}, {costs.max()}]"
            )
    return costs
