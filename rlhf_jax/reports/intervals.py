"""95% intervals (low, high) over independent units, and claims that carry them.

NumPy in float64, on the host. Units are drawn independently: a thousand episodes on ten worlds are
ten units. With fewer than two units both ends are NaN, which leaves a claim undecided.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike

from rlhf_jax.reports.claims import Claim

Interval = tuple[float, float]
RESAMPLES = 2000


def mean_interval(x: ArrayLike) -> Interval:
    """mean(x) -+ t s / sqrt(N), Student's t, for N units with a roughly normal mean."""
    x = np.ravel(np.asarray(x, float))
    if x.size < 2:
        return np.nan, np.nan
    half = scipy.stats.t.ppf(0.975, x.size - 1) * x.std(ddof=1) / np.sqrt(x.size)
    return float(x.mean() - half), float(x.mean() + half)


def mean_text(x: ArrayLike) -> str:
    """ "mean [low, high]" of `mean_interval`, to three decimals."""
    low, high = mean_interval(x)
    return f"{np.asarray(x, float).mean():.3f} [{low:.3f}, {high:.3f}]"


def grouped_mean_interval(x: ArrayLike, groups: ArrayLike) -> Interval:
    """`mean_interval` of N numbers that are alike within groups: t with G - 1 degrees of freedom.

    Args:
      x: [N]. groups: [N] integers >= 0, e.g. of pairs about one prompt; all different:
        `mean_interval`.
    """
    x, count = np.ravel(np.asarray(x, float)), len(np.unique(groups))
    if count < 2:
        return np.nan, np.nan
    half = scipy.stats.t.ppf(0.975, count - 1) * group_error(x, groups)
    return float(x.mean() - half), float(x.mean() + half)


def group_error(x: ArrayLike, groups: ArrayLike) -> float:
    """Standard error of a mean of N numbers, those of one group counted as one draw.

    se^2 = G / (G - 1) sum_g (sum_{i in g} (x_i - mean))^2 / N^2. With one number in each group it
    is the usual s^2 / N.

    Args:
      x: [N]. groups: [N] integers >= 0, of G >= 2 groups.
    """
    x = np.asarray(x, float)
    sums = np.bincount(np.asarray(groups), weights=x - x.mean())
    count = len(np.unique(groups))
    return float(np.sqrt(count / (count - 1) * np.sum(sums**2)) / len(x))


def share_interval(hits: ArrayLike) -> Interval:
    """The exact (Clopper-Pearson) interval of a probability, from units that are hits or misses.

    Args:
      hits: [N] bool, N >= 1.
    Reference: Clopper and Pearson 1934, Biometrika 26.
    """
    hits = np.ravel(np.asarray(hits, bool))
    found = scipy.stats.binomtest(int(hits.sum()), hits.size).proportion_ci(method="exact")
    return float(found.low), float(found.high)


def bootstrap_interval(statistic: Callable[..., float], *units: ArrayLike) -> Interval:
    """Percentile bootstrap of any statistic of units, e.g. a ratio of means or a median.

    Args:
      statistic: `(*units) -> number`.
      units: arrays [N, ...] with paired rows; rows are drawn with replacement.
    Reference: Efron 1979, Annals of Statistics 7.
    """
    rows = [np.asarray(each) for each in units]
    size = len(rows[0])
    if any(len(each) != size for each in rows):
        raise ValueError(f"units have {[len(each) for each in rows]} rows: they must be paired")
    if size < 2:
        return np.nan, np.nan
    draws = np.random.default_rng(0).integers(size, size=(RESAMPLES, size))
    found = [statistic(*(each[draw] for each in rows)) for draw in draws]
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def near_end(name: str, interval: Interval, op: str) -> tuple[str, float]:
    """A baseline that must fail with its whole interval: (name, end that is nearer to passing).

    The high end where large values pass (>=, >), the low one where small values do (<=, <).

    Args:
      name: of the baseline. interval: (low, high) of its statistic, e.g. `mean_interval` of units.
      op: of the claim; an equality has no nearer end.
    Raises:
      ValueError: op is not one of >=, >, <=, <.
    """
    if op not in (">=", ">", "<=", "<"):
        raise ValueError(f"op must be >=, >, <= or <, got {op}")
    low, high = interval
    above = op.startswith(">")
    end = "high" if above else "low"
    return f"{name}, {end} end of its interval", float(high if above else low)


def mean_claim(
    statement: str, x: ArrayLike, op: str, threshold: float | int, **about: Any
) -> Claim:
    """A claim about the mean of units [N]."""
    value = float(np.mean(np.asarray(x, float)))
    return Claim(statement, value, op, threshold, interval=mean_interval(x), **about)


def share_claim(
    statement: str, hits: ArrayLike, op: str, threshold: float | int, **about: Any
) -> Claim:
    """A claim about the probability of a hit, from units [N] that are hits or misses."""
    value = float(np.mean(np.asarray(hits, bool)))
    return Claim(statement, value, op, threshold, interval=share_interval(hits), **about)


def bootstrap_claim(
    statement: str,
    statistic: Callable[..., float],
    units: Sequence[ArrayLike],
    op: str,
    threshold: float | int,
    **about: Any,
) -> Claim:
    """A claim about any statistic of paired units, see `bootstrap_interval`."""
    units = [np.asarray(each) for each in units]
    interval = bootstrap_interval(statistic, *units)
    return Claim(statement, float(statistic(*units)), op, threshold, interval=interval, **about)
