"""How fast does it converge: slopes of runs, with an interval over seeds, against a claimed rate."""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import t as student

from rlhf_jax.reports.claims import Claim

Law = Literal["power", "linear"]


class Rate(NamedTuple):
    """A fitted rate of decay.

    law: "power", v ~ c t^slope, slopes of log v against log t; "linear", v ~ c exp(slope t), of
      log v against t.
    slope, low, high: mean over seeds and its 95% Student-t interval; both ends are NaN where there
      is one seed only.
    slopes, levels: [S] of each seed: v is exp(level) at t = 1 (power) or t = 0 (linear).
    """

    law: Law
    slope: float
    low: float
    high: float
    slopes: np.ndarray
    levels: np.ndarray

    @property
    def factor(self) -> float:
        """exp(slope): by what a linear rate multiplies at every step."""
        return float(np.exp(self.slope))


def fit_rate(
    times: ArrayLike,
    values: ArrayLike,
    *,
    law: Law,
    start: float = 0.0,
    floor: float = 0.0,
) -> Rate:
    """Least-squares slope of each seed's run on logarithmic axes, and their mean.

    Args:
      times: [N] t > 0, the same for all seeds.
      values: [S, N] what is to vanish: a gap, a KL divergence; one row for each seed.
      law: "power" for 1 / T, 1 / sqrt T and their like (log-log), "linear" for a factor at every
        step (semi-log).
      start: only t >= start counts, after the transient.
      floor: a run counts up to the first value that is not above it, where rounding begins.
    Returns:
      Rate.
    Raises:
      ValueError: shapes differ; a seed has fewer than three values to fit, or one that is NaN.
    """
    t, v = np.asarray(times, float), np.atleast_2d(np.asarray(values, float))
    if t.ndim != 1 or v.ndim != 2 or v.shape[1] != t.size:
        raise ValueError(f"times [N] and values [S, N] differ: {t.shape} and {v.shape}")
    fits = np.array([_line(t, row, law, start, floor, seed) for seed, row in enumerate(v)])
    slopes, levels = fits.T
    half = np.nan
    if len(slopes) > 1:
        half = student.ppf(0.975, len(slopes) - 1) * slopes.std(ddof=1) / np.sqrt(len(slopes))
    mean = slopes.mean()
    return Rate(law, float(mean), float(mean - half), float(mean + half), slopes, levels)


def rate_claim(name: str, rate: Rate, claimed: float) -> Claim:
    """The claim that runs converge at least as fast as promised: upper end of the slope <= claimed.

    Args:
      name: of the claim.
      rate: fitted to two seeds or more.
      claimed: slope, e.g. -1 for 1 / T; for a linear rate the log of its factor.
    """
    return Claim(name, rate.high, "<=", claimed)


def _line(
    t: np.ndarray, v: np.ndarray, law: Law, start: float, floor: float, seed: int
) -> tuple[float, float]:
    """Slope and level of one seed."""
    if np.isnan(v).any():
        raise ValueError(f"seed {seed}: a value is NaN, first at t = {t[np.isnan(v)][0]:g}")
    ended = np.flatnonzero((v <= floor) & (t >= start))
    used = (t >= start) & (np.arange(t.size) < (ended[0] if ended.size else t.size)) & (v > 0)
    if used.sum() < 3:
        raise ValueError(
            f"seed {seed}: {used.sum()} values above {floor:g} from t = {start:g} on; a slope "
            "needs three"
        )
    x = np.log(t[used]) if law == "power" else t[used]
    slope, level = np.polyfit(x, np.log(v[used]), 1)
    return float(slope), float(level)
