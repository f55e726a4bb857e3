"""How fast does it converge: slopes of runs, with an interval over seeds, against a claimed rate.

`study_rate` is the whole of it in one call, on the records of a run; `fit_rate`, `rate_claim`,
`bound_claim` and `rate_panel` are its parts. A power law is a line on log-log axes, 1 / T of slope
-1 and 1 / sqrt T of slope -1/2; a linear rate is one on semi-log axes, its slope the log of the
factor.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import scipy
from numpy.typing import ArrayLike

from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import bootstrap_interval, near_end
from rlhf_jax.reports.panels import Panel
from rlhf_jax.reports.plots import Series

Numbers = ArrayLike | Sequence[Any]  # a tuple is no ArrayLike to a type checker
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


class RateStudy(NamedTuple):
    """A rate, the claims (of its slope, and of the bound if there is one), and the plot."""

    rate: Rate
    claims: tuple[Claim, ...]
    panel: Panel


def study_rate(
    name: str,
    times: Numbers,
    values: Numbers,
    *,
    law: Law,
    claimed: float | int,
    bound: Numbers | None = None,
    source: str,
    y_label: str = "gap",
    start: float | int = 0,
    floor: float | int = 0,
    slack: float | int = 0,
    baseline: tuple[str, Numbers] | None = None,
) -> RateStudy:
    """Fits the rate of runs, holds it and the runs against what is claimed, and draws them all.

    Args:
      name: of the method; titles the claims and the panel.
      times, values, law, start, floor: as in `fit_rate`.
      claimed, slack, source: as in `rate_claim`.
      bound, y_label: as in `rate_panel`; the bound must hold at all times, the start or not.
      baseline: (name, values) of runs at the same times that must miss the slope and the bound.
    Returns:
      RateStudy.
    Raises:
      ValueError: as `fit_rate` and `rate_panel`.
    """
    rate = fit_rate(times, values, law=law, start=start, floor=floor)
    shown = {"bound": bound, "y_label": y_label, "start": start, "floor": floor}
    panel = rate_panel(name, times, values, rate, claimed=claimed, **shown)
    rival = None
    if baseline is not None:
        rival = baseline[0], fit_rate(times, baseline[1], law=law, start=start, floor=floor).slope
    claims = [
        rate_claim(f"{name}: slope", rate, claimed, slack=slack, source=source, baseline=rival)
    ]
    if bound is not None:
        share = f"{name}: largest share of the bound"
        claims.append(
            bound_claim(share, values, bound, floor=floor, source=source, baseline=baseline)
        )
    return RateStudy(rate, tuple(claims), panel)


def fit_rate(
    times: Numbers,
    values: Numbers,
    *,
    law: Law,
    start: float | int = 0,
    floor: float | int = 0,
) -> Rate:
    """Least-squares slope of each seed's run on logarithmic axes, and their mean.

    Args:
      times: [N] t > 0, the same for all seeds; evenly spaced in their logarithm for a power law,
        or the late ones decide alone.
      values: [S, N] what is to vanish: a gap, a KL divergence; one row for each seed, as `vmap` of
        `run_updates` gives it. [N] is one seed; further leading axes count as seeds.
      law: "power" for 1 / T, 1 / sqrt T and their like (log-log), "linear" for a factor at every
        step (semi-log).
      start: only t >= start counts, after the transient.
      floor: a run counts up to the first value that is not above it, where rounding begins.
    Returns:
      Rate.
    Raises:
      ValueError: shapes differ; times do not ascend, or from 0 for a power law; a seed has fewer
        than three values to fit, or one that is not finite.
    """
    t, v = _rows(times, values)
    if law not in ("power", "linear"):
        raise ValueError(f"law must be 'power' or 'linear', got {law!r}")
    if law == "power" and t[0] <= 0:
        raise ValueError(f"a power law needs times > 0, got {t[0]:g}")
    fits = np.array([_line(t, row, law, start, floor, seed) for seed, row in enumerate(v)])
    slopes, levels = fits.T
    half = np.nan
    if len(slopes) > 1:
        half = scipy.stats.t.ppf(0.975, len(slopes) - 1) * slopes.std(ddof=1) / np.sqrt(len(slopes))
    mean = slopes.mean()
    return Rate(law, float(mean), float(mean - half), float(mean + half), slopes, levels)


def rate_claim(
    statement: str,
    rate: Rate,
    claimed: float | int,
    *,
    source: str,
    slack: float | int = 0,
    baseline: tuple[str, float] | None = None,
) -> Claim:
    """The claim that runs converge at least as fast as promised: slope <= claimed, over seeds.

    Args:
      rate: fitted to two seeds or more; with one the claim is undecided.
      claimed: slope, e.g. -1 for 1 / T; for a linear rate the log of its factor.
      source: the theorem.
      slack: >= 0, added to it: 1 / (T + 1) and its like reach their slope in the limit only.
      baseline: as in `Claim`, a slope that must be too flat.
    """
    return Claim(
        statement,
        rate.slope,
        "<=",
        claimed + slack,
        kind="theorem",
        source=source,
        interval=(rate.low, rate.high),
        baseline=baseline,
    )


def bound_claim(
    statement: str,
    values: Numbers,
    bound: Numbers,
    *,
    source: str,
    floor: float | int = 0,
    baseline: tuple[str, Numbers] | None = None,
) -> Claim:
    """The claim that no seed is ever above the bound: its largest share of it is <= 1.

    Args:
      values: [S, N] as in `fit_rate`.
      bound: [N] or [S, N], > 0, what the theorem allows.
      source: the theorem.
      floor: values not above it are rounding and count as 0.
      baseline: (name, values) of runs that must break the bound; a bound that they keep too says
        nothing about the method. Of several runs the mean of their largest shares must do so, with
        the low end of its interval, not the worst run alone.
    """
    limit = np.asarray(bound, float)

    def shares(runs: Numbers) -> np.ndarray:
        """[S] the largest over time."""
        v = np.asarray(runs, float)
        return np.ravel(np.max(np.where(v <= floor, 0.0, v / limit), axis=-1))

    rival = None
    if baseline is not None:
        name, found = baseline[0], shares(baseline[1])
        alone = len(found) == 1
        interval = bootstrap_interval(np.mean, found)
        rival = (name, float(found[0])) if alone else near_end(f"{name}, mean", interval, "<=")
    value = float(np.max(shares(values)))
    return Claim(statement, value, "<=", 1, kind="theorem", source=source, baseline=rival)


def rate_panel(
    name: str,
    times: Numbers,
    values: Numbers,
    rate: Rate,
    *,
    claimed: float | int,
    bound: Numbers | None = None,
    y_label: str = "gap",
    start: float | int = 0,
    floor: float | int = 0,
) -> Panel:
    """The seeds, the fitted line, the theorem's bound, and in the title claimed and measured rate.

    The seeds are their median and deciles, see `bands.band`.

    Args:
      name: begins the title.
      times, values, start, floor: as they were fitted. The line begins at the start; nothing is
        drawn below the floor.
      rate: from `fit_rate`.
      claimed: slope, as in `rate_claim`.
      bound: [N] or [S, N] what the theorem allows at these times; of [S, N] the median is drawn.
      y_label: of the values.
    Returns:
      Panel, for `panels`; log-log for a power law, semi-log for a linear rate.
    Raises:
      ValueError: shapes differ.
    """
    t, v = _rows(times, values)
    with np.errstate(invalid="ignore"):  # infinite values before the start
        seeds = band(t, v, spread="deciles")
    on = t >= start
    x = np.log(t[on]) if rate.law == "power" else t[on]
    bounds = {}
    if bound is not None:
        bounds["theorem"] = Series(t, np.median(_rows(times, bound)[1], axis=0))
    return Panel(
        f"{name}\n{_verdict(rate, claimed)}",
        "updates",
        y_label,
        {seeds.meaning or "one seed": seeds},
        bounds=bounds,
        guides={"fit": Series(t[on], np.exp(rate.levels.mean() + rate.slope * x))},
        log_x=rate.law == "power",
        log_y=True,
        floor=floor or None,
    )


def _verdict(rate: Rate, claimed: float | int) -> str:
    """Claimed and measured rate in words, a factor where the rate is linear."""
    if rate.law == "power":
        numbers, form = (claimed, rate.slope, rate.low, rate.high), "slope"
    else:
        numbers = tuple(math.exp(x) for x in (claimed, rate.slope, rate.low, rate.high))
        form = "factor"
    asked, mean, low, high = (f"{x:.3g}" for x in numbers)
    return f"{form}: claimed {asked}, measured {mean} [{low}, {high}]"


def _rows(times: Numbers, values: Numbers) -> tuple[np.ndarray, np.ndarray]:
    """times [N] and values [S, N] in float64."""
    t, v = np.asarray(times, float), np.asarray(values, float)
    if t.ndim != 1 or v.ndim < 1 or v.shape[-1] != t.size or v.size == 0:
        raise ValueError(f"times [N] and values [S, N] differ: {t.shape} and {v.shape}")
    if np.any(np.diff(t) <= 0):
        raise ValueError("times must ascend")
    return t, v.reshape(-1, t.size)


def _line(
    t: np.ndarray, v: np.ndarray, law: Law, start: float | int, floor: float | int, seed: int
) -> tuple[float, float]:
    """Slope and level of one seed."""
    broken = ~np.isfinite(v) & (t >= start)
    if broken.any():
        raise ValueError(f"seed {seed}: a value is not finite, first at t = {t[broken][0]:g}")
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
